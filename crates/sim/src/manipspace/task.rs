//! The tasks by name, their spaces and settings.

use std::sync::Arc;

use onestep_agent::{ActionSpace, AgentSpec, ObservationSpace};

use super::model::ManipModel;
use super::oracle::Oracle;
use super::robot::{SERVO_JOINTS, ServoRobot};
use super::scene::{ManipScene, TaskScene};
use super::state::ManipState;
use crate::SimError;
use crate::kinematics::Chain;
use crate::model::Model;
use crate::robot::Robot;
use crate::task::Task;

/// Names of the environments.
const ENVIRONMENTS: [&str; 7] =
    ["cube-single", "cube-double", "cube-triple", "cube-quadruple", "scene", "puzzle-3x3", "puzzle-4x4"];

/// Tasks of each environment.
const TASKS: u32 = 5;

/// Names of all tasks: each environment's default task, then its five by number.
pub const MANIP_TASKS: [&str; 42] = [
    "cube-single",
    "cube-single-task1",
    "cube-single-task2",
    "cube-single-task3",
    "cube-single-task4",
    "cube-single-task5",
    "cube-double",
    "cube-double-task1",
    "cube-double-task2",
    "cube-double-task3",
    "cube-double-task4",
    "cube-double-task5",
    "cube-triple",
    "cube-triple-task1",
    "cube-triple-task2",
    "cube-triple-task3",
    "cube-triple-task4",
    "cube-triple-task5",
    "cube-quadruple",
    "cube-quadruple-task1",
    "cube-quadruple-task2",
    "cube-quadruple-task3",
    "cube-quadruple-task4",
    "cube-quadruple-task5",
    "scene",
    "scene-task1",
    "scene-task2",
    "scene-task3",
    "scene-task4",
    "scene-task5",
    "puzzle-3x3",
    "puzzle-3x3-task1",
    "puzzle-3x3-task2",
    "puzzle-3x3-task3",
    "puzzle-3x3-task4",
    "puzzle-3x3-task5",
    "puzzle-4x4",
    "puzzle-4x4-task1",
    "puzzle-4x4-task2",
    "puzzle-4x4-task3",
    "puzzle-4x4-task4",
    "puzzle-4x4-task5",
];

/// What a step is worth.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ManipReward {
    /// Solved parts less all parts: 0 when the task is solved, below zero before.
    #[default]
    SingleTask,
    /// The same in two values: 0 when the task is solved, -1 before.
    Sparse,
    /// 1 when the goal is reached, else 0.
    GoalConditioned,
}

/// Which state a step's reward, success and end are about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SuccessTiming {
    /// The state that the action led to.
    #[default]
    Post,
    /// The state in which the action was taken.
    Pre,
}

/// A task of OGBench's manipulation suite.
///
/// ```
/// # fn main() -> Result<(), onestep_sim::SimError> {
/// use onestep_sim::{ManipReward, ManipTask, Robot, SimArena};
///
/// let task = ManipTask::named("cube-double-task2")?.with_reward(ManipReward::GoalConditioned);
/// let arena = SimArena::new(std::sync::Arc::new(task), Robot::panda()?, 0);
/// assert_eq!(arena.observation().len(), 37);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct ManipTask {
    name: &'static str,
    scene: Arc<ManipScene>,
    robot: Arc<ServoRobot>,
    chain: Chain<SERVO_JOINTS>,
    /// Index of the task; nothing in play.
    index: Option<usize>,
    reward: ManipReward,
    timing: SuccessTiming,
    permute_cubes: bool,
    oracle: Oracle,
}

impl ManipTask {
    /// The task of a name: `cube-double-task2`, or the default task for `cube-double`, or a long name of the benchmark
    /// such as `cube-double-play-singletask-task2-v0`.
    ///
    /// # Errors
    /// [`SimError::UnknownTask`].
    pub fn named(name: &str) -> Result<Self, SimError> {
        let unknown =
            || SimError::UnknownTask { name: name.to_owned(), known: MANIP_TASKS.join(", "), suggestion: None };
        let short = normalize(name).ok_or_else(unknown)?;
        let (environment, number) = match short.rsplit_once("-task") {
            Some((environment, number)) => (environment, number.parse::<u32>().ok()),
            None => (short, None),
        };
        let scene = ManipScene::embedded(environment)?;
        let number = number.unwrap_or(scene.default_task);
        let task = Self::of_scene(scene, ServoRobot::ur5e()?, number)?;
        Ok(Self { name: short, ..task })
    }

