//! The same runs in a window.
//!
//! A window changes nothing about a run: it shows the worlds that [`train`](crate::train) and evaluations make anyway,
//! and calls the same pieces of work between its frames. What a person does in it (another mode, a reset, other
//! candidates) is part of the run then.

mod drivers;
mod rendering;
mod screenshot;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use bevy::{
    app::TerminalCtrlCHandlerPlugin,
    log::LogPlugin,
    prelude::*,
    window::{ExitCondition, PresentMode, WindowResolution},
};
use onestep_agent::{Agent, StageTimesPlugin};
use onestep_record::{demonstrations::DemonstrationPlugin, evaluation::EvaluationReport, finish, video::find_adapter};
use onestep_ui::{
    FilmPlugin, HumanPlugin, KeysPlugin, Notice, OrbitCamera, OrbitCameraPlugin, Pace, PacePlugin, Panel, PanelPlugin,
    SmoothPlugin, drive,
};
use thiserror::Error;

use crate::{
    OnestepVisualPlugins, RunError,
    config::RunConfig,
    run::{Role, add_visible_plugins},
    train::{TrainReport, TrainRun, TrainWatcher},
};
use drivers::{EvaluationDriver, Outcome, PlayDriver, TrainDriver};

pub use screenshot::{After, Screenshot};

/// How a window looks and behaves at the start.
#[derive(Debug, Clone)]
pub struct WindowOptions {
    /// Its title.
    pub title: String,
    /// Width and height, logical pixels.
    pub size: (u32, u32),
    /// Speed and pause.
    pub pace: Pace,
    /// Take a picture of the window and close it.
    pub screenshot: Option<Screenshot>,
    /// How the panel looks.
    pub panel: Panel,
    /// Where films of the scene go; they are named after the task.
    pub films: PathBuf,
    /// Film from the first frame on.
    pub film: bool,
    /// Give the graphics device up after so many frames: to try what happens then.
    #[doc(hidden)]
    pub lose_device_after: Option<u32>,
}

impl Default for WindowOptions {
    fn default() -> Self {
        Self {
            title: "Onestep".to_owned(),
            size: (1280, 720),
            pace: Pace::default(),
            screenshot: None,
            panel: Panel::default(),
            films: PathBuf::from("."),
            film: false,
            lose_device_after: None,
        }
    }
}

/// Why there is no window.
#[derive(Debug, Error)]
pub enum WindowError {
    /// Nothing to open a window on.
    #[error(
        "no window can be opened: {reason}. Log in to a desktop, use `ssh -X`, or start an invisible display with \
         `xvfb-run -a`; `train` and `eval` without `--window`, and films, need no display"
    )]
    NoDisplay {
        /// What was missing.
        reason: String,
    },
    /// Nothing to draw with.
    #[error("no window can be opened: {reason}; without `--window` no driver is needed")]
    NoDriver {
        /// What was missing.
        reason: String,
    },
    /// The device stopped drawing while the window was open.
    #[error(
        "the graphics device failed: {reason}. What was learned is saved as far as it could be; go on without \
         `--window`"
    )]
    DeviceLost {
        /// What the driver said.
        reason: String,
    },
}

/// Opens an app with a window on a run: agents and plugins of `role`, lights, camera, panel and keys. Nothing moves
/// before [`bevy::app::App::run`].
///
/// # Errors
/// [`RunError::Window`] when there is no display or no driver.
pub fn open(config: &RunConfig, role: &Role, options: &WindowOptions) -> Result<App, RunError> {
    require_display()?;
    find_adapter().map_err(|error| WindowError::NoDriver { reason: error.to_string() })?;
    let mut app = with_window(options)?;
    add_visible_plugins(&mut app, config, role);
    app.add_plugins((
        OnestepVisualPlugins,
        StageTimesPlugin,
        OrbitCameraPlugin,
        PacePlugin { pace: options.pace.clone() },
        KeysPlugin,
        HumanPlugin,
        DemonstrationPlugin,
        SmoothPlugin,
        FilmPlugin {
            folder: options.films.clone(),
            name: config.task.clone(),
            at_start: options.film,
            ..FilmPlugin::default()
        },
        PanelPlugin { panel: options.panel.clone() },
    ));
    rendering::guard(&mut app, options.lose_device_after);
    if let Some(screenshot) = &options.screenshot {
        screenshot::add(&mut app, screenshot.clone());
    }
    if let Err(panic) = rendering::caught(|_| false, || finish(&mut app)) {
        let said = rendering::text_of(panic.as_ref());
        if !rendering::is_of_window(&said) {
            std::panic::resume_unwind(panic);
        }
        return Err(at_start(&said).into());
    }
    spawn_camera(&mut app, config);
    Ok(app)
}

