use std::{
    fmt,
    path::{Path, PathBuf},
};

use crate::{
    DataError, EpisodeFile, OgbenchTask, RobomimicFile, RobomimicReadOptions, RobomimicWriteOptions, ogbench, robomimic,
};

/// The formats that episodes are read from and written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Onestep's own container, see [`EpisodeFile`].
    Onestep,
    /// Low-dimensional robomimic HDF5, see [`robomimic`].
    Robomimic,
    /// OGBench npz, see [`ogbench`].
    Ogbench,
}

impl Format {
    /// The endings of all formats, for messages.
    pub const ENDINGS: &str = ".safetensors (Onestep), .hdf5 or .h5 (robomimic), .npz (OGBench)";

    /// The format that a file's name tells by its ending.
    ///
    /// # Errors
    /// [`DataError::UnknownFormat`].
    pub fn of(path: &Path) -> Result<Self, DataError> {
        let ending = path.extension().and_then(|ending| ending.to_str()).map(str::to_ascii_lowercase);
        match ending.as_deref() {
            Some("safetensors") => Ok(Self::Onestep),
            Some("hdf5" | "h5") => Ok(Self::Robomimic),
            Some("npz") => Ok(Self::Ogbench),
            _ => Err(DataError::UnknownFormat { path: path.to_owned() }),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Onestep => "Onestep episodes",
            Self::Robomimic => "robomimic HDF5",
            Self::Ogbench => "OGBench npz",
        })
    }
}

/// Follows long work: gets the episodes that are done and how many there are, and returns whether to go on.
pub type Watch<'a> = &'a mut dyn FnMut(usize, usize) -> bool;

/// How [`read_episodes`] reads what its format leaves open.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReadOptions {
    /// For robomimic files.
    pub robomimic: RobomimicReadOptions,
    /// For OGBench files: the single task that rewards and masks are computed for. Without it the file must hold them.
    pub ogbench_task: Option<OgbenchTask>,
}

/// How [`write_episodes`] writes what its format leaves open.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WriteOptions {
    /// For robomimic files.
    pub robomimic: RobomimicWriteOptions,
    /// For npz files: leave the arrays as they are (`np.savez`) instead of compressing them.
    pub uncompressed: bool,
}

/// Reads the episodes of a file in any [`Format`]; the ending of its name decides.
///
/// # Errors
/// [`DataError`] naming the file and the place in it, or [`DataError::Stopped`].
pub fn read_episodes(path: &Path, options: &ReadOptions, watch: Watch<'_>) -> Result<EpisodeFile, DataError> {
    match Format::of(path)? {
        Format::Onestep => EpisodeFile::read(path),
        Format::Robomimic => RobomimicFile::open(path)?.episodes(&options.robomimic, watch),
        Format::Ogbench => ogbench::read_episodes(path, options.ogbench_task.as_ref(), watch),
    }
}

/// Writes episodes in any [`Format`], in one piece; the ending of the name decides.
///
/// # Errors
/// [`DataError`]; a file that was at `path` before is still there then.
pub fn write_episodes(path: &Path, episodes: &EpisodeFile, options: &WriteOptions) -> Result<(), DataError> {
    match Format::of(path)? {
        Format::Onestep => episodes.write(path),
        Format::Robomimic => robomimic::write_episodes(path, episodes, &options.robomimic),
        Format::Ogbench => ogbench::write_episodes(path, episodes, !options.uncompressed),
    }
}

/// Calls `watch` after each of `total` episodes.
pub(crate) fn go_on(
    watch: &mut dyn FnMut(usize, usize) -> bool,
    done: usize,
    total: usize,
    path: &Path,
) -> Result<(), DataError> {
    if watch(done, total) { Ok(()) } else { Err(DataError::Stopped { path: PathBuf::from(path) }) }
}
