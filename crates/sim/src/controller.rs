//! Operational-space control of the arm and the servo of the gripper.
//!
//! The arm follows Khatib, "A unified approach for motion and force control of robot manipulators: the operational
//! space formulation" (1987), in the form of robosuite's `OSC_POSE` with fixed impedance, delta actions and uncoupled
//! translation and rotation. Per physics step, from a goal that stays fixed during a control step:
//!
//! ```text
//! F = Λ_p (k e_p - d v),  T = Λ_r (k e_r - d ω),  d = 2 ζ √k
//! τ = Jᵀ [F; T] + C(q, q') + g(q) + Nᵀ M (k_n (q_0 - q) - 2 √k_n q')
//! ```
//!
//! clipped to the motors' limits. `Λ_p = (J_p M⁻¹ J_pᵀ)⁻¹`, likewise `Λ_r`; `N` projects on the null space of the whole
//! Jacobian. The arm's links feel no gravity in the physics world, which is the same as adding `g(q)` exactly; `g(q)`
//! is taken into account where the torques are clipped.

use bevy::math::{DMat3, DQuat, DVec3};

use crate::kinematics::{ArmPose, Chain};
use crate::linalg::Cholesky;
use crate::robot::{ARM_JOINTS, Controller, Gripper, Robot};

/// Numbers of an action: three for translation, three for rotation, one for the gripper.
pub const ACTION_DIM: usize = 7;

/// The goal of a control step, in the world.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Goal {
    position: DVec3,
    rotation: DMat3,
}

impl Goal {
    /// The pose reached so far, moved by the action: translation added, rotation multiplied from the left.
    pub(crate) fn new(settings: &Controller, pose: &ArmPose, action: &[f32; ACTION_DIM]) -> Self {
        let [x, y, z, rx, ry, rz, _] = action.map(f64::from);
        let turn = DQuat::from_scaled_axis(DVec3::new(rx, ry, rz) * settings.rotation_scale);
        Self {
            position: pose.site + DVec3::new(x, y, z) * settings.position_scale,
            rotation: DMat3::from_quat((turn * pose.hand.rotation).normalize()),
        }
    }
}

/// The arm's controller. Its only memory is the joint positions at reset.
#[derive(Debug, Clone)]
pub(crate) struct ArmController {
    settings: Controller,
    effort_limits: [f64; ARM_JOINTS],
    friction_loss: [f64; ARM_JOINTS],
    rest: [f64; ARM_JOINTS],
    gravity: DVec3,
}

impl ArmController {
    pub(crate) fn new(robot: &Robot, rest: [f64; ARM_JOINTS], gravity: f64) -> Self {
        let mut effort_limits = [f64::INFINITY; ARM_JOINTS];
        let mut friction_loss = [0.0; ARM_JOINTS];
        for (i, link) in robot.links.iter().take(ARM_JOINTS).enumerate() {
            effort_limits[i] = link.effort_limit;
            friction_loss[i] = link.friction_loss;
        }
        let gravity = DVec3::new(0.0, 0.0, gravity);
        Self { settings: robot.controller.clone(), effort_limits, friction_loss, rest, gravity }
    }

