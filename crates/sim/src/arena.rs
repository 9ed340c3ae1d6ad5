//! One arena: a robot, a task and its physics, without any ECS.

use std::collections::VecDeque;
use std::sync::Arc;

use bevy::math::{DVec3, Vec3};
use bevy_rapier3d::rapier::glamx::DPose3;
use bevy_rapier3d::rapier::math::Pose;
use onestep_agent::{AgentSpec, Outcome};
use xxhash_rust::xxh3::Xxh3;

use crate::SimError;
use crate::controller::{ACTION_DIM, ArmController, Goal, GripperController};
use crate::expert::ExpertMemory;
use crate::frames;
use crate::kinematics::{ArmPose, Chain};
use crate::physics::{FINGERS, JointState, World, double, single};
use crate::robot::{ARM_JOINTS, Robot};
use crate::task::{ArenaView, Task};

/// Control steps that are kept for the report of a fault.
const HISTORY: usize = 8;

/// Steps of a predicted path within one control step.
const PREDICTION_SUBSTEPS: u32 = 5;

/// One control step, as the report of a fault shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct StateRecord {
    /// Control step within the episode.
    pub step: u32,
    /// The action that led here.
    pub action: [f32; ACTION_DIM],
    /// Joint positions of the arm.
    pub joint_positions: [f64; ARM_JOINTS],
    /// Joint velocities of the arm.
    pub joint_velocities: [f64; ARM_JOINTS],
    /// The observation.
    pub observation: Vec<f32>,
}

/// A body of an arena: what to draw, and where.
#[derive(Debug, Clone, PartialEq)]
pub struct BodyPose {
    /// Name of the body: a link, a finger, an object, a fixture.
    pub name: String,
    /// Half extents of a box, in its own axes; none for parts of the robot.
    pub half_extents: Option<Vec3>,
    /// Pose in the benchmark's frame (Z up).
    pub pose: Pose,
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
    chain: Chain,
    world: World,
    arm: ArmController,
    gripper: GripperController,
    seed: u64,
    step: u32,
    joints: JointState,
    pose: ArmPose,
    objects: Vec<DPose3>,
    object_names: Vec<String>,
    half_extents: Vec<DVec3>,
    observation: Vec<f32>,
    history: VecDeque<StateRecord>,
    fault: Option<SimError>,
}

impl SimArena {
    /// An arena with the initial state of `seed`.
    #[must_use]
    pub fn new(task: Arc<dyn Task>, robot: Arc<Robot>, seed: u64) -> Self {
        let start = task.start(&robot, seed);
        let chain = Chain::new(&robot, task.base_position());
        let world = World::new(
            &robot,
            task.base_position(),
            &start.joint_positions,
            &task.fixtures(),
            &start.objects,
            task.physics(),
        );
        let joints = world.joints();
        let mut arena = Self {
            spec: task.spec(),
            arm: ArmController::new(&robot, start.joint_positions, task.physics().gravity),
            gripper: GripperController::new(&robot),
            pose: chain.pose(&joints.positions),
            objects: Vec::with_capacity(start.objects.len()),
            half_extents: start.objects.iter().map(|object| object.half_extents).collect(),
            object_names: start.objects.into_iter().map(|object| object.name).collect(),
            observation: Vec::new(),
            history: VecDeque::with_capacity(HISTORY),
            step: 0,
            fault: None,
            task,
            robot,
            chain,
            world,
            seed,
            joints,
        };
        arena.read_state();
        arena
    }

    /// Starts over from the initial state of `seed`.
    pub fn reset(&mut self, seed: u64) {
        *self = Self::new(self.task.clone(), self.robot.clone(), seed);
    }

    /// One control step.
    ///
    /// # Shapes
    /// `action`: 7 numbers in [-1, 1], clipped if beyond: translation (x, y, z, Z up), rotation vector, gripper
    /// (-1 opens, 1 closes, 0 holds).
    ///
    /// # Errors
    /// [`SimError::ActionLength`]; [`SimError::NotFinite`] when the action or the state is not finite. After that the
    /// arena stands still until it is reset.
    pub fn step(&mut self, action: &[f32]) -> Result<Outcome, SimError> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        let action: [f32; ACTION_DIM] =
            action.try_into().map_err(|_| SimError::ActionLength { expected: ACTION_DIM, found: action.len() })?;
        if let Some(index) = action.iter().position(|value| !value.is_finite()) {
            return Err(self.fail(format!("number {index} of the action")));
        }
        let action = action.map(|value| value.clamp(-1.0, 1.0));

