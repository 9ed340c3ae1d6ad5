//! The arm among its cubes, buttons, drawer and window, in one arena.

use std::f64::consts::{PI, TAU};
use std::sync::Arc;

use bevy::math::{DQuat, DVec3, Vec3};
use bevy_rapier3d::rapier::glamx::DPose3;
use bevy_rapier3d::rapier::math::Pose;
use onestep_agent::{Purpose, derive_seed};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::ik;
use super::oracle::ACTION_DIM;
use super::robot::SERVO_JOINTS;
use super::scene::{Arrangement, Bounds, color_of};
use super::state::{ManipState, SlideState, about_z, seen_pose, yaw};
use super::task::{ManipReward, ManipTask, SuccessTiming};
use super::world::{ServoState, ServoTargets, ServoWorld, cube_shape};
use crate::expert::ExpertMemory;
use crate::frames;
use crate::kinematics::ArmPose;
use crate::model::{BodyPose, BodyShape, Model, PublishedState};
use crate::physics::{FINGERS, double, single};
use crate::scene::Look;
use crate::task::TaskOutcome;

/// How near a cube, the drawer and the window must be to their goals.
pub(crate) const REACHED: f64 = 0.04;
/// Drawer and window start within plus or minus this of their places.
const SLIDE_SPREAD: f64 = 0.01;
/// A cube this far outside of the workspace is put back.
const LOST: f64 = 0.2;
/// The wrench on a pad that counts as full contact.
const FULL_CONTACT: f64 = 50.0;

/// The simulation of a [`ManipTask`] in one arena.
pub struct ManipModel {
    task: Arc<ManipTask>,
    seed: u64,
    random: ChaCha8Rng,
    world: ServoWorld,
    joints: ServoState,
    pose: ArmPose<SERVO_JOINTS>,
    /// The arm as the benchmark sees it: a little older than the joints.
    seen: ArmPose<SERVO_JOINTS>,
    state: ManipState,
    goal: Arrangement,
    /// What the state means now.
    judged: TaskOutcome,
    /// What the last step is said to mean.
    outcome: TaskOutcome,
    steps: u32,
    qpos: Vec<f64>,
    qvel: Vec<f64>,
}

/// How a model starts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    Init,
    Goal,
}

fn uniform(random: &mut ChaCha8Rng, low: f64, high: f64) -> f64 {
    low + (high - low) * random.random::<f64>()
}

/// A point drawn uniformly in bounds.
pub(crate) fn draw<const N: usize>(random: &mut ChaCha8Rng, bounds: &Bounds<N>) -> [f64; N] {
    let mut point = bounds.low;
    for (value, high) in point.iter_mut().zip(bounds.high) {
        *value = uniform(random, *value, high);
    }
    point
}

/// The orientation of a hand that points down, turned about the vertical.
pub(crate) fn pointing_down(yaw: f64) -> DQuat {
    about_z(yaw) * DQuat::from_xyzw(1.0, 0.0, 0.0, 0.0)
}

impl ManipModel {
    /// The initial state of a seed.
    #[must_use]
    pub fn new(task: Arc<ManipTask>, seed: u64) -> Self {
        Self::start(task, seed, Start::Init)
    }

    /// The scene as it looks when the goal is reached: cubes unturned at their goals, the arm anywhere, and a little
    /// time to settle.
    pub(crate) fn at_goal(task: Arc<ManipTask>, seed: u64) -> Self {
        let mut model = Self::start(task, seed, Start::Goal);
        let is_closed = model.task.scene().is_pressed_alone();
        for _ in 0..if is_closed { 5 } else { 2 } {
            let mut action: [f32; ACTION_DIM] = std::array::from_fn(|_| model.random.random_range(-1.0..=1.0));
            if is_closed && let Some(gripper) = action.last_mut() {
                *gripper = 1.0;
            }
            model.step(&action);
        }
        model
    }

