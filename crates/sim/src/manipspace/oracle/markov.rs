//! The Markov oracle: decides from the state alone in which phase it is, with proportional control in each.

use bevy::math::DVec3;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{ACTION_DIM, Target, button_top, cube_of, handle, nearest_yaw, slide_of};
use crate::manipspace::model::{ManipModel, draw};

/// Action per metre and per radian.
const POSITION_GAIN: f64 = 5.0;
const YAW_GAIN: f64 = 3.0;
/// The way to a target counts as at least this long, so that the last part of it is done quickly as well.
const SHORTEST: f64 = 0.4;
const OPEN: f64 = -1.0;
const CLOSE: f64 = 1.0;

/// One target's script.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct MarkovScript {
    target: Target,
    last: DVec3,
    last_yaw: f64,
    steps: u32,
    done: bool,
}

/// Where to go, by which turn, with which gripper.
type Wish = (DVec3, f64, f64);

impl MarkovScript {
    pub(super) fn new(model: &ManipModel, target: Target, random: &mut ChaCha8Rng) -> Self {
        let mut bounds = model.task().scene().arm_bounds;
        if matches!(target, Target::Window(_)) {
            // Not through the window.
            bounds.low[2] = bounds.low[2].max(0.3);
        }
        Self {
            target,
            last: draw(random, &bounds).into(),
            last_yaw: random.random_range(-std::f64::consts::PI..std::f64::consts::PI),
            steps: 0,
            done: false,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    pub(super) fn act(&mut self, model: &ManipModel) -> [f64; ACTION_DIM] {
        let (longest, (goal, turn, gripper)) = match self.target {
            Target::Cube { index, position, yaw, .. } => (200, self.move_cube(model, index, position, yaw)),
            Target::Button { index, state } => (100, self.press(model, index, state)),
            Target::Drawer(_) => (75, self.slide(model, 0.18, 0.12, OPEN)),
            Target::Window(_) => (75, self.slide(model, 0.28, 0.06, CLOSE)),
        };
        self.steps += 1;
        if self.steps >= longest {
            self.done = true;
        }
        let way = goal - model.effector();
        let length = way.length();
        let way = if length >= SHORTEST { way } else { way / (length + 1e-6) * SHORTEST };
        let way = way * POSITION_GAIN;
        [way.x, way.y, way.z, turn * YAW_GAIN, gripper].map(|value| value.clamp(-1.0, 1.0))
    }

    /// Up, and to the last pose.
    fn leave(&mut self, model: &ManipModel, over: DVec3, high: f64, gripper: f64) -> Wish {
        let effector = model.effector();
        if self.last.distance(effector) <= 0.04 {
            self.done = true;
        }
        let turn = self.last_yaw - model.effector_yaw();
        let goal = if effector.z > high { self.last } else { over.with_z(2.0 * high) };
        (goal, turn, gripper)
    }

    fn move_cube(&mut self, model: &ManipModel, index: usize, target: DVec3, target_yaw: f64) -> Wish {
        const ABOVE: f64 = 0.18;
        const HIGH: f64 = 0.16;
        let (effector, yaw) = (model.effector(), model.effector_yaw());
        let (block, block_yaw) = cube_of(model, index);
        let block_yaw = nearest_yaw(yaw, block_yaw, 4);
        let target_yaw = nearest_yaw(yaw, target_yaw, 4);
        let contact = model.state().contact;
        let is_high = effector.z > HIGH;
        let over_block = block.truncate().distance(effector.truncate()) <= 0.04;
        let at_block = block.distance(effector) <= 0.02;
        let over_target = target.truncate().distance(block.truncate()) <= 0.04;
        let at_target = target.distance(block) <= 0.02;
        let (to_block, to_target) = (block_yaw - yaw, target_yaw - block_yaw);
        if at_target {
            return if contact >= 0.1 { (target, to_target, OPEN) } else { self.leave(model, block, HIGH, OPEN) };
        }
        if !over_block {
            (block + DVec3::Z * ABOVE, to_block, OPEN)
        } else if !at_block {
            (block, to_block, OPEN)
        } else if contact <= 0.5 {
            (block, to_block, CLOSE)
        } else if !over_target && !is_high {
            (block.with_z(2.0 * ABOVE), to_target, CLOSE)
        } else if !over_target {
            (target + DVec3::Z * ABOVE, to_target, CLOSE)
        } else {
            (target, to_target, CLOSE)
        }
    }

    fn press(&mut self, model: &ManipModel, index: usize, state: u8) -> Wish {
        let top = button_top(model, index);
        let over = top + DVec3::Z * 0.06;
        if model.state().button_states.get(index) == Some(&state) {
            let gripper = if model.task().scene().is_pressed_alone() { CLOSE } else { OPEN };
            return self.leave(model, over, 0.16, gripper);
        }
        if over.truncate().distance(model.effector().truncate()) > 0.04 {
            (over, 0.0, CLOSE)
        } else {
            (top - DVec3::Z * 0.022, 0.0, CLOSE)
        }
    }

    fn slide(&mut self, model: &ManipModel, high: f64, approach: f64, gripper: f64) -> Wish {
        let Some((slide, position, goal)) = slide_of(model, &self.target) else {
            self.done = true;
            return (model.effector(), 0.0, OPEN);
        };
        let (effector, yaw) = (model.effector(), model.effector_yaw());
        let (now, goal) = (handle(slide, position), handle(slide, goal));
        let turn = nearest_yaw(yaw, slide.handle_yaw, 2) - yaw;
        if goal.distance(now) <= 0.01 {
            self.leave(model, now, high, OPEN)
        } else if now.truncate().distance(effector.truncate()) > 0.04 {
            (now + DVec3::Z * approach, turn, OPEN)
        } else if now.distance(effector) > 0.03 {
            (now, turn, OPEN)
        } else {
            (goal, turn, gripper)
        }
    }
}
