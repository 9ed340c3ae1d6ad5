use std::f32::consts::FRAC_PI_2;

use bevy::{
    input::mouse::{AccumulatedMouseMotion, AccumulatedMouseScroll, MouseScrollUnit},
    prelude::*,
};
use onestep_sim::visual::CameraPlace;

use crate::InputCapture;

/// A camera that is moved around a point by mouse and keyboard. It needs [`OrbitCameraPlugin`].
///
/// | input | effect |
/// |---|---|
/// | drag, or arrow keys | around the point |
/// | right or middle drag, or Shift and arrow keys | the point itself |
/// | wheel, or page keys | nearer, farther |
/// | Home | back to the start |
///
/// On a camera with a [`CameraPlace`] it moves that, so that a camera that goes along with something still does.
#[derive(Component, Debug, Clone, PartialEq)]
pub struct OrbitCamera {
    /// What the camera looks at.
    pub focus: Vec3,
    /// Metres from there.
    pub distance: f32,
    /// Angle around the vertical, radians; 0 looks along -Z.
    pub yaw: f32,
    /// Angle above the horizon, radians.
    pub pitch: f32,
    home: Home,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Home {
    focus: Vec3,
    distance: f32,
    yaw: f32,
    pitch: f32,
}

impl OrbitCamera {
    /// A camera that starts at `eye` and looks at `focus`.
    #[must_use]
    pub fn new(eye: Vec3, focus: Vec3) -> Self {
        let offset = eye - focus;
        let distance = offset.length().max(MIN_DISTANCE);
        let yaw = offset.x.atan2(offset.z);
        let pitch = (offset.y / distance).clamp(-1.0, 1.0).asin();
        let home = Home { focus, distance, yaw, pitch };
        Self { focus, distance, yaw, pitch, home }
    }

    /// Goes around the point, radians.
    pub fn orbit(&mut self, yaw: f32, pitch: f32) {
        // Straight up and down would leave it open where the picture's top is.
        const LIMIT: f32 = FRAC_PI_2 - 0.02;
        self.yaw = (self.yaw + yaw).rem_euclid(std::f32::consts::TAU);
        self.pitch = (self.pitch + pitch).clamp(-LIMIT, LIMIT);
    }

    /// Moves the point in the picture's plane; 1 is the distance to the point.
    pub fn pan(&mut self, right: f32, up: f32) {
        let rotation = self.rotation();
        self.focus += self.distance * (rotation * Vec3::X * right + rotation * Vec3::Y * up);
    }

    /// Changes the distance by a factor.
    pub fn zoom(&mut self, factor: f32) {
        self.distance = (self.distance * factor).clamp(MIN_DISTANCE, MAX_DISTANCE);
    }

    /// Back to where it started.
    pub fn reset(&mut self) {
        let Home { focus, distance, yaw, pitch } = self.home;
        *self = Self { focus, distance, yaw, pitch, home: self.home };
    }

    /// Where the camera is.
    #[must_use]
    pub fn transform(&self) -> Transform {
        let rotation = self.rotation();
        Transform { translation: self.focus + rotation * Vec3::Z * self.distance, rotation, scale: Vec3::ONE }
    }

    fn rotation(&self) -> Quat {
        Quat::from_rotation_y(self.yaw) * Quat::from_rotation_x(-self.pitch)
    }
}

const MIN_DISTANCE: f32 = 0.12;
const MAX_DISTANCE: f32 = 30.0;

/// Moves every [`OrbitCamera`] by mouse and keyboard, unless [`InputCapture`] says that others take them.
#[derive(Debug, Clone, Copy, Default)]
pub struct OrbitCameraPlugin;

impl Plugin for OrbitCameraPlugin {
    fn build(&self, app: &mut App) {
        // Without Bevy's input nobody moves a mouse.
        app.init_resource::<ButtonInput<MouseButton>>()
            .init_resource::<ButtonInput<KeyCode>>()
            .init_resource::<AccumulatedMouseMotion>()
            .init_resource::<AccumulatedMouseScroll>()
            .init_resource::<InputCapture>()
            .add_systems(Update, (steer, place).chain());
    }
}

/// What a drag does, from its first moment to its last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Drag {
    Orbit,
    Pan,
}

