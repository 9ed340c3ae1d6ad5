//! Datasets of the scripted expert: the same for the same seed, whatever the arenas, the format and interruptions.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use onestep::{
    collect::{CollectEnd, CollectPlan, collect, repeats},
    data::{EpisodeData, EpisodeFile, ReadOptions, ogbench::OgbenchData, read_episodes},
    sim::{ExpertNoise, task},
};

fn plan(episodes: usize, arenas: usize, successful_only: bool) -> CollectPlan {
    // So much noise that some episodes fail.
    let noise = ExpertNoise { std: 0.55, random_action_probability: 0.05 };
    CollectPlan { task: task("lift").unwrap(), episodes, seed: 3, arenas, noise, successful_only }
}

fn onestep(arguments: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_onestep")).args(arguments).current_dir(folder).output().unwrap()
}

#[track_caller]
fn says(arguments: &[&str], folder: &Path, parts: &[&str]) {
    let output = onestep(arguments, folder);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    for part in parts {
        assert!(said.contains(part), "`{part}` is not in: {said}");
    }
}

#[track_caller]
fn refuses(arguments: &[&str], folder: &Path, parts: &[&str]) {
    let output = onestep(arguments, folder);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in parts {
        assert!(said.contains(part), "`{part}` is not in: {said}");
    }
}

fn read(path: &Path) -> EpisodeFile {
    read_episodes(path, &ReadOptions::default(), &mut |_, _| true).unwrap()
}

#[test]
fn the_number_of_arenas_changes_nothing() {
    for successful_only in [false, true] {
        let alone = collect(&plan(6, 1, successful_only), Vec::new(), |_| true).unwrap();
        assert_eq!((alone.end, alone.file.episodes.len()), (CollectEnd::Complete, 6));
        let successes = alone.file.episodes.iter().filter(|episode| episode.is_success()).count();
        assert!(if successful_only { successes == 6 } else { successes < 6 }, "{successes}");
        for arenas in [4, 16] {
            let beside = collect(&plan(6, arenas, successful_only), Vec::new(), |_| true).unwrap();
            assert_eq!(beside.file, alone.file, "{arenas} arenas");
            assert_eq!(beside.progress.tried, alone.progress.tried, "{arenas} arenas");
        }
    }
}

#[test]
fn what_was_stopped_goes_on_to_the_same_file() {
    for successful_only in [false, true] {
        let plan = plan(6, 3, successful_only);
        let whole = collect(&plan, Vec::new(), |_| true).unwrap().file;
        let stopped = collect(&plan, Vec::new(), |progress| progress.kept < 2).unwrap();
        assert_eq!(stopped.end, CollectEnd::Stopped);
        // Only whole episodes are kept.
        let part = stopped.file.episodes;
        assert!((2..6).contains(&part.len()) && part.iter().all(|episode| whole.episodes.contains(episode)));
        assert!(part.iter().all(|episode| repeats(&plan, episode).unwrap()));
        let resumed = collect(&plan, part.clone(), |_| true).unwrap();
        assert_eq!((resumed.end, resumed.file), (CollectEnd::Complete, whole));
        // Another noise gives other episodes, and that is noticed.
        let other = CollectPlan { noise: ExpertNoise::default(), ..plan };
        assert!(!repeats(&other, &part[0]).unwrap());
    }
}

#[test]
fn failures_are_kept_when_nobody_asks_for_success() {
    let noise = ExpertNoise { std: 0.0, random_action_probability: 1.0 };
    let kept = collect(&CollectPlan { noise, ..plan(2, 16, false) }, Vec::new(), |_| true).unwrap();
    assert_eq!((kept.end, kept.file.episodes.len(), kept.progress.successes), (CollectEnd::Complete, 2, 0));
    assert!(kept.file.episodes.iter().all(|episode| episode.truncated && !episode.terminated));
}

