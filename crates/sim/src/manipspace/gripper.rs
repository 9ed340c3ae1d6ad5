//! The crank gripper: geometry and servo.

use super::robot::{Crank, CrankGripper};

impl Crank {
    /// Half gap between the pads at an angle of the crank.
    #[must_use]
    pub fn half_gap(&self, angle: f64) -> f64 {
        self.offset + self.radius * libm::cos(angle + self.phase)
    }

    /// Angle of the crank at a half gap between the pads.
    #[must_use]
    pub fn angle(&self, half_gap: f64) -> f64 {
        libm::acos(((half_gap - self.offset) / self.radius).clamp(-1.0, 1.0)) - self.phase
    }

    /// How far a finger moves per angle, in size.
    #[must_use]
    pub fn lever(&self, angle: f64) -> f64 {
        self.radius * libm::sin(angle + self.phase)
    }
}

/// What the servo does to one finger in a physics step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct FingerDrive {
    /// Force towards opening, N, without what `damping` takes.
    pub(crate) force: f64,
    /// Viscous friction, N s/m; the engine integrates it implicitly.
    pub(crate) damping: f64,
    /// Inertia of the drive seen at the finger, kg.
    pub(crate) armature: f64,
}

impl CrankGripper {
    /// How far the gripper is closed, from 0 to 1.
    #[must_use]
    pub fn closure(&self, crank_angle: f64) -> f64 {
        (crank_angle / self.crank_travel[1]).clamp(0.0, 1.0)
    }

    /// The drive of a finger at a half gap, which changes at a rate, towards a target angle of the crank, with the
    /// servo's stiffness times a factor.
    pub(crate) fn drive(&self, half_gap: f64, rate: f64, target: f64, factor: f64) -> FingerDrive {
        let angle = self.crank.angle(half_gap);
        let lever = self.crank.lever(angle).max(1e-3);
        let angle_rate = -rate / lever;
        let spring = factor * self.stiffness * (target - angle);
        let servo = spring - self.servo_damping * angle_rate;
        // A saturated servo has no damping left: its torque does not depend on the rate any more.
        let (torque, damping) = if servo.abs() >= self.torque_limit {
            (servo.clamp(-self.torque_limit, self.torque_limit), self.damping)
        } else {
            (spring, self.servo_damping + self.damping)
        };
        let torque = torque + self.spring.stiffness * (self.spring.rest - angle);
        // The crank moves two fingers; a torque that closes pulls a finger inwards.
        FingerDrive {
            force: -0.5 * torque / lever,
            damping: 0.5 * damping / (lever * lever),
            armature: 0.5 * self.armature / (lever * lever),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use crate::manipspace::ServoRobot;

    #[test]
    fn the_gap_is_where_the_original_has_it() {
        // Crank angle, and the mean distance of the pads' middles from the hand's plane, less 3.5 mm: half of a pad, of
        // which half a millimetre is pressed into a held block. Measured in the original.
        let crank = ServoRobot::ur5e().unwrap().gripper.crank;
        for (angle, middle) in [(0.0026, 0.04658), (0.1907, 0.03752), (0.4257, 0.02483), (0.7548, 0.005715)] {
            assert!((crank.half_gap(angle) - (middle - 0.0035)).abs() < 1e-4, "{}", crank.half_gap(angle));
            assert!((crank.angle(crank.half_gap(angle)) - angle).abs() < 1e-9);
        }
    }

    #[test]
    fn a_block_is_held_with_the_originals_force() {
        // 46.1 N on a pad at the crank angle at which it holds a block of 4 cm, from the original's contact forces.
        let gripper = ServoRobot::ur5e().unwrap().gripper.clone();
        let drive = gripper.drive(0.02, 0.0, 0.8, 1.0);
        assert!((gripper.crank.angle(0.02) - 0.449).abs() < 0.003, "{}", gripper.crank.angle(0.02));
        assert!((drive.force + 46.1).abs() < 2.0, "{drive:?}");
    }
}
