//! Reading GIFs back.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::{fs::File, path::Path};

/// A GIF as it is shown.
pub struct Gif {
    pub width: usize,
    pub height: usize,
    /// `[height, width, 4]` each.
    pub frames: Vec<Vec<u8>>,
    /// How long each stays, hundredths of a second.
    pub delays: Vec<u16>,
}

pub fn decode_gif(path: &Path) -> Gif {
    let mut options = gif::DecodeOptions::new();
    options.set_color_output(gif::ColorOutput::RGBA);
    let mut decoder = options.read_info(File::open(path).unwrap()).unwrap();
    let (width, height) = (decoder.width() as usize, decoder.height() as usize);
    let mut canvas = vec![0; 4 * width * height];
    let mut gif = Gif { width, height, frames: Vec::new(), delays: Vec::new() };
    while let Some(frame) = decoder.read_next_frame().unwrap() {
        for (i, pixel) in frame.buffer.chunks_exact(4).enumerate().filter(|(_, pixel)| pixel[3] != 0) {
            let (x, y) =
                (i % frame.width as usize + frame.left as usize, i / frame.width as usize + frame.top as usize);
            canvas[4 * (y * width + x)..][..4].copy_from_slice(pixel);
        }
        gif.frames.push(canvas.clone());
        gif.delays.push(frame.delay);
    }
    gif
}
