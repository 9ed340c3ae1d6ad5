//! A run in a window is the same run: ticks between frames do what ticks in a loop do.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

#[path = "../crates/ui/tests/reference/mod.rs"]
mod reference;
mod skip;

use std::{
    cell::{Cell, RefCell},
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
    rc::Rc,
    time::{Duration, Instant},
};

use bevy::prelude::*;
use onestep::{
    config::{ConfigSources, RunConfig, Setting},
    learn::{Execution, LearnerSchedule, LearnerState},
    record::picture::Frame,
    run::{Baseline, Role, add_visible_plugins, build_app},
    sim::Arena,
    train::{Start, TrainReport, TrainRun, Trainer, WhenBehind, wanted_demonstrations},
    ui::{HumanPlugin, KeysPlugin, Pace, PacePlugin, Speed, TickDriver, drive},
};

fn config(settings: &[(&str, &str)]) -> RunConfig {
    ConfigSources {
        task: Some("lift".to_owned()),
        settings: settings.iter().map(|(key, value)| Setting::new("test", *key, value)).collect(),
        ..ConfigSources::default()
    }
    .resolve()
    .unwrap()
}

const TINY: [(&str, &str); 14] = [
    ("compute", "cpu"),
    ("demonstrations.episodes", "2"),
    ("demonstrations.action_noise_std", "0"),
    ("algorithm.actor_hidden", "[16, 16]"),
    ("algorithm.critic_hidden", "[16, 16]"),
    ("algorithm.batch_size", "16"),
    ("algorithm.candidates", "4"),
    ("algorithm.target_candidates", "2"),
    ("learner.offline_updates", "24"),
    ("learner.online_steps", "40"),
    ("learner.start_training", "10"),
    ("evaluation.episodes", "2"),
    ("evaluation.arenas", "2"),
    ("evaluation.every_steps", "20"),
];

/// An app as a window has it, without the window: everything but the renderer.
fn in_frames(config: &RunConfig, role: &Role) -> App {
    let mut app = App::new();
    app.add_plugins((MinimalPlugins, bevy::input::InputPlugin));
    add_visible_plugins(&mut app, config, role);
    app.add_plugins((
        onestep::agent::StageTimesPlugin,
        PacePlugin { pace: Pace::at(Speed::Max) },
        KeysPlugin,
        HumanPlugin,
    ));
    app.finish();
    app.cleanup();
    app
}

fn hash(world: &mut World) -> u64 {
    world.query::<&Arena>().single(world).unwrap().sim().hash()
}

struct Ticks(Rc<RefCell<usize>>);

impl TickDriver for Ticks {
    fn advance(&mut self, world: &mut World) {
        if *self.0.borrow() > 0 {
            *self.0.borrow_mut() -= 1;
            onestep::tick(world);
        }
    }

    fn close(&mut self, _: &mut World) {}
}

#[test]
fn so_many_ticks_between_frames_end_in_the_same_world() {
    const TICKS: usize = 130;
    let config = config(&[("evaluation.arenas", "1")]);
    let role = Role::Baseline(Baseline::Random);
    let mut headless = build_app(&config, &role);
    for _ in 0..TICKS {
        onestep::tick(headless.world_mut());
    }
    let mut app = in_frames(&config, &role);
    let left = Rc::new(RefCell::new(TICKS));
    drive(&mut app, Ticks(left.clone()));
    while *left.borrow() > 0 {
        app.update();
    }
    assert_eq!(hash(app.world_mut()), hash(headless.world_mut()));
}

struct Training {
    run: TrainRun,
    report: Rc<RefCell<Option<TrainReport>>>,
    /// How often there was nothing to do but to wait.
    waited: Rc<Cell<u32>>,
}

/// The app after a whole run between its frames, its report, and how often it had to wait.
fn trained_in_frames(config: &RunConfig, start: Start) -> (App, TrainReport, u32) {
    let mut app = in_frames(config, &Role::Train);
    let run = TrainRun::begin(&mut app, config.clone(), None, start, &mut ()).unwrap();
    let (report, waited) = (Rc::new(RefCell::new(None)), Rc::new(Cell::new(0)));
    drive(&mut app, Training { run, report: report.clone(), waited: waited.clone() });
    while report.borrow().is_none() {
        app.update();
    }
    let report = report.take().unwrap();
    (app, report, waited.get())
}

impl TickDriver for Training {
    fn advance(&mut self, world: &mut World) {
        if self.report.borrow().is_none() {
            *self.report.borrow_mut() = self.run.advance(world, &mut (), WhenBehind::Yield).unwrap();
            self.waited.set(self.waited.get() + u32::from(self.run.is_waiting()));
        }
    }

    fn is_waiting(&self) -> bool {
        self.run.is_waiting()
    }

    fn is_free(&self, _: &World) -> bool {
        self.run.is_evaluating()
    }

    fn close(&mut self, _: &mut World) {}
}

