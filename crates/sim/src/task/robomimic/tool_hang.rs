//! ToolHang: a frame into a stand, and a tool onto the frame's hook. Figures and layout of robosuite's `ToolHang` (1.5).

use std::f64::consts::FRAC_PI_6;

use bevy::math::{DMat3, DQuat, DVec3};
use bevy_rapier3d::rapier::glamx::DPose3;
use serde::Deserialize;

use super::pick::{PICK_PHASES, Pick};
use super::{ARM_ACTION, observe_arm, observe_in_hand, observe_pose, positive, push};
use crate::SimError;
use crate::expert::{ExpertMemory, Grip, Reach, angle, down};
use crate::physics::Part;
use crate::scene::ArmScene;
use crate::task::{ArenaView, ArmTask, ArmView, TaskOutcome};

/// Places in the frames of the bodies, and when the task is solved.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Goal {
    /// A point of the stand straight above its base.
    stand_top: [f64; 3],
    /// The middle of the stand's tube.
    cavity: [f64; 3],
    /// From there to the middle of each wall.
    wall_distance: f64,
    /// The stand's largest tilt, radians.
    upright: f64,
    /// Lower end of the frame's rod, without the tip.
    rod_mount: [f64; 3],
    /// The tip's end.
    rod_tip: [f64; 3],
    /// Where rod and bar meet.
    corner: [f64; 3],
    /// The bar's other end.
    hook: [f64; 3],
    /// Largest distance of the tip from the middle of the stand's base.
    inserted: f64,
    /// Middle of the tool's larger ring.
    ring: [f64; 3],
    /// From there to the middle of the ring's boxes.
    ring_radius: f64,
    /// Largest distance of the ring's middle from the bar's axis.
    hung: f64,
    /// Between which parts of the bar's length the ring's middle is, from the hook.
    along: [f64; 2],
}

/// The task ToolHang.
#[derive(Debug, Clone)]
pub struct ToolHang {
    scene: ArmScene,
    stand: usize,
    frame: usize,
    tool: usize,
    goal: Goal,
}

/// Boxes of a ring; those of the larger one are the tool's first shapes.
const RING_BOXES: usize = 8;
/// Place of the bar among the frame's shapes.
const BAR: usize = 1;

impl ToolHang {
    /// The task in a scene as TOML text; `file` names it in errors.
    ///
    /// # Errors
    /// [`SimError::Parse`] or [`SimError::Value`].
    pub fn parse(file: &str, text: &str) -> Result<Self, SimError> {
        let scene = ArmScene::parse_for("tool-hang", &["stand", "frame", "tool"], file, text)?;
        let goal: Goal = scene.goal(file)?;
        for (field, value) in [
            ("wall_distance", goal.wall_distance),
            ("upright", goal.upright),
            ("inserted", goal.inserted),
            ("ring_radius", goal.ring_radius),
            ("hung", goal.hung),
        ] {
            positive(file, field, value)?;
        }
        let object = |name: &str| scene.object(name).unwrap_or_default();
        for name in ["stand", "frame", "tool"] {
            let index = object(name);
            if let Some(object) = scene.objects.get(index) {
                scene.require_reach(file, &format!("objects[{index}].pose"), object.pose.translation)?;
            }
        }
        Ok(Self { stand: object("stand"), frame: object("frame"), tool: object("tool"), goal, scene })
    }

    /// Pose of the stand's base.
    fn base(&self, view: &ArenaView<'_>) -> DPose3 {
        let in_stand = self.scene.objects.get(self.stand).and_then(|stand| stand.shapes.first()).map(|base| base.pose);
        view.object(self.stand) * in_stand.unwrap_or(DPose3::IDENTITY)
    }

    /// Whether the rod is in the stand: the stand is upright, the tip near its base, and of each two opposite walls one
    /// is on either side of the rod.
    fn assembled(&self, view: &ArenaView<'_>) -> bool {
        let (stand, frame, base) = (view.object(self.stand), view.object(self.frame), self.base(view).translation);
        let shaft = (stand.transform_point(self.goal.stand_top.into()) - base).normalize_or_zero();
        let upright = shaft.z > libm::cos(self.goal.upright);
        let inserted = frame.transform_point(self.goal.rod_tip.into()).distance(base) < self.goal.inserted;
        let mount = frame.transform_point(self.goal.rod_mount.into());
        let rod = (frame.transform_point(self.goal.corner.into()) - mount).normalize_or_zero();
        let side = |offset: DVec3| {
            let wall = DVec3::from(self.goal.cavity) + offset * self.goal.wall_distance;
            (stand.transform_point(wall) - mount).cross(rod)
        };
        let between = |axis: DVec3| side(axis).dot(side(-axis)) < 0.0;
        upright && inserted && between(DVec3::X) && between(DVec3::Y)
    }

