//! Everything that is not a robot: ground, lights, camera, furniture and loose objects.

use std::{
    collections::BTreeMap,
    f32::consts::{FRAC_PI_2, FRAC_PI_3, FRAC_PI_6},
};

use bevy::{
    app::prelude::*,
    asset::{RenderAssetUsages, prelude::*},
    camera::{PerspectiveProjection, Projection, prelude::*},
    core_pipeline::tonemapping::Tonemapping,
    ecs::prelude::*,
    image::{ImageAddressMode, ImageFilterMode, ImageSampler, ImageSamplerDescriptor, prelude::*},
    light::{CascadeShadowConfigBuilder, DirectionalLightShadowMap, EnvironmentMapLight},
    math::{Vec2, Vec3},
    mesh::prelude::*,
    pbr::{DistanceFog, FogFalloff, prelude::*},
    prelude::*,
    render::{
        render_resource::{Extent3d, TextureDimension, TextureFormat, TextureViewDescriptor, TextureViewDimension},
        view::{ColorGrading, ColorGradingGlobal},
    },
};

use super::{
    Dress,
    mesh::{lathe, rounded_box},
    usable,
};
use crate::scene::{Geometry, Shape};
use crate::{Arena, Capsule, SimBody};

/// Colour of the far distance, where the ground fades away.
const HORIZON: Color = Color::linear_rgb(0.86, 0.93, 1.04);
/// The same as [`default_camera`]'s tone curve shows it. Only surfaces go through the curve, the sky is there before.
const SKY: Color = Color::linear_rgb(0.5556, 0.5725, 0.5973);

/// Where the camera for an arm stands, and what it looks at.
const DEFAULT_EYE: Vec3 = Vec3::new(1.12, 1.42, 1.08);
const DEFAULT_LOOK_AT: Vec3 = Vec3::new(-0.27, 1.03, -0.02);

/// A camera that looks at the first arena from the front and the side, a little from above.
///
/// Spawn it as it is for a window; insert a `RenderTarget` to draw into an image.
#[must_use]
pub fn default_camera() -> impl Bundle {
    (
        Camera3d::default(),
        Projection::Perspective(PerspectiveProjection { fov: 38f32.to_radians(), near: 0.05, ..Default::default() }),
        Transform::from_translation(DEFAULT_EYE).looking_at(DEFAULT_LOOK_AT, Vec3::Y),
        // Surfaces go through the tone curve as they are drawn, not the whole picture afterwards: what stands for numbers,
        // as the colours of candidates do, can be drawn without it.
        Tonemapping::AgX,
        // This tone curve mutes colours; the cube should be red.
        ColorGrading {
            global: ColorGradingGlobal { post_saturation: 1.18, ..ColorGradingGlobal::default() },
            ..ColorGrading::default()
        },
        Msaa::Sample4,
    )
}

/// From where a camera looks at a task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum View {
    /// From where one sees most.
    #[default]
    Main,
    /// Against the robot's forward axis, from a little above.
    Front,
    /// Along the horizontal axis across it, from a little above.
    Side,
    /// Straight down.
    Top,
    /// As the main one, and near what is worked on.
    Close,
}

impl View {
    /// All of them, with their names.
    pub const NAMES: [(&str, Self); 5] = [
        ("main", Self::Main),
        ("front", Self::Front),
        ("side", Self::Side),
        ("top", Self::Top),
        ("close", Self::Close),
    ];

    /// The view of this name; nothing if there is none.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(own, _)| *own == name).map(|(_, view)| *view)
    }
}

