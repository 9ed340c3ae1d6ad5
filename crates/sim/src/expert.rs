//! Scripted experts.

mod reach;

use bevy::ecs::component::Component;
use bevy::math::{DVec3, Vec2};
use rand::{Rng, RngExt};
use rand_distr::{Distribution, StandardNormal};

use crate::controller::ACTION_DIM;
use crate::manipspace::{ManipModel, OracleMemory, Target};
use crate::task::{ArenaView, ArmView};

pub(crate) use reach::angle;
pub use reach::{Grip, Reach, down, turn_between};

/// What an expert remembers between two steps. Reset with the episode.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ExpertMemory {
    clocks: [PhaseClock; 2],
    /// What an oracle of OGBench's tasks remembers.
    oracle: Option<Box<OracleMemory>>,
}

/// Where one arm's expert is in its plan. Plans number their phases as they like; each starts with phase 0.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PhaseClock {
    /// The phase.
    pub phase: u32,
    /// Control steps in this phase.
    pub steps: u32,
    /// A number that a plan keeps from phase to phase: a chosen angle, say.
    pub choice: f64,
}

impl ExpertMemory {
    /// What an oracle remembers; the first call begins an episode.
    pub(crate) fn oracle(&mut self, model: &ManipModel) -> &mut OracleMemory {
        self.oracle.get_or_insert_with(|| Box::new(OracleMemory::new(model)))
    }

    /// What an oracle of OGBench's tasks is about to move, and how many targets it had before.
    #[must_use]
    pub fn target(&self) -> Option<(u32, Target)> {
        self.oracle.as_ref().and_then(|oracle| oracle.target())
    }

    /// The plan of the first arm, or of an arm alone.
    pub fn clock(&mut self) -> &mut PhaseClock {
        &mut self.clocks[0]
    }

    /// The plans of two arms.
    pub fn clocks(&mut self) -> &mut [PhaseClock; 2] {
        &mut self.clocks
    }
}

impl PhaseClock {
    /// Goes to a phase. The choice stays.
    pub fn enter(&mut self, phase: u32) {
        (self.phase, self.steps) = (phase, 0);
    }
}

// Phases of `GraspLift`.

/// To a point above the object, fingers opening.
const APPROACH: u32 = 0;
/// Straight down around the object.
const DESCEND: u32 = 1;
/// Fingers closing.
const CLOSING: u32 = 2;
/// Up with the object.
const LIFT: u32 = 3;

/// How a scripted expert is disturbed, so that its demonstrations cover more than one path.
#[derive(Component, Debug, Clone, Copy, Default, PartialEq)]
pub struct ExpertNoise {
    /// Standard deviation of the noise that is added to every number of an action.
    pub std: f32,
    /// Probability that a step's action is replaced by a uniform random one.
    pub random_action_probability: f32,
}

impl ExpertNoise {
    /// Disturbs an action and clips it to [-1, 1].
    pub fn apply(&self, action: &mut [f32], random: &mut impl Rng) {
        // The same number of draws in every step, whatever the settings: streams stay comparable.
        let replace = random.random::<f32>() < self.random_action_probability;
        for value in action {
            let normal: f32 = StandardNormal.sample(random);
            let uniform = random.random_range(-1.0..=1.0);
            *value = if replace { uniform } else { (*value + self.std * normal).clamp(-1.0, 1.0) };
        }
    }
}

/// Grasps the first object from above and lifts it: a phase machine with proportional control, which goes back to the
/// approach whenever the grasp is missed or lost.
#[derive(Debug, Clone)]
pub(crate) struct GraspLift {
    /// Height to which the object must come.
    goal_height: f64,
}

impl GraspLift {
    pub(crate) fn new(goal_height: f64) -> Self {
        Self { goal_height }
    }

