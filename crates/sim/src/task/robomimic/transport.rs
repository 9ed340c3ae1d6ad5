//! Transport: two arms bring a hammer from a closed bin to another, and take the trash out of that one. Figures and
//! layout of robosuite's `TwoArmTransport` (1.5).

use std::f64::consts::{FRAC_PI_2, PI};

use bevy::math::{DQuat, DVec2, DVec3};
use bevy_rapier3d::rapier::glamx::DPose3;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;

use super::pick::{PICK_PHASES, Pick};
use super::{observe_arm, observe_pose, push};
use crate::SimError;
use crate::expert::{ExpertMemory, Grip, PhaseClock, Reach, angle, down, turn_between};
use crate::physics::Part;
use crate::robot::Robot;
use crate::scene::{ArmScene, Geometry, Object};
use crate::task::{ArenaView, ArmTask, ArmView, Start, TaskOutcome};

/// The task's own figures.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Goal {
    /// Between which factors the hammer's head is larger at reset than in the scene.
    head_scale: [f64; 2],
    /// Where the expert puts the lid.
    lid_aside: [f64; 2],
    /// Where the expert hands the hammer over: the middle of its handle.
    hand_over: [f64; 3],
}

/// The task Transport.
#[derive(Debug, Clone)]
pub struct Transport {
    scene: ArmScene,
    payload: usize,
    trash: usize,
    lid: usize,
    start_bin: usize,
    target_bin: usize,
    trash_bin: usize,
    goal: Goal,
}

impl Transport {
    /// The task in a scene as TOML text; `file` names it in errors.
    ///
    /// # Errors
    /// [`SimError::Parse`] or [`SimError::Value`].
    pub fn parse(file: &str, text: &str) -> Result<Self, SimError> {
        let needs = ["payload", "trash", "lid", "start-bin", "target-bin", "trash-bin"];
        let scene = ArmScene::parse_for("transport", &needs, file, text)?;
        let goal: Goal = scene.goal(file)?;
        let wrong = |field: &str, value: String, expected: &str| SimError::Value {
            file: file.to_owned(),
            field: field.to_owned(),
            value,
            expected: expected.to_owned(),
        };
        let [low, high] = goal.head_scale;
        if !(low > 0.0 && low <= high && high.is_finite()) {
            let expected = "two numbers above zero, the smaller first, are needed";
            return Err(wrong("goal.head_scale", format!("[{low}, {high}]"), expected));
        }
        if scene.robots.len() != 2 {
            return Err(wrong("robots", format!("a list of {}", scene.robots.len()), "two arms are needed"));
        }
        let object = |name: &str| scene.object(name).unwrap_or_default();
        let fixture = |name: &str| scene.fixture(name).unwrap_or_default();
        let lid_height = scene.objects.get(object("lid")).map_or(0.0, |lid| lid.pose.translation.z);
        let [x, y] = goal.lid_aside;
        scene.require_reach(file, "goal.lid_aside", DVec3::new(x, y, lid_height))?;
        // One arm brings the hammer there, and the other one fetches it.
        for robot in &scene.robots {
            let alone = ArmScene { robots: vec![robot.clone()], ..scene.clone() };
            alone.require_reach(file, "goal.hand_over", goal.hand_over.into())?;
        }
        for name in ["target-bin", "trash-bin"] {
            let index = fixture(name);
            if let Some(bin) = scene.fixtures.get(index) {
                scene.require_reach(file, &format!("fixtures[{index}].pose"), bin.pose.translation)?;
            }
        }
        Ok(Self {
            payload: object("payload"),
            trash: object("trash"),
            lid: object("lid"),
            start_bin: fixture("start-bin"),
            target_bin: fixture("target-bin"),
            trash_bin: fixture("trash-bin"),
            goal,
            scene,
        })
    }

    /// Whether the hammer lies in its bin: whether it touches the floor of it.
    fn payload_in_place(&self, view: &ArenaView<'_>) -> bool {
        view.touching(Part::Object(self.payload), Part::FixtureShape(self.target_bin, 0))
    }

