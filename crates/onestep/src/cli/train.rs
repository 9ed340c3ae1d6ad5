//! `onestep train`.

use std::path::PathBuf;

#[cfg(feature = "render")]
use super::screen::SharedScreen;
use anyhow::{Context, Result};
use clap::Args;
use onestep::{
    RunError,
    config::has_expert,
    folder::{EvaluationKind, RunFolder},
    run::{Role, read_demonstrations, require_room},
    train::{Start, TrainReport, Trainer, wanted_demonstrations},
};
#[cfg(feature = "render")]
use onestep::{train::TrainRun, window::WindowOptions};
#[cfg(feature = "render")]
use std::{cell::RefCell, rc::Rc};

use super::{
    SettingArgs,
    screen::{TrainScreen, duration, kind_name, say, success},
    stop,
};

#[derive(Args)]
pub(super) struct TrainArgs {
    /// Task to learn (see `onestep list`); may stand in the file of --config instead
    #[arg(required_unless_present_any = ["resume", "config"])]
    task: Option<String>,
    #[command(flatten)]
    settings: SettingArgs,
    /// Run folder to make [default: a new one, runs/TASK-ALGORITHM-seedN]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Run folder whose networks the new run starts with
    #[arg(long, value_name = "FOLDER")]
    init_from: Option<PathBuf>,
    /// Go on with this run from its last checkpoint; its own settings hold, but a greater --online-steps prolongs it
    #[arg(long, value_name = "FOLDER", conflicts_with_all = [
        "task", "preset", "config", "algorithm", "seed", "compute", "learner", "arenas", "demonstrations",
        "offline_updates", "candidates", "set", "out", "init_from",
    ])]
    resume: Option<PathBuf>,
    /// Watch the run in a window; closing it saves
    #[cfg(feature = "render")]
    #[arg(long)]
    window: bool,
    #[cfg(feature = "render")]
    #[command(flatten)]
    window_options: super::window::WindowArgs,
}

pub(super) fn train(args: TrainArgs) -> Result<()> {
    stop::listen().context("cannot listen for Ctrl-C")?;
    let mut screen = TrainScreen::new();
    #[cfg(feature = "render")]
    let window = match args.window || args.window_options.is_set() {
        // A run that is watched is not slowed down by that, unless asked for.
        true => {
            let options = args.window_options.options("Onestep".to_owned(), onestep::ui::Speed::Max)?;
            // Told before demonstrations are made.
            onestep::window::require_display()?;
            Some(options)
        }
        false => None,
    };
    let is_new = args.resume.is_none();
    let (folder, config, start) = match args.resume {
        Some(path) => {
            let (folder, mut config) = RunFolder::open(&path).map_err(RunError::from)?;
            config.learner.online_steps = args.settings.online_steps.unwrap_or(config.learner.online_steps);
            (folder, config, Start::Resume)
        }
        None => {
            let mut config = args.settings.resolve(args.task)?;
            if let Some(other) = args.init_from {
                // Refused before demonstrations are made.
                RunFolder::open(&other).and_then(|(folder, _)| folder.existing_checkpoint()).map_err(RunError::from)?;
                config.init_from = Some(other);
            }
            // What does not fit is told before there is a folder in the way of the next attempt.
            require_room(&config, &Role::Train)?;
            let from_file = match &config.demonstrations.file {
                Some(path) => Some(read_demonstrations(&config, path, &mut |_, _| !stop::is_wanted())?),
                None => None,
            };
            let path = args.out.unwrap_or_else(|| RunFolder::free_path("runs".as_ref(), &config));
            let folder = RunFolder::create(&path, &config).map_err(RunError::from)?;
            say(&format!(
                "task {}, preset {}, seed {}; run folder {}",
                config.task,
                config.preset,
                config.seed,
                path.display()
            ));
            if !has_expert(&config.task) && from_file.is_none() {
                say("nobody demonstrates this task: no demonstrations, no offline phase, learning starts online");
            }
            let demonstrations = match from_file {
                Some(file) => Ok(Some(file)),
                None => wanted_demonstrations(&config, &mut screen),
            };
            (folder.clone(), config, Start::New(demonstrations.inspect_err(|_| forget(&folder))?))
        }
    };
    // Nothing was learned: the folder that was just made must not be in the way of the next attempt.
    let forget_new = |_: &RunError| {
        if is_new {
            forget(&folder);
        }
    };
    #[cfg(feature = "render")]
    if let Some(options) = window {
        let title = format!("Onestep: {} learns {}", config.algorithm.name(), config.task);
        let films = args.window_options.films_or(folder.path());
        let options = WindowOptions { title, films, ..options };
        let mut app = onestep::window::open(&config, &Role::Train, &options).inspect_err(forget_new)?;
        let begun = TrainRun::begin(&mut app, config, Some(folder.clone()), start, &mut screen);
        let begun = begun.inspect_err(forget_new)?;
        let screen = Rc::new(RefCell::new(screen));
        let result = onestep::window::train(app, begun, SharedScreen(screen.clone()));
        let has_saved = screen.borrow().has_saved();
        screen.borrow().clear();
        return conclude(result, &folder, has_saved);
    }
    let trainer = Trainer::start(config, Some(folder.clone()), start, &mut screen).inspect_err(forget_new);
    let result = trainer?.run(&mut screen);
    screen.clear();
    conclude(result, &folder, screen.has_saved())
}

/// Removes a folder that nothing was learned into.
fn forget(folder: &RunFolder) {
    let _ = std::fs::remove_dir_all(folder.path());
}

/// What a run has come to, in words.
fn conclude(result: Result<TrainReport, RunError>, folder: &RunFolder, has_saved: bool) -> Result<()> {
    let path = folder.path().display();
    match result {
        Ok(report) => {
            finished(&report, folder);
            Ok(())
        }
        Err(RunError::Interrupted) if has_saved => {
            say(&format!("saved; go on by `onestep train --resume {path}`"));
            Err(RunError::Interrupted.into())
        }
        Err(error @ RunError::Fault(_)) => {
            let hint = format!("the last states are in {}", folder.fault_path().display());
            Err(anyhow::Error::from(error).context(hint))
        }
        Err(error) => Err(error.into()),
    }
}

fn finished(report: &TrainReport, folder: &RunFolder) {
    for kind in [EvaluationKind::AfterOffline, EvaluationKind::Final] {
        if let Some(report) = report.evaluation(kind) {
            let (name, mean) = (kind_name(kind), report.mean_return);
            say(&format!("success {name:<24} {}, mean return {mean:.2}", success(report)));
        }
    }
    let path = folder.path().display();
    say(&format!(
        "done in {}; see it by `onestep record {path}`, measure it by `onestep eval {path}`",
        duration(report.wall_secs)
    ));
}
