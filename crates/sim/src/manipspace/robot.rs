//! The data file of an arm with position servos and a crank gripper.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use crate::SimError;
use crate::robot::{Base, BoxCollider, Hand, Inertial, Link};
use crate::scene;

/// Joints of the arm.
pub const SERVO_JOINTS: usize = 6;

/// The embedded description of the UR5e.
const UR5E: &str = include_str!("../../../../assets/robots/ur5e.toml");

/// An arm whose joints are position servos, with a gripper of two coupled fingers, as its data file describes it.
///
/// The file's format is that of [`Robot`](crate::Robot): TOML, unknown fields are refused, metres, radians, kilograms,
/// each joint turns about its frame's z axis. What differs is the controller and the gripper.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServoRobot {
    /// Name of the robot.
    pub name: String,
    /// Configuration from which the inverse kinematics starts at reset.
    pub home: ServoHome,
    /// The link that stands still.
    pub base: Base,
    /// The moving links from base to flange.
    pub links: Vec<Link>,
    /// The gripper's housing, fixed to the last link.
    pub hand: Hand,
    /// The two fingers and their drive.
    pub gripper: CrankGripper,
    /// Servos of the joints and the scales of an action.
    pub controller: PositionServos,
}

/// Configuration from which the inverse kinematics starts at reset.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServoHome {
    /// One angle for each link.
    pub joint_positions: Vec<f64>,
}

/// Two coupled fingers driven by a crank. The left finger is the right one turned by half a turn about the hand's z axis.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrankGripper {
    /// Names of the right and the left finger.
    pub finger_names: [String; 2],
    /// Where both fingers meet, in the hand's frame. Fingers open along y.
    pub position: [f64; 3],
    /// How the angle of the crank moves a finger.
    pub crank: Crank,
    /// Angle of the crank, open and closed.
    pub crank_travel: [f64; 2],
    /// Least and largest half gap between the pads.
    pub half_gap: [f64; 2],
    /// Masses of the right finger.
    pub inertials: Vec<Inertial>,
    /// Colliders of the right finger; the first two are the pad, of which contact is reported.
    pub colliders: Vec<BoxCollider>,
    /// Stiffness of the crank's position servo, N m/rad.
    pub stiffness: f64,
    /// Damping of the servo, N m s/rad.
    pub servo_damping: f64,
    /// Largest torque of the servo, N m.
    pub torque_limit: f64,
    /// Viscous friction at the crank, N m s/rad.
    pub damping: f64,
    /// Inertia of the drive seen at the crank, kg m².
    pub armature: f64,
    /// The linkage's springs, seen at the crank.
    pub spring: CrankSpring,
}

/// A spring at the crank.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrankSpring {
    /// Stiffness, N m/rad.
    pub stiffness: f64,
    /// Angle at which it is relaxed.
    pub rest: f64,
}

/// Half of the gap between the pads as a function of the crank's angle: `offset + radius cos(angle + phase)`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crank {
    /// Half gap at a right angle of crank and finger.
    pub offset: f64,
    /// Length of the crank.
    pub radius: f64,
    /// Angle between the crank and the fingers' axis at angle zero.
    pub phase: f64,
}

/// Servos of the joints and the scales of an action.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PositionServos {
    /// Stiffness of each joint's servo, N m/rad.
    pub stiffness: Vec<f64>,
    /// Damping of each joint's servo, N m s/rad.
    pub damping: Vec<f64>,
    /// Translation for an action of 1.
    pub position_scale: f64,
    /// Turn about the vertical for an action of 1.
    pub yaw_scale: f64,
    /// Share of the gripper's travel for an action of 1.
    pub gripper_scale: f64,
}

impl ServoRobot {
    /// The UR5e with the figures of OGBench, embedded in the library.
    ///
    /// # Errors
    /// Never in a released version: a test parses the embedded file.
    pub fn ur5e() -> Result<Arc<Self>, SimError> {
        Self::parse("ur5e.toml (embedded)", UR5E).map(Arc::new)
    }

    /// Reads a robot from a file.
    ///
    /// # Errors
    /// [`SimError::Read`], [`SimError::Parse`] or [`SimError::Value`], with the file and the field.
    pub fn load(path: &Path) -> Result<Self, SimError> {
        Self::parse(&path.display().to_string(), &scene::read(path)?)
    }

