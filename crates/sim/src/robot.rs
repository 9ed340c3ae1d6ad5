//! The robot's data file: kinematics, masses, gripper and controller gains.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use crate::SimError;
use crate::scene;

/// Joints of an arm. All arms of the benchmarks' first tasks have seven.
pub const ARM_JOINTS: usize = 7;

/// The embedded description of the Franka Panda.
const PANDA: &str = include_str!("../../../assets/robots/panda.toml");

/// A robot arm with a parallel gripper, as its data file describes it.
///
/// The file's format is TOML, unknown fields are refused. Lengths in metres, angles in radians, masses in kilograms.
/// Joint frames follow URDF: each link's frame sits at its joint, in the frame of the link before it, and the joint
/// turns about the frame's z axis.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Robot {
    /// Name of the robot.
    pub name: String,
    /// Configuration at reset, before noise.
    pub home: Home,
    /// The link that stands still.
    pub base: Base,
    /// The moving links from base to flange.
    pub links: Vec<Link>,
    /// The hand, fixed to the last link.
    pub hand: Hand,
    /// The two fingers and their drive.
    pub gripper: Gripper,
    /// Gains of the operational-space controller.
    pub controller: Controller,
}

/// Configuration at reset, before noise.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Home {
    /// One angle for each link.
    pub joint_positions: Vec<f64>,
    /// Position of each finger.
    pub finger_position: f64,
}

/// The link that stands still.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Base {
    /// Name of the link.
    pub name: String,
}

/// A moving link with the joint before it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Name of the link.
    pub name: String,
    /// Origin of the joint in the frame of the link before.
    pub position: [f64; 3],
    /// Orientation of the joint frame, fixed-axis roll, pitch, yaw.
    pub rpy: [f64; 3],
    /// Lowest and highest joint angle.
    pub limits: [f64; 2],
    /// Largest torque of the joint's motor, N m.
    pub effort_limit: f64,
    /// Viscous friction of the joint, N m s.
    pub damping: f64,
    /// Inertia of the motor seen at the joint, kg m².
    pub armature: f64,
    /// Dry friction of the joint, N m.
    pub friction_loss: f64,
    /// Masses fixed to the link.
    pub inertials: Vec<Inertial>,
}

/// A mass fixed to a link.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inertial {
    /// Mass.
    pub mass: f64,
    /// Centre of mass in the link's frame.
    pub center_of_mass: [f64; 3],
    /// Moments about the centre of mass along the link's axes, kg m².
    pub inertia: [f64; 3],
}

/// A box that collides, fixed to a link.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoxCollider {
    /// Centre in the link's frame.
    pub position: [f64; 3],
    /// Half extents.
    pub half_extents: [f64; 3],
    /// Coefficient of dry friction. Of two touching surfaces the larger counts.
    pub friction: f64,
}

/// The hand, fixed to the last link.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hand {
    /// Name of the body.
    pub name: String,
    /// Origin in the last link's frame.
    pub position: [f64; 3],
    /// Orientation in the last link's frame.
    pub rpy: [f64; 3],
    /// The point between the finger tips, in the hand's frame: what the controller moves.
    pub grip_site: [f64; 3],
    /// Colliders, in the hand's frame.
    pub colliders: Vec<BoxCollider>,
}

/// The two fingers and their drive. The right finger is the left one turned by half a turn about the hand's z axis.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gripper {
    /// Names of the left and the right finger.
    pub finger_names: [String; 2],
    /// Origin of both closed finger joints in the hand's frame. Fingers open along y.
    pub position: [f64; 3],
    /// Closed and open position of one finger.
    pub travel: [f64; 2],
    /// Masses of the left finger.
    pub inertials: Vec<Inertial>,
    /// Colliders of the left finger.
    pub colliders: Vec<BoxCollider>,
    /// Stiffness of the position servo, N/m.
    pub stiffness: f64,
    /// Largest force of the servo, N.
    pub force_limit: f64,
    /// Viscous friction, N s/m.
    pub damping: f64,
    /// Inertia of the drive seen at the finger, kg.
    pub armature: f64,
    /// Dry friction, N.
    pub friction_loss: f64,
    /// How far a control step moves the command, which lies in [-1, 1].
    pub command_step: f64,
}

