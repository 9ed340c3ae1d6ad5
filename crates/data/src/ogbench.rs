//! OGBench datasets: `NAME.npz` for training and `NAME-val.npz` for validation, as `np.savez_compressed` writes them.
//!
//! | array | type | shape |
//! |---|---|---|
//! | `observations` | f32 | `[rows, S]` |
//! | `actions` | f32, in [-1, 1] | `[rows, A]` |
//! | `terminals` | bool, true in the last row of an episode | `[rows]` |
//! | `qpos`, `qvel` | f32, MuJoCo's state in metres, radians and their rates | `[rows, nq]`, `[rows, nv]` |
//! | `button_states` | i64, only where a scene has buttons | `[rows, buttons]` |
//!
//! Row `t` holds the observation and the action taken there. The last row of an episode only gives the last
//! observation; its action leads nowhere. The files hold no rewards: those follow from `qpos` once a single task is
//! chosen, see [`OgbenchTask`].
//!
//! Files that Onestep writes have no `qpos` and `qvel`, which its episodes do not know, but `rewards`, `masks`,
//! `successes`, `seeds`, and its own header in `onestep`.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::{
    DataError, EpisodeData, EpisodeFile, Origin, atomic,
    episode::settle_actions,
    file::{Header, write_floats},
    format::go_on,
    npy::{self, ArrayReader, FromElement},
    zip::{Archive, ArchiveWriter},
};

/// Where the first cube stands in `qpos`: behind six joints of the arm and eight of the gripper.
const CUBES_AT: usize = 14;
/// Numbers of one cube in `qpos`: position and quaternion.
const CUBE_WIDTH: usize = 7;
/// A cube is where it belongs within this distance, m.
const CUBE_TOLERANCE: f64 = 0.04;
/// Rows that are read at once where only a few numbers of each are needed.
const ROWS: usize = 512;
/// Number of the task of a name that tells none.
const DEFAULT_TASK: usize = 2;
/// Array with Onestep's own header.
const HEADER: &str = "onestep";

/// A single task of a `cube` environment: where each cube belongs. A cube has arrived within 0.04 m of its goal; its
/// orientation does not matter.
#[derive(Debug, Clone, PartialEq)]
pub struct OgbenchTask {
    name: String,
    goals: Vec<[f64; 3]>,
}

/// Centre of a cube that lies on the floor, m.
const FLOOR: f64 = 0.02;