    /// Whether the tool hangs: no finger touches it, its ring touches the bar, and is around it.
    fn hung(&self, view: &ArenaView<'_>) -> bool {
        let (frame, tool) = (view.object(self.frame), view.object(self.tool));
        let hook = frame.transform_point(self.goal.hook.into());
        let bar = frame.transform_point(self.goal.corner.into()) - hook;
        let (length, bar) = (bar.length(), bar.normalize_or_zero());
        let ring = DVec3::from(self.goal.ring);
        let to_ring = tool.transform_point(ring) - hook;
        let along = to_ring.dot(bar) / length;
        let off = to_ring.reject_from_normalized(bar).length();
        let side = |x: f64| (tool.transform_point(ring + DVec3::X * x) - hook).cross(bar);
        let around = side(-self.goal.ring_radius).dot(side(self.goal.ring_radius)) < 0.0;
        let [low, high] = self.goal.along;
        off < self.goal.hung
            && around
            && (low..high).contains(&along)
            && !view.touching(Part::Gripper(0), Part::Object(self.tool))
            && (0..RING_BOXES)
                .any(|i| view.touching(Part::ObjectShape(self.tool, i), Part::ObjectShape(self.frame, BAR)))
    }
}

/// Numbers of the observation.
const FIELDS: [(&str, usize); 17] = [
    ("eef_pos", 3),
    ("eef_quat", 4), // x, y, z, w; of the hand's body, not of the grip site
    ("gripper_qpos", 2),
    ("base_to_eef_pos", 3),
    ("base_to_eef_quat", 4),
    ("base_pos", 3), // of the stand's base
    ("base_quat", 4),
    ("frame_to_eef_pos", 3),
    ("frame_to_eef_quat", 4),
    ("frame_pos", 3), // where rod and bar meet
    ("frame_quat", 4),
    ("tool_to_eef_pos", 3),
    ("tool_to_eef_quat", 4),
    ("tool_pos", 3),
    ("tool_quat", 4),
    ("frame_is_assembled", 1),
    ("tool_on_frame", 1),
];

benchmark_task!(ToolHang, "tool-hang", FIELDS, ARM_ACTION);

impl ArmTask for ToolHang {
    fn scene(&self) -> &ArmScene {
        &self.scene
    }

    fn observe(&self, view: &ArenaView<'_>, observation: &mut Vec<f32>) {
        observation.clear();
        let arm = view.arm();
        observe_arm(&arm, observation);
        let corner = DPose3::from_translation(self.goal.corner.into());
        for pose in [self.base(view), view.object(self.frame) * corner, view.object(self.tool)] {
            observe_in_hand(&arm, &pose, observation);
            observe_pose(&pose, observation);
        }
        push(observation, &[self.assembled(view), self.hung(view)].map(|done| f64::from(u8::from(done))));
    }

    fn outcome(&self, view: &ArenaView<'_>) -> TaskOutcome {
        TaskOutcome::sparse(self.assembled(view) && self.hung(view))
    }

    fn expert(&self, view: &ArenaView<'_>, memory: &mut ExpertMemory) -> Option<Vec<f32>> {
        Some(self.plan(view, memory).action(&view.arm()).to_vec())
    }
}

/// Where the frame's grip is, in its frame.
const GRIP: DVec3 = DVec3::new(0.043_75, 0.0, 0.0525);
/// How far the hand leans towards the smaller ring when it grasps the tool: by so much less it has to lean when it hangs
/// the tool up, where the arm's reach ends.
const LEAN: f64 = 0.35;
/// Height of the grip site on the way.
const CARRY: f64 = 1.12;
/// Half the thickness of the bar.
const BAR_HALF: f64 = 0.003_75;

/// A place of the ring on its way over the hook, in the plane of bar and hook: how far the tool leans, the ring's middle
/// along the tool towards the ring's far side, and along the ring's axis. From the lower edge of the bar's end.
#[derive(Debug, Clone, Copy)]
struct RingPlace {
    lean: f64,
    far: f64,
    axial: f64,
}

impl RingPlace {
    /// Over the hook: the hook's outline is 16 mm wide along the tool, the ring's opening 19 mm.
    const OVER: Self = Self { lean: FRAC_PI_6, far: 0.0081, axial: 0.029 };
    /// The ring's near side is below the bar's end, its far side lies on the bar.
    const AROUND: Self = Self { lean: FRAC_PI_6, far: 0.0081, axial: 0.0025 };
    /// The same, nearly upright.
    const HUNG: Self = Self { lean: 1.1, far: 0.0075, axial: -0.0035 };

