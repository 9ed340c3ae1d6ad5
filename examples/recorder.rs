//! The recorder alone, in an app that has nothing to do with robots: a cube turns, and becomes a film.
//!
//! ```text
//! cargo run --release --example recorder                 writes cube.mp4; no window is needed
//! cargo run --release --example recorder -- cube.gif     or a GIF, or frames/ for PNGs
//! ```
//!
//! An app with a window does the same: `DefaultPlugins` and `RecorderPlugin` instead of `VideoPlugin`, and `app.run()`.

#![allow(clippy::print_stdout, reason = "an example shows its result")]

use std::path::Path;

use bevy::prelude::*;
use onestep::record::{
    prelude::*,
    recorder::{FrameRate, Recorder},
    video::{VideoPlugin, find_adapter},
};

#[derive(Component)]
struct Turning;

/// Turns by a sixtieth of a round in every step of the world.
fn turn(mut cubes: Query<&mut Transform, With<Turning>>) {
    for mut transform in &mut cubes {
        transform.rotate_y(std::f32::consts::TAU / 60.0);
    }
}

fn spawn_scene(
    mut commands: Commands,
    mut meshes: ResMut<Assets<Mesh>>,
    mut materials: ResMut<Assets<StandardMaterial>>,
) {
    commands.spawn((
        Turning,
        Mesh3d(meshes.add(Cuboid::new(1.0, 1.0, 1.0))),
        MeshMaterial3d(materials.add(Color::srgb(0.85, 0.25, 0.12))),
    ));
    commands.spawn((
        DirectionalLight { illuminance: 6_000.0, ..default() },
        Transform::from_xyz(2.0, 4.0, 3.0).looking_at(Vec3::ZERO, Vec3::Y),
    ));
    commands.spawn((
        Camera3d::default(),
        AmbientLight { brightness: 300.0, ..default() },
        Transform::from_xyz(1.6, 1.4, 1.8).looking_at(Vec3::ZERO, Vec3::Y),
    ));
}

/// Films `steps` steps of the world.
fn film(path: &Path, steps: usize) -> Result<u64, RecordError> {
    find_adapter()?;
    let mut app = App::new();
    app.insert_resource(ClearColor(Color::srgb(0.90, 0.92, 0.95)))
        .add_plugins(VideoPlugin { width: 320, height: 240 })
        .insert_resource(Time::<Fixed>::from_hz(30.0))
        .add_systems(Startup, spawn_scene)
        .add_systems(FixedUpdate, turn);
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
    let path = std::env::args().nth(1).unwrap_or_else(|| "cube.mp4".to_owned());
    println!("{} frames in {path}", film(Path::new(&path), 60)?);
    Ok(())
}

#[test]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
fn every_step_is_a_frame() {
    if let Err(error) = find_adapter() {
        println!("skipped: {error}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cube.mp4");
    let frames = film(&path, 12).unwrap();
    assert_eq!(frames, 12);
    assert!(path.metadata().is_ok_and(|file| file.len() > 2_000));
}
