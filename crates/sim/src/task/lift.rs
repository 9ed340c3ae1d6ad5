//! Lift: one cube on a table, to be lifted by 4 cm. Figures and layout of robosuite's `Lift` (1.5).
//!
//! Two known differences. robosuite computes `gripper_to_cube_pos` from the cube's pose one control step ago; ours is
//! of now. Its contacts are MuJoCo's, ours are rapier's.

use std::path::Path;

use bevy::math::{DQuat, DVec3};
use bevy_rapier3d::rapier::glamx::DPose3;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;

use super::robomimic::{ARM_ACTION, observe_arm, push};
use super::{ArenaView, ArmTask, Start, TaskOutcome};
use crate::SimError;
use crate::arm_scene::joints_near_home;
use crate::expert::{ExpertMemory, GraspLift};
use crate::robot::Robot;
use crate::scene::{self, ArmScene, Fixture, Geometry, Object, PhysicsSettings, RobotPlacement, Shape, Table};

/// The embedded scene.
const SCENE: &str = include_str!("../../../../scenes/lift.toml");

/// The scene file of Lift.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LiftScene {
    /// Must be `lift`.
    pub task: String,
    /// Steps after which an episode is truncated.
    pub max_episode_steps: u32,
    /// Where the robot stands.
    pub robot: RobotPlacement,
    /// The table.
    pub table: Table,
    /// What catches a cube that falls off the table.
    pub floor: Table,
    /// The cube.
    pub cube: Cube,
    /// When the task is solved.
    pub success: LiftSuccess,
    /// How physics is stepped.
    #[serde(default)]
    pub physics: PhysicsSettings,
}

/// The cube of Lift.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cube {
    /// Smallest and largest half extent; each side is drawn for itself.
    pub half_extent: [f64; 2],
    /// Density, kg/m³.
    pub density: f64,
    /// Coefficient of dry friction.
    pub friction: f64,
    /// Largest distance from the table's centre along x and along y.
    pub spread: f64,
    /// Height above the table at reset; the cube falls from there.
    pub drop_height: f64,
}

/// When Lift is solved.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LiftSuccess {
    /// Height of the cube's centre above the table's top.
    pub cube_height: f64,
}

impl LiftScene {
    /// The scene that is built into the library.
    ///
    /// # Errors
    /// Never in a released version: a test parses the embedded file.
    pub fn embedded() -> Result<Self, SimError> {
        Self::parse("lift.toml (embedded)", SCENE)
    }

    /// Reads a scene from a file.
    ///
    /// # Errors
    /// [`SimError::Read`], [`SimError::Parse`] or [`SimError::Value`], with the file and the field.
    pub fn load(path: &Path) -> Result<Self, SimError> {
        Self::parse(&path.display().to_string(), &scene::read(path)?)
    }

    /// Reads a scene from TOML text; `file` names it in errors.
    ///
    /// # Errors
    /// [`SimError::Parse`] or [`SimError::Value`].
    pub fn parse(file: &str, text: &str) -> Result<Self, SimError> {
        let scene: Self = scene::parse(file, text)?;
        let value = |field: &str, value: String, expected: &str| SimError::Value {
            file: file.to_owned(),
            field: field.to_owned(),
            value,
            expected: expected.to_owned(),
        };
        if scene.task != "lift" {
            return Err(value("task", scene.task.clone(), "this reader is for `lift`"));
        }
        if scene.max_episode_steps == 0 {
            return Err(value("max_episode_steps", "0".to_owned(), "an episode needs a step"));
        }
        let [low, high] = scene.cube.half_extent;
        if !(low > 0.0 && low <= high && high.is_finite()) {
            let expected = "two numbers above zero, the smaller first, are needed";
            return Err(value("cube.half_extent", format!("[{low}, {high}]"), expected));
        }
        for (field, number) in [
            ("cube.friction", scene.cube.friction),
            ("cube.spread", scene.cube.spread),
            ("cube.drop_height", scene.cube.drop_height),
        ] {
            if !(number >= 0.0 && number.is_finite()) {
                return Err(value(field, number.to_string(), "it must be zero or more"));
            }
        }
        for (field, number) in
            [("cube.density", scene.cube.density), ("success.cube_height", scene.success.cube_height)]
        {
            if !(number > 0.0 && number.is_finite()) {
                return Err(value(field, number.to_string(), "it must be a number above zero"));
            }
        }
        scene.robot.validate(file, "robot")?;
        scene.table.validate(file, "table")?;
        scene.floor.validate(file, "floor")?;
        scene.physics.validate(file)?;
        Ok(scene)
    }
}

