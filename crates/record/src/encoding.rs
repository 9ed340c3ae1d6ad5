//! From frames to a film, on a thread of its own.
//!
//! [`VideoWriter::push`] hands a frame over and returns; another thread burns the overlay in, encodes and writes. The
//! queue between them is short: when the encoder cannot keep up, `push` waits, and memory stays bounded.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{Builder, JoinHandle},
};

pub use crate::partial::partial_path;
use crate::{
    error::RecordError,
    mp4::{Mp4Writer, level},
    overlay::{Label, draw_labels},
    partial::{IfTaken, Kept, PartialFile, PartialFolder},
    picture::{Frame, GifWriter},
};

/// Largest edge of a frame, pixels: what every graphics device can draw into.
pub(crate) const MAX_EDGE: u32 = 8192;

/// What a film becomes on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VideoFormat {
    /// H.264 in MP4: small, plays everywhere.
    Mp4,
    /// GIF: 256 colours, at most 50 frames per second, plays for ever.
    Gif,
    /// A folder with one PNG per frame, without loss.
    PngFrames,
}

impl VideoFormat {
    /// By the file's name: `.mp4`, `.gif`, or a folder when it ends in a slash.
    ///
    /// # Errors
    /// [`RecordError::Option`] for any other name.
    pub fn of(path: &Path) -> Result<Self, RecordError> {
        if path.as_os_str().to_string_lossy().ends_with(['/', std::path::MAIN_SEPARATOR]) {
            return Ok(Self::PngFrames);
        }
        match path.extension().map(|extension| extension.to_string_lossy().to_lowercase()).as_deref() {
            Some("mp4") => Ok(Self::Mp4),
            Some("gif") => Ok(Self::Gif),
            _ => Err(RecordError::Option {
                option: "the output file",
                value: path.display().to_string(),
                hint: "its name must end in .mp4 or .gif, or in a slash for a folder of PNG frames",
            }),
        }
    }

    /// Frames per second that it can have.
    const fn rates(self) -> (f64, f64, &'static str) {
        match self {
            Self::Mp4 => (0.1, 240.0, "an MP4 plays 0.1 to 240 frames per second here"),
            Self::Gif => (0.1, 50.0, "a GIF plays 0.1 to 50 frames per second; an MP4 plays more"),
            Self::PngFrames => (f64::MIN_POSITIVE, f64::MAX, "the rate must be more than 0"),
        }
    }

    /// Whether something can be written at `path`; leaves nothing there.
    pub(crate) fn try_path(self, path: &Path) -> io::Result<()> {
        match self {
            Self::Mp4 | Self::Gif => PartialFile::create(path, IfTaken::Replace).map(|_| ()),
            Self::PngFrames => PartialFolder::create(path, IfTaken::Replace).map(|_| ()),
        }
    }

    /// Checks size and rate; without a rate, whether there is one that would do.
    ///
    /// # Errors
    /// [`RecordError::Option`] names what this format cannot do, and what would do.
    pub fn check(self, width: u32, height: u32, fps: Option<f64>) -> Result<(), RecordError> {
        let refuse = |option, value: String, hint| Err(RecordError::Option { option, value, hint });
        for (option, value) in [("width", width), ("height", height)] {
            if !(1..=MAX_EDGE).contains(&value) {
                return refuse(option, value.to_string(), "it must lie between 1 and 8192 pixels");
            }
            if self == Self::Mp4 && value % 2 != 0 {
                let hint = "H.264 stores colour for 2 by 2 pixels, so it must be even: one more or one less; GIF and \
                            PNG take any size";
                return refuse(option, value.to_string(), hint);
            }
        }
        let (low, high, hint) = self.rates();
        if let Some(fps) = fps
            && !(low..=high).contains(&fps)
        {
            return refuse("fps", fps.to_string(), hint);
        }
        if self == Self::Mp4 && level(width, height, fps.unwrap_or(low)).is_none() {
            let hint = "H.264 has no level for frames so large or so many; use fewer pixels or frames, or a GIF";
            let rate = fps.map_or_else(String::new, |fps| format!(" at {fps} frames per second"));
            return refuse("the size", format!("{width} x {height}{rate}"), hint);
        }
        Ok(())
    }
}

