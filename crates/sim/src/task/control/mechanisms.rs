//! The six mechanisms: figures of the models published with Gymnasium 1.4 (`envs/mujoco/assets`), Z up, SI units.
//!
//! A link's frame has its origin in the link's joint, so positions differ from the published ones where a joint is not
//! in its body's origin. Masses follow from the rods, as in the originals.

use bevy::math::DVec3;

use crate::mechanism::{Axis, Dof, LinkModel, MechanismModel, Rod, Stops};
use crate::scene::PhysicsSettings;

fn rod(from: [f64; 3], to: [f64; 3], radius: f64, friction: f64) -> Rod {
    Rod { from: from.into(), to: to.into(), radius, friction }
}

/// A rod in the plane of x and z by its centre, half length, radius and the angle of its axis from z towards x.
fn turned_rod(center: [f64; 3], angle: f64, half_length: f64, radius: f64, friction: f64) -> Rod {
    let (sin, cos) = libm::sincos(angle);
    let (center, half) = (DVec3::from(center), half_length * DVec3::new(sin, 0.0, cos));
    Rod { from: center - half, to: center + half, radius, friction }
}

fn link(name: &'static str, parent: Option<usize>, anchor: [f64; 3], dof: Dof, rod: Rod) -> LinkModel {
    LinkModel { name, parent, anchor: anchor.into(), dofs: vec![dof], rods: vec![rod] }
}

/// Slides along x and z and turns about y, freely.
fn planar() -> Vec<Dof> {
    [Axis::SlideX, Axis::SlideZ, Axis::HingeY].map(Dof::free).to_vec()
}

/// Without contacts: physics steps of 2 ms or less.
fn contact_free(control_period_secs: f64, substeps: u32) -> PhysicsSettings {
    PhysicsSettings { control_period_secs, substeps, ..PhysicsSettings::default() }
}

pub(super) fn inverted_pendulum() -> MechanismModel {
    let slider = Dof { range: Some([-1.0, 1.0]), damping: 1.0, gear: 100.0, ..Dof::free(Axis::SlideX) };
    let right = std::f64::consts::FRAC_PI_2;
    let hinge = Dof { range: Some([-right, right]), damping: 1.0, ..Dof::free(Axis::HingeY) };
    MechanismModel {
        links: vec![
            link("cart", None, [0.0; 3], slider, rod([-0.1, 0.0, 0.0], [0.1, 0.0, 0.0], 0.1, 0.0)),
            link("pole", Some(0), [0.0; 3], hinge, rod([0.0; 3], [0.001, 0.0, 0.6], 0.049, 0.0)),
        ],
        total_mass: None,
        gravity: DVec3::new(0.0, 0.0, -9.81),
        ground: None,
        self_contacts: false,
        // MuJoCo takes twice its physics step of 20 ms where that is more than the published 20 ms.
        stops: Stops::Soft { time_constant: 0.04, margin: 0.0 },
        physics: contact_free(0.04, 20),
    }
}

pub(super) fn inverted_double_pendulum() -> MechanismModel {
    let slider = Dof { range: Some([-1.0, 1.0]), damping: 0.05, gear: 500.0, ..Dof::free(Axis::SlideX) };
    let hinge = Dof { damping: 0.05, ..Dof::free(Axis::HingeY) };
    let pole = || rod([0.0; 3], [0.0, 0.0, 0.6], 0.045, 0.0);
    MechanismModel {
        links: vec![
            link("cart", None, [0.0; 3], slider, rod([-0.1, 0.0, 0.0], [0.1, 0.0, 0.0], 0.1, 0.0)),
            link("pole", Some(0), [0.0; 3], hinge, pole()),
            link("pole2", Some(1), [0.0, 0.0, 0.6], hinge, pole()),
        ],
        total_mass: None,
        gravity: DVec3::new(1e-5, 0.0, -9.81),
        ground: None,
        self_contacts: false,
        stops: Stops::Soft { time_constant: 0.02, margin: 0.01 },
        physics: contact_free(0.05, 50),
    }
}

