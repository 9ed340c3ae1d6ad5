//! Helpers of the unit tests.

use burn::tensor::{DType, Tensor, TensorData};
use burn_flex::{Flex, FlexDevice};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::NoiseSource;
use crate::network::Network;

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

/// The same numbers in double precision.
pub(crate) fn to_f64<const D: usize>(tensor: &Tensor<Flex, D>) -> Tensor<Flex, D> {
    let dims = tensor.dims();
    let values: Vec<f64> = tensor.to_data().iter::<f64>().collect();
    Tensor::from_data(TensorData::new(values, dims), (&FlexDevice, DType::F64))
}

/// The same network in double precision.
pub(crate) fn network_to_f64(network: &Network<Flex>) -> Network<Flex> {
    let mut network = network.clone();
    for parameter in network.parameters_mut() {
        *parameter = to_f64(parameter);
    }
    network
}
