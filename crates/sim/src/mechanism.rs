//! A mechanism of rods on slides and hinges, as a rapier multibody: motors, armature, damping, springs, joint limits.
//!
//! Coordinates are the published models': a hinge about -y counts the other way round than rapier's about y.

use bevy::math::{DMat3, DVec3, Vec3};
use bevy_rapier3d::rapier::math::Pose;
use bevy_rapier3d::rapier::na::DVector;
use bevy_rapier3d::rapier::prelude::{
    ColliderBuilder, GenericJoint, Group, InteractionGroups, InteractionTestMode, JointAxesMask, JointAxis,
    MassProperties, Multibody, MultibodyIndex, PhysicsWorld, RigidBodyBuilder, RigidBodyHandle, SpringCoefficients,
};

use crate::kinematics::RigidInertia;
use crate::model::Capsule;
use crate::physics::{collider, integration_parameters};
use crate::scene::PhysicsSettings;

/// Density of all rods before a total mass is imposed, kg/m³.
const DENSITY: f64 = 1000.0;

/// Rods that touch the ground, the ground, and rods that touch each other.
const ROD: InteractionGroups = InteractionGroups::new(Group::GROUP_1, Group::GROUP_2, InteractionTestMode::And);
const GROUND: InteractionGroups = InteractionGroups::new(Group::GROUP_2, Group::GROUP_1, InteractionTestMode::And);
const EACH_OTHER: InteractionGroups = InteractionGroups::new(Group::GROUP_3, Group::GROUP_3, InteractionTestMode::And);

/// What a joint does along or about one axis of the frame before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Axis {
    SlideX,
    SlideZ,
    HingeY,
    HingeZ,
}

impl Axis {
    /// Index among rapier's six joint coordinates.
    fn index(self) -> usize {
        match self {
            Self::SlideX => 0,
            Self::SlideZ => 2,
            Self::HingeY => 4,
            Self::HingeZ => 5,
        }
    }

    fn joint_axis(self) -> JointAxis {
        match self {
            Self::SlideX => JointAxis::LinX,
            Self::SlideZ => JointAxis::LinZ,
            Self::HingeY => JointAxis::AngY,
            Self::HingeZ => JointAxis::AngZ,
        }
    }

    fn mask(self) -> JointAxesMask {
        match self {
            Self::SlideX => JointAxesMask::LIN_X,
            Self::SlideZ => JointAxesMask::LIN_Z,
            Self::HingeY => JointAxesMask::ANG_Y,
            Self::HingeZ => JointAxesMask::ANG_Z,
        }
    }

    fn is_slide(self) -> bool {
        matches!(self, Self::SlideX | Self::SlideZ)
    }

    /// The axis in the world. All hinges of a mechanism are parallel, and only its root slides.
    fn unit(self) -> DVec3 {
        match self {
            Self::SlideX => DVec3::X,
            Self::HingeY => DVec3::Y,
            Self::SlideZ | Self::HingeZ => DVec3::Z,
        }
    }
}

/// One degree of freedom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dof {
    pub(crate) axis: Axis,
    /// 1, or -1 for a joint that counts backward about its axis.
    pub(crate) sign: f64,
    /// Where it stops, if it does, radians or metres.
    pub(crate) range: Option<[f64; 2]>,
    /// Viscous friction, N s/m or N m s/rad.
    pub(crate) damping: f64,
    /// Inertia of the motor seen at the joint, kg or kg m².
    pub(crate) armature: f64,
    /// Spring towards zero, N/m or N m/rad.
    pub(crate) stiffness: f64,
    /// Force or torque at a control of 1; zero for a joint without a motor.
    pub(crate) gear: f64,
}

impl Dof {
    /// A joint without friction, spring, stops and motor.
    pub(crate) const fn free(axis: Axis) -> Self {
        Self { axis, sign: 1.0, range: None, damping: 0.0, armature: 0.0, stiffness: 0.0, gear: 0.0 }
    }
}

/// A capsule of a link, in the link's frame. Both ends the same: a ball.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rod {
    pub(crate) from: DVec3,
    pub(crate) to: DVec3,
    pub(crate) radius: f64,
    /// Coefficient of dry friction.
    pub(crate) friction: f64,
}

