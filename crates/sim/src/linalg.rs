//! Small dense solves on arrays.
#![allow(clippy::needless_range_loop, reason = "indices are the notation of the algorithm")]

/// Cholesky factor `L` of a symmetric positive definite matrix, `A = L Lᵀ`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cholesky<const N: usize>([[f64; N]; N]);

impl<const N: usize> Cholesky<N> {
    /// Factors `a`, of which only the lower triangle is read. A pivot that is not positive (a singular matrix) is
    /// lifted to `floor`, which damps the solution along that direction instead of letting it grow without bound.
    pub(crate) fn new(mut a: [[f64; N]; N], floor: f64) -> Self {
        for j in 0..N {
            let mut pivot = a[j][j];
            for k in 0..j {
                pivot -= a[j][k] * a[j][k];
            }
            let pivot = pivot.max(floor).sqrt();
            a[j][j] = pivot;
            for i in j + 1..N {
                let mut sum = a[i][j];
                for k in 0..j {
                    sum -= a[i][k] * a[j][k];
                }
                a[i][j] = sum / pivot;
            }
        }
        Self(a)
    }

    /// `A⁻¹ b`.
    pub(crate) fn solve(&self, mut b: [f64; N]) -> [f64; N] {
        let l = &self.0;
        for i in 0..N {
            for k in 0..i {
                b[i] -= l[i][k] * b[k];
            }
            b[i] /= l[i][i];
        }
        for i in (0..N).rev() {
            for k in i + 1..N {
                b[i] -= l[k][i] * b[k];
            }
            b[i] /= l[i][i];
        }
        b
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn solves_a_small_system() {
        let a = [[4.0, 1.0, 0.5], [1.0, 3.0, 0.2], [0.5, 0.2, 2.0]];
        let x = Cholesky::new(a, 1e-12).solve([1.0, 2.0, 3.0]);
        for (row, b) in a.iter().zip([1.0, 2.0, 3.0]) {
            let sum: f64 = row.iter().zip(x).map(|(a, x)| a * x).sum();
            assert!((sum - b).abs() < 1e-12);
        }
    }
}
