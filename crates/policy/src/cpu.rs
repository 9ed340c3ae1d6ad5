//! The CPU backend: networks evaluated in blocks of rows.
//!
//! A block of rows passes through all layers of a network before the next block starts, so activations stay in the
//! cache, and what follows a product (bias, activation, its derivative) is done while its sums are in registers.
//! Blocks are shared among the threads of rayon's pool. Where rows are summed up, the order never depends on the number
//! of threads, so results do not either.
//!
//! Tensors that are not contiguous `f32` take the way of [`generic`].

use burn::tensor::{DType, Tensor, TensorData, TensorPrimitive};
use burn_flex::{Flex, FlexDevice, FlexTensor};
use rayon::prelude::*;

use crate::backend::{DenseGradients, DenseTrace, NormTrace, ParameterGradients, PolicyBackend, Wanted, generic};
use crate::network::{Activation, Dense, Derived, Network};
use crate::optimizer::AdamStep;
use onestep_kernels::{
    Adam, BackwardRows, Bias, Blend, NormParts, NormTangent, Normalise, NormaliseWithTrace, Product, TILE_ROWS, Then,
    TransposedProduct, Weights, pack, pack_transposed, packed_len,
};

/// Rows of a block: eight tiles. Two such blocks of 512 features fit the second-level cache of any recent CPU.
const BLOCK_ROWS: usize = 8 * TILE_ROWS;
/// From this many rows on, weights are packed once for all blocks.
const PACKING_ROWS: usize = 2 * BLOCK_ROWS;
/// Work below this many multiply-adds is not worth waking another thread.
const PARALLEL_WORK: usize = 1 << 20;
/// Elements that one thread updates at a time in loops over parameters.
const PARAMETER_CHUNK: usize = 1 << 14;

/// Makes the allocator keep memory that an update frees, because the next update asks for it again.
///
/// The GNU allocator returns the end of its heap to the system as soon as more than a threshold is free, and every
/// page that comes back costs a fault. Freeing one large block, just below the size that it no longer learns from,
/// raises the threshold to twice that size. Other allocators ignore this; the block's pages are never touched.
pub(crate) fn keep_freed_memory() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(31 << 20)));
}

impl PolicyBackend for Flex {
    fn infer(
        network: &Network<Self>,
        context: Tensor<Self, 2>,
        rows: Tensor<Self, 2>,
        trailing: &[f32],
    ) -> Tensor<Self, 3> {
        let layers: Option<Vec<_>> = network.layers().iter().map(LayerView::new).collect();
        match (layers, View::new(&context), View::new(&rows)) {
            // Without numbers of its own a row has nothing that the fused loops could save.
            (Some(layers), Some(context), Some(rows)) if rows.dims.iter().product::<usize>() > 0 => {
                infer(&layers, network.derived(), &context, &rows, trailing)
            }
            _ => generic::infer(network, context, rows, trailing),
        }
    }

    fn dense_forward(layer: &Dense<Self>, input: Tensor<Self, 3>) -> (Tensor<Self, 3>, DenseTrace<Self>) {
        match (LayerView::new(layer), View::new(&input)) {
            (Some(layer), Some(view)) => dense_forward(&layer, &view, input),
            _ => generic::dense_forward(layer, input),
        }
    }

    fn dense_backward(
        layer: &Dense<Self>,
        trace: DenseTrace<Self>,
        gradient: Tensor<Self, 3>,
        wanted: Wanted,
    ) -> DenseGradients<Self> {
        match (LayerView::new(layer), TraceView::new(&trace)) {
            (Some(view), Some(parts)) if gradient.dtype() == DType::F32 => {
                dense_backward(&view, &parts, gradient, wanted)
            }
            _ => generic::dense_backward(layer, trace, gradient, wanted),
        }
    }

    fn dense_tangent(layer: &Dense<Self>, trace: &DenseTrace<Self>, tangent: Tensor<Self, 3>) -> Tensor<Self, 3> {
        match (LayerView::new(layer), TraceView::new(trace), View::new(&tangent)) {
            (Some(layer), Some(parts), Some(tangent)) => dense_tangent(&layer, &parts, &tangent),
            _ => generic::dense_tangent(layer, trace, tangent),
        }
    }

