//! The plan oracle: key poses at key times, interpolated, disturbed once, and followed in time.

use bevy::math::DVec3;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use super::{ACTION_DIM, Target, button_top, cube_of, handle, nearest_yaw, positive, slide_of, wrapped};
use crate::manipspace::model::{ManipModel, draw};

/// Usual time between two key poses, seconds.
const SEGMENT: f64 = 0.4;
/// A unit action in metres, radians and the gripper's travel: what the noise is measured in.
const UNITS: [f64; ACTION_DIM] = [0.05, 0.05, 0.05, 0.3, 1.0];
/// Weights of the noise's smoothing over time: a Gaussian of half a sample, cut off at two.
const SMOOTHING: [f64; 3] = [1.0, 0.135_335_283_236_612_7, 0.000_335_462_627_902_511_8];

/// A pose of the hand with the gripper's closure.
#[derive(Debug, Clone, Copy)]
struct Key {
    time: f64,
    position: DVec3,
    yaw: f64,
    grasp: f64,
}

/// A path, one sample for each control step.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    samples: Vec<[f64; ACTION_DIM]>,
    begin: u32,
    done: bool,
}

impl Plan {
    pub(super) fn new(model: &ManipModel, target: &Target, noise: f64, random: &mut ChaCha8Rng) -> Self {
        let last = DVec3::from(draw(random, &model.task().scene().arm_bounds));
        let last_yaw = random.random_range(-std::f64::consts::PI..std::f64::consts::PI);
        let keys = match target {
            Target::Cube { index, position, yaw, grasp } => {
                let cube = cube_of(model, *index);
                let goal = (*position, *yaw);
                cube_keys(model, cube, goal, *grasp, (last, last_yaw), random)
            }
            Target::Button { index, .. } => button_keys(model, button_top(model, *index), (last, last_yaw), random),
            Target::Drawer(_) | Target::Window(_) => slide_keys(model, target, (last, last_yaw), random),
        };
        let mut samples = sampled(&keys, model.task().scene().physics.control_period_secs);
        if noise > 0.0 {
            disturb(&mut samples, noise, random);
        }
        Self { samples, begin: model.steps(), done: false }
    }

    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// The action towards the path's sample of this moment. The benchmark takes the difference of two yaws as it is;
    /// `wrap` takes the short way round.
    pub(super) fn act(&mut self, model: &ManipModel, wrap: bool) -> [f64; ACTION_DIM] {
        let last = self.samples.len().saturating_sub(1);
        let mut index = (model.steps().saturating_sub(self.begin)) as usize;
        if index >= last {
            index = last;
            self.done = true;
        }
        let Some(sample) = self.samples.get(index) else { return [0.0; ACTION_DIM] };
        let [x, y, z] = model.effector().to_array();
        let now = [x, y, z, model.effector_yaw(), model.closure()];
        let mut action = [0.0; ACTION_DIM];
        for (i, value) in action.iter_mut().enumerate() {
            let way = sample[i] - now[i];
            *value = (if wrap && i == 3 { wrapped(way) } else { way }) / UNITS[i];
            *value = value.clamp(-1.0, 1.0);
        }
        action
    }
}

/// Key poses with the times between them, in segments.
struct Course {
    keys: Vec<Key>,
    /// Nominal end.
    time: f64,
}

impl Course {
    fn new(model: &ManipModel, grasp: f64) -> Self {
        let key = Key { time: 0.0, position: model.effector(), yaw: model.effector_yaw(), grasp };
        Self { keys: vec![key], time: 0.0 }
    }

    fn then(&mut self, segments: f64, (position, yaw): (DVec3, f64), grasp: f64) {
        self.time += segments * SEGMENT;
        self.keys.push(Key { time: self.time, position, yaw, grasp });
    }

    /// Moves all times but the first at random by up to a share of a segment.
    fn jittered(mut self, share: f64, random: &mut ChaCha8Rng) -> Vec<Key> {
        for key in self.keys.iter_mut().skip(1) {
            key.time += random.random_range(-1.0..=1.0) * SEGMENT * share;
        }
        self.keys
    }
}

fn above((position, yaw): (DVec3, f64), height: f64) -> (DVec3, f64) {
    (position + DVec3::Z * height, yaw)
}

