//! What the command does with wrong input: it says what is wrong, where, and what to do, and leaves files as they were.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use onestep::{
    RunError,
    config::{ConfigSources, RunConfig, Setting},
    folder::RunFolder,
    learn::{LearnError, Replay, checkpoint},
    prelude::{Action, NextObservation},
    run::build_app,
    train::Trainer,
};

/// Nobody has memory for so many.
const TOO_MANY_ARENAS: &str = "4000000000";

fn onestep(arguments: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_onestep")).args(arguments).current_dir(folder).output().unwrap()
}

/// Runs the command, which must fail with this exit code, say all `parts`, and say it once.
#[track_caller]
fn refuses(arguments: &[&str], folder: &Path, code: i32, parts: &[&str]) -> String {
    let output = onestep(arguments, folder);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{said}");
    for part in parts {
        assert!(said.contains(part), "`{part}` is not in: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
    assert_eq!(said.matches("error:").count(), 1, "{said}");
    said
}

/// Settings of a run that takes a second.
const QUICK: [&str; 20] = [
    "--compute",
    "cpu",
    "--demonstrations",
    "2",
    "--offline-updates",
    "4",
    "--online-steps",
    "4",
    "--candidates",
    "2",
    "--set",
    "algorithm.actor_hidden=[8]",
    "--set",
    "algorithm.critic_hidden=[8]",
    "--set",
    "algorithm.batch_size=4",
    "--set",
    "evaluation.episodes=1",
    "--set",
    "demonstrations.action_noise_std=0.0",
];

fn quick_config() -> RunConfig {
    let settings = [
        ("compute", "cpu"),
        ("demonstrations.episodes", "1"),
        ("demonstrations.action_noise_std", "0.0"),
        ("algorithm.actor_hidden", "[8]"),
        ("algorithm.critic_hidden", "[8]"),
        ("algorithm.batch_size", "4"),
        ("algorithm.candidates", "2"),
        ("algorithm.target_candidates", "2"),
        ("learner.offline_updates", "4"),
        ("learner.offline_updates_per_tick", "1"),
        ("learner.online_steps", "40"),
        ("learner.start_training", "0"),
        ("evaluation.episodes", "1"),
    ];
    ConfigSources {
        task: Some("lift".to_owned()),
        settings: settings.map(|(key, value)| Setting::new("--set", key, value)).to_vec(),
        ..ConfigSources::default()
    }
    .resolve()
    .unwrap()
}

/// A folder with the finished run `run`.
fn finished_run() -> (tempfile::TempDir, PathBuf) {
    let place = tempfile::tempdir().unwrap();
    let arguments: Vec<&str> = ["train", "lift", "--out", "run"].into_iter().chain(QUICK).collect();
    let output = onestep(&arguments, place.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    for part in ["after the offline phase", "at the end", "95 % interval", "onestep record run"] {
        assert!(said.contains(part), "`{part}` is not in: {said}");
    }
    let run = place.path().join("run");
    (place, run)
}

/// All files below a folder with their content.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let content = fs::read(&path).unwrap();
                all.push((path, content));
            }
        }
    }
    all.sort();
    all
}

#[test]
fn an_unknown_task_preset_or_setting_gets_the_nearest_one() {
    let place = tempfile::tempdir().unwrap();
    let here = place.path();
    refuses(&["train", "lfit"], here, 1, &["no task `lfit`", "did you mean `lift`?", "onestep list"]);
    refuses(&["train", "lift", "--preset", "smal"], here, 1, &["no preset `smal`", "did you mean `small`?"]);
    refuses(&["train", "lift", "--preset", "xyzzy"], here, 1, &["no preset `xyzzy`;"]);
    refuses(&["train", "lift", "--algorithm", "mpv"], here, 1, &["--algorithm", "mpv", "mvp"]);
    refuses(&["train", "lift", "--compute", "abacus"], here, 1, &["--compute", "abacus"]);
    refuses(
        &["train", "lift", "--set", "learner.online_setps=3"],
        here,
        1,
        &["--set", "`learner.online_setps`", "did you mean `learner.online_steps`?"],
    );
    refuses(&["train", "lift", "--set", "seed"], here, 1, &["--set", "KEY=VALUE"]);
    refuses(&["trian", "lift"], here, 2, &["trian", "train"]);
    refuses(&["train"], here, 2, &["TASK"]);
    assert_eq!(fs::read_dir(here).unwrap().count(), 0, "nothing may be written");
}

