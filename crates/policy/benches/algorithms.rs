//! Selection and update of every algorithm on the CPU, at the published sizes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "benchmarks fail by panicking, and their macros make undocumented items"
)]

#[path = "../tests/common/mod.rs"]
mod common;

use common::Stream;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main, measurement::WallTime};
use onestep_policy::{
    AlgorithmConfig, Batch, ComputeDevice, Learner, Phase, PolicySpec, SelectRequest, create_learner,
};

/// Sizes of cube-double, the benchmark's middle: what the paper's networks are timed with.
const SPEC: PolicySpec = PolicySpec { observation_dim: 37, action_dim: 5, horizon: 5 };

fn learner_of(config: &AlgorithmConfig, spec: &PolicySpec, stream: &mut Stream) -> Box<dyn Learner> {
    create_learner(config, spec, &ComputeDevice::Cpu, stream).unwrap()
}

/// One selection for each number of agents.
fn bench_select(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, config: &AlgorithmConfig, crowds: &[usize]) {
    let mut stream = Stream::new(1);
    let spec = PolicySpec { horizon: config.horizon(), ..SPEC };
    let mut learner = learner_of(config, &spec, &mut stream);
    for &agents in crowds {
        let observations = stream.normal(agents * spec.observation_dim);
        let noise = stream.normal(agents * config.candidates() * spec.chunk_dim());
        let request = SelectRequest {
            agents,
            observations: &observations,
            candidates: config.candidates(),
            noise: &noise,
            exploration: None,
            return_candidates: false,
        };
        group.bench_function(BenchmarkId::new(name, agents), |bencher| {
            bencher.iter(|| learner.select(&request).unwrap());
        });
    }
}

fn bench_update(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, config: &AlgorithmConfig) {
    let mut stream = Stream::new(1);
    let spec = PolicySpec { horizon: config.horizon(), ..SPEC };
    let mut learner = learner_of(config, &spec, &mut stream);
    let rows = config.batch_size();
    let mut actions = stream.normal(rows * spec.chunk_dim());
    actions.iter_mut().for_each(|action| *action = action.clamp(-1.0, 1.0));
    let batch = Batch {
        size: rows,
        phase: Phase::Online,
        observations: &stream.normal(rows * spec.observation_dim),
        actions: &actions,
        valid: &vec![1.0; rows * spec.horizon],
        returns: &stream.normal(rows),
        bootstrap: &vec![0.95; rows],
        critic_valid: &vec![1.0; rows],
        next_observations: &stream.normal(rows * spec.observation_dim),
    };
    group.bench_function(name, |bencher| {
        bencher.iter(|| learner.update(&batch, &mut stream).unwrap());
    });
}

fn algorithms(criterion: &mut Criterion) {
    let named = |name: &str| AlgorithmConfig::named(name).unwrap();
    let mut group = criterion.benchmark_group("select, published sizes");
    bench_select(&mut group, "mvp", &named("mvp"), &[1, 4, 16, 64, 256]);
    for name in AlgorithmConfig::NAMES.into_iter().filter(|name| *name != "mvp") {
        bench_select(&mut group, name, &named(name), &[1]);
    }
    group.finish();

    let mut group = criterion.benchmark_group("update, published sizes");
    group.sample_size(15);
    for name in AlgorithmConfig::NAMES {
        bench_update(&mut group, name, &named(name));
    }
    group.finish();

    let small = named("mvp").shrunk();
    let mut group = criterion.benchmark_group("mvp, small");
    bench_select(&mut group, "select", &small, &[1, 16]);
    bench_update(&mut group, "update", &small);
    group.finish();
}

criterion_group!(benches, algorithms);
criterion_main!(benches);
