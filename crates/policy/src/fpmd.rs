//! One-step Flow Policy Mirror Descent: online learning from scratch, with a flow that samples in one step.
//!
//! Source: arXiv 2507.23675. Each policy improvement is a step of mirror descent, `π ∝ π_old exp(Q / α)`: samples of the
//! old policy teach the new one, weighted by how much the critics value them. Variant R learns a velocity field (a
//! rectified flow), variant M the mean velocity (a mean flow). One update:
//!
//! ```text
//! a'  = best of N' samples of π_old at the next observation
//! y   = c Σ_{j<h} γ^j r_j + γ^h · m · min_k Q̄_k(s_h, a')
//! L_Q = mean_k (Q_k(s, a) - y)² ;  Adam ;  Q̄ ← τ Q + (1 - τ) Q̄
//! every second update, with the critics as they were before their step:
//!   ã ~ π_old(s),  w = exp(z / α),  z the centred and scaled min_k Q_k(s, ã)
//!   R:  L_π = w | v(x_t, t, s) - (ã - ε) |²,                          t uniform on [0, 1)
//!   M:  L_π = w | u(x_t, t, r, s) - sg[ v + (r - t) du/dt ] |²,       (t, r) two sorted uniforms
//!   Adam ;  π_old ← τ π + (1 - τ) π_old
//! every 250 updates: one step of Adam on log α
//! ```
//!
//! Differences from the released code, as far as it is known:
//! - z is `(Q - μ) / σ` with running μ and σ, what the code evidently meant; its other forms are settings.
//! - σ is the root of a running variance that starts with the first values and moves with the actor's steps; the code
//!   averages the deviations of batches from 1 on, at every update. The other weights are clamped to e^±15 here.
//! - The action in the target is a sample of π_old without exploration noise (`target_candidates = 1`), and the samples
//!   that teach are others, drawn at s and not ranked. In the code one action serves as both: the best of 32 of the
//!   online policy at the next observation, with exploration noise.
//! - Targets follow at every update; in the code with the actor's, at every second.
//! - Actions are clipped to [-1, 1] behind the exploration noise too.
//! - The samples that teach start from the whole noise and carry the exploration noise of the policy that acted. If they
//!   started from half of it, as candidates do, each policy would be narrower than the one before.
//! - The critics make one step of Adam for each update; the code applies it twice. Their learning rate does not fall;
//!   the actor's does only if `learning_rate_decay` is set, as the presets do.
//!
//! At t = 0 the best velocity field is `E[a | s] - x`: a single step of variant R ends at the mean of the policy, and
//! errs by `tr Var(a | s)`. Variant M has no such bias. The metrics `actor/trace_variance`, `actor/one_step_spread` and
//! `actor/one_step_error` show it.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::agent::{Acting, Algorithm, CRITIC, TARGET, Update, networks};
use crate::backend::PolicyBackend;
use crate::checkpoint::{Naming, to_vec};
use crate::critic::{Aggregate, Chosen, Critics};
use crate::flow;
use crate::host::{Host, Readings, device_error};
use crate::network::{Activation, Ad};
use crate::optimizer::{BETA_1, BETA_2, adam_step};
use crate::settings::{
    MOST, any, check_count, check_number, check_period, check_rows, not_negative, positive, settings, unit_above_zero,
};
use crate::timed::{Timed, TimedMoments, TimedTracked};
use crate::{Metrics, NoiseSource, PolicyError, metrics};

/// The name of variant R in configurations and checkpoints.
pub const RECTIFIED_NAME: &str = "fpmd-r";
/// The name of variant M.
pub const MEAN_FLOW_NAME: &str = "fpmd-m";

const ACTOR: Naming = Naming::Single("actor");
const ACTOR_TIMES: Naming = Naming::Single("actor_times");
const OLD: Naming = Naming::Single("old_actor");
const OLD_TIMES: Naming = Naming::Single("old_actor_times");

/// Bound of the centred and scaled value z.
const CENTRED_BOUND: f64 = 3.0;
/// Bound of an exponent, so that a weight stays a number.
const EXPONENT_BOUND: f64 = 15.0;
/// States whose samples are compared by the diagnostics, and samples for each.
const DIAGNOSED: (usize, usize) = (8, 32);
/// Steps of the samples that the diagnostics take for the truth.
const DIAGNOSED_STEPS: usize = 20;

