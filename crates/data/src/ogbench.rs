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
//! Files of episodes that Onestep writes have no `qpos` and `qvel`, which its episodes do not know, but `rewards`,
//! `masks`, `successes`, `seeds`, where a person stepped in `interventions`, and its own header in `onestep`. Files of
//! undirected data that it records are as the original's, with what repeats them besides: the header, `seeds`, and
//! `last_observations` (see [`Recording`]).

mod task;

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

/// Rows that are read at once where only a few numbers of each are needed.
const ROWS: usize = 512;
/// Array with Onestep's own header.
const HEADER: &str = "onestep";
/// Arrays of files that Onestep writes: a seed for each episode, and the observation behind the last row of each.
const SEEDS: &str = "seeds";
const LAST_OBSERVATIONS: &str = "last_observations";
/// Flags of the steps in which a person acted.
const INTERVENTIONS: &str = "interventions";

pub use task::OgbenchTask;

/// What a task says of one row.
#[derive(Debug, Clone, Copy)]
struct Label {
    reward: f32,
    /// The goal holds in the row's own state: the value of what follows does not count (mask 0).
    is_solved: bool,
    /// The goal held after the row's action; for a task it follows from the next row.
    success: bool,
}

impl Label {
    /// Of a row's own state.
    fn of(task: &OgbenchTask, arrived: usize) -> Self {
        let is_solved = arrived == task.parts();
        Self { reward: arrived as f32 - task.parts() as f32, is_solved, success: is_solved }
    }
}

