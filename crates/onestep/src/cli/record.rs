//! `onestep record`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use onestep::{
    OnestepVisualPlugins, RunError,
    folder::RunFolder,
    record::video::{VideoOptions, record_rollout},
    run::{Role, add_plugins, evaluation_seeds},
};

use super::{
    load_policy,
    screen::{say, success},
};

#[derive(Args)]
pub(super) struct RecordArgs {
    /// Run folder
    run: PathBuf,
    /// File to write: .gif for a film, .png for one picture [default: rollout.gif in the run folder]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// PNG with several moments side by side [default: rollout-strip.png in the run folder]
    #[arg(long, value_name = "FILE")]
    strip: Option<PathBuf>,
    /// Episodes to film, one after the other
    #[arg(long, value_name = "N", default_value_t = 1)]
    episodes: usize,
    /// Width of the picture in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 640)]
    width: u32,
    /// Height of the picture in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 480)]
    height: u32,
    /// Film every so many control steps
    #[arg(long, value_name = "N", default_value_t = 1)]
    every: u32,
    /// Pictures for each second of the film [default: real time]
    #[arg(long, value_name = "RATE")]
    fps: Option<f64>,
    /// Root seed of the episodes [default: the run's]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

pub(super) fn record(args: &RecordArgs) -> Result<()> {
    let (folder, mut config) = RunFolder::open(&args.run).map_err(RunError::from)?;
    let policy = load_policy(&config, &folder)?;
    config.seed = args.seed.unwrap_or(config.seed);
    config.validate().map_err(RunError::from)?;
    let out = args.out.clone().unwrap_or_else(|| folder.path().join("rollout.gif"));
    let strip = args.strip.clone().unwrap_or_else(|| folder.path().join("rollout-strip.png"));
    let options = VideoOptions {
        width: args.width,
        height: args.height,
        fps: args.fps,
        every: args.every,
        out: out.clone(),
        strip: Some(strip.clone()),
        seeds: evaluation_seeds(&config, args.episodes),
        ..VideoOptions::default()
    };
    let report = record_rollout(&options, |app| {
        add_plugins(app, &config, &Role::Show(policy));
        app.add_plugins(OnestepVisualPlugins);
        app.world_mut().spawn(onestep::sim::visual::task_camera(&config.task));
        Ok::<(), RunError>(())
    })?;
    say(&format!("{} pictures of {} control steps, drawn by {}", report.frames, report.ticks, report.adapter));
    say(&format!("success {}", success(&report.evaluation).trim_start()));
    say(&format!("{} and {}", out.display(), strip.display()));
    Ok(())
}
