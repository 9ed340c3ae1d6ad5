//! Helpers that several tests share.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "each test uses its part; tests fail by panicking"
)]

use std::collections::BTreeMap;

use onestep_policy::{
    AlgorithmConfig, Batch, ComputeDevice, Learner, MvpConfig, NoiseSource, Phase, PolicySpec, SelectRequest,
    create_learner,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

pub const SPEC: PolicySpec = PolicySpec { observation_dim: 5, action_dim: 2, horizon: 3 };

/// A seeded source of noise.
#[derive(Clone)]
pub struct Stream(ChaCha8Rng);

impl Stream {
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    pub fn normal(&mut self, count: usize) -> Vec<f32> {
        let mut draws = vec![0.0; count];
        self.fill_normal(&mut draws);
        draws
    }

    pub fn uniform(&mut self, count: usize) -> Vec<f32> {
        let mut draws = vec![0.0; count];
        self.fill_uniform(&mut draws);
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

/// Networks small enough for a test.
pub fn tiny() -> MvpConfig {
    MvpConfig {
        horizon: SPEC.horizon,
        batch_size: 32,
        actor_hidden: vec![64, 64],
        critic_hidden: vec![64, 64],
        candidates: 8,
        target_candidates: 4,
        learning_rate: 1e-3,
        ..MvpConfig::default()
    }
}

/// Any algorithm with networks small enough for a test.
pub fn tiny_of(name: &str) -> AlgorithmConfig {
    let changes = serde_json::json!({
        "horizon": SPEC.horizon,
        "batch_size": 32,
        "actor_hidden": [64, 64],
        "critic_hidden": [64, 64],
        "learning_rate": 1e-3,
        "diagnostics_every": 3,
        "temperature_every": 4,
    });
    changed(&AlgorithmConfig::named(name).unwrap(), &changes)
}

/// The same algorithm with other settings; those it does not have are passed over.
pub fn changed(config: &AlgorithmConfig, changes: &serde_json::Value) -> AlgorithmConfig {
    let mut table = serde_json::to_value(config).unwrap();
    for (key, value) in changes.as_object().unwrap() {
        if let Some(place) = table.get_mut(key) {
            *place = value.clone();
        }
    }
    serde_json::from_value(table).unwrap()
}

pub fn learner(config: &MvpConfig, seed: u64) -> Box<dyn Learner> {
    learner_of(&AlgorithmConfig::Mvp(config.clone()), seed)
}

pub fn learner_of(config: &AlgorithmConfig, seed: u64) -> Box<dyn Learner> {
    learner_on(&ComputeDevice::Cpu, config, seed)
}

pub fn learner_on(device: &ComputeDevice, config: &AlgorithmConfig, seed: u64) -> Box<dyn Learner> {
    create_learner(config, &SPEC, device, &mut Stream::new(seed)).unwrap()
}

/// Numbers of a batch, owned.
#[derive(Clone)]
pub struct Experience {
    pub phase: Phase,
    pub observations: Vec<f32>,
    pub actions: Vec<f32>,
    pub valid: Vec<f32>,
    pub returns: Vec<f32>,
    pub bootstrap: Vec<f32>,
    pub critic_valid: Vec<f32>,
    pub next_observations: Vec<f32>,
}

impl Experience {
    /// Chunks that end their episode; the return is higher the closer the chunk is to a goal in the observation.
    pub fn bandit(rows: usize, stream: &mut Stream) -> Self {
        let observations: Vec<f32> =
            stream.uniform(rows * SPEC.observation_dim).into_iter().map(|draw| 2.0 * draw - 1.0).collect();
        let mut actions = stream.normal(rows * SPEC.chunk_dim());
        let mut returns = Vec::new();
        for (action, observation) in actions.chunks_mut(SPEC.chunk_dim()).zip(observations.chunks(SPEC.observation_dim))
        {
            for (action, goal) in action.iter_mut().zip(goal(observation)) {
                *action = (goal + 0.4 * *action).clamp(-1.0, 1.0);
            }
            returns.push(-squared_distance(action, observation));
        }
        Self {
            phase: Phase::Offline,
            next_observations: observations.clone(),
            observations,
            actions,
            valid: vec![1.0; rows * SPEC.horizon],
            returns,
            bootstrap: vec![0.0; rows],
            critic_valid: vec![1.0; rows],
        }
    }

    /// Random numbers in every field, all chunks whole.
    pub fn random(rows: usize, stream: &mut Stream) -> Self {
        let mut experience = Self::bandit(rows, stream);
        experience.bootstrap = vec![0.95; rows];
        experience.next_observations = stream.normal(rows * SPEC.observation_dim);
        experience
    }

    pub fn batch(&self) -> Batch<'_> {
        Batch {
            size: self.returns.len(),
            phase: self.phase,
            observations: &self.observations,
            actions: &self.actions,
            valid: &self.valid,
            returns: &self.returns,
            bootstrap: &self.bootstrap,
            critic_valid: &self.critic_valid,
            next_observations: &self.next_observations,
        }
    }
}

/// The chunk that is best at an observation.
pub fn goal(observation: &[f32]) -> impl Iterator<Item = f32> + '_ {
    (0..SPEC.chunk_dim()).map(|index| 0.6 * observation[index % SPEC.observation_dim])
}

pub fn squared_distance(action: &[f32], observation: &[f32]) -> f32 {
    let squares = action.iter().zip(goal(observation)).map(|(action, goal)| (action - goal).powi(2));
    squares.sum::<f32>() / SPEC.chunk_dim() as f32
}

/// A request of `agents` agents with `candidates` candidates, from drawn numbers.
pub struct Question {
    pub agents: usize,
    pub candidates: usize,
    pub observations: Vec<f32>,
    pub noise: Vec<f32>,
}

impl Question {
    pub fn new(agents: usize, candidates: usize, stream: &mut Stream) -> Self {
        Self {
            agents,
            candidates,
            observations: stream
                .uniform(agents * SPEC.observation_dim)
                .into_iter()
                .map(|draw| 2.0 * draw - 1.0)
                .collect(),
            noise: stream.normal(agents * candidates * SPEC.chunk_dim()),
        }
    }

    pub fn request(&self, return_candidates: bool) -> SelectRequest<'_> {
        SelectRequest {
            agents: self.agents,
            observations: &self.observations,
            candidates: self.candidates,
            noise: &self.noise,
            exploration: None,
            return_candidates,
        }
    }
}

/// All tensors of a file that a learner wrote, by name.
pub fn tensors(bytes: &[u8]) -> BTreeMap<String, Vec<f32>> {
    let file = safetensors::SafeTensors::deserialize(bytes).unwrap();
    let read = |name: &str| {
        let data = file.tensor(name).unwrap().data().to_vec();
        data.chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
    };
    file.names().into_iter().map(|name| (name.to_owned(), read(name))).collect()
}

/// The mean distance of selected chunks from the goals.
pub fn distance(learner: &mut dyn Learner, candidates: usize) -> f32 {
    let question = Question::new(100, candidates, &mut Stream::new(99));
    let selection = learner.select(&question.request(false)).unwrap();
    let chunks = selection.actions.chunks(SPEC.chunk_dim());
    let observations = question.observations.chunks(SPEC.observation_dim);
    let distances = chunks.zip(observations);
    distances.map(|(chunk, observation)| squared_distance(chunk, observation)).sum::<f32>() / 100.0
}
