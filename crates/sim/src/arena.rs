//! One arena: a task's mechanism with its episode, without any ECS.

use std::collections::VecDeque;
use std::sync::Arc;

use bevy::math::Vec3;
use bevy_rapier3d::rapier::math::Pose;
use onestep_agent::{AgentSpec, Outcome};
use xxhash_rust::xxh3::Xxh3;

use crate::SimError;
use crate::arm::ArmModel;
use crate::expert::ExpertMemory;
use crate::manipspace::ManipModel;
use crate::model::{BodyPose, Model, PublishedState};
use crate::robot::Robot;
use crate::task::{ArenaView, Task, TaskOutcome};

/// Control steps that are kept for the report of a fault.
const HISTORY: usize = 8;

/// One control step, as the report of a fault shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct StateRecord {
    /// Control step within the episode.
    pub step: u32,
    /// The action that led here.
    pub action: Vec<f32>,
    /// Positions of the joints.
    pub joint_positions: Vec<f64>,
    /// Velocities of the joints.
    pub joint_velocities: Vec<f64>,
    /// The observation.
    pub observation: Vec<f32>,
}

/// One arena, stepped by hand. The plugin wraps it; benchmarks and tests use it as it is.
///
/// An episode depends on its seed and its actions alone: a reset builds the whole physics world anew.
///
/// ```
/// # fn main() -> Result<(), onestep_sim::SimError> {
/// use onestep_sim::{Robot, SimArena, task};
///
/// let mut arena = SimArena::new(task("lift")?, Robot::panda()?, 7);
/// let outcome = arena.step(&[0.0; 7])?;
/// assert_eq!((outcome.reward, arena.observation().len()), (-1.0, 19));
/// # Ok(())
/// # }
/// ```
pub struct SimArena {
    task: Arc<dyn Task>,
    robot: Arc<Robot>,
    spec: AgentSpec,
    model: Box<dyn Model>,
    seed: u64,
    step: u32,
    observation: Vec<f32>,
    history: VecDeque<StateRecord>,
    fault: Option<SimError>,
}

impl SimArena {
    /// An arena with the initial state of `seed`. A task without an arm does not read the robot.
    #[must_use]
    pub fn new(task: Arc<dyn Task>, robot: Arc<Robot>, seed: u64) -> Self {
        let mut arena = Self {
            spec: task.spec(),
            model: task.clone().model(&robot, seed),
            observation: Vec::new(),
            history: VecDeque::with_capacity(HISTORY),
            step: 0,
            fault: None,
            task,
            robot,
            seed,
        };
        arena.observe();
        arena
    }

    /// Starts over from the initial state of `seed`.
    pub fn reset(&mut self, seed: u64) {
        *self = Self::new(self.task.clone(), self.robot.clone(), seed);
    }

    /// One control step.
    ///
    /// # Shapes
    /// `action`: as many numbers as the task's action space has, in [-1, 1], clipped if beyond. Lift has 7: translation
    /// (x, y, z, Z up), rotation vector, gripper (-1 opens, 1 closes, 0 holds).
    ///
    /// # Errors
    /// [`SimError::ActionLength`]; [`SimError::NotFinite`] when the action or the state is not finite. After that the
    /// arena stands still until it is reset.
    pub fn step(&mut self, action: &[f32]) -> Result<Outcome, SimError> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        let expected = self.spec.action.dim();
        if action.len() != expected {
            return Err(SimError::ActionLength { expected, found: action.len() });
        }
        if let Some(index) = action.iter().position(|value| !value.is_finite()) {
            return Err(self.fail(format!("number {index} of the action")));
        }
        let action: Vec<f32> = action.iter().map(|value| value.clamp(-1.0, 1.0)).collect();
        if !self.model.step(&action) {
            return Err(self.fail("the pose or velocity of a body".to_owned()));
        }
        self.step += 1;
        self.observe();
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(StateRecord {
            step: self.step,
            action,
            joint_positions: self.model.joint_positions().to_vec(),
            joint_velocities: self.model.joint_velocities().to_vec(),
            observation: self.observation.clone(),
        });
        if let Some(index) = self.observation.iter().position(|value| !value.is_finite()) {
            let what = self.observation_name(index);
            return Err(self.fail(what));
        }