#[allow(clippy::too_many_arguments, reason = "a Bevy system takes what it needs")]
fn steer(
    mut drag: Local<Option<Drag>>,
    capture: Res<InputCapture>,
    buttons: Res<ButtonInput<MouseButton>>,
    keys: Res<ButtonInput<KeyCode>>,
    motion: Res<AccumulatedMouseMotion>,
    scroll: Res<AccumulatedMouseScroll>,
    time: Res<Time<Real>>,
    mut cameras: Query<&mut OrbitCamera>,
) {
    const RADIANS_PER_PIXEL: f32 = 0.006;
    const PAN_PER_PIXEL: f32 = 0.0011;
    const ZOOM_PER_LINE: f32 = 0.12;
    const PIXELS_PER_LINE: f32 = 40.0;
    const KEY_RADIANS_PER_SEC: f32 = 1.4;
    const KEY_PAN_PER_SEC: f32 = 0.5;
    const KEY_ZOOM_PER_SEC: f32 = 1.2;
    if !buttons.any_pressed([MouseButton::Left, MouseButton::Right, MouseButton::Middle]) {
        *drag = None;
    } else if !capture.pointer && buttons.just_pressed(MouseButton::Left) {
        *drag = Some(if keys.pressed(KeyCode::ShiftLeft) { Drag::Pan } else { Drag::Orbit });
    } else if !capture.pointer && buttons.any_just_pressed([MouseButton::Right, MouseButton::Middle]) {
        *drag = Some(Drag::Pan);
    }
    let lines = match scroll.unit {
        MouseScrollUnit::Line => scroll.delta.y,
        MouseScrollUnit::Pixel => scroll.delta.y / PIXELS_PER_LINE,
    };
    let secs = time.delta_secs().min(0.1);
    let axis = |plus: KeyCode, minus: KeyCode| {
        f32::from(u8::from(keys.pressed(plus))) - f32::from(u8::from(keys.pressed(minus)))
    };
    for mut camera in &mut cameras {
        let before = camera.clone();
        let after = camera.bypass_change_detection();
        match *drag {
            Some(Drag::Orbit) => {
                after.orbit(-motion.delta.x * RADIANS_PER_PIXEL, motion.delta.y * RADIANS_PER_PIXEL);
            }
            Some(Drag::Pan) => after.pan(-motion.delta.x * PAN_PER_PIXEL, motion.delta.y * PAN_PER_PIXEL),
            None => {}
        }
        if !capture.pointer && lines != 0.0 {
            after.zoom((-lines * ZOOM_PER_LINE).exp());
        }
        if !capture.keyboard {
            if keys.just_pressed(KeyCode::Home) {
                after.reset();
            }
            if !capture.arrows {
                let (x, y) =
                    (axis(KeyCode::ArrowRight, KeyCode::ArrowLeft), axis(KeyCode::ArrowUp, KeyCode::ArrowDown));
                if keys.pressed(KeyCode::ShiftLeft) || keys.pressed(KeyCode::ShiftRight) {
                    after.pan(x * KEY_PAN_PER_SEC * secs, y * KEY_PAN_PER_SEC * secs);
                } else {
                    after.orbit(x * KEY_RADIANS_PER_SEC * secs, y * KEY_RADIANS_PER_SEC * secs);
                }
            }
            let farther = axis(KeyCode::PageDown, KeyCode::PageUp);
            after.zoom((farther * KEY_ZOOM_PER_SEC * secs).exp());
        }
        if *after != before {
            camera.set_changed();
        }
    }
}

fn place(mut cameras: Query<(&OrbitCamera, &mut Transform, Option<&mut CameraPlace>), Changed<OrbitCamera>>) {
    for (camera, mut transform, anchor) in &mut cameras {
        match anchor {
            Some(mut anchor) => anchor.0 = camera.transform(),
            None => *transform = camera.transform(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    fn camera() -> OrbitCamera {
        OrbitCamera::new(Vec3::new(1.0, 2.0, 1.5), Vec3::new(0.0, 1.0, 0.0))
    }

    #[track_caller]
    fn assert_near(a: Vec3, b: Vec3) {
        assert!(a.distance(b) < 1e-4, "{a} is not {b}");
    }

    #[test]
    fn it_starts_where_it_was_told() {
        let transform = camera().transform();
        assert_near(transform.translation, Vec3::new(1.0, 2.0, 1.5));
        assert_near(*transform.forward(), (Vec3::new(0.0, 1.0, 0.0) - transform.translation).normalize());
        assert!(transform.right().y.abs() < 1e-5);
    }

    #[test]
    fn orbits_keep_the_distance_and_never_turn_over() {
        let mut camera = camera();
        camera.orbit(2.0, 50.0);
        assert!((camera.transform().translation.distance(camera.focus) - camera.distance).abs() < 1e-4);
        assert!(camera.transform().up().y > 0.0);
        camera.orbit(0.0, -100.0);
        assert!(camera.transform().up().y > 0.0);
        camera.reset();
        assert_eq!(camera, self::camera());
    }

    #[test]
    fn pans_stay_in_the_pictures_plane_and_zooms_have_ends() {
        let mut camera = camera();
        let (before, forward) = (camera.focus, *camera.transform().forward());
        camera.pan(0.3, -0.2);
        assert!((camera.focus - before).dot(forward).abs() < 1e-4);
        assert!(camera.focus != before);
        camera.zoom(1e9);
        assert_eq!(camera.distance, MAX_DISTANCE);
        camera.zoom(0.0);
        assert_eq!(camera.distance, MIN_DISTANCE);
    }

    fn app() -> App {
        let mut app = App::new();
        app.add_plugins((MinimalPlugins, bevy::input::InputPlugin, OrbitCameraPlugin));
        app.world_mut().spawn((camera(), Transform::default()));
        app.update();
        app
    }

    fn state(app: &mut App) -> OrbitCamera {
        app.world_mut().query::<&OrbitCamera>().single(app.world()).unwrap().clone()
    }

    fn drag(app: &mut App) {
        use bevy::input::{
            ButtonState,
            mouse::{MouseButtonInput, MouseMotion},
        };
        let window = Entity::PLACEHOLDER;
        app.world_mut().write_message(MouseButtonInput {
            button: MouseButton::Left,
            state: ButtonState::Pressed,
            window,
        });
        app.world_mut().write_message(MouseMotion { delta: Vec2::new(40.0, 10.0) });
        app.update();
    }

    #[test]
    fn a_drag_turns_the_view_unless_a_panel_takes_it() {
        let mut app = app();
        drag(&mut app);
        let after = state(&mut app);
        assert!(after.yaw != camera().yaw && after.pitch > camera().pitch);
        assert_near(
            app.world_mut().query::<&Transform>().single(app.world()).unwrap().translation,
            after.transform().translation,
        );

        let mut app = self::app();
        app.insert_resource(InputCapture { pointer: true, ..default() });
        drag(&mut app);
        assert_eq!(state(&mut app), camera());
    }
}
