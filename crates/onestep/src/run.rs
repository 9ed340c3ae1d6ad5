//! One description of a run, one function that makes an app of it.

use std::path::Path;

use bevy::prelude::*;
use onestep_agent::{AgentMode, AgentPlugin, Purpose, RandomStreams, SeedSource, derive_seed, prelude::Agent};
use onestep_data::{DataError, EpisodeData, EpisodeFile, Origin, ReadOptions, read_episodes};
use onestep_learn::{LearnerPlugin, PolicyHandle, PolicyPlugin, PolicySource};
use onestep_record::{
    episodes::{EpisodeRecorderPlugin, RecordedEpisodes},
    evaluation::{EvaluationError, EvaluationReport, evaluate_watched},
};
use onestep_sim::{ExpertNoise, SimError, SimPlugin};

use crate::{OnestepPlugins, RunError, config::RunConfig};

/// What an app is for. The same description gives a different app for each.
#[derive(Clone)]
pub enum Role {
    /// Learning agents: policy and learner, `arenas` worlds.
    Train,
    /// The policy acts, nobody learns, `evaluation.arenas` worlds.
    Evaluate(PolicyHandle),
    /// The policy acts in one world that is looked at; all candidates are kept for drawing.
    Show(PolicyHandle),
    /// The scripted expert acts, with the noise of `demonstrations`, and whole episodes are recorded.
    Demonstrate {
        /// Worlds side by side.
        arenas: usize,
    },
}

/// Adds the plugins of a run to an app that has Bevy's own plugins already (`MinimalPlugins`, or all of them).
pub fn add_plugins(app: &mut App, config: &RunConfig, role: &Role) {
    let plugins = OnestepPlugins.set(AgentPlugin { seed: config.seed }).set(SimPlugin {
        task: config.task.clone(),
        arenas: arenas(config, role),
        seed: config.seed,
        mode: if matches!(role, Role::Demonstrate { .. }) { AgentMode::Scripted } else { AgentMode::Policy },
        expert_noise: ExpertNoise {
            std: config.demonstrations.action_noise_std,
            random_action_probability: config.demonstrations.random_action_probability,
        },
        // Bodies are there to be drawn.
        bodies: matches!(role, Role::Show(_)),
        ..SimPlugin::default()
    });
    match role {
        Role::Train => app.add_plugins(
            plugins
                .set(PolicyPlugin {
                    source: PolicySource::Create { algorithm: config.algorithm.clone(), compute: config.compute },
                    ..PolicyPlugin::default()
                })
                .set(LearnerPlugin { schedule: config.learner.clone() }),
        ),
        Role::Evaluate(policy) | Role::Show(policy) => app.add_plugins(
            plugins
                .set(PolicyPlugin {
                    source: PolicySource::Shared(policy.clone()),
                    keep_candidates: matches!(role, Role::Show(_)),
                    ..PolicyPlugin::default()
                })
                .disable::<LearnerPlugin>(),
        ),
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
        Role::Evaluate(_) => config.evaluation.arenas.min(config.evaluation.episodes),
        Role::Show(_) => 1,
        Role::Demonstrate { arenas } => *arenas,
    };
    u32::try_from(arenas.max(1)).unwrap_or(u32::MAX)
}

/// The seeds of a run's evaluation episodes: the same at every evaluation, and never a seed of training.
#[must_use]
pub fn evaluation_seeds(config: &RunConfig, episodes: usize) -> Vec<u64> {
    (0..episodes as u64).map(|index| derive_seed(config.seed, Purpose::Evaluation, 0, index)).collect()
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
    let mut app = build_app(config, &Role::Evaluate(policy.clone()));
    evaluate_watched(&mut app, &evaluation_seeds(config, episodes), watch)
}

/// Worlds in which demonstrations are collected side by side.
const DEMONSTRATION_ARENAS: usize = 10;
/// Collecting is given up after so many episodes, and so many more for each success: an expert that fails more often
/// shows nothing, and collecting would hardly end.
const DEMONSTRATION_TRIES: (usize, usize) = (60, 20);

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
    let spec = onestep_sim::task(&config.task)?.spec();
    file.require(path, &config.task, spec.observation.dim(), spec.action.dim())?;
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
    if !onestep_sim::task(&config.task)?.has_expert() {
        return Err(SimError::NoExpert { task: config.task.clone() }.into());
    }
    let wanted = config.demonstrations.episodes;
    let arenas = DEMONSTRATION_ARENAS.min(wanted).max(1);
    let mut app = build_app(config, &Role::Demonstrate { arenas });
    let mut seeds = RandomStreams::new(config.seed);
    let mut next_seeds =
        |count: usize| -> Vec<u64> { (0..count).map(|_| seeds.next_seed(Purpose::Demonstration, 0)).collect() };
    let mut kept: Vec<EpisodeData> = Vec::new();
    let mut tried = 0;
    while kept.len() < wanted {
        if tried > DEMONSTRATION_TRIES.0 + DEMONSTRATION_TRIES.1 * kept.len() {
            return Err(RunError::Demonstrations { kept: kept.len(), wanted, tried });
        }
        // Whole rounds of fixed seeds: which episodes are kept does not depend on how long the others take.
        let round = next_seeds(wanted - kept.len());
        tried += round.len();
        play_demonstrations(&mut app, &round, |episodes| watch(kept.len() + episodes))?;
        let mut recorded = std::mem::take(&mut app.world_mut().resource_mut::<RecordedEpisodes>().0);
        recorded.sort_by_key(|episode| round.iter().position(|seed| *seed == episode.seed));
        kept.append(&mut recorded);
    }
    let (observation_dim, action_dim) = dimensions(&mut app);
    Ok(EpisodeFile { task: config.task.clone(), origin: Origin::Onestep, observation_dim, action_dim, episodes: kept })
}

/// One episode for each seed, dealt out to the arenas in turn.
fn play_demonstrations(app: &mut App, seeds: &[u64], mut watch: impl FnMut(usize) -> bool) -> Result<(), RunError> {
    let world = app.world_mut();
    let mut agents: Vec<(u32, Entity)> =
        world.query::<(&Agent, Entity)>().iter(world).map(|(agent, entity)| (agent.0, entity)).collect();
    agents.sort_unstable();
    let count = agents.len().max(1);
    for (place, (_, entity)) in agents.into_iter().enumerate() {
        let own = seeds.iter().skip(place).step_by(count).copied().collect();
        world.entity_mut(entity).insert((AgentMode::Scripted, SeedSource::List(own)));
    }
    loop {
        onestep_record::tick(world);
        if let Some(fault) = crate::fault::of_simulation(world) {
            return Err(RunError::Fault(Box::new(fault)));
        }
        if world.query::<&AgentMode>().iter(world).all(|mode| *mode == AgentMode::Idle) {
            return Ok(());
        }
        if !watch(world.resource::<RecordedEpisodes>().0.len()) {
            return Err(RunError::Interrupted);
        }
    }
}

/// Lengths of observation and action of the app's agents.
fn dimensions(app: &mut App) -> (usize, usize) {
    let world = app.world_mut();
    let mut specs = world.query::<&onestep_agent::AgentSpec>();
    specs.iter(world).next().map_or((0, 0), |spec| (spec.observation.dim(), spec.action.dim()))
}
