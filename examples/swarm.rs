//! Several agents with one policy: ten seekers fly to targets of their own, and all of them learn together.
//!
//! ```text
//! cargo run --release --example swarm                the success early and late
//! cargo run --release --example swarm -- swarm.png   and the paths of their last whole episodes
//! ```
//!
//! Nothing has to be said for it: each entity with an `AgentBundle` is an agent. Whoever needs new actions in a tick goes
//! through the networks in one batch, and all experience enters one replay.

#![allow(clippy::print_stdout, reason = "an example shows its result")]

mod common;

use bevy::prelude::*;
use common::{angle_of, draw_world, from_scratch};
use onestep::{prelude::*, record::plot::Mark};

/// Metres that an action of 1 moves a seeker.
const STRIDE_METERS: f32 = 0.1;
/// So near counts as there, metres.
const REACHED_METERS: f32 = 0.1;
/// Control steps of an episode at most.
const MOST_STEPS: u32 = 30;
/// Control steps of all agents together.
const STEPS: u64 = 6_000;

#[derive(Component, Default)]
struct Seeker {
    place: Vec2,
    target: Vec2,
    path: Vec<(f64, f64)>,
    /// Path and target of its last whole episode.
    last: (Vec<(f64, f64)>, Vec2),
}

/// A new episode: its seed says where the target lies. All seekers start around the middle.
fn reset(mut agents: Query<(&Agent, &Episode, &mut Seeker, &mut Observation)>) {
    for (agent, episode, mut seeker, mut observation) in agents.iter_mut().filter(|(_, episode, ..)| episode.is_fresh())
    {
        seeker.last = (std::mem::take(&mut seeker.path), seeker.target);
        seeker.place = 0.15 * Vec2::from_angle(agent.0 as f32);
        seeker.target = 0.9 * Vec2::from_angle(angle_of(episode.seed));
        seeker.path = vec![(f64::from(seeker.place.x), f64::from(seeker.place.y))];
        observation.set(&(seeker.target - seeker.place).to_array());
    }
}

fn step(mut agents: Query<(&AgentMode, &Episode, &Action, &mut Seeker)>) {
    for (mode, episode, action, mut seeker) in &mut agents {
        if *mode == AgentMode::Idle || !episode.is_active() {
            continue;
        }
        if let [right, up] = *action.values() {
            seeker.place += STRIDE_METERS * Vec2::new(right, up);
            let place = (f64::from(seeker.place.x), f64::from(seeker.place.y));
            seeker.path.push(place);
        }
    }
}

fn judge(mut agents: Query<(&Seeker, &mut NextObservation, &mut Outcome)>) {
    for (seeker, mut next, mut outcome) in &mut agents {
        let way = seeker.target - seeker.place;
        let success = way.length() < REACHED_METERS;
        next.set(&way.to_array());
        *outcome = Outcome { reward: -way.length(), terminated: success, success, truncated: false };
    }
}

/// Success of all episodes that have ended, in order.
#[derive(Resource, Default)]
struct Ended(Vec<bool>);

fn count(mut messages: MessageReader<EpisodeFinished>, mut ended: ResMut<Ended>) {
    ended.0.extend(messages.read().map(|EpisodeFinished(end)| end.success));
}

fn swarm(agents: u32) -> App {
    let mut app = App::new();
    app.add_plugins((
        MinimalPlugins,
        AgentPlugin { seed: 1 },
        from_scratch(0.9),
        LearnerPlugin {
            schedule: LearnerSchedule {
                start_training: 500,
                random_steps: 500,
                online_steps: STEPS,
                updates_per_step: 0.5,
                ..default()
            },
        },
    ));
    let spec =
        AgentSpec::new(ObservationSpace::new([("way_to_target", 2)]), ActionSpace::new(["right", "up"]), MOST_STEPS);
    for agent in 0..agents {
        app.world_mut().spawn((AgentBundle::new(agent, spec.clone()), Seeker::default()));
    }
    app.init_resource::<Ended>().add_systems(
        FixedUpdate,
        (
            reset.in_set(AgentSystems::Reset),
            step.in_set(AgentSystems::Step),
            judge.in_set(AgentSystems::Outcome),
            count.in_set(AgentSystems::Record),
        ),
    );
    app.finish();
    app.cleanup();
    app
}

fn share(episodes: &[bool]) -> f64 {
    100.0 * episodes.iter().filter(|&&success| success).count() as f64 / episodes.len().max(1) as f64
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut app = swarm(10);
    while app.world().resource::<LearnerState>().phase != onestep::learn::LearnPhase::Done {
        onestep::tick(app.world_mut());
    }
    let ended = &app.world().resource::<Ended>().0;
    println!(
        "{} episodes; the first 50 reached their targets in {:.0} % of them, the last 50 in {:.0} %",
        ended.len(),
        share(ended.get(..50).unwrap_or(ended)),
        share(ended.get(ended.len().saturating_sub(50)..).unwrap_or(ended)),
    );
    let Some(path) = std::env::args().nth(1) else { return Ok(()) };
    // Long enough for each to end the episode that it is in, and a whole one after it.
    for _ in 0..2 * MOST_STEPS + 2 {
        onestep::tick(app.world_mut());
    }
    let mut seekers = app.world_mut().query::<&Seeker>();
    let marks = seekers.iter(app.world()).enumerate().flat_map(|(color, Seeker { last: (path, target), .. })| {
        let target = (f64::from(target.x), f64::from(target.y));
        [Mark::Points(vec![target], 7), Mark::Line(path.clone())].map(|mark| (Some(color), mark))
    });
    draw_world(marks, path.as_ref())
}

#[test]
fn all_of_them_act_and_learn() {
    let mut app = swarm(10);
    for _ in 0..60 {
        onestep::tick(app.world_mut());
    }
    let state = app.world().resource::<LearnerState>();
    assert!(state.fault.is_none());
    // Who has just arrived waits for the next tick in none of them.
    assert!((550..=600).contains(&state.env_steps), "{} steps", state.env_steps);
    assert!(state.updates >= 25, "{} updates", state.updates);
}