    fn start(task: Arc<ManipTask>, seed: u64, start: Start) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let scene = task.scene();
        let (mut init, mut goal) = match task.arrangement(seed) {
            Some(arrangement) => (arrangement.init.clone(), arrangement.goal.clone()),
            None => {
                let play = strewn(&task, &mut random);
                (play.clone(), play)
            }
        };
        if task.permutes_cubes() {
            let mut order: Vec<usize> = (0..scene.cube_count()).collect();
            order.shuffle(&mut random);
            for cubes in [&mut init.cubes, &mut goal.cubes] {
                *cubes = order.iter().filter_map(|index| cubes.get(*index)).copied().collect();
            }
        }
        let place = if start == Start::Goal { &goal } else { &init };
        if start == Start::Goal {
            // The arm is placed for the goal, and anew for the episode: one does not tell of the other.
            random = ChaCha8Rng::seed_from_u64(derive_seed(seed, Purpose::World, 0, 1));
        }

        let site = DVec3::from(draw(&mut random, &scene.arm_bounds));
        let hand = pointing_down(uniform(&mut random, -PI, PI));
        let mut home = [0.0; SERVO_JOINTS];
        home.iter_mut().zip(&task.robot().home.joint_positions).for_each(|(value, home)| *value = *home);
        let positions = ik::solve(task.chain(), site, hand, &home);
        let open = task.robot().gripper.crank.half_gap(task.robot().gripper.crank_travel[0]);
        let joints = ServoState {
            positions,
            velocities: [0.0; SERVO_JOINTS],
            fingers: [open; FINGERS],
            finger_velocities: [0.0; FINGERS],
        };
        let in_play = task.is_play();
        let spread = scene.cubes.as_ref().map_or(0.0, |cubes| cubes.spread);
        let cubes: Vec<DPose3> = place
            .cubes
            .iter()
            .map(|center| {
                let (mut position, mut turn) = (DVec3::from(*center), DQuat::IDENTITY);
                if start == Start::Init {
                    if !in_play {
                        position.x += uniform(&mut random, -spread, spread);
                        position.y += uniform(&mut random, -spread, spread);
                    }
                    turn = about_z(uniform(&mut random, 0.0, TAU));
                }
                DPose3::from_parts(position, turn)
            })
            .collect();
        let mut slides = vec![SlideState::default(); scene.button_count()];
        for (slide, position) in [(&scene.drawer, place.drawer), (&scene.window, place.window)] {
            let Some(slide) = slide else { continue };
            let spread = if in_play || start == Start::Goal { 0.0 } else { SLIDE_SPREAD };
            let [low, high] = slide.range;
            let position = (position + uniform(&mut random, -spread, spread)).clamp(low, high);
            slides.push(SlideState { position, velocity: 0.0 });
        }
        let world = ServoWorld::new(task.robot(), scene, &joints, &cubes, &slides, &scene.physics);
        let joints = world.joints();
        let state = ManipState {
            arm: positions,
            arm_velocities: joints.velocities,
            crank: 0.0,
            crank_velocity: 0.0,
            contact: 0.0,
            cubes,
            cube_velocities: vec![(DVec3::ZERO, DVec3::ZERO); place.cubes.len()],
            button_states: place.buttons.clone(),
            slides,
        };
        let mut model = Self {
            pose: task.chain().pose(&joints.positions),
            seen: seen_pose(scene, task.chain(), &joints.positions, &joints.velocities),
            seed,
            random,
            world,
            joints,
            state,
            goal,
            judged: TaskOutcome::default(),
            outcome: TaskOutcome::default(),
            steps: 0,
            qpos: Vec::new(),
            qvel: Vec::new(),
            task,
        };
        model.state.crank = model.crank();
        model.lock_slides();
        model.write_files_layout();
        model.judged = model.judge();
        model.outcome = model.judged;
        model
    }

    /// The task.
    #[must_use]
    pub fn task(&self) -> &ManipTask {
        &self.task
    }

    /// Seed of the episode.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Control steps done.
    #[must_use]
    pub fn steps(&self) -> u32 {
        self.steps
    }

    /// The state.
    #[must_use]
    pub fn state(&self) -> &ManipState {
        &self.state
    }

    /// Where everything shall be; in play, where everything was.
    #[must_use]
    pub fn goal(&self) -> &Arrangement {
        &self.goal
    }

    /// The point between the pads, as the benchmark sees it: two milliseconds before.
    #[must_use]
    pub fn effector(&self) -> DVec3 {
        self.seen.site
    }

    /// The hand's turn about the vertical, radians, as the benchmark sees it.
    #[must_use]
    pub fn effector_yaw(&self) -> f64 {
        yaw(self.seen.hand.rotation)
    }

    /// How far the gripper is closed, from 0 to 1.
    #[must_use]
    pub fn closure(&self) -> f64 {
        self.task.robot().gripper.closure(self.state.crank)
    }

    /// Adds `velocity` (m/s, Z up) to a cube's velocity.
    pub fn push_cube(&mut self, index: usize, velocity: Vec3) {
        self.world.push(index, velocity);
    }

    /// Puts a cube somewhere, at rest: for tests and experiments.
    pub fn place_cube(&mut self, index: usize, position: DVec3, turn: DQuat) {
        self.world.place_cube(index, &DPose3::from_parts(position, turn));
        self.read_state();
    }

    /// Which parts of the goal hold: cubes, buttons, drawer, window.
    #[must_use]
    pub fn successes(&self) -> Vec<bool> {
        let (state, goal) = (&self.state, &self.goal);
        let cubes = state.cubes.iter().zip(&goal.cubes);
        let mut parts: Vec<bool> =
            cubes.map(|(cube, goal)| cube.translation.distance(DVec3::from(*goal)) <= REACHED).collect();
        parts.extend(state.button_states.iter().zip(&goal.buttons).map(|(state, goal)| state == goal));
        let scene = self.task.scene();
        let goals = [scene.drawer.is_some().then_some(goal.drawer), scene.window.is_some().then_some(goal.window)];
        let slides = state.slides.iter().skip(state.button_states.len());
        let near = |(slide, goal): (&SlideState, f64)| (slide.position - goal).abs() <= REACHED;
        parts.extend(slides.zip(goals.into_iter().flatten()).map(near));
        parts
    }

    fn judge(&self) -> TaskOutcome {
        if self.task.is_play() {
            return TaskOutcome::default();
        }
        let parts = self.successes();
        let solved = parts.iter().filter(|part| **part).count();
        let success = solved == parts.len();
        let reward = match self.task.reward() {
            ManipReward::SingleTask => solved as f32 - parts.len() as f32,
            ManipReward::Sparse => f32::from(success) - 1.0,
            ManipReward::GoalConditioned => f32::from(success),
        };
        TaskOutcome { reward, terminated: success, success }
    }

    fn crank(&self) -> f64 {
        let gripper = &self.task.robot().gripper;
        gripper.crank.angle(0.5 * (self.joints.fingers[0] + self.joints.fingers[1])).max(0.0)
    }

    fn targets(&self, action: &[f32]) -> ServoTargets {
        let number = |index: usize| f64::from(action.get(index).copied().unwrap_or(0.0));
        let robot = self.task.robot();
        let closure = (self.closure() + number(4) * robot.controller.gripper_scale).clamp(0.0, 1.0);
        let (mass, _) = self.task.chain().mass_matrix_and_gravity(&self.pose, DVec3::ZERO);
        ServoTargets {
            inertia: std::array::from_fn(|joint| mass[joint][joint]),
            joints: self.aim(action, &self.seen, &self.joints.positions),
            crank: closure * robot.gripper.crank_travel[1],
        }
    }

    /// The joint positions that an action asks for, where the arm is seen as `seen` and its joints are at `positions`.
    fn aim(
        &self,
        action: &[f32],
        seen: &ArmPose<SERVO_JOINTS>,
        positions: &[f64; SERVO_JOINTS],
    ) -> [f64; SERVO_JOINTS] {
        let number = |index: usize| f64::from(action.get(index).copied().unwrap_or(0.0));
        let scale = &self.task.robot().controller;
        let way = DVec3::new(number(0), number(1), number(2)) * scale.position_scale;
        let site = DVec3::from(self.task.scene().workspace.clamp((seen.site + way).to_array()));
        let hand = pointing_down(yaw(seen.hand.rotation) + number(3) * scale.yaw_scale);
        ik::solve(self.task.chain(), site, hand, positions)
    }

    fn read_state(&mut self) {
        let crank = self.crank();
        let lever = self.task.robot().gripper.crank.lever(crank).max(1e-3);
        let rate = 0.5 * (self.joints.finger_velocities[0] + self.joints.finger_velocities[1]);
        self.seen = seen_pose(self.task.scene(), self.task.chain(), &self.joints.positions, &self.joints.velocities);
        let state = &mut self.state;
        state.crank = crank;
        state.crank_velocity = -rate / lever;
        state.arm = self.joints.positions;
        state.arm_velocities = self.joints.velocities;
        state.cubes.clear();
        state.cubes.extend(self.world.cubes().map(double));
        state.cube_velocities.clear();
        let cubes = self.world.cube_velocities().zip(&state.cubes);
        state.cube_velocities.extend(cubes.map(|((linear, angular), pose)| {
            // The benchmark counts turns about a cube's own axes.
            (linear.as_dvec3(), pose.rotation.inverse() * angular.as_dvec3())
        }));
        state.slides.clear();
        state.slides.extend(self.world.slides());
        self.write_files_layout();
    }

    fn write_files_layout(&mut self) {
        self.state.write_qpos(&mut self.qpos);
        self.state.write_qvel(&mut self.qvel);
    }

    /// Buttons that have passed their point downwards toggle, and with them their neighbours if lights are out.
    fn press_buttons(&mut self, before: &[SlideState]) {
        let Some(buttons) = &self.task.scene().buttons else { return };
        let pressed: Vec<usize> = before
            .iter()
            .zip(&self.state.slides)
            .take(self.state.button_states.len())
            .enumerate()
            .filter(|(_, (before, after))| before.position > buttons.pressed_at && after.position <= buttons.pressed_at)
            .map(|(index, _)| index)
            .collect();
        for index in pressed {
            for toggled in toggles(index, buttons.lights_out) {
                if let Some(state) = self.state.button_states.get_mut(toggled) {
                    *state = 1 - (*state).min(1);
                }
            }
        }
    }

    fn lock_slides(&mut self) {
        let (scene, states) = (self.task.scene(), &self.state.button_states);
        let is_off = |button: usize| states.get(button).is_some_and(|state| *state == 0);
        let locks = scene.drawer.iter().chain(&scene.window).map(|slide| is_off(slide.locked_by));
        self.world.lock(std::iter::repeat_n(false, states.len()).chain(locks));
    }

    /// A cube that was thrown out of the scene with the drawer comes back at random, as in the benchmark.
    fn retrieve_lost_cubes(&mut self) {
        let task = self.task.clone();
        let scene = task.scene();
        if scene.drawer.is_none() || task.is_play() {
            return;
        }
        let (low, high) = (DVec3::from(scene.workspace.low) - LOST, DVec3::from(scene.workspace.high) + LOST);
        let lost: Vec<usize> = self
            .state
            .cubes
            .iter()
            .enumerate()
            .filter(|(_, cube)| cube.translation.cmple(low).any() || cube.translation.cmpge(high).any())
            .map(|(index, _)| index)
            .collect();
        for index in lost {
            let [x, y] = draw(&mut self.random, &scene.object_bounds);
            let height = scene.cubes.as_ref().map_or(0.0, |cubes| cubes.half_extent);
            let turn = about_z(uniform(&mut self.random, 0.0, TAU));
            let pose = DPose3::from_parts(DVec3::new(x, y, height), turn);
            self.world.place_cube(index, &pose);
            if let Some(cube) = self.state.cubes.get_mut(index) {
                *cube = pose;
            }
            if let Some(velocity) = self.state.cube_velocities.get_mut(index) {
                *velocity = (DVec3::ZERO, DVec3::ZERO);
            }
            self.write_files_layout();
        }
    }
}

