//! The checker passes every task of ours, and finds what is wrong with broken ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bevy::math::Vec3;
use bevy_rapier3d::rapier::math::Pose;
use onestep_agent::{ActionSpace, AgentSpec, ObservationSpace};
use onestep_sim::check::{CheckOptions, CheckReport, Verdict, check_task};
use onestep_sim::{
    BodyPose, BodyShape, ExpertMemory, ManipScene, ManipTask, Model, Robot, ServoRobot, Task, TaskOutcome, task, tasks,
};

/// What is wrong with the toy task.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Flaw {
    Nothing,
    ShortObservation,
    TwinFields,
    EmptyField,
    NoPeriod,
    BodiesVanish,
    SeedIgnored,
    BeginsAtItsEnd,
    /// Every step of any arena moves every other a little.
    SharedState,
    /// Like it, but forgotten when an arena is built: only neighbours feel it.
    LeakyNeighbours,
    ActionIgnored,
    BecomesNan,
    Grows,
    RewardNan,
    /// The goal costs what the way to it should cost.
    RewardUpsideDown,
    /// What a state means changes with every question.
    FickleOutcome,
    ExpertMissing,
    ExpertLost,
    ExpertTooShort,
}

/// A point on a line between -2 and 2 that shall come to the origin.
#[derive(Debug)]
struct Line {
    flaw: Flaw,
    steps_of_all: Arc<AtomicU32>,
}

struct Point {
    flaw: Flaw,
    steps_of_all: Arc<AtomicU32>,
    born: u32,
    x: f64,
    v: f64,
    steps: u32,
}

impl Task for Line {
    fn name(&self) -> &'static str {
        "line"
    }

    fn spec(&self) -> AgentSpec {
        let second = if self.flaw == Flaw::TwinFields { "x" } else { "v" };
        let more = if self.flaw == Flaw::EmptyField { 0 } else { 1 };
        let observation = ObservationSpace::new([("x", 1), (second, more)]);
        AgentSpec::new(observation, ActionSpace::new(["push", "brake"]), 60)
    }

    fn control_period_secs(&self) -> f64 {
        if self.flaw == Flaw::NoPeriod { 0.0 } else { 0.05 }
    }

    fn has_expert(&self) -> bool {
        true
    }

    fn model(self: Arc<Self>, _robot: &Arc<Robot>, seed: u64) -> Box<dyn Model> {
        let start = match self.flaw {
            Flaw::SeedIgnored => 1.0,
            Flaw::BeginsAtItsEnd => 0.001 * (seed % 17) as f64,
            _ => 0.5 + (seed % 17) as f64 / 17.0,
        };
        if self.flaw == Flaw::LeakyNeighbours {
            self.steps_of_all.store(0, Ordering::Relaxed);
        }
        let born = self.steps_of_all.load(Ordering::Relaxed);
        Box::new(Point { flaw: self.flaw, steps_of_all: self.steps_of_all.clone(), born, x: start, v: 0.0, steps: 0 })
    }
}

impl Model for Point {
    fn step(&mut self, action: &[f32]) -> bool {
        let steps_of_all = self.steps_of_all.fetch_add(1, Ordering::Relaxed);
        self.steps += 1;
        let push = if self.flaw == Flaw::ActionIgnored { 0.0 } else { f64::from(action[0]) };
        self.v = 0.8 * self.v + 0.1 * push - 0.01 * f64::from(action[1]) * self.x;
        self.x = (self.x + 0.3 * self.v).clamp(-2.0, 2.0);
        match self.flaw {
            Flaw::SharedState => self.x += 1e-3 * f64::from(steps_of_all % 7),
            Flaw::LeakyNeighbours => self.x += 1e-3 * f64::from(steps_of_all - self.born - (self.steps - 1)),
            Flaw::BecomesNan if self.steps == 40 => self.v = f64::NAN,
            Flaw::Grows => self.v = 10_f64.powi(self.steps.min(20) as i32),
            _ => {}
        }
        self.x.is_finite()
    }

    fn observe(&self, observation: &mut Vec<f32>) {
        observation.push(self.x as f32);
        if !matches!(self.flaw, Flaw::ShortObservation | Flaw::EmptyField) {
            observation.push(self.v as f32);
        }
    }

    fn outcome(&self) -> TaskOutcome {
        let success = self.x.abs() < 0.05;
        let reward = match self.flaw {
            Flaw::RewardNan if self.steps == 3 => f32::NAN,
            Flaw::RewardUpsideDown => self.x.abs() as f32,
            Flaw::FickleOutcome => self.steps_of_all.fetch_add(1, Ordering::Relaxed) as f32,
            _ => -(self.x.abs() as f32),
        };
        TaskOutcome { reward, terminated: success, success }
    }

    fn joint_positions(&self) -> &[f64] {
        std::slice::from_ref(&self.x)
    }

    fn joint_velocities(&self) -> &[f64] {
        std::slice::from_ref(&self.v)
    }

    fn bodies(&self) -> Vec<BodyPose> {
        let pose = Pose::from_translation(Vec3::new(self.x as f32, 0.0, 0.0));
        let body = |name: &str| BodyPose { name: name.to_owned(), shape: BodyShape::Described, pose };
        if self.flaw == Flaw::BodiesVanish && self.steps > 5 { Vec::new() } else { vec![body("point")] }
    }