    /// Whether the trash lies in its bin.
    fn trash_in_place(&self, view: &ArenaView<'_>) -> bool {
        view.touching(Part::Object(self.trash), Part::FixtureShape(self.trash_bin, 0))
    }

    /// Pose of the handle of the lid.
    fn lid_handle(&self, view: &ArenaView<'_>) -> DPose3 {
        let in_lid = self.scene.objects.get(self.lid).and_then(|lid| lid.shapes.get(1)).map(|handle| handle.pose);
        view.object(self.lid) * in_lid.unwrap_or(DPose3::IDENTITY)
    }

    /// Where the floor of a bin is.
    fn bin_floor(&self, view: &ArenaView<'_>, bin: usize) -> DVec3 {
        let in_bin = self.scene.fixtures.get(bin).and_then(|bin| bin.shapes.first()).map(|floor| floor.pose);
        (view.fixture(bin) * in_bin.unwrap_or(DPose3::IDENTITY)).translation
    }
}

/// Numbers of the observation. Those of the original's own policies; some users leave `robot1_*` out.
const FIELDS: [(&str, usize); 20] = [
    ("robot0_eef_pos", 3),
    ("robot0_eef_quat", 4), // x, y, z, w; of the hand's body, not of the grip site
    ("robot0_gripper_qpos", 2),
    ("robot1_eef_pos", 3),
    ("robot1_eef_quat", 4),
    ("robot1_gripper_qpos", 2),
    ("payload_pos", 3),
    ("payload_quat", 4),
    ("trash_pos", 3),
    ("trash_quat", 4),
    ("lid_handle_pos", 3),
    ("lid_handle_quat", 4),
    ("target_bin_pos", 3), // of its floor
    ("trash_bin_pos", 3),
    ("payload_in_target_bin", 1),
    ("trash_in_trash_bin", 1),
    ("gripper0_to_payload", 3), // its place less the grip site's
    ("gripper0_to_lid_handle", 3),
    ("gripper1_to_payload", 3),
    ("gripper1_to_trash", 3),
];

/// Numbers of an action: seven for each arm.
const ACTION: [&str; 14] = [
    "robot0_dx",
    "robot0_dy",
    "robot0_dz",
    "robot0_rx",
    "robot0_ry",
    "robot0_rz",
    "robot0_gripper",
    "robot1_dx",
    "robot1_dy",
    "robot1_dz",
    "robot1_rx",
    "robot1_ry",
    "robot1_rz",
    "robot1_gripper",
];

benchmark_task!(Transport, "transport", FIELDS, ACTION);

impl ArmTask for Transport {
    fn scene(&self) -> &ArmScene {
        &self.scene
    }

    /// Lid and hammer are where the start bin is, the trash where the target bin is.
    fn start(&self, robot: &Robot, seed: u64) -> Start {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut start = self.scene.start(robot, &mut random);
        let shift = |bin: usize| {
            let place = |fixtures: &[crate::scene::Fixture]| fixtures.get(bin).map(|bin| bin.pose.translation);
            place(&start.fixtures).unwrap_or_default() - place(&self.scene.fixtures).unwrap_or_default()
        };
        let (from_start, from_target) = (shift(self.start_bin), shift(self.target_bin));
        let shifts = [(self.lid, from_start), (self.payload, from_start), (self.trash, from_target)];
        for (object, shift) in shifts {
            if let Some(object) = start.objects.get_mut(object) {
                object.pose.translation += shift;
            }
        }
        let [low, high] = self.goal.head_scale;
        let scale = low + (high - low) * random.random::<f64>();
        let flip = random.random::<bool>();
        if let Some(hammer) = start.objects.get_mut(self.payload) {
            grow_head(hammer, scale);
            if flip {
                let (sin, cos) = libm::sincos(0.5 * PI);
                hammer.pose.rotation = DQuat::from_xyzw(sin, 0.0, 0.0, cos) * hammer.pose.rotation;
            }
        }
        start
    }

