//! One arena's physics: the arm as a rapier multibody, cubes, and what slides. Z up, metres.

use bevy::math::{DQuat, DVec3, Vec3};
use bevy_rapier3d::rapier::glamx::DPose3;
use bevy_rapier3d::rapier::math::{Pose, Vector};
use bevy_rapier3d::rapier::prelude::{
    CoefficientCombineRule, Collider, ColliderHandle, GenericJoint, GenericJointBuilder, Group, InteractionGroups,
    InteractionTestMode, JointAxesMask, JointAxis, LockedAxes, Multibody, MultibodyDofCoupling, MultibodyIndex,
    PhysicsWorld, RigidBodyBuilder, RigidBodyHandle,
};

use super::robot::{SERVO_JOINTS, ServoRobot};
use super::scene::{CubeScene, ManipScene};
use super::state::SlideState;
use crate::kinematics::{ArmPose, RigidInertia, half_turn, pose_from_data};
use crate::linalg::Cholesky;
use crate::physics::{FINGERS, ROBOT, insert_box, insert_shapes, integration_parameters, robot_body, single};
use crate::scene::{Geometry, Look, PhysicsSettings, Shape};

/// Index of a rotation about z, and of a translation along y, among a joint's six coordinates.
const ANG_Z: usize = 5;
const LIN_Y: usize = 1;
/// Pad halves of a finger; they come first among its colliders.
const PADS: usize = 2;

/// What slides and what is free are both part of the world that the robot touches; what slides does not touch what
/// stands still, whose slots it moves in.
const FREE: InteractionGroups =
    InteractionGroups::new(Group::GROUP_2.union(Group::GROUP_5), Group::ALL, InteractionTestMode::And);
const SLIDING: InteractionGroups =
    InteractionGroups::new(Group::GROUP_2, Group::GROUP_1.union(Group::GROUP_5), InteractionTestMode::And);

/// What the joints of arm and gripper do now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ServoState {
    pub(crate) positions: [f64; SERVO_JOINTS],
    pub(crate) velocities: [f64; SERVO_JOINTS],
    /// Half gap of the right and of the left finger.
    pub(crate) fingers: [f64; FINGERS],
    pub(crate) finger_velocities: [f64; FINGERS],
}

/// What the motors shall do in a control step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ServoTargets {
    pub(crate) joints: [f64; SERVO_JOINTS],
    /// Angle of the gripper's crank.
    pub(crate) crank: f64,
    /// Inertia that each joint moves when the others stand still.
    pub(crate) inertia: [f64; SERVO_JOINTS],
}

/// A body that slides along an axis of the world.
struct SlideBody {
    handle: RigidBodyHandle,
    origin: DVec3,
    axis: DVec3,
    range: [f64; 2],
    mass: f64,
    spring: [f64; 2],
    friction_loss: f64,
    locked: bool,
}

/// Length of the benchmark's physics steps, seconds.
const BENCHMARK_STEP: f64 = 0.002;

/// A joint's position servo, stepped so that it answers to a target as it does in the benchmark's shorter steps.
#[derive(Debug, Clone, Copy)]
struct Servo {
    stiffness: f64,
    damping: f64,
    limit: f64,
    /// Factor of the stiffness, see [`matched`].
    factor: f64,
}

impl Servo {
    /// Torque and damping, for the engine to integrate implicitly, in a step of `dt` from an error and a velocity.
    ///
    /// A saturated servo has no damping left, as its torque does not depend on the velocity any more. It may leave
    /// saturation within a long step, so the joint alone, with its `inertia`, is stepped finely ahead, and the torque is
    /// what takes it there.
    fn drive(&self, error: f64, velocity: f64, inertia: f64, dt: f64) -> (f64, f64) {
        let spring = self.factor * self.stiffness * error;
        if (spring - self.damping * velocity).abs() < self.limit {
            return (spring, self.damping);
        }
        let (mut way, mut rate, mut time) = (0.0, velocity, 0.0);
        while time < dt - 1e-9 {
            let step = BENCHMARK_STEP.min(dt - time);
            let spring = self.stiffness * (error - way);
            let torque = spring - self.damping * rate;
            rate = if torque.abs() >= self.limit {
                rate + step * torque.clamp(-self.limit, self.limit) / inertia
            } else {
                (rate + step * spring / inertia) / (1.0 + step * self.damping / inertia)
            };
            way += step * rate;
            time += step;
        }
        (inertia * (rate - velocity) / dt, 0.0)
    }
}