    fn moving_poses(&self, poses: &mut Vec<Pose>) {
        poses.clear();
        poses.extend(self.bodies().into_iter().map(|body| body.pose));
    }

    fn feed(&self, sink: &mut dyn FnMut(f32)) {
        sink(self.x as f32);
        sink(self.v as f32);
    }

    fn set_gravity(&mut self, _gravity: Vec3) {}

    fn expert(&self, _memory: &mut ExpertMemory) -> Option<Vec<f32>> {
        let push = (-2.0 * self.x as f32).clamp(-1.0, 1.0);
        match self.flaw {
            Flaw::ExpertMissing => None,
            Flaw::ExpertLost => Some(vec![-push, 0.0]),
            Flaw::ExpertTooShort => Some(vec![push]),
            _ => Some(vec![push, 0.0]),
        }
    }
}

fn check(flaw: Flaw) -> CheckReport {
    let task: Arc<dyn Task> = Arc::new(Line { flaw, steps_of_all: Arc::default() });
    check_task(&task, &Robot::panda().unwrap(), &CheckOptions { steps: 50, ..CheckOptions::quick() })
}

#[test]
fn a_task_without_a_flaw_passes() {
    let report = check(Flaw::Nothing);
    assert!(report.passed(), "{report}");
    assert!(report.checks.iter().all(|check| check.verdict == Verdict::Passed), "{report}");
    let expert = report.agents.iter().find(|trial| trial.agent == "expert").unwrap();
    assert!(expert.successes == expert.episodes && expert.mean_steps < 60.0, "{report}");
    let stages: Vec<_> = report.times.iter().map(|time| time.stage).collect();
    assert_eq!(stages, ["reset", "step", "observe", "outcome", "expert"]);
    assert!(report.times.iter().all(|time| time.secs > 0.0));
    let text = report.to_string();
    assert!(text.contains("✔ spaces") && text.contains("random") && !text.contains('✘'), "{text}");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["checks"][0]["verdict"], "passed");
}

#[test]
fn every_flaw_is_found_and_named() {
    for (flaw, name, part) in [
        (Flaw::ShortObservation, "spaces", "promises 2 numbers of observation, 1 are written"),
        (Flaw::TwinFields, "spaces", "named `x`"),
        (Flaw::EmptyField, "spaces", "`v` of the observation has no numbers"),
        (Flaw::NoPeriod, "spaces", "period is 0 s"),
        (Flaw::BodiesVanish, "bodies", "[\"point\"] at first"),
        (Flaw::SeedIgnored, "reset", "only 1 initial states"),
        (Flaw::BeginsAtItsEnd, "reset", "begins at its end"),
        (Flaw::SharedState, "determinism", "another state after"),
        (Flaw::SharedState, "reset midway", "was used before"),
        (Flaw::LeakyNeighbours, "neighbours", "in turn with others"),
        (Flaw::ActionIgnored, "actions", "`push` of the action changes nothing"),
        (Flaw::BecomesNan, "numbers", "`v` of the observation is not finite after step 40"),
        (Flaw::Grows, "numbers", "`v[0]` of the observation grows"),
        (Flaw::RewardNan, "numbers", "the reward is NaN"),
        (Flaw::RewardUpsideDown, "outcomes", "a step that ends at the goal is worth"),
        (Flaw::FickleOutcome, "outcomes", "asked twice, the same state means"),
        (Flaw::ExpertMissing, "expert", "there is none"),
        (Flaw::ExpertLost, "expert", "only 0 of 3 episodes succeed"),
        (Flaw::ExpertTooShort, "expert", "1 numbers where 2 are expected"),
    ] {
        let report = check(flaw);
        assert!(!report.passed() && report.to_string().contains('✘'), "{flaw:?}: {report}");
        let failure = report.failures().find(|check| check.name == name);
        let failure = failure.unwrap_or_else(|| panic!("{flaw:?} is not found by `{name}`: {report}"));
        assert!(failure.detail.contains(part), "{flaw:?}: {}", failure.detail);
    }
}

#[test]
fn a_scene_of_ones_own_that_begins_at_its_goal_is_found() {
    let mut scene = ManipScene::embedded("cube-double").unwrap();
    for task in &mut scene.tasks {
        task.goal = task.init.clone();
    }
    let task: Arc<dyn Task> = Arc::new(ManipTask::of_scene(scene, ServoRobot::ur5e().unwrap(), 1).unwrap());
    let report = check_task(&task, &Robot::panda().unwrap(), &CheckOptions::quick());
    let failure = report.failures().find(|check| check.name == "reset").unwrap_or_else(|| panic!("{report}"));
    assert!(failure.detail.contains("begins at its end"), "{}", failure.detail);
}

#[test]
fn every_task_of_ours_passes() {
    let robot = Robot::panda().unwrap();
    for name in tasks() {
        let report = check_task(&task(name).unwrap(), &robot, &CheckOptions::quick());
        assert!(report.passed(), "{report}");
    }
}