/// How frames become a film.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EncodingSettings {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Frames per second.
    pub fps: f64,
    /// H.264's quantiser, 0 to 51: lower is better and larger. Six less doubles the bytes, more or less.
    pub quantizer: u8,
    /// Frames that may wait for the encoder.
    pub queue: usize,
}

impl Default for EncodingSettings {
    fn default() -> Self {
        Self { width: 640, height: 480, fps: 30.0, quantizer: 21, queue: 8 }
    }
}

/// What became of a film.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoFile {
    /// Where it is.
    pub path: PathBuf,
    /// Frames in it.
    pub frames: u64,
    /// Most frames that were in memory at once, those in the queue and the one being encoded.
    pub most_waiting: usize,
    /// It was broken off: it holds only the frames until then, and its name says so.
    pub is_partial: bool,
}

/// A film being written.
///
/// Dropped without [`VideoWriter::finish`], it keeps what it has under a name that says that it is a part
/// ([`partial_path`]).
#[derive(Debug)]
pub struct VideoWriter {
    path: PathBuf,
    size: (u32, u32),
    sender: Option<SyncSender<Message>>,
    thread: Option<JoinHandle<Result<VideoFile, Broken>>>,
    waiting: Arc<Gauge>,
    frames: u64,
}

enum Message {
    Frame(Frame, Vec<Label>),
    Finish,
}

#[derive(Debug, Default)]
struct Gauge {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Gauge {
    fn add(&self) {
        let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(now, Ordering::Relaxed);
    }

