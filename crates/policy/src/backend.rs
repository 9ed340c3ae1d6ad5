//! What the networks ask of a burn backend.
//!
//! Every method has a definition in terms of burn's tensor operations, so a backend joins with an empty `impl`. The CPU
//! backend overrides them with fused loops, because there the cost lies in passes over memory and in scalar
//! transcendental functions, not in arithmetic.

use burn::tensor::Tensor;
use burn::tensor::activation::sigmoid;
use burn::tensor::backend::Backend;

use onestep_kernels::{Activation, AdamStep, GELU_CUBIC, GELU_SLOPE, NORM_EPSILON};

use crate::network::{Dense, Network};

#[cfg(feature = "wgpu")]
impl PolicyBackend for burn_wgpu::Wgpu {}

/// What a layer leaves behind in the training pass.
#[derive(Debug, Clone)]
pub struct DenseTrace<B: Backend> {
    /// `[1 or K, M, in]`, the layer's input.
    pub input: Tensor<B, 3>,
    /// `[K, M, out]`, the derivative of the activation; none for the identity.
    pub slope: Option<Tensor<B, 3>>,
    /// The parts of the layer normalisation, if there is one.
    pub norm: Option<NormTrace<B>>,
}

/// What a layer normalisation leaves behind.
#[derive(Debug, Clone)]
pub struct NormTrace<B: Backend> {
    /// `[K, M, out]`, the input without its mean, in units of its standard deviation.
    pub normalised: Tensor<B, 3>,
    /// `[K, M, 1]`, one over the standard deviation.
    pub inverse_std: Tensor<B, 3>,
}

/// Which gradients of a layer somebody waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// That of the input: not of a network's first layer.
    pub input: bool,
    /// Those of the parameters: not of a network that is only passed through.
    pub parameters: bool,
}

/// The gradients of one layer; none of those that were not asked for.
#[derive(Debug, Clone)]
pub struct DenseGradients<B: Backend> {
    /// `[1 or K, M, in]`.
    pub input: Option<Tensor<B, 3>>,
    /// Those of the parameters.
    pub parameters: Option<ParameterGradients<B>>,
}

/// The gradients of one layer's parameters.
#[derive(Debug, Clone)]
pub struct ParameterGradients<B: Backend> {
    /// `[K, in, out]`.
    pub weight: Tensor<B, 3>,
    /// `[K, 1, out]`.
    pub bias: Tensor<B, 3>,
    /// `[K, 1, out]`, if the layer has a normalisation.
    pub scale: Option<Tensor<B, 3>>,
    /// `[K, 1, out]`, if the layer has a normalisation.
    pub shift: Option<Tensor<B, 3>>,
}

/// A burn backend that can run the policies of this crate.
pub trait PolicyBackend: Backend {
    /// See [`Network::infer`].
    fn infer(
        network: &Network<Self>,
        context: Tensor<Self, 2>,
        rows: Tensor<Self, 2>,
        trailing: &[f32],
    ) -> Tensor<Self, 3> {
        generic::infer(network, context, rows, trailing)
    }

    /// Evaluates one layer and keeps what its derivatives need.
    ///
    /// # Shapes
    /// `input` is `[1 or K, M, in]`, the result `[K, M, out]`.
    fn dense_forward(layer: &Dense<Self>, input: Tensor<Self, 3>) -> (Tensor<Self, 3>, DenseTrace<Self>) {
        generic::dense_forward(layer, input)
    }

    /// The gradients of one layer, from the gradient of its output.
    ///
    /// # Shapes
    /// `gradient` is `[K, M, out]`.
    fn dense_backward(
        layer: &Dense<Self>,
        trace: DenseTrace<Self>,
        gradient: Tensor<Self, 3>,
        wanted: Wanted,
    ) -> DenseGradients<Self> {
        generic::dense_backward(layer, trace, gradient, wanted)
    }

    /// Pushes a tangent through one layer, at the first `M` rows of the trace.
    ///
    /// # Shapes
    /// `tangent` is `[K, M, in]`, the result `[K, M, out]`.
    fn dense_tangent(layer: &Dense<Self>, trace: &DenseTrace<Self>, tangent: Tensor<Self, 3>) -> Tensor<Self, 3> {
        generic::dense_tangent(layer, trace, tangent)
    }

    /// One step of Adam on one parameter; `first` and `second` are its moments.
    ///
    /// # Shapes
    /// All the same, those of the parameter: `[K, in, out]` or `[K, 1, out]`.
    fn adam(
        step: &AdamStep,
        parameter: &mut Tensor<Self, 3>,
        gradient: Tensor<Self, 3>,
        first: &mut Tensor<Self, 3>,
        second: &mut Tensor<Self, 3>,
    ) {
        generic::adam(step, parameter, gradient, first, second);
    }

