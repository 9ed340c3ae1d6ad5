//! Evaluation in separate worlds, recorded episodes, and rollout videos rendered without a window.
//!
//! | module | job | needs a GPU |
//! |---|---|---|
//! | [`evaluation`] | whole episodes from given seeds, success rate with its interval | no |
//! | [`summary`] | several evaluations taken together, with the spread over root seeds | no |
//! | [`baseline`] | agents that learned nothing, to compare with | no |
//! | [`demonstrations`] | [`DemonstrationRecorder`](demonstrations::DemonstrationRecorder): episodes by hand, kept or discarded one by one | no |
//! | [`episodes`] | [`EpisodeRecorderPlugin`](episodes::EpisodeRecorderPlugin) keeps whole episodes as data | no |
//! | `recorder` (feature `render`) | [`RecorderPlugin`](recorder::RecorderPlugin): films of any app that renders | the app's |
//! | `video`, `picture` (feature `render`) | a rollout as MP4, GIF, PNG frames, picture strip or PNG | a Vulkan driver, software is enough |
//! | `encoding`, `overlay` (feature `render`) | frames to a film on a thread of its own; words burnt into them | no |
//! | `plot` (feature `render`) | charts of curves and points as pictures | no |
//!
//! Everything here drives an [`App`](bevy::app::App) by [`tick`]: one call is one control step, as fast as the machine
//! allows, whatever the clock on the wall says.

pub mod baseline;
pub mod demonstrations;
#[cfg(feature = "render")]
pub mod encoding;
pub mod episodes;
#[cfg(feature = "render")]
mod error;
pub mod evaluation;
#[cfg(feature = "render")]
mod mp4;
#[cfg(feature = "render")]
pub mod overlay;
#[cfg(feature = "render")]
mod partial;
#[cfg(feature = "render")]
pub mod picture;
#[cfg(feature = "render")]
pub mod plot;
#[cfg(feature = "render")]
pub mod recorder;
#[cfg(feature = "render")]
mod shot;
pub mod summary;
mod ticking;
#[cfg(feature = "render")]
pub mod video;

#[cfg(all(test, feature = "render"))]
extern crate self as onestep_record;
#[cfg(all(test, feature = "render"))]
#[path = "../tests/films_common/mod.rs"]
mod films_common;
#[cfg(all(test, feature = "render"))]
#[path = "../tests/films_common/gifs.rs"]
mod gifs;
#[cfg(all(test, feature = "render"))]
#[path = "../../../tests/skip/mod.rs"]
mod skip;

pub use ticking::{TicksInFrames, finish, tick};

/// What most users need, in one `use`.
pub mod prelude {
    pub use crate::{
        episodes::{EpisodeRecorderPlugin, RecordedEpisodes},
        evaluation::{EvaluationError, EvaluationReport, evaluate, evaluate_watched},
        tick,
    };
    #[cfg(feature = "render")]
    pub use crate::{
        overlay::Overlay,
        recorder::{Filmed, FrameRate, Recorder, RecorderPlugin},
        video::{RecordError, VideoOptions, VideoPlugin, VideoReport, record_rollout},
    };
}