#[test]
fn an_unknown_task_is_told_by_every_command() {
    let place = tempfile::tempdir().unwrap();
    let here = place.path();
    for arguments in [
        &["collect", "lfit", "--out", "a.npz"][..],
        &["check", "lift", "lfit"],
        &["eval", "--agent", "expert", "lfit"],
        &["bench", "tasks", "--of", "reacher,lfit"],
        &["bench", "arenas", "lfit"],
    ] {
        refuses(arguments, here, 1, &["no task `lfit`", "id you mean `lift`?"]);
    }
    for arguments in [&["collect", "hopper", "--out", "a.npz"][..], &["eval", "--agent", "expert", "hopper"]] {
        refuses(arguments, here, 1, &["`hopper` has no scripted expert"]);
    }
    assert_eq!(fs::read_dir(here).unwrap().count(), 0, "nothing may be written");
}

#[test]
fn more_arenas_than_memory_are_refused_before_they_are_built() {
    let place = tempfile::tempdir().unwrap();
    let here = place.path();
    let parts = ["4000000000 arenas of `lift`", "each as measured", "are free; at most", "fewer arenas"];
    refuses(&["bench", "arenas", "lift", "--of", TOO_MANY_ARENAS], here, 1, &parts);
    refuses(&["train", "lift", "--arenas", TOO_MANY_ARENAS, "--demonstrations", "1"], here, 1, &parts);
    let many = ["--episodes", TOO_MANY_ARENAS, "--arenas", TOO_MANY_ARENAS];
    refuses(&[&["collect", "lift", "--out", "a.npz"], &many[..]].concat(), here, 1, &parts);
    refuses(&[&["eval", "--agent", "zero", "lift"], &many[..]].concat(), here, 1, &parts);
    let names: Vec<_> = fs::read_dir(here).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.is_empty(), "{names:?}");
}

#[test]
fn an_error_of_the_system_is_said_once() {
    let place = tempfile::tempdir().unwrap();
    let here = place.path();
    fs::write(here.join("file"), "in the way").unwrap();
    for arguments in [
        &["train", "lift", "--config", "none.toml"][..],
        &["data", "info", "none.npz"],
        &["data", "info", "none.safetensors"],
        &["data", "info", "none.hdf5"],
        &["train", "lift", "--set", "demonstrations.file=none.npz"],
    ] {
        let said = refuses(arguments, here, 1, &["none"]);
        assert_eq!(said.matches("(os error").count(), 1, "{said}");
    }
    // Where nothing can be written is told before long work.
    for folder in ["file", "none"] {
        let out = format!("{folder}/a.npz");
        refuses(&["collect", "lift", "--out", &out], here, 1, &[&out, &format!("there is no folder {folder}")]);
    }
}

#[test]
fn a_broken_settings_file_is_named_with_its_line() {
    let place = tempfile::tempdir().unwrap();
    let here = place.path();
    for (text, parts) in [
        ("seed = 1\n[learner]\nonline_step = 3\n", &["my.toml:3:1", "`learner.online_steps`"][..]),
        ("seed = 1\n[learner\n", &["my.toml:2"]),
        ("seed = \"one\"\n", &["my.toml:1:1", "`seed`"]),
        ("seed = 1\nseed = 2\n", &["my.toml:2:1", "duplicate"]),
        ("seed = 18446744073709551616\n", &["my.toml:1:1", "range"]),
    ] {
        fs::write(here.join("my.toml"), text).unwrap();
        refuses(&["train", "lift", "--config", "my.toml"], here, 1, parts);
        assert_eq!(fs::read_to_string(here.join("my.toml")).unwrap(), text);
    }
    refuses(&["train", "lift", "--config", "none.toml"], here, 1, &["cannot read none.toml"]);
    assert_eq!(fs::read_dir(here).unwrap().count(), 1, "nothing may be written");
}

#[test]
fn an_existing_run_folder_is_refused_and_left_alone() {
    let place = tempfile::tempdir().unwrap();
    let here = place.path();
    fs::create_dir(here.join("run")).unwrap();
    fs::write(here.join("run").join("mine.txt"), "mine").unwrap();
    refuses(&["train", "lift", "--out", "run"], here, 1, &["run exists already", "--resume run", "--out"]);
    assert_eq!(contents(&here.join("run")).len(), 1);
    fs::write(here.join("file"), "mine").unwrap();
    refuses(&["train", "lift", "--out", "file"], here, 1, &["file exists already"]);
    refuses(&["train", "--resume", "run"], here, 1, &["run is not a run folder", "config.toml"]);
    refuses(&["eval", "nowhere"], here, 1, &["nowhere is not a run folder", "does not exist"]);
    refuses(&["train", "lift", "--resume", "run"], here, 2, &["--resume"]);
    refuses(&["train", "--resume", "run", "--seed", "1"], here, 2, &["--resume", "--seed"]);
}

