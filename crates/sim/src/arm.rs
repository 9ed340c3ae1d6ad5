//! Arms with their grippers, their controllers and what stands around them.

use std::sync::Arc;

use bevy::math::{DVec3, Vec3};
use bevy_rapier3d::rapier::glamx::DPose3;
use bevy_rapier3d::rapier::math::Pose;

use crate::controller::{ACTION_DIM, ArmController, Goal, GripperController};
use crate::expert::ExpertMemory;
use crate::frames;
use crate::kinematics::{ArmPose, Chain};
use crate::model::{BodyPose, BodyShape, Model};
use crate::physics::{ArmDrive, FINGERS, JointState, World, double, single};
use crate::robot::Robot;
use crate::scene::{Fixture, Shape};
use crate::shape::bounds;
use crate::task::{ArenaView, ArmTask, ArmView, Start, TaskOutcome};

/// Steps of a predicted path within one control step.
const PREDICTION_SUBSTEPS: u32 = 5;

/// The arms of an [`ArmTask`] in one arena.
pub struct ArmModel {
    task: Arc<dyn ArmTask>,
    robot: Arc<Robot>,
    world: World,
    arms: Vec<Arm>,
    /// What tasks see of the arms.
    views: Vec<ArmView>,
    objects: Vec<DPose3>,
    object_names: Vec<String>,
    object_shapes: Vec<Vec<Shape>>,
    half_extents: Vec<DVec3>,
    fixtures: Vec<Fixture>,
    fixture_poses: Vec<DPose3>,
    /// Of all arms, one after the other.
    joint_positions: Vec<f64>,
    joint_velocities: Vec<f64>,
}

/// One arm with its controllers.
struct Arm {
    base: DPose3,
    chain: Chain,
    controller: ArmController,
    gripper: GripperController,
    joints: JointState,
    pose: ArmPose,
}

impl Arm {
    fn view(&self) -> ArmView {
        ArmView { grip_site: self.pose.site, hand: self.pose.hand.rotation, fingers: self.joints.fingers }
    }
}

impl ArmModel {
    /// The arms in the initial state of `seed`.
    #[must_use]
    pub fn new(task: Arc<dyn ArmTask>, robot: Arc<Robot>, seed: u64) -> Self {
        let start = task.start(&robot, seed);
        Self::from_start(task, robot, start)
    }

    /// The arms in a given initial state.
    #[must_use]
    pub fn from_start(task: Arc<dyn ArmTask>, robot: Arc<Robot>, start: Start) -> Self {
        let bases: Vec<DPose3> = task.scene().robots.iter().map(|placement| placement.base()).collect();
        let physics = task.scene().physics.clone();
        let world = World::new(&robot, &bases, &start, &physics);
        let arms: Vec<Arm> = bases
            .into_iter()
            .zip(&start.joint_positions)
            .enumerate()
            .map(|(i, (base, rest))| {
                let chain = Chain::new(&robot, base.translation.to_array()).on(base);
                let joints = world.joints(i);
                Arm {
                    base,
                    controller: ArmController::new(&robot, *rest, physics.gravity),
                    gripper: GripperController::new(&robot),
                    pose: chain.pose(&joints.positions),
                    chain,
                    joints,
                }
            })
            .collect();
        let mut model = Self {
            views: Vec::with_capacity(arms.len()),
            objects: Vec::with_capacity(start.objects.len()),
            half_extents: start.objects.iter().map(|object| bounds(&object.shapes)).collect(),
            object_names: start.objects.iter().map(|object| object.name.clone()).collect(),
            object_shapes: start.objects.into_iter().map(|object| object.shapes).collect(),
            fixture_poses: start.fixtures.iter().map(|fixture| fixture.pose).collect(),
            fixtures: start.fixtures,
            joint_positions: Vec::new(),
            joint_velocities: Vec::new(),
            task,
            robot,
            world,
            arms,
        };
        model.read_state();
        model
    }

