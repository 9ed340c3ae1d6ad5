//! Frames and the files they become: GIF, PNG and strips of frames side by side.
//!
//! Files are written under a temporary name and renamed when they are whole.

use std::{
    fs::File,
    io::{self, BufReader, Write},
    path::{Path, PathBuf},
};

use color_quant::NeuQuant;

use crate::{
    encoding::MAX_EDGE,
    partial::{IfTaken, Kept, PartialFile},
};

/// One picture: 8-bit sRGB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// `[height, width, 3]`, from the upper left corner.
    pub rgb: Vec<u8>,
}

impl Frame {
    /// A picture in one colour.
    #[must_use]
    pub fn filled(width: u32, height: u32, color: [u8; 3]) -> Self {
        let pixels = width as usize * height as usize;
        Self { width, height, rgb: color.iter().copied().cycle().take(3 * pixels).collect() }
    }

    /// The same picture with `height` rows: each new pixel is the mean of the area it covers.
    #[must_use]
    pub fn scaled_to_height(&self, height: u32) -> Self {
        if height == 0 || self.height == 0 || height >= self.height {
            return self.clone();
        }
        let width = ((u64::from(self.width) * u64::from(height) / u64::from(self.height)) as u32).max(1);
        let narrow = resample(&self.rgb, self.width as usize, self.height as usize, width as usize);
        // Transposed in between: the same code does columns and rows.
        let turned = transpose(&narrow, width as usize, self.height as usize);
        let short = resample(&turned, self.height as usize, width as usize, height as usize);
        Self { width, height, rgb: transpose(&short, height as usize, width as usize) }
    }

    /// The pictures from left to right, `gap` white pixels between them. All must have the height of the first;
    /// others are left out.
    #[must_use]
    pub fn side_by_side(frames: &[Self], gap: u32) -> Option<Self> {
        let height = frames.first()?.height;
        let frames: Vec<&Self> = frames.iter().filter(|frame| frame.height == height).collect();
        let gaps = gap * (frames.len() as u32).saturating_sub(1);
        let width = frames.iter().map(|frame| frame.width).sum::<u32>() + gaps;
        let mut rgb = Vec::with_capacity(3 * width as usize * height as usize);
        for y in 0..height as usize {
            for (k, frame) in frames.iter().enumerate() {
                if k > 0 {
                    rgb.extend(std::iter::repeat_n(255, 3 * gap as usize));
                }
                let row = 3 * frame.width as usize;
                rgb.extend_from_slice(frame.rgb.get(y * row..(y + 1) * row)?);
            }
        }
        Some(Self { width, height, rgb })
    }

    /// Writes a PNG.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write_png(&self, path: &Path) -> io::Result<()> {
        let mut file = PartialFile::create(path, IfTaken::Replace)?;
        let mut encoder = png::Encoder::new(&mut file, self.width, self.height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_compression(png::Compression::High);
        encoder.set_source_srgb(png::SrgbRenderingIntent::Perceptual);
        let mut writer = encoder.write_header().map_err(what_the_system_said)?;
        writer.write_image_data(&self.rgb).map_err(what_the_system_said)?;
        writer.finish().map_err(what_the_system_said)?;
        file.finish().map(|_| ())
    }

    /// Reads a PNG with 8 bits for each of red, green and blue, as [`Frame::write_png`] writes it.
    ///
    /// # Errors
    /// What the file system says, and [`io::ErrorKind::InvalidData`] for another kind of file.
    pub fn read_png(path: &Path) -> io::Result<Self> {
        let invalid = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
        let decoder = png::Decoder::new(BufReader::new(File::open(path)?));
        let mut reader = decoder.read_info().map_err(|error| invalid(error.to_string()))?;
        // What a broken header claims must not take all memory.
        let (width, height) = reader.info().size();
        if width.max(height) > MAX_EDGE {
            return Err(invalid(format!("it is {width} x {height} pixels; at most {MAX_EDGE} each are read")));
        }
        let size = reader.output_buffer_size().ok_or_else(|| invalid("the picture is too large".to_owned()))?;
        let mut rgb = vec![0; size];
        let info = reader.next_frame(&mut rgb).map_err(|error| invalid(error.to_string()))?;
        if (info.color_type, info.bit_depth) != (png::ColorType::Rgb, png::BitDepth::Eight) {
            return Err(invalid("it is no picture of 8-bit red, green and blue".to_owned()));
        }
        rgb.truncate(info.buffer_size());
        Ok(Self { width: info.width, height: info.height, rgb })
    }

