use std::path::PathBuf;

use onestep_data::DataError;
use onestep_policy::PolicyError;
use thiserror::Error;

/// What can go wrong while acting and learning.
#[derive(Debug, Error)]
pub enum LearnError {
    /// The learning core refused something.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A file could not be read or written.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A setting has a value that cannot work.
    #[error("setting `{name}` is {value}; {hint}")]
    Setting {
        /// Name of the setting.
        name: &'static str,
        /// Its value.
        value: String,
        /// What would work.
        hint: &'static str,
    },
    /// A vector has another length than it must.
    #[error("{what} has {found} numbers where {expected} are expected; was it made for another task?")]
    Length {
        /// Which vector.
        what: &'static str,
        /// Length that is needed.
        expected: usize,
        /// Length that was given.
        found: usize,
    },
    /// A number is NaN or infinite.
    #[error("{what} holds a number that is not finite, at place {index}")]
    NotFinite {
        /// Which vector.
        what: &'static str,
        /// Where in it.
        index: usize,
    },
    /// The replay holds no chunk yet.
    #[error(
        "the replay holds {held} transitions, and in none of them does a chunk of {horizon} steps start; add demonstrations or let the agents act first"
    )]
    TooFewTransitions {
        /// Chunk length.
        horizon: usize,
        /// Transitions held.
        held: usize,
    },
    /// There is nobody to learn for.
    #[error("no agent is in the world: spawn an `AgentBundle` before the policy is prepared")]
    NoAgent,
    /// Agents of different shapes cannot share a policy.
    #[error("agents {first} and {second} have different spaces, and one policy serves all agents of a world: {detail}")]
    MixedAgents {
        /// One agent.
        first: u32,
        /// Another.
        second: u32,
        /// Where they differ.
        detail: String,
    },
    /// A GPU was asked for and there is none.
    #[error(
        "no GPU was found for the learner: {detail}. Use `--compute cpu`, or install a Vulkan driver (Debian: mesa-vulkan-drivers)"
    )]
    NoGpu {
        /// What was looked at.
        detail: String,
    },
    /// The thread that learns beside the frames is gone or could not be started.
    #[error("the thread that learns in the background failed: {detail}")]
    Background {
        /// Why.
        detail: String,
    },
    /// A checkpoint is broken or belongs to something else.
    #[error("checkpoint file {path}: {detail}. The file was left as it is")]
    Checkpoint {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it, and where.
        detail: String,
    },
}