impl Rod {
    /// Mass, centre and inertia: a cylinder and two half balls.
    fn inertia(&self, density: f64) -> RigidInertia {
        let (axis, r) = (self.to - self.from, self.radius);
        let half = 0.5 * axis.length();
        let direction = axis.normalize_or(DVec3::Z);
        let area = std::f64::consts::PI * r * r;
        let (cylinder, ball) = (density * area * 2.0 * half, density * area * r * 4.0 / 3.0);
        let along = r * r * (0.5 * cylinder + 0.4 * ball);
        let offset = half + 0.375 * r;
        let across = cylinder * (half * half / 3.0 + 0.25 * r * r) + ball * (83.0 / 320.0 * r * r + offset * offset);
        let outer = DMat3::from_cols(direction * direction.x, direction * direction.y, direction * direction.z);
        RigidInertia {
            mass: cylinder + ball,
            center: 0.5 * (self.from + self.to),
            inertia: DMat3::from_diagonal(DVec3::splat(across)) + outer * (along - across),
        }
    }

    /// As it is drawn.
    pub(crate) fn capsule(&self) -> Capsule {
        Capsule { from: self.from.as_vec3(), to: self.to.as_vec3(), radius: self.radius as f32 }
    }
}

/// A link; its frame's origin is its joint.
#[derive(Debug, Clone)]
pub(crate) struct LinkModel {
    pub(crate) name: &'static str,
    /// Index of the link before it; none for the world.
    pub(crate) parent: Option<usize>,
    /// The joint in the frame of the link before it.
    pub(crate) anchor: DVec3,
    /// Degrees of freedom, slides first.
    pub(crate) dofs: Vec<Dof>,
    pub(crate) rods: Vec<Rod>,
}

/// How joints stop at the ends of their ranges.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stops {
    /// By a constraint of rapier, a spring as soft as this, solved together with the contacts.
    Solved { frequency_hz: f64, damping_ratio: f64 },
    /// By the force of MuJoCo's soft constraint with this time constant (critically damped, seconds), from this
    /// distance on. Not together with contacts.
    Soft { time_constant: f64, margin: f64 },
}

/// A mechanism as published.
#[derive(Debug, Clone)]
pub(crate) struct MechanismModel {
    pub(crate) links: Vec<LinkModel>,
    /// Masses are scaled to this sum, kg, if there is one.
    pub(crate) total_mass: Option<f64>,
    pub(crate) gravity: DVec3,
    /// Coefficient of dry friction of the ground at height zero, if there is ground.
    pub(crate) ground: Option<f64>,
    /// Whether links that are not neighbours touch each other, without friction.
    pub(crate) self_contacts: bool,
    pub(crate) stops: Stops,
    pub(crate) physics: PhysicsSettings,
}

/// A mechanism that moves.
pub(crate) struct Mechanism {
    rapier: PhysicsWorld,
    multibody: Option<MultibodyIndex>,
    handles: Vec<RigidBodyHandle>,
    parents: Vec<Option<usize>>,
    /// All degrees of freedom in order, each with its link.
    dofs: Vec<(usize, Dof)>,
    stops: Stops,
    /// No contacts: a better integrator is possible.
    contact_free: bool,
    substeps: u32,
    dt: f64,
    /// Diagonal of the inverse mass matrix with all joints at zero.
    inverse_inertia: Vec<f64>,
    positions: Vec<f64>,
    velocities: Vec<f64>,
    /// Forces of the stops in the last physics step.
    stop_forces: Vec<f64>,
    /// All forces but gravity in the last physics step.
    forces: Vec<f64>,
}

