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

#[derive(Debug)]
struct OpenEpisode {
    index: u64,
    data: EpisodeData,
}

type Step<'a> = (&'a Agent, &'a AgentMode, &'a Episode, &'a Observation, &'a Action, &'a Outcome, &'a NextObservation);

fn record_steps(mut recorder: ResMut<Recorder>, mut kept: ResMut<RecordedEpisodes>, agents: Query<Step<'_>>) {
    let mut ordered: Vec<_> = agents.iter().collect();
    ordered.sort_by_key(|(agent, ..)| **agent);
    for (agent, mode, episode, observation, action, outcome, next) in ordered {
        if *mode == AgentMode::Idle || episode.step == 0 {
            continue;
        }
        if episode.step == 1 {
            let data = EpisodeData {
                observations: Vec::new(),
                actions: Vec::new(),
                rewards: Vec::new(),
                terminated: false,
                truncated: false,
                successes: Vec::new(),
                seed: episode.seed,
            };
            recorder.open.insert(*agent, OpenEpisode { index: episode.index, data });
        }
        let Some(open) = recorder.open.get_mut(agent) else { continue };
        // A step is missing: the episode is not whole, so it is not data.
        if open.index != episode.index || open.data.rewards.len() + 1 != episode.step as usize {
            recorder.open.remove(agent);
            continue;
        }
        open.data.observations.extend_from_slice(observation.values());
        open.data.actions.extend_from_slice(action.values());
        open.data.rewards.push(outcome.reward);
        open.data.successes.push(outcome.success);
        if outcome.is_end()
            && let Some(OpenEpisode { mut data, .. }) = recorder.open.remove(agent)
        {
            data.observations.extend_from_slice(next.values());
            data.terminated = outcome.terminated;
            data.truncated = outcome.truncated;
            if outcome.success || !recorder.successful_only {
                kept.0.push(data);
            }
        }
    }
}
