//! Algorithms side by side: the same task, the same schedule, the same evaluations.
//!
//! Every run of a comparison has a run folder of its own, `ALGORITHM-seedN`, so that a comparison that was interrupted
//! goes on where it stopped, and each run can be evaluated and filmed later.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::Path,
    time::Instant,
};

use onestep_agent::{Purpose, RandomStreams};
use onestep_learn::{PolicyHandle, StreamNoise};
use onestep_policy::{Batch, ComputeDevice, NoiseSource, Phase, PolicySpec, SelectRequest, create_learner};

use crate::{
    RunError,
    config::RunConfig,
    folder::{Evaluation, EvaluationKind, FolderError, RunFolder},
    train::{TrainWatcher, Trainer},
};

/// What one run of a comparison has shown.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The run's description.
    pub config: RunConfig,
    /// All its evaluations in order.
    pub evaluations: Vec<Evaluation>,
    /// How fast its networks are, here and now, if it was measured.
    pub speed: Option<Speed>,
}

/// Times on the CPU.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Speed {
    /// Median milliseconds of a selection for one agent.
    pub select_ms: f64,
    /// Median milliseconds of an update.
    pub update_ms: f64,
}

/// Trains in `folder`, or takes up what is there: a finished run is read, an interrupted one goes on, and one with fewer
/// online steps is prolonged.
///
/// # Errors
/// [`RunError::Interrupted`] when the watcher asked to stop. [`RunError::Folder`] when the folder holds a run of another
/// description, with the settings that differ.
pub fn run_or_resume(
    config: &RunConfig,
    folder: &Path,
    watcher: &mut dyn TrainWatcher,
) -> Result<Vec<Evaluation>, RunError> {
    let is_there = folder.join("config.toml").is_file();
    let folder = if is_there {
        let (found, other) = RunFolder::open(folder)?;
        let mut prolonged = other.clone();
        prolonged.learner.online_steps = other.learner.online_steps.max(config.learner.online_steps);
        if prolonged != *config {
            let problem = format!(
                "it holds a run with other settings ({}); a run can be prolonged afterwards, but not changed or \
                 shortened: choose another folder by `--out`",
                differences(&other, config)?
            );
            return Err(FolderError::Broken { path: found.config_path(), problem }.into());
        }
        let evaluations = found.evaluations()?;
        let is_final = |evaluation: &Evaluation| evaluation.kind == EvaluationKind::Final;
        if prolonged == other && evaluations.iter().any(is_final) {
            return Ok(evaluations);
        }
        found
    } else {
        RunFolder::create(folder, config)?
    };
    // Before its first checkpoint a run has nothing to go on from.
    let mut trainer = if folder.existing_checkpoint().is_ok() {
        Trainer::resume(folder, config.clone(), watcher)?
    } else {
        Trainer::new(config.clone(), Some(folder), watcher)?
    };
    Ok(trainer.run(watcher)?.evaluations)
}

/// The settings in which two runs differ, the first three of them, with both values.
fn differences(there: &RunConfig, here: &RunConfig) -> Result<String, RunError> {
    let flat = |config: &RunConfig| -> Result<BTreeMap<String, toml::Value>, RunError> {
        let mut settings = BTreeMap::new();
        // What it was made from can be read back.
        let table = config.to_toml()?.parse::<toml::Table>().unwrap_or_default();
        flatten("", toml::Value::Table(table), &mut settings);
        Ok(settings)
    };
    let (there, here) = (flat(there)?, flat(here)?);
    let keys: BTreeSet<&String> = there.keys().chain(here.keys()).collect();
    let show = |value: Option<&toml::Value>| value.map_or_else(|| "nothing".to_owned(), ToString::to_string);
    let differ: Vec<String> = keys
        .into_iter()
        .map(|key| (key, there.get(key), here.get(key)))
        .filter(|(_, there, here)| there != here)
        .map(|(key, there, here)| format!("`{key}` is {} there, {} here", show(there), show(here)))
        .collect();
    let more = if differ.len() > 3 { format!(", and {} more", differ.len() - 3) } else { String::new() };
    Ok(format!("{}{more}", differ.iter().take(3).cloned().collect::<Vec<_>>().join(", ")))
}

