//! The learning core of Onestep: one-step flow policies, critics and checkpoints on burn.
//!
//! This crate knows nothing of Bevy and nothing of robots. It takes slices of numbers from the host and hands slices
//! back: observations in, action chunks out; batches of experience in, metrics out.
//!
//! | module | what it holds |
//! |---|---|
//! | [`learner`] | the contract: [`Learner`], [`PolicySpec`], [`Batch`], [`SelectRequest`], [`NoiseSource`] |
//! | [`mvp`] | Mean Velocity Policy, from its losses to its configuration |
//! | [`qc`] | Q-chunking and best-of-N flow behaviour cloning: the same selection, ten steps for each candidate |
//! | [`fql`] | Flow Q-learning, with and without action chunks |
//! | [`fpmd`] | Flow Policy Mirror Descent, variants R and M: online from scratch |
//! | [`sac`] | soft actor-critic, the Gaussian baseline |
//! | [`bc_flow`] | flow behaviour cloning, without rewards |
//! | [`flow`] | the one time convention (noise at 0, action at 1), time pairs, the mean-velocity target |
//! | [`network`] | stacked multilayer perceptrons: inference, training pass, forward-mode derivative |
//! | [`backend`] | what a burn backend must offer, and the fused loops of the CPU backend |
//! | [`optimizer`] | Adam over named parameters, target averaging |
//! | [`scaling`] | observations in units that a network can work with |
//! | [`checkpoint`] | weights and optimiser states as safetensors |
//! | [`compute`] | [`create_learner`]: the one place that picks a backend |
//! | [`metrics`] | the names of all metrics |
//!
//! # Example
//!
//! ```
//! use onestep_policy::{
//!     AlgorithmConfig, ComputeDevice, MvpConfig, NoiseSource, PolicySpec, SelectRequest, create_learner,
//! };
//!
//! /// A source of noise for the example; a program draws from a named random stream.
//! struct Counter(u32);
//! impl NoiseSource for Counter {
//!     fn fill_normal(&mut self, out: &mut [f32]) {
//!         self.fill_uniform(out);
//!         out.iter_mut().for_each(|value| *value = 3.4 * (*value - 0.5));
//!     }
//!     fn fill_uniform(&mut self, out: &mut [f32]) {
//!         for value in out {
//!             self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
//!             *value = (self.0 >> 8) as f32 / (1 << 24) as f32;
//!         }
//!     }
//! }
//!
//! # fn main() -> Result<(), onestep_policy::PolicyError> {
//! let spec = PolicySpec { observation_dim: 4, action_dim: 2, horizon: 5 };
//! let config = AlgorithmConfig::Mvp(MvpConfig::small());
//! let mut noise = Counter(1);
//! let mut learner = create_learner(&config, &spec, &ComputeDevice::Cpu, &mut noise)?;
//!
//! let mut draws = vec![0.0; 8 * spec.chunk_dim()];
//! noise.fill_normal(&mut draws);
//! let selection = learner.select(&SelectRequest {
//!     agents: 1,
//!     observations: &[0.1, 0.2, 0.3, 0.4],
//!     candidates: 8,
//!     noise: &draws,
//!     exploration: None,
//!     return_candidates: false,
//! })?;
//! assert_eq!(selection.actions.len(), spec.chunk_dim());
//! # Ok(())
//! # }
//! ```

mod agent;
pub mod backend;
pub mod bc_flow;
pub mod checkpoint;
pub mod compute;
mod cpu;
mod critic;
mod error;
pub mod flow;
pub mod fpmd;
pub mod fql;
mod host;
pub mod learner;
pub mod metrics;
pub mod mvp;
pub mod network;
pub mod optimizer;
pub mod qc;
mod rectified;
pub mod sac;
pub mod scaling;
mod settings;
mod timed;

pub use bc_flow::BcFlowConfig;
pub use compute::{AlgorithmConfig, ComputeDevice, create_learner};
pub use error::PolicyError;
pub use fpmd::FpmdConfig;
pub use fql::FqlConfig;
pub use learner::{Batch, Candidates, Learner, Metrics, NoiseSource, Phase, PolicySpec, SelectRequest, Selection};
pub use mvp::MvpConfig;
pub use qc::QcConfig;
pub use sac::SacConfig;
pub use scaling::ObservationScaling;

#[cfg(test)]
mod testing;
