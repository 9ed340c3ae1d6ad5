//! The inner loops of the networks on the CPU, over blocks of rows: slices in, slices out.
//!
//! They are compiled for the instruction set that the CPU turns out to have. Everything here is plain safe Rust that the
//! compiler turns into vector code: arrays of a fixed number of lanes, no branches, fused multiply-add where the CPU has
//! it. The version is picked at run time, so one binary runs on an older CPU as well.
//!
//! A product is built from tiles of [`TILE_ROWS`] rows by [`LANES`] columns, which stay in registers while one panel
//! of weights passes by. Every element is summed over its depth in order, so a result does not depend on how rows
//! were shared among threads.
//!
//! A crate of its own, because nothing else of the learning core needs the compiler's highest level: the core, which is
//! instantiated for every backend, builds in half the time without it.

use rayon::prelude::*;

/// `2 · sqrt(2 / π)`: the tanh form of the GELU is `z · sigmoid(GELU_SLOPE · (z + GELU_CUBIC · z³))`.
pub const GELU_SLOPE: f64 = 1.595_769_121_605_730_7;
/// The coefficient of the cubic term of the GELU's tanh form.
pub const GELU_CUBIC: f64 = 0.044_715;
/// Added to the variance of a layer normalisation.
pub const NORM_EPSILON: f64 = 1e-6;

/// What follows the affine map of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Nothing: an output layer.
    None,
    /// The Gaussian error linear unit in its tanh form, as in the reference implementations.
    Gelu,
    /// `x · tanh(ln(1 + eˣ))`. Source: Misra, arXiv 1908.08681.
    Mish,
}

/// The numbers of one step of Adam, the same for all parameters.
///
/// The corrections of both moments are folded into `rate` and `epsilon`, so that a step reads
/// `parameter -= rate · first / (sqrt(second) + epsilon)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamStep {
    /// Decay of the first moment.
    pub beta_1: f64,
    /// Decay of the second moment.
    pub beta_2: f64,
    /// Learning rate with both corrections.
    pub rate: f64,
    /// Epsilon with the correction of the second moment.
    pub epsilon: f64,
}

/// Rows of a tile: with two registers for each, twelve sums hide the latency of the multiply-add units.
pub const TILE_ROWS: usize = 6;
/// Rows of the tile at the end of a block, if they suffice: eight sums are the least that hide that latency.
const SMALL_TILE_ROWS: usize = 4;
/// Columns of a tile and width of a panel: two AVX registers.
pub const LANES: usize = 16;

type Row = [f32; LANES];
const ZERO: Row = [0.0; LANES];

/// Work that is compiled once for each instruction set.
trait Kernel {
    /// Does the work; `FMA` says whether a fused multiply-add is one instruction.
    fn compute<const FMA: bool>(self);
}

/// Runs `kernel` with the widest instructions of this CPU.
fn vectorised<K: Kernel>(kernel: K) {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V3::try_new() {
        return simd.vectorize(Fused(kernel));
    }
    // Every 64-bit ARM has the fused instruction.
    kernel.compute::<{ cfg!(target_arch = "aarch64") }>();
}

#[cfg(target_arch = "x86_64")]
struct Fused<K>(K);

#[cfg(target_arch = "x86_64")]
impl<K: Kernel> pulp::NullaryFnOnce for Fused<K> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.0.compute::<true>();
    }
}

#[inline(always)]
fn multiply_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// `LANES` numbers of `values` from `start`; zeros behind its end.
#[inline(always)]
fn load(values: &[f32], start: usize) -> Row {
    let values = values.get(start..).unwrap_or(&[]);
    if let Some(row) = values.first_chunk::<LANES>() {
        return *row;
    }
    let mut row = ZERO;
    for (lane, value) in row.iter_mut().zip(values) {
        *lane = *value;
    }
    row
}

/// Writes `row` to `values` from `start`, up to its end.
#[inline(always)]
fn store(values: &mut [f32], start: usize, row: &Row) {
    let values = values.get_mut(start..).unwrap_or(&mut []);
    if let Some(target) = values.first_chunk_mut::<LANES>() {
        *target = *row;
        return;
    }
    for (target, lane) in values.iter_mut().zip(row) {
        *target = *lane;
    }
}

/// Sums of `TILE_ROWS` rows times one panel.
#[inline(always)]
fn tile<const FMA: bool>(rows: [&[f32]; TILE_ROWS], panel: &[Row]) -> [Row; TILE_ROWS] {
    let mut sums = [ZERO; TILE_ROWS];
    let [r0, r1, r2, r3, r4, r5] = rows;
    // Zipped, so that no index needs a check.
    let steps = panel.iter().zip(r0).zip(r1).zip(r2).zip(r3).zip(r4).zip(r5);
    for ((((((weights, a0), a1), a2), a3), a4), a5) in steps {
        accumulate::<FMA, TILE_ROWS>(&mut sums, [a0, a1, a2, a3, a4, a5], weights);
    }
    sums
}

/// Sums of `SMALL_TILE_ROWS` rows times one panel.
#[inline(always)]
fn small_tile<const FMA: bool>(rows: [&[f32]; SMALL_TILE_ROWS], panel: &[Row]) -> [Row; SMALL_TILE_ROWS] {
    let mut sums = [ZERO; SMALL_TILE_ROWS];
    let [r0, r1, r2, r3] = rows;
    for ((((weights, a0), a1), a2), a3) in panel.iter().zip(r0).zip(r1).zip(r2).zip(r3) {
        accumulate::<FMA, SMALL_TILE_ROWS>(&mut sums, [a0, a1, a2, a3], weights);
    }
    sums
}

