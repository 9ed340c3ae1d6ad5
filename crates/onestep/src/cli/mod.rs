//! What the command understands, and what it says.

mod bench;
mod check;
mod collect;
mod data;
mod eval;
#[cfg(feature = "render")]
mod play;
#[cfg(feature = "render")]
mod record;
mod screen;
mod stop;
mod train;
#[cfg(feature = "render")]
mod window;

use std::{fmt::Write as _, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use onestep::{
    RunError,
    config::{ConfigSources, PRESETS, RunConfig, Setting, has_expert, tasks},
    learn::{AlgorithmConfig, PolicyHandle, checkpoint, prepare},
    run::{Role, build_app},
};

use screen::say;

const EXAMPLES: &str = "\
Examples:
  onestep train lift                                 learn to lift a cube; minutes on a laptop
  onestep train lift --seed 1 --online-steps 5000    another seed, a shorter online phase
  onestep train lift --set algorithm.tau=0.01        any setting of the run's config.toml
  onestep train --resume runs/lift-mvp-seed0         go on after an interruption
  onestep eval runs/lift-mvp-seed0                   success rate over 50 episodes
  onestep play lift --agent runs/lift-mvp-seed0      watch it in a window, take over by keyboard
  onestep record runs/lift-mvp-seed0 --out lift.mp4  film an episode; no window needed
  onestep collect lift --out lift.hdf5               episodes of the scripted expert as a dataset
  onestep bench algorithms lift                      all algorithms side by side: hours";

/// Agents learn and act in a robotics simulation: one process, no Python.
#[derive(Parser)]
#[command(name = "onestep", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train a policy: demonstrations, offline phase, online phase, evaluations.
    Train(Box<train::TrainArgs>),
    /// Measure how often policies of runs, or agents that learned nothing, succeed.
    Eval(eval::EvalArgs),
    /// Watch an agent in a window, act by keyboard, record demonstrations.
    #[cfg(feature = "render")]
    Play(play::PlayArgs),
    /// Film the policy of a run, without a window.
    #[cfg(feature = "render")]
    Record(Box<record::RecordArgs>),
    /// Write episodes of the scripted expert to a file.
    Collect(collect::CollectArgs),
    /// Check that tasks keep the contract: spaces, determinism, resets, neighbours, expert.
    Check(check::CheckArgs),
    /// Compare: train several algorithms alike, and set them side by side.
    Bench(bench::BenchArgs),
    /// Look at datasets, convert them, repeat them in the simulator.
    Data(data::DataArgs),
    /// Show all tasks, algorithms and presets.
    List,
}