    /// `target ← rate · online + (1 - rate) · target`, with a `rate` within [0, 1].
    ///
    /// # Shapes
    /// Both the same, those of a parameter: `[K, in, out]` or `[K, 1, out]`.
    fn blend(target: &mut Tensor<Self, 3>, online: &Tensor<Self, 3>, rate: f64) {
        generic::blend(target, online, rate);
    }
}

/// The definitions in terms of tensor operations.
pub mod generic {
    use super::*;
    use super::{DenseGradients, DenseTrace, NormTrace, ParameterGradients, Wanted};

    /// The GELU and its derivative.
    ///
    /// # Shapes
    /// All `[K, M, out]`.
    pub fn gelu<B: Backend>(z: Tensor<B, 3>) -> (Tensor<B, 3>, Tensor<B, 3>) {
        let square = z.clone().square();
        let gate = sigmoid((square.clone().mul_scalar(GELU_SLOPE * GELU_CUBIC)).add_scalar(GELU_SLOPE) * z.clone());
        let inner = square.mul_scalar(3.0 * GELU_SLOPE * GELU_CUBIC).add_scalar(GELU_SLOPE);
        let value = z * gate.clone();
        let slope = gate.clone() + value.clone() * (gate.neg().add_scalar(1.0)) * inner;
        (value, slope)
    }

    /// The GELU alone.
    ///
    /// # Shapes
    /// All `[K, M, out]`.
    pub fn gelu_value<B: Backend>(z: Tensor<B, 3>) -> Tensor<B, 3> {
        let inner = z.clone().square().mul_scalar(GELU_SLOPE * GELU_CUBIC).add_scalar(GELU_SLOPE);
        sigmoid(inner * z.clone()) * z
    }

    /// The mish and its derivative.
    ///
    /// # Shapes
    /// All `[K, M, out]`.
    pub fn mish<B: Backend>(z: Tensor<B, 3>) -> (Tensor<B, 3>, Tensor<B, 3>) {
        // With s = sigmoid(z), tanh(ln(1 + eᶻ)) = s (2 - s) / (1 + (1 - s)²), which neither overflows nor cancels.
        let gate = sigmoid(z.clone());
        let rest = gate.clone().neg().add_scalar(1.0).square();
        let scale = rest.clone().add_scalar(1.0).recip();
        let tanh = gate.clone() * gate.clone().neg().add_scalar(2.0) * scale.clone();
        let slope = tanh.clone() + z.clone() * rest.mul_scalar(4.0) * gate * scale.square();
        (z * tanh, slope)
    }

    fn normalise<B: Backend>(x: Tensor<B, 3>) -> NormTrace<B> {
        let centred = x.clone() - x.mean_dim(2);
        let inverse_std = centred.clone().square().mean_dim(2).add_scalar(NORM_EPSILON).sqrt().recip();
        NormTrace { normalised: centred * inverse_std.clone(), inverse_std }
    }

    /// See [`Network::infer`].
    pub fn infer<B: Backend>(
        network: &Network<B>,
        context: Tensor<B, 2>,
        rows: Tensor<B, 2>,
        trailing: &[f32],
    ) -> Tensor<B, 3> {
        let [groups, context_dim] = context.dims();
        let [count, row_dim] = rows.dims();
        let mut output: Option<Tensor<B, 3>> = None;
        for layer in network.layers() {
            let [members, _, width] = layer.weight.dims();
            let affine = match output.take() {
                Some(hidden) => hidden.matmul(layer.weight.clone()) + layer.bias.clone(),
                None => {
                    // The shared part of the input passes the first layer once, not N times.
                    let mut shared =
                        context.clone().unsqueeze::<3>().matmul(layer.weight.clone().narrow(1, 0, context_dim))
                            + layer.bias.clone();
                    for (index, &constant) in trailing.iter().enumerate() {
                        if constant != 0.0 {
                            let row = layer.weight.clone().narrow(1, context_dim + row_dim + index, 1);
                            shared = shared + row.mul_scalar(constant);
                        }
                    }
                    let size = count / groups.max(1);
                    let shared: Tensor<B, 4> = shared.reshape([members, groups, 1, width]);
                    let grouped = if row_dim == 0 {
                        shared.repeat_dim(2, size)
                    } else {
                        let own =
                            rows.clone().unsqueeze::<3>().matmul(layer.weight.clone().narrow(1, context_dim, row_dim));
                        own.reshape([members, groups, size, width]) + shared
                    };
                    grouped.reshape([members, count, width])
                }
            };
            let active = match layer.activation {
                Activation::None => affine,
                Activation::Gelu => gelu_value(affine),
                Activation::Mish => mish(affine).0,
            };
            output = Some(match &layer.norm {
                None => active,
                Some(norm) => normalise(active).normalised * norm.scale.clone() + norm.shift.clone(),
            });
        }
        output.unwrap_or_else(|| rows.unsqueeze())
    }