/// One step along the depth.
#[inline(always)]
fn accumulate<const FMA: bool, const ROWS: usize>(sums: &mut [Row; ROWS], values: [&f32; ROWS], weights: &Row) {
    for (sum, a) in sums.iter_mut().zip(values) {
        for (sum, weight) in sum.iter_mut().zip(weights) {
            *sum = multiply_add::<FMA>(*a, *weight, *sum);
        }
    }
}

/// The same with the rows packed side by side.
#[inline(always)]
fn tile_packed<const FMA: bool>(rows: &[[f32; TILE_ROWS]], panel: &[Row]) -> [Row; TILE_ROWS] {
    let mut sums = [ZERO; TILE_ROWS];
    for (weights, a) in panel.iter().zip(rows) {
        for (sum, a) in sums.iter_mut().zip(a) {
            for (sum, weight) in sum.iter_mut().zip(weights) {
                *sum = multiply_add::<FMA>(*a, *weight, *sum);
            }
        }
    }
    sums
}

/// `1 / (1 + exp(-x))`, relative error below 3e-7.
#[inline(always)]
fn sigmoid<const FMA: bool>(x: f32) -> f32 {
    // Adding 1.5 · 2^23 rounds to an integer and leaves it in the low bits. Range reduction and polynomial as in
    // Cephes' expf.
    const ROUND: f32 = 12_582_912.0;
    let x = (-x).clamp(-87.0, 87.0);
    let rounded = multiply_add::<FMA>(x, std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = multiply_add::<FMA>(n, -0.693_359_4, x);
    let r = multiply_add::<FMA>(n, 2.121_944_4e-4, r);
    let mut p = 1.987_569_1e-4;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = multiply_add::<FMA>(p, r, coefficient);
    }
    let p = multiply_add::<FMA>(p, r * r, r) + 1.0;
    let scale = f32::from_bits((rounded.to_bits() << 23).wrapping_add(127 << 23));
    1.0 / (1.0 + p * scale)
}

/// The GELU in its tanh form, and its derivative.
#[inline(always)]
fn gelu<const FMA: bool>(z: f32) -> (f32, f32) {
    const SLOPE: f32 = GELU_SLOPE as f32;
    const CUBIC: f32 = (GELU_SLOPE * GELU_CUBIC) as f32;
    let square = z * z;
    let gate = sigmoid::<FMA>(z * multiply_add::<FMA>(square, CUBIC, SLOPE));
    let value = z * gate;
    let inner = multiply_add::<FMA>(square, 3.0 * CUBIC, SLOPE);
    (value, multiply_add::<FMA>(value * (1.0 - gate), inner, gate))
}

/// The mish and its derivative. With `s = sigmoid(z)`, `tanh(ln(1 + eᶻ)) = s (2 - s) / (1 + (1 - s)²)`, which neither
/// overflows nor cancels.
#[inline(always)]
fn mish<const FMA: bool>(z: f32) -> (f32, f32) {
    let gate = sigmoid::<FMA>(z);
    let rest = (1.0 - gate) * (1.0 - gate);
    let scale = 1.0 / (1.0 + rest);
    let tanh = gate * (2.0 - gate) * scale;
    (z * tanh, multiply_add::<FMA>(z * 4.0 * rest * gate, scale * scale, tanh))
}

/// The number of floats of [`pack`]ed weights.
pub fn packed_len(depth: usize, width: usize) -> usize {
    depth * width.div_ceil(LANES) * LANES
}

/// Panels from this many numbers on are packed by all threads.
const PARALLEL_PACKING: usize = 1 << 17;

/// Copies row-major weights `[depth, width]` into panels: all rows of the first `LANES` columns, then the next; the
/// last panel is filled up with zeros.
pub fn pack(weights: &[f32], depth: usize, width: usize) -> Vec<f32> {
    pack_panels(depth, width, |index, panel| {
        let rows = weights.chunks_exact(width);
        for (target, row) in panel.as_chunks_mut::<LANES>().0.iter_mut().zip(rows) {
            *target = load(row, index * LANES);
        }
    })
}

/// Packs the transpose of row-major weights `[width, depth]`.
pub fn pack_transposed(weights: &[f32], depth: usize, width: usize) -> Vec<f32> {
    pack_panels(depth, width, |index, panel| {
        let rows = weights.chunks_exact(depth).skip(index * LANES).take(LANES);
        for (lane, row) in rows.enumerate() {
            for (target, value) in panel.iter_mut().skip(lane).step_by(LANES).zip(row) {
                *target = *value;
            }
        }
    })
}

fn pack_panels(depth: usize, width: usize, fill: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
    let mut packed = vec![0.0; packed_len(depth, width)];
    let size = (depth * LANES).max(1);
    if packed.len() < PARALLEL_PACKING {
        packed.chunks_exact_mut(size).enumerate().for_each(|(index, panel)| fill(index, panel));
    } else {
        packed.par_chunks_exact_mut(size).enumerate().for_each(|(index, panel)| fill(index, panel));
    }
    packed
}

/// The weights of a product, `[depth, width]`.
#[derive(Clone, Copy)]
pub enum Weights<'a> {
    /// Panels made by [`pack`] of a matrix of `height` rows, of which the product takes those from `first` on. Worth
    /// it when many rows share them.
    Packed {
        /// What [`pack`] returned.
        panels: &'a [f32],
        /// Rows of the packed matrix.
        height: usize,
        /// The first row that takes part.
        first: usize,
    },
    /// As they lie in a tensor.
    RowMajor(&'a [f32]),
}

