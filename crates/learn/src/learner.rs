use std::collections::VecDeque;

use bevy::prelude::*;
use onestep_agent::{
    ActOrder, Action, Agent, AgentMode, AgentPlugin, AgentSystems, Episode, EpisodeSums, NextObservation, Observation,
    Outcome, Purpose, RandomStreams,
};
use onestep_policy::{Phase, PolicyError};
use serde::{Deserialize, Serialize};

use crate::{
    BatchBuffer, LearnError, LearnerMetrics, PolicyHandle, Replay, ReplayCursor, Transition,
    background::BackgroundLearner, compute::ChosenDevice, noise::StreamNoise, policy,
};

/// How many of the last steps are kept for the report of a fault.
const RECENT_STEPS: usize = 50;

/// Stores what agents do in the [`Replay`], and updates actor and critic from it, inside the fixed tick.
///
/// First the offline phase: updates on what the replay already holds (demonstrations), while the agents are held back
/// ([`AgentMode::Idle`]). Then the online phase: agents act, every step is stored, and updates follow.
///
/// It needs a [`PolicyPlugin`](crate::PolicyPlugin) beside it.
#[derive(Debug, Default, Clone)]
pub struct LearnerPlugin {
    /// How much of what, when.
    pub schedule: LearnerSchedule,
}

/// Where updates are made.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Execution {
    /// Inside the tick: it ends when its updates are made. Repeatable to the bit on the CPU.
    #[default]
    Inline,
    /// On a thread of their own, while ticks and frames go on; agents take the newest weights at tick boundaries. Which
    /// update an action comes from depends on the machine, so a run is *not* repeatable to the bit.
    Background,
}

/// How much is stored and how often is learned.
#[derive(Resource, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LearnerSchedule {
    /// Rows of the replay; the oldest are overwritten.
    pub replay_capacity: usize,
    /// Updates on demonstrations alone, before any agent acts.
    pub offline_updates: u64,
    /// Offline updates done in one tick. It decides only how often the world, and so a window, gets its turn.
    pub offline_updates_per_tick: u32,
    /// Control steps of the online phase, all agents together. After them nothing is learned any more.
    pub online_steps: u64,
    /// Online steps with uniformly random actions, before the policy acts: what learning from scratch starts from.
    pub random_steps: u64,
    /// Online steps that are only stored, before the first online update.
    pub start_training: u64,
    /// Updates for each control step of each agent in the online phase (the update-to-data ratio).
    pub updates_per_step: f64,
    /// Where updates are made.
    pub execution: Execution,
}

impl Default for LearnerSchedule {
    fn default() -> Self {
        Self {
            replay_capacity: 100_000,
            offline_updates: 0,
            offline_updates_per_tick: 16,
            online_steps: u64::MAX,
            random_steps: 0,
            start_training: 1_000,
            updates_per_step: 1.0,
            execution: Execution::Inline,
        }
    }
}

impl LearnerSchedule {
    /// Checks the numbers.
    ///
    /// # Errors
    /// [`LearnError::Setting`] with the field's name.
    pub fn validate(&self) -> Result<(), LearnError> {
        if !self.updates_per_step.is_finite() || !(0.0..=1_000.0).contains(&self.updates_per_step) {
            return Err(LearnError::Setting {
                name: "learner.updates_per_step",
                value: self.updates_per_step.to_string(),
                hint: "use a number from 0 to 1000",
            });
        }
        if self.offline_updates_per_tick == 0 {
            return Err(LearnError::Setting {
                name: "learner.offline_updates_per_tick",
                value: "0".to_owned(),
                hint: "at least one update per tick is needed to get anywhere",
            });
        }
        Replay::new(1, 1, self.replay_capacity).map(|_| ())
    }
}

/// Where learning stands.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LearnPhase {
    /// Updates on demonstrations; agents are held back.
    #[default]
    Offline,
    /// Agents act and learn.
    Online,
    /// The planned steps are done; agents act on, nothing is learned.
    Done,
}

