//! Differential inverse kinematics of a six-joint arm.

use bevy::math::{DQuat, DVec3};

use super::robot::SERVO_JOINTS;
use crate::kinematics::Chain;
use crate::linalg::Cholesky;

const MAX_ITERATIONS: u32 = 20;
const TOLERANCE: f64 = 1e-4;
const DAMPING: f64 = 1e-12;
/// Largest change of a joint in one iteration, 45 degrees.
const LARGEST_TURN: f64 = std::f64::consts::FRAC_PI_4;
/// Where the flange's face is, in the hand's frame: the point whose Jacobian is used.
const FLANGE: DVec3 = DVec3::new(0.0, 0.0, -0.0108);

/// Joint positions near `start` for which the grip site is at `site` and the hand is turned as `hand` says: full Newton
/// steps through the pseudo-inverse, at most twenty. Returns the last iterate, whether it converged or not.
pub(crate) fn solve(
    chain: &Chain<SERVO_JOINTS>,
    site: DVec3,
    hand: DQuat,
    start: &[f64; SERVO_JOINTS],
) -> [f64; SERVO_JOINTS] {
    let mut joints = *start;
    let site_in_hand = chain.site_in_hand();
    let flange_target = site + hand * (FLANGE - site_in_hand);
    for _ in 0..MAX_ITERATIONS {
        let pose = chain.pose(&joints);
        let flange = pose.hand.transform_point(FLANGE);
        let position_error = flange_target - flange;
        let mut turn = hand * pose.hand.rotation.inverse();
        if turn.w < 0.0 {
            turn = -turn;
        }
        let rotation_error = turn.to_scaled_axis();
        if position_error.length() <= TOLERANCE && rotation_error.length() <= TOLERANCE {
            break;
        }
        let jacobian = chain.jacobian_at(&pose, flange);
        let mut product = [[0.0; 6]; 6];
        for (i, row) in product.iter_mut().enumerate() {
            for (j, entry) in row.iter_mut().enumerate() {
                *entry = jacobian.iter().map(|column| column[i] * column[j]).sum();
            }
            row[i] += DAMPING;
        }
        let error = [
            position_error.x,
            position_error.y,
            position_error.z,
            rotation_error.x,
            rotation_error.y,
            rotation_error.z,
        ];
        let solved = Cholesky::new(product, DAMPING).solve(error);
        let mut update = jacobian.map(|column| column.iter().zip(&solved).map(|(a, b)| a * b).sum::<f64>());
        let largest = update.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
        if largest > LARGEST_TURN {
            update.iter_mut().for_each(|value| *value *= LARGEST_TURN / largest);
        }
        joints.iter_mut().zip(update).for_each(|(joint, change)| *joint += change);
    }
    joints
}