/// What the actor learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variant {
    /// A velocity field v(x, t, s).
    Rectified,
    /// The mean velocity u(x, t, r, s).
    MeanFlow,
}

impl Variant {
    fn times(self) -> usize {
        match self {
            Self::Rectified => 1,
            Self::MeanFlow => 2,
        }
    }
}

/// Flow Policy Mirror Descent on the backend `B`.
#[derive(Debug)]
pub(crate) struct Fpmd<B: PolicyBackend> {
    variant: Variant,
    config: FpmdConfig,
    actor: Timed<B>,
    moments: TimedMoments<B>,
    /// π_old: it acts, and its samples teach.
    old: Timed<B>,
    critics: Critics<B>,
    temperature: Temperature,
    scale: RunningScale<B>,
}

impl<B: PolicyBackend> Fpmd<B> {
    /// Makes a policy with fresh weights, drawn from `noise`: first the actor's, then the critics'.
    pub(crate) fn new(variant: Variant, config: &FpmdConfig, host: &Host<B>, noise: &mut dyn NoiseSource) -> Self {
        let actor = Timed::new(variant.times(), &config.actor_hidden, host, noise);
        Self {
            variant,
            config: config.clone(),
            moments: actor.moments(),
            old: actor.clone(),
            actor,
            critics: config.make_critics(host, Aggregate::Min, Activation::Mish, noise),
            temperature: Temperature::new(config.initial_temperature),
            scale: RunningScale {
                mean: Tensor::zeros([1, 1], &host.device),
                variance: Tensor::zeros([1, 1], &host.device),
            },
        }
    }

    /// Samples of π_old in `steps` steps, normalised actions within [-1, 1], from `noise`.
    ///
    /// # Shapes
    /// `observations` is `[n, S]`, `noise` and the result are `[n · N, h·A]`.
    fn sample(&self, observations: &Tensor<B, 2>, noise: Tensor<B, 2>, steps: usize) -> Tensor<B, 2> {
        let length = 1.0 / steps.max(1) as f32;
        let sample = flow::euler(noise, steps, |point, time| match self.variant {
            Variant::Rectified => self.old.infer(observations, point, &[time]),
            Variant::MeanFlow => self.old.infer(observations, point, &[time, time + length]),
        });
        sample.clamp(-1.0, 1.0)
    }

    /// The weights of samples with the values `q`, without unit. Where samples are compared with each other, each is 1 if all
    /// values are equal; [`Weighting::Scaled`] compares with nothing, and its weights end at e^±15.
    ///
    /// # Shapes
    /// `q` and the result are `[B, N]`, N samples for each of B states.
    fn weights(&self, q: Tensor<B, 2>, scale: &RunningScale<B>) -> Tensor<B, 2> {
        let deviation = scale.variance.clone().sqrt().add_scalar(1e-6);
        let share = |exponent: Tensor<B, 2>| {
            let count = exponent.dims()[1] as f64;
            burn::tensor::activation::softmax(exponent, 1).mul_scalar(count)
        };
        match self.config.weighting {
            Weighting::Centred => ((q - scale.mean.clone()) / deviation)
                .clamp(-CENTRED_BOUND, CENTRED_BOUND)
                .div_scalar(self.temperature.value())
                .clamp(-EXPONENT_BOUND, EXPONENT_BOUND)
                .exp(),
            Weighting::Scaled { temperature } => {
                (q / deviation).div_scalar(temperature).clamp(-EXPONENT_BOUND, EXPONENT_BOUND).exp()
            }
            Weighting::SelfNormalised { temperature } => share(q.div_scalar(temperature)),
            Weighting::Advantage { temperature } => share((q / deviation).div_scalar(temperature)),
        }
    }

