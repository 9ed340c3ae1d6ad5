//! Ensembles of multilayer perceptrons, evaluated as one stack.
//!
//! All `K` members of an ensemble have the same shape, so their weights are kept as tensors `[K, in, out]` and every
//! layer is one batched product. An actor is an ensemble of one. Three evaluations exist:
//!
//! - [`Network::infer`]: without gradients, for candidates; the part of the input that candidates share is given once;
//! - [`Tracked::forward`]: the training pass. Each layer is one node of the autodiff graph with its own backward rule,
//!   and leaves a trace of its activations;
//! - [`Network::tangent`]: the forward-mode derivative. A dual number is a value with a tangent; the values are those
//!   in the trace of the training pass, so only the tangents are computed here, with one product per layer, on the
//!   backend without gradients.
//!
//! Parameters are plain tensors with fixed names (`layers.0.weight`), never random identifiers, so that a checkpoint
//! is the same in every process.

use burn::backend::Autodiff;
use burn::backend::autodiff::{
    NodeId,
    checkpoint::{base::Checkpointer, strategy::NoCheckpointing},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData, TensorPrimitive};

use crate::NoiseSource;
use crate::backend::{DenseTrace, PolicyBackend};

/// What follows the affine map of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Nothing: an output layer.
    None,
    /// The Gaussian error linear unit in its tanh form, as in the reference implementations.
    Gelu,
}

/// Layer normalisation over the features of a layer's output.
#[derive(Debug, Clone)]
pub struct Norm<B: Backend> {
    /// `[K, 1, out]`.
    pub scale: Tensor<B, 3>,
    /// `[K, 1, out]`.
    pub shift: Tensor<B, 3>,
}

/// One layer: `norm(activation(x · weight + bias))`.
#[derive(Debug, Clone)]
pub struct Dense<B: Backend> {
    /// `[K, in, out]`.
    pub weight: Tensor<B, 3>,
    /// `[K, 1, out]`.
    pub bias: Tensor<B, 3>,
    /// What follows the affine map.
    pub activation: Activation,
    /// The normalisation behind the activation, if any.
    pub norm: Option<Norm<B>>,
}

/// The shape of an ensemble.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkShape {
    /// Members of the ensemble, `K`.
    pub members: usize,
    /// Input features.
    pub input: usize,
    /// Features of each hidden layer.
    pub hidden: Vec<usize>,
    /// Output features.
    pub output: usize,
    /// Whether hidden layers end with a layer normalisation.
    pub norm: bool,
}

/// An ensemble of `K` multilayer perceptrons.
#[derive(Debug, Clone)]
pub struct Network<B: Backend> {
    /// The layers, from input to output.
    pub layers: Vec<Dense<B>>,
}

impl NetworkShape {
    /// Draws an ensemble: weights by variance scaling (scale 1, mean of fan-in and fan-out, uniform), biases zero.
    ///
    /// The draws are made on the host, so that all backends start from the same numbers.
    pub fn init<B: Backend>(&self, device: &B::Device, noise: &mut dyn NoiseSource) -> Network<B> {
        let constant = |width: usize, value: f32| {
            let data = vec![value; self.members * width];
            Tensor::from_data(TensorData::new(data, [self.members, 1, width]), device)
        };
        let mut layers = Vec::with_capacity(self.hidden.len() + 1);
        let mut input = self.input;
        for (index, &output) in self.hidden.iter().chain([&self.output]).enumerate() {
            let is_hidden = index < self.hidden.len();
            let limit = (6.0 / (input + output) as f32).sqrt();
            let mut weight = vec![0.0; self.members * input * output];
            noise.fill_uniform(&mut weight);
            weight
                .iter_mut()
                .for_each(|draw| *draw = (2.0 * *draw - 1.0) * limit);
            let weight = TensorData::new(weight, [self.members, input, output]);
            layers.push(Dense {
                weight: Tensor::from_data(weight, device),
                bias: constant(output, 0.0),
                activation: if is_hidden {
                    Activation::Gelu
                } else {
                    Activation::None
                },
                norm: (is_hidden && self.norm).then(|| Norm {
                    scale: constant(output, 1.0),
                    shift: constant(output, 0.0),
                }),
            });
            input = output;
        }
        Network { layers }
    }
}

