//! The state of a scene as the benchmark counts it, and its observation.

use bevy::math::{DQuat, DVec3};
use bevy_rapier3d::rapier::glamx::DPose3;

use super::robot::{SERVO_JOINTS, ServoRobot};
use super::scene::ManipScene;
use crate::kinematics::{ArmPose, Chain};

/// Numbers that are subtracted from positions, and factors, of the observation.
const CENTER: DVec3 = DVec3::new(0.425, 0.0, 0.0);
const POSITION_SCALE: f64 = 10.0;
const GRIPPER_SCALE: f64 = 3.0;
const BUTTON_SCALE: f64 = 120.0;
const DRAWER_SCALE: f64 = 18.0;
const WINDOW_SCALE: f64 = 15.0;

/// How old the poses of the benchmark's arm are when it looks at them, seconds: joints are of the moment, what follows
/// from them is of one physics step before. Where there are buttons it computes them anew.
const POSE_AGE: f64 = 0.002;

/// Joints of the original's gripper: four on each side, of which the first is the driver.
const GRIPPER_JOINTS: usize = 8;
/// Numbers of the arm in an observation, and of each cube that follows.
const OBSERVED_ARM: usize = 19;
const OBSERVED_CUBE: usize = 9;
/// Numbers of a cube among the positions and among the velocities.
const CUBE_POSITIONS: usize = 7;
const CUBE_VELOCITIES: usize = 6;

/// Position and velocity of something that slides.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SlideState {
    /// Metres.
    pub position: f64,
    /// Metres per second.
    pub velocity: f64,
}

/// The state of a scene, Z up, as the benchmark's files keep it.
#[derive(Debug, Clone, PartialEq)]
pub struct ManipState {
    /// Joint positions of the arm, radians.
    pub arm: [f64; SERVO_JOINTS],
    /// Joint velocities of the arm.
    pub arm_velocities: [f64; SERVO_JOINTS],
    /// Angle of the gripper's crank, 0 open.
    pub crank: f64,
    /// Its rate.
    pub crank_velocity: f64,
    /// Contact of the right pad, 0 to 1. Files do not keep it.
    pub contact: f64,
    /// Poses of the cubes.
    pub cubes: Vec<DPose3>,
    /// Linear (world) and angular (own axes) velocities of the cubes.
    pub cube_velocities: Vec<(DVec3, DVec3)>,
    /// States of the buttons, 0 or 1.
    pub button_states: Vec<u8>,
    /// Buttons, drawer, window: as many as the scene has.
    pub slides: Vec<SlideState>,
}

/// The yaw of an orientation: what remains of it in a turn about the vertical.
#[must_use]
pub(crate) fn yaw(rotation: DQuat) -> f64 {
    let DQuat { x, y, z, w } = rotation;
    libm::atan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z))
}

/// Where a cube is in an observation, metres.
pub(crate) fn seen_cube(observation: &[f32], index: usize) -> Option<[f64; 3]> {
    let start = OBSERVED_ARM + OBSERVED_CUBE * index;
    let scaled: &[f32; 3] = observation.get(start..start + 3)?.try_into().ok()?;
    let place = DVec3::from(scaled.map(f64::from)) / POSITION_SCALE + CENTER;
    Some(place.to_array())
}

/// A turn about the vertical.
pub(crate) fn about_z(yaw: f64) -> DQuat {
    let (sin, cos) = libm::sincos(0.5 * yaw);
    DQuat::from_xyzw(0.0, 0.0, sin, cos)
}

/// Where the benchmark sees the arm: in scenes without buttons, the pose that follows from the joints one of its physics
/// steps ago.
pub(crate) fn seen_pose(
    scene: &ManipScene,
    chain: &Chain<SERVO_JOINTS>,
    positions: &[f64; SERVO_JOINTS],
    velocities: &[f64; SERVO_JOINTS],
) -> ArmPose<SERVO_JOINTS> {
    let age = if scene.buttons.is_some() { 0.0 } else { POSE_AGE };
    chain.pose(&std::array::from_fn(|i| positions[i] - age * velocities[i]))
}

impl ManipState {
    /// Lengths of the benchmark's `qpos` and `qvel` for a scene.
    #[must_use]
    pub fn lengths(scene: &ManipScene) -> (usize, usize) {
        let slides = scene.button_count() + usize::from(scene.drawer.is_some()) + usize::from(scene.window.is_some());
        let arm = SERVO_JOINTS + GRIPPER_JOINTS;
        let cubes = scene.cube_count();
        (arm + CUBE_POSITIONS * cubes + slides, arm + CUBE_VELOCITIES * cubes + slides)
    }