/// Counters of a learning run.
#[derive(Resource, Debug, Default)]
pub struct LearnerState {
    /// Offline, online or done.
    pub phase: LearnPhase,
    /// Updates done in both phases.
    pub updates: u64,
    /// Control steps stored in the online phase, all agents together.
    pub env_steps: u64,
    /// Updates that are still owed: a part of one when `updates_per_step` is not a whole number, and in the background
    /// those that the queue had no room for.
    pub(crate) owed_updates: f64,
    /// Set once something went wrong; learning and acting by policy have stopped.
    pub fault: Option<LearnFault>,
}

impl LearnerState {
    /// Updates that should have been made by now and are not even queued; with [`Execution::Background`] it says how far
    /// learning is behind.
    #[must_use]
    pub fn behind(&self) -> u64 {
        self.owed_updates.floor().max(0.0) as u64
    }
}

/// What went wrong, where, and what happened just before.
#[derive(Debug)]
pub struct LearnFault {
    /// What was being done.
    pub place: &'static str,
    /// Why it stopped.
    pub error: LearnError,
    /// The last steps before it, oldest first.
    pub recent: Vec<RecentStep>,
}

impl LearnFault {
    pub(crate) fn new(place: &'static str, error: LearnError) -> Self {
        Self { place, error, recent: Vec::new() }
    }
}

/// One of the last steps, as a fault report shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RecentStep {
    /// Which agent.
    pub agent: u32,
    /// Its episode's seed.
    pub seed: u64,
    /// Step in the episode.
    pub step: u32,
    /// `s_t`.
    pub observation: Vec<f32>,
    /// `a_t`.
    pub action: Vec<f32>,
    /// `r_t`.
    pub reward: f32,
}

#[derive(Resource, Debug, Default)]
struct RecentSteps(VecDeque<RecentStep>);

/// What an agent has done in its episode so far, so that a checkpoint can bring the world back to where it was.
#[derive(Component, Debug, Default, Clone)]
pub(crate) struct ActionLog(pub Vec<f32>);

/// Where in the replay the agent's episode is growing.
#[derive(Component, Debug, Default, Clone)]
pub(crate) struct Growing(pub ReplayCursor);

/// The agent is repeating the actions of an interrupted episode after a checkpoint was loaded. Nothing is stored and
/// nothing is learned until all agents are where they were.
#[derive(Component, Debug, Clone)]
pub struct Replaying {
    pub(crate) actions: Vec<f32>,
    pub(crate) position: usize,
    /// How many of them a person wrote.
    pub(crate) human_steps: u32,
}

impl Replaying {
    fn is_finished(&self) -> bool {
        self.position >= self.actions.len()
    }
}

/// The mode to return to when the agent is released.
#[derive(Component, Debug, Clone, Copy)]
pub(crate) struct HeldBack(pub AgentMode);

impl Plugin for LearnerPlugin {
    fn build(&self, app: &mut App) {
        if !app.is_plugin_added::<AgentPlugin>() {
            app.add_plugins(AgentPlugin::default());
        }
        app.init_resource::<LearnerState>()
            .init_resource::<LearnerMetrics>()
            .init_resource::<RecentSteps>()
            .insert_resource(self.schedule.clone())
            .add_systems(
                FixedUpdate,
                (
                    (equip_agents, gate).chain().in_set(AgentSystems::Begin).after(policy::prepare_in_world),
                    repeat_actions.in_set(ActOrder::Repeat),
                    store.in_set(AgentSystems::Store),
                    (learn, learn_beside).chain().in_set(AgentSystems::Learn),
                ),
            );
    }
}

/// Makes the replay once the agents' spaces are known.
pub(crate) fn prepare_replay(world: &mut World) -> Result<(), LearnError> {
    if world.contains_resource::<Replay>() || !world.contains_resource::<PolicyHandle>() {
        return Ok(());
    }
    let Some(schedule) = world.get_resource::<LearnerSchedule>().cloned() else { return Ok(()) };
    schedule.validate()?;
    let spec = policy::common_spec(world)?;
    world.insert_resource(Replay::new(spec.observation.dim(), spec.action.dim(), schedule.replay_capacity)?);
    Ok(())
}