/// By which factor a servo must be stiffer for that it approaches its target in steps of `dt` as it does in the
/// benchmark's. It creeps there at a rate of stiffness over damping, and each step leaves a share of 1 - rate × step of
/// the way.
fn matched(stiffness: f64, damping: f64, dt: f64) -> f64 {
    let rate = stiffness / damping;
    let left = (1.0 - rate * BENCHMARK_STEP).max(0.0);
    (1.0 - libm::pow(left, dt / BENCHMARK_STEP)) / (rate * dt)
}

/// The physics of one arena.
pub(crate) struct ServoWorld {
    rapier: PhysicsWorld,
    links: [RigidBodyHandle; SERVO_JOINTS],
    fingers: [RigidBodyHandle; FINGERS],
    /// The right finger's pad.
    pads: Vec<ColliderHandle>,
    multibody: Option<MultibodyIndex>,
    cubes: Vec<RigidBodyHandle>,
    /// Buttons, drawer, window.
    slides: Vec<SlideBody>,
    dt: f64,
    servos: [Servo; SERVO_JOINTS],
    /// Factor of the gripper's stiffness.
    matched_crank: f64,
}

/// The cube of a scene as a shape.
pub(crate) fn cube_shape(cubes: &CubeScene, look: Look) -> Shape {
    Shape::new(Geometry::Box(DVec3::splat(cubes.half_extent))).of(cubes.density, cubes.friction).looking(look)
}

