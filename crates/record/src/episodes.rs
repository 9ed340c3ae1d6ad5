//! Whole episodes of all agents, kept as data.

use std::collections::BTreeMap;

use bevy::{
    app::{App, FixedUpdate, Plugin},
    ecs::prelude::*,
};
use onestep_agent::prelude::*;
use onestep_data::EpisodeData;

/// Keeps every whole episode of every agent in [`RecordedEpisodes`], in the order in which they end.
///
/// It reads only the contract's components, in [`AgentSystems::Record`], so it works for any world. An episode that was
/// under way when the plugin arrived, or that was abandoned, is not kept: what is kept has a first observation, every
/// step, and the true last observation.
#[derive(Debug, Clone, Default)]
pub struct EpisodeRecorderPlugin {
    /// Keep only episodes that end in success. Demonstrations usually want that.
    pub successful_only: bool,
}

impl Plugin for EpisodeRecorderPlugin {
    fn build(&self, app: &mut App) {
        if !app.is_plugin_added::<AgentPlugin>() {
            app.add_plugins(AgentPlugin::default());
        }
        app.init_resource::<RecordedEpisodes>()
            .insert_resource(Recorder { successful_only: self.successful_only, open: BTreeMap::new() })
            .add_systems(FixedUpdate, record_steps.in_set(AgentSystems::Record));
    }
}

/// The episodes that [`EpisodeRecorderPlugin`] has kept so far. Take them out with [`std::mem::take`] to free memory.
#[derive(Resource, Debug, Clone, Default)]
pub struct RecordedEpisodes(pub Vec<EpisodeData>);

#[derive(Resource, Debug)]
struct Recorder {
    successful_only: bool,
    /// Ordered, because two agents may end in the same tick and the result must not depend on chance.
    open: BTreeMap<Agent, OpenEpisode>,
}

/// What is recorded of an agent in each tick.
pub(crate) type Step<'a> =
    (&'a Agent, &'a AgentMode, &'a Episode, &'a Observation, &'a Action, &'a Outcome, &'a NextObservation);

/// An episode while it grows, step by step.
#[derive(Debug, Default)]
pub(crate) struct OpenEpisode {
    index: u64,
    data: EpisodeData,
    by_hand: Vec<bool>,
    last_observation: Vec<f32>,
}

impl OpenEpisode {
    /// Takes in the step that an agent has just made. A step that does not follow from the ones before empties it, and
    /// only the next first step fills it again: what is not whole is not data. Returns whether the episode ended.
    pub(crate) fn push(&mut self, (_, mode, episode, observation, action, outcome, next): Step<'_>) -> bool {
        if *mode == AgentMode::Idle || episode.step == 0 {
            return false;
        }
        if episode.step == 1 {
            *self = Self { index: episode.index, ..Self::default() };
            self.data.seed = episode.seed;
        } else if self.index != episode.index || self.data.len() + 1 != episode.step as usize {
            *self = Self::default();
            return false;
        }
        self.data.observations.extend_from_slice(observation.values());
        self.data.actions.extend_from_slice(action.values());
        self.data.rewards.push(outcome.reward);
        self.data.successes.push(outcome.success);
        self.by_hand.push(*mode == AgentMode::Human);
        self.last_observation.clear();
        self.last_observation.extend_from_slice(next.values());
        self.data.terminated = outcome.terminated;
        self.data.truncated = outcome.truncated;
        outcome.is_end()
    }

    /// Steps so far.
    pub(crate) fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether the goal holds after the last step.
    pub(crate) fn is_success(&self) -> bool {
        self.data.is_success()
    }

    /// The episode so far; one that goes on is cut here. Nothing for an episode without a step.
    pub(crate) fn take(&mut self) -> Option<EpisodeData> {
        let Self { mut data, by_hand, last_observation, .. } = std::mem::take(self);
        if data.is_empty() {
            return None;
        }
        data.observations.extend_from_slice(&last_observation);
        data.truncated |= !data.terminated;
        if by_hand.contains(&true) {
            data.interventions = by_hand;
        }
        Some(data)
    }
}

fn record_steps(mut recorder: ResMut<Recorder>, mut kept: ResMut<RecordedEpisodes>, agents: Query<Step<'_>>) {
    let mut ordered: Vec<_> = agents.iter().collect();
    ordered.sort_by_key(|(agent, ..)| **agent);
    for step in ordered {
        let (agent, .., outcome, _) = step;
        let open = recorder.open.entry(*agent).or_default();
        if open.push(step)
            && let Some(data) = open.take()
            && (outcome.success || !recorder.successful_only)
        {
            kept.0.push(data);
        }
    }
}
