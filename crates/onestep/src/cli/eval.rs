//! `onestep eval`.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use onestep::{RunError, fault, folder::RunFolder, run::evaluate_policy};

use super::{
    load_policy,
    screen::{Screen, say, success},
    stop,
};

#[derive(Args)]
pub(super) struct EvalArgs {
    /// Run folder
    run: PathBuf,
    /// Episodes to play [default: as the run's settings say]
    #[arg(long, value_name = "N")]
    episodes: Option<usize>,
    /// Root seed of the episodes [default: the run's, so the same episodes as its own evaluations]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Print the whole report as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn eval(args: &EvalArgs) -> Result<()> {
    stop::listen()?;
    let (folder, mut config) = RunFolder::open(&args.run).map_err(RunError::from)?;
    let policy = load_policy(&config, &folder)?;
    config.seed = args.seed.unwrap_or(config.seed);
    config.evaluation.episodes = args.episodes.unwrap_or(config.evaluation.episodes);
    config.validate().map_err(RunError::from)?;

    let episodes = config.evaluation.episodes;
    let mut screen = Screen::new();
    let result = evaluate_policy(&config, &policy, episodes, |world, done| {
        if !args.json {
            screen.update(|| format!("evaluation, episode {done} of {episodes}"));
        }
        match fault::of_app(world) {
            Some(fault) => Err(format!("{}: {}", fault.place, fault.error)),
            None if stop::is_wanted() => Err("as asked".to_owned()),
            None => Ok(()),
        }
    });
    screen.clear();
    if stop::is_wanted() {
        return Err(RunError::Interrupted.into());
    }
    let report = result?;
    if args.json {
        match serde_json::to_string_pretty(&report) {
            Ok(text) => say(&text),
            Err(error) => bail!("the report cannot be written as JSON: {error}"),
        }
        return Ok(());
    }
    say(&format!("success {}", success(&report).trim_start()));
    say(&format!("mean return {:.2}, mean length {:.1} control steps", report.mean_return, report.mean_steps));
    Ok(())
}