/// Where the camera of a task stands, and what it looks at, both in Bevy's axes.
#[must_use]
pub fn camera_place(task: &str) -> (Vec3, Vec3) {
    match task {
        "reacher" => (Vec3::new(0.0, 0.84, 0.46), Vec3::new(0.0, 0.0, 0.02)),
        "inverted-pendulum" | "inverted-double-pendulum" => (Vec3::new(0.5, 1.5, 3.6), Vec3::new(0.0, 1.15, 0.0)),
        "half-cheetah" => (Vec3::new(0.7, 1.0, 3.3), Vec3::new(0.0, 0.5, 0.0)),
        "hopper" | "walker2d" => (Vec3::new(0.7, 1.2, 3.3), Vec3::new(0.0, 0.75, 0.0)),
        "transport" => (Vec3::new(1.95, 1.8, 0.75), Vec3::new(0.0, 0.93, 0.0)),
        "tool-hang" => (Vec3::new(0.72, 1.38, 0.62), Vec3::new(-0.16, 0.97, 0.02)),
        _ if is_tabletop(task) => (Vec3::new(1.34, 0.86, 0.78), Vec3::new(0.24, 0.25, 0.0)),
        _ => (DEFAULT_EYE, DEFAULT_LOOK_AT),
    }
}

/// A camera for a task: [`default_camera`] for an arm, else one that sees the mechanism from the side and goes along
/// with it.
#[must_use]
pub fn task_camera(task: &str) -> impl Bundle {
    task_view(task, View::Main)
}

/// A camera that looks at a task from somewhere else, as far away as [`task_camera`]. As a child of an arena it looks at
/// that one, else at the first.
#[must_use]
pub fn task_view(task: &str, view: View) -> impl Bundle {
    let (eye, look_at) = camera_place(task);
    let distance = eye.distance(look_at);
    let (look_at, distance) = match view {
        View::Close if is_tabletop(task) => (Vec3::new(0.40, 0.10, 0.0), 0.62),
        View::Close if task == "lift" => (Vec3::new(-0.04, 0.905, 0.0), 0.42),
        View::Close => (look_at, 0.6 * distance),
        _ => (look_at, distance),
    };
    let (direction, up) = match view {
        View::Main => (eye - look_at, Vec3::Y),
        View::Close => (Vec3::new(1.0, 0.42, 0.72), Vec3::Y),
        View::Front => (Vec3::new(1.0, 0.25, 0.0), Vec3::Y),
        View::Side => (Vec3::new(0.0, 0.25, 1.0), Vec3::Y),
        View::Top => (Vec3::Y, Vec3::NEG_Z),
    };
    let eye = look_at + distance * direction.normalize_or(Vec3::Y);
    let follows = matches!(task, "hopper" | "half-cheetah" | "walker2d");
    (default_camera(), CameraPlace(Transform::from_translation(eye).looking_at(look_at, up)), FollowTorso(follows))
}

/// Whether the task's arm stands on the ground and works on it.
fn is_tabletop(task: &str) -> bool {
    ["cube-", "scene", "puzzle-"].iter().any(|start| task.starts_with(start))
}

/// Where a camera stands while the torso is at the arena's origin.
#[derive(Component, Debug, Clone, Copy, PartialEq)]
pub struct CameraPlace(pub Transform);

/// Whether a camera goes along with the body of the name `torso`.
#[derive(Component, Debug, Clone, Copy, PartialEq, Eq)]
pub struct FollowTorso(pub bool);

pub(super) fn place_cameras(
    mut cameras: Query<(&CameraPlace, &FollowTorso, &mut Transform, Option<&ChildOf>), Without<SimBody>>,
    arenas: Query<(&onestep_agent::Agent, &Children), With<Arena>>,
    bodies: Query<(&SimBody, &Transform)>,
) {
    for (place, follow, mut transform, parent) in &mut cameras {
        let own = parent.and_then(|parent| arenas.get(parent.0).ok());
        let arena = own.or_else(|| arenas.iter().min_by_key(|(agent, _)| **agent)).filter(|_| follow.0);
        let torso = arena.and_then(|(_, children)| {
            children.iter().filter_map(|child| bodies.get(child).ok()).find(|(body, _)| body.name == "torso")
        });
        let along = torso.map_or(0.0, |(_, torso)| torso.translation.x);
        let wanted = Transform { translation: place.0.translation + Vec3::X * along, ..place.0 };
        if *transform != wanted {
            *transform = wanted;
        }
    }
}