impl<B: Backend> Network<B> {
    /// The number of members, `K`.
    pub fn members(&self) -> usize {
        self.layers
            .first()
            .map_or(0, |layer| layer.weight.dims()[0])
    }

    /// The number of learned parameters of all members.
    pub fn parameter_count(&self) -> usize {
        self.parameters()
            .iter()
            .map(|(_, tensor)| tensor.shape().num_elements())
            .sum()
    }

    /// All parameters with their names, always in the same order.
    pub fn parameters(&self) -> Vec<(String, &Tensor<B, 3>)> {
        let mut parameters = Vec::with_capacity(4 * self.layers.len());
        for (index, layer) in self.layers.iter().enumerate() {
            parameters.push((format!("layers.{index}.weight"), &layer.weight));
            parameters.push((format!("layers.{index}.bias"), &layer.bias));
            if let Some(norm) = &layer.norm {
                parameters.push((format!("layers.{index}.norm.scale"), &norm.scale));
                parameters.push((format!("layers.{index}.norm.shift"), &norm.shift));
            }
        }
        parameters
    }

    /// All parameters to be changed in place, in the order of [`Network::parameters`].
    pub fn parameters_mut(&mut self) -> Vec<&mut Tensor<B, 3>> {
        let mut parameters = Vec::with_capacity(4 * self.layers.len());
        for layer in &mut self.layers {
            parameters.push(&mut layer.weight);
            parameters.push(&mut layer.bias);
            if let Some(norm) = &mut layer.norm {
                parameters.push(&mut norm.scale);
                parameters.push(&mut norm.shift);
            }
        }
        parameters
    }

    /// The same network on the differentiated backend, each parameter a leaf of the graph.
    pub fn track(&self) -> Tracked<B> {
        let leaf =
            |tensor: &Tensor<B, 3>| Tensor::<Ad<B>, 3>::from_inner(tensor.clone()).require_grad();
        Tracked {
            network: Network {
                layers: self
                    .layers
                    .iter()
                    .map(|layer| Dense {
                        weight: leaf(&layer.weight),
                        bias: leaf(&layer.bias),
                        activation: layer.activation,
                        norm: layer.norm.as_ref().map(|norm| Norm {
                            scale: leaf(&norm.scale),
                            shift: leaf(&norm.shift),
                        }),
                    })
                    .collect(),
            },
        }
    }
}

impl<B: PolicyBackend> Network<B> {
    /// Evaluates `n · N` rows without gradients. Row `i · N + j` has the input
    /// `(context[i], rows[i · N + j], trailing)`.
    ///
    /// # Shapes
    /// - `context`: `[n, C]`, shared by `N` rows each
    /// - `rows`: `[n · N, R]`
    /// - `trailing`: constants that end every input, `input - C - R` of them
    /// - result: `[K, n · N, out]`
    pub fn infer(
        &self,
        context: Tensor<B, 2>,
        rows: Tensor<B, 2>,
        trailing: &[f32],
    ) -> Tensor<B, 3> {
        B::infer(self, context, rows, trailing)
    }

    /// The directional derivative of the output along `tangent`, at the first rows of a traced pass.
    ///
    /// The values come from `traces`, left by [`Tracked::forward`]; only the tangent side of the dual numbers is
    /// computed. The result carries no gradient.
    ///
    /// # Shapes
    /// - `tangent`: `[K, M, in]`, of the first `M` of the traced rows
    /// - result: `[K, M, out]`
    pub fn tangent(&self, traces: &[DenseTrace<B>], tangent: Tensor<B, 3>) -> Tensor<B, 3> {
        self.layers
            .iter()
            .zip(traces)
            .fold(tangent, |tangent, (layer, trace)| {
                B::dense_tangent(layer, trace, tangent)
            })
    }
}

/// The differentiated backend over `B`.
pub type Ad<B> = Autodiff<B>;

/// A network whose parameters are leaves of an autodiff graph.
#[derive(Debug, Clone)]
pub struct Tracked<B: Backend> {
    network: Network<Ad<B>>,
}

