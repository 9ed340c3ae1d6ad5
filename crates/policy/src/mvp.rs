//! Mean Velocity Policy: a one-step flow policy, improved by generating candidates and selecting the best.
//!
//! Source: "Mean Velocity Policy", arXiv 2602.13810 (ICLR 2026). An actor learns the mean velocity of the flow from
//! noise to the replayed action chunks. Acting draws N noises, maps each to a chunk in one step, and executes the one
//! that the critics value most; what was executed enters the replay, so the actor follows the critics without any
//! gradient of theirs. One update:
//!
//! ```text
//! a'  = best of N candidates at the next observation, ranked by the online critics
//! y   = Σ_{j<h} γ^j r_j + γ^h · m · mean_k Q̄_k(s_h, a')
//! L_Q   = mean_k (Q_k(s, a) - y)²
//! L_MF  = | u(x_t, t, r, s) - sg[ v + (r - t) du/dt ] |²
//! L_IVC = | u(x_t, t, t, s) - v |²
//! L     = L_Q + L_MF + λ L_IVC ;  Adam ;  Q̄ ← τ Q + (1 - τ) Q̄
//! ```
//!
//! Differences from the paper, and choices it does not publish:
//! - The expectation is over pairs `t ≤ r`: noise lies at time 0. Some summaries print `r < t`, which fails.
//! - The distribution of (t, r), N, and the exact chunk that the actor regresses onto are settings; see [`MvpConfig`].
//! - Losses are means over valid entries: entries behind the end of an episode have no weight, and zeros take their
//!   place in the inputs of actor and critics.
//! - The number of candidates in the temporal-difference target is a setting of its own.

use burn::tensor::{Tensor, TensorData, Transaction};
use serde::{Deserialize, Serialize};

use crate::backend::PolicyBackend;
use crate::checkpoint::{Content, FORMAT_VERSION, Header, Naming, Reader, Writer, to_vec};
use crate::flow::{self, Curriculum, TimeDistribution, TimePairs};
use crate::network::{Ad, Network, NetworkShape, Tracked};
use crate::optimizer::{AdamStep, CosineDecay, Moments, blend};
use crate::{
    Batch, Candidates, Learner, Metrics, NoiseSource, Phase, PolicyError, PolicySpec, SelectRequest, Selection, metrics,
};

/// The name of the algorithm in configurations and checkpoints.
pub const NAME: &str = "mvp";

const ACTOR: Naming = Naming::Single("actor");
const CRITIC: Naming = Naming::Indexed("critic");
const TARGET: Naming = Naming::Indexed("target");

/// A Mean Velocity Policy on the backend `B`.
#[derive(Debug)]
pub struct Mvp<B: PolicyBackend> {
    spec: PolicySpec,
    config: MvpConfig,
    device: B::Device,
    /// u(x, t, r, s) from the input (s, x, t, r).
    actor: Network<B>,
    /// Q_k(s, a) from the input (s, a).
    critics: Network<B>,
    targets: Network<B>,
    actor_moments: Moments<B>,
    critic_moments: Moments<B>,
    updates: u64,
}

impl<B: PolicyBackend> Mvp<B> {
    /// Makes a policy with fresh weights, drawn from `noise`: first the actor's, then the critics'.
    ///
    /// # Errors
    /// [`PolicyError::InvalidConfig`] if the configuration or the sizes make no sense.
    pub fn new(
        config: &MvpConfig,
        spec: &PolicySpec,
        device: &B::Device,
        noise: &mut dyn NoiseSource,
    ) -> Result<Self, PolicyError> {
        config.validate()?;
        spec.validate()?;
        if config.horizon != spec.horizon {
            return Err(PolicyError::config("horizon", config.horizon, "it must be the horizon of the policy's sizes"));
        }
        let chunk = spec.chunk_dim();
        let actor = NetworkShape {
            members: 1,
            input: spec.observation_dim + chunk + 2,
            hidden: config.actor_hidden.clone(),
            output: chunk,
            norm: false,
        }
        .init::<B>(device, noise);
        let critics = NetworkShape {
            members: config.critics,
            input: spec.observation_dim + chunk,
            hidden: config.critic_hidden.clone(),
            output: 1,
            norm: config.critic_layer_norm,
        }
        .init::<B>(device, noise);
        Ok(Self {
            spec: *spec,
            config: config.clone(),
            device: device.clone(),
            targets: critics.clone(),
            actor_moments: Moments::zeros(&actor),
            critic_moments: Moments::zeros(&critics),
            actor,
            critics,
            updates: 0,
        })
    }

