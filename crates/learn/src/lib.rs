//! Policies and learners as Bevy plugins.
//!
//! [`PolicyPlugin`] acts for every agent of the world: each fixed tick the observations of all agents that need a new
//! chunk of actions go through the networks as one batch, N candidates each, and the critic chooses.
//! [`LearnerPlugin`] stores what happens in the [`Replay`] and updates actor and critic, first on demonstrations alone
//! (offline), then while the world runs (online).
//!
//! Everything a user touches is free of tensor types: [`PolicyHandle`] hides the backend, and [`Compute`] chooses it
//! at run time.
//!
//! # Beside the frames
//!
//! With [`Execution::Background`] updates run on a thread of their own, and the agents take the newest weights at tick
//! boundaries: a window stays smooth however long an update takes. Such a run is not repeatable to the bit.
//!
//! # Lasting and repeatable
//!
//! Learning inside the tick ([`Execution::Inline`]) on the CPU is repeatable to the bit from a seed, and a run resumed from a [`checkpoint`] gives the same
//! numbers as one that was never interrupted. On a GPU the same seeds and the same noise are used, but sums may be
//! taken in another order, so the last digits differ.

mod background;
pub mod checkpoint;
mod compute;
mod error;
mod learner;
mod metrics;
mod noise;
mod policy;
mod replay;

pub use compute::{Compute, ComputeReport};
pub use error::LearnError;
pub use learner::{
    Execution, LearnFault, LearnPhase, LearnerPlugin, LearnerSchedule, LearnerState, Replaying, keep_pace, settle,
    try_finish, try_keep_pace, try_settle,
};
pub use metrics::LearnerMetrics;
pub use noise::StreamNoise;
pub use onestep_policy::{AlgorithmConfig, PolicySpec};
pub use policy::{ActSettings, ActionChunk, CandidateSet, PolicyHandle, PolicyPlugin, PolicySource, prepare};
pub use replay::{BatchBuffer, Replay, ReplayCursor, Transition};