/// The buttons that a press of one toggles.
pub(crate) fn toggles(index: usize, lights_out: Option<[usize; 2]>) -> Vec<usize> {
    let mut toggled = vec![index];
    if let Some([rows, columns]) = lights_out
        && columns > 0
    {
        let (row, column) = (index / columns, index % columns);
        if row > 0 {
            toggled.push(index - columns);
        }
        if row + 1 < rows {
            toggled.push(index + columns);
        }
        if column > 0 {
            toggled.push(index - 1);
        }
        if column + 1 < columns {
            toggled.push(index + 1);
        }
    }
    toggled
}

/// Everything at random, as play starts.
fn strewn(task: &ManipTask, random: &mut ChaCha8Rng) -> Arrangement {
    let scene = task.scene();
    let height = scene.cubes.as_ref().map_or(0.0, |cubes| cubes.half_extent);
    let mut slide = |range: Option<[f64; 2]>| range.map_or(0.0, |[low, high]| uniform(random, low, high));
    let (drawer, window) =
        (slide(scene.drawer.as_ref().map(|slide| slide.range)), slide(scene.window.as_ref().map(|slide| slide.range)));
    Arrangement {
        cubes: (0..scene.cube_count())
            .map(|_| {
                let [x, y] = draw(random, &scene.object_bounds);
                [x, y, height]
            })
            .collect(),
        buttons: (0..scene.button_count()).map(|_| u8::from(random.random::<bool>())).collect(),
        drawer,
        window,
    }
}

