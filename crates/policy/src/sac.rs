//! Soft actor-critic: the Gaussian baseline of online learning from scratch.
//!
//! Source: Haarnoja and others, "Soft Actor-Critic Algorithms and Applications", arXiv 1812.05905, Algorithm 1, with
//! the networks of the flow policies it is compared with. One update:
//!
//! ```text
//! a'  = tanh(μ(s_h) + σ(s_h) ε'),  and log π(a' | s_h)
//! y   = c Σ_{j<h} γ^j r_j + γ^h · m · ( min_k Q̄_k(s_h, a') - α log π(a' | s_h) )
//! L_Q = mean_k (Q_k(s, a) - y)²
//! L_π = α log π(ã | s) - min_k Q_k(s, ã),   ã = tanh(μ(s) + σ(s) ε)
//! L_α = -α (log π(ã | s) + H),   H the wanted entropy
//! L   = L_Q + L_π ;  Adam ;  Q̄ ← τ Q + (1 - τ) Q̄ ;  Adam on log α
//! ```
//!
//! Acting to learn takes a sample; an evaluation takes `tanh μ(s)`.
//!
//! Differences from the paper: the actor's gradient is that of the critics before their step, and with
//! `learning_rate_decay` the rates of all networks fall (in [`fpmd`](crate::fpmd) the actor's alone).

use burn::tensor::activation::log_sigmoid;
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};

use crate::agent::{ACTOR, Acting, Algorithm, CRITIC, TARGET, Update, networks};
use crate::backend::PolicyBackend;
use crate::checkpoint::to_vec;
use crate::critic::{Aggregate, Chosen, Critics};
use crate::host::{Host, Readings};
use crate::network::{Activation, Network, NetworkShape};
use crate::optimizer::{Moments, adam_step};
use crate::settings::{any, check_number, positive, settings};
use crate::{Metrics, NoiseSource, PolicyError, metrics};

/// The name of the algorithm in configurations and checkpoints.
pub const NAME: &str = "sac";

/// Bounds of log σ, as published.
const LOG_STD: (f32, f32) = (-20.0, 2.0);

/// Soft actor-critic on the backend `B`.
#[derive(Debug)]
pub(crate) struct Sac<B: PolicyBackend> {
    config: SacConfig,
    /// (μ, log σ) from s.
    actor: Network<B>,
    actor_moments: Moments<B>,
    critics: Critics<B>,
    temperature: Temperature<B>,
}

/// log α with its moments, each `[1, 1, 1]`; they stay on the device, where their gradient is.
#[derive(Debug)]
struct Temperature<B: PolicyBackend> {
    log: Tensor<B, 3>,
    first: Tensor<B, 3>,
    second: Tensor<B, 3>,
}

/// A sample of the policy and its log-density.
struct Sample<B: Backend> {
    /// `[1, n, h·A]`, within (-1, 1).
    action: Tensor<B, 3>,
    /// `[1, n, 1]`.
    log_density: Tensor<B, 3>,
}

/// Splits the actor's output into μ, before the tanh, and log σ, within its bounds.
///
/// # Shapes
/// `output` is `[1, n, 2·h·A]`, each result `[1, n, h·A]`.
fn split<B: Backend>(output: Tensor<B, 3>) -> (Tensor<B, 3>, Tensor<B, 3>) {
    let chunk = output.dims()[2] / 2;
    let log_std = output.clone().narrow(2, chunk, chunk).clamp(LOG_STD.0, LOG_STD.1);
    (output.narrow(2, 0, chunk), log_std)
}

/// `tanh(μ + σ ε)`. Its log-density is the normal's less `Σ log(1 - tanh²)`, in the form that neither overflows nor
/// cancels (appendix C of the paper), in nats for a whole chunk.
///
/// # Shapes
/// `output` is `[1, n, 2·h·A]`, `noise` is `[1, n, h·A]`, standard normal.
fn sample<B: Backend>(output: Tensor<B, 3>, noise: Tensor<B, 3>) -> Sample<B> {
    let (mean, log_std) = split(output);
    let raw = mean + log_std.clone().exp() * noise.clone();
    let normal = noise.square().mul_scalar(-0.5) - log_std;
    let constant = -0.5 * (2.0 * std::f64::consts::PI).ln();
    // log(1 - tanh² x) = 2 (log 2 - x - softplus(-2 x)), and softplus(-2 x) = -log sigmoid(2 x), which burn computes
    // without overflow; its softplus overflows in single precision for x below -44.
    let squash = (raw.clone().add_scalar(-std::f64::consts::LN_2) - log_sigmoid(raw.clone().mul_scalar(2.0)))
        .mul_scalar(2.0)
        .add_scalar(constant);
    Sample { action: raw.tanh(), log_density: (normal + squash).sum_dim(2) }
}