    /// A task of a scene of one's own, by its number from 1.
    ///
    /// # Errors
    /// [`SimError::Value`] if the scene has no task of that number.
    pub fn of_scene(scene: ManipScene, robot: Arc<ServoRobot>, number: u32) -> Result<Self, SimError> {
        let index = number.checked_sub(1).map(|index| index as usize).filter(|index| *index < scene.tasks.len());
        let Some(index) = index else {
            return Err(SimError::Value {
                file: scene.task,
                field: "task".to_owned(),
                value: number.to_string(),
                expected: format!("its tasks are numbered from 1 to {}", scene.tasks.len()),
            });
        };
        let chain = Chain::of_links(super::world::base(), &robot.links, &robot.hand, &super::world::fingers(&robot));
        Ok(Self {
            name: "manipspace",
            scene: Arc::new(scene),
            robot,
            chain,
            index: Some(index),
            reward: ManipReward::default(),
            timing: SuccessTiming::default(),
            permute_cubes: false,
            oracle: Oracle::Plan { noise: 0.0 },
        })
    }

    /// The same with another reward.
    #[must_use]
    pub fn with_reward(self, reward: ManipReward) -> Self {
        Self { reward, ..self }
    }

    /// The same with reward, success and end taken at another time.
    #[must_use]
    pub fn with_timing(self, timing: SuccessTiming) -> Self {
        Self { timing, ..self }
    }

    /// The same, or with the cubes' identities drawn at random at each reset, as the goal-conditioned benchmark does.
    #[must_use]
    pub fn with_permuted_cubes(self, permute_cubes: bool) -> Self {
        Self { permute_cubes, ..self }
    }

    /// The same with another scripted expert.
    #[must_use]
    pub fn with_oracle(self, oracle: Oracle) -> Self {
        Self { oracle, ..self }
    }

    /// The form in which the benchmark collects data: the scene strewn at random, an expert that gets a new target
    /// whenever it is done, 1001 steps without an end by success.
    #[must_use]
    pub fn in_play(self, oracle: Oracle) -> Self {
        Self { index: None, oracle, ..self }
    }

    /// The scene.
    #[must_use]
    pub fn scene(&self) -> &ManipScene {
        &self.scene
    }

    /// The robot.
    #[must_use]
    pub fn robot(&self) -> &ServoRobot {
        &self.robot
    }

    /// The arm's kinematics.
    #[must_use]
    pub fn chain(&self) -> &Chain<SERVO_JOINTS> {
        &self.chain
    }

    /// Start and goal, or nothing in play.
    #[must_use]
    pub fn arrangement(&self) -> Option<&TaskScene> {
        self.scene.tasks.get(self.index?)
    }

    /// What a step is worth.
    #[must_use]
    pub fn reward(&self) -> ManipReward {
        self.reward
    }

    /// Which state reward, success and end are about.
    #[must_use]
    pub fn timing(&self) -> SuccessTiming {
        self.timing
    }

    /// Whether the cubes' identities are drawn at reset.
    #[must_use]
    pub fn permutes_cubes(&self) -> bool {
        self.permute_cubes
    }

    /// The scripted expert.
    #[must_use]
    pub fn oracle(&self) -> Oracle {
        self.oracle
    }

    /// The observation of a state that a file of the benchmark keeps, without the gripper's contact, which is in no
    /// file; nothing if a length is not that of the scene.
    #[must_use]
    pub fn observation_of(&self, qpos: &[f64], qvel: &[f64], button_states: &[u8]) -> Option<Vec<f32>> {
        let state = ManipState::from_benchmark(&self.scene, qpos, qvel, button_states)?;
        let mut observation = Vec::new();
        state.write_observation(&self.robot, &self.chain, &self.scene, &mut observation);
        Some(observation)
    }

    /// The observation of a scene that has reached the goal, drawn by a seed: the benchmark's goal for policies that are
    /// told where to go. Nothing in play.
    #[must_use]
    pub fn goal_observation(&self, seed: u64) -> Option<Vec<f32>> {
        self.arrangement()?;
        let mut observation = Vec::new();
        ManipModel::at_goal(Arc::new(self.clone()), seed).observe(&mut observation);
        Some(observation)
    }
}

/// The short name that a name of the benchmark stands for.
fn normalize(name: &str) -> Option<&'static str> {
    let lower = name.to_lowercase();
    let mut rest = lower.as_str();
    rest = rest.strip_suffix("-v0").unwrap_or(rest);
    let (rest, task) = match rest.rsplit_once("-task") {
        Some((rest, number)) => (rest, Some(number.parse::<u32>().ok().filter(|n| (1..=TASKS).contains(n))?)),
        None => (rest, None),
    };
    let mut rest = rest.strip_suffix("-singletask").unwrap_or(rest);
    for kind in ["-play", "-noisy"] {
        rest = rest.strip_suffix(kind).unwrap_or(rest);
    }
    let environment = ENVIRONMENTS.iter().find(|environment| **environment == rest)?;
    let short = task.map_or((*environment).to_owned(), |task| format!("{environment}-task{task}"));
    MANIP_TASKS.into_iter().find(|known| *known == short)
}

