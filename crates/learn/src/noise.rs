use onestep_policy::NoiseSource;
use rand::{Rng, RngExt};
use rand_distr::StandardNormal;

/// A named random stream as the learning core takes its noise: drawn on the host, so that a seed means the same on
/// every device.
pub struct StreamNoise<'a, R: Rng>(pub &'a mut R);

impl<R: Rng> NoiseSource for StreamNoise<'_, R> {
    fn fill_normal(&mut self, out: &mut [f32]) {
        for value in out {
            *value = self.0.sample(StandardNormal);
        }
    }

    fn fill_uniform(&mut self, out: &mut [f32]) {
        for value in out {
            *value = self.0.random::<f32>();
        }
    }
}