#[test]
fn training_between_frames_ends_in_the_same_networks() {
    let config = config(&TINY);
    let demonstrations = wanted_demonstrations(&config, &mut ()).unwrap();
    let start = Start::New(demonstrations);
    let mut trainer = Trainer::start(config.clone(), None, start.clone(), &mut ()).unwrap();
    let expected = trainer.run(&mut ()).unwrap();

    let (mut app, report, waited) = trained_in_frames(&config, start);
    // Nothing is made beside, so there is nothing to wait for.
    assert_eq!(waited, 0);
    assert_eq!(report.evaluations, expected.evaluations);
    let weights = |policy: &onestep::learn::PolicyHandle| policy.with(|learner| learner.weights().unwrap());
    let shown = app.world().resource::<onestep::learn::PolicyHandle>();
    assert!(weights(shown) == weights(trainer.policy()));
    assert_eq!(hash(app.world_mut()), hash(trainer.app_mut().world_mut()));
}

#[test]
fn a_learner_in_the_background_holds_up_no_frame_and_makes_the_same_updates() {
    let config =
        config(&[&TINY[..], &[("learner.execution", "background"), ("learner.updates_per_step", "4")]].concat());
    let inline = RunConfig {
        learner: LearnerSchedule { execution: Execution::Inline, ..config.learner.clone() },
        ..config.clone()
    };
    let start = Start::New(wanted_demonstrations(&config, &mut ()).unwrap());
    let mut trainer = Trainer::start(inline, None, start.clone(), &mut ()).unwrap();
    let expected = trainer.run(&mut ()).unwrap();
    let (app, report, waited) = trained_in_frames(&config, start);
    // More is owed before an evaluation than the queue holds.
    assert!(waited > 0);
    let state = app.world().resource::<LearnerState>();
    assert_eq!((state.updates, state.env_steps, state.behind()), (trainer.position().updates, 40, 0));
    // The evaluations come when all updates before them are made.
    let at = |report: &TrainReport| {
        report.evaluations.iter().map(|it| (it.kind, it.updates, it.env_steps)).collect::<Vec<_>>()
    };
    assert_eq!(at(&report), at(&expected));
}

fn onestep(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onestep"));
    command.args(arguments).env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
    command
}

#[track_caller]
fn assert_refused(output: &Output, words: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    for word in words {
        assert!(text.contains(word), "`{word}` is missing in: {text}");
    }
}

#[test]
fn what_cannot_be_shown_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    if cfg!(target_os = "linux") {
        assert_refused(&onestep(&["play", "lift"]).output().unwrap(), &["DISPLAY", "xvfb-run"]);
        let mut nowhere = onestep(&["play", "lift"]);
        nowhere.env("DISPLAY", ":987");
        // A driver is looked for first.
        let has_driver = onestep::record::video::find_adapter().is_ok();
        let word = if has_driver { "the display `:987` does not answer" } else { "no graphics driver" };
        assert_refused(&nowhere.output().unwrap(), &["no window can be opened", word, "--window"]);
        let mut wayland = onestep(&["play", "lift"]);
        wayland.env("WAYLAND_DISPLAY", "wayland-0");
        assert_refused(&wayland.output().unwrap(), &["Wayland", "DISPLAY is not set", "Xwayland"]);
        let mut undriven = onestep(&["play", "lift"]);
        undriven.env("DISPLAY", ":987").env("VK_ICD_FILENAMES", "/nowhere").env("VK_DRIVER_FILES", "/nowhere");
        assert_refused(&undriven.output().unwrap(), &["no graphics driver", "--window"]);
    }
    let refused = |arguments: &[&str], words: &[&str]| assert_refused(&onestep(arguments).output().unwrap(), words);
    refused(&["play", "lift", "--agent", "nobody"], &["nobody", "human, expert, random, zero"]);
    refused(&["play", "reacher", "--agent", "expert"], &["reacher", "expert"]);
    refused(&["play", "lfit"], &["lfit", "did you mean `lift`"]);
    refused(&["play", "lift", "--out", "demos.txt"], &["demos.txt", ".safetensors"]);
    refused(&["play", "lift", "--out", "/nowhere/demos.hdf5"], &["/nowhere/demos.hdf5"]);
    refused(&["play", "lift", "--screenshot", "picture.jpg"], &["picture.jpg", ".png"]);
    refused(&["play", "lift", "--films", "/nowhere"], &["/nowhere", "no folder"]);
    refused(&["play", "lift", "--candidates", "0"], &["--candidates", "at least one"]);
    let other = folder.path().join("other.safetensors");
    onestep::data::EpisodeFile {
        task: "reacher".to_owned(),
        origin: onestep::data::Origin::Onestep,
        observation_dim: 10,
        action_dim: 2,
        episodes: Vec::new(),
    }
    .write(&other)
    .unwrap();
    refused(&["play", "lift", "--out", other.to_str().unwrap()], &["other.safetensors", "reacher", "lift"]);
}

