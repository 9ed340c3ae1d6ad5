//! Flow Q-learning: a one-step actor, distilled from a flow policy and pulled towards greater values.
//!
//! Source: Park, Li and Levine, "Flow Q-Learning", arXiv 2502.02538, Algorithm 1 (h = 1); with chunks of h = 5 it is
//! the QC-FQL of arXiv 2507.07969. One update:
//!
//! ```text
//! a'  = μ(s_h, ε')
//! y   = Σ_{j<h} γ^j r_j + γ^h · m · mean_k Q̄_k(s_h, a')
//! L_Q = mean_k (Q_k(s, a) - y)²
//! L_v = | v(x_t, t, s) - (a - ε) |²,   t uniform on [0, 1)
//! L_D = | μ(s, ε) - flow(s, ε) |²,     flow: ten steps of Euler's method along v, without gradient
//! L_π = α L_D - w · mean Q(s, clip μ(s, ε)),   w = 1 / mean |Q|, without gradient, or 1
//! L   = L_Q + L_v + L_π ;  Adam ;  Q̄ ← τ Q + (1 - τ) Q̄
//! ```
//!
//! The critics take part in `L_π` without learning from it. Acting takes one sample; with more candidates than one the
//! critics choose, as in the other algorithms.
//!
//! Differences from the released code:
//! - The pull towards greater values is divided by their mean size, which there is an option that is off.
//! - Losses are means over valid entries, as in [`mvp`](crate::mvp).

use burn::tensor::Tensor;

use crate::agent::{ACTOR, Acting, Algorithm, CRITIC, TARGET, Update, networks};
use crate::backend::PolicyBackend;
use crate::checkpoint::Naming;
use crate::critic::{Aggregate, Chosen, Critics};
use crate::host::{Host, Readings};
use crate::network::{Activation, Network, NetworkShape};
use crate::optimizer::{Moments, adam_step};
use crate::rectified::{FlowBatch, VelocityField};
use crate::settings::{MOST, check_count, check_number, not_negative, settings};
use crate::{Metrics, NoiseSource, PolicyError, metrics};

/// The name of Flow Q-learning in configurations and checkpoints.
pub const NAME: &str = "fql";
/// The name of Flow Q-learning with action chunks.
pub const CHUNKED_NAME: &str = "qc-fql";

const FLOW: Naming = Naming::Single("flow");

/// Flow Q-learning on the backend `B`.
#[derive(Debug)]
pub(crate) struct Fql<B: PolicyBackend> {
    name: &'static str,
    config: FqlConfig,
    /// μ(s, ε) from the input (s, ε).
    actor: Network<B>,
    actor_moments: Moments<B>,
    flow: VelocityField<B>,
    critics: Critics<B>,
}

impl<B: PolicyBackend> Fql<B> {
    /// Makes a policy with fresh weights, drawn from `noise`: the one-step actor's, the flow's, the critics'.
    pub(crate) fn new(name: &'static str, config: &FqlConfig, host: &Host<B>, noise: &mut dyn NoiseSource) -> Self {
        let chunk = host.spec.chunk_dim();
        let actor = NetworkShape {
            members: 1,
            input: host.spec.observation_dim + chunk,
            hidden: config.actor_hidden.clone(),
            output: chunk,
            activation: Activation::Gelu,
            norm: false,
        }
        .init::<B>(&host.device, noise);
        Self {
            name,
            config: config.clone(),
            actor_moments: Moments::zeros(&actor),
            actor,
            flow: VelocityField::new(&config.actor_hidden, host, noise),
            critics: config.make_critics(host, Aggregate::Mean, Activation::Gelu, noise),
        }
    }
}

impl<B: PolicyBackend> Fql<B> {
    /// One sample for each row of `noise`, in one step, within [-1, 1].
    ///
    /// # Shapes
    /// `observations` is `[n, S]`, `noise` and the result are `[n · N, h·A]`.
    fn generate(&self, observations: Tensor<B, 2>, noise: Tensor<B, 2>) -> Tensor<B, 2> {
        self.actor.infer(observations, noise, &[]).squeeze_dim::<2>(0).clamp(-1.0, 1.0)
    }
}

