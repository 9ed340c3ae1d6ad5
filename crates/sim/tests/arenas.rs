//! Arenas do not touch each other: each does beside others, on whatever thread, what it does alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use bevy::MinimalPlugins;
use bevy::app::{App, FixedUpdate};
use bevy::ecs::prelude::*;
use onestep_agent::{derive_seed, prelude::*};
use onestep_sim::memory::require_memory;
use onestep_sim::{Arena, ExpertNoise, Robot, SimArena, SimError, SimPlugin, task, tasks};

const TICKS: u32 = 25;
/// At this tick one arena starts over while the others go on.
const RESET_AT: u32 = 10;
const RESET_AGENT: u32 = 2;

/// For each agent after every tick: hash of its arena, seed and step of its episode.
fn run(name: &str, first_agent: u32, arenas: u32, mode: AgentMode) -> Vec<Vec<(u64, u64, u32)>> {
    let expert_noise = ExpertNoise { std: 0.1, random_action_probability: 0.05 };
    let mut app = App::new();
    let plugin =
        SimPlugin { task: name.into(), arenas, first_agent, mode, expert_noise, seed: 5, ..SimPlugin::default() };
    app.add_plugins((MinimalPlugins, plugin));
    app.finish();
    app.cleanup();
    let world = app.world_mut();
    let mut agents: Vec<(Agent, Entity)> =
        world.query::<(&Agent, Entity)>().iter(world).map(|(agent, entity)| (*agent, entity)).collect();
    agents.sort();
    let mut hashes = vec![Vec::new(); agents.len()];
    for tick in 0..TICKS {
        for (agent, entity) in &agents {
            if mode == AgentMode::Human {
                let mut action = world.get_mut::<Action>(*entity).unwrap();
                for (index, number) in (0..).zip(action.values_mut()) {
                    let bits = derive_seed(u64::from(tick), Purpose::World, agent.0, index);
                    *number = bits as f32 / (1_u64 << 62) as f32 - 1.0;
                }
            }
            if tick == RESET_AT && agent.0 == RESET_AGENT {
                world.get_mut::<Episode>(*entity).unwrap().abandon();
            }
        }
        world.run_schedule(FixedUpdate);
        for ((_, entity), hashes) in agents.iter().zip(&mut hashes) {
            let episode = world.get::<Episode>(*entity).unwrap();
            hashes.push((world.get::<Arena>(*entity).unwrap().sim().hash(), episode.seed, episode.step));
        }
    }
    hashes
}

#[test]
fn an_arena_among_others_does_what_it_does_alone() {
    for name in tasks() {
        let expert = task(name).unwrap().has_expert().then_some(AgentMode::Scripted);
        for mode in [AgentMode::Human].into_iter().chain(expert) {
            let together = run(name, 0, 5, mode);
            for agent in [0, RESET_AGENT, 4] {
                let alone = run(name, agent, 1, mode);
                assert_eq!(together[agent as usize], alone[0], "{name}, {mode:?}, arena {agent} of 5");
            }
            let mut last: Vec<u64> = together.iter().map(|hashes| hashes.last().unwrap().0).collect();
            last.sort_unstable();
            last.dedup();
            assert_eq!(last.len(), together.len(), "{name}: arenas do the same");
            // The one that was reset began an episode of its own in the middle.
            let reset = &together[RESET_AGENT as usize];
            let (before, after) = (reset[RESET_AT as usize - 1], reset[RESET_AT as usize]);
            assert!(after.2 == 1 && after.1 != before.1, "{name}: {before:?}, {after:?}");
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn arenas_that_cannot_fit_are_refused_with_numbers() {
    let (task, robot) = (task("lift").unwrap(), Robot::panda().unwrap());
    assert_eq!(require_memory(&task, &robot, 65), Ok(()));
    let Err(SimError::Memory { arenas, per_arena, needed, free, most, .. }) =
        require_memory(&task, &robot, 1_000_000_000)
    else {
        unreachable!("a thousand million arenas fit nowhere")
    };
    assert_eq!((arenas, needed), (1_000_000_000, 1_000_000_000 * per_arena));
    // A world of rapier with an arm in it is some hundred kilobytes, not some or some thousand.
    assert!((50_000..5_000_000).contains(&per_arena), "{per_arena}");
    assert!(most * per_arena <= free && most > 65, "{most} of {per_arena} in {free}");
    let said = require_memory(&task, &robot, 1_000_000_000).unwrap_err().to_string();
    assert!(said.contains("1000000000 arenas of `lift`") && said.contains("TB"), "{said}");
}

#[test]
fn predicted_paths_are_near_the_real_ones() {
    for (name, arms, tolerance) in [("lift", 1, 0.002), ("transport", 2, 0.002), ("cube-single-task1", 1, 0.004)] {
        let mut arena = SimArena::new(task(name).unwrap(), Robot::panda().unwrap(), 6);
        let command = arena.task().spec().action.dim() / arms;
        // Arms move differently, and what a chunk asks for changes from step to step.
        let action = |step: usize, strength: f32| -> Vec<f32> {
            let of_arm = |arm: usize| {
                let sign = if arm == 0 { strength } else { -strength };
                let mut action = vec![0.0; command];
                action[..3].copy_from_slice(&[0.8 * sign, -0.5 * sign, 0.2 * step as f32 * strength]);
                action
            };
            (0..arms).flat_map(of_arm).collect()
        };
        for step in 0..5 {
            arena.step(&action(step, 0.3)).unwrap();
        }
        let chunk: Vec<Vec<f32>> = (0..5).map(|step| action(step, 1.0)).collect();
        let predicted = arena.predict_paths(&chunk.concat());
        assert_eq!(predicted.len(), arms, "{name}");
        for (step, act) in chunk.iter().enumerate() {
            arena.step(act).unwrap();
            for (path, now) in predicted.iter().zip(arena.predict_paths(&[])) {
                let error = (path[step + 1] - now[0]).length();
                assert!(error < tolerance, "{name}, step {step}: {error} m off");
                assert!((path[step + 1] - path[step]).length() > 2.0 * tolerance, "{name} does not move");
            }
        }
    }
}