impl Mechanism {
    /// Builds everything anew. Two mechanisms built from the same arguments behave the same to the bit.
    pub(crate) fn new(model: &MechanismModel, positions: &[f64], velocities: &[f64]) -> Self {
        let dt = model.physics.control_period_secs / f64::from(model.physics.substeps);
        let mut rapier = PhysicsWorld {
            gravity: model.gravity.as_vec3(),
            integration_parameters: integration_parameters(&model.physics, dt),
            ..PhysicsWorld::default()
        };
        if let Some(friction) = model.ground {
            // Its upper side is at height zero; it has no end.
            let ground = ColliderBuilder::new(bevy_rapier3d::rapier::geometry::SharedShape::halfspace(Vec3::Z));
            rapier.insert(RigidBodyBuilder::fixed(), collider(ground, friction, GROUND));
        }
        let base = rapier.insert_body(RigidBodyBuilder::fixed());
        let inertias: Vec<RigidInertia> = model.links.iter().map(|link| inertia(&link.rods, DENSITY)).collect();
        let mass: f64 = inertias.iter().map(|inertia| inertia.mass).sum();
        let scale = model.total_mass.map_or(1.0, |total| total / mass);
        let mut handles: Vec<RigidBodyHandle> = Vec::with_capacity(model.links.len());
        for (link, RigidInertia { mass, center, inertia }) in model.links.iter().zip(&inertias) {
            let properties = MassProperties::with_inertia_matrix(
                center.as_vec3(),
                (mass * scale) as f32,
                (*inertia * scale).as_mat3(),
            );
            let body = RigidBodyBuilder::dynamic().can_sleep(false).additional_mass_properties(properties);
            let handle = rapier.insert_body(body);
            if model.ground.is_some() {
                for rod in &link.rods {
                    let Capsule { from, to, radius } = rod.capsule();
                    let shape = || ColliderBuilder::capsule_from_endpoints(from, to, radius).density(0.0);
                    rapier.insert_collider(collider(shape(), rod.friction, ROD), Some(handle));
                    if model.self_contacts {
                        rapier.insert_collider(collider(shape(), 0.0, EACH_OTHER), Some(handle));
                    }
                }
            }
            let free = link.dofs.iter().fold(JointAxesMask::empty(), |mask, dof| mask | dof.axis.mask());
            let mut joint = GenericJoint { locked_axes: !free, contacts_enabled: false, ..GenericJoint::default() };
            joint.local_frame1 = Pose::from_translation(link.anchor.as_vec3());
            let parent = link.parent.and_then(|parent| handles.get(parent)).copied().unwrap_or(base);
            rapier.multibody_joints.insert(parent, handle, joint, false);
            handles.push(handle);
        }
        let dofs: Vec<(usize, Dof)> = model
            .links
            .iter()
            .enumerate()
            .flat_map(|(index, link)| link.dofs.iter().map(move |dof| (index, *dof)))
            .collect();
        let mut mechanism = Self {
            multibody: rapier.multibody_joints.rigid_body_link(base).map(|link| link.multibody),
            rapier,
            parents: model.links.iter().map(|link| link.parent).collect(),
            handles,
            stops: model.stops,
            contact_free: model.ground.is_none(),
            substeps: model.physics.substeps,
            dt,
            inverse_inertia: vec![0.0; dofs.len()],
            positions: vec![0.0; dofs.len()],
            velocities: vec![0.0; dofs.len()],
            stop_forces: vec![0.0; dofs.len()],
            forces: vec![0.0; dofs.len()],
            dofs,
        };
        mechanism.set_up(model.self_contacts);
        mechanism.place(positions, velocities);
        mechanism
    }

