//! One arena's physics world: arms as rapier multibodies, fixtures and free objects. Z up, metres.

use bevy::math::{DQuat, DVec3, Vec3};
use bevy_rapier3d::rapier::glamx::DPose3;
use bevy_rapier3d::rapier::math::{Pose, Vector};
use bevy_rapier3d::rapier::parry::query;
use bevy_rapier3d::rapier::prelude::{
    CoefficientCombineRule, ColliderBuilder, ColliderHandle, GenericJoint, Group, IntegrationParameters,
    InteractionGroups, InteractionTestMode, JointAxesMask, JointAxis, MassProperties, Multibody, MultibodyDofCoupling,
    MultibodyIndex, PhysicsWorld, RigidBodyBuilder, RigidBodyHandle, SpringCoefficients,
};

use crate::kinematics::{RigidInertia, half_turn, pose_from_data};
use crate::robot::{ARM_JOINTS, BoxCollider, Robot};
use crate::scene::{Geometry, PhysicsSettings, Shape, Touches};
use crate::task::Start;

/// The hand and the fingers touch the world and other arms, never each other.
pub(crate) const ROBOT: InteractionGroups =
    InteractionGroups::new(Group::GROUP_1, Group::GROUP_2.union(Group::GROUP_4), InteractionTestMode::And);
const ARMS: [InteractionGroups; 2] =
    [ROBOT, InteractionGroups::new(Group::GROUP_4, Group::GROUP_2.union(Group::GROUP_1), InteractionTestMode::And)];
const WORLD: InteractionGroups = InteractionGroups::new(Group::GROUP_2, Group::ALL, InteractionTestMode::And);
/// A fence touches objects, and the robot reaches through it.
const FENCE: InteractionGroups = InteractionGroups::new(Group::GROUP_3, Group::GROUP_2, InteractionTestMode::And);

/// Index of a rotation about z, and of a translation along y, among a joint's six coordinates.
const ANG_Z: usize = 5;
const LIN_Y: usize = 1;

/// Fingers of a gripper.
pub(crate) const FINGERS: usize = 2;

/// What the robot's joints do now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct JointState {
    pub(crate) positions: [f64; ARM_JOINTS],
    pub(crate) velocities: [f64; ARM_JOINTS],
    pub(crate) fingers: [f64; FINGERS],
    pub(crate) finger_velocities: [f64; FINGERS],
}

/// What an arm's controllers ask of a physics step.
pub(crate) struct ArmDrive<'a> {
    pub(crate) joints: &'a JointState,
    /// Joint axes in the world.
    pub(crate) axes: &'a [DVec3; ARM_JOINTS],
    /// Torques about the axes.
    pub(crate) torques: [f64; ARM_JOINTS],
    /// Direction in which the left finger opens.
    pub(crate) opening_axis: DVec3,
    /// Force on each finger towards opening.
    pub(crate) finger_force: f64,
}

/// An arm with its gripper among the bodies.
struct ArmBodies {
    links: [RigidBodyHandle; ARM_JOINTS],
    fingers: [RigidBodyHandle; FINGERS],
    multibody: Option<MultibodyIndex>,
    limits: [[f64; 2]; ARM_JOINTS + FINGERS],
    colliders: Vec<Option<ColliderHandle>>,
}

/// Something with colliders, to ask what it touches. The numbers are places in lists of the initial state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Hand and fingers of an arm.
    Gripper(usize),
    /// An object.
    Object(usize),
    /// One shape of an object.
    ObjectShape(usize, usize),
    /// A fixture.
    Fixture(usize),
    /// One shape of a fixture.
    FixtureShape(usize, usize),
}

/// Two surfaces nearer than this touch, metres: contacts are soft by a fraction of it.
const TOUCHING: f32 = 2e-4;

/// The physics of one arena.
pub(crate) struct World {
    rapier: PhysicsWorld,
    arms: Vec<ArmBodies>,
    objects: Vec<RigidBodyHandle>,
    object_colliders: Vec<Vec<Option<ColliderHandle>>>,
    fixture_colliders: Vec<Vec<Option<ColliderHandle>>>,
    dt: f64,
    /// Whether there was a physics step, which finds the contacts.
    stepped: bool,
}

/// Single precision of a double precision pose.
pub(crate) fn single(pose: &DPose3) -> Pose {
    Pose::from_parts(pose.translation.as_vec3(), pose.rotation.as_quat())
}

/// Double precision of a single precision pose.
pub(crate) fn double(pose: &Pose) -> DPose3 {
    DPose3::from_parts(pose.translation.as_dvec3(), pose.rotation.as_dquat())
}

