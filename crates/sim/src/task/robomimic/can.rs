//! Can: from one bin into its compartment of the other. Figures and layout of robosuite's `PickPlaceCan` (1.5).

use bevy::math::{DVec2, DVec3};
use serde::Deserialize;

use super::{ARM_ACTION, LET_GO, ONE_OBJECT, observe_arm, observe_object};
use crate::SimError;
use crate::expert::{ExpertMemory, Grip, Reach, angle, down, turn_between};
use crate::scene::ArmScene;
use crate::task::{ArenaView, ArmTask, ArmView, TaskOutcome};

/// The compartment that the can belongs into, by its corners.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Goal {
    low: [f64; 3],
    high: [f64; 3],
    /// Where the expert lets go: the arm does not reach the compartment's middle.
    release: [f64; 2],
}

/// The task Can.
#[derive(Debug, Clone)]
pub struct Can {
    scene: ArmScene,
    can: usize,
    low: DVec3,
    high: DVec3,
    release: DVec2,
}

impl Can {
    /// The task in a scene as TOML text; `file` names it in errors.
    ///
    /// # Errors
    /// [`SimError::Parse`] or [`SimError::Value`].
    pub fn parse(file: &str, text: &str) -> Result<Self, SimError> {
        let scene = ArmScene::parse_for("can", &["can"], file, text)?;
        let Goal { low, high, release } = scene.goal(file)?;
        if low.iter().zip(&high).any(|(low, high)| !matches!(low.partial_cmp(high), Some(std::cmp::Ordering::Less))) {
            return Err(SimError::Value {
                file: file.to_owned(),
                field: "goal".to_owned(),
                value: format!("from {low:?} to {high:?}"),
                expected: "each number of `low` must be below its number of `high`".to_owned(),
            });
        }
        let ([x, y], [low_x, low_y, bottom], [high_x, high_y, _]) = (release, low, high);
        if !((low_x..=high_x).contains(&x) && (low_y..=high_y).contains(&y)) {
            return Err(SimError::Value {
                file: file.to_owned(),
                field: "goal.release".to_owned(),
                value: format!("{release:?}"),
                expected: format!("it must lie over the goal, from {low:?} to {high:?}"),
            });
        }
        scene.require_reach(file, "goal.release", DVec3::new(x, y, bottom))?;
        let can = scene.object("can").unwrap_or_default();
        Ok(Self { scene, can, low: low.into(), high: high.into(), release: release.into() })
    }

    /// Whether the can's centre is in its compartment.
    fn in_place(&self, can: DVec3) -> bool {
        can.cmpgt(self.low).all() && can.cmplt(self.high).all()
    }
}

benchmark_task!(Can, "can", ONE_OBJECT, ARM_ACTION);

impl ArmTask for Can {
    fn scene(&self) -> &ArmScene {
        &self.scene
    }

    fn observe(&self, view: &ArenaView<'_>, observation: &mut Vec<f32>) {
        observation.clear();
        observe_arm(&view.arm(), observation);
        observe_object(&view.arm(), &view.object(self.can), observation);
    }

    fn outcome(&self, view: &ArenaView<'_>) -> TaskOutcome {
        let can = view.object(self.can).translation;
        TaskOutcome::sparse(self.in_place(can) && can.distance(view.arm().grip_site) > LET_GO)
    }

    fn expert(&self, view: &ArenaView<'_>, memory: &mut ExpertMemory) -> Option<Vec<f32>> {
        Some(self.plan(view, memory).action(&view.arm()).to_vec())
    }
}

/// Grip site above the centre of a can that stands: the hand passes over the bin's walls.
const GRASP_ABOVE: f64 = 0.016;
/// Height of the grip site on the way.
const CARRY: f64 = 0.98;
/// A finger further closed than this holds no can.
const EMPTY: f64 = 0.018;

const APPROACH: u32 = 0;
const DESCEND: u32 = 1;
const CLOSE: u32 = 2;
const LIFT: u32 = 3;
const CARRY_OVER: u32 = 4;
const LOWER: u32 = 5;
const RELEASE: u32 = 6;
const RETREAT: u32 = 7;

impl Can {
    /// Grasp from above, carry over, let go.
    fn plan(&self, view: &ArenaView<'_>, memory: &mut ExpertMemory) -> Reach {
        let (arm, can, clock) = (view.arm(), view.object(self.can), memory.clock());
        let axis = can.rotation * DVec3::Z;
        let stands = axis.z.abs() > 0.7;
        let grasp = can.translation + DVec3::Z * if stands { GRASP_ABOVE } else { 0.008 };
        // Fingers close across a can that lies; any way on one that stands.
        let yaw = if stands { 0.0 } else { arm.yaw() + turn_between(arm.yaw(), angle(axis), std::f64::consts::PI) };
        let hand = down(yaw);
        let off = (grasp - arm.grip_site).truncate().length();
        let over = self.release.extend(0.0);
        let held = arm.fingers[0] > EMPTY && arm.grip_site.distance(grasp) < 0.045;

        clock.steps += 1;
        let next = match clock.phase {
            APPROACH => {
                let ready = Reach::new(grasp.with_z(arm.grip_site.z), hand, Grip::Open).reached(&arm, 0.01, 0.15);
                (ready && arm.grip_site.z > grasp.z + 0.05 && arm.fingers[0] > 0.034).then_some(DESCEND)
            }
            DESCEND if off > 0.03 => Some(APPROACH),
            DESCEND => Reach::new(grasp, hand, Grip::Open).reached(&arm, 0.008, 0.2).then_some(CLOSE),
            CLOSE => (clock.steps >= 8).then_some(if held { LIFT } else { APPROACH }),
            LIFT | CARRY_OVER | LOWER if !held => Some(APPROACH),
            LIFT => (arm.grip_site.z > CARRY - 0.03).then_some(CARRY_OVER),
            CARRY_OVER => ((over - arm.grip_site).truncate().length() < 0.01).then_some(LOWER),
            LOWER => (can.translation.z < self.low.z + 0.075 || clock.steps > 40).then_some(RELEASE),
            RELEASE => (clock.steps >= 5).then_some(RETREAT),
            // Success ends the episode; who comes here again has missed.
            _ => (clock.steps >= 15).then_some(APPROACH),
        };
        if let Some(phase) = next {
            clock.enter(phase);
        }

        let here = |grip: Grip| Reach::new(arm.grip_site, arm_down(&arm), grip);
        match clock.phase {
            APPROACH => Reach::new(grasp + DVec3::Z * 0.09, hand, Grip::Open),
            DESCEND => Reach::new(grasp, hand, Grip::Open),
            CLOSE => Reach::new(grasp, hand, Grip::Close).slowly(0.2),
            LIFT => Reach { position: arm.grip_site.with_z(CARRY + 0.02), ..here(Grip::Close) },
            CARRY_OVER => Reach { position: over.with_z(CARRY), ..here(Grip::Close) },
            LOWER => Reach { position: over.with_z(arm.grip_site.z - 0.05), ..here(Grip::Close) },
            RELEASE => here(Grip::Open),
            _ => Reach { position: arm.grip_site + DVec3::Z * 0.1, ..here(Grip::Open) },
        }
    }
}

/// The hand as it is, but pointing straight down.
fn arm_down(arm: &ArmView) -> bevy::math::DQuat {
    down(arm.yaw())
}
