//! Low-dimensional robomimic datasets: one HDF5 file with a group for each demonstration.
//!
//! | place | content |
//! |---|---|
//! | `data`, attributes | `total`: steps of all demonstrations; `env_args`: JSON that describes the environment |
//! | `data/demo_i`, attributes | `num_samples`: steps `T`; `model_file`: MuJoCo's XML |
//! | `data/demo_i/actions` | `[T, A]`, in [-1, 1] |
//! | `data/demo_i/rewards`, `dones` | `[T]` |
//! | `data/demo_i/states` | `[T, D]`, the simulator's state: time, positions, velocities |
//! | `data/demo_i/obs/KEY` | `[T, width]`, before each action |
//! | `data/demo_i/next_obs/KEY` | `[T, width]`, after it; many files leave it out |
//! | `mask/FILTER` | names of demonstrations |
//!
//! An observation is a list of keys, joined in a chosen order. Without `next_obs` nothing tells what a demonstration's
//! last action led to, so that it gives one step less. Files that Onestep writes hold more: attributes `seed`,
//! `terminated` and `truncated` of each demonstration, a dataset `successes`, one `interventions` where a person stepped
//! in, and in the attributes `onestep`, `onestep_keys` and `onestep_reward_offset` of `data` its own header, the order
//! of keys, and what was added to the rewards. Other readers pass them over.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::{
    DataError, EpisodeData, EpisodeFile, Format, Origin, atomic,
    episode::settle_actions,
    file::Header,
    format::go_on,
    hdf5::{self, Attribute, Content, GroupContent, Hdf5},
};

/// What policies on low-dimensional robomimic data usually see of a task with one arm, in this order.
pub const LOW_DIM_KEYS: [&str; 4] = ["robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos", "object"];
/// What is seen of an arm, with its widths: metres; x, y, z, w; metres.
const ARM_KEYS: [(&str, usize); 3] = [("eef_pos", 3), ("eef_quat", 4), ("gripper_qpos", 2)];

/// The keys of a task of robomimic's with their widths, in the order of our own observation: those of each arm, then
/// `object`. `None` for any other task.
///
/// ```
/// let keys = onestep_data::robomimic::task_keys("transport").unwrap_or_default();
/// assert_eq!(keys.iter().map(|(_, width)| width).sum::<usize>(), 59);
/// ```
#[must_use]
pub fn task_keys(task: &str) -> Option<Vec<(String, usize)>> {
    let (arms, object) = match task {
        "lift" => (1, 10),           // the cube and the way to it from the gripper
        "can" | "square" => (1, 14), // the object in the hand's frame and in the world
        "tool-hang" => (1, 44),
        "transport" => (2, 41),
        _ => return None,
    };
    let arm = |arm: usize| ARM_KEYS.iter().map(move |(key, width)| (format!("robot{arm}_{key}"), *width));
    Some((0..arms).flat_map(arm).chain([("object".to_owned(), object)]).collect())
}

/// Key of observations that nobody has named.
pub const FLAT_KEY: &str = "flat";

const HEADER: &str = "onestep";
const INTERVENTIONS: &str = "interventions";
const KEYS: &str = "onestep_keys";
const REWARD_OFFSET: &str = "onestep_reward_offset";

/// How episodes are read.
#[derive(Debug, Clone, PartialEq)]
pub struct RobomimicReadOptions {
    /// Observation keys, joined in this order. Empty: the order that the file was written with, else the task's own
    /// ([`task_keys`]), else [`LOW_DIM_KEYS`].
    pub keys: Vec<String>,
    /// Only demonstrations that this filter key names.
    pub filter: Option<String>,
    /// An episode ends with the first step that reaches the goal, as a task that terminates on success would have it.
    /// Else it goes on to the demonstration's end.
    pub end_at_success: bool,
    /// Is added to the rewards of files that Onestep did not write. They reward success by 1 and the rest by 0; -1
    /// makes that 0 and -1, as Onestep's tasks reward.
    pub reward_offset: f32,
}

impl Default for RobomimicReadOptions {
    fn default() -> Self {
        Self { keys: Vec::new(), filter: None, end_at_success: true, reward_offset: -1.0 }
    }
}