fn equip_agents(mut commands: Commands, agents: Query<Entity, (With<Agent>, Without<ActionLog>)>) {
    for entity in &agents {
        commands.entity(entity).insert((ActionLog::default(), Growing::default()));
    }
}

/// Settles who takes part in this tick: in the offline phase no policy acts; while some agent still repeats its
/// interrupted episode, the others wait for it.
fn gate(
    mut commands: Commands,
    mut state: ResMut<LearnerState>,
    schedule: Res<LearnerSchedule>,
    mut agents: Query<(Entity, &mut AgentMode, &mut EpisodeSums, Option<&HeldBack>, Option<&Replaying>), With<Agent>>,
) {
    if state.phase == LearnPhase::Offline && state.updates >= schedule.offline_updates {
        state.phase = LearnPhase::Online;
    }
    let is_replaying = agents.iter().any(|(.., replaying)| replaying.is_some_and(|replaying| !replaying.is_finished()));
    let is_offline = state.phase == LearnPhase::Offline;
    for (entity, mut mode, mut sums, held, replaying) in &mut agents {
        match (replaying, held) {
            // Nobody else writes a person's action, so that is the mode to repeat in.
            (Some(replaying), _) if !replaying.is_finished() => *mode = AgentMode::Human,
            (Some(_), _) if is_replaying => *mode = AgentMode::Idle,
            (Some(replaying), held) => {
                // Repeated steps look as if a person had made them.
                sums.human_steps = replaying.human_steps;
                *mode = held.map_or(AgentMode::Policy, |held| held.0);
                commands.entity(entity).remove::<(Replaying, HeldBack)>();
            }
            (None, None) if is_replaying || (is_offline && *mode == AgentMode::Policy) => {
                if *mode != AgentMode::Idle {
                    commands.entity(entity).insert(HeldBack(*mode));
                    *mode = AgentMode::Idle;
                }
            }
            (None, Some(held)) if !is_replaying && !is_offline => {
                *mode = held.0;
                commands.entity(entity).remove::<HeldBack>();
            }
            (None, _) => {}
        }
    }
}

fn repeat_actions(mut agents: Query<(&mut Replaying, &mut Action)>) {
    for (mut replaying, mut action) in &mut agents {
        let dim = action.values().len();
        let start = replaying.position;
        if let Some(values) = replaying.actions.get(start..start + dim) {
            action.set(values);
        }
        replaying.position = start + dim;
    }
}

#[allow(clippy::type_complexity, reason = "a Bevy query")]
fn store(
    replay: Option<ResMut<Replay>>,
    mut state: ResMut<LearnerState>,
    mut recent: ResMut<RecentSteps>,
    schedule: Res<LearnerSchedule>,
    mut agents: Query<
        (&Agent, &AgentMode, &Episode, &Observation, &Action, &NextObservation, &Outcome, &mut ActionLog, &mut Growing),
        Without<Replaying>,
    >,
) {
    let Some(mut replay) = replay else { return };
    if state.fault.is_some() {
        return;
    }
    let mut acted: Vec<_> = agents
        .iter_mut()
        .filter(|(_, mode, episode, .., outcome, _, _)| {
            **mode != AgentMode::Idle && (episode.is_active() || outcome.is_end())
        })
        .collect();
    acted.sort_by_key(|(agent, ..)| **agent);
    for (agent, mode, episode, observation, action, next_observation, outcome, log, growing) in &mut acted {
        if episode.step <= 1 {
            log.0.clear();
            replay.abandon(&mut growing.0);
        }
        log.0.extend_from_slice(action.values());
        if recent.0.len() == RECENT_STEPS {
            recent.0.pop_front();
        }
        recent.0.push_back(RecentStep {
            agent: agent.0,
            seed: episode.seed,
            step: episode.step,
            observation: observation.values().to_vec(),
            action: action.values().to_vec(),
            reward: outcome.reward,
        });
        let transition = Transition {
            observation: observation.values(),
            action: action.values(),
            reward: outcome.reward,
            terminated: outcome.terminated,
            truncated: outcome.truncated,
            next_observation: next_observation.values(),
            intervention: **mode == AgentMode::Human,
        };
        if let Err(error) = replay.push(&mut growing.0, transition) {
            state.fault =
                Some(LearnFault { place: "storing a step", error, recent: recent.0.iter().cloned().collect() });
            return;
        }
        state.env_steps += 1;
        if state.phase != LearnPhase::Done {
            state.owed_updates += schedule.updates_per_step;
        }
    }
}