    /// How far two pictures of the same scene are apart: as a whole, and in the part in which they differ most.
    ///
    /// The larger one is scaled down to the smaller first, so that the edges of single pixels, which drivers draw
    /// differently, hardly count. Nothing if their shapes differ.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Option<Difference> {
        let height = self.height.min(other.height);
        let (a, b) = (self.scaled_to_height(height), other.scaled_to_height(height));
        if (a.width, a.height) != (b.width, b.height) || a.rgb.is_empty() {
            return None;
        }
        let width = a.width as usize;
        let mut parts = [(0.0, 0.0); Difference::COLUMNS * Difference::ROWS];
        for (index, (a, b)) in a.rgb.chunks_exact(3).zip(b.rgb.chunks_exact(3)).enumerate() {
            let column = index % width * Difference::COLUMNS / width;
            let row = index / width * Difference::ROWS / height as usize;
            if let Some((sum, count)) = parts.get_mut(row * Difference::COLUMNS + column) {
                *sum += a.iter().zip(b).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / 3.0;
                *count += 1.0;
            }
        }
        let (sum, count) = parts.iter().fold((0.0, 0.0), |(sums, counts), (sum, count)| (sums + sum, counts + count));
        let means = parts.iter().filter(|(_, count)| *count > 0.0).map(|(sum, count)| sum / count);
        let (worst, mean) = means.enumerate().fold(
            (0, 0.0),
            |(worst, most), (place, mean)| {
                if mean > most { (place, mean) } else { (worst, most) }
            },
        );
        Some(Difference {
            mean: sum / f64::max(count, 1.0),
            worst_mean: mean,
            worst_part: (worst % Difference::COLUMNS, worst / Difference::COLUMNS),
        })
    }
}

/// The difference of two pictures, in steps of the 8-bit channels: 0 is equal, 255 is black and white.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// Mean over all pixels and channels.
    pub mean: f64,
    /// The same of the part in which it is largest.
    pub worst_mean: f64,
    /// Column and row of that part.
    pub worst_part: (usize, usize),
}

impl Difference {
    /// Parts from left to right.
    pub const COLUMNS: usize = 12;
    /// Parts from top to bottom.
    pub const ROWS: usize = 8;
}

/// The library's own conversion forgets which kind of error it was, and with it what helps.
fn what_the_system_said(error: png::EncodingError) -> io::Error {
    match error {
        png::EncodingError::IoError(error) => error,
        other => io::Error::other(other),
    }
}

/// Rows of `width` RGB pixels, each shrunk to `new_width` by the mean over the covered stretch.
fn resample(rgb: &[u8], width: usize, height: usize, new_width: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(3 * new_width * height);
    let scale = width as f32 / new_width as f32;
    for row in rgb.chunks_exact(3 * width).take(height) {
        for x in 0..new_width {
            let (low, high) = (x as f32 * scale, (x + 1) as f32 * scale);
            let mut sum = [0.0f32; 3];
            let mut total = 0.0;
            for (i, pixel) in row.chunks_exact(3).enumerate().take(high.ceil() as usize).skip(low as usize) {
                let weight = (high.min(i as f32 + 1.0) - low.max(i as f32)).max(0.0);
                total += weight;
                for (sum, value) in sum.iter_mut().zip(pixel) {
                    *sum += weight * f32::from(*value);
                }
            }
            out.extend(sum.map(|value| (value / total.max(1e-6)).round() as u8));
        }
    }
    out
}

fn transpose(rgb: &[u8], width: usize, height: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(rgb.len());
    for x in 0..width {
        for y in 0..height {
            let start = 3 * (y * width + x);
            out.extend_from_slice(rgb.get(start..start + 3).unwrap_or(&[0; 3]));
        }
    }
    out
}

/// How many colours a GIF shows; the last of its 256 stands for "as before".
const COLORS: usize = 255;
const UNCHANGED: u8 = 255;

/// The last byte of a GIF.
const TRAILER: u8 = 0x3B;