/// How episodes are written.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RobomimicWriteOptions {
    /// Observation keys with their widths, as they lie in an observation. Empty: the task's own ([`task_keys`]), else
    /// all numbers under [`FLAT_KEY`].
    pub keys: Vec<(String, usize)>,
    /// The attribute `env_args`, JSON. Else one that names the task and no simulator.
    pub env_args: Option<String>,
    /// Filter keys, each with the indices of its episodes.
    pub filters: BTreeMap<String, Vec<usize>>,
    /// Simulator states `[T, D]` of each episode. Onestep's episodes have none, so that it is left out by default.
    pub states: Vec<Vec<f64>>,
    /// MuJoCo's XML of each episode; left out by default.
    pub model_files: Vec<String>,
    /// Pack the numbers by gzip.
    pub compress: bool,
    /// Is added to every reward, and taken off again where Onestep reads the file.
    pub reward_offset: f32,
}

/// What the attribute `env_args` says of the environment.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct EnvArgs {
    /// Name of the environment: `Lift`.
    pub env_name: String,
    /// Version of the simulator, where it is told.
    #[serde(default)]
    pub env_version: Option<String>,
    /// Kind of environment; 1 is robosuite.
    #[serde(default, rename = "type")]
    pub env_type: Option<i64>,
    /// Everything else: controller, frequency, cameras.
    #[serde(default)]
    pub env_kwargs: serde_json::Value,
}

impl EnvArgs {
    /// Short name of the task: `lift` for `Lift`, `square` for `NutAssemblySquare`.
    #[must_use]
    pub fn task(&self) -> String {
        match self.env_name.as_str() {
            "PickPlaceCan" => "can".to_owned(),
            "NutAssemblySquare" => "square".to_owned(),
            "ToolHang" => "tool-hang".to_owned(),
            "TwoArmTransport" => "transport".to_owned(),
            other => other.to_lowercase(),
        }
    }

    /// Whether the object of this task is laid out otherwise than since robosuite 1.5.
    fn has_old_order(&self) -> bool {
        let mut version = self.env_version.iter().flat_map(|version| version.split('.')).map(str::parse::<u32>);
        let is_old =
            matches!((version.next(), version.next()), (Some(Ok(major)), Some(Ok(minor))) if (major, minor) < (1, 5));
        is_old && matches!(self.task().as_str(), "can" | "square" | "tool-hang")
    }

    /// Rewards grow on the way to the goal, so that they do not tell success.
    fn has_shaped_rewards(&self) -> bool {
        self.env_kwargs.get("reward_shaping").and_then(serde_json::Value::as_bool).unwrap_or(false)
    }
}

/// An open file.
pub struct RobomimicFile {
    path: PathBuf,
    file: Box<dyn Hdf5>,
    attributes: BTreeMap<String, Attribute>,
    demos: Vec<String>,
}

/// One episode with what was left out of it.
struct Demo {
    data: EpisodeData,
    observation_dim: usize,
    action_dim: usize,
}

const DATA: &str = "/data";

