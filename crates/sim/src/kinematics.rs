//! Kinematics and dynamics of a serial arm, in f64: poses, Jacobian, mass matrix, bias torques.
//!
//! The physics engine moves the arm; this module answers the questions of the controller about it.
#![allow(clippy::needless_range_loop, reason = "indices are the notation of the algorithms")]

use bevy::math::{DMat3, DQuat, DVec3, EulerRot};
use bevy_rapier3d::rapier::glamx::DPose3;

use crate::robot::{ARM_JOINTS, Inertial, Robot};

/// Mass of a body, with its centre and its inertia about that centre, in some frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RigidInertia {
    pub(crate) mass: f64,
    pub(crate) center: DVec3,
    pub(crate) inertia: DMat3,
}

impl RigidInertia {
    pub(crate) const ZERO: Self = Self { mass: 0.0, center: DVec3::ZERO, inertia: DMat3::ZERO };

    fn from_data(inertial: &Inertial) -> Self {
        Self {
            mass: inertial.mass,
            center: inertial.center_of_mass.into(),
            inertia: DMat3::from_diagonal(inertial.inertia.into()),
        }
    }

    /// All masses of a list as one body.
    pub(crate) fn sum(inertials: &[Inertial]) -> Self {
        inertials.iter().fold(Self::ZERO, |sum, inertial| sum.merge(&Self::from_data(inertial)))
    }

    /// This body seen from the frame in which it has `pose`.
    fn transformed(&self, pose: &DPose3) -> Self {
        let rotation = DMat3::from_quat(pose.rotation);
        Self {
            mass: self.mass,
            center: pose.transform_point(self.center),
            inertia: rotation * self.inertia * rotation.transpose(),
        }
    }

    /// Two bodies of one frame, fixed to each other.
    pub(crate) fn merge(&self, other: &Self) -> Self {
        let mass = self.mass + other.mass;
        if mass <= 0.0 {
            return Self::ZERO;
        }
        let center = (self.center * self.mass + other.center * other.mass) / mass;
        // Steiner's theorem for both.
        let steiner = |body: &Self| {
            let d = body.center - center;
            (DMat3::from_diagonal(DVec3::splat(d.length_squared())) - outer(d)) * body.mass
        };
        Self { mass, center, inertia: self.inertia + other.inertia + steiner(self) + steiner(other) }
    }
}

fn outer(v: DVec3) -> DMat3 {
    DMat3::from_cols(v * v.x, v * v.y, v * v.z)
}

/// A pose from a data file: position and fixed-axis roll, pitch, yaw.
pub(crate) fn pose_from_data(position: [f64; 3], [roll, pitch, yaw]: [f64; 3]) -> DPose3 {
    DPose3::from_parts(position.into(), DQuat::from_euler(EulerRot::ZYX, yaw, pitch, roll))
}

/// The half turn about z that makes the right finger of the left one.
pub(crate) fn half_turn() -> DQuat {
    DQuat::from_xyzw(0.0, 0.0, 1.0, 0.0)
}

/// A serial arm on its base, as the controller sees it: seven revolute joints, the hand fixed to the last link.
#[derive(Debug, Clone)]
pub struct Chain {
    base: DPose3,
    /// Joint frames in the frame of the link before, at joint angle zero.
    origins: [DPose3; ARM_JOINTS],
    /// Masses in the links' frames; the last one carries hand and fingers.
    bodies: [RigidInertia; ARM_JOINTS],
    /// Motors' inertias seen at the joints.
    armature: [f64; ARM_JOINTS],
    hand: DPose3,
    site: DVec3,
}

/// Where all links of an arm are, for one configuration. World frame, Z up.
#[derive(Debug, Clone, Copy)]
pub struct ArmPose {
    /// Frames of the links.
    pub links: [DPose3; ARM_JOINTS],
    /// Frame of the hand.
    pub hand: DPose3,
    /// The grip site, between the finger tips.
    pub site: DVec3,
    /// Joint axes.
    axes: [DVec3; ARM_JOINTS],
}

/// Columns of the grip site's Jacobian: linear over angular velocity per joint velocity.
pub(crate) type Jacobian = [[f64; 6]; ARM_JOINTS];