    /// On the way from one to another, 0 to 1.
    fn between(from: Self, to: Self, part: f64) -> Self {
        let mix = |from: f64, to: f64| from + (to - from) * part.clamp(0.0, 1.0);
        Self { lean: mix(from.lean, to.lean), far: mix(from.far, to.far), axial: mix(from.axial, to.axial) }
    }
}

const FRAME: u32 = 0;
const LIFT_FRAME: u32 = FRAME + PICK_PHASES;
const TURN_FRAME: u32 = LIFT_FRAME + 1;
const OVER_STAND: u32 = TURN_FRAME + 1;
const INSERT: u32 = OVER_STAND + 1;
const LEAVE_FRAME: u32 = INSERT + 1;
const STRAIGHTEN: u32 = LEAVE_FRAME + 1;
const TOOL: u32 = STRAIGHTEN + 1;
const LIFT_TOOL: u32 = TOOL + PICK_PHASES;
const TURN_TOOL: u32 = LIFT_TOOL + 1;
const OVER_HOOK: u32 = TURN_TOOL + 1;
const ONTO: u32 = OVER_HOOK + 1;
const SWING: u32 = ONTO + 1;
const LEAVE_TOOL: u32 = SWING + 1;

/// Control steps for the way down over the hook, and for the swing behind it.
const ONTO_STEPS: f64 = 30.0;
const SWING_STEPS: f64 = 40.0;

impl ToolHang {
    /// A hold on the frame's grip, from above.
    fn frame_pick(&self, view: &ArenaView<'_>) -> Pick {
        let frame = view.object(self.frame);
        // The hand's own x axis along the rod, towards the tip.
        let hand = down(angle(frame.rotation * DVec3::NEG_Z));
        Pick { at: frame.transform_point(GRIP), hand, hover: 0.1, travel: 0.98, empty: 0.008 }
    }

    /// A hold on the tool's grip.
    fn tool_pick(&self, view: &ArenaView<'_>) -> Pick {
        let tool = view.object(self.tool);
        let along = DQuat::from_rotation_z(angle(tool.rotation * DVec3::X));
        let hand = along * DQuat::from_rotation_y(-LEAN) * down(0.0);
        Pick { at: tool.translation + DVec3::Z * 0.004, hand, hover: 0.1, travel: CARRY, empty: 0.01 }
    }

    /// Moves a held object so that a point of it comes to a place and the object to a rotation.
    fn carry(arm: &ArmView, object: &DPose3, point: DVec3, place: DVec3, rotation: DQuat) -> Reach {
        let position = arm.grip_site + place - object.transform_point(point);
        Reach::new(position, rotation * object.rotation.inverse() * arm.hand, Grip::Close)
    }

    /// Brings the ring to a place at the hook.
    fn ring_to(&self, view: &ArenaView<'_>, place: RingPlace) -> Reach {
        let frame = view.object(self.frame);
        let (outward, up) = (frame.rotation * DVec3::NEG_X, frame.rotation * DVec3::Z);
        let (sin, cos) = libm::sincos(place.lean);
        let (far, axis) = (up * sin - outward * cos, up * cos + outward * sin);
        let rotation = DQuat::from_mat3(&DMat3::from_cols(-far, axis.cross(-far), axis));
        let edge = frame.transform_point(DVec3::from(self.goal.hook) - DVec3::Z * BAR_HALF);
        let middle = edge + far * place.far + axis * place.axial;
        Self::carry(&view.arm(), &view.object(self.tool), self.goal.ring.into(), middle, rotation)
    }

