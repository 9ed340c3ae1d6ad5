//! The scene file of a task for arms: robots, fixtures, objects, where all of it starts, physics.

use std::path::Path;

use bevy::math::{DQuat, DVec3};
use bevy_rapier3d::rapier::glamx::DPose3;
use rand::{Rng, RngExt};
use rand_distr::{Distribution, StandardNormal};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::SimError;
use crate::robot::{ARM_JOINTS, Robot};
use crate::scene::{self, Fixture, Object, PhysicsSettings, RobotPlacement};
use crate::task::Start;

/// How far from its base a Panda's hand gets, metres.
const REACH: f64 = 0.855;

/// A scene for one arm or more, as a file in TOML describes it. Z up, metres, radians. Unknown fields are refused.
///
/// ```
/// # fn main() -> Result<(), onestep_sim::SimError> {
/// use onestep_sim::scene::ArmScene;
///
/// let scene = ArmScene::parse("mine.toml", r#"
///     task = "mine"
///     max_episode_steps = 100
///
///     [[robots]]
///     base_position = [-0.56, 0.0, 0.912]
///     joint_noise_std = 0.02
///
///     [[objects]]
///     name = "ball"
///     pose = { position = [0.0, 0.1, 0.83] }
///     spread = { x = 0.05, y = 0.05 }
///     shapes = [{ geometry = { ball = 0.02 }, density = 500.0 }]
/// "#)?;
/// assert_eq!(scene.objects.len(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArmScene {
    /// Name of the task that the file is for.
    pub task: String,
    /// Steps after which an episode is truncated.
    pub max_episode_steps: u32,
    /// Where the robots stand. Each takes seven numbers of an action.
    pub robots: Vec<RobotPlacement>,
    /// What stands still.
    #[serde(default)]
    pub fixtures: Vec<Fixture>,
    /// What moves.
    #[serde(default)]
    pub objects: Vec<Object>,
    /// The task's own figures, for [`ArmScene::goal`].
    #[serde(default)]
    pub goal: toml::Table,
    /// How physics is stepped.
    #[serde(default)]
    pub physics: PhysicsSettings,
}

/// How far a body's pose at reset may be from the one in the file. Uniform, each number for itself.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Spread {
    /// Largest distance along x.
    pub x: f64,
    /// Largest distance along y.
    pub y: f64,
    /// Largest turn about `axis`, which is an axis of the world.
    pub turn: f64,
    /// Axis of the turn.
    pub axis: [f64; 3],
}

impl Default for Spread {
    fn default() -> Self {
        Self { x: 0.0, y: 0.0, turn: 0.0, axis: [0.0, 0.0, 1.0] }
    }
}

impl Spread {
    /// A pose near `pose`. Takes three numbers from the stream, whatever the spread.
    pub fn draw(&self, pose: &DPose3, random: &mut impl Rng) -> DPose3 {
        let mut within = |limit: f64| limit * (2.0 * random.random::<f64>() - 1.0);
        let shift = DVec3::new(within(self.x), within(self.y), 0.0);
        let (sin, cos) = libm::sincos(0.5 * within(self.turn));
        let axis = DVec3::from(self.axis).normalize_or(DVec3::Z) * sin;
        let turn = DQuat::from_xyzw(axis.x, axis.y, axis.z, cos);
        DPose3::from_parts(pose.translation + shift, turn * pose.rotation)
    }

    pub(crate) fn validate(&self, file: &str, field: &str) -> Result<(), SimError> {
        for (name, value) in [("x", self.x), ("y", self.y), ("turn", self.turn)] {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(SimError::Value {
                    file: file.to_owned(),
                    field: format!("{field}.{name}"),
                    value: value.to_string(),
                    expected: "it must be zero or more".to_owned(),
                });
            }
        }
        match self.axis.iter().find(|number| !number.is_finite()) {
            Some(number) => Err(SimError::Value {
                file: file.to_owned(),
                field: format!("{field}.axis"),
                value: number.to_string(),
                expected: "it must be made of finite numbers".to_owned(),
            }),
            None => Ok(()),
        }
    }
}

