//! What bodies look like: the file format of `assets/robots/*.visual.toml`.

use std::{collections::BTreeMap, path::Path};

use bevy::{
    color::{Color, Srgba},
    math::Vec3,
    mesh::Mesh,
    transform::components::Transform,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    mesh::{lathe, rounded_box},
    surface::{Shape, Shell, rotation},
};

const PANDA: &str = include_str!("../../../../assets/robots/panda.visual.toml");
const UR5E: &str = include_str!("../../../../assets/robots/ur5e.visual.toml");

/// The look of a robot: materials, and the parts of each link by the link's name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RobotVisual {
    /// Links that look like another one: name, and name of the other.
    #[serde(default)]
    pub same_as: BTreeMap<String, String>,
    /// Surfaces by name.
    pub materials: BTreeMap<String, Surface>,
    /// Parts by the name of the link, in the link's frame.
    pub links: BTreeMap<String, Vec<Part>>,
}

/// How a surface takes light.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Surface {
    /// Colour as `#rrggbb`.
    pub color: String,
    /// From 0 (mirror) to 1 (chalk).
    pub roughness: f32,
    /// From 0 (plastic, paint) to 1 (bare metal).
    #[serde(default)]
    pub metallic: f32,
}

/// One mesh of a link.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "build", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Part {
    /// Shapes melted into one smooth shell.
    Shell {
        /// Name of the surface.
        material: String,
        /// Over which distance shapes flow into each other, metres.
        #[serde(default)]
        blend: f32,
        /// Edge of a cell of the grid that the mesh is made on, metres. Smaller is finer.
        #[serde(default = "default_cell")]
        cell: f32,
        /// The shapes.
        shapes: Vec<Shape>,
    },
    /// A profile turned about an axis.
    Lathe {
        /// Name of the surface.
        material: String,
        /// Where height 0 of the profile lies.
        #[serde(default)]
        origin: [f32; 3],
        /// Direction of the axis.
        axis: [f32; 3],
        /// `[radius, height]` points, metres, from low to high.
        profile: Vec<[f32; 2]>,
    },
    /// A box with rounded edges.
    Box {
        /// Name of the surface.
        material: String,
        /// Center.
        center: [f32; 3],
        /// Half extents, rounding included, metres.
        half_extents: [f32; 3],
        /// Radius of the edges, metres.
        #[serde(default)]
        rounding: f32,
        /// Roll, pitch and yaw about fixed axes, degrees.
        #[serde(default)]
        turn_degrees: [f32; 3],
    },
}

fn default_cell() -> f32 {
    0.008
}

/// Why a robot has no look.
#[derive(Debug, Error)]
pub enum VisualError {
    /// The file cannot be read.
    #[error("cannot read {file}: {source}")]
    Read {
        /// The file.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no description of a robot's look. The message names line, column and field.
    #[error("{file} does not describe a robot's look: {source}")]
    Parse {
        /// The file.
        file: String,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A part names a surface that the file does not have.
    #[error("{file}: link `{link}` wants the material `{material}`, which is not under [materials]")]
    UnknownMaterial {
        /// The file.
        file: String,
        /// The link.
        link: String,
        /// The missing name.
        material: String,
    },
    /// A colour is not written as `#rrggbb`.
    #[error("{file}: material `{material}` has the color `{color}`; write it as #rrggbb")]
    Color {
        /// The file.
        file: String,
        /// The material.
        material: String,
        /// What was written.
        color: String,
    },
}

impl RobotVisual {
    /// The Panda that comes with this crate.
    ///
    /// # Errors
    /// None in a released build: a test reads the same text.
    pub fn panda() -> Result<Self, VisualError> {
        Self::parse("panda.visual.toml", PANDA)
    }

    /// The UR5e that comes with this crate.
    ///
    /// # Errors
    /// None in a released build: a test reads the same text.
    pub fn ur5e() -> Result<Self, VisualError> {
        Self::parse("ur5e.visual.toml", UR5E)
    }

    /// All robots that come with this crate. Their links and materials have different names.
    ///
    /// # Errors
    /// None in a released build: a test reads the same texts.
    pub fn embedded() -> Result<Self, VisualError> {
        let mut all = Self::panda()?;
        let other = Self::ur5e()?;
        all.same_as.extend(other.same_as);
        all.materials.extend(other.materials);
        all.links.extend(other.links);
        Ok(all)
    }

    /// The parts of a link, if it has a look.
    #[must_use]
    pub fn parts(&self, link: &str) -> Option<&[Part]> {
        let name = self.same_as.get(link).map_or(link, String::as_str);
        self.links.get(name).map(Vec::as_slice)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`VisualError`], with the file and the place in it.
    pub fn read(path: &Path) -> Result<Self, VisualError> {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| VisualError::Read { file: file.clone(), source })?;
        Self::parse(&file, &text)
    }

    /// Reads `text`; `file` is the name for messages.
    ///
    /// # Errors
    /// [`VisualError`], with the file and the place in it.
    pub fn parse(file: &str, text: &str) -> Result<Self, VisualError> {
        let visual: Self = toml::from_str(text)
            .map_err(|source| VisualError::Parse { file: file.to_owned(), source: Box::new(source) })?;
        for (link, parts) in &visual.links {
            for part in parts {
                if !visual.materials.contains_key(part.material()) {
                    return Err(VisualError::UnknownMaterial {
                        file: file.to_owned(),
                        link: link.clone(),
                        material: part.material().to_owned(),
                    });
                }
            }
        }
        for (material, surface) in &visual.materials {
            if Srgba::hex(&surface.color).is_err() {
                let (material, color) = (material.clone(), surface.color.clone());
                return Err(VisualError::Color { file: file.to_owned(), material, color });
            }
        }
        Ok(visual)
    }
}

impl Surface {
    /// The colour; grey if it was not checked and is not one.
    pub(super) fn color(&self) -> Color {
        Srgba::hex(&self.color).map_or(Color::srgb(0.5, 0.5, 0.5), Color::from)
    }
}

impl Part {
    /// Name of its surface.
    #[must_use]
    pub fn material(&self) -> &str {
        match self {
            Self::Shell { material, .. } | Self::Lathe { material, .. } | Self::Box { material, .. } => material,
        }
    }

