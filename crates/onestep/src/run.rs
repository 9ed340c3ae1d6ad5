//! One description of a run, one function that makes an app of it.

use std::path::Path;

use bevy::prelude::*;
use onestep_agent::{AgentMode, AgentPlugin, Purpose, derive_seed};
use onestep_data::{DataError, EpisodeData, EpisodeFile, ReadOptions, read_episodes};
use onestep_learn::{LearnerPlugin, PolicyHandle, PolicyPlugin, PolicySource};
use onestep_record::{
    baseline::BaselinePlugin,
    episodes::EpisodeRecorderPlugin,
    evaluation::{EvaluationError, EvaluationReport, evaluate_watched},
};
use onestep_sim::{ExpertNoise, Robot, SimPlugin, Task, memory::require_memory};

use crate::{
    OnestepPlugins, RunError,
    collect::{CollectEnd, CollectPlan, CollectProgress, collect},
    config::RunConfig,
};

/// What an app is for. The same description gives a different app for each.
#[derive(Clone)]
pub enum Role {
    /// Learning agents: policy and learner, `arenas` worlds.
    Train,
    /// The policy acts, nobody learns, `evaluation.arenas` worlds.
    Evaluate(PolicyHandle),
    /// The policy acts in one world that is looked at; all candidates are kept for drawing.
    Show(PolicyHandle),
    /// An agent that learned nothing acts, `evaluation.arenas` worlds: something to compare a policy with.
    Baseline(Baseline),
    /// The same in several worlds side by side.
    Film {
        /// The networks.
        policy: PolicyHandle,
        /// Worlds.
        arenas: usize,
    },
    /// A person acts in one world.
    Human,
    /// The scripted expert acts, with the noise of `demonstrations`, and whole episodes are recorded.
    Demonstrate {
        /// Worlds side by side.
        arenas: usize,
    },
}

/// An agent that learned nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Baseline {
    /// Every number of its actions is 0.
    Zero,
    /// Every number is drawn uniformly from [-1, 1].
    Random,
    /// The task's scripted expert, with the noise of `demonstrations`.
    Expert,
}

/// Adds the plugins of a run to an app that has Bevy's own plugins already (`MinimalPlugins`, or all of them).
pub fn add_plugins(app: &mut App, config: &RunConfig, role: &Role) {
    add(app, config, role, matches!(role, Role::Show(_) | Role::Film { .. }));
}

/// As [`add_plugins`], for an app that draws: bodies move in the scene, and policies keep all candidates. The run is the
/// same.
pub fn add_visible_plugins(app: &mut App, config: &RunConfig, role: &Role) {
    add(app, config, role, true);
}

fn add(app: &mut App, config: &RunConfig, role: &Role, is_visible: bool) {
    let plugins = OnestepPlugins.set(AgentPlugin { seed: config.seed }).set(SimPlugin {
        task: config.task.clone(),
        arenas: arenas(config, role),
        seed: config.seed,
        mode: match role {
            Role::Demonstrate { .. } | Role::Baseline(Baseline::Expert) => AgentMode::Scripted,
            Role::Human => AgentMode::Human,
            _ => AgentMode::Policy,
        },
        expert_noise: expert_noise(config),
        // Bodies are there to be drawn.
        bodies: is_visible,
        ..SimPlugin::default()
    });
    match role {
        Role::Train => app.add_plugins(
            plugins
                .set(PolicyPlugin {
                    source: PolicySource::Create { algorithm: config.algorithm.clone(), compute: config.compute },
                    keep_candidates: is_visible,
                    ..PolicyPlugin::default()
                })
                .set(LearnerPlugin { schedule: config.learner.clone() }),
        ),
        Role::Evaluate(policy) | Role::Show(policy) | Role::Film { policy, .. } => app.add_plugins(
            plugins
                .set(PolicyPlugin {
                    source: PolicySource::Shared(policy.clone()),
                    keep_candidates: is_visible,
                    ..PolicyPlugin::default()
                })
                .disable::<LearnerPlugin>(),
        ),
        Role::Baseline(baseline) => app.add_plugins((
            plugins.disable::<PolicyPlugin>().disable::<LearnerPlugin>(),
            BaselinePlugin { random: *baseline == Baseline::Random },
        )),
        Role::Human => app.add_plugins(plugins.disable::<PolicyPlugin>().disable::<LearnerPlugin>()),
        Role::Demonstrate { .. } => app.add_plugins((
            plugins.disable::<PolicyPlugin>().disable::<LearnerPlugin>(),
            EpisodeRecorderPlugin { successful_only: config.demonstrations.successful_only },
        )),
    };
}