impl ServoWorld {
    /// Builds everything anew. Two worlds built from the same arguments behave the same to the bit.
    pub(crate) fn new(
        robot: &ServoRobot,
        scene: &ManipScene,
        state: &ServoState,
        cubes: &[DPose3],
        slides: &[SlideState],
        physics: &PhysicsSettings,
    ) -> Self {
        let dt = physics.control_period_secs / f64::from(physics.substeps);
        let mut rapier = PhysicsWorld {
            gravity: Vector::new(0.0, 0.0, physics.gravity as f32),
            integration_parameters: integration_parameters(physics, dt),
            ..PhysicsWorld::default()
        };
        for fixture in &scene.fixtures {
            let body = rapier.insert_body(RigidBodyBuilder::fixed().pose(single(&fixture.pose)));
            insert_shapes(&mut rapier, body, &fixture.shapes);
        }
        for position in scene.buttons.iter().flat_map(|buttons| &buttons.positions) {
            let body = rapier.insert_body(RigidBodyBuilder::fixed().translation(DVec3::from(*position).as_vec3()));
            insert_shapes(&mut rapier, body, scene.buttons.as_ref().map_or(&[], |buttons| &buttons.case));
        }

        let base = rapier.insert_body(RigidBodyBuilder::fixed());
        let mut links = [base; SERVO_JOINTS];
        let mut parent = base;
        for (handle, link) in links.iter_mut().zip(&robot.links) {
            *handle = rapier.insert_body(robot_body(&RigidInertia::sum(&link.inertials)).gravity_scale(1.0));
            let mut joint = GenericJoint { locked_axes: !JointAxesMask::ANG_Z, ..GenericJoint::default() };
            joint.local_frame1 = single(&pose_from_data(link.position, link.rpy));
            rapier.multibody_joints.insert(parent, *handle, joint, false);
            parent = *handle;
        }
        let hand = pose_from_data(robot.hand.position, robot.hand.rpy);
        for shape in &robot.hand.colliders {
            insert_box(&mut rapier, parent, &hand, shape, ROBOT);
        }
        let mut fingers = [base; FINGERS];
        let mut pads = Vec::new();
        let mass = RigidInertia::sum(&robot.gripper.inertials);
        for (handle, rotation) in fingers.iter_mut().zip([DQuat::IDENTITY, half_turn()]) {
            *handle = rapier.insert_body(robot_body(&mass).gravity_scale(1.0));
            for shape in &robot.gripper.colliders {
                let collider = insert_box(&mut rapier, *handle, &DPose3::IDENTITY, shape, ROBOT);
                if rotation == DQuat::IDENTITY && pads.len() < PADS {
                    pads.push(collider);
                }
            }
            let mut joint = GenericJoint { locked_axes: !JointAxesMask::LIN_Y, ..GenericJoint::default() };
            joint.local_frame1 = single(&(hand * DPose3::from_parts(robot.gripper.position.into(), rotation)));
            joint.set_limits(JointAxis::LinY, robot.gripper.half_gap.map(|limit| limit as f32));
            rapier.multibody_joints.insert(parent, *handle, joint, false);
        }

        let set_groups = |rapier: &mut PhysicsWorld, body: RigidBodyHandle, groups: InteractionGroups| {
            let colliders = rapier.bodies.get(body).map(|body| body.colliders().to_vec()).unwrap_or_default();
            for collider in colliders {
                if let Some(collider) = rapier.colliders.get_mut(collider) {
                    collider.set_collision_groups(groups);
                }
            }
        };
        let cubes = cubes
            .iter()
            .map(|pose| {
                let body = RigidBodyBuilder::dynamic().pose(single(pose)).can_sleep(false);
                let body = rapier.insert_body(body);
                if let Some(cubes) = &scene.cubes {
                    insert_shapes(&mut rapier, body, &[cube_shape(cubes, Look::default())]);
                }
                set_groups(&mut rapier, body, FREE);
                body
            })
            .collect();
        let slides = slide_scenes(scene)
            .zip(slides)
            .map(|(data, state)| {
                let position = data.origin + data.axis * state.position;
                let locked = LockedAxes::ROTATION_LOCKED | lock_all_but(data.axis);
                let body = RigidBodyBuilder::dynamic()
                    .translation(position.as_vec3())
                    .linvel((data.axis * state.velocity).as_vec3())
                    .locked_axes(locked)
                    .linear_damping((data.damping / data.mass) as f32)
                    .gravity_scale(0.0)
                    .additional_mass(data.mass as f32)
                    .can_sleep(false);
                let handle = rapier.insert_body(body);
                insert_shapes(&mut rapier, handle, data.shapes);
                set_groups(&mut rapier, handle, SLIDING);
                let (axis, sign) = joint_axis(data.axis);
                let range = if sign < 0.0 { [-data.range[1], -data.range[0]] } else { data.range };
                let joint = GenericJointBuilder::new(JointAxesMask::empty())
                    .local_anchor1(data.origin.as_vec3())
                    .limits(axis, range.map(|limit| limit as f32));
                rapier.insert_impulse_joint(base, handle, joint);
                SlideBody {
                    handle,
                    origin: data.origin,
                    axis: data.axis,
                    range: data.range,
                    mass: data.mass,
                    spring: data.spring,
                    friction_loss: data.friction_loss,
                    locked: false,
                }
            })
            .collect();
        // Everything has a friction of 1 or more but the pads, whose figure counts whatever they touch.
        for (_, collider) in rapier.colliders.iter_mut() {
            Collider::set_friction_combine_rule(collider, CoefficientCombineRule::Min);
        }

        let multibody = rapier.multibody_joints.rigid_body_link(base).map(|link| link.multibody);
        let servos = std::array::from_fn(|joint| {
            let number = |list: &[f64]| list.get(joint).copied().unwrap_or(1.0);
            let (stiffness, damping) = (number(&robot.controller.stiffness), number(&robot.controller.damping));
            let limit = robot.links.get(joint).map_or(0.0, |link| link.effort_limit);
            Servo { stiffness, damping, limit, factor: matched(stiffness, damping, dt) }
        });
        let gripper = &robot.gripper;
        let matched_crank = matched(gripper.stiffness, gripper.servo_damping + gripper.damping, dt);
        let mut world = Self { rapier, links, fingers, pads, multibody, cubes, slides, dt, servos, matched_crank };
        world.place_robot(robot, state);
        world
    }

