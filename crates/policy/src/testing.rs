//! Helpers of the unit tests.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::NoiseSource;

/// A seeded source of noise.
pub(crate) struct Stream(ChaCha8Rng);

impl Stream {
    pub(crate) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// `count` standard normal draws.
    pub(crate) fn normal(&mut self, count: usize) -> Vec<f32> {
        let mut draws = vec![0.0; count];
        self.fill_normal(&mut draws);
        draws
    }
}

impl NoiseSource for Stream {
    fn fill_normal(&mut self, out: &mut [f32]) {
        for value in out {
            *value = StandardNormal.sample(&mut self.0);
        }
    }

    fn fill_uniform(&mut self, out: &mut [f32]) {
        for value in out {
            *value = self.0.random();
        }
    }
}
