//! The tasks by name, their spaces and settings.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use onestep_agent::{ActionSpace, AgentSpec, ObservationSpace, Purpose, derive_seed};

use super::model::ManipModel;
use super::oracle::Oracle;
use super::robot::{SERVO_JOINTS, ServoRobot};
use super::scene::{ManipScene, TaskScene};
use super::state::{ManipState, seen_cube};
use crate::SimError;
use crate::kinematics::Chain;
use crate::model::Model;
use crate::robot::Robot;
use crate::task::Task;

/// Names of the environments.
const ENVIRONMENTS: [&str; 7] =
    ["cube-single", "cube-double", "cube-triple", "cube-quadruple", "scene", "puzzle-3x3", "puzzle-4x4"];

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
    /// Whether the name told the task's number, or left it to the scene.
    is_numbered: bool,
    scene: Arc<ManipScene>,
    robot: Arc<ServoRobot>,
    chain: Chain<SERVO_JOINTS>,
    form: Form,
    reward: ManipReward,
    timing: SuccessTiming,
    permute_cubes: bool,
    oracle: Oracle,
}

/// What an episode is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// The task of this index.
    Task(usize),
    /// A task that is drawn at each reset.
    AnyTask,
    /// Undirected data.
    Play,
}

impl Form {
    /// The settings that need not be told by a name.
    fn usual(self) -> (ManipReward, bool) {
        if self == Self::AnyTask { (ManipReward::GoalConditioned, true) } else { (ManipReward::SingleTask, false) }
    }
}

/// Words at the end of a name that say what differs from the usual settings: reward, cubes, timing.
const REWARDS: [(&str, ManipReward); 3] =
    [("-counted", ManipReward::SingleTask), ("-sparse", ManipReward::Sparse), ("-goal", ManipReward::GoalConditioned)];
const PERMUTED: [(&str, bool); 2] = [("-ordered", false), ("-permuted", true)];
const TIMINGS: [(&str, SuccessTiming); 2] = [("-post", SuccessTiming::Post), ("-pre", SuccessTiming::Pre)];

impl ManipTask {
    /// The task of a name.
    ///
    /// | name | means |
    /// |---|---|
    /// | `cube-double-task2` | a single task; `cube-double` is the environment's default one |
    /// | `cube-double-singletask-task2-v0`, `cube-double-play-singletask-task2-v0` | the same |
    /// | `cube-double-v0`, `cube-double-play-v0` | the goal-conditioned environment: a task drawn at each reset, reward 1 at its goal and else 0, cubes permuted |
    /// | `cube-double-play`, `cube-double-noisy` | the form in which undirected data is collected |
    ///
    /// With `-noisy` in a name the expert is the Markov oracle. Settings may follow, in this order: `-sparse`, `-goal` or
    /// `-counted` (see [`ManipReward`]), `-permuted` or `-ordered`, `-pre` or `-post` (see [`SuccessTiming`]):
    /// `cube-double-task2-sparse-pre`.
    ///
    /// # Errors
    /// [`SimError::UnknownTask`].
    pub fn named(name: &str) -> Result<Self, SimError> {
        let unknown =
            || SimError::UnknownTask { name: name.to_owned(), known: MANIP_TASKS.join(", "), suggestion: None };
        Self::parse(&name.to_lowercase()).ok_or_else(unknown)?
    }

    fn parse(name: &str) -> Option<Result<Self, SimError>> {
        fn word<'a, T: Copy>(rest: &'a str, words: &[(&str, T)]) -> (&'a str, Option<T>) {
            let found = words.iter().find_map(|(word, value)| Some((rest.strip_suffix(word)?, Some(*value))));
            found.unwrap_or((rest, None))
        }
        let (rest, timing) = word(name, &TIMINGS);
        let (rest, permute) = word(rest, &PERMUTED);
        let (rest, reward) = word(rest, &REWARDS);
        let (rest, is_long) = word(rest, &[("-v0", true)]);
        let (rest, number) = match rest.rsplit_once("-task") {
            Some((rest, number)) => (rest, Some(number.parse::<u32>().ok()?)),
            None => (rest, None),
        };
        let (rest, is_single) = word(rest, &[("-singletask", true)]);
        let (rest, is_noisy) = word(rest, &[("-play", false), ("-noisy", true)]);
        let environment = ENVIRONMENTS.iter().find(|environment| **environment == rest)?;

