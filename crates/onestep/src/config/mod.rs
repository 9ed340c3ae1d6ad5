//! The description of a run: typed, complete, and the same from the command line, from a file and in the run folder.

mod error;
mod layers;

use std::{
    fs,
    path::{Path, PathBuf},
};

pub use error::ConfigError;
use layers::{Layers, merge, parse_value};
use onestep_learn::{AlgorithmConfig, Compute, LearnerSchedule};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

/// Everything that decides a run. Two runs with equal descriptions do the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Name of the task, as [`onestep_sim::tasks`] lists it.
    pub task: String,
    /// Name of the preset that the other settings started from.
    pub preset: String,
    /// Root seed: of initial states, noise, initial weights and batches.
    pub seed: u64,
    /// Which device learns.
    pub compute: Compute,
    /// Worlds that the learning agents act in, side by side.
    pub arenas: usize,
    /// Folder of another run whose networks this one starts with; sizes and algorithm must be the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_from: Option<PathBuf>,
    /// What the run starts from.
    pub demonstrations: DemonstrationConfig,
    /// How is learned.
    pub algorithm: AlgorithmConfig,
    /// When and how much is learned.
    pub learner: LearnerSchedule,
    /// How the result is judged.
    pub evaluation: EvaluationConfig,
    /// How often the run is saved.
    pub checkpoint: CheckpointConfig,
    /// How often numbers are written down.
    pub log: LogConfig,
}

/// Episodes of the scripted expert, with noise, that fill the replay before learning starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DemonstrationConfig {
    /// File with the episodes to take instead of the expert's, in any format of [`onestep_data::Format`]; a relative
    /// path starts at the working directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// How many episodes; of a file, at most so many from its beginning. For a task without a scripted expert presets
    /// say 0, and 0 updates of the offline phase.
    pub episodes: usize,
    /// Standard deviation of the Gaussian noise that is added to every number of the expert's action. An action's
    /// numbers lie in [-1, 1].
    pub action_noise_std: f32,
    /// Probability that the expert's action is replaced by a uniformly random one.
    pub random_action_probability: f32,
    /// Keep only episodes that end in success.
    pub successful_only: bool,
    /// Scale observations by mean and standard deviation of the demonstrations before networks see them. For tasks
    /// that observe metres; the papers do not.
    #[serde(default)]
    pub standardise_observations: bool,
}

/// Evaluations: whole episodes in worlds of their own, from seeds that are never trained on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationConfig {
    /// Episodes of one evaluation.
    pub episodes: usize,
    /// Control steps of the online phase between two evaluations, over all arenas. There is always one after the
    /// offline phase and one at the end.
    pub every_steps: u64,
    /// Worlds that are evaluated side by side.
    pub arenas: usize,
}

/// Saving.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointConfig {
    /// Seconds between two checkpoints. There is always one at the end and at an interruption.
    pub every_secs: f64,
}

/// Writing metrics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    /// Updates between two rows of metrics. A row holds means since the row before.
    pub every_updates: u64,
    /// Control steps between two rows of metrics, whatever comes first.
    pub every_steps: u64,
}

/// A preset: settings to start from.
#[derive(Debug, Clone, Copy)]
pub struct Preset {
    /// Its name.
    pub name: &'static str,
    /// What it is for, in one line.
    pub summary: &'static str,
    text: &'static str,
}

/// The presets that are built in.
pub const PRESETS: [Preset; 2] = [
    Preset {
        name: "small",
        summary: "small networks and few steps: minutes on a laptop's CPU",
        text: include_str!("../../presets/small.toml"),
    },
    Preset {
        name: "paper",
        summary: "network sizes and numbers of steps as published: for a GPU, or for patience",
        text: include_str!("../../presets/paper.toml"),
    },
];

const DEFAULT_PRESET: &str = "small";

/// One setting from outside a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// How the user gave it, for errors: `--set` or the name of an option.
    pub origin: String,
    /// Dotted key: `learner.online_steps`.
    pub key: String,
    /// The value, as TOML would have it.
    pub value: Value,
}

