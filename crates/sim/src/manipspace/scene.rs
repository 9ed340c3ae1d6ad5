//! Scene files of the tasks: what stands on the table, where episodes start and where they shall end.

use std::path::Path;

use serde::Deserialize;

use crate::SimError;
use crate::scene::{self, Fixture, PhysicsSettings, Shape};

/// The embedded scenes, by the name of their task.
const SCENES: [(&str, &str); 7] = [
    ("cube-single", include_str!("../../../../scenes/cube-single.toml")),
    ("cube-double", include_str!("../../../../scenes/cube-double.toml")),
    ("cube-triple", include_str!("../../../../scenes/cube-triple.toml")),
    ("cube-quadruple", include_str!("../../../../scenes/cube-quadruple.toml")),
    ("scene", include_str!("../../../../scenes/scene.toml")),
    ("puzzle-3x3", include_str!("../../../../scenes/puzzle-3x3.toml")),
    ("puzzle-4x4", include_str!("../../../../scenes/puzzle-4x4.toml")),
];

/// So far beyond the workspace a cube may belong where there is a drawer, metres.
const DRAWER_SLACK: f64 = 0.1;

/// A scene with its tasks.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManipScene {
    /// Name of the environment.
    pub task: String,
    /// Time limit in control steps.
    pub max_episode_steps: u32,
    /// Number of the task that is meant when none is named, from 1.
    pub default_task: u32,
    /// Where the grip site may be sent.
    pub workspace: Bounds<3>,
    /// Where the grip site starts, and where an expert leaves it.
    pub arm_bounds: Bounds<3>,
    /// Where cubes are strewn in play.
    pub object_bounds: Bounds<2>,
    /// Camera of the pixel observations.
    pub pixels: CameraPose,
    /// The cubes, if there are any.
    #[serde(default)]
    pub cubes: Option<CubeScene>,
    /// The buttons, if there are any.
    #[serde(default)]
    pub buttons: Option<ButtonScene>,
    /// The drawer, if there is one.
    #[serde(default)]
    pub drawer: Option<SlideScene>,
    /// The window, if there is one.
    #[serde(default)]
    pub window: Option<SlideScene>,
    /// What stands still.
    #[serde(default)]
    pub fixtures: Vec<Fixture>,
    /// How play draws its targets.
    #[serde(default)]
    pub play: PlayScene,
    /// How physics is stepped.
    #[serde(default)]
    pub physics: PhysicsSettings,
    /// The tasks, in their order.
    pub tasks: Vec<TaskScene>,
}

/// Lowest and highest corner, metres.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, bound = "[f64; N]: serde::de::DeserializeOwned")]
pub struct Bounds<const N: usize> {
    /// Lowest corner.
    pub low: [f64; N],
    /// Highest corner.
    pub high: [f64; N],
}

impl<const N: usize> Bounds<N> {
    /// Puts a point into the bounds.
    #[must_use]
    pub fn clamp(&self, point: [f64; N]) -> [f64; N] {
        let mut point = point;
        for ((value, low), high) in point.iter_mut().zip(self.low).zip(self.high) {
            *value = value.clamp(low, high);
        }
        point
    }
}

/// A camera as the benchmark places it: it looks along minus the cross product of its two axes.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CameraPose {
    /// Position, metres.
    pub position: [f64; 3],
    /// The picture's right, in the world.
    pub right: [f64; 3],
    /// The picture's up, in the world.
    pub up: [f64; 3],
    /// Vertical field of view, degrees.
    pub field_of_view: f64,
    /// Width and height of the picture.
    pub pixels: [u32; 2],
}

/// Equal cubes.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CubeScene {
    /// Half of an edge.
    pub half_extent: f64,
    /// Density, kg/m³.
    pub density: f64,
    /// Coefficient of dry friction.
    pub friction: f64,
    /// Colour of each cube, `#rrggbb`.
    pub colors: Vec<String>,
    /// Each coordinate on the table is uniform within plus or minus this at reset.
    pub spread: f64,
}