/// Goals of the tasks 1 to 5 of each environment: x, y, z of each cube, m.
type Goals = [&'static [[f64; 3]]; 5];

const SINGLE: Goals = [
    &[[0.425, -0.1, FLOOR]],
    &[[0.50, 0.0, FLOOR]],
    &[[0.35, 0.0, FLOOR]],
    &[[0.50, 0.2, FLOOR]],
    &[[0.50, -0.2, FLOOR]],
];
const DOUBLE: Goals = [
    &[[0.425, 0.0, FLOOR], [0.425, 0.1, FLOOR]],
    &[[0.35, 0.1, FLOOR], [0.50, 0.1, FLOOR]],
    &[[0.425, -0.2, FLOOR], [0.425, 0.2, FLOOR]],
    &[[0.425, 0.1, FLOOR], [0.425, -0.1, FLOOR]],
    &[[0.425, 0.0, FLOOR], [0.425, 0.0, 0.06]],
];
const TRIPLE: Goals = [
    &[[0.35, -0.1, FLOOR], [0.35, 0.1, FLOOR], [0.50, 0.1, FLOOR]],
    &[[0.50, 0.0, FLOOR], [0.50, 0.2, FLOOR], [0.50, -0.2, FLOOR]],
    &[[0.35, -0.1, FLOOR], [0.50, -0.2, FLOOR], [0.50, 0.0, FLOOR]],
    &[[0.50, -0.1, FLOOR], [0.50, 0.1, FLOOR], [0.35, 0.0, FLOOR]],
    &[[0.425, 0.2, FLOOR], [0.425, 0.2, 0.06], [0.425, 0.2, 0.10]],
];
const QUADRUPLE: Goals = [
    &[[0.35, -0.25, FLOOR], [0.35, 0.1, FLOOR], [0.50, -0.1, FLOOR], [0.50, 0.25, FLOOR]],
    &[[0.375, 0.1, FLOOR], [0.475, 0.1, FLOOR], [0.375, -0.1, FLOOR], [0.475, -0.1, FLOOR]],
    &[[0.525, -0.2, FLOOR], [0.325, 0.2, FLOOR], [0.325, -0.2, FLOOR], [0.525, 0.2, FLOOR]],
    &[[0.525, 0.1, FLOOR], [0.325, 0.1, FLOOR], [0.325, -0.1, FLOOR], [0.525, -0.1, FLOOR]],
    &[[0.425, 0.2, FLOOR], [0.425, 0.2, 0.06], [0.425, 0.2, 0.10], [0.425, 0.2, 0.14]],
];

impl OgbenchTask {
    /// Names that [`OgbenchTask::parse`] understands, for messages.
    pub const NAMES: &str = "cube-single, cube-double, cube-triple or cube-quadruple, followed by -task1 to -task5";

    /// From a name: `cube-double-task4`, or OGBench's own `cube-double-play-singletask-task4-v0`. Without a number it
    /// is task 2, OGBench's default. `None` for other names.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let mut parts = name.split('-');
        let (environment, goals) = match (parts.next()?, parts.next()?) {
            ("cube", "single") => ("cube-single", SINGLE),
            ("cube", "double") => ("cube-double", DOUBLE),
            ("cube", "triple") => ("cube-triple", TRIPLE),
            ("cube", "quadruple") => ("cube-quadruple", QUADRUPLE),
            _ => return None,
        };
        let mut number = DEFAULT_TASK;
        for part in parts {
            match part {
                "play" | "noisy" | "singletask" | "v0" => {}
                other => number = other.strip_prefix("task")?.parse().ok()?,
            }
        }
        let goals = goals.get(number.checked_sub(1)?)?.to_vec();
        Some(Self { name: format!("{environment}-task{number}"), goals })
    }

    /// Its name: `cube-double-task2`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Goal of each cube, m, in the benchmark's frame (Z up).
    #[must_use]
    pub fn goals(&self) -> &[[f64; 3]] {
        &self.goals
    }

    /// How many cubes are at their goals in a state.
    ///
    /// `qpos` is one row; `None` when it is too short for the cubes.
    #[must_use]
    pub fn arrived(&self, qpos: &[f32]) -> Option<usize> {
        let cubes = qpos.get(CUBES_AT..CUBES_AT + CUBE_WIDTH * self.goals.len())?;
        let is_there = |(cube, goal): (&[f32], &[f64; 3])| {
            let square: f64 = cube.iter().zip(goal).map(|(at, goal)| (goal - f64::from(*at)).powi(2)).sum();
            square.sqrt() <= CUBE_TOLERANCE
        };
        Some(cubes.chunks_exact(CUBE_WIDTH).zip(&self.goals).filter(|pair| is_there(*pair)).count())
    }

    fn label(&self, arrived: usize) -> Label {
        let is_solved = arrived == self.goals.len();
        Label { reward: arrived as f32 - self.goals.len() as f32, is_solved, success: is_solved }
    }
}

/// What a task says of one row.
#[derive(Debug, Clone, Copy)]
struct Label {
    reward: f32,
    /// The goal holds in the row's own state: the value of what follows does not count (mask 0).
    is_solved: bool,
    /// The goal held after the row's action; for a task it follows from the next row.
    success: bool,
}

/// The file of validation episodes beside `path`: `NAME-val.npz`.
#[must_use]
pub fn validation_path(path: &Path) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push("-val.npz");
    path.with_file_name(name)
}

/// Values with several columns, row after row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Columns<T> {
    /// Numbers in a row.
    pub width: usize,
    /// All rows.
    pub values: Vec<T>,
}

/// A file as it is: all rows, nothing dropped, nothing computed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OgbenchData {
    /// Observations `[rows, S]`.
    pub observations: Columns<f32>,
    /// Actions `[rows, A]`.
    pub actions: Columns<f32>,
    /// Whether a row is the last of its episode, `[rows]`.
    pub terminals: Vec<bool>,
    /// MuJoCo's positions `[rows, nq]`, where the file has them.
    pub qpos: Option<Columns<f32>>,
    /// MuJoCo's velocities `[rows, nv]`, where the file has them.
    pub qvel: Option<Columns<f32>>,
    /// States of the buttons `[rows, buttons]`, where there are any.
    pub button_states: Option<Columns<i64>>,
}