impl Model for ManipModel {
    fn published_state(&self) -> Option<PublishedState> {
        let mut published = PublishedState::default();
        self.state.write_qpos(&mut published.qpos);
        self.state.write_qvel(&mut published.qvel);
        published.button_states = self.state.button_states.iter().copied().map(i64::from).collect();
        Some(published)
    }

    fn step(&mut self, action: &[f32]) -> bool {
        let before = self.judged;
        let slides = self.state.slides.clone();
        let targets = self.targets(action);
        let task = self.task.clone();
        for _ in 0..task.scene().physics.substeps {
            self.world.step(task.robot(), &self.joints, &self.pose, &targets);
            self.joints = self.world.joints();
            self.pose = task.chain().pose(&self.joints.positions);
            if self.world.quarantined() {
                return false;
            }
        }
        self.steps += 1;
        let (mass, center) = task.chain().center_of_mass(&self.pose);
        self.state.contact = (self.world.pad_wrench(mass, center) / FULL_CONTACT).clamp(0.0, 1.0);
        self.read_state();
        self.retrieve_lost_cubes();
        self.press_buttons(&slides);
        self.lock_slides();
        self.judged = self.judge();
        self.outcome = match task.timing() {
            SuccessTiming::Post => self.judged,
            SuccessTiming::Pre => before,
        };
        true
    }

