//! Control steps per second of Lift, one arena, on one core: by hand and through a Bevy app.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "a benchmark fails by panicking")]

use std::time::Duration;

use bevy::MinimalPlugins;
use bevy::app::App;
use bevy::time::TimeUpdateStrategy;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use onestep_agent::AgentMode;
use onestep_sim::{ExpertMemory, Robot, SimArena, SimPlugin, task};

fn lift(c: &mut Criterion) {
    let mut group = c.benchmark_group("lift");
    group.throughput(Throughput::Elements(1)).measurement_time(Duration::from_secs(8));

    group.bench_function("control_step/arena", |b| {
        let mut arena = SimArena::new(task("lift").unwrap(), Robot::panda().unwrap(), 0);
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

    for bodies in [false, true] {
        let name = if bodies { "control_step/app_with_bodies" } else { "control_step/app" };
        group.bench_function(name, |b| {
            let mut app = App::new();
            app.add_plugins((MinimalPlugins, SimPlugin { mode: AgentMode::Scripted, bodies, ..SimPlugin::default() }))
                .insert_resource(TimeUpdateStrategy::ManualDuration(Duration::from_millis(50)));
            app.update();
            b.iter(|| app.update());
        });
    }

    group.bench_function("reset", |b| {
        let mut arena = SimArena::new(task("lift").unwrap(), Robot::panda().unwrap(), 0);
        let mut seed = 0;
        b.iter(|| {
            seed += 1;
            arena.reset(seed);
        });
    });
    group.finish();
}

criterion_group!(benches, lift);
criterion_main!(benches);
