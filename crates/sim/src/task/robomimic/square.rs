//! Square: a square nut onto a square peg. Figures and layout of robosuite's `NutAssemblySquare` (1.5).

use std::f64::consts::{FRAC_PI_2, PI};

use bevy::math::{DQuat, DVec3};
use serde::Deserialize;

use super::{ARM_ACTION, LET_GO, ONE_OBJECT, observe_arm, observe_object, positive};
use crate::SimError;
use crate::expert::{ExpertMemory, Grip, Reach, angle, down, turn_between};
use crate::scene::ArmScene;
use crate::task::{ArenaView, ArmTask, TaskOutcome};

/// When the nut is on its peg.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Goal {
    /// Largest distance from the peg's axis along x and along y.
    tolerance: f64,
    /// The nut's centre is below this height.
    below: f64,
    /// A point of the handle to grasp, in the nut's frame.
    handle: [f64; 3],
}

/// The task Square.
#[derive(Debug, Clone)]
pub struct Square {
    scene: ArmScene,
    nut: usize,
    peg: usize,
    goal: Goal,
}

impl Square {
    /// The task in a scene as TOML text; `file` names it in errors.
    ///
    /// # Errors
    /// [`SimError::Parse`] or [`SimError::Value`].
    pub fn parse(file: &str, text: &str) -> Result<Self, SimError> {
        let scene = ArmScene::parse_for("square", &["nut", "peg"], file, text)?;
        let goal: Goal = scene.goal(file)?;
        positive(file, "tolerance", goal.tolerance)?;
        positive(file, "below", goal.below)?;
        let nut = scene.object("nut").unwrap_or_default();
        let peg = scene.fixture("peg").unwrap_or_default();
        if let Some(place) = scene.fixtures.get(peg).map(|peg| peg.pose.translation) {
            scene.require_reach(file, &format!("fixtures[{peg}].pose"), place)?;
        }
        Ok(Self { scene, nut, peg, goal })
    }
}

benchmark_task!(Square, "square", ONE_OBJECT, ARM_ACTION);

impl ArmTask for Square {
    fn scene(&self) -> &ArmScene {
        &self.scene
    }

    fn observe(&self, view: &ArenaView<'_>, observation: &mut Vec<f32>) {
        observation.clear();
        observe_arm(&view.arm(), observation);
        observe_object(&view.arm(), &view.object(self.nut), observation);
    }

    fn outcome(&self, view: &ArenaView<'_>) -> TaskOutcome {
        let nut = view.object(self.nut).translation;
        let off = (nut - view.fixture(self.peg).translation).abs();
        let on_peg = off.x.max(off.y) < self.goal.tolerance && nut.z < self.goal.below;
        TaskOutcome::sparse(on_peg && nut.distance(view.arm().grip_site) > LET_GO)
    }

    fn expert(&self, view: &ArenaView<'_>, memory: &mut ExpertMemory) -> Option<Vec<f32>> {
        Some(self.plan(view, memory).action(&view.arm()).to_vec())
    }
}

/// Height of the grip site while the nut is carried: the nut passes over the peg.
const CARRY: f64 = 1.02;
/// A finger further closed than this holds no handle.
const EMPTY: f64 = 0.012;
/// The nut's centre may be this far from the peg's axis when it goes down.
const ALIGNED: f64 = 0.003;

const APPROACH: u32 = 0;
const DESCEND: u32 = 1;
const CLOSE: u32 = 2;
const LIFT: u32 = 3;
const ALIGN: u32 = 4;
const INSERT: u32 = 5;
const RELEASE: u32 = 6;

