//! A scripted expert as it plays an episode.

use onestep_agent::{Purpose, derive_seed};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::arena::SimArena;
use crate::expert::{ExpertMemory, ExpertNoise};

/// A scripted expert in one episode: what it remembers, and the random stream of its noise.
///
/// The stream follows from the episode's seed, so a scripted episode follows from its seed and its [`ExpertNoise`] alone,
/// whatever is played before it and beside it.
#[derive(Debug, Clone)]
pub struct Script {
    memory: ExpertMemory,
    random: ChaCha8Rng,
}

impl Script {
    /// For the episode with this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let random = ChaCha8Rng::seed_from_u64(derive_seed(seed, Purpose::Expert, 0, 0));
        Self { memory: ExpertMemory::default(), random }
    }

    /// The expert's action in the arena's state, disturbed by `noise`, if the task has an expert. Ask once in a step.
    pub fn act(&mut self, arena: &SimArena, noise: &ExpertNoise) -> Option<Vec<f32>> {
        let mut action = arena.expert(&mut self.memory)?;
        noise.apply(&mut action, &mut self.random);
        Some(action)
    }
}