    /// Everything about the multibody that rapier does not take from joints.
    fn set_up(&mut self, self_contacts: bool) {
        let PhysicsWorld { bodies, colliders, multibody_joints, .. } = &mut self.rapier;
        for handle in &self.handles {
            if let Some(body) = bodies.get_mut(*handle) {
                body.recompute_mass_properties_from_colliders(colliders);
            }
        }
        let Some(multibody) = self.multibody.and_then(|index| multibody_joints.get_multibody_mut(index)) else {
            return;
        };
        multibody.set_self_contacts_enabled(self_contacts);
        // The first call finds out that the base is fixed and drops its six degrees of freedom.
        multibody.forward_kinematics(bodies, true);
        multibody.update_rigid_bodies(bodies, true);
        // Without contacts half of the friction is ours, see `step`.
        let share = if self.contact_free { 0.5 } else { 1.0 };
        for (damping, (_, dof)) in multibody.damping_mut().iter_mut().zip(&self.dofs) {
            *damping = (share * dof.damping) as f32;
        }
        for (armature, (_, dof)) in multibody.armature_mut().iter_mut().zip(&self.dofs) {
            *armature = dof.armature as f32;
        }
        for (index, dof) in &self.dofs {
            if let Some(link) = multibody.link_mut(index + 1)
                && dof.stiffness > 0.0
            {
                link.joint.set_spring(dof.axis.index(), dof.stiffness as f32, 0.0);
            }
        }
        if let Stops::Solved { frequency_hz, damping_ratio } = self.stops {
            for link in multibody.links_mut() {
                link.joint.data.softness =
                    SpringCoefficients { natural_frequency: frequency_hz as f32, damping_ratio: damping_ratio as f32 };
            }
        }
        let inverse_inertia = multibody.dof_inverse_inertia(bodies);
        self.inverse_inertia = inverse_inertia.iter().map(|value| f64::from(*value)).collect();
    }

    /// Puts the joints into a state. The lengths must be those of the degrees of freedom.
    pub(crate) fn place(&mut self, positions: &[f64], velocities: &[f64]) {
        let PhysicsWorld { bodies, multibody_joints, .. } = &mut self.rapier;
        let Some(multibody) = self.multibody.and_then(|index| multibody_joints.get_multibody_mut(index)) else {
            return;
        };
        let now: Vec<f32> = coordinates(multibody, &self.dofs).collect();
        let way: Vec<f32> = positions
            .iter()
            .zip(&self.dofs)
            .zip(now)
            .map(|((position, (_, dof)), now)| (dof.sign * position) as f32 - now)
            .collect();
        multibody.apply_displacements(&way);
        for ((slot, velocity), (_, dof)) in
            multibody.generalized_velocity_mut().iter_mut().zip(velocities).zip(&self.dofs)
        {
            *slot = (dof.sign * velocity) as f32;
        }
        multibody.forward_kinematics(bodies, false);
        multibody.update_rigid_bodies(bodies, true);
        self.read();
    }

    /// One control step under controls in [-1, 1], one for each motor in the order of the joints. Returns whether
    /// everything is finite.
    ///
    /// Rapier's step is a kick and a drift. Without contacts we put half a drift before the first kick and take it back
    /// after the last, and count half of the friction at the old velocity and half at the new: the position Verlet
    /// scheme with the midpoint rule for friction, of second order instead of first, at no cost.
    pub(crate) fn step(&mut self, mut controls: impl Iterator<Item = f64>) -> bool {
        let motors: Vec<f64> = self
            .dofs
            .iter()
            .map(|(_, dof)| if dof.gear == 0.0 { 0.0 } else { dof.gear * controls.next().unwrap_or(0.0) })
            .collect();
        if self.contact_free {
            self.drift(0.5 * self.dt);
        }
        for _ in 0..self.substeps {
            self.read();
            if !self.is_finite() {
                return false;
            }
            let mut forces = motors.clone();
            if self.contact_free {
                for ((force, (_, dof)), velocity) in forces.iter_mut().zip(&self.dofs).zip(&self.velocities) {
                    *force -= 0.5 * dof.damping * velocity;
                }
            }
            match self.stops {
                Stops::Solved { .. } => self.enable_near_stops(),
                Stops::Soft { time_constant, margin } => {
                    self.stop_forces = self.soft_stop_forces(&forces, time_constant, margin);
                    forces.iter_mut().zip(&self.stop_forces).for_each(|(force, stop)| *force += stop);
                }
            }
            self.apply(&forces);
            self.forces = forces;
            self.rapier.step();
            if !self.rapier.quarantine().is_empty() {
                return false;
            }
        }
        if self.contact_free {
            self.drift(-0.5 * self.dt);
        }
        self.read();
        self.is_finite()
    }

    fn is_finite(&self) -> bool {
        self.positions.iter().chain(&self.velocities).all(|number| number.is_finite())
    }

