//! Robomimic's tasks besides Lift, with the figures and the layout of robosuite 1.5.
//!
//! One known difference of all: robosuite computes the poses relative to the hand from the object's pose one control
//! step ago, and gives zeros at reset; ours are of now.

mod can;
mod square;

use bevy::math::{DQuat, DVec3};
use bevy_rapier3d::rapier::glamx::DPose3;

use super::{ArenaView, ArmTask, ArmView, Lift, LiftScene};
use crate::SimError;
use crate::kinematics::Chain;
use crate::robot::{ARM_JOINTS, Robot};
use crate::scene::RobotPlacement;

pub use can::Can;
pub use square::Square;

/// Below this distance of grip site and object, metres, robosuite says that the gripper has not let go:
/// `1 - tanh(10 d) < 0.6`.
const LET_GO: f64 = 0.042_364_893_019_360_19;

/// Layout of a task with one object: the arm, the object in the hand's frame, the object.
const ONE_OBJECT: [(&str, usize); 7] = [
    ("eef_pos", 3),
    ("eef_quat", 4), // x, y, z, w; of the hand's body, not of the grip site
    ("gripper_qpos", 2),
    ("object_to_eef_pos", 3),
    ("object_to_eef_quat", 4),
    ("object_pos", 3),
    ("object_quat", 4),
];

/// Names of an arm's seven numbers of an action.
const ARM_ACTION: [&str; 7] = ["dx", "dy", "dz", "rx", "ry", "rz", "gripper"];

/// Appends what the benchmarks observe of an arm: grip site (3), orientation of the hand (4, x y z w), fingers (2).
pub fn observe_arm(arm: &ArmView, observation: &mut Vec<f32>) {
    push(observation, &arm.grip_site.to_array());
    push(observation, &arm.hand.to_array());
    push(observation, &[arm.fingers[0], -arm.fingers[1]]);
}

/// Appends an object's pose in the frame of the grip site and the hand (3 + 4) and in the world (3 + 4).
pub fn observe_object(arm: &ArmView, object: &DPose3, observation: &mut Vec<f32>) {
    let inverse = arm.hand.inverse();
    push(observation, &(inverse * (object.translation - arm.grip_site)).to_array());
    let relative: DQuat = inverse * object.rotation;
    // Of the two quaternions of a rotation, the benchmark gives the one with a positive real part.
    let relative = if relative.w < 0.0 { -relative } else { relative };
    push(observation, &relative.to_array());
    push(observation, &object.translation.to_array());
    push(observation, &object.rotation.to_array());
}

/// The observation of a state as robomimic's files keep it: time, positions, velocities (`data/demo_0/states`). The task
/// is one of `lift`, `can` and `square`, whose observation follows from positions alone; the robot is the Panda.
///
/// # Errors
/// [`SimError::UnknownTask`] for another task; [`SimError::StateLength`] if the state is too short.
pub fn observe_state(task: &str, robot: &Robot, state: &[f64]) -> Result<Vec<f32>, SimError> {
    // Place of the object's seven numbers: after time, seven joints, two fingers and what else the original has.
    let (task, object): (Box<dyn ArmTask>, usize) = match task {
        "lift" => (Box::new(Lift::new(LiftScene::embedded()?)), 10),
        "can" => (Box::new(Can::embedded()?), 31),
        "square" => (Box::new(Square::embedded()?), 10),
        _ => {
            let (name, known) = (task.to_owned(), "lift, can, square".to_owned());
            return Err(SimError::UnknownTask { name, known, suggestion: None });
        }
    };
    let short = SimError::StateLength { expected: object + 7, found: state.len() };
    let numbers = |from: usize, count: usize| state.get(from..from + count).ok_or_else(|| short.clone());
    let joints: [f64; ARM_JOINTS] = numbers(1, ARM_JOINTS)?.try_into().map_err(|_| short.clone())?;
    let fingers: [f64; 2] = numbers(8, 2)?.try_into().map_err(|_| short.clone())?;
    let [x, y, z, qw, qx, qy, qz]: [f64; 7] = numbers(object, 7)?.try_into().map_err(|_| short.clone())?;

    // robosuite's model rounds the half angle of the hand's turn to three digits.
    let mut rounded = robot.clone();
    rounded.hand.rpy[2] = -2.0 * libm::atan2(0.383, 0.924);
    let base = task.scene().robots.first().map_or(DPose3::IDENTITY, RobotPlacement::base);
    let pose = Chain::new(&rounded, base.translation.to_array()).on(base).pose(&joints);
    let arms = [ArmView { grip_site: pose.site, hand: pose.hand.rotation, fingers: [fingers[0], -fingers[1]] }];
    let objects = [DPose3::from_parts(DVec3::new(x, y, z), DQuat::from_xyzw(qx, qy, qz, qw))];
    let view = ArenaView { arms: &arms, objects: &objects, half_extents: &[], fixtures: &[], world: None };
    let mut observation = Vec::new();
    task.observe(&view, &mut observation);
    Ok(observation)
}

fn push(observation: &mut Vec<f32>, numbers: &[f64]) {
    observation.extend(numbers.iter().map(|number| *number as f32));
}
