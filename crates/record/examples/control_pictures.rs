//! Renders every control task without a window: one picture each, and a strip of frames of one episode.
//!
//! `cargo run --release --example control_pictures -- FOLDER`

#![allow(clippy::print_stdout, reason = "an example prints what it made")]

use std::{convert::Infallible, error::Error, path::PathBuf};

use bevy::{app::prelude::*, ecs::prelude::*};
use onestep_agent::{ActOrder, Action, AgentMode, Episode};
use onestep_record::video::{VideoOptions, record_rollout};
use onestep_sim::{
    SimPlugin, task, tasks,
    visual::{SimVisualPlugin, task_camera},
};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| ".".to_owned()));
    std::fs::create_dir_all(&folder)?;
    for name in tasks() {
        if task(name)?.has_expert() {
            continue; // shown by its expert elsewhere
        }
        let options = VideoOptions {
            width: 640,
            height: 400,
            every: 5,
            out: folder.join(format!("{name}.png")),
            still_step: Some(10),
            strip: Some(folder.join(format!("{name}-strip.png"))),
            strip_frames: 5,
            ..VideoOptions::default()
        };
        let report = record_rollout(&options, |app: &mut App| {
            app.add_plugins((
                SimPlugin { task: (*name).to_owned(), mode: AgentMode::Human, ..SimPlugin::default() },
                SimVisualPlugin::default(),
            ))
            .add_systems(FixedUpdate, swing.in_set(ActOrder::Human));
            app.world_mut().spawn(task_camera(name));
            Ok::<(), Infallible>(())
        })?;
        println!("{name}: {} frames of {} control steps, by {}", report.frames, report.ticks, report.adapter);
    }
    Ok(())
}

/// Nobody has learned anything here, so the motors just swing.
fn swing(mut agents: Query<(&Episode, &mut Action)>) {
    for (episode, mut action) in &mut agents {
        let values: Vec<f32> =
            (0..action.values().len()).map(|joint| 0.2 * (0.3 * episode.step as f32 + joint as f32).sin()).collect();
        action.set(&values);
    }
}
