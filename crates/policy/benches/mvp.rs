//! Selection and update of Mean Velocity Policy on the CPU, at the published sizes and at those of a laptop.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "benchmarks fail by panicking, and their macros make undocumented items"
)]

use criterion::{Criterion, criterion_group, criterion_main};
use onestep_policy::{
    AlgorithmConfig, Batch, ComputeDevice, MvpConfig, NoiseSource, Phase, PolicySpec, SelectRequest, create_learner,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

struct Stream(ChaCha8Rng);

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

impl Stream {
    fn normal(&mut self, count: usize) -> Vec<f32> {
        let mut draws = vec![0.0; count];
        self.fill_normal(&mut draws);
        draws
    }
}

fn bench(criterion: &mut Criterion, name: &str, config: MvpConfig, spec: PolicySpec) {
    let mut stream = Stream(ChaCha8Rng::seed_from_u64(1));
    let (rows, candidates) = (config.batch_size, config.candidates);
    let algorithm = AlgorithmConfig::Mvp(config);
    let mut learner = create_learner(&algorithm, &spec, &ComputeDevice::Cpu, &mut stream).unwrap();

    let mut group = criterion.benchmark_group(name);
    let observations = stream.normal(rows * spec.observation_dim);
    for agents in [1, 16] {
        let noise = stream.normal(agents * candidates * spec.chunk_dim());
        let request = SelectRequest {
            agents,
            observations: &observations[..agents * spec.observation_dim],
            candidates,
            noise: &noise,
            return_candidates: false,
        };
        let id = format!("select/{agents} agents x {candidates} candidates");
        group.bench_function(id, |bencher| {
            bencher.iter(|| learner.select(&request).unwrap());
        });
    }

    let mut actions = stream.normal(rows * spec.chunk_dim());
    actions.iter_mut().for_each(|action| *action = action.clamp(-1.0, 1.0));
    let batch = Batch {
        size: rows,
        phase: Phase::Online,
        observations: &observations,
        actions: &actions,
        valid: &vec![1.0; rows * spec.horizon],
        returns: &stream.normal(rows),
        bootstrap: &vec![0.95; rows],
        critic_valid: &vec![1.0; rows],
        next_observations: &stream.normal(rows * spec.observation_dim),
    };
    group.sample_size(20);
    group.bench_function("update", |bencher| {
        bencher.iter(|| learner.update(&batch, &mut stream).unwrap());
    });
    group.finish();
}

fn mvp(criterion: &mut Criterion) {
    let paper = PolicySpec { observation_dim: 37, action_dim: 5, horizon: 5 };
    bench(criterion, "mvp paper", MvpConfig::default(), paper);
    let small = PolicySpec { observation_dim: 19, action_dim: 7, horizon: 5 };
    bench(criterion, "mvp small", MvpConfig::small(), small);
}

criterion_group!(benches, mvp);
criterion_main!(benches);