    fn remove(&self) {
        self.now.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why the encoder ended early, and what became of the frames until then.
#[derive(Debug)]
struct Broken {
    /// None when the film was broken off from outside.
    source: Option<io::Error>,
    kept: Kept,
}

impl VideoWriter {
    /// Checks all settings, makes sure that the file can be written, and starts the encoder. When the film is whole, an
    /// older file of its name goes.
    ///
    /// # Errors
    /// [`RecordError::Option`] or [`RecordError::Write`].
    pub fn create(path: &Path, settings: EncodingSettings) -> Result<Self, RecordError> {
        Self::open(path, settings, IfTaken::Replace)
    }

    /// As [`VideoWriter::create`], but no other file goes: if the name is taken when the film is whole, it gets the next
    /// free number, `lift-2.mp4` for `lift-1.mp4`. [`VideoFile::path`] tells.
    ///
    /// # Errors
    /// As [`VideoWriter::create`].
    pub fn create_new(path: &Path, settings: EncodingSettings) -> Result<Self, RecordError> {
        Self::open(path, settings, IfTaken::TakeNext)
    }

    pub(crate) fn open(path: &Path, settings: EncodingSettings, if_taken: IfTaken) -> Result<Self, RecordError> {
        let EncodingSettings { width, height, fps, quantizer, .. } = settings;
        let format = VideoFormat::of(path)?;
        format.check(width, height, Some(fps))?;
        if quantizer > 51 {
            let hint = "it lies between 0 (best) and 51 (smallest)";
            return Err(RecordError::Option { option: "quantizer", value: quantizer.to_string(), hint });
        }
        let sink = Sink::create(path, format, settings, if_taken)
            .map_err(|source| RecordError::Write { file: path.to_owned(), source })?;
        Self::start(path, settings, sink)
    }

    fn start(path: &Path, settings: EncodingSettings, sink: Sink) -> Result<Self, RecordError> {
        let (sender, receiver) = sync_channel(settings.queue.max(1));
        let waiting = Arc::new(Gauge::default());
        let gauge = waiting.clone();
        let target = path.to_owned();
        let thread = Builder::new()
            .name("video encoder".to_owned())
            .spawn(move || encode_all(sink, &receiver, &gauge, &target))
            .map_err(|source| RecordError::Write { file: path.to_owned(), source })?;
        Ok(Self {
            path: path.to_owned(),
            size: (settings.width, settings.height),
            sender: Some(sender),
            thread: Some(thread),
            waiting,
            frames: 0,
        })
    }

    /// The next frame; `labels` are burnt into it. Waits while the queue is full.
    ///
    /// # Errors
    /// [`RecordError::Write`] or [`RecordError::Partial`] when an earlier frame could not be written,
    /// [`RecordError::Option`] when the frame has another size than the film.
    pub fn push(&mut self, frame: Frame, labels: Vec<Label>) -> Result<(), RecordError> {
        if (frame.width, frame.height) != self.size {
            return Err(RecordError::Option {
                option: "the size of a frame",
                value: format!("{} x {}", frame.width, frame.height),
                hint: "all frames of a film have one size",
            });
        }
        self.waiting.add();
        let sent = self.sender.as_ref().is_some_and(|sender| sender.send(Message::Frame(frame, labels)).is_ok());
        if sent {
            self.frames += 1;
            return Ok(());
        }
        // The thread has ended early, so it has an error to tell.
        self.join().and(Err(self.refused("the encoder has stopped")))
    }

    /// Frames handed over so far.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Says that no frame follows, and does not wait.
    pub(crate) fn close(&mut self) {
        if let Some(sender) = self.sender.take() {
            // A thread that is gone has an error, and `join` tells it.
            let _ = sender.send(Message::Finish);
        }
    }

    /// Whether the thread is through: after [`VideoWriter::close`] when the film is whole, before it when it failed.
    pub(crate) fn is_done(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Whether an error has been told that says what became of the film.
    pub(crate) fn has_ended(&self) -> bool {
        self.thread.is_none()
    }

    /// Waits for the last frame; then the film is whole and has its name.
    ///
    /// # Errors
    /// [`RecordError::Write`]; [`RecordError::Partial`] where frames could be kept in spite of it; and
    /// [`RecordError::NoFrames`] for a film without any; no file is written then.
    pub fn finish(mut self) -> Result<VideoFile, RecordError> {
        if self.frames == 0 {
            self.join()?;
            return Err(RecordError::NoFrames { file: self.path.clone() });
        }
        self.close();
        self.join()
    }

    /// Breaks off: the frames so far are kept in [`partial_path`]. Without any frame there is no file.
    ///
    /// # Errors
    /// [`RecordError::Write`] and [`RecordError::Partial`] as [`VideoWriter::finish`], and [`RecordError::Unnamed`].
    pub fn keep_partial(mut self) -> Result<VideoFile, RecordError> {
        self.sender = None;
        self.join()
    }

    fn join(&mut self) -> Result<VideoFile, RecordError> {
        self.sender = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(Ok(file))) => Ok(file),
            Some(Ok(Err(broken))) => Err(self.failed(broken)),
            Some(Err(_)) => Err(self.refused(PANICKED)),
            None => Err(self.refused("the film is finished already")),
        }
    }

    fn refused(&self, reason: &'static str) -> RecordError {
        RecordError::Write { file: self.path.clone(), source: io::Error::other(reason) }
    }

    fn failed(&self, Broken { source, kept }: Broken) -> RecordError {
        let kept = match kept {
            Kept::Nothing => None,
            Kept::Part { path, frames } => Some(Ok((path, frames))),
            Kept::Unnamed { temporary, frames, source } => {
                Some(Err(RecordError::Unnamed { frames, file: temporary, source }))
            }
        };
        let source = source.map(|source| RecordError::Write { file: self.path.clone(), source });
        match (source, kept) {
            (Some(source), Some(Ok((file, frames)))) => RecordError::Partial { source: Box::new(source), frames, file },
            (Some(source), Some(Err(second))) => RecordError::Twice { source: source.into(), second: second.into() },
            (Some(source), None) => source,
            (None, Some(Err(error))) => error,
            (None, _) => self.refused("it was broken off"),
        }
    }
}

impl Drop for VideoWriter {
    fn drop(&mut self) {
        if self.thread.is_some()
            && let Err(error) = self.join()
        {
            tracing::error!(%error, "a film that was broken off could not be kept");
        }
    }
}

/// The thread's work. A channel that ends without [`Message::Finish`] means that the film was broken off.
fn encode_all(mut sink: Sink, receiver: &Receiver<Message>, waiting: &Gauge, path: &Path) -> Result<VideoFile, Broken> {
    let report = |path: PathBuf, frames, is_partial| VideoFile {
        path,
        frames,
        most_waiting: waiting.most.load(Ordering::Relaxed),
        is_partial,
    };
    let mut frames = 0;
    let error = loop {
        match receiver.recv() {
            Ok(Message::Frame(mut frame, labels)) => {
                let pushed = caught(|| {
                    draw_labels(&mut frame, &labels);
                    sink.push(frame)
                });
                waiting.remove();
                match pushed {
                    Ok(()) => frames += 1,
                    Err(error) => break Some(error),
                }
            }
            Ok(Message::Finish) => match caught(|| sink.finish()) {
                Ok(path) => return Ok(report(path, frames, false)),
                Err(error) => break Some(error),
            },
            Err(_) => break None,
        }
    };
    // A frame may still be in memory, and a panic may come from it again.
    let (kept, rest) = caught(|| Ok(sink.keep())).unwrap_or_else(|error| (Kept::Nothing, Err(error)));
    match (error.or(rest.err()), kept) {
        (None, Kept::Part { path, frames }) => Ok(report(path, frames, true)),
        (None, Kept::Nothing) => Ok(report(path.to_owned(), 0, true)),
        (source, kept) => Err(Broken { source, kept }),
    }
}

const PANICKED: &str = "the encoder panicked; this is a bug";

/// Makes an error of a panic, so that what has been written is kept as after any other error.
fn caught<T>(work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    // What a panic leaves half done is at most the last frame.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(io::Error::other(PANICKED)))
}

#[allow(clippy::large_enum_variant, reason = "there is one of it per film")]
enum Sink {
    Mp4(Mp4Writer),
    Gif(GifWriter),
    PngFrames { folder: PartialFolder, frames: u64 },
}

impl Sink {
    fn create(path: &Path, format: VideoFormat, settings: EncodingSettings, if_taken: IfTaken) -> io::Result<Self> {
        let EncodingSettings { width, height, fps, quantizer, .. } = settings;
        Ok(match format {
            VideoFormat::Mp4 => Self::Mp4(Mp4Writer::create(path, (width, height), fps, quantizer, if_taken)?),
            VideoFormat::Gif => Self::Gif(GifWriter::create(path, fps, if_taken)?),
            VideoFormat::PngFrames => Self::PngFrames { folder: PartialFolder::create(path, if_taken)?, frames: 0 },
        })
    }

