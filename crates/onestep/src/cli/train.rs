//! `onestep train`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use onestep::{
    RunError,
    config::has_expert,
    folder::{EvaluationKind, RunFolder},
    run::{Role, read_demonstrations, require_room},
    train::{TrainReport, Trainer},
};

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
    /// Go on with this run from its last checkpoint; its own settings hold
    #[arg(long, value_name = "FOLDER", exclusive = true)]
    resume: Option<PathBuf>,
}

pub(super) fn train(args: TrainArgs) -> Result<()> {
    stop::listen().context("cannot listen for Ctrl-C")?;
    let mut screen = TrainScreen::new();
    let (folder, mut trainer) = match args.resume {
        Some(path) => {
            let (folder, config) = RunFolder::open(&path).map_err(RunError::from)?;
            let trainer = Trainer::resume(folder.clone(), config, &mut screen)?;
            (folder, trainer)
        }
        None => {
            let config = args.settings.resolve(args.task)?;
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
            let place = Some(folder.clone());
            let trainer = match &from_file {
                Some(_) => Trainer::with_demonstrations(config, place, from_file.as_ref(), &mut screen),
                None => Trainer::new(config, place, &mut screen),
            };
            if trainer.is_err() {
                // Nothing was learned: the folder that was just made must not be in the way of the next attempt.
                let _ = std::fs::remove_dir_all(&path);
            }
            (folder, trainer?)
        }
    };
    let result = trainer.run(&mut screen);
    screen.clear();
    let path = folder.path().display();
    match result {
        Ok(report) => {
            finished(&report, &folder);
            Ok(())
        }
        Err(RunError::Interrupted) if screen.has_saved() => {
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