    /// One candidate for each row of `noise`.
    ///
    /// # Shapes
    /// `observations` is `[n, S]`, `noise` is `[n · N, h·A]`, so is the result.
    fn generate(&self, observations: Tensor<B, 2>, noise: Tensor<B, 2>) -> Tensor<B, 2> {
        let noise = if self.config.base_noise == 1.0 { noise } else { noise.mul_scalar(self.config.base_noise) };
        let velocity = self.actor.infer(observations, noise.clone(), &[0.0, 1.0]);
        flow::one_step(noise, velocity.squeeze_dim(0))
    }

    /// The ensemble's mean value of each candidate.
    ///
    /// # Shapes
    /// `observations` is `[n, S]`, `actions` is `[n · N, h·A]`, the result is `[n, N]`.
    fn value(critics: &Network<B>, observations: Tensor<B, 2>, actions: Tensor<B, 2>) -> Tensor<B, 2> {
        let groups = observations.dims()[0];
        let candidates = actions.dims()[0] / groups.max(1);
        let q = critics.infer(observations, actions, &[]);
        q.mean_dim(0).reshape([groups, candidates])
    }

    /// Generates candidates and selects the best of each group of `N` by the online critics.
    ///
    /// # Shapes
    /// `observations` is `[n, S]`, `noise` is `[n · N, h·A]`.
    fn generate_and_select(&self, observations: Tensor<B, 2>, noise: Tensor<B, 2>) -> Chosen<B> {
        let groups = observations.dims()[0];
        let [count, chunk] = noise.dims();
        let candidates = self.generate(observations.clone(), noise);
        let values = Self::value(&self.critics, observations, candidates.clone());
        let index = values.clone().argmax(1);
        let rows = index.clone().unsqueeze_dim::<3>(2).repeat_dim(2, chunk);
        Chosen {
            actions: candidates.clone().reshape([groups, count / groups.max(1), chunk]).gather(1, rows).squeeze_dim(1),
            q: values.clone().gather(1, index.clone()),
            index,
            candidates,
            values,
        }
    }

    /// The temporal-difference target of each chunk, `[B, 1]`, without gradient.
    fn target(&self, batch: &Batch<'_>, noise: &mut dyn NoiseSource) -> Tensor<B, 2> {
        // What lies behind an unusable or terminated chunk is never looked at, whatever it holds.
        let returns = masked(batch.returns, batch.critic_valid);
        let bootstrap = masked(batch.bootstrap, batch.critic_valid);
        let next = masked(batch.next_observations, &bootstrap);
        let next = self.upload(next, self.spec.observation_dim);
        let draws = self.normal(batch.size * self.config.target_candidates, noise);
        let chosen = self.generate_and_select(next.clone(), draws);
        let value = Self::value(&self.targets, next, chosen.actions);
        self.upload(returns, 1) + self.upload(bootstrap, 1) * value
    }

    fn upload(&self, values: Vec<f32>, width: usize) -> Tensor<B, 2> {
        let rows = values.len() / width;
        Tensor::from_data(TensorData::new(values, [rows, width]), &self.device)
    }

    /// Standard normal draws, `[rows, h·A]`.
    fn normal(&self, rows: usize, noise: &mut dyn NoiseSource) -> Tensor<B, 2> {
        let chunk = self.spec.chunk_dim();
        let mut draws = vec![0.0; rows * chunk];
        noise.fill_normal(&mut draws);
        self.upload(draws, chunk)
    }

    fn header(&self, content: Content) -> Result<Header, PolicyError> {
        let config = serde_json::to_value(&self.config)
            .map_err(|error| PolicyError::CheckpointUnreadable { reason: error.to_string() })?;
        Ok(Header {
            version: FORMAT_VERSION,
            content,
            algorithm: NAME.to_owned(),
            spec: self.spec,
            updates: self.updates,
            config,
        })
    }
}

/// The result of a selection, still on the device.
struct Chosen<B: PolicyBackend> {
    /// `[n, h·A]`.
    actions: Tensor<B, 2>,
    /// `[n, 1]`.
    q: Tensor<B, 2>,
    /// `[n, 1]`.
    index: Tensor<B, 2, burn::tensor::Int>,
    /// `[n · N, h·A]`.
    candidates: Tensor<B, 2>,
    /// `[n, N]`.
    values: Tensor<B, 2>,
}