/// An app without window or renderer, ready to be ticked by [`onestep_record::tick`].
pub fn build_app(config: &RunConfig, role: &Role) -> App {
    let mut app = App::new();
    app.add_plugins(MinimalPlugins);
    add_plugins(&mut app, config, role);
    app.finish();
    app.cleanup();
    app
}

fn arenas(config: &RunConfig, role: &Role) -> u32 {
    let arenas = match role {
        Role::Train => config.arenas,
        // More worlds than episodes would only stand still.
        Role::Evaluate(_) | Role::Baseline(_) => config.evaluation.arenas.min(config.evaluation.episodes),
        Role::Show(_) | Role::Human => 1,
        Role::Film { arenas, .. } => *arenas,
        Role::Demonstrate { arenas } => *arenas,
    };
    u32::try_from(arenas.max(1)).unwrap_or(u32::MAX)
}

/// The seeds of a run's evaluation episodes: the same at every evaluation, and never a seed of training.
#[must_use]
pub fn evaluation_seeds(config: &RunConfig, episodes: usize) -> Vec<u64> {
    (0..episodes as u64).map(|index| derive_seed(config.seed, Purpose::Evaluation, 0, index)).collect()
}

/// Refuses a run whose worlds would not fit into memory.
///
/// # Errors
/// [`RunError::Sim`] with the numbers.
pub fn require_room(config: &RunConfig, role: &Role) -> Result<(), RunError> {
    let task = onestep_sim::task(&config.task)?;
    Ok(require_memory(&task, &Robot::panda()?, u64::from(arenas(config, role)))?)
}

/// Evaluates a policy in worlds of its own. `watch` sees the number of ended episodes after each control step and
/// stops the evaluation by an error.
///
/// # Errors
/// [`EvaluationError::Stopped`] with what `watch` said; others when the worlds do not do what they must.
pub fn evaluate_policy(
    config: &RunConfig,
    policy: &PolicyHandle,
    episodes: usize,
    watch: impl FnMut(&World, usize) -> Result<(), String>,
) -> Result<EvaluationReport, EvaluationError> {
    evaluate_role(config, &Role::Evaluate(policy.clone()), episodes, watch)
}

/// As [`evaluate_policy`], for whoever acts in `role`.
///
/// # Errors
/// As [`evaluate_policy`].
pub fn evaluate_role(
    config: &RunConfig,
    role: &Role,
    episodes: usize,
    watch: impl FnMut(&World, usize) -> Result<(), String>,
) -> Result<EvaluationReport, EvaluationError> {
    let mut app = build_app(config, role);
    evaluate_watched(&mut app, &evaluation_seeds(config, episodes), watch)
}

/// Worlds in which demonstrations are collected side by side.
const DEMONSTRATION_ARENAS: usize = 10;

/// The demonstrations of a run: those of its file, else those that [`collect_demonstrations`] collects.
///
/// `watch` sees the number of episodes so far and returns whether to go on.
///
/// # Errors
/// As [`read_demonstrations`] and [`collect_demonstrations`].
pub fn demonstrations(config: &RunConfig, mut watch: impl FnMut(usize) -> bool) -> Result<EpisodeFile, RunError> {
    match &config.demonstrations.file {
        // All of a file is read, also what lies behind the wanted episodes.
        Some(path) => read_demonstrations(config, path, &mut |done, _| watch(done.min(config.demonstrations.episodes))),
        None => collect_demonstrations(config, watch),
    }
}