/// Transitions as OGBench's own loader makes them: the last row of each episode is dropped, and the next observation is
/// that of the next row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Transitions {
    /// Observations `[n, S]`.
    pub observations: Vec<f32>,
    /// Actions `[n, A]`.
    pub actions: Vec<f32>,
    /// Observations after the actions `[n, S]`.
    pub next_observations: Vec<f32>,
    /// 1 for the last transition of an episode, else 0, `[n]`.
    pub terminals: Vec<f32>,
    /// Number of cubes at their goals minus number of cubes, `[n]`; of the state before the action.
    pub rewards: Vec<f32>,
    /// 0 where all cubes are at their goals, else 1, `[n]`; of the state before the action.
    pub masks: Vec<f32>,
}

impl OgbenchData {
    /// Reads a file.
    ///
    /// # Errors
    /// [`DataError`] naming the file and the array.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        Self::read_from(Archive::open(path)?)
    }

    /// Like [`OgbenchData::read`], from memory; `path` is the name in errors.
    ///
    /// # Errors
    /// [`DataError`] naming the file and the array.
    pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Self, DataError> {
        Self::read_from(Archive::from_bytes(path, bytes)?)
    }

    fn read_from(mut archive: Archive) -> Result<Self, DataError> {
        let terminals = terminals(&mut archive)?;
        let rows = terminals.len();
        let optional = |archive: &mut Archive, name: &str| -> Result<Option<Columns<f32>>, DataError> {
            npy::open(archive, name)?.map(|array| whole(array, rows)).transpose()
        };
        // One after the other: an array that is read holds on to the archive.
        let observations = whole(required(&mut archive, "observations")?, rows)?;
        let actions = whole(required(&mut archive, "actions")?, rows)?;
        let qpos = optional(&mut archive, "qpos")?;
        let qvel = optional(&mut archive, "qvel")?;
        let button_states = npy::open(&mut archive, "button_states")?.map(|array| whole(array, rows)).transpose()?;
        Ok(Self { observations, actions, terminals, qpos, qvel, button_states })
    }

    /// Writes a file in one piece, compressed as `np.savez_compressed` or plain as `np.savez` would.
    ///
    /// # Errors
    /// [`DataError::Request`] when an array does not have a row for each terminal, [`DataError::Io`].
    pub fn write(&self, path: &Path, compress: bool) -> Result<(), DataError> {
        let rows = self.terminals.len();
        let floats = [
            ("observations", Some(&self.observations)),
            ("actions", Some(&self.actions)),
            ("qpos", self.qpos.as_ref()),
            ("qvel", self.qvel.as_ref()),
        ];
        let lengths = floats.iter().filter_map(|(name, array)| array.map(|a| (*name, a.width, a.values.len())));
        let buttons = self.button_states.as_ref().map(|array| ("button_states", array.width, array.values.len()));
        for (name, width, len) in lengths.chain(buttons) {
            if len != rows * width {
                let problem = format!("`{name}` has {len} numbers where {rows} rows of {width} are expected");
                return Err(DataError::Request { path: path.to_owned(), problem });
            }
        }
        atomic::write_with(path, |file| {
            let mut archive = ArchiveWriter::new(file, compress);
            for (name, array) in floats {
                if let Some(array) = array {
                    npy::write(&mut archive, name, "<f4", &[rows, array.width], |out| {
                        write_floats(out, &array.values)
                    })?;
                }
            }
            write_flags(&mut archive, "terminals", self.terminals.iter().copied())?;
            if let Some(array) = &self.button_states {
                npy::write(&mut archive, "button_states", "<i8", &[rows, array.width], |out| {
                    array.values.iter().try_for_each(|value| out.write_all(&value.to_le_bytes()))
                })?;
            }
            archive.finish()
        })
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.terminals.len()
    }

    /// The transitions of the file, with rewards and masks of a single task. `path` is the name in errors.
    ///
    /// # Errors
    /// [`DataError::Request`] when the file has no `qpos`, or cubes are missing in it.
    pub fn transitions(&self, task: &OgbenchTask, path: &Path) -> Result<Transitions, DataError> {
        let refused = |problem: String| DataError::Request { path: path.to_owned(), problem };
        let qpos = self.qpos.as_ref().ok_or_else(|| refused("rewards follow from `qpos`, which is missing".into()))?;
        let too_short =
            || refused(format!("`{}` needs cubes that `qpos` with {} numbers does not have", task.name, qpos.width));
        let mut transitions = Transitions::default();
        let observations: Vec<&[f32]> = self.observations.values.chunks_exact(self.observations.width.max(1)).collect();
        let rows = observations
            .windows(2)
            .zip(self.actions.values.chunks_exact(self.actions.width.max(1)))
            .zip(qpos.values.chunks_exact(qpos.width.max(1)))
            .zip(self.terminals.iter().zip(self.terminals.iter().skip(1)));
        for (((pair, action), state), (is_last, is_before_last)) in rows {
            if *is_last {
                continue;
            }
            let [observation, next] = pair else { continue };
            let label = task.label(task.arrived(state).ok_or_else(too_short)?);
            transitions.observations.extend_from_slice(observation);
            transitions.actions.extend_from_slice(action);
            transitions.next_observations.extend_from_slice(next);
            transitions.terminals.push(f32::from(u8::from(*is_before_last)));
            transitions.rewards.push(label.reward);
            transitions.masks.push(if label.is_solved { 0.0 } else { 1.0 });
        }
        Ok(transitions)
    }
}

