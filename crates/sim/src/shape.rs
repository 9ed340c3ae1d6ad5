//! What fixtures and objects are made of: a few plain shapes, each with its place, surface and look.

use bevy::math::DVec3;
use bevy_rapier3d::rapier::glamx::DPose3;
use serde::{Deserialize, Deserializer};

use crate::SimError;
use crate::kinematics::pose_from_data;

/// The form of a [`Shape`], around its own origin.
///
/// In a scene file: `{ box = [0.1, 0.2, 0.3] }` (half extents), `{ cylinder = { radius = 0.02, half_height = 0.05 } }`,
/// `{ capsule = { radius = 0.02, half_height = 0.05 } }`, `{ ball = 0.02 }` (radius). Metres.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Geometry {
    /// A box with these half extents.
    Box(#[serde(deserialize_with = "vector")] DVec3),
    /// A cylinder about the z axis.
    Cylinder {
        /// Radius.
        radius: f64,
        /// Half the length.
        half_height: f64,
    },
    /// A cylinder about the z axis with a half ball on each end.
    Capsule {
        /// Radius.
        radius: f64,
        /// Half the length of the cylinder, without the ends.
        half_height: f64,
    },
    /// A ball of this radius.
    Ball(f64),
}

/// What a [`Shape`] collides with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Touches {
    /// Robots, objects and fixtures.
    #[default]
    Everything,
    /// Objects alone: a fence that arms may cross.
    Objects,
    /// Nothing: it is only drawn.
    Nothing,
}

/// How a surface takes light.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Look {
    /// Colour as red, green, blue; in a file `#rrggbb`. Without one, a colour follows from the body's name.
    #[serde(deserialize_with = "hex_color")]
    pub color: Option<[u8; 3]>,
    /// From 0 (mirror) to 1 (chalk).
    pub roughness: f32,
    /// From 0 (plastic, paint) to 1 (bare metal).
    pub metallic: f32,
    /// From 0 (not there) to 1 (solid).
    pub opacity: f32,
}

impl Default for Look {
    fn default() -> Self {
        Self { color: None, roughness: 0.38, metallic: 0.0, opacity: 1.0 }
    }
}

impl Look {
    /// Paint of a colour, red, green, blue.
    #[must_use]
    pub fn paint(color: [u8; 3]) -> Self {
        Self { color: Some(color), ..Self::default() }
    }

    /// Bare metal of a colour, red, green, blue.
    #[must_use]
    pub fn metal(color: [u8; 3]) -> Self {
        Self { color: Some(color), roughness: 0.32, metallic: 0.85, opacity: 1.0 }
    }
}

/// A rigid part of a fixture or of an object.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// Its form.
    pub geometry: Geometry,
    /// Its place in the body's frame; in a file `{ position = [x, y, z], rpy = [roll, pitch, yaw] }`, fixed axes.
    #[serde(default = "identity", deserialize_with = "pose")]
    pub pose: DPose3,
    /// Coefficient of dry friction. Of two touching surfaces the larger counts.
    #[serde(default = "one")]
    pub friction: f64,
    /// Density, kg/m³. Fixtures do not read it; an object needs mass in at least one shape.
    #[serde(default)]
    pub density: f64,
    /// What it collides with.
    #[serde(default)]
    pub touches: Touches,
    /// How it is drawn.
    #[serde(default)]
    pub look: Look,
}

impl Shape {
    /// A shape at the body's origin that touches everything, without mass, with a friction of 1.
    #[must_use]
    pub fn new(geometry: Geometry) -> Self {
        Self {
            geometry,
            pose: DPose3::IDENTITY,
            friction: 1.0,
            density: 0.0,
            touches: Touches::Everything,
            look: Look::default(),
        }
    }

    /// The same at another place of the body's frame.
    #[must_use]
    pub fn at(self, pose: DPose3) -> Self {
        Self { pose, ..self }
    }

    /// The same with a density, kg/m³, and a coefficient of dry friction.
    #[must_use]
    pub fn of(self, density: f64, friction: f64) -> Self {
        Self { density, friction, ..self }
    }

    /// The same with another look.
    #[must_use]
    pub fn looking(self, look: Look) -> Self {
        Self { look, ..self }
    }

    /// The same, drawn and never touched.
    #[must_use]
    pub fn untouchable(self) -> Self {
        Self { touches: Touches::Nothing, density: 0.0, ..self }
    }

    /// Half extents of the box around it, along its own axes.
    #[must_use]
    pub fn half_extents(&self) -> DVec3 {
        match self.geometry {
            Geometry::Box(half) => half,
            Geometry::Cylinder { radius, half_height } => DVec3::new(radius, radius, half_height),
            Geometry::Capsule { radius, half_height } => DVec3::new(radius, radius, half_height + radius),
            Geometry::Ball(radius) => DVec3::splat(radius),
        }
    }