/// What is added to each row of a product.
#[derive(Clone, Copy)]
pub enum Bias<'a> {
    /// Nothing.
    None,
    /// The same `[width]` for all rows.
    Shared(&'a [f32]),
    /// A row of `[groups, width]` for each `size` rows; the first row of the block is row `first` of group 0.
    Grouped {
        /// `[groups, width]`.
        values: &'a [f32],
        /// Rows of a group.
        size: usize,
        /// Where the block's first row stands in group 0.
        first: usize,
    },
}

/// What follows the sum.
pub enum Then<'a> {
    /// Nothing or the activation.
    Activate(Activation),
    /// The activation, its derivative kept in `[rows, width]`.
    ActivateWithSlope(Activation, &'a mut [f32]),
    /// A product with `[rows, width]`, element by element.
    Scale(&'a [f32]),
}

/// `out = then(rows · weights + bias)` for a block of rows.
pub struct Product<'a> {
    /// `[rows, depth]`.
    pub rows: &'a [f32],
    /// Numbers that a sum runs over.
    pub depth: usize,
    /// `[depth, width]`.
    pub weights: Weights<'a>,
    /// Columns of the result.
    pub width: usize,
    /// What is added to each row.
    pub bias: Bias<'a>,
    /// What follows the sum.
    pub then: Then<'a>,
    /// `[rows, width]`.
    pub out: &'a mut [f32],
}

impl Kernel for Product<'_> {
    #[inline(always)]
    fn compute<const FMA: bool>(mut self) {
        let mut scratch = match self.weights {
            Weights::Packed { .. } => Vec::new(),
            Weights::RowMajor(_) => vec![ZERO; self.depth],
        };
        for (index, start) in (0..self.width).step_by(LANES).enumerate() {
            match self.weights {
                Weights::Packed { panels, height, first } => {
                    let from = (index * height + first) * LANES;
                    let panel = panels.get(from..from + self.depth * LANES).unwrap_or(&[]);
                    self.panel::<FMA>(start, panel.as_chunks::<LANES>().0);
                }
                Weights::RowMajor(weights) => {
                    for (target, row) in scratch.iter_mut().zip(weights.chunks_exact(self.width)) {
                        *target = load(row, start);
                    }
                    self.panel::<FMA>(start, &scratch);
                }
            }
        }
    }
}

impl Product<'_> {
    /// All rows times the panel of the columns from `start`.
    #[inline(always)]
    fn panel<const FMA: bool>(&mut self, start: usize, panel: &[Row]) {
        let Self { rows, depth, width, bias, ref mut then, ref mut out, .. } = *self;
        let shared = match bias {
            Bias::Shared(values) => load(values, start),
            _ => ZERO,
        };
        let count = rows.len() / depth.max(1);
        let mut first_row = 0;
        while first_row < count {
            let left = count - first_row;
            let row = |offset: usize| {
                // A tile that is cut short repeats the last row.
                let row = (first_row + offset).min(count - 1);
                rows.get(row * depth..(row + 1) * depth).unwrap_or(&[])
            };
            let mut sums = [ZERO; TILE_ROWS];
            // Two small tiles are as fast as what they hold; a large one that is half empty is not.
            let size = if left <= SMALL_TILE_ROWS || left == 2 * SMALL_TILE_ROWS { SMALL_TILE_ROWS } else { TILE_ROWS };
            if size == SMALL_TILE_ROWS {
                let small = small_tile::<FMA>(std::array::from_fn(row), panel);
                sums.iter_mut().zip(small).for_each(|(sum, small)| *sum = small);
            } else {
                sums = tile::<FMA>(std::array::from_fn(row), panel);
            }
            for (offset, row) in sums.iter_mut().enumerate().take(left.min(size)) {
                let row_index = first_row + offset;
                let at = row_index * width;
                let bias = match bias {
                    Bias::Grouped { values, size, first } => {
                        let group = (first + row_index) / size * width;
                        load(values.get(group..group + width).unwrap_or(&[]), start)
                    }
                    _ => shared,
                };
                for (lane, bias) in row.iter_mut().zip(bias) {
                    *lane += bias;
                }
                match then {
                    Then::Activate(Activation::None) => {}
                    Then::Activate(Activation::Gelu) => {
                        for lane in row.iter_mut() {
                            *lane = gelu::<FMA>(*lane).0;
                        }
                    }
                    Then::Activate(Activation::Mish) => {
                        for lane in row.iter_mut() {
                            *lane = mish::<FMA>(*lane).0;
                        }
                    }
                    Then::ActivateWithSlope(activation, slopes) => {
                        let mut slope = ZERO;
                        let lanes = row.iter_mut().zip(&mut slope);
                        match activation {
                            Activation::None => lanes.for_each(|(_, slope)| *slope = 1.0),
                            Activation::Gelu => lanes.for_each(|(lane, slope)| (*lane, *slope) = gelu::<FMA>(*lane)),
                            Activation::Mish => lanes.for_each(|(lane, slope)| (*lane, *slope) = mish::<FMA>(*lane)),
                        }
                        let slopes = slopes.get_mut(at..at + width).unwrap_or(&mut []);
                        store(slopes, start, &slope);
                    }
                    Then::Scale(factors) => {
                        let factors = load(factors.get(at..at + width).unwrap_or(&[]), start);
                        for (lane, factor) in row.iter_mut().zip(factors) {
                            *lane *= factor;
                        }
                    }
                }
                store(out.get_mut(at..at + width).unwrap_or(&mut []), start, row);
            }
            first_row += size;
        }
    }
}