    fn push(&mut self, frame: Frame) -> io::Result<()> {
        match self {
            Self::Mp4(mp4) => mp4.push(&frame),
            Self::Gif(gif) => gif.push(frame),
            Self::PngFrames { folder, frames } => {
                frame.write_png(&folder.inside().join(format!("frame-{frames:06}.png")))?;
                *frames += 1;
                Ok(())
            }
        }
    }

    /// Gives the film its name; returns it. After an error [`Sink::keep`] keeps what there is.
    fn finish(&mut self) -> io::Result<PathBuf> {
        match self {
            Self::Mp4(mp4) => mp4.finish(),
            Self::Gif(gif) => gif.finish(),
            Self::PngFrames { folder, .. } => folder.finish(),
        }
    }

    /// Keeps what there is under a name that says that it is a part; the second is an error that kept some frames out.
    fn keep(&mut self) -> (Kept, io::Result<()>) {
        match self {
            Self::Mp4(mp4) => mp4.keep(),
            Self::Gif(gif) => gif.keep(),
            Self::PngFrames { folder, frames } => (folder.keep(*frames), Ok(())),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "tests fail by panicking")]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        films_common::{decode_fragments, ffmpeg_frames, luma_psnr},
        gifs::decode_gif,
    };

    const SIZE: (u32, u32) = (96, 64);
    /// Two fragments and a half.
    const FRAMES: u32 = 50;

    fn settings() -> EncodingSettings {
        EncodingSettings { width: SIZE.0, height: SIZE.1, fps: 20.0, ..EncodingSettings::default() }
    }

    /// Grey, with a red square that has moved `step` pixels.
    fn moving(step: u32) -> Frame {
        let mut frame = Frame::filled(SIZE.0, SIZE.1, [180, 182, 186]);
        for y in 10..30 {
            for x in step..step + 20 {
                let at = 3 * (y * SIZE.0 + x) as usize;
                frame.rgb[at..at + 3].copy_from_slice(&[200, 20, 15]);
            }
        }
        frame
    }