        let build = || -> Result<Self, SimError> {
            let scene = ManipScene::embedded(environment)?;
            let default = scene.default_task;
            let task = Self::of_scene(scene, ServoRobot::ur5e()?, number.unwrap_or(default))?;
            let oracle = if is_noisy == Some(true) {
                Oracle::Markov { noise: 0.0, random_action_probability: 0.0 }
            } else {
                task.oracle
            };
            Ok(Self { is_numbered: number.is_some(), oracle, ..task })
        };
        let form = match (is_long.is_some(), is_single.is_some(), number, is_noisy) {
            (true, false, None, _) => Some(Form::AnyTask),
            (false, false, None, Some(_)) => Some(Form::Play),
            (_, true, _, _) | (false, false, _, None) => None,
            _ => return None,
        };
        let task = match build() {
            Ok(task) => task,
            // A number that the scene does not have.
            Err(SimError::Value { .. }) => return None,
            Err(error) => return Some(Err(error)),
        };
        let form = form.unwrap_or(task.form);
        let (usual_reward, usual_permute) = form.usual();
        let task = Self {
            form,
            reward: reward.unwrap_or(usual_reward),
            permute_cubes: permute.unwrap_or(usual_permute),
            timing: timing.unwrap_or_default(),
            ..task
        };
        Some(Ok(if form == Form::Play { task.played() } else { task.renamed() }))
    }

    /// The same under the name of its settings, which [`ManipTask::named`] understands if the scene is embedded.
    fn renamed(mut self) -> Self {
        self.name = interned(self.describe(self.is_numbered));
        self
    }

    fn describe(&self, is_numbered: bool) -> String {
        let environment = &self.scene.task;
        if self.form == Form::Play {
            let kind = if matches!(self.oracle, Oracle::Plan { .. }) { "play" } else { "noisy" };
            return format!("{environment}-{kind}");
        }
        let mut settings = String::new();
        let (reward, permute) = self.form.usual();
        if self.reward != reward {
            settings.extend(REWARDS.iter().filter(|(_, value)| *value == self.reward).map(|(word, _)| *word));
        }
        if self.permute_cubes != permute {
            settings.extend(PERMUTED.iter().filter(|(_, value)| *value == self.permute_cubes).map(|(word, _)| *word));
        }
        if self.timing != SuccessTiming::default() {
            settings.extend(TIMINGS.iter().filter(|(_, value)| *value == self.timing).map(|(word, _)| *word));
        }
        match self.form {
            // With its number, so that the environment can be told from the settings.
            Form::Task(index) if is_numbered || !settings.is_empty() => {
                format!("{environment}-task{}{settings}", index + 1)
            }
            Form::AnyTask => format!("{environment}-v0{settings}"),
            Form::Task(_) | Form::Play => environment.clone(),
        }
    }

    /// The form of play with the noise that the benchmark's data have.
    fn played(self) -> Self {
        let oracle = match self.oracle {
            Oracle::Plan { .. } => Oracle::PLAY,
            Oracle::Markov { .. } => Oracle::noisy(&self.scene),
        };
        self.in_play(oracle)
    }

    /// A task of a scene of one's own, by its number from 1. It is called by the scene's name and the number.
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
        let task = Self {
            name: "",
            is_numbered: true,
            scene: Arc::new(scene),
            robot,
            chain,
            form: Form::Task(index),
            reward: ManipReward::default(),
            timing: SuccessTiming::default(),
            permute_cubes: false,
            oracle: Oracle::Plan { noise: 0.0 },
        };
        Ok(task.renamed())
    }

    /// The same with another reward.
    #[must_use]
    pub fn with_reward(self, reward: ManipReward) -> Self {
        Self { reward, ..self }.renamed()
    }

    /// The same with reward, success and end taken at another time.
    #[must_use]
    pub fn with_timing(self, timing: SuccessTiming) -> Self {
        Self { timing, ..self }.renamed()
    }

    /// The same, or with the cubes' identities drawn at random at each reset, as the goal-conditioned benchmark does.
    #[must_use]
    pub fn with_permuted_cubes(self, permute_cubes: bool) -> Self {
        Self { permute_cubes, ..self }.renamed()
    }

    /// The same with another scripted expert.
    #[must_use]
    pub fn with_oracle(self, oracle: Oracle) -> Self {
        Self { oracle, ..self }.renamed()
    }

    /// The form in which the benchmark collects data: the scene strewn at random, an expert that gets a new target
    /// whenever it is done, 1001 steps without an end by success.
    #[must_use]
    pub fn in_play(self, oracle: Oracle) -> Self {
        Self { form: Form::Play, oracle, ..self }.renamed()
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

    /// Start and goal of the episode of a seed, or nothing in play. Only where a task is drawn at each reset does the
    /// seed matter.
    #[must_use]
    pub fn arrangement(&self, seed: u64) -> Option<&TaskScene> {
        let tasks = &self.scene.tasks;
        match self.form {
            Form::Task(index) => tasks.get(index),
            Form::AnyTask => {
                let drawn = derive_seed(seed, Purpose::World, 0, 0) % tasks.len().max(1) as u64;
                tasks.get(drawn as usize)
            }
            Form::Play => None,
        }
    }

    /// Whether this is the form in which undirected data is collected: without a goal.
    #[must_use]
    pub fn is_play(&self) -> bool {
        self.form == Form::Play
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
        self.arrangement(seed)?;
        let mut observation = Vec::new();
        ManipModel::at_goal(Arc::new(self.clone()), seed).observe(&mut observation);
        Some(observation)
    }
}