#[allow(clippy::too_many_arguments, reason = "a Bevy system takes what it needs")]
fn learn(
    policy: Option<Res<PolicyHandle>>,
    replay: Option<Res<Replay>>,
    schedule: Res<LearnerSchedule>,
    mut state: ResMut<LearnerState>,
    mut metrics: ResMut<LearnerMetrics>,
    mut streams: ResMut<RandomStreams>,
    recent: Res<RecentSteps>,
    replaying: Query<(), With<Replaying>>,
    mut buffer: Local<BatchBuffer>,
) {
    let (Some(policy), Some(replay)) = (policy, replay) else { return };
    if state.fault.is_some() || !replaying.is_empty() || schedule.execution != Execution::Inline {
        return;
    }
    if state.phase == LearnPhase::Done {
        return;
    }
    let can_learn = can_learn(&state, &replay, &policy);
    let (phase, updates) = due(&mut state, &schedule, can_learn, 0, u64::MAX);
    for _ in 0..updates {
        let result = update_once(&policy, &replay, &mut streams, &mut buffer, phase);
        if !note(result, &mut state, &mut metrics, &recent) {
            return;
        }
    }
}

/// Whether the online phase has anything to learn from yet: chunks that go on for longer than the episodes have lasted
/// cannot be used. A full replay holds all that it will ever hold.
fn can_learn(state: &LearnerState, replay: &Replay, policy: &PolicyHandle) -> bool {
    state.updates > 0 || replay.is_full() || replay.has_chunk(policy.algorithm().horizon())
}

/// How many updates to begin now, with so many under way and room for so many more.
fn due(
    state: &mut LearnerState,
    schedule: &LearnerSchedule,
    can_learn: bool,
    in_flight: u64,
    room: u64,
) -> (Phase, u64) {
    if state.phase == LearnPhase::Offline {
        let left = schedule.offline_updates.saturating_sub(state.updates + in_flight);
        return (Phase::Offline, left.min(u64::from(schedule.offline_updates_per_tick)).min(room));
    }
    if state.env_steps >= schedule.online_steps {
        state.phase = LearnPhase::Done;
    }
    if state.env_steps < schedule.start_training || !can_learn {
        state.owed_updates = 0.0;
    }
    let whole = state.behind().min(room);
    state.owed_updates -= whole as f64;
    (Phase::Online, whole)
}

/// Counts an update, or keeps what went wrong; returns whether to go on.
fn note(
    result: Result<onestep_policy::Metrics, LearnError>,
    state: &mut LearnerState,
    metrics: &mut LearnerMetrics,
    recent: &RecentSteps,
) -> bool {
    match result {
        Ok(news) => {
            metrics.add(news);
            state.updates += 1;
            true
        }
        Err(error) => {
            let place = if matches!(error, LearnError::Policy(PolicyError::NonFinite { .. })) {
                "an update: a loss is not a number any more"
            } else {
                "an update"
            };
            state.fault.get_or_insert(LearnFault { place, error, recent: recent.0.iter().cloned().collect() });
            false
        }
    }
}

