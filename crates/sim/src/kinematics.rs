//! Kinematics and dynamics of a serial arm, in f64: poses, Jacobian, mass matrix, bias torques.
//!
//! The physics engine moves the arm; this module answers the questions of the controller about it.
#![allow(clippy::needless_range_loop, reason = "indices are the notation of the algorithms")]

use bevy::math::{DMat3, DQuat, DVec3, EulerRot};
use bevy_rapier3d::rapier::glamx::DPose3;

use crate::robot::{ARM_JOINTS, Hand, Inertial, Link, Robot};

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
    pub(crate) fn transformed(&self, pose: &DPose3) -> Self {
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

/// A serial arm on its base, as the controller sees it: `N` revolute joints, the hand fixed to the last link.
#[derive(Debug, Clone)]
pub struct Chain<const N: usize = ARM_JOINTS> {
    base: DPose3,
    /// Joint frames in the frame of the link before, at joint angle zero.
    origins: [DPose3; N],
    /// Masses in the links' frames; the last one carries hand and fingers.
    bodies: [RigidInertia; N],
    /// Motors' inertias seen at the joints.
    armature: [f64; N],
    hand: DPose3,
    site: DVec3,
}

/// Where all links of an arm are, for one configuration. World frame, Z up.
#[derive(Debug, Clone, Copy)]
pub struct ArmPose<const N: usize = ARM_JOINTS> {
    /// Frames of the links.
    pub links: [DPose3; N],
    /// Frame of the hand.
    pub hand: DPose3,
    /// The grip site, between the finger tips.
    pub site: DVec3,
    /// Joint axes.
    axes: [DVec3; N],
}

/// Columns of the grip site's Jacobian: linear over angular velocity per joint velocity.
pub(crate) type Jacobian<const N: usize = ARM_JOINTS> = [[f64; 6]; N];

impl Chain {
    /// The arm of `robot` with its base at `base_position`.
    #[must_use]
    pub fn new(robot: &Robot, base_position: [f64; 3]) -> Self {
        let hand = pose_from_data(robot.hand.position, robot.hand.rpy);
        // The fingers' travel hardly moves the arm's inertia: they are taken half open.
        let finger = RigidInertia::sum(&robot.gripper.inertials);
        let fingers = [DQuat::IDENTITY, half_turn()].map(|rotation| {
            let opening = rotation * DVec3::Y * (0.5 * (robot.gripper.travel[0] + robot.gripper.travel[1]));
            let pose = hand * DPose3::from_parts(DVec3::from(robot.gripper.position) + opening, rotation);
            finger.transformed(&pose)
        });
        Self::of_links(DPose3::from_translation(base_position.into()), &robot.links, &robot.hand, &fingers)
    }
}

impl<const N: usize> Chain<N> {
    /// The arm that stands at `base`. The last link carries `carried`, given in its frame.
    pub(crate) fn of_links(base: DPose3, parts: &[Link], hand: &Hand, carried: &[RigidInertia]) -> Self {
        let mut origins = [DPose3::IDENTITY; N];
        let mut bodies = [RigidInertia::ZERO; N];
        let mut armature = [0.0; N];
        for (i, link) in parts.iter().take(N).enumerate() {
            origins[i] = pose_from_data(link.position, link.rpy);
            bodies[i] = RigidInertia::sum(&link.inertials);
            armature[i] = link.armature;
        }
        if let Some(last) = bodies.last_mut() {
            *last = carried.iter().fold(*last, |sum, mass| sum.merge(mass));
        }
        Self {
            base,
            origins,
            bodies,
            armature,
            hand: pose_from_data(hand.position, hand.rpy),
            site: hand.grip_site.into(),
        }
    }

    /// Mass of the moving parts, and its centre.
    pub(crate) fn center_of_mass(&self, pose: &ArmPose<N>) -> (f64, DVec3) {
        let all = self.bodies.iter().zip(&pose.links);
        let (mass, sum) = all.fold((0.0, DVec3::ZERO), |(mass, sum), (body, link)| {
            (mass + body.mass, sum + body.mass * link.transform_point(body.center))
        });
        (mass, sum / mass)
    }

    /// The same arm on a base that stands elsewhere.
    #[must_use]
    pub fn on(mut self, base: DPose3) -> Self {
        self.base = base;
        self
    }

    /// Forward kinematics.
    #[must_use]
    pub fn pose(&self, joint_positions: &[f64; N]) -> ArmPose<N> {
        let mut links = [DPose3::IDENTITY; N];
        let mut axes = [DVec3::Z; N];
        let mut pose = self.base;
        for i in 0..N {
            let (sin, cos) = libm::sincos(0.5 * joint_positions[i]);
            pose *= self.origins[i];
            pose.rotation *= DQuat::from_xyzw(0.0, 0.0, sin, cos);
            links[i] = pose;
            axes[i] = pose.rotation * DVec3::Z;
        }
        let hand = pose * self.hand;
        ArmPose { links, hand, site: hand.transform_point(self.site), axes }
    }

    /// The grip site in the hand's frame.
    pub(crate) fn site_in_hand(&self) -> DVec3 {
        self.site
    }

    pub(crate) fn jacobian(&self, pose: &ArmPose<N>) -> Jacobian<N> {
        self.jacobian_at(pose, pose.site)
    }

    /// The Jacobian of a point that is fixed to the hand, given in the world.
    pub(crate) fn jacobian_at(&self, pose: &ArmPose<N>, point: DVec3) -> Jacobian<N> {
        let mut jacobian = [[0.0; 6]; N];
        for ((column, axis), link) in jacobian.iter_mut().zip(&pose.axes).zip(&pose.links) {
            let linear = axis.cross(point - link.translation);
            *column = [linear.x, linear.y, linear.z, axis.x, axis.y, axis.z];
        }
        jacobian
    }

    /// The joint-space mass matrix, and the torques that hold the arm up against `gravity` (m/s², world frame).
    ///
    /// Composite rigid bodies (Featherstone 2008, section 6.2), in world coordinates.
    pub(crate) fn mass_matrix_and_gravity(&self, pose: &ArmPose<N>, gravity: DVec3) -> ([[f64; N]; N], [f64; N]) {
        let mut mass_matrix = [[0.0; N]; N];
        let mut holding = [0.0; N];
        let mut composite = RigidInertia::ZERO;
        for k in (0..N).rev() {
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
    pub(crate) fn velocity_torques(&self, pose: &ArmPose<N>, joint_velocities: &[f64; N]) -> [f64; N] {
        let mut forces = [DVec3::ZERO; N];
        let mut moments = [DVec3::ZERO; N];
        let (mut omega, mut alpha, mut acceleration) = (DVec3::ZERO, DVec3::ZERO, DVec3::ZERO);
        let mut origin = self.base.translation;
        for i in 0..N {
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
        let mut torques = [0.0; N];
        let (mut force, mut moment) = (DVec3::ZERO, DVec3::ZERO);
        for i in (0..N).rev() {
            if i + 1 < N {
                moment += (pose.links[i + 1].translation - pose.links[i].translation).cross(force);
            }
            force += forces[i];
            moment += moments[i];
            torques[i] = pose.axes[i].dot(moment);
        }
        torques
    }
}

impl<const N: usize> ArmPose<N> {
    /// Joint axes in the world.
    #[must_use]
    pub fn axes(&self) -> &[DVec3; N] {
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
