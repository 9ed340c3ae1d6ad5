//! A run on disk: one folder with everything inside.
//!
//! | name | content |
//! |---|---|
//! | `config.toml` | the complete description of the run |
//! | `metrics.csv` | one row for each stretch of learning, see [`COLUMNS`] |
//! | `events.out.tfevents.*` | the same numbers for TensorBoard |
//! | `evaluations.json` | every evaluation with its episodes |
//! | `checkpoint/` | weights, optimiser, replay, random streams; `checkpoint.previous/` is the one before |
//! | `fault.json` | only after a fault: what went wrong and the last states |

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use onestep_data::{DataError, atomic};
use onestep_policy::metrics;
use onestep_record::evaluation::EvaluationReport;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    config::{ConfigError, RunConfig},
    events::EventWriter,
};

/// Columns of `metrics.csv` that belong to the run. The names of [`onestep_policy::metrics::ALL`] follow.
pub const COLUMNS: [&str; 16] = [
    column::WALL_SECS,
    column::PHASE,
    column::UPDATES,
    column::ENV_STEPS,
    column::UPDATES_PER_SEC,
    column::STEPS_PER_SEC,
    column::REPLAY_TRANSITIONS,
    column::TRAIN_EPISODES,
    column::TRAIN_SUCCESS_RATE,
    column::TRAIN_RETURN,
    column::TRAIN_STEPS,
    column::EVAL_SUCCESS_RATE,
    column::EVAL_SUCCESS_LOW,
    column::EVAL_SUCCESS_HIGH,
    column::EVAL_RETURN,
    column::EVAL_STEPS,
];

/// The names of the columns that belong to the run.
pub mod column {
    /// Seconds of work so far, over all sessions of the run.
    pub const WALL_SECS: &str = "time/wall_secs";
    /// 0 offline, 1 online.
    pub const PHASE: &str = "step/phase";
    /// Updates so far.
    pub const UPDATES: &str = "step/updates";
    /// Control steps of the learning agents so far.
    pub const ENV_STEPS: &str = "step/env_steps";
    /// Updates for each second since the row before.
    pub const UPDATES_PER_SEC: &str = "rate/updates_per_sec";
    /// Control steps for each second since the row before.
    pub const STEPS_PER_SEC: &str = "rate/env_steps_per_sec";
    /// Transitions in the replay.
    pub const REPLAY_TRANSITIONS: &str = "replay/transitions";
    /// Transitions in the replay whose action a person wrote. In the TensorBoard events alone, and only where there are any.
    pub const REPLAY_INTERVENTIONS: &str = "replay/interventions";
    /// Episodes that ended since the row before, without those in which a person acted. The next three columns are their means.
    pub const TRAIN_EPISODES: &str = "train/episodes";
    /// Share of them whose goal held at the end.
    pub const TRAIN_SUCCESS_RATE: &str = "train/success_rate";
    /// Their undiscounted sum of rewards.
    pub const TRAIN_RETURN: &str = "train/return";
    /// Their length in control steps.
    pub const TRAIN_STEPS: &str = "train/steps";
    /// Share of an evaluation's episodes whose goal held at the end. The evaluation columns are empty in other rows.
    pub const EVAL_SUCCESS_RATE: &str = "eval/success_rate";
    /// Lower end of its 95 % interval.
    pub const EVAL_SUCCESS_LOW: &str = "eval/success_low";
    /// Upper end of its 95 % interval.
    pub const EVAL_SUCCESS_HIGH: &str = "eval/success_high";
    /// Mean undiscounted sum of rewards of the evaluation.
    pub const EVAL_RETURN: &str = "eval/return";
    /// Mean length of the evaluation's episodes in control steps.
    pub const EVAL_STEPS: &str = "eval/steps";
}

