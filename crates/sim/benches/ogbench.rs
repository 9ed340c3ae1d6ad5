//! Control steps per second of OGBench's cube-double, one arena, on one core: random actions, and the oracle in contact.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "a benchmark fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use onestep_sim::{ExpertMemory, ManipTask, Oracle, Robot, SimArena};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn cube_double(c: &mut Criterion) {
    let mut group = c.benchmark_group("ogbench/cube-double");
    group.throughput(Throughput::Elements(1)).measurement_time(Duration::from_secs(8));
    let task = Arc::new(ManipTask::named("cube-double-task2").unwrap());

    group.bench_function("control_step/random", |b| {
        let mut arena = SimArena::new(task.clone(), Robot::panda().unwrap(), 0);
        let mut random = ChaCha8Rng::seed_from_u64(0);
        let mut seed = 0;
        b.iter(|| {
            let action: [f32; 5] = std::array::from_fn(|_| random.random_range(-1.0..=1.0));
            if arena.step(&action).unwrap().is_end() {
                seed += 1;
                arena.reset(seed);
            }
        });
    });

    group.bench_function("control_step/oracle", |b| {
        let play = ManipTask::named("cube-double").unwrap().in_play(Oracle::PLAY);
        let mut arena = SimArena::new(Arc::new(play), Robot::panda().unwrap(), 0);
        let mut memory = ExpertMemory::default();
        let mut seed = 0;
        b.iter(|| {
            let action = arena.expert(&mut memory).unwrap();
            if arena.step(&action).unwrap().is_end() {
                seed += 1;
                arena.reset(seed);
                memory = ExpertMemory::default();
            }
        });
    });

    group.bench_function("reset", |b| {
        let mut arena = SimArena::new(task.clone(), Robot::panda().unwrap(), 0);
        let mut seed = 0;
        b.iter(|| {
            seed += 1;
            arena.reset(seed);
        });
    });
    group.finish();
}

criterion_group!(benches, cube_double);
criterion_main!(benches);
