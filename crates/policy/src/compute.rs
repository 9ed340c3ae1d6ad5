//! The one place that picks a backend.
//!
//! Everything else is generic over it and instantiated here alone: compiling the GPU backend takes minutes. So the unit
//! tests of this crate leave it out; the integration tests have it.

use serde::{Deserialize, Serialize};

use crate::mvp::{Mvp, MvpConfig};
use crate::{Learner, NoiseSource, PolicyError, PolicySpec};

/// An algorithm and its settings; in a configuration file a table whose key `name` chooses the algorithm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case")]
#[non_exhaustive]
pub enum AlgorithmConfig {
    /// Mean Velocity Policy.
    Mvp(MvpConfig),
}

impl AlgorithmConfig {
    /// The names of all algorithms.
    pub const NAMES: [&'static str; 1] = [crate::mvp::NAME];

    /// The name of this algorithm, as in the configuration file.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Mvp(_) => crate::mvp::NAME,
        }
    }

    /// Control steps in a chunk of actions, h.
    pub fn horizon(&self) -> usize {
        match self {
            Self::Mvp(config) => config.horizon,
        }
    }

    /// Chunks in the batch of one update, B.
    pub fn batch_size(&self) -> usize {
        match self {
            Self::Mvp(config) => config.batch_size,
        }
    }

    /// Discount of one control step, γ.
    pub fn discount(&self) -> f32 {
        match self {
            Self::Mvp(config) => config.discount as f32,
        }
    }

    /// Candidates that the critic chooses from when acting, N.
    pub fn candidates(&self) -> usize {
        match self {
            Self::Mvp(config) => config.candidates,
        }
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// [`PolicyError::InvalidConfig`] names the first setting that makes no sense.
    pub fn validate(&self) -> Result<(), PolicyError> {
        match self {
            Self::Mvp(config) => config.validate(),
        }
    }
}

impl Default for AlgorithmConfig {
    /// Mean Velocity Policy at the size that a laptop's CPU trains.
    fn default() -> Self {
        Self::Mvp(MvpConfig::small())
    }
}

/// The device that a learner computes on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ComputeDevice {
    /// The CPU, all cores.
    #[default]
    Cpu,
    /// A GPU through wgpu; it must exist, or have been handed over to burn before.
    #[cfg(all(feature = "wgpu", not(test)))]
    Wgpu(burn_wgpu::WgpuDevice),
}

/// Makes a learner. Its weights are drawn on the host from `noise`, so they do not depend on the device.
///
/// # Errors
/// [`PolicyError::InvalidConfig`] if the configuration or the sizes make no sense.
pub fn create_learner(
    config: &AlgorithmConfig,
    spec: &PolicySpec,
    device: &ComputeDevice,
    noise: &mut dyn NoiseSource,
) -> Result<Box<dyn Learner>, PolicyError> {
    let AlgorithmConfig::Mvp(config) = config;
    let learner: Box<dyn Learner> = match device {
        ComputeDevice::Cpu => {
            crate::cpu::keep_freed_memory();
            Box::new(Mvp::<burn_flex::Flex>::new(config, spec, &burn_flex::FlexDevice, noise)?)
        }
        #[cfg(all(feature = "wgpu", not(test)))]
        ComputeDevice::Wgpu(device) => Box::new(Mvp::<burn_wgpu::Wgpu>::new(config, spec, device, noise)?),
    };
    tracing::info!(
        algorithm = learner.algorithm(),
        device = learner.device_name(),
        parameters = learner.parameter_count(),
        "made a learner"
    );
    Ok(learner)
}
