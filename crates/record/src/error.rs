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
    #[error("cannot write {}: {source}{}", file.display(), hint(source))]
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
    #[error("{source}. The {frames} frames until then are in {}", file.display())]
    Partial {
        /// What went wrong.
        source: Box<RecordError>,
        /// Frames that were recorded.
        frames: u64,
        /// Where they are.
        file: PathBuf,
    },
    /// The frames of a film that was broken off are in a file whose name could not be changed.
    #[error("the {frames} frames that there are could not be given a name ({source}). They are in {}; rename it", file.display())]
    Unnamed {
        /// Frames that were recorded.
        frames: u64,
        /// Where they are: a name that ends in `.tmp`.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something went wrong, and so did keeping what had been recorded.
    #[error("{source}. And {second}")]
    Twice {
        /// What went wrong first.
        source: Box<RecordError>,
        /// What went wrong then.
        second: Box<RecordError>,
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

/// What the user can do about it, where that is plain.
fn hint(source: &io::Error) -> &'static str {
    use io::ErrorKind as Kind;
    match source.kind() {
        Kind::AlreadyExists | Kind::DirectoryNotEmpty => "; choose another name, or remove it first",
        Kind::IsADirectory => "; add a file name",
        Kind::NotADirectory => "; a part of the path is a file, so choose another folder",
        Kind::NotFound => "; make the folder first, or choose one that exists",
        Kind::PermissionDenied | Kind::ReadOnlyFilesystem => "; choose a folder that you may write to",
        Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => "; free some space, or choose another disk",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_hint() {
        use io::ErrorKind as Kind;
        let text = |kind: Kind| RecordError::Write { file: "a.mp4".into(), source: kind.into() }.to_string();
        let hints = [
            (Kind::AlreadyExists, "choose another name"),
            (Kind::DirectoryNotEmpty, "choose another name"),
            (Kind::IsADirectory, "add a file name"),
            (Kind::NotADirectory, "a part of the path is a file"),
            (Kind::NotFound, "make the folder first"),
            (Kind::PermissionDenied, "you may write to"),
            (Kind::ReadOnlyFilesystem, "you may write to"),
            (Kind::StorageFull, "free some space"),
            (Kind::QuotaExceeded, "free some space"),
            (Kind::FileTooLarge, "free some space"),
        ];
        for (kind, hint) in hints {
            let said = text(kind);
            assert!(said.starts_with("cannot write a.mp4: ") && said.contains(hint), "{said}");
            let others = hints.iter().filter(|(_, other)| *other != hint && said.contains(other)).count();
            assert_eq!(others, 0, "{said}");
        }
        // Nothing is advised where nothing is known.
        let panicked = RecordError::Write { file: "a.mp4".into(), source: io::Error::other("it is a bug") };
        assert_eq!(panicked.to_string(), "cannot write a.mp4: it is a bug");
    }
}