    /// Sets joint positions and everything about the multibody that rapier does not take from joints.
    fn place_robot(&mut self, robot: &ServoRobot, state: &ServoState) {
        let PhysicsWorld { bodies, colliders, multibody_joints, .. } = &mut self.rapier;
        for handle in self.links.iter().chain(&self.fingers) {
            if let Some(body) = bodies.get_mut(*handle) {
                body.recompute_mass_properties_from_colliders(colliders);
            }
        }
        let finger_ids = self.fingers.map(|handle| multibody_joints.rigid_body_link(handle).map_or(0, |link| link.id));
        let Some(multibody) = self.multibody.and_then(|index| multibody_joints.get_multibody_mut(index)) else {
            return;
        };
        multibody.set_self_contacts_enabled(false);
        // The first call finds out that the base is fixed and drops its six degrees of freedom.
        multibody.forward_kinematics(bodies, true);
        let start: Vec<f32> = state.positions.iter().chain(&state.fingers).map(|position| *position as f32).collect();
        multibody.apply_displacements(&start);
        let velocities = state.velocities.iter().chain(&state.finger_velocities);
        for (slot, velocity) in multibody.generalized_velocity_mut().iter_mut().zip(velocities) {
            *slot = *velocity as f32;
        }
        for (armature, link) in multibody.armature_mut().iter_mut().zip(&robot.links) {
            *armature = link.armature as f32;
        }
        multibody.add_dof_coupling(MultibodyDofCoupling {
            link1: finger_ids[0],
            dof1: 0,
            axis1: LIN_Y,
            link2: finger_ids[1],
            dof2: 0,
            axis2: LIN_Y,
            coeff: 1.0,
            offset: 0.0,
        });
        multibody.forward_kinematics(bodies, false);
        multibody.update_rigid_bodies(bodies, true);
    }

    fn multibody(&self) -> Option<&Multibody> {
        self.rapier.multibody_joints.get_multibody(self.multibody?)
    }

    /// Joint positions and velocities.
    pub(crate) fn joints(&self) -> ServoState {
        let mut state = ServoState {
            positions: [0.0; SERVO_JOINTS],
            velocities: [0.0; SERVO_JOINTS],
            fingers: [0.0; FINGERS],
            finger_velocities: [0.0; FINGERS],
        };
        let Some(multibody) = self.multibody() else { return state };
        let positions = state.positions.iter_mut().chain(&mut state.fingers);
        for (i, (position, link)) in positions.zip(multibody.links().skip(1)).enumerate() {
            *position = f64::from(link.joint().coords()[if i < SERVO_JOINTS { ANG_Z } else { LIN_Y }]);
        }
        let velocities = state.velocities.iter_mut().chain(&mut state.finger_velocities);
        for (velocity, value) in velocities.zip(multibody.generalized_velocity().iter()) {
            *velocity = f64::from(*value);
        }
        state
    }

