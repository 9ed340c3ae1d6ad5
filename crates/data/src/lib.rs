//! Episodes on disk: Onestep's own container, robomimic HDF5 and OGBench npz, written atomically, read with every size
//! checked.
//!
//! [`EpisodeData`] is one episode in memory, [`EpisodeFile`] many of one task, [`read_episodes`] and [`write_episodes`]
//! take a file of any [`Format`], and [`atomic`] is how everything that must not be half written gets to the disk.
//!
//! A file is not trusted. Whatever its headers say, no more memory is reserved than its real size can account for:
//! stored data must lie inside the file, and compressed data may unfold to [`MAX_EXPANSION`] times its size.
//!
//! ```
//! use onestep_data::{EpisodeData, EpisodeFile};
//!
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("demos.safetensors");
//! let episode = EpisodeData {
//!     observations: vec![0.0, 0.1], // two observations of one number
//!     actions: vec![1.0],
//!     rewards: vec![0.5],
//!     terminated: false,
//!     truncated: true,
//!     successes: vec![false],
//!     seed: 7,
//!     ..EpisodeData::default()
//! };
//! let file = EpisodeFile {
//!     task: "line".to_owned(),
//!     origin: Default::default(), // recorded by Onestep: the seed rebuilds the initial state
//!     observation_dim: 1,
//!     action_dim: 1,
//!     episodes: vec![episode],
//! };
//! file.write(&path)?;
//! assert_eq!(EpisodeFile::read(&path)?, file);
//! # Ok::<(), onestep_data::DataError>(())
//! ```

pub mod atomic;
mod episode;
mod error;
mod file;
mod format;
mod hdf5;
mod npy;
pub mod ogbench;
pub mod robomimic;
mod zip;

pub use episode::EpisodeData;
pub use error::DataError;
pub use file::{EpisodeFile, Origin};
pub use format::{Format, ReadOptions, Watch, WriteOptions, read_episodes, write_episodes};
pub use ogbench::OgbenchTask;
pub use robomimic::{RobomimicFile, RobomimicReadOptions, RobomimicWriteOptions};

/// Deflate cannot make its input shorter by more than this factor, so data that claims more is a lie.
pub const MAX_EXPANSION: u64 = 1032;