/// Settings that may be given on the command line.
#[derive(Args)]
struct SettingArgs {
    /// Preset to start from (see `onestep list`) [default: small]
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// TOML file with settings that lie over the preset
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Algorithm (see `onestep list`)
    #[arg(long, value_name = "NAME")]
    algorithm: Option<String>,
    /// Root seed: the same seed gives the same run
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Device that learns: auto, cpu or gpu
    #[arg(long, value_name = "DEVICE")]
    compute: Option<String>,
    /// Where updates are made: inline (repeatable) or background (the world goes on meanwhile)
    #[arg(long, value_name = "WHERE")]
    learner: Option<String>,
    /// Worlds that the learning agents act in, side by side
    #[arg(long, value_name = "N")]
    arenas: Option<usize>,
    /// Episodes of the scripted expert to start from
    #[arg(long, value_name = "N")]
    demonstrations: Option<usize>,
    /// Updates on demonstrations alone
    #[arg(long, value_name = "N")]
    offline_updates: Option<u64>,
    /// Control steps of the online phase
    #[arg(long, value_name = "N")]
    online_steps: Option<u64>,
    /// Candidates that the critic chooses from when acting
    #[arg(long, value_name = "N")]
    candidates: Option<usize>,
    /// Any setting by its name in config.toml; may be repeated, and wins over the other options
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl SettingArgs {
    fn resolve(&self, task: Option<String>) -> Result<RunConfig, RunError> {
        self.resolve_with(task, Vec::new())
    }

    /// With `own` settings of a command, over which `--set` lies.
    fn resolve_with(&self, task: Option<String>, own: Vec<Setting>) -> Result<RunConfig, RunError> {
        let number = |value: Option<u64>| value.map(|value| value.to_string());
        let count = |value: Option<usize>| value.map(|value| value.to_string());
        let options = [
            ("--algorithm", "algorithm.name", self.algorithm.clone()),
            ("--seed", "seed", number(self.seed)),
            ("--compute", "compute", self.compute.clone()),
            ("--learner", "learner.execution", self.learner.clone()),
            ("--arenas", "arenas", count(self.arenas)),
            ("--demonstrations", "demonstrations.episodes", count(self.demonstrations)),
            ("--offline-updates", "learner.offline_updates", number(self.offline_updates)),
            ("--online-steps", "learner.online_steps", number(self.online_steps)),
            ("--candidates", "algorithm.candidates", count(self.candidates)),
        ];
        let mut settings: Vec<Setting> =
            options.into_iter().filter_map(|(origin, key, value)| Some(Setting::new(origin, key, &value?))).collect();
        settings.extend(own);
        for text in &self.set {
            settings.push(Setting::parse("--set", text)?);
        }
        let sources = ConfigSources { task, preset: self.preset.clone(), file: self.config.clone(), settings };
        Ok(sources.resolve()?)
    }
}

/// Exit code after Ctrl-C, as shells expect it: 128 and the number of the signal.
const INTERRUPTED: u8 = 130;

/// Runs the command.
pub(crate) fn main() -> ExitCode {
    start_log();
    let result = match Cli::parse().command {
        Command::Train(args) => train::train(*args),
        Command::Collect(args) => collect::collect_episodes(&args),
        Command::Check(args) => check::check(&args),
        Command::Eval(args) => eval::eval(&args),
        #[cfg(feature = "render")]
        Command::Play(args) => play::play(&args),
        Command::Bench(args) => bench::bench(&args),
        #[cfg(feature = "render")]
        Command::Record(args) => record::record(&args),
        Command::Data(args) => data::data(&args),
        Command::List => {
            list();
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if matches!(error.downcast_ref(), Some(RunError::Interrupted)) => {
            screen::complain("interrupted");
            ExitCode::from(INTERRUPTED)
        }
        Err(error) => {
            screen::complain(&format!("error: {}", screen::all_causes(&error)));
            ExitCode::FAILURE
        }
    }
}

/// Messages of the libraries go to the error output. The variable `RUST_LOG` chooses others.
fn start_log() {
    // A fault of the simulation is reported by the command itself.
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("error,onestep_learn=warn,onestep_sim=off"));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time();
    // Only a second subscriber could be refused, and there is none.
    let _ = subscriber.try_init();
}

fn list() {
    let mut text = String::from("tasks\n");
    for task in tasks() {
        let start = if has_expert(task) { "demonstrations by a script" } else { "learned online from the start" };
        let _ = writeln!(text, "  {task:<26}{start}");
    }
    text.push_str("algorithms\n");
    for algorithm in AlgorithmConfig::NAMES.iter().filter_map(|name| AlgorithmConfig::named(name)) {
        let _ = writeln!(text, "  {:<12}{}", algorithm.name(), algorithm.summary());
    }
    text.push_str("presets\n");
    for preset in PRESETS {
        let _ = writeln!(text, "  {:<8}{}", preset.name, preset.summary);
    }
    say(text.trim_end());
}

/// The policy of a run, with the weights of its last checkpoint.
fn load_policy(config: &RunConfig, folder: &onestep::folder::RunFolder) -> Result<PolicyHandle, RunError> {
    let saved = folder.existing_checkpoint()?;
    let mut app = build_app(config, &Role::Train);
    let policy = prepare(&mut app)?;
    checkpoint::load_weights(&policy, &saved)?;
    Ok(policy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_is_well_formed() {
        Cli::command().debug_assert();
    }
}
