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

use std::any::Any;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::backend::Autodiff;
use burn::backend::autodiff::{
    NodeId,
    checkpoint::{base::Checkpointer, strategy::NoCheckpointing},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData, TensorPrimitive};

pub use onestep_kernels::Activation;

use crate::NoiseSource;
use crate::backend::{DenseTrace, PolicyBackend, Wanted};

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
    /// What follows the affine map of a hidden layer.
    pub activation: Activation,
    /// Whether hidden layers end with a layer normalisation.
    pub norm: bool,
}

/// An ensemble of `K` multilayer perceptrons.
#[derive(Debug, Clone)]
pub struct Network<B: Backend> {
    layers: Vec<Dense<B>>,
    derived: Derived,
}

/// What a backend derives from a network's parameters and keeps until they change, such as another layout of them.
#[derive(Debug, Default)]
pub(crate) struct Derived {
    asked: AtomicBool,
    value: OnceLock<Box<dyn Any + Send + Sync>>,
}

impl Derived {
    /// Whether this was called before since the parameters changed: a sign that deriving something is worth it.
    pub(crate) fn asked_before(&self) -> bool {
        self.asked.swap(true, Ordering::Relaxed)
    }

    /// What was derived, if it was.
    pub(crate) fn get<T: 'static>(&self) -> Option<&T> {
        self.value.get()?.downcast_ref()
    }

    /// What was derived, or what `derive` makes of the parameters now.
    pub(crate) fn get_or_derive<T: Send + Sync + 'static>(&self, derive: impl FnOnce() -> T) -> Option<&T> {
        self.value.get_or_init(|| Box::new(derive())).downcast_ref()
    }
}

/// A copy derives anew, because its parameters are likely to go their own way.
impl Clone for Derived {
    fn clone(&self) -> Self {
        Self::default()
    }
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
            weight.iter_mut().for_each(|draw| *draw = (2.0 * *draw - 1.0) * limit);
            let weight = TensorData::new(weight, [self.members, input, output]);
            layers.push(Dense {
                weight: Tensor::from_data(weight, device),
                bias: constant(output, 0.0),
                activation: if is_hidden { self.activation } else { Activation::None },
                norm: (is_hidden && self.norm)
                    .then(|| Norm { scale: constant(output, 1.0), shift: constant(output, 0.0) }),
            });
            input = output;
        }
        Network::new(layers)
    }
}

impl<B: Backend> Network<B> {
    /// The network of these layers, from input to output.
    pub fn new(layers: Vec<Dense<B>>) -> Self {
        Self { layers, derived: Derived::default() }
    }

    /// The layers, from input to output.
    pub fn layers(&self) -> &[Dense<B>] {
        &self.layers
    }

    /// What the backend keeps beside the parameters.
    pub(crate) fn derived(&self) -> &Derived {
        &self.derived
    }

    /// The number of members, `K`.
    pub fn members(&self) -> usize {
        self.layers.first().map_or(0, |layer| layer.weight.dims()[0])
    }