impl RobomimicFile {
    /// Opens a file. Numbers are read when they are asked for.
    ///
    /// # Errors
    /// [`DataError::Io`], or [`DataError::Foreign`] for a file that is no HDF5 or has no demonstrations.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let failed = || DataError::io("read", path);
        let len = fs::metadata(path).map_err(failed())?.len();
        Self::new(path, hdf5::open(path, len))
    }

    /// Like [`RobomimicFile::open`], from memory; `path` is the name in errors.
    ///
    /// # Errors
    /// As [`RobomimicFile::open`].
    pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Self, DataError> {
        Self::new(path, hdf5::from_bytes(bytes))
    }

    fn new(path: &Path, file: Result<Box<dyn Hdf5>, String>) -> Result<Self, DataError> {
        let at = |place: &str| {
            let (path, place) = (path.to_owned(), place.to_owned());
            move |problem| DataError::Foreign { path, format: Format::Robomimic, place, problem }
        };
        let file = file.map_err(at("/"))?;
        let attributes = file
            .attributes(DATA)
            .map_err(|problem| at(DATA)(format!("{problem}; a robomimic file has its demonstrations there")))?;
        let mut demos = file.groups(DATA).map_err(at(DATA))?;
        if demos.is_empty() {
            return Err(at(DATA)("holds no demonstrations".to_owned()));
        }
        // demo_2 before demo_10, as robomimic itself orders them.
        demos.sort_by_cached_key(|name| {
            let number = name.rsplit('_').next().and_then(|number| number.parse::<u64>().ok());
            (number.is_none(), number, name.clone())
        });
        Ok(Self { path: path.to_owned(), file, attributes, demos })
    }

    fn at(&self, place: &str) -> impl FnOnce(String) -> DataError + use<> {
        let (path, place) = (self.path.clone(), place.to_owned());
        move |problem| DataError::Foreign { path, format: Format::Robomimic, place, problem }
    }

    /// Names of all demonstrations, in order.
    #[must_use]
    pub fn demos(&self) -> &[String] {
        &self.demos
    }

    /// What the file says of its environment; `None` when it says nothing.
    ///
    /// # Errors
    /// [`DataError::Foreign`] when that is broken JSON.
    pub fn env_args(&self) -> Result<Option<EnvArgs>, DataError> {
        match self.attributes.get("env_args") {
            Some(Attribute::Text(text)) => serde_json::from_str(text)
                .map(Some)
                .map_err(|error| self.at("/data, attribute env_args")(error.to_string())),
            _ => Ok(None),
        }
    }

    /// Names of the filter keys.
    ///
    /// # Errors
    /// [`DataError::Foreign`].
    pub fn filters(&self) -> Result<Vec<String>, DataError> {
        if !self.file.groups("/").map_err(self.at("/"))?.iter().any(|name| name == "mask") {
            return Ok(Vec::new());
        }
        let mut names = self.file.datasets("/mask").map_err(self.at("/mask"))?;
        names.sort();
        Ok(names)
    }

    /// Names of the demonstrations that a filter key names, in order.
    ///
    /// # Errors
    /// [`DataError::Request`] when there is no such filter key; [`DataError::Foreign`] when it names what is not there.
    pub fn filtered(&self, filter: &str) -> Result<Vec<String>, DataError> {
        let filters = self.filters()?;
        if !filters.iter().any(|name| name == filter) {
            let known = if filters.is_empty() { "none".to_owned() } else { filters.join(", ") };
            let problem = format!("there is no filter key `{filter}`; known: {known}");
            return Err(DataError::Request { path: self.path.clone(), problem });
        }
        let place = format!("/mask/{filter}");
        let wanted: BTreeSet<String> = self.file.strings(&place).map_err(self.at(&place))?.into_iter().collect();
        if let Some(missing) = wanted.iter().find(|name| !self.demos.contains(name)) {
            return Err(self.at(&place)(format!("names `{missing}`, which is not in /data")));
        }
        Ok(self.demos.iter().filter(|name| wanted.contains(*name)).cloned().collect())
    }

    /// Observation keys of a demonstration with their widths, by name.
    ///
    /// # Errors
    /// [`DataError::Foreign`].
    pub fn keys(&self, demo: &str) -> Result<Vec<(String, usize)>, DataError> {
        let place = format!("{DATA}/{demo}/obs");
        let mut names = self.file.datasets(&place).map_err(self.at(&place))?;
        names.sort();
        names
            .into_iter()
            .map(|name| {
                let place = format!("{place}/{name}");
                let shape = self.shape(&place)?;
                let width = shape.iter().skip(1).try_fold(1usize, |product, size| product.checked_mul(*size));
                Ok((name, width.ok_or_else(|| self.at(&place)(format!("has shape {shape:?}")))?))
            })
            .collect()
    }

    /// Steps of a demonstration.
    ///
    /// # Errors
    /// [`DataError::Foreign`].
    pub fn steps(&self, demo: &str) -> Result<usize, DataError> {
        let shape = self.shape(&format!("{DATA}/{demo}/actions"))?;
        Ok(shape.first().copied().unwrap_or_default())
    }

    /// Simulator states `[T, D]` of a demonstration, and `D`.
    ///
    /// # Errors
    /// [`DataError::Foreign`], also when there are none.
    pub fn states(&self, demo: &str) -> Result<(Vec<f64>, usize), DataError> {
        let place = format!("{DATA}/{demo}/states");
        let [_, width] = *self.shape(&place)?.as_slice() else {
            return Err(self.at(&place)("does not have two dimensions".to_owned()));
        };
        Ok((self.file.doubles(&place).map_err(self.at(&place))?, width))
    }

    /// MuJoCo's XML of a demonstration, where it is there.
    ///
    /// # Errors
    /// [`DataError::Foreign`].
    pub fn model_file(&self, demo: &str) -> Result<Option<String>, DataError> {
        let place = format!("{DATA}/{demo}");
        match self.file.attributes(&place).map_err(self.at(&place))?.remove("model_file") {
            Some(Attribute::Text(text)) => Ok(Some(text)),
            _ => Ok(None),
        }
    }

    /// Reads the demonstrations as episodes.
    ///
    /// Success is a reward above 0. Demonstrations with shaped rewards are refused: they do not tell it.
    ///
    /// # Errors
    /// [`DataError`] naming the file and the place, or [`DataError::Stopped`].
    pub fn episodes(
        &self,
        options: &RobomimicReadOptions,
        watch: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<EpisodeFile, DataError> {
        let header = match self.attributes.get(HEADER) {
            Some(Attribute::Text(text)) => Some(Header::parse(&self.path, text)?),
            _ => None,
        };
        let env_args = self.env_args()?;
        if header.is_none() && env_args.as_ref().is_some_and(EnvArgs::has_shaped_rewards) {
            let problem = "rewards are shaped (reward_shaping), so that they do not tell success; use the sparse file";
            return Err(self.at("/data, attribute env_args")(problem.to_owned()));
        }
        let keys = self.chosen_keys(options, env_args.as_ref())?;
        let own_offset = header.is_some().then(|| self.own_reward_offset()).transpose()?;
        let demos = match &options.filter {
            Some(filter) => self.filtered(filter)?,
            None => self.demos.clone(),
        };
        let mut file = EpisodeFile {
            task: match (&header, &env_args) {
                (Some(header), _) => header.task.clone(),
                (None, Some(env_args)) => env_args.task(),
                (None, None) => self.path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            },
            origin: header.as_ref().map_or(Origin::Robomimic, |header| header.origin),
            observation_dim: 0,
            action_dim: 0,
            episodes: Vec::with_capacity(demos.len()),
        };
        for (index, name) in demos.iter().enumerate() {
            let demo = self.demo(name, &keys, options, own_offset)?;
            let sizes = (demo.observation_dim, demo.action_dim);
            if index == 0 {
                (file.observation_dim, file.action_dim) = sizes;
            } else if sizes != (file.observation_dim, file.action_dim) {
                let problem = format!("has observations and actions of {sizes:?} numbers, unlike the first one");
                return Err(self.at(&format!("{DATA}/{name}"))(problem));
            }
            file.episodes.push(demo.data);
            go_on(watch, index + 1, demos.len(), &self.path)?;
        }
        Ok(file)
    }

    fn chosen_keys(
        &self,
        options: &RobomimicReadOptions,
        env_args: Option<&EnvArgs>,
    ) -> Result<Vec<String>, DataError> {
        if !options.keys.is_empty() {
            return Ok(options.keys.clone());
        }
        if let Some(Attribute::Text(text)) = self.attributes.get(KEYS) {
            return serde_json::from_str(text)
                .map_err(|error| self.at(&format!("/data, attribute {KEYS}"))(error.to_string()));
        }
        let task = env_args.map(EnvArgs::task).unwrap_or_default();
        let Some(keys) = task_keys(&task) else { return Ok(LOW_DIM_KEYS.map(str::to_owned).to_vec()) };
        if env_args.is_some_and(EnvArgs::has_old_order) {
            let problem = "robosuite before 1.5 lays the numbers of `object` out in another order than its later versions \
                           and our own task; extract the observations again with 1.5, or name the keys (--keys)";
            return Err(self.at("/data, attribute env_args")(problem.to_owned()));
        }
        if let Some(demo) = self.demos.first() {
            let found = self.keys(demo)?;
            for (key, width) in &keys {
                // What is missing is told where it is read.
                if let Some((_, found)) = found.iter().find(|(name, found)| name == key && found != width) {
                    let place = format!("{DATA}/{demo}/obs/{key}");
                    let hint = "name the keys (--keys) to read it all the same";
                    return Err(self.at(&place)(format!("has {found} numbers, `{task}` has {width}; {hint}")));
                }
            }
        }
        Ok(keys.into_iter().map(|(key, _)| key).collect())
    }

    /// What was added to the rewards when Onestep wrote the file.
    fn own_reward_offset(&self) -> Result<f32, DataError> {
        let Some(attribute) = self.attributes.get(REWARD_OFFSET) else { return Ok(0.0) };
        let offset = match attribute {
            Attribute::Text(text) => text.parse().ok().filter(|offset: &f32| offset.is_finite()),
            _ => None,
        };
        offset.ok_or_else(|| self.at(&format!("{DATA}, attribute {REWARD_OFFSET}"))("is no number".to_owned()))
    }

    fn shape(&self, place: &str) -> Result<Vec<usize>, DataError> {
        self.file.shape(place).map_err(self.at(place))
    }

    /// One number for each of `steps` steps.
    fn column(&self, place: &str, steps: usize) -> Result<Vec<f32>, DataError> {
        let values = self.floats(place, None)?;
        if values.len() != steps {
            return Err(self.at(place)(format!("has {} numbers for {steps} actions", values.len())));
        }
        Ok(values)
    }

    fn floats(&self, place: &str, rows: Option<std::ops::Range<usize>>) -> Result<Vec<f32>, DataError> {
        let values = self.file.floats(place, rows).map_err(self.at(place))?;
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(values),
            Some(at) => Err(self.at(place)(format!("number {at} is not finite"))),
        }
    }

    /// `own_offset`: what was added to the rewards of a file that Onestep wrote; none for other files.
    fn demo(
        &self,
        name: &str,
        keys: &[String],
        options: &RobomimicReadOptions,
        own_offset: Option<f32>,
    ) -> Result<Demo, DataError> {
        let is_ours = own_offset.is_some();
        let group = format!("{DATA}/{name}");
        let place = format!("{group}/actions");
        let [steps, action_dim] = *self.shape(&place)?.as_slice() else {
            return Err(self.at(&place)("does not have two dimensions".to_owned()));
        };
        if steps == 0 {
            return Err(self.at(&place)("holds no step".to_owned()));
        }
        let mut actions = self.floats(&place, None)?;
        settle_actions(&mut actions).map_err(|at| {
            self.at(&place)(format!("number {at} lies outside [-1, 1]; absolute actions are not read"))
        })?;

        let stored_rewards = self.column(&format!("{group}/rewards"), steps)?;
        self.column(&format!("{group}/dones"), steps)?;
        let attributes = self.file.attributes(&group).map_err(self.at(&group))?;
        let integer = |key: &str| match attributes.get(key) {
            Some(Attribute::Integer(number)) => Some(*number),
            _ => None,
        };
        if let Some(samples) = integer("num_samples")
            && samples != steps as i128
        {
            return Err(self.at(&group)(format!("num_samples is {samples}, and there are {steps} actions")));
        }
        let mut successes: Vec<bool> = if is_ours {
            self.column(&format!("{group}/successes"), steps)?.iter().map(|flag| *flag != 0.0).collect()
        } else {
            stored_rewards.iter().map(|reward| *reward > 0.0).collect()
        };
        let has_next = self.file.groups(&group).map_err(self.at(&group))?.iter().any(|name| name == "next_obs");
        let told = if has_next { steps } else { steps - 1 };
        let kept = match successes.iter().position(|success| *success) {
            Some(at) if options.end_at_success && !is_ours => told.min(at + 1),
            _ => told,
        };
        if kept == 0 {
            return Err(self.at(&group)("has one action and no next_obs, so that no step is whole".to_owned()));
        }

        let (observations, observation_dim) = self.observations(&group, keys, (steps, kept), has_next)?;
        actions.truncate(kept * action_dim);
        successes.truncate(kept);
        let has_marks =
            is_ours && self.file.datasets(&group).map_err(self.at(&group))?.iter().any(|name| name == INTERVENTIONS);
        let mut interventions: Vec<bool> = if has_marks {
            self.column(&format!("{group}/{INTERVENTIONS}"), steps)?.iter().map(|flag| *flag != 0.0).collect()
        } else {
            Vec::new()
        };
        interventions.truncate(kept);
        if !interventions.contains(&true) {
            interventions.clear();
        }
        let offset = own_offset.map_or(options.reward_offset, |offset| -offset);
        let rewards = stored_rewards.iter().take(kept).map(|reward| reward + offset).collect();
        let solved = successes.last().copied().unwrap_or(false);
        let flag = |key: &str| integer(key).map(|number| number != 0).filter(|_| is_ours);
        let data = EpisodeData {
            observations,
            actions,
            rewards,
            terminated: flag("terminated").unwrap_or(solved),
            truncated: flag("truncated").unwrap_or(!solved),
            successes,
            seed: integer("seed").filter(|_| is_ours).and_then(|seed| u64::try_from(seed).ok()).unwrap_or_default(),
            interventions,
        };
        Ok(Demo { data, observation_dim, action_dim })
    }

    /// Observations `[kept + 1, S]` of a demonstration with `steps` steps, keys side by side, and `S`.
    fn observations(
        &self,
        group: &str,
        keys: &[String],
        (steps, kept): (usize, usize),
        has_next: bool,
    ) -> Result<(Vec<f32>, usize), DataError> {
        let mut parts = Vec::with_capacity(keys.len());
        for key in keys {
            let place = format!("{group}/obs/{key}");
            let next_place = format!("{group}/next_obs/{key}");
            let shape = self.file.shape(&place).map_err(|problem| {
                let known = self.file.datasets(&format!("{group}/obs")).unwrap_or_default();
                self.at(&place)(format!("{problem}; keys of this file: {}", known.join(", ")))
            })?;
            let width = match shape.as_slice() {
                [rows] if *rows == steps => 1,
                [rows, width] if *rows == steps => *width,
                [_, _, _, ..] => return Err(self.at(&place)("holds pictures; only states are read".to_owned())),
                _ => return Err(self.at(&place)(format!("has shape {shape:?} for {steps} actions"))),
            };
            // All rows but the last are in both; only the one behind the last step is in `next_obs` alone.
            let values = if has_next {
                if self.shape(&next_place)? != shape {
                    return Err(self.at(&next_place)(format!("does not have the shape {shape:?} of obs")));
                }
                let mut values = self.floats(&place, Some(0..kept))?;
                values.extend(self.floats(&next_place, Some(kept - 1..kept))?);
                values
            } else {
                self.floats(&place, Some(0..kept + 1))?
            };
            if Some(values.len()) != (kept + 1).checked_mul(width) {
                return Err(self.at(&place)(format!("gives {} numbers for shape {shape:?}", values.len())));
            }
            parts.push((values, width));
        }
        let observation_dim = parts.iter().map(|(_, width)| width).sum();
        let mut observations = Vec::with_capacity((kept + 1) * observation_dim);
        for row in 0..=kept {
            for (values, width) in &parts {
                observations.extend_from_slice(values.get(row * width..(row + 1) * width).unwrap_or_default());
            }
        }
        Ok((observations, observation_dim))
    }
}