impl<B: PolicyBackend> Tracked<B> {
    /// The training pass. Returns the output and, for each layer, what its derivatives need.
    ///
    /// # Shapes
    /// - `input`: `[1 or K, M, in]`
    /// - result: `[K, M, out]`
    pub fn forward(&self, input: Tensor<B, 3>) -> (Tensor<Ad<B>, 3>, Vec<DenseTrace<B>>) {
        let mut traces = Vec::with_capacity(self.network.layers.len());
        let mut output = Tensor::from_inner(input);
        for layer in &self.network.layers {
            let trace;
            (output, trace) = dense(layer, output);
            traces.push(trace);
        }
        (output, traces)
    }

    /// The gradients of all parameters, in the order of [`Network::parameters`]; zero for a parameter without one.
    pub fn gradients(&self, gradients: &mut Gradients) -> Vec<Tensor<B, 3>> {
        self.network
            .parameters()
            .into_iter()
            .map(|(_, leaf)| {
                leaf.grad_remove(gradients)
                    .unwrap_or_else(|| leaf.clone().inner().zeros_like())
            })
            .collect()
    }
}

/// One layer as one node of the graph.
fn dense<B: PolicyBackend>(
    layer: &Dense<Ad<B>>,
    input: Tensor<Ad<B>, 3>,
) -> (Tensor<Ad<B>, 3>, DenseTrace<B>) {
    let inner = Dense {
        weight: layer.weight.clone().inner(),
        bias: layer.bias.clone().inner(),
        activation: layer.activation,
        norm: layer.norm.as_ref().map(|norm| Norm {
            scale: norm.scale.clone().inner(),
            shift: norm.shift.clone().inner(),
        }),
    };
    let (output, trace) = B::dense_forward(&inner, input.clone().inner());
    let output = output.into_primitive().tensor();
    let input = input.into_primitive().tensor().node;
    let weight = layer.weight.clone().into_primitive().tensor().node;
    let bias = layer.bias.clone().into_primitive().tensor().node;
    let state = DenseState {
        layer: inner,
        trace: trace.clone(),
    };

    let tracked = match &layer.norm {
        None => {
            let step = DenseStep.prepare::<NoCheckpointing>([input, weight, bias]);
            match step.compute_bound().stateful() {
                OpsKind::Tracked(prep) => prep.finish(state, output),
                OpsKind::UnTracked(prep) => prep.finish(output),
            }
        }
        Some(norm) => {
            let scale = norm.scale.clone().into_primitive().tensor().node;
            let shift = norm.shift.clone().into_primitive().tensor().node;
            let step =
                DenseStep.prepare::<NoCheckpointing>([input, weight, bias, scale, shift]);
            match step.compute_bound().stateful() {
                OpsKind::Tracked(prep) => prep.finish(state, output),
                OpsKind::UnTracked(prep) => prep.finish(output),
            }
        }
    };
    (
        Tensor::from_primitive(TensorPrimitive::Float(tracked)),
        trace,
    )
}

/// The backward rule of [`dense`]; parents are input, weight, bias and, with a normalisation, scale and shift.
#[derive(Debug)]
struct DenseStep;

#[derive(Debug, Clone)]
struct DenseState<B: Backend> {
    layer: Dense<B>,
    trace: DenseTrace<B>,
}

impl<B: PolicyBackend, const N: usize> Backward<B, N> for DenseStep {
    type State = DenseState<B>;

    fn backward(
        self,
        ops: Ops<Self::State, N>,
        gradients: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let output = gradients.consume::<B>(&ops.node);
        let output = Tensor::from_primitive(TensorPrimitive::Float(output));
        let parents = ops.parents.map(|parent| parent.map(|node| node.id));
        let wants_input = matches!(parents.first(), Some(Some(_)));
        let found = B::dense_backward(&ops.state.layer, ops.state.trace, output, wants_input);
        let found = [
            found.input,
            Some(found.weight),
            Some(found.bias),
            found.scale,
            found.shift,
        ];
        for (parent, gradient) in parents.into_iter().zip(found) {
            register(gradients, parent, gradient);
        }
    }
}

fn register<B: Backend>(
    gradients: &mut Gradients,
    parent: Option<NodeId>,
    gradient: Option<Tensor<B, 3>>,
) {
    if let (Some(parent), Some(gradient)) = (parent, gradient) {
        gradients.register::<B>(parent, gradient.into_primitive().tensor());
    }
}
