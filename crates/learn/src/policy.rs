use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bevy::prelude::*;
use onestep_agent::{
    ActOrder, Action, Agent, AgentMode, AgentPlugin, AgentSpec, AgentSystems, Episode, Observation, Purpose,
    RandomStreams,
};
use onestep_policy::{AlgorithmConfig, Learner, NoiseSource, PolicySpec, SelectRequest, create_learner};

use crate::{
    Compute, ComputeReport, LearnError,
    compute::{self, ChosenDevice},
    learner::{self, LearnFault, LearnPhase, LearnerSchedule, LearnerState, Replaying},
    noise::StreamNoise,
};

/// The networks, shared by whoever acts, learns or evaluates. Cheap to clone; all clones are the same networks.
#[derive(Resource, Clone)]
pub struct PolicyHandle {
    learner: Arc<Mutex<Box<dyn Learner>>>,
    algorithm: Arc<AlgorithmConfig>,
}

impl PolicyHandle {
    /// Shares `learner`, which was made from `algorithm`.
    #[must_use]
    pub fn new(learner: Box<dyn Learner>, algorithm: AlgorithmConfig) -> Self {
        Self { learner: Arc::new(Mutex::new(learner)), algorithm: Arc::new(algorithm) }
    }

    /// The settings the networks were made from.
    #[must_use]
    pub fn algorithm(&self) -> &AlgorithmConfig {
        &self.algorithm
    }

    /// Puts other networks of the same settings in the place of these, for all clones; returns these.
    pub(crate) fn replace(&self, learner: Box<dyn Learner>) -> Box<dyn Learner> {
        std::mem::replace(&mut self.learner.lock().unwrap_or_else(PoisonError::into_inner), learner)
    }

    /// Works with the networks while nobody else does.
    pub fn with<R>(&self, work: impl FnOnce(&mut dyn Learner) -> R) -> R {
        // A panic elsewhere cannot leave the networks half changed in a way that matters more than the panic itself.
        let mut guard: MutexGuard<'_, Box<dyn Learner>> = self.learner.lock().unwrap_or_else(PoisonError::into_inner);
        work(guard.as_mut())
    }
}

/// Where the networks come from.
#[derive(Clone)]
#[allow(clippy::large_enum_variant, reason = "there is one of it per app")]
pub enum PolicySource {
    /// New ones, of this algorithm, on this device.
    Create {
        /// Which algorithm, with its settings.
        algorithm: AlgorithmConfig,
        /// Where.
        compute: Compute,
    },
    /// These: an evaluation beside a training run, or several worlds with one brain.
    Shared(PolicyHandle),
}

impl Default for PolicySource {
    fn default() -> Self {
        Self::Create { algorithm: AlgorithmConfig::default(), compute: Compute::default() }
    }
}

/// Acts for every agent in [`AgentMode::Policy`]: one batched selection per tick, whatever their number.
///
/// A selection gives a chunk of `h` actions that are executed open loop; an agent asks for a new one when its chunk is
/// used up or its episode is new. The candidates' noise comes from each agent's own random stream, so an agent acts
/// the same whoever else is in the world.
#[derive(Clone, Default)]
pub struct PolicyPlugin {
    /// Where the networks come from.
    pub source: PolicySource,
    /// How many candidates the critic chooses from. `None`: as the algorithm's settings say.
    pub candidates: Option<usize>,
    /// Keep all candidates of the current chunk in a [`CandidateSet`] of each agent, to draw or inspect. They cost a
    /// read-back of `N` chunks.
    pub keep_candidates: bool,
}

/// The chunk of actions an agent is executing.
#[derive(Component, Debug, Default, Clone, PartialEq)]
pub struct ActionChunk {
    /// `[h, A]`, flattened; empty when a new one is due.
    pub actions: Vec<f32>,
    /// How many of its actions have been executed.
    pub cursor: usize,
    /// What the critic thinks of it.
    pub q: f32,
}

impl ActionChunk {
    fn next(&mut self, action_dim: usize) -> Option<&[f32]> {
        let start = self.cursor * action_dim;
        let action = self.actions.get(start..start + action_dim)?;
        self.cursor += 1;
        Some(action)
    }
}

/// All candidates an agent's current chunk was chosen from.
#[derive(Component, Debug, Default, Clone, PartialEq)]
pub struct CandidateSet {
    /// `[N, h, A]`, flattened.
    pub actions: Vec<f32>,
    /// `[N]`: the critic's value of each.
    pub q: Vec<f32>,
    /// Which one was chosen.
    pub chosen: usize,
    /// Numbers in one action.
    pub action_dim: usize,
}

/// What the plugin needs until the networks exist.
#[derive(Resource, Clone)]
struct Pending(PolicyPlugin);

