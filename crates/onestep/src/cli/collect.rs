//! `onestep collect`.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use onestep::{
    RunError,
    collect::{CollectEnd, CollectPlan, CollectProgress, Collected, collect, repeats},
    data::{
        DataError, EpisodeData, EpisodeFile, Format, ReadOptions, WriteOptions, ogbench, read_episodes, write_episodes,
    },
    play::{has_published_states, ogbench_data},
    record::evaluation::Interval,
    run::require_task,
    sim::{ExpertNoise, ManipTask, Oracle, Robot, SimError, Task, task},
};

use super::{
    screen::{Screen, duration, grouped, percent, say},
    stop,
};

const EXAMPLES: &str = "\
Examples:
  onestep collect lift --episodes 200 --seed 0 --out lift.safetensors
  onestep collect lift --noise 0.25 --only-success --out lift.hdf5    what `train lift` starts from, for robomimic
  onestep collect lift --episodes 5000 --out lift.npz --resume        after Ctrl-C
  onestep collect scene --play --oracle markov --out scene.npz        as OGBench's scene-noisy-v0.npz

The same seed, noise and task give the same file, whatever the number of arenas.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct CollectArgs {
    /// Task with a scripted expert (see `onestep list`)
    task: String,
    /// Episodes to write
    #[arg(long, value_name = "N", default_value_t = 100)]
    episodes: usize,
    /// Root seed of the episodes
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// File to write; its ending chooses the format: .safetensors, .hdf5 or .npz
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Worlds side by side; they change the time, not the file
    #[arg(long, value_name = "N", default_value_t = 16)]
    arenas: usize,
    /// Standard deviation of Gaussian noise on every number of the expert's actions, which lie in [-1, 1]
    #[arg(long, value_name = "STD", default_value_t = 0.0)]
    noise: f32,
    /// Probability that a step's action is a uniformly random one
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    random_actions: f32,
    /// Write only episodes that end in success, and go on until there are enough
    #[arg(long)]
    only_success: bool,
    /// Undirected data: episodes of a fixed length, in which the expert gets a new goal whenever it has reached one
    #[arg(long, conflicts_with = "only_success")]
    play: bool,
    /// OGBench's tasks: the expert, which is `plan` unless the task's name has `-noisy`
    #[arg(long, value_name = "WHICH")]
    oracle: Option<OracleName>,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
    /// Go on with a file that an earlier call with the same options has left unfinished
    #[arg(long, conflicts_with = "force")]
    resume: bool,
}

/// The experts of OGBench's tasks.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OracleName {
    /// Follows a path laid in time, as in OGBench's `play` data
    Plan,
    /// Decides from the state alone, as in its `noisy` data
    Markov,
}

pub(super) fn collect_episodes(args: &CollectArgs) -> Result<()> {
    stop::listen()?;
    // What is wrong is told before long work, not after it.
    let format = Format::of(&args.out)?;
    let plan = args.plan()?;
    if plan.task.is_undirected() && (format != Format::Ogbench || !has_published_states(&plan.task, &Robot::panda()?)) {
        bail!(
            "{}: undirected data has no rewards of its own; give the file a name that ends in .npz, which keeps the states \
             that they follow from, and choose a task later: `onestep data convert FILE.npz {} --task NAME`",
            args.out.display(),
            args.out.display()
        );
    }
    if let Some(folder) = args.out.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()) {
        bail!("cannot write {}: there is no folder {}", args.out.display(), folder.display());
    }
    let exists = args.out.exists();
    if exists && !args.force && !args.resume {
        let path = args.out.display();
        bail!("{path} exists already; `--resume` goes on with it, `--force` replaces it, `--out` chooses another name");
    }
    let already = if exists && args.resume { take_up(&plan, &args.out)? } else { Vec::new() };
    if !already.is_empty() {
        say(&format!("{} episodes are there already", grouped(already.len() as u64)));
    }

    let mut screen = Screen::new();
    let taken_up = already.len();
    let Collected { file, end, progress } = collect(&plan, already, |progress| {
        screen.update(|| progress_line(&plan, taken_up, progress));
        !stop::is_wanted()
    })?;
    screen.clear();
    let kept = file.episodes.len();
    if kept == 0 && end != CollectEnd::Complete {
        // An empty file would only be in the way of the next attempt.
        return Err(unfinished(&plan, &end, &progress));
    }
    let text = summary(&args.out, &plan, &file, &progress);
    write(args, &plan, file)?;
    say(&text);
    if end == CollectEnd::Complete {
        return Ok(());
    }
    say(&format!("{kept} of {} episodes are kept; the same command with --resume goes on", plan.episodes));
    Err(unfinished(&plan, &end, &progress))
}

impl CollectArgs {
    fn plan(&self) -> Result<CollectPlan> {
        let mut found = self.found()?;
        if !found.has_expert() {
            return Err(SimError::NoExpert { task: self.task.clone() }.into());
        }
        // A name that means play has the benchmark's noise, too, whatever the oracle.
        if self.play || found.is_undirected() {
            found = match found.play() {
                Some(play) => play,
                None => bail!("`{}` has no form for play data; leave out --play", self.task),
            };
        }
        if self.episodes == 0 || self.arenas == 0 {
            bail!("--episodes and --arenas must be at least 1");
        }
        if !(0.0..=10.0).contains(&self.noise) {
            bail!("--noise is {}, and must lie between 0 and 10", self.noise);
        }
        if !(0.0..=1.0).contains(&self.random_actions) {
            bail!("--random-actions is {}, and must lie between 0 and 1", self.random_actions);
        }
        Ok(CollectPlan {
            task: found,
            episodes: self.episodes,
            seed: self.seed,
            arenas: self.arenas,
            noise: ExpertNoise { std: self.noise, random_action_probability: self.random_actions },
            successful_only: self.only_success,
        })
    }
}