    /// Reads a robot from TOML text; `file` names it in errors.
    ///
    /// # Errors
    /// [`SimError::Parse`] or [`SimError::Value`].
    pub fn parse(file: &str, text: &str) -> Result<Self, SimError> {
        let robot: Self = scene::parse_as("robot description", file, text)?;
        robot.validate(file)?;
        Ok(robot)
    }

    fn validate(&self, file: &str) -> Result<(), SimError> {
        let wrong = |field: &str, value: String, expected: &str| SimError::Value {
            file: file.to_owned(),
            field: field.to_owned(),
            value,
            expected: expected.to_owned(),
        };
        for (field, len) in [
            ("links", self.links.len()),
            ("home.joint_positions", self.home.joint_positions.len()),
            ("controller.stiffness", self.controller.stiffness.len()),
            ("controller.damping", self.controller.damping.len()),
        ] {
            if len != SERVO_JOINTS {
                return Err(wrong(field, format!("a list of {len}"), "the arm has six joints"));
            }
        }
        crate::robot::validate_links(file, &self.links, &self.home.joint_positions)?;
        crate::robot::validate_hand(file, &self.hand)?;
        crate::robot::validate_inertials(file, "gripper.inertials", &self.gripper.inertials)?;
        crate::robot::validate_colliders(file, "gripper.colliders", &self.gripper.colliders)?;
        if self.gripper.colliders.len() < 2 {
            return Err(wrong("gripper.colliders", self.gripper.colliders.len().to_string(), "the pad has two halves"));
        }
        let gripper = &self.gripper;
        for (field, [low, high]) in
            [("gripper.crank_travel", gripper.crank_travel), ("gripper.half_gap", gripper.half_gap)]
        {
            if !(low >= 0.0 && low < high && high.is_finite()) {
                let expected = "two numbers from zero on are needed, the smaller first";
                return Err(wrong(field, format!("[{low}, {high}]"), expected));
            }
        }
        let crank = gripper.crank;
        let finite = [crank.offset, crank.phase, gripper.spring.rest]
            .iter()
            .chain(&gripper.position)
            .all(|number| number.is_finite());
        if !finite {
            return Err(wrong(
                "gripper",
                "not finite".to_owned(),
                "offset, phase, position and the spring's rest must be finite",
            ));
        }
        let range = gripper.crank_travel.map(|angle| angle + crank.phase);
        if !(range[0] > 0.0 && range[1] < std::f64::consts::PI) {
            let expected = "the crank must not pass a dead centre within its travel";
            return Err(wrong("gripper.crank.phase", crank.phase.to_string(), expected));
        }
        let servos = self.controller.stiffness.iter().map(|value| ("controller.stiffness", *value));
        let servos = servos.chain(self.controller.damping.iter().map(|value| ("controller.damping", *value)));
        for (field, number) in servos.chain([
            ("gripper.crank.radius", crank.radius),
            ("gripper.stiffness", gripper.stiffness),
            ("gripper.servo_damping", gripper.servo_damping),
            ("gripper.torque_limit", gripper.torque_limit),
            ("gripper.damping", gripper.damping),
            ("gripper.armature", gripper.armature),
            ("gripper.spring.stiffness", gripper.spring.stiffness),
            ("controller.position_scale", self.controller.position_scale),
            ("controller.yaw_scale", self.controller.yaw_scale),
            ("controller.gripper_scale", self.controller.gripper_scale),
        ]) {
            if !(number > 0.0 && number.is_finite()) {
                return Err(wrong(field, number.to_string(), "it must be a number above zero"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_ur5e_is_valid() {
        assert_eq!(ServoRobot::ur5e().unwrap().links.len(), SERVO_JOINTS);
    }

    #[test]
    fn errors_name_file_and_field() {
        for (from, to, needle) in [
            ("torque_limit = 5.0", "torque_limit = -5.0", "gripper.torque_limit"),
            ("phase = 0.865667", "phase = 3.0", "dead centre"),
            ("damping = [400.0, 400.0", "damping = [400.0", "controller.damping"),
            ("yaw_scale", "yaw_scal", "yaw_scal"),
            ("mass = 8.393", "mass = 0.0", "links[1].inertials[0].mass"),
        ] {
            let broken = UR5E.replace(from, to);
            assert_ne!(broken, UR5E);
            let error = ServoRobot::parse("mine.toml", &broken).unwrap_err().to_string();
            assert!(error.contains("mine.toml") && error.contains(needle), "{error}");
        }
    }
}