/// The task Lift.
#[derive(Debug, Clone)]
pub struct Lift {
    scene: LiftScene,
    /// The same as far as it is not Lift's own.
    common: ArmScene,
    expert: GraspLift,
}

impl Lift {
    /// The task in a scene.
    #[must_use]
    pub fn new(scene: LiftScene) -> Self {
        let expert = GraspLift::new(scene.table.top() + scene.success.cube_height);
        let floor = Fixture { drawn: false, ..scene.floor.fixture("floor") };
        let common = ArmScene {
            task: scene.task.clone(),
            max_episode_steps: scene.max_episode_steps,
            robots: vec![scene.robot.clone()],
            fixtures: vec![scene.table.fixture("table"), floor],
            objects: Vec::new(),
            goal: toml::Table::new(),
            physics: scene.physics.clone(),
        };
        Self { scene, common, expert }
    }

    /// Its scene.
    #[must_use]
    pub fn scene(&self) -> &LiftScene {
        &self.scene
    }
}

/// Numbers of the observation.
const FIELDS: [(&str, usize); 6] = [
    ("eef_pos", 3),
    ("eef_quat", 4), // x, y, z, w; of the hand's body, not of the grip site
    ("gripper_qpos", 2),
    ("cube_pos", 3),
    ("cube_quat", 4),
    ("gripper_to_cube_pos", 3), // cube minus grip site
];

arm_task!(Lift, "lift", FIELDS, ARM_ACTION);

impl ArmTask for Lift {
    fn scene(&self) -> &ArmScene {
        &self.common
    }

    fn start(&self, robot: &Robot, seed: u64) -> Start {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let cube = &self.scene.cube;
        let joint_positions = joints_near_home(robot, self.scene.robot.joint_noise_std, &mut random);
        let [low, high] = cube.half_extent;
        let mut between = |low: f64, high: f64| low + (high - low) * random.random::<f64>();
        let half_extents = DVec3::new(between(low, high), between(low, high), between(low, high));
        let (x, y) = (between(-cube.spread, cube.spread), between(-cube.spread, cube.spread));
        let yaw = between(0.0, std::f64::consts::TAU);
        let center = DVec3::from(self.scene.table.center);
        let position =
            DVec3::new(center.x + x, center.y + y, self.scene.table.top() + cube.drop_height + half_extents.z);
        let (sin, cos) = libm::sincos(0.5 * yaw);
        let pose = DPose3::from_parts(position, DQuat::from_xyzw(0.0, 0.0, sin, cos));
        let shape = Shape::new(Geometry::Box(half_extents)).of(cube.density, cube.friction);
        let object = Object { shapes: vec![shape], ..Object::new("cube", pose) };
        Start { joint_positions: vec![joint_positions], objects: vec![object], fixtures: self.common.fixtures.clone() }
    }

    fn observe(&self, view: &ArenaView<'_>, observation: &mut Vec<f32>) {
        observation.clear();
        let (arm, cube) = (view.arm(), view.object(0));
        observe_arm(&arm, observation);
        push(observation, &cube.translation.to_array());
        push(observation, &cube.rotation.to_array());
        push(observation, &(cube.translation - arm.grip_site).to_array());
    }

    fn outcome(&self, view: &ArenaView<'_>) -> TaskOutcome {
        let height = view.objects.first().map_or(0.0, |cube| cube.translation.z - self.scene.table.top());
        TaskOutcome::sparse(height > self.scene.success.cube_height)
    }

    fn expert(&self, view: &ArenaView<'_>, memory: &mut ExpertMemory) -> Option<Vec<f32>> {
        Some(self.expert.act(view, memory).to_vec())
    }
}