    /// One physics step towards the servos' targets, from a state of the joints and the pose that follows from it.
    pub(crate) fn step(
        &mut self,
        robot: &ServoRobot,
        joints: &ServoState,
        pose: &ArmPose<SERVO_JOINTS>,
        targets: &ServoTargets,
    ) {
        let mut torques = [0.0; SERVO_JOINTS];
        let mut damping = [0.0; SERVO_JOINTS];
        for (i, servo) in self.servos.iter().enumerate() {
            let error = targets.joints[i] - joints.positions[i];
            (torques[i], damping[i]) = servo.drive(error, joints.velocities[i], targets.inertia[i], self.dt);
        }
        let mean = |values: &[f64; FINGERS]| 0.5 * (values[0] + values[1]);
        let finger = robot.gripper.drive(
            mean(&joints.fingers),
            mean(&joints.finger_velocities),
            targets.crank,
            self.matched_crank,
        );
        if let Some(multibody) = self.multibody.and_then(|index| self.rapier.multibody_joints.get_multibody_mut(index))
        {
            for (i, slot) in multibody.damping_mut().iter_mut().enumerate() {
                *slot = damping.get(i).copied().unwrap_or(finger.damping) as f32;
            }
            for slot in multibody.armature_mut().iter_mut().skip(SERVO_JOINTS) {
                *slot = finger.armature as f32;
            }
        }
        let bodies = &mut self.rapier.bodies;
        let axes = pose.axes();
        // A motor turns its link forward and the link before it backward.
        for (i, handle) in self.links.iter().enumerate() {
            let Some(body) = bodies.get_mut(*handle) else { continue };
            let mut torque = axes[i] * torques[i];
            if i + 1 < SERVO_JOINTS {
                torque -= axes[i + 1] * torques[i + 1];
            }
            body.reset_torques(false);
            body.add_torque(torque.as_vec3(), false);
        }
        // The two forces are opposite and on one line, so the hand feels no reaction.
        let opening = pose.hand.rotation * DVec3::Y;
        for (handle, sign) in self.fingers.iter().zip([1.0, -1.0]) {
            if let Some(body) = bodies.get_mut(*handle) {
                body.reset_forces(false);
                body.add_force((opening * (sign * finger.force)).as_vec3(), false);
            }
        }
        for slide in self.slides.iter().filter(|slide| !slide.locked) {
            let Some(body) = bodies.get_mut(slide.handle) else { continue };
            let SlideState { position, velocity } = slide.state(body.translation(), body.linvel());
            let [stiffness, rest] = slide.spring;
            let spring = stiffness * (rest - position);
            // Dry friction takes what it needs to stop the slide within the step, up to its limit.
            let friction = (slide.mass * velocity / self.dt).clamp(-slide.friction_loss, slide.friction_loss);
            body.reset_forces(false);
            body.add_force((slide.axis * (spring - friction)).as_vec3(), false);
        }
        self.rapier.step();
    }

    /// Moves `state`'s joints by `steps` physics steps towards the servos' targets `aim`, without the engine: for the
    /// arm alone, with the inertia and gravity's load of where it starts, without contacts and Coriolis forces.
    pub(crate) fn predict(
        &self,
        state: &mut ServoState,
        aim: &[f64; SERVO_JOINTS],
        mass: &[[f64; SERVO_JOINTS]; SERVO_JOINTS],
        holding: &[f64; SERVO_JOINTS],
        steps: u32,
    ) {
        for _ in 0..steps {
            let mut matrix = *mass;
            let mut torques = [0.0; SERVO_JOINTS];
            for (i, servo) in self.servos.iter().enumerate() {
                let (velocity, error) = (state.velocities[i], aim[i] - state.positions[i]);
                let (torque, damping) = servo.drive(error, velocity, mass[i][i], self.dt);
                matrix[i][i] += self.dt * damping;
                torques[i] = self.dt * (torque - damping * velocity - holding[i]);
            }
            let change = Cholesky::new(matrix, 1e-9).solve(torques);
            for ((position, velocity), change) in state.positions.iter_mut().zip(&mut state.velocities).zip(change) {
                *velocity += change;
                *position += self.dt * *velocity;
            }
        }
    }

    /// Locks or frees the slides, in their order.
    pub(crate) fn lock(&mut self, locks: impl Iterator<Item = bool>) {
        for (slide, lock) in self.slides.iter_mut().zip(locks) {
            if lock == slide.locked {
                continue;
            }
            slide.locked = lock;
            if let Some(body) = self.rapier.bodies.get_mut(slide.handle) {
                let free = LockedAxes::ROTATION_LOCKED | lock_all_but(slide.axis);
                let all = LockedAxes::ROTATION_LOCKED | LockedAxes::TRANSLATION_LOCKED;
                body.set_locked_axes(if lock { all } else { free }, true);
                if lock {
                    body.set_linvel(Vec3::ZERO, true);
                    body.reset_forces(true);
                }
            }
        }
    }

