//! Observations of states as robomimic's files keep them.

use std::sync::Arc;

use bevy::math::{DQuat, DVec3};
use bevy_rapier3d::rapier::glamx::DPose3;

use super::{Can, Square, ToolHang, Transport};
use crate::SimError;
use crate::kinematics::Chain;
use crate::physics::World;
use crate::robot::{ARM_JOINTS, Robot};
use crate::task::{ArenaView, ArmTask, ArmView, Lift, LiftScene};

/// Where a body's seven numbers begin in a state: position, quaternion w x y z.
type Places = &'static [(&'static str, usize)];

/// Numbers of an arm with its gripper among the positions. In front of all is the time.
const ARM_NUMBERS: usize = ARM_JOINTS + 2;

/// The task of that name, and the places of its bodies.
fn layout(task: &str) -> Result<(Arc<dyn ArmTask>, Places), SimError> {
    Ok(match task {
        "lift" => (Arc::new(Lift::new(LiftScene::embedded()?)), &[("cube", 10)]),
        // Milk, bread and cereal lie before the can.
        "can" => (Arc::new(Can::embedded()?), &[("can", 31)]),
        // The round nut follows.
        "square" => (Arc::new(Square::embedded()?), &[("nut", 10)]),
        "tool-hang" => (Arc::new(ToolHang::embedded()?), &[("stand", 10), ("frame", 17), ("tool", 24)]),
        "transport" => (
            Arc::new(Transport::embedded()?),
            &[("payload", 19), ("trash", 26), ("start-bin", 33), ("target-bin", 40), ("trash-bin", 47), ("lid", 54)],
        ),
        _ => {
            let (name, known) = (task.to_owned(), "lift, can, square, tool-hang, transport".to_owned());
            return Err(SimError::UnknownTask { name, known, suggestion: None });
        }
    })
}

/// The observation of a state as robomimic's files keep it: time, positions, velocities (`data/demo_0/states`). The task
/// is one of `lift`, `can`, `square`, `tool-hang` and `transport`, whose observation follows from positions alone; the
/// robot is the Panda. What touches what is found from the poses.
///
/// # Errors
/// [`SimError::UnknownTask`] for another task; [`SimError::StateLength`] if the state is too short.
pub fn observe_state(task: &str, robot: &Robot, state: &[f64]) -> Result<Vec<f32>, SimError> {
    let (task, places) = layout(task)?;
    let expected = places.iter().map(|(_, place)| place + 7).max().unwrap_or_default();
    let short = SimError::StateLength { expected, found: state.len() };
    let numbers = |from: usize, count: usize| state.get(from..from + count).ok_or_else(|| short.clone());

    let mut start = task.start(robot, 0);
    for (name, place) in places {
        let [x, y, z, qw, qx, qy, qz]: [f64; 7] = numbers(*place, 7)?.try_into().map_err(|_| short.clone())?;
        let pose = DPose3::from_parts(DVec3::new(x, y, z), DQuat::from_xyzw(qx, qy, qz, qw));
        let objects = start.objects.iter_mut().map(|object| (&object.name, &mut object.pose));
        let fixtures = start.fixtures.iter_mut().map(|fixture| (&fixture.name, &mut fixture.pose));
        for (_, place) in objects.chain(fixtures).filter(|(known, _)| *known == name) {
            *place = pose;
        }
    }

    // robosuite's model rounds the half angle of the hand's turn to three digits.
    let mut rounded = robot.clone();
    rounded.hand.rpy[2] = -2.0 * libm::atan2(0.383, 0.924);
    let (mut arms, mut bases) = (Vec::new(), Vec::new());
    for (i, placement) in task.scene().robots.iter().enumerate() {
        let joints: [f64; ARM_JOINTS] =
            numbers(1 + i * ARM_NUMBERS, ARM_JOINTS)?.try_into().map_err(|_| short.clone())?;
        let fingers: [f64; 2] = numbers(1 + i * ARM_NUMBERS + ARM_JOINTS, 2)?.try_into().map_err(|_| short.clone())?;
        let base = placement.base();
        let pose = Chain::new(&rounded, base.translation.to_array()).on(base).pose(&joints);
        arms.push(ArmView { grip_site: pose.site, hand: pose.hand.rotation, fingers: [fingers[0], -fingers[1]] });
        if let Some(start) = start.joint_positions.get_mut(i) {
            *start = joints;
        }
        bases.push(base);
    }
    let world = World::new(robot, &bases, &start, &task.scene().physics);
    let objects: Vec<DPose3> = start.objects.iter().map(|object| object.pose).collect();
    let fixtures: Vec<DPose3> = start.fixtures.iter().map(|fixture| fixture.pose).collect();
    let view =
        ArenaView { arms: &arms, objects: &objects, half_extents: &[], fixtures: &fixtures, world: Some(&world) };
    let mut observation = Vec::new();
    task.observe(&view, &mut observation);
    Ok(observation)
}