/// Sizes of a file, without reading its numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OgbenchSummary {
    /// Name, type and shape of every array.
    pub arrays: Vec<(String, String)>,
    /// Steps of each episode: its rows but the last one.
    pub lengths: Vec<usize>,
    /// Whether rewards and masks are in the file.
    pub has_rewards: bool,
}

/// The numbers of one array of any npz file, and its shape.
///
/// # Errors
/// [`DataError::Foreign`] naming the array, also when there is none of this name.
pub fn read_array(path: &Path, name: &str) -> Result<(Vec<f32>, Vec<usize>), DataError> {
    let mut archive = Archive::open(path)?;
    let mut array = required(&mut archive, name)?;
    let shape = array.info.shape.clone();
    let mut values = Vec::new();
    array.read(shape.iter().product(), &mut values)?;
    Ok((values, shape))
}

/// Tells what is in a file.
///
/// # Errors
/// [`DataError`] naming the file and the array.
pub fn summarize(path: &Path) -> Result<OgbenchSummary, DataError> {
    let mut archive = Archive::open(path)?;
    let names: Vec<String> = archive.names().filter_map(|name| name.strip_suffix(".npy")).map(str::to_owned).collect();
    let mut arrays = Vec::new();
    for name in &names {
        if let Some(array) = npy::open(&mut archive, name)? {
            arrays.push((name.clone(), format!("{:?} {:?}", array.info.kind, array.info.shape).to_lowercase()));
        }
    }
    let has = |name: &str| names.iter().any(|other| other == name);
    let has_rewards = has("rewards") && has("masks");
    let terminals = terminals(&mut archive)?;
    let lengths = episodes_of(&archive, &terminals)?.iter().map(|(_, rows)| rows - 1).collect();
    Ok(OgbenchSummary { arrays, lengths, has_rewards })
}

/// Reads the episodes of a file with rewards and ends of a single task; without a task the file must hold them.
///
/// A state in which the goal holds ends an episode by the action taken there, as OGBench's mask says; what follows in
/// the file becomes the next episode. So every transition of OGBench's loader is there, with its reward and its mask.
///
/// # Errors
/// [`DataError`] naming the file and the array, or [`DataError::Stopped`].
pub fn read_episodes(
    path: &Path,
    task: Option<&OgbenchTask>,
    watch: &mut dyn FnMut(usize, usize) -> bool,
) -> Result<EpisodeFile, DataError> {
    read_archive(Archive::open(path)?, task, watch)
}

