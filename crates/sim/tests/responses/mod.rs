//! What the original's arm did under fixed actions, and what ours does.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bevy::math::DVec3;
use onestep_sim::{ManipScene, ManipTask, Robot, ServoRobot, SimArena};
use serde::Deserialize;

pub fn fixture(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/ogbench")).join(name)
}

/// What the original's arm did.
#[derive(Deserialize)]
pub struct Response {
    pub joints: Vec<f64>,
    pub cube: [f64; 3],
    pub actions: Vec<[f32; 5]>,
    /// Grip site, yaw, closure, contact, cube.
    pub rows: Vec<[f64; 9]>,
}

pub fn responses() -> BTreeMap<String, Response> {
    toml::from_str(&std::fs::read_to_string(fixture("responses.toml")).unwrap()).unwrap()
}

/// What ours does: the same numbers.
pub fn respond(response: &Response, substeps: Option<u32>) -> Vec<[f64; 9]> {
    let mut scene = ManipScene::embedded("cube-single").unwrap();
    if let Some(substeps) = substeps {
        scene.physics.substeps = substeps;
    }
    let task = ManipTask::of_scene(scene, ServoRobot::ur5e().unwrap(), 1).unwrap();
    let mut arena = SimArena::new(Arc::new(task), Robot::panda().unwrap(), 0);
    let mut positions = arena.joint_positions().to_vec();
    positions[..6].copy_from_slice(&response.joints);
    positions[6..14].fill(0.0);
    positions[14..17].copy_from_slice(&response.cube);
    positions[17..21].copy_from_slice(&[1.0, 0.0, 0.0, 0.0]);
    assert!(arena.set_joints(&positions, &[0.0; 20]));
    let answer = |action: &[f32; 5]| {
        arena.step(action).unwrap();
        let model = arena.manip().unwrap();
        let (site, cube) = (model.effector(), model.state().cubes[0].translation);
        [site.x, site.y, site.z, model.effector_yaw(), model.closure(), model.state().contact, cube.x, cube.y, cube.z]
    };
    response.actions.iter().map(answer).collect()
}

/// Largest differences of grip site (metres), yaw (radians) and closure from the original's.
pub fn differences(response: &Response, substeps: Option<u32>) -> [f64; 3] {
    let ours = respond(response, substeps);
    ours.iter().zip(&response.rows).fold([0.0; 3], |[site, yaw, closure], (ours, theirs)| {
        let way = DVec3::from_slice(&ours[..3]).distance(DVec3::from_slice(&theirs[..3]));
        [way.max(site), (ours[3] - theirs[3]).abs().max(yaw), (ours[4] - theirs[4]).abs().max(closure)]
    })
}