/// Writes episodes to a file in one piece. Episodes without a step are left out.
///
/// The whole file is put together in memory: besides the episodes about twice their size is needed.
///
/// # Errors
/// [`DataError::Episode`] when an episode does not fit the sizes, [`DataError::Request`] when the options do not,
/// [`DataError::Io`].
pub fn write_episodes(path: &Path, file: &EpisodeFile, options: &RobomimicWriteOptions) -> Result<(), DataError> {
    file.check()?;
    let refused = |problem: String| DataError::Request { path: path.to_owned(), problem };
    let fits = |keys: &Vec<(String, usize)>| keys.iter().map(|(_, width)| width).sum::<usize>() == file.observation_dim;
    let keys = if options.keys.is_empty() {
        let flat = || vec![(FLAT_KEY.to_owned(), file.observation_dim)];
        task_keys(&file.task).filter(fits).unwrap_or_else(flat)
    } else {
        options.keys.clone()
    };
    let sum: usize = keys.iter().map(|(_, width)| width).sum();
    if sum != file.observation_dim {
        return Err(refused(format!("the keys have {sum} numbers, an observation has {}", file.observation_dim)));
    }
    for (what, count) in [("states", options.states.len()), ("model_files", options.model_files.len())] {
        if count != 0 && count != file.episodes.len() {
            return Err(refused(format!("there are {count} {what} for {} episodes", file.episodes.len())));
        }
    }
    let json = |value: Result<String, serde_json::Error>| value.map_err(|error| refused(error.to_string()));
    let env_args = match &options.env_args {
        Some(text) => text.clone(),
        // No simulator that robomimic knows: type 0.
        None => json(serde_json::to_string(&serde_json::json!({
            "env_name": file.task, "env_version": env!("CARGO_PKG_VERSION"), "type": 0, "env_kwargs": {},
        })))?,
    };

    let kept: Vec<(usize, &EpisodeData)> =
        file.episodes.iter().enumerate().filter(|(_, episode)| !episode.is_empty()).collect();
    let mut data = GroupContent {
        attributes: vec![
            hdf5::integer_attribute("total", file.steps()),
            hdf5::text_attribute("env_args", &env_args),
            hdf5::text_attribute(HEADER, &json(serde_json::to_string(&Header::of(file)))?),
            hdf5::text_attribute(KEYS, &json(serde_json::to_string(&key_names(&keys)))?),
        ],
        ..GroupContent::default()
    };
    if options.reward_offset != 0.0 {
        data.attributes.push(hdf5::text_attribute(REWARD_OFFSET, &options.reward_offset.to_string()));
    }
    for (place, (index, episode)) in kept.iter().enumerate() {
        let states = options.states.get(*index);
        if let Some(states) = states
            && states.len() % episode.len() != 0
        {
            return Err(refused(format!("episode {index} has {} numbers of states", states.len())));
        }
        let demo = demo_content(
            episode,
            file.action_dim,
            &keys,
            states,
            options.model_files.get(*index),
            options.reward_offset,
        );
        data.groups.push((demo_name(place), demo));
    }
    let mut root = GroupContent { groups: vec![("data".to_owned(), data)], ..GroupContent::default() };
    if !options.filters.is_empty() {
        let mut mask = GroupContent::default();
        for (name, episodes) in &options.filters {
            let names = kept.iter().enumerate().filter(|(_, (index, _))| episodes.contains(index));
            let names: Vec<String> = names.map(|(place, _)| demo_name(place)).collect();
            if names.is_empty() {
                return Err(refused(format!("the filter key `{name}` names no episode")));
            }
            mask.datasets.push((name.clone(), Content::Strings(names)));
        }
        root.groups.push(("mask".to_owned(), mask));
    }
    atomic::write_with(path, |out| hdf5::write(root, options.compress, out))
}