/// Rows `first..` of `leftᵀ · right`, where `left` is `[depth, left_width]` and `right` is packed `[depth, width]`.
pub struct TransposedProduct<'a> {
    /// `[depth, left_width]`.
    pub left: &'a [f32],
    /// Columns of `left`.
    pub left_width: usize,
    /// The first row of the result that is wanted.
    pub first: usize,
    /// Numbers that a sum runs over.
    pub depth: usize,
    /// Panels made by [`pack`].
    pub right: &'a [f32],
    /// Columns of the result.
    pub width: usize,
    /// `[rows, width]`.
    pub out: &'a mut [f32],
}

impl Kernel for TransposedProduct<'_> {
    #[inline(always)]
    fn compute<const FMA: bool>(self) {
        let mut rows = vec![[0.0; TILE_ROWS]; self.depth];
        let blocks = self.out.chunks_mut(TILE_ROWS * self.width);
        for (index, block) in blocks.enumerate() {
            let column = self.first + index * TILE_ROWS;
            for (target, source) in rows.iter_mut().zip(self.left.chunks_exact(self.left_width)) {
                let source = source.get(column..).unwrap_or(&[]);
                match source.first_chunk::<TILE_ROWS>() {
                    Some(source) => *target = *source,
                    None => {
                        for (target, source) in target.iter_mut().zip(source) {
                            *target = *source;
                        }
                    }
                }
            }
            let panels = self.right.chunks_exact((self.depth * LANES).max(1));
            for (panel, start) in panels.zip((0..self.width).step_by(LANES)) {
                let sums = tile_packed::<FMA>(&rows, panel.as_chunks::<LANES>().0);
                for (out, row) in block.chunks_exact_mut(self.width).zip(&sums) {
                    store(out, start, row);
                }
            }
        }
    }
}

/// Sum over a row of a term of its elements, lane by lane and then over the lanes.
macro_rules! row_sum {
    ($($name:ident),+ => $term:expr) => {{
        let mut lanes = ZERO;
        row_sum!(@loop lanes, $($name),+ => $term);
        lanes.iter().sum::<f32>()
    }};
    (@loop $lanes:ident, $a:ident => $term:expr) => {
        let (chunks, rest) = $a.as_chunks::<LANES>();
        for row in chunks {
            for (lane, $a) in $lanes.iter_mut().zip(row) {
                *lane += $term;
            }
        }
        for (lane, $a) in $lanes.iter_mut().zip(rest) {
            *lane += $term;
        }
    };
    (@loop $lanes:ident, $a:ident, $b:ident => $term:expr) => {
        let (a_chunks, a_rest) = $a.as_chunks::<LANES>();
        let (b_chunks, b_rest) = $b.as_chunks::<LANES>();
        for (a_row, b_row) in a_chunks.iter().zip(b_chunks) {
            for ((lane, $a), $b) in $lanes.iter_mut().zip(a_row).zip(b_row) {
                *lane += $term;
            }
        }
        for ((lane, $a), $b) in $lanes.iter_mut().zip(a_rest).zip(b_rest) {
            *lane += $term;
        }
    };
}

#[inline(always)]
fn mean_and_inverse_std(row: &[f32]) -> (f32, f32) {
    let count = row.len() as f32;
    let mean = row_sum!(row => *row) / count;
    let variance = row_sum!(row => (*row - mean) * (*row - mean)) / count;
    (mean, 1.0 / (variance + NORM_EPSILON as f32).sqrt())
}

/// Layer normalisation of a block of rows in place, for inference.
pub struct Normalise<'a> {
    /// `[width]`.
    pub scale: &'a [f32],
    /// `[width]`.
    pub shift: &'a [f32],
    /// `[rows, width]`.
    pub rows: &'a mut [f32],
}

impl Kernel for Normalise<'_> {
    #[inline(always)]
    fn compute<const FMA: bool>(self) {
        for row in self.rows.chunks_exact_mut(self.scale.len().max(1)) {
            let (mean, inverse_std) = mean_and_inverse_std(row);
            for ((value, scale), shift) in row.iter_mut().zip(self.scale).zip(self.shift) {
                *value = multiply_add::<FMA>((*value - mean) * inverse_std, *scale, *shift);
            }
        }
    }
}

/// Layer normalisation of a block of rows that keeps its parts, for training.
pub struct NormaliseWithTrace<'a> {
    /// `[width]`.
    pub scale: &'a [f32],
    /// `[width]`.
    pub shift: &'a [f32],
    /// `[rows, width]`, the input and then the normalised input.
    pub rows: &'a mut [f32],
    /// `[rows]`.
    pub inverse_std: &'a mut [f32],
    /// `[rows, width]`.
    pub out: &'a mut [f32],
}

impl Kernel for NormaliseWithTrace<'_> {
    #[inline(always)]
    fn compute<const FMA: bool>(self) {
        let width = self.scale.len().max(1);
        let rows = self.rows.chunks_exact_mut(width);
        let outs = self.out.chunks_exact_mut(width);
        for ((row, out), kept) in rows.zip(outs).zip(self.inverse_std) {
            let (mean, inverse_std) = mean_and_inverse_std(row);
            *kept = inverse_std;
            let values = row.iter_mut().zip(out);
            for (((value, out), scale), shift) in values.zip(self.scale).zip(self.shift) {
                *value = (*value - mean) * inverse_std;
                *out = multiply_add::<FMA>(*value, *scale, *shift);
            }
        }
    }
}

