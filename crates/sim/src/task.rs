//! Tasks: what is in an arena, how it starts, what is seen of it, when it is solved, and how an expert solves it.

/// What the tasks of arms have in common: [`Task`] by way of [`ArmTask`]. `$fields` and `$action` name the numbers of an
/// observation and of an action; the task's scene is its field `scene`.
macro_rules! arm_task {
    ($task:ident, $name:literal, $fields:expr, $action:expr) => {
        impl crate::task::Task for $task {
            fn name(&self) -> &'static str {
                $name
            }

            fn spec(&self) -> onestep_agent::AgentSpec {
                let layout = onestep_agent::ObservationSpace::new($fields);
                let action = onestep_agent::ActionSpace::new($action);
                onestep_agent::AgentSpec::new(layout, action, self.scene.max_episode_steps)
            }

            fn control_period_secs(&self) -> f64 {
                self.scene.physics.control_period_secs
            }

            fn has_expert(&self) -> bool {
                true
            }

            fn model(
                self: std::sync::Arc<Self>,
                robot: &std::sync::Arc<crate::robot::Robot>,
                seed: u64,
            ) -> Box<dyn crate::model::Model> {
                Box::new(crate::arm::ArmModel::new(self, robot.clone(), seed))
            }
        }
    };
}

mod control;
mod lift;
mod robomimic;

use std::path::Path;
use std::sync::Arc;

use bevy::math::{DQuat, DVec3};
use bevy_rapier3d::rapier::glamx::DPose3;
use onestep_agent::AgentSpec;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::SimError;
use crate::expert::ExpertMemory;
use crate::manipspace::{MANIP_TASKS, ManipScene, ManipTask, ServoRobot};
use crate::model::Model;
use crate::physics::{Part, World};
use crate::robot::{ARM_JOINTS, Robot};
use crate::scene::{self, ArmScene, Fixture, Object};

pub use control::ControlTask;
pub use lift::{Lift, LiftScene};
pub use robomimic::{Can, Square, ToolHang, Transport, observe_arm, observe_object, observe_state};

/// A task in an arena: what a policy must know, and the mechanism that answers to its actions.
pub trait Task: std::fmt::Debug + Send + Sync + 'static {
    /// Name of the task.
    fn name(&self) -> &'static str;

    /// The name with everything that [`Task::name`] may leave out, as the number of a default task. Two names are of the
    /// same task if these are equal.
    fn full_name(&self) -> &'static str {
        self.name()
    }

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

    /// Whether this is such a form: whether there is no goal, so that rewards mean nothing.
    fn is_undirected(&self) -> bool {
        false
    }

    /// Whether an episode of undirected data is of no use, by its observations `[T + 1, S]`: something got to where nobody
    /// can act on it. Such episodes are not kept.
    fn is_spoiled(&self, _observations: &[f32]) -> bool {
        false
    }

    /// The mechanism in the initial state of `seed`. The same seed gives the same state. A task without an arm does
    /// not read the robot.
    fn model(self: Arc<Self>, robot: &Arc<Robot>, seed: u64) -> Box<dyn Model>;
}

/// A task for arms with grippers, simulated by [`ArmModel`](crate::ArmModel).
///
/// A task of one's own is a scene file and this trait, of which three methods are needed: what there is, what is seen
/// of it, and when it is done. The example `own_task` has one. Everything is in the benchmark's frame (Z up, metres),
/// where the tasks' published numbers live.
pub trait ArmTask: Task {
    /// Robots, fixtures, objects, physics.
    fn scene(&self) -> &ArmScene;

    /// Writes the observation vector, laid out as [`Task::spec`] says.
    fn observe(&self, view: &ArenaView<'_>, observation: &mut Vec<f32>);

    /// What a state means for the task.
    fn outcome(&self, view: &ArenaView<'_>) -> TaskOutcome;

    /// The initial state for a seed: as the scene says, if the task does not know better. The same seed gives the same
    /// state.
    fn start(&self, robot: &Robot, seed: u64) -> Start {
        self.scene().start(robot, &mut ChaCha8Rng::seed_from_u64(seed))
    }

    /// A scripted expert's action in a state, without noise, if there is an expert. Seven numbers for each arm.
    fn expert(&self, _view: &ArenaView<'_>, _memory: &mut ExpertMemory) -> Option<Vec<f32>> {
        None
    }
}

/// An initial state.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    /// Joint positions of each arm.
    pub joint_positions: Vec<[f64; ARM_JOINTS]>,
    /// The free objects.
    pub objects: Vec<Object>,
    /// What stands still.
    pub fixtures: Vec<Fixture>,
}

/// What a task may see of an arm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ArmView {
    /// The grip site, between the finger tips.
    pub grip_site: DVec3,
    /// Orientation of the hand's body.
    pub hand: DQuat,
    /// Position of the left and of the right finger, 0 closed.
    pub fingers: [f64; 2],
}

impl Default for ArmView {
    fn default() -> Self {
        Self { grip_site: DVec3::ZERO, hand: DQuat::IDENTITY, fingers: [0.0; 2] }
    }
}

/// What a task may see of its arena.
#[derive(Clone, Copy)]
pub struct ArenaView<'a> {
    /// The arms.
    pub arms: &'a [ArmView],
    /// Poses of the objects, in the order of [`Start::objects`].
    pub objects: &'a [DPose3],
    /// Half extents of the boxes around the objects, along the objects' axes.
    pub half_extents: &'a [DVec3],
    /// Poses of the fixtures, in the order of [`Start::fixtures`].
    pub fixtures: &'a [DPose3],
    /// To ask for contacts; there are none in a state without a world.
    pub(crate) world: Option<&'a World>,
}

