//! What scene files of all tasks share: where the robot stands, fixtures, objects, physics settings.

use std::path::Path;

use bevy_rapier3d::rapier::glamx::DPose3;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::SimError;
use crate::kinematics::pose_from_data;
use crate::shape;

pub use crate::arm_scene::{ArmScene, Spread};
pub use crate::shape::{Geometry, Look, Shape, Touches};

/// Where the robot stands and how it starts.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RobotPlacement {
    /// Position of the base link, metres.
    pub base_position: [f64; 3],
    /// Orientation of the base link: a turn about z, radians.
    #[serde(default)]
    pub base_yaw: f64,
    /// Standard deviation of the joint positions at reset, radians.
    pub joint_noise_std: f64,
}

impl RobotPlacement {
    /// Pose of the base link.
    #[must_use]
    pub fn base(&self) -> DPose3 {
        pose_from_data(self.base_position, [0.0, 0.0, self.base_yaw])
    }

    pub(crate) fn validate(&self, file: &str, name: &str) -> Result<(), SimError> {
        let wrong = |field: &str, number: f64, expected: &str| SimError::Value {
            file: file.to_owned(),
            field: format!("{name}.{field}"),
            value: number.to_string(),
            expected: expected.to_owned(),
        };
        if let Some(number) = self.base_position.iter().find(|number| !number.is_finite()) {
            return Err(wrong("base_position", *number, "it must be a finite number"));
        }
        if !self.base_yaw.is_finite() {
            return Err(wrong("base_yaw", self.base_yaw, "it must be a finite number"));
        }
        if !(self.joint_noise_std >= 0.0 && self.joint_noise_std.is_finite()) {
            return Err(wrong("joint_noise_std", self.joint_noise_std, "it must be zero or more"));
        }
        Ok(())
    }
}

/// A fixed box.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Centre, metres.
    pub center: [f64; 3],
    /// Half extents, metres.
    pub half_extents: [f64; 3],
    /// Coefficient of dry friction.
    pub friction: f64,
}

impl Table {
    /// Height of the top.
    #[must_use]
    pub fn top(&self) -> f64 {
        self.center[2] + self.half_extents[2]
    }

    pub(crate) fn validate(&self, file: &str, name: &str) -> Result<(), SimError> {
        let check = |field: &str, number: f64, ok: bool, expected: &str| {
            if ok && number.is_finite() {
                return Ok(());
            }
            Err(SimError::Value {
                file: file.to_owned(),
                field: format!("{name}.{field}"),
                value: number.to_string(),
                expected: expected.to_owned(),
            })
        };
        for number in self.center {
            check("center", number, true, "it must be a finite number")?;
        }
        for number in self.half_extents {
            check("half_extents", number, number > 0.0, "it must be a number above zero")?;
        }
        check("friction", self.friction, self.friction >= 0.0, "it must be zero or more")
    }

    /// The table as a part of the physics world.
    #[must_use]
    pub fn fixture(&self, name: &str) -> Fixture {
        let shape = Shape { friction: self.friction, ..Shape::new(Geometry::Box(self.half_extents.into())) };
        Fixture { shapes: vec![shape], ..Fixture::new(name, DPose3::from_translation(self.center.into())) }
    }
}

/// What does not move: a table, a bin, a peg.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fixture {
    /// Name of the body.
    pub name: String,
    /// Its place; in a file `{ position = [x, y, z], rpy = [roll, pitch, yaw] }`, metres, radians, fixed axes.
    #[serde(default = "shape::identity", deserialize_with = "shape::pose")]
    pub pose: DPose3,
    /// What it is made of.
    pub shapes: Vec<Shape>,
    /// Whether it is one of the arena's bodies that are drawn.
    #[serde(default = "yes")]
    pub drawn: bool,
    /// How far the pose may be from `pose` at reset.
    #[serde(default)]
    pub spread: Spread,
}