#[test]
fn the_command_writes_every_format_and_overwrites_nothing_unasked() {
    let place = tempfile::tempdir().unwrap();
    let here = place.path();
    let mut files = Vec::new();
    for name in ["a.safetensors", "a.hdf5", "a.npz"] {
        let arguments = ["collect", "lift", "--episodes", "3", "--noise", "0.1", "--out", name];
        says(
            &arguments,
            here,
            &["3 episodes of `lift`, 3 of them successful", "3 of 3 episodes: 100.0 %", "steps/s", name],
        );
        files.push(read(&here.join(name)));
        let before = fs::read(here.join(name)).unwrap();
        refuses(&arguments, here, &[name, "exists already", "--resume", "--force"]);
        assert_eq!(fs::read(here.join(name)).unwrap(), before);
        // The same again is the same file, and there is nothing left to do for a resumption.
        says(&[&arguments[..], &["--force", "--arenas", "1"]].concat(), here, &["3 episodes"]);
        says(
            &[&arguments[..], &["--resume"]].concat(),
            here,
            &["3 episodes are there already", "3 episodes of `lift`"],
        );
        assert_eq!(read(&here.join(name)), files[0], "{name}");
    }
    assert!(files.iter().all(|file| *file == files[0]));

    // A file that was left behind by an interruption, in each format.
    for name in ["a.safetensors", "a.hdf5", "a.npz"] {
        let part = ["collect", "lift", "--episodes", "2", "--noise", "0.1", "--force", "--out", name];
        says(&part, here, &["2 episodes"]);
        let rest = ["collect", "lift", "--episodes", "3", "--noise", "0.1", "--resume", "--out", name];
        says(&rest, here, &["2 episodes are there already", "1 of 1 episodes"]);
        assert_eq!(read(&here.join(name)), files[0], "{name}");
    }
    // What does not belong together is not put together.
    let resume = |more: &[&'static str]| -> Vec<&'static str> {
        [&["collect", "lift", "--resume", "--out", "a.npz"][..], more].concat()
    };
    refuses(&resume(&["--noise", "0.2"]), here, &["a.npz", "another noise"]);
    let mut changed = files[0].clone();
    changed.episodes[0] = EpisodeData { seed: 1, ..changed.episodes[0].clone() };
    changed.write(&here.join("changed.safetensors")).unwrap();
    refuses(
        &["collect", "lift", "--resume", "--out", "changed.safetensors"],
        here,
        &["changed.safetensors", "another version"],
    );
    let other = EpisodeFile { task: "push".to_owned(), ..files[0].clone() };
    other.write(&here.join("other.safetensors")).unwrap();
    refuses(&["collect", "lift", "--resume", "--out", "other.safetensors"], here, &["`push`", "`lift` is needed"]);
    fs::write(here.join("broken.npz"), b"PK").unwrap();
    refuses(&["collect", "lift", "--resume", "--out", "broken.npz"], here, &["broken.npz"]);
    assert_eq!(fs::read(here.join("broken.npz")).unwrap(), b"PK");
}

#[test]
fn wrong_options_are_told_before_long_work() {
    let place = tempfile::tempdir().unwrap();
    let here = place.path();
    for (more, part) in [
        (&["--out", "a.csv"][..], ".safetensors"),
        (&["--out", "a.npz", "--noise", "-1"], "--noise is -1"),
        (&["--out", "a.npz", "--noise", "nan"], "--noise is NaN"),
        (&["--out", "a.npz", "--random-actions", "1.5"], "--random-actions is 1.5"),
        (&["--out", "a.npz", "--episodes", "0"], "at least 1"),
        (&["--out", "a.npz", "--arenas", "0"], "at least 1"),
        (&["--out", "a.npz", "--play"], "`lift` has no form for play data"),
    ] {
        let more: Vec<String> = more.iter().map(|word| (*word).to_owned()).collect();
        let joined: Vec<String> = more.chunks(2).map(|pair| pair.join("=")).collect();
        let arguments: Vec<&str> = ["collect", "lift"].into_iter().chain(joined.iter().map(String::as_str)).collect();
        refuses(&arguments, here, &[part]);
    }
    assert_eq!(fs::read_dir(here).unwrap().count(), 0);
}

#[test]
fn play_data_are_as_the_benchmark_has_them() {
    let place = tempfile::tempdir().unwrap();
    let here = place.path();
    let arguments = ["collect", "cube-single", "--play", "--episodes", "2", "--out", "play.npz"];
    says(&arguments, here, &["2 episodes of `cube-single-play`", "1001.0 in an episode"]);
    let data = OgbenchData::read(&here.join("play.npz")).unwrap();
    assert_eq!((data.rows(), data.terminals.iter().filter(|last| **last).count()), (2002, 2));
    assert!(data.terminals[1000] && data.terminals[2001]);
    let (qpos, observations) = (data.qpos.as_ref().unwrap(), &data.observations);
    assert_eq!(
        (qpos.width, data.qvel.as_ref().unwrap().width, observations.width, data.actions.width),
        (21, 20, 28, 5)
    );
    assert_eq!(data.button_states, None);
    // The cube stands where its row's observation says.
    let mut moved = 0;
    for (row, (state, seen)) in qpos.values.chunks(21).zip(observations.values.chunks(28)).enumerate() {
        for (axis, center) in [0.425, 0.0, 0.0].into_iter().enumerate() {
            assert!(((state[14 + axis] - center) * 10.0 - seen[19 + axis]).abs() < 1e-4, "row {row}, axis {axis}");
        }
        moved += usize::from(state[16] > 0.08);
    }
    assert!(moved > 50, "the cube was in the air in {moved} rows alone");
    // Rewards of a task follow from the states.
    let convert = ["data", "convert", "play.npz", "task.safetensors", "--task", "cube-single-task1"];
    says(&convert, here, &["`cube-single-task1`"]);
    // What was recorded here can be repeated, and gone on with.
    says(&["data", "info", "play.npz"], here, &["recorded by   Onestep", "steps         2 002"]);
    says(&["data", "replay", "play.npz"], here, &["2 with the same observations to the bit"]);
    says(&[&arguments[..], &["--resume"]].concat(), here, &["2 episodes are there already"]);
    assert_eq!(OgbenchData::read(&here.join("play.npz")).unwrap(), data);
    let part = ["collect", "cube-single", "--play", "--episodes", "1", "--force", "--out", "play.npz"];
    says(&part, here, &["1 episodes"]);
    says(&[&arguments[..], &["--resume"]].concat(), here, &["1 episodes are there already", "2 episodes"]);
    assert_eq!(OgbenchData::read(&here.join("play.npz")).unwrap(), data);
    // The other expert gives other data, and that is noticed.
    let markov = ["--oracle", "markov", "--resume"];
    refuses(&[&arguments[..], &markov].concat(), here, &["play.npz", "`cube-single-noisy` is needed"]);
    // Of the goals' rewards nothing is left of a replay.
    refuses(&["data", "replay", "task.safetensors"], here, &["no seeds"]);
}

#[test]
fn undirected_data_goes_where_its_states_are_kept() {
    let place = tempfile::tempdir().unwrap();
    let here = place.path();
    for file in ["play.safetensors", "play.hdf5"] {
        for arguments in [&["cube-double", "--play"][..], &["cube-double-play"], &["scene-noisy"]] {
            let all = [&["collect"], arguments, &["--episodes", "1", "--out", file]].concat();
            refuses(&all, here, &[file, "no rewards of its own", ".npz", "onestep data convert"]);
        }
    }
    assert_eq!(fs::read_dir(here).unwrap().count(), 0);
}

#[test]
fn the_oracle_can_be_chosen() {
    let place = tempfile::tempdir().unwrap();
    let here = place.path();
    let collected = |arguments: &[&str], file: &str, said: &str| {
        let more = ["--episodes", "1", "--play", "--out", file];
        says(&[&["collect"], arguments, &more[..]].concat(), here, &[said]);
        OgbenchData::read(&here.join(file)).unwrap().actions
    };
    let plan = collected(&["puzzle-3x3"], "plan.npz", "`puzzle-3x3-play`");
    let markov = collected(&["puzzle-3x3", "--oracle", "markov"], "markov.npz", "`puzzle-3x3-noisy`");
    let named = collected(&["puzzle-3x3-noisy-singletask-v0"], "named.npz", "`puzzle-3x3-noisy`");
    assert_eq!(markov, named);
    assert_ne!(plan, markov);
    // About a fifth of the steps is random: nobody else opens the gripper that fast in a puzzle.
    let opened = markov.values.chunks(5).filter(|action| action[4] < -0.5).count();
    assert!((80..450).contains(&opened), "{opened} of 1001");
    refuses(&["collect", "lift", "--oracle", "plan", "--out", "a.npz"], here, &["`lift` has one expert", "OGBench"]);
}

#[cfg(unix)]
#[test]
fn an_interruption_keeps_what_was_finished() {
    use std::{io::Read, process::Stdio, time::Duration};
    let place = tempfile::tempdir().unwrap();
    let here = place.path();
    let arguments = ["collect", "lift", "--episodes", "1000000", "--arenas", "2", "--out", "a.safetensors"];
    let mut child = Command::new(env!("CARGO_BIN_EXE_onestep"))
        .args(arguments)
        .current_dir(here)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("of 1000000 episodes are kept") && said.contains("--resume"), "{said}");
    let part = read(&here.join("a.safetensors"));
    assert!(!part.episodes.is_empty());
    let count = (part.episodes.len() + 2).to_string();
    let rest = ["collect", "lift", "--episodes", &count, "--resume", "--out", "a.safetensors"];
    says(&rest, here, &["2 of 2 episodes"]);
    let whole = ["collect", "lift", "--episodes", &count, "--out", "b.safetensors"];
    says(&whole, here, &[]);
    assert_eq!(read(&here.join("a.safetensors")), read(&here.join("b.safetensors")));
}
