//! Recorded episodes, played again: an episode follows from its seed and its actions, so the simulator must give the
//! same observations. How far they differ tells whether a file is of this simulator, and of this version of it.

use std::path::Path;

use onestep_data::{DataError, EpisodeData, EpisodeFile};
use onestep_sim::{Robot, SimArena, task, tasks};
use serde::Serialize;

use crate::RunError;

/// What a repeated episode shows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReplayReport {
    /// Control steps of the record.
    pub recorded_steps: usize,
    /// Control steps that were repeated; fewer when the task ended the episode earlier.
    pub steps: usize,
    /// Largest absolute difference between two numbers of an observation, in that number's own unit.
    pub max_difference: f32,
    /// Name of that number: the field of the observation and the place in it.
    pub max_field: String,
    /// Control steps before that observation; 0 is the initial one.
    pub max_step: usize,
    /// Control steps before the first observation that is not the same to the bit; none when all are.
    pub first_difference: Option<usize>,
    /// Largest absolute difference of a reward.
    pub max_reward_difference: f32,
    /// Whether the goal held after the last step: in the record, and here.
    pub success: (bool, bool),
}

/// Checks that the episodes of a file can be repeated: a task of ours, its sizes, and seeds. `path` is the file named in
/// the error.
///
/// # Errors
/// [`DataError::Request`] or [`DataError::Mismatch`], which say what is missing.
pub fn check_repeatable(path: &Path, file: &EpisodeFile) -> Result<(), RunError> {
    let missing = |problem: String| DataError::Request { path: path.to_owned(), problem };
    if !file.origin.has_seeds() {
        return Err(missing(format!(
            "its episodes were recorded by {}: they have no seeds that rebuild their initial states, and another \
             simulator's actions lead elsewhere here",
            file.origin
        ))
        .into());
    }
    if task(&file.task).is_err() {
        let known = tasks().join(", ");
        return Err(missing(format!("its task is `{}`, which is not simulated here; tasks: {known}", file.task)).into());
    }
    let spec = task(&file.task)?.spec();
    Ok(file.require(path, &file.task, spec.observation.dim(), spec.action.dim())?)
}

/// Repeats an episode of a task in the simulator.
///
/// # Errors
/// [`RunError::Sim`] when there is no such task or a state is not finite.
pub fn replay_episode(task_name: &str, episode: &EpisodeData) -> Result<ReplayReport, RunError> {
    let mut arena = SimArena::new(task(task_name)?, Robot::panda()?, episode.seed);
    let (observation_dim, action_dim) = (arena.spec().observation.dim(), arena.spec().action.dim());
    let mut report = ReplayReport {
        recorded_steps: episode.len(),
        steps: 0,
        max_difference: 0.0,
        max_field: String::new(),
        max_step: 0,
        first_difference: None,
        max_reward_difference: 0.0,
        success: (episode.is_success(), false),
    };
    let mut recorded = episode.observations.chunks_exact(observation_dim.max(1));
    if let Some(observation) = recorded.next() {
        compare(&mut report, 0, observation, &arena);
    }
    let steps = episode.actions.chunks_exact(action_dim.max(1)).zip(recorded).zip(&episode.rewards);
    for (step, ((action, observation), reward)) in (1..).zip(steps) {
        let outcome = arena.step(action)?;
        compare(&mut report, step, observation, &arena);
        report.max_reward_difference = report.max_reward_difference.max((outcome.reward - reward).abs());
        report.success.1 = outcome.success;
        report.steps = step;
        if outcome.terminated {
            break;
        }
    }
    Ok(report)
}

fn compare(report: &mut ReplayReport, step: usize, recorded: &[f32], arena: &SimArena) {
    for (index, (ours, theirs)) in arena.observation().iter().zip(recorded).enumerate() {
        let difference = (ours - theirs).abs();
        if difference > 0.0 && report.first_difference.is_none() {
            report.first_difference = Some(step);
        }
        if difference > report.max_difference {
            report.max_difference = difference;
            report.max_step = step;
            report.max_field = arena.spec().observation.name_at(index);
        }
    }
}