/// What the actor's loss needs, on the device.
struct PolicyBatch<B: PolicyBackend> {
    /// `[B, S]`.
    observations: Tensor<B, 2>,
    /// `[B, h·A]`.
    actions: Tensor<B, 2>,
    /// `[B, h·A]`, standard normal.
    noise: Tensor<B, 2>,
    /// `[B, h·A]`, weights that sum to one and are zero behind the end of an episode.
    weight: Tensor<B, 2>,
    /// `[B, 1]`, the times t.
    start: Tensor<B, 2>,
    /// `[B, 1]`, the times r.
    end: Tensor<B, 2>,
}

struct PolicyLoss<B: PolicyBackend> {
    total: Tensor<Ad<B>, 1>,
    mean_flow: Tensor<B, 1>,
    constraint: Option<Tensor<B, 1>>,
    tangent_rms: Tensor<B, 1>,
}

/// `L_MF + λ L_IVC`. One pass evaluates the actor at (t, r) and, below it, at (t, t).
fn policy_loss<B: PolicyBackend>(
    actor: &Network<B>,
    tracked: &Tracked<B>,
    batch: PolicyBatch<B>,
    config: &MvpConfig,
) -> PolicyLoss<B> {
    let rows = batch.start.dims()[0];
    let lambda = config.ivc_weight;
    let PolicyBatch { observations, start, end, .. } = batch;
    let velocity = flow::conditional_velocity(batch.noise.clone(), batch.actions.clone());
    let point = flow::interpolate(batch.noise, batch.actions, start.clone());
    let input = |end: &Tensor<B, 2>| {
        let parts = vec![observations.clone(), point.clone(), start.clone(), end.clone()];
        Tensor::cat(parts, 1)
    };
    let inputs = if lambda > 0.0 { Tensor::cat(vec![input(&end), input(&start)], 0) } else { input(&end) };
    let (output, traces) = tracked.forward(Tensor::from_inner(inputs.unsqueeze()));

    // Tangents (s: 0, x: v, t: 1, r: 0), at the rows of (t, r).
    let tangent =
        Tensor::cat(vec![observations.zeros_like(), velocity.clone(), start.ones_like(), end.zeros_like()], 1);
    let derivative: Tensor<B, 2> = actor.tangent(&traces, tangent.unsqueeze()).squeeze_dim(0);
    let target = flow::mean_velocity_target(velocity.clone(), derivative.clone(), start, end);

    let (target, mut weight) = if lambda > 0.0 {
        (
            Tensor::cat(vec![target, velocity], 0),
            Tensor::cat(vec![batch.weight.clone(), batch.weight.clone().mul_scalar(lambda)], 0),
        )
    } else {
        (target, batch.weight.clone())
    };
    let error = output.squeeze_dim::<2>(0) - Tensor::from_inner(target);
    let square = error.square();
    if let ElementWeighting::Adaptive { power, c } = config.weighting {
        let adaptive = square.clone().inner().add_scalar(c).powf_scalar(-power);
        weight = weight * adaptive;
    }
    let losses = square * Tensor::from_inner(weight);
    let inner = losses.clone().inner();
    PolicyLoss {
        total: losses.sum(),
        mean_flow: inner.clone().narrow(0, 0, rows).sum(),
        constraint: (lambda > 0.0).then(|| inner.narrow(0, rows, rows).sum().div_scalar(lambda)),
        tangent_rms: (derivative.square() * batch.weight).sum().sqrt(),
    }
}

struct CriticLoss<B: PolicyBackend> {
    total: Tensor<Ad<B>, 1>,
    q_mean: Tensor<B, 1>,
    q_spread: Tensor<B, 1>,
    target_mean: Tensor<B, 1>,
}

/// `mean_k (Q_k(s, a) - y)²` over usable chunks.
///
/// # Shapes
/// `observations` is `[B, S]`, `actions` is `[B, h·A]`, `target` and `weight` are `[B, 1]`; the weights sum to one.
fn critic_loss<B: PolicyBackend>(
    tracked: &Tracked<B>,
    observations: Tensor<B, 2>,
    actions: Tensor<B, 2>,
    target: Tensor<B, 2>,
    weight: Tensor<B, 2>,
) -> CriticLoss<B> {
    let input = Tensor::cat(vec![observations, actions], 1);
    let (q, _) = tracked.forward(Tensor::from_inner(input.unsqueeze()));
    let members = q.dims()[0] as f64;
    let values = q.clone().inner();
    let target: Tensor<B, 3> = target.unsqueeze();
    let weight: Tensor<B, 3> = weight.unsqueeze();
    let share = weight.clone().div_scalar(members);
    let mean = values.clone().mean_dim(0);
    let error = q - Tensor::from_inner(target.clone());
    CriticLoss {
        total: (error.square() * Tensor::from_inner(share.clone())).sum(),
        q_mean: (mean.clone() * weight.clone()).sum(),
        q_spread: ((values - mean).abs() * share).sum(),
        target_mean: (target * weight).sum(),
    }
}