impl Task for ManipTask {
    fn name(&self) -> &'static str {
        self.name
    }

    fn spec(&self) -> AgentSpec {
        let mut fields: Vec<(String, usize)> = [
            ("joint_pos", SERVO_JOINTS),
            ("joint_vel", SERVO_JOINTS),
            ("effector_pos", 3),
            ("effector_yaw", 2), // cosine, sine
            ("gripper_opening", 1),
            ("gripper_contact", 1),
        ]
        .map(|(name, len)| (name.to_owned(), len))
        .to_vec();
        for cube in 0..self.scene.cube_count() {
            // Quaternions are w, x, y, z here.
            let parts = [("pos", 3), ("quat", 4), ("yaw", 2)];
            fields.extend(parts.map(|(part, len)| (format!("block_{cube}_{part}"), len)));
        }
        for button in 0..self.scene.button_count() {
            let parts = [("state", 2), ("pos", 1), ("vel", 1)];
            fields.extend(parts.map(|(part, len)| (format!("button_{button}_{part}"), len)));
        }
        for (name, slide) in [("drawer", &self.scene.drawer), ("window", &self.scene.window)] {
            if slide.is_some() {
                fields.extend([(format!("{name}_pos"), 1), (format!("{name}_vel"), 1)]);
            }
        }
        let steps = if self.index.is_some() { self.scene.max_episode_steps } else { PLAY_STEPS };
        AgentSpec::new(ObservationSpace::new(fields), ActionSpace::new(["dx", "dy", "dz", "dyaw", "dgripper"]), steps)
    }

    fn control_period_secs(&self) -> f64 {
        self.scene.physics.control_period_secs
    }

    fn has_expert(&self) -> bool {
        true
    }

    fn play(&self) -> Option<Arc<dyn Task>> {
        let oracle = match self.oracle {
            Oracle::Plan { .. } => Oracle::PLAY,
            markov => markov,
        };
        Some(Arc::new(self.clone().in_play(oracle)))
    }

    fn model(self: Arc<Self>, _robot: &Arc<Robot>, seed: u64) -> Box<dyn Model> {
        Box::new(ManipModel::new(self, seed))
    }
}

/// Control steps of an episode in play.
const PLAY_STEPS: u32 = 1001;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn long_names_mean_the_same_task() {
        for (long, short) in [
            ("cube-double-play-singletask-task2-v0", "cube-double-task2"),
            ("cube-double-singletask-v0", "cube-double"),
            ("cube-triple-play-v0", "cube-triple"),
            ("scene-noisy-singletask-task5-v0", "scene-task5"),
            ("Puzzle-3x3-play-singletask-v0", "puzzle-3x3"),
            ("cube-single-task1", "cube-single-task1"),
        ] {
            assert_eq!(ManipTask::named(long).unwrap().name(), short);
        }
        for unknown in ["cube-double-task6", "cube-double-task0", "cube", "cube-double-play-task-v0", "puzzle-9x9"] {
            assert!(ManipTask::named(unknown).is_err(), "{unknown}");
        }
    }

    #[test]
    fn observations_have_the_benchmarks_lengths() {
        for (name, len) in [
            ("cube-single", 28),
            ("cube-double", 37),
            ("cube-triple", 46),
            ("cube-quadruple", 55),
            ("scene", 40),
            ("puzzle-3x3", 55),
            ("puzzle-4x4", 83),
        ] {
            let task = ManipTask::named(name).unwrap();
            assert_eq!((task.spec().observation.dim(), task.spec().action.dim()), (len, 5), "{name}");
        }
        let lengths = |name: &str| ManipState::lengths(ManipTask::named(name).unwrap().scene());
        assert_eq!((lengths("cube-double"), lengths("scene")), ((28, 26), (25, 24)));
        assert_eq!(lengths("puzzle-4x4"), (30, 30));
    }

    #[test]
    fn a_task_without_a_number_is_the_default_one() {
        let name = |name: &str| ManipTask::named(name).unwrap().arrangement().unwrap().name.clone();
        assert_eq!((name("cube-double"), name("puzzle-3x3")), (name("cube-double-task2"), name("puzzle-3x3-task4")));
    }
}