/// How to act. May be changed between two ticks; agents that came before `keep_candidates` was switched on keep none.
#[derive(Resource, Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActSettings {
    /// How many candidates the critic chooses from. `None`: as the algorithm's settings say.
    pub candidates: Option<usize>,
    /// Whether all candidates are kept; see [`PolicyPlugin::keep_candidates`].
    pub keep_candidates: bool,
}

impl Plugin for PolicyPlugin {
    fn build(&self, app: &mut App) {
        if !app.is_plugin_added::<AgentPlugin>() {
            app.add_plugins(AgentPlugin::default());
        }
        app.init_resource::<LearnerState>();
        app.insert_resource(ActSettings { candidates: self.candidates, keep_candidates: self.keep_candidates });
        match &self.source {
            PolicySource::Shared(handle) => {
                app.insert_resource(handle.clone());
            }
            PolicySource::Create { .. } => {
                app.insert_resource(Pending(self.clone()));
            }
        }
        app.add_systems(
            FixedUpdate,
            ((equip_agents, prepare_in_world).chain().in_set(AgentSystems::Begin), act.in_set(ActOrder::Policy)),
        );
    }

    fn finish(&self, app: &mut App) {
        // Only now does Bevy's render device exist. Without a demanded GPU the error waits for `prepare`.
        if let PolicySource::Create { compute, .. } = self.source
            && let Ok(chosen) = compute::choose(app, compute)
        {
            app.insert_resource(chosen);
        }
    }
}

/// Builds the networks now, from the agents that have been spawned, rather than in the first tick.
///
/// # Errors
/// When there is no agent, agents differ in their spaces, the settings do not work, or the demanded device is missing.
pub fn prepare(app: &mut App) -> Result<PolicyHandle, LearnError> {
    if let Some(handle) = app.world().get_resource::<PolicyHandle>() {
        let handle = handle.clone();
        learner::prepare_replay(app.world_mut())?;
        return Ok(handle);
    }
    if !app.world().contains_resource::<ChosenDevice>()
        && let Some(Pending(plugin)) = app.world().get_resource::<Pending>()
        && let PolicySource::Create { compute, .. } = plugin.source
    {
        let chosen = compute::choose(app, compute)?;
        app.insert_resource(chosen);
    }
    let handle = build(app.world_mut())?;
    learner::prepare_replay(app.world_mut())?;
    Ok(handle)
}

fn build(world: &mut World) -> Result<PolicyHandle, LearnError> {
    let spec = common_spec(world)?;
    let (algorithm, compute) = match world.get_resource::<Pending>() {
        Some(Pending(PolicyPlugin { source: PolicySource::Create { algorithm, compute }, .. })) => {
            (algorithm.clone(), *compute)
        }
        _ => (AlgorithmConfig::default(), Compute::default()),
    };
    let Some(chosen) = world.get_resource::<ChosenDevice>().cloned() else {
        return Err(LearnError::NoGpu { detail: format!("{compute:?} was asked for, and no adapter answers") });
    };
    let policy_spec = PolicySpec {
        observation_dim: spec.observation.dim(),
        action_dim: spec.action.dim(),
        horizon: algorithm.horizon(),
    };
    let mut streams = world.get_resource_or_insert_with(|| RandomStreams::new(0));
    let mut noise = StreamNoise(streams.get(Purpose::Weights, 0));
    let learner = create_learner(&algorithm, &policy_spec, &chosen.device, &mut noise)?;
    info!("{}; {} with {} parameters", chosen.report.text, learner.algorithm(), learner.parameter_count());
    let handle = PolicyHandle::new(learner, algorithm);
    world.insert_resource::<ComputeReport>(chosen.report);
    world.insert_resource(handle.clone());
    world.remove_resource::<Pending>();
    Ok(handle)
}

/// The one spec of all agents.
pub(crate) fn common_spec(world: &mut World) -> Result<AgentSpec, LearnError> {
    let mut agents: Vec<_> = world.query::<(&Agent, &AgentSpec)>().iter(world).collect();
    agents.sort_by_key(|(agent, _)| **agent);
    let Some((first, spec)) = agents.first() else { return Err(LearnError::NoAgent) };
    for (other, other_spec) in &agents {
        spec.check_fits(other_spec).map_err(|error| LearnError::MixedAgents {
            first: first.0,
            second: other.0,
            detail: error.to_string(),
        })?;
    }
    Ok((*spec).clone())
}

/// Gives each agent the components a policy needs.
fn equip_agents(
    mut commands: Commands,
    settings: Res<ActSettings>,
    agents: Query<Entity, (With<Agent>, Without<ActionChunk>)>,
) {
    for entity in &agents {
        commands.entity(entity).insert(ActionChunk::default());
        if settings.keep_candidates {
            commands.entity(entity).insert(CandidateSet::default());
        }
    }
}

pub(crate) fn prepare_in_world(world: &mut World) -> Result {
    let wanted = world.contains_resource::<Pending>()
        && !world.contains_resource::<PolicyHandle>()
        && world.query_filtered::<(), With<Agent>>().iter(world).next().is_some();
    if wanted {
        build(world)?;
    }
    learner::prepare_replay(world)?;
    Ok(())
}