impl Fixture {
    /// A drawn fixture without shapes.
    #[must_use]
    pub fn new(name: &str, pose: DPose3) -> Self {
        Self { name: name.to_owned(), pose, shapes: Vec::new(), drawn: true, spread: Spread::default() }
    }

    /// Refuses sizes and places that make no sense; `file` and `field` name the fixture in errors.
    ///
    /// # Errors
    /// [`SimError::Value`].
    pub fn validate(&self, file: &str, field: &str) -> Result<(), SimError> {
        self.spread.validate(file, &format!("{field}.spread"))?;
        validate_body(file, field, &self.pose, &self.shapes)
    }
}

/// What moves freely.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Object {
    /// Name of the body.
    pub name: String,
    /// Pose at reset; in a file `{ position = [x, y, z], rpy = [roll, pitch, yaw] }`.
    #[serde(default = "shape::identity", deserialize_with = "shape::pose")]
    pub pose: DPose3,
    /// What it is made of.
    pub shapes: Vec<Shape>,
    /// Which part of its linear and of its angular velocity it loses per second in the air, 1/s.
    #[serde(default)]
    pub damping: [f64; 2],
    /// How far the pose may be from `pose` at reset.
    #[serde(default)]
    pub spread: Spread,
}

impl Object {
    /// An object without shapes.
    #[must_use]
    pub fn new(name: &str, pose: DPose3) -> Self {
        Self { name: name.to_owned(), pose, shapes: Vec::new(), damping: [0.0; 2], spread: Spread::default() }
    }

    /// Refuses sizes, masses and places that make no sense; `file` and `field` name the object in errors.
    ///
    /// # Errors
    /// [`SimError::Value`].
    pub fn validate(&self, file: &str, field: &str) -> Result<(), SimError> {
        self.spread.validate(file, &format!("{field}.spread"))?;
        validate_body(file, field, &self.pose, &self.shapes)?;
        let wrong = |name: &str, value: String, expected: &str| SimError::Value {
            file: file.to_owned(),
            field: format!("{field}.{name}"),
            value,
            expected: expected.to_owned(),
        };
        if !self.shapes.iter().any(|shape| shape.density > 0.0) {
            return Err(wrong("shapes", "without mass".to_owned(), "one of them needs a `density` above zero"));
        }
        match self.damping.iter().find(|damping| !(**damping >= 0.0 && damping.is_finite())) {
            Some(damping) => Err(wrong("damping", damping.to_string(), "it must be zero or more")),
            None => Ok(()),
        }
    }
}

fn validate_body(file: &str, field: &str, pose: &DPose3, shapes: &[Shape]) -> Result<(), SimError> {
    let wrong = |name: &str, value: &str, expected: &str| SimError::Value {
        file: file.to_owned(),
        field: format!("{field}.{name}"),
        value: value.to_owned(),
        expected: expected.to_owned(),
    };
    if !pose.translation.is_finite() || !pose.rotation.is_finite() {
        return Err(wrong("pose", "not finite", "it must be made of finite numbers"));
    }
    if shapes.is_empty() {
        return Err(wrong("shapes", "empty", "a body needs a shape"));
    }
    shapes.iter().enumerate().try_for_each(|(i, shape)| shape.validate(file, &format!("{field}.shapes[{i}]")))
}

fn yes() -> bool {
    true
}

/// How physics is stepped.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PhysicsSettings {
    /// Acceleration along z, m/s².
    pub gravity: f64,
    /// Length of a control step.
    pub control_period_secs: f64,
    /// Physics steps per control step; the controller computes its torques in each.
    pub substeps: u32,
    /// Sub-iterations of one physics step; each integrates by its share of the step.
    pub solver_iterations: u32,
    /// Sweeps over the contacts in one sub-iteration.
    pub pgs_iterations: u32,
    /// Sweeps without position correction in one sub-iteration.
    pub stabilization_iterations: u32,
    /// Stiffness of contacts, as a natural frequency.
    pub contact_frequency_hz: f64,
    /// Damping ratio of contacts.
    pub contact_damping_ratio: f64,
    /// Contacts are made from this distance on, metres.
    pub prediction_distance: f64,
    /// Whether friction acts while penetration is corrected.
    pub friction_in_bias_pass: bool,
}