impl<B: PolicyBackend> Sac<B> {
    /// Makes a policy with fresh weights, drawn from `noise`: first the actor's, then the critics'.
    pub(crate) fn new(config: &SacConfig, host: &Host<B>, noise: &mut dyn NoiseSource) -> Self {
        let actor = NetworkShape {
            members: 1,
            input: host.spec.observation_dim,
            hidden: config.actor_hidden.clone(),
            output: 2 * host.spec.chunk_dim(),
            activation: Activation::Mish,
            norm: false,
        }
        .init::<B>(&host.device, noise);
        let single = |value: f64| Tensor::full([1, 1, 1], value, &host.device);
        Self {
            config: config.clone(),
            actor_moments: Moments::zeros(&actor),
            actor,
            critics: config.make_critics(host, Aggregate::Min, Activation::Mish, noise),
            temperature: Temperature {
                log: single(config.initial_temperature.ln()),
                first: single(0.0),
                second: single(0.0),
            },
        }
    }

    /// The actor's output without gradients, `[1, n, 2·h·A]`.
    fn describe(&self, observations: Tensor<B, 2>) -> Tensor<B, 3> {
        let rows = observations.dims()[0];
        let nothing = Tensor::zeros([rows, 0], &observations.device());
        self.actor.infer(observations, nothing, &[])
    }
}

impl<B: PolicyBackend> Algorithm<B> for Sac<B> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn explores(&self) -> bool {
        true
    }

    networks! {
        ACTOR: actor => actor_moments,
        CRITIC: critics.online => critics.moments,
        TARGET: critics.target,
    }

    fn scalars(&self) -> Result<Vec<(&'static str, f32)>, PolicyError> {
        let read = |tensor: &Tensor<B, 3>| {
            let data = tensor.clone().try_into_data().map_err(crate::host::device_error)?;
            Ok::<_, PolicyError>(to_vec(data)?.first().copied().unwrap_or_default())
        };
        Ok(vec![
            ("log_temperature", read(&self.temperature.log)?),
            ("log_temperature.first", read(&self.temperature.first)?),
            ("log_temperature.second", read(&self.temperature.second)?),
        ])
    }

    fn set_scalars(&mut self, values: &[f32]) {
        let Temperature { log, first, second } = &mut self.temperature;
        for (tensor, value) in [log, first, second].into_iter().zip(values) {
            *tensor = tensor.full_like(*value);
        }
    }

    fn choose(&self, acting: Acting<B>) -> Chosen<B> {
        let Acting { observations, noise, exploration } = acting;
        let agents = observations.dims()[0];
        let [count, chunk] = noise.dims();
        let candidates = count / agents.max(1);
        // The first candidate is what is done: the mean, or a sample if the agents act to learn. The others are
        // samples, there to be looked at.
        let first: Tensor<B, 2> = exploration.unwrap_or_else(|| Tensor::zeros([agents, chunk], &noise.device()));
        let first: Tensor<B, 3> = first.reshape([agents, 1, chunk]);
        let noise: Tensor<B, 3> = noise.reshape([agents, candidates, chunk]);
        let noise =
            if candidates > 1 { Tensor::cat(vec![first, noise.narrow(1, 1, candidates - 1)], 1) } else { first };
        let (mean, log_std) = split(self.describe(observations.clone()));
        let [mean, std] = [mean, log_std.exp()].map(|part| part.reshape([agents, 1, chunk]));
        let actions: Tensor<B, 3> = (mean + std * noise).tanh();
        let actions = actions.reshape([count, chunk]);
        let values = self.critics.value(observations, actions.clone());
        Chosen {
            actions: actions.clone().reshape([agents, candidates, chunk]).narrow(1, 0, 1).squeeze_dim(1),
            q: values.clone().narrow(1, 0, 1),
            index: Tensor::<B, 2, Int>::zeros([agents, 1], &values.device()),
            candidates: actions,
            values,
        }
    }

    fn update(&mut self, host: &Host<B>, update: Update<'_, B>) -> Result<Metrics, PolicyError> {
        let Update { batch, size, index, reads, noise, .. } = update;
        let temperature = self.temperature.log.clone().exp();

        let draws: Tensor<B, 3> = host.normal(size, noise).unsqueeze();
        let next = sample(self.describe(batch.next_observations.clone()), draws);
        let value = self.critics.target_value(batch.next_observations.clone(), next.action.squeeze_dim(0));
        let soft: Tensor<B, 2> = value - (temperature.clone() * next.log_density).squeeze_dim(0);
        let target = batch.backup(self.config.reward_scale, soft);

        let draws: Tensor<B, 3> = host.normal(size, noise).unsqueeze();
        let actor = self.actor.track();
        let critics = self.critics.online.track();
        let critic = self.critics.loss(&critics, &batch, target);
        let (output, _) = actor.forward(Tensor::from_inner(batch.observations.clone().unsqueeze()));
        let taken = sample(output, Tensor::from_inner(draws));
        let q = self.critics.value_with_gradient(batch.observations.clone(), taken.action);
        let q_mean = q.clone().inner().mean();
        let policy = (taken.log_density.clone() * Tensor::from_inner(temperature.clone()) - q).mean();
        let log_density = taken.log_density.inner().mean_dim(1);

        // Read before the step, so that a bad batch leaves sound weights behind.
        let mut readings = Readings::new();
        if reads {
            critic.report(&mut readings);
            readings.add(metrics::ACTOR_LOSS, policy.clone().inner());
            readings.add(metrics::ACTOR_Q_MEAN, q_mean);
            readings.add(metrics::ACTOR_ENTROPY, log_density.clone().neg().reshape([1]));
            readings.add(metrics::ACTOR_TEMPERATURE, temperature.clone().reshape([1]));
        }
        let metrics = readings.read(index - 1)?;

        let mut gradients = (policy + critic.total).backward();
        let actor_gradients = actor.gradients(&mut gradients);
        let critic_gradients = critics.gradients(&mut gradients);
        // The graph shares the parameters; without it they can be changed in place.
        drop((actor, critics, gradients));
        let step = adam_step(self.config.rate(index), index);
        self.actor_moments.step(&step, &mut self.actor, actor_gradients);
        self.critics.step(&step, critic_gradients, self.config.tau);
        // dL_α / d log α
        let wanted = self.config.target_entropy * host.spec.chunk_dim() as f64;
        let gradient = log_density.add_scalar(wanted) * temperature.neg();
        let Temperature { log, first, second } = &mut self.temperature;
        B::adam(&adam_step(self.config.temperature_learning_rate, index), log, gradient, first, second);
        Ok(metrics)
    }
}