        let task = self.model.outcome();
        Ok(Outcome {
            reward: task.reward,
            terminated: task.terminated,
            success: task.success,
            truncated: self.step >= self.spec.max_episode_steps && !task.terminated,
        })
    }

    fn fail(&mut self, what: String) -> SimError {
        let fault = SimError::NotFinite { what, step: self.step, seed: self.seed };
        self.fault = Some(fault.clone());
        fault
    }

    fn observation_name(&self, index: usize) -> String {
        let mut start = 0;
        for field in self.spec.observation.fields() {
            if index < start + field.len {
                return format!("`{}` of the observation", field.name);
            }
            start += field.len;
        }
        format!("number {index} of the observation")
    }

    fn observe(&mut self) {
        self.observation.clear();
        self.model.observe(&mut self.observation);
    }

    /// The task.
    #[must_use]
    pub fn task(&self) -> &Arc<dyn Task> {
        &self.task
    }

    /// Spaces and time limit.
    #[must_use]
    pub fn spec(&self) -> &AgentSpec {
        &self.spec
    }

    /// Seed of the episode.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Control steps done in the episode.
    #[must_use]
    pub fn steps(&self) -> u32 {
        self.step
    }

    /// The observation of the current state.
    #[must_use]
    pub fn observation(&self) -> &[f32] {
        &self.observation
    }

    /// Joint positions, radians or metres.
    #[must_use]
    pub fn joint_positions(&self) -> &[f64] {
        self.model.joint_positions()
    }

    /// Joint velocities.
    #[must_use]
    pub fn joint_velocities(&self) -> &[f64] {
        self.model.joint_velocities()
    }

    /// Puts the joints into a state at which the episode goes on: for tests and comparisons. In OGBench's tasks cubes,
    /// drawer and window are among the joints, so that a state of its files can be set. Returns false, and changes
    /// nothing, if the lengths are not those of [`SimArena::joint_positions`] and [`SimArena::joint_velocities`], or if
    /// the task is one of an [`ArmModel`], whose joints do not tell the objects' places.
    pub fn set_joints(&mut self, positions: &[f64], velocities: &[f64]) -> bool {
        let done = self.model.set_joints(positions, velocities);
        self.observe();
        done
    }

    /// What the model says of the state, or of its last step.
    pub(crate) fn outcome(&self) -> TaskOutcome {
        self.model.outcome()
    }

    /// The last control steps, oldest first.
    pub fn history(&self) -> impl Iterator<Item = &StateRecord> {
        self.history.iter()
    }

    /// The task's expert in this state, without noise, if the task has one.
    pub fn expert(&self, memory: &mut ExpertMemory) -> Option<Vec<f32>> {
        self.model.expert(memory)
    }

    /// A hash of all poses, joint positions and velocities, exact to the bit.
    #[must_use]
    pub fn hash(&self) -> u64 {
        let mut hash = Xxh3::new();
        self.model.feed(&mut |number: f32| hash.update(&number.to_bits().to_le_bytes()));
        hash.digest()
    }

    /// The state as the files of the benchmark that the task mirrors keep it, if it mirrors one.
    #[must_use]
    pub fn published_state(&self) -> Option<PublishedState> {
        self.model.published_state()
    }

    /// All bodies with their poses: moving parts, objects, fixtures. The order is fixed.
    #[must_use]
    pub fn bodies(&self) -> Vec<BodyPose> {
        self.model.bodies()
    }

    /// Writes the poses of the moving bodies, in the order of [`SimArena::bodies`].
    pub(crate) fn moving_poses(&self, poses: &mut Vec<Pose>) {
        self.model.moving_poses(poses);
    }

    /// Sets gravity (m/s², Z up) for the rest of the episode; an arm stays compensated. Shaking gravity is the same,
    /// for a held object, as shaking the hand.
    pub fn set_gravity(&mut self, gravity: Vec3) {
        self.model.set_gravity(gravity);
    }

    /// The simulation of one of OGBench's tasks, if this is one.
    #[must_use]
    pub fn manip(&self) -> Option<&ManipModel> {
        self.model.as_manip()
    }

    /// The same, to change: for tests and experiments.
    pub fn manip_mut(&mut self) -> Option<&mut ManipModel> {
        self.model.as_manip_mut()
    }

    fn arm(&self) -> Option<&ArmModel> {
        self.model.as_arm()
    }

    /// What the task of an arm sees of this arena.
    #[must_use]
    pub fn view(&self) -> Option<ArenaView<'_>> {
        self.arm().map(ArmModel::view)
    }

    /// Linear velocity of its centre of mass (m/s) and angular velocity (rad/s) of the `index`-th free object, Z up, if
    /// there is one.
    #[must_use]
    pub fn object_velocity(&self, index: usize) -> Option<(Vec3, Vec3)> {
        self.arm().and_then(|arm| arm.object_velocity(index))
    }

    /// Centre of mass of the `index`-th free object of an arm's task, m, Z up, if there is one. It lies elsewhere than the
    /// object's origin where its shapes are not symmetric.
    #[must_use]
    pub fn object_center_of_mass(&self, index: usize) -> Option<Vec3> {
        self.arm().and_then(|arm| arm.object_center_of_mass(index))
    }

    /// Adds `spin` (rad/s, Z up) to the angular velocity of the `index`-th free object of an arm's task: for tests and
    /// experiments.
    pub fn spin_object(&mut self, index: usize, spin: Vec3) {
        if let Some(arm) = self.model.as_arm_mut() {
            arm.spin_object(index, spin);
        }
    }

    /// Adds `velocity` (m/s, Z up) to the velocity of the `index`-th free object, if there is one: a push, for tests
    /// and experiments.
    pub fn push_object(&mut self, index: usize, velocity: Vec3) {
        if let Some(arm) = self.model.as_arm_mut() {
            arm.push_object(index, velocity);
        } else if let Some(scene) = self.model.as_manip_mut() {
            scene.push_cube(index, velocity);
        }
    }

    /// Where the grip site of each arm would go under a chunk of actions, in Bevy's frame (Y up), relative to the
    /// arena's origin: for each arm where it is, and a point after each action. For drawing candidates: the
    /// controller's own law on the arm's mass matrix in coarse steps, without the physics world, so without contacts.
    /// Nothing for a task without an arm.
    ///
    /// # Shapes
    /// `actions`: `[h, action_dim]`, flat. What is left of an action that is not whole is ignored.
    #[must_use]
    pub fn predict_paths(&self, actions: &[f32]) -> Vec<Vec<Vec3>> {
        let ways = self.model.predict_paths(actions);
        let from = self.model.grip_sites();
        from.into_iter().zip(ways).map(|(site, way)| std::iter::once(site).chain(way).collect()).collect()
    }

    /// The grip site of the first arm in Bevy's frame, relative to the arena's origin.
    #[must_use]
    pub fn grip_site(&self) -> Option<Vec3> {
        self.model.grip_sites().first().copied()
    }
}

impl std::fmt::Debug for SimArena {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimArena")
            .field("task", &self.task.name())
            .field("seed", &self.seed)
            .field("step", &self.step)
            .finish_non_exhaustive()
    }
}