    fn observe(&self, observation: &mut Vec<f32>) {
        self.state.write_observation(self.task.robot(), self.task.chain(), self.task.scene(), observation);
    }

    fn outcome(&self) -> TaskOutcome {
        self.outcome
    }

    fn joint_positions(&self) -> &[f64] {
        &self.qpos
    }

    fn joint_velocities(&self) -> &[f64] {
        &self.qvel
    }

    fn set_joints(&mut self, positions: &[f64], velocities: &[f64]) -> bool {
        let scene = self.task.scene();
        let Some(mut state) =
            ManipState::from_benchmark(scene, positions, velocities, &self.state.button_states.clone())
        else {
            return false;
        };
        let gripper = &self.task.robot().gripper;
        let lever = gripper.crank.lever(state.crank);
        let joints = ServoState {
            positions: state.arm,
            velocities: state.arm_velocities,
            fingers: [gripper.crank.half_gap(state.crank).clamp(gripper.half_gap[0], gripper.half_gap[1]); FINGERS],
            finger_velocities: [-lever * state.crank_velocity; FINGERS],
        };
        let mut world = ServoWorld::new(self.task.robot(), scene, &joints, &state.cubes, &state.slides, &scene.physics);
        for (index, (linear, angular)) in state.cube_velocities.iter().enumerate() {
            let Some(pose) = state.cubes.get(index) else { continue };
            world.set_cube_velocity(index, linear.as_vec3(), (pose.rotation * *angular).as_vec3());
        }
        self.world = world;
        self.joints = self.world.joints();
        self.pose = self.task.chain().pose(&self.joints.positions);
        self.seen = seen_pose(self.task.scene(), self.task.chain(), &self.joints.positions, &self.joints.velocities);
        state.contact = 0.0;
        self.state = state;
        self.lock_slides();
        self.write_files_layout();
        self.judged = self.judge();
        self.outcome = self.judged;
        true
    }