pub(super) fn add(app: &mut App, shadow_distance_meters: f32) {
    app.insert_resource(ClearColor(SKY))
        .insert_resource(DirectionalLightShadowMap { size: 2048 })
        .insert_resource(GlobalAmbientLight { brightness: 0.0, ..Default::default() })
        .add_systems(Startup, spawn_scene(shadow_distance_meters))
        .add_systems(PostUpdate, light_cameras);
}

fn spawn_scene(
    shadow_distance_meters: f32,
) -> impl Fn(Commands, ResMut<Assets<Mesh>>, ResMut<Assets<StandardMaterial>>, ResMut<Assets<Image>>) {
    /// Half the edge of the ground, metres.
    const GROUND_HALF: f32 = 40.0;
    move |mut commands, mut meshes, mut materials, mut images| {
        let ground = Plane3d::new(Vec3::Y, Vec2::splat(GROUND_HALF));
        // One tile of the texture is one metre.
        let uvs =
            [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]].map(|uv: [f32; 2]| uv.map(|x| x * 2.0 * GROUND_HALF));
        commands.spawn((
            Mesh3d(meshes.add(Mesh::from(ground).with_inserted_attribute(Mesh::ATTRIBUTE_UV_0, uvs.to_vec()))),
            MeshMaterial3d(materials.add(StandardMaterial {
                base_color_texture: Some(images.add(ground_texture())),
                perceptual_roughness: 0.95,
                reflectance: 0.2,
                ..StandardMaterial::default()
            })),
        ));
        let shadows = CascadeShadowConfigBuilder {
            num_cascades: 2,
            minimum_distance: 0.1,
            first_cascade_far_bound: (0.45 * shadow_distance_meters).max(0.2),
            maximum_distance: shadow_distance_meters.max(0.5),
            overlap_proportion: 0.2,
        };
        // The key light comes over the camera's left shoulder; the fill from the other side takes the black out of
        // the shadows and casts none of its own.
        commands.spawn((
            DirectionalLight {
                illuminance: 5_200.0,
                color: Color::srgb(1.0, 0.965, 0.91),
                shadow_maps_enabled: true,
                ..DirectionalLight::default()
            },
            shadows.build(),
            Transform::from_xyz(-0.2, 3.2, 2.2).looking_at(Vec3::new(-0.3, 0.9, 0.0), Vec3::Y),
        ));
        commands.spawn((
            DirectionalLight {
                illuminance: 1_100.0,
                color: Color::srgb(0.85, 0.91, 1.0),
                shadow_maps_enabled: false,
                ..DirectionalLight::default()
            },
            Transform::from_xyz(3.0, 1.6, -2.0).looking_at(Vec3::new(-0.3, 0.9, 0.0), Vec3::Y),
        ));
    }
}

/// Every camera sees the same studio: soft light from all around, and fog that hides the ground's far edge.
fn light_cameras(mut commands: Commands, mut images: ResMut<Assets<Image>>, cameras: Query<Entity, Added<Camera3d>>) {
    for camera in &cameras {
        let studio = images.add(studio_cubemap());
        commands.entity(camera).insert_if_new((
            EnvironmentMapLight {
                diffuse_map: studio.clone(),
                specular_map: studio,
                intensity: 950.0,
                ..EnvironmentMapLight::default()
            },
            DistanceFog {
                color: HORIZON,
                falloff: FogFalloff::Linear { start: 3.5, end: 14.0 },
                ..DistanceFog::default()
            },
        ));
    }
}

