//! The recorder alone, in an app that has nothing to do with robots: balls jump in a ring, one after the other, and become
//! a film.
//!
//! ```text
//! cargo run --release --example recorder                 writes balls.mp4; no window is needed
//! cargo run --release --example recorder -- balls.gif    or a GIF, or frames/ for PNGs
//! ```
//!
//! An app with a window does the same: `DefaultPlugins` and `RecorderPlugin` instead of `VideoPlugin`, and `app.run()`.

#![allow(clippy::print_stdout, reason = "an example shows its result")]

use std::path::Path;

use bevy::{light::CascadeShadowConfigBuilder, prelude::*};
use onestep::record::{
    prelude::*,
    recorder::{FrameRate, Recorder},
    video::{VideoPlugin, find_adapter},
};

#[cfg(test)]
#[path = "../tests/rendering/mod.rs"]
mod rendering;
#[cfg(test)]
#[path = "../tests/skip/mod.rs"]
mod skip;

const BALLS: u8 = 9;
const RADIUS_METERS: f32 = 0.22;
/// Steps of the world from one jump of a ball to its next.
const PERIOD: f32 = 60.0;

/// A ball, and where it is in its jump: 0 to 1.
#[derive(Component)]
struct Ball(f32);

/// Up and down under gravity; the rest of the time it lies still.
fn jump(mut balls: Query<(&mut Ball, &mut Transform)>) {
    const SHARE_IN_AIR: f32 = 0.6;
    for (mut ball, mut transform) in &mut balls {
        ball.0 = (ball.0 + 1.0 / PERIOD).fract();
        let time = (ball.0 / SHARE_IN_AIR).min(1.0);
        transform.translation.y = RADIUS_METERS + 3.6 * time * (1.0 - time);
    }
}

fn spawn_scene(
    mut commands: Commands,
    mut meshes: ResMut<Assets<Mesh>>,
    mut materials: ResMut<Assets<StandardMaterial>>,
) {
    commands.spawn((
        Mesh3d(meshes.add(Plane3d::default().mesh().size(60.0, 60.0))),
        MeshMaterial3d(materials.add(StandardMaterial {
            base_color: Color::srgb(0.80, 0.81, 0.83),
            perceptual_roughness: 0.9,
            ..default()
        })),
    ));
    let ball = meshes.add(Sphere::new(RADIUS_METERS).mesh().uv(48, 24));
    for number in 0..BALLS {
        let share = f32::from(number) / f32::from(BALLS);
        let place = Vec2::from_angle(share * std::f32::consts::TAU);
        commands.spawn((
            Ball(share),
            Mesh3d(ball.clone()),
            MeshMaterial3d(materials.add(StandardMaterial {
                base_color: Oklcha::lch(0.66, 0.15, 360.0 * share).into(),
                perceptual_roughness: 0.35,
                ..default()
            })),
            Transform::from_xyz(1.1 * place.x, RADIUS_METERS, 1.1 * place.y),
        ));
    }
    commands.spawn((
        DirectionalLight { illuminance: 7_000.0, shadow_maps_enabled: true, ..default() },
        CascadeShadowConfigBuilder { maximum_distance: 12.0, first_cascade_far_bound: 6.0, ..default() }.build(),
        Transform::from_xyz(2.0, 4.5, 2.5).looking_at(Vec3::ZERO, Vec3::Y),
    ));
    commands.spawn((
        Camera3d::default(),
        AmbientLight { brightness: 700.0, ..default() },
        Transform::from_xyz(0.0, 2.9, 3.5).looking_at(Vec3::new(0.0, 0.36, 0.0), Vec3::Y),
    ));
}

/// Films `steps` steps of the world.
fn film(path: &Path, steps: usize) -> Result<u64, RecordError> {
    find_adapter()?;
    let mut app = App::new();
    app.add_plugins(VideoPlugin { width: 480, height: 300 })
        .insert_resource(Time::<Fixed>::from_hz(30.0))
        .add_systems(Startup, spawn_scene)
        .add_systems(FixedUpdate, jump);
    app.finish();
    app.cleanup();
    let mut recorder = app.world_mut().resource_mut::<Recorder>();
    recorder.settings_mut().rate = FrameRate::EverySteps(1);
    recorder.start(path)?;
    // The renderer compiles its shaders first; the world stands still meanwhile.
    while app.world().resource::<Recorder>().frames() == 0 && app.world().resource::<Recorder>().is_recording() {
        app.update();
    }
    for _ in 1..steps {
        onestep::tick(app.world_mut());
        app.update();
    }
    app.world_mut().resource_mut::<Recorder>().stop();
    while app.world().resource::<Recorder>().is_recording() {
        app.update();
    }
    match app.world_mut().resource_mut::<Recorder>().take_last() {
        Some(result) => result.map(|file| file.frames),
        None => Ok(0),
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "balls.mp4".to_owned());
    println!("{} frames in {path}", film(Path::new(&path), PERIOD as usize)?);
    Ok(())
}

#[test]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
fn every_step_is_a_frame() {
    if !rendering::can_render() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("balls.mp4");
    let frames = film(&path, 12).unwrap();
    assert_eq!(frames, 12);
    assert!(path.metadata().is_ok_and(|file| file.len() > 2_000));
}
