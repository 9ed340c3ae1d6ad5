//! Undirected data in the files of the benchmark that a task mirrors.

use std::{num::NonZeroUsize, sync::Arc, thread};

use onestep_data::{
    EpisodeData, EpisodeFile,
    ogbench::{Columns, OgbenchData, Recording},
};
use onestep_sim::{PublishedState, Robot, SimArena, SimError, Task};

/// Whether a task mirrors a benchmark whose files keep states: whether [`ogbench_data`] can make one of its episodes.
#[must_use]
pub fn has_published_states(task: &Arc<dyn Task>, robot: &Arc<Robot>) -> bool {
    SimArena::new(task.clone(), robot.clone(), 0).published_state().is_some()
}

/// The episodes as OGBench's files keep them: a row for each step with the state in which its action was taken, the last
/// one of an episode marked. With what repeats them besides: their seeds, and the last observations. `None` for a task
/// that mirrors no benchmark with such files.
///
/// The states are had by repeating the episodes, on all cores: an episode follows from its seed and its actions. Beside
/// the numbers of the file, memory is needed for the episodes alone, which are given up one after the other.
///
/// # Errors
/// [`SimError`] when a state is not finite.
pub fn ogbench_data(task: &Arc<dyn Task>, file: EpisodeFile) -> Result<Option<OgbenchData>, SimError> {
    let robot = Robot::panda()?;
    let Some(first) = SimArena::new(task.clone(), robot.clone(), 0).published_state() else { return Ok(None) };
    let rows = file.steps();
    let mut qpos = Columns { width: first.qpos.len(), values: vec![0.0; rows * first.qpos.len()] };
    let mut qvel = Columns { width: first.qvel.len(), values: vec![0.0; rows * first.qvel.len()] };
    let buttons = first.button_states.len();
    let mut button_states = Columns { width: buttons, values: vec![0; rows * buttons] };

    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let share = file.episodes.len().div_ceil(threads).max(1);
    thread::scope(|scope| {
        let (mut positions, mut velocities) = (&mut qpos.values[..], &mut qvel.values[..]);
        let mut states = &mut button_states.values[..];
        let mut parts = Vec::new();
        for episodes in file.episodes.chunks(share) {
            let rows: usize = episodes.iter().map(EpisodeData::len).sum();
            let mut part = Rows {
                qpos: positions.split_off_mut(..rows * qpos.width).unwrap_or_default(),
                qvel: velocities.split_off_mut(..rows * qvel.width).unwrap_or_default(),
                buttons: states.split_off_mut(..rows * buttons).unwrap_or_default(),
            };
            let (robot, action_dim) = (&robot, file.action_dim);
            parts.push(scope.spawn(move || {
                episodes.iter().try_for_each(|episode| repeat(task, robot, episode, action_dim, &mut part))
            }));
        }
        for part in parts {
            match part.join() {
                Ok(done) => done?,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok::<_, SimError>(())
    })?;

    let (observation_dim, action_dim) = (file.observation_dim, file.action_dim);
    let columns = |width: usize, rows: usize| Columns { width, values: Vec::with_capacity(width * rows) };
    let (mut observations, mut actions) = (columns(observation_dim, rows), columns(action_dim, rows));
    let mut last_observations = columns(observation_dim, file.episodes.len());
    let (mut seeds, mut terminals) = (Vec::with_capacity(file.episodes.len()), Vec::with_capacity(rows));
    for episode in file.episodes.into_iter().filter(|episode| !episode.is_empty()) {
        let (before, last) = episode.observations.split_at(episode.len() * observation_dim);
        observations.values.extend_from_slice(before);
        last_observations.values.extend_from_slice(last);
        actions.values.extend_from_slice(&episode.actions);
        terminals.extend((1..=episode.len()).map(|step| step == episode.len()));
        seeds.push(episode.seed);
    }
    Ok(Some(OgbenchData {
        observations,
        actions,
        terminals,
        qpos: Some(qpos),
        qvel: Some(qvel),
        button_states: (buttons > 0).then_some(button_states),
        recording: Some(Recording { task: file.task, seeds, last_observations }),
    }))
}

/// Rows of a file that are not written yet.
struct Rows<'a> {
    qpos: &'a mut [f32],
    qvel: &'a mut [f32],
    buttons: &'a mut [i64],
}

impl Rows<'_> {
    fn write(&mut self, state: &PublishedState) {
        put(&mut self.qpos, &state.qpos, |number| number as f32);
        put(&mut self.qvel, &state.qvel, |number| number as f32);
        put(&mut self.buttons, &state.button_states, |number| number);
    }
}

/// Writes numbers to the beginning of `rest`, and takes that off it.
fn put<A: Copy, B>(rest: &mut &mut [B], numbers: &[A], convert: fn(A) -> B) {
    if let Some(row) = rest.split_off_mut(..numbers.len()) {
        row.iter_mut().zip(numbers).for_each(|(place, number)| *place = convert(*number));
    }
}

/// Writes the state before each action of an episode.
fn repeat(
    task: &Arc<dyn Task>,
    robot: &Arc<Robot>,
    episode: &EpisodeData,
    action_dim: usize,
    rows: &mut Rows<'_>,
) -> Result<(), SimError> {
    let mut arena = SimArena::new(task.clone(), robot.clone(), episode.seed);
    for action in episode.actions.chunks_exact(action_dim.max(1)) {
        if let Some(state) = arena.published_state() {
            rows.write(&state);
        }
        arena.step(action)?;
    }
    Ok(())
}
