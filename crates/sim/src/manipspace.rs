//! OGBench's manipulation tasks: a UR5e with a two-finger gripper among cubes, buttons, a drawer and a window.
//!
//! Everything that is a number of the benchmark stands in data: `assets/robots/ur5e.toml` and `scenes/cube-*.toml`,
//! `scene.toml`, `puzzle-*.toml`. `docs/ogbench.md` says what is exact and how near the rest is.

mod gripper;
mod ik;
mod model;
mod oracle;
mod robot;
mod scene;
mod state;
mod task;
mod world;

pub use model::ManipModel;
pub use oracle::{Oracle, Target};
pub use robot::{Crank, CrankGripper, CrankSpring, PositionServos, SERVO_JOINTS, ServoHome, ServoRobot};
pub use scene::{
    Arrangement, Bounds, ButtonScene, CameraPose, CubeReach, CubeScene, ManipScene, PlayScene, SlideScene, TaskScene,
};
pub use state::{ManipState, SlideState};
pub use task::{MANIP_TASKS, ManipReward, ManipTask, SuccessTiming};

pub(crate) use oracle::OracleMemory;