/// Writes a GIF that plays for ever, frame by frame.
///
/// All frames share one palette, made from the first few frames, and a fixed dither pattern. So what stands still in
/// the scene stays the same in the file, flickers nowhere and costs no bytes.
pub(crate) struct GifWriter {
    file: PartialFile,
    coder: Option<Coder>,
    waiting: Vec<Frame>,
    fps: f64,
    last: Option<Frame>,
    /// Frames that are in the file.
    written: u64,
    is_ended: bool,
}

struct Coder {
    /// Into memory: what it holds goes to the file after each frame, so that nothing is lost with it.
    encoder: gif::Encoder<Vec<u8>>,
    lookup: Lookup,
    canvas: Vec<u8>,
    coded: u64,
    fps: f64,
}

impl GifWriter {
    /// Frames that the palette is made of.
    const PALETTE_FRAMES: usize = 4;
    /// How long the last frame stays before the loop starts over, hundredths of a second.
    const HOLD_CENTISECONDS: u16 = 60;

    pub(crate) fn create(path: &Path, fps: f64, if_taken: IfTaken) -> io::Result<Self> {
        let file = PartialFile::create(path, if_taken)?;
        Ok(Self { file, coder: None, waiting: Vec::new(), fps, last: None, written: 0, is_ended: false })
    }

    pub(crate) fn push(&mut self, frame: Frame) -> io::Result<()> {
        // One frame is held back, because the last one gets another delay.
        let Some(frame) = self.last.replace(frame) else { return Ok(()) };
        if self.coder.is_some() {
            return self.write(&frame, 0);
        }
        let size = (frame.width, frame.height);
        self.waiting.push(frame);
        if self.waiting.len() >= Self::PALETTE_FRAMES { self.start(palette_of(&self.waiting), size) } else { Ok(()) }
    }

    /// Writes the rest and gives the file its name; returns it.
    pub(crate) fn finish(&mut self) -> io::Result<PathBuf> {
        self.write_rest()?;
        self.file.write_all(&[TRAILER])?;
        self.file.mark()?;
        self.is_ended = true;
        self.file.finish()
    }

    /// Keeps all frames that can be written, as a part; the second is an error that kept some out.
    pub(crate) fn keep(&mut self) -> (Kept, io::Result<()>) {
        let rest = self.write_rest();
        let end: &[u8] = if self.is_ended { &[] } else { &[TRAILER] };
        (self.file.keep(end, self.written), rest)
    }

    #[cfg(test)]
    pub(crate) fn file(&mut self) -> &mut PartialFile {
        &mut self.file
    }

    fn write_rest(&mut self) -> io::Result<()> {
        let Some(last) = self.last.take() else { return Ok(()) };
        if self.coder.is_none() {
            // The last frame is one of those that the palette is made of.
            self.waiting.push(last.clone());
            let palette = palette_of(&self.waiting);
            self.waiting.pop();
            self.start(palette, (last.width, last.height))?;
        }
        self.write(&last, Self::HOLD_CENTISECONDS)
    }

    /// Writes the frames that wait.
    fn start(&mut self, (palette, lookup): (Vec<u8>, Lookup), (width, height): (u32, u32)) -> io::Result<()> {
        let too_large = |_| io::Error::new(io::ErrorKind::InvalidInput, "a GIF has at most 65535 pixels in a row");
        let columns = u16::try_from(width).map_err(too_large)?;
        let rows = u16::try_from(height).map_err(too_large)?;
        let canvas = vec![UNCHANGED; width as usize * height as usize];
        let mut encoder = gif::Encoder::new(Vec::new(), columns, rows, &palette).map_err(io::Error::other)?;
        encoder.set_repeat(gif::Repeat::Infinite).map_err(io::Error::other)?;
        self.coder = Some(Coder { encoder, lookup, canvas, coded: 0, fps: self.fps });
        for frame in std::mem::take(&mut self.waiting) {
            self.write(&frame, 0)?;
        }
        Ok(())
    }

    fn write(&mut self, frame: &Frame, hold_centiseconds: u16) -> io::Result<()> {
        let Some(coder) = &mut self.coder else { return Ok(()) };
        let bytes = coder.code(frame, hold_centiseconds)?;
        self.file.write_all(&bytes)?;
        // Each frame is in the file system's hands before the next one begins.
        self.file.mark()?;
        self.written += 1;
        Ok(())
    }
}

