use std::{io, path::PathBuf};

use thiserror::Error;

use crate::evaluation::EvaluationError;

/// Why there is no recording.
#[derive(Debug, Error)]
pub enum RecordError {
    /// An option makes no sense.
    #[error("{option} is {value}; {hint}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// What was given.
        value: String,
        /// What would do.
        hint: &'static str,
    },
    /// The file cannot be written.
    #[error("cannot write {}: {source}; choose a folder that exists and that you may write to", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No driver that can render.
    #[error(
        "no graphics driver was found, so nothing can be rendered; a software driver is enough. Debian, Ubuntu: \
         `apt install mesa-vulkan-drivers`; Fedora: `dnf install mesa-vulkan-drivers`; Arch: `pacman -S vulkan-swrast`"
    )]
    NoAdapter,
    /// The scene has no camera.
    #[error("the app has no camera, so there is nothing to see; spawn one before the recording starts")]
    NoCamera,
    /// The app could not be put together.
    #[error("the scene cannot be built: {reason}")]
    Build {
        /// Why.
        reason: String,
    },
    /// The renderer did not deliver a frame.
    #[error("the renderer delivered no frame: {reason}")]
    Readback {
        /// Why.
        reason: String,
    },
    /// The renderer failed, as it does when the graphics device is lost.
    #[error(
        "rendering failed: {reason}. Was the graphics device lost? A driver that was updated while the program ran, a \
         sleeping machine or too little memory on the device do that; try again, with smaller frames or with the \
         software driver"
    )]
    RenderingFailed {
        /// What it said.
        reason: String,
    },
    /// The app has no renderer.
    #[error(
        "this app renders nothing, so there is nothing to record; add Bevy's DefaultPlugins, or VideoPlugin for an app \
         without a window"
    )]
    NoRenderer,
    /// A film was ended before its first frame.
    #[error("no frame was recorded, so there is no {}; a film needs at least one", file.display())]
    NoFrames {
        /// The file that was asked for.
        file: PathBuf,
    },
    /// A recording is under way.
    #[error("a recording to {} is under way; stop it first", file.display())]
    Busy {
        /// Its file.
        file: PathBuf,
    },
    /// Something went wrong after frames had been recorded; they are kept.
    #[error("{source} The {frames} frames until then are in {}", file.display())]
    Partial {
        /// What went wrong.
        source: Box<RecordError>,
        /// Frames that were recorded.
        frames: u64,
        /// Where they are.
        file: PathBuf,
    },
    /// The episodes could not be played.
    #[error(transparent)]
    Episodes(#[from] EvaluationError),
    /// The watcher stopped it.
    #[error("the recording was stopped: {reason}")]
    Stopped {
        /// What the watcher said.
        reason: String,
    },
}
