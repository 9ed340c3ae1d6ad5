//! Datasets through the command: looked at, converted, repeated, learned from.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use onestep::{
    config::{ConfigSources, RunConfig, Setting},
    data::{EpisodeData, EpisodeFile, WriteOptions, write_episodes},
    run::{collect_demonstrations, read_demonstrations},
};

fn onestep(arguments: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_onestep")).args(arguments).current_dir(folder).output().unwrap()
}

/// What the command says when all is well.
#[track_caller]
fn says(arguments: &[&str], folder: &Path, parts: &[&str]) -> String {
    let output = onestep(arguments, folder);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    for part in parts {
        assert!(said.contains(part), "`{part}` is not in: {said}");
    }
    said
}

#[track_caller]
fn refuses(arguments: &[&str], folder: &Path, parts: &[&str]) {
    let output = onestep(arguments, folder);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in parts {
        assert!(said.contains(part), "`{part}` is not in: {said}");
    }
    assert_eq!(said.lines().filter(|line| line.starts_with("error:")).count(), 1, "{said}");
}

fn config(settings: &[(&str, &str)]) -> RunConfig {
    let settings = settings.iter().map(|(key, value)| Setting::new("--set", *key, value)).collect();
    ConfigSources { task: Some("lift".to_owned()), settings, ..ConfigSources::default() }.resolve().unwrap()
}

/// Three demonstrations of the expert, in a folder of their own.
fn recorded() -> (tempfile::TempDir, EpisodeFile) {
    let place = tempfile::tempdir().unwrap();
    let config = config(&[("demonstrations.episodes", "3"), ("demonstrations.action_noise_std", "0.1")]);
    let file = collect_demonstrations(&config, |_| true).unwrap();
    file.write(&place.path().join("demos.safetensors")).unwrap();
    (place, file)
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/tests/fixtures").join(name)
}

#[test]
fn recorded_episodes_are_repeated_to_the_bit_whatever_the_format() {
    let (place, file) = recorded();
    let here = place.path();
    says(&["data", "info", "demos.safetensors"], here, &["Onestep episodes", "task          lift", "episodes      3"]);
    for name in ["demos.hdf5", "demos.npz"] {
        says(&["data", "convert", "demos.safetensors", name], here, &["3 episodes of `lift`", name]);
        says(&["data", "info", name], here, &["episodes      3"]);
        says(&["data", "convert", name, "back.safetensors"], here, &["3 episodes of `lift`"]);
        assert_eq!(EpisodeFile::read(&here.join("back.safetensors")).unwrap(), file, "{name}");
        says(&["data", "replay", name], here, &["3 episodes", "3 with the same observations to the bit"]);
    }
    says(&["data", "info", "demos.hdf5"], here, &["robomimic HDF5", "robot0_gripper_qpos  2", "object  10"]);

    // A record that was changed is told from one that was not.
    let mut changed = file;
    changed.episodes[1].observations[19 * 4 + 11] += 0.5;
    changed.write(&here.join("changed.safetensors")).unwrap();
    let parts = ["2 with the same observations", "cube_pos[2] after 4 steps of episode 1"];
    says(&["data", "replay", "changed.safetensors"], here, &parts);
    let said =
        says(&["data", "replay", "changed.safetensors", "--episode", "1", "--json"], here, &["first_difference"]);
    let reports: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((reports.as_array().unwrap().len(), &reports[0]["first_difference"]), (1, &4.into()));
    refuses(&["data", "replay", "demos.npz", "--episode", "3"], here, &["demos.npz", "no episode 3 of 3"]);
}

#[test]
fn the_last_episodes_go_to_a_file_of_their_own() {
    let (place, file) = recorded();
    let here = place.path();
    says(
        &["data", "convert", "demos.safetensors", "lift.npz", "--validation", "1"],
        here,
        &["lift.npz", "lift-val.npz"],
    );
    says(&["data", "info", "lift.npz"], here, &["episodes      2", "validation    lift-val.npz"]);
    says(&["data", "convert", "lift-val.npz", "last.safetensors"], here, &["1 episodes"]);
    assert_eq!(EpisodeFile::read(&here.join("last.safetensors")).unwrap().episodes, file.episodes[2..]);
    refuses(&["data", "convert", "demos.safetensors", "a.npz", "--validation", "3"], here, &["leaves nothing of 3"]);
    assert!(!here.join("a.npz").exists());

    // robomimic tells them apart within one file.
    says(
        &["data", "convert", "demos.safetensors", "lift.hdf5", "--validation", "1"],
        here,
        &["3 episodes", "lift.hdf5"],
    );
    let parts = ["filter key    train  2 demonstrations", "filter key    valid  1 demonstrations"];
    says(&["data", "info", "lift.hdf5"], here, &parts);
    let last = ["data", "convert", "lift.hdf5", "valid.safetensors", "--filter", "valid"];
    says(&last, here, &["1 episodes"]);
    assert_eq!(EpisodeFile::read(&here.join("valid.safetensors")).unwrap().episodes, file.episodes[2..]);
    assert!(!here.join("lift-val.hdf5").exists());
    // Everything was written under another name first, and nothing of that is left.
    let names = fs::read_dir(here).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(names.into_iter().all(|name| !name.contains("tmp")));
}