impl Chain {
    /// The arm of `robot` with its base at `base_position`.
    #[must_use]
    pub fn new(robot: &Robot, base_position: [f64; 3]) -> Self {
        let mut origins = [DPose3::IDENTITY; ARM_JOINTS];
        let mut bodies = [RigidInertia::ZERO; ARM_JOINTS];
        let mut armature = [0.0; ARM_JOINTS];
        for (i, link) in robot.links.iter().take(ARM_JOINTS).enumerate() {
            origins[i] = pose_from_data(link.position, link.rpy);
            bodies[i] = RigidInertia::sum(&link.inertials);
            armature[i] = link.armature;
        }
        let hand = pose_from_data(robot.hand.position, robot.hand.rpy);
        // The fingers' travel hardly moves the arm's inertia: they are taken half open.
        let finger = RigidInertia::sum(&robot.gripper.inertials);
        for rotation in [DQuat::IDENTITY, half_turn()] {
            let opening = rotation * DVec3::Y * (0.5 * (robot.gripper.travel[0] + robot.gripper.travel[1]));
            let pose = hand * DPose3::from_parts(DVec3::from(robot.gripper.position) + opening, rotation);
            bodies[ARM_JOINTS - 1] = bodies[ARM_JOINTS - 1].merge(&finger.transformed(&pose));
        }
        Self {
            base: DPose3::from_translation(base_position.into()),
            origins,
            bodies,
            armature,
            hand,
            site: robot.hand.grip_site.into(),
        }
    }

    /// Forward kinematics.
    #[must_use]
    pub fn pose(&self, joint_positions: &[f64; ARM_JOINTS]) -> ArmPose {
        let mut links = [DPose3::IDENTITY; ARM_JOINTS];
        let mut axes = [DVec3::Z; ARM_JOINTS];
        let mut pose = self.base;
        for i in 0..ARM_JOINTS {
            let (sin, cos) = libm::sincos(0.5 * joint_positions[i]);
            pose *= self.origins[i];
            pose.rotation *= DQuat::from_xyzw(0.0, 0.0, sin, cos);
            links[i] = pose;
            axes[i] = pose.rotation * DVec3::Z;
        }
        let hand = pose * self.hand;
        ArmPose { links, hand, site: hand.transform_point(self.site), axes }
    }

    pub(crate) fn jacobian(&self, pose: &ArmPose) -> Jacobian {
        let mut jacobian = [[0.0; 6]; ARM_JOINTS];
        for ((column, axis), link) in jacobian.iter_mut().zip(&pose.axes).zip(&pose.links) {
            let linear = axis.cross(pose.site - link.translation);
            *column = [linear.x, linear.y, linear.z, axis.x, axis.y, axis.z];
        }
        jacobian
    }

    /// The joint-space mass matrix, and the torques that hold the arm up against `gravity` (m/s², world frame).
    ///
    /// Composite rigid bodies (Featherstone 2008, section 6.2), in world coordinates.
    pub(crate) fn mass_matrix_and_gravity(
        &self,
        pose: &ArmPose,
        gravity: DVec3,
    ) -> ([[f64; ARM_JOINTS]; ARM_JOINTS], [f64; ARM_JOINTS]) {
        let mut mass_matrix = [[0.0; ARM_JOINTS]; ARM_JOINTS];
        let mut holding = [0.0; ARM_JOINTS];
        let mut composite = RigidInertia::ZERO;
        for k in (0..ARM_JOINTS).rev() {
            composite = composite.merge(&self.bodies[k].transformed(&pose.links[k]));
            let axis = pose.axes[k];
            let arm = composite.center - pose.links[k].translation;
            // Force and moment (about the composite's centre) of a unit acceleration of joint k.
            let force = axis.cross(arm) * composite.mass;
            let moment = composite.inertia * axis;
            for j in 0..=k {
                let lever = composite.center - pose.links[j].translation;
                let value = pose.axes[j].dot(moment + lever.cross(force));
                mass_matrix[j][k] = value;
                mass_matrix[k][j] = value;
            }
            mass_matrix[k][k] += self.armature[k];
            holding[k] = -axis.dot(arm.cross(gravity * composite.mass));
        }
        (mass_matrix, holding)
    }

