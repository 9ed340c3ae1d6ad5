//! Q-chunking with a flow policy, and best-of-N flow behaviour cloning: the multi-step peers of the one-step policies.
//!
//! Source: Li and others, "Reinforcement Learning with Action Chunking", arXiv 2507.07969 (QC, chunks of h = 5, N = 32);
//! with h = 1 and N = 4 it is the BFN baseline of the same paper. The actor clones the replay by a rectified flow and
//! is integrated in ten steps of Euler's method; the critics choose among N of its samples. One update:
//!
//! ```text
//! a'  = best of N samples at the next observation, ranked by the online critics
//! y   = Σ_{j<h} γ^j r_j + γ^h · m · mean_k Q̄_k(s_h, a')
//! L_Q = mean_k (Q_k(s, a) - y)²
//! L_v = | v(x_t, t, s) - (a - ε) |²,   t uniform on [0, 1)
//! L   = L_Q + L_v ;  Adam ;  Q̄ ← τ Q + (1 - τ) Q̄
//! ```
//!
//! Differences from the released code: losses are means over valid entries, as in [`mvp`](crate::mvp), where the code
//! divides by all; both leave chunks that the episode cuts short out of the critics' loss.

use crate::agent::{ACTOR, Acting, Algorithm, CRITIC, TARGET, Update, networks};
use crate::backend::PolicyBackend;
use crate::critic::{Aggregate, Chosen, Critics};
use crate::host::{Host, Readings};
use crate::network::Activation;
use crate::optimizer::adam_step;
use crate::rectified::{FlowBatch, VelocityField};
use crate::settings::{MOST, check_count, settings};
use crate::{Metrics, NoiseSource, PolicyError, metrics};

/// The name of Q-chunking in configurations and checkpoints.
pub const NAME: &str = "qc";
/// The name of best-of-N flow behaviour cloning.
pub const BFN_NAME: &str = "bfn";

/// A flow policy with critics that choose, on the backend `B`.
#[derive(Debug)]
pub(crate) struct Qc<B: PolicyBackend> {
    name: &'static str,
    config: QcConfig,
    actor: VelocityField<B>,
    critics: Critics<B>,
}

impl<B: PolicyBackend> Qc<B> {
    /// Makes a policy with fresh weights, drawn from `noise`: first the actor's, then the critics'.
    pub(crate) fn new(name: &'static str, config: &QcConfig, host: &Host<B>, noise: &mut dyn NoiseSource) -> Self {
        Self {
            name,
            config: config.clone(),
            actor: VelocityField::new(&config.actor_hidden, host, noise),
            critics: config.make_critics(host, Aggregate::Mean, Activation::Gelu, noise),
        }
    }
}

impl<B: PolicyBackend> Algorithm<B> for Qc<B> {
    fn name(&self) -> &'static str {
        self.name
    }

    networks! {
        ACTOR: actor.network => actor.moments,
        CRITIC: critics.online => critics.moments,
        TARGET: critics.target,
    }

    fn choose(&self, acting: Acting<B>) -> Chosen<B> {
        let candidates = self.actor.integrate(&acting.observations, acting.noise, self.config.flow_steps);
        self.critics.select(acting.observations, candidates)
    }

    fn update(&mut self, host: &Host<B>, update: Update<'_, B>) -> Result<Metrics, PolicyError> {
        let Update { batch, size, index, reads, noise, .. } = update;
        let draws = host.normal(size * self.config.target_candidates, noise);
        let samples = self.actor.integrate(&batch.next_observations, draws, self.config.flow_steps);
        let next = self.critics.best(batch.next_observations.clone(), samples);
        let target = self.critics.backup(&batch, next);

        let flow_batch = FlowBatch {
            observations: batch.observations.clone(),
            actions: batch.actions.clone(),
            noise: host.normal(size, noise),
            time: host.uniform(size, noise),
            weight: batch.entry_weight.clone(),
        };
        let actor = self.actor.network.track();
        let critics = self.critics.online.track();
        let policy = VelocityField::loss(&actor, flow_batch);
        let critic = self.critics.loss(&critics, &batch, target);

        // Read before the step, so that a bad batch leaves sound weights behind.
        let mut readings = Readings::new();
        if reads {
            critic.report(&mut readings);
            readings.add(metrics::ACTOR_LOSS, policy.clone().inner());
            readings.add(metrics::ACTOR_FLOW_LOSS, policy.clone().inner());
        }
        let metrics = readings.read(index - 1)?;

        let mut gradients = (policy + critic.total).backward();
        let actor_gradients = actor.gradients(&mut gradients);
        let critic_gradients = critics.gradients(&mut gradients);
        // The graph shares the parameters; without it they can be changed in place.
        drop((actor, critics, gradients));
        let step = adam_step(self.config.rate(index), index);
        self.actor.moments.step(&step, &mut self.actor.network, actor_gradients);
        self.critics.step(&step, critic_gradients, self.config.tau);
        Ok(metrics)
    }
}

settings! {
    /// The settings of Q-chunking, and of best-of-N flow behaviour cloning. Sizes default to the published ones.
    ///
    /// Marks: **C** read in public code, **?** not published.
    QcConfig {
        /// Steps of Euler's method from noise to action. (C)
        flow_steps: usize = 10,
    }
}

impl QcConfig {
    /// The settings of best-of-N flow behaviour cloning: single actions, the best of four.
    #[must_use]
    pub fn bfn() -> Self {
        Self { horizon: 1, candidates: 4, target_candidates: 4, ..Self::default() }
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// [`PolicyError::InvalidConfig`] names the first setting that makes no sense.
    pub fn validate(&self) -> Result<(), PolicyError> {
        self.validate_common()?;
        check_count("flow_steps", self.flow_steps, MOST)
    }
}
