//! Scripted experts of the scenes: the benchmark's two oracles, and what puts them to use.
//!
//! An oracle moves one thing to one target. In play its targets are drawn at random, as the benchmark's data are made; in
//! a task a small planner names them, one after the other, until the goal is reached.

mod markov;
mod plan;
mod planner;

use std::f64::consts::{PI, TAU};

use bevy::math::DVec3;
use onestep_agent::{Purpose, derive_seed};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use self::markov::MarkovScript;
use self::plan::Plan;
use super::model::ManipModel;
use super::scene::{ManipScene, SlideScene};
use super::state::yaw;

/// Numbers of an action.
pub(crate) const ACTION_DIM: usize = 5;

/// Which scripted expert acts. All randomness follows from the episode's seed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Oracle {
    /// Follows a path that is laid once for each target, in time. Demonstrations of the benchmark's `play` data.
    Plan {
        /// Standard deviation of the noise on the path, as a share of a unit action; 0.1 in the benchmark's data.
        noise: f64,
    },
    /// Decides from the state alone. Demonstrations of the benchmark's `noisy` data.
    Markov {
        /// The standard deviation of the noise on actions is uniform between 0 and this in each episode; 0.1 in the
        /// benchmark's data. The yaw gets three times as much, the gripper ten times.
        noise: f64,
        /// Probability that a step's action is replaced by a random one.
        random_action_probability: f64,
    },
}

impl Oracle {
    /// The oracle of the benchmark's `play` data.
    pub const PLAY: Self = Self::Plan { noise: 0.1 };
    /// The oracle of the benchmark's `noisy` data, but for puzzles'.
    pub const NOISY: Self = Self::Markov { noise: 0.1, random_action_probability: 0.1 };

    /// The oracle of the benchmark's `noisy` data in a scene: with puzzles, twice as many actions are random.
    #[must_use]
    pub fn noisy(scene: &ManipScene) -> Self {
        Self::Markov { noise: 0.1, random_action_probability: scene.play.random_action_probability }
    }
}

/// What shall be moved, and where to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// A cube.
    Cube {
        /// Which one.
        index: usize,
        /// Where to, metres.
        position: DVec3,
        /// Turned how, radians.
        yaw: f64,
        /// The hand's yaw in the grasp, if it shall not be the nearest one.
        grasp: Option<f64>,
    },
    /// A button.
    Button {
        /// Which one.
        index: usize,
        /// The state that it shall have.
        state: u8,
    },
    /// The drawer to a position.
    Drawer(f64),
    /// The window to a position.
    Window(f64),
}

#[derive(Debug, Clone, PartialEq)]
enum Script {
    Plan(Plan),
    Markov(MarkovScript),
}

/// What an oracle remembers within an episode.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OracleMemory {
    random: ChaCha8Rng,
    script: Option<Script>,
    /// The target, and how many there were before it.
    target: Option<(u32, Target)>,
    /// Probability of putting a cube on another one, in play.
    stack_probability: f64,
    /// Standard deviation of the Markov oracle's noise.
    deviation: f64,
}

impl OracleMemory {
    /// For the episode of a model.
    pub(crate) fn new(model: &ManipModel) -> Self {
        // The second number keeps this stream apart from that of the noise that may be added to the expert's actions.
        let mut random = ChaCha8Rng::seed_from_u64(derive_seed(model.seed(), Purpose::Expert, 0, 1));
        let [low, high] = model.task().scene().play.stack_probability;
        let stack_probability = low + (high - low) * random.random::<f64>();
        let largest = match model.task().oracle() {
            Oracle::Plan { .. } => 0.0,
            Oracle::Markov { noise, .. } => noise,
        };
        let deviation = largest * random.random::<f64>();
        Self { random, script: None, target: None, stack_probability, deviation }
    }

    /// The oracle's action in the model's state, in [-1, 1].
    pub(crate) fn act(&mut self, model: &ManipModel) -> Vec<f32> {
        let is_done = match &self.script {
            None => true,
            Some(Script::Plan(plan)) => plan.is_done(),
            Some(Script::Markov(script)) => script.is_done(),
        };
        if is_done {
            let before = self.target.map_or(0, |(count, _)| count + 1);
            self.target = self.choose(model).map(|target| (before, target));
            self.script = self.target.map(|(_, target)| self.begin(model, &target));
        }
        let in_play = model.task().is_play();
        let mut action = match &mut self.script {
            Some(Script::Plan(plan)) => plan.act(model, !in_play),
            Some(Script::Markov(script)) => script.act(model),
            // Nothing to do: the arm holds itself up.
            None => [0.0, 0.0, HOLD, 0.0, if model.task().scene().is_pressed_alone() { 1.0 } else { -1.0 }],
        };
        if let Oracle::Markov { random_action_probability, .. } = model.task().oracle() {
            let replace = self.random.random::<f64>() < random_action_probability;
            for (value, factor) in action.iter_mut().zip([1.0, 1.0, 1.0, 3.0, 10.0]) {
                let normal: f64 = StandardNormal.sample(&mut self.random);
                let uniform = self.random.random_range(-1.0..=1.0);
                *value = if replace { uniform } else { *value + self.deviation * factor * normal };
            }
        }
        action.iter().map(|value| value.clamp(-1.0, 1.0) as f32).collect()
    }