impl Coder {
    /// The bytes of the next frame; before the first stand those of the header.
    fn code(&mut self, frame: &Frame, hold_centiseconds: u16) -> io::Result<Vec<u8>> {
        let (width, height) = (frame.width as usize, frame.height as usize);
        let (mut left, mut right, mut top, mut bottom) = (width, 0, height, 0);
        let mut indices = Vec::with_capacity(width * height);
        for (i, (pixel, shown)) in frame.rgb.chunks_exact(3).zip(&mut self.canvas).enumerate() {
            let (x, y) = (i % width, i / width);
            let index = self.lookup.index(pixel, x, y);
            if index == *shown {
                indices.push(UNCHANGED);
                continue;
            }
            *shown = index;
            indices.push(index);
            (left, right) = (left.min(x), right.max(x + 1));
            (top, bottom) = (top.min(y), bottom.max(y + 1));
        }
        // A frame that changes nothing still takes its time.
        if left >= right {
            (left, right, top, bottom) = (0, 1, 0, 1);
        }
        let mut changed = Vec::with_capacity((right - left) * (bottom - top));
        for row in indices.chunks_exact(width).take(bottom).skip(top) {
            changed.extend_from_slice(row.get(left..right).unwrap_or_default());
        }
        // Delays are hundredths of a second; the running sum keeps the pace right on average.
        let until = |frames: u64| (frames as f64 * 100.0 / self.fps).round() as u64;
        let delay = until(self.coded + 1) - until(self.coded);
        self.coded += 1;
        self.encoder
            .write_frame(&gif::Frame {
                delay: u16::try_from(delay).unwrap_or(u16::MAX).max(hold_centiseconds),
                dispose: gif::DisposalMethod::Keep,
                transparent: Some(UNCHANGED),
                left: left as u16,
                top: top as u16,
                width: (right - left) as u16,
                height: (bottom - top) as u16,
                buffer: changed.into(),
                ..gif::Frame::default()
            })
            .map_err(io::Error::other)?;
        Ok(std::mem::take(self.encoder.get_mut()))
    }
}

/// The nearest palette entry of a colour, at six bits a channel; looked for once.
struct Lookup {
    colors: Vec<[i32; 3]>,
    /// By colour; [`Lookup::UNKNOWN`] until it is asked for.
    nearest: Vec<u16>,
}

impl Lookup {
    /// Fixed dither pattern of Bayer, 4 by 4, as offsets in sixteenths of the strength.
    const BAYER: [i32; 16] = [-8, 0, -6, 2, 4, -4, 6, -2, -5, 3, -7, 1, 7, -1, 5, -3];
    /// How far the pattern moves a channel, 8-bit steps in all.
    const STRENGTH: i32 = 6;
    const UNKNOWN: u16 = u16::MAX;

    fn new(colors: Vec<[i32; 3]>) -> Self {
        Self { colors, nearest: vec![Self::UNKNOWN; 1 << 18] }
    }

    fn index(&mut self, pixel: &[u8], x: usize, y: usize) -> u8 {
        let offset = Self::BAYER.get((y % 4) * 4 + x % 4).copied().unwrap_or(0) * Self::STRENGTH / 16;
        let key = pixel.iter().take(3).fold(0, |key, value| {
            let moved = (i32::from(*value) + offset).clamp(0, 255) as usize;
            key << 6 | moved >> 2
        });
        let Some(slot) = self.nearest.get_mut(key) else { return 0 };
        if *slot == Self::UNKNOWN {
            let wanted = [key >> 12, key >> 6 & 63, key & 63].map(|channel| (channel << 2 | 2) as i32);
            // The eye sees green best and blue least.
            let distance = |color: &[i32; 3]| -> i32 {
                color.iter().zip(wanted).zip([3, 6, 1]).map(|((c, w), weight)| weight * (c - w) * (c - w)).sum()
            };
            let nearest = self.colors.iter().enumerate().min_by_key(|(_, color)| distance(color));
            *slot = nearest.map_or(0, |(index, _)| index as u16);
        }
        *slot as u8
    }
}

