//! Arenas in a Bevy app.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use std::time::Duration;

use bevy::MinimalPlugins;
use bevy::app::App;
use bevy::ecs::prelude::*;
use bevy::math::Vec3;
use bevy::time::TimeUpdateStrategy;
use bevy::transform::components::Transform;
use onestep_agent::prelude::*;
use onestep_sim::{Arena, ExpertMemory, ExpertNoise, Robot, SimArena, SimBody, SimError, SimFaults, SimPlugin, task};

fn app(plugin: SimPlugin) -> App {
    let mut app = App::new();
    app.add_plugins((MinimalPlugins, plugin))
        .insert_resource(TimeUpdateStrategy::ManualDuration(Duration::from_millis(50)));
    app.update(); // the first update measures no time
    app
}

fn agents(app: &mut App) -> Vec<Entity> {
    let mut query = app.world_mut().query::<(Entity, &Agent)>();
    let mut agents: Vec<_> = query.iter(app.world()).map(|(entity, agent)| (*agent, entity)).collect();
    agents.sort();
    agents.into_iter().map(|(_, entity)| entity).collect()
}

#[test]
fn episodes_are_the_same_in_an_app_and_by_hand_and_beside_others() {
    let mut app = app(SimPlugin { arenas: 3, mode: AgentMode::Scripted, seed: 3, ..SimPlugin::default() });
    let agents = agents(&mut app);
    let mut by_hand: Vec<Option<(SimArena, ExpertMemory)>> = (0..3).map(|_| None).collect();
    for _ in 0..60 {
        app.update();
        for (entity, hand) in agents.iter().zip(&mut by_hand) {
            let episode = app.world().get::<Episode>(*entity).unwrap();
            if episode.step == 1 {
                let arena = SimArena::new(task("lift").unwrap(), Robot::panda().unwrap(), episode.seed);
                *hand = Some((arena, ExpertMemory::default()));
            }
            let Some((arena, memory)) = hand else { panic!("the episode did not start at its first step") };
            let action = arena.expert(memory).unwrap();
            arena.step(&action).unwrap();
            let sim = app.world().get::<Arena>(*entity).unwrap().sim();
            assert_eq!(sim.hash(), arena.hash(), "step {} of {entity}", episode.step);
            assert_eq!(app.world().get::<NextObservation>(*entity).unwrap().values(), arena.observation());
        }
    }
    let episodes = app.world().get::<Episode>(agents[0]).unwrap().index;
    assert!(episodes >= 1, "the expert did not finish an episode in 60 steps");
}

#[test]
fn expert_noise_comes_from_named_streams() {
    let run = |arenas| {
        let expert_noise = ExpertNoise { std: 0.2, random_action_probability: 0.1 };
        let mut app =
            app(SimPlugin { arenas, mode: AgentMode::Scripted, expert_noise, seed: 9, ..SimPlugin::default() });
        (0..30).for_each(|_| app.update());
        let first = agents(&mut app)[0];
        app.world().get::<Arena>(first).unwrap().sim().hash()
    };
    assert_eq!(run(1), run(4), "an arena depends on how many others there are");
}

#[test]
fn an_idle_agent_does_not_advance() {
    let mut app = app(SimPlugin { mode: AgentMode::Scripted, ..SimPlugin::default() });
    (0..5).for_each(|_| app.update());
    let agent = agents(&mut app)[0];
    *app.world_mut().get_mut::<AgentMode>(agent).unwrap() = AgentMode::Idle;
    let state = |app: &App| {
        let sim = app.world().get::<Arena>(agent).unwrap().sim();
        (sim.hash(), sim.steps(), app.world().get::<Episode>(agent).unwrap().clone())
    };
    let before = state(&app);
    (0..5).for_each(|_| app.update());
    assert_eq!(state(&app), before);
}

#[test]
fn time_ends_an_episode_and_the_next_begins() {
    let mut app = app(SimPlugin { mode: AgentMode::Human, ..SimPlugin::default() });
    let agent = agents(&mut app)[0];
    let mut steps = 0;
    while !app.world().get::<Outcome>(agent).unwrap().is_end() {
        app.update();
        steps += 1;
        assert!(steps <= 300);
    }
    let outcome = *app.world().get::<Outcome>(agent).unwrap();
    assert_eq!((steps, outcome.truncated, outcome.terminated, outcome.success), (300, true, false, false));
    let seed = app.world().get::<Episode>(agent).unwrap().seed;
    app.update();
    let episode = app.world().get::<Episode>(agent).unwrap();
    assert!(episode.seed != seed && episode.step == 1 && episode.index == 1);
}