    fn bodies(&self) -> Vec<BodyPose> {
        let (robot, scene) = (self.task.robot(), self.task.scene());
        let body = |name: &str, shape: BodyShape, pose: Pose| BodyPose { name: name.to_owned(), shape, pose };
        let part = |name: &str, pose: Pose| body(name, BodyShape::Described, pose);
        let paint = |color: &str| color_of("", "", color).map_or(Look::default(), Look::paint);
        let mut bodies = vec![part(&robot.base.name, Pose::IDENTITY)];
        for (link, pose) in robot.links.iter().zip(&self.pose.links) {
            bodies.push(part(&link.name, single(pose)));
        }
        bodies.push(part(&robot.hand.name, single(&self.pose.hand)));
        for (name, pose) in robot.gripper.finger_names.iter().zip(self.world.finger_poses()) {
            bodies.push(part(name, pose));
        }
        if let Some(cubes) = &scene.cubes {
            for (index, (pose, color)) in self.world.cubes().zip(&cubes.colors).enumerate() {
                let shape = BodyShape::Shapes(vec![cube_shape(cubes, paint(color))]);
                bodies.push(body(&format!("cube_{index}"), shape, *pose));
            }
        }
        let caps = scene.buttons.iter().flat_map(|buttons| {
            let states = self.state.button_states.iter().enumerate();
            states.map(|(index, state)| {
                let color = &buttons.colors[usize::from(*state).min(1)];
                let shapes = buttons.cap.iter().map(|shape| {
                    // The part without a colour of its own shows the state.
                    if shape.look.color.is_some() { *shape } else { shape.looking(paint(color)) }
                });
                (format!("button_{index}"), shapes.collect())
            })
        });
        let slides = scene.drawer.iter().map(|slide| ("drawer".to_owned(), slide.shapes.clone()));
        let slides = slides.chain(scene.window.iter().map(|slide| ("window".to_owned(), slide.shapes.clone())));
        for ((name, shapes), pose) in caps.chain(slides).zip(self.world.slide_poses()) {
            bodies.push(body(&name, BodyShape::Shapes(shapes), *pose));
        }
        for (index, pose) in self.goal_poses().enumerate() {
            let look = scene.cubes.as_ref().and_then(|cubes| cubes.colors.get(index)).map(|color| paint(color));
            let look = Look { opacity: 0.2, ..look.unwrap_or_default() };
            let shape = scene.cubes.as_ref().map(|cubes| cube_shape(cubes, look).untouchable());
            bodies.push(body(&format!("goal_{index}"), BodyShape::Shapes(shape.into_iter().collect()), pose));
        }
        for (index, position) in scene.buttons.iter().flat_map(|buttons| &buttons.positions).enumerate() {
            let case = scene.buttons.as_ref().map(|buttons| buttons.case.clone()).unwrap_or_default();
            let pose = Pose::from_translation(DVec3::from(*position).as_vec3());
            bodies.push(body(&format!("button_case_{index}"), BodyShape::Shapes(case), pose));
        }
        for fixture in scene.fixtures.iter().filter(|fixture| fixture.drawn) {
            bodies.push(body(&fixture.name, BodyShape::Shapes(fixture.shapes.clone()), single(&fixture.pose)));
        }
        bodies
    }