    /// Poses of the cubes.
    pub(crate) fn cubes(&self) -> impl Iterator<Item = &Pose> {
        self.cubes.iter().filter_map(|handle| self.rapier.bodies.get(*handle)).map(|body| body.position())
    }

    /// Linear and angular velocities of the cubes.
    pub(crate) fn cube_velocities(&self) -> impl Iterator<Item = (Vec3, Vec3)> {
        self.cubes
            .iter()
            .filter_map(|handle| self.rapier.bodies.get(*handle))
            .map(|body| (body.linvel(), body.angvel()))
    }

    /// Puts a cube somewhere, at rest.
    pub(crate) fn place_cube(&mut self, index: usize, pose: &DPose3) {
        if let Some(body) = self.cubes.get(index).and_then(|handle| self.rapier.bodies.get_mut(*handle)) {
            body.set_position(single(pose), true);
            body.set_linvel(Vec3::ZERO, true);
            body.set_angvel(Vec3::ZERO, true);
        }
    }

    /// Sets a cube's velocities, in the world.
    pub(crate) fn set_cube_velocity(&mut self, index: usize, linear: Vec3, angular: Vec3) {
        if let Some(body) = self.cubes.get(index).and_then(|handle| self.rapier.bodies.get_mut(*handle)) {
            body.set_linvel(linear, true);
            body.set_angvel(angular, true);
        }
    }

    /// Adds to a cube's velocity.
    pub(crate) fn push(&mut self, index: usize, velocity: Vec3) {
        if let Some(body) = self.cubes.get(index).and_then(|handle| self.rapier.bodies.get_mut(*handle)) {
            body.set_linvel(body.linvel() + velocity, true);
        }
    }

    /// Positions and velocities of buttons, drawer, window.
    pub(crate) fn slides(&self) -> impl Iterator<Item = SlideState> {
        self.slides.iter().map(|slide| {
            self.rapier
                .bodies
                .get(slide.handle)
                .map_or(SlideState::default(), |body| slide.state(body.translation(), body.linvel()))
        })
    }

    /// Poses of what slides.
    pub(crate) fn slide_poses(&self) -> impl Iterator<Item = &Pose> {
        self.slides.iter().filter_map(|slide| self.rapier.bodies.get(slide.handle)).map(|body| body.position())
    }

    /// Poses of the links and fingers.
    pub(crate) fn robot_poses(&self) -> impl Iterator<Item = &Pose> {
        self.links
            .iter()
            .chain(&self.fingers)
            .filter_map(|handle| self.rapier.bodies.get(*handle))
            .map(|body| body.position())
    }

    /// Poses of the two fingers.
    pub(crate) fn finger_poses(&self) -> [Pose; FINGERS] {
        self.fingers.map(|handle| self.rapier.bodies.get(handle).map_or(Pose::IDENTITY, |body| *body.position()))
    }

    /// Size of the wrench of all contacts on the right pad in the last physics step, about the centre of mass of the
    /// whole arm: the root of the sum of squares of force (N) and moment (N m), as the benchmark takes it.
    pub(crate) fn pad_wrench(&self, moving_mass: f64, center: DVec3) -> f64 {
        // The base stands still at the origin and belongs to the arm's mass.
        let center = center * (moving_mass / (moving_mass + BASE_MASS));
        let (mut force, mut moment) = (DVec3::ZERO, DVec3::ZERO);
        for pad in &self.pads {
            for pair in self.rapier.contact_pairs_with(*pad) {
                let sign = if pair.collider1 == *pad { -1.0 } else { 1.0 };
                let Some(first) = self.rapier.colliders.get(pair.collider1) else { continue };
                for manifold in pair.solver_manifolds() {
                    for point in &manifold.points {
                        let push = manifold.data.normal.as_dvec3() * (sign * f64::from(point.data.impulse) / self.dt);
                        let place = (*first.position() * point.local_p1).as_dvec3();
                        force += push;
                        moment += (place - center).cross(push);
                    }
                }
            }
        }
        (force.length_squared() + moment.length_squared()).sqrt()
    }

