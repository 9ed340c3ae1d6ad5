//! Draws what a policy considers: the candidates of the current tick in the scene, coloured by value.
//!
//! Nothing depends on this crate and it changes nothing: it reads the public components of the other plugins.

mod candidates;

pub use candidates::{CandidatesPlugin, value_color};