/// The parts that a layer normalisation needs for its derivatives.
#[derive(Clone, Copy)]
pub struct NormParts<'a> {
    /// `[width]`.
    pub scale: &'a [f32],
    /// `[rows, width]`.
    pub normalised: &'a [f32],
    /// `[rows]`.
    pub inverse_std: &'a [f32],
}

/// The gradient behind the affine map of a layer, in place, and the sums over rows that are its other gradients.
pub struct BackwardRows<'a> {
    /// Columns of the result.
    pub width: usize,
    /// `[rows, width]`, the gradient of the layer's output, then that of its affine map.
    pub gradient: &'a mut [f32],
    /// `[rows, width]`, or none for the identity.
    pub slope: Option<&'a [f32]>,
    /// The parts of the normalisation, if there is one.
    pub norm: Option<NormParts<'a>>,
    /// `[3, width]`: sums of the gradients of bias, scale and shift.
    pub sums: &'a mut [f32],
}

impl Kernel for BackwardRows<'_> {
    #[inline(always)]
    fn compute<const FMA: bool>(self) {
        let width = self.width;
        let (bias_sums, norm_sums) = self.sums.split_at_mut(width);
        let (scale_sums, shift_sums) = norm_sums.split_at_mut(width);
        for (index, gradient) in self.gradient.chunks_exact_mut(width).enumerate() {
            let at = index * width;
            if let Some(norm) = self.norm {
                let normalised = norm.normalised.get(at..at + width).unwrap_or(&[]);
                let inverse_std = norm.inverse_std.get(index).copied().unwrap_or_default();
                let values = gradient.iter_mut().zip(normalised).zip(norm.scale);
                let sums = scale_sums.iter_mut().zip(&mut *shift_sums);
                for (((gradient, x), scale), (scale_sum, shift_sum)) in values.zip(sums) {
                    *shift_sum += *gradient;
                    *scale_sum = multiply_add::<FMA>(*gradient, *x, *scale_sum);
                    *gradient *= scale;
                }
                let values = &*gradient;
                let mean = row_sum!(values => *values) / width as f32;
                let along = row_sum!(values, normalised => *values * *normalised) / width as f32;
                for (gradient, x) in gradient.iter_mut().zip(normalised) {
                    *gradient = (*gradient - mean - x * along) * inverse_std;
                }
            }
            if let Some(slope) = self.slope {
                let slope = slope.get(at..at + width).unwrap_or(&[]);
                for (gradient, slope) in gradient.iter_mut().zip(slope) {
                    *gradient *= slope;
                }
            }
            for (sum, gradient) in bias_sums.iter_mut().zip(gradient) {
                *sum += *gradient;
            }
        }
    }
}

/// Pushes a tangent through a layer normalisation, in place.
pub struct NormTangent<'a> {
    /// The normalisation's parts.
    pub norm: NormParts<'a>,
    /// `[rows, width]`.
    pub tangent: &'a mut [f32],
}

impl Kernel for NormTangent<'_> {
    #[inline(always)]
    fn compute<const FMA: bool>(self) {
        let width = self.norm.scale.len().max(1);
        let rows = self.tangent.chunks_exact_mut(width);
        let parts = self.norm.normalised.chunks_exact(width);
        for ((tangent, normalised), inverse_std) in rows.zip(parts).zip(self.norm.inverse_std) {
            let values = &*tangent;
            let mean = row_sum!(values => *values) / width as f32;
            let along = row_sum!(values, normalised => *values * *normalised) / width as f32;
            for ((tangent, x), scale) in tangent.iter_mut().zip(normalised).zip(self.norm.scale) {
                *tangent = (*tangent - mean - x * along) * inverse_std * scale;
            }
        }
    }
}

/// One step of Adam, all slices of the same length.
pub struct Adam<'a> {
    /// The numbers of the step.
    pub step: AdamStep,
    /// The parameters.
    pub parameter: &'a mut [f32],
    /// Their gradient.
    pub gradient: &'a [f32],
    /// First moments.
    pub first: &'a mut [f32],
    /// Second moments.
    pub second: &'a mut [f32],
}

impl Kernel for Adam<'_> {
    #[inline(always)]
    fn compute<const FMA: bool>(self) {
        let beta_1 = self.step.beta_1 as f32;
        let beta_2 = self.step.beta_2 as f32;
        let rest_1 = (1.0 - self.step.beta_1) as f32;
        let rest_2 = (1.0 - self.step.beta_2) as f32;
        let rate = self.step.rate as f32;
        let epsilon = self.step.epsilon as f32;
        let moments = self.first.iter_mut().zip(self.second);
        let values = self.parameter.iter_mut().zip(self.gradient).zip(moments);
        for ((parameter, gradient), (first, second)) in values {
            *first = *first * beta_1 + gradient * rest_1;
            *second = *second * beta_2 + gradient * gradient * rest_2;
            *parameter -= *first * rate / (second.sqrt() + epsilon);
        }
    }
}

/// `target ← rate · online + (1 - rate) · target`.
pub struct Blend<'a> {
    /// What moves.
    pub target: &'a mut [f32],
    /// What it moves towards.
    pub online: &'a [f32],
    /// The share of `online`.
    pub rate: f64,
}

impl Kernel for Blend<'_> {
    #[inline(always)]
    fn compute<const FMA: bool>(self) {
        let rate = self.rate as f32;
        let rest = (1.0 - self.rate) as f32;
        for (target, online) in self.target.iter_mut().zip(self.online) {
            *target = *target * rest + online * rate;
        }
    }
}