    fn observe(&self, view: &ArenaView<'_>, observation: &mut Vec<f32>) {
        observation.clear();
        let [left, right] = arms(view);
        observe_arm(&left, observation);
        observe_arm(&right, observation);
        let (payload, trash, handle) = (view.object(self.payload), view.object(self.trash), self.lid_handle(view));
        for pose in [payload, trash, handle] {
            observe_pose(&pose, observation);
        }
        push(observation, &self.bin_floor(view, self.target_bin).to_array());
        push(observation, &self.bin_floor(view, self.trash_bin).to_array());
        push(
            observation,
            &[self.payload_in_place(view), self.trash_in_place(view)].map(|there| f64::from(u8::from(there))),
        );
        for (arm, object) in [(left, payload), (left, handle), (right, payload), (right, trash)] {
            push(observation, &(object.translation - arm.grip_site).to_array());
        }
    }

    fn outcome(&self, view: &ArenaView<'_>) -> TaskOutcome {
        TaskOutcome::sparse(self.payload_in_place(view) && self.trash_in_place(view))
    }

    fn expert(&self, view: &ArenaView<'_>, memory: &mut ExpertMemory) -> Option<Vec<f32>> {
        let [giver, taker] = arms(view);
        let [giving, taking] = memory.clocks();
        let other = (giving.phase, taking.phase);
        let give = self.give(view, &giver, giving, other.1);
        let take = self.take(view, &taker, taking, other.0);
        Some([give.action(&giver), take.action(&taker)].concat())
    }
}

/// Both arms.
fn arms(view: &ArenaView<'_>) -> [ArmView; 2] {
    [0, 1].map(|i| view.arms.get(i).copied().unwrap_or_default())
}

/// Makes all shapes of the hammer but the handle larger, about the handle's end.
fn grow_head(hammer: &mut Object, scale: f64) {
    let end = match hammer.shapes.first().map(|handle| handle.geometry) {
        Some(Geometry::Box(half_extents)) => DVec3::Z * half_extents.z,
        _ => DVec3::ZERO,
    };
    for shape in hammer.shapes.iter_mut().skip(1) {
        shape.pose.translation = end + (shape.pose.translation - end) * scale;
        shape.geometry = match shape.geometry {
            Geometry::Box(half_extents) => Geometry::Box(half_extents * scale),
            Geometry::Cylinder { radius, half_height } => {
                Geometry::Cylinder { radius: radius * scale, half_height: half_height * scale }
            }
            other => other,
        };
    }
}

/// Height of a grip site that carries something over the bins.
const CARRY: f64 = 1.1;
/// From the middle of the hammer's handle to where the first and the second arm grasp it, along the handle.
const GIVER_GRASP: f64 = -0.055;
const TAKER_GRASP: f64 = 0.045;

// Phases of the first arm, which has the lid and gives the hammer.
const LID: u32 = 0;
const LIFT_LID: u32 = LID + PICK_PHASES;
const LID_ASIDE: u32 = LIFT_LID + 1;
const LOWER_LID: u32 = LID_ASIDE + 1;
const LEAVE_LID: u32 = LOWER_LID + 1;
const HAMMER: u32 = LEAVE_LID + 1;
const LIFT_HAMMER: u32 = HAMMER + PICK_PHASES;
const BRING: u32 = LIFT_HAMMER + 1;
const OFFER: u32 = BRING + 1;
const LET_GO: u32 = OFFER + 1;
const RETREAT: u32 = LET_GO + 1;

// Phases of the second arm, which has the trash and takes the hammer.
const TRASH: u32 = 0;
const LIFT_TRASH: u32 = TRASH + PICK_PHASES;
const CARRY_TRASH: u32 = LIFT_TRASH + 1;
const DROP_TRASH: u32 = CARRY_TRASH + 1;
const WAIT: u32 = DROP_TRASH + 1;
const TAKE: u32 = WAIT + 1;
const HOLD: u32 = TAKE + PICK_PHASES;
const LIFT_OFF: u32 = HOLD + 1;
const CARRY_HOME: u32 = LIFT_OFF + 1;
const LOWER: u32 = CARRY_HOME + 1;
const RELEASE: u32 = LOWER + 1;