    /// Moves all joints with their velocities for a time.
    fn drift(&mut self, time: f64) {
        let PhysicsWorld { bodies, multibody_joints, .. } = &mut self.rapier;
        let Some(multibody) = self.multibody.and_then(|index| multibody_joints.get_multibody_mut(index)) else {
            return;
        };
        let way: Vec<f32> = multibody.generalized_velocity().iter().map(|velocity| velocity * time as f32).collect();
        multibody.apply_displacements(&way);
        multibody.forward_kinematics(bodies, false);
        multibody.update_rigid_bodies(bodies, true);
    }

    fn read(&mut self) {
        let Some(multibody) = self.multibody.and_then(|index| self.rapier.multibody_joints.get_multibody(index)) else {
            return;
        };
        for ((slot, position), (_, dof)) in
            self.positions.iter_mut().zip(coordinates(multibody, &self.dofs)).zip(&self.dofs)
        {
            *slot = dof.sign * f64::from(position);
        }
        for ((slot, velocity), (_, dof)) in
            self.velocities.iter_mut().zip(multibody.generalized_velocity().iter()).zip(&self.dofs)
        {
            *slot = dof.sign * f64::from(*velocity);
        }
    }

    /// Applies forces on joints. A motor pushes its link forward and the link before it backward.
    fn apply(&mut self, forces: &[f64]) {
        let mut wrenches = vec![(DVec3::ZERO, DVec3::ZERO); self.handles.len()];
        for ((index, dof), force) in self.dofs.iter().zip(forces) {
            let push = dof.axis.unit() * (dof.sign * force);
            let mut add = |link: usize, push: DVec3| {
                if let Some((force, torque)) = wrenches.get_mut(link) {
                    *(if dof.axis.is_slide() { force } else { torque }) += push;
                }
            };
            add(*index, push);
            if let Some(parent) = self.parents.get(*index).copied().flatten() {
                add(parent, -push);
            }
        }
        for (handle, (force, torque)) in self.handles.iter().zip(wrenches) {
            let Some(body) = self.rapier.bodies.get_mut(*handle) else { continue };
            body.reset_forces(false);
            body.add_force(force.as_vec3(), false);
            body.reset_torques(false);
            body.add_torque(torque.as_vec3(), false);
        }
    }

    /// A stop costs a constraint per step, so only joints that could reach theirs within a few steps get one.
    fn enable_near_stops(&mut self) {
        let joint_set = &mut self.rapier.multibody_joints;
        let Some(multibody) = self.multibody.and_then(|index| joint_set.get_multibody_mut(index)) else { return };
        for (((index, dof), position), velocity) in self.dofs.iter().zip(&self.positions).zip(&self.velocities) {
            let (Some([low, high]), Some(link)) = (dof.range, multibody.link_mut(index + 1)) else { continue };
            let reach = 3.0 * self.dt * velocity.abs();
            let data = &mut link.joint.data;
            if position - reach < low || position + reach > high {
                let [low, high] = if dof.sign < 0.0 { [-high, -low] } else { [low, high] };
                data.set_limits(dof.axis.joint_axis(), [low as f32, high as f32]);
            } else {
                data.limit_axes = JointAxesMask::empty();
            }
        }
    }