    pub(crate) fn act(&self, view: &ArenaView<'_>, memory: &mut ExpertMemory) -> [f32; ACTION_DIM] {
        let Some(object) = view.objects.first() else { return [0.0; ACTION_DIM] };
        let arm = view.arm();
        let memory = memory.clock();
        let to_object = object.translation - arm.grip_site;
        let horizontal = to_object.truncate().length();
        let turn = level_and_align(&arm, object.rotation * DVec3::X);

        memory.steps += 1;
        match memory.phase {
            APPROACH => {
                if horizontal < ALIGNED && turn.z.abs() < ALIGNED_ANGLE && to_object.z > -HOVER - 0.02 {
                    memory.enter(DESCEND);
                }
            }
            DESCEND => {
                if horizontal > 2.5 * ALIGNED && to_object.z < -0.5 * HOVER {
                    memory.enter(APPROACH);
                } else if to_object.z.abs() < REACHED && horizontal < ALIGNED {
                    memory.enter(CLOSING);
                }
            }
            CLOSING => {
                if memory.steps >= CLOSING_STEPS {
                    memory.enter(if holds(&arm) { LIFT } else { APPROACH });
                }
            }
            _ => {
                if !holds(&arm) || to_object.length() > LOST {
                    memory.enter(APPROACH);
                }
            }
        }

        let (target, gripper) = match memory.phase {
            APPROACH => (to_object + DVec3::Z * HOVER, OPEN),
            DESCEND => (to_object, OPEN),
            CLOSING => (to_object, CLOSE),
            // A little higher than needed: the goal must be passed, not approached.
            _ => (DVec3::Z * (self.goal_height + 0.03 - arm.grip_site.z), CLOSE),
        };
        let translation = (target * TRANSLATION_GAIN).as_vec3();
        let rotation = (turn * ROTATION_GAIN).as_vec3();
        let clip = |value: f32| value.clamp(-1.0, 1.0);
        [
            clip(translation.x),
            clip(translation.y),
            clip(translation.z),
            clip(rotation.x),
            clip(rotation.y),
            clip(rotation.z),
            gripper,
        ]
    }
}

const OPEN: f32 = -1.0;
const CLOSE: f32 = 1.0;
/// Height of the grip site above the object's centre before going down: the finger tips pass over its top.
const HOVER: f64 = 0.05;
/// Horizontal distance, metres, and yaw, radians, that are good enough to go down and to close.
const ALIGNED: f64 = 0.008;
const ALIGNED_ANGLE: f64 = 0.15;
/// Vertical distance that is good enough to close.
const REACHED: f64 = 0.006;
/// Control steps that the fingers need to close on an object from fully open.
const CLOSING_STEPS: u32 = 9;
/// A finger further closed than this holds nothing.
const EMPTY: f64 = 0.012;
/// An object further from the grip site than this is lost.
const LOST: f64 = 0.03;
/// Action per metre and per radian of error.
const TRANSLATION_GAIN: f64 = 50.0;
const ROTATION_GAIN: f64 = 4.0;

/// Something is between the fingers.
fn holds(view: &ArmView) -> bool {
    view.fingers[0] > EMPTY
}

/// The small rotation that points the hand straight down and lines the fingers up with the object's nearest side.
fn level_and_align(view: &ArmView, side: DVec3) -> DVec3 {
    let level = (view.hand * DVec3::Z).cross(DVec3::NEG_Z);
    let angle = |v: DVec3| f64::from(Vec2::new(v.x as f32, v.y as f32).to_angle());
    let quarter = std::f64::consts::FRAC_PI_2;
    let yaw = angle(side) - angle(view.hand * DVec3::Y);
    let yaw = yaw - quarter * (yaw / quarter).round();
    DVec3::new(level.x, level.y, yaw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn noise_of_zero_changes_nothing() {
        let mut action = [0.5, -1.0, 1.0, 0.0, 0.1, 0.2, -1.0];
        let before = action;
        ExpertNoise::default().apply(&mut action, &mut ChaCha8Rng::seed_from_u64(0));
        assert_eq!(action, before);
    }

    #[test]
    fn disturbed_actions_stay_in_range() {
        let mut random = ChaCha8Rng::seed_from_u64(0);
        for noise in [
            ExpertNoise { std: 2.0, random_action_probability: 0.0 },
            ExpertNoise { std: 0.0, random_action_probability: 1.0 },
        ] {
            let mut action = [0.9; ACTION_DIM];
            noise.apply(&mut action, &mut random);
            assert!(action.iter().all(|value| value.abs() <= 1.0) && action != [0.9; ACTION_DIM]);
        }
    }
}