/// A window under an invisible display, where one and a Vulkan driver are installed: what it shows, and a film that is
/// under way when it closes.
#[test]
fn a_window_opens_shows_the_scene_and_keeps_its_film_when_it_closes() {
    let has_display = Command::new("xvfb-run").arg("--help").output().is_ok_and(|output| output.status.success());
    if !has_display || onestep::record::video::find_adapter().is_err() {
        skip::skip("it needs xvfb-run and a Vulkan driver");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("window.png");
    let output = Command::new("xvfb-run")
        .args(["-a", "-s", "-screen 0 640x360x24", env!("CARGO_BIN_EXE_onestep")])
        .args(["play", "lift", "--agent", "zero", "--size", "640x360", "--no-panel", "--steps", "8", "--film"])
        .arg("--screenshot")
        .arg(&picture)
        .arg("--films")
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let shown = Frame::read_png(&picture).unwrap();
    assert_eq!((shown.width, shown.height), (640, 360));
    reference::assert_like(&shown, "window");
    let film = std::fs::read(folder.path().join("lift-1.mp4")).unwrap();
    assert_eq!(&film[4..8], b"ftyp");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "nothing half-written is left");
}

/// An invisible display, gone with this value.
struct Screen {
    server: Child,
    name: String,
}

impl Screen {
    /// Nothing where none or no Vulkan driver is installed.
    fn open() -> Option<Self> {
        let server = Command::new("Xvfb")
            .args(["-displayfd", "1", "-screen", "0", "640x360x24", "-nolisten", "tcp"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut server) = server else {
            skip::skip("it needs Xvfb");
            return None;
        };
        let mut number = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut number).unwrap();
        let screen = Self { server, name: format!(":{}", number.trim()) };
        match onestep::record::video::find_adapter() {
            Ok(_) => Some(screen),
            Err(error) => {
                skip::skip(error);
                None
            }
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = onestep(arguments);
        command.env("DISPLAY", &self.name).args(["--size", "320x200", "--no-panel"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Waits for `done` of a program that goes on by itself; then interrupts it as Ctrl-C does.
fn interrupted_when(mut program: Child, done: impl Fn() -> bool) -> Output {
    let start = Instant::now();
    while !done() && start.elapsed() < Duration::from_secs(120) && program.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(50));
    }
    Command::new("kill").args(["-INT", &program.id().to_string()]).status().unwrap();
    program.wait_with_output().unwrap()
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// Control steps and updates of a checkpoint.
fn saved(run: &Path) -> Option<(u64, u64)> {
    let text = std::fs::read(run.join("checkpoint/state.json")).ok()?;
    let state: serde_json::Value = serde_json::from_slice(&text).ok()?;
    Some((state["env_steps"].as_u64()?, state["updates"].as_u64()?))
}

/// The commands as a person has them: `train --window`, interrupted, resumed, and left by its graphics device; then
/// `eval --window` of what was learned.
#[test]
fn windows_of_training_and_evaluation_save_go_on_and_report() {
    let Some(screen) = Screen::open() else { return };
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let run_text = run.to_str().unwrap();
    let own =
        [("learner.online_steps", "1000000"), ("evaluation.every_steps", "1000000"), ("checkpoint.every_secs", "1")];
    let settings: Vec<String> = TINY.iter().chain(&own).map(|(key, value)| format!("{key}={value}")).collect();
    let mut arguments = vec!["train", "lift", "--window", "--out", run_text];
    arguments.extend(settings.iter().flat_map(|setting| ["--set", setting.as_str()]));
    let has_steps = |least: u64| saved(&run).is_some_and(|(steps, _)| steps > least);

    let first = interrupted_when(screen.command(&arguments).spawn().unwrap(), || has_steps(0));
    assert_eq!(first.status.code(), Some(130), "{}", words(&first));
    assert!(words(&first).contains("--resume"), "{}", words(&first));
    let (steps, updates) = saved(&run).unwrap();
    assert!(steps > 0 && updates >= 24, "{steps} {updates}");

    let resume = ["train", "--resume", run_text, "--window"];
    let second = interrupted_when(screen.command(&resume).spawn().unwrap(), || has_steps(steps));
    assert_eq!(second.status.code(), Some(130), "{}", words(&second));
    let (steps, updates) = {
        let (later, more) = saved(&run).unwrap();
        assert!(later > steps && more > updates);
        (later, more)
    };

    // The device is gone in the middle: what was learned until then is saved.
    let lost = screen.command(&[&resume[..], &["--lose-device-after", "25"]].concat()).output().unwrap();
    assert_eq!(lost.status.code(), Some(1), "{}", words(&lost));
    assert!(
        words(&lost).contains("the graphics device failed") && !words(&lost).contains("panicked"),
        "{}",
        words(&lost)
    );
    let (later, more) = saved(&run).unwrap();
    assert!(later > steps && more > updates, "{later} {steps}");

    let picture = folder.path().join("end.png");
    let shot = picture.to_str().unwrap();
    let eval = ["eval", run_text, "--window", "--json", "--steps", "1000000", "--screenshot", shot];
    let report = screen.command(&eval).output().unwrap();
    assert!(report.status.success(), "{}", words(&report));
    let json: serde_json::Value = serde_json::from_slice(&report.stdout).unwrap();
    assert_eq!(json["evaluations"][0]["summary"]["episodes"], 2, "{json}");
    assert!(picture.exists());
}
