//! Batches and noise on their way from the host to the device.

use burn::tensor::{Tensor, TensorData};

use crate::backend::PolicyBackend;
use crate::checkpoint::to_vec;
use crate::{Batch, Metrics, NoiseSource, ObservationScaling, PolicyError, PolicySpec};

/// The sizes of a policy and the device it lives on.
#[derive(Debug, Clone)]
pub(crate) struct Host<B: PolicyBackend> {
    pub(crate) spec: PolicySpec,
    pub(crate) device: B::Device,
    /// Of all observations on their way to the device.
    pub(crate) scaling: Option<ObservationScaling>,
}

impl<B: PolicyBackend> Host<B> {
    /// Row-major values as `[rows, width]`.
    pub(crate) fn upload(&self, values: Vec<f32>, width: usize) -> Tensor<B, 2> {
        let rows = values.len() / width.max(1);
        Tensor::from_data(TensorData::new(values, [rows, width]), &self.device)
    }

    /// Observations as networks see them, `[rows, S]`.
    pub(crate) fn observations(&self, values: &[f32]) -> Tensor<B, 2> {
        self.upload(self.scaled(values), self.spec.observation_dim)
    }

    fn scaled(&self, observations: &[f32]) -> Vec<f32> {
        let mut observations = observations.to_vec();
        if let Some(scaling) = &self.scaling {
            scaling.apply(&mut observations);
        }
        observations
    }

    /// Standard normal draws, `[rows, h·A]`.
    pub(crate) fn normal(&self, rows: usize, noise: &mut dyn NoiseSource) -> Tensor<B, 2> {
        let chunk = self.spec.chunk_dim();
        let mut draws = vec![0.0; rows * chunk];
        noise.fill_normal(&mut draws);
        self.upload(draws, chunk)
    }

    /// Uniform draws on [0, 1), `[rows, 1]`.
    pub(crate) fn uniform(&self, rows: usize, noise: &mut dyn NoiseSource) -> Tensor<B, 2> {
        let mut draws = vec![0.0; rows];
        noise.fill_uniform(&mut draws);
        self.upload(draws, 1)
    }

    /// A batch on the device.
    pub(crate) fn batch(&self, batch: &Batch<'_>) -> DeviceBatch<B> {
        // What lies behind an unusable or terminated chunk is never looked at, whatever it holds.
        let bootstrap = masked(batch.bootstrap, batch.critic_valid);
        DeviceBatch {
            observations: self.observations(batch.observations),
            actions: self.upload(masked(batch.actions, batch.valid), self.spec.chunk_dim()),
            entry_weight: self.upload(entry_weights(batch.valid, self.spec.action_dim), self.spec.chunk_dim()),
            returns: self.upload(masked(batch.returns, batch.critic_valid), 1),
            next_observations: self
                .upload(masked(&self.scaled(batch.next_observations), &bootstrap), self.spec.observation_dim),
            bootstrap: self.upload(bootstrap, 1),
            chunk_weight: self.upload(normalised(batch.critic_valid), 1),
        }
    }

    /// Equal weights for all entries of `rows` whole chunks, `[rows, h·A]`; their sum is one.
    pub(crate) fn whole_chunks(&self, rows: usize) -> Tensor<B, 2> {
        let chunk = self.spec.chunk_dim();
        Tensor::full([rows, chunk], 1.0 / (rows * chunk).max(1) as f32, &self.device)
    }
}

/// A batch of `B` chunks on the device.
#[derive(Debug, Clone)]
pub(crate) struct DeviceBatch<B: PolicyBackend> {
    /// `[B, S]`.
    pub(crate) observations: Tensor<B, 2>,
    /// `[B, h·A]`, zeros behind the end of an episode.
    pub(crate) actions: Tensor<B, 2>,
    /// `[B, h·A]`, weights that sum to one and are zero behind the end of an episode.
    pub(crate) entry_weight: Tensor<B, 2>,
    /// `[B, 1]`.
    pub(crate) returns: Tensor<B, 2>,
    /// `[B, 1]`, the factor of the next value; zero where there is none.
    pub(crate) bootstrap: Tensor<B, 2>,
    /// `[B, S]`, zeros where there is no next value.
    pub(crate) next_observations: Tensor<B, 2>,
    /// `[B, 1]`, weights of the usable chunks; they sum to one.
    pub(crate) chunk_weight: Tensor<B, 2>,
}