impl<B: PolicyBackend> Learner for Mvp<B> {
    fn spec(&self) -> &PolicySpec {
        &self.spec
    }

    fn algorithm(&self) -> &'static str {
        NAME
    }

    fn device_name(&self) -> String {
        format!("{} ({:?})", B::name(&self.device), self.device)
    }

    fn parameter_count(&self) -> usize {
        self.actor.parameter_count() + self.critics.parameter_count()
    }

    fn updates(&self) -> u64 {
        self.updates
    }

    fn select(&mut self, request: &SelectRequest<'_>) -> Result<Selection, PolicyError> {
        request.check(&self.spec)?;
        let observations = self.upload(request.observations.to_vec(), self.spec.observation_dim);
        let noise = self.upload(request.noise.to_vec(), self.spec.chunk_dim());
        let chosen = self.generate_and_select(observations, noise);

        let mut read = Transaction::default().register(chosen.actions).register(chosen.q).register(chosen.index);
        if request.return_candidates {
            read = read.register(chosen.candidates).register(chosen.values);
        }
        let mut read = read.try_execute().map_err(device_error)?.into_iter();
        let mut next =
            || read.next().ok_or_else(|| PolicyError::Device { reason: "a tensor was not read back".to_owned() });
        let actions = to_vec(next()?)?;
        let q = to_vec(next()?)?;
        let index = next()?.iter::<i64>().map(|index| index as u32).collect();
        let candidates = if request.return_candidates {
            Some(Candidates { actions: to_vec(next()?)?, q: to_vec(next()?)? })
        } else {
            None
        };
        if let Some(&value) = q.iter().find(|value| !value.is_finite()) {
            return Err(PolicyError::NonFinite { metric: "select/q", value, update: self.updates });
        }
        Ok(Selection { actions, q, index, candidates })
    }

    fn update(&mut self, batch: &Batch<'_>, noise: &mut dyn NoiseSource) -> Result<Metrics, PolicyError> {
        batch.check(&self.spec)?;
        let target = self.target(batch, noise);

        let observations = self.upload(batch.observations.to_vec(), self.spec.observation_dim);
        let replayed = self.upload(masked(batch.actions, batch.valid), self.spec.chunk_dim());
        let best_of_n = self.config.regression == Regression::BestOfN && batch.phase == Phase::Online;
        let (imitated, entry_weight) = if best_of_n {
            let draws = self.normal(batch.size * self.config.candidates, noise);
            let chosen = self.generate_and_select(observations.clone(), draws);
            // A selected chunk is whole: no entry of it lies behind the end of an episode.
            let all = vec![1.0; batch.valid.len()];
            (chosen.actions, entry_weights(&all, self.spec.action_dim))
        } else {
            let weights = entry_weights(batch.valid, self.spec.action_dim);
            (replayed.clone(), weights)
        };
        let pairs = TimePairs::draw(
            &self.config.times,
            self.config.diagonal_share,
            self.config.curriculum.as_ref(),
            self.updates,
            batch.size,
            noise,
        );
        let policy_batch = PolicyBatch {
            observations: observations.clone(),
            actions: imitated,
            noise: self.normal(batch.size, noise),
            weight: self.upload(entry_weight, self.spec.chunk_dim()),
            start: self.upload(pairs.start, 1),
            end: self.upload(pairs.end, 1),
        };

        let actor = self.actor.track();
        let critics = self.critics.track();
        let policy = policy_loss(&self.actor, &actor, policy_batch, &self.config);
        let weight = self.upload(normalised(batch.critic_valid), 1);
        let critic = critic_loss(&critics, observations, replayed, target, weight);

        let index = self.updates + 1;
        let metrics = if index.is_multiple_of(self.config.metrics_every) {
            let metrics = read_metrics(&policy, &critic)?;
            // Checked before the step, so that a bad batch leaves sound weights behind.
            if let Some(&(metric, value)) = metrics.iter().find(|(_, value)| !value.is_finite()) {
                return Err(PolicyError::NonFinite { metric, value, update: self.updates });
            }
            metrics
        } else {
            Metrics::new()
        };

        let mut gradients = (policy.total + critic.total).backward();
        let actor_gradients = actor.gradients(&mut gradients);
        let critic_gradients = critics.gradients(&mut gradients);
        // The graph shares the parameters; without it they can be changed in place.
        drop((actor, critics, gradients));
        let share = self.config.learning_rate_decay.map_or(1.0, |decay| decay.share(index));
        let step = AdamStep::new(self.config.learning_rate * share, index);
        self.actor_moments.step(&step, &mut self.actor, actor_gradients);
        self.critic_moments.step(&step, &mut self.critics, critic_gradients);
        blend(&mut self.targets, &self.critics, self.config.tau);
        self.updates = index;
        Ok(metrics)
    }

    fn weights(&self) -> Result<Vec<u8>, PolicyError> {
        let mut writer = Writer::default();
        for (naming, network) in [(ACTOR, &self.actor), (CRITIC, &self.critics), (TARGET, &self.targets)] {
            let tensors: Vec<_> = network.parameters().into_iter().map(|(_, tensor)| tensor.clone()).collect();
            writer.add(naming, "", network, &tensors)?;
        }
        writer.finish(&self.header(Content::Weights)?)
    }

    fn load_weights(&mut self, bytes: &[u8]) -> Result<(), PolicyError> {
        let mut reader = Reader::open(bytes, Content::Weights, NAME, &self.spec)?;
        let actor = reader.take(ACTOR, "", &self.actor, &self.device)?;
        let critics = reader.take(CRITIC, "", &self.critics, &self.device)?;
        let targets = reader.take(TARGET, "", &self.targets, &self.device)?;
        reader.finish()?;
        for (network, tensors) in [(&mut self.actor, actor), (&mut self.critics, critics), (&mut self.targets, targets)]
        {
            for (parameter, tensor) in network.parameters_mut().into_iter().zip(tensors) {
                *parameter = tensor;
            }
        }
        Ok(())
    }

    fn optimizer(&self) -> Result<Vec<u8>, PolicyError> {
        let mut writer = Writer::default();
        for (naming, network, moments) in
            [(ACTOR, &self.actor, &self.actor_moments), (CRITIC, &self.critics, &self.critic_moments)]
        {
            writer.add(naming, ".first", network, &moments.first)?;
            writer.add(naming, ".second", network, &moments.second)?;
        }
        writer.finish(&self.header(Content::Optimizer)?)
    }

    fn load_optimizer(&mut self, bytes: &[u8]) -> Result<(), PolicyError> {
        let mut reader = Reader::open(bytes, Content::Optimizer, NAME, &self.spec)?;
        let mut take = |naming, network| -> Result<Moments<B>, PolicyError> {
            Ok(Moments {
                first: reader.take(naming, ".first", network, &self.device)?,
                second: reader.take(naming, ".second", network, &self.device)?,
            })
        };
        let actor = take(ACTOR, &self.actor)?;
        let critics = take(CRITIC, &self.critics)?;
        let updates = reader.header().updates;
        reader.finish()?;
        self.actor_moments = actor;
        self.critic_moments = critics;
        self.updates = updates;
        Ok(())
    }
}