impl ArenaView<'_> {
    /// The first arm.
    #[must_use]
    pub fn arm(&self) -> ArmView {
        self.arms.first().copied().unwrap_or_default()
    }

    /// Pose of an object; the identity if there is none of that number.
    #[must_use]
    pub fn object(&self, index: usize) -> DPose3 {
        self.objects.get(index).copied().unwrap_or(DPose3::IDENTITY)
    }

    /// Pose of a fixture; the identity if there is none of that number.
    #[must_use]
    pub fn fixture(&self, index: usize) -> DPose3 {
        self.fixtures.get(index).copied().unwrap_or(DPose3::IDENTITY)
    }

    /// Whether two parts touch.
    #[must_use]
    pub fn touching(&self, one: Part, other: Part) -> bool {
        self.world.is_some_and(|world| world.touching(one, other))
    }
}

impl std::fmt::Debug for ArenaView<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ArenaView").field("arms", &self.arms).field("objects", &self.objects).finish_non_exhaustive()
    }
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

impl TaskOutcome {
    /// What the benchmarks' sparse tasks say: the episode ends with success; each step before costs 1.
    #[must_use]
    pub fn sparse(success: bool) -> Self {
        Self { reward: if success { 0.0 } else { -1.0 }, terminated: success, success }
    }
}

/// Names of all tasks. Those of OGBench have five each, by number: `cube-double-task1` to `cube-double-task5`; without a
/// number the benchmark's default is meant.
#[must_use]
pub fn tasks() -> &'static [&'static str] {
    &[
        "lift",
        "can",
        "square",
        "tool-hang",
        "transport",
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

/// The task of that name, with its embedded scene. robosuite's names are known, too: `PickPlaceCan`.
///
/// # Errors
/// [`SimError::UnknownTask`], with all names and the nearest one.
pub fn task(name: &str) -> Result<Arc<dyn Task>, SimError> {
    match name {
        "lift" | "Lift" => Ok(Arc::new(Lift::new(LiftScene::embedded()?))),
        "can" | "PickPlaceCan" => Ok(Arc::new(Can::embedded()?)),
        "square" | "NutAssemblySquare" => Ok(Arc::new(Square::embedded()?)),
        "tool-hang" | "tool_hang" | "ToolHang" => Ok(Arc::new(ToolHang::embedded()?)),
        "transport" | "TwoArmTransport" => Ok(Arc::new(Transport::embedded()?)),
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
                .filter(|(distance, known)| *distance <= known.len().div_ceil(3));
            Err(SimError::UnknownTask {
                name: name.to_owned(),
                known: tasks().join(", "),
                suggestion: nearest.map(|(_, known)| (*known).to_owned()),
            })
        }
    }
}

/// One of our tasks in a scene file of one's own. Which one it is, the file says; one with a list of `tasks` is a scene of
/// OGBench's kind, of which the default task is taken.
///
/// # Errors
/// [`SimError::Read`], [`SimError::Parse`] or [`SimError::Value`], with the file and the field; a task that has no scene
/// file is [`SimError::UnknownTask`].
pub fn task_from_file(path: &Path) -> Result<Arc<dyn Task>, SimError> {
    #[derive(serde::Deserialize)]
    struct Head {
        task: String,
        tasks: Option<serde::de::IgnoredAny>,
    }
    let (file, text) = (path.display().to_string(), scene::read(path)?);
    let head: Head = scene::parse(&file, &text)?;
    if head.tasks.is_some() {
        let scene = ManipScene::parse(&file, &text)?;
        let number = scene.default_task;
        return Ok(Arc::new(ManipTask::of_scene(scene, ServoRobot::ur5e()?, number)?));
    }
    match head.task.as_str() {
        "lift" => Ok(Arc::new(Lift::new(LiftScene::parse(&file, &text)?))),
        "can" => Ok(Arc::new(Can::parse(&file, &text)?)),
        "square" => Ok(Arc::new(Square::parse(&file, &text)?)),
        "tool-hang" => Ok(Arc::new(ToolHang::parse(&file, &text)?)),
        "transport" => Ok(Arc::new(Transport::parse(&file, &text)?)),
        other => Err(SimError::UnknownTask {
            name: other.to_owned(),
            known: "lift, can, square, tool-hang, transport; a scene with a list of `tasks` may have any name"
                .to_owned(),
            suggestion: None,
        }),
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
    fn a_scene_file_of_either_kind_is_a_task() {
        let scenes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenes");
        for (file, name) in [("can.toml", "can"), ("lift.toml", "lift"), ("scene.toml", "scene-task2")] {
            assert_eq!(task_from_file(&scenes.join(file)).unwrap().name(), name);
        }
        let error = task_from_file(&scenes.join("none.toml")).unwrap_err().to_string();
        assert!(error.contains("none.toml"), "{error}");
    }

    #[test]
    fn an_unknown_task_lists_the_known_ones() {
        let error = task("lfit").unwrap_err().to_string();
        let known = tasks().join(", ");
        assert_eq!(error, format!("there is no task `lfit`; the tasks are: {known}. Did you mean `lift`?"));
        let error = task("kitchen").unwrap_err().to_string();
        assert_eq!(error, format!("there is no task `kitchen`; the tasks are: {known}"));
        assert_eq!(task("TwoArmTransport").unwrap().name(), "transport");
    }
}
