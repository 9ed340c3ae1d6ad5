//! The time convention of all flows: noise at time 0, action at time 1.
//!
//! The path from a noise `ε` to an action `a` is straight, `x_t = (1 - t) ε + t a`, and its conditional velocity
//! `v = a - ε` does not depend on t. The mean velocity over an interval is
//! `u(x_t, t, r, s) = 1/(r - t) ∫_t^r v dτ` with `t ≤ r`. Differentiating `(r - t) u` in t gives the identity that a
//! network learns, `u = v + (r - t) du/dt`, where `du/dt = (∂u/∂x) v + ∂u/∂t`.
//!
//! The order of the pair matters. With noise at 0 the interval starts at t and ends at r, so `t ≤ r`; a network that is
//! trained with the pairs the other way round has never seen the interval (0, 1) that the sampler asks for.
//!
//! Source: Geng and others, Mean Flows, arXiv 2505.13447, equations 3 to 10 (time reversed there), and Mean Velocity
//! Policy, arXiv 2602.13810.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};

use crate::{NoiseSource, PolicyError};

/// The point at time `t` on the path from noise to action.
///
/// # Shapes
/// `noise` and `action` are `[B, D]`, `time` is `[B, 1]`, the result is `[B, D]`.
pub fn interpolate<B: Backend>(noise: Tensor<B, 2>, action: Tensor<B, 2>, time: Tensor<B, 2>) -> Tensor<B, 2> {
    noise.clone() + conditional_velocity(noise, action) * time
}

/// The velocity along the path, `a - ε`.
///
/// # Shapes
/// All `[B, D]`.
pub fn conditional_velocity<B: Backend>(noise: Tensor<B, 2>, action: Tensor<B, 2>) -> Tensor<B, 2> {
    action - noise
}

/// The right side of the mean-velocity identity, `v + (r - t) du/dt`.
///
/// # Shapes
/// `velocity` and `derivative` are `[B, D]`, `start` (t) and `end` (r) are `[B, 1]`, the result is `[B, D]`.
pub fn mean_velocity_target<B: Backend>(
    velocity: Tensor<B, 2>,
    derivative: Tensor<B, 2>,
    start: Tensor<B, 2>,
    end: Tensor<B, 2>,
) -> Tensor<B, 2> {
    velocity + derivative * (end - start)
}

/// The action that one step reaches: noise plus the mean velocity from 0 to 1, clipped to [-1, 1].
///
/// # Shapes
/// All `[M, D]`.
pub fn one_step<B: Backend>(noise: Tensor<B, 2>, mean_velocity: Tensor<B, 2>) -> Tensor<B, 2> {
    (noise + mean_velocity).clamp(-1.0, 1.0)
}

/// Follows a velocity field from time 0 to time 1 in `steps` equal steps of Euler's method.
///
/// `velocity` gets the point and the time at which a step starts.
///
/// # Shapes
/// All `[M, D]`.
pub fn euler<B: Backend>(
    noise: Tensor<B, 2>,
    steps: usize,
    velocity: impl Fn(Tensor<B, 2>, f32) -> Tensor<B, 2>,
) -> Tensor<B, 2> {
    let length = 1.0 / steps.max(1) as f32;
    (0..steps.max(1)).fold(noise, |point, step| {
        let change = velocity(point.clone(), step as f32 * length);
        point + change.mul_scalar(length)
    })
}

/// Pairs of times, `start[i] ≤ end[i]`.
#[derive(Debug, Clone, PartialEq)]
pub struct TimePairs {
    /// The times t at which the network is evaluated.
    pub start: Vec<f32>,
    /// The times r at which the intervals end.
    pub end: Vec<f32>,
}

impl TimePairs {
    /// Draws `count` pairs for update number `update`, counted from 0.
    ///
    /// From `noise` come first `2 · count` numbers for the times, uniform or normal as `times` says; then, only if
    /// `diagonal_share` is above 0, `count` uniform ones that say which pairs are diagonal. So a share of 0 leaves the
    /// stream where it would be without that setting.
    pub fn draw(
        times: &TimeDistribution,
        diagonal_share: f64,
        curriculum: Option<&Curriculum>,
        update: u64,
        count: usize,
        noise: &mut dyn NoiseSource,
    ) -> Self {
        let mut draws = vec![0.0; 2 * count];
        match *times {
            TimeDistribution::Uniform => noise.fill_uniform(&mut draws),
            TimeDistribution::LogitNormal { mean, std } => {
                noise.fill_normal(&mut draws);
                for draw in &mut draws {
                    *draw = 1.0 / (1.0 + (-(mean as f32 + std as f32 * *draw)).exp());
                }
            }
        }
        let mut diagonal = vec![1.0; count];
        if diagonal_share > 0.0 {
            noise.fill_uniform(&mut diagonal);
        }
        let length = curriculum.map_or(1.0, |curriculum| curriculum.interval_share(update)) as f32;

        let (left, right) = draws.split_at(count);
        let mut pairs = Self { start: Vec::with_capacity(count), end: Vec::with_capacity(count) };
        for ((&left, &right), &diagonal) in left.iter().zip(right).zip(&diagonal) {
            let start = left.min(right);
            let end =
                if f64::from(diagonal) < diagonal_share { start } else { start + length * (left.max(right) - start) };
            pairs.start.push(start);
            pairs.end.push(end);
        }
        pairs
    }
}

