//! Adam over the named parameters of several networks.
//!
//! Source: Kingma and Ba, arXiv 1412.6980, Algorithm 1, in the form of optax: the bias corrections are applied to both
//! moments, then epsilon is added to the root.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

pub use onestep_kernels::AdamStep;

use crate::PolicyError;
use crate::backend::PolicyBackend;
use crate::network::Network;

/// Decay of the first moment.
pub const BETA_1: f64 = 0.9;
/// Decay of the second moment.
pub const BETA_2: f64 = 0.999;
/// Added to the root of the second moment.
pub const EPSILON: f64 = 1e-8;

/// A learning rate that falls during training, and stays at its end from then on.
///
/// In a file: `learning_rate_decay = { updates = 20_000, end = 0.1 }`, with `shape = "linear"` if it shall not fall
/// along a cosine.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LearningRateDecay {
    /// The update at which the end is reached.
    pub updates: u64,
    /// The learning rate at the end, as a share of the one at the start, within 0 and 1.
    pub end: f64,
    /// How it falls in between.
    pub shape: DecayShape,
}

/// How a learning rate falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecayShape {
    /// Along half a cosine wave. Source: Loshchilov and Hutter, "SGDR", arXiv 1608.03983, equation 5, no restarts.
    #[default]
    Cosine,
    /// Along a straight line.
    Linear,
}

impl Default for LearningRateDecay {
    fn default() -> Self {
        Self { updates: 1_000_000, end: 0.1, shape: DecayShape::Cosine }
    }
}

impl LearningRateDecay {
    /// The share of the learning rate that is used at `update`, counted from 1.
    pub fn share(&self, update: u64) -> f64 {
        let done = update.min(self.updates) as f64 / self.updates.max(1) as f64;
        let left = match self.shape {
            DecayShape::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
            DecayShape::Linear => 1.0 - done,
        };
        self.end + (1.0 - self.end) * left
    }

    pub(crate) fn validate(&self) -> Result<(), PolicyError> {
        if self.updates == 0 {
            return Err(PolicyError::config("learning_rate_decay.updates", self.updates, "it must be at least 1"));
        }
        if !(0.0..=1.0).contains(&self.end) {
            return Err(PolicyError::config("learning_rate_decay.end", self.end, "it must lie within 0 and 1"));
        }
        Ok(())
    }
}

/// The numbers of step `index`, counted from 1.
pub fn adam_step(learning_rate: f64, index: u64) -> AdamStep {
    let power = i32::try_from(index).unwrap_or(i32::MAX);
    let correction_1 = 1.0 - BETA_1.powi(power);
    let correction_2 = (1.0 - BETA_2.powi(power)).sqrt();
    AdamStep {
        beta_1: BETA_1,
        beta_2: BETA_2,
        rate: learning_rate * correction_2 / correction_1,
        epsilon: EPSILON * correction_2,
    }
}

/// The moments of one network's parameters.
#[derive(Debug, Clone)]
pub struct Moments<B: PolicyBackend> {
    /// First moments, in the order of [`Network::parameters`].
    pub first: Vec<Tensor<B, 3>>,
    /// Second moments, in the same order.
    pub second: Vec<Tensor<B, 3>>,
}

impl<B: PolicyBackend> Moments<B> {
    /// Zero moments for all parameters of `network`.
    pub fn zeros(network: &Network<B>) -> Self {
        let zeros = || network.parameters().into_iter().map(|(_, tensor)| tensor.zeros_like()).collect();
        Self { first: zeros(), second: zeros() }
    }

    /// Moves all parameters of `network` by one step.
    pub fn step(&mut self, step: &AdamStep, network: &mut Network<B>, gradients: Vec<Tensor<B, 3>>) {
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((parameter, gradient), (first, second)) in network.parameters_mut().into_iter().zip(gradients).zip(moments)
        {
            B::adam(step, parameter, gradient, first, second);
        }
    }
}

/// Moves every parameter of `target` towards `online`: `target ← rate · online + (1 - rate) · target`.
pub fn blend<B: PolicyBackend>(target: &mut Network<B>, online: &Network<B>, rate: f64) {
    let online = online.parameters();
    for (target, (_, online)) in target.parameters_mut().into_iter().zip(online) {
        B::blend(target, online, rate);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_learning_rate_falls_and_stays() {
        for shape in [DecayShape::Cosine, DecayShape::Linear] {
            let decay = LearningRateDecay { updates: 100, end: 0.1, shape };
            assert!((decay.share(0) - 1.0).abs() < 1e-12);
            assert!((decay.share(50) - 0.55).abs() < 1e-12);
            assert!((decay.share(100) - 0.1).abs() < 1e-12);
            assert_eq!(decay.share(100), decay.share(1_000));
            assert!((1..=100).all(|update| decay.share(update) < decay.share(update - 1)));
        }
    }
}