impl ArmScene {
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
        let value = |field: &str, value: &str, expected: &str| SimError::Value {
            file: file.to_owned(),
            field: field.to_owned(),
            value: value.to_owned(),
            expected: expected.to_owned(),
        };
        if scene.max_episode_steps == 0 {
            return Err(value("max_episode_steps", "0", "an episode needs a step"));
        }
        if !(1..=2).contains(&scene.robots.len()) {
            return Err(value("robots", &format!("a list of {}", scene.robots.len()), "one or two are needed"));
        }
        for (i, robot) in scene.robots.iter().enumerate() {
            robot.validate(file, &format!("robots[{i}]"))?;
        }
        for (i, fixture) in scene.fixtures.iter().enumerate() {
            fixture.validate(file, &format!("fixtures[{i}]"))?;
        }
        for (i, object) in scene.objects.iter().enumerate() {
            object.validate(file, &format!("objects[{i}]"))?;
        }
        scene.physics.validate(file)?;
        Ok(scene)
    }

    /// The same, and refuses a file for another task.
    ///
    /// # Errors
    /// As [`ArmScene::parse`]; also when the file names another task, or lacks one of the bodies in `needs`.
    pub fn parse_for(task: &str, needs: &[&str], file: &str, text: &str) -> Result<Self, SimError> {
        let scene = Self::parse(file, text)?;
        let wrong = |field: &str, value: String, expected: String| SimError::Value {
            file: file.to_owned(),
            field: field.to_owned(),
            value,
            expected,
        };
        if scene.task != task {
            return Err(wrong("task", scene.task, format!("this reader is for `{task}`")));
        }
        for name in needs {
            if scene.object(name).is_none() && scene.fixture(name).is_none() {
                let (field, found) = ("objects and fixtures", "without one of that name".to_owned());
                return Err(wrong(field, found, format!("the task needs one with `name = \"{name}\"`")));
            }
        }
        Ok(scene)
    }

    /// The task's own figures, from the table `[goal]`. `file` names the scene in errors.
    ///
    /// # Errors
    /// [`SimError::Parse`], when a field is missing, unknown or of the wrong type.
    pub fn goal<G: DeserializeOwned>(&self, file: &str) -> Result<G, SimError> {
        self.goal.clone().try_into().map_err(|error: toml::de::Error| SimError::Parse {
            what: "scene",
            file: file.to_owned(),
            message: format!("in the table [goal]: {}", error.message()),
        })
    }

    /// Refuses a point of the world that no arm reaches: an expert would be sent there, or a goal could not be met.
    /// `field` names it in the error.
    ///
    /// # Errors
    /// [`SimError::Value`].
    pub fn require_reach(&self, file: &str, field: &str, point: DVec3) -> Result<(), SimError> {
        let distance = |robot: &RobotPlacement| DVec3::from(robot.base_position).distance(point);
        let nearest = self.robots.iter().map(distance).fold(f64::INFINITY, f64::min);
        if nearest <= REACH {
            return Ok(());
        }
        Err(SimError::Value {
            file: file.to_owned(),
            field: field.to_owned(),
            value: format!("{:.3?}", point.to_array()),
            expected: format!("an arm reaches {REACH} m, and the nearest base is {nearest:.3} m away"),
        })
    }

    /// Place of the object of that name in lists of objects.
    #[must_use]
    pub fn object(&self, name: &str) -> Option<usize> {
        self.objects.iter().position(|object| object.name == name)
    }

    /// Place of the fixture of that name in lists of fixtures.
    #[must_use]
    pub fn fixture(&self, name: &str) -> Option<usize> {
        self.fixtures.iter().position(|fixture| fixture.name == name)
    }

    /// An initial state: joints around the robot's home, bodies within their spreads.
    pub fn start(&self, robot: &Robot, random: &mut impl Rng) -> Start {
        let joint_positions =
            self.robots.iter().map(|placement| joints_near_home(robot, placement.joint_noise_std, random)).collect();
        let mut objects = self.objects.clone();
        for object in &mut objects {
            object.pose = object.spread.draw(&object.pose, random);
        }
        let mut fixtures = self.fixtures.clone();
        for fixture in &mut fixtures {
            fixture.pose = fixture.spread.draw(&fixture.pose, random);
        }
        Start { joint_positions, objects, fixtures }
    }
}

/// The home configuration with Gaussian noise, within the joints' limits.
pub(crate) fn joints_near_home(robot: &Robot, noise_std: f64, random: &mut impl Rng) -> [f64; ARM_JOINTS] {
    let mut joint_positions = [0.0; ARM_JOINTS];
    for ((position, home), link) in joint_positions.iter_mut().zip(&robot.home.joint_positions).zip(&robot.links) {
        let noise: f64 = StandardNormal.sample(random);
        *position = (home + noise_std * noise).clamp(link.limits[0], link.limits[1]);
    }
    joint_positions
}