/// A body of plain shapes. A table that is one box gets a wooden top and legs; everything else is painted as its look
/// says, or in a colour that follows from its name.
pub(super) fn body(
    name: &str,
    shapes: &[Shape],
    made: &mut BTreeMap<String, Handle<StandardMaterial>>,
    meshes: &mut Assets<Mesh>,
    materials: &mut Assets<StandardMaterial>,
    images: &mut Assets<Image>,
) -> Vec<Dress> {
    let mut material = |key: String, make: &mut dyn FnMut() -> StandardMaterial| -> Handle<StandardMaterial> {
        made.entry(key).or_insert_with(|| materials.add(make())).clone()
    };
    if let [Shape { geometry: Geometry::Box(half), .. }] = shapes
        && name.starts_with("table")
    {
        let wood = material("object/wood".to_owned(), &mut || StandardMaterial {
            base_color_texture: Some(images.add(wood_texture())),
            perceptual_roughness: 0.55,
            reflectance: 0.35,
            ..StandardMaterial::default()
        });
        let steel = material("object/steel".to_owned(), &mut || StandardMaterial {
            base_color: Color::srgb(0.16, 0.17, 0.19),
            perceptual_roughness: 0.45,
            metallic: 0.6,
            ..StandardMaterial::default()
        });
        return table(usable(half.as_vec3()), &wood, &steel, meshes);
    }
    let dress = |shape: &Shape| {
        let look = shape.look;
        let color = look.color.map_or_else(|| object_color(name), |[r, g, b]| Color::srgb_u8(r, g, b));
        let key = match look.color {
            Some(_) => format!("look/{look:?}"),
            None => format!("look/{name}/{look:?}"),
        };
        Dress {
            mesh: meshes.add(shape_mesh(&shape.geometry)),
            material: material(key, &mut || StandardMaterial {
                base_color: color.with_alpha(look.opacity),
                perceptual_roughness: look.roughness,
                metallic: look.metallic,
                alpha_mode: if look.opacity < 1.0 { AlphaMode::Blend } else { AlphaMode::Opaque },
                ..StandardMaterial::default()
            }),
            transform: Transform {
                translation: shape.pose.translation.as_vec3(),
                rotation: shape.pose.rotation.as_quat(),
                scale: Vec3::ONE,
            },
        }
    };
    shapes.iter().map(dress).collect()
}

/// The mesh of a plain shape, its edges a little rounded.
fn shape_mesh(geometry: &Geometry) -> Mesh {
    match *geometry {
        Geometry::Box(half_extents) => {
            let half_extents = usable(half_extents.as_vec3());
            rounded_box(half_extents, (0.12 * half_extents.min_element()).min(0.004))
        }
        Geometry::Cylinder { radius, half_height } => {
            let (radius, half_height) = (radius.max(1e-4) as f32, half_height.max(1e-4) as f32);
            let edge = (0.12 * radius.min(half_height)).min(0.003);
            let (core, end) = (radius - edge, half_height - edge);
            // The edge in three facets.
            let bend = |t: f32| (core + edge * t.sin(), end + edge * t.cos());
            let mut profile = vec![[0.0, -half_height]];
            let angles: [f32; 4] = [0.0, FRAC_PI_6, FRAC_PI_3, FRAC_PI_2];
            profile.extend(angles.map(|t| [bend(t).0, -bend(t).1]));
            profile.extend([3, 2, 1, 0].map(|i| angles.get(i).map_or([core, half_height], |t| bend(*t).into())));
            profile.push([0.0, half_height]);
            lathe(Vec3::ZERO, Vec3::Z, &profile)
        }
        Geometry::Capsule { radius, half_height } => {
            Mesh::from(Capsule3d::new(radius.max(1e-4) as f32, 2.0 * half_height as f32))
                .rotated_by(Quat::from_rotation_arc(Vec3::Y, Vec3::Z))
        }
        Geometry::Ball(radius) => Mesh::from(Sphere::new(radius.max(1e-4) as f32)),
    }
}

