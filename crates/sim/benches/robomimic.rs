//! Control steps per second of Robomimic's tasks besides Lift, one arena on one core, with the scripted expert.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "a benchmark fails by panicking")]

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use onestep_sim::{ExpertMemory, Robot, SimArena, task};

fn tasks(c: &mut Criterion) {
    for name in ["can", "square", "tool-hang", "transport"] {
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Elements(1)).measurement_time(Duration::from_secs(8));
        group.bench_function("control_step/arena", |b| {
            let mut arena = SimArena::new(task(name).unwrap(), Robot::panda().unwrap(), 0);
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
        group.finish();
    }
}

criterion_group!(benches, tasks);
criterion_main!(benches);