/// Like [`read_episodes`], from memory; `path` is the name in errors.
///
/// # Errors
/// As [`read_episodes`].
pub fn read_episodes_from_bytes(
    path: &Path,
    bytes: Vec<u8>,
    task: Option<&OgbenchTask>,
) -> Result<EpisodeFile, DataError> {
    read_archive(Archive::from_bytes(path, bytes)?, task, &mut |_, _| true)
}

fn read_archive(
    mut archive: Archive,
    task: Option<&OgbenchTask>,
    watch: &mut dyn FnMut(usize, usize) -> bool,
) -> Result<EpisodeFile, DataError> {
    let path = archive.path().to_owned();
    let terminals = terminals(&mut archive)?;
    let rows = terminals.len();
    let spans = episodes_of(&archive, &terminals)?;
    let header = read_header(&mut archive)?;
    let labels = match task {
        Some(task) => labels_of_task(&mut archive, task, rows)?,
        None => labels_of_file(&mut archive, rows)?,
    };
    let seeds: Vec<u64> = match (&header, npy::open(&mut archive, "seeds")?) {
        (Some(_), Some(array)) => whole::<u64>(array, spans.len())?.values,
        _ => Vec::new(),
    };
    let mut file = EpisodeFile {
        task: match (task, &header) {
            (Some(task), _) => task.name.clone(),
            (None, Some(header)) => header.task.clone(),
            (None, None) => path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        },
        origin: header.as_ref().map_or(Origin::Ogbench, |header| header.origin),
        observation_dim: 0,
        action_dim: 0,
        episodes: Vec::new(),
    };

    // Array after array, each read once from its beginning: first the observations, then the actions of the same cuts.
    let mut cuts = Vec::new();
    {
        let mut array = required(&mut archive, "observations")?;
        let width = width_of(&array, rows)?;
        file.observation_dim = width;
        let mut values = Vec::new();
        for (index, (start, len)) in spans.iter().enumerate() {
            values.clear();
            array.read::<f32>(len * width, &mut values)?;
            if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                return Err(array.wrong(format!("number {} is not finite", start * width + at)));
            }
            let own = labels.get(*start..start + len - 1).unwrap_or_default();
            let seed = seeds.get(index).copied().unwrap_or_default();
            let mut first = 0;
            for (step, label) in own.iter().enumerate() {
                if !label.is_solved && step + 1 < own.len() {
                    continue;
                }
                let part = own.get(first..=step).unwrap_or_default();
                file.episodes.push(EpisodeData {
                    observations: values.get(first * width..(step + 2) * width).unwrap_or_default().to_vec(),
                    actions: Vec::new(),
                    rewards: part.iter().map(|label| label.reward).collect(),
                    terminated: label.is_solved,
                    truncated: !label.is_solved,
                    successes: part.iter().map(|label| label.success).collect(),
                    seed,
                    interventions: Vec::new(),
                });
                cuts.push((start + first, step + 1 - first));
                first = step + 1;
            }
            go_on(watch, index + 1, 2 * spans.len(), &path)?;
        }
    }
    let mut array = required(&mut archive, "actions")?;
    let width = width_of(&array, rows)?;
    file.action_dim = width;
    let mut row = 0;
    let mut skipped = Vec::new();
    let count = cuts.len();
    for (index, (episode, (start, steps))) in file.episodes.iter_mut().zip(cuts).enumerate() {
        skipped.clear();
        array.read::<f32>((start - row) * width, &mut skipped)?;
        episode.actions.reserve_exact(steps * width);
        array.read(steps * width, &mut episode.actions)?;
        settle_actions(&mut episode.actions)
            .map_err(|at| array.wrong(format!("row {} holds a number outside [-1, 1]", start + at / width.max(1))))?;
        row = start + steps;
        go_on(watch, spans.len() + (index + 1) * spans.len() / count.max(1), 2 * spans.len(), &path)?;
    }
    // The checksum of the array is compared with its last byte.
    array.read::<f32>((rows - row) * width, &mut skipped)?;
    drop(array);
    if let Some(header) = header {
        let sizes = (header.observation_dim, header.action_dim);
        if sizes != (file.observation_dim, file.action_dim) {
            return Err(archive.wrong(HEADER, format!("tells of sizes {sizes:?}; the arrays have others")));
        }
    }
    Ok(file)
}

