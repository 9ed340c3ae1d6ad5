//! The one place that picks a backend.
//!
//! Everything else is generic over it and instantiated here alone: compiling the GPU backend takes minutes. So the unit
//! tests of this crate leave it out; the integration tests have it.

use serde::{Deserialize, Serialize};

use crate::agent::Agent;
use crate::backend::PolicyBackend;
use crate::bc_flow::{self, BcFlow, BcFlowConfig};
use crate::fpmd::{self, Fpmd, FpmdConfig, Variant};
use crate::fql::{self, Fql, FqlConfig};
use crate::host::Host;
use crate::mvp::{self, Mvp, MvpConfig};
use crate::qc::{self, Qc, QcConfig};
use crate::sac::{self, Sac, SacConfig};
use crate::settings::{Settings, check_weights};
use crate::{Learner, NoiseSource, PolicyError, PolicySpec};

/// An algorithm and its settings; in a configuration file a table whose key `name` chooses the algorithm.
///
/// A table names only what differs from the algorithm's own defaults.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum AlgorithmConfig {
    /// Mean Velocity Policy.
    Mvp(MvpConfig),
    /// Mean Velocity Policy without the instantaneous velocity constraint, the paper's ablation.
    MvpNoIvc(MvpConfig),
    /// Q-chunking: a flow policy in ten steps, the best of N.
    Qc(QcConfig),
    /// Best-of-N flow behaviour cloning: the same without chunks.
    Bfn(QcConfig),
    /// Flow Q-learning.
    Fql(FqlConfig),
    /// Flow Q-learning with action chunks.
    QcFql(FqlConfig),
    /// Flow Policy Mirror Descent with a rectified flow.
    FpmdR(FpmdConfig),
    /// Flow Policy Mirror Descent with a mean flow.
    FpmdM(FpmdConfig),
    /// Soft actor-critic.
    Sac(SacConfig),
    /// Flow behaviour cloning.
    BcFlow(BcFlowConfig),
}

impl AlgorithmConfig {
    /// The names of all algorithms.
    pub const NAMES: [&'static str; 10] = [
        mvp::NAME,
        mvp::NO_IVC_NAME,
        qc::NAME,
        qc::BFN_NAME,
        fql::NAME,
        fql::CHUNKED_NAME,
        fpmd::RECTIFIED_NAME,
        fpmd::MEAN_FLOW_NAME,
        sac::NAME,
        bc_flow::NAME,
    ];

