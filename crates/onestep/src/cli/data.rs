//! `onestep data`.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use onestep::{
    RunError,
    data::{
        DataError, EpisodeFile, Format, OgbenchTask, ReadOptions, RobomimicFile, RobomimicReadOptions,
        RobomimicWriteOptions, WriteOptions, ogbench, read_episodes, write_episodes,
    },
    replay::{ReplayReport, check_repeatable, replay_episode},
};

use super::{
    screen::{Screen, grouped, percent, say},
    stop,
};

const FORMATS: &str = "\
Formats, by the ending of the name:
  .safetensors   Onestep's own episodes
  .hdf5, .h5     robomimic, low-dimensional
  .npz           OGBench

Examples:
  onestep data info low_dim_v15.hdf5
  onestep data convert low_dim_v15.hdf5 lift.safetensors --filter better
  onestep data convert cube-double-play-v0.npz cube.safetensors --task cube-double-task4
  onestep data replay demos.safetensors --episode 3";

#[derive(Args)]
#[command(after_help = FORMATS)]
pub(super) struct DataArgs {
    #[command(subcommand)]
    command: DataCommand,
}

#[derive(Subcommand)]
enum DataCommand {
    /// Show what is in a file: format, task, sizes, episodes.
    Info(InfoArgs),
    /// Write the episodes of a file in another format.
    Convert(Box<ConvertArgs>),
    /// Repeat recorded actions in the simulator, and tell how far the observations differ.
    Replay(ReplayArgs),
}

/// How a file of another project is read.
#[derive(Args)]
struct ReadArgs {
    /// robomimic: observation keys, joined in this order
    #[arg(long, value_name = "KEY,KEY", value_delimiter = ',')]
    keys: Vec<String>,
    /// robomimic: only the demonstrations of this filter key
    #[arg(long, value_name = "NAME")]
    filter: Option<String>,
    /// robomimic: keep what follows the first success
    #[arg(long)]
    whole: bool,
    /// robomimic: is added to every reward, which is 1 for success and else 0 in these files [default: -1]
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    reward_offset: Option<f32>,
    /// OGBench: the single task that rewards and ends are for, as cube-double-task2, scene-task3 or puzzle-4x4
    #[arg(long, value_name = "TASK")]
    task: Option<String>,
}

#[derive(Args)]
struct InfoArgs {
    /// File to look at
    file: PathBuf,
}

#[derive(Args)]
struct ConvertArgs {
    /// File to read
    input: PathBuf,
    /// File to write; one that is there is replaced
    output: PathBuf,
    #[command(flatten)]
    read: ReadArgs,
    /// Keep the last episodes apart: in a file of their own, OUTPUT-val; robomimic: under the filter keys train and valid
    #[arg(long, value_name = "EPISODES", default_value_t = 0)]
    validation: usize,
    /// robomimic: names and widths of the observation keys to write, in order [default: the task's, or one key]
    #[arg(long, value_name = "KEY:WIDTH,...", value_delimiter = ',', value_parser = key_and_width)]
    write_keys: Vec<(String, usize)>,
    /// robomimic: is added to every reward that is written [default: 0]
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    write_reward_offset: Option<f32>,
    /// npz and robomimic: do not compress
    #[arg(long)]
    uncompressed: bool,
}

#[derive(Args)]
struct ReplayArgs {
    /// File with episodes
    file: PathBuf,
    /// Number of the episode, from 0 [default: all]
    #[arg(long, value_name = "N")]
    episode: Option<usize>,
    /// Print the reports as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn data(args: &DataArgs) -> Result<()> {
    match &args.command {
        DataCommand::Info(args) => info(&args.file),
        DataCommand::Convert(args) => convert(args),
        DataCommand::Replay(args) => replay(args),
    }
}

fn key_and_width(text: &str) -> Result<(String, usize), String> {
    text.split_once(':')
        .and_then(|(key, width)| Some((key.to_owned(), width.parse().ok()?)))
        .ok_or_else(|| "a key is NAME:WIDTH, for instance object:10".to_owned())
}

impl ReadArgs {
    fn options(&self, path: &Path) -> Result<ReadOptions> {
        let ogbench_task = match &self.task {
            None => None,
            Some(name) => match OgbenchTask::parse(name) {
                Some(task) => Some(task),
                None => bail!("there is no OGBench task `{name}` here; known: {}", OgbenchTask::NAMES),
            },
        };
        let format = Format::of(path)?;
        let for_robomimic =
            self.filter.is_some() || !self.keys.is_empty() || self.whole || self.reward_offset.is_some();
        if for_robomimic && format != Format::Robomimic {
            bail!("{}: --keys, --filter, --whole and --reward-offset are for robomimic files", path.display());
        }
        if ogbench_task.is_some() && format != Format::Ogbench {
            bail!("{}: --task is for OGBench files; others tell their task", path.display());
        }
        let defaults = RobomimicReadOptions::default();
        let robomimic = RobomimicReadOptions {
            keys: self.keys.clone(),
            filter: self.filter.clone(),
            end_at_success: !self.whole,
            reward_offset: self.reward_offset.unwrap_or(defaults.reward_offset),
        };
        Ok(ReadOptions { robomimic, ogbench_task })
    }
}