    /// Forces of the stops by MuJoCo's rule ("Computation", constraint model): each stop wants the acceleration
    /// `-b v - k d r` of its distance `r` and gets the share `d` of it, while it pushes.
    fn soft_stop_forces(&self, forces: &[f64], time_constant: f64, margin: f64) -> Vec<f64> {
        let mut stop_forces = vec![0.0; self.dofs.len()];
        let mut active: Vec<Stop> = Vec::new();
        for (index, (((_, dof), position), velocity)) in
            self.dofs.iter().zip(&self.positions).zip(&self.velocities).enumerate()
        {
            let Some([low, high]) = dof.range else { continue };
            for (direction, distance) in [(1.0, position - low), (-1.0, high - position)] {
                if distance < margin {
                    let (wanted, share) = soft_stop(distance - margin, direction * velocity, time_constant);
                    active.push(Stop { index, direction, wanted, share, force: 0.0 });
                }
            }
        }
        let Some(multibody) = self.multibody.and_then(|index| self.rapier.multibody_joints.get_multibody(index)) else {
            return stop_forces;
        };
        if active.is_empty() {
            return stop_forces;
        }
        let sign = |index: usize| self.dofs.get(index).map_or(1.0, |(_, dof)| dof.sign);
        // Accelerations by one unit of force on one joint: a column of the inverse mass matrix.
        let column = |index: usize| -> Vec<f64> {
            let mut unit = DVector::<f32>::zeros(self.dofs.len());
            if let Some(entry) = unit.get_mut(index) {
                *entry = 1.0;
            }
            multibody.inv_augmented_mass().solve_mut(&mut unit);
            unit.iter().enumerate().map(|(row, value)| f64::from(*value) * sign(row) * sign(index)).collect()
        };
        let columns: Vec<Vec<f64>> = (0..self.dofs.len()).map(column).collect();
        let entry =
            |row: usize, index: usize| columns.get(index).and_then(|column| column.get(row)).copied().unwrap_or(0.0);
        // Without stops: as in the last step, but for the forces that have changed since.
        let free = |row: usize| -> f64 {
            let last = multibody.generalized_acceleration().get(row).map_or(0.0, |value| f64::from(*value));
            let changed = forces.iter().zip(&self.forces).enumerate();
            sign(row) * last + changed.map(|(index, (new, old))| entry(row, index) * (new - old)).sum::<f64>()
        };
        // A few sweeps are enough for the one or two stops that are ever reached at once.
        for _ in 0..10 {
            for this in 0..active.len() {
                let Some(stop) = active.get(this).copied() else { continue };
                let others: f64 = active
                    .iter()
                    .map(|other| entry(stop.index, other.index) * other.direction * other.force)
                    .sum::<f64>();
                let own = entry(stop.index, stop.index);
                let without = stop.direction * (free(stop.index) + others) - own * stop.force;
                let weight = self.inverse_inertia.get(stop.index).copied().unwrap_or(0.0);
                let regularizer = (1.0 - stop.share) / stop.share * weight;
                let force = ((stop.wanted - without) / (own + regularizer)).max(0.0);
                if let Some(stop) = active.get_mut(this) {
                    stop.force = force;
                }
            }
        }
        for stop in active {
            if let Some(force) = stop_forces.get_mut(stop.index) {
                *force += stop.direction * stop.force;
            }
        }
        stop_forces
    }

    /// Joint positions.
    pub(crate) fn positions(&self) -> &[f64] {
        &self.positions
    }

    /// Joint velocities.
    pub(crate) fn velocities(&self) -> &[f64] {
        &self.velocities
    }

    /// Forces of soft stops on the joints in the last physics step.
    pub(crate) fn stop_forces(&self) -> &[f64] {
        &self.stop_forces
    }

    pub(crate) fn set_gravity(&mut self, gravity: Vec3) {
        self.rapier.gravity = gravity;
    }

    /// Poses of the links.
    pub(crate) fn poses(&self) -> impl Iterator<Item = Pose> {
        self.handles.iter().filter_map(|handle| self.rapier.bodies.get(*handle)).map(|body| *body.position())
    }
}

/// A joint at one end of its range.
#[derive(Debug, Clone, Copy)]
struct Stop {
    index: usize,
    /// 1 at the lower end, -1 at the upper.
    direction: f64,
    /// Acceleration away from the end that is wanted, and the share that is granted.
    wanted: f64,
    share: f64,
    force: f64,
}

/// The wanted acceleration of a distance and the granted share, with MuJoCo's default impedance: 0.9 rising to 0.95 over
/// the first millimetre, or milliradian.
fn soft_stop(distance: f64, velocity: f64, time_constant: f64) -> (f64, f64) {
    const SHARES: [f64; 2] = [0.9, 0.95];
    const WIDTH: f64 = 0.001;
    let x = (distance.abs() / WIDTH).min(1.0);
    let rise = if x <= 0.5 { 2.0 * x * x } else { 1.0 - 2.0 * (1.0 - x) * (1.0 - x) };
    let share = SHARES[0] + rise * (SHARES[1] - SHARES[0]);
    let stiffness = 1.0 / (SHARES[1] * time_constant).powi(2);
    let damping = 2.0 / (SHARES[1] * time_constant);
    (-damping * velocity - stiffness * share * distance, share)
}

