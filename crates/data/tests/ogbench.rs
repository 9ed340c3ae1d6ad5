//! OGBench files: those that NumPy wrote, beside what OGBench's own loader makes of them, and our own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::path::{Path, PathBuf};

use onestep_data::{
    DataError, EpisodeData, EpisodeFile, OgbenchTask, Origin,
    ogbench::{self, OgbenchData},
};
use proptest::{collection::vec, prelude::*};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn task() -> OgbenchTask {
    OgbenchTask::parse("cube-double-play-singletask-task2-v0").unwrap()
}

const LENGTHS: [usize; 3] = [6, 2, 9];

#[test]
fn files_of_numpy_are_read_to_the_last_number() {
    for name in ["cube_double.npz", "cube_double_compressed.npz", "buttons.npz"] {
        let data = OgbenchData::read(&fixture(name)).unwrap();
        assert_eq!(data.rows(), 17);
        assert_eq!((data.observations.width, data.actions.width), (37, 5));
        for row in 0..17 {
            for column in 0..37 {
                assert_eq!(data.observations.values[row * 37 + column], row as f32 + column as f32 / 64.0);
            }
            for column in 0..5 {
                let wanted = (row as f64 + column as f64).sin() as f32;
                assert!((data.actions.values[row * 5 + column] - wanted).abs() < 1e-6);
            }
        }
        let ends: Vec<usize> = (0..17).filter(|row| data.terminals[*row]).collect();
        assert_eq!(ends, [5, 7, 16]);
        let (qpos, qvel) = (data.qpos.unwrap(), data.qvel.unwrap());
        assert_eq!((qpos.width, qvel.width, qvel.values.len()), (28, 26, 17 * 26));
        assert!((qpos.values[16 * 28 + 13] - 1.6).abs() < 1e-6);
        match data.button_states {
            Some(states) => {
                assert_eq!(states.width, 2);
                assert_eq!(states.values, (0..34).map(|number| number % 3).collect::<Vec<_>>());
            }
            None => assert_ne!(name, "buttons.npz"),
        }
    }
}

fn array(archive: &str, name: &str) -> Vec<f32> {
    ogbench::read_array(&fixture(archive), name).unwrap().0
}

#[test]
fn transitions_rewards_and_masks_are_those_of_the_original_loader() {
    let path = fixture("cube_double.npz");
    let ours = OgbenchData::read(&path).unwrap().transitions(&task(), &path).unwrap();
    let expected = |name| array("cube_double_expected.npz", name);
    assert_eq!(ours.observations, expected("observations"));
    assert_eq!(ours.actions, expected("actions"));
    assert_eq!(ours.next_observations, expected("next_observations"));
    assert_eq!(ours.terminals, expected("terminals"));
    assert_eq!(ours.rewards, expected("rewards"));
    assert_eq!(ours.masks, expected("masks"));
}

#[test]
fn goals_are_those_of_the_original_environments() {
    for environment in ["single", "double", "triple", "quadruple"] {
        for number in 1..=5 {
            let name = format!("cube-{environment}-task{number}");
            let task = OgbenchTask::parse(&name).unwrap();
            assert_eq!(task.name(), name);
            let goals: Vec<f64> = task.goals().iter().flatten().copied().collect();
            let original = array("cube_goals.npz", &name);
            assert_eq!(goals.len(), original.len(), "{name}");
            assert!(goals.iter().zip(original).all(|(ours, theirs)| *ours as f32 == theirs), "{name}");
        }
    }
}

#[test]
fn episodes_hold_every_transition_of_the_original_loader() {
    let path = fixture("cube_double_compressed.npz");
    let file = ogbench::read_episodes(&path, Some(&task()), &mut |_, _| true).unwrap();
    assert_eq!((file.task.as_str(), file.origin), ("cube-double-task2", Origin::Ogbench));
    assert_eq!((file.observation_dim, file.action_dim), (37, 5));
    let all = OgbenchData::read(&path).unwrap().transitions(&task(), &path).unwrap();
    let mut at = 0;
    for episode in &file.episodes {
        let steps = episode.len();
        assert_eq!(episode.rewards, all.rewards[at..at + steps]);
        assert_eq!(episode.actions, all.actions[at * 5..(at + steps) * 5]);
        assert_eq!(episode.observations[..steps * 37], all.observations[at * 37..(at + steps) * 37]);
        assert_eq!(episode.observations[37..], all.next_observations[at * 37..(at + steps) * 37]);
        for step in 0..steps {
            let is_last = step + 1 == steps;
            assert_eq!(all.masks[at + step] == 0.0, is_last && episode.terminated);
        }
        // What ends an episode is the goal or the end of the recorded one.
        assert!(episode.terminated ^ episode.truncated);
        assert!(episode.terminated || all.terminals[at + steps - 1] == 1.0);
        at += steps;
    }
    assert_eq!(at, all.rewards.len());
    assert_eq!(at, LENGTHS.iter().map(|rows| rows - 1).sum::<usize>());
    // Row 3 is at the goal: the action before it succeeds, the action in it ends the episode.
    assert_eq!(file.episodes[0].successes, [false, false, true, false]);
}