impl Transport {
    /// A grasp of the hammer, so far along its handle from the middle towards the second arm.
    fn hammer_grasp(&self, view: &ArenaView<'_>, along: f64, yaw: f64) -> Pick {
        let hammer = view.object(self.payload);
        let axis = hammer.rotation * DVec3::Z;
        let at = hammer.translation + axis * along.copysign(along * axis.y);
        let turn = turn_between(yaw, angle(axis), PI);
        // The palm stays clear of a handle that hangs askew.
        Pick { at: at + DVec3::Z * 0.006, hand: down(yaw + turn), hover: 0.1, travel: CARRY, empty: 0.011 }
    }

    /// Lid off and aside, then the hammer out of the bin and to the middle, until the other arm holds it.
    fn give(&self, view: &ArenaView<'_>, arm: &ArmView, clock: &mut PhaseClock, taker: u32) -> Reach {
        let handle = self.lid_handle(view);
        let across = FRAC_PI_2 + turn_between(FRAC_PI_2, angle(handle.rotation * DVec3::Y), PI);
        let lid = Pick { at: handle.translation, hand: down(across), hover: 0.08, travel: CARRY, empty: 0.006 };
        let hammer = self.hammer_grasp(view, GIVER_GRASP, FRAC_PI_2);
        let aside = DVec2::from(self.goal.lid_aside);
        let start = self.bin_floor(view, self.start_bin).truncate();
        // The way of the hammer's handle to the bin's middle.
        let off = start.extend(0.0) - view.object(self.payload).translation;
        let middle = DVec3::from(self.goal.hand_over);
        let site = arm.grip_site;
        // Where the hand has to be so that the handle's middle is where it is handed over, and along y.
        let there = site + middle - view.object(self.payload).translation;
        let along = down(arm.yaw() + turn_between(angle(view.object(self.payload).rotation * DVec3::Z), FRAC_PI_2, PI));

        clock.steps += 1;
        if let Some(reach) = lid.reach(LID, arm, clock).or_else(|| hammer.reach(HAMMER, arm, clock)) {
            return reach;
        }
        let next = match clock.phase {
            LIFT_LID | LID_ASIDE | LOWER_LID if !lid.held(arm) => Some(LID),
            LIFT_LID => (site.z > CARRY - 0.06).then_some(LID_ASIDE),
            LID_ASIDE => ((aside - site.truncate()).length() < 0.01).then_some(LOWER_LID),
            LOWER_LID => (handle.translation.z < 0.83 || clock.steps > 60).then_some(LEAVE_LID),
            LEAVE_LID => (clock.steps > 6 && site.z > 1.0).then_some(HAMMER),
            LIFT_HAMMER | BRING | OFFER if !hammer.held(arm) => Some(HAMMER),
            LIFT_HAMMER => (site.z > CARRY - 0.06).then_some(BRING),
            BRING => Reach::new(there, along, Grip::Close).reached(arm, 0.008, 0.06).then_some(OFFER),
            OFFER => (taker == HOLD).then_some(LET_GO),
            LET_GO => (clock.steps >= 10).then_some(RETREAT),
            _ => None,
        };
        if let Some(phase) = next {
            clock.enter(phase);
        }
        let straight = down(arm.yaw());
        match clock.phase {
            LIFT_LID => Reach::new(start.extend(site.z + 0.012), straight, Grip::Close),
            LID_ASIDE => Reach::new(aside.extend(CARRY), down(FRAC_PI_2), Grip::Close),
            LOWER_LID => Reach::new(aside.extend(site.z - 0.04), down(FRAC_PI_2), Grip::Close),
            LEAVE_LID if clock.steps > 4 => Reach::new(site + DVec3::Z * 0.1, straight, Grip::Open),
            LIFT_HAMMER => Reach::new(site + off.with_z(0.012), straight, Grip::Close),
            BRING => Reach::new(there, along, Grip::Close).slowly(if there.distance(site) < 0.04 { 0.3 } else { 1.0 }),
            // Still: two hands that both correct the same hammer would fight.
            OFFER => Reach::new(site, arm.hand, Grip::Close),
            RETREAT if site.z < middle.z + 0.1 => Reach::new(site + DVec3::Z * 0.1, straight, Grip::Open),
            RETREAT => Reach::new(DVec3::new(0.0, -0.4, CARRY), down(FRAC_PI_2), Grip::Open),
            _ => Reach::new(site, straight, Grip::Open),
        }
    }