/// A body of capsules, as the control tasks have them. Parts of a left leg and targets stand out from the rest.
pub(super) fn capsules(
    name: &str,
    capsules: &[Capsule],
    made: &mut BTreeMap<String, Handle<StandardMaterial>>,
    meshes: &mut Assets<Mesh>,
    materials: &mut Assets<StandardMaterial>,
) -> Vec<Dress> {
    let (key, color) = match name {
        "target" => ("target", Color::srgb(0.80, 0.06, 0.05)),
        "rail" | "rim" => ("rail", Color::srgb(0.16, 0.17, 0.19)),
        "cart" | "torso" => ("trunk", Color::srgb(0.08, 0.30, 0.72)),
        name if name.ends_with("_left") || name.starts_with('b') => ("far", Color::srgb(0.42, 0.16, 0.55)),
        _ => ("near", Color::srgb(0.90, 0.62, 0.05)),
    };
    let paint = made.entry(format!("capsule/{key}")).or_insert_with(|| {
        materials.add(StandardMaterial { base_color: color, perceptual_roughness: 0.38, ..StandardMaterial::default() })
    });
    let dress = |capsule: &Capsule| {
        let axis = capsule.to - capsule.from;
        Dress {
            mesh: meshes.add(Capsule3d::new(capsule.radius.max(1e-3), axis.length())),
            material: paint.clone(),
            transform: Transform {
                translation: 0.5 * (capsule.from + capsule.to),
                rotation: Quat::from_rotation_arc(Vec3::Y, axis.normalize_or(Vec3::Y)),
                scale: Vec3::ONE,
            },
        }
    };
    capsules.iter().map(dress).collect()
}

/// A table top with a steel frame and four legs that reach the ground.
fn table(
    half: Vec3,
    wood: &Handle<StandardMaterial>,
    steel: &Handle<StandardMaterial>,
    meshes: &mut Assets<Mesh>,
) -> Vec<Dress> {
    /// Height of the benchmark's table top, metres. The legs are that long.
    const TOP_HEIGHT: f32 = 0.8;
    /// Half the width of a leg, metres.
    const LEG_HALF: f32 = 0.02;
    let mut parts = vec![Dress {
        mesh: meshes.add(rounded_box(half, 0.006)),
        material: wood.clone(),
        transform: Transform::IDENTITY,
    }];
    let length = TOP_HEIGHT - 2.0 * half.z;
    if length <= 0.0 {
        return parts;
    }
    let leg = meshes.add(rounded_box(Vec3::new(LEG_HALF, LEG_HALF, 0.5 * length), 0.003));
    let inset = Vec2::new(half.x, half.y) - Vec2::splat(0.035 + LEG_HALF);
    for (x, y) in [(1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0)] {
        let at = Vec3::new(x * inset.x, y * inset.y, -half.z - 0.5 * length);
        parts.push(Dress { mesh: leg.clone(), material: steel.clone(), transform: Transform::from_translation(at) });
    }
    let rail_z = -half.z - 0.03;
    for side in [1.0, -1.0] {
        let along_x = rounded_box(Vec3::new(inset.x - LEG_HALF, 0.012, 0.025), 0.003);
        let along_y = rounded_box(Vec3::new(0.012, inset.y - LEG_HALF, 0.025), 0.003);
        for (mesh, at) in
            [(along_x, Vec3::new(0.0, side * inset.y, rail_z)), (along_y, Vec3::new(side * inset.x, 0.0, rail_z))]
        {
            parts.push(Dress {
                mesh: meshes.add(mesh),
                material: steel.clone(),
                transform: Transform::from_translation(at),
            });
        }
    }
    parts
}

/// Colours that stay apart on a wooden table; the first cube is red, as in the benchmark.
fn object_color(name: &str) -> Color {
    const COLORS: [(f32, f32, f32); 6] = [
        (0.80, 0.06, 0.05),
        (0.08, 0.30, 0.72),
        (0.10, 0.50, 0.22),
        (0.90, 0.62, 0.05),
        (0.42, 0.16, 0.55),
        (0.05, 0.52, 0.55),
    ];
    let digits: String = name.chars().filter(char::is_ascii_digit).collect();
    let number: usize = digits.parse().unwrap_or(0);
    COLORS.get(number % COLORS.len()).map_or(Color::WHITE, |(r, g, b)| Color::srgb(*r, *g, *b))
}