    fn adam(
        step: &AdamStep,
        parameter: &mut Tensor<Self, 3>,
        gradient: Tensor<Self, 3>,
        first: &mut Tensor<Self, 3>,
        second: &mut Tensor<Self, 3>,
    ) {
        let all_f32 = [&*parameter, &*first, &*second].iter().all(|tensor| tensor.dtype() == DType::F32);
        let Some(gradient) = View::new(&gradient).filter(|_| all_f32) else {
            return generic::adam(step, parameter, gradient, first, second);
        };
        edit(parameter, |parameter| {
            edit(first, |first| {
                edit(second, |second| {
                    parameter
                        .par_chunks_mut(PARAMETER_CHUNK)
                        .zip(gradient.values().par_chunks(PARAMETER_CHUNK))
                        .zip(first.par_chunks_mut(PARAMETER_CHUNK))
                        .zip(second.par_chunks_mut(PARAMETER_CHUNK))
                        .for_each(|(((parameter, gradient), first), second)| {
                            Adam { step: *step, parameter, gradient, first, second }.run();
                        });
                });
            });
        });
    }

    fn blend(target: &mut Tensor<Self, 3>, online: &Tensor<Self, 3>, rate: f64) {
        match View::new(online) {
            Some(online) if target.dtype() == DType::F32 => edit(target, |target| {
                target.par_chunks_mut(PARAMETER_CHUNK).zip(online.values().par_chunks(PARAMETER_CHUNK)).for_each(
                    |(target, online)| {
                        Blend { target, online, rate }.run();
                    },
                );
            }),
            _ => generic::blend(target, online, rate),
        }
    }
}

/// A contiguous `f32` tensor that can be read as a slice. Cloning a tensor of this backend copies no numbers.
struct View<const D: usize> {
    tensor: FlexTensor,
    dims: [usize; D],
}

impl<const D: usize> View<D> {
    fn new(tensor: &Tensor<Flex, D>) -> Option<Self> {
        let dims = tensor.dims();
        let tensor = tensor.clone().into_primitive().tensor();
        tensor.as_slice::<f32>()?;
        Some(Self { tensor, dims })
    }

    fn values(&self) -> &[f32] {
        self.tensor.as_slice().unwrap_or(&[])
    }
}

impl View<3> {
    /// The part of member `index`; the whole of a tensor that all members share.
    fn member(&self, index: usize) -> &[f32] {
        let [members, rows, width] = self.dims;
        let index = if members == 1 { 0 } else { index };
        part(self.values(), index * rows * width, rows * width)
    }
}

struct LayerView {
    weight: View<3>,
    bias: View<3>,
    activation: Activation,
    norm: Option<(View<3>, View<3>)>,
}

impl LayerView {
    fn new(layer: &Dense<Flex>) -> Option<Self> {
        let norm = match &layer.norm {
            None => None,
            Some(norm) => Some((View::new(&norm.scale)?, View::new(&norm.shift)?)),
        };
        Some(Self {
            weight: View::new(&layer.weight)?,
            bias: View::new(&layer.bias)?,
            activation: layer.activation,
            norm,
        })
    }

    /// Members, input features, output features.
    fn dims(&self) -> [usize; 3] {
        self.weight.dims
    }
}

struct TraceView {
    input: View<3>,
    slope: Option<View<3>>,
    norm: Option<(View<3>, View<3>)>,
}

impl TraceView {
    fn new(trace: &DenseTrace<Flex>) -> Option<Self> {
        let slope = match &trace.slope {
            None => None,
            Some(slope) => Some(View::new(slope)?),
        };
        let norm = match &trace.norm {
            None => None,
            Some(norm) => Some((View::new(&norm.normalised)?, View::new(&norm.inverse_std)?)),
        };
        Some(Self { input: View::new(&trace.input)?, slope, norm })
    }

    /// The normalisation's parts at `rows` rows of a member from `first`.
    fn norm_parts<'a>(
        &'a self,
        layer: &'a LayerView,
        member: usize,
        first: usize,
        rows: usize,
    ) -> Option<NormParts<'a>> {
        let ((scale, _), (normalised, inverse_std)) = layer.norm.as_ref().zip(self.norm.as_ref())?;
        let width = normalised.dims[2];
        Some(NormParts {
            scale: scale.member(member),
            normalised: part(normalised.member(member), first * width, rows * width),
            inverse_std: part(inverse_std.member(member), first, rows),
        })
    }
}