    /// The target, and how many there were before it.
    pub(crate) fn target(&self) -> Option<(u32, Target)> {
        self.target
    }

    fn choose(&mut self, model: &ManipModel) -> Option<Target> {
        if model.task().is_play() {
            Some(planner::random_target(model, &mut self.random, self.stack_probability))
        } else {
            planner::next_target(model)
        }
    }

    fn begin(&mut self, model: &ManipModel, target: &Target) -> Script {
        match model.task().oracle() {
            Oracle::Plan { noise } => Script::Plan(Plan::new(model, target, noise, &mut self.random)),
            Oracle::Markov { .. } => Script::Markov(MarkovScript::new(model, *target, &mut self.random)),
        }
    }
}

/// What the arm needs upwards so as not to sag, as an action: measured, and near the mean of the benchmark's data.
const HOLD: f64 = 0.05;

/// Of the angles that look the same as `object` when it is turned by an `n`-th of a full turn, the one nearest to
/// `effector`. As in the benchmark, neither is wrapped.
fn nearest_yaw(effector: f64, object: f64, n: i32) -> f64 {
    let step = TAU / f64::from(n);
    let angles = (-n..=n).map(|i| object + f64::from(i) * step);
    angles.fold(
        f64::INFINITY,
        |best, angle| if (angle - effector).abs() < (best - effector).abs() { angle } else { best },
    )
}

/// An angle in (-π, π].
pub(super) fn wrapped(angle: f64) -> f64 {
    let turned = (angle + PI).rem_euclid(TAU) - PI;
    if turned <= -PI { turned + TAU } else { turned }
}

/// An angle in [0, 2π).
fn positive(angle: f64) -> f64 {
    let angle = wrapped(angle);
    if angle < 0.0 { angle + TAU } else { angle }
}

/// The handle of a drawer or a window at a position.
fn handle(slide: &SlideScene, position: f64) -> DVec3 {
    DVec3::from(slide.position) + DVec3::from(slide.axis) * position + DVec3::from(slide.handle)
}

/// The top of a button that is not pressed, and what an oracle presses.
fn button_top(model: &ManipModel, index: usize) -> DVec3 {
    let Some(buttons) = &model.task().scene().buttons else { return DVec3::ZERO };
    let origin = buttons.positions.get(index).copied().map_or(DVec3::ZERO, DVec3::from);
    let pressed = model.state().slides.get(index).map_or(0.0, |slide| slide.position);
    origin + DVec3::Z * (buttons.tops.get(index).copied().unwrap_or(0.0) + pressed)
}

/// A slide's description, its position now and where it shall go.
fn slide_of<'a>(model: &'a ManipModel, target: &Target) -> Option<(&'a SlideScene, f64, f64)> {
    let scene = model.task().scene();
    let buttons = model.state().button_states.len();
    let slides = &model.state().slides;
    match target {
        Target::Drawer(goal) => Some((scene.drawer.as_ref()?, slides.get(buttons)?.position, *goal)),
        Target::Window(goal) => {
            let index = buttons + usize::from(scene.drawer.is_some());
            Some((scene.window.as_ref()?, slides.get(index)?.position, *goal))
        }
        Target::Cube { .. } | Target::Button { .. } => None,
    }
}

/// A cube's position and yaw.
fn cube_of(model: &ManipModel, index: usize) -> (DVec3, f64) {
    model.state().cubes.get(index).map_or((DVec3::ZERO, 0.0), |cube| (cube.translation, yaw(cube.rotation)))
}

#[cfg(test)]
mod tests {
    use std::f64::consts::FRAC_PI_2;

    use super::*;

    #[test]
    fn the_nearest_of_equal_yaws_is_taken() {
        assert!((nearest_yaw(0.1, 1.6, 4) - (1.6 - FRAC_PI_2)).abs() < 1e-12);
        assert!((nearest_yaw(3.0, 0.2, 2) - (0.2 + PI)).abs() < 1e-12);
        assert!((wrapped(3.5) - (3.5 - TAU)).abs() < 1e-12 && (positive(-0.5) - (TAU - 0.5)).abs() < 1e-12);
    }
}
