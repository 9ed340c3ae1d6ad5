use bevy_app::{App, FixedUpdate, Plugin};
use bevy_ecs::{
    prelude::*,
    schedule::{LogLevel, ScheduleBuildSettings, SingleThreadedExecutor},
};

use crate::{EpisodeFinished, RandomStreams, episode};

/// The order of one control step, in `FixedUpdate`. Each set runs after the one before it.
#[derive(SystemSet, Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AgentSystems {
    /// Before anything else: who takes part in this tick is settled.
    Begin,
    /// Episodes that ended get a seed; the world places fresh agents and writes their first observation.
    Reset,
    /// Observations become final.
    Observe,
    /// Policies, scripts and people write actions.
    Act,
    /// The world moves by one control step.
    Step,
    /// The world writes outcomes and next observations; then episodes are counted and closed.
    Outcome,
    /// Transitions go into the replay.
    Store,
    /// Actor and critic are updated.
    Learn,
    /// Recorders and metrics read; nothing here may change the world.
    Record,
}

/// Who acts first inside [`AgentSystems::Act`]. Each writes only the agents of its own [`AgentMode`](crate::AgentMode),
/// so the order decides nothing; it is fixed to keep runs free of chance.
#[derive(SystemSet, Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ActOrder {
    /// Scripted experts.
    Scripted,
    /// Learned policies.
    Policy,
    /// People.
    Human,
    /// Whoever repeats actions that were taken before; the last word.
    Repeat,
}

/// The places inside a set that belong to this crate, so that a world's own systems need no ordering of their own.
#[derive(SystemSet, Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Edge {
    StartEpisodes,
    CarryObservation,
    ClampActions,
    ClearOutcomes,
    FinishEpisodes,
}

/// Sets up the tick: the ordered [`AgentSystems`], episodes, and the named random streams.
///
/// Every other Onestep plugin needs it, and adds it itself when it is missing.
#[derive(Debug, Clone, Default)]
pub struct AgentPlugin {
    /// Root seed of all random streams.
    pub seed: u64,
}

impl Plugin for AgentPlugin {
    fn build(&self, app: &mut App) {
        app.insert_resource(RandomStreams::new(self.seed));
        app.add_message::<EpisodeFinished>();
        app.edit_schedule(FixedUpdate, |schedule| {
            // Two systems that touch the same data in no fixed order would make runs depend on chance.
            schedule.set_build_settings(ScheduleBuildSettings {
                ambiguity_detection: LogLevel::Error,
                ..ScheduleBuildSettings::default()
            });
            // The sets follow each other anyway; handing each system to another thread would only cost time.
            schedule.set_executor(SingleThreadedExecutor::new());
        });
        app.configure_sets(
            FixedUpdate,
            (
                AgentSystems::Begin,
                Edge::StartEpisodes,
                AgentSystems::Reset,
                Edge::CarryObservation,
                AgentSystems::Observe,
                AgentSystems::Act,
                Edge::ClampActions,
                AgentSystems::Step,
                Edge::ClearOutcomes,
                AgentSystems::Outcome,
                Edge::FinishEpisodes,
                AgentSystems::Store,
                AgentSystems::Learn,
                AgentSystems::Record,
            )
                .chain(),
        );
        app.configure_sets(
            FixedUpdate,
            (ActOrder::Scripted, ActOrder::Policy, ActOrder::Human, ActOrder::Repeat).chain().in_set(AgentSystems::Act),
        );
        app.add_systems(
            FixedUpdate,
            (
                episode::start_episodes.in_set(Edge::StartEpisodes),
                episode::carry_observation.in_set(Edge::CarryObservation),
                episode::clamp_actions.in_set(Edge::ClampActions),
                episode::clear_outcomes.in_set(Edge::ClearOutcomes),
                episode::finish_episodes.in_set(Edge::FinishEpisodes),
            ),
        );
    }
}