    /// Copies what others read of the state.
    fn read_state(&mut self) {
        self.objects.clear();
        self.objects.extend(self.world.objects().map(double));
        self.views.clear();
        self.views.extend(self.arms.iter().map(Arm::view));
        self.joint_positions.clear();
        self.joint_velocities.clear();
        for arm in &self.arms {
            self.joint_positions.extend(arm.joints.positions);
            self.joint_velocities.extend(arm.joints.velocities);
        }
    }

    /// What the task sees of this arena.
    #[must_use]
    pub fn view(&self) -> ArenaView<'_> {
        ArenaView {
            arms: &self.views,
            objects: &self.objects,
            half_extents: &self.half_extents,
            fixtures: &self.fixture_poses,
            world: Some(&self.world),
        }
    }

    /// Adds `spin` (rad/s, Z up) to the angular velocity of the `index`-th object.
    pub fn spin_object(&mut self, index: usize, spin: Vec3) {
        self.world.spin(index, spin);
    }

    /// Adds `velocity` (m/s, Z up) to the velocity of the `index`-th object.
    pub fn push_object(&mut self, index: usize, velocity: Vec3) {
        self.world.push(index, velocity);
    }

    /// Linear velocity of its centre of mass (m/s, Z up), and angular velocity (rad/s), of the `index`-th object.
    #[must_use]
    pub fn object_velocity(&self, index: usize) -> Option<(Vec3, Vec3)> {
        self.world.object_velocity(index)
    }

    /// Centre of mass of the `index`-th object, m, Z up.
    #[must_use]
    pub fn object_center_of_mass(&self, index: usize) -> Option<Vec3> {
        self.world.object_center_of_mass(index)
    }

    /// Where one arm's grip site would be after each of its commands, in Bevy's frame.
    fn predict_path<'a>(&self, arm: &Arm, commands: impl Iterator<Item = &'a [f32; ACTION_DIM]>) -> Vec<Vec3> {
        let dt = self.task.scene().physics.control_period_secs / f64::from(PREDICTION_SUBSTEPS);
        let (mut positions, mut velocities, mut pose) = (arm.joints.positions, arm.joints.velocities, arm.pose);
        commands
            .map(|command| {
                let goal = Goal::new(&self.robot.controller, &pose, &command.map(|value| value.clamp(-1.0, 1.0)));
                for _ in 0..PREDICTION_SUBSTEPS {
                    let torques = arm.controller.torques(&arm.chain, &pose, &goal, &positions, &velocities, dt);
                    let accelerations = torques.free_accelerations();
                    for (((position, velocity), acceleration), link) in
                        positions.iter_mut().zip(&mut velocities).zip(accelerations).zip(&self.robot.links)
                    {
                        *velocity += acceleration * dt;
                        *position = (*position + *velocity * dt).clamp(link.limits[0], link.limits[1]);
                    }
                    pose = arm.chain.pose(&positions);
                }
                frames::to_bevy(pose.site.as_vec3())
            })
            .collect()
    }
}

impl Model for ArmModel {
    fn step(&mut self, action: &[f32]) -> bool {
        let (commands, _) = action.as_chunks::<ACTION_DIM>();
        let goals: Vec<Goal> = self
            .arms
            .iter_mut()
            .zip(commands)
            .map(|(arm, command)| {
                arm.gripper.command(command[6]);
                Goal::new(&self.robot.controller, &arm.pose, command)
            })
            .collect();
        let dt = self.world.dt();
        for _ in 0..self.task.scene().physics.substeps {
            for (i, (arm, goal)) in self.arms.iter().zip(&goals).enumerate() {
                let JointState { positions, velocities, fingers, finger_velocities } = &arm.joints;
                let torques = arm.controller.torques(&arm.chain, &arm.pose, goal, positions, velocities, dt);
                let mean = |values: &[f64; FINGERS]| 0.5 * (values[0] + values[1]);
                let drive = ArmDrive {
                    joints: &arm.joints,
                    axes: arm.pose.axes(),
                    torques: torques.on_joints,
                    opening_axis: arm.pose.hand.rotation * DVec3::Y,
                    finger_force: arm.gripper.force(mean(fingers), mean(finger_velocities), dt),
                };
                self.world.drive(i, &drive);
            }
            self.world.step();
            for (i, arm) in self.arms.iter_mut().enumerate() {
                arm.joints = self.world.joints(i);
                arm.pose = arm.chain.pose(&arm.joints.positions);
            }
            if self.world.quarantined() {
                return false;
            }
        }
        self.read_state();
        true
    }

