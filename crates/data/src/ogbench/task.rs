//! What OGBench's single tasks reward, from the states that its files keep.

use std::collections::BTreeMap;

use serde::{Deserialize, de::IgnoredAny};

/// Where the first cube stands in `qpos`: behind six joints of the arm and eight of the gripper.
const CUBES_AT: usize = 14;
/// Numbers of one cube in `qpos`: position and quaternion.
const CUBE_WIDTH: usize = 7;
/// A cube, the drawer and the window are where they belong within this distance, m.
const TOLERANCE: f64 = 0.04;

/// The scenes that are simulated, which know their goals.
const SCENES: [(&str, &str); 7] = [
    ("cube-single", include_str!("../../../../scenes/cube-single.toml")),
    ("cube-double", include_str!("../../../../scenes/cube-double.toml")),
    ("cube-triple", include_str!("../../../../scenes/cube-triple.toml")),
    ("cube-quadruple", include_str!("../../../../scenes/cube-quadruple.toml")),
    ("scene", include_str!("../../../../scenes/scene.toml")),
    ("puzzle-3x3", include_str!("../../../../scenes/puzzle-3x3.toml")),
    ("puzzle-4x4", include_str!("../../../../scenes/puzzle-4x4.toml")),
];
/// Goals of environments that are not simulated, by their names.
const OTHERS: &str = include_str!("goals.toml");

/// A single task of an environment: where its cubes, buttons, drawer and window belong.
///
/// A cube has arrived within 0.04 m of its goal, whatever its orientation; a button is as it shall be in its goal's
/// state; drawer and window within 0.04 m. The reward of a state is the number of parts that are where they belong, less
/// the number of parts.
#[derive(Debug, Clone, PartialEq)]
pub struct OgbenchTask {
    name: String,
    cubes: Vec<[f64; 3]>,
    buttons: Vec<i64>,
    drawer: Option<f64>,
    window: Option<f64>,
}

/// What is read of a scene file here.
#[derive(Deserialize)]
struct Scene {
    default_task: usize,
    drawer: Option<IgnoredAny>,
    window: Option<IgnoredAny>,
    tasks: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    goal: Goal,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Goal {
    cubes: Vec<[f64; 3]>,
    buttons: Vec<i64>,
    drawer: f64,
    window: f64,
}

impl OgbenchTask {
    /// Names that [`OgbenchTask::parse`] understands, for messages.
    pub const NAMES: &str = "cube-single, cube-double, cube-triple, cube-quadruple, cube-octuple, scene, puzzle-3x3, \
                             puzzle-4x4, puzzle-4x5 or puzzle-4x6, followed by -task1 to -task5";

    /// From a name: `cube-double-task4`, or OGBench's own `cube-double-play-singletask-task4-v0`. Without a number it
    /// is the environment's default task. `None` for other names, also for those of goal-conditioned environments
    /// (`cube-double-play-v0`), which have no goal of their own.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (rest, is_long) = match name.strip_suffix("-v0") {
            Some(rest) => (rest, true),
            None => (name, false),
        };
        let (rest, number) = match rest.rsplit_once("-task") {
            Some((rest, number)) => (rest, Some(number.parse::<usize>().ok()?)),
            None => (rest, None),
        };
        let environment = match rest.strip_suffix("-singletask") {
            Some(rest) => rest.strip_suffix("-play").or_else(|| rest.strip_suffix("-noisy")).unwrap_or(rest),
            None if is_long => return None,
            None => rest,
        };
        let scene = scene(environment)?;
        let number = number.unwrap_or(scene.default_task);
        let Entry { goal } = scene.tasks.into_iter().nth(number.checked_sub(1)?)?;
        Some(Self {
            name: format!("{environment}-task{number}"),
            drawer: scene.drawer.map(|_| goal.drawer),
            window: scene.window.map(|_| goal.window),
            cubes: goal.cubes,
            buttons: goal.buttons,
        })
    }

    /// Its name: `cube-double-task2`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Goal of each cube, m, in the benchmark's frame (Z up).
    #[must_use]
    pub fn cubes(&self) -> &[[f64; 3]] {
        &self.cubes
    }

    /// State that each button shall have.
    #[must_use]
    pub fn buttons(&self) -> &[i64] {
        &self.buttons
    }

    /// Position of the drawer, m, where there is one.
    #[must_use]
    pub fn drawer(&self) -> Option<f64> {
        self.drawer
    }

    /// Position of the window, m, where there is one.
    #[must_use]
    pub fn window(&self) -> Option<f64> {
        self.window
    }

    /// Parts that have a goal.
    #[must_use]
    pub fn parts(&self) -> usize {
        self.cubes.len() + self.buttons.len() + usize::from(self.drawer.is_some()) + usize::from(self.window.is_some())
    }

    /// Numbers in a row of the environment's `qpos`: arm and gripper, cubes, buttons, drawer, window.
    #[must_use]
    pub fn qpos_width(&self) -> usize {
        CUBES_AT + CUBE_WIDTH * self.cubes.len() + self.parts() - self.cubes.len()
    }

    /// How many parts are where they belong in a state.
    ///
    /// `qpos` is one row, and so is `buttons`; `None` when they are not as long as the environment's are.
    #[must_use]
    pub fn arrived(&self, qpos: &[f32], buttons: &[i64]) -> Option<usize> {
        if qpos.len() != self.qpos_width() || buttons.len() != self.buttons.len() {
            return None;
        }
        let (_, objects) = qpos.split_at_checked(CUBES_AT)?;
        let (cubes, rest) = objects.split_at_checked(CUBE_WIDTH * self.cubes.len())?;
        let is_there = |(cube, goal): (&[f32], &[f64; 3])| {
            let square: f64 = cube.iter().zip(goal).map(|(at, goal)| (goal - f64::from(*at)).powi(2)).sum();
            square.sqrt() <= TOLERANCE
        };
        let cubes = cubes.chunks_exact(CUBE_WIDTH).zip(&self.cubes).filter(|pair| is_there(*pair)).count();
        let pressed = buttons.iter().zip(&self.buttons).filter(|(state, goal)| state == goal).count();
        // The original compares these in single precision, as they stand in its files.
        let slides = rest.iter().skip(self.buttons.len());
        let slides = slides
            .zip([self.drawer, self.window].into_iter().flatten())
            .filter(|(at, goal)| (*at - *goal as f32).abs() <= TOLERANCE as f32)
            .count();
        Some(cubes + pressed + slides)
    }
}

fn scene(environment: &str) -> Option<Scene> {
    if let Some((_, text)) = SCENES.iter().find(|(name, _)| *name == environment) {
        return toml::from_str(text).ok();
    }
    toml::from_str::<BTreeMap<String, Scene>>(OTHERS).ok()?.remove(environment)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn every_embedded_goal_is_read() {
        let names = SCENES.iter().map(|(name, _)| *name).chain(["cube-octuple", "puzzle-4x5", "puzzle-4x6"]);
        for name in names {
            let task = OgbenchTask::parse(name).unwrap();
            assert!(task.name().starts_with(name) && task.parts() > 0 && OgbenchTask::NAMES.contains(name));
            assert!((1..=5).all(|number| OgbenchTask::parse(&format!("{name}-task{number}")).is_some()));
            assert_eq!(OgbenchTask::parse(&format!("{name}-task6")), None);
        }
        let widths = ["cube-double", "scene", "puzzle-4x4"].map(|name| OgbenchTask::parse(name).unwrap().qpos_width());
        assert_eq!(widths, [28, 25, 30]);
    }
}