/// Gains of the operational-space controller.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Controller {
    /// Stiffness towards the goal pose, 1/s².
    pub stiffness: f64,
    /// Damping ratio, 1 for critical.
    pub damping_ratio: f64,
    /// Stiffness towards the joint positions at reset, in the null space, 1/s².
    pub nullspace_stiffness: f64,
    /// Translation for an action of 1.
    pub position_scale: f64,
    /// Rotation for an action of 1.
    pub rotation_scale: f64,
}

impl Robot {
    /// The Franka Panda with the figures of robosuite 1.5, embedded in the library.
    ///
    /// # Errors
    /// Never in a released version: a test parses the embedded file.
    pub fn panda() -> Result<Arc<Self>, SimError> {
        Self::parse("panda.toml (embedded)", PANDA).map(Arc::new)
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
        for (field, len) in [("links", self.links.len()), ("home.joint_positions", self.home.joint_positions.len())] {
            if len != ARM_JOINTS {
                return Err(wrong(file, field.to_owned(), format!("a list of {len}"), "an arm has seven joints"));
            }
        }
        validate_links(file, &self.links, &self.home.joint_positions)?;
        validate_hand(file, &self.hand)?;

        let gripper = &self.gripper;
        finite(file, "gripper.position".to_owned(), &gripper.position)?;
        ascending(file, "gripper.travel".to_owned(), gripper.travel)?;
        validate_inertials(file, "gripper.inertials", &gripper.inertials)?;
        validate_colliders(file, "gripper.colliders", &gripper.colliders)?;
        for (field, number) in [
            ("gripper.stiffness", gripper.stiffness),
            ("gripper.force_limit", gripper.force_limit),
            ("gripper.command_step", gripper.command_step),
            ("controller.stiffness", self.controller.stiffness),
            ("controller.damping_ratio", self.controller.damping_ratio),
            ("controller.position_scale", self.controller.position_scale),
            ("controller.rotation_scale", self.controller.rotation_scale),
        ] {
            positive(file, field.to_owned(), number)?;
        }
        for (field, number) in [
            ("gripper.damping", gripper.damping),
            ("gripper.armature", gripper.armature),
            ("gripper.friction_loss", gripper.friction_loss),
            ("controller.nullspace_stiffness", self.controller.nullspace_stiffness),
        ] {
            not_negative(file, field.to_owned(), number)?;
        }
        if !(gripper.travel[0]..=gripper.travel[1]).contains(&self.home.finger_position) {
            let expected = "it must lie within gripper.travel";
            let value = self.home.finger_position.to_string();
            return Err(wrong(file, "home.finger_position".to_owned(), value, expected));
        }
        Ok(())
    }
}

fn wrong(file: &str, field: String, value: String, expected: &str) -> SimError {
    SimError::Value { file: file.to_owned(), field, value, expected: expected.to_owned() }
}

fn finite(file: &str, field: String, numbers: &[f64]) -> Result<(), SimError> {
    match numbers.iter().find(|n| !n.is_finite()) {
        Some(n) => Err(wrong(file, field, n.to_string(), "it must be a finite number")),
        None => Ok(()),
    }
}

fn positive(file: &str, field: String, number: f64) -> Result<(), SimError> {
    if number > 0.0 && number.is_finite() {
        Ok(())
    } else {
        Err(wrong(file, field, number.to_string(), "it must be a number above zero"))
    }
}

fn not_negative(file: &str, field: String, number: f64) -> Result<(), SimError> {
    if number >= 0.0 && number.is_finite() {
        Ok(())
    } else {
        Err(wrong(file, field, number.to_string(), "it must be zero or more"))
    }
}

