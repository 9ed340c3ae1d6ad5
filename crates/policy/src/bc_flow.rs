//! Behaviour cloning by a rectified flow: what the demonstrations alone teach, without rewards or critics.
//!
//! Source: the flow of Black and others, arXiv 2410.24164, equation 1, with a multilayer perceptron as the field:
//!
//! ```text
//! L_v = | v(x_t, t, s) - (a - ε) |²,   t uniform on [0, 1)
//! ```

use burn::tensor::{Int, Tensor};
use serde::{Deserialize, Serialize};

use crate::agent::{ACTOR, Acting, Algorithm, Update, networks};
use crate::backend::PolicyBackend;
use crate::critic::Chosen;
use crate::host::{Host, Readings};
use crate::optimizer::{LearningRateDecay, adam_step};
use crate::rectified::{FlowBatch, VelocityField};
use crate::settings::{
    MOST, MOST_ACTIONS, Settings, check_count, check_hidden, check_number, check_period, positive, unit,
};
use crate::{Metrics, NoiseSource, PolicyError, metrics};

/// The name of the algorithm in configurations and checkpoints.
pub const NAME: &str = "bc-flow";

/// Flow behaviour cloning on the backend `B`.
#[derive(Debug)]
pub(crate) struct BcFlow<B: PolicyBackend> {
    config: BcFlowConfig,
    actor: VelocityField<B>,
}

impl<B: PolicyBackend> BcFlow<B> {
    /// Makes a policy with fresh weights, drawn from `noise`.
    pub(crate) fn new(config: &BcFlowConfig, host: &Host<B>, noise: &mut dyn NoiseSource) -> Self {
        Self { config: config.clone(), actor: VelocityField::new(&config.actor_hidden, host, noise) }
    }
}

impl<B: PolicyBackend> Algorithm<B> for BcFlow<B> {
    fn name(&self) -> &'static str {
        NAME
    }

    networks! {
        ACTOR: actor.network => actor.moments,
    }

    fn choose(&self, acting: Acting<B>) -> Chosen<B> {
        let groups = acting.observations.dims()[0];
        let candidates = self.actor.integrate(&acting.observations, acting.noise, self.config.flow_steps);
        let [count, chunk] = candidates.dims();
        let device = candidates.device();
        // Nothing ranks the samples, so the first one is as good as any.
        let first = candidates.clone().reshape([groups, count / groups.max(1), chunk]).narrow(1, 0, 1);
        Chosen {
            actions: first.squeeze_dim(1),
            q: Tensor::zeros([groups, 1], &device),
            index: Tensor::<B, 2, Int>::zeros([groups, 1], &device),
            values: Tensor::zeros([groups, count / groups.max(1)], &device),
            candidates,
        }
    }

    fn update(&mut self, host: &Host<B>, update: Update<'_, B>) -> Result<Metrics, PolicyError> {
        let Update { batch, size, index, reads, noise, .. } = update;
        let actor = self.actor.network.track();
        let loss = VelocityField::loss(
            &actor,
            FlowBatch {
                observations: batch.observations,
                actions: batch.actions,
                noise: host.normal(size, noise),
                time: host.uniform(size, noise),
                weight: batch.entry_weight,
            },
        );
        // Read before the step, so that a bad batch leaves sound weights behind.
        let mut readings = Readings::new();
        if reads {
            readings.add(metrics::ACTOR_LOSS, loss.clone().inner());
            readings.add(metrics::ACTOR_FLOW_LOSS, loss.clone().inner());
        }
        let metrics = readings.read(index - 1)?;

        let gradients = actor.gradients(&mut loss.backward());
        drop(actor);
        let share = self.config.learning_rate_decay.map_or(1.0, |decay| decay.share(index));
        let step = adam_step(self.config.learning_rate * share, index);
        self.actor.moments.step(&step, &mut self.actor.network, gradients);
        Ok(metrics)
    }
}

/// The settings of flow behaviour cloning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BcFlowConfig {
    /// Actions in a chunk, executed open loop.
    pub horizon: usize,
    /// Chunks in a batch.
    pub batch_size: usize,
    /// Discount of one step, γ; no loss depends on it, the returns that are reported do.
    pub discount: f64,
    /// Step of Adam.
    pub learning_rate: f64,
    /// A learning rate that falls during training, if set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_rate_decay: Option<LearningRateDecay>,
    /// Features of each hidden layer.
    pub actor_hidden: Vec<usize>,
    /// Steps of Euler's method from noise to action.
    pub flow_steps: usize,
    /// Samples per agent when acting; the first is executed, the others are there to be looked at.
    pub candidates: usize,
    /// Metrics are read back, and checked to be finite, at every so many updates.
    pub metrics_every: u64,
}

impl Default for BcFlowConfig {
    fn default() -> Self {
        Self {
            horizon: 5,
            batch_size: 256,
            discount: 0.99,
            learning_rate: 3e-4,
            learning_rate_decay: None,
            actor_hidden: vec![512; 4],
            flow_steps: 10,
            candidates: 1,
            metrics_every: 1,
        }
    }
}

impl BcFlowConfig {
    /// Sizes for the CPU of a laptop.
    #[must_use]
    pub fn small() -> Self {
        Self::default().shrunk()
    }

    /// The same settings with sizes for the CPU of a laptop.
    #[must_use]
    pub fn shrunk(self) -> Self {
        Self { batch_size: self.batch_size.div_ceil(2), actor_hidden: vec![256; 2], ..self }
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// [`PolicyError::InvalidConfig`] names the first setting that makes no sense.
    pub fn validate(&self) -> Result<(), PolicyError> {
        check_count("horizon", self.horizon, MOST_ACTIONS)?;
        check_count("batch_size", self.batch_size, MOST)?;
        check_count("flow_steps", self.flow_steps, MOST)?;
        check_count("candidates", self.candidates, MOST)?;
        check_period("metrics_every", self.metrics_every)?;
        check_hidden("actor_hidden", &self.actor_hidden)?;
        check_number("learning_rate", self.learning_rate, positive)?;
        check_number("discount", self.discount, unit)?;
        self.learning_rate_decay.as_ref().map_or(Ok(()), LearningRateDecay::validate)
    }
}

impl Settings for BcFlowConfig {
    fn horizon(&self) -> usize {
        self.horizon
    }

    fn batch_size(&self) -> usize {
        self.batch_size
    }

    fn discount(&self) -> f64 {
        self.discount
    }

    fn candidates(&self) -> usize {
        self.candidates
    }

    fn networks(&self) -> Vec<(&'static str, usize, &[usize])> {
        vec![("actor_hidden", 1, self.actor_hidden.as_slice())]
    }

    fn validate(&self) -> Result<(), PolicyError> {
        Self::validate(self)
    }
}