/// Equal push buttons that toggle when they are pressed.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ButtonScene {
    /// Where the buttons' own origins are, in the world.
    pub positions: Vec<[f64; 3]>,
    /// Height of the top of each button over its origin, where an expert presses.
    pub tops: Vec<f64>,
    /// Rows and columns, where a press toggles the four neighbours as well.
    #[serde(default)]
    pub lights_out: Option<[usize; 2]>,
    /// The case of a button, in the frame of its origin.
    pub case: Vec<Shape>,
    /// What moves.
    pub cap: Vec<Shape>,
    /// Lowest position of the cap; the highest is 0.
    pub lowest: f64,
    /// A press counts when the cap passes this position downwards.
    pub pressed_at: f64,
    /// Mass of the cap, kg.
    pub mass: f64,
    /// Stiffness of the spring, N/m.
    pub stiffness: f64,
    /// Position at which the spring is relaxed.
    pub spring_rest: f64,
    /// Viscous friction, N s/m.
    pub damping: f64,
    /// Colours of the cap in state 0 and 1.
    pub colors: [String; 2],
}

/// Something that slides along a line: a drawer, a window.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlideScene {
    /// Where its frame is at position 0, in the world; its axes are the world's.
    pub position: [f64; 3],
    /// Direction of growing positions: one of the world's axes.
    pub axis: [f64; 3],
    /// Lowest and highest position.
    pub range: [f64; 2],
    /// Mass, kg.
    pub mass: f64,
    /// Viscous friction, N s/m.
    pub damping: f64,
    /// Dry friction, N.
    pub friction_loss: f64,
    /// What moves, in its frame.
    pub shapes: Vec<Shape>,
    /// Where an expert holds it, in its frame.
    pub handle: [f64; 3],
    /// Direction of the handle's bar: angle about the vertical.
    pub handle_yaw: f64,
    /// Height over the handle from which an expert comes down.
    pub approach: f64,
    /// The button that locks it while its state is 0.
    pub locked_by: usize,
}

/// How play draws its targets.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlayScene {
    /// The probability that a cube is put on another one is uniform between these, drawn once in an episode.
    pub stack_probability: [f64; 2],
    /// Probability that a cube goes into an open drawer.
    pub drawer_probability: f64,
    /// Middle of the place for a cube in the open drawer.
    pub in_drawer: [f64; 3],
    /// Probability that a step of the Markov oracle is a random one.
    pub random_action_probability: f64,
    /// An episode in which a cube leaves this is no data.
    pub cube_reach: Option<CubeReach>,
}

impl Default for PlayScene {
    fn default() -> Self {
        Self {
            stack_probability: [0.0; 2],
            drawer_probability: 0.0,
            in_drawer: [0.0; 3],
            random_action_probability: 0.1,
            cube_reach: None,
        }
    }
}

/// Where cubes can be seen and grasped.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CubeReach {
    /// Between these along y.
    pub y: [f64; 2],
    /// Below the first of them only at these heights: in the drawer.
    pub in_drawer: [f64; 2],
}

/// A task: where everything is at the start, and where it shall be at the end.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskScene {
    /// What the benchmark calls it.
    pub name: String,
    /// At the start.
    pub init: Arrangement,
    /// At the end.
    pub goal: Arrangement,
}

/// Where everything is.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Arrangement {
    /// Centres of the cubes.
    pub cubes: Vec<[f64; 3]>,
    /// States of the buttons, 0 or 1.
    pub buttons: Vec<u8>,
    /// Position of the drawer.
    pub drawer: f64,
    /// Position of the window.
    pub window: f64,
}