    /// The algorithm of this name with the published sizes; nothing if there is none.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            mvp::NAME => Self::Mvp(MvpConfig::default()),
            mvp::NO_IVC_NAME => Self::MvpNoIvc(MvpConfig::without_constraint()),
            qc::NAME => Self::Qc(QcConfig::default()),
            qc::BFN_NAME => Self::Bfn(QcConfig::bfn()),
            fql::NAME => Self::Fql(FqlConfig::default()),
            fql::CHUNKED_NAME => Self::QcFql(FqlConfig::chunked()),
            fpmd::RECTIFIED_NAME => Self::FpmdR(FpmdConfig::default()),
            fpmd::MEAN_FLOW_NAME => Self::FpmdM(FpmdConfig::mean_flow()),
            sac::NAME => Self::Sac(SacConfig::default()),
            bc_flow::NAME => Self::BcFlow(BcFlowConfig::default()),
            _ => return None,
        })
    }

    /// The same settings with sizes for the CPU of a laptop; results made with them are not the papers'.
    #[must_use]
    pub fn shrunk(self) -> Self {
        match self {
            Self::Mvp(config) => Self::Mvp(config.shrunk()),
            Self::MvpNoIvc(config) => Self::MvpNoIvc(config.shrunk()),
            Self::Qc(config) => Self::Qc(config.shrunk()),
            Self::Bfn(config) => Self::Bfn(config.shrunk()),
            Self::Fql(config) => Self::Fql(config.shrunk()),
            Self::QcFql(config) => Self::QcFql(config.shrunk()),
            Self::FpmdR(config) => Self::FpmdR(config.shrunk()),
            Self::FpmdM(config) => Self::FpmdM(config.shrunk()),
            Self::Sac(config) => Self::Sac(config.shrunk()),
            Self::BcFlow(config) => Self::BcFlow(config.shrunk()),
        }
    }

    /// The name of this algorithm, as in the configuration file.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Mvp(_) => mvp::NAME,
            Self::MvpNoIvc(_) => mvp::NO_IVC_NAME,
            Self::Qc(_) => qc::NAME,
            Self::Bfn(_) => qc::BFN_NAME,
            Self::Fql(_) => fql::NAME,
            Self::QcFql(_) => fql::CHUNKED_NAME,
            Self::FpmdR(_) => fpmd::RECTIFIED_NAME,
            Self::FpmdM(_) => fpmd::MEAN_FLOW_NAME,
            Self::Sac(_) => sac::NAME,
            Self::BcFlow(_) => bc_flow::NAME,
        }
    }

    /// What the algorithm is, in one line.
    pub fn summary(&self) -> &'static str {
        match self {
            Self::Mvp(_) => "Mean Velocity Policy: N candidates in one step, the critics choose",
            Self::MvpNoIvc(_) => "the same without its constraint, the paper's ablation",
            Self::Qc(_) => "Q-chunking: N candidates of a flow in ten steps, the critics choose",
            Self::Bfn(_) => "best-of-N flow behaviour cloning: the same with single actions",
            Self::Fql(_) => "Flow Q-learning: a one-step actor distilled from a flow, pulled by the critics",
            Self::QcFql(_) => "Flow Q-learning with action chunks",
            Self::FpmdR(_) => "Flow Policy Mirror Descent with a rectified flow, from scratch",
            Self::FpmdM(_) => "Flow Policy Mirror Descent with a mean flow, from scratch",
            Self::Sac(_) => "soft actor-critic: the Gaussian baseline, from scratch",
            Self::BcFlow(_) => "flow behaviour cloning: demonstrations alone, no critics",
        }
    }

    fn settings(&self) -> &dyn Settings {
        match self {
            Self::Mvp(config) | Self::MvpNoIvc(config) => config,
            Self::Qc(config) | Self::Bfn(config) => config,
            Self::Fql(config) | Self::QcFql(config) => config,
            Self::FpmdR(config) | Self::FpmdM(config) => config,
            Self::Sac(config) => config,
            Self::BcFlow(config) => config,
        }
    }

    /// Control steps in a chunk of actions, h.
    pub fn horizon(&self) -> usize {
        self.settings().horizon()
    }

    /// Chunks in the batch of one update, B.
    pub fn batch_size(&self) -> usize {
        self.settings().batch_size()
    }

    /// Discount of one control step, γ.
    pub fn discount(&self) -> f32 {
        self.settings().discount() as f32
    }

    /// Candidates that the critic chooses from when acting, N.
    pub fn candidates(&self) -> usize {
        self.settings().candidates()
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// [`PolicyError::InvalidConfig`] names the first setting that makes no sense.
    pub fn validate(&self) -> Result<(), PolicyError> {
        self.settings().validate()?;
        match self {
            Self::MvpNoIvc(config) if config.ivc_weight != 0.0 => Err(PolicyError::config(
                "ivc_weight",
                config.ivc_weight,
                format!(
                    "`{}` has no constraint, so it must be 0; the algorithm with it is `{}`",
                    self.name(),
                    mvp::NAME
                ),
            )),
            _ => Ok(()),
        }
    }

    /// The settings of this algorithm that decide how a trained policy acts and leave its weights as they are: an
    /// evaluation may change them.
    pub fn acting_settings(&self) -> &'static [&'static str] {
        match self {
            Self::Mvp(_) | Self::MvpNoIvc(_) => &["candidates", "base_noise"],
            Self::Qc(_) | Self::Bfn(_) => &["candidates", "flow_steps"],
            Self::Fql(_) | Self::QcFql(_) => &["candidates"],
            Self::FpmdR(_) | Self::FpmdM(_) => &["candidates", "base_noise", "acting_steps"],
            // What these do is their mean, or their first sample, whatever else is there to be looked at.
            Self::Sac(_) => &[],
            Self::BcFlow(_) => &["flow_steps"],
        }
    }
}