    /// `Σ weight · |…|²` of the variant at hand, `[1]`, with the graph that it hangs on; in squared units of normalised
    /// actions.
    fn policy_loss(&self, tracked: &TimedTracked<B>, batch: PolicyBatch<B>) -> Tensor<Ad<B>, 1> {
        let PolicyBatch { observations, actions, noise, start, end, weight } = batch;
        let velocity = flow::conditional_velocity(noise.clone(), actions.clone());
        let point = flow::interpolate(noise, actions, start.clone());
        let (output, target) = match end {
            None => {
                let (output, _) = tracked.forward(observations, point, vec![start]);
                (output, velocity)
            }
            Some(end) => {
                let times = vec![start.clone(), end.clone()];
                let (output, traces) = tracked.forward(observations.clone(), point, times);
                let derivative = self.actor.derivative(&traces, &observations, velocity.clone(), start.clone(), 2);
                (output, flow::mean_velocity_target(velocity, derivative, start, end))
            }
        };
        let error = output - Tensor::from_inner(target);
        (error.square() * Tensor::from_inner(weight)).sum()
    }

    /// The loss of one step of the actor; `turn` counts its steps from 1.
    ///
    /// # Shapes
    /// `observations` is `[B, S]`; the actor learns from `B · N` samples, N of them at each observation.
    fn propose(
        &self,
        host: &Host<B>,
        observations: Tensor<B, 2>,
        turn: u64,
        noise: &mut dyn NoiseSource,
        readings: Option<&mut Readings<B>>,
    ) -> Proposal<B> {
        let samples = self.config.samples;
        let rows = observations.dims()[0] * samples;
        let chunk = host.spec.chunk_dim();
        let draws = host.normal(rows, noise).mul_scalar(self.config.training_noise);
        let mut actions = self.sample(&observations, draws, self.config.training_steps);
        if self.config.smoothing > 0.0 {
            let size = self.config.smoothing * self.config.exploration_noise * self.temperature.value();
            actions = (actions + host.normal(rows, noise).mul_scalar(size)).clamp(-1.0, 1.0);
        }
        let q = self.critics.value(observations.clone(), actions.clone());
        let measured = match self.config.weighting {
            Weighting::Advantage { .. } => q.clone() - q.clone().mean_dim(1),
            _ => q.clone(),
        };
        let scale = self.scale.follow(&measured, self.config.running_rate, turn);
        let weights = self.weights(q.clone(), &scale);

        let (start, end) = match self.variant {
            Variant::Rectified => (host.uniform(rows, noise), None),
            Variant::MeanFlow => {
                let left = host.uniform(rows, noise);
                let right = host.uniform(rows, noise);
                (left.clone().min_pair(right.clone()), Some(left.max_pair(right)))
            }
        };
        let observed = observations.unsqueeze_dim::<3>(1).repeat_dim(1, samples);
        let tracked = self.actor.track();
        let loss = self.policy_loss(
            &tracked,
            PolicyBatch {
                observations: observed.reshape([rows, host.spec.observation_dim]),
                actions,
                noise: host.normal(rows, noise),
                start,
                end,
                weight: weights.clone().reshape([rows, 1]).div_scalar((rows * chunk) as f64).repeat_dim(1, chunk),
            },
        );
        if let Some(readings) = readings {
            let total = weights.clone().sum();
            let share = total.clone().square() / weights.clone().square().sum().mul_scalar(rows as f64);
            readings.add(metrics::ACTOR_LOSS, loss.clone().inner());
            let name = match self.variant {
                Variant::Rectified => metrics::ACTOR_FLOW_LOSS,
                Variant::MeanFlow => metrics::ACTOR_MF_LOSS,
            };
            readings.add(name, loss.clone().inner());
            readings.add(metrics::ACTOR_Q_MEAN, q.mean());
            readings.add(metrics::ACTOR_WEIGHT_MAX, weights.max().mul_scalar(rows as f64) / total);
            readings.add(metrics::ACTOR_WEIGHT_SHARE, share);
        }
        Proposal { tracked, loss, scale }
    }

