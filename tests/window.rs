//! A run in a window is the same run: ticks between frames do what ticks in a loop do.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

#[path = "../crates/ui/tests/reference/mod.rs"]
mod reference;
mod skip;

use std::{
    cell::RefCell,
    process::{Command, Output},
    rc::Rc,
};

use bevy::prelude::*;
use onestep::{
    config::{ConfigSources, RunConfig, Setting},
    record::picture::Frame,
    run::{Baseline, Role, add_visible_plugins, build_app},
    sim::Arena,
    train::{Start, TrainReport, TrainRun, Trainer, wanted_demonstrations},
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
}

impl TickDriver for Training {
    fn advance(&mut self, world: &mut World) {
        if self.report.borrow().is_none() {
            *self.report.borrow_mut() = self.run.advance(world, &mut ()).unwrap();
        }
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

    let mut app = in_frames(&config, &Role::Train);
    let run = TrainRun::begin(&mut app, config, None, start, &mut ()).unwrap();
    let report = Rc::new(RefCell::new(None));
    drive(&mut app, Training { run, report: report.clone() });
    while report.borrow().is_none() {
        app.update();
    }
    let report = report.take().unwrap();
    assert_eq!(report.evaluations, expected.evaluations);
    let weights = |policy: &onestep::learn::PolicyHandle| policy.with(|learner| learner.weights().unwrap());
    let shown = app.world().resource::<onestep::learn::PolicyHandle>();
    assert!(weights(shown) == weights(trainer.policy()));
    assert_eq!(hash(app.world_mut()), hash(trainer.app_mut().world_mut()));
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
        // With a display that does not answer, or without a driver: a reason and a way out.
        assert_refused(&nowhere.output().unwrap(), &["no ", "--window"]);
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