pub(super) fn reacher() -> MechanismModel {
    let joint = Dof { damping: 1.0, armature: 1.0, gear: 200.0, ..Dof::free(Axis::HingeZ) };
    let elbow = Dof { range: Some([-3.0, 3.0]), ..joint };
    let bone = || rod([0.0; 3], [0.1, 0.0, 0.0], 0.01, 0.0);
    let mut forearm = link("forearm", Some(0), [0.1, 0.0, 0.0], elbow, bone());
    forearm.rods.push(rod([0.11, 0.0, 0.0], [0.11, 0.0, 0.0], 0.01, 0.0)); // the finger tip
    MechanismModel {
        links: vec![link("upper_arm", None, [0.0, 0.0, 0.01], joint, bone()), forearm],
        total_mass: None,
        gravity: DVec3::new(0.0, 0.0, -9.81),
        ground: None,
        self_contacts: false,
        stops: Stops::Soft { time_constant: 0.02, margin: 0.0 },
        physics: contact_free(0.02, 10),
    }
}

/// The spring that MuJoCo's default settings describe: a time constant of 20 ms and a share of 0.95.
const LEG_STOPS: Stops = Stops::Solved { frequency_hz: 8.4, damping_ratio: 1.0 };

/// A joint of Hopper's or of Walker2d's legs. It counts about -y.
fn leg_joint(range_degrees: [f64; 2], damping: f64, armature: f64, gear: f64) -> Dof {
    let range = Some(range_degrees.map(f64::to_radians));
    Dof { sign: -1.0, range, damping, armature, gear, ..Dof::free(Axis::HingeY) }
}