impl PhysicsSettings {
    pub(crate) fn validate(&self, file: &str) -> Result<(), SimError> {
        let check = |field: &str, value: f64, ok: bool, expected: &str| {
            if ok {
                return Ok(());
            }
            Err(SimError::Value {
                file: file.to_owned(),
                field: format!("physics.{field}"),
                value: value.to_string(),
                expected: expected.to_owned(),
            })
        };
        let positive = "it must be a number above zero";
        for (field, value) in [
            ("control_period_secs", self.control_period_secs),
            ("contact_frequency_hz", self.contact_frequency_hz),
            ("contact_damping_ratio", self.contact_damping_ratio),
            ("prediction_distance", self.prediction_distance),
        ] {
            check(field, value, value > 0.0 && value.is_finite(), positive)?;
        }
        check("gravity", self.gravity, self.gravity.is_finite(), "it must be a finite number")?;
        for (field, value) in [
            ("substeps", self.substeps),
            ("solver_iterations", self.solver_iterations),
            ("pgs_iterations", self.pgs_iterations),
        ] {
            check(field, f64::from(value), (1..=1000).contains(&value), "it must be between 1 and 1000")?;
        }
        Ok(())
    }
}

/// The text of a file.
pub(crate) fn read(path: &Path) -> Result<String, SimError> {
    std::fs::read_to_string(path).map_err(|error| SimError::Read { path: path.to_owned(), message: error.to_string() })
}

/// Reads a scene from TOML text; `file` names it in errors.
pub(crate) fn parse<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, SimError> {
    parse_as("scene", file, text)
}

/// Reads data from TOML text; `what` it is and `file` stand in errors. Numbers that are not finite are refused here, for
/// every field of every file.
pub(crate) fn parse_as<T: DeserializeOwned>(what: &'static str, file: &str, text: &str) -> Result<T, SimError> {
    let broken = |error: toml::de::Error| SimError::Parse { what, file: file.to_owned(), message: error.to_string() };
    // First into its type: its own errors tell lines.
    let data = toml::from_str(text).map_err(broken)?;
    let table: toml::Table = toml::from_str(text).map_err(broken)?;
    match table.iter().find_map(|(key, value)| not_finite(key.clone(), value)) {
        Some((field, number)) => Err(SimError::Value {
            file: file.to_owned(),
            field,
            value: number.to_string(),
            expected: "it must be a finite number".to_owned(),
        }),
        None => Ok(data),
    }
}

/// The first number at or below `field` that is not finite, and its place.
fn not_finite(field: String, value: &toml::Value) -> Option<(String, f64)> {
    match value {
        toml::Value::Float(number) if !number.is_finite() => Some((field, *number)),
        toml::Value::Array(list) => {
            list.iter().enumerate().find_map(|(i, value)| not_finite(format!("{field}[{i}]"), value))
        }
        toml::Value::Table(table) => table.iter().find_map(|(key, value)| not_finite(format!("{field}.{key}"), value)),
        _ => None,
    }
}

impl Default for PhysicsSettings {
    fn default() -> Self {
        Self {
            gravity: -9.81,
            control_period_secs: 0.05,   // 20 Hz, as the benchmarks
            substeps: 10,                // 5 ms: the controller stays close to the benchmark's 2 ms
            solver_iterations: 1,        // steps are short already
            pgs_iterations: 2,           // a grasp slips 0.07 mm when shaken; 1 sweep: 0.13 mm, 4 sweeps: 0.06 mm
            stabilization_iterations: 1, // rapier's default
            contact_frequency_hz: 60.0,  // stiffer than rapier's 30: a grasp should not sink in
            contact_damping_ratio: 5.0,  // softer than rapier's 10, for the same reason
            prediction_distance: 0.002,  // small against a 2 cm cube
            friction_in_bias_pass: true, // a held object slides while the pads push
        }
    }
}