/// The one copy of a name, which lives as long as the program: there are as many as different tasks.
fn interned(name: String) -> &'static str {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.get(name.as_str()) {
        return known;
    }
    let name: &'static str = name.leak();
    names.insert(name);
    name
}

impl Task for ManipTask {
    fn name(&self) -> &'static str {
        self.name
    }

    fn full_name(&self) -> &'static str {
        interned(self.describe(true))
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
        let steps = if self.is_play() { PLAY_STEPS } else { self.scene.max_episode_steps };
        AgentSpec::new(ObservationSpace::new(fields), ActionSpace::new(["dx", "dy", "dz", "dyaw", "dgripper"]), steps)
    }

    fn control_period_secs(&self) -> f64 {
        self.scene.physics.control_period_secs
    }

    fn has_expert(&self) -> bool {
        true
    }

    fn play(&self) -> Option<Arc<dyn Task>> {
        Some(Arc::new(self.clone().played()))
    }

    fn is_undirected(&self) -> bool {
        self.is_play()
    }

    fn is_spoiled(&self, observations: &[f32]) -> bool {
        let Some(reach) = self.scene.play.cube_reach.filter(|_| self.is_play()) else { return false };
        let (width, cubes) = (self.spec().observation.dim().max(1), self.scene.cube_count());
        observations.chunks_exact(width).any(|row| {
            (0..cubes).filter_map(|index| seen_cube(row, index)).any(|[_, y, z]| {
                let [low, high] = reach.y;
                y >= high || (y <= low && !(reach.in_drawer[0]..=reach.in_drawer[1]).contains(&z))
            })
        })
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
    fn names_mean_what_they_mean_in_the_original() {
        for (name, short) in [
            ("cube-double-play-singletask-task2-v0", "cube-double-task2"),
            ("cube-double-singletask-v0", "cube-double"),
            ("scene-noisy-singletask-task5-v0", "scene-task5"),
            ("Puzzle-3x3-play-singletask-v0", "puzzle-3x3"),
            ("cube-single-task1", "cube-single-task1"),
            ("cube-triple-play-v0", "cube-triple-v0"),
            ("cube-triple-v0", "cube-triple-v0"),
            ("scene-play", "scene-play"),
            ("puzzle-3x3-noisy", "puzzle-3x3-noisy"),
            ("scene-sparse", "scene-task2-sparse"),
            ("cube-single-task3-goal-permuted-pre", "cube-single-task3-goal-permuted-pre"),
            ("cube-single-task3-post", "cube-single-task3"),
            ("cube-double-v0-ordered", "cube-double-v0-ordered"),
        ] {
            let task = ManipTask::named(name).unwrap();
            assert_eq!(task.name(), short);
            // A task is found again under its own name, with the same settings.
            let again = ManipTask::named(task.name()).unwrap();
            assert_eq!((again.name, again.form, again.reward), (task.name, task.form, task.reward));
            assert_eq!((again.timing, again.permute_cubes), (task.timing, task.permute_cubes));
        }
        for unknown in [
            "cube-double-task6",
            "cube-double-task0",
            "cube",
            "cube-double-play-task-v0",
            "cube-double-task2-v0",
            "cube-double-play-task2",
            "puzzle-9x9",
            "cube-double-pre-sparse",
        ] {
            assert!(ManipTask::named(unknown).is_err(), "{unknown}");
        }
    }

    #[test]
    fn goal_conditioned_environments_draw_a_task_and_reward_its_goal() {
        let task = ManipTask::named("cube-double-play-v0").unwrap();
        let settings = (task.reward(), task.timing(), task.permutes_cubes());
        assert_eq!(settings, (ManipReward::GoalConditioned, SuccessTiming::Post, true));
        let mut drawn: Vec<&str> = (0..50).map(|seed| task.arrangement(seed).unwrap().name.as_str()).collect();
        assert_eq!(drawn[7], task.arrangement(7).unwrap().name);
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn.len(), 5);
    }

    #[test]
    fn noisy_names_choose_the_markov_oracle() {
        let oracle = |name: &str| ManipTask::named(name).unwrap().oracle();
        assert_eq!(oracle("scene-play"), Oracle::PLAY);
        assert_eq!(oracle("scene-noisy"), Oracle::NOISY);
        let twice = Oracle::Markov { noise: 0.1, random_action_probability: 0.2 };
        assert_eq!((oracle("puzzle-3x3-noisy"), oracle("puzzle-4x4-noisy")), (twice, twice));
        assert_eq!(oracle("cube-double-noisy-singletask-v0"), oracle("cube-double-noisy-v0"));
        let noisy = ManipTask::named("puzzle-3x3-noisy-singletask-v0").unwrap();
        assert_eq!((noisy.play().unwrap().name(), noisy.full_name()), ("puzzle-3x3-noisy", "puzzle-3x3-task4"));
    }

    #[test]
    fn an_episode_with_a_cube_out_of_reach_is_spoiled() {
        let task = ManipTask::named("scene-play").unwrap();
        let (width, at) = (task.spec().observation.dim(), task.spec().observation.range("block_0_pos").unwrap().start);
        let spoiled = |y: f32, z: f32| {
            let mut observations = vec![0.0; 3 * width];
            observations[width + at + 1] = 10.0 * y;
            observations[width + at + 2] = 10.0 * z;
            task.is_spoiled(&observations)
        };
        assert!(!spoiled(0.28, 0.02) && spoiled(0.3, 0.02));
        assert!(!spoiled(-0.29, 0.02) && spoiled(-0.31, 0.02) && spoiled(-0.31, 0.09) && !spoiled(-0.36, 0.066));
        let other = ManipTask::named("cube-single-play").unwrap();
        assert!(!other.is_spoiled(&vec![100.0; other.spec().observation.dim()]));
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
        let name = |name: &str| ManipTask::named(name).unwrap().arrangement(0).unwrap().name.clone();
        assert_eq!((name("cube-double"), name("puzzle-3x3")), (name("cube-double-task2"), name("puzzle-3x3-task4")));
        assert_eq!(ManipTask::named("cube-double").unwrap().full_name(), "cube-double-task2");
    }
}
