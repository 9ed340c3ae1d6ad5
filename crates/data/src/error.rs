use std::{io, path::PathBuf};

use thiserror::Error;

use crate::Format;

/// What can go wrong with data on disk. Each message names the file and, where there is one, the field.
#[derive(Debug, Error)]
pub enum DataError {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}{}", path.display(), hint(source))]
    Io {
        /// What was tried, as a verb: "read", "write", "rename".
        action: &'static str,
        /// Which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is cut off, or is something else.
    #[error("{} is not a complete Onestep episode file: {reason}; it may be cut off, or of another kind", path.display())]
    Container {
        /// Which file.
        path: PathBuf,
        /// What does not hold.
        reason: String,
    },
    /// The file was written by a version of the format that this program does not read.
    #[error("{} has format version {found}, this program reads version {expected}; use the release that wrote it", path.display())]
    Version {
        /// Which file.
        path: PathBuf,
        /// Version in the file.
        found: u32,
        /// Version that is read.
        expected: u32,
    },
    /// A field says something that cannot be true.
    #[error("{}: field `{field}`: {problem}", path.display())]
    Field {
        /// Which file.
        path: PathBuf,
        /// Which field.
        field: String,
        /// What is wrong with it, with the values.
        problem: String,
    },
    /// A file of another project is broken, or holds what this program does not read.
    #[error("{} cannot be read as {format}: `{place}`: {problem}", path.display())]
    Foreign {
        /// Which file.
        path: PathBuf,
        /// What it was read as.
        format: Format,
        /// Group, dataset, array or structure inside the file.
        place: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The file is sound, and for something else.
    #[error("{}: {what} is {found}, and {expected} is needed", path.display())]
    Mismatch {
        /// Which file.
        path: PathBuf,
        /// What differs: the task, a size.
        what: &'static str,
        /// What is needed.
        expected: String,
        /// What the file has.
        found: String,
    },
    /// A name that says nothing of the format.
    #[error("{}: the ending tells no format; known are {}", path.display(), Format::ENDINGS)]
    UnknownFormat {
        /// Which file.
        path: PathBuf,
    },
    /// A request that does not make sense for these episodes or this file.
    #[error("{}: {problem}", path.display())]
    Request {
        /// Which file.
        path: PathBuf,
        /// What was asked, and what would do.
        problem: String,
    },
    /// Whoever watched the work asked to stop.
    #[error("interrupted while working on {}", path.display())]
    Stopped {
        /// Which file.
        path: PathBuf,
    },
    /// Episodes in memory do not fit together, so they are not written.
    #[error("episode {episode}: `{field}` has {found} numbers where {expected} are expected")]
    Episode {
        /// Index of the episode.
        episode: usize,
        /// Which field.
        field: &'static str,
        /// Length that is needed.
        expected: usize,
        /// Length that was given.
        found: usize,
    },
}

impl DataError {
    pub(crate) fn io(action: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

/// What the user can do about it, where that is plain.
fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull => "; free some space and try again, nothing that was there before is lost",
        io::ErrorKind::PermissionDenied => "; check who owns the folder",
        _ => "",
    }
}