impl<'de> Deserialize<'de> for AlgorithmConfig {
    /// Each algorithm has defaults of its own, also where two share a type: what is given lies over them.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let mut given = serde_json::Map::deserialize(deserializer)?;
        let name = match given.remove("name") {
            Some(serde_json::Value::String(name)) => name,
            Some(other) => {
                return Err(D::Error::custom(format!("invalid type: {other}, expected a string for `name`")));
            }
            None => return Err(D::Error::missing_field("name")),
        };
        let base = Self::named(&name).ok_or_else(|| D::Error::unknown_variant(&name, &Self::NAMES))?;
        fn over<T: Serialize + serde::de::DeserializeOwned>(
            base: &T,
            given: serde_json::Map<String, serde_json::Value>,
        ) -> serde_json::Result<T> {
            let mut table = serde_json::to_value(base)?;
            if let Some(table) = table.as_object_mut() {
                table.extend(given);
            }
            serde_json::from_value(table)
        }
        match base {
            Self::Mvp(base) => over(&base, given).map(Self::Mvp),
            Self::MvpNoIvc(base) => over(&base, given).map(Self::MvpNoIvc),
            Self::Qc(base) => over(&base, given).map(Self::Qc),
            Self::Bfn(base) => over(&base, given).map(Self::Bfn),
            Self::Fql(base) => over(&base, given).map(Self::Fql),
            Self::QcFql(base) => over(&base, given).map(Self::QcFql),
            Self::FpmdR(base) => over(&base, given).map(Self::FpmdR),
            Self::FpmdM(base) => over(&base, given).map(Self::FpmdM),
            Self::Sac(base) => over(&base, given).map(Self::Sac),
            Self::BcFlow(base) => over(&base, given).map(Self::BcFlow),
        }
        .map_err(D::Error::custom)
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
    config.validate()?;
    spec.validate()?;
    if config.horizon() != spec.horizon {
        let hint = format!("it must be {}, the horizon of the policy's sizes", spec.horizon);
        return Err(PolicyError::config("horizon", config.horizon(), hint));
    }
    check_weights(config.settings(), spec)?;
    let learner = match device {
        ComputeDevice::Cpu => {
            crate::cpu::keep_freed_memory();
            assemble::<burn_flex::Flex>(config, spec, &burn_flex::FlexDevice, noise)
        }
        #[cfg(all(feature = "wgpu", not(test)))]
        ComputeDevice::Wgpu(device) => assemble::<burn_wgpu::Wgpu>(config, spec, device, noise),
    };
    tracing::info!(
        algorithm = learner.algorithm(),
        device = learner.device_name(),
        parameters = learner.parameter_count(),
        "made a learner"
    );
    Ok(learner)
}

fn assemble<B: PolicyBackend>(
    config: &AlgorithmConfig,
    spec: &PolicySpec,
    device: &B::Device,
    noise: &mut dyn NoiseSource,
) -> Box<dyn Learner> {
    let host = Host::<B> { spec: *spec, device: device.clone(), scaling: None };
    match config {
        AlgorithmConfig::Mvp(settings) | AlgorithmConfig::MvpNoIvc(settings) => {
            Box::new(Agent::new(Mvp::new(config.name(), settings, &host, noise), host))
        }
        AlgorithmConfig::Qc(settings) | AlgorithmConfig::Bfn(settings) => {
            Box::new(Agent::new(Qc::new(config.name(), settings, &host, noise), host))
        }
        AlgorithmConfig::Fql(settings) | AlgorithmConfig::QcFql(settings) => {
            Box::new(Agent::new(Fql::new(config.name(), settings, &host, noise), host))
        }
        AlgorithmConfig::FpmdR(config) => {
            Box::new(Agent::new(Fpmd::new(Variant::Rectified, config, &host, noise), host))
        }
        AlgorithmConfig::FpmdM(config) => {
            Box::new(Agent::new(Fpmd::new(Variant::MeanFlow, config, &host, noise), host))
        }
        AlgorithmConfig::Sac(config) => Box::new(Agent::new(Sac::new(config, &host, noise), host)),
        AlgorithmConfig::BcFlow(config) => Box::new(Agent::new(BcFlow::new(config, &host, noise), host)),
    }
}