/// A square texture with all its smaller versions, so that it neither flickers nor crawls in the distance.
fn tiling_image(size: usize, texel: impl Fn(usize, usize) -> [f32; 3]) -> Image {
    let mut level: Vec<[f32; 3]> = (0..size * size).map(|i| texel(i % size, i / size)).collect();
    let mut data = Vec::new();
    let mut levels = 0;
    let mut edge = size;
    loop {
        levels += 1;
        for color in &level {
            data.extend(color.map(|c| (c.clamp(0.0, 1.0) * 255.0).round() as u8));
            data.push(255);
        }
        if edge == 1 {
            break;
        }
        let half = edge / 2;
        let get = |x: usize, y: usize| level.get(y * edge + x).copied().unwrap_or_default();
        level = (0..half * half)
            .map(|i| {
                let (x, y) = (2 * (i % half), 2 * (i / half));
                let four = [get(x, y), get(x + 1, y), get(x, y + 1), get(x + 1, y + 1)];
                [0, 1, 2].map(|c| four.iter().filter_map(|texel| texel.get(c)).sum::<f32>() / 4.0)
            })
            .collect();
        edge = half;
    }
    let mut image = Image::new_uninit(
        Extent3d { width: size as u32, height: size as u32, depth_or_array_layers: 1 },
        TextureDimension::D2,
        TextureFormat::Rgba8UnormSrgb,
        RenderAssetUsages::RENDER_WORLD,
    );
    image.texture_descriptor.mip_level_count = levels;
    image.data = Some(data);
    image.sampler = ImageSampler::Descriptor(ImageSamplerDescriptor {
        address_mode_u: ImageAddressMode::Repeat,
        address_mode_v: ImageAddressMode::Repeat,
        mag_filter: ImageFilterMode::Linear,
        min_filter: ImageFilterMode::Linear,
        mipmap_filter: ImageFilterMode::Linear,
        ..ImageSamplerDescriptor::default()
    });
    image
}

/// One square metre of floor: light grey, a fine line every quarter metre and a stronger one every metre.
fn ground_texture() -> Image {
    const SIZE: usize = 512;
    tiling_image(SIZE, |x, y| {
        let line =
            |v: usize, every: usize, half_width: usize| v % every < half_width || v % every >= every - half_width;
        let shade = if line(x, SIZE, 3) || line(y, SIZE, 3) {
            0.47
        } else if line(x, SIZE / 4, 1) || line(y, SIZE / 4, 1) {
            0.555
        } else {
            0.60
        };
        [shade * 0.985, shade, shade * 1.02]
    })
}

/// Half a square metre of light oak, its grain along x. Tiles in both directions.
fn wood_texture() -> Image {
    const SIZE: usize = 512;
    const DARK: [f32; 3] = [0.565, 0.425, 0.29];
    const LIGHT: [f32; 3] = [0.735, 0.59, 0.43];
    tiling_image(SIZE, |x, y| {
        let (u, v) = (x as f32 / SIZE as f32, y as f32 / SIZE as f32);
        let wobble = 0.25 * periodic_noise(u, v, 2, 5) + 0.08 * periodic_noise(u, v, 4, 16);
        let rings = 0.5 + 0.5 * (std::f32::consts::TAU * (v * 7.0 + 1.6 * wobble)).sin();
        let fibres = periodic_noise(u, v, 6, 128);
        let mix = (0.30 + 0.34 * rings + 0.42 * fibres).clamp(0.0, 1.0);
        [0, 1, 2].map(|c| {
            let (dark, light) = (DARK.get(c).copied().unwrap_or(0.0), LIGHT.get(c).copied().unwrap_or(0.0));
            dark + (light - dark) * mix
        })
    })
}