impl Square {
    /// Grasp the handle across, carry the nut over the peg with parallel sides, and let it down.
    fn plan(&self, view: &ArenaView<'_>, memory: &mut ExpertMemory) -> Reach {
        let (arm, nut, clock) = (view.arm(), view.object(self.nut), memory.clock());
        let peg = view.fixture(self.peg).translation;
        let handle = nut.transform_point(DVec3::from(self.goal.handle));
        // The handle has two sides, so half a turn of the hand makes no difference.
        let turn = turn_between(arm.yaw(), angle(nut.rotation * DVec3::X), PI);
        let across = down(arm.yaw() + turn);
        let grasp = handle + DVec3::Z * 0.002;
        let off = (grasp - arm.grip_site).truncate().length();
        let held = arm.fingers[0] > EMPTY && arm.grip_site.distance(grasp) < 0.03;
        // The nut level, with sides along the peg's: the hand turns with the nut as it lies in the grasp.
        let square = DQuat::from_rotation_z(clock.choice) * nut.rotation.inverse() * arm.hand;
        let to_peg = (peg - nut.translation).with_z(0.0);

        clock.steps += 1;
        let next = match clock.phase {
            APPROACH => {
                let above = Reach::new(grasp.with_z(arm.grip_site.z), across, Grip::Open).reached(&arm, 0.008, 0.08);
                (above && arm.grip_site.z > grasp.z + 0.03 && arm.fingers[0] > 0.03).then_some(DESCEND)
            }
            DESCEND if off > 0.025 => Some(APPROACH),
            DESCEND => Reach::new(grasp, across, Grip::Open).reached(&arm, 0.006, 0.12).then_some(CLOSE),
            CLOSE => (clock.steps >= 10).then_some(if held { LIFT } else { APPROACH }),
            LIFT | ALIGN | INSERT if !held => Some(APPROACH),
            LIFT => (arm.grip_site.z > CARRY - 0.03).then_some(ALIGN),
            ALIGN => {
                let turned = Reach::new(arm.grip_site, square, Grip::Close).reached(&arm, 1.0, 0.04);
                (turned && to_peg.length() < ALIGNED && clock.steps > 5).then_some(INSERT)
            }
            // The nut rides on the peg: up again, and another try.
            INSERT if clock.steps > 110 || (nut.rotation * DVec3::Z).z < 0.985 => Some(LIFT),
            INSERT => (nut.translation.z < peg_foot(self.goal.below)).then_some(RELEASE),
            _ => (clock.steps >= 20).then_some(APPROACH),
        };
        if let Some(phase) = next {
            if phase == ALIGN {
                clock.choice = best_yaw(angle(nut.rotation * DVec3::X), arm.yaw());
            }
            clock.enter(phase);
        }

        let site = arm.grip_site;
        match clock.phase {
            APPROACH => Reach::new(grasp + DVec3::Z * 0.08, across, Grip::Open),
            DESCEND => Reach::new(grasp, across, Grip::Open),
            CLOSE => Reach::new(grasp, across, Grip::Close).slowly(0.2),
            LIFT => Reach::new(site.with_z(CARRY + 0.02), down(arm.yaw()), Grip::Close),
            ALIGN => Reach::new((site + to_peg).with_z(CARRY), square, Grip::Close),
            // Down while the hole is over the peg, slowly once it is near; sideways alone while it is not.
            INSERT => {
                let near = nut.translation.z < peg.z + 0.13;
                let down = if to_peg.length() > 0.004 {
                    0.0
                } else if near {
                    0.005
                } else {
                    0.011
                };
                Reach::new(site + 1.5 * to_peg - DVec3::Z * down, square, Grip::Close)
            }
            _ => Reach::new(if clock.steps > 6 { site + DVec3::Z * 0.05 } else { site }, square, Grip::Open),
        }
    }
}

/// The yaw of the nut on its peg to which the hand has to turn least, of the two for which the arm reaches the handle.
/// The last joint is not turned beyond its limit.
fn best_yaw(nut: f64, hand: f64) -> f64 {
    let turn = |yaw: &f64| turn_between(nut, *yaw, 2.0 * PI);
    let possible = |yaw: &f64| (-1.9..3.3).contains(&(hand + turn(yaw)));
    let yaws = [-FRAC_PI_2, PI];
    let least = yaws.into_iter().filter(possible).min_by(|a, b| turn(a).abs().total_cmp(&turn(b).abs()));
    least.unwrap_or(PI)
}

/// Height of the nut at which it is let go: on its peg, before it touches the table.
fn peg_foot(below: f64) -> f64 {
    below - 0.02
}