settings! {
    /// The settings of soft actor-critic.
    ///
    /// Marks: **P** stated by the paper, **C** read in public code of the algorithms it is compared with.
    SacConfig {
        /// Factor of all rewards, c. (P: a task's own)
        reward_scale: f64 = 1.0,
        /// Temperature at the start, α. (C)
        initial_temperature: f64 = 1.0,
        /// Step of Adam on log α. (P)
        temperature_learning_rate: f64 = 3e-4,
        /// Wanted entropy for each number of a chunk, in nats. (P)
        target_entropy: f64 = -1.0,
    }
    other defaults {
        horizon: 1,
        actor_hidden: vec![256; 3],
        critic_hidden: vec![256; 3],
        critic_layer_norm: false,
        candidates: 1,
        target_candidates: 1,
    }
}

impl SacConfig {
    /// Checks every setting.
    ///
    /// # Errors
    /// [`PolicyError::InvalidConfig`] names the first setting that makes no sense.
    pub fn validate(&self) -> Result<(), PolicyError> {
        self.validate_common()?;
        check_number("reward_scale", self.reward_scale, positive)?;
        check_number("initial_temperature", self.initial_temperature, positive)?;
        check_number("temperature_learning_rate", self.temperature_learning_rate, positive)?;
        check_number("target_entropy", self.target_entropy, any)?;
        if self.target_candidates != 1 {
            return Err(PolicyError::config(
                "target_candidates",
                self.target_candidates,
                "soft values are means over single samples; it must be 1",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use burn::tensor::TensorData;
    use burn_flex::{Flex, FlexDevice};

    use super::*;
    use crate::network::Ad;

    #[test]
    fn the_density_is_exact_and_finite_far_from_zero() {
        let log_std = -1.5_f32;
        for raw in [-200.0_f32, -50.0, -44.5, -1.0, 0.0, 0.7, 50.0, 200.0] {
            let output = TensorData::new(vec![raw, log_std], [1, 1, 2]);
            let output = Tensor::<Ad<Flex>, 3>::from_data(output, &FlexDevice).require_grad();
            let Sample { action, log_density } = sample(output.clone(), Tensor::zeros([1, 1, 1], &FlexDevice));
            let gradient = output.grad(&log_density.clone().sum().backward()).unwrap();
            let gradient = to_vec(gradient.into_data()).unwrap();

            // In f64, from |x|: log(1 - tanh² x) = 2 (log 2 - |x| - log(1 + exp(-2 |x|))).
            let x = f64::from(raw);
            let slope_of_tanh = 2.0 * (std::f64::consts::LN_2 - x.abs() - (-2.0 * x.abs()).exp().ln_1p());
            let expected = -0.5 * (2.0 * std::f64::consts::PI).ln() - f64::from(log_std) - slope_of_tanh;
            let found = f64::from(log_density.into_scalar());
            assert!((found - expected).abs() <= 1e-6 * expected.abs().max(1.0), "at {raw}: {found}, not {expected}");
            assert!((f64::from(action.into_scalar()) - x.tanh()).abs() < 1e-6, "at {raw}");
            // d/dμ -log(1 - tanh² x) = 2 tanh x; the noise is zero, so log σ has the slope of -log σ alone.
            assert!((f64::from(gradient[0]) - 2.0 * x.tanh()).abs() < 1e-5, "at {raw}: {gradient:?}");
            assert!((gradient[1] + 1.0).abs() < 1e-6, "at {raw}: {gradient:?}");
        }
    }
}
