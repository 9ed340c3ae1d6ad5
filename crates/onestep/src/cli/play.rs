//! `onestep play`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use onestep::{
    RunError,
    agent::{Agent, AgentSpec, SeedSource},
    config::{ConfigSources, RunConfig, Setting, has_expert},
    folder::RunFolder,
    learn::ActSettings,
    record::demonstrations::DemonstrationRecorder,
    run::{Baseline, Role},
    sim::SimError,
    ui::{Notice, Speed},
    window,
};

use super::{load_policy, screen::say, stop, window::WindowArgs};

#[derive(Args)]
pub(super) struct PlayArgs {
    /// Task (see `onestep list`)
    task: String,
    /// Who acts at the start: human, expert, random, zero, or the run folder of a policy
    #[arg(long, value_name = "WHO", default_value = "human")]
    agent: String,
    /// Root seed of the episodes [default: the number of episodes in the file of --out, else 0]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Candidates that the critic of a policy chooses from
    #[arg(long, value_name = "N")]
    candidates: Option<usize>,
    /// Record demonstrations into this file, an old one grows: .safetensors, .hdf5 or .npz
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    window: WindowArgs,
}

pub(super) fn play(args: &PlayArgs) -> Result<()> {
    stop::listen().context("cannot listen for Ctrl-C")?;
    if args.candidates == Some(0) {
        anyhow::bail!("--candidates is 0; a policy needs at least one to choose from");
    }
    let (mut config, role) = player(args)?;
    let recorder = match &args.out {
        Some(path) => Some(open_recorder(path, &config.task)?),
        None => None,
    };
    let recorded = recorder.as_ref().map_or(0, |recorder| recorder.episodes().len() as u64);
    config.seed = args.seed.unwrap_or(recorded);
    config.validate().map_err(RunError::from)?;
    let options = args.window.options(format!("Onestep: {}", config.task), Speed::Times(1.0))?;
    let candidates = args.candidates;
    window::play(
        &config,
        &role,
        &options,
        move |app| {
            let world = app.world_mut();
            // Seeds that no training run starts an episode from.
            for mut seeds in world.query::<&mut SeedSource>().iter_mut(world) {
                *seeds = SeedSource::Demonstration;
            }
            if let Some(mut settings) = world.get_resource_mut::<ActSettings>() {
                settings.candidates = candidates.or(settings.candidates);
            }
            if let Some(recorder) = recorder {
                world.insert_resource(recorder);
                if let Some(mut notice) = world.get_resource_mut::<Notice>() {
                    notice.tell("recording: → keeps an episode, ← discards it, Esc ends");
                }
            }
            Ok(())
        },
        stop::is_wanted,
    )?;
    if let Some(path) = &args.out
        && path.exists()
    {
        say(&format!("see what was recorded by `onestep data info {}`", path.display()));
    }
    Ok(())
}

/// Who acts, and the settings that the worlds are made with.
fn player(args: &PlayArgs) -> Result<(RunConfig, Role)> {
    let baseline = |baseline| (Role::Baseline(baseline), vec![Setting::new("play", "evaluation.arenas", "1")]);
    let (role, settings) = match args.agent.as_str() {
        "human" => (Role::Human, Vec::new()),
        "zero" => baseline(Baseline::Zero),
        "random" => baseline(Baseline::Random),
        "expert" => {
            if !has_expert(&args.task) && onestep::sim::task(&args.task).is_ok() {
                return Err(RunError::from(SimError::NoExpert { task: args.task.clone() }).into());
            }
            let (role, mut settings) = baseline(Baseline::Expert);
            // As good as it is: noise is for demonstrations that teach.
            settings.push(Setting::new("play", "demonstrations.action_noise_std", "0"));
            settings.push(Setting::new("play", "demonstrations.random_action_probability", "0"));
            (role, settings)
        }
        run => return policy(args, Path::new(run)),
    };
    let sources = ConfigSources { task: Some(args.task.clone()), settings, ..ConfigSources::default() };
    Ok((sources.resolve().map_err(RunError::from)?, role))
}

fn policy(args: &PlayArgs, run: &Path) -> Result<(RunConfig, Role)> {
    if !run.is_dir() {
        anyhow::bail!(
            "--agent is `{}`, which is no run folder; it must be human, expert, random, zero, or a run folder",
            run.display()
        );
    }
    let (folder, config) = RunFolder::open(run).map_err(RunError::from)?;
    if config.task != args.task {
        anyhow::bail!(
            "{} is a run of the task `{}`, not of `{}`: `onestep play {} --agent {}`",
            run.display(),
            config.task,
            args.task,
            config.task,
            run.display()
        );
    }
    let policy = load_policy(&config, &folder)?;
    Ok((config, Role::Show(policy)))
}

/// A file that cannot take the episodes is told before the window opens.
fn open_recorder(path: &Path, task: &str) -> Result<DemonstrationRecorder> {
    let spec: AgentSpec = onestep::sim::task(task).map_err(RunError::from)?.spec();
    Ok(DemonstrationRecorder::open(path, task, &spec, Agent(0)).map_err(RunError::from)?)
}