impl ManipScene {
    /// The embedded scene of that name.
    ///
    /// # Errors
    /// [`SimError::UnknownTask`] for another name. The embedded files are parsed by a test.
    pub fn embedded(name: &str) -> Result<Self, SimError> {
        match SCENES.iter().find(|(known, _)| *known == name) {
            Some((name, text)) => Self::parse(&format!("{name}.toml (embedded)"), text),
            None => Err(SimError::UnknownTask {
                name: name.to_owned(),
                known: SCENES.map(|(name, _)| name).join(", "),
                suggestion: None,
            }),
        }
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
        scene.validate(file)?;
        Ok(scene)
    }

    /// Number of cubes.
    #[must_use]
    pub fn cube_count(&self) -> usize {
        self.cubes.as_ref().map_or(0, |cubes| cubes.colors.len())
    }

    /// Number of buttons.
    #[must_use]
    pub fn button_count(&self) -> usize {
        self.buttons.as_ref().map_or(0, |buttons| buttons.positions.len())
    }

    /// Whether there is nothing but buttons to act on: such scenes are played with a closed gripper.
    #[must_use]
    pub fn is_pressed_alone(&self) -> bool {
        self.cubes.is_none() && self.drawer.is_none() && self.window.is_none()
    }

    fn validate(&self, file: &str) -> Result<(), SimError> {
        let wrong = |field: &str, value: String, expected: &str| SimError::Value {
            file: file.to_owned(),
            field: field.to_owned(),
            value,
            expected: expected.to_owned(),
        };
        if self.max_episode_steps == 0 {
            return Err(wrong("max_episode_steps", "0".to_owned(), "an episode needs a step"));
        }
        if self.tasks.is_empty() {
            return Err(wrong("tasks", "empty".to_owned(), "a scene needs a task"));
        }
        if !(1..=self.tasks.len() as u32).contains(&self.default_task) {
            let expected = format!("tasks are numbered from 1 to {}", self.tasks.len());
            return Err(wrong("default_task", self.default_task.to_string(), &expected));
        }
        for (field, low, high) in [
            ("workspace", &self.workspace.low[..], &self.workspace.high[..]),
            ("arm_bounds", &self.arm_bounds.low, &self.arm_bounds.high),
            ("object_bounds", &self.object_bounds.low, &self.object_bounds.high),
        ] {
            if !low.iter().zip(high).all(|(low, high)| low < high && low.is_finite() && high.is_finite()) {
                return Err(wrong(field, format!("{low:?}, {high:?}"), "`low` must lie below `high` along each axis"));
            }
        }
        let camera = &self.pixels;
        let numbers = camera.position.iter().chain(&camera.right).chain(&camera.up);
        if !numbers.clone().all(|number| number.is_finite()) || !(1.0..179.0).contains(&camera.field_of_view) {
            return Err(wrong("pixels", format!("{camera:?}"), "a camera needs finite numbers and a field of view"));
        }
        let positive = |field: &str, number: f64| {
            if number > 0.0 && number.is_finite() {
                return Ok(());
            }
            Err(wrong(field, number.to_string(), "it must be a number above zero"))
        };
        if let Some(cubes) = &self.cubes {
            positive("cubes.half_extent", cubes.half_extent)?;
            positive("cubes.density", cubes.density)?;
            positive("cubes.friction", cubes.friction)?;
            if cubes.colors.is_empty() || !(cubes.spread >= 0.0 && cubes.spread.is_finite()) {
                let value = format!("{} colors, spread {}", cubes.colors.len(), cubes.spread);
                return Err(wrong("cubes", value, "a color for each cube and a spread from zero on are needed"));
            }
            for color in &cubes.colors {
                color_of(file, "cubes.colors", color)?;
            }
        }
        if let Some(buttons) = &self.buttons {
            positive("buttons.mass", buttons.mass)?;
            positive("buttons.damping", buttons.damping)?;
            positive("buttons.stiffness", buttons.stiffness)?;
            if buttons.tops.len() != buttons.positions.len() {
                return Err(wrong("buttons.tops", buttons.tops.len().to_string(), "one for each of `positions`"));
            }
            if let Some([rows, columns]) = buttons.lights_out
                && rows.saturating_mul(columns) != buttons.positions.len()
            {
                let expected = "rows times columns must be the number of buttons";
                return Err(wrong("buttons.lights_out", format!("[{rows}, {columns}]"), expected));
            }
            if !(buttons.lowest < buttons.pressed_at && buttons.pressed_at < 0.0) {
                let expected = "it must lie between `lowest` and 0";
                return Err(wrong("buttons.pressed_at", buttons.pressed_at.to_string(), expected));
            }
            for color in &buttons.colors {
                color_of(file, "buttons.colors", color)?;
            }
            for (i, shape) in buttons.case.iter().chain(&buttons.cap).enumerate() {
                shape.validate(file, &format!("buttons.shapes[{i}]"))?;
            }
        }
        for (name, slide) in [("drawer", &self.drawer), ("window", &self.window)] {
            let Some(slide) = slide else { continue };
            positive(&format!("{name}.mass"), slide.mass)?;
            positive(&format!("{name}.damping"), slide.damping)?;
            let units = slide.axis.iter().filter(|value| value.abs() == 1.0).count();
            let zeros = slide.axis.iter().filter(|value| **value == 0.0).count();
            if (units, zeros) != (1, 2) {
                return Err(wrong(&format!("{name}.axis"), format!("{:?}", slide.axis), "it must be one of the axes"));
            }
            if !(slide.range[0] < slide.range[1] && slide.friction_loss >= 0.0) {
                let expected = "the range must not be empty, nor the friction below zero";
                return Err(wrong(&format!("{name}.range"), format!("{:?}", slide.range), expected));
            }
            if slide.locked_by >= self.button_count() {
                let expected = format!("there are {} buttons, counted from 0", self.button_count());
                return Err(wrong(&format!("{name}.locked_by"), slide.locked_by.to_string(), &expected));
            }
            for (i, shape) in slide.shapes.iter().enumerate() {
                shape.validate(file, &format!("{name}.shapes[{i}]"))?;
            }
        }
        for (i, fixture) in self.fixtures.iter().enumerate() {
            fixture.validate(file, &format!("fixtures[{i}]"))?;
        }
        let [low, high] = self.play.stack_probability;
        if !(0.0 <= low && low <= high && high <= 1.0) {
            let expected = "two probabilities, the smaller first";
            return Err(wrong("play.stack_probability", format!("[{low}, {high}]"), expected));
        }
        for (field, number) in [
            ("play.drawer_probability", self.play.drawer_probability),
            ("play.random_action_probability", self.play.random_action_probability),
        ] {
            if !(0.0..=1.0).contains(&number) {
                return Err(wrong(field, number.to_string(), "a probability lies between 0 and 1"));
            }
        }
        self.physics.validate(file)?;
        for (i, task) in self.tasks.iter().enumerate() {
            for (when, arrangement) in [("init", &task.init), ("goal", &task.goal)] {
                self.validate_arrangement(file, &format!("tasks[{i}].{when}"), arrangement)?;
            }
        }
        Ok(())
    }