/// All values of nested tables under their dotted keys.
fn flatten(key: &str, value: toml::Value, settings: &mut BTreeMap<String, toml::Value>) {
    match value {
        toml::Value::Table(table) => {
            for (name, value) in table {
                let key = if key.is_empty() { name } else { format!("{key}.{name}") };
                flatten(&key, value, settings);
            }
        }
        value => {
            settings.insert(key.to_owned(), value);
        }
    }
}

/// Times selection and update of the algorithm of `config`, with fresh networks of the sizes of `policy`, on random
/// numbers.
///
/// # Errors
/// [`RunError::Learn`] when the settings do not work.
pub fn measure_speed(config: &RunConfig, spec: &PolicySpec) -> Result<Speed, RunError> {
    const REPEATS: usize = 21;
    let algorithm = &config.algorithm;
    let mut streams = RandomStreams::new(config.seed);
    let mut noise = StreamNoise(streams.get(Purpose::Weights, 0));
    let mut learner =
        create_learner(algorithm, spec, &ComputeDevice::Cpu, &mut noise).map_err(onestep_learn::LearnError::from)?;
    let mut normal = |count: usize| -> Vec<f32> {
        let mut draws = vec![0.0; count];
        noise.fill_normal(&mut draws);
        draws
    };
    let (rows, candidates) = (algorithm.batch_size(), algorithm.candidates());
    let (observations, actions) = (normal(rows * spec.observation_dim), normal(rows * spec.chunk_dim()));
    let (next_observations, returns) = (normal(rows * spec.observation_dim), normal(rows));
    let draws = normal(candidates * spec.chunk_dim());
    let actions: Vec<f32> = actions.into_iter().map(|action| action.clamp(-1.0, 1.0)).collect();
    let (whole, usable) = (vec![1.0; rows * spec.horizon], vec![1.0; rows]);
    let request = SelectRequest {
        agents: 1,
        observations: observations.get(..spec.observation_dim).unwrap_or_default(),
        candidates,
        noise: &draws,
        exploration: None,
        return_candidates: false,
    };
    let batch = Batch {
        size: rows,
        phase: Phase::Online,
        observations: &observations,
        actions: &actions,
        valid: &whole,
        returns: &returns,
        bootstrap: &usable,
        critic_valid: &usable,
        next_observations: &next_observations,
    };
    let select_ms = median_ms(REPEATS, || learner.select(&request).map(|_| ()))?;
    let update_ms = median_ms(REPEATS, || learner.update(&batch, &mut noise).map(|_| ()))?;
    Ok(Speed { select_ms, update_ms })
}