/// `values` with zeros where `mask` is zero; each element of the mask stands for as many values in a row.
fn masked(values: &[f32], mask: &[f32]) -> Vec<f32> {
    let width = values.len() / mask.len().max(1);
    let parts = values.chunks(width.max(1)).zip(mask);
    parts.flat_map(|(values, &mask)| values.iter().map(move |&value| if mask == 0.0 { 0.0 } else { value })).collect()
}

/// Weights of all chunk entries: equal for valid ones, zero for others, sum one (or zero if none is valid).
fn entry_weights(valid: &[f32], action_dim: usize) -> Vec<f32> {
    normalised(valid)
        .into_iter()
        .flat_map(|weight| std::iter::repeat_n(weight / action_dim as f32, action_dim))
        .collect()
}

/// `mask` divided by its sum; all zero if the sum is.
fn normalised(mask: &[f32]) -> Vec<f32> {
    let sum: f32 = mask.iter().sum();
    let factor = if sum > 0.0 { 1.0 / sum } else { 0.0 };
    mask.iter().map(|value| value * factor).collect()
}

/// Reads all metrics back in one small transfer.
fn read_metrics<B: PolicyBackend>(policy: &PolicyLoss<B>, critic: &CriticLoss<B>) -> Result<Metrics, PolicyError> {
    let mut named = vec![
        (metrics::CRITIC_LOSS, critic.total.clone().inner()),
        (metrics::CRITIC_Q_MEAN, critic.q_mean.clone()),
        (metrics::CRITIC_Q_SPREAD, critic.q_spread.clone()),
        (metrics::CRITIC_TARGET_MEAN, critic.target_mean.clone()),
        (metrics::ACTOR_LOSS, policy.total.clone().inner()),
        (metrics::ACTOR_MF_LOSS, policy.mean_flow.clone()),
        (metrics::ACTOR_TANGENT_RMS, policy.tangent_rms.clone()),
    ];
    if let Some(constraint) = &policy.constraint {
        named.push((metrics::ACTOR_IVC_LOSS, constraint.clone()));
    }
    let (names, tensors): (Vec<_>, Vec<_>) = named.into_iter().unzip();
    let data = Tensor::cat(tensors, 0).try_into_data().map_err(device_error)?;
    Ok(names.into_iter().zip(to_vec(data)?).collect())
}

