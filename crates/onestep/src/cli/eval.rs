//! `onestep eval`.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
#[cfg(feature = "render")]
use onestep::ui::Speed;
use onestep::{
    RunError,
    config::{ConfigSources, RunConfig, Setting, has_expert},
    fault,
    folder::RunFolder,
    record::summary::{SeedReport, Summary},
    run::{Baseline, Role, evaluate_role, require_room},
    sim::SimError,
};
use serde::Serialize;

use super::{
    load_policy,
    screen::{Screen, percent, say},
    stop,
};

const EXAMPLES: &str = "\
Examples:
  onestep eval runs/lift-mvp-seed0                                   the episodes of the run's own evaluations
  onestep eval runs/lift-mvp-seed0 runs/lift-mvp-seed1 --seeds 7,8   two runs, the same episodes of two seeds
  onestep eval runs/lift-qc-seed0 --set algorithm.flow_steps=1       the same policy, acting in another way
  onestep eval --agent zero,random,expert lift                       what agents reach that learned nothing";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct EvalArgs {
    /// Run folders; with --agent, tasks
    #[arg(required = true, value_name = "RUN")]
    targets: Vec<PathBuf>,
    /// Instead of a run's policy: zero, random or expert; several with commas between them
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',')]
    agent: Vec<BaselineName>,
    /// Episodes to play for each seed [default: as the run's settings say]
    #[arg(long, value_name = "N")]
    episodes: Option<usize>,
    /// Root seeds of the episodes [default: the run's, so the same episodes as its own evaluations]
    #[arg(long, alias = "seed", value_name = "N,N", value_delimiter = ',')]
    seeds: Vec<u64>,
    /// Worlds side by side [default: as the run's settings say]
    #[arg(long, value_name = "N")]
    arenas: Option<usize>,
    /// Standard deviation of noise on the expert's actions
    #[arg(long, value_name = "STD", default_value_t = 0.0)]
    noise: f32,
    /// How the policy acts, if not as its run says: algorithm.candidates, and what else decides how its algorithm acts
    /// and leaves the weights alone (acting_steps, flow_steps, base_noise); may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", conflicts_with = "agent")]
    set: Vec<String>,
    /// Print everything as JSON, each episode included
    #[arg(long)]
    json: bool,
    /// Show all worlds in a window
    #[cfg(feature = "render")]
    #[arg(long)]
    window: bool,
    #[cfg(feature = "render")]
    #[command(flatten)]
    window_options: super::window::WindowArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum BaselineName {
    Zero,
    Random,
    Expert,
}

/// One agent on one task.
#[derive(Serialize)]
struct Evaluated {
    name: String,
    task: String,
    agent: &'static str,
    seeds: Vec<SeedReport>,
    summary: Summary,
}

struct Plan {
    name: String,
    agent: &'static str,
    config: RunConfig,
    role: Role,
}

pub(super) fn eval(args: &EvalArgs) -> Result<()> {
    stop::listen()?;
    let mut plans = Vec::new();
    for target in &args.targets {
        if args.agent.is_empty() {
            plans.push(args.run(target)?);
        }
        for agent in &args.agent {
            plans.push(args.baseline(&target.to_string_lossy(), *agent)?);
        }
    }
    let mut screen = Screen::new();
    let mut evaluated = Vec::new();
    #[cfg(feature = "render")]
    if args.window || args.window_options.is_set() {
        let (Some(plan), true) = (plans.pop(), plans.is_empty() && args.seeds.len() < 2) else {
            bail!("a window shows one agent with one seed; give one run, or one task with one --agent");
        };
        evaluated.push(show(plan, args)?);
    }
    for plan in plans {
        evaluated.push(play(plan, args, &mut screen)?);
    }
    screen.clear();
    if args.json {
        say(&serde_json::to_string_pretty(&serde_json::json!({ "evaluations": evaluated }))?);
    } else {
        say(table(&evaluated).trim_end());
    }
    Ok(())
}

impl EvalArgs {
    fn run(&self, path: &Path) -> Result<Plan> {
        let (folder, mut config) = RunFolder::open(path).map_err(RunError::from)?;
        self.set_acting(&folder, &mut config)?;
        let policy = load_policy(&config, &folder)?;
        self.apply(&mut config)?;
        let agent = config.algorithm.name();
        Ok(Plan { name: path.display().to_string(), agent, config, role: Role::Evaluate(policy) })
    }

    /// Lays `--set` over what a run says of how its policy acts.
    fn set_acting(&self, folder: &RunFolder, config: &mut RunConfig) -> Result<()> {
        if self.set.is_empty() {
            return Ok(());
        }
        let settings = self
            .set
            .iter()
            .map(|text| Setting::parse("--set", text))
            .collect::<Result<Vec<_>, _>>()
            .map_err(RunError::from)?;
        let allowed: Vec<String> =
            config.algorithm.acting_settings().iter().map(|name| format!("algorithm.{name}")).collect();
        if let Some(other) = settings.iter().find(|setting| !allowed.contains(&setting.key)) {
            bail!(
                "--set: `{}`: an evaluation cannot change it; of this run, an `{}`, it can change {}",
                other.key,
                config.algorithm.name(),
                if allowed.is_empty() { "nothing".to_owned() } else { allowed.join(", ") }
            );
        }
        let sources = ConfigSources { file: Some(folder.config_path()), settings, ..ConfigSources::default() };
        config.algorithm = sources.resolve().map_err(RunError::from)?.algorithm;
        Ok(())
    }

