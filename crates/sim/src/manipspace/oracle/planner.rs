//! Which thing to move next: at random in play, towards the goal in a task.

use std::f64::consts::{FRAC_PI_2, TAU};

use bevy::math::{DVec2, DVec3};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{Target, cube_of};
use crate::manipspace::model::{ManipModel, draw, toggles};
use crate::manipspace::scene::SlideScene;

/// A cube nearer to its goal than this stays where it is; the benchmark's limit is 4 cm.
const CLOSE_ENOUGH: f64 = 0.03;
/// The same for drawer and window.
const SLIDE_CLOSE_ENOUGH: f64 = 0.03;
/// Two cubes nearer than this in the plane are in each other's way.
const CLEARANCE: f64 = 0.065;
/// Two cubes nearer than this in the plane stand on each other, if one is higher.
const ON_TOP: f64 = 0.03;
/// A drawer beyond this is open.
const OPEN_DRAWER: f64 = -0.12;

/// A target of play: a top cube to a random place or onto another one, a button, drawer or window.
pub(super) fn random_target(model: &ManipModel, random: &mut ChaCha8Rng, stack_probability: f64) -> Target {
    let (scene, state) = (model.task().scene(), model.state());
    let free: Vec<usize> = (0..state.cubes.len()).filter(|index| !in_drawer(model, cube_of(model, *index).0)).collect();
    let locked = |button: usize| state.button_states.get(button) == Some(&0);
    let weight = |locked: bool| if locked { 0.25 } else { 1.0 };
    // In the order of the benchmark: cube, button, drawer, window.
    let weights = [
        if free.is_empty() { 0.0 } else { 1.0 },
        if state.button_states.is_empty() { 0.0 } else { 1.0 },
        scene.drawer.as_ref().map_or(0.0, |drawer| weight(locked(drawer.locked_by))),
        scene.window.as_ref().map_or(0.0, |window| weight(locked(window.locked_by))),
    ];
    let mut rest = weights.iter().sum::<f64>() * random.random::<f64>();
    let kind = weights.iter().position(|weight| {
        rest -= weight;
        rest < 0.0
    });
    let slide = |index: usize| state.slides.get(state.button_states.len() + index).copied().unwrap_or_default();
    match kind {
        Some(1) => {
            let index = random.random_range(0..state.button_states.len());
            let now = state.button_states.get(index).copied().unwrap_or(0);
            Target::Button { index, state: 1 - now.min(1) }
        }
        Some(2) => {
            let [open, closed] = scene.drawer.as_ref().map_or([0.0; 2], |drawer| drawer.range);
            Target::Drawer(if slide(0).position >= 0.5 * (open + closed) { open } else { closed })
        }
        Some(3) => {
            let index = usize::from(scene.drawer.is_some());
            let [closed, open] = scene.window.as_ref().map_or([0.0; 2], |window| window.range);
            Target::Window(if slide(index).position <= 0.5 * (closed + open) { open } else { closed })
        }
        _ => random_cube_target(model, random, stack_probability, &free),
    }
}

fn random_cube_target(model: &ManipModel, random: &mut ChaCha8Rng, stack: f64, free: &[usize]) -> Target {
    let scene = model.task().scene();
    let top: Vec<usize> = free.iter().copied().filter(|index| is_top(model, *index, 0.02)).collect();
    let index = top.get(random.random_range(0..top.len().max(1))).copied().unwrap_or(0);
    let drawer_is_open = scene.drawer.is_some()
        && model.state().slides.get(model.state().button_states.len()).is_some_and(|s| s.position < OPEN_DRAWER);
    let into_drawer = drawer_is_open && random.random::<f64>() < scene.play.drawer_probability;
    let onto_other = top.len() >= 2 && random.random::<f64>() < stack;
    let mut around = |middle: f64| middle + 0.005 * random.random_range(-1.0..=1.0);
    let position = if into_drawer {
        let [x, y, z] = scene.play.in_drawer;
        DVec3::new(around(x), around(y), z)
    } else if onto_other {
        let others: Vec<usize> = top.iter().copied().filter(|other| *other != index).collect();
        let other = others.get(random.random_range(0..others.len())).copied().unwrap_or(0);
        let height = scene.cubes.as_ref().map_or(0.0, |cubes| 2.0 * cubes.half_extent);
        cube_of(model, other).0 + DVec3::Z * height
    } else {
        let [x, y] = draw(random, &scene.object_bounds);
        DVec3::new(x, y, scene.cubes.as_ref().map_or(0.0, |cubes| cubes.half_extent))
    };
    Target::Cube { index, position, yaw: TAU * random.random::<f64>(), grasp: None }
}