fn ascending(file: &str, field: String, [low, high]: [f64; 2]) -> Result<(), SimError> {
    if low < high && low.is_finite() && high.is_finite() {
        Ok(())
    } else {
        Err(wrong(file, field, format!("[{low}, {high}]"), "the first number must be below the second"))
    }
}

pub(crate) fn validate_inertials(file: &str, field: &str, list: &[Inertial]) -> Result<(), SimError> {
    if list.is_empty() {
        return Err(wrong(file, field.to_owned(), "empty".to_owned(), "a moving body needs a mass"));
    }
    for (i, inertial) in list.iter().enumerate() {
        positive(file, format!("{field}[{i}].mass"), inertial.mass)?;
        finite(file, format!("{field}[{i}].center_of_mass"), &inertial.center_of_mass)?;
        for moment in inertial.inertia {
            positive(file, format!("{field}[{i}].inertia"), moment)?;
        }
    }
    Ok(())
}

pub(crate) fn validate_colliders(file: &str, field: &str, list: &[BoxCollider]) -> Result<(), SimError> {
    for (i, collider) in list.iter().enumerate() {
        finite(file, format!("{field}[{i}].position"), &collider.position)?;
        for half_extent in collider.half_extents {
            positive(file, format!("{field}[{i}].half_extents"), half_extent)?;
        }
        not_negative(file, format!("{field}[{i}].friction"), collider.friction)?;
    }
    Ok(())
}

pub(crate) fn validate_links(file: &str, links: &[Link], home: &[f64]) -> Result<(), SimError> {
    for (i, (link, home)) in links.iter().zip(home).enumerate() {
        finite(file, format!("links[{i}].position"), &link.position)?;
        finite(file, format!("links[{i}].rpy"), &link.rpy)?;
        ascending(file, format!("links[{i}].limits"), link.limits)?;
        positive(file, format!("links[{i}].effort_limit"), link.effort_limit)?;
        not_negative(file, format!("links[{i}].damping"), link.damping)?;
        not_negative(file, format!("links[{i}].armature"), link.armature)?;
        not_negative(file, format!("links[{i}].friction_loss"), link.friction_loss)?;
        validate_inertials(file, &format!("links[{i}].inertials"), &link.inertials)?;
        if !(link.limits[0]..=link.limits[1]).contains(home) {
            let expected = format!("the joint's limits are [{}, {}]", link.limits[0], link.limits[1]);
            return Err(wrong(file, format!("home.joint_positions[{i}]"), home.to_string(), &expected));
        }
    }
    Ok(())
}

pub(crate) fn validate_hand(file: &str, hand: &Hand) -> Result<(), SimError> {
    finite(file, "hand.position".to_owned(), &hand.position)?;
    finite(file, "hand.rpy".to_owned(), &hand.rpy)?;
    finite(file, "hand.grip_site".to_owned(), &hand.grip_site)?;
    validate_colliders(file, "hand.colliders", &hand.colliders)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_panda_is_valid() {
        assert_eq!(Robot::panda().unwrap().links.len(), ARM_JOINTS);
    }

    #[test]
    fn errors_name_file_and_field() {
        let unknown = PANDA.replace("finger_position", "finger_positon");
        let error = Robot::parse("my.toml", &unknown).unwrap_err().to_string();
        assert!(error.contains("my.toml") && error.contains("finger_positon"), "{error}");

        let negative = PANDA.replace("force_limit = 20.0", "force_limit = -1.0");
        let error = Robot::parse("my.toml", &negative).unwrap_err().to_string();
        assert_eq!(error, "my.toml: field `gripper.force_limit` is -1, but it must be a number above zero");

        let truncated = &PANDA[..PANDA.len() / 2];
        assert!(matches!(Robot::parse("my.toml", truncated), Err(SimError::Parse { .. } | SimError::Value { .. })));

        let error = Robot::load(Path::new("/nowhere/panda.toml")).unwrap_err().to_string();
        assert!(error.contains("/nowhere/panda.toml"), "{error}");
    }
}
