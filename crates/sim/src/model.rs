//! What moves in an arena: the part of a simulation that is a task's own.

use bevy::math::Vec3;
use bevy_rapier3d::rapier::math::Pose;

use crate::arm::ArmModel;
use crate::expert::ExpertMemory;
use crate::manipspace::ManipModel;
use crate::shape::Shape;
use crate::task::TaskOutcome;

/// The mechanism of a task in one arena, with its physics. [`SimArena`](crate::SimArena) adds what all tasks share:
/// checks of the action, the time limit, faults, the history.
///
/// Everything is in the benchmarks' frame (Z up, metres).
pub trait Model: Send + Sync + 'static {
    /// Moves by one control step. The action has the length of the task's space and lies in [-1, 1]. Returns whether
    /// the poses and velocities of all bodies are finite.
    fn step(&mut self, action: &[f32]) -> bool;

    /// Writes the observation of the current state, laid out as the task's spec says.
    fn observe(&self, observation: &mut Vec<f32>);

    /// What the last step and the state it led to mean for the task.
    fn outcome(&self) -> TaskOutcome;

    /// Positions of the mechanism's joints, radians or metres. Where a benchmark's files keep free bodies among the
    /// joints, so does this: position and quaternion (w, x, y, z) of each.
    fn joint_positions(&self) -> &[f64];

    /// Velocities of the mechanism's joints.
    fn joint_velocities(&self) -> &[f64];

    /// Puts the joints into a state, as if the episode had started there. Returns false if the model cannot, or if
    /// the lengths are not those of its joints.
    fn set_joints(&mut self, _positions: &[f64], _velocities: &[f64]) -> bool {
        false
    }

    /// All bodies with their poses, the moving ones first. The order is fixed.
    fn bodies(&self) -> Vec<BodyPose>;

    /// Writes the poses of the moving bodies, in the order of [`Model::bodies`].
    fn moving_poses(&self, poses: &mut Vec<Pose>);

    /// Hands over every number of the physical state, in a fixed order.
    fn feed(&self, sink: &mut dyn FnMut(f32));

    /// The state as the files of the benchmark that the task mirrors keep it, if it mirrors one.
    fn published_state(&self) -> Option<PublishedState> {
        None
    }

    /// Sets gravity, m/s², for the rest of the episode.
    fn set_gravity(&mut self, gravity: Vec3);

    /// The scripted expert's action in this state, without noise, if the task has an expert.
    fn expert(&self, _memory: &mut ExpertMemory) -> Option<Vec<f32>> {
        None
    }

    /// The model as an arm, if it is one.
    fn as_arm(&self) -> Option<&ArmModel> {
        None
    }

    /// The model as an arm, if it is one.
    fn as_arm_mut(&mut self) -> Option<&mut ArmModel> {
        None
    }

    /// The model as one of OGBench's scenes, if it is one.
    fn as_manip(&self) -> Option<&ManipModel> {
        None
    }

    /// The model as one of OGBench's scenes, if it is one.
    fn as_manip_mut(&mut self) -> Option<&mut ManipModel> {
        None
    }

    /// The points between the fingers of each hand in Bevy's frame, relative to the arena's origin.
    fn grip_sites(&self) -> Vec<Vec3> {
        Vec::new()
    }

    /// Where each of [`Model::grip_sites`] would be after each action of a chunk: one list per hand. The chunk has
    /// whole actions of the length of the task's space.
    fn predict_paths(&self, _actions: &[f32]) -> Vec<Vec<Vec3>> {
        Vec::new()
    }
}

/// A state in the layout of a benchmark's files.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PublishedState {
    /// MuJoCo's positions.
    pub qpos: Vec<f64>,
    /// MuJoCo's velocities.
    pub qvel: Vec<f64>,
    /// States of the buttons, where there are any.
    pub button_states: Vec<i64>,
}

/// A body of an arena: what to draw, and where.
#[derive(Debug, Clone, PartialEq)]
pub struct BodyPose {
    /// Name of the body: a link, a finger, an object, a fixture.
    pub name: String,
    /// What it looks like, where no file says more.
    pub shape: BodyShape,
    /// Pose in the benchmark's frame (Z up).
    pub pose: Pose,
}

/// The plain shape of a body, in its own axes.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum BodyShape {
    /// Drawn from a description of its own, or not at all: the parts of an arm.
    #[default]
    Described,
    /// Plain shapes: fixtures and objects.
    Shapes(Vec<Shape>),
    /// Capsules.
    Capsules(Vec<Capsule>),
}

/// A ball swept along a line. Both ends the same: a ball.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Capsule {
    /// Centre of the first ball, metres.
    pub from: Vec3,
    /// Centre of the last ball.
    pub to: Vec3,
    /// Radius.
    pub radius: f32,
}