/// As [`learn`], with a worker: takes what is finished, gives it what is due, and never waits.
fn learn_beside(world: &mut World) {
    let is_beside =
        world.get_resource::<LearnerSchedule>().is_some_and(|schedule| schedule.execution == Execution::Background);
    if !is_beside || !world.contains_resource::<Replay>() || !world.contains_resource::<PolicyHandle>() {
        return;
    }
    let is_replaying = world.query_filtered::<(), With<Replaying>>().iter(world).next().is_some();
    if is_replaying || world.resource::<LearnerState>().fault.is_some() {
        return;
    }
    if !world.contains_resource::<BackgroundLearner>()
        && let Err(error) = start_worker(world)
    {
        let recent = world.resource::<RecentSteps>().0.iter().cloned().collect();
        world.resource_mut::<LearnerState>().fault = Some(LearnFault { place: "starting to learn", error, recent });
        return;
    }
    with_worker(world, |worker, learning| learning.serve(worker));
}

fn start_worker(world: &mut World) -> Result<(), LearnError> {
    let policy = world.resource::<PolicyHandle>().clone();
    // Networks that came from elsewhere tell nothing of their device.
    let device = world.get_resource::<ChosenDevice>().map(|chosen| chosen.device.clone()).unwrap_or_default();
    let mut streams = world.get_resource_or_insert_with(|| RandomStreams::new(0));
    let worker = BackgroundLearner::start(&policy, &device, &mut streams)?;
    world.insert_resource(worker);
    Ok(())
}

/// What a tick and a worker share.
struct Learning<'w> {
    policy: &'w PolicyHandle,
    replay: &'w Replay,
    schedule: &'w LearnerSchedule,
    recent: &'w RecentSteps,
    state: &'w mut LearnerState,
    metrics: &'w mut LearnerMetrics,
    streams: &'w mut RandomStreams,
}

impl Learning<'_> {
    fn note(&mut self, result: Result<onestep_policy::Metrics, LearnError>) -> bool {
        note(result, self.state, self.metrics, self.recent)
    }

    /// Takes what is finished, gives what is due, and does not wait.
    fn serve(&mut self, worker: &mut BackgroundLearner) {
        while let Some(result) = worker.try_next() {
            if !self.note(result) {
                return;
            }
        }
        worker.take_over(self.policy);
        self.send_due(worker);
    }

    /// Between two ticks: the offline phase queues its updates inside its ticks.
    fn send_owed(&mut self, worker: &mut BackgroundLearner) {
        if self.state.phase != LearnPhase::Offline && self.state.fault.is_none() {
            self.send_due(worker);
        }
    }

    /// Whether the next tick should wait: the queue is full, or updates are owed that it has no room for.
    fn is_behind(&self, worker: &BackgroundLearner) -> bool {
        self.state.fault.is_none() && (worker.room() == 0 || self.state.behind() > 0)
    }

    /// Queues what is due and fits; returns how many.
    fn send_due(&mut self, worker: &mut BackgroundLearner) -> u64 {
        let can_learn = can_learn(self.state, self.replay, self.policy);
        let (phase, updates) = due(self.state, self.schedule, can_learn, worker.in_flight(), worker.room());
        for _ in 0..updates {
            if let Err(error) = worker.send(self.policy, self.replay, self.streams, phase) {
                self.note(Err(error));
                return 0;
            }
        }
        updates
    }
}