    /// Its mesh, and where it sits in the link's frame.
    #[must_use]
    pub fn mesh(&self) -> (Mesh, Transform) {
        match self {
            Self::Shell { blend, cell, shapes, .. } => {
                (Shell { shapes, blend: *blend, cell: *cell }.mesh(), Transform::IDENTITY)
            }
            Self::Lathe { origin, axis, profile, .. } => {
                (lathe(Vec3::from(*origin), Vec3::from(*axis), profile), Transform::IDENTITY)
            }
            Self::Box { center, half_extents, rounding, turn_degrees, .. } => (
                rounded_box(Vec3::from(*half_extents), *rounding),
                Transform::from_translation(Vec3::from(*center)).with_rotation(rotation(*turn_degrees)),
            ),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn the_panda_has_every_link() {
        let panda = RobotVisual::panda().unwrap();
        for link in [
            "link0",
            "link1",
            "link2",
            "link3",
            "link4",
            "link5",
            "link6",
            "link7",
            "hand",
            "finger_left",
            "finger_right",
            "mount",
        ] {
            assert!(panda.parts(link).is_some(), "{link}");
        }
        for part in panda.links.values().flatten() {
            assert!(part.mesh().0.count_vertices() > 20, "{part:?}");
        }
    }

    #[test]
    fn the_ur5e_has_every_link_and_shares_no_name() {
        let (panda, ur5e, all) =
            (RobotVisual::panda().unwrap(), RobotVisual::ur5e().unwrap(), RobotVisual::embedded().unwrap());
        let robot = crate::ServoRobot::ur5e().unwrap();
        let links = robot.links.iter().map(|link| &link.name);
        for link in links.chain([&robot.base.name, &robot.hand.name]).chain(&robot.gripper.finger_names) {
            assert!(ur5e.parts(link).is_some(), "{link}");
        }
        for part in ur5e.links.values().flatten() {
            assert!(part.mesh().0.count_vertices() > 20, "{part:?}");
        }
        assert_eq!(all.links.len(), panda.links.len() + ur5e.links.len());
        assert_eq!(all.materials.len(), panda.materials.len() + ur5e.materials.len());
    }

    #[test]
    fn mistakes_are_named() {
        let check = |text: &str, expected: &str| {
            let error = RobotVisual::parse("x.toml", text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        let material = "[materials.a]\ncolor = \"#ffffff\"\nroughness = 0.5\n";
        check("[materials.a]\ncolor = \"white-ish\"\nroughness = 0.5\n[links]\n", "write it as #rrggbb");
        check(
            &format!(
                "{material}[[links.hand]]\nbuild = \"box\"\nmaterial = \"b\"\ncenter = [0,0,0]\nhalf_extents = [1,1,1]\n"
            ),
            "link `hand` wants the material `b`",
        );
        check(&format!("{material}shine = 1\n[links]\n"), "unknown field `shine`");
        check("[materials]\n[links]\nnonsense", "line 3");
    }
}