    /// Gravity, m/s².
    pub(crate) fn gravity(&self) -> DVec3 {
        self.rapier.gravity.as_dvec3()
    }

    pub(crate) fn set_gravity(&mut self, gravity: Vec3) {
        self.rapier.gravity = gravity;
    }

    /// Whether rapier found and disabled a body that was not finite in the last step.
    pub(crate) fn quarantined(&self) -> bool {
        !self.rapier.quarantine().is_empty()
    }
}

/// Mass of the link that stands still, kg.
const BASE_MASS: f64 = 4.0;

impl SlideBody {
    fn state(&self, translation: Vec3, velocity: Vec3) -> SlideState {
        let position = (translation.as_dvec3() - self.origin).dot(self.axis);
        // The stops are a little soft; what is reported is not.
        SlideState {
            position: position.clamp(self.range[0], self.range[1]),
            velocity: velocity.as_dvec3().dot(self.axis),
        }
    }
}

/// What a slide is made of, whether it is a button, a drawer or a window.
struct SlideData<'a> {
    origin: DVec3,
    axis: DVec3,
    range: [f64; 2],
    mass: f64,
    damping: f64,
    friction_loss: f64,
    /// Stiffness, and position at which the spring is relaxed.
    spring: [f64; 2],
    shapes: &'a [Shape],
}

fn slide_scenes(scene: &ManipScene) -> impl Iterator<Item = SlideData<'_>> {
    let buttons = scene.buttons.iter().flat_map(|buttons| {
        buttons.positions.iter().map(|position| SlideData {
            origin: (*position).into(),
            axis: DVec3::Z,
            range: [buttons.lowest, 0.0],
            mass: buttons.mass,
            damping: buttons.damping,
            friction_loss: 0.0,
            spring: [buttons.stiffness, buttons.spring_rest],
            shapes: &buttons.cap,
        })
    });
    buttons.chain(scene.drawer.iter().chain(&scene.window).map(|slide| SlideData {
        origin: slide.position.into(),
        axis: slide.axis.into(),
        range: slide.range,
        mass: slide.mass,
        damping: slide.damping,
        friction_loss: slide.friction_loss,
        spring: [0.0, 0.0],
        shapes: &slide.shapes,
    }))
}

fn lock_all_but(axis: DVec3) -> LockedAxes {
    match joint_axis(axis).0 {
        JointAxis::LinX => LockedAxes::TRANSLATION_LOCKED_Y | LockedAxes::TRANSLATION_LOCKED_Z,
        JointAxis::LinY => LockedAxes::TRANSLATION_LOCKED_X | LockedAxes::TRANSLATION_LOCKED_Z,
        _ => LockedAxes::TRANSLATION_LOCKED_X | LockedAxes::TRANSLATION_LOCKED_Y,
    }
}

/// Rapier's name of one of the world's axes, and which way along it.
fn joint_axis(axis: DVec3) -> (JointAxis, f64) {
    if axis.x != 0.0 {
        (JointAxis::LinX, axis.x)
    } else if axis.y != 0.0 {
        (JointAxis::LinY, axis.y)
    } else {
        (JointAxis::LinZ, axis.z)
    }
}

/// Where the arm stands.
pub(crate) fn base() -> DPose3 {
    DPose3::IDENTITY
}

/// Masses of both fingers in the last link's frame, for the arm's inertia; they are taken half open.
pub(crate) fn fingers(robot: &ServoRobot) -> [RigidInertia; FINGERS] {
    let hand = pose_from_data(robot.hand.position, robot.hand.rpy);
    let finger = RigidInertia::sum(&robot.gripper.inertials);
    [DQuat::IDENTITY, half_turn()].map(|rotation| {
        let opening = rotation * DVec3::Y * (0.5 * (robot.gripper.half_gap[0] + robot.gripper.half_gap[1]));
        finger.transformed(&(hand * DPose3::from_parts(DVec3::from(robot.gripper.position) + opening, rotation)))
    })
}
