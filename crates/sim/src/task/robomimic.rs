//! Robomimic's tasks besides Lift, with the figures and the layout of robosuite 1.5.
//!
//! One known difference of all: robosuite computes the poses relative to the hand from the object's pose one control
//! step ago, and gives zeros at reset; ours are of now.

/// What these tasks have in common: the embedded scene, scene files, and what `arm_task` gives.
macro_rules! benchmark_task {
    ($task:ident, $name:literal, $fields:expr, $action:expr) => {
        impl $task {
            /// The task in the scene that is built into the library.
            ///
            /// # Errors
            /// Never in a released version: a test parses the embedded file.
            pub fn embedded() -> Result<Self, crate::SimError> {
                let scene = include_str!(concat!("../../../../../scenes/", $name, ".toml"));
                Self::parse(concat!($name, ".toml (embedded)"), scene)
            }

            /// The task in the scene of a file.
            ///
            /// # Errors
            /// [`SimError::Read`](crate::SimError::Read), [`SimError::Parse`](crate::SimError::Parse) or
            /// [`SimError::Value`](crate::SimError::Value), with the file and the field.
            pub fn load(path: &std::path::Path) -> Result<Self, crate::SimError> {
                Self::parse(&path.display().to_string(), &crate::scene::read(path)?)
            }
        }

        arm_task!($task, $name, $fields, $action);
    };
}

mod can;
mod pick;
mod square;
mod state;
mod tool_hang;
mod transport;

use bevy::math::DQuat;
use bevy_rapier3d::rapier::glamx::DPose3;

use super::ArmView;
use crate::SimError;

pub use can::Can;
pub use square::Square;
pub use state::observe_state;
pub use tool_hang::ToolHang;
pub use transport::Transport;

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
pub(super) const ARM_ACTION: [&str; 7] = ["dx", "dy", "dz", "rx", "ry", "rz", "gripper"];

/// Appends what the benchmarks observe of an arm: grip site (3), orientation of the hand (4, x y z w), fingers (2).
pub fn observe_arm(arm: &ArmView, observation: &mut Vec<f32>) {
    push(observation, &arm.grip_site.to_array());
    push(observation, &arm.hand.to_array());
    push(observation, &[arm.fingers[0], -arm.fingers[1]]);
}

/// Appends an object's pose in the frame of the grip site and the hand (3 + 4) and in the world (3 + 4).
pub fn observe_object(arm: &ArmView, object: &DPose3, observation: &mut Vec<f32>) {
    observe_in_hand(arm, object, observation);
    push(observation, &object.translation.to_array());
    push(observation, &object.rotation.to_array());
}

/// Appends a pose in the frame of the grip site and the hand (3 + 4).
fn observe_in_hand(arm: &ArmView, pose: &DPose3, observation: &mut Vec<f32>) {
    let inverse = arm.hand.inverse();
    let relative = DPose3::from_parts(inverse * (pose.translation - arm.grip_site), inverse * pose.rotation);
    observe_pose(&relative, observation);
}

/// Appends a pose (3 + 4). Of the two quaternions of a rotation, the benchmark gives the one with a positive real part
/// wherever it has gone through a matrix.
fn observe_pose(pose: &DPose3, observation: &mut Vec<f32>) {
    let rotation: DQuat = if pose.rotation.w < 0.0 { -pose.rotation } else { pose.rotation };
    push(observation, &pose.translation.to_array());
    push(observation, &rotation.to_array());
}

/// Refuses a figure of a scene's `[goal]` that is not above zero.
fn positive(file: &str, field: &str, value: f64) -> Result<(), SimError> {
    if value > 0.0 && value.is_finite() {
        return Ok(());
    }
    Err(SimError::Value {
        file: file.to_owned(),
        field: format!("goal.{field}"),
        value: value.to_string(),
        expected: "it must be a number above zero".to_owned(),
    })
}

pub(super) fn push(observation: &mut Vec<f32>, numbers: &[f64]) {
    observation.extend(numbers.iter().map(|number| *number as f32));
}