/// Writes episodes to a file in one piece. Episodes without a step are left out.
///
/// # Errors
/// [`DataError::Episode`] when an episode does not fit the sizes, [`DataError::Io`].
pub fn write_episodes(path: &Path, file: &EpisodeFile, compress: bool) -> Result<(), DataError> {
    file.check()?;
    let header = serde_json::to_vec(&Header::of(file))
        .map_err(|error| DataError::Request { path: path.to_owned(), problem: error.to_string() })?;
    let episodes: Vec<&EpisodeData> = file.episodes.iter().filter(|episode| !episode.is_empty()).collect();
    let rows = file.steps() + episodes.len();
    // One number for each step, and `last` for the row behind the last one.
    let per_row = |out: &mut dyn Write, last: f32, numbers: fn(&EpisodeData) -> Vec<f32>| -> io::Result<()> {
        episodes.iter().try_for_each(|episode| {
            write_floats(out, &numbers(episode))?;
            write_floats(out, &[last])
        })
    };
    atomic::write_with(path, |out| {
        let mut archive = ArchiveWriter::new(out, compress);
        npy::write(&mut archive, "observations", "<f4", &[rows, file.observation_dim], |out| {
            episodes.iter().try_for_each(|episode| write_floats(out, &episode.observations))
        })?;
        let nothing = vec![0.0; file.action_dim];
        npy::write(&mut archive, "actions", "<f4", &[rows, file.action_dim], |out| {
            episodes.iter().try_for_each(|episode| {
                write_floats(out, &episode.actions)?;
                write_floats(out, &nothing)
            })
        })?;
        let terminals = episodes.iter().flat_map(|episode| (0..=episode.len()).map(|row| row == episode.len()));
        write_flags(&mut archive, "terminals", terminals)?;
        npy::write(&mut archive, "rewards", "<f4", &[rows], |out| per_row(out, 0.0, |e| e.rewards.clone()))?;
        npy::write(&mut archive, "masks", "<f4", &[rows], |out| {
            per_row(out, 1.0, |episode| {
                let end = if episode.terminated { episode.len() } else { usize::MAX };
                (1..=episode.len()).map(|step| if step == end { 0.0 } else { 1.0 }).collect()
            })
        })?;
        let successes = episodes.iter().flat_map(|episode| episode.successes.iter().copied().chain([false]));
        write_flags(&mut archive, "successes", successes)?;
        if file.origin.has_seeds() {
            npy::write(&mut archive, "seeds", "<u8", &[episodes.len()], |out| {
                episodes.iter().try_for_each(|episode| out.write_all(&episode.seed.to_le_bytes()))
            })?;
        }
        npy::write(&mut archive, HEADER, "|u1", &[header.len()], |out| out.write_all(&header))?;
        archive.finish()
    })
}

fn write_flags(archive: &mut ArchiveWriter<'_>, name: &str, flags: impl Iterator<Item = bool>) -> io::Result<()> {
    let bytes: Vec<u8> = flags.map(u8::from).collect();
    npy::write(archive, name, "|b1", &[bytes.len()], |out| out.write_all(&bytes))
}

/// An array that must be there.
fn required<'a>(archive: &'a mut Archive, name: &str) -> Result<ArrayReader<'a>, DataError> {
    let missing = archive.wrong(name, "is missing");
    npy::open(archive, name)?.ok_or(missing)
}

/// Numbers in a row of an array that has `rows` rows.
fn width_of(array: &ArrayReader<'_>, rows: usize) -> Result<usize, DataError> {
    match array.info.shape.as_slice() {
        [len] if *len == rows => Ok(1),
        [len, width] if *len == rows => Ok(*width),
        [_, _, _, _] => Err(array.wrong("holds pictures; only states are read")),
        other => Err(array.wrong(format!("has shape {other:?}; {rows} rows are expected, as in `terminals`"))),
    }
}

fn whole<T: FromElement>(mut array: ArrayReader<'_>, rows: usize) -> Result<Columns<T>, DataError> {
    let width = width_of(&array, rows)?;
    let mut values = Vec::new();
    array.read(rows * width, &mut values)?;
    Ok(Columns { width, values })
}