/// `len` values from `start`.
fn part(values: &[f32], start: usize, len: usize) -> &[f32] {
    values.get(start..start + len).unwrap_or(&[])
}

fn tensor<const D: usize>(values: Vec<f32>, dims: [usize; D]) -> Tensor<Flex, D> {
    Tensor::from_data(TensorData::new(values, dims), &FlexDevice)
}

/// Changes the numbers of a tensor in place if nothing else shares them, else in a copy.
fn edit(tensor: &mut Tensor<Flex, 3>, change: impl FnOnce(&mut [f32])) {
    tensor.inplace(|tensor| {
        let mut primitive = tensor.into_primitive().tensor().to_contiguous();
        change(primitive.storage_mut());
        Tensor::from_primitive(TensorPrimitive::Float(primitive))
    });
}

/// Runs all tasks, on all threads if there is enough work.
fn for_each<T: Send>(work: usize, tasks: Vec<T>, run: impl Fn(T) + Send + Sync) {
    if work < PARALLEL_WORK || tasks.len() < 2 {
        tasks.into_iter().for_each(run);
    } else {
        tasks.into_par_iter().with_max_len(1).for_each(run);
    }
}

/// Weights that may have been packed.
enum Prepared<'a> {
    Packed { panels: Vec<f32>, height: usize },
    RowMajor(&'a [f32]),
}

impl<'a> Prepared<'a> {
    fn new(weights: &'a [f32], depth: usize, width: usize, rows: usize) -> Self {
        if rows >= PACKING_ROWS {
            Self::Packed { panels: pack(weights, depth, width), height: depth }
        } else {
            Self::RowMajor(weights)
        }
    }

    fn weights(&self) -> Weights<'_> {
        match self {
            Self::Packed { panels, height } => Weights::Packed { panels, height: *height, first: 0 },
            Self::RowMajor(weights) => Weights::RowMajor(weights),
        }
    }
}

/// The packed weights of all layers of a network, those of all members one behind the other.
struct PackedNetwork(Vec<Vec<f32>>);

impl PackedNetwork {
    fn new(layers: &[LayerView]) -> Self {
        let pack_layer = |layer: &LayerView| {
            let [members, depth, width] = layer.dims();
            (0..members).flat_map(|member| pack(layer.weight.member(member), depth, width)).collect()
        };
        Self(layers.par_iter().map(pack_layer).collect())
    }

    /// The weights of one member's layer.
    fn member(&self, layer: usize, [_, depth, width]: [usize; 3], member: usize) -> &[f32] {
        let len = packed_len(depth, width);
        self.0.get(layer).map_or(&[], |layer| part(layer, member * len, len))
    }
}

/// One layer of one member, ready for many blocks.
struct PreparedLayer<'a> {
    weights: Weights<'a>,
    depth: usize,
    width: usize,
    activation: Activation,
    norm: Option<(&'a [f32], &'a [f32])>,
}

/// One member, its first layer split into the part of the shared input and the part of the own input.
struct PreparedMember<'a> {
    shared: PreparedLayer<'a>,
    /// Bias of the first layer, the constant inputs added.
    bias: Vec<f32>,
    layers: Vec<PreparedLayer<'a>>,
    /// Biases of the layers behind the first.
    biases: Vec<&'a [f32]>,
}

