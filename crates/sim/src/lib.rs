//! Robots, controllers, tasks, scripted experts and arenas, simulated by rapier.
//!
//! [`SimPlugin`] puts arenas into a Bevy app; each is one agent of [`onestep_agent`]. [`SimArena`] is the same without
//! any ECS, for benchmarks and tests.
//!
//! Physics runs in the benchmarks' frame (Z up, metres), so that numbers can be compared with the published ones;
//! [`frames`] converts to Bevy's Y-up world at one place.

mod arena;
mod controller;
mod error;
mod expert;
pub mod frames;
mod kinematics;
mod linalg;
mod physics;
mod plugin;
mod robot;
pub mod scene;
mod task;
#[cfg(feature = "render")]
pub mod visual;

pub use arena::{BodyPose, SimArena, StateRecord};
pub use controller::ACTION_DIM;
pub use error::SimError;
pub use expert::{ExpertMemory, ExpertNoise};
pub use kinematics::{ArmPose, Chain};
pub use plugin::{Arena, SimBody, SimFault, SimFaults, SimPlugin, SimSystems};
pub use robot::{ARM_JOINTS, Base, BoxCollider, Controller, Gripper, Hand, Home, Inertial, Link, Robot};
pub use task::{ArenaView, Lift, LiftScene, Start, Task, TaskOutcome, task, tasks};