    fn observe(&self, observation: &mut Vec<f32>) {
        self.task.observe(&self.view(), observation);
    }

    fn outcome(&self) -> TaskOutcome {
        self.task.outcome(&self.view())
    }

    fn joint_positions(&self) -> &[f64] {
        &self.joint_positions
    }

    fn joint_velocities(&self) -> &[f64] {
        &self.joint_velocities
    }

    fn bodies(&self) -> Vec<BodyPose> {
        let body = |name: String, shape: BodyShape, pose: Pose| BodyPose { name, shape, pose };
        let mut bodies = Vec::new();
        for (i, arm) in self.arms.iter().enumerate() {
            // The parts of further arms have the same names behind a prefix.
            let mut part = |name: &str, pose: Pose| {
                let name = if i == 0 { name.to_owned() } else { format!("robot{i}/{name}") };
                bodies.push(body(name, BodyShape::Described, pose));
            };
            let base = single(&arm.base);
            part("mount", base);
            part(&self.robot.base.name, base);
            for (link, pose) in self.robot.links.iter().zip(&arm.pose.links) {
                part(&link.name, single(pose));
            }
            part(&self.robot.hand.name, single(&arm.pose.hand));
            for (name, pose) in self.robot.gripper.finger_names.iter().zip(self.world.finger_poses(i)) {
                part(name, pose);
            }
        }
        for ((name, shapes), pose) in self.object_names.iter().zip(&self.object_shapes).zip(self.world.objects()) {
            bodies.push(body(name.clone(), BodyShape::Shapes(shapes.clone()), *pose));
        }
        for fixture in self.fixtures.iter().filter(|fixture| fixture.drawn) {
            let shape = BodyShape::Shapes(fixture.shapes.clone());
            bodies.push(body(fixture.name.clone(), shape, single(&fixture.pose)));
        }
        bodies
    }

    fn moving_poses(&self, poses: &mut Vec<Pose>) {
        poses.clear();
        for (i, arm) in self.arms.iter().enumerate() {
            let base = single(&arm.base);
            poses.extend([base, base]);
            poses.extend(arm.pose.links.iter().map(single));
            poses.push(single(&arm.pose.hand));
            poses.extend(self.world.finger_poses(i));
        }
        poses.extend(self.world.objects());
        // Fixtures may stand elsewhere in the next episode.
        poses.extend(self.fixtures.iter().filter(|fixture| fixture.drawn).map(|fixture| single(&fixture.pose)));
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
        for arm in &self.arms {
            let JointState { positions, velocities, fingers, finger_velocities } = &arm.joints;
            for numbers in [&positions[..], velocities, fingers, finger_velocities] {
                numbers.iter().for_each(|number| sink(*number as f32));
            }
        }
    }

    fn set_gravity(&mut self, gravity: Vec3) {
        self.world.set_gravity(gravity);
    }

    fn expert(&self, memory: &mut ExpertMemory) -> Option<Vec<f32>> {
        self.task.expert(&self.view(), memory)
    }

    fn grip_sites(&self) -> Vec<Vec3> {
        self.arms.iter().map(|arm| frames::to_bevy(arm.pose.site.as_vec3())).collect()
    }

    fn predict_paths(&self, actions: &[f32]) -> Vec<Vec<Vec3>> {
        // An action is the arms' commands one after the other.
        let (commands, _) = actions.as_chunks::<ACTION_DIM>();
        let whole = commands.len() - commands.len() % self.arms.len().max(1);
        let commands = commands.get(..whole).unwrap_or_default();
        let of_arm = |(i, arm)| self.predict_path(arm, commands.iter().skip(i).step_by(self.arms.len()));
        self.arms.iter().enumerate().map(of_arm).collect()
    }

    fn as_arm(&self) -> Option<&ArmModel> {
        Some(self)
    }

    fn as_arm_mut(&mut self) -> Option<&mut ArmModel> {
        Some(self)
    }
}
