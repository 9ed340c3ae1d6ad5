use onestep_data::DataError;
use onestep_learn::LearnError;
use onestep_record::evaluation::EvaluationError;
use onestep_sim::SimError;
use thiserror::Error;

use crate::{config::ConfigError, fault::FaultReport, folder::FolderError};

/// Why a run did not get to its end.
#[derive(Debug, Error)]
pub enum RunError {
    /// The description of the run is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The run folder cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Policy, learner or checkpoint refused.
    #[error(transparent)]
    Learn(#[from] LearnError),
    /// An evaluation has no result.
    #[error(transparent)]
    Evaluation(#[from] EvaluationError),
    /// Episodes could not be read or written.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The simulator refused.
    #[error(transparent)]
    Sim(#[from] SimError),
    /// The scripted expert fails too often under its noise.
    #[error(
        "only {kept} of {wanted} demonstrations after {tried} episodes of the expert; lower demonstrations.action_noise_std \
         or demonstrations.random_action_probability, or set demonstrations.successful_only=false"
    )]
    Demonstrations {
        /// Episodes that were kept.
        kept: usize,
        /// Episodes that were asked for.
        wanted: usize,
        /// Episodes that were played.
        tried: usize,
    },
    /// A number in a loss or a state is not finite.
    #[error("stopped at update {}, step {}, in {}: {}", .0.updates, .0.env_steps, .0.place, .0.error)]
    Fault(Box<FaultReport>),
    /// No window, or not any more.
    #[cfg(feature = "render")]
    #[error(transparent)]
    Window(#[from] crate::window::WindowError),
    /// Somebody asked to stop.
    #[error("interrupted")]
    Interrupted,
}
