//! How the simulated world looks: meshes, materials, lights and a camera. Only with the feature `render`.
//!
//! Nothing here is simulated and nothing here changes the simulation: [`SimVisualPlugin`] hangs meshes on the bodies
//! that [`SimBody`] marks, and the meshes follow. All meshes and textures are made in code from
//! `assets/robots/*.visual.toml`, so no asset path is needed at run time.

mod description;
mod mesh;
mod scene;
mod surface;

use std::{collections::BTreeMap, path::PathBuf};

use bevy::{
    app::prelude::*, asset::prelude::*, ecs::prelude::*, math::Vec3, mesh::prelude::*, pbr::prelude::*, prelude::*,
};

pub use description::{Part, RobotVisual, Surface, VisualError};
pub use mesh::{lathe, rounded_box};
pub use scene::{CameraPlace, FollowTorso, View, default_camera, task_camera, task_view, viewpoint};
pub use surface::{Shape, Shell};

use crate::{BodyShape, SimBody};

/// Hangs meshes on all simulated bodies and lights the scene.
///
/// It does nothing in an app without a renderer, so one function can build the same app with and without pictures.
#[derive(Debug, Clone)]
pub struct SimVisualPlugin {
    /// File with the robot's look; the built-in robots when there is none.
    pub robot_file: Option<PathBuf>,
    /// Spawn ground and lights. Switch off to bring your own.
    pub scene: bool,
    /// How far from the camera shadows reach, metres.
    pub shadow_distance_meters: f32,
}

impl Default for SimVisualPlugin {
    fn default() -> Self {
        Self { robot_file: None, scene: true, shadow_distance_meters: 6.0 }
    }
}

impl Plugin for SimVisualPlugin {
    fn build(&self, app: &mut App) {
        if !app.world().contains_resource::<Assets<Mesh>>()
            || !app.world().contains_resource::<Assets<StandardMaterial>>()
        {
            tracing::debug!("no renderer in this app: the simulation stays without pictures");
            return;
        }
        let read = match &self.robot_file {
            Some(path) => RobotVisual::read(path),
            None => RobotVisual::embedded(),
        };
        let robot = read.unwrap_or_else(|error| {
            tracing::error!(%error, "the robot is not drawn");
            RobotVisual { same_as: BTreeMap::new(), materials: BTreeMap::new(), links: BTreeMap::new() }
        });
        app.insert_resource(Looks { robot, links: BTreeMap::new(), materials: BTreeMap::new() });
        app.add_systems(PostUpdate, (dress_bodies, scene::place_cameras).chain().before(TransformSystems::Propagate));
        if self.scene {
            scene::add(app, self.shadow_distance_meters);
        }
    }
}

/// Meshes and materials made so far; arenas share them.
#[derive(Resource)]
struct Looks {
    robot: RobotVisual,
    /// Mesh, material and place of each part, by the link's name.
    links: BTreeMap<String, Vec<Dress>>,
    materials: BTreeMap<String, Handle<StandardMaterial>>,
}

#[derive(Clone)]
struct Dress {
    mesh: Handle<Mesh>,
    material: Handle<StandardMaterial>,
    transform: Transform,
}

/// Marks what this module has hung on a body, so that it can be replaced when the body changes its size.
#[derive(Component)]
struct Worn;

fn dress_bodies(
    mut commands: Commands,
    mut looks: ResMut<Looks>,
    mut meshes: ResMut<Assets<Mesh>>,
    mut materials: ResMut<Assets<StandardMaterial>>,
    mut images: ResMut<Assets<Image>>,
    bodies: Query<(Entity, &SimBody, Option<&Children>), Changed<SimBody>>,
    worn: Query<(), With<Worn>>,
) {
    for (entity, body, children) in &bodies {
        for child in children.into_iter().flatten().filter(|child| worn.contains(**child)) {
            commands.entity(*child).despawn();
        }
        let name: &str = &body.name;
        let dresses = if looks.robot.parts(name).is_some() {
            looks.link(name, &mut meshes, &mut materials)
        } else {
            match &body.shape {
                BodyShape::Described => Vec::new(),
                BodyShape::Shapes(shapes) => {
                    scene::body(name, shapes, &mut looks.materials, &mut meshes, &mut materials, &mut images)
                }
                BodyShape::Capsules(capsules) => {
                    scene::capsules(name, capsules, &mut looks.materials, &mut meshes, &mut materials)
                }
            }
        };
        // A body needs a visibility of its own, or its children are drawn without asking their parents.
        commands.entity(entity).insert_if_new(Visibility::default()).with_children(|parent| {
            for dress in dresses {
                parent.spawn((Worn, Mesh3d(dress.mesh), MeshMaterial3d(dress.material), dress.transform));
            }
        });
    }
}

impl Looks {
    /// The parts of a link, made on first use.
    fn link(&mut self, name: &str, meshes: &mut Assets<Mesh>, materials: &mut Assets<StandardMaterial>) -> Vec<Dress> {
        if let Some(made) = self.links.get(name) {
            return made.clone();
        }
        let mut made = Vec::new();
        for part in self.robot.parts(name).unwrap_or_default() {
            let (mesh, transform) = part.mesh();
            let surfaces = &self.robot.materials;
            let material = self.materials.entry(part.material().to_owned()).or_insert_with(|| {
                materials.add(surfaces.get(part.material()).map_or_else(StandardMaterial::default, standard_material))
            });
            made.push(Dress { mesh: meshes.add(mesh), material: material.clone(), transform });
        }
        self.links.insert(name.to_owned(), made.clone());
        made
    }
}

fn standard_material(surface: &Surface) -> StandardMaterial {
    StandardMaterial {
        base_color: surface.color(),
        perceptual_roughness: surface.roughness,
        metallic: surface.metallic,
        ..StandardMaterial::default()
    }
}

/// Half extents that a mesh can be made of.
fn usable(half_extents: Vec3) -> Vec3 {
    half_extents.max(Vec3::splat(1e-3))
}