impl<'a> PreparedMember<'a> {
    /// `context` and `own` are the numbers of inputs that rows share and that they have for themselves.
    fn new(
        layers: &'a [LayerView],
        packed: Option<&'a PackedNetwork>,
        member: usize,
        [context, own]: [usize; 2],
        trailing: &[f32],
    ) -> Option<Self> {
        let (first, rest) = layers.split_first()?;
        let [_, depth, width] = first.dims();
        let mut bias = first.bias.member(member).to_vec();
        let constants = first.weight.member(member).chunks_exact(width).skip(context + own);
        for (&constant, weights) in trailing.iter().zip(constants) {
            for (bias, weight) in bias.iter_mut().zip(weights) {
                *bias += constant * weight;
            }
        }
        debug_assert_eq!(depth, context + own + trailing.len());
        // Rows of a layer's weights, from `first` on.
        let weights = |index: usize, layer: &'a LayerView, first: usize, depth: usize| match packed {
            Some(packed) => {
                Weights::Packed { panels: packed.member(index, layer.dims(), member), height: layer.dims()[1], first }
            }
            None => {
                let width = layer.dims()[2];
                Weights::RowMajor(part(layer.weight.member(member), first * width, depth * width))
            }
        };
        let norm = |layer: &'a LayerView| {
            let (scale, shift) = layer.norm.as_ref()?;
            Some((scale.member(member), shift.member(member)))
        };
        let mut prepared = vec![PreparedLayer {
            weights: weights(0, first, context, own),
            depth: own,
            width,
            activation: first.activation,
            norm: norm(first),
        }];
        prepared.extend(rest.iter().enumerate().map(|(index, layer)| {
            let [_, depth, width] = layer.dims();
            PreparedLayer {
                weights: weights(index + 1, layer, 0, depth),
                depth,
                width,
                activation: layer.activation,
                norm: norm(layer),
            }
        }));
        Some(Self {
            shared: PreparedLayer {
                weights: weights(0, first, 0, context),
                depth: context,
                width,
                activation: Activation::None,
                norm: None,
            },
            bias,
            layers: prepared,
            biases: rest.iter().map(|layer| layer.bias.member(member)).collect(),
        })
    }

    /// Evaluates the rows from `first` on, as many as `out` holds; `size` rows share one context.
    fn run(&self, context: &[f32], rows: &[f32], size: usize, first: usize, out: &mut [f32]) {
        let Some((entry, output)) = self.layers.first().zip(self.layers.last()) else {
            return;
        };
        let count = out.len() / output.width;
        let first_group = first / size;
        let groups = (first + count - 1) / size - first_group + 1;
        let mut shared = vec![0.0; groups * self.shared.width];
        Product {
            rows: part(context, first_group * self.shared.depth, groups * self.shared.depth),
            depth: self.shared.depth,
            weights: self.shared.weights,
            width: self.shared.width,
            bias: Bias::Shared(&self.bias),
            then: Then::Activate(Activation::None),
            out: &mut shared,
        }
        .run();

        let widest = self.layers.iter().map(|layer| layer.width).max();
        let mut hidden = vec![0.0; count * widest.unwrap_or(0)];
        let mut next = vec![0.0; hidden.len()];
        let last = self.layers.len() - 1;
        let biases = self.biases.iter().map(|bias| Bias::Shared(bias));
        let entry_bias = Bias::Grouped { values: &shared, size, first: first - first_group * size };
        let biases = std::iter::once(entry_bias).chain(biases);
        for (index, (layer, bias)) in self.layers.iter().zip(biases).enumerate() {
            let input = if index == 0 {
                part(rows, first * entry.depth, count * entry.depth)
            } else {
                part(&hidden, 0, count * layer.depth)
            };
            let result = if index == last { &mut *out } else { next.get_mut(..count * layer.width).unwrap_or(&mut []) };
            Product {
                rows: input,
                depth: layer.depth,
                weights: layer.weights,
                width: layer.width,
                bias,
                then: Then::Activate(layer.activation),
                out: &mut *result,
            }
            .run();
            if let Some((scale, shift)) = layer.norm {
                Normalise { scale, shift, rows: result }.run();
            }
            std::mem::swap(&mut hidden, &mut next);
        }
    }
}

fn infer(
    layers: &[LayerView],
    derived: &Derived,
    context: &View<2>,
    rows: &View<2>,
    trailing: &[f32],
) -> Tensor<Flex, 3> {
    let members = layers.first().map_or(0, |layer| layer.dims()[0]);
    let output = layers.last().map_or(0, |layer| layer.dims()[2]);
    let count = rows.dims[0];
    let size = count / context.dims[0].max(1);
    let work = count * layers.iter().map(|layer| layer.dims().iter().product::<usize>()).sum::<usize>();

    // Packing costs about as much as a pass of few rows, so it must serve many rows, or several passes.
    let again = derived.asked_before();
    let packed = if again || count >= PACKING_ROWS {
        derived.get_or_derive(|| PackedNetwork::new(layers))
    } else {
        derived.get()
    };
    let inputs = [context.dims[1], rows.dims[1]];
    let prepared: Vec<_> =
        (0..members).filter_map(|member| PreparedMember::new(layers, packed, member, inputs, trailing)).collect();
    // Members are shared out first: each thread then reads its own weights, once.
    let shares = rayon::current_num_threads().div_ceil(members.max(1));
    let block = count.div_ceil(shares).min(BLOCK_ROWS);
    let mut out = vec![0.0; members * count * output];
    let mut tasks = Vec::new();
    for (member, out) in prepared.iter().zip(out.chunks_mut(count * output)) {
        for (index, out) in out.chunks_mut(block * output).enumerate() {
            tasks.push((member, index * block, out));
        }
    }
    for_each(work, tasks, |(member, first, out)| {
        member.run(context.values(), rows.values(), size, first, out);
    });
    tensor(out, [members, count, output])
}