impl CollectArgs {
    /// The task of the name, with the chosen expert.
    fn found(&self) -> Result<Arc<dyn Task>> {
        let Some(oracle) = self.oracle else { return Ok(task(&self.task)?) };
        // A name that is of no task at all is told first.
        task(&self.task)?;
        let Ok(found) = ManipTask::named(&self.task) else {
            bail!("`{}` has one expert; --oracle is for OGBench's tasks, such as cube-double", self.task);
        };
        Ok(Arc::new(match oracle {
            OracleName::Plan => found.with_oracle(Oracle::Plan { noise: 0.0 }),
            OracleName::Markov => found.with_oracle(Oracle::Markov { noise: 0.0, random_action_probability: 0.0 }),
        }))
    }
}

/// Undirected data goes to an npz file as its benchmark has it, with the states that rewards of a task follow from later.
fn write(args: &CollectArgs, plan: &CollectPlan, file: EpisodeFile) -> Result<()> {
    if !plan.task.is_undirected() {
        return Ok(write_episodes(&args.out, &file, &WriteOptions::default())?);
    }
    match ogbench_data(&plan.task, file)? {
        Some(data) => Ok(data.write(&args.out, true)?),
        None => bail!("`{}` keeps no states for {}", plan.task.name(), args.out.display()),
    }
}

/// The episodes of an unfinished file, which must be of the same plan.
fn take_up(plan: &CollectPlan, path: &Path) -> Result<Vec<EpisodeData>> {
    let refused = |problem: &str| DataError::Request { path: path.to_owned(), problem: problem.to_owned() };
    let recorded = if plan.task.is_undirected() { ogbench::read_recording_episodes(path)? } else { None };
    let file = match recorded {
        Some(file) => file,
        None => match read_episodes(path, &ReadOptions::default(), &mut |_, _| !stop::is_wanted()) {
            Err(DataError::Stopped { .. }) => return Err(RunError::Interrupted.into()),
            other => other?,
        },
    };
    require_task(path, &file, &*plan.task)?;
    if !file.origin.has_seeds() {
        return Err(refused("it was not recorded here, so it cannot be gone on with").into());
    }
    if let Some(first) = file.episodes.first()
        && !repeats(plan, first)?
    {
        let problem = "its first episode is not what these options give: another noise, another oracle, or another \
                       version of the simulator; leave the options as they were, or choose another file";
        return Err(refused(problem).into());
    }
    Ok(file.episodes)
}

fn unfinished(plan: &CollectPlan, end: &CollectEnd, progress: &CollectProgress) -> anyhow::Error {
    match end {
        CollectEnd::Complete | CollectEnd::Stopped => RunError::Interrupted.into(),
        CollectEnd::Fault(fault) => RunError::Fault(fault.clone()).into(),
        CollectEnd::ExpertFails if progress.spoiled > 0 => anyhow::anyhow!(
            "{} of {} episodes of `{}` are spoiled: something got out of the arm's reach; lower --noise or --random-actions",
            progress.spoiled,
            progress.tried,
            plan.task.name()
        ),
        CollectEnd::ExpertFails => anyhow::anyhow!(
            "the expert of `{}` succeeds too rarely: {} of {} episodes; lower --noise or --random-actions, or leave out \
             --only-success",
            plan.task.name(),
            progress.successes,
            progress.tried
        ),
    }
}

fn progress_line(plan: &CollectPlan, taken_up: usize, progress: &CollectProgress) -> String {
    let CollectProgress { kept, tried, successes, steps, secs, .. } = *progress;
    let mut line = format!("episode {} of {}", grouped(kept as u64), grouped(plan.episodes as u64));
    if tried > 0 && secs > 0.0 {
        // Nothing succeeds where there is no goal.
        if !plan.task.is_undirected() {
            line.push_str(&format!(", success {}", percent(successes as f64 / tried as f64)));
        }
        line.push_str(&format!(", {:.0} steps/s", steps as f64 / secs));
    }
    let new = kept.saturating_sub(taken_up);
    if new > 0 {
        let left = plan.episodes.saturating_sub(kept) as f64 * secs / new as f64;
        line.push_str(&format!(", {} left", duration(left)));
    }
    line
}

fn summary(path: &Path, plan: &CollectPlan, file: &EpisodeFile, progress: &CollectProgress) -> String {
    let CollectProgress { tried, successes, spoiled, steps, secs, .. } = *progress;
    let episodes = file.episodes.len();
    let successful = if plan.task.is_undirected() {
        String::new()
    } else {
        format!(" {} of them successful,", file.episodes.iter().filter(|episode| episode.is_success()).count())
    };
    let mut text = format!(
        "{} episodes of `{}`,{successful} {} steps, {:.1} in an episode: {}",
        grouped(episodes as u64),
        file.task,
        grouped(file.steps() as u64),
        file.steps() as f64 / episodes.max(1) as f64,
        path.display()
    );
    let rate = steps as f64 / secs.max(1e-9);
    if plan.task.is_undirected() {
        text.push_str(&format!("\n{} at {rate:.0} steps/s", duration(secs)));
        if spoiled > 0 {
            text.push_str(&format!("; {spoiled} of {tried} episodes were spoiled, and are left out"));
        }
    } else if tried > 0 {
        let Interval { low, high } = Interval::wilson(successes, tried);
        text.push_str(&format!(
            "\nthe expert succeeded in {successes} of {tried} episodes: {} (95 % interval {} to {}); {} at {rate:.0} steps/s",
            percent(successes as f64 / tried as f64),
            percent(low),
            percent(high),
            duration(secs),
        ));
    }
    text
}