/// The door to each kernel: compiled here, once for each instruction set.
macro_rules! entries {
    ($($kernel:ident),+) => {
        $(impl $kernel<'_> {
            /// Does the work, with the widest instructions of this CPU.
            pub fn run(self) {
                vectorised(self);
            }
        })+
    };
}

entries!(Product, TransposedProduct, Normalise, NormaliseWithTrace, BackwardRows, NormTangent, Adam, Blend);

#[cfg(test)]
mod tests {
    use super::*;

    fn exact_gelu(z: f64) -> (f64, f64) {
        let inner = (2.0 / std::f64::consts::PI).sqrt() * (z + GELU_CUBIC * z.powi(3));
        let tanh = inner.tanh();
        let slope = (2.0 / std::f64::consts::PI).sqrt() * (1.0 + 3.0 * GELU_CUBIC * z * z);
        (0.5 * z * (1.0 + tanh), 0.5 * (1.0 + tanh) + 0.5 * z * (1.0 - tanh * tanh) * slope)
    }

    #[test]
    fn activation_is_exact_to_single_precision() {
        for step in -4_000..=4_000 {
            let z = step as f32 * 0.005;
            let (value, slope) = exact_gelu(f64::from(z));
            for (found_value, found_slope) in [gelu::<true>(z), gelu::<false>(z)] {
                let bound = 5e-7 * value.abs().max(0.1);
                assert!((f64::from(found_value) - value).abs() < bound, "at {z}");
                assert!((f64::from(found_slope) - slope).abs() < 2e-6, "at {z}");
            }
        }
        // Far from zero it is the identity on one side and nothing on the other.
        assert_eq!(gelu::<true>(1e6).0, 1e6);
        assert!(gelu::<true>(-1e6).0.abs() < 1e-30);
        assert!(gelu::<true>(f32::NAN).0.is_nan());
    }

    fn exact_mish(z: f64) -> (f64, f64) {
        let softplus = z.max(0.0) + (-z.abs()).exp().ln_1p();
        let tanh = softplus.tanh();
        (z * tanh, tanh + z * (1.0 - tanh * tanh) / (1.0 + (-z).exp()))
    }

    #[test]
    fn mish_is_exact_to_single_precision() {
        for step in -4_000..=4_000 {
            let z = step as f32 * 0.005;
            let (value, slope) = exact_mish(f64::from(z));
            for (found_value, found_slope) in [mish::<true>(z), mish::<false>(z)] {
                assert!((f64::from(found_value) - value).abs() < 1e-6 * value.abs().max(0.1), "at {z}");
                assert!((f64::from(found_slope) - slope).abs() < 2e-6, "at {z}");
            }
        }
        assert_eq!(mish::<true>(1e6).0, 1e6);
        assert!(mish::<true>(-1e6).0.abs() < 1e-30);
        assert!(mish::<true>(f32::NAN).0.is_nan());
    }

