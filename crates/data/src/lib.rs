//! Episodes on disk: Onestep's own container, written atomically, read with every size checked.
//!
//! [`EpisodeData`] is one episode in memory, [`EpisodeFile`] many of one task in a file, and [`atomic`] is how
//! everything that must not be half written gets to the disk.
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
//! };
//! let file = EpisodeFile { task: "line".to_owned(), observation_dim: 1, action_dim: 1, episodes: vec![episode] };
//! file.write(&path)?;
//! assert_eq!(EpisodeFile::read(&path)?, file);
//! # Ok::<(), onestep_data::DataError>(())
//! ```

pub mod atomic;
mod episode;
mod error;
mod file;

pub use episode::EpisodeData;
pub use error::DataError;
pub use file::EpisodeFile;
