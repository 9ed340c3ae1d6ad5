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
//! - A chunk that the episode cut short teaches the actor its valid entries and the critics nothing, as in Q-chunking: the
//!   rest of it was never executed.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::agent::{ACTOR, Acting, Algorithm, CRITIC, TARGET, Update, networks};
use crate::backend::PolicyBackend;
use crate::critic::{Aggregate, Chosen, Critics};
use crate::flow::{self, Curriculum, TimeDistribution, TimePairs};
use crate::host::{Host, Readings};
use crate::network::{Activation, Ad, Network, NetworkShape, Tracked};
use crate::optimizer::{Moments, adam_step};
use crate::settings::{any, check_number, check_rows, not_negative, positive, settings, unit};
use crate::{Metrics, NoiseSource, Phase, PolicyError, metrics};

/// The name of the algorithm in configurations and checkpoints.
pub const NAME: &str = "mvp";
/// The name of the algorithm without its constraint, λ = 0.
pub const NO_IVC_NAME: &str = "mvp-no-ivc";

/// A Mean Velocity Policy on the backend `B`.
#[derive(Debug)]
pub(crate) struct Mvp<B: PolicyBackend> {
    name: &'static str,
    config: MvpConfig,
    /// u(x, t, r, s) from the input (s, x, t, r).
    actor: Network<B>,
    actor_moments: Moments<B>,
    critics: Critics<B>,
}

impl<B: PolicyBackend> Mvp<B> {
    /// Makes a policy with fresh weights, drawn from `noise`: first the actor's, then the critics'.
    pub(crate) fn new(name: &'static str, config: &MvpConfig, host: &Host<B>, noise: &mut dyn NoiseSource) -> Self {
        let chunk = host.spec.chunk_dim();
        let actor = NetworkShape {
            members: 1,
            input: host.spec.observation_dim + chunk + 2,
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
            critics: config.make_critics(host, Aggregate::Mean, Activation::Gelu, noise),
        }
    }

    /// One candidate for each row of `noise`, in one step.
    ///
    /// # Shapes
    /// `observations` is `[n, S]`, `noise` is `[n · N, h·A]`, so is the result.
    fn generate(&self, observations: Tensor<B, 2>, noise: Tensor<B, 2>) -> Tensor<B, 2> {
        let noise = if self.config.base_noise == 1.0 { noise } else { noise.mul_scalar(self.config.base_noise) };
        let velocity = self.actor.infer(observations, noise.clone(), &[0.0, 1.0]);
        flow::one_step(noise, velocity.squeeze_dim(0))
    }

    /// Generates candidates and takes the best of each group of `N` by the online critics.
    ///
    /// # Shapes
    /// `observations` is `[n, S]`, `noise` is `[n · N, h·A]`, the result is `[n, h·A]`.
    fn generate_and_take_best(&self, observations: Tensor<B, 2>, noise: Tensor<B, 2>) -> Tensor<B, 2> {
        let candidates = self.generate(observations.clone(), noise);
        self.critics.best(observations, candidates)
    }
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

/// The actor's loss and its parts, each `[1]`.
struct PolicyLoss<B: PolicyBackend> {
    /// `L_MF + λ L_IVC`.
    total: Tensor<Ad<B>, 1>,
    /// `L_MF`.
    mean_flow: Tensor<B, 1>,
    /// `L_IVC`, without λ; none with λ = 0.
    constraint: Option<Tensor<B, 1>>,
    /// Root mean square of du/dt, in actions per unit of flow time.
    tangent_rms: Tensor<B, 1>,
}

/// `L_MF + λ L_IVC` of a batch of B chunks, in squared units of normalised actions. One pass evaluates the actor at
/// (t, r) and, below it, at (t, t): `[2 B, S + h·A + 2]` numbers go in, `[2 B, h·A]` come out; with λ = 0, `B` rows.
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

    // Tangents (s: 0, x: v, t: 1, r: 0), at the rows of (t, r). An interval of no length has no use for a derivative.
    let derivative: Tensor<B, 2> = if config.diagonal_share < 1.0 {
        let parts = vec![observations.zeros_like(), velocity.clone(), start.ones_like(), end.zeros_like()];
        actor.tangent(&traces, Tensor::cat(parts, 1).unsqueeze()).squeeze_dim(0)
    } else {
        velocity.zeros_like()
    };
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

impl<B: PolicyBackend> Algorithm<B> for Mvp<B> {
    fn name(&self) -> &'static str {
        self.name
    }

    networks! {
        ACTOR: actor => actor_moments,
        CRITIC: critics.online => critics.moments,
        TARGET: critics.target,
    }

    fn choose(&self, acting: Acting<B>) -> Chosen<B> {
        let candidates = self.generate(acting.observations.clone(), acting.noise);
        self.critics.select(acting.observations, candidates)
    }