impl World {
    /// Builds everything anew. Two worlds built from the same arguments behave the same to the bit.
    pub(crate) fn new(robot: &Robot, bases: &[DPose3], start: &Start, settings: &PhysicsSettings) -> Self {
        let dt = settings.control_period_secs / f64::from(settings.substeps);
        let mut rapier = PhysicsWorld {
            gravity: Vector::new(0.0, 0.0, settings.gravity as f32),
            integration_parameters: integration_parameters(settings, dt),
            ..PhysicsWorld::default()
        };

        let fixture_colliders = start
            .fixtures
            .iter()
            .map(|fixture| {
                let body = rapier.insert_body(RigidBodyBuilder::fixed().pose(single(&fixture.pose)));
                insert_shapes(&mut rapier, body, &fixture.shapes)
            })
            .collect();
        let groups = ARMS.iter().cycle();
        let arms: Vec<_> =
            bases.iter().zip(groups).map(|(base, groups)| insert_arm(&mut rapier, robot, base, *groups)).collect();
        let (objects, object_colliders) = start
            .objects
            .iter()
            .map(|object| {
                let [linear, angular] = object.damping.map(|damping| damping as f32);
                let body = RigidBodyBuilder::dynamic().pose(single(&object.pose)).can_sleep(false);
                let body = rapier.insert_body(body.linear_damping(linear).angular_damping(angular));
                (body, insert_shapes(&mut rapier, body, &object.shapes))
            })
            .unzip();
        let mut world = Self { rapier, arms, objects, object_colliders, fixture_colliders, dt, stepped: false };
        for (arm, joint_positions) in start.joint_positions.iter().enumerate() {
            world.place_robot(robot, arm, joint_positions);
        }
        world
    }

