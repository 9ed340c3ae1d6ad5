//! Agents that act and learn inside a Bevy robotics simulation.
//!
//! One-step flow policies generate many candidate actions, select the best by a critic, and learn while the simulation
//! runs: no Python, no second process.
//!
//! # From a description to a trained policy
//!
//! [`config::RunConfig`] describes a run, [`run::build_app`] makes an app of it, and [`train::Trainer`] drives it from
//! demonstrations to the last evaluation. The command `onestep` is a thin layer over these.
//!
//! # Embedding
//!
//! The plugins work in an app of your own. This one has an arm that acts by a new, untrained policy and learns from
//! what happens:
//!
//! ```
//! use bevy::prelude::*;
//! use onestep::prelude::*;
//!
//! let mut app = App::new();
//! app.add_plugins(MinimalPlugins).add_plugins(
//!     OnestepPlugins
//!         .set(SimPlugin { task: "lift".to_owned(), arenas: 2, ..default() })
//!         .set(PolicyPlugin {
//!             source: PolicySource::Create {
//!                 algorithm: AlgorithmConfig::Mvp(MvpConfig::small()),
//!                 compute: Compute::Cpu,
//!             },
//!             ..default()
//!         }),
//! );
//! app.finish();
//! app.cleanup();
//! // One control step of every arm, as fast as the machine allows. A windowed app calls `app.run()` instead.
//! onestep::tick(app.world_mut());
//! assert_eq!(app.world().resource::<LearnerState>().env_steps, 2);
//! ```
//!
//! An agent that is not a robot needs [`onestep_agent`] and [`onestep_learn`] alone.

pub mod bench;
pub mod collect;
pub mod config;
mod error;
pub mod events;
pub mod fault;
pub mod folder;
pub mod play;
pub mod replay;
pub mod run;
pub mod throughput;
pub mod train;
#[cfg(feature = "render")]
pub mod window;

use bevy::app::{PluginGroup, PluginGroupBuilder};

pub use error::RunError;
pub use onestep_agent as agent;
pub use onestep_data as data;
pub use onestep_learn as learn;
pub use onestep_policy as policy;
pub use onestep_record as record;
pub use onestep_record::tick;
pub use onestep_sim as sim;
#[cfg(feature = "render")]
pub use onestep_ui as ui;

/// What most apps need, in one `use`.
pub mod prelude {
    #[cfg(feature = "render")]
    pub use crate::OnestepVisualPlugins;
    pub use crate::{
        OnestepPlugins,
        config::RunConfig,
        run::{Role, add_plugins, build_app},
        train::{TrainWatcher, Trainer},
    };
    pub use onestep_agent::prelude::*;
    pub use onestep_learn::{
        AlgorithmConfig, Compute, LearnerPlugin, LearnerSchedule, LearnerState, PolicyHandle, PolicyPlugin,
        PolicySource, Replay,
    };
    pub use onestep_policy::MvpConfig;
    pub use onestep_sim::SimPlugin;
}

/// Agents, arenas, policy and learner. Each plugin can be set, disabled or replaced as in any plugin group.
///
/// | plugin | job |
/// |---|---|
/// | [`AgentPlugin`](onestep_agent::AgentPlugin) | the order of one control step, episodes, named random streams |
/// | [`SimPlugin`](onestep_sim::SimPlugin) | arenas with a robot and a task; disable it for a world of your own |
/// | [`PolicyPlugin`](onestep_learn::PolicyPlugin) | acts for every agent: generate candidates, select the best |
/// | [`LearnerPlugin`](onestep_learn::LearnerPlugin) | stores what happens and updates the networks; disable it to act only |
///
/// It needs Bevy's `MinimalPlugins`, or all of Bevy's plugins.
#[derive(Debug, Default, Clone, Copy)]
pub struct OnestepPlugins;

impl PluginGroup for OnestepPlugins {
    fn build(self) -> PluginGroupBuilder {
        PluginGroupBuilder::start::<Self>()
            .add(onestep_agent::AgentPlugin::default())
            .add(onestep_sim::SimPlugin::default())
            .add(onestep_learn::PolicyPlugin::default())
            .add(onestep_learn::LearnerPlugin::default())
    }
}

/// What makes the arenas visible, for an app that renders.
///
/// | plugin | job |
/// |---|---|
/// | [`SimVisualPlugin`](onestep_sim::visual::SimVisualPlugin) | meshes, materials and lights for arms and scenes |
/// | [`CandidatesPlugin`](onestep_ui::CandidatesPlugin) | draws the candidates of each agent's current chunk, coloured by value |
#[cfg(feature = "render")]
#[derive(Debug, Default, Clone, Copy)]
pub struct OnestepVisualPlugins;

#[cfg(feature = "render")]
impl PluginGroup for OnestepVisualPlugins {
    fn build(self) -> PluginGroupBuilder {
        PluginGroupBuilder::start::<Self>()
            .add(onestep_sim::visual::SimVisualPlugin::default())
            .add(onestep_ui::CandidatesPlugin::default())
    }
}