fn inertia(rods: &[Rod], density: f64) -> RigidInertia {
    rods.iter().fold(RigidInertia::ZERO, |sum, rod| sum.merge(&rod.inertia(density)))
}

/// Rapier's joint coordinates in the order of the degrees of freedom.
fn coordinates<'a>(multibody: &'a Multibody, dofs: &'a [(usize, Dof)]) -> impl Iterator<Item = f32> + 'a {
    dofs.iter().map(|(index, dof)| {
        let coords = multibody.link(index + 1).map(|link| link.joint().coords());
        coords.map_or(0.0, |coords| coords[dof.axis.index()])
    })
}

#[cfg(test)]
mod tests {
    use bevy::math::DQuat;

    use super::*;
    use crate::task::ControlTask::{
        self, HalfCheetah, Hopper, InvertedDoublePendulum, InvertedPendulum, Reacher, Walker2d,
    };

    #[test]
    fn links_weigh_what_mujoco_says() {
        // Reacher's finger tip is a body of its own there, and part of the forearm here.
        let cases: [(ControlTask, &[f64]); 6] = [
            (InvertedPendulum, &[10.471_976, 5.018_592]),
            (InvertedDoublePendulum, &[10.471_976, 4.198_739, 4.198_739]),
            (Reacher, &[0.035_605, 0.035_605 + 0.004_189]),
            (Hopper, &[3.665_191, 4.057_891, 2.781_357, 5.315_575]),
            (HalfCheetah, &[6.250_209, 1.543_515, 1.587_448, 1.095_397, 1.438_075, 1.200_837, 0.884_519]),
            (Walker2d, &[3.665_191, 4.057_891, 2.781_357, 3.166_725, 4.057_891, 2.781_357, 3.166_725]),
        ];
        for (task, expected) in cases {
            let model = task.mechanism();
            let scale = mass_scale(&model);
            let masses = model.links.iter().map(|link| scale * inertia(&link.rods, DENSITY).mass);
            assert_eq!(model.links.len(), expected.len());
            for ((mass, expected), link) in masses.zip(expected).zip(&model.links) {
                assert!((mass - expected).abs() < 2e-6, "{task:?}: {} weighs {mass} kg", link.name);
            }
        }
        // Torso and head of HalfCheetah as one body, about the hinges' axis.
        let model = HalfCheetah.mechanism();
        let torso = inertia(&model.links[0].rods, DENSITY);
        assert!((mass_scale(&model) * torso.inertia.y_axis.y - 0.897_118).abs() < 1e-6, "{}", torso.inertia);
        assert!((torso.center - DVec3::new(0.152_39, 0.0, 0.025_4)).length() < 1e-5, "{}", torso.center);
    }

    /// Factor by which rods of [`DENSITY`] are heavier in the mechanism.
    fn mass_scale(model: &MechanismModel) -> f64 {
        let sum: f64 = model.links.iter().map(|link| inertia(&link.rods, DENSITY).mass).sum();
        model.total_mass.map_or(1.0, |total| total / sum)
    }

