//! Evaluation in separate worlds, recorded episodes, and rollout videos rendered without a window.
//!
//! | module | job | needs a GPU |
//! |---|---|---|
//! | [`evaluation`] | whole episodes from given seeds, success rate with its interval | no |
//! | [`summary`] | several evaluations taken together, with the spread over root seeds | no |
//! | [`baseline`] | agents that learned nothing, to compare with | no |
//! | [`demonstrations`] | [`DemonstrationRecorder`](demonstrations::DemonstrationRecorder): episodes by hand, kept or discarded one by one | no |
//! | [`episodes`] | [`EpisodeRecorderPlugin`](episodes::EpisodeRecorderPlugin) keeps whole episodes as data | no |
//! | `video`, `picture` (feature `render`) | a rollout as GIF, picture strip or PNG | a Vulkan driver, software is enough |
//! | `plot` (feature `render`) | charts of curves and points as pictures | no |
//!
//! Everything here drives an [`App`](bevy::app::App) by [`tick`]: one call is one control step, as fast as the machine
//! allows, whatever the clock on the wall says.

pub mod baseline;
pub mod demonstrations;
pub mod episodes;
pub mod evaluation;
#[cfg(feature = "render")]
pub mod picture;
#[cfg(feature = "render")]
pub mod plot;
pub mod summary;
mod ticking;
#[cfg(feature = "render")]
pub mod video;

pub use ticking::{TicksInFrames, finish, tick};

/// What most users need, in one `use`.
pub mod prelude {
    #[cfg(feature = "render")]
    pub use crate::video::{RecordError, VideoOptions, VideoPlugin, VideoReport, record_rollout};
    pub use crate::{
        episodes::{EpisodeRecorderPlugin, RecordedEpisodes},
        evaluation::{EvaluationError, EvaluationReport, evaluate, evaluate_watched},
        tick,
    };
}
