//! Renders scenes of OGBench with their scripted experts, without a window: one picture of each task after a while.
//!
//! `cargo run --release -p onestep_record --example ogbench_pictures -- docs/images 40 cube-double-task2 scene-task4`

#![allow(clippy::print_stdout, reason = "an example prints what it made")]

use std::{convert::Infallible, error::Error, path::PathBuf};

use bevy::app::App;
use onestep_agent::AgentMode;
use onestep_record::video::{VideoOptions, record_rollout};
use onestep_sim::{
    SimPlugin,
    visual::{SimVisualPlugin, task_camera},
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().unwrap_or_else(|| ".".to_owned()));
    let steps: u32 = arguments.next().map_or(Ok(40), |text| text.parse())?;
    for task in arguments {
        let name = task.clone();
        let build = move |app: &mut App| {
            let sim = SimPlugin { task: name.clone(), mode: AgentMode::Scripted, ..SimPlugin::default() };
            app.add_plugins((sim, SimVisualPlugin::default()));
            app.world_mut().spawn(task_camera(&name));
            Ok::<(), Infallible>(())
        };
        let out = folder.join(format!("{task}.png"));
        let options = VideoOptions {
            width: 1280,
            height: 800,
            every: 10_000,
            still_step: Some(steps),
            out,
            ..VideoOptions::default()
        };
        let report = record_rollout(&options, build)?;
        println!("{}: {} frames of {} control steps", options.out.display(), report.frames, report.ticks);
    }
    Ok(())
}