    /// Sets joint positions and everything about the multibody that rapier does not take from joints.
    fn place_robot(&mut self, robot: &Robot, arm: usize, joint_positions: &[f64; ARM_JOINTS]) {
        let PhysicsWorld { bodies, colliders, multibody_joints, .. } = &mut self.rapier;
        let Some(arm) = self.arms.get(arm) else { return };
        for handle in arm.links.iter().chain(&arm.fingers) {
            if let Some(body) = bodies.get_mut(*handle) {
                body.recompute_mass_properties_from_colliders(colliders);
            }
        }
        let finger_ids = arm.fingers.map(|handle| multibody_joints.rigid_body_link(handle).map_or(0, |link| link.id));
        let Some(multibody) = arm.multibody.and_then(|index| multibody_joints.get_multibody_mut(index)) else {
            return;
        };
        multibody.set_self_contacts_enabled(false);
        // The first call finds out that the base is fixed and drops its six degrees of freedom.
        multibody.forward_kinematics(bodies, true);
        let start: Vec<f32> = joint_positions
            .iter()
            .chain(&[robot.home.finger_position; FINGERS])
            .map(|position| *position as f32)
            .collect();
        multibody.apply_displacements(&start);
        for (i, damping) in multibody.damping_mut().iter_mut().enumerate() {
            *damping = robot.links.get(i).map_or(robot.gripper.damping, |link| link.damping) as f32;
        }
        for (i, armature) in multibody.armature_mut().iter_mut().enumerate() {
            *armature = robot.links.get(i).map_or(robot.gripper.armature, |link| link.armature) as f32;
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

    fn multibody(&self, arm: usize) -> Option<&Multibody> {
        self.rapier.multibody_joints.get_multibody(self.arms.get(arm)?.multibody?)
    }

    /// Length of a physics step.
    pub(crate) fn dt(&self) -> f64 {
        self.dt
    }

    /// Joint positions and velocities of the `arm`-th arm.
    pub(crate) fn joints(&self, arm: usize) -> JointState {
        let mut state = JointState {
            positions: [0.0; ARM_JOINTS],
            velocities: [0.0; ARM_JOINTS],
            fingers: [0.0; FINGERS],
            finger_velocities: [0.0; FINGERS],
        };
        let Some(multibody) = self.multibody(arm) else { return state };
        let positions = state.positions.iter_mut().chain(&mut state.fingers);
        for (i, (position, link)) in positions.zip(multibody.links().skip(1)).enumerate() {
            *position = f64::from(link.joint().coords()[if i < ARM_JOINTS { ANG_Z } else { LIN_Y }]);
        }
        let velocities = state.velocities.iter_mut().chain(&mut state.finger_velocities);
        for (velocity, value) in velocities.zip(multibody.generalized_velocity().iter()) {
            *velocity = f64::from(*value);
        }
        state
    }

    /// Takes over what an arm's motors do in the next physics step.
    pub(crate) fn drive(&mut self, arm: usize, drive: &ArmDrive<'_>) {
        let Some(arm) = self.arms.get(arm) else { return };
        enable_near_limits(&mut self.rapier, arm, drive.joints, self.dt);
        let bodies = &mut self.rapier.bodies;
        // A motor turns its link forward and the link before it backward.
        for (i, handle) in arm.links.iter().enumerate() {
            let Some(body) = bodies.get_mut(*handle) else { continue };
            let mut torque = drive.axes[i] * drive.torques[i];
            if i + 1 < ARM_JOINTS {
                torque -= drive.axes[i + 1] * drive.torques[i + 1];
            }
            body.reset_torques(false);
            body.add_torque(torque.as_vec3(), false);
        }
        // The two forces are opposite and on one line, so the hand feels no reaction.
        for (handle, sign) in arm.fingers.iter().zip([1.0, -1.0]) {
            if let Some(body) = bodies.get_mut(*handle) {
                body.reset_forces(false);
                body.add_force((drive.opening_axis * (sign * drive.finger_force)).as_vec3(), false);
            }
        }
    }

    /// One physics step.
    pub(crate) fn step(&mut self) {
        self.rapier.step();
        self.stepped = true;
    }

    /// Whether two parts touch.
    pub(crate) fn touching(&self, one: Part, other: Part) -> bool {
        let others = self.colliders(other);
        let touch = |a, b| if self.stepped { self.in_contact(a, b) } else { self.near(a, b) };
        self.colliders(one).iter().flatten().any(|a| others.iter().flatten().any(|b| touch(*a, *b)))
    }

    /// Whether the last step found a contact.
    fn in_contact(&self, one: ColliderHandle, other: ColliderHandle) -> bool {
        self.rapier.narrow_phase.contact_pair(one, other).is_some_and(|pair| {
            let mut points = pair.manifolds.iter().flat_map(|manifold| &manifold.points);
            points.any(|point| point.dist < TOUCHING)
        })
    }

    /// Whether the surfaces are near, as the bodies stand: what there is to ask before the first step.
    fn near(&self, one: ColliderHandle, other: ColliderHandle) -> bool {
        let PhysicsWorld { bodies, colliders, .. } = &self.rapier;
        let placed = |handle: ColliderHandle| {
            let collider = colliders.get(handle)?;
            let body = collider.parent().and_then(|parent| bodies.get(parent))?;
            Some((*body.position() * *collider.position_wrt_parent()?, collider.shape()))
        };
        let (Some((one, shape)), Some((other, other_shape))) = (placed(one), placed(other)) else { return false };
        query::contact(&one, shape, &other, other_shape, TOUCHING).is_ok_and(|contact| contact.is_some())
    }

    fn colliders(&self, part: Part) -> &[Option<ColliderHandle>] {
        let all =
            |bodies: &'_ [Vec<Option<ColliderHandle>>], body: usize| bodies.get(body).map_or(0..0, |b| 0..b.len());
        let (list, range) = match part {
            Part::Gripper(arm) => return self.arms.get(arm).map_or(&[], |arm| &arm.colliders),
            Part::Object(body) => (self.object_colliders.get(body), all(&self.object_colliders, body)),
            Part::ObjectShape(body, shape) => (self.object_colliders.get(body), shape..shape + 1),
            Part::Fixture(body) => (self.fixture_colliders.get(body), all(&self.fixture_colliders, body)),
            Part::FixtureShape(body, shape) => (self.fixture_colliders.get(body), shape..shape + 1),
        };
        list.and_then(|list| list.get(range)).unwrap_or_default()
    }

    /// Poses of all objects.
    pub(crate) fn objects(&self) -> impl Iterator<Item = &Pose> {
        self.objects.iter().filter_map(|handle| self.rapier.bodies.get(*handle)).map(|body| body.position())
    }

    /// Linear velocity of its centre of mass, and angular velocity, of the `index`-th object.
    pub(crate) fn object_velocity(&self, index: usize) -> Option<(Vec3, Vec3)> {
        let body = self.rapier.bodies.get(*self.objects.get(index)?)?;
        Some((body.linvel(), body.angvel()))
    }

    /// Centre of mass of the `index`-th object.
    pub(crate) fn object_center_of_mass(&self, index: usize) -> Option<Vec3> {
        let body = self.rapier.bodies.get(*self.objects.get(index)?)?;
        Some(body.center_of_mass())
    }

    /// Adds to an object's angular velocity.
    pub(crate) fn spin(&mut self, index: usize, spin: Vec3) {
        if let Some(body) = self.objects.get(index).and_then(|handle| self.rapier.bodies.get_mut(*handle)) {
            body.set_angvel(body.angvel() + spin, true);
        }
    }

    /// Adds to an object's velocity.
    pub(crate) fn push(&mut self, index: usize, velocity: Vec3) {
        if let Some(body) = self.objects.get(index).and_then(|handle| self.rapier.bodies.get_mut(*handle)) {
            body.set_linvel(body.linvel() + velocity, true);
        }
    }

    pub(crate) fn set_gravity(&mut self, gravity: Vec3) {
        self.rapier.gravity = gravity;
    }

    /// Whether rapier found and disabled a body that was not finite in the last step.
    pub(crate) fn quarantined(&self) -> bool {
        !self.rapier.quarantine().is_empty()
    }

    /// Poses of the links and fingers of all arms, as the physics has them.
    pub(crate) fn robot_poses(&self) -> impl Iterator<Item = &Pose> {
        self.arms
            .iter()
            .flat_map(|arm| arm.links.iter().chain(&arm.fingers))
            .filter_map(|handle| self.rapier.bodies.get(*handle))
            .map(|body| body.position())
    }

    /// Poses of the two fingers of the `arm`-th arm.
    pub(crate) fn finger_poses(&self, arm: usize) -> [Pose; FINGERS] {
        let pose = |handle| self.rapier.bodies.get(handle).map_or(Pose::IDENTITY, |body| *body.position());
        self.arms.get(arm).map_or([Pose::IDENTITY; FINGERS], |arm| arm.fingers.map(pose))
    }
}

/// A limit costs a constraint per step, so only joints that could reach theirs within a few steps get one.
fn enable_near_limits(rapier: &mut PhysicsWorld, arm: &ArmBodies, joints: &JointState, dt: f64) {
    let joint_set = &mut rapier.multibody_joints;
    let Some(multibody) = arm.multibody.and_then(|index| joint_set.get_multibody_mut(index)) else { return };
    let positions = joints.positions.iter().chain(&joints.fingers);
    let velocities = joints.velocities.iter().chain(&joints.finger_velocities);
    for (i, (((link, limits), position), velocity)) in
        multibody.links_mut().skip(1).zip(&arm.limits).zip(positions).zip(velocities).enumerate()
    {
        let reach = 3.0 * dt * velocity.abs();
        let near = position - reach < limits[0] || position + reach > limits[1];
        let axis = if i < ARM_JOINTS { JointAxis::AngZ } else { JointAxis::LinY };
        let data = &mut link.joint.data;
        if near {
            data.set_limits(axis, limits.map(|limit| limit as f32));
        } else {
            data.limit_axes = JointAxesMask::empty();
        }
    }
}

/// The robot's bodies, joints and colliders.
fn insert_arm(rapier: &mut PhysicsWorld, robot: &Robot, base: &DPose3, groups: InteractionGroups) -> ArmBodies {
    let base = rapier.insert_body(RigidBodyBuilder::fixed().pose(single(base)));
    let mut links = [base; ARM_JOINTS];
    let mut parent = base;
    for (handle, link) in links.iter_mut().zip(&robot.links) {
        *handle = rapier.insert_body(robot_body(&RigidInertia::sum(&link.inertials)));
        let mut joint = GenericJoint { locked_axes: !JointAxesMask::ANG_Z, ..GenericJoint::default() };
        joint.local_frame1 = single(&pose_from_data(link.position, link.rpy));
        rapier.multibody_joints.insert(parent, *handle, joint, false);
        parent = *handle;
    }
    let hand = pose_from_data(robot.hand.position, robot.hand.rpy);
    let mut colliders = Vec::new();
    for shape in &robot.hand.colliders {
        colliders.push(Some(insert_box(rapier, parent, &hand, shape, groups)));
    }
    let mut fingers = [base; FINGERS];
    let mass = RigidInertia::sum(&robot.gripper.inertials);
    for (handle, rotation) in fingers.iter_mut().zip([DQuat::IDENTITY, half_turn()]) {
        *handle = rapier.insert_body(robot_body(&mass));
        for shape in &robot.gripper.colliders {
            colliders.push(Some(insert_box(rapier, *handle, &DPose3::IDENTITY, shape, groups)));
        }
        let mut joint = GenericJoint { locked_axes: !JointAxesMask::LIN_Y, ..GenericJoint::default() };
        joint.local_frame1 = single(&(hand * DPose3::from_parts(robot.gripper.position.into(), rotation)));
        rapier.multibody_joints.insert(parent, *handle, joint, false);
    }
    let mut limits = [robot.gripper.travel; ARM_JOINTS + FINGERS];
    for (limit, link) in limits.iter_mut().zip(&robot.links) {
        *limit = link.limits;
    }
    let multibody = rapier.multibody_joints.rigid_body_link(base).map(|link| link.multibody);
    ArmBodies { links, fingers, multibody, limits, colliders }
}

pub(crate) fn integration_parameters(settings: &PhysicsSettings, dt: f64) -> IntegrationParameters {
    let softness = SpringCoefficients {
        natural_frequency: settings.contact_frequency_hz as f32,
        damping_ratio: settings.contact_damping_ratio as f32,
    };
    IntegrationParameters {
        dt: dt as f32,
        contact_softness: softness,
        static_contact_softness: softness,
        num_solver_iterations: settings.solver_iterations as usize,
        num_internal_pgs_iterations: settings.pgs_iterations as usize,
        num_internal_stabilization_iterations: settings.stabilization_iterations as usize,
        // Nothing here is fast enough to pass through something else within a step.
        max_ccd_substeps: 0,
        normalized_prediction_distance: settings.prediction_distance as f32,
        // Old contact points would let a grasped object creep.
        contact_recycling: false,
        contact_clustering: false,
        friction_in_bias_pass: settings.friction_in_bias_pass,
        ..IntegrationParameters::default()
    }
}

pub(crate) fn collider(builder: ColliderBuilder, friction: f64, groups: InteractionGroups) -> ColliderBuilder {
    // Of two surfaces the rougher one counts, as in MuJoCo.
    builder.friction(friction as f32).friction_combine_rule(CoefficientCombineRule::Max).collision_groups(groups)
}

pub(crate) fn robot_body(mass: &RigidInertia) -> RigidBodyBuilder {
    RigidBodyBuilder::dynamic().gravity_scale(0.0).can_sleep(false).additional_mass_properties(
        MassProperties::with_inertia_matrix(mass.center.as_vec3(), mass.mass as f32, mass.inertia.as_mat3()),
    )
}

/// Shapes of a fixture or an object as colliders of its body, one for each shape that touches something.
pub(crate) fn insert_shapes(
    rapier: &mut PhysicsWorld,
    body: RigidBodyHandle,
    shapes: &[Shape],
) -> Vec<Option<ColliderHandle>> {
    let mut insert = |shape: &Shape| {
        let groups = match shape.touches {
            Touches::Everything => WORLD,
            Touches::Objects => FENCE,
            Touches::Nothing => return None,
        };
        let mut pose = shape.pose;
        let builder = match shape.geometry {
            Geometry::Box(half_extents) => {
                let [x, y, z] = half_extents.as_vec3().to_array();
                ColliderBuilder::cuboid(x, y, z)
            }
            // Rapier's cylinders stand along y.
            Geometry::Cylinder { radius, half_height } => {
                pose.rotation *= z_from_y();
                ColliderBuilder::cylinder(half_height as f32, radius as f32)
            }
            Geometry::Capsule { radius, half_height } => ColliderBuilder::capsule_z(half_height as f32, radius as f32),
            Geometry::Ball(radius) => ColliderBuilder::ball(radius as f32),
        };
        let builder = builder.position(single(&pose)).density(shape.density as f32);
        Some(rapier.insert_collider(collider(builder, shape.friction, groups), Some(body)))
    };
    shapes.iter().map(&mut insert).collect()
}

/// The quarter turn about x that takes the y axis to the z axis.
fn z_from_y() -> DQuat {
    DQuat::from_xyzw(std::f64::consts::FRAC_1_SQRT_2, 0.0, 0.0, std::f64::consts::FRAC_1_SQRT_2)
}

pub(crate) fn insert_box(
    rapier: &mut PhysicsWorld,
    body: RigidBodyHandle,
    frame: &DPose3,
    shape: &BoxCollider,
    groups: InteractionGroups,
) -> ColliderHandle {
    let [x, y, z] = shape.half_extents.map(|half| half as f32);
    let pose = *frame * DPose3::from_translation(shape.position.into());
    let builder = ColliderBuilder::cuboid(x, y, z).position(single(&pose)).density(0.0);
    rapier.insert_collider(collider(builder, shape.friction, groups), Some(body))
}