/// Why the rows of a file are not those of a task's environment, if they are not.
fn misfit(task: &OgbenchTask, qpos: usize, buttons: Option<usize>) -> Result<(), (&'static str, String)> {
    let (name, wanted) = (task.name(), task.qpos_width());
    if qpos != wanted {
        let problem = format!("has {qpos} numbers in a row where `{name}` has {wanted}; is it of another environment?");
        return Err(("qpos", problem));
    }
    match (buttons, task.buttons().len()) {
        (_, 0) => Ok(()),
        (Some(found), wanted) if found == wanted => Ok(()),
        (Some(found), wanted) => {
            Err(("button_states", format!("has {found} numbers in a row where `{name}` has {wanted} buttons")))
        }
        (None, _) => Err(("button_states", format!("is missing, and the rewards of `{name}` follow from it"))),
    }
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

/// What repeats the episodes of a file of undirected data that Onestep has recorded: they follow from their seeds and
/// their actions.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recording {
    /// Name of the task in the form in which it was played.
    pub task: String,
    /// Seed of each episode.
    pub seeds: Vec<u64>,
    /// The observation after the last action of each episode, `[episodes, S]`: rows only hold those before an action.
    pub last_observations: Columns<f32>,
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
    /// What repeats the episodes, where Onestep has recorded them.
    pub recording: Option<Recording>,
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
    /// Number of parts where they belong minus number of parts, `[n]`; of the state before the action.
    pub rewards: Vec<f32>,
    /// 0 where all parts are where they belong, else 1, `[n]`; of the state before the action.
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
        let episodes = terminals.iter().filter(|is_last| **is_last).count();
        let recording = read_recording(&mut archive, episodes)?;
        if let Some(recording) = &recording
            && recording.last_observations.width != observations.width
        {
            return Err(archive.wrong(LAST_OBSERVATIONS, "has rows of another length than `observations`"));
        }
        Ok(Self { observations, actions, terminals, qpos, qvel, button_states, recording })
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
        let episodes = self.terminals.iter().filter(|is_last| **is_last).count();
        let recorded = self.recording.as_ref().map(|recording| {
            let last = &recording.last_observations;
            let problem = if recording.seeds.len() != episodes {
                Some(format!("`seeds` has {} numbers for {episodes} episodes", recording.seeds.len()))
            } else if last.width != self.observations.width || last.values.len() != episodes * last.width {
                Some(format!("`last_observations` has {} numbers for {episodes} episodes", last.values.len()))
            } else {
                None
            };
            if let Some(problem) = problem {
                return Err(DataError::Request { path: path.to_owned(), problem });
            }
            let header = Header::new(&recording.task, Origin::Onestep, last.width, self.actions.width);
            Ok((header.to_bytes(path)?, recording))
        });
        let recorded = recorded.transpose()?;
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
            if let Some((header, Recording { seeds, last_observations, .. })) = &recorded {
                npy::write(&mut archive, SEEDS, "<u8", &[episodes], |out| {
                    seeds.iter().try_for_each(|seed| out.write_all(&seed.to_le_bytes()))
                })?;
                npy::write(&mut archive, LAST_OBSERVATIONS, "<f4", &[episodes, last_observations.width], |out| {
                    write_floats(out, &last_observations.values)
                })?;
                npy::write(&mut archive, HEADER, "|u1", &[header.len()], |out| out.write_all(header))?;
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
    /// [`DataError::Request`] when the file has no `qpos` or button states, or those of another environment.
    pub fn transitions(&self, task: &OgbenchTask, path: &Path) -> Result<Transitions, DataError> {
        let refused = |problem: String| DataError::Request { path: path.to_owned(), problem };
        let qpos = self.qpos.as_ref().ok_or_else(|| refused("rewards follow from `qpos`, which is missing".into()))?;
        let buttons = self.button_states.as_ref().filter(|_| !task.buttons().is_empty());
        misfit(task, qpos.width, buttons.map(|buttons| buttons.width))
            .map_err(|(array, problem)| refused(format!("`{array}` {problem}")))?;
        let states_of = |row: usize| {
            let columns = buttons.map(|buttons| buttons.values.get(row * buttons.width..(row + 1) * buttons.width));
            columns.flatten().unwrap_or_default()
        };
        let mut transitions = Transitions::default();
        let observations: Vec<&[f32]> = self.observations.values.chunks_exact(self.observations.width.max(1)).collect();
        let rows = observations
            .windows(2)
            .zip(self.actions.values.chunks_exact(self.actions.width.max(1)))
            .zip(qpos.values.chunks_exact(qpos.width.max(1)))
            .zip(self.terminals.iter().zip(self.terminals.iter().skip(1)))
            .enumerate();
        for (row, (((pair, action), state), (is_last, is_before_last))) in rows {
            if *is_last {
                continue;
            }
            let [observation, next] = pair else { continue };
            let arrived = task.arrived(state, states_of(row));
            let label = Label::of(task, arrived.ok_or_else(|| refused(format!("row {row} is cut off")))?);
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
    /// Whether the episodes can be repeated: whether Onestep has recorded them.
    pub is_recording: bool,
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
    // An action is lost with the last row, unless the observation behind it was recorded.
    let lost = usize::from(!has(LAST_OBSERVATIONS));
    let spans = spans_of(&archive, &terminals)?;
    let lengths = spans.into_iter().map(|(_, rows)| rows - lost).filter(|steps| *steps > 0).collect();
    Ok(OgbenchSummary { arrays, lengths, has_rewards, is_recording: has(LAST_OBSERVATIONS) && has(HEADER) })
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
    // The episodes of a task are pieces of what was recorded: no seed rebuilds where they begin.
    let header_of_file = header.as_ref().filter(|_| task.is_none());
    let seeds: Vec<u64> = match (header_of_file, npy::open(&mut archive, SEEDS)?) {
        (Some(_), Some(array)) => whole::<u64>(array, spans.len())?.values,
        _ => Vec::new(),
    };
    let by_hand: Vec<bool> = match npy::open(&mut archive, INTERVENTIONS)? {
        Some(array) => whole::<bool>(array, rows)?.values,
        None => Vec::new(),
    };
    let mut file = EpisodeFile {
        task: match (task, &header) {
            (Some(task), _) => task.name().to_owned(),
            (None, Some(header)) => header.task.clone(),
            (None, None) => path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        },
        origin: header_of_file.map_or(Origin::Ogbench, |header| header.origin),
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
                let by_hand = by_hand.get(start + first..=start + step).unwrap_or_default();
                file.episodes.push(EpisodeData {
                    observations: values.get(first * width..(step + 2) * width).unwrap_or_default().to_vec(),
                    actions: Vec::new(),
                    rewards: part.iter().map(|label| label.reward).collect(),
                    terminated: label.is_solved,
                    truncated: !label.is_solved,
                    successes: part.iter().map(|label| label.success).collect(),
                    seed,
                    interventions: if by_hand.contains(&true) { by_hand.to_vec() } else { Vec::new() },
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

/// The episodes of a file of undirected data that Onestep has recorded, as they were played: every row is a step, none is
/// rewarded, and time ends them. `None` for any other file, whose last actions lead nowhere.
///
/// # Errors
/// [`DataError`] naming the file and the array.
pub fn read_recording_episodes(path: &Path) -> Result<Option<EpisodeFile>, DataError> {
    let mut archive = Archive::open(path)?;
    let terminals = terminals(&mut archive)?;
    let (rows, spans) = (terminals.len(), spans_of(&archive, &terminals)?);
    let Some(Recording { task, seeds, last_observations }) = read_recording(&mut archive, spans.len())? else {
        return Ok(None);
    };
    let mut episodes: Vec<EpisodeData> = spans
        .iter()
        .zip(seeds)
        .map(|((_, steps), seed)| EpisodeData {
            rewards: vec![0.0; *steps],
            successes: vec![false; *steps],
            truncated: true,
            seed,
            ..EpisodeData::default()
        })
        .collect();
    let observation_dim = {
        let mut array = required(&mut archive, "observations")?;
        let width = width_of(&array, rows)?;
        if width != last_observations.width {
            return Err(array.wrong(format!("has rows of another length than `{LAST_OBSERVATIONS}`")));
        }
        for (index, episode) in episodes.iter_mut().enumerate() {
            array.read(episode.len() * width, &mut episode.observations)?;
            let last = last_observations.values.get(index * width..(index + 1) * width);
            episode.observations.extend_from_slice(last.unwrap_or_default());
            if let Some(at) = episode.observations.iter().position(|value| !value.is_finite()) {
                return Err(array.wrong(format!("number {at} of episode {index} is not finite")));
            }
        }
        width
    };
    let mut array = required(&mut archive, "actions")?;
    let action_dim = width_of(&array, rows)?;
    for (index, episode) in episodes.iter_mut().enumerate() {
        array.read(episode.len() * action_dim, &mut episode.actions)?;
        settle_actions(&mut episode.actions)
            .map_err(|at| array.wrong(format!("number {at} of episode {index} lies outside [-1, 1]")))?;
    }
    Ok(Some(EpisodeFile { task, origin: Origin::Onestep, observation_dim, action_dim, episodes }))
}

/// Writes episodes to a file in one piece. Episodes without a step are left out.
///
/// # Errors
/// [`DataError::Episode`] when an episode does not fit the sizes, [`DataError::Io`].
pub fn write_episodes(path: &Path, file: &EpisodeFile, compress: bool) -> Result<(), DataError> {
    file.check()?;
    let header = Header::of(file).to_bytes(path)?;
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
        if episodes.iter().any(|episode| episode.interventions.contains(&true)) {
            let flags = episodes.iter().flat_map(|episode| {
                (0..=episode.len()).map(|row| episode.interventions.get(row).copied().unwrap_or(false))
            });
            write_flags(&mut archive, INTERVENTIONS, flags)?;
        }
        if file.origin.has_seeds() {
            npy::write(&mut archive, SEEDS, "<u8", &[episodes.len()], |out| {
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
    let mut spans = spans_of(archive, terminals)?;
    spans.retain(|(_, rows)| *rows > 1);
    Ok(spans)
}

/// First row and number of rows of each episode.
fn spans_of(archive: &Archive, terminals: &[bool]) -> Result<Vec<(usize, usize)>, DataError> {
    if terminals.is_empty() {
        return Err(archive.wrong("terminals", "has no rows: the file holds no episode"));
    }
    if terminals.last() != Some(&true) {
        return Err(archive.wrong("terminals", "the last row is no terminal: the last episode is cut off"));
    }
    let mut spans = Vec::new();
    let mut start = 0;
    for (row, _) in terminals.iter().enumerate().filter(|(_, is_last)| **is_last) {
        spans.push((start, row + 1 - start));
        start = row + 1;
    }
    Ok(spans)
}

fn labels_of_task(archive: &mut Archive, task: &OgbenchTask, rows: usize) -> Result<Vec<Label>, DataError> {
    let buttons: Option<Columns<i64>> = if task.buttons().is_empty() {
        None
    } else {
        npy::open(archive, "button_states")?.map(|array| whole(array, rows)).transpose()?
    };
    let width = width_of(&required(archive, "qpos")?, rows)?;
    misfit(task, width, buttons.as_ref().map(|buttons| buttons.width))
        .map_err(|(array, problem)| archive.wrong(array, problem))?;
    let mut array = required(archive, "qpos")?;
    let mut button_rows = buttons.iter().flat_map(|buttons| buttons.values.chunks_exact(buttons.width.max(1)));
    let mut labels: Vec<Label> = Vec::with_capacity(rows);
    let mut states = Vec::new();
    while labels.len() < rows {
        let count = ROWS.min(rows - labels.len());
        states.clear();
        array.read::<f32>(count * width, &mut states)?;
        // The width is that of the task's environment, which is never zero.
        for state in states.chunks_exact(width.max(1)) {
            let (arrived, row) = (task.arrived(state, button_rows.next().unwrap_or_default()), labels.len());
            let arrived = arrived.ok_or_else(|| array.wrong(format!("row {row} is cut off")))?;
            labels.push(Label::of(task, arrived));
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

/// What Onestep adds to a file of undirected data, if it has recorded this one.
fn read_recording(archive: &mut Archive, episodes: usize) -> Result<Option<Recording>, DataError> {
    let Some(header) = read_header(archive)? else { return Ok(None) };
    let last_observations = match npy::open(archive, LAST_OBSERVATIONS)? {
        Some(array) => whole(array, episodes)?,
        None => return Ok(None),
    };
    let seeds = whole::<u64>(required(archive, SEEDS)?, episodes)?;
    if seeds.width != 1 || last_observations.width != header.observation_dim {
        return Err(archive.wrong(HEADER, "tells of other sizes than the arrays have"));
    }
    Ok(Some(Recording { task: header.task, seeds: seeds.values, last_observations }))
}