impl<B: PolicyBackend> Algorithm<B> for Fql<B> {
    fn name(&self) -> &'static str {
        self.name
    }

    networks! {
        ACTOR: actor => actor_moments,
        FLOW: flow.network => flow.moments,
        CRITIC: critics.online => critics.moments,
        TARGET: critics.target,
    }

    fn choose(&self, acting: Acting<B>) -> Chosen<B> {
        let samples = self.generate(acting.observations.clone(), acting.noise);
        self.critics.select(acting.observations, samples)
    }

    fn update(&mut self, host: &Host<B>, update: Update<'_, B>) -> Result<Metrics, PolicyError> {
        let Update { batch, size, index, reads, noise, .. } = update;
        let draws = host.normal(size * self.config.target_candidates, noise);
        let samples = self.generate(batch.next_observations.clone(), draws);
        let next = self.critics.best(batch.next_observations.clone(), samples);
        let target = self.critics.backup(&batch, next);

        let flow_batch = FlowBatch {
            observations: batch.observations.clone(),
            actions: batch.actions.clone(),
            noise: host.normal(size, noise),
            time: host.uniform(size, noise),
            weight: batch.entry_weight.clone(),
        };
        let start = host.normal(size, noise);
        let taught = self.flow.integrate(&batch.observations, start.clone(), self.config.flow_steps);

        let actor = self.actor.track();
        let flow = self.flow.network.track();
        let critics = self.critics.online.track();
        let cloning = VelocityField::loss(&flow, flow_batch);
        let critic = self.critics.loss(&critics, &batch, target);

        let input = Tensor::cat(vec![batch.observations.clone(), start], 1);
        let (sample, _) = actor.forward(Tensor::from_inner(input.unsqueeze()));
        let distillation = (sample.clone() - Tensor::from_inner(taught.unsqueeze())).square().mean();
        let q = self.critics.value_with_gradient(batch.observations.clone(), sample.clamp(-1.0, 1.0));
        let size_of_q = q.clone().inner().abs().mean();
        let q_mean = q.mean();
        let pull = if self.config.normalise_q {
            // A value of zero everywhere has nothing to be measured by.
            q_mean.clone() / Tensor::from_inner(size_of_q.clamp_min(1e-6))
        } else {
            q_mean.clone()
        };
        let policy = distillation.clone().mul_scalar(self.config.distillation_weight) - pull;

        // Read before the step, so that a bad batch leaves sound weights behind.
        let mut readings = Readings::new();
        if reads {
            critic.report(&mut readings);
            readings.add(metrics::ACTOR_LOSS, policy.clone().inner() + cloning.clone().inner());
            readings.add(metrics::ACTOR_FLOW_LOSS, cloning.clone().inner());
            readings.add(metrics::ACTOR_DISTILLATION_LOSS, distillation.inner());
            readings.add(metrics::ACTOR_Q_MEAN, q_mean.inner());
        }
        let metrics = readings.read(index - 1)?;

        let mut gradients = (policy + cloning + critic.total).backward();
        let actor_gradients = actor.gradients(&mut gradients);
        let flow_gradients = flow.gradients(&mut gradients);
        let critic_gradients = critics.gradients(&mut gradients);
        // The graph shares the parameters; without it they can be changed in place.
        drop((actor, flow, critics, gradients));
        let step = adam_step(self.config.rate(index), index);
        self.actor_moments.step(&step, &mut self.actor, actor_gradients);
        self.flow.moments.step(&step, &mut self.flow.network, flow_gradients);
        self.critics.step(&step, critic_gradients, self.config.tau);
        Ok(metrics)
    }
}

settings! {
    /// The settings of Flow Q-learning. Sizes default to the published ones.
    ///
    /// Marks: **C** read in public code, **?** not published.
    FqlConfig {
        /// Steps of Euler's method of the flow that teaches. (C)
        flow_steps: usize = 10,
        /// Weight of the distillation loss, α; it depends on the task's rewards. (C)
        distillation_weight: f64 = 100.0,
        /// Whether the pull towards greater values is divided by their mean size. (C as an option; ? that it is on, so that
        /// one `distillation_weight` serves tasks with rewards of different sizes)
        normalise_q: bool = true,
    }
    other defaults {
        horizon: 1,
        candidates: 1,        // the one-step actor's own sample
        target_candidates: 1, // the same
    }
}

impl FqlConfig {
    /// The settings of Flow Q-learning with action chunks.
    #[must_use]
    pub fn chunked() -> Self {
        Self { horizon: 5, ..Self::default() }
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// [`PolicyError::InvalidConfig`] names the first setting that makes no sense.
    pub fn validate(&self) -> Result<(), PolicyError> {
        self.validate_common()?;
        check_count("flow_steps", self.flow_steps, MOST)?;
        check_number("distillation_weight", self.distillation_weight, not_negative)
    }
}