/// One palette for all `frames` (Kohonen's self-organising map, by A. Dekker's NeuQuant), and the way into it.
fn palette_of(frames: &[Frame]) -> (Vec<u8>, Lookup) {
    /// Pixels that the map sees; more make it slower, not better.
    const PIXELS: usize = 200_000;
    /// 1 is the best quality, 30 the fastest.
    const SAMPLING: i32 = 3;
    let total: usize = frames.iter().map(|frame| frame.rgb.len() / 3).sum();
    let stride = (total / PIXELS).max(1) | 1;
    let sample: Vec<u8> = frames
        .iter()
        .flat_map(|frame| frame.rgb.chunks_exact(3))
        .step_by(stride)
        .flat_map(|pixel| pixel.iter().copied().chain([255]))
        .collect();
    let mut palette = NeuQuant::new(SAMPLING, COLORS, &sample).color_map_rgb();
    palette.truncate(3 * COLORS);
    let colors: Vec<[i32; 3]> = palette
        .chunks_exact(3)
        .map(|color| {
            let mut channels = [0; 3];
            for (channel, value) in channels.iter_mut().zip(color) {
                *channel = i32::from(*value);
            }
            channels
        })
        .collect();
    palette.resize(3 * (COLORS + 1), 0);
    (palette, Lookup::new(colors))
}

/// Keeps a few frames spread evenly over a run of unknown length, always with the first and the last.
pub(crate) struct StripKeeper {
    count: usize,
    stride: u64,
    seen: u64,
    kept: Vec<(u64, Frame)>,
    last: Option<(u64, Frame)>,
}

impl StripKeeper {
    /// Widest strip, pixels.
    const MAX_WIDTH: u32 = 2400;
    const GAP: u32 = 6;

    pub(crate) fn new(count: usize) -> Self {
        Self { count: count.max(1), stride: 1, seen: 0, kept: Vec::new(), last: None }
    }

    pub(crate) fn push(&mut self, frame: &Frame) {
        if self.seen.is_multiple_of(self.stride) {
            // Memory stays bounded: whenever it is full, every second frame goes.
            if self.kept.len() >= 8 * self.count {
                self.stride *= 2;
                self.kept.retain(|(number, _)| number % self.stride == 0);
            }
            if self.seen.is_multiple_of(self.stride) {
                self.kept.push((self.seen, frame.clone()));
            }
        }
        self.last = Some((self.seen, frame.clone()));
        self.seen += 1;
    }

