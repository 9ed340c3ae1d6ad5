//! Six tasks for learning from scratch: mirrors of Gymnasium's MuJoCo tasks, version 4.
//!
//! Observation, action, reward, end, length and noise at reset are the published ones; the mechanisms have the masses,
//! ranges, frictions and gears of the published models and are simulated by rapier. `docs/control.md` says how near
//! they are. Actions lie in [-1, 1] as everywhere: InvertedPendulum's published range is [-3, 3], so its force is
//! scaled by 3; the others have [-1, 1] themselves.
//!
//! Nobody demonstrates these tasks: [`Task::has_expert`] says no.

mod mechanisms;

use std::sync::Arc;

use bevy::math::{DVec3, Vec3};
use bevy_rapier3d::rapier::math::Pose;
use onestep_agent::{ActionSpace, AgentSpec, ObservationSpace};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use super::{Task, TaskOutcome};
use crate::mechanism::{Mechanism, MechanismModel};
use crate::model::{BodyPose, BodyShape, Capsule, Model};
use crate::robot::Robot;

/// One of the six control tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlTask {
    /// A cart keeps a pole upright: 1 for each step, until the pole leans by more than 0.2 rad. At most 1000 steps.
    InvertedPendulum,
    /// A cart keeps two poles upright, one on the other, until the tip sinks to 1 m. At most 1000 steps.
    InvertedDoublePendulum,
    /// Two links in a horizontal plane bring the finger tip to a target. 50 steps.
    Reacher,
    /// One leg hops forward, until it leans or sinks too much. At most 1000 steps.
    Hopper,
    /// Two legs run forward. 1000 steps.
    HalfCheetah,
    /// Two legs walk forward, until the torso leans or sinks too much. At most 1000 steps.
    Walker2d,
}

/// Length of InvertedDoublePendulum's poles and of Reacher's forearm with the finger tip, metres.
const POLE: f64 = 0.6;
const UPPER_ARM: f64 = 0.1;
const FOREARM: f64 = 0.11;
/// Largest velocity that an observation shows where the original clips.
const CLIP: f64 = 10.0;

impl ControlTask {
    /// Figures of the mechanism.
    pub(crate) fn mechanism(self) -> MechanismModel {
        match self {
            Self::InvertedPendulum => mechanisms::inverted_pendulum(),
            Self::InvertedDoublePendulum => mechanisms::inverted_double_pendulum(),
            Self::Reacher => mechanisms::reacher(),
            Self::Hopper => mechanisms::hopper(),
            Self::HalfCheetah => mechanisms::half_cheetah(),
            Self::Walker2d => mechanisms::walker2d(),
        }
    }

    /// What a control is at an action of 1.
    fn control_scale(self) -> f64 {
        if self == Self::InvertedPendulum { 3.0 } else { 1.0 }
    }

    /// Joint positions without noise.
    fn rest(self, joints: usize) -> Vec<f64> {
        let mut rest = vec![0.0; joints];
        if let (Self::Hopper | Self::Walker2d, Some(height)) = (self, rest.get_mut(1)) {
            *height = 1.25;
        }
        rest
    }

    /// Joint positions, joint velocities, and Reacher's target.
    fn start(self, joints: usize, seed: u64) -> (Vec<f64>, Vec<f64>, [f64; 2]) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut positions = self.rest(joints);
        let mut velocities = vec![0.0; joints];
        let (position_noise, velocity_noise, normal) = match self {
            Self::InvertedPendulum => (0.01, 0.01, false),
            Self::InvertedDoublePendulum | Self::HalfCheetah => (0.1, 0.1, true),
            Self::Reacher => (0.1, 0.005, false),
            Self::Hopper | Self::Walker2d => (0.005, 0.005, false),
        };
        let mut uniform = |spread: f64| -> f64 { random.random_range(-spread..=spread) };
        positions.iter_mut().for_each(|position| *position += uniform(position_noise));
        let mut target = [0.0; 2];
        if self == Self::Reacher {
            loop {
                target = [uniform(0.2), uniform(0.2)];
                if target[0].hypot(target[1]) < 0.2 {
                    break;
                }
            }
        }
        for velocity in &mut velocities {
            *velocity = if normal {
                let number: f64 = StandardNormal.sample(&mut random);
                velocity_noise * number
            } else {
                random.random_range(-velocity_noise..=velocity_noise)
            };
        }
        (positions, velocities, target)
    }

    /// Where bodies are drawn, against where they are simulated: rails would lie in the floor.
    fn drawn_at(self) -> Vec3 {
        match self {
            Self::InvertedPendulum | Self::InvertedDoublePendulum => Vec3::new(0.0, 0.0, 0.8),
            _ => Vec3::ZERO,
        }
    }
}