/// Neither winit nor the renderer has a way to say what is missing but to panic; that must not look like a crash of ours.
fn with_window(options: &WindowOptions) -> Result<App, WindowError> {
    let window = Window {
        title: options.title.clone(),
        name: Some("onestep".to_owned()),
        resolution: WindowResolution::new(options.size.0, options.size.1),
        present_mode: PresentMode::AutoVsync,
        ..Window::default()
    };
    let plugins = DefaultPlugins
        .set(WindowPlugin {
            primary_window: Some(window),
            // A driver saves before anything goes away.
            exit_condition: ExitCondition::DontExit,
            close_when_requested: false,
            ..WindowPlugin::default()
        })
        // The command has its own log, and its own answer to Ctrl-C.
        .disable::<LogPlugin>()
        .disable::<TerminalCtrlCHandlerPlugin>();
    let built = rendering::caught(
        |_| true,
        || {
            let mut app = App::new();
            app.add_plugins(plugins);
            app
        },
    );
    built.map_err(|panic| at_start(&rendering::text_of(panic.as_ref())))
}

/// What a panic of the window system or of the renderer means.
fn at_start(said: &str) -> WindowError {
    if rendering::is_of_display(said) {
        let reason = match std::env::var("DISPLAY") {
            Ok(display) => format!("the display `{display}` does not answer"),
            Err(_) => "the window system does not answer".to_owned(),
        };
        tracing::debug!("the window system: {said}");
        return WindowError::NoDisplay { reason };
    }
    let said = said.lines().next().unwrap_or_default();
    WindowError::NoDriver { reason: format!("the renderer does not start: {said}") }
}

/// Refuses early what [`open`] would refuse after long work. Systems with X11 name the display in a variable.
///
/// # Errors
/// [`WindowError::NoDisplay`] when the variable is missing.
pub fn require_display() -> Result<(), WindowError> {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if !cfg!(target_os = "linux") || is_set("DISPLAY") {
        return Ok(());
    }
    let reason = match is_set("WAYLAND_DISPLAY") {
        true => {
            "this is a Wayland session, and windows are opened by X11: the variable DISPLAY is not set. Install Xwayland \
             (the package `xwayland`) and log in again, or start it by `Xwayland :7 &` and set DISPLAY=:7"
        }
        false => "the variable DISPLAY is not set",
    };
    Err(WindowError::NoDisplay { reason: reason.to_owned() })
}

/// A camera that can be moved, on the first arena.
fn spawn_camera(app: &mut App, config: &RunConfig) {
    let world = app.world_mut();
    let mut places = world.query::<(&Agent, &Transform)>();
    let first = places.iter(world).min_by_key(|(agent, _)| **agent).map_or(Vec3::ZERO, |(_, place)| place.translation);
    let (eye, focus) = onestep_sim::visual::camera_place(&config.task);
    let camera = OrbitCamera::new(eye + first, focus + first);
    world.spawn((onestep_sim::visual::task_camera(&config.task), camera));
}

/// Where a driver leaves its result when the app is gone.
type Slot<T> = Arc<Mutex<Option<T>>>;

fn take<T>(slot: &Slot<T>) -> Option<T> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Runs the app to its end, and returns what its driver left.
fn run<T>(mut app: App, slot: &Slot<Result<T, RunError>>) -> Result<T, RunError> {
    let lost = rendering::lost_device(&app);
    let is_lost = lost.clone();
    let ended = rendering::caught(
        move |_| is_lost.reason().is_some(),
        || {
            let _ = app.run();
        },
    );
    if let Err(panic) = ended {
        let said = rendering::text_of(panic.as_ref());
        if rendering::is_of_display(&said) {
            return Err(at_start(&said).into());
        }
        // Without a word of the renderer before, it is a mistake of ours, and shall look like one.
        if lost.reason().is_none() && !rendering::is_of_window(&said) {
            std::panic::resume_unwind(panic);
        }
        lost.report(&said);
    }
    // Without a word of the driver the window system itself ended the app.
    let left = take(slot);
    let Some(reason) = lost.reason() else { return left.unwrap_or(Err(RunError::Interrupted)) };
    let reason = match left {
        // What else went wrong then is not to be lost.
        Some(Err(error)) if !matches!(error, RunError::Interrupted) => format!("{reason}; {error}"),
        _ => reason,
    };
    Err(WindowError::DeviceLost { reason }.into())
}

