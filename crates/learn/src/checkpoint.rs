//! A learning run on disk: everything needed to go on as if nothing had happened.
//!
//! A checkpoint is a folder:
//!
//! | file | holds |
//! |---|---|
//! | `weights.safetensors` | actor, critics and target critics, readable by any safetensors library |
//! | `optimizer.safetensors` | Adam's moments and step counts, by parameter name |
//! | `replay.safetensors` | the replay's columns |
//! | `state.json` | counters, random streams, and each agent's open episode: its seed and its actions so far |
//!
//! The world itself is not written. An episode follows from its seed and its actions, so after loading each agent
//! repeats the actions of its open episode and stands where it stood. That works for any world that keeps the
//! contract of [`onestep_agent`]: same seed, same actions, same episode.
//!
//! The folder is filled under a temporary name and renamed, and the one before it stays beside it as `.previous`, so a
//! full disk or a crash in the middle never costs the last good state.

use std::{collections::BTreeMap, fs, path::Path};

use bevy::prelude::*;
use onestep_agent::{Agent, AgentMode, Episode, EpisodeSums, RandomStreams, SavedStreams};
use onestep_data::atomic;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};

use crate::{
    ActionChunk, LearnError, LearnPhase, LearnerState, PolicyHandle, Replay, ReplayCursor,
    background::BackgroundLearner,
    learner::{self, ActionLog, Growing, HeldBack, Replaying},
    policy,
    replay::{OwnedColumns, ReplayHeader},
};

/// Version of the folder's format. A reader refuses what it does not know.
const FORMAT_VERSION: u32 = 1;

/// Name of the weights in a checkpoint.
pub const WEIGHTS_FILE: &str = "weights.safetensors";
/// Name of the optimiser's state in a checkpoint.
pub const OPTIMIZER_FILE: &str = "optimizer.safetensors";
/// Name of the replay in a checkpoint.
pub const REPLAY_FILE: &str = "replay.safetensors";
/// Name of the counters, streams and open episodes in a checkpoint.
pub const STATE_FILE: &str = "state.json";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedState {
    format_version: u32,
    phase: LearnPhase,
    updates: u64,
    env_steps: u64,
    /// The bits of an `f64`. Checkpoints of before hold it as a number, `owed_updates`, which text rounds.
    owed_update_bits: Option<u64>,
    #[serde(skip_serializing)]
    owed_updates: Option<f64>,
    streams: SavedStreams,
    agents: Vec<SavedAgent>,
}