impl Task for ControlTask {
    fn name(&self) -> &'static str {
        match self {
            Self::InvertedPendulum => "inverted-pendulum",
            Self::InvertedDoublePendulum => "inverted-double-pendulum",
            Self::Reacher => "reacher",
            Self::Hopper => "hopper",
            Self::HalfCheetah => "half-cheetah",
            Self::Walker2d => "walker2d",
        }
    }

    fn spec(&self) -> AgentSpec {
        // Positions without x, then all velocities.
        let runner = |joints: usize| vec![("position", joints - 1), ("velocity", joints)];
        let (observation, action, steps) = match self {
            Self::InvertedPendulum => (vec![("position", 2), ("velocity", 2)], vec!["slide"], 1000),
            Self::InvertedDoublePendulum => (
                vec![
                    ("cart_position", 1),
                    ("sin", 2),
                    ("cos", 2),
                    ("velocity", 3),         // clipped to ±10
                    ("constraint_force", 3), // on the joints, clipped to ±10: only the cart has stops
                ],
                vec!["slide"],
                1000,
            ),
            Self::Reacher => (
                vec![
                    ("cos", 2),
                    ("sin", 2),
                    ("target", 2),
                    ("velocity", 2),
                    ("tip_to_target", 3), // finger tip minus target
                ],
                vec!["joint0", "joint1"],
                50,
            ),
            Self::Hopper => (runner(6), vec!["thigh", "leg", "foot"], 1000), // velocities clipped to ±10
            Self::HalfCheetah => (runner(9), vec!["bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot"], 1000),
            Self::Walker2d => {
                // Velocities clipped to ±10.
                (runner(9), vec!["thigh", "leg", "foot", "thigh_left", "leg_left", "foot_left"], 1000)
            }
        };
        AgentSpec::new(ObservationSpace::new(observation), ActionSpace::new(action), steps)
    }

    fn control_period_secs(&self) -> f64 {
        self.mechanism().physics.control_period_secs
    }

    fn model(self: Arc<Self>, _robot: &Arc<Robot>, seed: u64) -> Box<dyn Model> {
        Box::new(ControlModel::new(*self, seed))
    }
}

/// A control task in one arena.
struct ControlModel {
    task: ControlTask,
    names: Vec<(&'static str, Vec<Capsule>)>,
    mechanism: Mechanism,
    period: f64,
    target: [f64; 2],
    /// Steps that were survived.
    steps: u32,
    max_steps: u32,
    outcome: TaskOutcome,
}

impl ControlModel {
    fn new(task: ControlTask, seed: u64) -> Self {
        let model = task.mechanism();
        let joints = model.links.iter().map(|link| link.dofs.len()).sum();
        let (positions, velocities, target) = task.start(joints, seed);
        let capsules = |rods: &[crate::mechanism::Rod]| rods.iter().map(|rod| rod.capsule()).collect();
        Self {
            task,
            names: model.links.iter().map(|link| (link.name, capsules(&link.rods))).collect(),
            mechanism: Mechanism::new(&model, &positions, &velocities),
            period: model.physics.control_period_secs,
            target,
            steps: 0,
            max_steps: task.spec().max_episode_steps,
            outcome: TaskOutcome::default(),
        }
    }

    fn position(&self, index: usize) -> f64 {
        self.mechanism.positions().get(index).copied().unwrap_or(0.0)
    }