#[test]
fn options_that_a_format_does_not_have_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let here = place.path();
    let (robomimic, ogbench) = (fixture("robomimic_default.hdf5"), fixture("cube_double.npz"));
    let (robomimic, ogbench) = (robomimic.to_str().unwrap(), ogbench.to_str().unwrap());
    for (input, output, option, part) in [
        (ogbench, "a.npz", &["--filter", "x"][..], "--filter"),
        (ogbench, "a.npz", &["--keys", "x"], "--keys"),
        (ogbench, "a.npz", &["--whole"], "--whole"),
        (ogbench, "a.npz", &["--reward-offset", "1"], "--reward-offset"),
        (robomimic, "a.npz", &["--task", "cube-double"], "--task"),
        (robomimic, "a.npz", &["--write-keys", "x:19"], "--write-keys"),
        (robomimic, "a.npz", &["--write-reward-offset", "1"], "--write-reward-offset"),
        (robomimic, "a.safetensors", &["--uncompressed"], "--uncompressed"),
    ] {
        refuses(&[&["data", "convert", input, output], option].concat(), here, &[part, "for"]);
        assert!(!here.join(output).exists());
    }
}

#[test]
fn files_of_other_projects_are_read_and_not_repeated() {
    let place = tempfile::tempdir().unwrap();
    let here = place.path();
    let (robomimic, ogbench) = (fixture("robomimic_default.hdf5"), fixture("cube_double.npz"));
    let (robomimic, ogbench) = (robomimic.to_str().unwrap(), ogbench.to_str().unwrap());
    says(
        &["data", "info", robomimic],
        here,
        &["environment   Lift, version 1.5.1", "filter key    train  2", "episodes      3", "steps         15"],
    );
    says(&["data", "info", ogbench], here, &["qpos  f32 [17, 28]", "none; they follow from --task", "episodes      3"]);
    says(&["data", "convert", robomimic, "lift.safetensors", "--filter", "valid"], here, &["1 episodes of `lift`"]);
    says(&["data", "info", "lift.safetensors"], here, &["recorded by   robomimic", "observation   19 numbers"]);
    says(&["data", "convert", ogbench, "cube.safetensors", "--task", "cube-double"], here, &["`cube-double-task2`"]);

    for name in [robomimic, ogbench, "lift.safetensors", "cube.safetensors"] {
        refuses(&["data", "replay", name], here, &[name, "no seeds"]);
    }
    refuses(&["data", "convert", ogbench, "a.safetensors"], here, &["cube_double.npz", "no rewards", "cube-double"]);
    refuses(&["data", "convert", ogbench, "a.safetensors", "--task", "lift"], here, &["`lift`", "cube-double"]);
    refuses(&["data", "convert", ogbench, "a.safetensors", "--filter", "x"], here, &["robomimic files"]);
    refuses(&["data", "convert", robomimic, "a.safetensors", "--filter", "okay"], here, &["`okay`", "train, valid"]);
    refuses(&["data", "convert", robomimic, "a.csv"], here, &["a.csv", ".safetensors"]);
    refuses(&["data", "info", "none.npz"], here, &["cannot read none.npz"]);
    fs::write(here.join("cut.hdf5"), &fs::read(robomimic).unwrap()[..3000]).unwrap();
    refuses(&["data", "info", "cut.hdf5"], here, &["cut.hdf5", "robomimic HDF5"]);
}

