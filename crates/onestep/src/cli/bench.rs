//! `onestep bench`.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use onestep::{
    RunError,
    bench::{Outcome, by_task, measure_speed, read_run, run_or_resume, table, tasks_table},
    config::{RunConfig, Setting},
    data::atomic,
    learn::AlgorithmConfig,
    run::{Baseline, Role, build_app},
    sim,
    throughput::{ArenasSpeed, TaskSpeed, measure_arenas, measure_task},
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
    Algorithms(Box<AlgorithmsArgs>),
    /// Write a table and learning curves of runs that are there, of any tasks and algorithms.
    Runs(RunsArgs),
    /// Measure control steps per second of tasks: one arena on one core, random actions and the expert.
    Tasks(TasksArgs),
    /// Measure control steps per second and memory for growing numbers of arenas.
    Arenas(ArenasArgs),
}

#[derive(Args)]
struct RunsArgs {
    /// Run folders
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// Folder for table.md and curves.png
    #[arg(long, value_name = "FOLDER", default_value = "runs")]
    out: PathBuf,
}

#[derive(Args)]
struct TasksArgs {
    /// Which ones, with commas between them (see `onestep list`) [default: all]
    #[arg(long = "of", value_name = "NAME,NAME", value_delimiter = ',')]
    tasks: Vec<String>,
    /// Seconds for each task and agent
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    secs: f64,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct ArenasArgs {
    /// Task (see `onestep list`)
    task: String,
    /// How many arenas, with commas between them
    #[arg(long = "of", value_name = "N,N", value_delimiter = ',', default_value = "1,2,4,8,16,32,64,128,256")]
    arenas: Vec<u32>,
    /// The scripted expert acts instead of random numbers
    #[arg(long)]
    expert: bool,
    /// Seconds for each number of arenas
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0)]
    secs: f64,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
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
        BenchCommand::Runs(args) => runs(args),
        BenchCommand::Tasks(args) => tasks(args),
        BenchCommand::Arenas(args) => arenas(args),
    }
}

fn runs(args: &RunsArgs) -> Result<()> {
    let outcomes = args.runs.iter().map(|run| read_run(run)).collect::<Result<Vec<_>, _>>()?;
    let tasks = by_task(outcomes);
    let table = tasks_table(&tasks);
    std::fs::create_dir_all(&args.out).with_context(|| format!("{} cannot be created", args.out.display()))?;
    atomic::write(&args.out.join("table.md"), table.as_bytes())?;
    #[cfg(feature = "render")]
    {
        let charts: Vec<_> = tasks.iter().map(|(task, outcomes)| onestep::bench::chart(task, outcomes)).collect();
        draw(&charts, &args.out.join("curves.png"))?;
    }
    say(&table);
    say(&format!("table and curves are in {}", args.out.display()));
    Ok(())
}

/// One chart large, several in rows of at most three.
#[cfg(feature = "render")]
fn draw(charts: &[onestep::record::plot::Chart], path: &std::path::Path) -> Result<()> {
    let (width, height) = if charts.len() > 1 { (420, 320) } else { (900, 560) };
    let frame = onestep::record::plot::draw(charts, charts.len().min(3), width, height)?;
    frame.write_png(path).with_context(|| format!("{} cannot be written", path.display()))
}

/// A measurement that takes no time, or for ever, is a mistake.
fn duration(secs: f64) -> Result<Duration> {
    if !(0.01..=3600.0).contains(&secs) {
        bail!("--secs is {secs}, and must lie between 0.01 and 3600");
    }
    Ok(Duration::from_secs_f64(secs))
}

fn tasks(args: &TasksArgs) -> Result<()> {
    let time = duration(args.secs)?;
    let names: Vec<&str> =
        if args.tasks.is_empty() { sim::tasks().to_vec() } else { args.tasks.iter().map(String::as_str).collect() };
    let chosen: Vec<_> = names.into_iter().map(sim::task).collect::<Result<_, _>>()?;
    let robot = sim::Robot::panda()?;
    let mut speeds = Vec::new();
    if !args.json {
        say(&format!("{:<26} {:>12} {:>12} {:>12}", "control steps/s of", "random", "expert", "reset, ms"));
    }
    for task in &chosen {
        let speed = measure_task(task, &robot, time)?;
        if !args.json {
            let expert = speed.expert_steps_per_sec.map_or_else(|| "–".to_owned(), |rate| format!("{rate:.0}"));
            let TaskSpeed { task, random_steps_per_sec: random, reset_ms, .. } = &speed;
            say(&format!("{task:<26} {random:>12.0} {expert:>12} {reset_ms:>12.3}"));
        }
        speeds.push(speed);
    }
    if args.json {
        say(&serde_json::to_string_pretty(&speeds)?);
    }
    Ok(())
}

fn arenas(args: &ArenasArgs) -> Result<()> {
    let time = duration(args.secs)?;
    if args.arenas.contains(&0) {
        bail!("--of: at least 1 arena is needed");
    }
    let task = sim::task(&args.task)?;
    let agent = if args.expert { Baseline::Expert } else { Baseline::Random };
    let before = sim::memory::resident_bytes();
    let mut speeds: Vec<ArenasSpeed> = Vec::new();
    if !args.json {
        say(&format!("{:>8} {:>12} {:>12} {:>12}", "arenas", "steps/s", "of the first", "memory, MB"));
    }
    for count in &args.arenas {
        let speed = measure_arenas(&task, *count, agent, time, before)?;
        let first = speeds.first().unwrap_or(&speed).steps_per_sec;
        if !args.json {
            let memory = speed.bytes.map_or_else(|| "–".to_owned(), |bytes| format!("{:.1}", bytes as f64 / 1e6));
            let ArenasSpeed { arenas, steps_per_sec, .. } = speed;
            say(&format!("{arenas:>8} {steps_per_sec:>12.0} {:>10.2} × {memory:>12}", steps_per_sec / first));
        }
        speeds.push(speed);
    }
    if args.json {
        say(&serde_json::to_string_pretty(&speeds)?);
    }
    Ok(())
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
                outcomes.push(Outcome { config, evaluations, speed: Some(speed) });
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
        draw(&[onestep::bench::chart(task, outcomes)], &out.join("curves.png"))?;
    }
    #[cfg(not(feature = "render"))]
    let _ = task;
    Ok(())
}
