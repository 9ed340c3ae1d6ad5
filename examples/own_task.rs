//! A task of one's own for our arm: a scene file and a small implementation of two traits.
//!
//! `cargo run --release --example own_task` lets a script push the puck into the ring, twenty times, and with
//! `-- own_task.png` it draws it at work. The same task takes a policy: give it to `SimPlugin { custom_task: Some(Arc::new(task)), .. }` beside `PolicyPlugin` and `LearnerPlugin`.
#![allow(clippy::print_stdout, reason = "an example prints what came out")]

use std::{convert::Infallible, error::Error, path::Path, sync::Arc};

use bevy::{math::DVec3, prelude::*};
use onestep::agent::{ActionSpace, AgentMode, AgentSpec, ObservationSpace};
use onestep::record::video::{VideoOptions, record_rollout};
use onestep::sim::scene::ArmScene;
use onestep::sim::visual::{SimVisualPlugin, default_camera};
use onestep::sim::{
    ArenaView, ArmModel, ArmTask, ExpertMemory, Grip, Model, Reach, Robot, SimArena, SimError, SimPlugin, Task,
    TaskOutcome, down, observe_arm,
};
use serde::Deserialize;

/// Where robots, fixtures and objects stand is data.
const SCENE: &str = include_str!("own_task.toml");

/// The task's own figures, from the table `[goal]` of the scene.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Goal {
    distance: f64,
}

/// Push a puck into a ring.
#[derive(Debug, Clone)]
struct PushPuck {
    scene: ArmScene,
    goal: Goal,
}

impl PushPuck {
    fn new(file: &str, text: &str) -> Result<Self, SimError> {
        let scene = ArmScene::parse_for("push-puck", &["puck", "ring"], file, text)?;
        Ok(Self { goal: scene.goal(file)?, scene })
    }

    fn puck_and_ring(&self, view: &ArenaView<'_>) -> (DVec3, DVec3) {
        let ring = self.scene.fixture("ring").unwrap_or_default();
        (view.object(0).translation, view.fixture(ring).translation)
    }
}

impl Task for PushPuck {
    fn name(&self) -> &'static str {
        "push-puck"
    }

    fn spec(&self) -> AgentSpec {
        AgentSpec::new(
            ObservationSpace::new([("eef_pos", 3), ("eef_quat", 4), ("gripper_qpos", 2), ("puck", 3), ("ring", 3)]),
            ActionSpace::new(["dx", "dy", "dz", "rx", "ry", "rz", "gripper"]),
            self.scene.max_episode_steps,
        )
    }

    fn control_period_secs(&self) -> f64 {
        self.scene.physics.control_period_secs
    }

    fn has_expert(&self) -> bool {
        true
    }

    fn model(self: Arc<Self>, robot: &Arc<Robot>, seed: u64) -> Box<dyn Model> {
        Box::new(ArmModel::new(self, robot.clone(), seed))
    }
}

impl ArmTask for PushPuck {
    fn scene(&self) -> &ArmScene {
        &self.scene
    }

    fn observe(&self, view: &ArenaView<'_>, observation: &mut Vec<f32>) {
        observation.clear();
        observe_arm(&view.arm(), observation);
        let (puck, ring) = self.puck_and_ring(view);
        observation.extend(puck.to_array().into_iter().chain(ring.to_array()).map(|number| number as f32));
    }

    fn outcome(&self, view: &ArenaView<'_>) -> TaskOutcome {
        let (puck, ring) = self.puck_and_ring(view);
        TaskOutcome::sparse((puck - ring).truncate().length() < self.goal.distance)
    }

    /// Not needed, but then there are demonstrations: behind the puck, down, and through it towards the ring.
    fn expert(&self, view: &ArenaView<'_>, memory: &mut ExpertMemory) -> Option<Vec<f32>> {
        let (arm, clock) = (view.arm(), memory.clock());
        let (puck, ring) = self.puck_and_ring(view);
        let way = (ring - puck).with_z(0.0).normalize_or(DVec3::X);
        let low = puck.with_z(0.818);
        let behind = low - way * 0.06;
        let beside = (arm.grip_site - low).with_z(0.0).reject_from_normalized(way).length();

        clock.steps += 1;
        let to = |position: DVec3| Reach::new(position, down(0.0), Grip::Close);
        let next = match clock.phase {
            0 => to(behind.with_z(0.9)).reached(&arm, 0.02, 0.2).then_some(1),
            1 => to(behind).reached(&arm, 0.01, 0.2).then_some(2),
            _ => (beside > 0.02).then_some(0),
        };
        if let Some(phase) = next {
            clock.enter(phase);
        }
        let reach = match clock.phase {
            0 => to(behind.with_z(0.9)),
            1 => to(behind),
            _ => to(low + way * 0.01).slowly(0.4),
        };
        Some(reach.action(&arm).to_vec())
    }
}

/// How many of `episodes` the script solves.
fn successes(episodes: u64) -> Result<usize, SimError> {
    let task = Arc::new(PushPuck::new("own_task.toml", SCENE)?);
    let robot = Robot::panda()?;
    let mut solved = 0;
    for seed in 0..episodes {
        let mut arena = SimArena::new(task.clone(), robot.clone(), seed);
        let mut memory = ExpertMemory::default();
        loop {
            let action = arena.expert(&mut memory).unwrap_or_default();
            let outcome = arena.step(&action)?;
            if outcome.is_end() {
                solved += usize::from(outcome.success);
                break;
            }
        }
    }
    Ok(solved)
}

/// Draws the script at work: one control step of an episode, by the plugins that any app would add.
fn draw(path: &Path) -> Result<(), Box<dyn Error>> {
    let task = Arc::new(PushPuck::new("own_task.toml", SCENE)?);
    let build = |app: &mut App| {
        app.add_plugins((
            SimPlugin { custom_task: Some(task), mode: AgentMode::Scripted, ..SimPlugin::default() },
            SimVisualPlugin::default(),
        ));
        // Near enough to see hand, puck and ring.
        let place = Transform::from_xyz(0.74, 1.27, 0.60).looking_at(Vec3::new(0.0, 0.87, 0.0), Vec3::Y);
        app.world_mut().spawn(default_camera()).insert(place);
        Ok::<(), Infallible>(())
    };
    let options = VideoOptions {
        width: 640,
        height: 400,
        out: path.to_owned(),
        seeds: vec![4],
        still_step: Some(40),
        ..VideoOptions::default()
    };
    record_rollout(&options, build)?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("{} of 20 pucks are in the ring", successes(20)?);
    match std::env::args().nth(1) {
        Some(path) => draw(path.as_ref()),
        None => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn the_script_solves_it() {
        assert!(successes(10).unwrap() >= 9);
    }

    #[test]
    fn a_mistake_in_the_scene_is_named() {
        let error = PushPuck::new("own_task.toml", &SCENE.replace("distance", "distanse")).unwrap_err().to_string();
        assert!(error.contains("own_task.toml") && error.contains("distanse"), "{error}");
    }
}
