//! Rectified flow: a velocity field `v(x_t, t, s)`, learned from straight paths, integrated by Euler's method.
//!
//! Source: Liu and others, "Flow Straight and Fast", arXiv 2209.03003, equation 1 and section 2.1; time as in
//! [`flow`](crate::flow).

use burn::tensor::Tensor;

use crate::NoiseSource;
use crate::backend::PolicyBackend;
use crate::flow;
use crate::host::Host;
use crate::network::{Activation, Ad, Network, NetworkShape, Tracked};
use crate::optimizer::Moments;

/// A velocity field with its optimiser; the input is (s, x, t).
#[derive(Debug)]
pub(crate) struct VelocityField<B: PolicyBackend> {
    pub(crate) network: Network<B>,
    pub(crate) moments: Moments<B>,
}

/// One batch for [`VelocityField::loss`].
pub(crate) struct FlowBatch<B: PolicyBackend> {
    /// `[B, S]`.
    pub(crate) observations: Tensor<B, 2>,
    /// `[B, h·A]`.
    pub(crate) actions: Tensor<B, 2>,
    /// `[B, h·A]`, standard normal.
    pub(crate) noise: Tensor<B, 2>,
    /// `[B, 1]`, times on [0, 1).
    pub(crate) time: Tensor<B, 2>,
    /// `[B, h·A]`, weights of the squared errors.
    pub(crate) weight: Tensor<B, 2>,
}

impl<B: PolicyBackend> VelocityField<B> {
    pub(crate) fn new(hidden: &[usize], host: &Host<B>, noise: &mut dyn NoiseSource) -> Self {
        let chunk = host.spec.chunk_dim();
        let network = NetworkShape {
            members: 1,
            input: host.spec.observation_dim + chunk + 1,
            hidden: hidden.to_vec(),
            output: chunk,
            activation: Activation::Gelu,
            norm: false,
        }
        .init::<B>(&host.device, noise);
        Self { moments: Moments::zeros(&network), network }
    }

    /// Follows the field from noise at time 0 to an action at time 1 in `steps` steps of Euler's method; the action is
    /// clipped to [-1, 1].
    ///
    /// # Shapes
    /// `observations` is `[n, S]`, `noise` and the result are `[n · N, h·A]`.
    pub(crate) fn integrate(&self, observations: &Tensor<B, 2>, noise: Tensor<B, 2>, steps: usize) -> Tensor<B, 2> {
        flow::euler(noise, steps, |point, time| self.network.infer(observations.clone(), point, &[time]).squeeze_dim(0))
            .clamp(-1.0, 1.0)
    }

    /// `Σ weight · |v(x_t, t, s) - (a - ε)|²`.
    pub(crate) fn loss(tracked: &Tracked<B>, batch: FlowBatch<B>) -> Tensor<Ad<B>, 1> {
        let velocity = flow::conditional_velocity(batch.noise.clone(), batch.actions.clone());
        let point = flow::interpolate(batch.noise, batch.actions, batch.time.clone());
        let input = Tensor::cat(vec![batch.observations, point, batch.time], 1);
        let (output, _) = tracked.forward(Tensor::from_inner(input.unsqueeze()));
        let error = output.squeeze_dim::<2>(0) - Tensor::from_inner(velocity);
        (error.square() * Tensor::from_inner(batch.weight)).sum()
    }
}