impl Setting {
    /// `key` gets `value`, where `value` is text as after `--set KEY=`: TOML, or a word without quotes.
    pub fn new(origin: impl Into<String>, key: impl Into<String>, value: &str) -> Self {
        Self { origin: origin.into(), key: key.into(), value: parse_value(value) }
    }

    /// From `KEY=VALUE`.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] when there is no `=`.
    pub fn parse(origin: &str, text: &str) -> Result<Self, ConfigError> {
        match text.split_once('=') {
            Some((key, value)) => Ok(Self::new(origin, key.trim(), value.trim())),
            None => Err(ConfigError::Invalid {
                origin: origin.to_owned(),
                key: text.to_owned(),
                problem: "a setting is KEY=VALUE, for instance learner.online_steps=5000".to_owned(),
            }),
        }
    }
}

/// Where the settings of a run come from. Later fields lie over earlier ones.
#[derive(Debug, Clone, Default)]
pub struct ConfigSources {
    /// The task. Else the file must name it.
    pub task: Option<String>,
    /// The preset. Else the file's, else `small`.
    pub preset: Option<String>,
    /// A TOML file that holds all settings or some.
    pub file: Option<PathBuf>,
    /// Single settings, the last one wins.
    pub settings: Vec<Setting>,
}

impl ConfigSources {
    /// Puts everything together and checks it.
    ///
    /// # Errors
    /// [`ConfigError`], which says where the wrong setting stands and what was probably meant.
    pub fn resolve(&self) -> Result<RunConfig, ConfigError> {
        let file = match &self.file {
            Some(path) => Some((path.display().to_string(), read(path)?)),
            None => None,
        };
        let in_file = |key: &str| {
            let table = file.as_ref()?.1.parse::<Table>().ok()?;
            table.get(key)?.as_str().map(str::to_owned)
        };
        let task = match (&self.task, in_file("task")) {
            (Some(task), Some(other)) if *task != other => {
                return Err(ConfigError::Invalid {
                    origin: file.map_or_else(String::new, |(origin, _)| origin),
                    key: "task".to_owned(),
                    problem: format!("the file is for `{other}`, the command says `{task}`"),
                });
            }
            (Some(task), _) => task.clone(),
            (None, Some(task)) => task,
            (None, None) => {
                return Err(ConfigError::Invalid {
                    origin: "settings".to_owned(),
                    key: "task".to_owned(),
                    problem: format!("no task is named; one of {}", onestep_sim::tasks().join(", ")),
                });
            }
        };
        let preset = self.preset.clone().or_else(|| in_file("preset")).unwrap_or_else(|| DEFAULT_PRESET.to_owned());
        let in_settings = self.settings.iter().rev().find(|setting| setting.key == "algorithm.name");
        if let Some((setting, name)) = in_settings.and_then(|setting| Some((setting, setting.value.as_str()?)))
            && !AlgorithmConfig::NAMES.contains(&name)
        {
            return Err(ConfigError::UnknownAlgorithm {
                origin: setting.origin.clone(),
                name: name.to_owned(),
                suggestion: nearest(name, &AlgorithmConfig::NAMES),
            });
        }
        let algorithm = in_settings.and_then(|setting| setting.value.as_str().map(str::to_owned)).or_else(|| {
            let table = file.as_ref()?.1.parse::<Table>().ok()?;
            let name = table.get("algorithm")?.get("name")?.as_str()?;
            // A wrong name in the file is reported with its place when the file is laid over.
            AlgorithmConfig::NAMES.contains(&name).then(|| name.to_owned())
        });
        let mut layers = Layers::new(base(&task, &preset, algorithm.as_deref())?);
        if let Some((origin, text)) = &file {
            layers.add_text::<RunConfig>(origin, text)?;
        }
        // The command's own preset is stronger than the name that stands in the file.
        layers.set::<RunConfig>("--preset", "preset", Value::String(preset))?;
        for setting in &self.settings {
            layers.set::<RunConfig>(&setting.origin, &setting.key, setting.value.clone())?;
        }
        let mut config = RunConfig::from_table(layers.table().clone())?;
        config.task = canonical(&config.task)?.to_owned();
        config.validate()?;
        Ok(config)
    }
}