fn median_ms(
    repeats: usize,
    mut work: impl FnMut() -> Result<(), onestep_policy::PolicyError>,
) -> Result<f64, RunError> {
    let mut times = Vec::with_capacity(repeats);
    // The first few make buffers and wake threads.
    for index in 0..repeats + 3 {
        let start = Instant::now();
        work().map_err(onestep_learn::LearnError::from)?;
        if index >= 3 {
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(times.get(repeats / 2).copied().unwrap_or(f64::NAN))
}

/// The sizes a policy was made for.
#[must_use]
pub fn spec_of(policy: &PolicyHandle) -> PolicySpec {
    policy.with(|learner| *learner.spec())
}

/// The mean of numbers and the least and greatest of them.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Spread {
    mean: f64,
    least: f64,
    greatest: f64,
}

impl Spread {
    fn of(values: &[f64]) -> Option<Self> {
        let least = values.iter().copied().min_by(f64::total_cmp)?;
        let greatest = values.iter().copied().max_by(f64::total_cmp)?;
        Some(Self { mean: values.iter().sum::<f64>() / values.len() as f64, least, greatest })
    }

    fn percent(self) -> String {
        let [mean, least, greatest] = [self.mean, self.least, self.greatest].map(|share| 100.0 * share);
        if self.least == self.greatest {
            format!("{mean:.0} %")
        } else {
            format!("{mean:.0} % ({least:.0}–{greatest:.0})")
        }
    }

    fn number(self) -> String {
        let Self { mean, least, greatest } = self;
        if least == greatest { format!("{mean:.1}") } else { format!("{mean:.1} ({least:.1}–{greatest:.1})") }
    }
}

/// What is there of a finished or unfinished run.
///
/// # Errors
/// [`RunError::Folder`] when the folder holds no run or a broken one.
pub fn read_run(folder: &Path) -> Result<Outcome, RunError> {
    let (folder, config) = RunFolder::open(folder)?;
    Ok(Outcome { config, evaluations: folder.evaluations()?, speed: None })
}

/// Outcomes task by task, in the order in which tasks come first.
#[must_use]
pub fn by_task(outcomes: Vec<Outcome>) -> Vec<(String, Vec<Outcome>)> {
    let mut groups: Vec<(String, Vec<Outcome>)> = Vec::new();
    for outcome in outcomes {
        match groups.iter_mut().find(|(task, _)| *task == outcome.config.task) {
            Some((_, group)) => group.push(outcome),
            None => groups.push((outcome.config.task.clone(), vec![outcome])),
        }
    }
    groups
}

/// Runs of several tasks as a table in Markdown: success at each evaluation (or return, for a task that nobody succeeds
/// in), with the range over seeds behind the mean.
#[must_use]
pub fn tasks_table(tasks: &[(String, Vec<Outcome>)]) -> String {
    let all = || tasks.iter().flat_map(|(_, outcomes)| outcomes).flat_map(|outcome| &outcome.evaluations);
    let mut steps: Vec<u64> =
        all().filter(|found| found.kind == EvaluationKind::Online).map(|found| found.env_steps).collect();
    steps.sort_unstable();
    steps.dedup();
    let mut text = String::from("| task | algorithm | seeds | after offline |");
    steps.iter().for_each(|step| _ = write!(text, " {step} steps |"));
    text.push_str(" at the end |\n|---|---|---|---|---|");
    steps.iter().for_each(|_| text.push_str("---|"));
    text.push('\n');
    for (task, outcomes) in tasks {
        let by_success = is_solved(outcomes);
        for (name, group) in by_algorithm(outcomes) {
            let _ = write!(text, "| `{task}` | `{name}` | {} |", group.len());
            let wanted = std::iter::once((EvaluationKind::AfterOffline, None))
                .chain(steps.iter().map(|step| (EvaluationKind::Online, Some(*step))))
                .chain([(EvaluationKind::Final, None)]);
            for (kind, step) in wanted {
                let found = group.iter().flat_map(|outcome| &outcome.evaluations);
                let values: Vec<f64> = found
                    .filter(|found| found.kind == kind && step.is_none_or(|step| found.env_steps == step))
                    .map(|found| if by_success { found.report.success_rate } else { found.report.mean_return })
                    .collect();
                let show = if by_success { Spread::percent } else { Spread::number };
                let cell = Spread::of(&values).map_or_else(|| "–".to_owned(), show);
                let _ = write!(text, " {cell} |");
            }
            text.push('\n');
        }
    }
    text
}

/// Whether anybody has ever succeeded. Where nobody can, as in tasks that only run or stand, the return tells more.
fn is_solved(outcomes: &[Outcome]) -> bool {
    outcomes.iter().flat_map(|outcome| &outcome.evaluations).any(|evaluation| evaluation.report.successes > 0)
}

/// The outcomes of one algorithm, in the order of `names`.
fn by_algorithm(outcomes: &[Outcome]) -> Vec<(&'static str, Vec<&Outcome>)> {
    let mut groups: Vec<(&'static str, Vec<&Outcome>)> = Vec::new();
    for outcome in outcomes {
        let name = outcome.config.algorithm.name();
        match groups.iter_mut().find(|(known, _)| *known == name) {
            Some((_, group)) => group.push(outcome),
            None => groups.push((name, vec![outcome])),
        }
    }
    groups
}

fn spread(group: &[&Outcome], kind: EvaluationKind, value: fn(&Evaluation) -> f64) -> Option<Spread> {
    let values: Vec<f64> = group
        .iter()
        .filter_map(|outcome| outcome.evaluations.iter().rev().find(|evaluation| evaluation.kind == kind))
        .map(value)
        .collect();
    Spread::of(&values)
}

/// The comparison as a table in Markdown. Where there are several seeds, the range over them stands behind the mean.
#[must_use]
pub fn table(outcomes: &[Outcome]) -> String {
    let mut text = String::from(
        "| algorithm | seeds | success after offline | final success | final return | selection, ms | update, ms |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for (name, group) in by_algorithm(outcomes) {
        let success = |evaluation: &Evaluation| evaluation.report.success_rate;
        let cell = |found: Option<Spread>, show: fn(Spread) -> String| found.map_or_else(|| "–".to_owned(), show);
        let mean = |value: fn(&Speed) -> f64| {
            let values: Vec<f64> = group.iter().filter_map(|outcome| outcome.speed.as_ref()).map(value).collect();
            Spread::of(&values).map_or(f64::NAN, |spread| spread.mean)
        };
        let _ = writeln!(
            text,
            "| `{name}` | {} | {} | {} | {} | {:.2} | {:.1} |",
            group.len(),
            cell(spread(&group, EvaluationKind::AfterOffline, success), Spread::percent),
            cell(spread(&group, EvaluationKind::Final, success), Spread::percent),
            cell(spread(&group, EvaluationKind::Final, |evaluation| evaluation.report.mean_return), Spread::number),
            mean(|speed| speed.select_ms),
            mean(|speed| speed.update_ms),
        );
    }
    text
}

/// Learning curves: success (or return, for a task that nobody succeeds in) over control steps; the band is the range
/// over seeds.
#[cfg(feature = "render")]
#[must_use]
pub fn chart(title: &str, outcomes: &[Outcome]) -> onestep_record::plot::Chart {
    use onestep_record::plot::{Chart, Mark, Series};

    let by_success = is_solved(outcomes);
    let value = |evaluation: &Evaluation| {
        if by_success { 100.0 * evaluation.report.success_rate } else { evaluation.report.mean_return }
    };
    let mut series = Vec::new();
    for (color, (name, group)) in by_algorithm(outcomes).into_iter().enumerate() {
        let mut steps: Vec<u64> =
            group.iter().flat_map(|outcome| &outcome.evaluations).map(|evaluation| evaluation.env_steps).collect();
        steps.sort_unstable();
        steps.dedup();
        let points: Vec<(f64, Spread)> = steps
            .into_iter()
            .filter_map(|step| {
                let at = group.iter().flat_map(|outcome| &outcome.evaluations);
                let values: Vec<f64> = at.filter(|evaluation| evaluation.env_steps == step).map(value).collect();
                Some((step as f64, Spread::of(&values)?))
            })
            .collect();
        let band = points.iter().map(|(step, spread)| (*step, spread.least, spread.greatest)).collect();
        let line = points.iter().map(|(step, spread)| (*step, spread.mean)).collect();
        series.push(Series { name: String::new(), color: Some(color), mark: Mark::Band(band) });
        series.push(Series { name: name.to_owned(), color: Some(color), mark: Mark::Line(line) });
    }
    Chart {
        title: title.to_owned(),
        x_label: "control steps".to_owned(),
        y_label: if by_success { "success, %" } else { "return" }.to_owned(),
        y_range: by_success.then_some(-2.0..102.0),
        series,
        ..Chart::default()
    }
}
