use std::collections::VecDeque;

use bevy_ecs::prelude::*;

use crate::{Action, Agent, AgentMode, AgentSpec, NextObservation, Observation, Outcome, Purpose, RandomStreams};

/// An agent's episode: which one, from which seed, how far.
#[derive(Component, Debug, Default, Clone, PartialEq, Eq)]
#[require(EpisodeSums)]
pub struct Episode {
    /// How many episodes this agent has started, minus one.
    pub index: u64,
    /// Seed of the episode's initial state. The same seed gives the same episode for the same actions.
    pub seed: u64,
    /// Control steps done in this episode.
    pub step: u32,
    state: EpisodeState,
    started: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum EpisodeState {
    /// Wants a seed at the next tick.
    #[default]
    Ended,
    /// Got a seed in this tick: the world places the agent now.
    Fresh,
    /// Under way.
    Running,
}

impl Episode {
    /// Whether the episode starts in this tick: in [`AgentSystems::Reset`](crate::AgentSystems::Reset) the world
    /// places the agent from [`Episode::seed`] and writes its first observation.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.state == EpisodeState::Fresh
    }

    /// Whether an episode is under way (or fresh), so that actions and outcomes count.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.state != EpisodeState::Ended
    }

    /// Ends the episode here without an outcome; a new one starts at the next tick.
    pub fn abandon(&mut self) {
        self.state = EpisodeState::Ended;
    }

    /// Starts over as if `started` episodes had begun before, the last from `seed`: used to restore a checkpoint.
    /// In the next tick the agent is placed from `seed`.
    #[must_use]
    pub fn resumed(index: u64, seed: u64) -> Self {
        Self { index, seed, step: 0, state: EpisodeState::Fresh, started: true }
    }

    /// An episode that is over; the next tick starts the one after it. The counterpart of [`Episode::resumed`] for a
    /// checkpoint taken between two episodes.
    #[must_use]
    pub fn ended(index: u64, seed: u64) -> Self {
        Self { index, seed, step: 0, state: EpisodeState::Ended, started: true }
    }

    /// Whether any episode has started yet.
    #[must_use]
    pub fn has_started(&self) -> bool {
        self.started
    }
}

/// Where the seeds of an agent's episodes come from.
#[derive(Component, Debug, Default, Clone, PartialEq, Eq)]
pub enum SeedSource {
    /// The app's stream for [`Purpose::Reset`] of this agent: training.
    #[default]
    Training,
    /// The app's stream for [`Purpose::Demonstration`] of this agent.
    Demonstration,
    /// These seeds, one episode each; then the agent goes [`AgentMode::Idle`]. For evaluation and for replaying.
    List(VecDeque<u64>),
}

/// Why an episode ended, with what it brought. One message per ended episode, in [`AgentSystems::Outcome`](crate::AgentSystems::Outcome).
#[derive(Debug, Clone, PartialEq)]
pub struct EpisodeEnd {
    /// Which agent.
    pub agent: Agent,
    /// Its episode's index.
    pub index: u64,
    /// Its episode's seed.
    pub seed: u64,
    /// Steps it took.
    pub steps: u32,
    /// Undiscounted sum of rewards.
    pub return_sum: f64,
    /// The goal held at the end.
    pub success: bool,
    /// The goal held after at least one step.
    pub success_once: bool,
    /// The task ended it.
    pub terminated: bool,
    /// Time ended it.
    pub truncated: bool,
    /// Steps in which a person acted: an episode with any of them says little about a policy.
    pub human_steps: u32,
}

/// Message: an episode has ended.
#[derive(Message, Debug, Clone, PartialEq)]
pub struct EpisodeFinished(pub EpisodeEnd);

/// Running sums of the episode under way.
#[derive(Component, Debug, Default, Clone, Copy, PartialEq)]
pub struct EpisodeSums {
    /// Undiscounted sum of rewards so far.
    pub return_sum: f64,
    /// The goal held after at least one step so far.
    pub success_once: bool,
    /// Steps in which a person acted so far.
    pub human_steps: u32,
}