fn device_error(error: impl std::fmt::Debug) -> PolicyError {
    PolicyError::Device { reason: format!("{error:?}") }
}

/// How the squared errors of single entries are weighted. The paper's is `Plain`.
///
/// In a file: `weighting = "plain"` or `weighting = { adaptive = { power = 0.5, c = 1e-3 } }`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ElementWeighting {
    /// Plain squared error.
    Plain,
    /// Each squared error is divided by `(error² + c)^power`, without gradient; it sharpens modes.
    Adaptive {
        /// The exponent, 0.5 as a start.
        power: f64,
        /// Keeps the quotient finite, 1e-3 as a start.
        c: f64,
    },
}

/// The chunk that the actor regresses onto.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Regression {
    /// The replayed chunk. Online, the replay holds chunks that were selected when they were executed.
    Replay,
    /// A chunk freshly selected at the replayed observation, in the online phase; offline as `Replay`, for want of an
    /// anchor.
    BestOfN,
}

/// The settings of [`Mvp`]. Sizes default to the published ones.
///
/// Marks: **P** stated by the paper, **C** read in public code of the paper's family, **?** not published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MvpConfig {
    /// Actions in a chunk, executed open loop. (C)
    pub horizon: usize,
    /// Chunks in a batch. (C)
    pub batch_size: usize,
    /// Discount of one step, γ. (C)
    pub discount: f64,
    /// Step of Adam, for actor and critics. (C)
    pub learning_rate: f64,
    /// A learning rate that falls during training, if set. (?)
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_rate_decay: Option<CosineDecay>,
    /// Share of the online critics in the targets after an update, τ. (C)
    pub tau: f64,
    /// Features of each hidden layer of the actor. (C)
    pub actor_hidden: Vec<usize>,
    /// Features of each hidden layer of a critic. (C)
    pub critic_hidden: Vec<usize>,
    /// Critics in the ensemble. (C)
    pub critics: usize,
    /// Whether hidden layers of critics end with a layer normalisation. (C)
    pub critic_layer_norm: bool,
    /// Candidates per agent when acting, N. (?)
    pub candidates: usize,
    /// Candidates per chunk in the temporal-difference target; nine tenths of an update's cost. (?)
    pub target_candidates: usize,
    /// Weight of the instantaneous velocity constraint, λ. (P)
    pub ivc_weight: f64,
    /// How pairs (t, r) are drawn. (?)
    pub times: TimeDistribution,
    /// Share of pairs with t = r; the constraint covers the diagonal without any. (?)
    pub diagonal_share: f64,
    /// Intervals that grow during training, if set. (?)
    #[serde(skip_serializing_if = "Option::is_none")]
    pub curriculum: Option<Curriculum>,
    /// Weights of single squared errors. (P)
    pub weighting: ElementWeighting,
    /// What the actor regresses onto. (?)
    pub regression: Regression,
    /// Standard deviation of the noise that candidates start from. (P)
    pub base_noise: f64,
    /// Metrics are read back, and checked to be finite, at every so many updates; above 1 the GPU need not wait.
    pub metrics_every: u64,
}

impl Default for MvpConfig {
    fn default() -> Self {
        Self {
            horizon: 5,                         // 0.25 s of control at 20 Hz
            batch_size: 256,                    // of chunks, not of steps
            discount: 0.99,                     // a horizon of about 100 steps
            learning_rate: 3e-4,                // no clipping
            learning_rate_decay: None,          // the same to the end
            tau: 0.005,                         // targets lag by about 200 updates
            actor_hidden: vec![512; 4],         // GELU, no normalisation
            critic_hidden: vec![512; 4],        // GELU, then layer normalisation
            critics: 2,                         // their mean ranks, their targets' mean is the TD value
            critic_layer_norm: true,            // bounds values away from the data
            candidates: 32,                     // as Q-chunking does
            target_candidates: 32,              // as when acting
            ivc_weight: 1.0,                    // best of 0, 0.5, 1 in the paper's ablation
            times: TimeDistribution::Uniform,   // two draws, sorted
            diagonal_share: 0.0,                // left to the constraint
            curriculum: None,                   // whole intervals from the first update
            weighting: ElementWeighting::Plain, // squared error
            regression: Regression::Replay,     // the executed chunk
            base_noise: 1.0,                    // the distribution the actor was trained with
            metrics_every: 1,                   // every update
        }
    }
}