    /// Torques on the joints for one physics step of `dt`: the motors', less dry friction, without the part that holds
    /// the arm up against gravity.
    pub(crate) fn torques(
        &self,
        chain: &Chain,
        pose: &ArmPose,
        goal: &Goal,
        q: &[f64; ARM_JOINTS],
        qd: &[f64; ARM_JOINTS],
        dt: f64,
    ) -> ArmTorques {
        let settings = &self.settings;
        let jacobian = chain.jacobian(pose);
        let (mass, holding) = chain.mass_matrix_and_gravity(pose, self.gravity);
        let velocity_torques = chain.velocity_torques(pose, qd);

        let mut twist = [0.0; 6];
        for (column, rate) in jacobian.iter().zip(qd) {
            for (sum, entry) in twist.iter_mut().zip(column) {
                *sum += entry * rate;
            }
        }
        let (linear, angular) = (DVec3::from_slice(&twist[..3]), DVec3::from_slice(&twist[3..]));
        let damping = 2.0 * settings.damping_ratio * settings.stiffness.sqrt();
        let rotation = DMat3::from_quat(pose.hand.rotation);
        let rotation_error = 0.5
            * (rotation.x_axis.cross(goal.rotation.x_axis)
                + rotation.y_axis.cross(goal.rotation.y_axis)
                + rotation.z_axis.cross(goal.rotation.z_axis));
        let wanted_linear = settings.stiffness * (goal.position - pose.site) - damping * linear;
        let wanted_angular = settings.stiffness * rotation_error - damping * angular;

        // M⁻¹ Jᵀ, row by row of J, and J M⁻¹ Jᵀ.
        let mass_factor = Cholesky::new(mass, 1e-9);
        let rows: [[f64; ARM_JOINTS]; 6] = std::array::from_fn(|i| std::array::from_fn(|j| jacobian[j][i]));
        let solved = rows.map(|row| mass_factor.solve(row));
        let mut mobility = [[0.0; 6]; 6];
        for i in 0..6 {
            for j in 0..=i {
                let value = rows[i].iter().zip(&solved[j]).map(|(a, b)| a * b).sum();
                mobility[i][j] = value;
                mobility[j][i] = value;
            }
        }
        let block =
            |o: usize| -> [[f64; 3]; 3] { std::array::from_fn(|i| std::array::from_fn(|j| mobility[o + i][o + j])) };
        // Near a singular pose the mobility vanishes along one direction; the floor bounds the force there.
        let force = Cholesky::new(block(0), MOBILITY_FLOOR).solve(wanted_linear.to_array());
        let torque = Cholesky::new(block(3), MOBILITY_FLOOR).solve(wanted_angular.to_array());

        // Null space: τ_n - Jᵀ Λ J M⁻¹ τ_n with τ_n = M (...).
        let nullspace_damping = 2.0 * settings.nullspace_stiffness.sqrt();
        let wanted: [f64; ARM_JOINTS] =
            std::array::from_fn(|j| settings.nullspace_stiffness * (self.rest[j] - q[j]) - nullspace_damping * qd[j]);
        let posture: [f64; ARM_JOINTS] = mass.map(|row| row.iter().zip(&wanted).map(|(a, b)| a * b).sum());
        let leak = solved.map(|row| row.iter().zip(&posture).map(|(a, b)| a * b).sum());
        let leak = Cholesky::new(mobility, MOBILITY_FLOOR).solve(leak);

        let wrench: [f64; 6] = [
            force[0] - leak[0],
            force[1] - leak[1],
            force[2] - leak[2],
            torque[0] - leak[3],
            torque[1] - leak[4],
            torque[2] - leak[5],
        ];
        let on_joints = std::array::from_fn(|j| {
            let task: f64 = jacobian[j].iter().zip(&wrench).map(|(a, b)| a * b).sum();
            let motor = task + posture[j] + velocity_torques[j] + holding[j];
            let motor = motor.clamp(-self.effort_limits[j], self.effort_limits[j]) - holding[j];
            // Dry friction takes what it needs to stop the joint within the step, up to its limit.
            let stopping = motor - velocity_torques[j] + mass[j][j] * qd[j] / dt;
            motor - stopping.clamp(-self.friction_loss[j], self.friction_loss[j])
        });
        ArmTorques { on_joints, velocity_torques, mass: mass_factor }
    }
}

/// What acts on the joints in a physics step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ArmTorques {
    /// To apply: motors less dry friction, without the part that holds the arm up.
    pub(crate) on_joints: [f64; ARM_JOINTS],
    velocity_torques: [f64; ARM_JOINTS],
    mass: Cholesky<ARM_JOINTS>,
}

impl ArmTorques {
    /// Accelerations of the joints when the arm touches nothing.
    pub(crate) fn free_accelerations(&self) -> [f64; ARM_JOINTS] {
        self.mass.solve(std::array::from_fn(|j| self.on_joints[j] - self.velocity_torques[j]))
    }
}

/// Smallest pivot of a mobility matrix, 1/kg: less is taken for a singular direction.
const MOBILITY_FLOOR: f64 = 1e-4;

/// The gripper's command and servo. Both fingers mirror each other.
#[derive(Debug, Clone)]
pub(crate) struct GripperController {
    settings: Gripper,
    /// From -1 (open) to 1 (closed); zero at reset.
    command: f64,
    moving_mass: f64,
}

impl GripperController {
    pub(crate) fn new(robot: &Robot) -> Self {
        let settings = robot.gripper.clone();
        let moving_mass = settings.armature + settings.inertials.iter().map(|i| i.mass).sum::<f64>();
        Self { settings, command: 0.0, moving_mass }
    }

    /// Takes over the gripper's number of an action: only its sign counts, zero holds.
    pub(crate) fn command(&mut self, action: f32) {
        if action != 0.0 {
            let step = self.settings.command_step * f64::from(action.signum());
            self.command = (self.command + step).clamp(-1.0, 1.0);
        }
    }

    /// Force on one finger for a physics step of `dt`, towards opening. Viscous friction is the physics engine's.
    pub(crate) fn force(&self, position: f64, velocity: f64, dt: f64) -> f64 {
        let s = &self.settings;
        let [closed, open] = s.travel;
        let target = 0.5 * ((closed + open) - (open - closed) * self.command);
        let servo = (s.stiffness * (target - position)).clamp(-s.force_limit, s.force_limit);
        // Dry friction takes what it needs to stop the finger within the step, up to its limit.
        let stopping = servo + self.moving_mass * velocity / dt;
        servo - stopping.clamp(-s.friction_loss, s.friction_loss)
    }
}