    fn baseline(&self, task: &str, agent: BaselineName) -> Result<Plan> {
        let mut config = RunConfig::preset(task, "small").map_err(RunError::from)?;
        let (agent, role) = match agent {
            BaselineName::Zero => ("zero", Baseline::Zero),
            BaselineName::Random => ("random", Baseline::Random),
            BaselineName::Expert if has_expert(task) => ("expert", Baseline::Expert),
            BaselineName::Expert => return Err(SimError::NoExpert { task: task.to_owned() }.into()),
        };
        config.demonstrations.action_noise_std = self.noise;
        config.demonstrations.random_action_probability = 0.0;
        self.apply(&mut config)?;
        Ok(Plan { name: task.to_owned(), agent, config, role: Role::Baseline(role) })
    }

    fn apply(&self, config: &mut RunConfig) -> Result<(), RunError> {
        config.evaluation.episodes = self.episodes.unwrap_or(config.evaluation.episodes);
        config.evaluation.arenas = self.arenas.unwrap_or(config.evaluation.arenas);
        for seed in &self.seeds {
            config.seed = *seed;
            config.validate()?;
        }
        Ok(config.validate()?)
    }
}

/// The same in a window, for the one seed of the plan.
#[cfg(feature = "render")]
fn show(plan: Plan, args: &EvalArgs) -> Result<Evaluated> {
    let Plan { name, agent, mut config, role } = plan;
    config.seed = args.seeds.first().copied().unwrap_or(config.seed);
    require_room(&config, &role)?;
    let options = args.window_options.options(format!("Onestep: {agent} in {}", config.task), Speed::Times(1.0))?;
    let report = onestep::window::evaluate(&config, &role, &options, stop::is_wanted)?;
    let reports = vec![SeedReport { seed: config.seed, report }];
    let Some(summary) = Summary::of(&reports) else { bail!("{name}: no episode was played") };
    Ok(Evaluated { name, task: config.task, agent, seeds: reports, summary })
}

fn play(plan: Plan, args: &EvalArgs, screen: &mut Screen) -> Result<Evaluated> {
    let Plan { name, agent, mut config, role } = plan;
    require_room(&config, &role)?;
    let seeds = if args.seeds.is_empty() { vec![config.seed] } else { args.seeds.clone() };
    let episodes = config.evaluation.episodes;
    let mut reports = Vec::new();
    for seed in seeds {
        config.seed = seed;
        let result = evaluate_role(&config, &role, episodes, |world, done| {
            if !args.json {
                screen.update(|| format!("{name}, {agent}, seed {seed}: episode {done} of {episodes}"));
            }
            match fault::of_app(world) {
                Some(fault) => Err(format!("{}: {}", fault.place, fault.error)),
                None if stop::is_wanted() => Err("as asked".to_owned()),
                None => Ok(()),
            }
        });
        if stop::is_wanted() {
            screen.clear();
            return Err(RunError::Interrupted.into());
        }
        reports.push(SeedReport { seed, report: result? });
    }
    let Some(summary) = Summary::of(&reports) else { bail!("{name}: no episode was played") };
    Ok(Evaluated { name, task: config.task, agent, seeds: reports, summary })
}

fn table(evaluated: &[Evaluated]) -> String {
    let wide = evaluated.iter().map(|one| one.name.chars().count()).max().unwrap_or(0).max(4);
    let several = evaluated.iter().any(|one| one.seeds.len() > 1);
    let mut text = format!(
        "{:<wide$}  {:<8} {:>8}  {:>17}  {:>8} {:>10} {:>8} {:>9}",
        "name", "agent", "success", "95 % interval", "ever", "return", "steps", "episodes"
    );
    text.push_str(if several { "  over seeds (mean ± std, least to greatest)\n" } else { "\n" });
    for Evaluated { name, agent, seeds, summary, .. } in evaluated {
        let interval =
            format!("{} to {}", percent(summary.success_interval.low), percent(summary.success_interval.high));
        text.push_str(&format!(
            "{name:<wide$}  {agent:<8} {:>8}  {interval:>17}  {:>8} {:>10.2} {:>8.1} {:>9}",
            percent(summary.success_rate),
            percent(summary.success_once_rate),
            summary.mean_return,
            summary.mean_steps,
            summary.episodes,
        ));
        if seeds.len() > 1 {
            let spread = summary.success_spread;
            text.push_str(&format!(
                "  {} ± {}, {} to {}",
                percent(spread.mean),
                percent(spread.std),
                percent(spread.least),
                percent(spread.greatest)
            ));
        }
        text.push('\n');
    }
    text
}