        let goal = Goal::new(&self.robot.controller, &self.pose, &action);
        self.gripper.command(action[6]);
        for _ in 0..self.task.physics().substeps {
            let JointState { positions, velocities, fingers, finger_velocities } = &self.joints;
            let torques = self.arm.torques(&self.chain, &self.pose, &goal, positions, velocities, self.world.dt());
            let mean = |values: &[f64; FINGERS]| 0.5 * (values[0] + values[1]);
            let force = self.gripper.force(mean(fingers), mean(finger_velocities), self.world.dt());
            let opening = self.pose.hand.rotation * DVec3::Y;
            self.world.step(&self.joints, self.pose.axes(), &torques.on_joints, opening, force);
            self.joints = self.world.joints();
            self.pose = self.chain.pose(&self.joints.positions);
            if self.world.quarantined() {
                return Err(self.fail("the pose or velocity of a body".to_owned()));
            }
        }
        self.step += 1;
        self.read_state();
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(StateRecord {
            step: self.step,
            action,
            joint_positions: self.joints.positions,
            joint_velocities: self.joints.velocities,
            observation: self.observation.clone(),
        });
        if let Some(index) = self.observation.iter().position(|value| !value.is_finite()) {
            let what = self.observation_name(index);
            return Err(self.fail(what));
        }

        let task = self.task.outcome(&self.view());
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

    fn read_state(&mut self) {
        self.objects.clear();
        self.objects.extend(self.world.objects().map(double));
        let mut observation = std::mem::take(&mut self.observation);
        self.task.observe(&self.view(), &mut observation);
        self.observation = observation;
    }

    /// What the task sees of this arena.
    #[must_use]
    pub fn view(&self) -> ArenaView<'_> {
        ArenaView {
            grip_site: self.pose.site,
            hand: self.pose.hand.rotation,
            fingers: self.joints.fingers,
            objects: &self.objects,
            half_extents: &self.half_extents,
        }
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

    /// Joint positions of the arm, radians.
    #[must_use]
    pub fn joint_positions(&self) -> &[f64; ARM_JOINTS] {
        &self.joints.positions
    }

    /// The gripper's command: -1 open, 1 closed.
    #[must_use]
    pub fn gripper_command(&self) -> f64 {
        self.gripper.command_value()
    }

    /// The last control steps, oldest first.
    pub fn history(&self) -> impl Iterator<Item = &StateRecord> {
        self.history.iter()
    }

    /// The task's expert in this state, without noise.
    pub fn expert(&self, memory: &mut ExpertMemory) -> [f32; ACTION_DIM] {
        self.task.expert(&self.view(), memory)
    }

    /// A hash of all poses, joint positions and velocities, exact to the bit.
    #[must_use]
    pub fn hash(&self) -> u64 {
        let mut hash = Xxh3::new();
        let mut feed = |numbers: &[f32]| numbers.iter().for_each(|number| hash.update(&number.to_bits().to_le_bytes()));
        for pose in self.world.robot_poses().chain(self.world.objects()) {
            feed(&pose.translation.to_array());
            feed(&pose.rotation.to_array());
        }
        for index in 0..self.objects.len() {
            if let Some((linear, angular)) = self.world.object_velocity(index) {
                feed(&linear.to_array());
                feed(&angular.to_array());
            }
        }
        let JointState { positions, velocities, fingers, finger_velocities } = &self.joints;
        for numbers in [&positions[..], velocities, fingers, finger_velocities] {
            numbers.iter().for_each(|number| feed(&[*number as f32]));
        }
        hash.digest()
    }