impl RunConfig {
    /// The settings of a preset for a task.
    ///
    /// # Errors
    /// [`ConfigError::UnknownTask`], [`ConfigError::UnknownPreset`].
    pub fn preset(task: &str, preset: &str) -> Result<Self, ConfigError> {
        let config = Self::from_table(base(task, preset, None)?)?;
        config.validate()?;
        Ok(config)
    }

    /// Reads a complete description, as [`RunConfig::to_toml`] writes it.
    ///
    /// # Errors
    /// [`ConfigError`] with file, line and column.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        match toml::from_str::<Self>(&read(path)?) {
            Ok(config) => {
                config.validate()?;
                Ok(config)
            }
            // The long way finds the place of the mistake, and fills up a file that is not complete.
            Err(_) => ConfigSources { file: Some(path.to_owned()), ..ConfigSources::default() }.resolve(),
        }
    }

    /// The complete description as TOML.
    ///
    /// # Errors
    /// [`ConfigError::Write`] for a number that TOML cannot hold.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        toml::to_string(self).map_err(|error| ConfigError::Write(error.to_string()))
    }

    /// Checks what the types alone cannot.
    ///
    /// # Errors
    /// [`ConfigError`] naming the setting.
    pub fn validate(&self) -> Result<(), ConfigError> {
        canonical(&self.task)?;
        let wrong = |key: &str, problem: &str| {
            Err(ConfigError::Invalid {
                origin: "settings".to_owned(),
                key: key.to_owned(),
                problem: problem.to_owned(),
            })
        };
        for (key, value) in [
            ("arenas", self.arenas),
            ("evaluation.episodes", self.evaluation.episodes),
            ("evaluation.arenas", self.evaluation.arenas),
        ] {
            if value == 0 {
                return wrong(key, "is 0; at least 1 is needed");
            }
        }
        for (key, value) in [
            ("evaluation.every_steps", self.evaluation.every_steps),
            ("log.every_updates", self.log.every_updates),
            ("log.every_steps", self.log.every_steps),
        ] {
            if value == 0 {
                return wrong(key, "is 0; at least 1 is needed, or a very large number for never");
            }
        }
        // TOML's integers are signed, so a larger seed could not be written down.
        if i64::try_from(self.seed).is_err() {
            return wrong("seed", "is larger than 9223372036854775807");
        }
        let DemonstrationConfig { episodes, action_noise_std, random_action_probability, .. } = self.demonstrations;
        if episodes == 0 && self.demonstrations.file.is_some() {
            return wrong("demonstrations.episodes", "is 0, so that demonstrations.file would not be read");
        }
        if !(0.0..=10.0).contains(&action_noise_std) {
            return wrong("demonstrations.action_noise_std", "must lie between 0 and 10");
        }
        if !(0.0..=1.0).contains(&random_action_probability) {
            return wrong("demonstrations.random_action_probability", "must lie between 0 and 1");
        }
        if episodes > 0 && self.demonstrations.file.is_none() && !has_expert(&self.task) {
            return wrong(
                "demonstrations.episodes",
                &format!(
                    "is {episodes}, but `{}` has no scripted expert; leave it out or set demonstrations.episodes=0, and \
                     the run learns online from the start",
                    self.task
                ),
            );
        }
        if episodes == 0 && self.learner.offline_updates > 0 {
            return wrong(
                "demonstrations.episodes",
                "is 0, but there are offline updates; set learner.offline_updates=0",
            );
        }
        if self.checkpoint.every_secs.is_nan() || self.checkpoint.every_secs <= 0.0 {
            return wrong("checkpoint.every_secs", "must be more than 0");
        }
        // These name the setting themselves.
        self.algorithm.validate().or_else(|error| wrong("algorithm", &error.to_string()))?;
        self.learner.validate().or_else(|error| wrong("learner", &error.to_string()))
    }

    fn from_table(table: Table) -> Result<Self, ConfigError> {
        Self::deserialize(table).map_err(|error| ConfigError::Invalid {
            origin: "settings".to_owned(),
            key: "preset".to_owned(),
            problem: error.message().to_owned(),
        })
    }
}