    fn moving_poses(&self, poses: &mut Vec<Pose>) {
        poses.clear();
        poses.push(Pose::IDENTITY);
        poses.extend(self.pose.links.iter().map(single));
        poses.push(single(&self.pose.hand));
        poses.extend(self.world.finger_poses());
        poses.extend(self.world.cubes());
        poses.extend(self.world.slide_poses());
        poses.extend(self.goal_poses());
    }

    fn feed(&self, sink: &mut dyn FnMut(f32)) {
        for pose in self.world.robot_poses().chain(self.world.cubes()).chain(self.world.slide_poses()) {
            pose.translation.to_array().into_iter().for_each(&mut *sink);
            pose.rotation.to_array().into_iter().for_each(&mut *sink);
        }
        for (linear, angular) in self.world.cube_velocities() {
            linear.to_array().into_iter().chain(angular.to_array()).for_each(&mut *sink);
        }
        let ServoState { positions, velocities, fingers, finger_velocities } = &self.joints;
        for numbers in [&positions[..], velocities, fingers, finger_velocities] {
            numbers.iter().for_each(|number| sink(*number as f32));
        }
        self.state.slides.iter().for_each(|slide| sink(slide.velocity as f32));
        self.state.button_states.iter().for_each(|state| sink(f32::from(*state)));
    }

    fn set_gravity(&mut self, gravity: Vec3) {
        self.world.set_gravity(gravity);
    }

    fn expert(&self, memory: &mut ExpertMemory) -> Option<Vec<f32>> {
        Some(memory.oracle(self).act(self))
    }

    fn as_manip(&self) -> Option<&ManipModel> {
        Some(self)
    }

    fn as_manip_mut(&mut self) -> Option<&mut ManipModel> {
        Some(self)
    }

    fn grip_sites(&self) -> Vec<Vec3> {
        vec![frames::to_bevy(self.pose.site.as_vec3())]
    }

    fn predict_paths(&self, actions: &[f32]) -> Vec<Vec<Vec3>> {
        let (task, chain) = (&*self.task, self.task.chain());
        let (mut joints, mut pose, mut seen) = (self.joints, self.pose, self.seen);
        let (actions, _) = actions.as_chunks::<ACTION_DIM>();
        let path = actions.iter().map(|action| {
            let action = action.map(|value| value.clamp(-1.0, 1.0));
            let aim = self.aim(&action, &seen, &joints.positions);
            let (mass, holding) = chain.mass_matrix_and_gravity(&pose, self.world.gravity());
            self.world.predict(&mut joints, &aim, &mass, &holding, task.scene().physics.substeps);
            pose = chain.pose(&joints.positions);
            seen = seen_pose(task.scene(), chain, &joints.positions, &joints.velocities);
            frames::to_bevy(pose.site.as_vec3())
        });
        vec![path.collect()]
    }
}

impl ManipModel {
    fn goal_poses(&self) -> impl Iterator<Item = Pose> {
        let goals = if self.task.is_play() { &[][..] } else { &self.goal.cubes[..] };
        goals.iter().map(|center| Pose::from_translation(DVec3::from(*center).as_vec3()))
    }
}