    /// All bodies with their poses: the robot's links, hand, fingers and mount, objects, fixtures. The order is fixed.
    #[must_use]
    pub fn bodies(&self) -> Vec<BodyPose> {
        let base = DPose3::from_translation(self.task.base_position().into());
        let mut bodies = vec![
            BodyPose { name: "mount".to_owned(), half_extents: None, pose: single(&base) },
            BodyPose { name: self.robot.base.name.clone(), half_extents: None, pose: single(&base) },
        ];
        let mut push = |name: &str, half_extents: Option<Vec3>, pose: Pose| {
            bodies.push(BodyPose { name: name.to_owned(), half_extents, pose });
        };
        for (link, pose) in self.robot.links.iter().zip(&self.pose.links) {
            push(&link.name, None, single(pose));
        }
        push(&self.robot.hand.name, None, single(&self.pose.hand));
        for (name, pose) in self.robot.gripper.finger_names.iter().zip(self.world.finger_poses()) {
            push(name, None, pose);
        }
        for ((name, half_extents), pose) in self.object_names.iter().zip(&self.half_extents).zip(self.world.objects()) {
            push(name, Some(half_extents.as_vec3()), *pose);
        }
        for fixture in self.task.fixtures().into_iter().filter(|fixture| fixture.drawn) {
            push(&fixture.name, Some(fixture.half_extents.as_vec3()), Pose::from_translation(fixture.center.as_vec3()));
        }
        bodies
    }

    /// Writes the poses of the moving bodies, in the order of [`SimArena::bodies`].
    pub(crate) fn moving_poses(&self, poses: &mut Vec<Pose>) {
        poses.clear();
        let base = single(&DPose3::from_translation(self.task.base_position().into()));
        poses.extend([base, base]);
        poses.extend(self.pose.links.iter().map(single));
        poses.push(single(&self.pose.hand));
        poses.extend(self.world.finger_poses());
        poses.extend(self.world.objects());
    }

    /// Adds `velocity` (m/s, Z up) to the velocity of the `index`-th object: a push, for tests and experiments.
    pub fn push_object(&mut self, index: usize, velocity: Vec3) {
        self.world.push(index, velocity);
    }

    /// Sets gravity (m/s², Z up) for the rest of the episode; the arm stays compensated. Shaking gravity is the same,
    /// for a held object, as shaking the hand.
    pub fn set_gravity(&mut self, gravity: Vec3) {
        self.world.set_gravity(gravity);
    }

    /// Where the grip site would go under a chunk of actions, one point per action, in Bevy's frame (Y up), relative
    /// to the arena's origin. For drawing candidates: the controller's own law on the arm's mass matrix in coarse steps,
    /// without the physics world, so without contacts.
    ///
    /// # Shapes
    /// `actions`: `[h, 7]`, flat.
    #[must_use]
    pub fn predict_path(&self, actions: &[f32]) -> Vec<Vec3> {
        let dt = self.task.physics().control_period_secs / f64::from(PREDICTION_SUBSTEPS);
        let (mut positions, mut velocities, mut pose) = (self.joints.positions, self.joints.velocities, self.pose);
        let (chunks, _) = actions.as_chunks::<ACTION_DIM>();
        chunks
            .iter()
            .map(|action| {
                let goal = Goal::new(&self.robot.controller, &pose, &action.map(|value| value.clamp(-1.0, 1.0)));
                for _ in 0..PREDICTION_SUBSTEPS {
                    let torques = self.arm.torques(&self.chain, &pose, &goal, &positions, &velocities, dt);
                    let accelerations = torques.free_accelerations();
                    for (((position, velocity), acceleration), link) in
                        positions.iter_mut().zip(&mut velocities).zip(accelerations).zip(&self.robot.links)
                    {
                        *velocity += acceleration * dt;
                        *position = (*position + *velocity * dt).clamp(link.limits[0], link.limits[1]);
                    }
                    pose = self.chain.pose(&positions);
                }
                frames::to_bevy(pose.site.as_vec3())
            })
            .collect()
    }

    /// Pose of the grip site in Bevy's frame, relative to the arena's origin.
    #[must_use]
    pub fn grip_site(&self) -> Vec3 {
        frames::to_bevy(self.pose.site.as_vec3())
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