    /// How far one-step samples are from those of many steps, in squared units of normalised actions, summed over a
    /// chunk. It takes nothing from any stream: a run learns the same whether it is looked at or not.
    ///
    /// # Shapes
    /// `observations` is `[B, S]`, of which the first few are looked at.
    fn diagnose(&self, host: &Host<B>, observations: Tensor<B, 2>, readings: &mut Readings<B>) {
        let (states, samples) = DIAGNOSED;
        let states = states.min(observations.dims()[0]);
        let observations = observations.narrow(0, 0, states);
        let draws = host.normal(states * samples, &mut FixedNoise::default()).mul_scalar(self.config.training_noise);
        let grouped = |sample: Tensor<B, 2>| sample.reshape([states, samples, host.spec.chunk_dim()]);
        let many: Tensor<B, 3> = grouped(self.sample(&observations, draws.clone(), DIAGNOSED_STEPS));
        let one: Tensor<B, 3> = grouped(self.sample(&observations, draws, 1));
        let mean = many.clone().mean_dim(1);
        let squared = |difference: Tensor<B, 3>| difference.square().sum_dim(2).mean();
        readings.add(metrics::ACTOR_TRACE_VARIANCE, squared(many.clone() - mean.clone()));
        readings.add(metrics::ACTOR_ONE_STEP_SPREAD, squared(one.clone() - mean));
        readings.add(metrics::ACTOR_ONE_STEP_ERROR, squared(one - many));
    }
}

/// The noise of the diagnostics: the same numbers each time, so that two comparisons differ by the policy alone.
///
/// SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014) from 0, two uniform draws
/// to two normal ones by Box and Muller: short enough to be written again beside the reference numbers.
#[derive(Debug, Default)]
struct FixedNoise(u64);

impl FixedNoise {
    /// Uniform on [0, 1), in steps of 2^-53.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^= bits >> 31;
        (bits >> 11) as f64 * 2.0_f64.powi(-53)
    }
}

impl NoiseSource for FixedNoise {
    fn fill_normal(&mut self, out: &mut [f32]) {
        for pair in out.chunks_mut(2) {
            let radius = (-2.0 * (1.0 - self.next()).ln()).sqrt();
            let (sine, cosine) = (2.0 * std::f64::consts::PI * self.next()).sin_cos();
            for (value, part) in pair.iter_mut().zip([cosine, sine]) {
                *value = (radius * part) as f32;
            }
        }
    }

    fn fill_uniform(&mut self, out: &mut [f32]) {
        out.fill_with(|| self.next() as f32);
    }
}

/// What the actor's loss needs, on the device.
struct PolicyBatch<B: PolicyBackend> {
    /// `[M, S]`.
    observations: Tensor<B, 2>,
    /// `[M, h·A]`, samples of π_old.
    actions: Tensor<B, 2>,
    /// `[M, h·A]`, standard normal.
    noise: Tensor<B, 2>,
    /// `[M, 1]`, the times t.
    start: Tensor<B, 2>,
    /// `[M, 1]`, the times r, of a mean flow.
    end: Option<Tensor<B, 2>>,
    /// `[M, h·A]`.
    weight: Tensor<B, 2>,
}

/// A step of the actor that is not made yet.
struct Proposal<B: PolicyBackend> {
    tracked: TimedTracked<B>,
    loss: Tensor<Ad<B>, 1>,
    scale: RunningScale<B>,
}