    /// Trash into its bin; then the hammer out of the other hand into the target bin.
    fn take(&self, view: &ArenaView<'_>, arm: &ArmView, clock: &mut PhaseClock, giver: u32) -> Reach {
        let cube = view.object(self.trash);
        let turn = turn_between(-FRAC_PI_2, angle(cube.rotation * DVec3::X), FRAC_PI_2);
        let trash =
            Pick { at: cube.translation, hand: down(turn - FRAC_PI_2), hover: 0.15, travel: CARRY, empty: 0.015 };
        let hammer = self.hammer_grasp(view, TAKER_GRASP, -FRAC_PI_2);
        let trash_bin = self.bin_floor(view, self.trash_bin).truncate();
        // The hand is off the hammer's middle, which should come down over the bin's.
        let over = self.bin_floor(view, self.target_bin).truncate();
        let target = over + DVec2::Y * 0.03;
        let middle = DVec3::from(self.goal.hand_over);
        let site = arm.grip_site;
        let home = down(-FRAC_PI_2);

        clock.steps += 1;
        if let Some(reach) = trash.reach(TRASH, arm, clock) {
            return reach;
        }
        if let Some(reach) = hammer.reach(TAKE, arm, clock) {
            return if site.distance(hammer.at) < 0.12 { reach.slowly(0.3) } else { reach };
        }
        let next = match clock.phase {
            LIFT_TRASH | CARRY_TRASH if !trash.held(arm) => Some(TRASH),
            LIFT_TRASH => (site.z > CARRY - 0.06).then_some(CARRY_TRASH),
            CARRY_TRASH => ((trash_bin - site.truncate()).length() < 0.01).then_some(DROP_TRASH),
            DROP_TRASH => (clock.steps >= 8).then_some(WAIT),
            WAIT if !self.trash_in_place(view) && clock.steps > 60 => Some(TRASH),
            WAIT => (giver == OFFER).then_some(TAKE),
            HOLD | LIFT_OFF | CARRY_HOME | LOWER if !hammer.held(arm) => Some(WAIT),
            HOLD => (giver == RETREAT && clock.steps > 8).then_some(LIFT_OFF),
            // The other hand leaves first.
            LIFT_OFF => (clock.steps >= 16).then_some(CARRY_HOME),
            CARRY_HOME => ((target - site.truncate()).length() < 0.01).then_some(LOWER),
            LOWER => (site.z < 0.88 || clock.steps > 60).then_some(RELEASE),
            _ => None,
        };
        if let Some(phase) = next {
            clock.enter(phase);
        }
        let straight = down(arm.yaw());
        match clock.phase {
            LIFT_TRASH => Reach::new(over.extend(site.z + 0.012), straight, Grip::Close),
            CARRY_TRASH => Reach::new(trash_bin.extend(CARRY), home, Grip::Close),
            DROP_TRASH => Reach::new(site, straight, Grip::Open),
            WAIT => Reach::new(middle + DVec3::new(0.0, 0.2, 0.15), home, Grip::Open),
            HOLD | LIFT_OFF => Reach::new(site, straight, Grip::Close).slowly(0.2),
            CARRY_HOME => Reach::new(target.extend(CARRY), home, Grip::Close),
            LOWER => Reach::new(target.extend(site.z - 0.04), home, Grip::Close),
            _ => Reach::new(if clock.steps > 6 { site + DVec3::Z * 0.05 } else { site }, straight, Grip::Open),
        }
    }
}
