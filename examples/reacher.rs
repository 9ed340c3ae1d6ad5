//! The smallest agent in a game of your own: no robot, no simulator of ours, learning in under a minute.
//!
//! A point in the plane is pushed towards a target. The world is four small systems; acting and learning are two
//! plugins. Nothing was shown to the agent before: it starts from noise and learns from reward alone.
//!
//! ```text
//! cargo run --release --example reacher                  how often it reaches its target
//! cargo run --release --example reacher -- reacher.png   and the same as a curve
//! ```

mod common;

use std::time::Duration;

use bevy::{prelude::*, time::TimeUpdateStrategy};
use onestep_agent::prelude::*;
use onestep_learn::{
    AlgorithmConfig, Compute, LearnerPlugin, LearnerSchedule, LearnerState, PolicyPlugin, PolicySource,
};
use onestep_policy::mvp::{MvpConfig, Regression};
use rand::RngExt;

/// Control steps of the example.
const STEPS: u64 = 5_000;
/// How near counts as reached, in metres.
const REACHED_METERS: f32 = 0.1;
/// How far the point moves in one step at most, in metres.
const STEP_METERS: f32 = 0.15;

#[derive(Component, Default)]
struct Reacher {
    point: Vec2,
    target: Vec2,
}

impl Reacher {
    /// What the agent sees: where it is, and where the target lies from there.
    fn observation(&self) -> [f32; 4] {
        let way = self.target - self.point;
        [self.point.x, self.point.y, way.x, way.y]
    }
}

/// At the start of an episode: a point and a target, anywhere in a square of two metres.
fn reset(mut streams: ResMut<RandomStreams>, mut agents: Query<(&Agent, &Episode, &mut Reacher, &mut Observation)>) {
    for (agent, episode, mut reacher, mut observation) in &mut agents {
        if episode.is_fresh() {
            let random = streams.get(Purpose::World, agent.0);
            let mut place = || Vec2::new(random.random_range(-1.0..1.0), random.random_range(-1.0..1.0));
            *reacher = Reacher { point: place(), target: place() };
            observation.set(&reacher.observation());
        }
    }
}

/// The world moves.
fn step(mut agents: Query<(&Action, &mut Reacher)>) {
    for (action, mut reacher) in &mut agents {
        if let [x, y] = *action.values() {
            reacher.point = (reacher.point + STEP_METERS * Vec2::new(x, y)).clamp(Vec2::NEG_ONE, Vec2::ONE);
        }
    }
}

/// What came of it.
fn judge(mut agents: Query<(&Reacher, &mut NextObservation, &mut Outcome)>) {
    for (reacher, mut next, mut outcome) in &mut agents {
        let distance = reacher.point.distance(reacher.target);
        let success = distance < REACHED_METERS;
        next.set(&reacher.observation());
        *outcome = Outcome { reward: -distance, terminated: success, success, truncated: false };
    }
}

fn reacher_app(seed: u64) -> App {
    let mut app = App::new();
    app.add_plugins((
        MinimalPlugins,
        AgentPlugin { seed },
        // The three lines that make it learn: how to think, how to learn, and who.
        PolicyPlugin {
            source: PolicySource::Create {
                algorithm: AlgorithmConfig::Mvp(MvpConfig {
                    horizon: 1,    // a new look at the world in each step
                    discount: 0.9, // episodes are short
                    tau: 0.02,     // and values must spread in few updates
                    learning_rate: 1e-3,
                    batch_size: 64,
                    // Nobody demonstrates: what the critics find best is what there is to imitate.
                    regression: Regression::BestOfN,
                    ..MvpConfig::small()
                }),
                compute: Compute::Cpu,
            },
            ..default()
        },
        LearnerPlugin {
            schedule: LearnerSchedule { start_training: 500, online_steps: STEPS, updates_per_step: 1.0, ..default() },
        },
    ));
    let spec = AgentSpec::new(
        ObservationSpace::new([("point", 2), ("way_to_target", 2)]),
        ActionSpace::new(["right", "up"]),
        30,
    );
    app.world_mut().spawn((AgentBundle::new(0, spec), Reacher::default()));
    app.add_systems(
        FixedUpdate,
        (
            reset.in_set(AgentSystems::Reset),
            step.in_set(AgentSystems::Step),
            judge.in_set(AgentSystems::Outcome),
            report.in_set(AgentSystems::Record),
        ),
    );
    // One control step per frame, as fast as the machine goes. A game leaves this line out.
    app.insert_resource(TimeUpdateStrategy::ManualDuration(Duration::from_secs_f64(1.0 / 64.0)));
    app.init_resource::<Score>();
    app
}

/// Share of successful episodes, early and late.
#[derive(Resource, Default)]
struct Score {
    ended: Vec<bool>,
    /// Control steps, and the share of the last 50 episodes in percent.
    curve: Vec<(f64, f64)>,
}

impl Score {
    fn share(episodes: &[bool]) -> f64 {
        episodes.iter().filter(|&&success| success).count() as f64 / episodes.len().max(1) as f64
    }
}

fn report(mut ended: MessageReader<EpisodeFinished>, mut score: ResMut<Score>, state: Res<LearnerState>) {
    for EpisodeFinished(end) in ended.read() {
        score.ended.push(end.success);
        if score.ended.len().is_multiple_of(50) {
            let recent = score.ended.len() - 50;
            let share = score.ended.get(recent..).map_or(0.0, Score::share);
            score.curve.push((state.env_steps as f64, 100.0 * share));
            info!("step {:>5}: {:>3.0} % of the last 50 episodes reached the target", state.env_steps, 100.0 * share);
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut app = reacher_app(0);
    app.add_plugins(bevy::log::LogPlugin::default());
    app.finish();
    app.cleanup();
    while app.world().resource::<LearnerState>().env_steps < STEPS {
        app.update();
    }
    match std::env::args().nth(1) {
        Some(path) => common::draw_share(
            "targets reached, of the last 50 episodes",
            app.world().resource::<Score>().curve.clone(),
            path.as_ref(),
        ),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_learns_from_reward_alone() {
        let mut app = reacher_app(1);
        app.finish();
        app.cleanup();
        while app.world().resource::<LearnerState>().env_steps < STEPS {
            app.update();
            assert!(app.world().resource::<LearnerState>().fault.is_none());
        }
        let ended = &app.world().resource::<Score>().ended;
        let early = Score::share(&ended[..10]);
        let late = Score::share(&ended[ended.len() - 50..]);
        assert!(late > 0.9, "only {late} of the last episodes reached the target (first ones: {early})");
    }
}
