//! `onestep check`.

use anyhow::{Result, bail};
use clap::Args;
use onestep::sim::{
    Robot,
    check::{CheckOptions, check_task},
    task, tasks,
};

use super::{
    screen::{Screen, say},
    stop,
};

#[derive(Args)]
pub(super) struct CheckArgs {
    /// Tasks to check (see `onestep list`)
    #[arg(required_unless_present = "all")]
    tasks: Vec<String>,
    /// Check every task there is
    #[arg(long, conflicts_with = "tasks")]
    all: bool,
    /// Seed of everything that is drawn
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Episodes of the zero and of the random agent, each [default: 5]
    #[arg(long, value_name = "N")]
    episodes: Option<u32>,
    /// Episodes of the expert [default: 20]
    #[arg(long, value_name = "N")]
    expert_episodes: Option<u32>,
    /// Share of the expert's episodes that must succeed [default: 0.8]
    #[arg(long, value_name = "SHARE")]
    expert_success: Option<f64>,
    /// Few episodes and short comparisons
    #[arg(long)]
    quick: bool,
    /// Print the reports as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn check(args: &CheckArgs) -> Result<()> {
    stop::listen()?;
    let names: Vec<&str> = if args.all { tasks().to_vec() } else { args.tasks.iter().map(String::as_str).collect() };
    // A wrong name is told before long work.
    let chosen: Vec<_> = names.into_iter().map(task).collect::<Result<_, _>>()?;
    let usual = if args.quick { CheckOptions::quick() } else { CheckOptions::default() };
    let options = CheckOptions {
        seed: args.seed,
        episodes: args.episodes.unwrap_or(usual.episodes),
        expert_episodes: args.expert_episodes.unwrap_or(usual.expert_episodes),
        expert_success: args.expert_success.unwrap_or(usual.expert_success),
        ..usual
    };
    if options.episodes == 0 || options.expert_episodes == 0 {
        bail!("--episodes and --expert-episodes must be at least 1");
    }
    if !(0.0..=1.0).contains(&options.expert_success) {
        bail!("--expert-success is {}, and must lie between 0 and 1", options.expert_success);
    }
    let robot = Robot::panda()?;
    let mut screen = Screen::new();
    let mut reports = Vec::new();
    for (index, task) in chosen.iter().enumerate() {
        if stop::is_wanted() {
            return Err(onestep::RunError::Interrupted.into());
        }
        if !args.json {
            screen.update(|| format!("checking `{}`, {} of {}", task.name(), index + 1, chosen.len()));
        }
        let report = check_task(task, &robot, &options);
        if !args.json {
            screen.note(&report.to_string());
        }
        reports.push(report);
    }
    screen.clear();
    if args.json {
        say(&serde_json::to_string_pretty(&reports)?);
    }
    let failed: Vec<&str> =
        reports.iter().filter(|report| !report.passed()).map(|report| report.task.as_str()).collect();
    match failed.as_slice() {
        [] => Ok(()),
        failed => bail!("{} of {} tasks do not keep the contract: {}", failed.len(), reports.len(), failed.join(", ")),
    }
}