/// What can go wrong with a run folder.
#[derive(Debug, Error)]
pub enum FolderError {
    /// Something is there already.
    #[error("{} exists already; go on with it by `--resume {}`, or choose another folder by `--out`", path.display(), path.display())]
    Exists {
        /// Which folder.
        path: PathBuf,
    },
    /// It is not a run.
    #[error("{} is not a run folder: {problem}; `onestep train` makes one", path.display())]
    NotARun {
        /// Which folder.
        path: PathBuf,
        /// What is missing.
        problem: String,
    },
    /// A file of the run does not hold what it must.
    #[error("{}: {problem}; the file was left as it is", path.display())]
    Broken {
        /// Which file.
        path: PathBuf,
        /// What and where.
        problem: String,
    },
    /// A run was to become shorter than it is.
    #[error(
        "{} has made {made} control steps already, so it cannot end after {wanted}; give `--online-steps` a number above \
         that to prolong it",
        path.display()
    )]
    TooShort {
        /// Which run.
        path: PathBuf,
        /// Control steps so far.
        made: u64,
        /// The length asked for.
        wanted: u64,
    },
    /// The system refused.
    #[error("cannot write {}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The description of the run is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file could not be written in one piece.
    #[error(transparent)]
    Data(#[from] DataError),
}

/// When an evaluation was made, and what it found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Which one.
    pub kind: EvaluationKind,
    /// Updates at that moment.
    pub updates: u64,
    /// Control steps of the learning agents at that moment.
    pub env_steps: u64,
    /// What it found.
    pub report: EvaluationReport,
}

/// Which evaluation of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvaluationKind {
    /// After the offline phase, before the agents act.
    AfterOffline,
    /// During the online phase.
    Online,
    /// At the end of the run.
    Final,
}

/// The folder of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// Makes a new run folder with its `config.toml`. An empty folder may be there already.
    ///
    /// # Errors
    /// [`FolderError::Exists`] when something is in the way; nothing is changed then.
    pub fn create(path: &Path, config: &RunConfig) -> Result<Self, FolderError> {
        let is_free = match fs::read_dir(path) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if !is_free {
            return Err(FolderError::Exists { path: path.to_owned() });
        }
        fs::create_dir_all(path).map_err(|source| FolderError::Io { path: path.to_owned(), source })?;
        let folder = Self { path: path.to_owned() };
        folder.write_config(config)?;
        Ok(folder)
    }

    /// Opens an existing run and reads its description.
    ///
    /// # Errors
    /// [`FolderError::NotARun`] when there is no `config.toml`; [`FolderError::Config`] when it is broken.
    pub fn open(path: &Path) -> Result<(Self, RunConfig), FolderError> {
        let folder = Self { path: path.to_owned() };
        if !folder.config_path().is_file() {
            let problem = if path.exists() { "it holds no config.toml" } else { "it does not exist" };
            return Err(FolderError::NotARun { path: path.to_owned(), problem: problem.to_owned() });
        }
        let config = RunConfig::read(&folder.config_path())?;
        Ok((folder, config))
    }

    /// A folder under `root` that is free: `TASK-ALGORITHM-seedN`, or the same with a number at the end.
    #[must_use]
    pub fn free_path(root: &Path, config: &RunConfig) -> PathBuf {
        let name = format!("{}-{}-seed{}", config.task, config.algorithm.name(), config.seed);
        let first = root.join(&name);
        if !first.exists() {
            return first;
        }
        (2_u32..).map(|number| root.join(format!("{name}-{number}"))).find(|path| !path.exists()).unwrap_or(first)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The description of the run.
    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    /// Where checkpoints go.
    #[must_use]
    pub fn checkpoint_path(&self) -> PathBuf {
        self.path.join("checkpoint")
    }

    /// The valid checkpoint: the last one, or the one before if the program died between two renames.
    ///
    /// # Errors
    /// [`FolderError::NotARun`] when there is none.
    pub fn existing_checkpoint(&self) -> Result<PathBuf, FolderError> {
        atomic::existing(&self.checkpoint_path()).ok_or_else(|| FolderError::NotARun {
            path: self.path.clone(),
            problem: "it holds no checkpoint yet".to_owned(),
        })
    }

    /// Where the report of a fault goes.
    #[must_use]
    pub fn fault_path(&self) -> PathBuf {
        self.path.join("fault.json")
    }

    fn metrics_path(&self) -> PathBuf {
        self.path.join("metrics.csv")
    }

    fn evaluations_path(&self) -> PathBuf {
        self.path.join("evaluations.json")
    }

    /// The description of the run, which stands at `position`, with another length in control steps; nothing if it has
    /// that length.
    ///
    /// # Errors
    /// [`FolderError::TooShort`] when it has made as many already.
    pub(crate) fn with_online_steps(&self, wanted: u64, position: Position) -> Result<Option<RunConfig>, FolderError> {
        let (_, mut config) = Self::open(&self.path)?;
        if config.learner.online_steps == wanted {
            return Ok(None);
        }
        if wanted <= position.env_steps {
            return Err(FolderError::TooShort { path: self.path.clone(), made: position.env_steps, wanted });
        }
        config.learner.online_steps = wanted;
        Ok(Some(config))
    }

    /// Replaces the description of the run.
    ///
    /// # Errors
    /// [`FolderError::Data`] when the disk refuses.
    pub(crate) fn write_config(&self, config: &RunConfig) -> Result<(), FolderError> {
        Ok(atomic::write(&self.config_path(), config.to_toml()?.as_bytes())?)
    }

    /// The evaluations so far.
    ///
    /// # Errors
    /// [`FolderError::Broken`] with line and column.
    pub fn evaluations(&self) -> Result<Vec<Evaluation>, FolderError> {
        let path = self.evaluations_path();
        match fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|error| FolderError::Broken { path, problem: error.to_string() })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(FolderError::Data(DataError::Io { action: "read", path, source })),
        }
    }

    /// Writes all evaluations in one piece.
    ///
    /// # Errors
    /// [`FolderError::Data`] when the disk refuses.
    pub fn write_evaluations(&self, evaluations: &[Evaluation]) -> Result<(), FolderError> {
        self.write_json(&self.evaluations_path(), &evaluations)
    }

    /// Writes the report of a fault.
    ///
    /// # Errors
    /// [`FolderError::Data`] when the disk refuses.
    pub fn write_fault(&self, report: &impl Serialize) -> Result<(), FolderError> {
        self.write_json(&self.fault_path(), report)
    }

    fn write_json(&self, path: &Path, value: &impl Serialize) -> Result<(), FolderError> {
        let mut text = serde_json::to_vec_pretty(value)
            .map_err(|error| FolderError::Broken { path: path.to_owned(), problem: error.to_string() })?;
        text.push(b'\n');
        Ok(atomic::write(path, &text)?)
    }
}

