//! The networks on the device that Bevy renders with. Without any Vulkan driver there is nothing to share, and the
//! tests say so and pass; Mesa's software driver is enough to run them.
#![cfg(all(feature = "render", feature = "wgpu"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

#[path = "../../../tests/skip/mod.rs"]
mod skip;

use bevy::{prelude::*, window::ExitCondition};
use onestep_agent::prelude::*;
use onestep_learn::{AlgorithmConfig, CandidateSet, Compute, ComputeReport, PolicyPlugin, PolicySource, prepare};
use onestep_policy::MvpConfig;

fn is_there_an_adapter() -> bool {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        // OpenGL would print complaints of its own where there is no display.
        backends: wgpu::Backends::PRIMARY,
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let found = !bevy::tasks::block_on(instance.enumerate_adapters(wgpu::Backends::PRIMARY)).is_empty();
    if !found {
        skip::skip("no graphics adapter answers (Debian: apt-get install mesa-vulkan-drivers)");
    }
    found
}

fn app(compute: Compute, renders: bool) -> App {
    let mut app = App::new();
    if renders {
        app.add_plugins(
            DefaultPlugins
                .set(WindowPlugin { primary_window: None, exit_condition: ExitCondition::DontExit, ..default() })
                .disable::<bevy::winit::WinitPlugin>()
                .disable::<bevy::log::LogPlugin>(),
        );
    } else {
        app.add_plugins(MinimalPlugins);
    }
    app.add_plugins((
        AgentPlugin { seed: 3 },
        PolicyPlugin {
            source: PolicySource::Create {
                algorithm: AlgorithmConfig::Mvp(MvpConfig {
                    actor_hidden: vec![32, 32],
                    critic_hidden: vec![32, 32],
                    candidates: 8,
                    ..MvpConfig::small()
                }),
                compute,
            },
            keep_candidates: true,
            ..default()
        },
    ));
    let spec = AgentSpec::new(ObservationSpace::new([("x", 5)]), ActionSpace::new(["a", "b"]), 100);
    for agent in 0..3 {
        app.world_mut().spawn(AgentBundle::new(agent, spec.clone()));
    }
    while app.plugins_state() == bevy::app::PluginsState::Adding {
        bevy::tasks::tick_global_task_pools_on_main_thread();
    }
    app.finish();
    app.cleanup();
    app
}

fn candidates(app: &mut App) -> Vec<CandidateSet> {
    app.world_mut().run_schedule(FixedUpdate);
    app.world_mut().query::<&CandidateSet>().iter(app.world()).cloned().collect()
}

#[test]
fn burn_works_on_the_device_that_renders_and_agrees_with_the_cpu() {
    if !is_there_an_adapter() {
        return;
    }
    let mut gpu = app(Compute::Gpu, true);
    prepare(&mut gpu).unwrap();
    let report = gpu.world().resource::<ComputeReport>().clone();
    assert!(report.shares_render_device, "{}", report.text);
    let mut cpu = app(Compute::Cpu, false);
    prepare(&mut cpu).unwrap();
    let (on_gpu, on_cpu) = (candidates(&mut gpu), candidates(&mut cpu));
    assert_eq!(on_gpu.len(), 3);
    for (gpu_set, cpu_set) in on_gpu.iter().zip(&on_cpu) {
        assert_eq!(gpu_set.q.len(), 8);
        for (a, b) in gpu_set.actions.iter().zip(&cpu_set.actions).chain(gpu_set.q.iter().zip(&cpu_set.q)) {
            assert!((a - b).abs() < 1e-3, "{a} on the GPU, {b} on the CPU");
        }
    }
    // Frames and tensors take turns on one queue.
    for _ in 0..3 {
        gpu.update();
        candidates(&mut gpu);
    }
}

#[test]
fn a_software_driver_is_not_taken_for_a_gpu() {
    if !is_there_an_adapter() {
        return;
    }
    let mut auto = app(Compute::Auto, true);
    prepare(&mut auto).unwrap();
    let info = &**auto.world().resource::<bevy::render::renderer::RenderAdapterInfo>();
    let is_software = info.device_type == wgpu::DeviceType::Cpu;
    let report = auto.world().resource::<ComputeReport>();
    assert_eq!(report.shares_render_device, !is_software, "{}", report.text);
}