    fn update(&mut self, host: &Host<B>, update: Update<'_, B>) -> Result<Metrics, PolicyError> {
        let Update { batch, size, phase, index, reads, noise } = update;
        // The target, from the best of N candidates at the next observation.
        let draws = host.normal(size * self.config.target_candidates, noise);
        let next = self.generate_and_take_best(batch.next_observations.clone(), draws);
        let target = self.critics.backup(&batch, next);

        // What the actor imitates.
        let (imitated, weight) = if self.config.regression == Regression::BestOfN && phase == Phase::Online {
            let draws = host.normal(size * self.config.candidates, noise);
            let chosen = self.generate_and_take_best(batch.observations.clone(), draws);
            // A selected chunk is whole: no entry of it lies behind the end of an episode.
            (chosen, host.whole_chunks(size))
        } else {
            (batch.actions.clone(), batch.entry_weight.clone())
        };
        let pairs = TimePairs::draw(
            &self.config.times,
            self.config.diagonal_share,
            self.config.curriculum.as_ref(),
            index - 1,
            size,
            noise,
        );
        let (start, end) = match self.config.order {
            IntervalOrder::Forward => (pairs.start, pairs.end),
            IntervalOrder::Reversed => (pairs.end, pairs.start),
        };
        let policy_batch = PolicyBatch {
            observations: batch.observations.clone(),
            actions: imitated,
            noise: host.normal(size, noise),
            weight,
            start: host.upload(start, 1),
            end: host.upload(end, 1),
        };

        let actor = self.actor.track();
        let critics = self.critics.online.track();
        let policy = policy_loss(&self.actor, &actor, policy_batch, &self.config);
        let critic = self.critics.loss(&critics, &batch, target);

        // Read before the step, so that a bad batch leaves sound weights behind.
        let mut readings = Readings::new();
        if reads {
            critic.report(&mut readings);
            readings.add(metrics::ACTOR_LOSS, policy.total.clone().inner());
            readings.add(metrics::ACTOR_MF_LOSS, policy.mean_flow);
            readings.add(metrics::ACTOR_TANGENT_RMS, policy.tangent_rms);
            if let Some(constraint) = policy.constraint {
                readings.add(metrics::ACTOR_IVC_LOSS, constraint);
            }
        }
        let metrics = readings.read(index - 1)?;

        let mut gradients = (policy.total + critic.total).backward();
        let actor_gradients = actor.gradients(&mut gradients);
        let critic_gradients = critics.gradients(&mut gradients);
        // The graph shares the parameters; without it they can be changed in place.
        drop((actor, critics, gradients));
        let step = adam_step(self.config.rate(index), index);
        self.actor_moments.step(&step, &mut self.actor, actor_gradients);
        self.critics.step(&step, critic_gradients, self.config.tau);
        Ok(metrics)
    }
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

/// Which end of an interval the network is evaluated at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IntervalOrder {
    /// `t ≤ r`: the interval starts at t, on the side of the noise.
    Forward,
    /// `t ≥ r`, as some summaries of the paper print it. The sampler then asks for an interval that was never trained;
    /// it is here to be compared with.
    Reversed,
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

settings! {
    /// The settings of a Mean Velocity Policy. Sizes default to the published ones.
    ///
    /// Marks: **P** stated by the paper, **C** read in public code of the paper's family, **?** not published.
    MvpConfig {
        /// Weight of the instantaneous velocity constraint, λ; 0 leaves it out. (P)
        ivc_weight: f64 = 1.0, // best of 0, 0.5, 1 in the paper's ablation
        /// How pairs (t, r) are drawn. (?)
        times: TimeDistribution = TimeDistribution::Uniform, // two draws, sorted
        /// Which end of an interval is t. (P)
        order: IntervalOrder = IntervalOrder::Forward, // from noise to action
        /// Share of pairs with t = r; the constraint covers the diagonal without any. (?)
        diagonal_share: f64 = 0.0,
        /// Intervals that grow during training, if set. (?)
        #[serde(skip_serializing_if = "Option::is_none")]
        curriculum: Option<Curriculum> = None, // whole intervals from the first update
        /// Weights of single squared errors. (P)
        weighting: ElementWeighting = ElementWeighting::Plain,
        /// What the actor regresses onto. (?)
        regression: Regression = Regression::Replay, // the executed chunk
        /// Standard deviation of the noise that candidates start from. (P)
        base_noise: f64 = 1.0, // the distribution the actor was trained with
    }
}

impl MvpConfig {
    /// The settings without the instantaneous velocity constraint.
    #[must_use]
    pub fn without_constraint() -> Self {
        Self { ivc_weight: 0.0, ..Self::default() }
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// [`PolicyError::InvalidConfig`] names the first setting that makes no sense.
    pub fn validate(&self) -> Result<(), PolicyError> {
        self.validate_common()?;
        check_number("ivc_weight", self.ivc_weight, not_negative)?;
        check_number("diagonal_share", self.diagonal_share, unit)?;
        check_number("base_noise", self.base_noise, not_negative)?;
        if let TimeDistribution::LogitNormal { mean, std } = self.times {
            check_number("times.logit_normal.mean", mean, any)?;
            check_number("times.logit_normal.std", std, positive)?;
        }
        if let ElementWeighting::Adaptive { power, c } = self.weighting {
            check_number("weighting.adaptive.power", power, not_negative)?;
            check_number("weighting.adaptive.c", c, positive)?;
        }
        if self.regression == Regression::BestOfN {
            check_rows("candidates", self.candidates, self.batch_size, self.horizon)?;
        }
        self.curriculum.as_ref().map_or(Ok(()), Curriculum::validate)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
mod tests {
    use burn::tensor::TensorData;
    use burn_flex::{Flex, FlexDevice};

    use super::*;
    use crate::checkpoint::to_vec;
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
        let shape = NetworkShape {
            members: 1,
            input: 1 + 2 + 2,
            hidden: vec![64, 64],
            output: 2,
            activation: Activation::Gelu,
            norm: false,
        };
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
            moments.step(&adam_step(rate, update + 1), &mut actor, gradients);
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
    fn constraint_weight_scales_its_gradient_alone() {
        let mut stream = Stream::new(2);
        let shape = NetworkShape {
            members: 1,
            input: 3 + 4 + 2,
            hidden: vec![16],
            output: 4,
            activation: Activation::Gelu,
            norm: false,
        };
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