impl MvpConfig {
    /// Sizes for the CPU of a laptop; results made with them are not the paper's.
    pub fn small() -> Self {
        Self {
            batch_size: 128,             // half of the paper's
            actor_hidden: vec![256; 2],  // a tenth of its parameters
            critic_hidden: vec![256; 2], // the same
            target_candidates: 8,        // a quarter of its target's cost
            ..Self::default()
        }
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// [`PolicyError::InvalidConfig`] names the first setting that makes no sense.
    pub fn validate(&self) -> Result<(), PolicyError> {
        for (field, value) in [
            ("horizon", self.horizon),
            ("batch_size", self.batch_size),
            ("critics", self.critics),
            ("candidates", self.candidates),
            ("target_candidates", self.target_candidates),
        ] {
            if value == 0 {
                return Err(PolicyError::config(field, value, "it must be at least 1"));
            }
        }
        for (field, widths) in [("actor_hidden", &self.actor_hidden), ("critic_hidden", &self.critic_hidden)] {
            if widths.is_empty() || widths.contains(&0) {
                return Err(PolicyError::config(
                    field,
                    widths,
                    "name the width of at least one hidden layer, each at least 1",
                ));
            }
        }
        if self.metrics_every == 0 {
            return Err(PolicyError::config("metrics_every", self.metrics_every, "it must be at least 1"));
        }
        type Accept = fn(f64) -> bool;
        let positive: Accept = |value| value > 0.0;
        let unit: Accept = |value| (0.0..=1.0).contains(&value);
        let unit_above_zero: Accept = |value| value > 0.0 && value <= 1.0;
        let not_negative: Accept = |value| value >= 0.0;
        for (field, value, accept, hint) in [
            ("learning_rate", self.learning_rate, positive, "it must be above 0"),
            ("discount", self.discount, unit, "it must lie within 0 and 1"),
            ("tau", self.tau, unit_above_zero, "it must be above 0, at most 1"),
            ("ivc_weight", self.ivc_weight, not_negative, "it must not be negative"),
            ("diagonal_share", self.diagonal_share, unit, "it must lie within 0 and 1"),
            ("base_noise", self.base_noise, not_negative, "it must not be negative"),
        ] {
            check_number(field, value, accept, hint)?;
        }
        if let TimeDistribution::LogitNormal { mean, std } = self.times {
            check_number("times.mean", mean, |_| true, "it must be finite")?;
            check_number("times.std", std, positive, "it must be above 0")?;
        }
        if let ElementWeighting::Adaptive { power, c } = self.weighting {
            check_number("weighting.power", power, not_negative, "it must not be negative")?;
            check_number("weighting.c", c, positive, "it must be above 0")?;
        }
        self.learning_rate_decay.as_ref().map_or(Ok(()), CosineDecay::validate)?;
        self.curriculum.as_ref().map_or(Ok(()), Curriculum::validate)
    }
}

fn check_number(
    field: &'static str,
    value: f64,
    accept: fn(f64) -> bool,
    hint: &'static str,
) -> Result<(), PolicyError> {
    if value.is_finite() && accept(value) { Ok(()) } else { Err(PolicyError::config(field, value, hint)) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
mod tests {
    use burn_flex::{Flex, FlexDevice};

    use super::*;
    use crate::testing::Stream;

    const MODES: usize = 8;

    fn mode(index: usize) -> [f32; 2] {
        let angle = index as f32 / MODES as f32 * std::f32::consts::TAU;
        [0.7 * angle.cos(), 0.7 * angle.sin()]
    }

    fn upload(values: Vec<f32>, width: usize) -> Tensor<Flex, 2> {
        let rows = values.len() / width;
        Tensor::from_data(TensorData::new(values, [rows, width]), &FlexDevice)
    }

    /// Fits a ring of eight points and returns the share of one-step samples within 0.1 of one. Chance is 0.06.
    fn share_near_modes(ordered: bool) -> f64 {
        let config = MvpConfig::default();
        let rows = 256;
        let updates = 2_500;
        let mut stream = Stream::new(1);
        let shape = NetworkShape { members: 1, input: 1 + 2 + 2, hidden: vec![64, 64], output: 2, norm: false };
        let mut actor = shape.init::<Flex>(&FlexDevice, &mut stream);
        let mut moments = Moments::zeros(&actor);
        let context = |rows| upload(vec![0.0; rows], 1);
        for update in 0..updates {
            let mut picks = vec![0.0; rows];
            stream.fill_uniform(&mut picks);
            let actions = picks.iter().flat_map(|pick| mode((pick * MODES as f32) as usize)).collect();
            let pairs = TimePairs::draw(&config.times, 0.0, None, update, rows, &mut stream);
            let (start, end) = if ordered { (pairs.start, pairs.end) } else { (pairs.end, pairs.start) };
            let batch = PolicyBatch {
                observations: context(rows),
                actions: upload(actions, 2),
                noise: upload(stream.normal(2 * rows), 2),
                weight: upload(vec![0.5 / rows as f32; 2 * rows], 2),
                start: upload(start, 1),
                end: upload(end, 1),
            };
            let tracked = actor.track();
            let loss = policy_loss(&actor, &tracked, batch, &config);
            let gradients = tracked.gradients(&mut loss.total.backward());
            drop(tracked);
            let rate = 2e-3 * (1.0 - update as f64 / updates as f64);
            moments.step(&AdamStep::new(rate, update + 1), &mut actor, gradients);
        }
        let samples = 1_000;
        let noise = upload(stream.normal(2 * samples), 2);
        let velocity = actor.infer(context(samples), noise.clone(), &[0.0, 1.0]);
        let actions = flow::one_step(noise, velocity.squeeze_dim(0));
        let near = to_vec(actions.into_data())
            .unwrap()
            .as_chunks::<2>()
            .0
            .iter()
            .filter(|[x, y]| (0..MODES).map(mode).any(|[mode_x, mode_y]| (x - mode_x).hypot(y - mode_y) < 0.1))
            .count();
        near as f64 / samples as f64
    }

    #[test]
    fn only_intervals_from_noise_to_action_teach_the_sampler() {
        let ordered = share_near_modes(true);
        let reversed = share_near_modes(false);
        assert!(
            ordered > 0.15 && reversed < 0.5 * ordered,
            "share of samples near a mode: {ordered} with t <= r, {reversed} with t >= r"
        );
    }

    #[test]
    fn masks_hide_whatever_lies_behind_them() {
        assert_eq!(masked(&[1.0, 2.0, f32::NAN, 4.0], &[1.0, 0.0]), [1.0, 2.0, 0.0, 0.0]);
        assert_eq!(entry_weights(&[1.0, 0.0], 2), [0.5, 0.5, 0.0, 0.0]);
        assert_eq!(entry_weights(&[0.0, 0.0], 1), [0.0, 0.0]);
    }

    #[test]
    fn constraint_weight_scales_its_gradient_alone() {
        let mut stream = Stream::new(2);
        let shape = NetworkShape { members: 1, input: 3 + 4 + 2, hidden: vec![16], output: 4, norm: false };
        let actor = shape.init::<Flex>(&FlexDevice, &mut stream);
        let rows = 6;
        let parts = [3, 4, 4].map(|width| stream.normal(rows * width));
        let loss = |ivc_weight| {
            let [observations, actions, noise] = parts.clone();
            let batch = PolicyBatch {
                observations: upload(observations, 3),
                actions: upload(actions, 4),
                noise: upload(noise, 4),
                weight: upload(vec![1.0 / 24.0; 24], 4),
                start: upload(vec![0.2; rows], 1),
                end: upload(vec![0.7; rows], 1),
            };
            let config = MvpConfig { ivc_weight, ..MvpConfig::default() };
            let loss = policy_loss(&actor, &actor.track(), batch, &config);
            let scalar = |tensor: Tensor<Flex, 1>| to_vec(tensor.into_data()).unwrap()[0];
            let total = scalar(loss.total.inner());
            (total, scalar(loss.mean_flow), loss.constraint.map(scalar))
        };
        let (total, mean_flow, constraint) = loss(0.5);
        let constraint = constraint.unwrap();
        assert!((total - mean_flow - 0.5 * constraint).abs() < 1e-6 * total);
        assert_eq!(loss(1.0).1, mean_flow);
        let (total, alone, none) = loss(0.0);
        assert!((total - mean_flow).abs() < 1e-6 && (alone - mean_flow).abs() < 1e-6);
        assert!(none.is_none());
    }
}
