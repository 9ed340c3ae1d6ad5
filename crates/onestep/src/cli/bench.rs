//! `onestep bench`.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use onestep::{
    RunError,
    bench::{Outcome, measure_speed, run_or_resume, table},
    config::{RunConfig, Setting},
    data::atomic,
    learn::AlgorithmConfig,
    run::{Role, build_app},
};

use super::{
    SettingArgs,
    screen::{TrainScreen, say},
    stop,
};

#[derive(Args)]
pub(super) struct BenchArgs {
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Subcommand)]
enum BenchCommand {
    /// Train algorithms on a task and write a table and learning curves.
    Algorithms(AlgorithmsArgs),
}

#[derive(Args)]
struct AlgorithmsArgs {
    /// Task to learn (see `onestep list`)
    task: String,
    /// Which ones, with commas between them (see `onestep list`) [default: all]
    #[arg(long = "of", value_name = "NAME,NAME", value_delimiter = ',')]
    algorithms: Vec<String>,
    /// Seeds, with commas between them
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "0")]
    seeds: Vec<u64>,
    /// Folder for the runs, table.md and curves.png; what is there is taken up [default: runs/bench-TASK]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    #[command(flatten)]
    settings: SettingArgs,
}

pub(super) fn bench(args: &BenchArgs) -> Result<()> {
    match &args.command {
        BenchCommand::Algorithms(args) => algorithms(args),
    }
}

fn algorithms(args: &AlgorithmsArgs) -> Result<()> {
    stop::listen().context("cannot listen for Ctrl-C")?;
    if args.settings.algorithm.is_some() || args.settings.seed.is_some() {
        bail!("a comparison has several algorithms and seeds: use --of and --seeds");
    }
    let names: Vec<String> = if args.algorithms.is_empty() {
        AlgorithmConfig::NAMES.map(str::to_owned).into()
    } else {
        args.algorithms.clone()
    };
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from(format!("runs/bench-{}", args.task)));
    // All descriptions are checked before the first run begins.
    let mut plans = Vec::new();
    for name in &names {
        for seed in &args.seeds {
            let own =
                [Setting::new("--of", "algorithm.name", name), Setting::new("--seeds", "seed", &seed.to_string())];
            let config = args.settings.resolve_with(Some(args.task.clone()), own.into())?;
            plans.push((out.join(format!("{name}-seed{seed}")), config));
        }
    }
    let count = plans.len();
    let mut outcomes = Vec::new();
    for (number, (folder, config)) in plans.into_iter().enumerate() {
        say(&format!("run {} of {count}: {}, seed {}", number + 1, config.algorithm.name(), config.seed));
        let mut screen = TrainScreen::new();
        let result = run_or_resume(&config, &folder, &mut screen);
        screen.clear();
        match result {
            Ok(evaluations) => {
                let speed = measure_speed(&config, &sizes(&config)?)?;
                outcomes.push(Outcome { config, evaluations, speed });
                write(&out, &args.task, &outcomes)?;
            }
            Err(RunError::Interrupted) => {
                say("saved; the same command goes on");
                return Err(RunError::Interrupted.into());
            }
            Err(error) => return Err(anyhow::Error::from(error).context(folder.display().to_string())),
        }
    }
    say(&table(&outcomes));
    say(&format!("table and curves are in {}", out.display()));
    Ok(())
}

/// The sizes of the policy of a run.
fn sizes(config: &RunConfig) -> Result<onestep::policy::PolicySpec> {
    let mut app = build_app(config, &Role::Train);
    let policy = onestep::learn::prepare(&mut app).map_err(RunError::from)?;
    Ok(onestep::bench::spec_of(&policy))
}

fn write(out: &std::path::Path, task: &str, outcomes: &[Outcome]) -> Result<()> {
    atomic::write(&out.join("table.md"), table(outcomes).as_bytes())?;
    #[cfg(feature = "render")]
    {
        let path = out.join("curves.png");
        let frame = onestep::record::plot::draw(&[onestep::bench::chart(task, outcomes)], 1, 900, 560)?;
        frame.write_png(&path).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    #[cfg(not(feature = "render"))]
    let _ = task;
    Ok(())
}