    fn validate_arrangement(&self, file: &str, field: &str, arrangement: &Arrangement) -> Result<(), SimError> {
        let wrong = |name: &str, value: String, expected: String| SimError::Value {
            file: file.to_owned(),
            field: format!("{field}.{name}"),
            value,
            expected,
        };
        let (cubes, buttons) = (self.cube_count(), self.button_count());
        if arrangement.cubes.len() != cubes {
            let value = format!("a list of {}", arrangement.cubes.len());
            return Err(wrong("cubes", value, format!("the scene has {cubes} cubes")));
        }
        if arrangement.buttons.len() != buttons || arrangement.buttons.iter().any(|state| *state > 1) {
            let expected = format!("the scene has {buttons} buttons with the states 0 and 1");
            return Err(wrong("buttons", format!("{:?}", arrangement.buttons), expected));
        }
        for cube in &arrangement.cubes {
            // A cube in the closed drawer lies a little beyond what the gripper reaches.
            let slack = if self.drawer.is_some() { DRAWER_SLACK } else { 0.0 };
            let low = self.workspace.low.map(|number| number - slack);
            let high = self.workspace.high.map(|number| number + slack);
            if !cube.iter().zip(low.iter().zip(&high)).all(|(v, (low, high))| (low..=high).contains(&v)) {
                let reason = if slack > 0.0 { ", which is a drawer's depth more than the workspace" } else { "" };
                let expected = format!("it must lie between {low:.3?} and {high:.3?}{reason}");
                return Err(wrong("cubes", format!("{cube:?}"), expected));
            }
        }
        for (name, slide, position) in
            [("drawer", &self.drawer, arrangement.drawer), ("window", &self.window, arrangement.window)]
        {
            let [low, high] = slide.as_ref().map_or([0.0, 0.0], |slide| slide.range);
            if !(low..=high).contains(&position) {
                return Err(wrong(name, position.to_string(), format!("it slides from {low} to {high}")));
            }
        }
        Ok(())
    }
}

