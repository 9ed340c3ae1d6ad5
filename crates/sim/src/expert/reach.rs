//! Moving a hand to a place: what scripted plans are made of.

use bevy::math::{DQuat, DVec3};

use crate::controller::ACTION_DIM;
use crate::task::ArmView;

/// What the fingers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grip {
    /// Open.
    Open,
    /// Close.
    Close,
}

/// Where a hand should go: proportional control towards a pose, along a straight line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reach {
    /// Where the grip site should be.
    pub position: DVec3,
    /// How the hand should be turned.
    pub rotation: DQuat,
    /// What the fingers do.
    pub grip: Grip,
    /// Largest number of the action for translation; 1 is full speed, about 0.25 m/s.
    pub speed: f64,
}

/// Action per metre and per radian of error.
const TRANSLATION_GAIN: f64 = 50.0;
const ROTATION_GAIN: f64 = 4.0;

impl Reach {
    /// To a pose at full speed.
    #[must_use]
    pub fn new(position: DVec3, rotation: DQuat, grip: Grip) -> Self {
        Self { position, rotation, grip, speed: 1.0 }
    }

    /// The same, slower.
    #[must_use]
    pub fn slowly(self, speed: f64) -> Self {
        Self { speed, ..self }
    }

    /// The turn that is left, as a rotation vector in the world.
    fn turn(&self, arm: &ArmView) -> DVec3 {
        let turn = self.rotation * arm.hand.inverse();
        // The shorter way round.
        if turn.w < 0.0 { (-turn).to_scaled_axis() } else { turn.to_scaled_axis() }
    }

    /// Whether the hand is there, within so many metres and radians.
    #[must_use]
    pub fn reached(&self, arm: &ArmView, distance: f64, angle: f64) -> bool {
        (self.position - arm.grip_site).length() < distance && self.turn(arm).length() < angle
    }

    /// The action towards it: translation, rotation vector, gripper.
    #[must_use]
    pub fn action(&self, arm: &ArmView) -> [f32; ACTION_DIM] {
        let limited = |vector: DVec3, limit: f64| vector * (limit / vector.abs().max_element().max(limit));
        let translation = limited((self.position - arm.grip_site) * TRANSLATION_GAIN, self.speed).as_vec3();
        let rotation = limited(self.turn(arm) * ROTATION_GAIN, 1.0).as_vec3();
        let grip = match self.grip {
            Grip::Open => -1.0,
            Grip::Close => 1.0,
        };
        [translation.x, translation.y, translation.z, rotation.x, rotation.y, rotation.z, grip]
    }
}

/// A hand that points straight down. At a yaw of 0 its fingers open along y, as at home.
#[must_use]
pub fn down(yaw: f64) -> DQuat {
    DQuat::from_rotation_z(yaw) * DQuat::from_xyzw(1.0, 0.0, 0.0, 0.0)
}

/// The shortest turn from one angle to another, where angles that differ by `period` are the same.
#[must_use]
pub fn turn_between(from: f64, to: f64, period: f64) -> f64 {
    let turn = to - from;
    turn - period * (turn / period).round()
}

impl ArmView {
    /// The yaw for which [`down`] is nearest to the hand.
    #[must_use]
    pub fn yaw(&self) -> f64 {
        angle(self.hand * DVec3::X)
    }
}

/// Angle of a vector's projection on the ground about z.
pub(crate) fn angle(v: DVec3) -> f64 {
    libm::atan2(v.y, v.x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::{FRAC_PI_2, PI};

    #[test]
    fn a_hand_that_is_there_does_not_move() {
        let arm = ArmView { grip_site: DVec3::new(0.1, 0.2, 1.0), hand: down(0.4), fingers: [0.02; 2] };
        assert!((arm.yaw() - 0.4).abs() < 1e-9);
        let there = Reach::new(arm.grip_site, -arm.hand, Grip::Close);
        assert!(there.reached(&arm, 1e-6, 1e-6));
        assert!(there.action(&arm)[..6].iter().all(|value| value.abs() < 1e-5));
        let far = Reach::new(arm.grip_site + DVec3::new(1.0, -0.5, 0.0), down(0.6), Grip::Open).slowly(0.5);
        let action = far.action(&arm);
        assert_eq!((action[0], action[1], action[6]), (0.5, -0.25, -1.0));
        assert!(action[5] > 0.0 && action[3].abs() < 1e-6);
    }

    #[test]
    fn turns_are_short() {
        assert!((turn_between(0.0, 3.0, PI) - (3.0 - PI)).abs() < 1e-12);
        assert!((turn_between(1.0, 1.2, FRAC_PI_2) - 0.2).abs() < 1e-12);
    }
}