/// First in `Reset`: hands out seeds.
pub(crate) fn start_episodes(
    mut streams: ResMut<RandomStreams>,
    mut agents: Query<(&Agent, &mut AgentMode, &mut Episode, &mut SeedSource, &mut EpisodeSums)>,
) {
    // Agents in their own order: the streams are per agent, so order does not matter, but a stable one is easier to follow.
    let mut ordered: Vec<_> = agents.iter_mut().collect();
    ordered.sort_by_key(|(agent, ..)| **agent);
    for (agent, mut mode, mut episode, mut seeds, mut sums) in ordered {
        if *mode == AgentMode::Idle || episode.is_active() {
            continue;
        }
        let seed = match &mut *seeds {
            SeedSource::Training => streams.next_seed(Purpose::Reset, agent.0),
            SeedSource::Demonstration => streams.next_seed(Purpose::Demonstration, agent.0),
            SeedSource::List(list) => {
                let Some(seed) = list.pop_front() else {
                    *mode = AgentMode::Idle;
                    continue;
                };
                seed
            }
        };
        *sums = EpisodeSums::default();
        *episode = Episode {
            index: if episode.started { episode.index + 1 } else { 0 },
            seed,
            step: 0,
            state: EpisodeState::Fresh,
            started: true,
        };
    }
}

/// First in `Observe`: what came out of the last step is what is seen now.
pub(crate) fn carry_observation(mut agents: Query<(&Episode, &AgentMode, &NextObservation, &mut Observation)>) {
    for (episode, mode, next, mut observation) in &mut agents {
        if episode.state == EpisodeState::Running && *mode != AgentMode::Idle {
            observation.set(next.values());
        }
    }
}

/// Before the world steps: actions are in range, whoever wrote them. A number that is not finite becomes zero, so a
/// broken policy cannot break the physics; the learner reports it by its own check.
pub(crate) fn clamp_actions(mut agents: Query<&mut Action>) {
    for mut action in &mut agents {
        if action.values().iter().any(|value| !(-1.0..=1.0).contains(value)) {
            for value in action.values_mut() {
                *value = if value.is_finite() { value.clamp(-1.0, 1.0) } else { 0.0 };
            }
        }
    }
}

/// Last in `Outcome`: the clock, the time limit, and the news of ended episodes.
pub(crate) fn finish_episodes(
    mut finished: MessageWriter<EpisodeFinished>,
    mut agents: Query<(&Agent, &AgentSpec, &AgentMode, &mut Episode, &mut Outcome, &mut EpisodeSums)>,
) {
    let mut ordered: Vec<_> = agents.iter_mut().collect();
    ordered.sort_by_key(|(agent, ..)| **agent);
    for (agent, spec, mode, mut episode, mut outcome, mut sums) in ordered {
        if *mode == AgentMode::Idle || !episode.is_active() {
            continue;
        }
        episode.step += 1;
        episode.state = EpisodeState::Running;
        if episode.step >= spec.max_episode_steps && !outcome.terminated {
            outcome.truncated = true;
        }
        sums.return_sum += f64::from(outcome.reward);
        sums.success_once |= outcome.success;
        sums.human_steps += u32::from(*mode == AgentMode::Human);
        if outcome.is_end() {
            finished.write(EpisodeFinished(EpisodeEnd {
                agent: *agent,
                index: episode.index,
                seed: episode.seed,
                steps: episode.step,
                return_sum: sums.return_sum,
                success: outcome.success,
                success_once: sums.success_once,
                terminated: outcome.terminated,
                truncated: outcome.truncated,
                human_steps: sums.human_steps,
            }));
            episode.state = EpisodeState::Ended;
        }
    }
}

/// First in `Outcome`: yesterday's facts do not linger.
pub(crate) fn clear_outcomes(mut agents: Query<&mut Outcome>) {
    for mut outcome in &mut agents {
        *outcome = Outcome::default();
    }
}