/// The next thing to move towards the goal, or nothing if there is nothing left to do.
pub(super) fn next_target(model: &ManipModel) -> Option<Target> {
    let scene = model.task().scene();
    if let Some(lights_out) = scene.buttons.as_ref().and_then(|buttons| buttons.lights_out) {
        return next_light(model, lights_out);
    }
    next_in_scene(model)
}

/// Nothing stands on the cube.
fn is_top(model: &ManipModel, index: usize, near: f64) -> bool {
    let (position, _) = cube_of(model, index);
    let stands_on =
        |other: &DVec3| other.z > position.z + 0.5 * near && other.truncate().distance(position.truncate()) < near;
    !model.state().cubes.iter().enumerate().any(|(other, cube)| other != index && stands_on(&cube.translation))
}

/// In which places the other cubes are, as seen from one.
fn others(model: &ManipModel, index: usize) -> Vec<DVec3> {
    let cubes = model.state().cubes.iter().enumerate();
    cubes.filter(|(other, _)| *other != index).map(|(_, cube)| cube.translation).collect()
}

fn next_cube(model: &ManipModel) -> Option<Target> {
    let goals: Vec<DVec3> = model.goal().cubes.iter().map(|goal| DVec3::from(*goal)).collect();
    let away = |index: usize, goal: &DVec3| cube_of(model, index).0.distance(*goal) > CLOSE_ENOUGH;
    let wanting: Vec<(usize, DVec3)> =
        goals.iter().copied().enumerate().filter(|(index, goal)| away(*index, goal)).collect();
    // First a cube whose goal is free and whose support stands, the lowest goals first.
    let mut ready: Vec<(usize, DVec3)> = wanting
        .iter()
        .copied()
        .filter(|(index, goal)| is_top(model, *index, ON_TOP) && is_ready(model, *index, *goal, &goals))
        .collect();
    ready.sort_by(|a, b| a.1.z.total_cmp(&b.1.z));
    if let Some((index, goal)) = ready.first() {
        return Some(cube_target(model, *index, *goal));
    }
    // Else one that stands in another one's way, or on one that has to leave, goes aside.
    let blocks = |index: usize| {
        let place = cube_of(model, index).0;
        let in_the_way = |(other, goal): &(usize, DVec3)| {
            let support = cube_of(model, *other).0;
            *other != index
                && (goal.truncate().distance(place.truncate()) < CLEARANCE
                    || support.truncate().distance(place.truncate()) < ON_TOP)
        };
        wanting.iter().any(in_the_way)
    };
    let movable = (0..goals.len()).filter(|index| is_top(model, *index, ON_TOP));
    // A cube that has to move anyway rather than one that is at its goal.
    let index = movable.filter(|index| blocks(*index)).min_by_key(|index| {
        let wants = wanting.iter().any(|(other, _)| other == index);
        (!wants, *index)
    });
    let index =
        index.or_else(|| wanting.iter().map(|(index, _)| *index).find(|index| is_top(model, *index, ON_TOP)))?;
    let aside = place_aside(model, index, &goals)?;
    Some(cube_target(model, index, aside))
}

/// Whether a cube can be put to its goal now.
fn is_ready(model: &ManipModel, index: usize, goal: DVec3, goals: &[DVec3]) -> bool {
    let edge = model.task().scene().cubes.as_ref().map_or(0.04, |cubes| 2.0 * cubes.half_extent);
    let others = others(model, index);
    // What is below is either another cube at its goal, or the table.
    let stands = goal.z < edge
        || goals.iter().enumerate().any(|(other, place)| {
            other != index
                && (place.z + edge - goal.z).abs() < 0.5 * edge
                && place.truncate().distance(goal.truncate()) < ON_TOP
                && cube_of(model, other).0.distance(*place) <= CLOSE_ENOUGH
        });
    let free = others.iter().all(|other| {
        let below = other.z < goal.z - 0.5 * edge;
        let apart = other.truncate().distance(goal.truncate());
        (below && goal.z > edge) || apart > if other.z < goal.z + 0.5 * edge { edge } else { CLEARANCE }
    });
    stands && free
}

