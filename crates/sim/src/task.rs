//! Tasks: what is in an arena, how it starts, what is seen of it, when it is solved, and how an expert solves it.

mod control;
mod lift;

use std::sync::Arc;

use bevy::math::{DQuat, DVec3};
use bevy_rapier3d::rapier::glamx::DPose3;
use onestep_agent::AgentSpec;

use crate::SimError;
use crate::controller::ACTION_DIM;
use crate::expert::ExpertMemory;
use crate::manipspace::{MANIP_TASKS, ManipTask};
use crate::model::Model;
use crate::robot::{ARM_JOINTS, Robot};
use crate::scene::{Fixture, Object, PhysicsSettings};

pub use control::ControlTask;
pub use lift::{Lift, LiftScene};

/// A task in an arena: what a policy must know, and the mechanism that answers to its actions.
pub trait Task: std::fmt::Debug + Send + Sync + 'static {
    /// Name of the task.
    fn name(&self) -> &'static str;

    /// What a policy must know.
    fn spec(&self) -> AgentSpec;

    /// Simulated time of one control step.
    fn control_period_secs(&self) -> f64;

    /// Whether a scripted expert can show how the task is done. Without one there are no demonstrations.
    fn has_expert(&self) -> bool {
        false
    }

    /// The task in the form in which undirected data ("play") is collected: episodes of a fixed length that no success
    /// ends, in which the expert gets a new goal whenever it has reached one. `None` if there is no such form.
    fn play(&self) -> Option<Arc<dyn Task>> {
        None
    }

    /// The mechanism in the initial state of `seed`. The same seed gives the same state. A task without an arm does
    /// not read the robot.
    fn model(self: Arc<Self>, robot: &Arc<Robot>, seed: u64) -> Box<dyn Model>;
}

/// A task for an arm with a gripper, simulated by [`ArmModel`](crate::ArmModel).
///
/// Everything is in the benchmark's frame (Z up, metres), where the task's published numbers live.
pub trait ArmTask: Task {
    /// How physics is stepped.
    fn physics(&self) -> &PhysicsSettings;

    /// Position of the robot's base.
    fn base_position(&self) -> [f64; 3];

    /// What stands still.
    fn fixtures(&self) -> Vec<Fixture>;

    /// The initial state for a seed. The same seed gives the same state.
    fn start(&self, robot: &Robot, seed: u64) -> Start;

    /// Writes the observation vector, laid out as [`Task::spec`] says.
    fn observe(&self, view: &ArenaView<'_>, observation: &mut Vec<f32>);

    /// What a state means for the task.
    fn outcome(&self, view: &ArenaView<'_>) -> TaskOutcome;

    /// A scripted expert's action in a state, without noise, if there is an expert.
    fn expert(&self, _view: &ArenaView<'_>, _memory: &mut ExpertMemory) -> Option<[f32; ACTION_DIM]> {
        None
    }
}

/// An initial state.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    /// Joint positions of the arm.
    pub joint_positions: [f64; ARM_JOINTS],
    /// The free objects.
    pub objects: Vec<Object>,
}

/// What a task may see of its arena.
#[derive(Debug, Clone, Copy)]
pub struct ArenaView<'a> {
    /// The grip site, between the finger tips.
    pub grip_site: DVec3,
    /// Orientation of the hand's body.
    pub hand: DQuat,
    /// Position of the left and of the right finger, 0 closed.
    pub fingers: [f64; 2],
    /// Poses of the objects, in the order of [`Start::objects`].
    pub objects: &'a [DPose3],
    /// Half extents of the boxes around the objects, along the objects' axes.
    pub half_extents: &'a [DVec3],
}

/// What a state means for the task.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TaskOutcome {
    /// Reward of the step that led here.
    pub reward: f32,
    /// The task ends here.
    pub terminated: bool,
    /// The goal holds.
    pub success: bool,
}

/// Names of all tasks. Those of OGBench have five each, by number: `cube-double-task1` to `cube-double-task5`; without a
/// number the benchmark's default is meant.
#[must_use]
pub fn tasks() -> &'static [&'static str] {
    &[
        "lift",
        "cube-single",
        "cube-double",
        "cube-triple",
        "cube-quadruple",
        "scene",
        "puzzle-3x3",
        "puzzle-4x4",
        "inverted-pendulum",
        "inverted-double-pendulum",
        "reacher",
        "hopper",
        "half-cheetah",
        "walker2d",
    ]
}

/// The task of that name, with its embedded scene.
///
/// # Errors
/// [`SimError::UnknownTask`], with all names and the nearest one.
pub fn task(name: &str) -> Result<Arc<dyn Task>, SimError> {
    match name {
        "lift" => Ok(Arc::new(Lift::new(LiftScene::embedded()?))),
        "inverted-pendulum" => Ok(Arc::new(ControlTask::InvertedPendulum)),
        "inverted-double-pendulum" => Ok(Arc::new(ControlTask::InvertedDoublePendulum)),
        "reacher" => Ok(Arc::new(ControlTask::Reacher)),
        "hopper" => Ok(Arc::new(ControlTask::Hopper)),
        "half-cheetah" => Ok(Arc::new(ControlTask::HalfCheetah)),
        "walker2d" => Ok(Arc::new(ControlTask::Walker2d)),
        _ => {
            if let Ok(task) = ManipTask::named(name) {
                return Ok(Arc::new(task));
            }
            let nearest = tasks()
                .iter()
                .chain(&MANIP_TASKS)
                .map(|known| (strsim::damerau_levenshtein(known, &name.to_lowercase()), known))
                .min()
                .filter(|(distance, known)| *distance <= known.len().div_ceil(2));
            Err(SimError::UnknownTask {
                name: name.to_owned(),
                known: tasks().join(", "),
                suggestion: nearest.map(|(_, known)| (*known).to_owned()),
            })
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn every_listed_task_exists() {
        for name in tasks() {
            assert_eq!(task(name).unwrap().name(), *name);
        }
    }

    #[test]
    fn an_unknown_task_lists_the_known_ones() {
        let error = task("lfit").unwrap_err().to_string();
        let known = tasks().join(", ");
        assert_eq!(error, format!("there is no task `lfit`; the tasks are: {known}. Did you mean `lift`?"));
        let error = task("tool-hang").unwrap_err().to_string();
        assert_eq!(error, format!("there is no task `tool-hang`; the tasks are: {known}"));
    }
}