    /// Films onto a disk that is full when the file has `room` bytes.
    fn film(path: &Path, room: u64) -> Result<VideoFile, RecordError> {
        let mut sink = Sink::create(path, VideoFormat::of(path)?, settings(), IfTaken::Replace).unwrap();
        match &mut sink {
            Sink::Mp4(mp4) => mp4.file().limit(room),
            Sink::Gif(gif) => gif.file().limit(room),
            Sink::PngFrames { .. } => {}
        }
        let mut writer = VideoWriter::start(path, settings(), sink)?;
        for step in 0..FRAMES {
            writer.push(moving(step), Vec::new())?;
        }
        writer.finish()
    }

    /// Wherever the disk is full, what was written before it plays, and says how much it is.
    #[track_caller]
    fn keeps_what_there_is(name: &str, check: impl Fn(&Path, u64)) -> Vec<u64> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        film(&path, u64::MAX).unwrap();
        let len = path.metadata().unwrap().len();
        fs::write(&path, b"old").unwrap();
        let mut kept = Vec::new();
        for room in (0..12).map(|part| 1 + len * part / 12).chain([len - 20, len - 1]) {
            let error = film(&path, room).unwrap_err();
            let text = error.to_string();
            assert!(text.contains("free some space"), "{text}");
            assert_eq!(fs::read(&path).unwrap(), b"old");
            let names = fs::read_dir(folder.path()).unwrap().count();
            let RecordError::Partial { frames, file, .. } = error else {
                assert_eq!(names, 1, "{text}");
                kept.push(0);
                continue;
            };
            assert_eq!(names, 2, "{text}");
            assert!(text.contains(&file.display().to_string()) && text.contains(&format!("{frames} frames")), "{text}");
            check(&file, frames);
            fs::remove_file(&file).unwrap();
            kept.push(frames);
        }
        assert!(kept.is_sorted(), "{kept:?}");
        kept
    }

    #[test]
    fn an_mp4_on_a_full_disk_plays_up_to_its_last_fragment() {
        let kept = keeps_what_there_is("a.mp4", |file, frames| {
            let film = decode_fragments(file);
            assert_eq!((film.width, film.height, film.frames.len() as u64), (SIZE.0, SIZE.1, frames));
            for (step, shown) in (0..).zip(&film.frames) {
                let psnr = luma_psnr(shown, &moving(step));
                assert!(psnr > 34.0, "frame {step} of {frames}: {psnr} dB");
            }
            if let Some(shown) = ffmpeg_frames(file) {
                assert_eq!(shown.len() as u64, frames);
            }
        });
        // In the middle, and while the index is written.
        let all: Vec<u64> = [0, 20, 40, 50].into_iter().filter(|frames| kept.contains(frames)).collect();
        assert_eq!(all, [0, 20, 40, 50], "{kept:?}");
    }

    #[test]
    fn a_gif_on_a_full_disk_keeps_every_whole_frame() {
        let kept = keeps_what_there_is("a.gif", |file, frames| {
            let gif = decode_gif(file);
            assert_eq!((gif.width, gif.height, gif.frames.len() as u64), (96, 64, frames));
            for (step, shown) in (0..).zip(&gif.frames) {
                for (shown, wanted) in shown.chunks_exact(4).zip(moving(step).rgb.chunks_exact(3)) {
                    assert!(shown.iter().zip(wanted).all(|(a, b)| a.abs_diff(*b) <= 12), "frame {step}");
                }
            }
        });
        assert_eq!((kept[0], kept.last()), (0, Some(&50)), "{kept:?}");
        assert!(kept.iter().any(|frames| (1..50).contains(frames)), "{kept:?}");
    }

    #[test]
    fn a_panic_is_an_error_in_words() {
        let error = caught(|| -> io::Result<()> { panic!("at frame 3") }).unwrap_err();
        assert!(error.to_string().contains("this is a bug"), "{error}");
        assert_eq!(caught(|| Ok(7)).unwrap(), 7);
    }
}