/// The cube to a place, with the pair of sides that leaves the fingers most room there and here.
fn cube_target(model: &ManipModel, index: usize, goal: DVec3) -> Target {
    let (position, yaw) = cube_of(model, index);
    let near = others(model, index);
    let room = |place: DVec3, finger_yaw: f64| {
        // The fingers lie along the hand's y axis, which is the world's at right angles to the yaw.
        let along = DVec2::from_angle(finger_yaw + FRAC_PI_2);
        let level = near.iter().filter(|other| (other.z - place.z).abs() < 0.035);
        let hits = level.flat_map(|other| {
            [-1.0, 1.0].map(|side| (place.truncate() + along * (side * 0.05)).distance(other.truncate()))
        });
        hits.fold(0.1, f64::min)
    };
    let effector = model.effector_yaw();
    let best = |place: DVec3, yaw: f64, near_yaw: f64| {
        let candidates = [yaw, yaw + FRAC_PI_2].map(|yaw| {
            let turn = super::nearest_yaw(near_yaw, yaw, 2);
            // Room counts up to what is needed, then the shorter turn.
            (room(place, yaw).min(0.045) - 1e-4 * (turn - near_yaw).abs(), turn)
        });
        if candidates[1].0 > candidates[0].0 { candidates[1].1 } else { candidates[0].1 }
    };
    let grasp = best(position, yaw, effector);
    // Cubes are put down unturned, so that stacks are straight and neighbours have room.
    let place = best(goal, 0.0, grasp);
    Target::Cube { index, position: goal, yaw: place, grasp: Some(grasp) }
}

/// A free place on the table, far from all cubes and goals.
fn place_aside(model: &ManipModel, index: usize, goals: &[DVec3]) -> Option<DVec3> {
    let scene = model.task().scene();
    let height = scene.cubes.as_ref()?.half_extent;
    let from = cube_of(model, index).0;
    let taken: Vec<DVec3> = others(model, index).into_iter().chain(goals.iter().copied()).collect();
    let (low, high) = (scene.object_bounds.low, scene.object_bounds.high);
    let grid = (0..=10).flat_map(|i| (0..=20).map(move |j| (f64::from(i) / 10.0, f64::from(j) / 20.0)));
    let places =
        grid.map(|(u, v)| DVec3::new(low[0] + u * (high[0] - low[0]), low[1] + v * (high[1] - low[1]), height));
    let score = |place: &DVec3| {
        let room = taken.iter().map(|other| other.truncate().distance(place.truncate())).fold(0.15, f64::min);
        room - 0.05 * place.distance(from)
    };
    places.max_by(|a, b| score(a).total_cmp(&score(b)))
}

/// A button that has to be pressed to make the states those of the goal: one of a shortest solution, the nearest first.
fn next_light(model: &ManipModel, [rows, columns]: [usize; 2]) -> Option<Target> {
    let states = &model.state().button_states;
    let wrong: Vec<bool> = states.iter().zip(&model.goal().buttons).map(|(now, goal)| now != goal).collect();
    let presses = shortest_solution(&wrong, rows, columns)?;
    let site = model.effector();
    let distance = |index: &usize| super::button_top(model, *index).distance(site);
    let index = presses.into_iter().min_by(|a, b| distance(a).total_cmp(&distance(b)))?;
    let now = states.get(index).copied().unwrap_or(0);
    Some(Target::Button { index, state: 1 - now.min(1) })
}

/// The fewest presses that toggle exactly the lights that are wrong, if there are any: every choice for the first row
/// determines the rows below it, one after the other.
fn shortest_solution(wrong: &[bool], rows: usize, columns: usize) -> Option<Vec<usize>> {
    let mut best: Option<Vec<usize>> = None;
    for first in 0..1u32 << columns.min(16) {
        let mut lights = wrong.to_vec();
        let mut presses = Vec::new();
        let mut press = |index: usize, lights: &mut Vec<bool>| {
            presses.push(index);
            for toggled in toggles(index, Some([rows, columns])) {
                if let Some(light) = lights.get_mut(toggled) {
                    *light = !*light;
                }
            }
        };
        for column in (0..columns).filter(|column| first >> column & 1 == 1) {
            press(column, &mut lights);
        }
        for index in columns..rows * columns {
            if lights.get(index - columns) == Some(&true) {
                press(index, &mut lights);
            }
        }
        let solved = lights.iter().all(|light| !light);
        if solved && best.as_ref().is_none_or(|best| presses.len() < best.len()) {
            best = Some(presses);
        }
    }
    best
}