impl<B: PolicyBackend> Algorithm<B> for Fpmd<B> {
    fn name(&self) -> &'static str {
        match self.variant {
            Variant::Rectified => RECTIFIED_NAME,
            Variant::MeanFlow => MEAN_FLOW_NAME,
        }
    }

    fn explores(&self) -> bool {
        true
    }

    networks! {
        ACTOR: actor.trunk => moments.trunk,
        ACTOR_TIMES: actor.embedding => moments.embedding,
        OLD: old.trunk,
        OLD_TIMES: old.embedding,
        CRITIC: critics.online => critics.moments,
        TARGET: critics.target,
    }

    fn scalars(&self) -> Result<Vec<(&'static str, f32)>, PolicyError> {
        let read = |tensor: &Tensor<B, 2>| {
            let data = tensor.clone().try_into_data().map_err(device_error)?;
            Ok::<_, PolicyError>(to_vec(data)?.first().copied().unwrap_or_default())
        };
        Ok(vec![
            ("log_temperature", self.temperature.log),
            ("log_temperature.first", self.temperature.first),
            ("log_temperature.second", self.temperature.second),
            ("q_mean", read(&self.scale.mean)?),
            ("q_variance", read(&self.scale.variance)?),
        ])
    }

    fn set_scalars(&mut self, values: &[f32]) {
        if let &[log, first, second, mean, variance] = values {
            self.temperature = Temperature { log, first, second };
            self.scale.mean = self.scale.mean.full_like(mean);
            self.scale.variance = self.scale.variance.full_like(variance);
        }
    }

    fn choose(&self, acting: Acting<B>) -> Chosen<B> {
        let Acting { observations, noise, exploration } = acting;
        let noise = noise.mul_scalar(self.config.base_noise);
        let candidates = self.sample(&observations, noise, self.config.acting_steps);
        let mut chosen = self.critics.select(observations, candidates);
        if let Some(exploration) = exploration {
            let size = self.config.exploration_noise * self.temperature.value();
            chosen.actions = (chosen.actions + exploration.mul_scalar(size)).clamp(-1.0, 1.0);
        }
        chosen
    }

    fn update(&mut self, host: &Host<B>, update: Update<'_, B>) -> Result<Metrics, PolicyError> {
        let Update { batch, size, index, reads, noise, .. } = update;
        let draws = host.normal(size * self.config.target_candidates, noise).mul_scalar(self.config.base_noise);
        let samples = self.sample(&batch.next_observations, draws, self.config.training_steps);
        let next = self.critics.best(batch.next_observations.clone(), samples);
        let value = self.critics.target_value(batch.next_observations.clone(), next);
        let target = batch.backup(self.config.reward_scale, value);

        let critics = self.critics.online.track();
        let critic = self.critics.loss(&critics, &batch, target);
        let mut readings = Readings::new();
        if reads {
            critic.report(&mut readings);
            if self.config.diagnostics_every > 0 && index.is_multiple_of(self.config.diagnostics_every) {
                self.diagnose(host, batch.observations.clone(), &mut readings);
            }
        }
        let turn = index / self.config.policy_delay;
        let proposal = index
            .is_multiple_of(self.config.policy_delay)
            .then(|| self.propose(host, batch.observations, turn, noise, reads.then_some(&mut readings)));
        // Read before any step, so that a bad batch leaves sound weights behind.
        let mut metrics = readings.read(index - 1)?;

        let mut gradients = critic.total.backward();
        let critic_gradients = critics.gradients(&mut gradients);
        // The graph shares the parameters; without it they can be changed in place.
        drop((critics, gradients));
        self.critics.step(&adam_step(self.config.learning_rate, index), critic_gradients, self.config.tau);
        if let Some(Proposal { tracked, loss, scale }) = proposal {
            let mut gradients = loss.backward();
            let actor_gradients = tracked.gradients(&mut gradients);
            drop((tracked, gradients));
            let step = adam_step(self.config.rate(index), turn);
            self.actor.step(&step, &mut self.moments, actor_gradients);
            self.old.follow(&self.actor, self.config.tau);
            self.scale = scale;
        }
        if index.is_multiple_of(self.config.temperature_every) {
            self.temperature.step(&self.config, index / self.config.temperature_every);
        }
        if reads {
            metrics.push((metrics::ACTOR_TEMPERATURE, self.temperature.value() as f32));
        }
        Ok(metrics)
    }
}

/// log α with the moments of its own Adam. Its gradient depends on nothing but α, so it is a schedule in effect: from 5
/// it falls to 2.9 after 20,000 updates, to 0.95 after 80,000 and rests at 0.54.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Temperature {
    log: f32,
    first: f32,
    second: f32,
}

impl Temperature {
    fn new(initial: f64) -> Self {
        Self { log: initial.ln() as f32, first: 0.0, second: 0.0 }
    }

    /// α.
    fn value(self) -> f64 {
        f64::from(self.log).exp()
    }