#[test]
fn a_broken_or_truncated_checkpoint_is_named_and_left_as_it_was() {
    let (place, run) = finished_run();
    let here = place.path();
    let checkpoint = run.join("checkpoint");
    let whole = contents(&run);
    for name in ["weights.safetensors", "optimizer.safetensors", "replay.safetensors", "state.json"] {
        let path = checkpoint.join(name);
        let good = fs::read(&path).unwrap();
        for bad in [&good[..good.len() / 2], &b""[..], b"not at all"] {
            fs::write(&path, bad).unwrap();
            refuses(&["train", "--resume", "run"], here, 1, &[name, "left as it is"]);
            assert_eq!(fs::read(&path).unwrap(), bad);
        }
        fs::remove_file(&path).unwrap();
        if name != "replay.safetensors" {
            refuses(&["train", "--resume", "run"], here, 1, &[name]);
        }
        fs::write(&path, good).unwrap();
    }
    fs::write(checkpoint.join("weights.safetensors"), b"cut").unwrap();
    refuses(&["eval", "run"], here, 1, &["weights.safetensors"]);
    fs::write(checkpoint.join("weights.safetensors"), content_of(&whole, "checkpoint/weights.safetensors")).unwrap();

    // The description, the evaluations and the metrics of the run.
    for (name, bad, parts) in [
        ("config.toml", "task = \"lift\"\nlearnr = 3\n", &["config.toml:2:1", "learnr"][..]),
        ("evaluations.json", "[{", &["evaluations.json", "line 1"]),
        ("metrics.csv", "a,b\n1,2\n", &["metrics.csv", "columns"]),
    ] {
        fs::write(run.join(name), bad).unwrap();
        refuses(&["train", "--resume", "run"], here, 1, parts);
        assert_eq!(fs::read_to_string(run.join(name)).unwrap(), bad);
        fs::write(run.join(name), content_of(&whole, name)).unwrap();
    }
    assert_eq!(contents(&run), whole, "the tests left something behind");

    // Whole again, it goes on: there is nothing left to do.
    let output = onestep(&["train", "--resume", "run"], here);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = onestep(&["eval", "run", "--episodes", "2", "--json"], here);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let evaluated = &report["evaluations"][0];
    assert_eq!((&evaluated["summary"]["episodes"], &evaluated["name"]), (&2.into(), &"run".into()));
    assert_eq!(evaluated["seeds"][0]["report"]["rows"].as_array().unwrap().len(), 2);
}

fn content_of(files: &[(PathBuf, Vec<u8>)], ending: &str) -> Vec<u8> {
    files.iter().find(|(path, _)| path.ends_with(ending)).unwrap().1.clone()
}

/// A run folder with a checkpoint, and the trainer that wrote it.
fn saved_trainer(place: &Path) -> (Trainer, PathBuf) {
    let config = quick_config();
    let folder = RunFolder::create(&place.join("run"), &config).unwrap();
    let checkpoint = folder.checkpoint_path();
    let mut trainer = Trainer::new(config, Some(folder), &mut ()).unwrap();
    trainer.tick().unwrap();
    trainer.save(&mut ()).unwrap();
    (trainer, checkpoint)
}

#[test]
fn a_disk_that_refuses_leaves_the_previous_checkpoint_valid() {
    let place = tempfile::tempdir().unwrap();
    let (mut trainer, path) = saved_trainer(place.path());
    let before = contents(&path);
    trainer.tick().unwrap();
    // A name that is taken by a file makes the system refuse the new folder, wherever the tests run and whoever runs
    // them. That every other moment of a full disk is as harmless is tested beside the code that writes.
    let blocker = path.with_file_name("checkpoint.tmp");
    fs::write(&blocker, "in the way").unwrap();
    let error = trainer.save(&mut ()).unwrap_err();
    assert!(error.to_string().contains("checkpoint.tmp"), "{error}");
    assert_eq!(contents(&path), before);
    fs::remove_file(&blocker).unwrap();

    let (folder, config) = RunFolder::open(&place.path().join("run")).unwrap();
    let resumed = Trainer::resume(folder, config, &mut ()).unwrap();
    assert_eq!(resumed.position().updates, 1);
    trainer.save(&mut ()).unwrap();
    assert_eq!(trainer.position().updates, 2);
}

#[test]
fn a_crash_between_two_renames_is_survived() {
    let place = tempfile::tempdir().unwrap();
    let (_, path) = saved_trainer(place.path());
    fs::rename(&path, path.with_file_name("checkpoint.previous")).unwrap();
    let (folder, config) = RunFolder::open(&place.path().join("run")).unwrap();
    assert_eq!(Trainer::resume(folder, config, &mut ()).unwrap().position().updates, 1);
}