/// What a request is made of; kept from tick to tick.
#[derive(Default)]
struct ActBuffers {
    noise: Vec<f32>,
    exploration: Vec<f32>,
    observations: Vec<f32>,
}

fn append_normal(draws: &mut Vec<f32>, count: usize, source: &mut impl NoiseSource) {
    let start = draws.len();
    draws.resize(start + count, 0.0);
    if let Some(new) = draws.get_mut(start..) {
        source.fill_normal(new);
    }
}

/// One tick of acting: who needs a chunk gets one, in one batch; then everybody takes the next action of theirs.
#[allow(clippy::type_complexity, reason = "a Bevy query")]
fn act(
    policy: Option<Res<PolicyHandle>>,
    settings: Res<ActSettings>,
    schedule: Option<Res<LearnerSchedule>>,
    mut streams: ResMut<RandomStreams>,
    mut state: ResMut<LearnerState>,
    mut agents: Query<(
        &Agent,
        &AgentMode,
        &Episode,
        &Observation,
        &mut ActionChunk,
        &mut Action,
        Option<&mut CandidateSet>,
        Has<Replaying>,
    )>,
    mut buffers: Local<ActBuffers>,
) {
    let Some(policy) = policy else { return };
    let mut acting: Vec<_> = agents
        .iter_mut()
        .filter(|(_, mode, episode, .., replaying)| **mode == AgentMode::Policy && episode.is_active() && !replaying)
        .collect();
    acting.sort_by_key(|(agent, ..)| **agent);
    if acting.is_empty() {
        return;
    }
    let (spec, explores) = policy.with(|learner| (*learner.spec(), learner.explores()));
    // Who acts to learn explores; an evaluation has no learner.
    let learning = schedule.filter(|_| state.phase == LearnPhase::Online);
    let explores = explores && learning.is_some();
    let at_random = learning.is_some_and(|schedule| state.env_steps < schedule.random_steps);
    let candidates = settings.candidates.unwrap_or_else(|| policy.algorithm().candidates()).max(1);
    let per_agent = candidates * spec.chunk_dim();

    let mut waiting = Vec::new();
    let ActBuffers { noise, exploration, observations } = &mut *buffers;
    observations.clear();
    noise.clear();
    exploration.clear();
    for (index, (agent, _, episode, observation, chunk, ..)) in acting.iter_mut().enumerate() {
        let is_used_up = (chunk.cursor + 1) * spec.action_dim > chunk.actions.len();
        if !episode.is_fresh() && !is_used_up {
            continue;
        }
        let mut own = StreamNoise(streams.get(Purpose::Exploration, agent.0));
        if at_random {
            chunk.actions.resize(spec.chunk_dim(), 0.0);
            own.fill_uniform(&mut chunk.actions);
            chunk.actions.iter_mut().for_each(|draw| *draw = 2.0 * *draw - 1.0);
            (chunk.cursor, chunk.q) = (0, 0.0);
            continue;
        }
        waiting.push(index);
        observations.extend_from_slice(observation.values());
        append_normal(noise, per_agent, &mut own);
        if explores {
            append_normal(exploration, spec.chunk_dim(), &mut own);
        }
    }
    if !waiting.is_empty() {
        let request = SelectRequest {
            agents: waiting.len(),
            observations,
            candidates,
            noise,
            exploration: explores.then_some(exploration.as_slice()),
            return_candidates: settings.keep_candidates,
        };
        let selection = match policy.with(|learner| learner.select(&request)) {
            Ok(selection) => selection,
            Err(error) => {
                state.fault.get_or_insert_with(|| LearnFault::new("selection", error.into()));
                return;
            }
        };
        let chunk_dim = spec.chunk_dim();
        for (place, &index) in waiting.iter().enumerate() {
            let Some((_, _, _, _, chunk, _, set, _)) = acting.get_mut(index) else { continue };
            chunk.actions.clear();
            chunk.actions.extend(selection.actions.iter().skip(place * chunk_dim).take(chunk_dim));
            chunk.cursor = 0;
            chunk.q = selection.q.get(place).copied().unwrap_or(f32::NAN);
            if let (Some(set), Some(all)) = (set, &selection.candidates) {
                set.actions.clear();
                set.actions.extend(all.actions.iter().skip(place * per_agent).take(per_agent));
                set.q.clear();
                set.q.extend(all.q.iter().skip(place * candidates).take(candidates));
                set.chosen = selection.index.get(place).map_or(0, |&chosen| chosen as usize);
                set.action_dim = spec.action_dim;
            }
        }
    }
    for (_, _, _, _, chunk, action, ..) in &mut acting {
        if let Some(values) = chunk.next(spec.action_dim) {
            action.set(values);
        }
    }
}