    /// The strip, not wider than [`Self::MAX_WIDTH`].
    pub(crate) fn strip(mut self) -> Option<Frame> {
        let last = self.last.take()?;
        self.kept.retain(|(number, _)| *number != last.0);
        self.kept.push(last);
        let count = self.count.min(self.kept.len());
        let end = self.kept.last().map_or(0, |(number, _)| *number);
        let mut chosen: Vec<Frame> = Vec::with_capacity(count);
        for k in 0..count {
            let wanted = if count == 1 { end } else { end * k as u64 / (count as u64 - 1) };
            let nearest = self.kept.iter().min_by_key(|(number, _)| number.abs_diff(wanted))?;
            chosen.push(nearest.1.clone());
        }
        let width: u32 = chosen.iter().map(|frame| frame.width).sum();
        let height = chosen.first()?.height;
        if width > Self::MAX_WIDTH {
            let height = (u64::from(height) * u64::from(Self::MAX_WIDTH) / u64::from(width)) as u32;
            chosen = chosen.iter().map(|frame| frame.scaled_to_height(height.max(1))).collect();
        }
        Frame::side_by_side(&chosen, Self::GAP)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
mod tests {
    use super::*;
    use crate::gifs::decode_gif;

    /// Grey, with a red square that has moved `step` pixels.
    fn moving(step: u32) -> Frame {
        let mut frame = Frame::filled(64, 48, [180, 182, 186]);
        for y in 10..20 {
            for x in step..step + 10 {
                let at = 3 * (y * 64 + x) as usize;
                frame.rgb[at..at + 3].copy_from_slice(&[200, 20, 15]);
            }
        }
        frame
    }

    #[test]
    fn a_gif_shows_what_was_put_in() {
        let folder = tempfile::tempdir().unwrap();
        // Fewer frames than the palette waits for, as many, more.
        for count in [1, 2, 4, 5, 9] {
            let path = folder.path().join(format!("{count}.gif"));
            let mut gif = GifWriter::create(&path, 30.0, IfTaken::Replace).unwrap();
            for step in 0..count {
                gif.push(moving(3 * step)).unwrap();
            }
            gif.finish().unwrap();
            let gif = decode_gif(&path);
            assert_eq!(gif.frames.len(), count as usize);
            let delays: u32 = gif.delays.iter().rev().skip(1).map(|delay| u32::from(*delay)).sum();
            assert_eq!(delays, ((count - 1) as f64 * 100.0 / 30.0).round() as u32);
            for (step, shown) in gif.frames.iter().enumerate() {
                let wanted = moving(3 * step as u32);
                for (shown, wanted) in shown.chunks_exact(4).zip(wanted.rgb.chunks_exact(3)) {
                    let off = shown.iter().zip(wanted).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
                    assert!(off <= 12, "{shown:?} instead of {wanted:?}");
                }
            }
        }
        let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(left.iter().all(|path| path.extension().unwrap() == "gif"), "{left:?}");
    }

    #[test]
    fn a_broken_off_file_leaves_nothing_and_keeps_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.gif");
        std::fs::write(&path, b"old").unwrap();
        let mut gif = GifWriter::create(&path, 10.0, IfTaken::Replace).unwrap();
        gif.push(moving(0)).unwrap();
        drop(gif);
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_png_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        moving(5).write_png(&path).unwrap();
        assert_eq!(Frame::read_png(&path).unwrap(), moving(5));
        std::fs::write(&path, b"no picture").unwrap();
        assert_eq!(Frame::read_png(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_png_on_a_full_disk_says_so() {
        let full = png::EncodingError::IoError(io::ErrorKind::StorageFull.into());
        assert_eq!(what_the_system_said(full).kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn a_difference_says_how_much_and_where() {
        let (grey, spot) = (Frame::filled(64, 48, [180, 182, 186]), moving(48));
        let none = grey.difference(&grey).unwrap();
        assert_eq!((none.mean, none.worst_mean), (0.0, 0.0));
        let found = spot.difference(&grey).unwrap();
        // A hundred of 3072 pixels differ by 20, 162 and 171.
        assert!((found.mean - 100.0 * 353.0 / 3.0 / 3072.0).abs() < 1e-9, "{found:?}");
        // The square lies at 48 to 58 of 64 and 10 to 20 of 48: the tenth column, third row.
        assert_eq!(found.worst_part, (9, 2));
        assert!((found.worst_mean - 353.0 / 3.0).abs() < 1e-9, "{found:?}");
        // A larger picture of the same is the same, another shape cannot be compared.
        let large = Frame::filled(128, 96, [180, 182, 186]);
        assert_eq!(large.difference(&grey).unwrap().mean, 0.0);
        assert_eq!(large.difference(&spot), grey.difference(&spot));
        assert_eq!(Frame::filled(64, 64, [0; 3]).difference(&grey), None);
    }

    #[test]
    fn a_strip_has_first_and_last_and_bounded_memory() {
        let mut keeper = StripKeeper::new(4);
        for number in 0..1000u32 {
            keeper.push(&Frame::filled(8, 4, [(number / 4) as u8, 0, 0]));
            assert!(keeper.kept.len() <= 33);
        }
        let strip = keeper.strip().unwrap();
        assert_eq!((strip.width, strip.height), (4 * 8 + 3 * StripKeeper::GAP, 4));
        let reds: Vec<u8> = (0..4).map(|k| strip.rgb[3 * (k * (8 + StripKeeper::GAP as usize) + 2)]).collect();
        assert_eq!((reds[0], reds[3]), (0, 249));
        assert!(reds[1].abs_diff(83) < 10 && reds[2].abs_diff(166) < 10, "{reds:?}");
    }

    #[test]
    fn scaling_keeps_the_mean() {
        let frame = moving(20);
        let small = frame.scaled_to_height(20);
        assert_eq!((small.width, small.height), (26, 20));
        let mean = |frame: &Frame| frame.rgb.iter().map(|v| f64::from(*v)).sum::<f64>() / frame.rgb.len() as f64;
        assert!((mean(&frame) - mean(&small)).abs() < 1.0);
    }
}