/// Runs `work` with the worker and what it needs; without a worker there is nothing to do, and no answer.
fn with_worker<R>(world: &mut World, work: impl FnOnce(&mut BackgroundLearner, &mut Learning<'_>) -> R) -> Option<R> {
    if !world.contains_resource::<BackgroundLearner>() {
        return None;
    }
    let (Some(mut worker), Some(mut state), Some(mut streams), Some(mut metrics)) = (
        world.remove_resource::<BackgroundLearner>(),
        world.remove_resource::<LearnerState>(),
        world.remove_resource::<RandomStreams>(),
        world.remove_resource::<LearnerMetrics>(),
    ) else {
        return None;
    };
    let mut answer = None;
    if let (Some(policy), Some(replay), Some(schedule), Some(recent)) = (
        world.get_resource::<PolicyHandle>(),
        world.get_resource::<Replay>(),
        world.get_resource::<LearnerSchedule>(),
        world.get_resource::<RecentSteps>(),
    ) {
        let mut learning = Learning {
            policy,
            replay,
            schedule,
            recent,
            state: &mut state,
            metrics: &mut metrics,
            streams: &mut streams,
        };
        answer = Some(work(&mut worker, &mut learning));
    }
    world.insert_resource(worker);
    world.insert_resource(state);
    world.insert_resource(streams);
    world.insert_resource(metrics);
    answer
}

/// For a loop that runs as fast as the machine allows: waits until every update that is owed is queued and the queue has
/// room for another, so that learning in the background is never more than a queue of 32 updates behind. Call it between
/// two ticks; it does nothing with [`Execution::Inline`].
pub fn keep_pace(world: &mut World) {
    with_worker(world, |worker, learning| {
        learning.send_owed(worker);
        while learning.is_behind(worker) {
            let Some(result) = worker.next() else { return };
            learning.note(result);
            learning.send_owed(worker);
        }
    });
}

/// As [`keep_pace`], for a loop that must not wait: takes what is finished, queues what is owed, and returns whether
/// the next tick may come. `false`: try again with the next frame.
pub fn try_keep_pace(world: &mut World) -> bool {
    with_worker(world, |worker, learning| {
        while let Some(result) = worker.try_next() {
            learning.note(result);
        }
        worker.take_over(learning.policy);
        learning.send_owed(worker);
        !learning.is_behind(worker)
    })
    .unwrap_or(true)
}

/// Waits until learning in the background has made every update that is owed, and gives the agents the newest weights:
/// before an evaluation, or at the end. Call it between two ticks; it does nothing with [`Execution::Inline`].
pub fn settle(world: &mut World) {
    finish_updates(world, true, true);
}

/// As [`settle`], for a loop that must not wait: returns whether everything is made. `false`: try again with the next
/// frame, and do not tick meanwhile, or there will be more to make.
pub fn try_settle(world: &mut World) -> bool {
    finish_updates(world, true, false)
}

/// As [`try_settle`], for the updates that are queued alone: what a checkpoint would wait for.
pub fn try_finish(world: &mut World) -> bool {
    finish_updates(world, false, false)
}

/// Makes the updates that are queued, and with `owed` all that are owed. Returns whether all are made; if it `waits`,
/// they are.
pub(crate) fn finish_updates(world: &mut World, owed: bool, waits: bool) -> bool {
    with_worker(world, |worker, learning| {
        loop {
            if owed {
                learning.send_owed(worker);
            }
            let Some(result) = (if waits { worker.next() } else { worker.try_next() }) else { break };
            learning.note(result);
        }
        if worker.in_flight() > 0 {
            return false;
        }
        if learning.state.fault.is_none() {
            // The worker rests: this takes as long as one copy of the weights at most.
            match worker.hand_over() {
                Ok(()) => worker.take_over(learning.policy),
                Err(error) => {
                    learning.note(Err(error));
                }
            }
        }
        true
    })
    .unwrap_or(true)
}

fn update_once(
    policy: &PolicyHandle,
    replay: &Replay,
    streams: &mut RandomStreams,
    buffer: &mut BatchBuffer,
    phase: Phase,
) -> Result<onestep_policy::Metrics, LearnError> {
    let algorithm = policy.algorithm();
    replay.sample(
        buffer,
        algorithm.batch_size(),
        algorithm.horizon(),
        algorithm.discount(),
        streams.get(Purpose::Replay, 0),
    )?;
    let mut noise = StreamNoise(streams.get(Purpose::Update, 0));
    Ok(policy.with(|learner| learner.update(&buffer.as_batch(phase), &mut noise))?)
}