/// Reads the episodes of a file with a line of progress.
fn read(path: &Path, options: &ReadOptions) -> Result<EpisodeFile> {
    let mut screen = Screen::new();
    let read = read_episodes(path, options, &mut |done, total| {
        screen.update(|| format!("reading {}, {}", path.display(), percent(done as f64 / total.max(1) as f64)));
        !stop::is_wanted()
    });
    screen.clear();
    match read {
        Err(DataError::Stopped { .. }) => Err(RunError::Interrupted.into()),
        other => Ok(other?),
    }
}

fn info(path: &Path) -> Result<()> {
    let format = Format::of(path)?;
    let mut text = format!("format        {format}\n");
    let lengths = match format {
        Format::Onestep => {
            let file = EpisodeFile::read(path)?;
            let successes = file.episodes.iter().filter(|episode| episode.is_success()).count();
            let returns: f64 = file.episodes.iter().map(|episode| episode.return_sum()).sum();
            let count = file.episodes.len().max(1) as f64;
            let _ = writeln!(text, "task          {}", file.task);
            let _ = writeln!(text, "recorded by   {}", file.origin);
            let _ = writeln!(text, "observation   {} numbers", file.observation_dim);
            let _ = writeln!(text, "action        {} numbers", file.action_dim);
            let _ = writeln!(text, "success       {} of the episodes", percent(successes as f64 / count));
            let _ = writeln!(text, "return        {:.2} on average", returns / count);
            file.episodes.iter().map(|episode| episode.len()).collect()
        }
        Format::Robomimic => robomimic_info(path, &mut text)?,
        Format::Ogbench => {
            let summary = ogbench::summarize(path)?;
            for (name, shape) in &summary.arrays {
                let _ = writeln!(text, "array         {name}  {shape}");
            }
            let rewards = if summary.has_rewards { "in the file" } else { "none; they follow from --task" };
            let _ = writeln!(text, "rewards       {rewards}");
            if summary.is_recording {
                text.push_str("recorded by   Onestep, with seeds: the episodes can be repeated\n");
            }
            let validation = ogbench::validation_path(path);
            if validation.is_file() {
                let _ = writeln!(text, "validation    {}", validation.display());
            }
            summary.lengths
        }
    };
    // Lengths of a robomimic file are its own claims.
    let steps = lengths.iter().fold(0usize, |sum, length| sum.saturating_add(*length));
    let _ = writeln!(text, "episodes      {}", grouped(lengths.len() as u64));
    let _ = write!(text, "steps         {}", grouped(steps as u64));
    if let (Some(least), Some(most)) = (lengths.iter().min(), lengths.iter().max()) {
        let _ =
            write!(text, "; {least} to {most} in an episode, {:.1} on average", steps as f64 / lengths.len() as f64);
    }
    say(&text);
    Ok(())
}

fn robomimic_info(path: &Path, text: &mut String) -> Result<Vec<usize>> {
    let file = RobomimicFile::open(path)?;
    match file.env_args()? {
        Some(env) => {
            let version = env.env_version.as_ref().map_or_else(String::new, |version| format!(", version {version}"));
            let _ = writeln!(text, "environment   {}{version}", env.env_name);
        }
        None => text.push_str("environment   not told\n"),
    }
    if let Some(first) = file.demos().first() {
        for (key, width) in file.keys(first)? {
            let _ = writeln!(text, "key           {key}  {width}");
        }
    }
    for filter in file.filters()? {
        let _ = writeln!(text, "filter key    {filter}  {} demonstrations", file.filtered(&filter)?.len());
    }
    Ok(file.demos().iter().map(|demo| file.steps(demo)).collect::<Result<_, _>>()?)
}

fn convert(args: &ConvertArgs) -> Result<()> {
    stop::listen()?;
    let mut options = args.write_options()?;
    let mut file = read(&args.input, &args.read.options(&args.input)?)?;
    let (all, validation) = (file.episodes.len(), args.validation);
    if validation > 0 {
        let Some(training) = all.checked_sub(validation).filter(|training| *training > 0) else {
            bail!("--validation {validation} leaves nothing of {all} episodes");
        };
        if Format::of(&args.output)? == Format::Robomimic {
            let filters = [("train", 0..training), ("valid", training..all)];
            options.robomimic.filters = filters.map(|(name, which)| (name.to_owned(), which.collect())).into();
        } else {
            let rest = file.episodes.split_off(training);
            let validation = EpisodeFile { episodes: rest, task: file.task.clone(), ..file };
            write(&validation_path(&args.output), &validation, &options)?;
        }
    }
    write(&args.output, &file, &options)
}