    /// See [`PolicyBackend::dense_forward`].
    pub fn dense_forward<B: Backend>(layer: &Dense<B>, input: Tensor<B, 3>) -> (Tensor<B, 3>, DenseTrace<B>) {
        let affine = input.clone().matmul(layer.weight.clone()) + layer.bias.clone();
        let (active, slope) = match layer.activation {
            Activation::None => (affine, None),
            Activation::Gelu => {
                let (value, slope) = gelu(affine);
                (value, Some(slope))
            }
            Activation::Mish => {
                let (value, slope) = mish(affine);
                (value, Some(slope))
            }
        };
        match &layer.norm {
            None => (active, DenseTrace { input, slope, norm: None }),
            Some(norm) => {
                let trace = normalise(active);
                let output = trace.normalised.clone() * norm.scale.clone() + norm.shift.clone();
                (output, DenseTrace { input, slope, norm: Some(trace) })
            }
        }
    }

    /// See [`PolicyBackend::dense_backward`].
    pub fn dense_backward<B: Backend>(
        layer: &Dense<B>,
        trace: DenseTrace<B>,
        gradient: Tensor<B, 3>,
        wanted: Wanted,
    ) -> DenseGradients<B> {
        let (gradient, scale, shift) = match (&layer.norm, trace.norm) {
            (Some(norm), Some(kept)) => {
                let shift = wanted.parameters.then(|| gradient.clone().sum_dim(1));
                let scale = wanted.parameters.then(|| (gradient.clone() * kept.normalised.clone()).sum_dim(1));
                let inner = gradient * norm.scale.clone();
                let along = (inner.clone() * kept.normalised.clone()).mean_dim(2);
                let gradient = (inner.clone() - inner.mean_dim(2) - kept.normalised * along) * kept.inverse_std;
                (gradient, scale, shift)
            }
            _ => (gradient, None, None),
        };
        let gradient = match trace.slope {
            Some(slope) => gradient * slope,
            None => gradient,
        };
        let shared_input = trace.input.dims()[0] == 1;
        DenseGradients {
            input: wanted.input.then(|| {
                let own = gradient.clone().matmul(layer.weight.clone().swap_dims(1, 2));
                if shared_input { own.sum_dim(0) } else { own }
            }),
            parameters: wanted.parameters.then(|| ParameterGradients {
                weight: trace.input.swap_dims(1, 2).matmul(gradient.clone()),
                bias: gradient.sum_dim(1),
                scale,
                shift,
            }),
        }
    }

    /// See [`PolicyBackend::dense_tangent`].
    pub fn dense_tangent<B: Backend>(layer: &Dense<B>, trace: &DenseTrace<B>, tangent: Tensor<B, 3>) -> Tensor<B, 3> {
        let rows = tangent.dims()[1];
        let first = |tensor: &Tensor<B, 3>| tensor.clone().narrow(1, 0, rows);
        let mut tangent = tangent.matmul(layer.weight.clone());
        if let Some(slope) = &trace.slope {
            tangent = tangent * first(slope);
        }
        if let (Some(norm), Some(kept)) = (&layer.norm, &trace.norm) {
            let normalised = first(&kept.normalised);
            let along = (tangent.clone() * normalised.clone()).mean_dim(2);
            let inner = (tangent.clone() - tangent.mean_dim(2) - normalised * along) * first(&kept.inverse_std);
            tangent = inner * norm.scale.clone();
        }
        tangent
    }

    /// See [`PolicyBackend::adam`].
    pub fn adam<B: Backend>(
        step: &AdamStep,
        parameter: &mut Tensor<B, 3>,
        gradient: Tensor<B, 3>,
        first: &mut Tensor<B, 3>,
        second: &mut Tensor<B, 3>,
    ) {
        first.inplace(|moment| moment.mul_scalar(step.beta_1) + gradient.clone().mul_scalar(1.0 - step.beta_1));
        second.inplace(|moment| moment.mul_scalar(step.beta_2) + gradient.square().mul_scalar(1.0 - step.beta_2));
        let denominator = second.clone().sqrt().add_scalar(step.epsilon);
        let change = first.clone().mul_scalar(step.rate) / denominator;
        parameter.inplace(|value| value - change);
    }

    /// See [`PolicyBackend::blend`].
    pub fn blend<B: Backend>(target: &mut Tensor<B, 3>, online: &Tensor<B, 3>, rate: f64) {
        target.inplace(|value| value.mul_scalar(1.0 - rate) + online.clone().mul_scalar(rate));
    }
}