    /// The state that the benchmark's `qpos`, `qvel` and button states describe, or nothing if a length is wrong.
    #[must_use]
    pub fn from_benchmark(scene: &ManipScene, qpos: &[f64], qvel: &[f64], buttons: &[u8]) -> Option<Self> {
        if (qpos.len(), qvel.len()) != Self::lengths(scene) || buttons.len() != scene.button_count() {
            return None;
        }
        let (arm, rest) = qpos.split_first_chunk::<SERVO_JOINTS>()?;
        let (gripper, rest) = rest.split_first_chunk::<GRIPPER_JOINTS>()?;
        let (cubes, slides) = rest.split_at_checked(CUBE_POSITIONS * scene.cube_count())?;
        let (arm_velocities, rest) = qvel.split_first_chunk::<SERVO_JOINTS>()?;
        let (gripper_velocities, rest) = rest.split_first_chunk::<GRIPPER_JOINTS>()?;
        let (cube_velocities, slide_velocities) = rest.split_at_checked(CUBE_VELOCITIES * scene.cube_count())?;
        let (cubes, _) = cubes.as_chunks::<CUBE_POSITIONS>();
        let (cube_velocities, _) = cube_velocities.as_chunks::<CUBE_VELOCITIES>();
        Some(Self {
            arm: *arm,
            arm_velocities: *arm_velocities,
            crank: gripper[0],
            crank_velocity: gripper_velocities[0],
            contact: 0.0,
            cubes: cubes
                .iter()
                .map(|[px, py, pz, w, x, y, z]| {
                    DPose3::from_parts(DVec3::new(*px, *py, *pz), DQuat::from_xyzw(*x, *y, *z, *w))
                })
                .collect(),
            cube_velocities: cube_velocities
                .iter()
                .map(|[x, y, z, rx, ry, rz]| (DVec3::new(*x, *y, *z), DVec3::new(*rx, *ry, *rz)))
                .collect(),
            button_states: buttons.to_vec(),
            slides: slides
                .iter()
                .zip(slide_velocities)
                .map(|(position, velocity)| SlideState { position: *position, velocity: *velocity })
                .collect(),
        })
    }

    /// The benchmark's `qpos`. Of the gripper's linkage only the drivers' angle is simulated here; the others follow
    /// from it as in a parallelogram.
    pub fn write_qpos(&self, qpos: &mut Vec<f64>) {
        qpos.clear();
        qpos.extend(self.arm);
        for _ in 0..2 {
            qpos.extend([self.crank, 0.0, self.crank, -self.crank]);
        }
        for cube in &self.cubes {
            let DQuat { x, y, z, w } = cube.rotation;
            qpos.extend(cube.translation.to_array());
            qpos.extend([w, x, y, z]);
        }
        qpos.extend(self.slides.iter().map(|slide| slide.position));
    }

    /// The benchmark's `qvel`.
    pub fn write_qvel(&self, qvel: &mut Vec<f64>) {
        qvel.clear();
        qvel.extend(self.arm_velocities);
        for _ in 0..2 {
            qvel.extend([self.crank_velocity, 0.0, self.crank_velocity, -self.crank_velocity]);
        }
        for (linear, angular) in &self.cube_velocities {
            qvel.extend(linear.to_array());
            qvel.extend(angular.to_array());
        }
        qvel.extend(self.slides.iter().map(|slide| slide.velocity));
    }

    /// Writes the observation, laid out and scaled as the benchmark's.
    pub fn write_observation(
        &self,
        robot: &ServoRobot,
        chain: &Chain<SERVO_JOINTS>,
        scene: &ManipScene,
        observation: &mut Vec<f32>,
    ) {
        observation.clear();
        let mut push = |numbers: &[f64]| observation.extend(numbers.iter().map(|number| *number as f32));
        let pose = seen_pose(scene, chain, &self.arm, &self.arm_velocities);
        let (sin, cos) = libm::sincos(yaw(pose.hand.rotation));
        push(&self.arm);
        push(&self.arm_velocities);
        push(&((pose.site - CENTER) * POSITION_SCALE).to_array());
        push(&[cos, sin, robot.gripper.closure(self.crank) * GRIPPER_SCALE, self.contact]);
        for cube in &self.cubes {
            let DQuat { x, y, z, w } = cube.rotation;
            let (sin, cos) = libm::sincos(yaw(cube.rotation));
            push(&((cube.translation - CENTER) * POSITION_SCALE).to_array());
            push(&[w, x, y, z, cos, sin]);
        }
        let mut slides = self.slides.iter();
        for (state, slide) in self.button_states.iter().zip(slides.by_ref()) {
            let on = f64::from(*state);
            push(&[1.0 - on, on, slide.position * BUTTON_SCALE, slide.velocity]);
        }
        let scales = [scene.drawer.is_some().then_some(DRAWER_SCALE), scene.window.is_some().then_some(WINDOW_SCALE)];
        for (scale, slide) in scales.into_iter().flatten().zip(slides) {
            push(&[slide.position * scale, slide.velocity]);
        }
    }

    /// The benchmark's short form of a goal: scaled positions of cubes, states of buttons, drawer, window.
    #[must_use]
    pub fn goal_representation(&self, scene: &ManipScene) -> Vec<f32> {
        let mut goal = Vec::new();
        for cube in &self.cubes {
            goal.extend(((cube.translation - CENTER) * POSITION_SCALE).as_vec3().to_array());
        }
        goal.extend(self.button_states.iter().map(|state| f32::from(*state)));
        let scales = [scene.drawer.is_some().then_some(DRAWER_SCALE), scene.window.is_some().then_some(WINDOW_SCALE)];
        let slides = self.slides.iter().skip(self.button_states.len());
        goal.extend(scales.into_iter().flatten().zip(slides).map(|(scale, slide)| (slide.position * scale) as f32));
        goal
    }
}