    /// The frame upright into the stand's tube with its bar away from the robot, then the ring over the hook.
    fn plan(&self, view: &ArenaView<'_>, memory: &mut ExpertMemory) -> Reach {
        let (arm, clock) = (view.arm(), memory.clock());
        let (frame, stand) = (view.object(self.frame), view.object(self.stand));
        let (frame_pick, tool_pick) = (self.frame_pick(view), self.tool_pick(view));
        let site = arm.grip_site;
        let tip = frame.transform_point(self.goal.rod_tip.into());
        let cavity = stand.transform_point(self.goal.cavity.into());
        let top = stand.transform_point(self.goal.stand_top.into()).z;
        let floor = self.base(view).translation.z + 0.005;
        // The bar points along x.
        let upright = DQuat::from_rotation_z(std::f64::consts::PI);
        let tip_to = |place: DVec3| Self::carry(&arm, &frame, self.goal.rod_tip.into(), place, upright);
        let off = (cavity - tip).with_z(0.0);
        let in_hand = |object: &DPose3, point: DVec3| site.distance(object.transform_point(point)) < 0.03;

        // Between frame and tool the hand points down once, so that its turns stay the short ones.
        let aside = Reach::new(DVec3::new(-0.2, 0.1, CARRY + 0.02), down(0.0), Grip::Open);

        clock.steps += 1;
        if let Some(reach) = frame_pick.reach(FRAME, &arm, clock).or_else(|| tool_pick.reach(TOOL, &arm, clock)) {
            return reach;
        }
        let part = f64::from(clock.steps);
        let next = match clock.phase {
            LIFT_FRAME | TURN_FRAME | OVER_STAND | INSERT if !in_hand(&frame, GRIP) => Some(FRAME),
            LIFT_FRAME => (site.z > 1.0).then_some(TURN_FRAME),
            TURN_FRAME => tip_to(cavity.with_z(top + 0.04)).reached(&arm, 0.03, 0.1).then_some(OVER_STAND),
            OVER_STAND => {
                let there = tip_to(cavity.with_z(tip.z)).reached(&arm, 0.0015, 0.015);
                (there && clock.steps > 10).then_some(INSERT)
            }
            INSERT if clock.steps > 150 => Some(OVER_STAND),
            INSERT => (tip.z < floor + 0.004).then_some(LEAVE_FRAME),
            LEAVE_FRAME => (clock.steps > 12 && site.z > 1.1).then_some(STRAIGHTEN),
            STRAIGHTEN => aside.reached(&arm, 0.03, 0.15).then_some(TOOL),
            LIFT_TOOL | TURN_TOOL | OVER_HOOK | ONTO | SWING if !in_hand(&view.object(self.tool), DVec3::ZERO) => {
                Some(TOOL)
            }
            LIFT_TOOL => (site.z > CARRY - 0.02).then_some(TURN_TOOL),
            TURN_TOOL => self
                .ring_to(view, RingPlace { axial: 0.08, ..RingPlace::OVER })
                .reached(&arm, 0.02, 0.1)
                .then_some(OVER_HOOK),
            OVER_HOOK => {
                let there = self.ring_to(view, RingPlace::OVER).reached(&arm, 0.0012, 0.02);
                (there && clock.steps > 10).then_some(ONTO)
            }
            ONTO if part > ONTO_STEPS + 5.0 => {
                let there = self.ring_to(view, RingPlace::AROUND).reached(&arm, 0.004, 0.06);
                Some(if there { SWING } else { TURN_TOOL })
            }
            SWING => (part > SWING_STEPS + 5.0).then_some(LEAVE_TOOL),
            LEAVE_TOOL => (clock.steps > 40).then_some(TOOL),
            _ => None,
        };
        if let Some(phase) = next {
            clock.enter(phase);
        }
        let part = f64::from(clock.steps);
        match clock.phase {
            LIFT_FRAME => Reach::new(site + DVec3::Z * 0.015, arm.hand, Grip::Close),
            TURN_FRAME => {
                // Upright first, beside the stand.
                let beside = tip_to(tip.with_z(top + 0.06));
                let turned = beside.reached(&arm, 1.0, 0.3);
                if turned { tip_to(cavity.with_z(top + 0.04)) } else { beside }
            }
            OVER_STAND => tip_to(cavity.with_z(top + 0.012)),
            INSERT => {
                let inside = tip.z < top - 0.01;
                let step = if inside || off.length() < 0.003 { 0.008 } else { 0.0 };
                tip_to(tip + off - DVec3::Z * step)
            }
            LEAVE_FRAME if clock.steps <= 8 => Reach::new(site, arm.hand, Grip::Open),
            // Back out of the grip, then up.
            LEAVE_FRAME if site.distance(frame.transform_point(GRIP)) < 0.09 => {
                Reach::new(site - arm.hand * DVec3::Z * 0.03, arm.hand, Grip::Open)
            }
            LEAVE_FRAME => Reach::new(site + DVec3::Z * 0.05, arm.hand, Grip::Open),
            STRAIGHTEN => aside,
            LIFT_TOOL => Reach::new(site + DVec3::Z * 0.015, arm.hand, Grip::Close),
            TURN_TOOL => self.ring_to(view, RingPlace { axial: 0.08, ..RingPlace::OVER }),
            OVER_HOOK => self.ring_to(view, RingPlace::OVER),
            ONTO => self.ring_to(view, RingPlace::between(RingPlace::OVER, RingPlace::AROUND, part / ONTO_STEPS)),
            SWING => self.ring_to(view, RingPlace::between(RingPlace::AROUND, RingPlace::HUNG, part / SWING_STEPS)),
            _ if clock.steps <= 10 => Reach::new(site, arm.hand, Grip::Open),
            _ => Reach::new(site - arm.hand * DVec3::Z * 0.03, arm.hand, Grip::Open),
        }
    }
}