/// The names of the tasks.
#[must_use]
pub fn tasks() -> Vec<&'static str> {
    onestep_sim::tasks().to_vec()
}

/// Whether a scripted expert can demonstrate the task. A run of any other task has no demonstrations and no offline phase.
#[must_use]
pub fn has_expert(task: &str) -> bool {
    onestep_sim::task(task).is_ok_and(|task| task.has_expert())
}

/// The table of a preset with what it says about this task and this algorithm.
fn base(task: &str, preset: &str, algorithm: Option<&str>) -> Result<Table, ConfigError> {
    let task = canonical(task)?;
    let presets = PRESETS.map(|preset| preset.name);
    if !presets.contains(&preset) {
        return Err(ConfigError::UnknownPreset { name: preset.to_owned(), suggestion: nearest(preset, &presets) });
    }
    let text = PRESETS.iter().find(|candidate| candidate.name == preset).map_or("", |preset| preset.text);
    let mut table: Table = text.parse().map_err(|error: toml::de::Error| ConfigError::Syntax {
        origin: format!("preset {preset}"),
        problem: error.to_string(),
    })?;
    let name_of = |table: &Table| table.get("algorithm")?.get("name")?.as_str().map(str::to_owned);
    let usual = name_of(&table);
    if let Some(Value::Table(own)) = table.remove("from_scratch")
        && !has_expert(task)
    {
        merge(&mut table, &own);
    }
    if let Some(Value::Table(tasks)) = table.remove("tasks") {
        // `cube-double` speaks for `cube-double-task1` to `-task5`; what a task's own entry says lies over it.
        let environment = task.rsplit_once("-task").map_or(task, |(environment, _)| environment);
        for name in [environment, task] {
            if let Some(Value::Table(own)) = tasks.get(name) {
                merge(&mut table, own);
            }
        }
    }
    let chosen = algorithm.map(str::to_owned).or_else(|| name_of(&table));
    let [any, mut own] = ["any_algorithm", "algorithms"].map(|key| match table.remove(key) {
        Some(Value::Table(table)) => table,
        _ => Table::new(),
    });
    if let Some(name) = chosen.filter(|name| usual.as_ref() != Some(name)) {
        let mut settings = Table::from_iter([("name".to_owned(), Value::String(name.clone()))]);
        settings.extend(any.into_iter().filter(|(key, _)| has_setting(&name, key)));
        if let Some(Value::Table(own)) = own.remove(&name) {
            settings.extend(own);
        }
        table.insert("algorithm".to_owned(), Value::Table(settings));
    }
    table.insert("task".to_owned(), Value::String(task.to_owned()));
    table.insert("preset".to_owned(), Value::String(preset.to_owned()));
    Ok(table)
}

/// Whether the algorithm has a setting of this name.
fn has_setting(algorithm: &str, key: &str) -> bool {
    let with = AlgorithmConfig::named(algorithm).and_then(|config| Table::try_from(config).ok());
    // What is not set by default is not in the table.
    with.is_some_and(|table| table.contains_key(key) || key == "learning_rate_decay")
}

/// The task's own name for a name of the task, which may be another project's longer one.
fn canonical(task: &str) -> Result<&'static str, ConfigError> {
    onestep_sim::task(task).map(|task| task.name()).map_err(|error| ConfigError::UnknownTask {
        name: task.to_owned(),
        suggestion: match error {
            onestep_sim::SimError::UnknownTask { suggestion, .. } => suggestion,
            _ => None,
        },
    })
}

/// The name that is most like `name`, if any is.
fn nearest(name: &str, names: &[&'static str]) -> Option<String> {
    let lower = name.to_lowercase();
    names
        .iter()
        .map(|known| (strsim::damerau_levenshtein(&lower, known), *known))
        .filter(|(distance, known)| *distance <= 2.max(known.len() / 3) && *distance < known.len())
        .min()
        .map(|(_, known)| known.to_owned())
}

fn read(path: &Path) -> Result<String, ConfigError> {
    fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })
}