/// Whether a point is inside of the drawer.
fn in_drawer(model: &ManipModel, point: DVec3) -> bool {
    let Some(drawer) = &model.task().scene().drawer else { return false };
    let position = model.state().slides.get(model.state().button_states.len()).map_or(0.0, |slide| slide.position);
    let handle = super::handle(drawer, position);
    let (low, high) = (DVec3::new(0.21, handle.y - 0.27, 0.0), DVec3::new(0.45, handle.y - 0.07, 0.15));
    point.cmpge(low).all() && point.cmple(high).all()
}

/// Cubes, drawer, window and buttons in an order that the locks allow. A scene need not have all of them.
fn next_in_scene(model: &ManipModel) -> Option<Target> {
    let (scene, state, goal) = (model.task().scene(), model.state(), model.goal());
    let buttons = state.button_states.len();
    let drawer = scene.drawer.as_ref().zip(state.slides.get(buttons));
    let window = scene.window.as_ref().zip(state.slides.get(buttons + usize::from(drawer.is_some())));
    let press = |index: usize| {
        let now = state.button_states.get(index).copied().unwrap_or(0);
        Target::Button { index, state: 1 - now.min(1) }
    };
    let unlocked = |slide: &SlideScene, target: Target| {
        let is_locked = state.button_states.get(slide.locked_by) == Some(&0);
        if is_locked { press(slide.locked_by) } else { target }
    };
    let cube = match drawer {
        Some((drawer, now)) => next_cube_with_drawer(model, now.position)
            .map(|target| if matches!(target, Target::Drawer(_)) { unlocked(drawer, target) } else { target }),
        None => next_cube(model),
    };
    if cube.is_some() {
        return cube;
    }
    for (slide, target) in [(drawer, Target::Drawer(goal.drawer)), (window, Target::Window(goal.window))] {
        let Some((slide, now)) = slide else { continue };
        let (Target::Drawer(wanted) | Target::Window(wanted)) = target else { continue };
        if (now.position - wanted).abs() > SLIDE_CLOSE_ENOUGH {
            return Some(unlocked(slide, target));
        }
    }
    let wrong = state.button_states.iter().zip(&goal.buttons).position(|(now, goal)| now != goal);
    wrong.map(press)
}

/// The next cube to its goal where that may be the drawer, which has to be open then.
fn next_cube_with_drawer(model: &ManipModel, drawer: f64) -> Option<Target> {
    let scene = model.task().scene();
    for (index, place) in model.goal().cubes.iter().enumerate() {
        let (place, cube) = (DVec3::from(*place), cube_of(model, index).0);
        let belongs_into_drawer = place.y < -0.3;
        if cube.distance(place) <= CLOSE_ENOUGH || (belongs_into_drawer && in_drawer(model, cube) && drawer < -0.03) {
            continue;
        }
        if !belongs_into_drawer {
            return Some(cube_target(model, index, place));
        }
        if cube.distance(place) <= crate::manipspace::model::REACHED && drawer > -0.03 {
            continue;
        }
        if drawer > OPEN_DRAWER {
            return Some(Target::Drawer(-0.16));
        }
        let [x, y, z] = scene.play.in_drawer;
        let yaw = cube_of(model, index).1;
        // Fingers along the drawer's width, so that the housing keeps clear of its front.
        let grasp = super::nearest_yaw(FRAC_PI_2, yaw, 4);
        let target = Target::Cube { index, position: DVec3::new(x, y + 0.02, z), yaw: FRAC_PI_2, grasp: Some(grasp) };
        return Some(target);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lights_go_out_with_the_fewest_presses() {
        for presses in [vec![4], vec![0, 8], vec![0, 1, 5, 7]] {
            let mut wrong = vec![false; 9];
            for index in &presses {
                for toggled in toggles(*index, Some([3, 3])) {
                    wrong[toggled] = !wrong[toggled];
                }
            }
            let mut found = shortest_solution(&wrong, 3, 3).unwrap_or_default();
            found.sort_unstable();
            assert_eq!(found, presses);
        }
        // On 4 x 4 some patterns have no solution at all.
        let mut one = vec![false; 16];
        one[0] = true;
        assert_eq!(shortest_solution(&one, 4, 4), None);
    }
}