#[test]
fn a_file_without_rewards_wants_a_task() {
    let path = fixture("cube_double.npz");
    let error = ogbench::read_episodes(&path, None, &mut |_, _| true).unwrap_err().to_string();
    assert!(error.contains("cube_double.npz") && error.contains("cube-double"), "{error}");
    let big = OgbenchTask::parse("cube-triple").unwrap();
    let error = ogbench::read_episodes(&path, Some(&big), &mut |_, _| true).unwrap_err().to_string();
    assert!(error.contains("qpos") && error.contains("28") && error.contains("cube-triple-task2"), "{error}");
    let error = ogbench::read_episodes(&fixture("cube_goals.npz"), None, &mut |_, _| true).unwrap_err().to_string();
    assert!(error.contains("terminals") && error.contains("missing"), "{error}");
}

#[test]
fn names_of_tasks_are_understood_or_refused() {
    let name = |text| OgbenchTask::parse(text).map(|task| task.name().to_owned());
    assert_eq!(name("cube-single-noisy-singletask-v0").as_deref(), Some("cube-single-task2"));
    assert_eq!(name("cube-quadruple-task5").as_deref(), Some("cube-quadruple-task5"));
    for other in ["cube", "cube-double-task0", "cube-double-task6", "cube-double-tsk1", "scene-play-v0", "", "lift"] {
        assert_eq!(name(other), None, "{other}");
    }
    let path = ogbench::validation_path(Path::new("sets/cube-double-play-v0.npz"));
    assert_eq!(path, Path::new("sets/cube-double-play-v0-val.npz"));
}

#[test]
fn what_was_read_can_be_written_again() {
    let folder = tempfile::tempdir().unwrap();
    for compress in [false, true] {
        let data = OgbenchData::read(&fixture("buttons.npz")).unwrap();
        let path = folder.path().join("again.npz");
        data.write(&path, compress).unwrap();
        assert_eq!(OgbenchData::read(&path).unwrap(), data);
    }
    let mut data = OgbenchData::read(&fixture("buttons.npz")).unwrap();
    data.actions.values.pop();
    let error = data.write(&folder.path().join("wrong.npz"), true).unwrap_err().to_string();
    assert!(error.contains("wrong.npz") && error.contains("`actions` has 84"), "{error}");
}

#[test]
fn the_contents_are_summed_up() {
    let summary = ogbench::summarize(&fixture("buttons.npz")).unwrap();
    assert_eq!(summary.lengths, [5, 1, 8]);
    assert!(!summary.has_rewards);
    assert!(summary.arrays.contains(&("qpos".to_owned(), "f32 [17, 28]".to_owned())), "{:?}", summary.arrays);
}

#[test]
fn whoever_watches_can_stop() {
    let mut seen = 0;
    let result = ogbench::read_episodes(&fixture("cube_double.npz"), Some(&task()), &mut |done, total| {
        assert!(done <= total);
        seen += 1;
        seen < 4
    });
    assert!(matches!(result, Err(DataError::Stopped { .. })));
}

fn episode(observation_dim: usize, action_dim: usize) -> impl Strategy<Value = EpisodeData> {
    (1usize..6).prop_flat_map(move |steps| {
        (
            vec(-10f32..10.0, (steps + 1) * observation_dim),
            vec(-1f32..1.0, steps * action_dim),
            vec(-1f32..1.0, steps),
            vec(any::<bool>(), steps),
            any::<(bool, u64)>(),
        )
            .prop_map(|(observations, actions, rewards, successes, (terminated, seed))| EpisodeData {
                observations,
                actions,
                rewards,
                terminated,
                truncated: !terminated,
                successes,
                seed,
                interventions: Vec::new(),
            })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_episodes_survive_the_format(
        (observation_dim, action_dim, episodes) in (1usize..6, 1usize..4)
            .prop_flat_map(|(s, a)| vec(episode(s, a), 1..6).prop_map(move |episodes| (s, a, episodes))),
        compress: bool,
    ) {
        let file = EpisodeFile {
            task: "push".to_owned(), origin: Origin::Onestep, observation_dim, action_dim, episodes,
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("demos.npz");
        ogbench::write_episodes(&path, &file, compress).unwrap();
        prop_assert_eq!(ogbench::read_episodes(&path, None, &mut |_, _| true).unwrap(), file);
    }
}
