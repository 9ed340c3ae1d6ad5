//! A network that is told times: multilayer perceptrons behind sinusoidal features.
//!
//! A time `t` becomes sixteen features, `sin(ω t)` and `cos(ω t)` at eight frequencies, and a small network (32 hidden
//! units) makes sixteen numbers of them. These, for each time, stand between the observation and the point in the input
//! of the trunk: `(s, e(t), e(r), x)`. So all candidates of an observation share everything but x.
//!
//! Source of the sizes: the public code of arXiv 2507.23675. The frequencies are ours: with times in [0, 1] the fastest
//! one turns 2.5 times, enough to tell times apart and slow enough that the derivative in t stays tame.

use burn::tensor::{Tensor, TensorData};

use crate::NoiseSource;
use crate::backend::{DenseTrace, PolicyBackend};
use crate::host::Host;
use crate::network::{Activation, Ad, Network, NetworkShape, Tracked};
use crate::optimizer::{AdamStep, Moments, blend};

/// Angular frequencies of the features, in radians per unit of time.
const FREQUENCIES: [f32; 8] = [1.0, 1.5, 2.2, 3.3, 4.9, 7.3, 10.8, 16.0];
/// Features of a time before its network.
const FEATURES: usize = 2 * FREQUENCIES.len();
/// Hidden units of the network of times.
const HIDDEN: usize = 32;
/// Numbers that stand for a time in the input of the trunk.
const EMBEDDING: usize = 16;

/// A network `f(s, x, t, …)`.
#[derive(Debug, Clone)]
pub(crate) struct Timed<B: PolicyBackend> {
    pub(crate) embedding: Network<B>,
    pub(crate) trunk: Network<B>,
}

/// The optimiser's moments of both parts.
#[derive(Debug)]
pub(crate) struct TimedMoments<B: PolicyBackend> {
    pub(crate) embedding: Moments<B>,
    pub(crate) trunk: Moments<B>,
}

/// Both parts as leaves of a graph.
pub(crate) struct TimedTracked<B: PolicyBackend> {
    embedding: Tracked<B>,
    trunk: Tracked<B>,
}

/// What the forward-mode derivative needs of a training pass.
pub(crate) struct TimedTraces<B: PolicyBackend> {
    embedding: Vec<DenseTrace<B>>,
    trunk: Vec<DenseTrace<B>>,
}

impl<B: PolicyBackend> Timed<B> {
    /// A network of `times` times, from an observation and a point to a velocity.
    pub(crate) fn new(times: usize, hidden: &[usize], host: &Host<B>, noise: &mut dyn NoiseSource) -> Self {
        let chunk = host.spec.chunk_dim();
        let mut make = |input, hidden: &[usize], output| {
            let hidden = hidden.to_vec();
            NetworkShape { members: 1, input, hidden, output, activation: Activation::Mish, norm: false }
                .init::<B>(&host.device, noise)
        };
        Self {
            embedding: make(FEATURES, &[HIDDEN], EMBEDDING),
            trunk: make(host.spec.observation_dim + times * EMBEDDING + chunk, hidden, chunk),
        }
    }

    pub(crate) fn moments(&self) -> TimedMoments<B> {
        TimedMoments { embedding: Moments::zeros(&self.embedding), trunk: Moments::zeros(&self.trunk) }
    }

    pub(crate) fn track(&self) -> TimedTracked<B> {
        TimedTracked { embedding: self.embedding.track(), trunk: self.trunk.track() }
    }

    /// The output at the same times for all rows, without gradients.
    ///
    /// # Shapes
    /// `observations` is `[n, S]`, `points` and the result are `[n · N, h·A]`.
    pub(crate) fn infer(&self, observations: &Tensor<B, 2>, points: Tensor<B, 2>, times: &[f32]) -> Tensor<B, 2> {
        let rows = observations.dims()[0];
        let device = observations.device();
        let sine: Vec<f32> = angles(times).map(f32::sin).collect();
        let cosine: Vec<f32> = angles(times).map(f32::cos).collect();
        let upload =
            |values| Tensor::<B, 2>::from_data(TensorData::new(values, [times.len(), FREQUENCIES.len()]), &device);
        let embedded = self.embedding.infer(upload(sine), upload(cosine), &[]);
        let embedded = embedded.reshape([1, times.len() * EMBEDDING]).repeat_dim(0, rows);
        let context = Tensor::cat(vec![observations.clone(), embedded], 1);
        self.trunk.infer(context, points, &[]).squeeze_dim(0)
    }

    /// The derivative of the output along `(s: 0, x: velocity, first time: 1, other times: 0)`, from the traces of a
    /// training pass.
    ///
    /// # Shapes
    /// `observations` is `[M, S]`, `velocity` and the result are `[M, h·A]`, `time` is `[M, 1]`, the first of `times`
    /// times.
    pub(crate) fn derivative(
        &self,
        traces: &TimedTraces<B>,
        observations: &Tensor<B, 2>,
        velocity: Tensor<B, 2>,
        time: Tensor<B, 2>,
        times: usize,
    ) -> Tensor<B, 2> {
        let rows = time.dims()[0];
        let (time_device, precision) = (time.device(), time.dtype());
        let rates = frequencies(&time);
        let angle = time * rates.clone();
        let features = Tensor::cat(vec![angle.clone().cos() * rates.clone(), angle.sin() * rates.neg()], 1);
        let first = self.embedding.tangent(&traces.embedding, features.unsqueeze());
        let others = Tensor::zeros([rows, times.saturating_sub(1) * EMBEDDING], (&time_device, precision));
        let mut parts = vec![observations.zeros_like(), first.squeeze_dim(0)];
        if times > 1 {
            parts.push(others);
        }
        parts.push(velocity);
        self.trunk.tangent(&traces.trunk, Tensor::cat(parts, 1).unsqueeze()).squeeze_dim(0)
    }