/// Where a run stands; rows and evaluations beyond it are dropped when a run is resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// Updates so far.
    pub updates: u64,
    /// Control steps of the learning agents so far.
    pub env_steps: u64,
}

impl Position {
    /// Whether `self` is at or before `other`.
    #[must_use]
    pub fn is_within(self, other: Self) -> bool {
        self.updates <= other.updates && self.env_steps <= other.env_steps
    }
}

/// Writes rows of metrics to `metrics.csv` and to a TensorBoard event file.
#[derive(Debug)]
pub struct MetricsLog {
    path: PathBuf,
    csv: csv::Writer<File>,
    events: EventWriter,
    columns: Vec<&'static str>,
}

impl MetricsLog {
    /// All columns in order.
    #[must_use]
    pub fn columns() -> Vec<&'static str> {
        COLUMNS.into_iter().chain(metrics::ALL).collect()
    }

    /// Starts the files of a new run.
    ///
    /// # Errors
    /// [`FolderError::Io`].
    pub fn create(folder: &RunFolder, wall_time_secs: f64) -> Result<Self, FolderError> {
        let columns = Self::columns();
        Self::write_rows(&folder.metrics_path(), &columns, &[])?;
        Self::append(folder, columns, wall_time_secs, None)
    }

    /// Goes on with the files of a run that is resumed at `position`: later rows are dropped. Returns the log and the
    /// seconds of work that the kept rows tell of.
    ///
    /// # Errors
    /// [`FolderError::Broken`] when the CSV is not ours; [`FolderError::Io`].
    pub fn resume(folder: &RunFolder, wall_time_secs: f64, position: Position) -> Result<(Self, f64), FolderError> {
        let path = folder.metrics_path();
        if !path.exists() {
            return Ok((Self::create(folder, wall_time_secs)?, 0.0));
        }
        let broken = |problem: String| FolderError::Broken { path: path.clone(), problem };
        let mut reader =
            csv::ReaderBuilder::new().flexible(true).from_path(&path).map_err(|error| broken(error.to_string()))?;
        let columns = Self::columns();
        let header = reader.headers().map_err(|error| broken(error.to_string()))?.clone();
        if header.iter().ne(columns.iter().copied()) {
            return Err(broken("the columns are not those of this program; move the file away to go on".to_owned()));
        }
        let at = |name: &str| columns.iter().position(|column| *column == name).unwrap_or(usize::MAX);
        let (wall, updates, env_steps) = (at(column::WALL_SECS), at(column::UPDATES), at(column::ENV_STEPS));
        let mut rows = Vec::new();
        let mut wall_secs = 0.0;
        for row in reader.records() {
            // The last row may be cut off by a crash; it lies beyond the checkpoint anyway.
            let Ok(row) = row else { break };
            let number = |index: usize| row.get(index).and_then(|text| text.parse::<f64>().ok());
            let (Some(wall), Some(updates), Some(env_steps)) = (number(wall), number(updates), number(env_steps))
            else {
                break;
            };
            let here = Position { updates: updates as u64, env_steps: env_steps as u64 };
            if row.len() == columns.len() && here.is_within(position) {
                wall_secs = wall;
                rows.push(row);
            }
        }
        Self::write_rows(&path, &columns, &rows)?;
        Ok((Self::append(folder, columns, wall_time_secs, Some(position))?, wall_secs))
    }

    fn write_rows(path: &Path, columns: &[&str], rows: &[csv::StringRecord]) -> Result<(), FolderError> {
        Ok(atomic::write_with(path, |file| {
            let mut writer = csv::Writer::from_writer(file);
            writer.write_record(columns)?;
            for row in rows {
                writer.write_record(row)?;
            }
            writer.flush()
        })?)
    }

    fn append(
        folder: &RunFolder,
        columns: Vec<&'static str>,
        wall_time_secs: f64,
        resumed_at: Option<Position>,
    ) -> Result<Self, FolderError> {
        let path = folder.metrics_path();
        let file = OpenOptions::new()
            .append(true)
            .open(&path)
            .map_err(|source| FolderError::Io { path: path.clone(), source })?;
        let csv = csv::WriterBuilder::new().has_headers(false).from_writer(file);
        let events = EventWriter::create(folder.path(), wall_time_secs, resumed_at.map(Self::event_step))
            .map_err(|source| FolderError::Io { path: folder.path().to_owned(), source })?;
        Ok(Self { path, csv, events, columns })
    }

    /// TensorBoard has one axis of steps; updates and control steps both move forward, so their sum does, too.
    fn event_step(position: Position) -> u64 {
        position.updates + position.env_steps
    }

    /// Adds a row of `(column, value)` pairs. Columns without a value stay empty; names that are no column are left
    /// out of the CSV, but not out of the events.
    ///
    /// # Errors
    /// [`FolderError::Io`].
    pub fn add(&mut self, wall_time_secs: f64, position: Position, row: &[(&str, f64)]) -> Result<(), FolderError> {
        let path = self.path.clone();
        let failed = |source: io::Error| FolderError::Io { path, source };
        let value = |column: &str| row.iter().find(|(name, _)| *name == column).map(|(_, value)| *value);
        let fields =
            self.columns.iter().map(|column| value(column).map_or_else(String::new, |value| value.to_string()));
        let scalars: Vec<_> = row.iter().map(|(name, value)| (*name, *value as f32)).collect();
        self.csv
            .write_record(fields)
            .map_err(io::Error::from)
            .and_then(|()| self.csv.flush())
            .and_then(|()| self.events.add_scalars(wall_time_secs, Self::event_step(position), &scalars))
            .map_err(failed)
    }
}