/// Smooth noise in [0, 1] that repeats after 1 in both directions, with `nu` times `nv` random values.
fn periodic_noise(u: f32, v: f32, nu: u32, nv: u32) -> f32 {
    let value = |i: u32, j: u32| {
        let mut h =
            (i % nu).wrapping_mul(0x9E37_79B1) ^ (j % nv).wrapping_mul(0x85EB_CA77) ^ nu.wrapping_mul(0xC2B2_AE3D);
        h = (h ^ (h >> 15)).wrapping_mul(0x2C1B_3C6D);
        h = (h ^ (h >> 12)).wrapping_mul(0x297A_2D39);
        (h ^ (h >> 15)) as f32 / u32::MAX as f32
    };
    let (x, y) = (u * nu as f32, v * nv as f32);
    let (i, j) = (x.floor() as u32, y.floor() as u32);
    let smooth = |t: f32| t * t * (3.0 - 2.0 * t);
    let (fx, fy) = (smooth(x.fract()), smooth(y.fract()));
    let lower = value(i, j) + (value(i + 1, j) - value(i, j)) * fx;
    let upper = value(i, j + 1) + (value(i + 1, j + 1) - value(i, j + 1)) * fx;
    lower + (upper - lower) * fy
}

/// The light of a photo studio as a cube map: bright from above, two soft boxes, a warm floor below.
fn studio_cubemap() -> Image {
    const SIZE: usize = 32;
    let direction = |face: usize, a: f32, b: f32| match face {
        0 => Vec3::new(1.0, -b, -a),
        1 => Vec3::new(-1.0, -b, a),
        2 => Vec3::new(a, 1.0, b),
        3 => Vec3::new(a, -1.0, -b),
        4 => Vec3::new(a, -b, 1.0),
        _ => Vec3::new(-a, -b, -1.0),
    };
    let soft_box = |d: Vec3, toward: Vec3, spread: f32| {
        let cosine = d.dot(toward.normalize());
        (1.0 - ((1.0 - cosine) / spread)).clamp(0.0, 1.0)
    };
    let mut data = Vec::new();
    for face in 0..6 {
        let mut edge = SIZE;
        loop {
            for i in 0..edge * edge {
                let at = |k: usize| (2.0 * (k as f32 + 0.5) / edge as f32) - 1.0;
                let d = direction(face, at(i % edge), at(i / edge)).normalize();
                // Rough surfaces read the small versions; those show a blurred studio.
                let blur = 1.0 - edge as f32 / SIZE as f32;
                let spread = 0.10 + 0.5 * blur;
                let strength = 0.55 - 0.35 * blur;
                let sky = 0.30 + 0.22 * d.y.max(0.0) - 0.14 * (-d.y).max(0.0);
                let boxes = strength
                    * (soft_box(d, Vec3::new(-0.4, 1.0, 0.9), spread)
                        + 0.7 * soft_box(d, Vec3::new(0.9, 0.8, -0.5), spread));
                let warm = (-d.y).max(0.0) * 0.04;
                let color = [sky + boxes + warm, sky + boxes + 0.3 * warm, sky + boxes + 0.015];
                data.extend(color.map(|c| (c.clamp(0.0, 1.0).powf(1.0 / 2.2) * 255.0).round() as u8));
                data.push(255);
            }
            if edge == 1 {
                break;
            }
            edge /= 2;
        }
    }
    let mut image = Image::new_uninit(
        Extent3d { width: SIZE as u32, height: SIZE as u32, depth_or_array_layers: 6 },
        TextureDimension::D2,
        TextureFormat::Rgba8UnormSrgb,
        RenderAssetUsages::RENDER_WORLD,
    );
    image.texture_descriptor.mip_level_count = SIZE.ilog2() + 1;
    image.texture_view_descriptor =
        Some(TextureViewDescriptor { dimension: Some(TextureViewDimension::Cube), ..TextureViewDescriptor::default() });
    image.data = Some(data);
    image
}