/// Reads the demonstrations of a run from a file, which must be of the run's task and of its sizes.
///
/// # Errors
/// [`RunError::Data`] naming the file and what does not fit; a file without a fitting episode is refused, too.
pub fn read_demonstrations(
    config: &RunConfig,
    path: &Path,
    watch: &mut dyn FnMut(usize, usize) -> bool,
) -> Result<EpisodeFile, RunError> {
    let mut file = read_episodes(path, &ReadOptions::default(), watch).map_err(|error| match error {
        DataError::Stopped { .. } => RunError::Interrupted,
        other => RunError::Data(other),
    })?;
    require_task(path, &file, &*onestep_sim::task(&config.task)?)?;
    file.episodes.retain(|episode| !episode.is_empty());
    let found = file.episodes.len();
    if found == 0 {
        let problem = "it holds no episode with a step to learn from".to_owned();
        return Err(DataError::Request { path: path.to_owned(), problem }.into());
    }
    if config.demonstrations.successful_only {
        file.episodes.retain(EpisodeData::is_success);
    }
    file.episodes.truncate(config.demonstrations.episodes);
    if file.episodes.is_empty() {
        let problem = format!(
            "none of its {found} episodes ends in success; demonstrations.successful_only=false takes them all"
        );
        return Err(DataError::Request { path: path.to_owned(), problem }.into());
    }
    Ok(file)
}

/// Checks that a file's episodes are of a task, under any of its names, and of its sizes. `path` is the file in the error.
///
/// # Errors
/// [`RunError::Data`] naming the file and what does not fit.
pub fn require_task(path: &Path, file: &EpisodeFile, task: &dyn Task) -> Result<(), RunError> {
    let is_same = onestep_sim::task(&file.task).is_ok_and(|other| other.full_name() == task.full_name());
    let name = if is_same { &file.task } else { task.name() };
    let spec = task.spec();
    Ok(file.require(path, name, spec.observation.dim(), spec.action.dim())?)
}

/// Collects the demonstrations of a run: episodes of the scripted expert with noise, in the order of their seeds.
///
/// `watch` sees the number of kept episodes and returns whether to go on.
///
/// # Errors
/// [`RunError::Sim`] for a task that nobody demonstrates, [`RunError::Demonstrations`] when the expert hardly ever
/// succeeds, [`RunError::Interrupted`] when `watch` says so.
pub fn collect_demonstrations(
    config: &RunConfig,
    mut watch: impl FnMut(usize) -> bool,
) -> Result<EpisodeFile, RunError> {
    let wanted = config.demonstrations.episodes;
    let plan = CollectPlan {
        task: onestep_sim::task(&config.task)?,
        episodes: wanted,
        seed: config.seed,
        arenas: DEMONSTRATION_ARENAS,
        noise: expert_noise(config),
        successful_only: config.demonstrations.successful_only,
    };
    let collected = collect(&plan, Vec::new(), |progress| watch(progress.kept))?;
    match collected.end {
        CollectEnd::Complete => Ok(collected.file),
        CollectEnd::Stopped => Err(RunError::Interrupted),
        CollectEnd::Fault(fault) => Err(RunError::Fault(fault)),
        CollectEnd::ExpertFails => {
            let CollectProgress { kept, tried, .. } = collected.progress;
            Err(RunError::Demonstrations { kept, wanted, tried })
        }
    }
}

fn expert_noise(config: &RunConfig) -> ExpertNoise {
    ExpertNoise {
        std: config.demonstrations.action_noise_std,
        random_action_probability: config.demonstrations.random_action_probability,
    }
}