/// How the two times of a pair are drawn before they are sorted. The paper does not publish it.
///
/// In a file: `times = "uniform"` or `times = { logit_normal = { mean = 0.4, std = 1.0 } }`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum TimeDistribution {
    /// Two uniform draws on [0, 1).
    Uniform,
    /// Two draws of `sigmoid(mean + std · n)`, n standard normal. The usual mean of -0.4 belongs to noise at 1; here
    /// noise is at 0, so its mirror image is 0.4.
    LogitNormal {
        /// Mean of the normal before the sigmoid.
        mean: f64,
        /// Standard deviation of the normal before the sigmoid.
        std: f64,
    },
}

/// Intervals that grow during training: none at first, whole at the end.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Curriculum {
    /// Updates with t = r alone.
    pub diagonal_updates: u64,
    /// The update from which on intervals have their full length; in between they grow linearly.
    pub full_updates: u64,
}

impl Default for Curriculum {
    fn default() -> Self {
        Self { diagonal_updates: 5_000, full_updates: 50_000 }
    }
}

impl Curriculum {
    /// The share of the drawn interval that is used at `update`, within [0, 1].
    pub fn interval_share(&self, update: u64) -> f64 {
        if update < self.diagonal_updates {
            return 0.0;
        }
        let span = self.full_updates.saturating_sub(self.diagonal_updates);
        let done = update - self.diagonal_updates;
        if done >= span { 1.0 } else { done as f64 / span as f64 }
    }

    pub(crate) fn validate(&self) -> Result<(), PolicyError> {
        if self.full_updates < self.diagonal_updates {
            return Err(PolicyError::config(
                "curriculum.full_updates",
                self.full_updates,
                "it must not be below `curriculum.diagonal_updates`",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use burn_flex::{Flex, FlexDevice};

    use super::*;
    use crate::testing::Stream;

    #[test]
    fn euler_follows_the_field_it_is_given() {
        // dx/dt = x + t from x(0) = 1: x(1) = 2e - 2, and Euler's error falls with the length of a step.
        let at = |steps| {
            let start = Tensor::<Flex, 2>::from_data([[1.0_f32]], &FlexDevice);
            f64::from(euler(start, steps, |point, time| point.add_scalar(time)).into_scalar())
        };
        let exact = 2.0 * std::f64::consts::E - 2.0;
        assert!((at(1) - 2.0).abs() < 1e-6);
        assert!((at(1_000) - exact).abs() < 4e-3);
        assert!((at(20) - exact).abs() < 0.6 * (at(10) - exact).abs());
    }

    #[test]
    fn pairs_are_ordered_and_lie_within_the_path() {
        let distributions = [TimeDistribution::Uniform, TimeDistribution::LogitNormal { mean: 0.4, std: 1.0 }];
        for times in distributions {
            let pairs = TimePairs::draw(&times, 0.0, None, 0, 1_000, &mut Stream::new(1));
            assert!(pairs.start.iter().zip(&pairs.end).all(|(start, end)| 0.0 <= *start && start < end && *end <= 1.0));
        }
    }

    #[test]
    fn logit_normal_times_have_their_median_and_their_spread() {
        let draw = |mean: f64, std: f64| {
            let times = TimeDistribution::LogitNormal { mean, std };
            let pairs = TimePairs::draw(&times, 0.0, None, 0, 2_000, &mut Stream::new(4));
            pairs.start.into_iter().chain(pairs.end).map(f64::from).collect::<Vec<_>>()
        };
        // A draw lies above 1/2 where n > -0.4: with probability Φ(0.4) = 0.655.
        let times = draw(0.4, 1.0);
        let share = times.iter().filter(|time| **time > 0.5).count() as f64 / 4_000.0;
        assert!((share - 0.655).abs() < 0.02, "{share}");
        // Back through the sigmoid they are normal again.
        let normals: Vec<f64> = draw(-0.3, 0.1).iter().map(|time| (time / (1.0 - time)).ln()).collect();
        let mean = normals.iter().sum::<f64>() / 4_000.0;
        let std = (normals.iter().map(|normal| (normal - mean).powi(2)).sum::<f64>() / 4_000.0).sqrt();
        assert!((mean + 0.3).abs() < 0.01 && (std - 0.1).abs() < 0.005, "mean {mean}, deviation {std}");
    }

    #[test]
    fn diagonal_share_is_the_share_of_empty_intervals() {
        let times = TimeDistribution::Uniform;
        let pairs = TimePairs::draw(&times, 0.25, None, 0, 4_000, &mut Stream::new(2));
        let equal = pairs.start.iter().zip(&pairs.end);
        let equal = equal.filter(|(start, end)| start == end).count();
        assert!((900..1_100).contains(&equal), "{equal} of 4000");
    }

    #[test]
    fn curriculum_grows_from_the_diagonal_to_whole_intervals() {
        let curriculum = Curriculum { diagonal_updates: 10, full_updates: 30 };
        let lengths = [0, 9, 10, 20, 30, 99].map(|update| {
            let times = TimeDistribution::Uniform;
            let draw = |curriculum, update| {
                let stream = &mut Stream::new(3);
                TimePairs::draw(&times, 0.0, curriculum, update, 1, stream)
            };
            let whole = draw(None, update);
            let part = draw(Some(&curriculum), update);
            assert_eq!(part.start, whole.start);
            let length = |pairs: &TimePairs| pairs.end[0] - pairs.start[0];
            length(&part) / length(&whole)
        });
        for (found, expected) in lengths.iter().zip([0.0, 0.0, 0.0, 0.5, 1.0, 1.0]) {
            assert!((found - expected).abs() < 1e-5, "{lengths:?}");
        }
    }
}