    /// One step of Adam on both parts.
    pub(crate) fn step(&mut self, step: &AdamStep, moments: &mut TimedMoments<B>, gradients: TimedGradients<B>) {
        moments.embedding.step(step, &mut self.embedding, gradients.embedding);
        moments.trunk.step(step, &mut self.trunk, gradients.trunk);
    }

    /// Moves both parts towards `online` by the share `rate`.
    pub(crate) fn follow(&mut self, online: &Self, rate: f64) {
        blend(&mut self.embedding, &online.embedding, rate);
        blend(&mut self.trunk, &online.trunk, rate);
    }
}

/// The gradients of both parts.
pub(crate) struct TimedGradients<B: PolicyBackend> {
    embedding: Vec<Tensor<B, 3>>,
    trunk: Vec<Tensor<B, 3>>,
}

impl<B: PolicyBackend> TimedTracked<B> {
    /// The training pass.
    ///
    /// # Shapes
    /// `observations` is `[M, S]`, `points` and the result are `[M, h·A]`, each of `times` is `[M, 1]`.
    pub(crate) fn forward(
        &self,
        observations: Tensor<B, 2>,
        points: Tensor<B, 2>,
        times: Vec<Tensor<B, 2>>,
    ) -> (Tensor<Ad<B>, 2>, TimedTraces<B>) {
        let rows = points.dims()[0];
        let count = times.len();
        // The first time's rows come first, so that their traces are the ones a derivative finds.
        let times = Tensor::cat(times, 0);
        let angle = times.clone() * frequencies(&times);
        let features = Tensor::cat(vec![angle.clone().sin(), angle.cos()], 1);
        let (embedded, embedding) = self.embedding.forward(Tensor::from_inner(features.unsqueeze()));
        let mut parts = vec![Tensor::from_inner(observations.unsqueeze())];
        parts.extend((0..count).map(|time| embedded.clone().narrow(1, time * rows, rows)));
        parts.push(Tensor::from_inner(points.unsqueeze()));
        let (output, trunk) = self.trunk.forward(Tensor::cat(parts, 2));
        (output.squeeze_dim(0), TimedTraces { embedding, trunk })
    }

    pub(crate) fn gradients(&self, gradients: &mut burn::backend::autodiff::grads::Gradients) -> TimedGradients<B> {
        TimedGradients { embedding: self.embedding.gradients(gradients), trunk: self.trunk.gradients(gradients) }
    }
}

/// The angles of all features of all times, row by row.
fn angles(times: &[f32]) -> impl Iterator<Item = f32> {
    times.iter().flat_map(|time| FREQUENCIES.iter().map(move |frequency| frequency * time))
}

/// The frequencies as a row, `[1, 8]`, on the device and in the precision of `times`.
fn frequencies<B: PolicyBackend>(times: &Tensor<B, 2>) -> Tensor<B, 2> {
    let data = TensorData::new(FREQUENCIES.to_vec(), [1, FREQUENCIES.len()]);
    Tensor::from_data(data, (&times.device(), times.dtype()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
mod tests {
    use burn_flex::{Flex, FlexDevice};

    use super::*;
    use crate::PolicySpec;
    use crate::checkpoint::to_vec;
    use crate::testing::{Stream, network_to_f64, to_f64};

    const ROWS: usize = 5;

    #[test]
    fn both_passes_agree_and_the_derivative_is_the_limit_of_a_difference() {
        let mut stream = Stream::new(3);
        let spec = PolicySpec { observation_dim: 3, action_dim: 2, horizon: 2 };
        let host = Host::<Flex> { spec, device: FlexDevice, scaling: None };
        let network = Timed::new(2, &[24, 24], &host, &mut stream);
        let observations = host.upload(stream.normal(ROWS * 3), 3);
        let points = host.upload(stream.normal(ROWS * 4), 4);
        let velocity = host.upload(stream.normal(ROWS * 4), 4);
        let constant = |value: f32| host.upload(vec![value; ROWS], 1);

        let times = vec![constant(0.3), constant(0.8)];
        let (output, _) = network.track().forward(observations.clone(), points.clone(), times);
        let inferred = network.infer(&observations, points.clone(), &[0.3, 0.8]);
        let found = to_vec(output.inner().into_data()).unwrap();
        for (found, expected) in found.iter().zip(to_vec(inferred.into_data()).unwrap()) {
            assert!((found - expected).abs() < 1e-5, "{found} and {expected}");
        }

        // In double precision the limit is met as closely as by the plain network.
        let network = Timed { embedding: network_to_f64(&network.embedding), trunk: network_to_f64(&network.trunk) };
        let [observations, points, velocity] = [observations, points, velocity].map(|tensor| to_f64(&tensor));
        let at = |distance: f64| {
            let times = [0.3, 0.8].map(|time| to_f64(&constant(time)));
            let [start, end] = times;
            let points = points.clone() + velocity.clone().mul_scalar(distance);
            network.track().forward(observations.clone(), points, vec![start.add_scalar(distance), end])
        };
        let (_, traces) = at(0.0);
        let start = to_f64(&constant(0.3));
        let derivative = network.derivative(&traces, &observations, velocity.clone(), start, 2);
        let step = 1e-5;
        let difference = (at(step).0.inner() - at(-step).0.inner()).div_scalar(2.0 * step);
        let greatest = |tensor: Tensor<Flex, 2>| tensor.abs().max().into_data().iter::<f64>().next().unwrap();
        let (scale, error) = (greatest(derivative.clone()), greatest(derivative - difference));
        assert!(scale > 0.1 && error < 1e-8 * scale, "error {error} at a scale of {scale}");
    }
}