    /// Step `index` of Adam, counted from 1, on the entropy of the exploration noise, for each number of a chunk:
    /// `½ log(2πe (0.1 α)²) - H`.
    fn step(&mut self, config: &FpmdConfig, index: u64) {
        let deviation = config.exploration_noise * self.value();
        let entropy = 0.5 * (2.0 * std::f64::consts::PI * std::f64::consts::E * deviation.powi(2)).ln();
        let gradient = entropy - config.target_entropy;
        let step = adam_step(config.temperature_learning_rate, index);
        let first = BETA_1 * f64::from(self.first) + (1.0 - BETA_1) * gradient;
        let second = BETA_2 * f64::from(self.second) + (1.0 - BETA_2) * gradient.powi(2);
        self.log -= (step.rate * first / (second.sqrt() + step.epsilon)) as f32;
        (self.first, self.second) = (first as f32, second as f32);
    }
}

/// Running mean and variance of the samples' values, each `[1, 1]`.
#[derive(Debug)]
struct RunningScale<B: PolicyBackend> {
    mean: Tensor<B, 2>,
    variance: Tensor<B, 2>,
}

impl<B: PolicyBackend> RunningScale<B> {
    /// With the values of the actor's step `turn`, counted from 1. The first values are averaged plainly, so that the
    /// start weighs no more than what follows.
    fn follow(&self, q: &Tensor<B, 2>, rate: f64, turn: u64) -> Self {
        let rate = rate.max(1.0 / turn.max(1) as f64);
        let blend = |old: &Tensor<B, 2>, new: Tensor<B, 1>| {
            old.clone().mul_scalar(1.0 - rate) + new.reshape([1, 1]).mul_scalar(rate)
        };
        let mean = blend(&self.mean, q.clone().mean());
        let variance = blend(&self.variance, (q.clone() - mean.clone()).square().mean());
        Self { mean, variance }
    }
}

/// How the value of a sample becomes its weight.
///
/// In a file: `weighting = "centred"`, `weighting = { scaled = { temperature = 3.0 } }`,
/// `weighting = { self_normalised = { temperature = 1.0 } }` or `weighting = { advantage = { temperature = 0.5 } }`; the
/// last two need `samples` of at least 2.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Weighting {
    /// `exp(z / α)`, `z = (Q - μ) / σ` within ±3, with running μ and σ.
    Centred,
    /// `exp(Q / (σ T))` with running σ, the exponent within ±15: where all values are far from 0, as many times σ T, all
    /// weights are alike.
    Scaled {
        /// T, 3 as a start.
        temperature: f64,
    },
    /// `N softmax(Q / T)` over the N samples of a state.
    SelfNormalised {
        /// T, in units of Q.
        temperature: f64,
    },
    /// `N softmax(Q / (σ T))` over the N samples of a state, with the running deviation σ of values within a state: how
    /// good a state is says nothing about its actions, and no scale of rewards has to be known. (?)
    Advantage {
        /// T, in deviations.
        temperature: f64,
    },
}