/// Trains in an app of [`open`] with [`Role::Train`], in which `train_run` was begun. Closing the window saves, as [`TrainWatcher::wants_to_stop`] does.
/// When the run is over the window stays, and the trained policy acts until it is closed.
///
/// # Errors
/// As [`Trainer::run`](crate::train::Trainer::run), [`RunError::Interrupted`] when the window was closed before the
/// end, and [`RunError::Window`] when the device fails.
pub fn train(mut app: App, train_run: TrainRun, watcher: impl TrainWatcher + 'static) -> Result<TrainReport, RunError> {
    let outcome = Outcome::default();
    let driver = TrainDriver::new(&mut app, train_run, watcher, outcome.clone());
    drive(&mut app, driver);
    run(app, &outcome)
}

/// Evaluates in a window: all worlds of the evaluation are seen.
///
/// # Errors
/// As [`evaluate_policy`](crate::run::evaluate_policy), [`RunError::Interrupted`] when the window was closed before the
/// end, and [`RunError::Window`].
pub fn evaluate(
    config: &RunConfig,
    role: &Role,
    options: &WindowOptions,
    wants_to_stop: impl Fn() -> bool + 'static,
) -> Result<EvaluationReport, RunError> {
    let mut app = open(config, role, options)?;
    let outcome = Outcome::default();
    let driver = EvaluationDriver::new(&mut app, config, wants_to_stop, outcome.clone())?;
    drive(&mut app, driver);
    run(app, &outcome)
}

/// Lets an agent act in a window until it is closed.
///
/// `prepare` gets the app before its first frame: the place for a
/// [`DemonstrationRecorder`](onestep_record::demonstrations::DemonstrationRecorder).
///
/// # Errors
/// [`RunError::Fault`] when the simulation meets a number that is not finite, and [`RunError::Window`].
pub fn play(
    config: &RunConfig,
    role: &Role,
    options: &WindowOptions,
    prepare: impl FnOnce(&mut App) -> Result<(), RunError>,
    wants_to_stop: impl Fn() -> bool + 'static,
) -> Result<(), RunError> {
    let mut app = open(config, role, options)?;
    prepare(&mut app)?;
    if let Some(mut notice) = app.world_mut().get_resource_mut::<Notice>() {
        notice.tell("H shows the keys");
    }
    let outcome = Outcome::default();
    drive(&mut app, PlayDriver::new(wants_to_stop, outcome.clone()));
    run(app, &outcome)
}

/// The size of a window from text like `1280x720`.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_size(text: &str) -> Result<(u32, u32), String> {
    const EDGES: std::ops::RangeInclusive<u32> = 64..=16_384;
    let parsed = text
        .split_once(['x', '×'])
        .and_then(|(width, height)| Some((width.trim().parse::<u32>().ok()?, height.trim().parse::<u32>().ok()?)));
    match parsed {
        Some((width, height)) if EDGES.contains(&width) && EDGES.contains(&height) => Ok((width, height)),
        _ => Err("a size is width and height in pixels, each from 64 to 16384, as in 1280x720".to_owned()),
    }
}

/// The speed from text like `2`, `0.25` or `max`.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_speed(text: &str) -> Result<onestep_ui::Speed, String> {
    use onestep_ui::Speed;
    if text.eq_ignore_ascii_case("max") {
        return Ok(Speed::Max);
    }
    match text.trim_end_matches(['x', '×']).parse::<f32>() {
        Ok(times) if (0.01..=100.0).contains(&times) => Ok(Speed::Times(times)),
        _ => Err("a speed is `max`, or how many times real time, from 0.01 to 100".to_owned()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;
    use onestep_ui::Speed;

    #[test]
    fn a_panic_at_the_start_is_told_by_what_it_says() {
        let no_display = at_start("Failed to build event loop: Os(OsError { line: 786, .. })");
        assert!(matches!(no_display, WindowError::NoDisplay { .. }), "{no_display}");
        let no_driver =
            at_start("Unable to find a GPU! Make sure you have installed required drivers!\nmore").to_string();
        assert!(no_driver.contains("Unable to find a GPU") && !no_driver.contains("more"), "{no_driver}");
        assert!(!no_driver.contains("does not answer"));
    }

    #[test]
    fn sizes_and_speeds_are_read_or_explained() {
        assert_eq!(parse_size("3840x2160"), Ok((3840, 2160)));
        for wrong in ["", "0x0", "1280", "1280x", "ax2", "99999x10"] {
            assert!(parse_size(wrong).unwrap_err().contains("1280x720"), "{wrong}");
        }
        assert_eq!(parse_speed("max"), Ok(Speed::Max));
        assert_eq!(parse_speed("0.25"), Ok(Speed::Times(0.25)));
        assert_eq!(parse_speed("4x"), Ok(Speed::Times(4.0)));
        for wrong in ["", "-1", "0", "nan", "fast"] {
            assert!(parse_speed(wrong).unwrap_err().contains("real time"), "{wrong}");
        }
    }
}