/// One block of rows of [`dense_forward`].
struct ForwardTask<'a> {
    member: usize,
    first: usize,
    active: &'a mut [f32],
    slope: &'a mut [f32],
    inverse_std: &'a mut [f32],
    out: &'a mut [f32],
}

fn dense_forward(layer: &LayerView, input: &View<3>, kept: Tensor<Flex, 3>) -> (Tensor<Flex, 3>, DenseTrace<Flex>) {
    let [members, depth, width] = layer.dims();
    let count = input.dims[1];
    let work = members * count * depth * width;
    let weights: Vec<_> =
        (0..members).map(|member| Prepared::new(layer.weight.member(member), depth, width, count)).collect();

    let has_slope = layer.activation != Activation::None;
    let has_norm = layer.norm.is_some();
    let size = members * count * width;
    let mut active = vec![0.0; size];
    let mut slope = vec![0.0; if has_slope { size } else { 0 }];
    let mut inverse_std = vec![0.0; if has_norm { members * count } else { 0 }];
    let mut out = vec![0.0; if has_norm { size } else { 0 }];

    let tasks = {
        let mut slopes = blocks(&mut slope, count, width);
        let mut stds = blocks(&mut inverse_std, count, 1);
        let mut outs = blocks(&mut out, count, width);
        blocks(&mut active, count, width)
            .map(|(member, first, active)| ForwardTask {
                member,
                first,
                active,
                slope: slopes.next().map_or(&mut [], |(_, _, slope)| slope),
                inverse_std: stds.next().map_or(&mut [], |(_, _, std)| std),
                out: outs.next().map_or(&mut [], |(_, _, out)| out),
            })
            .collect()
    };
    for_each(work, tasks, |task| {
        let rows = task.active.len() / width;
        let Some(weights) = weights.get(task.member) else {
            return;
        };
        Product {
            rows: part(input.member(task.member), task.first * depth, rows * depth),
            depth,
            weights: weights.weights(),
            width,
            bias: Bias::Shared(layer.bias.member(task.member)),
            then: if has_slope {
                Then::ActivateWithSlope(layer.activation, task.slope)
            } else {
                Then::Activate(layer.activation)
            },
            out: &mut *task.active,
        }
        .run();
        if let Some((scale, shift)) = &layer.norm {
            NormaliseWithTrace {
                scale: scale.member(task.member),
                shift: shift.member(task.member),
                rows: task.active,
                inverse_std: task.inverse_std,
                out: task.out,
            }
            .run();
        }
    });

    let dims = [members, count, width];
    let slope = has_slope.then(|| tensor(slope, dims));
    let (out, norm) = if has_norm {
        let norm =
            NormTrace { normalised: tensor(active, dims), inverse_std: tensor(inverse_std, [members, count, 1]) };
        (out, Some(norm))
    } else {
        (active, None)
    };
    let trace = DenseTrace { input: kept, slope, norm };
    (tensor(out, dims), trace)
}

/// Blocks of rows of all members: member, first row, values.
fn blocks(values: &mut [f32], rows: usize, width: usize) -> impl Iterator<Item = (usize, usize, &mut [f32])> {
    let members = values.chunks_mut((rows * width).max(1)).enumerate();
    members.flat_map(move |(member, values)| {
        values
            .chunks_mut((BLOCK_ROWS * width).max(1))
            .enumerate()
            .map(move |(index, values)| (member, index * BLOCK_ROWS, values))
    })
}