    pub(crate) fn validate(&self, file: &str, field: &str) -> Result<(), SimError> {
        let wrong = |name: &str, value: f64, expected: &str| SimError::Value {
            file: file.to_owned(),
            field: format!("{field}.{name}"),
            value: value.to_string(),
            expected: expected.to_owned(),
        };
        let sizes: &[f64] = match &self.geometry {
            Geometry::Box(half) => half.as_ref(),
            Geometry::Cylinder { radius, half_height } | Geometry::Capsule { radius, half_height } => {
                &[*radius, *half_height]
            }
            Geometry::Ball(radius) => &[*radius],
        };
        if let Some(size) = sizes.iter().find(|size| !(**size > 0.0 && size.is_finite())) {
            return Err(wrong("geometry", *size, "sizes must be numbers above zero, in metres"));
        }
        if !self.pose.translation.is_finite() || !self.pose.rotation.is_finite() {
            return Err(wrong("pose", f64::NAN, "it must be made of finite numbers"));
        }
        for (name, value) in [("friction", self.friction), ("density", self.density)] {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(wrong(name, value, "it must be zero or more"));
            }
        }
        let look = &self.look;
        for (name, value) in
            [("look.roughness", look.roughness), ("look.metallic", look.metallic), ("look.opacity", look.opacity)]
        {
            if !(0.0..=1.0).contains(&value) {
                return Err(wrong(name, f64::from(value), "it must lie between 0 and 1"));
            }
        }
        Ok(())
    }
}

/// Half extents of the box around all touchable shapes, along the body's axes, if that box is centred at its origin;
/// else of the smallest one that is.
pub(crate) fn bounds(shapes: &[Shape]) -> DVec3 {
    shapes.iter().filter(|shape| shape.touches != Touches::Nothing).fold(DVec3::ZERO, |bounds, shape| {
        let axes = bevy::math::DMat3::from_quat(shape.pose.rotation);
        let half = shape.half_extents();
        let turned = axes.x_axis.abs() * half.x + axes.y_axis.abs() * half.y + axes.z_axis.abs() * half.z;
        bounds.max(shape.pose.translation.abs() + turned)
    })
}

pub(crate) fn identity() -> DPose3 {
    DPose3::IDENTITY
}

fn one() -> f64 {
    1.0
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct PoseData {
    position: [f64; 3],
    rpy: [f64; 3],
}

/// Reads `{ position = [x, y, z], rpy = [roll, pitch, yaw] }`.
pub(crate) fn pose<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DPose3, D::Error> {
    let data = PoseData::deserialize(deserializer)?;
    Ok(pose_from_data(data.position, data.rpy))
}

fn vector<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DVec3, D::Error> {
    <[f64; 3]>::deserialize(deserializer).map(DVec3::from)
}

fn hex_color<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<[u8; 3]>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let number = text.strip_prefix('#').filter(|digits| digits.len() == 6);
    match number.and_then(|digits| u32::from_str_radix(digits, 16).ok()) {
        Some(number) => {
            let [_, red, green, blue] = number.to_be_bytes();
            Ok(Some([red, green, blue]))
        }
        None => Err(serde::de::Error::custom(format!("the color `{text}` is not written as #rrggbb"))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_shape_is_read_from_a_file() {
        let text = r##"
            geometry = { cylinder = { radius = 0.025, half_height = 0.04 } }
            pose = { position = [0.0, 0.0, 0.1], rpy = [0.0, 1.5707963267948966, 0.0] }
            density = 100.0
            touches = "objects"
            look = { color = "#c01020", metallic = 0.5 }
        "##;
        let shape: Shape = toml::from_str(text).unwrap();
        assert_eq!(shape.geometry, Geometry::Cylinder { radius: 0.025, half_height: 0.04 });
        assert_eq!((shape.look.color, shape.touches), (Some([0xc0, 0x10, 0x20]), Touches::Objects));
        let bounds = bounds(&[shape]);
        assert!((bounds - DVec3::new(0.04, 0.025, 0.125)).length() < 1e-9, "{bounds}");
        assert!(shape.validate("f", "s").is_ok());
    }

    #[test]
    fn mistakes_are_named() {
        for (text, needle) in [
            ("geometry = { cube = 1.0 }", "cube"),
            ("geometry = { ball = 0.1 }\ndensty = 3.0", "densty"),
            ("geometry = { ball = 0.1 }\nlook = { color = \"red\" }", "#rrggbb"),
            ("geometry = { cylinder = { radius = 0.1, height = 0.1 } }", "height"),
        ] {
            let error = toml::from_str::<Shape>(text).unwrap_err().to_string();
            assert!(error.contains(needle), "{error}");
        }
        let shape: Shape = toml::from_str("geometry = { box = [0.1, -0.1, 0.1] }").unwrap();
        let error = shape.validate("x.toml", "shapes[0]").unwrap_err().to_string();
        assert!(error.starts_with("x.toml: field `shapes[0].geometry` is -0.1"), "{error}");
    }
}