    /// Coriolis and centrifugal torques: recursive Newton-Euler without accelerations and gravity.
    pub(crate) fn velocity_torques(&self, pose: &ArmPose, joint_velocities: &[f64; ARM_JOINTS]) -> [f64; ARM_JOINTS] {
        let mut forces = [DVec3::ZERO; ARM_JOINTS];
        let mut moments = [DVec3::ZERO; ARM_JOINTS];
        let (mut omega, mut alpha, mut acceleration) = (DVec3::ZERO, DVec3::ZERO, DVec3::ZERO);
        let mut origin = self.base.translation;
        for i in 0..ARM_JOINTS {
            let step = pose.links[i].translation - origin;
            origin = pose.links[i].translation;
            acceleration += alpha.cross(step) + omega.cross(omega.cross(step));
            let spin = pose.axes[i] * joint_velocities[i];
            alpha += omega.cross(spin);
            omega += spin;
            let body = self.bodies[i].transformed(&pose.links[i]);
            let arm = body.center - origin;
            forces[i] = (acceleration + alpha.cross(arm) + omega.cross(omega.cross(arm))) * body.mass;
            moments[i] = body.inertia * alpha + omega.cross(body.inertia * omega) + arm.cross(forces[i]);
        }
        let mut torques = [0.0; ARM_JOINTS];
        let (mut force, mut moment) = (DVec3::ZERO, DVec3::ZERO);
        for i in (0..ARM_JOINTS).rev() {
            if i + 1 < ARM_JOINTS {
                moment += (pose.links[i + 1].translation - pose.links[i].translation).cross(force);
            }
            force += forces[i];
            moment += moments[i];
            torques[i] = pose.axes[i].dot(moment);
        }
        torques
    }
}

impl ArmPose {
    /// Joint axes in the world.
    #[must_use]
    pub fn axes(&self) -> &[DVec3; ARM_JOINTS] {
        &self.axes
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    fn lift_chain() -> (Chain, [f64; ARM_JOINTS]) {
        let robot = Robot::panda().unwrap();
        let home = robot.home.joint_positions.clone().try_into().unwrap();
        (Chain::new(&robot, [-0.56, 0.0, 0.912]), home)
    }

    #[test]
    fn the_grip_site_is_where_robosuite_has_it() {
        let (chain, home) = lift_chain();
        let site = chain.pose(&home).site;
        assert!((site - DVec3::new(-0.104, 0.0, 1.012)).length() < 0.002, "{site}");
    }

    #[test]
    fn the_jacobian_is_the_derivative_of_the_pose() {
        let (chain, mut q) = lift_chain();
        q[0] = 0.3;
        q[2] = -0.4;
        let jacobian = chain.jacobian(&chain.pose(&q));
        for (j, column) in jacobian.iter().enumerate() {
            let mut moved = q;
            moved[j] += 1e-6;
            let (before, after) = (chain.pose(&q), chain.pose(&moved));
            let linear = (after.site - before.site) / 1e-6;
            assert!((linear - DVec3::new(column[0], column[1], column[2])).length() < 1e-5);
            let turn = (after.hand.rotation * before.hand.rotation.inverse()).to_scaled_axis() / 1e-6;
            assert!((turn - DVec3::new(column[3], column[4], column[5])).length() < 1e-5);
        }
    }

    #[test]
    fn gravity_torques_are_the_gradient_of_the_potential() {
        let (chain, mut q) = lift_chain();
        q[0] = 0.3;
        let gravity = DVec3::new(0.5, -1.0, -9.81);
        let potential = |q: &[f64; ARM_JOINTS]| -> f64 {
            let pose = chain.pose(q);
            chain.bodies.iter().zip(&pose.links).map(|(b, l)| -b.mass * gravity.dot(l.transform_point(b.center))).sum()
        };
        let (_, holding) = chain.mass_matrix_and_gravity(&chain.pose(&q), gravity);
        for j in 0..ARM_JOINTS {
            let (mut low, mut high) = (q, q);
            low[j] -= 1e-5;
            high[j] += 1e-5;
            let gradient = (potential(&high) - potential(&low)) / 2e-5;
            assert!((gradient - holding[j]).abs() < 1e-6, "joint {j}: {gradient} {}", holding[j]);
        }
    }

    #[test]
    fn velocity_torques_conserve_energy() {
        // d/dt (q' M q' / 2) = q'ᵀ (M' q') / 2 must equal q'ᵀ C: the power of the Coriolis torques.
        let (chain, q) = lift_chain();
        let v = [0.3, -0.5, 0.7, 0.2, -0.9, 0.4, 1.1];
        let energy = |q: &[f64; ARM_JOINTS]| -> f64 {
            let (m, _) = chain.mass_matrix_and_gravity(&chain.pose(q), DVec3::ZERO);
            (0..ARM_JOINTS)
                .flat_map(|i| (0..ARM_JOINTS).map(move |j| (i, j)))
                .map(|(i, j)| 0.5 * v[i] * m[i][j] * v[j])
                .sum()
        };
        let moved = |h: f64| std::array::from_fn(|i| q[i] + h * v[i]);
        let rate = (energy(&moved(1e-5)) - energy(&moved(-1e-5))) / 2e-5;
        let torques = chain.velocity_torques(&chain.pose(&q), &v);
        let power: f64 = torques.iter().zip(v).map(|(t, v)| t * v).sum();
        assert!((rate - power).abs() < 1e-6, "{rate} {power}");
    }
}
