//! OGBench's tasks without Bevy: observations, the arm's answer, physics, experts, outcomes, determinism.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bevy::math::{DQuat, DVec3, Vec3};
use bevy_rapier3d::rapier::glamx::DPose3;
use onestep_data::ogbench::OgbenchData;
use onestep_sim::{
    ExpertMemory, ManipModel, ManipReward, ManipState, ManipTask, Oracle, Robot, SimArena, SuccessTiming, Task, task,
};
use serde::Deserialize;

fn fixture(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/ogbench")).join(name)
}

fn arena_of(task: ManipTask, seed: u64) -> SimArena {
    SimArena::new(Arc::new(task), Robot::panda().unwrap(), seed)
}

fn arena(name: &str, seed: u64) -> SimArena {
    arena_of(ManipTask::named(name).unwrap(), seed)
}

fn manip(arena: &SimArena) -> &ManipModel {
    arena.manip().unwrap()
}

/// Holds the arm up without moving it much.
const HOLD: [f32; 5] = [0.0, 0.0, 0.05, 0.0, 0.0];

#[test]
fn observations_are_the_originals() {
    for name in ["cube-double", "scene", "puzzle-3x3"] {
        let data = OgbenchData::read(&fixture(&format!("{name}.npz"))).unwrap();
        let task = ManipTask::named(name).unwrap();
        let contact = task.spec().observation.range("gripper_contact").unwrap().start;
        let (qpos, qvel) = (data.qpos.unwrap(), data.qvel.unwrap());
        let rows = data.observations.values.chunks_exact(data.observations.width);
        let (mut largest, mut at) = (0.0f32, 0);
        for (row, expected) in rows.enumerate() {
            let double = |columns: &onestep_data::ogbench::Columns<f32>| -> Vec<f64> {
                columns.values[row * columns.width..][..columns.width].iter().map(|v| f64::from(*v)).collect()
            };
            let buttons: Vec<u8> = data.button_states.as_ref().map_or_else(Vec::new, |states| {
                states.values[row * states.width..][..states.width].iter().map(|state| *state as u8).collect()
            });
            let ours = task.observation_of(&double(&qpos), &double(&qvel), &buttons).unwrap();
            assert_eq!(ours.len(), expected.len());
            for (i, (ours, expected)) in ours.iter().zip(expected).enumerate() {
                if i != contact && (ours - expected).abs() > largest {
                    (largest, at) = ((ours - expected).abs(), i);
                }
            }
        }
        assert!(largest < 1e-4, "{name}: number {at} is off by {largest}");
    }
}

#[test]
fn positions_and_velocities_are_laid_out_as_in_the_originals_files() {
    for name in ["cube-double", "scene", "puzzle-3x3"] {
        let arena = arena(name, 1);
        let model = manip(&arena);
        let (scene, state) = (model.task().scene(), model.state());
        let back = ManipState::from_benchmark(scene, arena.joint_positions(), arena.joint_velocities(), &state.button_states)
            .unwrap();
        assert_eq!(&back, state);
        let again = model
            .task()
            .observation_of(arena.joint_positions(), arena.joint_velocities(), &state.button_states)
            .unwrap();
        assert_eq!(again, arena.observation());
        assert!(ManipState::from_benchmark(scene, &[0.0; 3], arena.joint_velocities(), &[]).is_none());
    }
}

/// What the original's arm did.
#[derive(Deserialize)]
struct Response {
    joints: Vec<f64>,
    cube: [f64; 3],
    actions: Vec<[f32; 5]>,
    /// Grip site, yaw, closure, contact, cube.
    rows: Vec<[f64; 9]>,
}

fn responses() -> BTreeMap<String, Response> {
    toml::from_str(&std::fs::read_to_string(fixture("responses.toml")).unwrap()).unwrap()
}

/// What ours does: the same numbers.
fn respond(response: &Response) -> Vec<[f64; 9]> {
    let mut scene = onestep_sim::ManipScene::embedded("cube-single").unwrap();
    if let Ok(n) = std::env::var("SUBSTEPS") { scene.physics.substeps = n.parse().unwrap(); }
    let mut arena = arena_of(ManipTask::of_scene(scene, onestep_sim::ServoRobot::ur5e().unwrap(), 1).unwrap(), 0);
    let mut positions = arena.joint_positions().to_vec();
    positions[..6].copy_from_slice(&response.joints);
    positions[6..14].fill(0.0);
    positions[14..17].copy_from_slice(&response.cube);
    positions[17..21].copy_from_slice(&[1.0, 0.0, 0.0, 0.0]);
    assert!(arena.set_joints(&positions, &[0.0; 20]));
    let answer = |action: &[f32; 5]| {
        arena.step(action).unwrap();
        let model = manip(&arena);
        let (site, cube) = (model.effector(), model.state().cubes[0].translation);
        [site.x, site.y, site.z, model.effector_yaw(), model.closure(), model.state().contact, cube.x, cube.y, cube.z]
    };
    response.actions.iter().map(answer).collect()
}

#[test]
fn the_arm_answers_as_in_the_original() {
    for (name, response) in responses() {
        let ours = respond(&response);
        let (mut site, mut yaw, mut closure) = (0.0f64, 0.0f64, 0.0f64);
        for (ours, expected) in ours.iter().zip(&response.rows) {
            site = (0..3).map(|i| (ours[i] - expected[i]).abs()).fold(site, f64::max);
            yaw = yaw.max((ours[3] - expected[3]).abs());
            closure = closure.max((ours[4] - expected[4]).abs());
            if std::env::var_os("ONESTEP_SHOW").is_some() {
                println!("{name} ours {ours:.4?}\n{name} orig {expected:.4?}");
            }
        }
        println!("{name}: site {:.2} mm, yaw {yaw:.4} rad, closure {closure:.4}", site * 1e3);
    }
}