    /// The number of learned parameters of all members.
    pub fn parameter_count(&self) -> usize {
        self.parameters().iter().map(|(_, tensor)| tensor.shape().num_elements()).sum()
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

    /// All parameters to be changed in place, in the order of [`Network::parameters`]. What was derived from them is
    /// forgotten.
    pub fn parameters_mut(&mut self) -> Vec<&mut Tensor<B, 3>> {
        self.derived = Derived::default();
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
        self.lift(|tensor| tensor.require_grad())
    }

    /// The same network on the differentiated backend; gradients pass through it to its input, and its parameters
    /// have none.
    pub fn frozen(&self) -> Tracked<B> {
        self.lift(|tensor| tensor)
    }

    fn lift(&self, mark: impl Fn(Tensor<Ad<B>, 3>) -> Tensor<Ad<B>, 3>) -> Tracked<B> {
        let leaf = |tensor: &Tensor<B, 3>| mark(Tensor::from_inner(tensor.clone()));
        Tracked {
            network: Network::new(
                self.layers
                    .iter()
                    .map(|layer| Dense {
                        weight: leaf(&layer.weight),
                        bias: leaf(&layer.bias),
                        activation: layer.activation,
                        norm: layer
                            .norm
                            .as_ref()
                            .map(|norm| Norm { scale: leaf(&norm.scale), shift: leaf(&norm.shift) }),
                    })
                    .collect(),
            ),
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
    pub fn infer(&self, context: Tensor<B, 2>, rows: Tensor<B, 2>, trailing: &[f32]) -> Tensor<B, 3> {
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
        self.layers.iter().zip(traces).fold(tangent, |tangent, (layer, trace)| B::dense_tangent(layer, trace, tangent))
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
    pub fn forward(&self, input: Tensor<Ad<B>, 3>) -> (Tensor<Ad<B>, 3>, Vec<DenseTrace<B>>) {
        let mut traces = Vec::with_capacity(self.network.layers.len());
        let mut output = input;
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
            .map(|(_, leaf)| leaf.grad_remove(gradients).unwrap_or_else(|| leaf.clone().inner().zeros_like()))
            .collect()
    }
}

/// One layer as one node of the graph.
fn dense<B: PolicyBackend>(layer: &Dense<Ad<B>>, input: Tensor<Ad<B>, 3>) -> (Tensor<Ad<B>, 3>, DenseTrace<B>) {
    let inner = Dense {
        weight: layer.weight.clone().inner(),
        bias: layer.bias.clone().inner(),
        activation: layer.activation,
        norm: layer
            .norm
            .as_ref()
            .map(|norm| Norm { scale: norm.scale.clone().inner(), shift: norm.shift.clone().inner() }),
    };
    let (output, trace) = B::dense_forward(&inner, input.clone().inner());
    let output = output.into_primitive().tensor();
    let input = input.into_primitive().tensor().node;
    let weight = layer.weight.clone().into_primitive().tensor().node;
    let bias = layer.bias.clone().into_primitive().tensor().node;
    let state = DenseState { layer: inner, trace: trace.clone() };

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
            let step = DenseStep.prepare::<NoCheckpointing>([input, weight, bias, scale, shift]);
            match step.compute_bound().stateful() {
                OpsKind::Tracked(prep) => prep.finish(state, output),
                OpsKind::UnTracked(prep) => prep.finish(output),
            }
        }
    };
    (Tensor::from_primitive(TensorPrimitive::Float(tracked)), trace)
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

    fn backward(self, ops: Ops<Self::State, N>, gradients: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let output = gradients.consume::<B>(&ops.node);
        let output = Tensor::from_primitive(TensorPrimitive::Float(output));
        let parents = ops.parents.map(|parent| parent.map(|node| node.id));
        // A parent without a gradient of its own is none: the input of a first layer, the parameters of a frozen one.
        let wanted = Wanted {
            input: matches!(parents.first(), Some(Some(_))),
            parameters: parents.iter().skip(1).any(Option::is_some),
        };
        let found = B::dense_backward(&ops.state.layer, ops.state.trace, output, wanted);
        let [weight, bias, scale, shift] = found
            .parameters
            .map_or([const { None }; 4], |found| [Some(found.weight), Some(found.bias), found.scale, found.shift]);
        let found = [found.input, weight, bias, scale, shift];
        for (parent, gradient) in parents.into_iter().zip(found) {
            register(gradients, parent, gradient);
        }
    }
}

fn register<B: Backend>(gradients: &mut Gradients, parent: Option<NodeId>, gradient: Option<Tensor<B, 3>>) {
    if let (Some(parent), Some(gradient)) = (parent, gradient) {
        gradients.register::<B>(parent, gradient.into_primitive().tensor());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
mod tests {
    use burn::tensor::DType;
    use burn_flex::{Flex, FlexDevice};

    use super::*;
    use crate::backend::generic;
    use crate::testing::{Stream, network_to_f64, to_f64};

    fn shape(norm: bool) -> NetworkShape {
        // The two activations take turns with the normalisation, so that every test sees both.
        let activation = if norm { Activation::Gelu } else { Activation::Mish };
        NetworkShape { members: 2, input: 7, hidden: vec![21, 18], output: 3, activation, norm }
    }

    fn random(dims: [usize; 3], stream: &mut Stream) -> Tensor<Flex, 3> {
        let values = stream.normal(dims.iter().product());
        Tensor::from_data(TensorData::new(values, dims), &FlexDevice)
    }

    /// A network whose every parameter is random, biases and normalisations too.
    fn network(norm: bool, stream: &mut Stream) -> Network<Flex> {
        let mut network = shape(norm).init::<Flex>(&FlexDevice, stream);
        for parameter in network.parameters_mut() {
            let change = random(parameter.dims(), stream).mul_scalar(0.1);
            parameter.inplace(|parameter| parameter + change);
        }
        network
    }

    fn values(tensor: &Tensor<Flex, 3>) -> Vec<f64> {
        tensor.to_data().iter::<f64>().collect()
    }

    fn assert_close(found: &Tensor<Flex, 3>, expected: &Tensor<Flex, 3>, tolerance: f64) {
        assert_eq!(found.dims(), expected.dims());
        for (found, expected) in values(found).iter().zip(values(expected)) {
            let bound = tolerance * expected.abs().max(1.0);
            assert!((found - expected).abs() <= bound, "{found} is not {expected}");
        }
    }

    fn forward(network: &Network<Flex>, input: &Tensor<Flex, 3>) -> Tensor<Flex, 3> {
        network.track().forward(Tensor::from_inner(input.clone())).0.inner()
    }

    #[test]
    fn tangent_equals_finite_differences_in_f64() {
        for norm in [false, true] {
            let mut stream = Stream::new(1);
            let network = network_to_f64(&network(norm, &mut stream));
            let input = to_f64(&random([1, 5, 7], &mut stream));
            let direction = to_f64(&random([1, 5, 7], &mut stream));
            let (output, traces) = network.track().forward(Tensor::from_inner(input.clone()));
            assert_eq!(output.dtype(), DType::F64);

            // The tangent of the first four rows only.
            let tangent = network.tangent(&traces, direction.clone().narrow(1, 0, 4));
            let step = 1e-5;
            let ahead = forward(&network, &(input.clone() + direction.clone().mul_scalar(step)));
            let behind = forward(&network, &(input - direction.mul_scalar(step)));
            let expected = (ahead - behind).div_scalar(2.0 * step).narrow(1, 0, 4);
            assert_close(&tangent, &expected, 1e-8);
        }
    }

    #[test]
    fn tangent_of_one_layer_equals_its_closed_form() {
        // y = gelu(2 x + 1); dy = gelu'(2 x + 1) · 2 dx.
        let scalar = |value: f64| {
            let data = TensorData::new(vec![value], [1, 1, 1]);
            Tensor::<Flex, 3>::from_data(data, (&FlexDevice, DType::F64))
        };
        let layer = Dense { weight: scalar(2.0), bias: scalar(1.0), activation: Activation::Gelu, norm: None };
        let network = Network::new(vec![layer]);
        let (output, traces) = network.track().forward(Tensor::from_inner(scalar(0.3)));
        let tangent = network.tangent(&traces, scalar(0.7));
        let z: f64 = 1.6;
        let root = (2.0 / std::f64::consts::PI).sqrt();
        let tanh = (root * (z + 0.044715 * z.powi(3))).tanh();
        let value = 0.5 * z * (1.0 + tanh);
        let slope = 0.5 * (1.0 + tanh) + 0.5 * z * (1.0 - tanh * tanh) * root * (1.0 + 3.0 * 0.044715 * z * z);
        assert_close(&output.inner(), &scalar(value), 1e-12);
        assert_close(&tangent, &scalar(slope * 2.0 * 0.7), 1e-12);
    }

    #[test]
    fn gradients_equal_finite_differences_in_f64() {
        for norm in [false, true] {
            let mut stream = Stream::new(2);
            let network = network_to_f64(&network(norm, &mut stream));
            let input = to_f64(&random([1, 5, 7], &mut stream));
            let weight = to_f64(&random([2, 5, 3], &mut stream));
            let loss = |network: &Network<Flex>| -> f64 {
                let loss = (forward(network, &input).square() * weight.clone()).sum();
                loss.to_data().iter::<f64>().next().unwrap()
            };

            let tracked = network.track();
            let (output, _) = tracked.forward(Tensor::from_inner(input.clone()));
            let mut gradients = (output.square() * Tensor::from_inner(weight.clone())).sum().backward();
            let gradients = tracked.gradients(&mut gradients);

            assert_eq!(gradients.len(), network.parameters().len());
            for (index, gradient) in gradients.into_iter().enumerate() {
                let direction = to_f64(&random(gradient.dims(), &mut stream));
                let shifted = |step: f64| {
                    let mut network = network.clone();
                    let change = direction.clone().mul_scalar(step);
                    network.parameters_mut()[index].inplace(|parameter| parameter + change);
                    loss(&network)
                };
                let expected = (shifted(1e-5) - shifted(-1e-5)) / 2e-5;
                let found: f64 = values(&(gradient * direction)).iter().sum();
                assert!(
                    (found - expected).abs() < 1e-6 * expected.abs().max(1.0),
                    "parameter {index}: {found} is not {expected}"
                );
            }
        }
    }

    #[test]
    fn gradient_reaches_the_input() {
        // Both members of the second network share the output of the first.
        let gradients = |first: &Network<Flex>, second: &Network<Flex>, input| {
            let tracked = first.track();
            let (hidden, _) = tracked.forward(Tensor::from_inner(input));
            let (output, _) = second.track().forward(hidden);
            tracked.gradients(&mut output.square().sum().backward())
        };
        let mut stream = Stream::new(3);
        let shape = NetworkShape { members: 1, output: 7, ..shape(false) };
        let first = shape.init::<Flex>(&FlexDevice, &mut stream);
        let second = network(true, &mut stream);
        let input = random([1, 100, 7], &mut stream);
        let found = gradients(&first, &second, input.clone());
        let expected = gradients(&network_to_f64(&first), &network_to_f64(&second), to_f64(&input));
        for (found, expected) in found.iter().zip(&expected) {
            assert_close(found, expected, 1e-4);
        }
    }

    #[test]
    fn a_frozen_network_passes_the_same_gradient_and_has_none() {
        let mut stream = Stream::new(4);
        let network = network(true, &mut stream);
        let input = random([1, 50, 7], &mut stream);
        let through = |tracked: Tracked<Flex>| {
            let leaf = Tensor::from_inner(input.clone()).require_grad();
            let (output, _) = tracked.forward(leaf.clone());
            let mut gradients = output.square().sum().backward();
            let of_parameters = tracked.gradients(&mut gradients);
            (leaf.grad(&gradients).unwrap(), of_parameters)
        };
        let (expected, learned) = through(network.track());
        let (found, frozen) = through(network.frozen());
        assert_eq!(values(&found), values(&expected));
        assert!(learned.iter().all(|gradient| values(gradient).iter().any(|value| *value != 0.0)));
        assert!(frozen.iter().all(|gradient| values(gradient).iter().all(|value| *value == 0.0)));
    }

    #[test]
    fn fused_layers_equal_tensor_operations() {
        let mut stream = Stream::new(5);
        for (norm, rows, members_in) in [(false, 4, 1), (true, 50, 2), (true, 131, 1), (false, 200, 2)] {
            let network = network(norm, &mut stream);
            let layer = &network.layers[0];
            let input = random([members_in, rows, 7], &mut stream);
            let (fused, fused_trace) = Flex::dense_forward(layer, input.clone());
            let (plain, plain_trace) = generic::dense_forward(layer, input);
            assert_close(&fused, &plain, 1e-5);
            assert_close(fused_trace.slope.as_ref().unwrap(), plain_trace.slope.as_ref().unwrap(), 1e-5);

            let tangent = random([2, rows - 1, 7], &mut stream);
            assert_close(
                &Flex::dense_tangent(layer, &fused_trace, tangent.clone()),
                &generic::dense_tangent(layer, &plain_trace, tangent),
                1e-4,
            );

            let gradient = random(fused.dims(), &mut stream);
            let all = Wanted { input: true, parameters: true };
            let fused_all = Flex::dense_backward(layer, fused_trace.clone(), gradient.clone(), all);
            let plain_all = generic::dense_backward(layer, plain_trace.clone(), gradient.clone(), all);
            let (fused_input, plain_input) = (fused_all.input.unwrap(), plain_all.input.unwrap());
            assert_close(&fused_input, &plain_input, 1e-4);

            // Whoever asks for one part gets the same bits, and nothing else.
            let input_alone = Wanted { parameters: false, ..all };
            let fused_alone = Flex::dense_backward(layer, fused_trace.clone(), gradient.clone(), input_alone);
            let plain_alone = generic::dense_backward(layer, plain_trace, gradient.clone(), input_alone);
            for (alone, input) in [(fused_alone, &fused_input), (plain_alone, &plain_input)] {
                assert!(alone.parameters.is_none());
                assert_eq!(values(&alone.input.unwrap()), values(input));
            }
            let alone = Flex::dense_backward(layer, fused_trace, gradient, Wanted { input: false, ..all });
            assert!(alone.input.is_none());
            let (fused, plain) = (fused_all.parameters.unwrap(), plain_all.parameters.unwrap());
            assert_eq!(values(&alone.parameters.unwrap().weight), values(&fused.weight));
            assert_close(&fused.weight, &plain.weight, 1e-4);
            assert_close(&fused.bias, &plain.bias, 1e-4);
            assert_eq!(fused.scale.is_some(), norm);
            if norm {
                assert_close(&fused.scale.unwrap(), &plain.scale.unwrap(), 1e-4);
                assert_close(&fused.shift.unwrap(), &plain.shift.unwrap(), 1e-4);
            }
        }
    }

    #[test]
    fn inference_equals_the_training_pass() {
        let mut stream = Stream::new(6);
        for (norm, groups, size) in [(false, 1, 1), (true, 1, 32), (true, 37, 8), (false, 300, 1)] {
            let network = network(norm, &mut stream);
            let context: Tensor<Flex, 2> = random([1, groups, 3], &mut stream).squeeze_dim(0);
            let rows: Tensor<Flex, 2> = random([1, groups * size, 2], &mut stream).squeeze_dim(0);
            let trailing = [0.0, 1.5];
            let fused = network.infer(context.clone(), rows.clone(), &trailing);
            let plain = generic::infer(&network, context.clone(), rows.clone(), &trailing);

            let repeated: Tensor<Flex, 2> =
                context.unsqueeze_dim::<3>(1).repeat_dim(1, size).reshape([groups * size, 3]);
            let constants = Tensor::<Flex, 2>::from_data([trailing], &FlexDevice).repeat_dim(0, groups * size);
            let input = Tensor::cat(vec![repeated, rows, constants], 1).unsqueeze();
            let expected = forward(&network, &input);
            assert_close(&fused, &expected, 1e-5);
            assert_close(&plain, &expected, 1e-5);
        }
    }

    #[test]
    fn inference_follows_the_parameters() {
        let mut stream = Stream::new(8);
        let mut network = network(true, &mut stream);
        let context: Tensor<Flex, 2> = random([1, 1, 3], &mut stream).squeeze_dim(0);
        let rows: Tensor<Flex, 2> = random([1, 8, 2], &mut stream).squeeze_dim(0);
        let infer = |network: &Network<Flex>| network.infer(context.clone(), rows.clone(), &[0.0, 1.5]);
        let first = infer(&network);
        // From the second time on another layout of the weights is used, with the same sums.
        for _ in 0..2 {
            assert_eq!(values(&infer(&network)), values(&first));
        }
        let copy = network.clone();
        for parameter in network.parameters_mut() {
            let change = random(parameter.dims(), &mut stream).mul_scalar(0.1);
            parameter.inplace(|parameter| parameter + change);
        }
        for _ in 0..2 {
            let expected = generic::infer(&network, context.clone(), rows.clone(), &[0.0, 1.5]);
            assert_close(&infer(&network), &expected, 1e-5);
            assert_eq!(values(&infer(&copy)), values(&first));
        }
    }

    #[test]
    fn initial_weights_have_the_published_scale() {
        let network = shape(true).init::<Flex>(&FlexDevice, &mut Stream::new(7));
        let weight = &network.layers[1].weight;
        let [_, input, output] = weight.dims();
        let limit = (6.0 / (input + output) as f64).sqrt();
        let drawn = values(weight);
        assert!(drawn.iter().all(|value| value.abs() <= limit));
        let square: f64 = drawn.iter().map(|value| value * value).sum();
        let variance = square / drawn.len() as f64;
        assert!((variance / (limit * limit / 3.0) - 1.0).abs() < 0.1);
        let bias: f64 = values(&network.layers[1].bias).iter().sum();
        assert_eq!(bias, 0.0);
        assert_eq!(network.parameter_count(), 2 * (7 * 21 + 21 + 42 + 21 * 18 + 18 + 36 + 18 * 3 + 3));
    }
}