impl Weighting {
    /// The temperature of its own with its name in a file, and whether it compares the samples of one state.
    fn parts(self) -> (Option<(&'static str, f64)>, bool) {
        match self {
            Self::Centred => (None, false),
            Self::Scaled { temperature } => (Some(("weighting.scaled.temperature", temperature)), false),
            Self::SelfNormalised { temperature } => {
                (Some(("weighting.self_normalised.temperature", temperature)), true)
            }
            Self::Advantage { temperature } => (Some(("weighting.advantage.temperature", temperature)), true),
        }
    }
}

settings! {
    /// The settings of Flow Policy Mirror Descent, both variants. Sizes default to those of the released code.
    ///
    /// Marks: **P** stated by the paper, **C** read in public code, **?** not published.
    FpmdConfig {
        /// Factor of all rewards, c. (C)
        reward_scale: f64 = 0.2,
        /// Updates of the critics for each of the actor. (C)
        policy_delay: u64 = 2,
        /// How values become weights. (C)
        weighting: Weighting = Weighting::Centred,
        /// Samples of the old policy for each state of a batch. (?)
        samples: usize = 1,
        /// Steps of Euler's method of the samples that teach and of those in the target; variant M needs 1. (C)
        training_steps: usize = 20,
        /// Steps of Euler's method of the candidates when acting. (C)
        acting_steps: usize = 1,
        /// Standard deviation of the noise that candidates, and the actions in the target, start from. (C)
        base_noise: f64 = 0.5,
        /// Standard deviation of the noise that the samples that teach start from. Below 1 each policy is narrower than
        /// the one before, until nothing is left to choose from. (?)
        training_noise: f64 = 1.0,
        /// Exploration noise on the samples that teach, as a share of the noise on executed actions: the policy that
        /// acted is the one with its noise. (?)
        smoothing: f64 = 1.0,
        /// Standard deviation of the noise on the chosen action when acting to learn, in units of α. (C)
        exploration_noise: f64 = 0.1,
        /// Share of an update in the running mean and variance of values. (C)
        running_rate: f64 = 1e-3,
        /// Temperature at the start, α. (C)
        initial_temperature: f64 = 5.0,
        /// Step of Adam on log α. (C)
        temperature_learning_rate: f64 = 7e-3,
        /// Updates between two steps on log α. (C)
        temperature_every: u64 = 250,
        /// Wanted entropy of the exploration noise for each number of a chunk, in nats. (C)
        target_entropy: f64 = -1.5,
        /// Updates between two comparisons of one-step samples with those of twenty steps; 0 for none. (?)
        diagnostics_every: u64 = 1_000,
    }
    other defaults {
        horizon: 1,
        actor_hidden: vec![256; 3],
        critic_hidden: vec![256; 3],
        critic_layer_norm: false,
        target_candidates: 1,
    }
}

impl FpmdConfig {
    /// The settings of variant M: all samples in one step.
    #[must_use]
    pub fn mean_flow() -> Self {
        Self { training_steps: 1, ..Self::default() }
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// [`PolicyError::InvalidConfig`] names the first setting that makes no sense.
    pub fn validate(&self) -> Result<(), PolicyError> {
        self.validate_common()?;
        check_number("reward_scale", self.reward_scale, positive)?;
        check_period("policy_delay", self.policy_delay)?;
        check_rows("samples", self.samples, self.batch_size, self.horizon)?;
        check_count("training_steps", self.training_steps, MOST)?;
        check_count("acting_steps", self.acting_steps, MOST)?;
        check_number("base_noise", self.base_noise, not_negative)?;
        check_number("training_noise", self.training_noise, not_negative)?;
        check_number("smoothing", self.smoothing, not_negative)?;
        check_number("exploration_noise", self.exploration_noise, positive)?;
        check_number("running_rate", self.running_rate, unit_above_zero)?;
        check_number("initial_temperature", self.initial_temperature, positive)?;
        check_number("temperature_learning_rate", self.temperature_learning_rate, positive)?;
        check_period("temperature_every", self.temperature_every)?;
        check_number("target_entropy", self.target_entropy, any)?;
        let (temperature, compares) = self.weighting.parts();
        if compares && self.samples < 2 {
            return Err(PolicyError::config(
                "samples",
                self.samples,
                "weights normalised over a state's samples need at least 2",
            ));
        }
        temperature.map_or(Ok(()), |(field, temperature)| check_number(field, temperature, positive))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_noise_of_diagnostics_is_normal_and_always_the_same() {
        let draw = || {
            let mut draws = vec![0.0_f32; 10_001];
            FixedNoise::default().fill_normal(&mut draws);
            draws
        };
        let draws = draw();
        assert_eq!(draws, draw());
        let moment = |power: i32| draws.iter().map(|draw| f64::from(*draw).powi(power)).sum::<f64>() / 10_001.0;
        assert!(moment(1).abs() < 0.03 && (moment(2) - 1.0).abs() < 0.05, "{} {}", moment(1), moment(2));
        assert!(moment(3).abs() < 0.1 && (moment(4) - 3.0).abs() < 0.3, "{} {}", moment(3), moment(4));
    }

    #[test]
    fn the_temperature_follows_the_released_schedule() {
        let config = FpmdConfig::default();
        let mut temperature = Temperature::new(config.initial_temperature);
        // Environment steps at 0.2 updates each, and what the released code reaches there.
        let mut index = 0;
        for (updates, expected) in [(20_000, 2.91), (80_000, 0.95), (200_000, 0.547)] {
            while (index + 1) * config.temperature_every <= updates {
                index += 1;
                temperature.step(&config, index);
            }
            let found = temperature.value();
            assert!((found / expected - 1.0).abs() < 0.03, "{found} after {updates} updates, not {expected}");
        }
    }
}
