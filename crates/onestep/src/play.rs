//! Undirected data in the files of the benchmark that a task mirrors.

use std::{num::NonZeroUsize, sync::Arc, thread};

use onestep_data::{
    EpisodeData, EpisodeFile,
    ogbench::{Columns, OgbenchData},
};
use onestep_sim::{PublishedState, Robot, SimArena, SimError, Task};

/// The episodes as OGBench's files keep them: a row for each step with the state in which its action was taken, the last
/// one of an episode marked. `None` for a task that mirrors no benchmark with such files.
///
/// The states are had by repeating the episodes, on all cores: an episode follows from its seed and its actions.
///
/// # Errors
/// [`SimError`] when a state is not finite.
pub fn ogbench_data(task: &Arc<dyn Task>, file: &EpisodeFile) -> Result<Option<OgbenchData>, SimError> {
    let robot = Robot::panda()?;
    if SimArena::new(task.clone(), robot.clone(), 0).published_state().is_none() {
        return Ok(None);
    }
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let part = file.episodes.len().div_ceil(threads).max(1);
    let states = thread::scope(|scope| {
        let states_of = |episode: &EpisodeData| repeat(task, &robot, episode, file.action_dim);
        let parts: Vec<_> = file
            .episodes
            .chunks(part)
            .map(|episodes| {
                scope.spawn(move || episodes.iter().map(states_of).collect::<Result<Vec<Vec<PublishedState>>, _>>())
            })
            .collect();
        let mut states = Vec::with_capacity(file.episodes.len());
        for part in parts {
            match part.join() {
                Ok(found) => states.append(&mut found?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok::<_, SimError>(states)
    })?;

    let (mut qpos, mut qvel, mut buttons) = (Columns::default(), Columns::default(), Columns::default());
    let mut data = OgbenchData {
        observations: Columns { width: file.observation_dim, values: Vec::new() },
        actions: Columns { width: file.action_dim, values: Vec::new() },
        ..OgbenchData::default()
    };
    for (episode, states) in file.episodes.iter().zip(states) {
        let observations = episode.observations.get(..episode.len() * file.observation_dim).unwrap_or_default();
        data.observations.values.extend_from_slice(observations);
        data.actions.values.extend_from_slice(&episode.actions);
        data.terminals.extend((1..=episode.len()).map(|step| step == episode.len()));
        for state in states {
            (qpos.width, qvel.width, buttons.width) = (state.qpos.len(), state.qvel.len(), state.button_states.len());
            qpos.values.extend(state.qpos.iter().map(|number| *number as f32));
            qvel.values.extend(state.qvel.iter().map(|number| *number as f32));
            buttons.values.extend(state.button_states);
        }
    }
    data.button_states = (buttons.width > 0).then_some(buttons);
    (data.qpos, data.qvel) = (Some(qpos), Some(qvel));
    Ok(Some(data))
}

/// The state before each action of an episode.
fn repeat(
    task: &Arc<dyn Task>,
    robot: &Arc<Robot>,
    episode: &EpisodeData,
    action_dim: usize,
) -> Result<Vec<PublishedState>, SimError> {
    let mut arena = SimArena::new(task.clone(), robot.clone(), episode.seed);
    let mut states = Vec::with_capacity(episode.len());
    for action in episode.actions.chunks_exact(action_dim.max(1)) {
        states.extend(arena.published_state());
        arena.step(action)?;
    }
    Ok(states)
}
