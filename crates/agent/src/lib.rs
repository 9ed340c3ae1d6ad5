//! The contract between a world and a policy.
//!
//! A world owns bodies and rules; a policy owns networks. They meet only in the components of this crate: a world
//! writes [`Observation`] and [`Outcome`], a policy (or a script, or a person) writes [`Action`]. Nothing here knows
//! robots, physics or neural networks, so an agent in a game of your own uses the same contract.
//!
//! # One fixed tick
//!
//! One run of `FixedUpdate` is one control step of every agent. [`AgentPlugin`] orders it as the sets of
//! [`AgentSystems`]:
//!
//! | set | who fills it | what happens |
//! |---|---|---|
//! | `Begin` | anybody | modes change, agents are held back or released |
//! | `Reset` | the world | agents whose episode ended get a new seed; the world places them and writes the first [`Observation`] |
//! | `Observe` | the world (optional) | what a policy sees is final after this set |
//! | `Act` | policy, script or person | [`Action`] is written, by [`AgentMode`] |
//! | `Step` | the world | physics, or whatever moves |
//! | `Outcome` | the world | [`Outcome`] and [`NextObservation`] are written |
//! | `Store` | learner | the transition goes to the replay |
//! | `Learn` | learner | updates |
//! | `Record` | recorders | files, videos, metrics |
//!
//! # A world in a few lines
//!
//! ```
//! use bevy_app::prelude::*;
//! use bevy_ecs::prelude::*;
//! use onestep_agent::prelude::*;
//!
//! // A point on a line that earns more the closer it is to zero.
//! fn reset(mut agents: Query<(&Episode, &mut Observation)>) {
//!     for (_, mut observation) in agents.iter_mut().filter(|(episode, _)| episode.is_fresh()) {
//!         observation.set(&[1.0]);
//!     }
//! }
//! fn step(mut agents: Query<(&Action, &Observation, &mut NextObservation, &mut Outcome)>) {
//!     for (action, observation, mut next, mut outcome) in &mut agents {
//!         let x = observation.values()[0] + 0.1 * action.values()[0];
//!         next.set(&[x]);
//!         *outcome = Outcome { reward: -x.abs(), ..Outcome::default() };
//!     }
//! }
//!
//! let mut app = App::new();
//! app.add_plugins(AgentPlugin { seed: 7 })
//!     .add_systems(FixedUpdate, (reset.in_set(AgentSystems::Reset), step.in_set(AgentSystems::Outcome)));
//! let spec = AgentSpec::new(ObservationSpace::new([("x", 1)]), ActionSpace::new(["push"]), 50);
//! app.world_mut().spawn(AgentBundle::new(0, spec));
//! app.world_mut().run_schedule(FixedUpdate);
//! assert_eq!(app.world_mut().query::<&Episode>().single(app.world()).unwrap().step, 1);
//! ```

mod episode;
mod plugin;
mod random;
mod space;
mod timing;

pub use episode::{Episode, EpisodeEnd, EpisodeFinished, EpisodeSums, SeedSource};
pub use plugin::{ActOrder, AgentPlugin, AgentSystems};
pub use random::{Purpose, RandomStreams, SavedStreams, derive_seed};
pub use space::{ActionSpace, AgentSpec, Field, ObservationSpace, SpaceError};
pub use timing::{StageTimes, StageTimesPlugin};

use bevy_ecs::prelude::*;

/// Everything a user of the contract needs, in one `use`.
pub mod prelude {
    pub use crate::{
        ActOrder, Action, ActionSpace, Agent, AgentBundle, AgentMode, AgentPlugin, AgentSpec, AgentSystems, Episode,
        EpisodeEnd, EpisodeFinished, NextObservation, Observation, ObservationSpace, Outcome, Purpose, RandomStreams,
        SeedSource,
    };
}

/// Marks an entity that acts. The number names its random streams and its row in a batch, so give each agent its own.
#[derive(Component, Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Agent(pub u32);

