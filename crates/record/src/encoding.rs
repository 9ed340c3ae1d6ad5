//! From frames to a film, on a thread of its own.
//!
//! [`VideoWriter::push`] hands a frame over and returns; another thread burns the overlay in, encodes and writes. The
//! queue between them is short: when the encoder cannot keep up, `push` waits, and memory stays bounded.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{Builder, JoinHandle},
};

use crate::{
    error::RecordError,
    mp4::{Mp4Writer, level},
    overlay::{Label, draw_labels},
    picture::{Frame, GifWriter, PartialFile},
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
            Self::Mp4 | Self::Gif => PartialFile::create(path).map(|_| ()),
            Self::PngFrames => PngFolder::create(path).map(|_| ()),
        }
    }

    /// Checks size and rate.
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
        if let Some(fps) = fps {
            if !(low..=high).contains(&fps) {
                return refuse("fps", fps.to_string(), hint);
            }
            if self == Self::Mp4 && level(width, height, fps).is_none() {
                let hint = "H.264 has no level for frames so large or so many; use fewer pixels or frames, or a GIF";
                return refuse("the size", format!("{width} x {height} at {fps} frames per second"), hint);
            }
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
    thread: Option<JoinHandle<io::Result<VideoFile>>>,
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

/// The name of a film that was broken off: `lift.mp4` becomes `lift.partial.mp4`.
#[must_use]
pub fn partial_path(path: &Path) -> PathBuf {
    let mut name: OsString = path.file_stem().unwrap_or_default().to_owned();
    name.push(".partial");
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

impl VideoWriter {
    /// Checks all settings, makes sure that the file can be written, and starts the encoder.
    ///
    /// # Errors
    /// [`RecordError::Option`] or [`RecordError::Write`].
    pub fn create(path: &Path, settings: EncodingSettings) -> Result<Self, RecordError> {
        let EncodingSettings { width, height, fps, quantizer, queue } = settings;
        let format = VideoFormat::of(path)?;
        format.check(width, height, Some(fps))?;
        if quantizer > 51 {
            let hint = "it lies between 0 (best) and 51 (smallest)";
            return Err(RecordError::Option { option: "quantizer", value: quantizer.to_string(), hint });
        }
        let sink = Sink::create(path, format, settings)
            .map_err(|source| RecordError::Write { file: path.to_owned(), source })?;
        let (sender, receiver) = sync_channel(queue.max(1));
        let waiting = Arc::new(Gauge::default());
        let gauge = waiting.clone();
        let target = path.to_owned();
        let thread = Builder::new()
            .name("video encoder".to_owned())
            .spawn(move || encode_all(sink, &receiver, &gauge, &target))
            .map_err(|source| RecordError::Write { file: path.to_owned(), source })?;
        Ok(Self {
            path: path.to_owned(),
            size: (width, height),
            sender: Some(sender),
            thread: Some(thread),
            waiting,
            frames: 0,
        })
    }

    /// The next frame; `labels` are burnt into it. Waits while the queue is full.
    ///
    /// # Errors
    /// [`RecordError::Write`] when an earlier frame could not be written, [`RecordError::Option`] when the frame has
    /// another size than the film.
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
        self.join().and(Err(self.failed(io::Error::other("the encoder has stopped"))))
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

    /// Waits for the last frame; then the film is whole and has its name.
    ///
    /// # Errors
    /// [`RecordError::Write`], and [`RecordError::NoFrames`] for a film without any; no file is written then.
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
    /// [`RecordError::Write`].
    pub fn keep_partial(mut self) -> Result<VideoFile, RecordError> {
        self.sender = None;
        self.join()
    }

    fn join(&mut self) -> Result<VideoFile, RecordError> {
        self.sender = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(Ok(file))) => Ok(file),
            Some(Ok(Err(error))) => Err(self.failed(error)),
            Some(Err(_)) => Err(self.failed(io::Error::other("the encoder panicked; this is a bug"))),
            None => Err(self.failed(io::Error::other("the film is finished already"))),
        }
    }

    fn failed(&self, source: io::Error) -> RecordError {
        RecordError::Write { file: self.path.clone(), source }
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
fn encode_all(mut sink: Sink, receiver: &Receiver<Message>, waiting: &Gauge, path: &Path) -> io::Result<VideoFile> {
    let mut frames = 0;
    let report = |path: PathBuf, frames, is_partial| VideoFile {
        path,
        frames,
        most_waiting: waiting.most.load(Ordering::Relaxed),
        is_partial,
    };
    while let Ok(message) = receiver.recv() {
        let Message::Frame(mut frame, labels) = message else {
            sink.finish()?;
            return Ok(report(path.to_owned(), frames, false));
        };
        draw_labels(&mut frame, &labels);
        let pushed = sink.push(frame);
        waiting.remove();
        if let Err(error) = pushed {
            if let Err(second) = sink.rescue(&partial_path(path), frames) {
                tracing::error!(error = %second, "the frames before it could not be kept");
            }
            return Err(error);
        }
        frames += 1;
    }
    let partial = partial_path(path);
    sink.rescue(&partial, frames)?;
    Ok(report(partial, frames, true))
}

#[allow(clippy::large_enum_variant, reason = "there is one of it per film")]
enum Sink {
    Mp4(Mp4Writer),
    Gif(GifWriter),
    PngFrames(PngFolder),
}

impl Sink {
    fn create(path: &Path, format: VideoFormat, settings: EncodingSettings) -> io::Result<Self> {
        Ok(match format {
            VideoFormat::Mp4 => {
                Self::Mp4(Mp4Writer::create(path, (settings.width, settings.height), settings.fps, settings.quantizer)?)
            }
            VideoFormat::Gif => Self::Gif(GifWriter::create(path, settings.fps)?),
            VideoFormat::PngFrames => Self::PngFrames(PngFolder::create(path)?),
        })
    }

    fn push(&mut self, frame: Frame) -> io::Result<()> {
        match self {
            Self::Mp4(mp4) => mp4.push(&frame),
            Self::Gif(gif) => gif.push(frame),
            Self::PngFrames(folder) => folder.push(&frame),
        }
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Self::Mp4(mp4) => mp4.finish(),
            Self::Gif(gif) => gif.finish(),
            Self::PngFrames(folder) => folder.finish(),
        }
    }

    /// Keeps what there is under the name `path`; nothing when there is no frame.
    fn rescue(self, path: &Path, frames: u64) -> io::Result<()> {
        if frames == 0 {
            return Ok(());
        }
        match self {
            Self::Mp4(mp4) => mp4.rescue(path),
            Self::Gif(mut gif) => {
                gif.rename_to(path);
                gif.finish()
            }
            Self::PngFrames(mut folder) => {
                folder.path = path.to_owned();
                folder.finish()
            }
        }
    }
}

/// A folder of numbered PNGs that gets its name when it is whole.
struct PngFolder {
    path: PathBuf,
    temporary: PathBuf,
    frames: u64,
}

impl PngFolder {
    fn create(path: &Path) -> io::Result<Self> {
        let occupied = || io::Error::new(io::ErrorKind::AlreadyExists, "the folder is there already; name a new one");
        if path.is_file() || path.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(occupied());
        }
        let Some(name) = path.file_name() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path names no folder"));
        };
        let mut temporary_name = name.to_owned();
        temporary_name.push(format!(".{}.tmp", std::process::id()));
        let temporary = path.with_file_name(temporary_name);
        std::fs::create_dir(&temporary)?;
        Ok(Self { path: path.to_owned(), temporary, frames: 0 })
    }

    fn push(&mut self, frame: &Frame) -> io::Result<()> {
        frame.write_png(&self.temporary.join(format!("frame-{:06}.png", self.frames)))?;
        self.frames += 1;
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        if self.path.is_dir() {
            // Only an empty one goes.
            std::fs::remove_dir(&self.path)?;
        }
        std::fs::rename(&self.temporary, &self.path)?;
        self.temporary = PathBuf::new();
        Ok(())
    }
}

impl Drop for PngFolder {
    fn drop(&mut self) {
        if self.frames == 0 && !self.temporary.as_os_str().is_empty() {
            // Nothing better can be done with a failure here, and the folder is empty.
            let _ = std::fs::remove_dir(&self.temporary);
        }
    }
}