#[test]
fn demonstrations_of_a_file_replace_the_experts_and_must_fit() {
    let (place, file) = recorded();
    let here = place.path();
    let mut config = config(&[("demonstrations.episodes", "2")]);
    let path = here.join("demos.safetensors");
    assert_eq!(read_demonstrations(&config, &path, &mut |_, _| true).unwrap().episodes, file.episodes[..2]);
    // Human demonstrations of the same task have the same sizes, and rewards of the same kind.
    config.demonstrations.episodes = 100;
    let human = read_demonstrations(&config, &fixture("robomimic_default.hdf5"), &mut |_, _| true).unwrap();
    assert_eq!((human.episodes.len(), human.observation_dim), (3, 19));
    assert!(human.episodes.iter().all(|episode| episode.terminated && episode.rewards.last() == Some(&0.0)));

    let wrong = |file: &EpisodeFile, parts: &[&str]| {
        let path = here.join("wrong.safetensors");
        file.write(&path).unwrap();
        let error = read_demonstrations(&config, &path, &mut |_, _| true).unwrap_err().to_string();
        for part in parts.iter().chain(&["wrong.safetensors"]) {
            assert!(error.contains(part), "`{part}` is not in: {error}");
        }
    };
    let empty = EpisodeFile { episodes: Vec::new(), ..file.clone() };
    wrong(&EpisodeFile { task: "push".to_owned(), ..file.clone() }, &["`push`", "`lift` is needed"]);
    wrong(&EpisodeFile { observation_dim: 18, ..empty.clone() }, &["observation is 18", "19 is needed"]);
    wrong(&EpisodeFile { action_dim: 6, ..empty.clone() }, &["action is 6", "7 is needed"]);
    wrong(&empty, &["no episode with a step"]);
    let mut failed = file;
    for episode in &mut failed.episodes {
        episode.successes.fill(false);
    }
    wrong(&failed, &["none of its 3 episodes ends in success", "successful_only=false"]);
    // The same holds for files of the other formats, also when they are of another version.
    let refused = |path: &Path, parts: &[&str]| {
        let error = read_demonstrations(&config, path, &mut |_, _| true).unwrap_err().to_string();
        let name = path.file_name().unwrap().to_str().unwrap();
        for part in parts.iter().chain(&[name]) {
            assert!(error.contains(part), "`{part}` is not in: {error}");
        }
    };
    for ending in ["hdf5", "npz"] {
        let path = here.join("wrong").with_extension(ending);
        let written = |file: &EpisodeFile| write_episodes(&path, file, &WriteOptions::default()).unwrap();
        written(&empty);
        refused(&path, &["holds no"]);
        written(&EpisodeFile { task: "push".to_owned(), ..failed.clone() });
        refused(&path, &["`push`", "`lift` is needed"]);
        let short = EpisodeData {
            observations: vec![0.0; 4],
            actions: vec![0.0; 7],
            rewards: vec![0.0],
            successes: vec![true],
            terminated: true,
            ..EpisodeData::default()
        };
        let wrong = |sizes: (usize, usize), actions: Vec<f32>| EpisodeFile {
            observation_dim: sizes.0,
            action_dim: sizes.1,
            episodes: vec![EpisodeData { actions, observations: vec![0.0; 2 * sizes.0], ..short.clone() }],
            ..empty.clone()
        };
        written(&wrong((2, 7), vec![0.0; 7]));
        refused(&path, &["observation is 2", "19 is needed"]);
        written(&wrong((19, 6), vec![0.0; 6]));
        refused(&path, &["action is 6", "7 is needed"]);
        refused(&fixture(&format!("later_version.{ending}")), &["version 9", "version 1"]);
    }
    refused(&fixture("cube_double.npz"), &["holds no rewards", "onestep data convert --task"]);
    // A default task and its number are one task under two names; another number is another task.
    let cubes = EpisodeFile {
        task: "cube-double".to_owned(),
        observation_dim: 37,
        action_dim: 5,
        episodes: vec![EpisodeData {
            observations: vec![0.0; 74],
            actions: vec![0.0; 5],
            rewards: vec![0.0],
            successes: vec![true],
            terminated: true,
            ..EpisodeData::default()
        }],
        ..empty.clone()
    };
    let path = here.join("cubes.safetensors");
    for (recorded, asked, fits) in [
        ("cube-double", "cube-double-task2", true),
        ("cube-double-task2", "cube-double", true),
        ("cube-double", "cube-double-task3", false),
        ("cube-double-task2-sparse", "cube-double-task2", false),
    ] {
        EpisodeFile { task: recorded.to_owned(), ..cubes.clone() }.write(&path).unwrap();
        let sources = ConfigSources { task: Some(asked.to_owned()), ..ConfigSources::default() };
        let read = read_demonstrations(&sources.resolve().unwrap(), &path, &mut |_, _| true);
        assert_eq!(read.is_ok(), fits, "{recorded} for {asked}: {read:?}");
    }
    refused(&here.join("none.hdf5"), &["cannot read"]);
    refused(&here.join("none.zarr"), &["known are"]);

    let quick = [
        "learner.offline_updates=2",
        "learner.online_steps=2",
        "algorithm.actor_hidden=[8]",
        "algorithm.critic_hidden=[8]",
        "algorithm.batch_size=4",
        "evaluation.episodes=1",
        "compute=cpu",
    ];
    let train = |file: &str| {
        let setting = format!("demonstrations.file={file}");
        let mut arguments = vec!["train", "lift", "--out", "run", "--set", &setting];
        for setting in quick {
            arguments.extend(["--set", setting]);
        }
        onestep(&arguments, here)
    };
    // What is refused leaves no folder behind, so that the next attempt can have its name.
    let output = train("wrong.safetensors");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && said.contains("none of its 3 episodes") && !here.join("run").exists(),
        "{said}"
    );
    let output = train("demos.safetensors");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = fs::read_to_string(here.join("run/config.toml")).unwrap();
    assert!(text.contains("file = \"demos.safetensors\""), "{text}");
}
