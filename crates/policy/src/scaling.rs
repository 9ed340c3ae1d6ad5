//! Observations in units that a network can work with.
//!
//! Some benchmarks observe metres: a gripper's opening varies by millimetres, its place by decimetres, while the noise
//! beside them varies by one. A network needs thousands of updates to find the small numbers. Others (OGBench) scale
//! their observations themselves. So it is a choice of the run, not of an algorithm, and none is the default, as in
//! the papers.

use crate::PolicyError;
use crate::learner::check_size;

/// Shift and factor of each number of an observation before any network sees it: `(s - shift) · factor`, then clipped.
///
/// It belongs to the weights: it is saved with them, and loaded with them.
#[derive(Debug, Clone, PartialEq)]
pub struct ObservationScaling {
    shift: Vec<f32>,
    factor: Vec<f32>,
}

/// A number that varies less than this in the data is treated as if it varied so much: an orientation that all
/// demonstrations share must not be blown up when the arm tilts a little.
const LEAST_DEVIATION: f64 = 0.01;

/// Scaled numbers end here on both sides. Demonstrations stay far inside; an arm that is lost must not drown the rest.
pub const CLIP: f32 = 10.0;

impl ObservationScaling {
    /// To mean 0 and standard deviation 1 over `rows`, each of `observation_dim` numbers; a standard deviation below
    /// 0.01 counts as 0.01. Without a row nothing is changed.
    #[must_use]
    pub fn standardising<'a>(observation_dim: usize, rows: impl Iterator<Item = &'a [f32]>) -> Self {
        // Welford's way: no cancellation, whatever the offset.
        let mut count = 0.0;
        let (mut mean, mut squares) = (vec![0.0; observation_dim], vec![0.0; observation_dim]);
        for row in rows {
            count += 1.0;
            for ((mean, squares), value) in mean.iter_mut().zip(&mut squares).zip(row) {
                let value = f64::from(*value);
                let before = value - *mean;
                *mean += before / count;
                *squares += before * (value - *mean);
            }
        }
        if count == 0.0 {
            return Self { shift: vec![0.0; observation_dim], factor: vec![1.0; observation_dim] };
        }
        Self {
            shift: mean.into_iter().map(|mean| mean as f32).collect(),
            factor: squares.into_iter().map(|sum| 1.0 / (sum / count).sqrt().max(LEAST_DEVIATION) as f32).collect(),
        }
    }

    /// From its numbers, `[S]` each.
    ///
    /// # Errors
    /// [`PolicyError::InvalidConfig`] if a number is not finite or the lengths differ.
    pub fn new(shift: Vec<f32>, factor: Vec<f32>) -> Result<Self, PolicyError> {
        check_size("observation.factor", factor.len(), shift.len(), "one for each number of an observation")?;
        match shift.iter().chain(&factor).find(|value| !value.is_finite()) {
            None => Ok(Self { shift, factor }),
            Some(value) => Err(PolicyError::config("observation scaling", value, "it must be finite")),
        }
    }

    /// Numbers in an observation.
    #[must_use]
    pub fn observation_dim(&self) -> usize {
        self.shift.len()
    }

    /// What is subtracted, `[S]`.
    #[must_use]
    pub fn shift(&self) -> &[f32] {
        &self.shift
    }

    /// What the difference is multiplied by, `[S]`.
    #[must_use]
    pub fn factor(&self) -> &[f32] {
        &self.factor
    }

    /// Scales whole observations, `[n, S]`, row-major.
    pub fn apply(&self, observations: &mut [f32]) {
        for row in observations.chunks_mut(self.shift.len().max(1)) {
            for ((value, shift), factor) in row.iter_mut().zip(&self.shift).zip(&self.factor) {
                *value = ((*value - shift) * factor).clamp(-CLIP, CLIP);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn data_get_mean_zero_and_deviation_one() {
        let data: Vec<f32> = (0..200).flat_map(|i| [100.0 + 0.5 * (i % 2) as f32, 7.0, 0.001 * i as f32]).collect();
        let scaling = ObservationScaling::standardising(3, data.chunks(3));
        let mut scaled = data.clone();
        scaling.apply(&mut scaled);
        for column in [0, 2] {
            let values: Vec<f32> = scaled.chunks(3).map(|row| row[column]).collect();
            let mean = values.iter().sum::<f32>() / 200.0;
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / 200.0;
            assert!(mean.abs() < 1e-4 && (variance - 1.0).abs() < 1e-3, "{column}: {mean}, {variance}");
        }
        // What never varies counts in hundredths.
        assert!(scaled.chunks(3).all(|row| row[1] == 0.0));
        let mut other = [100.25, 7.02, 1e9];
        scaling.apply(&mut other);
        assert!((other[1] - 2.0).abs() < 1e-3 && other[2] == CLIP, "{other:?}");
    }

    #[test]
    fn without_data_nothing_changes() {
        let scaling = ObservationScaling::standardising(2, std::iter::empty());
        let mut row = [3.0, -4.0];
        scaling.apply(&mut row);
        assert_eq!(row, [3.0, -4.0]);
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused() {
        assert!(ObservationScaling::new(vec![0.0; 2], vec![1.0; 3]).unwrap_err().to_string().contains("observation"));
        assert!(ObservationScaling::new(vec![f32::NAN], vec![1.0]).unwrap_err().to_string().contains("finite"));
    }
}
