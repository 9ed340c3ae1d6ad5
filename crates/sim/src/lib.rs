//! Robots, controllers, tasks, scripted experts and arenas, simulated by rapier.
//!
//! [`SimPlugin`] puts arenas into a Bevy app; each is one agent of [`onestep_agent`]. [`SimArena`] is the same without
//! any ECS, for benchmarks and tests.
//!
//! Physics runs in the benchmarks' frame (Z up, metres), so that numbers can be compared with the published ones;
//! [`frames`] converts to Bevy's Y-up world at one place.
//!
//! # How near it is to robosuite
//!
//! The arm's masses, motor inertias, friction and torque limits, the operational-space controller and the gripper's
//! servo are robosuite's, so commands have the same effect: within 0.2 mm for the arm and 0.2 mm for a finger at the
//! default 10 physics steps per control step, within 0.1 mm at robosuite's 25. The example `step_response` prints both.
//! What differs:
//!
//! - contacts are rapier's: hard contacts with Coulomb friction instead of MuJoCo's soft ones;
//! - hand and fingers are boxes, and the arm's other links touch nothing;
//! - the fingers are coupled, as in the real gripper; robosuite's are two drives with the same command;
//! - observations are of the moment; robosuite's poses are one physics step old, and its relative ones a control step.

mod arena;
mod arm;
mod arm_scene;
pub mod check;
mod controller;
mod error;
mod expert;
pub mod frames;
mod kinematics;
mod linalg;
mod manipspace;
mod mechanism;
pub mod memory;
mod model;
mod physics;
mod plugin;
mod robot;
pub mod scene;
mod script;
mod shape;
mod task;
#[cfg(feature = "render")]
pub mod visual;

pub use arena::{SimArena, StateRecord};
pub use arm::ArmModel;
pub use controller::ACTION_DIM;
pub use error::SimError;
pub use expert::{ExpertMemory, ExpertNoise, Grip, Reach, down, turn_between};
pub use kinematics::{ArmPose, Chain};
pub use manipspace::{
    Arrangement, Bounds, ButtonScene, CameraPose, Crank, CrankGripper, CrankSpring, CubeReach, CubeScene, MANIP_TASKS,
    ManipModel, ManipReward, ManipScene, ManipState, ManipTask, Oracle, PlayScene, PositionServos, SERVO_JOINTS,
    ServoHome, ServoRobot, SlideScene, SlideState, SuccessTiming, Target, TaskScene,
};
pub use model::{BodyPose, BodyShape, Capsule, Model, PublishedState};
pub use physics::Part;
pub use plugin::{Arena, SimBody, SimFault, SimFaults, SimPlugin, SimSystems};
pub use robot::{ARM_JOINTS, Base, BoxCollider, Controller, Gripper, Hand, Home, Inertial, Link, Robot};
pub use script::Script;
pub use task::{
    ArenaView, ArmTask, ArmView, Can, ControlTask, Lift, LiftScene, Square, Start, Task, TaskOutcome, ToolHang,
    Transport, observe_arm, observe_object, observe_state, task, task_from_file, tasks,
};