fn cube_keys(
    model: &ManipModel,
    (cube, cube_yaw): (DVec3, f64),
    (goal, goal_yaw): (DVec3, f64),
    grasp: Option<f64>,
    end: (DVec3, f64),
    random: &mut ChaCha8Rng,
) -> Vec<Key> {
    let effector_yaw = positive(model.effector_yaw());
    let pick_yaw = match grasp {
        Some(yaw) => nearest_yaw(effector_yaw, yaw, 2),
        None => nearest_yaw(effector_yaw, positive(cube_yaw), 4),
    };
    let block = (cube, pick_yaw);
    let pick = above(block, 0.1 + 0.1 * random.random::<f64>());
    let target = (goal, nearest_yaw(positive(pick_yaw), positive(goal_yaw), 4));
    let place = above(target, 0.1 + 0.1 * random.random::<f64>());
    let half = 0.5 * wrapped(place.1 - pick.1);
    let mut midway = (0.5 * (pick.0 + place.0)).with_z(model.effector().z);
    for (axis, [low, high]) in [[-0.1, 0.1], [-0.1, 0.1], [0.0, 0.2]].into_iter().enumerate() {
        midway[axis] += low + (high - low) * random.random::<f64>();
    }
    let mut course = Course::new(model, 0.0);
    course.then(1.0, pick, 0.0);
    course.then(1.5, block, 0.0);
    course.then(1.0, block, 1.0);
    course.then(1.0, pick, 1.0);
    course.then(1.0, (midway, pick.1 + half), 1.0);
    course.then(1.0, place, 1.0);
    course.then(1.5, target, 1.0);
    course.then(1.0, target, 0.0);
    course.then(1.0, place, 0.0);
    course.then(1.0, end, 0.0);
    course.jittered(0.2, random)
}

fn button_keys(model: &ManipModel, top: DVec3, end: (DVec3, f64), random: &mut ChaCha8Rng) -> Vec<Key> {
    // The benchmark takes the button's x for its yaw; any yaw would do.
    let button = (top, top.x);
    let over = above(button, 0.06);
    let way = model.effector().distance(over.0);
    let stays = model.task().scene().is_pressed_alone();
    let mut course = Course::new(model, if stays { 1.0 } else { 0.0 });
    course.then(0.5 + 4.0 * way, over, 1.0);
    course.then(0.8, above(button, -0.025), 1.0);
    course.then(0.8, over, 1.0);
    course.then(1.25, end, if stays { 1.0 } else { 0.0 });
    course.jittered(0.1, random)
}

fn slide_keys(model: &ManipModel, target: &Target, end: (DVec3, f64), random: &mut ChaCha8Rng) -> Vec<Key> {
    let mut course = Course::new(model, 0.0);
    if let Some((slide, position, goal)) = slide_of(model, target) {
        let yaw = nearest_yaw(positive(model.effector_yaw()), positive(slide.handle_yaw), 2);
        let [start, goal] = [position, goal].map(|position| (handle(slide, position), yaw));
        course.then(1.0, above(start, slide.approach), 0.0);
        course.then(0.5, start, 0.0);
        course.then(0.5, start, 1.0);
        course.then(0.5, goal, 1.0);
        course.then(0.5, goal, 0.0);
        course.then(0.5, above(goal, slide.approach), 0.0);
    }
    course.then(1.0, end, 0.0);
    course.jittered(0.1, random)
}

/// The path at each control step up to the last key, linear between keys; turns go the short way.
fn sampled(keys: &[Key], period: f64) -> Vec<[f64; ACTION_DIM]> {
    let end = keys.last().map_or(0.0, |key| key.time);
    let mut samples = Vec::new();
    let mut time = 0.0;
    while time < end {
        let next = keys.iter().position(|key| key.time > time).unwrap_or(keys.len() - 1).max(1);
        if let (Some(a), Some(b)) = (keys.get(next - 1), keys.get(next)) {
            let share = ((time - a.time) / (b.time - a.time)).clamp(0.0, 1.0);
            let [x, y, z] = a.position.lerp(b.position, share).to_array();
            let yaw = wrapped(a.yaw + share * wrapped(b.yaw - a.yaw));
            samples.push([x, y, z, yaw, a.grasp + share * (b.grasp - a.grasp)]);
        }
        time += period;
    }
    samples
}

/// Adds noise that is a little smooth over time.
fn disturb(samples: &mut [[f64; ACTION_DIM]], noise: f64, random: &mut ChaCha8Rng) {
    let raw: Vec<[f64; ACTION_DIM]> = samples
        .iter()
        .map(|_| {
            UNITS.map(|unit| {
                let normal: f64 = StandardNormal.sample(random);
                noise * unit * normal
            })
        })
        .collect();
    let sum: f64 = SMOOTHING[0] + 2.0 * (SMOOTHING[1] + SMOOTHING[2]);
    let last = raw.len() as isize - 1;
    // Beyond its ends the noise is its own mirror image.
    let mirrored = |index: isize| {
        let index = if index < 0 { -1 - index } else { index };
        if index > last { (2 * last + 1 - index).max(0) } else { index }
    };
    for (t, sample) in samples.iter_mut().enumerate() {
        for (i, value) in sample.iter_mut().enumerate() {
            let smooth: f64 = (-2..=2isize)
                .filter_map(|offset| {
                    let weight = SMOOTHING.get(offset.unsigned_abs())?;
                    Some(weight * raw.get(mirrored(t as isize + offset) as usize)?.get(i)?)
                })
                .sum();
            *value += smooth / sum;
        }
    }
}