fn dense_backward(
    layer: &LayerView,
    trace: &TraceView,
    gradient: Tensor<Flex, 3>,
    wanted: Wanted,
) -> DenseGradients<Flex> {
    let [members, depth, width] = layer.dims();
    let count = trace.input.dims[1];
    let work = members * count * depth * width;

    // Back through normalisation and activation, and the sums over rows.
    let mut gradient = gradient.into_primitive().tensor().to_contiguous();
    let mut sums = vec![0.0; members * count.div_ceil(BLOCK_ROWS) * 3 * width];
    let tasks = blocks(gradient.storage_mut(), count, width).zip(sums.chunks_exact_mut(3 * width)).collect();
    for_each(work, tasks, |((member, first, gradient), sums)| {
        let rows = gradient.len() / width;
        let slope = trace.slope.as_ref().map(|slope| part(slope.member(member), first * width, rows * width));
        BackwardRows { width, gradient, slope, norm: trace.norm_parts(layer, member, first, rows), sums }.run();
    });
    let gradient: &[f32] = gradient.storage();
    let member_gradient = |member: usize| part(gradient, member * count * width, count * width);

    let parameters = wanted.parameters.then(|| {
        let mut totals = [(); 3].map(|()| vec![0.0; members * width]);
        let member_sums = sums.chunks_exact(count.div_ceil(BLOCK_ROWS) * 3 * width);
        for (member, sums) in member_sums.enumerate() {
            for block in sums.chunks_exact(3 * width) {
                for (total, sum) in totals.iter_mut().zip(block.chunks_exact(width)) {
                    let total = total.iter_mut().skip(member * width);
                    for (total, sum) in total.zip(sum) {
                        *total += sum;
                    }
                }
            }
        }
        let [bias, scale, shift] = totals.map(|total| tensor(total, [members, 1, width]));
        let has_norm = layer.norm.is_some();

        // The gradient of the weights, the input's columns shared among threads.
        let packed: Vec<_> = (0..members).map(|member| pack(member_gradient(member), count, width)).collect();
        let mut weight = vec![0.0; members * depth * width];
        let tasks = blocks(&mut weight, depth, width).collect();
        for_each(work, tasks, |(member, first, out)| {
            if let Some(right) = packed.get(member) {
                TransposedProduct {
                    left: trace.input.member(member),
                    left_width: depth,
                    first,
                    depth: count,
                    right,
                    width,
                    out,
                }
                .run();
            }
        });
        ParameterGradients {
            weight: tensor(weight, [members, depth, width]),
            bias,
            scale: has_norm.then_some(scale),
            shift: has_norm.then_some(shift),
        }
    });

    let input = wanted.input.then(|| {
        let weights: Vec<_> =
            (0..members).map(|member| pack_transposed(layer.weight.member(member), width, depth)).collect();
        let mut input = vec![0.0; members * count * depth];
        let tasks = blocks(&mut input, count, depth).collect();
        for_each(work, tasks, |(member, first, out)| {
            if let Some(weights) = weights.get(member) {
                Product {
                    rows: part(member_gradient(member), first * width, out.len() / depth * width),
                    depth: width,
                    weights: Weights::Packed { panels: weights, height: width, first: 0 },
                    width: depth,
                    bias: Bias::None,
                    then: Then::Activate(Activation::None),
                    out,
                }
                .run();
            }
        });
        let input = tensor(input, [members, count, depth]);
        if trace.input.dims[0] == members { input } else { input.sum_dim(0) }
    });
    DenseGradients { input, parameters }
}

fn dense_tangent(layer: &LayerView, trace: &TraceView, tangent: &View<3>) -> Tensor<Flex, 3> {
    let [members, depth, width] = layer.dims();
    let count = tangent.dims[1];
    let weights: Vec<_> =
        (0..members).map(|member| Prepared::new(layer.weight.member(member), depth, width, count)).collect();
    let mut out = vec![0.0; members * count * width];
    let tasks = blocks(&mut out, count, width).collect();
    for_each(members * count * depth * width, tasks, |(member, first, out)| {
        let rows = out.len() / width;
        let Some(weights) = weights.get(member) else {
            return;
        };
        let slope = trace.slope.as_ref();
        Product {
            rows: part(tangent.member(member), first * depth, rows * depth),
            depth,
            weights: weights.weights(),
            width,
            bias: Bias::None,
            then: slope.map_or(Then::Activate(Activation::None), |slope| {
                Then::Scale(part(slope.member(member), first * width, rows * width))
            }),
            out: &mut *out,
        }
        .run();
        if let Some(norm) = trace.norm_parts(layer, member, first, rows) {
            NormTangent { norm, tangent: out }.run();
        }
    });
    tensor(out, [members, count, width])
}
