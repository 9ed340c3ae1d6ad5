//! A world without robots: a point walks a line, and its episode's seed says how far it has to go.

#![allow(dead_code, reason = "each test file uses another part")]

use bevy::{app::prelude::*, ecs::prelude::*};
use onestep_agent::prelude::*;

/// Steps after which an episode is truncated.
pub const MAX_STEPS: u32 = 20;

/// Walks `agents` points, each to the right by one in every step. The episode with seed `n` succeeds after `n` steps,
/// so it is truncated when `n` is more than [`MAX_STEPS`].
pub fn toy_app(agents: u32) -> App {
    let mut app = App::new();
    app.add_plugins(AgentPlugin { seed: 3 });
    app.add_systems(
        FixedUpdate,
        (
            reset.in_set(AgentSystems::Reset),
            act.in_set(ActOrder::Policy),
            step.in_set(AgentSystems::Step),
            outcome.in_set(AgentSystems::Outcome),
        ),
    );
    for agent in 0..agents {
        let spec =
            AgentSpec::new(ObservationSpace::new([("x", 1), ("seed", 1)]), ActionSpace::new(["push"]), MAX_STEPS);
        app.world_mut().spawn((AgentBundle::new(agent, spec), Position(0.0)));
    }
    app
}

#[derive(Component)]
pub struct Position(f32);

fn reset(mut agents: Query<(&Episode, &mut Position, &mut Observation)>) {
    for (episode, mut position, mut observation) in agents.iter_mut().filter(|(episode, ..)| episode.is_fresh()) {
        position.0 = 0.0;
        observation.set(&[0.0, episode.seed as f32]);
    }
}

fn act(mut agents: Query<&mut Action, With<Agent>>) {
    for mut action in &mut agents {
        action.set(&[1.0]);
    }
}

fn step(mut agents: Query<(&AgentMode, &Episode, &Action, &mut Position)>) {
    for (mode, episode, action, mut position) in &mut agents {
        if *mode != AgentMode::Idle && episode.is_active() {
            position.0 += action.values()[0];
        }
    }
}

fn outcome(mut agents: Query<(&Episode, &Position, &mut NextObservation, &mut Outcome)>) {
    for (episode, position, mut next, mut outcome) in &mut agents {
        let success = position.0 >= episode.seed as f32;
        next.set(&[position.0, episode.seed as f32]);
        *outcome = Outcome { reward: if success { 0.0 } else { -1.0 }, terminated: success, truncated: false, success };
    }
}
