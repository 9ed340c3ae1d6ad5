//! The arm with its gripper, its controller and what stands around it.

use std::sync::Arc;

use bevy::math::{DVec3, Vec3};
use bevy_rapier3d::rapier::glamx::DPose3;
use bevy_rapier3d::rapier::math::Pose;

use crate::controller::{ACTION_DIM, ArmController, Goal, GripperController};
use crate::expert::ExpertMemory;
use crate::frames;
use crate::kinematics::{ArmPose, Chain};
use crate::model::{BodyPose, BodyShape, Model};
use crate::physics::{FINGERS, JointState, World, double, single};
use crate::robot::Robot;
use crate::shape::{Shape, bounds};
use crate::task::{ArenaView, ArmTask, TaskOutcome};

/// Steps of a predicted path within one control step.
const PREDICTION_SUBSTEPS: u32 = 5;

/// The arm of an [`ArmTask`] in one arena.
pub struct ArmModel {
    task: Arc<dyn ArmTask>,
    robot: Arc<Robot>,
    chain: Chain,
    world: World,
    arm: ArmController,
    gripper: GripperController,
    joints: JointState,
    pose: ArmPose,
    objects: Vec<DPose3>,
    object_names: Vec<String>,
    object_shapes: Vec<Vec<Shape>>,
    half_extents: Vec<DVec3>,
}

impl ArmModel {
    /// The arm in the initial state of `seed`.
    #[must_use]
    pub fn new(task: Arc<dyn ArmTask>, robot: Arc<Robot>, seed: u64) -> Self {
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
        let mut model = Self {
            arm: ArmController::new(&robot, start.joint_positions, task.physics().gravity),
            gripper: GripperController::new(&robot),
            pose: chain.pose(&joints.positions),
            objects: Vec::with_capacity(start.objects.len()),
            half_extents: start.objects.iter().map(|object| bounds(&object.shapes)).collect(),
            object_names: start.objects.iter().map(|object| object.name.clone()).collect(),
            object_shapes: start.objects.into_iter().map(|object| object.shapes).collect(),
            task,
            robot,
            chain,
            world,
            joints,
        };
        model.read_objects();
        model
    }

    fn read_objects(&mut self) {
        self.objects.clear();
        self.objects.extend(self.world.objects().map(double));
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

    /// The gripper's command: -1 open, 1 closed.
    #[must_use]
    pub fn gripper_command(&self) -> f64 {
        self.gripper.command_value()
    }

    /// Adds `velocity` (m/s, Z up) to the velocity of the `index`-th object.
    pub fn push_object(&mut self, index: usize, velocity: Vec3) {
        self.world.push(index, velocity);
    }

    /// Where the grip site would go under a chunk of actions; see [`SimArena::predict_path`](crate::SimArena::predict_path).
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

    /// The grip site in Bevy's frame, relative to the arena's origin.
    #[must_use]
    pub fn grip_site(&self) -> Vec3 {
        frames::to_bevy(self.pose.site.as_vec3())
    }
}

impl Model for ArmModel {
    fn step(&mut self, action: &[f32]) -> bool {
        let mut seven = [0.0; ACTION_DIM];
        seven.iter_mut().zip(action).for_each(|(value, given)| *value = *given);
        let action = seven;
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
                return false;
            }
        }
        self.read_objects();
        true
    }

    fn observe(&self, observation: &mut Vec<f32>) {
        self.task.observe(&self.view(), observation);
    }

    fn outcome(&self) -> TaskOutcome {
        self.task.outcome(&self.view())
    }

    fn joint_positions(&self) -> &[f64] {
        &self.joints.positions
    }

    fn joint_velocities(&self) -> &[f64] {
        &self.joints.velocities
    }

    fn bodies(&self) -> Vec<BodyPose> {
        let base = DPose3::from_translation(self.task.base_position().into());
        let body = |name: &str, shape: BodyShape, pose: Pose| BodyPose { name: name.to_owned(), shape, pose };
        let part = |name: &str, pose: Pose| body(name, BodyShape::Described, pose);
        let mut bodies = vec![part("mount", single(&base)), part(&self.robot.base.name, single(&base))];
        for (link, pose) in self.robot.links.iter().zip(&self.pose.links) {
            bodies.push(part(&link.name, single(pose)));
        }
        bodies.push(part(&self.robot.hand.name, single(&self.pose.hand)));
        for (name, pose) in self.robot.gripper.finger_names.iter().zip(self.world.finger_poses()) {
            bodies.push(part(name, pose));
        }
        for ((name, shapes), pose) in self.object_names.iter().zip(&self.object_shapes).zip(self.world.objects()) {
            bodies.push(body(name, BodyShape::Shapes(shapes.clone()), *pose));
        }
        for fixture in self.task.fixtures().into_iter().filter(|fixture| fixture.drawn) {
            bodies.push(body(&fixture.name, BodyShape::Shapes(fixture.shapes), single(&fixture.pose)));
        }
        bodies
    }

    fn moving_poses(&self, poses: &mut Vec<Pose>) {
        poses.clear();
        let base = single(&DPose3::from_translation(self.task.base_position().into()));
        poses.extend([base, base]);
        poses.extend(self.pose.links.iter().map(single));
        poses.push(single(&self.pose.hand));
        poses.extend(self.world.finger_poses());
        poses.extend(self.world.objects());
    }

    fn feed(&self, sink: &mut dyn FnMut(f32)) {
        for pose in self.world.robot_poses().chain(self.world.objects()) {
            pose.translation.to_array().into_iter().for_each(&mut *sink);
            pose.rotation.to_array().into_iter().for_each(&mut *sink);
        }
        for index in 0..self.objects.len() {
            if let Some((linear, angular)) = self.world.object_velocity(index) {
                linear.to_array().into_iter().chain(angular.to_array()).for_each(&mut *sink);
            }
        }
        let JointState { positions, velocities, fingers, finger_velocities } = &self.joints;
        for numbers in [&positions[..], velocities, fingers, finger_velocities] {
            numbers.iter().for_each(|number| sink(*number as f32));
        }
    }

    fn set_gravity(&mut self, gravity: Vec3) {
        self.world.set_gravity(gravity);
    }

    fn expert(&self, memory: &mut ExpertMemory) -> Option<Vec<f32>> {
        self.task.expert(&self.view(), memory).map(Vec::from)
    }

    fn as_arm(&self) -> Option<&ArmModel> {
        Some(self)
    }

    fn as_arm_mut(&mut self) -> Option<&mut ArmModel> {
        Some(self)
    }
}