    /// Numbers within [-1, 1] that repeat too late to matter.
    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        let number = |index: usize| ((index * 37 + seed * 11) % 509) as f32 / 254.0 - 1.0;
        (0..count).map(number).collect()
    }

    fn to_f64(values: &[f32]) -> Vec<f64> {
        values.iter().map(|value| f64::from(*value)).collect()
    }

    /// Lets `work` change `start` with the widest instructions (`true`) and with plain ones, and holds both beside each
    /// other and beside `expected`.
    #[track_caller]
    fn check(start: &[f32], expected: &[f64], work: impl Fn(&mut [f32], bool)) {
        let [wide, plain] = [true, false].map(|is_wide| {
            let mut values = start.to_vec();
            work(&mut values, is_wide);
            to_f64(&values)
        });
        assert_eq!(wide.len(), expected.len());
        for (index, ((wide, plain), expected)) in wide.iter().zip(&plain).zip(expected).enumerate() {
            let scale = expected.abs().max(1.0);
            assert!((wide - plain).abs() < 1e-6 * scale, "number {index}: {wide} wide, {plain} plain");
            assert!((wide - expected).abs() < 5e-6 * scale, "number {index}: {wide} instead of {expected}");
        }
    }

    /// Runs a kernel with the widest instructions or with plain ones.
    macro_rules! go {
        ($kernel:expr, $is_wide:expr) => {
            if $is_wide { $kernel.run() } else { $kernel.compute::<false>() }
        };
    }

    const ROWS: usize = 7;
    const DEPTH: usize = 19;
    const WIDTH: usize = 37;

    /// `left · right` of row-major `[ROWS, DEPTH]` and `[DEPTH, WIDTH]`.
    fn exact_product(left: &[f32], right: &[f32]) -> Vec<f64> {
        let (left, right) = (to_f64(left), to_f64(right));
        let sum = |row: usize, column: usize| -> f64 {
            (0..DEPTH).map(|depth| left[row * DEPTH + depth] * right[depth * WIDTH + column]).sum()
        };
        (0..ROWS * WIDTH).map(|index| sum(index / WIDTH, index % WIDTH)).collect()
    }

    #[test]
    fn every_form_of_a_product_is_alike_with_all_instructions() {
        let (left, right) = (numbers(ROWS * DEPTH, 1), numbers(DEPTH * WIDTH, 2));
        let packed = pack(&right, DEPTH, WIDTH);
        let panels = Weights::Packed { panels: &packed, height: DEPTH, first: 0 };
        let sums = exact_product(&left, &right);

        // Three rows share a bias; the block's first row is the second of its group.
        let biases = numbers(3 * WIDTH, 3);
        let biased = |index: usize| sums[index] + f64::from(biases[(index / WIDTH + 1) / 3 * WIDTH + index % WIDTH]);
        let forms: [(Activation, fn(f64) -> (f64, f64)); 2] =
            [(Activation::Gelu, exact_gelu), (Activation::Mish, exact_mish)];
        for (activation, exact) in forms {
            let both: Vec<(f64, f64)> = (0..sums.len()).map(|index| exact(biased(index))).collect();
            let (values, slopes): (Vec<f64>, Vec<f64>) = both.into_iter().unzip();
            let bias = Bias::Grouped { values: &biases, size: 3, first: 1 };
            check(&vec![f32::NAN; 2 * sums.len()], &[values.clone(), slopes].concat(), |out, is_wide| {
                let (out, slope) = out.split_at_mut(sums.len());
                let then = Then::ActivateWithSlope(activation, slope);
                go!(Product { rows: &left, depth: DEPTH, weights: panels, width: WIDTH, bias, then, out }, is_wide);
            });
            check(&vec![f32::NAN; sums.len()], &values, |out, is_wide| {
                let (weights, then) = (Weights::RowMajor(&right), Then::Activate(activation));
                go!(Product { rows: &left, depth: DEPTH, weights, width: WIDTH, bias, then, out }, is_wide);
            });
        }

        let factors = numbers(ROWS * WIDTH, 4);
        let scaled: Vec<f64> = sums.iter().zip(&factors).map(|(sum, factor)| sum * f64::from(*factor)).collect();
        check(&vec![f32::NAN; sums.len()], &scaled, |out, is_wide| {
            let (bias, then) = (Bias::None, Then::Scale(&factors));
            go!(Product { rows: &left, depth: DEPTH, weights: panels, width: WIDTH, bias, then, out }, is_wide);
        });

        let mut stored = vec![0.0; ROWS * DEPTH];
        for (index, value) in left.iter().enumerate() {
            stored[index % DEPTH * ROWS + index / DEPTH] = *value;
        }
        check(&vec![f32::NAN; sums.len()], &sums, |out, is_wide| {
            let (left, right) = (stored.as_slice(), packed.as_slice());
            go!(
                TransposedProduct { left, left_width: ROWS, first: 0, depth: DEPTH, right, width: WIDTH, out },
                is_wide
            );
        });
    }

    /// The normalised rows and one over their standard deviations.
    fn exact_normalised(rows: &[f32]) -> (Vec<f64>, Vec<f64>) {
        let (mut normalised, mut inverse_stds) = (Vec::new(), Vec::new());
        for row in to_f64(rows).chunks(WIDTH) {
            let mean = row.iter().sum::<f64>() / WIDTH as f64;
            let variance = row.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / WIDTH as f64;
            let inverse_std = 1.0 / (variance + NORM_EPSILON).sqrt();
            normalised.extend(row.iter().map(|value| (value - mean) * inverse_std));
            inverse_stds.push(inverse_std);
        }
        (normalised, inverse_stds)
    }

    /// Through a layer normalisation against its direction, per row: `(g - mean g - x · mean (g x)) / std`.
    fn exact_through(gradient: &[f64], normalised: &[f32], inverse_std: &[f32]) -> Vec<f64> {
        let rows = gradient.chunks(WIDTH).zip(normalised.chunks(WIDTH)).zip(inverse_std);
        rows.flat_map(|((gradient, normalised), inverse_std)| {
            let normalised = to_f64(normalised);
            let mean = gradient.iter().sum::<f64>() / WIDTH as f64;
            let along = gradient.iter().zip(&normalised).map(|(g, x)| g * x).sum::<f64>() / WIDTH as f64;
            let terms = gradient.iter().zip(normalised).map(move |(g, x)| g - mean - x * along);
            terms.map(|term| term * f64::from(*inverse_std)).collect::<Vec<_>>()
        })
        .collect()
    }

    #[test]
    fn normalisation_and_its_derivatives_are_alike_with_all_instructions() {
        let (rows, scale, shift) = (numbers(ROWS * WIDTH, 5), numbers(WIDTH, 6), numbers(WIDTH, 7));
        let (normalised, inverse_std) = exact_normalised(&rows);
        let column = |values: &[f32], index: usize| f64::from(values[index % WIDTH]);
        let placed: Vec<f64> = normalised
            .iter()
            .enumerate()
            .map(|(index, value)| value * column(&scale, index) + column(&shift, index))
            .collect();
        check(&rows, &placed, |rows, is_wide| {
            go!(Normalise { scale: &scale, shift: &shift, rows }, is_wide);
        });
        let start = [rows.as_slice(), &[f32::NAN; ROWS], &[f32::NAN; ROWS * WIDTH]].concat();
        check(&start, &[normalised, inverse_std, placed].concat(), |values, is_wide| {
            let (rows, rest) = values.split_at_mut(ROWS * WIDTH);
            let (inverse_std, out) = rest.split_at_mut(ROWS);
            go!(NormaliseWithTrace { scale: &scale, shift: &shift, rows, inverse_std, out }, is_wide);
        });

        // Any numbers will do for the derivatives.
        let (gradient, normalised) = (numbers(ROWS * WIDTH, 8), numbers(ROWS * WIDTH, 9));
        let (slope, inverse_std) = (numbers(ROWS * WIDTH, 10), numbers(ROWS, 11));
        let norm = NormParts { scale: &scale, normalised: &normalised, inverse_std: &inverse_std };
        let scaled: Vec<f64> =
            gradient.iter().enumerate().map(|(index, g)| f64::from(*g) * column(&scale, index)).collect();
        let through = exact_through(&scaled, &normalised, &inverse_std);
        let through: Vec<f64> = through.iter().zip(&slope).map(|(g, slope)| g * f64::from(*slope)).collect();
        let sum_rows = |value: &dyn Fn(usize) -> f64| -> Vec<f64> {
            (0..WIDTH).map(|column| (0..ROWS).map(|row| value(row * WIDTH + column)).sum()).collect()
        };
        let bias = sum_rows(&|index| through[index]);
        let of_scale = sum_rows(&|index| f64::from(gradient[index]) * f64::from(normalised[index]));
        let of_shift = sum_rows(&|index| f64::from(gradient[index]));
        let start = [gradient.as_slice(), &[0.0; 3 * WIDTH]].concat();
        check(&start, &[through, bias, of_scale, of_shift].concat(), |values, is_wide| {
            let (gradient, sums) = values.split_at_mut(ROWS * WIDTH);
            go!(BackwardRows { width: WIDTH, gradient, slope: Some(&slope), norm: Some(norm), sums }, is_wide);
        });

        let tangent = exact_through(&to_f64(&gradient), &normalised, &inverse_std);
        let tangent: Vec<f64> =
            tangent.iter().enumerate().map(|(index, value)| value * column(&scale, index)).collect();
        check(&gradient, &tangent, |tangent, is_wide| {
            go!(NormTangent { norm, tangent }, is_wide);
        });
    }

    #[test]
    fn steps_of_parameters_are_alike_with_all_instructions() {
        let (parameter, gradient, first) = (numbers(WIDTH, 12), numbers(WIDTH, 13), numbers(WIDTH, 14));
        let second: Vec<f32> = numbers(WIDTH, 15).iter().map(|value| value.abs()).collect();
        let step = AdamStep { beta_1: 0.9, beta_2: 0.999, rate: 0.01, epsilon: 1e-8 };
        let moments: Vec<[f64; 3]> = (0..WIDTH)
            .map(|index| {
                let [p, g, m, v] = [&parameter, &gradient, &first, &second].map(|values| f64::from(values[index]));
                let (m, v) = (0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g);
                [p - 0.01 * m / (v.sqrt() + 1e-8), m, v]
            })
            .collect();
        let expected: Vec<f64> = (0..3).flat_map(|part| moments.iter().map(move |found| found[part])).collect();
        check(&[parameter.clone(), first, second].concat(), &expected, |values, is_wide| {
            let (parameter, rest) = values.split_at_mut(WIDTH);
            let (first, second) = rest.split_at_mut(WIDTH);
            go!(Adam { step, parameter, gradient: &gradient, first, second }, is_wide);
        });

        let mixed: Vec<f64> =
            parameter.iter().zip(&gradient).map(|(a, b)| 0.995 * f64::from(*a) + 0.005 * f64::from(*b)).collect();
        check(&parameter, &mixed, |target, is_wide| {
            go!(Blend { target, online: &gradient, rate: 0.005 }, is_wide);
        });
    }

    #[test]
    fn both_instruction_sets_and_layouts_give_one_product() {
        let (rows, depth, width) = (13, 9, 21);
        let left = numbers(rows * depth, 1);
        let right = numbers(depth * width, 2);
        let bias = numbers(width, 3);
        let mut expected = Vec::new();
        for row in left.chunks(depth) {
            for column in 0..width {
                let terms = row.iter().zip(right.chunks(width));
                let sum: f32 = terms.map(|(a, weights)| a * weights[column]).sum();
                expected.push(sum + bias[column]);
            }
        }
        let close = |found: &[f32]| {
            let pairs = found.iter().zip(&expected);
            found.len() == expected.len() && pairs.into_iter().all(|(found, expected)| (found - expected).abs() < 1e-5)
        };

        let packed = pack(&right, depth, width);
        assert_eq!(packed.len(), packed_len(depth, width));
        let mut transposed = vec![0.0; depth * width];
        for (index, value) in right.iter().enumerate() {
            transposed[index % width * depth + index / width] = *value;
        }
        assert_eq!(pack_transposed(&transposed, depth, width), packed);

        for fused in [false, true] {
            let panels = Weights::Packed { panels: &packed, height: depth, first: 0 };
            for weights in [panels, Weights::RowMajor(&right)] {
                let mut out = vec![f32::NAN; rows * width];
                let product = Product {
                    rows: &left,
                    depth,
                    weights,
                    width,
                    bias: Bias::Shared(&bias),
                    then: Then::Activate(Activation::None),
                    out: &mut out,
                };
                if fused {
                    product.run();
                } else {
                    product.compute::<false>();
                }
                assert!(close(&out));
            }
        }

        // The same product with its left side stored transposed, without the bias.
        let mut stored = vec![0.0; rows * depth];
        for (index, value) in left.iter().enumerate() {
            stored[index % depth * rows + index / depth] = *value;
        }
        let mut out = vec![f32::NAN; rows * width];
        TransposedProduct { left: &stored, left_width: rows, first: 0, depth, right: &packed, width, out: &mut out }
            .run();
        for row in out.chunks_mut(width) {
            for (value, bias) in row.iter_mut().zip(&bias) {
                *value += bias;
            }
        }
        assert!(close(&out));
    }
}