    fn velocity(&self, index: usize) -> f64 {
        self.mechanism.velocities().get(index).copied().unwrap_or(0.0)
    }

    /// Reacher's finger tip minus its target.
    fn tip_to_target(&self) -> [f64; 2] {
        let (shoulder, elbow) = (self.position(0), self.position(0) + self.position(1));
        [
            UPPER_ARM * libm::cos(shoulder) + FOREARM * libm::cos(elbow) - self.target[0],
            UPPER_ARM * libm::sin(shoulder) + FOREARM * libm::sin(elbow) - self.target[1],
        ]
    }

    /// Reward and end of the step from `before` to the state now.
    fn judge(&self, before: &Before, action: &[f32]) -> (f64, bool) {
        let effort: f64 = action.iter().map(|value| f64::from(*value).powi(2)).sum();
        let forward = (self.position(0) - before.x) / self.period;
        match self.task {
            ControlTask::InvertedPendulum => (1.0, self.position(1).abs() > 0.2),
            ControlTask::InvertedDoublePendulum => {
                let (first, second) = (self.position(1), self.position(1) + self.position(2));
                let x = self.position(0) + POLE * (libm::sin(first) + libm::sin(second));
                let height = POLE * (libm::cos(first) + libm::cos(second));
                let distance = 0.01 * x * x + (height - 2.0).powi(2);
                let speed = 1e-3 * self.velocity(1).powi(2) + 5e-3 * self.velocity(2).powi(2);
                (10.0 - distance - speed, height <= 1.0)
            }
            ControlTask::Reacher => (-before.distance - effort, false),
            ControlTask::HalfCheetah => (forward - 0.1 * effort, false),
            ControlTask::Hopper => {
                let (height, lean) = (self.position(1), self.position(2));
                let state = self.mechanism.positions().iter().skip(2).chain(self.mechanism.velocities());
                let healthy = height > 0.7 && lean.abs() < 0.2 && state.copied().all(|number| number.abs() < 100.0);
                (forward + 1.0 - 1e-3 * effort, !healthy)
            }
            ControlTask::Walker2d => {
                let (height, lean) = (self.position(1), self.position(2));
                let healthy = height > 0.8 && height < 2.0 && lean.abs() < 1.0;
                (forward + 1.0 - 1e-3 * effort, !healthy)
            }
        }
    }

    /// What moves besides the links, and what stands still.
    fn others(&self) -> Vec<BodyPose> {
        let at = self.task.drawn_at();
        let body = |name: &str, capsules: Vec<Capsule>, position: Vec3| BodyPose {
            name: name.to_owned(),
            shape: BodyShape::Capsules(capsules),
            pose: Pose::from_translation(at + position),
        };
        let rod = |from: [f32; 3], to: [f32; 3], radius: f32| Capsule { from: from.into(), to: to.into(), radius };
        match self.task {
            ControlTask::InvertedPendulum | ControlTask::InvertedDoublePendulum => {
                vec![body("rail", vec![rod([-1.0, 0.0, 0.0], [1.0, 0.0, 0.0], 0.02)], Vec3::ZERO)]
            }
            ControlTask::Reacher => {
                let corners = [[-0.3, -0.3, 0.01], [0.3, -0.3, 0.01], [0.3, 0.3, 0.01], [-0.3, 0.3, 0.01]];
                let sides = corners.iter().zip(corners.iter().cycle().skip(1)).map(|(from, to)| rod(*from, *to, 0.02));
                vec![
                    body("target", vec![rod([0.0; 3], [0.0; 3], 0.009)], self.target_position()),
                    body("rim", sides.collect(), Vec3::ZERO),
                ]
            }
            _ => Vec::new(),
        }
    }