/// Thigh, leg and foot of Hopper or Walker2d under the torso, which is the first link. `foot` reaches from and to along x.
fn leg(
    links: &mut Vec<LinkModel>,
    names: [&'static str; 3],
    motor: (f64, f64, f64),
    foot: [f64; 2],
    frictions: [f64; 2],
) {
    let (damping, armature, gear) = motor;
    let joint = |range| leg_joint(range, damping, armature, gear);
    let [thigh, leg, toe] = names;
    let [body_friction, foot_friction] = frictions;
    let first = links.len();
    let down = |length: f64, radius: f64| rod([0.0; 3], [0.0, 0.0, -length], radius, body_friction);
    let sole = rod([foot[0], 0.0, 0.0], [foot[1], 0.0, 0.0], 0.06, foot_friction);
    links.push(link(thigh, Some(0), [0.0, 0.0, -0.2], joint([-150.0, 0.0]), down(0.45, 0.05)));
    links.push(link(leg, Some(first), [0.0, 0.0, -0.45], joint([-150.0, 0.0]), down(0.5, 0.04)));
    links.push(link(toe, Some(first + 1), [0.0, 0.0, -0.5], joint([-45.0, 45.0]), sole));
}

fn torso() -> LinkModel {
    let body = rod([0.0, 0.0, -0.2], [0.0, 0.0, 0.2], 0.05, 0.9);
    LinkModel { name: "torso", parent: None, anchor: DVec3::ZERO, dofs: planar(), rods: vec![body] }
}

pub(super) fn hopper() -> MechanismModel {
    let mut links = vec![torso()];
    leg(&mut links, ["thigh", "leg", "foot"], (1.0, 1.0, 200.0), [-0.13, 0.26], [0.9, 2.0]);
    MechanismModel {
        links,
        total_mass: None,
        gravity: DVec3::new(0.0, 0.0, -9.81),
        ground: Some(1.0),
        self_contacts: true,
        stops: LEG_STOPS,
        physics: PhysicsSettings { control_period_secs: 0.008, substeps: 4, ..running() },
    }
}

pub(super) fn walker2d() -> MechanismModel {
    let mut links = vec![torso()];
    let motor = (0.1, 0.01, 100.0);
    leg(&mut links, ["thigh", "leg", "foot"], motor, [0.0, 0.2], [0.9, 0.9]);
    leg(&mut links, ["thigh_left", "leg_left", "foot_left"], motor, [0.0, 0.2], [0.9, 1.9]);
    MechanismModel {
        links,
        total_mass: None,
        gravity: DVec3::new(0.0, 0.0, -9.81),
        ground: Some(0.7),
        self_contacts: false,
        stops: LEG_STOPS,
        physics: PhysicsSettings { control_period_secs: 0.008, substeps: 4, ..running() },
    }
}

pub(super) fn half_cheetah() -> MechanismModel {
    const FRICTION: f64 = 0.4;
    const RADIUS: f64 = 0.046;
    let joint = |range: [f64; 2], stiffness: f64, damping: f64, gear: f64| Dof {
        range: Some(range),
        damping,
        armature: 0.1,
        stiffness,
        gear,
        ..Dof::free(Axis::HingeY)
    };
    let bone =
        |center: [f64; 3], angle: f64, half_length: f64| turned_rod(center, angle, half_length, RADIUS, FRICTION);
    let torso = LinkModel {
        name: "torso",
        parent: None,
        anchor: DVec3::new(0.0, 0.0, 0.7),
        dofs: planar(),
        rods: vec![
            rod([-0.5, 0.0, 0.0], [0.5, 0.0, 0.0], RADIUS, FRICTION),
            bone([0.6, 0.0, 0.1], 0.87, 0.15), // the head
        ],
    };
    let links = vec![
        torso,
        link(
            "bthigh",
            Some(0),
            [-0.5, 0.0, 0.0],
            joint([-0.52, 1.05], 240.0, 6.0, 120.0),
            bone([0.1, 0.0, -0.13], -3.8, 0.145),
        ),
        link(
            "bshin",
            Some(1),
            [0.16, 0.0, -0.25],
            joint([-0.785, 0.785], 180.0, 4.5, 90.0),
            bone([-0.14, 0.0, -0.07], -2.03, 0.15),
        ),
        link(
            "bfoot",
            Some(2),
            [-0.28, 0.0, -0.14],
            joint([-0.4, 0.785], 120.0, 3.0, 60.0),
            bone([0.03, 0.0, -0.097], -0.27, 0.094),
        ),
        link(
            "fthigh",
            Some(0),
            [0.5, 0.0, 0.0],
            joint([-1.0, 0.7], 180.0, 4.5, 120.0),
            bone([-0.07, 0.0, -0.12], 0.52, 0.133),
        ),
        link(
            "fshin",
            Some(4),
            [-0.14, 0.0, -0.24],
            joint([-1.2, 0.87], 120.0, 3.0, 60.0),
            bone([0.065, 0.0, -0.09], -0.6, 0.106),
        ),
        link(
            "ffoot",
            Some(5),
            [0.13, 0.0, -0.18],
            joint([-0.5, 0.5], 60.0, 1.5, 30.0),
            bone([0.045, 0.0, -0.07], -0.6, 0.07),
        ),
    ];
    MechanismModel {
        links,
        total_mass: Some(14.0),
        gravity: DVec3::new(0.0, 0.0, -9.81),
        ground: Some(FRICTION),
        self_contacts: false,
        // As above, with a share of 0.8.
        stops: Stops::Solved { frequency_hz: 9.9, damping_ratio: 1.0 },
        physics: PhysicsSettings { control_period_secs: 0.05, substeps: 20, ..running() },
    }
}

/// How contacts with the ground are solved.
fn running() -> PhysicsSettings {
    PhysicsSettings {
        solver_iterations: 1,
        pgs_iterations: 4,
        stabilization_iterations: 1,
        contact_frequency_hz: 30.0,
        contact_damping_ratio: 1.0,
        prediction_distance: 0.01,
        friction_in_bias_pass: true,
        ..PhysicsSettings::default()
    }
}