impl SavedState {
    /// Nothing if the file holds none, or one that is no amount of updates.
    fn owed_updates(&self) -> Option<f64> {
        let owed = self.owed_update_bits.map(f64::from_bits).or(self.owed_updates);
        owed.filter(|owed| owed.is_finite() && *owed >= 0.0)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedAgent {
    agent: u32,
    mode: SavedMode,
    episode_index: u64,
    episode_seed: u64,
    has_started: bool,
    is_active: bool,
    /// Bit patterns, because text would round numbers.
    action_log: Vec<u32>,
    chunk: Vec<u32>,
    chunk_cursor: usize,
    chunk_q: u32,
    replay_cursor: ReplayCursor,
    /// Left out where nobody has acted by hand, as in checkpoints of before.
    #[serde(default, skip_serializing_if = "is_zero")]
    human_steps: u32,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

#[derive(Serialize, Deserialize, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
enum SavedMode {
    Policy,
    Scripted,
    Human,
    Idle,
}

impl From<AgentMode> for SavedMode {
    fn from(mode: AgentMode) -> Self {
        match mode {
            AgentMode::Policy => Self::Policy,
            AgentMode::Scripted => Self::Scripted,
            AgentMode::Human => Self::Human,
            AgentMode::Idle => Self::Idle,
        }
    }
}

impl From<SavedMode> for AgentMode {
    fn from(mode: SavedMode) -> Self {
        match mode {
            SavedMode::Policy => Self::Policy,
            SavedMode::Scripted => Self::Scripted,
            SavedMode::Human => Self::Human,
            SavedMode::Idle => Self::Idle,
        }
    }
}

fn to_bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn from_bits(bits: &[u32]) -> Vec<f32> {
    bits.iter().copied().map(f32::from_bits).collect()
}

/// Writes the run's state to `directory`, replacing what is there.
///
/// Call it between two ticks.
///
/// # Errors
/// When a file cannot be written; the checkpoint that was there stays valid.
pub fn save(world: &mut World, directory: &Path) -> Result<(), LearnError> {
    let Some(policy) = world.get_resource::<PolicyHandle>().cloned() else { return Err(LearnError::NoAgent) };
    // What is being learned in the background belongs to this state as soon as it is finished.
    learner::finish_updates(world, false, true);
    let state = save_state(world);
    let (weights, optimizer) = match world.get_resource::<BackgroundLearner>() {
        Some(worker) => {
            let (weights, optimizer) = worker.save()?;
            (Ok(weights), Ok(optimizer))
        }
        None => policy.with(|learner| (learner.weights(), learner.optimizer())),
    };
    let replay = world.get_resource::<Replay>().map(|replay| encode_replay(replay, directory)).transpose()?;
    let state = serde_json::to_vec(&state).map_err(|error| broken(directory, STATE_FILE, &error))?;
    let mut files = vec![(WEIGHTS_FILE, weights?), (OPTIMIZER_FILE, optimizer?), (STATE_FILE, state)];
    files.extend(replay.map(|bytes| (REPLAY_FILE, bytes)));
    atomic::replace_directory(directory, |folder| {
        for (name, bytes) in &files {
            atomic::write(&folder.join(name), bytes)?;
        }
        Ok::<(), LearnError>(())
    })
}

fn save_state(world: &mut World) -> SavedState {
    let mut agents: Vec<SavedAgent> = world
        .query::<(
            &Agent,
            &AgentMode,
            &Episode,
            Option<&HeldBack>,
            Option<&ActionLog>,
            Option<&ActionChunk>,
            Option<&Growing>,
            &EpisodeSums,
            Option<&Replaying>,
        )>()
        .iter(world)
        .map(|(agent, mode, episode, held, log, chunk, growing, sums, replaying)| SavedAgent {
            agent: agent.0,
            mode: held.map_or(*mode, |held| held.0).into(),
            episode_index: episode.index,
            episode_seed: episode.seed,
            has_started: episode.has_started(),
            is_active: episode.is_active(),
            action_log: log.map(|log| to_bits(&log.0)).unwrap_or_default(),
            chunk: chunk.map(|chunk| to_bits(&chunk.actions)).unwrap_or_default(),
            chunk_cursor: chunk.map_or(0, |chunk| chunk.cursor),
            chunk_q: chunk.map_or(0.0, |chunk| chunk.q).to_bits(),
            replay_cursor: growing.map(|growing| growing.0).unwrap_or_default(),
            human_steps: replaying.map_or(sums.human_steps, |replaying| replaying.human_steps),
        })
        .collect();
    agents.sort_by_key(|agent| agent.agent);
    let streams = world.get_resource_or_insert_with(|| RandomStreams::new(0)).save();
    let state = world.get_resource_or_init::<LearnerState>();
    SavedState {
        format_version: FORMAT_VERSION,
        phase: state.phase,
        updates: state.updates,
        env_steps: state.env_steps,
        owed_update_bits: Some(state.owed_updates.to_bits()),
        owed_updates: None,
        streams,
        agents,
    }
}

/// Brings `app` to the state saved in `directory`.
///
/// The app must be built as it was: same task, same number of agents, same algorithm. In the next ticks the agents
/// repeat the actions of their open episodes ([`Replaying`]); then the run goes on.
///
/// # Errors
/// When a file is missing, broken, truncated or belongs to another task, algorithm or size. The files are left as they
/// are. The app's networks may then hold a part of the state: do not go on with it.
pub fn load(app: &mut App, directory: &Path) -> Result<(), LearnError> {
    let folder = atomic::existing(directory).unwrap_or_else(|| directory.to_owned());
    let state: SavedState =
        serde_json::from_slice(&read(&folder, STATE_FILE)?).map_err(|error| broken(&folder, STATE_FILE, &error))?;
    if state.format_version != FORMAT_VERSION {
        return Err(broken(
            &folder,
            STATE_FILE,
            &format!("format version {} is not {FORMAT_VERSION}, the one this program reads", state.format_version),
        ));
    }
    let owed_updates = state
        .owed_updates()
        .ok_or_else(|| broken(&folder, STATE_FILE, &"`owed_update_bits` is missing or is no amount of updates"))?;
    let (weights, optimizer) = (read(&folder, WEIGHTS_FILE)?, read(&folder, OPTIMIZER_FILE)?);
    let replay = if folder.join(REPLAY_FILE).exists() {
        Some(decode_replay(&read(&folder, REPLAY_FILE)?, &folder)?)
    } else {
        None
    };

    let policy = policy::prepare(app)?;
    let world = app.world_mut();
    // A worker starts anew from the networks that are loaded below.
    world.remove_resource::<BackgroundLearner>();
    let spec = policy::common_spec(world)?;
    if let Some(replay) = &replay {
        let header = replay.header();
        for (what, expected, found) in [
            ("the checkpoint's observation", spec.observation.dim(), header.observation_dim),
            ("the checkpoint's action", spec.action.dim(), header.action_dim),
        ] {
            if expected != found {
                return Err(LearnError::Length { what, expected, found });
            }
        }
    }
    let mut entities: Vec<(u32, Entity)> =
        world.query::<(&Agent, Entity)>().iter(world).map(|(agent, entity)| (agent.0, entity)).collect();
    entities.sort_unstable();
    let numbers = |agents: &mut dyn Iterator<Item = u32>| agents.collect::<Vec<_>>();
    let (here, saved) =
        (numbers(&mut entities.iter().map(|pair| pair.0)), numbers(&mut state.agents.iter().map(|agent| agent.agent)));
    if here != saved {
        return Err(broken(
            &folder,
            STATE_FILE,
            &format!(
                "it was made with {} agents, and here are {}; use the same number of arenas",
                saved.len(),
                here.len()
            ),
        ));
    }
    policy.with(|learner| {
        learner.load_weights(&weights).map_err(|error| broken(&folder, WEIGHTS_FILE, &error))?;
        learner.load_optimizer(&optimizer).map_err(|error| broken(&folder, OPTIMIZER_FILE, &error))
    })?;

    if let Some(replay) = replay {
        world.insert_resource(replay);
    }
    world.insert_resource(RandomStreams::load(state.streams));
    let mut counters = world.get_resource_or_init::<LearnerState>();
    counters.phase = state.phase;
    counters.updates = state.updates;
    counters.env_steps = state.env_steps;
    counters.owed_updates = owed_updates;
    counters.fault = None;
    for ((_, entity), saved) in entities.into_iter().zip(state.agents) {
        let log = from_bits(&saved.action_log);
        let episode = match (saved.has_started, saved.is_active) {
            (false, _) => Episode::default(),
            (true, true) => Episode::resumed(saved.episode_index, saved.episode_seed),
            (true, false) => Episode::ended(saved.episode_index, saved.episode_seed),
        };
        let mut entity = world.entity_mut(entity);
        entity.insert((
            episode,
            AgentMode::from(saved.mode),
            ActionChunk {
                actions: from_bits(&saved.chunk),
                cursor: saved.chunk_cursor,
                q: f32::from_bits(saved.chunk_q),
            },
            ActionLog(log.clone()),
            Growing(saved.replay_cursor),
        ));
        entity.remove::<(Replaying, HeldBack)>();
        if saved.is_active && !log.is_empty() {
            entity.insert((
                Replaying { actions: log, position: 0, human_steps: saved.human_steps },
                HeldBack(saved.mode.into()),
            ));
        }
    }
    Ok(())
}

/// Loads only the networks, for evaluation, recording or another start.
///
/// # Errors
/// When the file is missing, broken, or belongs to other sizes.
pub fn load_weights(policy: &PolicyHandle, directory: &Path) -> Result<(), LearnError> {
    let folder = atomic::existing(directory).unwrap_or_else(|| directory.to_owned());
    let weights = read(&folder, WEIGHTS_FILE)?;
    policy.with(|learner| learner.load_weights(&weights)).map_err(|error| broken(&folder, WEIGHTS_FILE, &error))
}

fn read(folder: &Path, name: &str) -> Result<Vec<u8>, LearnError> {
    fs::read(folder.join(name)).map_err(|error| broken(folder, name, &error))
}

fn broken(folder: &Path, name: &str, detail: &dyn std::fmt::Display) -> LearnError {
    LearnError::Checkpoint { path: folder.join(name), detail: detail.to_string() }
}

fn encode_replay(replay: &Replay, directory: &Path) -> Result<Vec<u8>, LearnError> {
    let fail = |error: &dyn std::fmt::Display| broken(directory, REPLAY_FILE, error);
    let header = replay.header();
    let columns = replay.columns();
    let rows = header.len;
    let text = serde_json::to_string(&header).map_err(|error| fail(&error))?;
    let metadata = [
        ("format".to_owned(), "onestep-replay".to_owned()),
        ("format_version".to_owned(), FORMAT_VERSION.to_string()),
        ("header".to_owned(), text),
    ]
    .into_iter()
    .collect();
    let parts: [(&str, Dtype, Vec<usize>, &[u8]); 8] = [
        ("observations", Dtype::F32, vec![rows, header.observation_dim], bytemuck::cast_slice(columns.observations)),
        ("actions", Dtype::F32, vec![rows, header.action_dim], bytemuck::cast_slice(columns.actions)),
        ("rewards", Dtype::F32, vec![rows], bytemuck::cast_slice(columns.rewards)),
        ("next_rows", Dtype::U32, vec![rows], bytemuck::cast_slice(columns.next_rows)),
        ("kinds", Dtype::U8, vec![rows], columns.kinds),
        ("episodes", Dtype::U32, vec![rows], bytemuck::cast_slice(columns.episodes)),
        ("demonstrations", Dtype::U8, vec![rows], columns.demonstrations),
        ("interventions", Dtype::U8, vec![rows], columns.interventions),
    ];
    let mut views = BTreeMap::new();
    for (name, dtype, shape, bytes) in parts {
        views.insert(name, TensorView::new(dtype, shape, bytes).map_err(|error| fail(&error))?);
    }
    safetensors::serialize(views, Some(metadata)).map_err(|error| fail(&error))
}

fn decode_replay(bytes: &[u8], folder: &Path) -> Result<Replay, LearnError> {
    let fail = |error: &dyn std::fmt::Display| broken(folder, REPLAY_FILE, error);
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| fail(&error))?;
    let text = |key: &str| metadata.metadata().as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default();
    if text("format") != "onestep-replay" || text("format_version") != FORMAT_VERSION.to_string() {
        return Err(fail(&"it is not a replay of the format version this program reads"));
    }
    let header: ReplayHeader = serde_json::from_str(&text("header")).map_err(|error| fail(&error))?;
    let tensors = SafeTensors::deserialize(bytes).map_err(|error| fail(&error))?;
    let column = |name: &str, dtype: Dtype| -> Result<Vec<u8>, LearnError> {
        let tensor = tensors.tensor(name).map_err(|error| fail(&format!("column `{name}`: {error}")))?;
        if tensor.dtype() != dtype {
            return Err(fail(&format!("column `{name}` holds {:?} instead of {dtype:?}", tensor.dtype())));
        }
        Ok(tensor.data().to_vec())
    };
    let floats = |name: &str| Ok::<_, LearnError>(bytemuck::pod_collect_to_vec::<u8, f32>(&column(name, Dtype::F32)?));
    let numbers = |name: &str| Ok::<_, LearnError>(bytemuck::pod_collect_to_vec::<u8, u32>(&column(name, Dtype::U32)?));
    let demonstrations = column("demonstrations", Dtype::U8)?;
    // Checkpoints of before have no such column; nobody acted by hand in them, as far as they know.
    let interventions = match tensors.names().contains(&"interventions") {
        true => column("interventions", Dtype::U8)?,
        false => vec![0; demonstrations.len()],
    };
    let columns = OwnedColumns {
        observations: floats("observations")?,
        actions: floats("actions")?,
        rewards: floats("rewards")?,
        next_rows: numbers("next_rows")?,
        kinds: column("kinds", Dtype::U8)?,
        episodes: numbers("episodes")?,
        demonstrations,
        interventions,
    };
    Replay::from_columns(&header, columns).map_err(|error| fail(&error))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn updates_that_are_owed_come_back_to_the_bit() {
        let mut state = LearnerState::default();
        for _ in 0..500 {
            state.owed_updates += 0.4;
            state.owed_updates -= state.owed_updates.floor();
            let streams = RandomStreams::new(0).save();
            let saved = SavedState {
                format_version: FORMAT_VERSION,
                phase: state.phase,
                updates: 0,
                env_steps: 0,
                owed_update_bits: Some(state.owed_updates.to_bits()),
                owed_updates: None,
                streams,
                agents: Vec::new(),
            };
            let text = serde_json::to_string(&saved).unwrap();
            let found: SavedState = serde_json::from_str(&text).unwrap();
            assert_eq!(found.owed_updates(), Some(state.owed_updates));
        }
        let streams = serde_json::to_string(&RandomStreams::new(0).save()).unwrap();
        let read = |owed: &str| {
            let text = format!(
                r#"{{"format_version":1,"phase":"online","updates":0,"env_steps":0,{owed}"streams":{streams},"agents":[]}}"#
            );
            serde_json::from_str::<SavedState>(&text).unwrap().owed_updates()
        };
        // As checkpoints of before have it; and what a damaged one may hold.
        assert_eq!(read(r#""owed_updates":0.5,"#), Some(0.5));
        assert_eq!(read(""), None);
        for wrong in [f64::NAN, f64::INFINITY, -1.0] {
            assert_eq!(read(&format!(r#""owed_update_bits":{},"#, wrong.to_bits())), None);
        }
    }
}