/// The colour written as `#rrggbb`.
pub(crate) fn color_of(file: &str, field: &str, text: &str) -> Result<[u8; 3], SimError> {
    let digits = text.strip_prefix('#').filter(|digits| digits.len() == 6);
    match digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()) {
        Some(number) => {
            let [_, red, green, blue] = number.to_be_bytes();
            Ok([red, green, blue])
        }
        None => Err(SimError::Value {
            file: file.to_owned(),
            field: field.to_owned(),
            value: text.to_owned(),
            expected: "a color is written as #rrggbb".to_owned(),
        }),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_scenes_are_valid() {
        for (name, _) in SCENES {
            let scene = ManipScene::embedded(name).unwrap();
            assert_eq!((scene.task.as_str(), scene.tasks.len()), (name, 5));
        }
    }

    #[test]
    fn mistakes_are_named() {
        let good = SCENES[1].1;
        for (from, to, needle) in [
            ("density = 1240.0", "density = -1.0", "cubes.density"),
            ("default_task = 2", "default_task = 6", "default_task"),
            ("spread", "spred", "spred"),
            (
                "cubes = [[0.425, 0.0, 0.02], [0.425, -0.1, 0.02]]",
                "cubes = [[0.425, 0.0, 0.02]]",
                "tasks[0].init.cubes",
            ),
            (
                "cubes = [[0.425, 0.0, 0.02], [0.425, -0.1, 0.02]]",
                "cubes = [[4.0, 0.0, 0.02], [0.4, 0.0, 0.02]]",
                "between [0.250, -0.350, 0.020] and [0.600, 0.350, 0.350]",
            ),
            (
                "cubes = [[0.425, 0.0, 0.02], [0.425, -0.1, 0.02]]",
                "cubes = [[0.65, 0.0, 0.02], [0.4, 0.0, 0.02]]",
                "tasks[0].init.cubes",
            ),
            (
                "init = { cubes = [[0.35, -0.1, 0.02]",
                "init = { cubes = [[0.35, nan, 0.02]",
                "tasks[1].init.cubes[0][1]",
            ),
            ("substeps = 10", "contact_damping_ratio = inf", "physics.contact_damping_ratio"),
            ("low = [0.25, -0.35, 0.02]", "low = [0.85, -0.35, 0.02]", "workspace"),
            ("substeps", "substep", "substep"),
        ] {
            let broken = good.replacen(from, to, 1);
            assert_ne!(broken, good, "{from}");
            let error = ManipScene::parse("mine.toml", &broken).unwrap_err().to_string();
            assert!(error.contains("mine.toml") && error.contains(needle), "{error}");
        }
        assert!(ManipScene::load(Path::new("/no/such-scene.toml")).unwrap_err().to_string().contains("such-scene"));
    }
}