fn terminals(archive: &mut Archive) -> Result<Vec<bool>, DataError> {
    let mut array = required(archive, "terminals")?;
    let [rows] = *array.info.shape.as_slice() else {
        return Err(array.wrong(format!("has shape {:?}; one dimension is expected", array.info.shape)));
    };
    let mut flags = Vec::new();
    array.read(rows, &mut flags)?;
    Ok(flags)
}

/// First row and number of rows of each episode that has a step.
fn episodes_of(archive: &Archive, terminals: &[bool]) -> Result<Vec<(usize, usize)>, DataError> {
    if terminals.is_empty() {
        return Err(archive.wrong("terminals", "has no rows: the file holds no episode"));
    }
    if terminals.last() != Some(&true) {
        return Err(archive.wrong("terminals", "the last row is no terminal: the last episode is cut off"));
    }
    let mut spans = Vec::new();
    let mut start = 0;
    for (row, _) in terminals.iter().enumerate().filter(|(_, is_last)| **is_last) {
        if row > start {
            spans.push((start, row + 1 - start));
        }
        start = row + 1;
    }
    Ok(spans)
}

fn labels_of_task(archive: &mut Archive, task: &OgbenchTask, rows: usize) -> Result<Vec<Label>, DataError> {
    let mut array = required(archive, "qpos")?;
    let width = width_of(&array, rows)?;
    let mut labels: Vec<Label> = Vec::with_capacity(rows);
    let mut states = Vec::new();
    while labels.len() < rows {
        let count = ROWS.min(rows - labels.len());
        states.clear();
        array.read::<f32>(count * width, &mut states)?;
        for state in states.chunks_exact(width.max(1)) {
            let arrived = task.arrived(state).ok_or_else(|| {
                array.wrong(format!("has {width} numbers in a row, which is too few for the cubes of `{}`", task.name))
            })?;
            labels.push(task.label(arrived));
        }
        if width == 0 {
            return Err(array.wrong("has no columns"));
        }
    }
    let after: Vec<bool> = labels.iter().skip(1).map(|label| label.is_solved).collect();
    for (label, success) in labels.iter_mut().zip(after) {
        label.success = success;
    }
    Ok(labels)
}

fn labels_of_file(archive: &mut Archive, rows: usize) -> Result<Vec<Label>, DataError> {
    let mut column = |name: &str| -> Result<Option<Vec<f32>>, DataError> {
        npy::open(archive, name)?.map(|array| Ok(whole(array, rows)?.values)).transpose()
    };
    let (rewards, masks, successes) = (column("rewards")?, column("masks")?, column("successes")?);
    let (Some(rewards), Some(masks)) = (rewards, masks) else {
        let problem = format!(
            "holds no rewards; `onestep data convert --task NAME` computes them for a single task: {}",
            OgbenchTask::NAMES
        );
        return Err(DataError::Request { path: archive.path().to_owned(), problem });
    };
    if let Some(at) = rewards.iter().position(|value| !value.is_finite()) {
        return Err(archive.wrong("rewards", format!("number {at} is not finite")));
    }
    if rewards.len() != rows || masks.len() != rows || successes.as_ref().is_some_and(|s| s.len() != rows) {
        return Err(archive.wrong("rewards", "one number for each row is expected, also in `masks`"));
    }
    let successes = successes.unwrap_or_else(|| masks.iter().map(|mask| 1.0 - mask).collect());
    Ok(rewards
        .into_iter()
        .zip(masks)
        .zip(successes)
        .map(|((reward, mask), success)| Label { reward, is_solved: mask == 0.0, success: success != 0.0 })
        .collect())
}

fn read_header(archive: &mut Archive) -> Result<Option<Header>, DataError> {
    let path = archive.path().to_owned();
    let Some(array) = npy::open(archive, HEADER)? else { return Ok(None) };
    let len = array.info.shape.first().copied().unwrap_or_default();
    let bytes = whole::<u8>(array, len)?.values;
    Header::parse(&path, &String::from_utf8_lossy(&bytes)).map(Some)
}
