//! The one place where frames are converted.
//!
//! Physics, observations and task data use the benchmarks' frame: right-handed, Z up. Bevy's world is right-handed, Y
//! up. The axes map as `x -> x`, `y -> -z`, `z -> y`. A body's own axes stay as they are in its data file; only its
//! pose in the world is converted, so a mesh is made in the body's own Z-up frame.

use bevy::math::{Isometry3d, Quat, Vec3};
use bevy::transform::components::Transform;
use bevy_rapier3d::rapier::math::Pose;

/// Rotation that takes benchmark axes to Bevy axes: a quarter turn about x, from +y to -z.
pub const BEVY_FROM_BENCHMARK: Quat =
    Quat::from_xyzw(-std::f32::consts::FRAC_1_SQRT_2, 0.0, 0.0, std::f32::consts::FRAC_1_SQRT_2);

/// A point or a direction of the benchmark frame, in Bevy's axes.
#[must_use]
pub fn to_bevy(v: Vec3) -> Vec3 {
    Vec3::new(v.x, v.z, -v.y)
}

/// A point or a direction of Bevy's axes, in the benchmark frame.
#[must_use]
pub fn from_bevy(v: Vec3) -> Vec3 {
    Vec3::new(v.x, -v.z, v.y)
}

/// The pose of a body in the benchmark frame, as a Bevy transform.
#[must_use]
pub fn transform(pose: &Pose) -> Transform {
    Transform {
        translation: to_bevy(pose.translation),
        rotation: BEVY_FROM_BENCHMARK * pose.rotation,
        scale: Vec3::ONE,
    }
}

/// The pose of a body in the benchmark frame, as a Bevy isometry.
#[must_use]
pub fn isometry(pose: &Pose) -> Isometry3d {
    Isometry3d::new(to_bevy(pose.translation), BEVY_FROM_BENCHMARK * pose.rotation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn up_is_up_and_there_and_back_is_the_same() {
        assert_eq!(to_bevy(Vec3::Z), Vec3::Y);
        let v = Vec3::new(0.3, -1.2, 0.8);
        assert_eq!(from_bevy(to_bevy(v)), v);
        assert!((BEVY_FROM_BENCHMARK * v - to_bevy(v)).length() < 1e-6);
    }
}