#[test]
fn bodies_follow_the_simulation() {
    let mut app = app(SimPlugin { arenas: 2, mode: AgentMode::Scripted, ..SimPlugin::default() });
    (0..10).for_each(|_| app.update());
    let agent = agents(&mut app)[1];
    let sim = app.world().get::<Arena>(agent).unwrap().sim();
    let expected = sim.bodies();
    let children: Vec<Entity> = app.world().get::<Children>(agent).unwrap().to_vec();
    assert_eq!(children.len(), expected.len());
    for (child, body) in children.into_iter().zip(expected) {
        let sim_body = app.world().get::<SimBody>(child).unwrap();
        assert_eq!((&sim_body.name, &sim_body.shape), (&body.name, &body.shape));
        let transform = app.world().get::<Transform>(child).unwrap();
        assert_eq!(*transform, onestep_sim::frames::transform(&body.pose), "{}", body.name);
    }
    let arenas =
        |app: &mut App| agents(app).iter().map(|a| app.world().get::<Transform>(*a).unwrap().translation).collect();
    let places: Vec<Vec3> = arenas(&mut app);
    assert!((places[0].distance(places[1]) - 2.5).abs() < 1e-6);
}

#[test]
fn a_fault_stops_its_arena_and_no_other() {
    let mut app = app(SimPlugin { arenas: 2, mode: AgentMode::Scripted, ..SimPlugin::default() });
    (0..3).for_each(|_| app.update());
    let agents = agents(&mut app);
    app.world_mut().get_mut::<Arena>(agents[0]).unwrap().sim_mut().push_object(0, Vec3::splat(f32::INFINITY));
    (0..3).for_each(|_| app.update());
    let faults = &app.world().resource::<SimFaults>().0;
    assert_eq!(faults.len(), 1);
    assert_eq!((faults[0].arena, faults[0].step, faults[0].last_states.len()), (0, 3, 3));
    assert_eq!(*app.world().get::<AgentMode>(agents[0]).unwrap(), AgentMode::Idle);
    assert_eq!(*app.world().get::<AgentMode>(agents[1]).unwrap(), AgentMode::Scripted);
    assert_eq!(app.world().get::<Episode>(agents[1]).unwrap().step, 6);
    assert!(app.world().get::<NextObservation>(agents[0]).unwrap().values().iter().all(|value| value.is_finite()));
}

#[test]
fn control_tasks_are_the_same_in_an_app_and_by_hand_and_beside_others() {
    for name in ["inverted-pendulum", "inverted-double-pendulum", "reacher", "hopper", "half-cheetah", "walker2d"] {
        let mut app = app(SimPlugin { task: name.into(), arenas: 3, mode: AgentMode::Human, ..SimPlugin::default() });
        let period = task(name).unwrap().control_period_secs();
        let step = Duration::from_secs_f64(period);
        app.insert_resource(TimeUpdateStrategy::ManualDuration(step));
        let agents = agents(&mut app);
        let mut by_hand: Vec<Option<SimArena>> = (0..3).map(|_| None).collect();
        for tick in 0..60 {
            for (index, entity) in agents.iter().enumerate() {
                let mut action = app.world_mut().get_mut::<Action>(*entity).unwrap();
                let values: Vec<f32> =
                    (0..action.values().len()).map(|i| ((tick * 7 + i * 3 + index) % 9) as f32 / 4.0 - 1.0).collect();
                action.set(&values);
            }
            app.update();
            for (entity, hand) in agents.iter().zip(&mut by_hand) {
                let episode = app.world().get::<Episode>(*entity).unwrap();
                if episode.step == 1 {
                    *hand = Some(SimArena::new(task(name).unwrap(), Robot::panda().unwrap(), episode.seed));
                }
                let arena = hand.as_mut().unwrap();
                arena.step(app.world().get::<Action>(*entity).unwrap().values()).unwrap();
                let sim = app.world().get::<Arena>(*entity).unwrap().sim();
                assert_eq!(sim.hash(), arena.hash(), "{name}, step {} of {entity}", episode.step);
                assert_eq!(app.world().get::<NextObservation>(*entity).unwrap().values(), arena.observation());
            }
        }
        let children = app.world().get::<Children>(agents[0]).unwrap();
        let expected = app.world().get::<Arena>(agents[0]).unwrap().sim().bodies();
        assert_eq!(children.len(), expected.len());
        for (child, body) in children.iter().zip(expected) {
            let transform = app.world().get::<Transform>(child).unwrap();
            assert_eq!(*transform, onestep_sim::frames::transform(&body.pose), "{name}: {}", body.name);
        }
    }
}

#[test]
fn a_script_for_a_task_without_an_expert_ends_the_app() {
    let plugin = SimPlugin { task: "hopper".to_owned(), mode: AgentMode::Scripted, ..SimPlugin::default() };
    assert_eq!(plugin.resolve().unwrap_err(), SimError::NoExpert { task: "hopper".to_owned() });
    let mut app = App::new();
    app.add_plugins((MinimalPlugins, plugin));
    assert!(app.run().is_error());
}

#[test]
fn an_unknown_task_ends_the_app() {
    let plugin = SimPlugin { task: "lfit".to_owned(), ..SimPlugin::default() };
    assert!(plugin.resolve().unwrap_err().to_string().contains("Did you mean `lift`?"));
    let mut app = App::new();
    app.add_plugins((MinimalPlugins, plugin));
    assert!(app.run().is_error());
}