/// Who writes an agent's [`Action`].
#[derive(Component, Debug, Default, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AgentMode {
    /// A learned policy.
    #[default]
    Policy,
    /// A scripted expert of the world.
    Scripted,
    /// A person.
    Human,
    /// Nobody: the agent's world stands still and its episode does not advance.
    Idle,
}

macro_rules! vector_component {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Component, Debug, Default, Clone, PartialEq)]
        pub struct $name(Vec<f32>);

        impl $name {
            /// A vector of `len` zeros.
            #[must_use]
            pub fn zeros(len: usize) -> Self {
                Self(vec![0.0; len])
            }

            /// The numbers.
            #[must_use]
            pub fn values(&self) -> &[f32] {
                &self.0
            }

            /// The numbers, to write to.
            pub fn values_mut(&mut self) -> &mut [f32] {
                &mut self.0
            }

            /// Takes over `values`, keeping the allocation.
            pub fn set(&mut self, values: &[f32]) {
                self.0.clear();
                self.0.extend_from_slice(values);
            }
        }
    };
}

vector_component!(
    /// What the agent sees before it acts: `s_t`, laid out as its [`ObservationSpace`] says.
    Observation
);
vector_component!(
    /// What the agent sees after its action: `s_{t+1}`, written in [`AgentSystems::Outcome`].
    ///
    /// At the end of an episode this is the true last observation, before any reset. A learner needs it where an
    /// episode was cut by time, because the value of that state still counts.
    NextObservation
);
vector_component!(
    /// What the agent does in this tick: `a_t`, each number in [-1, 1].
    Action
);

/// What the last action brought. Three different facts end an episode, and they stay three facts up to the files.
#[derive(Component, Debug, Default, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// Reward `r_t` of this step.
    pub reward: f32,
    /// The task itself ended here: no value follows. Bootstrapping stops.
    pub terminated: bool,
    /// The episode was cut from outside (time limit): a value would have followed. Bootstrapping goes on.
    pub truncated: bool,
    /// The task's goal holds in the state after this step.
    pub success: bool,
}

impl Outcome {
    /// Whether the episode ends with this step, for whatever reason.
    #[must_use]
    pub fn is_end(&self) -> bool {
        self.terminated || self.truncated
    }
}

/// All components of one agent.
#[derive(Bundle, Debug, Clone)]
pub struct AgentBundle {
    /// Number of the agent.
    pub agent: Agent,
    /// Spaces and time limit.
    pub spec: AgentSpec,
    /// Who acts.
    pub mode: AgentMode,
    /// Clock and seed.
    pub episode: Episode,
    /// Where the next episodes' seeds come from.
    pub seeds: SeedSource,
    /// Current observation.
    pub observation: Observation,
    /// Observation after the step.
    pub next_observation: NextObservation,
    /// Action.
    pub action: Action,
    /// Outcome.
    pub outcome: Outcome,
}

impl AgentBundle {
    /// An agent with number `agent`, driven by a policy, with training seeds from the app's random streams.
    #[must_use]
    pub fn new(agent: u32, spec: AgentSpec) -> Self {
        Self {
            agent: Agent(agent),
            mode: AgentMode::default(),
            episode: Episode::default(),
            seeds: SeedSource::default(),
            observation: Observation::zeros(spec.observation.dim()),
            next_observation: NextObservation::zeros(spec.observation.dim()),
            action: Action::zeros(spec.action.dim()),
            outcome: Outcome::default(),
            spec,
        }
    }

    /// The same agent, driven by `mode`.
    #[must_use]
    pub fn with_mode(mut self, mode: AgentMode) -> Self {
        self.mode = mode;
        self
    }

    /// The same agent, with its episodes' seeds from `seeds`.
    #[must_use]
    pub fn with_seeds(mut self, seeds: SeedSource) -> Self {
        self.seeds = seeds;
        self
    }
}
