//! Renders the scripted expert of a task, without a window: a video, a strip of frames and one picture.
//!
//! `cargo run --release -p onestep_record --example lift_picture -- docs/images [TASK]`

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
    let folder = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| ".".to_owned()));
    let task = std::env::args().nth(2).unwrap_or_else(|| "lift".to_owned());
    let build = |app: &mut App| {
        app.add_plugins((
            SimPlugin { task: task.clone(), mode: AgentMode::Scripted, ..SimPlugin::default() },
            SimVisualPlugin::default(),
        ));
        app.world_mut().spawn(task_camera(&task));
        Ok::<(), Infallible>(())
    };
    let video = VideoOptions {
        width: 480,
        height: 360,
        every: 2,
        out: folder.join(format!("{task}.gif")),
        strip: Some(folder.join(format!("{task}-strip.png"))),
        strip_frames: 5,
        ..VideoOptions::default()
    };
    let picture = VideoOptions {
        width: 1280,
        height: 800,
        every: u32::MAX,
        out: folder.join(format!("{task}.png")),
        ..VideoOptions::default()
    };
    for options in [picture, video] {
        let start = std::time::Instant::now();
        let report = record_rollout(&options, build)?;
        let file = options.out.display();
        let (frames, ticks, adapter) = (report.frames, report.ticks, report.adapter);
        println!(
            "{file}: {frames} frames of {ticks} control steps, by {adapter}, in {:.1} s",
            start.elapsed().as_secs_f64()
        );
    }
    Ok(())
}