#[test]
fn a_checkpoint_of_another_size_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let (_, path) = saved_trainer(place.path());
    let mut config = quick_config();
    config.arenas = 2;
    let mut app = build_app(&config, &onestep::run::Role::Train);
    let error = checkpoint::load(&mut app, &path).unwrap_err().to_string();
    assert!(error.contains("state.json") && error.contains("arenas"), "{error}");
}

/// The report of a fault in a run folder.
fn fault(place: &Path, error: &RunError) -> serde_json::Value {
    assert!(matches!(error, RunError::Fault(_)), "{error}");
    serde_json::from_slice(&fs::read(place.join("run").join("fault.json")).unwrap()).unwrap()
}

#[test]
fn a_state_that_is_not_a_number_stops_the_run_and_dumps_the_last_states() {
    let place = tempfile::tempdir().unwrap();
    let (mut trainer, path) = saved_trainer(place.path());
    let before = contents(&path);
    while trainer.position().env_steps < 3 {
        trainer.tick().unwrap();
    }
    let world = trainer.app_mut().world_mut();
    for mut next in world.query::<&mut NextObservation>().iter_mut(world) {
        next.values_mut()[2] = f32::NAN;
    }
    // The observation of the next step is what came out of the last one.
    let error = (0..10).find_map(|_| trainer.tick().err()).unwrap();
    let report = fault(place.path(), &error);
    assert!(error.to_string().contains("step"), "{error}");
    let states = report["last_states"].as_array().unwrap();
    assert!(!states.is_empty() && report.to_string().contains("NaN"), "{report}");
    assert_eq!(contents(&path), before, "the checkpoint before the fault must stay");
}

#[test]
fn a_loss_that_is_not_a_number_stops_the_run() {
    let place = tempfile::tempdir().unwrap();
    let config = quick_config();
    let folder = RunFolder::create(&place.path().join("run"), &config).unwrap();
    // Rewards of 1e30 are numbers, their squares are not.
    let mut demonstrations = onestep::run::collect_demonstrations(&config, |_| true).unwrap();
    for reward in &mut demonstrations.episodes[0].rewards {
        *reward = 1e30;
    }
    let mut trainer = Trainer::with_demonstrations(config, Some(folder), Some(&demonstrations), &mut ()).unwrap();
    assert!(!trainer.app_mut().world().resource::<Replay>().is_empty());
    let error = trainer.run(&mut ()).unwrap_err();
    let report = fault(place.path(), &error);
    assert!(error.to_string().contains("loss") && error.to_string().contains("update 0"), "{error}");
    assert_eq!(report["updates"], 0);
}

#[test]
fn a_demonstration_that_is_not_a_number_is_refused() {
    let config = quick_config();
    let mut demonstrations = onestep::run::collect_demonstrations(&config, |_| true).unwrap();
    demonstrations.episodes[0].observations[5] = f32::INFINITY;
    let error = Trainer::with_demonstrations(config, None, Some(&demonstrations), &mut ()).err().unwrap();
    assert!(matches!(error, RunError::Learn(LearnError::NotFinite { .. })), "{error}");
}

#[test]
fn an_expert_that_never_succeeds_does_not_run_for_ever() {
    let mut config = quick_config();
    config.demonstrations.random_action_probability = 1.0;
    let error = onestep::run::collect_demonstrations(&config, |_| true).unwrap_err();
    assert!(error.to_string().contains("0 of 1 demonstrations"), "{error}");
}

#[test]
fn actions_out_of_range_are_clamped_before_the_world_sees_them() {
    let mut app = build_app(&quick_config(), &onestep::run::Role::Demonstrate { arenas: 1 });
    onestep::tick(app.world_mut());
    let world = app.world_mut();
    for action in world.query::<&Action>().iter(world) {
        assert!(action.values().iter().all(|value| (-1.0..=1.0).contains(value)));
    }
}

#[test]
fn networks_to_start_from_are_taken_or_refused() {
    let (place, run) = finished_run();
    let arguments = |from| -> Vec<&str> {
        ["train", "lift", "--out", "other", "--init-from", from].into_iter().chain(QUICK).collect()
    };
    refuses(&arguments("nowhere"), place.path(), 1, &["nowhere", "is not a run folder"]);
    assert!(!place.path().join("other").exists());
    let output = onestep(&arguments("run"), place.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(fs::read_to_string(place.path().join("other/config.toml")).unwrap().contains("init_from = \"run\""));
    assert!(run.join("checkpoint").exists());
}