impl<B: PolicyBackend> DeviceBatch<B> {
    /// The temporal-difference target `c Σ γ^j r_j + γ^h · m · V(s_h)`.
    ///
    /// # Shapes
    /// `value`, V, and the result are `[B, 1]`.
    pub(crate) fn backup(&self, reward_scale: f64, value: Tensor<B, 2>) -> Tensor<B, 2> {
        self.returns.clone().mul_scalar(reward_scale) + self.bootstrap.clone() * value
    }
}

/// `values` with zeros where `mask` is zero; each element of the mask stands for as many values in a row.
pub(crate) fn masked(values: &[f32], mask: &[f32]) -> Vec<f32> {
    let width = values.len() / mask.len().max(1);
    let parts = values.chunks(width.max(1)).zip(mask);
    parts.flat_map(|(values, &mask)| values.iter().map(move |&value| if mask == 0.0 { 0.0 } else { value })).collect()
}

/// Weights of all chunk entries: equal for valid ones, zero for others, sum one (or zero if none is valid).
pub(crate) fn entry_weights(valid: &[f32], action_dim: usize) -> Vec<f32> {
    normalised(valid)
        .into_iter()
        .flat_map(|weight| std::iter::repeat_n(weight / action_dim as f32, action_dim))
        .collect()
}

/// `mask` divided by its sum; all zero if the sum is.
pub(crate) fn normalised(mask: &[f32]) -> Vec<f32> {
    let sum: f32 = mask.iter().sum();
    let factor = if sum > 0.0 { 1.0 / sum } else { 0.0 };
    mask.iter().map(|value| value * factor).collect()
}

/// Numbers of an update that are still on the device.
#[derive(Debug)]
pub(crate) struct Readings<B: PolicyBackend> {
    names: Vec<&'static str>,
    tensors: Vec<Tensor<B, 1>>,
}

impl<B: PolicyBackend> Readings<B> {
    pub(crate) fn new() -> Self {
        Self { names: Vec::new(), tensors: Vec::new() }
    }

    /// `value` is `[1]`.
    pub(crate) fn add(&mut self, name: &'static str, value: Tensor<B, 1>) {
        self.names.push(name);
        self.tensors.push(value);
    }

    /// Reads all numbers back in one small transfer and checks that they are finite.
    ///
    /// # Errors
    /// [`PolicyError::NonFinite`] names the first one that is not; `updates` is the number of updates made before.
    pub(crate) fn read(self, updates: u64) -> Result<Metrics, PolicyError> {
        if self.tensors.is_empty() {
            return Ok(Metrics::new());
        }
        let data = Tensor::cat(self.tensors, 0).try_into_data().map_err(device_error)?;
        let metrics: Metrics = self.names.into_iter().zip(to_vec(data)?).collect();
        match metrics.iter().find(|(_, value)| !value.is_finite()) {
            Some(&(metric, value)) => Err(PolicyError::NonFinite { metric: metric.to_owned(), value, update: updates }),
            None => Ok(metrics),
        }
    }
}

pub(crate) fn device_error(error: impl std::fmt::Debug) -> PolicyError {
    PolicyError::Device { reason: format!("{error:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_hide_whatever_lies_behind_them() {
        assert_eq!(masked(&[1.0, 2.0, f32::NAN, 4.0], &[1.0, 0.0]), [1.0, 2.0, 0.0, 0.0]);
        assert_eq!(entry_weights(&[1.0, 0.0], 2), [0.5, 0.5, 0.0, 0.0]);
        assert_eq!(entry_weights(&[0.0, 0.0], 1), [0.0, 0.0]);
    }
}
