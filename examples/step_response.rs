//! How the arm and the gripper answer to simple commands, beside what robosuite's Lift does.
//!
//! ```sh
//! cargo run --release --example step_response
//! ```
//!
//! robosuite reports poses from before the last of its 25 physics steps, so its first figure of a pulse is about
//! 0.4 mm lower than the pose at the end of the control step, which is what we report.
#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::sync::Arc;

use bevy::math::DVec3;
use onestep::sim::{ACTION_DIM, Lift, LiftScene, Robot, SimArena, SimError};

/// robosuite 1.5.2, Lift from reset, millimetres. Only figures that were measured are listed.
const PULSE_X: [Option<f64>; 10] =
    [Some(5.5), Some(10.0), Some(11.1), Some(11.6), None, None, None, None, None, Some(12.4)];
const CONSTANT_X: [Option<f64>; 10] = [Some(5.5), None, None, None, None, None, None, None, None, Some(12.6)];
const THIRD_X: [Option<f64>; 10] = [None, None, None, None, None, None, None, None, None, Some(3.8)];
const CLOSE: [Option<f64>; 8] =
    [Some(19.5), Some(17.0), Some(13.9), Some(10.4), Some(6.7), Some(4.2), Some(2.8), Some(2.0)];
const OPEN: [Option<f64>; 7] = [Some(21.6), Some(23.6), Some(26.5), Some(29.8), Some(33.5), Some(35.9), Some(37.3)];

fn main() -> Result<(), SimError> {
    show(
        "unit pulse along x, then zeros: millimetres in all",
        &PULSE_X,
        moved_x(|step| if step == 0 { 1.0 } else { 0.0 })?,
    );
    show("constant action of 1 along x: millimetres per step", &CONSTANT_X, differences(&moved_x(|_| 1.0)?));
    show("constant action of 0.3 along x: millimetres per step", &THIRD_X, differences(&moved_x(|_| 0.3)?));
    show("gripper closing: finger position in millimetres", &CLOSE, finger(1.0)?);
    show("gripper opening: finger position in millimetres", &OPEN, finger(-1.0)?);

    let mut arena = arena()?;
    let start = grip_site(&arena);
    for _ in 0..40 {
        arena.step(&[0.0; ACTION_DIM])?;
    }
    let drift = (grip_site(&arena) - start).length() * 1e3;
    println!("zero action for 2 s: the grip site has moved by {drift:.4} mm (robosuite: 0.0 mm)");
    Ok(())
}

/// An arena with the arm exactly at its home position.
fn arena() -> Result<SimArena, SimError> {
    let mut scene = LiftScene::embedded()?;
    scene.robot.joint_noise_std = 0.0;
    Ok(SimArena::new(Arc::new(Lift::new(scene)), Robot::panda()?, 0))
}

fn grip_site(arena: &SimArena) -> DVec3 {
    arena.view().map_or(DVec3::NAN, |view| view.arm().grip_site)
}

/// Movement of the grip site along x after each of ten control steps, millimetres.
fn moved_x(command: impl Fn(usize) -> f32) -> Result<Vec<f64>, SimError> {
    let mut arena = arena()?;
    let start = grip_site(&arena).x;
    (0..10)
        .map(|step| {
            arena.step(&[command(step), 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])?;
            Ok((grip_site(&arena).x - start) * 1e3)
        })
        .collect()
}

/// Position of the left finger after each control step, millimetres.
fn finger(command: f32) -> Result<Vec<f64>, SimError> {
    let mut arena = arena()?;
    (0..8)
        .map(|_| {
            arena.step(&[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, command])?;
            Ok(arena.view().map_or(f64::NAN, |view| view.arm().fingers[0]) * 1e3)
        })
        .collect()
}

fn differences(values: &[f64]) -> Vec<f64> {
    let before = std::iter::once(&0.0).chain(values);
    values.iter().zip(before).map(|(after, before)| after - before).collect()
}

fn show(title: &str, robosuite: &[Option<f64>], ours: Vec<f64>) {
    println!("{title}");
    let line = |name: &str, cells: Vec<String>| println!("  {name:<10}{}", cells.concat());
    line("robosuite", robosuite.iter().map(|cell| cell.map_or("      -".to_owned(), |v| format!("{v:7.1}"))).collect());
    line("ours", ours.iter().take(robosuite.len()).map(|value| format!("{value:7.1}")).collect());
}
