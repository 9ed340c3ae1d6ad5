//! An observation of your own: a cart in a ring-shaped lane feels the walls along five rays, and knows nothing else but
//! its speed.
//!
//! ```text
//! cargo run --release --example whiskers                   how far it comes, early and late
//! cargo run --release --example whiskers -- whiskers.png   and the path of its last episode
//! ```

#![allow(clippy::print_stdout, reason = "an example shows its result")]

mod common;

use bevy::prelude::*;
use common::{angle_of, draw_world, from_scratch};
use onestep::{prelude::*, record::plot::Mark};

/// The lane lies between these two circles, metres.
const INNER_METERS: f32 = 0.55;
const OUTER_METERS: f32 = 1.0;
/// Where the whiskers point, seen from the cart, radians; left is positive.
const WHISKERS: [f32; 5] = [1.2, 0.6, 0.0, -0.6, -1.2];
/// Longest distance that a whisker feels, metres.
const REACH_METERS: f32 = 1.0;
/// Metres in one control step at full speed, and radians at full lock.
const STRIDE_METERS: f32 = 0.08;
const TURN_RADIANS: f32 = 0.3;
/// Control steps to learn in.
const STEPS: u64 = 6_000;

#[derive(Component, Default)]
struct Cart {
    place: Vec2,
    heading: f32,
    speed: f32,
    path: Vec<(f64, f64)>,
}

impl Cart {
    /// Distance to the nearest wall along a ray, metres: where the ray meets one of the circles.
    fn feel(&self, angle: f32) -> f32 {
        let ray = Vec2::from_angle(self.heading + angle);
        let along = self.place.dot(ray);
        let meets = |radius: f32, sign: f32| {
            let under_root = along * along - self.place.length_squared() + radius * radius;
            let distance = -along + sign * under_root.max(0.0).sqrt();
            (under_root >= 0.0 && distance > 0.0).then_some(distance)
        };
        [meets(INNER_METERS, -1.0), meets(OUTER_METERS, 1.0)].into_iter().flatten().fold(REACH_METERS, f32::min)
    }

    /// What the policy sees: five distances and the speed.
    fn observation(&self) -> [f32; 6] {
        let [a, b, c, d, e] = WHISKERS.map(|angle| self.feel(angle));
        [a, b, c, d, e, self.speed]
    }

    fn is_in_lane(&self) -> bool {
        (INNER_METERS..=OUTER_METERS).contains(&self.place.length())
    }
}

fn reset(mut agents: Query<(&Episode, &mut Cart, &mut Observation)>) {
    for (episode, mut cart, mut observation) in agents.iter_mut().filter(|(episode, ..)| episode.is_fresh()) {
        let angle = angle_of(episode.seed);
        let place = 0.5 * (INNER_METERS + OUTER_METERS) * Vec2::from_angle(angle);
        *cart = Cart { place, heading: angle + std::f32::consts::FRAC_PI_2, ..default() };
        observation.set(&cart.observation());
    }
}

fn step(mut agents: Query<(&AgentMode, &Episode, &Action, &mut Cart)>) {
    for (mode, episode, action, mut cart) in &mut agents {
        if *mode == AgentMode::Idle || !episode.is_active() {
            continue;
        }
        if let [steer, drive] = *action.values() {
            cart.heading += TURN_RADIANS * steer;
            cart.speed = 0.5 * (drive + 1.0);
            let stride = STRIDE_METERS * cart.speed * Vec2::from_angle(cart.heading);
            cart.place += stride;
            let place = (f64::from(cart.place.x), f64::from(cart.place.y));
            cart.path.push(place);
        }
    }
}

/// Rewards progress around the ring; a wall ends the episode.
fn judge(mut agents: Query<(&Cart, &mut NextObservation, &mut Outcome)>) {
    for (cart, mut next, mut outcome) in &mut agents {
        let around = cart.place.perp().normalize_or_zero();
        let progress = cart.speed * around.dot(Vec2::from_angle(cart.heading));
        let is_out = !cart.is_in_lane();
        next.set(&cart.observation());
        let reward = if is_out { -2.0 } else { progress };
        *outcome = Outcome { reward, terminated: is_out, ..default() };
    }
}

#[derive(Resource, Default)]
struct Lengths(Vec<u32>);

fn count(mut messages: MessageReader<EpisodeFinished>, mut lengths: ResMut<Lengths>) {
    lengths.0.extend(messages.read().map(|EpisodeFinished(end)| end.steps));
}

fn cart_app() -> App {
    let mut app = App::new();
    app.add_plugins((
        MinimalPlugins,
        AgentPlugin { seed: 2 },
        from_scratch(0.95),
        LearnerPlugin {
            schedule: LearnerSchedule { start_training: 300, random_steps: 300, online_steps: STEPS, ..default() },
        },
    ));
    // The names of the fields stand in files and error messages; the numbers say how many there are of each.
    let spec = AgentSpec::new(
        ObservationSpace::new([("whisker_meters", WHISKERS.len()), ("speed", 1)]),
        ActionSpace::new(["steer", "drive"]),
        100,
    );
    app.world_mut().spawn((AgentBundle::new(0, spec), Cart::default()));
    app.init_resource::<Lengths>().add_systems(
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

fn mean(lengths: &[u32]) -> f64 {
    lengths.iter().copied().map(f64::from).sum::<f64>() / lengths.len().max(1) as f64
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut app = cart_app();
    let mut longest = Vec::new();
    while app.world().resource::<LearnerState>().phase != onestep::learn::LearnPhase::Done {
        onestep::tick(app.world_mut());
        let mut carts = app.world_mut().query::<&Cart>();
        for cart in carts.iter(app.world()) {
            if cart.path.len() >= longest.len() {
                longest.clone_from(&cart.path);
            }
        }
    }
    let lengths = &app.world().resource::<Lengths>().0;
    println!(
        "{} episodes of at most 100 steps; the first 20 took {:.1} steps, the last 20 took {:.1}",
        lengths.len(),
        mean(lengths.get(..20).unwrap_or(lengths)),
        mean(lengths.get(lengths.len().saturating_sub(20)..).unwrap_or(lengths)),
    );
    let Some(path) = std::env::args().nth(1) else { return Ok(()) };
    let circle = |radius: f32| {
        let angles = (0..=120u8).map(|k| std::f32::consts::TAU * f32::from(k) / 120.0);
        Mark::Line(angles.map(|angle| radius * Vec2::from_angle(angle)).map(|at| (at.x.into(), at.y.into())).collect())
    };
    draw_world(
        [(None, circle(INNER_METERS)), (None, circle(OUTER_METERS)), (Some(0), Mark::Line(longest))],
        path.as_ref(),
    )
}

#[test]
fn it_feels_the_walls_and_acts() {
    let middle = 0.5 * (INNER_METERS + OUTER_METERS);
    let cart = Cart { place: Vec2::new(middle, 0.0), heading: 0.0, ..default() };
    assert!((cart.feel(0.0) - (OUTER_METERS - middle)).abs() < 1e-6);
    assert!((cart.feel(std::f32::consts::PI) - (middle - INNER_METERS)).abs() < 1e-6);
    let mut app = cart_app();
    for _ in 0..330 {
        onestep::tick(app.world_mut());
    }
    let state = app.world().resource::<LearnerState>();
    assert!(state.fault.is_none());
    assert!(state.updates > 10, "{} updates", state.updates);
    assert!(!app.world().resource::<Lengths>().0.is_empty());
}
