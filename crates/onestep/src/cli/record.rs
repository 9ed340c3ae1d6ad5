//! `onestep record`.

use std::path::PathBuf;

use anyhow::{Result, bail};
use bevy::prelude::*;
use clap::Args;
use onestep::{
    OnestepVisualPlugins, RunError,
    agent::Agent,
    folder::RunFolder,
    learn::{ActSettings, ActionChunk},
    record::{
        overlay::Overlay,
        recorder::Filmed,
        video::{RecordError, VideoOptions, record_rollout_watched},
    },
    run::{Role, add_plugins, evaluation_seeds},
    sim::{
        Arena,
        visual::{View, task_view},
    },
    ui::candidates_scale,
};

use super::{
    load_policy,
    screen::{Screen, complain, say, success},
    stop,
};

#[derive(Args)]
pub(super) struct RecordArgs {
    /// Run folder
    run: PathBuf,
    /// File to write: .mp4 or .gif for a film, .png for one picture, a folder of PNG frames when it ends in a slash
    /// [default: rollout.mp4 in the run folder]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// PNG with several moments side by side [default: rollout-strip.png in the run folder; none beside a .png]
    #[arg(long, value_name = "FILE")]
    strip: Option<PathBuf>,
    /// Episodes to film, one after the other
    #[arg(long, value_name = "N", default_value_t = 1)]
    episodes: usize,
    /// Worlds to film side by side, each with its own picture; 4 make a sheet of 2 by 2
    #[arg(long, value_name = "N", default_value_t = 1)]
    arenas: usize,
    /// Cameras: main, front, side, top, close
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "main")]
    views: Vec<String>,
    /// Words in the corner: success, reward, return, step, q; `candidates` is the scale of their colours
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    overlay: Vec<String>,
    /// Candidates that the critic chooses from [default: the run's]
    #[arg(long, value_name = "N")]
    candidates: Option<usize>,
    /// Control step of the first episode that a .png shows [default: the last]
    #[arg(long, value_name = "STEP")]
    step: Option<u32>,
    /// Width of the film in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 640)]
    width: u32,
    /// Height of the film in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 480)]
    height: u32,
    /// Film every so many control steps
    #[arg(long, value_name = "N", default_value_t = 1)]
    every: u32,
    /// Pictures for each second of the film [default: real time]
    #[arg(long, value_name = "RATE")]
    fps: Option<f64>,
    /// Quantiser of H.264: 0 is best, 51 smallest
    #[arg(long, value_name = "Q", default_value_t = VideoOptions::default().quantizer)]
    quantizer: u8,
    /// Root seed of the episodes [default: the run's]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

pub(super) fn record(args: &RecordArgs) -> Result<()> {
    /// More pictures than that nobody can tell apart.
    const MAX_TILES: usize = 64;
    stop::listen()?;
    let views = args.views.iter().map(|name| view(name)).collect::<Result<Vec<_>>>()?;
    let overlays = args.overlay.iter().map(|name| overlay(name)).collect::<Result<Vec<_>>>()?;
    if args.arenas == 0 || args.arenas * views.len() > MAX_TILES {
        bail!(
            "--arenas is {}; {} views of each allow 1 to {}",
            args.arenas,
            views.len(),
            MAX_TILES / views.len().max(1)
        );
    }
    if args.episodes == 0 {
        bail!("--episodes is 0; a film needs at least one");
    }
    if args.candidates == Some(0) {
        bail!("--candidates is 0; a policy needs at least one to choose from");
    }
    let (folder, mut config) = RunFolder::open(&args.run).map_err(RunError::from)?;
    let policy = load_policy(&config, &folder)?;
    config.seed = args.seed.unwrap_or(config.seed);
    config.validate().map_err(RunError::from)?;
    let out = args.out.clone().unwrap_or_else(|| folder.path().join("rollout.mp4"));
    let is_picture = out.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("png"));
    if args.step.is_some() && !is_picture {
        bail!("--step is the moment of a single picture, and --out is {}; its name must end in .png", out.display());
    }
    let strip = match &args.strip {
        Some(strip) => Some(strip.clone()),
        None if is_picture => None,
        None => Some(folder.path().join("rollout-strip.png")),
    };
    let options = VideoOptions {
        width: args.width,
        height: args.height,
        fps: args.fps,
        every: args.every,
        out: out.clone(),
        strip: strip.clone(),
        seeds: evaluation_seeds(&config, args.episodes.max(args.arenas)),
        overlays,
        still_step: args.step,
        quantizer: args.quantizer,
        ..VideoOptions::default()
    };
    let build = |app: &mut App| {
        add_plugins(app, &config, &Role::Film { policy, arenas: args.arenas });
        app.add_plugins(OnestepVisualPlugins);
        if let Some(mut settings) = app.world_mut().get_resource_mut::<ActSettings>() {
            settings.candidates = args.candidates.or(settings.candidates);
        }
        spawn_cameras(app.world_mut(), &config.task, &views);
        Ok::<(), RunError>(())
    };
    let mut screen = Screen::new();
    let result = record_rollout_watched(&options, build, |_, frames| {
        screen.update(|| format!("picture {frames}"));
        if stop::is_wanted() { Err("as asked".to_owned()) } else { Ok(()) }
    });
    screen.clear();
    let report = match result {
        Err(RecordError::Partial { frames, file, .. }) if stop::is_wanted() => {
            complain(&format!("the {frames} pictures until here are in {}", file.display()));
            return Err(RunError::Interrupted.into());
        }
        Err(RecordError::Stopped { .. }) if stop::is_wanted() => return Err(RunError::Interrupted.into()),
        result => result?,
    };
    say(&format!("{} pictures of {} control steps, drawn by {}", report.frames, report.ticks, report.adapter));
    say(&format!("success {}", success(&report.evaluation).trim_start()));
    match strip {
        Some(strip) => say(&format!("{} and {}", out.display(), strip.display())),
        None => say(&out.display().to_string()),
    }
    Ok(())
}

/// One camera for each arena and view, in the order of the arenas.
fn spawn_cameras(world: &mut World, task: &str, views: &[View]) {
    let mut arenas: Vec<(Agent, Entity)> = world
        .query_filtered::<(&Agent, Entity), With<Arena>>()
        .iter(world)
        .map(|(agent, arena)| (*agent, arena))
        .collect();
    arenas.sort_unstable();
    let pictures = arenas.into_iter().flat_map(|(_, arena)| views.iter().map(move |view| (arena, *view)));
    for (tile, (arena, view)) in (0..).zip(pictures) {
        world.spawn((task_view(task, view), Filmed { tile, agent: None }, ChildOf(arena)));
    }
}

fn view(name: &str) -> Result<View> {
    let Some(view) = View::named(name) else {
        let known: Vec<_> = View::NAMES.iter().map(|(name, _)| *name).collect();
        bail!("there is no view `{name}`; views: {}", known.join(", "));
    };
    Ok(view)
}

fn overlay(name: &str) -> Result<Overlay> {
    Ok(match name {
        "success" => Overlay::Success,
        "reward" => Overlay::Reward,
        "return" => Overlay::Return,
        "step" => Overlay::Step,
        "q" => Overlay::custom(|agent| agent.get::<ActionChunk>().map(|chunk| format!("Q {:.2}", chunk.q))),
        "candidates" => candidates_scale(),
        _ => bail!("there is no overlay `{name}`; overlays: success, reward, return, step, q, candidates"),
    })
}