impl ConvertArgs {
    /// A wrong ending, or an option that the format does not have, is told before long work, not after it.
    fn write_options(&self) -> Result<WriteOptions> {
        let (format, path) = (Format::of(&self.output)?, self.output.display());
        if format != Format::Robomimic && (!self.write_keys.is_empty() || self.write_reward_offset.is_some()) {
            bail!("{path}: --write-keys and --write-reward-offset are for robomimic files");
        }
        if format == Format::Onestep && self.uncompressed {
            bail!("{path}: --uncompressed is for npz and robomimic files; this format never compresses");
        }
        Ok(WriteOptions {
            robomimic: RobomimicWriteOptions {
                keys: self.write_keys.clone(),
                compress: !self.uncompressed,
                reward_offset: self.write_reward_offset.unwrap_or_default(),
                ..RobomimicWriteOptions::default()
            },
            uncompressed: self.uncompressed,
        })
    }
}

fn write(path: &Path, file: &EpisodeFile, options: &WriteOptions) -> Result<()> {
    write_episodes(path, file, options)?;
    let (episodes, steps) = (grouped(file.episodes.len() as u64), grouped(file.steps() as u64));
    say(&format!("{episodes} episodes of `{}`, {steps} steps: {}", file.task, path.display()));
    Ok(())
}

/// `NAME-val` with the same ending.
fn validation_path(path: &Path) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push("-val");
    if let Some(ending) = path.extension() {
        name.push(".");
        name.push(ending);
    }
    path.with_file_name(name)
}

fn replay(args: &ReplayArgs) -> Result<()> {
    stop::listen()?;
    let file = read_for_replay(&args.file)?;
    check_repeatable(&args.file, &file)?;
    let chosen: Vec<usize> = match args.episode {
        Some(index) if index < file.episodes.len() => vec![index],
        Some(index) => bail!("{}: there is no episode {index} of {}", args.file.display(), file.episodes.len()),
        None => (0..file.episodes.len()).collect(),
    };
    let mut screen = Screen::new();
    let mut reports = Vec::new();
    for (done, index) in chosen.iter().enumerate() {
        if stop::is_wanted() {
            return Err(RunError::Interrupted.into());
        }
        if !args.json {
            screen.update(|| format!("episode {} of {}", done + 1, chosen.len()));
        }
        if let Some(episode) = file.episodes.get(*index) {
            reports.push(replay_episode(&file.task, episode)?);
        }
    }
    screen.clear();
    if args.json {
        say(&serde_json::to_string_pretty(&reports)?);
        return Ok(());
    }
    say(&summary(&chosen, &reports));
    Ok(())
}

/// Files of another project are read only far enough to say why they cannot be repeated.
fn read_for_replay(path: &Path) -> Result<EpisodeFile> {
    let options = ReadOptions::default();
    if Format::of(path)? == Format::Ogbench && !ogbench::summarize(path)?.has_rewards {
        if let Some(file) = ogbench::read_recording_episodes(path)? {
            return Ok(file);
        }
        let problem = "it is OGBench's: its episodes have no seeds that rebuild their initial states, and its actions were \
                       chosen for MuJoCo's contacts; a single state can be set by `SimArena::set_joints`";
        return Err(DataError::Request { path: path.to_owned(), problem: problem.to_owned() }.into());
    }
    read(path, &options)
}

fn summary(chosen: &[usize], reports: &[ReplayReport]) -> String {
    let same = reports.iter().filter(|report| report.first_difference.is_none()).count();
    let steps: usize = reports.iter().map(|report| report.steps).sum();
    let mut text = format!(
        "{} episodes, {} steps repeated; {same} with the same observations to the bit",
        reports.len(),
        grouped(steps as u64)
    );
    let worst =
        chosen.iter().zip(reports).max_by(|left, right| left.1.max_difference.total_cmp(&right.1.max_difference));
    if let Some((index, report)) = worst.filter(|(_, report)| report.first_difference.is_some()) {
        let _ = write!(
            text,
            "\nlargest difference {:e} in {} after {} steps of episode {index}",
            report.max_difference, report.max_field, report.max_step
        );
    }
    let ends = |report: &&ReplayReport| report.steps < report.recorded_steps || report.success.0 != report.success.1;
    let others = reports.iter().filter(ends).count();
    if others > 0 {
        let _ = write!(text, "\n{others} episodes end earlier, or in another success, than recorded");
    }
    text
}
