//! What a person sees of agents, and how a person takes part: candidates in the scene, panel, camera, pace, keys.
//!
//! Nothing but the facade depends on this crate. Every plugin works alone in an app of your own, reads the public
//! components and resources of the other crates, and changes the simulation only where somebody presses a key or a
//! button.
//!
//! | plugin | job |
//! |---|---|
//! | [`CandidatesPlugin`] | draws the candidates of each agent's current chunk, coloured by value |
//! | [`OrbitCameraPlugin`] | moves a camera by mouse and keyboard |
//! | [`PacePlugin`] | speed, pause and single ticks |
//! | [`HumanPlugin`] | a person acts for an agent, and takes over while it runs |
//! | [`PanelPlugin`] | where the run stands, its curves, the critic's values, and the knobs |
//! | [`KeysPlugin`] | keys for pace, episodes and demonstrations |
//! | [`FilmPlugin`] | a film of the scene, on and off by key and button |
//! | [`SmoothPlugin`] | bodies move evenly between two ticks |
//!
//! A connected gamepad acts as the keys do, see [`HumanControl::bindings`]. Bevy learns of gamepads from a plugin of its
//! own: with the feature `gamepad`, [`HumanPlugin`] adds it (on Linux it needs libudev to build).

#[cfg(test)]
mod alone;
mod camera;
mod candidates;
mod episodes;
mod film;
mod gamepad;
mod human;
mod input;
mod keys;
mod pace;
mod paint;
mod panel;
mod smooth;
mod status;
mod tube;

pub use camera::{OrbitCamera, OrbitCameraPlugin};
pub use candidates::{CandidatesPlugin, ShownCandidates, candidates_scale, value_color};
pub use film::{FilmPlugin, Filming};
pub use gamepad::PadInput;
pub use human::{Binding, HumanControl, HumanPlugin};
pub use input::InputCapture;
pub use keys::{KeysPlugin, Notice, SaveRequest, ShowHelp};
pub use pace::{CloseRequest, Pace, PacePlugin, Speed, TickDriver, drive};
pub use panel::{Panel, PanelPlugin};
pub use smooth::SmoothPlugin;
pub use status::{RunStatus, StatusPoint};