fn demo_name(index: usize) -> String {
    format!("demo_{index}")
}

fn key_names(keys: &[(String, usize)]) -> Vec<&str> {
    keys.iter().map(|(key, _)| key.as_str()).collect()
}

fn demo_content(
    episode: &EpisodeData,
    action_dim: usize,
    keys: &[(String, usize)],
    states: Option<&Vec<f64>>,
    model_file: Option<&String>,
    reward_offset: f32,
) -> GroupContent {
    let steps = episode.len();
    let observation_dim: usize = keys.iter().map(|(_, width)| width).sum();
    let columns = |first_row: usize| {
        let mut group = GroupContent::default();
        let mut from = 0;
        for (key, width) in keys {
            let rows = episode.observations.chunks_exact(observation_dim.max(1)).skip(first_row).take(steps);
            let values = rows.flat_map(|row| row.get(from..from + width).unwrap_or_default()).copied().collect();
            group.datasets.push((key.clone(), Content::F32(vec![steps as u64, *width as u64], values)));
            from += width;
        }
        group
    };
    // 1 where the goal holds, and in the last step.
    let dones = episode.successes.iter().enumerate().map(|(step, success)| i64::from(*success || step + 1 == steps));
    let mut datasets = vec![
        ("actions".to_owned(), Content::F32(vec![steps as u64, action_dim as u64], episode.actions.clone())),
        (
            "rewards".to_owned(),
            Content::F64(
                vec![steps as u64],
                episode.rewards.iter().map(|reward| f64::from(reward + reward_offset)).collect(),
            ),
        ),
        ("dones".to_owned(), Content::I64(dones.collect())),
        ("successes".to_owned(), Content::U8(episode.successes.iter().copied().map(u8::from).collect())),
    ];
    if !episode.interventions.is_empty() {
        let flags = episode.interventions.iter().copied().map(u8::from).collect();
        datasets.push((INTERVENTIONS.to_owned(), Content::U8(flags)));
    }
    if let Some(states) = states {
        let shape = vec![steps as u64, (states.len() / steps.max(1)) as u64];
        datasets.push(("states".to_owned(), Content::F64(shape, states.clone())));
    }
    let mut attributes = vec![
        hdf5::integer_attribute("num_samples", steps),
        hdf5::seed_attribute("seed", episode.seed),
        hdf5::integer_attribute("terminated", usize::from(episode.terminated)),
        hdf5::integer_attribute("truncated", usize::from(episode.truncated)),
    ];
    if let Some(model_file) = model_file {
        attributes.push(hdf5::text_attribute("model_file", model_file));
    }
    GroupContent {
        attributes,
        groups: vec![("obs".to_owned(), columns(0)), ("next_obs".to_owned(), columns(1))],
        datasets,
    }
}