    fn target_position(&self) -> Vec3 {
        DVec3::new(self.target[0], self.target[1], 0.01).as_vec3()
    }
}

/// What a reward needs to know of the state before the step.
struct Before {
    x: f64,
    distance: f64,
}

impl Model for ControlModel {
    fn step(&mut self, action: &[f32]) -> bool {
        // The original takes Reacher's distance before the step.
        let [dx, dy] = self.tip_to_target();
        let before = Before { x: self.position(0), distance: dx.hypot(dy) };
        let scale = self.task.control_scale();
        if !self.mechanism.step(action.iter().map(|value| scale * f64::from(*value))) {
            return false;
        }
        let (reward, terminated) = self.judge(&before, action);
        self.steps += 1;
        let balances = matches!(self.task, ControlTask::InvertedPendulum | ControlTask::InvertedDoublePendulum);
        self.outcome = TaskOutcome {
            reward: reward as f32,
            terminated,
            success: balances && !terminated && self.steps >= self.max_steps,
        };
        true
    }

    fn observe(&self, observation: &mut Vec<f32>) {
        let (positions, velocities) = (self.mechanism.positions(), self.mechanism.velocities());
        let mut push = |number: f64| observation.push(number as f32);
        let clip = |number: &f64| number.clamp(-CLIP, CLIP);
        match self.task {
            ControlTask::InvertedPendulum => positions.iter().chain(velocities).copied().for_each(push),
            ControlTask::InvertedDoublePendulum => {
                push(self.position(0));
                positions.iter().skip(1).for_each(|angle| push(libm::sin(*angle)));
                positions.iter().skip(1).for_each(|angle| push(libm::cos(*angle)));
                velocities.iter().map(clip).for_each(&mut push);
                self.mechanism.stop_forces().iter().map(clip).for_each(push);
            }
            ControlTask::Reacher => {
                positions.iter().for_each(|angle| push(libm::cos(*angle)));
                positions.iter().for_each(|angle| push(libm::sin(*angle)));
                self.target.into_iter().for_each(&mut push);
                velocities.iter().copied().for_each(&mut push);
                self.tip_to_target().into_iter().for_each(&mut push);
                push(0.0);
            }
            ControlTask::HalfCheetah => positions.iter().skip(1).chain(velocities).copied().for_each(push),
            ControlTask::Hopper | ControlTask::Walker2d => {
                positions.iter().skip(1).copied().for_each(&mut push);
                velocities.iter().map(clip).for_each(push);
            }
        }
    }

    fn outcome(&self) -> TaskOutcome {
        self.outcome
    }

    fn joint_positions(&self) -> &[f64] {
        self.mechanism.positions()
    }

    fn joint_velocities(&self) -> &[f64] {
        self.mechanism.velocities()
    }

    fn set_joints(&mut self, positions: &[f64], velocities: &[f64]) -> bool {
        let joints = self.mechanism.positions().len();
        let fits = positions.len() == joints && velocities.len() == joints;
        if fits {
            self.mechanism.place(positions, velocities);
        }
        fits
    }

    fn bodies(&self) -> Vec<BodyPose> {
        let mut poses = Vec::new();
        self.moving_poses(&mut poses);
        let links = self.names.iter().zip(poses).map(|((name, capsules), pose)| BodyPose {
            name: (*name).to_owned(),
            shape: BodyShape::Capsules(capsules.clone()),
            pose,
        });
        links.chain(self.others()).collect()
    }

    fn moving_poses(&self, poses: &mut Vec<Pose>) {
        poses.clear();
        let at = self.task.drawn_at();
        poses.extend(self.mechanism.poses().map(|pose| Pose::from_parts(pose.translation + at, pose.rotation)));
        // The target is elsewhere in each episode.
        if self.task == ControlTask::Reacher {
            poses.push(Pose::from_translation(self.target_position()));
        }
    }

    fn feed(&self, sink: &mut dyn FnMut(f32)) {
        for pose in self.mechanism.poses() {
            pose.translation.to_array().into_iter().for_each(&mut *sink);
            pose.rotation.to_array().into_iter().for_each(&mut *sink);
        }
        for number in self.mechanism.positions().iter().chain(self.mechanism.velocities()).chain(&self.target) {
            sink(*number as f32);
        }
    }

    fn set_gravity(&mut self, gravity: Vec3) {
        self.mechanism.set_gravity(gravity);
    }
}