    /// Kinetic energy and potential energy of weight and springs, joules, from the figures alone.
    fn energy(model: &MechanismModel, positions: &[f64], velocities: &[f64]) -> f64 {
        struct Frame {
            origin: DVec3,
            velocity: DVec3,
            rotation: DQuat,
            spin: DVec3,
        }
        let scale = mass_scale(model);
        let mut frames: Vec<Frame> = Vec::new();
        let (mut sum, mut joint) = (0.0, 0);
        for link in &model.links {
            let ground =
                Frame { origin: DVec3::ZERO, velocity: DVec3::ZERO, rotation: DQuat::IDENTITY, spin: DVec3::ZERO };
            let before = link.parent.map_or(&ground, |parent| &frames[parent]);
            let arm = before.rotation * link.anchor;
            let mut frame = Frame {
                origin: before.origin + arm,
                velocity: before.velocity + before.spin.cross(arm),
                rotation: before.rotation,
                spin: before.spin,
            };
            for dof in &link.dofs {
                let (position, velocity) = (dof.sign * positions[joint], dof.sign * velocities[joint]);
                if dof.axis.is_slide() {
                    frame.origin += dof.axis.unit() * position;
                    frame.velocity += dof.axis.unit() * velocity;
                } else {
                    frame.rotation *= DQuat::from_axis_angle(dof.axis.unit(), position);
                    frame.spin += dof.axis.unit() * velocity;
                }
                sum += 0.5 * (dof.armature * velocity * velocity + dof.stiffness * position * position);
                joint += 1;
            }
            let body = inertia(&link.rods, DENSITY);
            let arm = frame.rotation * body.center;
            let velocity = frame.velocity + frame.spin.cross(arm);
            // All hinges are parallel, so the axis is the same in the link's frame.
            sum += 0.5 * scale * (body.mass * velocity.length_squared() + frame.spin.dot(body.inertia * frame.spin));
            sum -= scale * body.mass * model.gravity.dot(frame.origin + arm);
            frames.push(frame);
        }
        sum
    }

    #[test]
    fn energy_does_not_grow_in_free_motion() {
        for task in [InvertedPendulum, InvertedDoublePendulum, Reacher, Hopper, HalfCheetah, Walker2d] {
            let mut model = task.mechanism();
            let mut count = 0;
            for dof in model.links.iter_mut().flat_map(|link| &mut link.dofs) {
                *dof = Dof { damping: 0.0, range: None, ..*dof };
                count += 1;
            }
            let mut positions: Vec<f64> = (0..count).map(|joint| 0.2 * f64::from(joint % 3) - 0.2).collect();
            let velocities: Vec<f64> = (0..count).map(|joint| 1.5 - f64::from(joint % 4)).collect();
            if model.ground.is_some() {
                positions[1] = 20.0; // falls for the whole second
            }
            let mut mechanism = Mechanism::new(&model, &positions, &velocities);
            let start = energy(&model, mechanism.positions(), mechanism.velocities());
            let (mut low, mut high) = (start, start);
            for _ in 0..(1.0 / model.physics.control_period_secs) as usize {
                assert!(mechanism.step(std::iter::empty()));
                let now = energy(&model, mechanism.positions(), mechanism.velocities());
                (low, high) = (low.min(now), high.max(now));
            }
            // Rapier takes Coriolis forces at the end of a step, not in its middle. A whirling pendulum wins by that,
            // far less than its friction costs, and half as much with twice the steps; a runner loses. A spring that
            // is taken at the end of a step loses as well.
            let most = if model.ground.is_some() { 0.01 } else { 0.015 * start };
            assert!(high - start < most, "{task:?} has won {} J of {start} J", high - start);
            assert!(start - low < 15.0, "{task:?} has lost {} J of {start} J", start - low);
        }
    }

    #[test]
    fn a_capsule_weighs_what_mujoco_says() {
        // The torso of Hopper, compiled by MuJoCo.
        let rod = Rod { from: DVec3::new(0.0, 0.0, -0.2), to: DVec3::new(0.0, 0.0, 0.2), radius: 0.05, friction: 0.0 };
        let body = rod.inertia(DENSITY);
        assert!((body.mass - 3.665_191_429).abs() < 1e-8, "{}", body.mass);
        assert!((body.inertia.x_axis.x - 0.069_245_938).abs() < 1e-8, "{}", body.inertia);
        assert!((body.inertia.z_axis.z - 0.004_450_590).abs() < 1e-8, "{}", body.inertia);
    }

    #[test]
    fn a_soft_stop_pushes_away_and_brakes() {
        let (still, share) = soft_stop(-0.01, 0.0, 0.02);
        assert!(still > 0.0 && (share - 0.95).abs() < 1e-12);
        assert!(soft_stop(-0.01, -1.0, 0.02).0 > still);
        assert!((soft_stop(0.0, 0.0, 0.02).1 - 0.9).abs() < 1e-12);
    }
}
