//! OGBench files: those that NumPy wrote, beside what OGBench's own loader makes of them, and our own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::path::{Path, PathBuf};

use onestep_data::{
    DataError, EpisodeData, EpisodeFile, OgbenchTask, Origin,
    ogbench::{self, OgbenchData, Recording},
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
    for environment in ["single", "double", "triple", "quadruple", "octuple"] {
        for number in 1..=5 {
            let name = format!("cube-{environment}-task{number}");
            let task = OgbenchTask::parse(&name).unwrap();
            assert_eq!(task.name(), name);
            let goals: Vec<f64> = task.cubes().iter().flatten().copied().collect();
            let original = array("cube_goals.npz", &name);
            assert_eq!(goals.len(), original.len(), "{name}");
            assert!(goals.iter().zip(original).all(|(ours, theirs)| *ours as f32 == theirs), "{name}");
        }
    }
}

#[test]
fn rewards_and_masks_of_scene_and_puzzles_are_the_originals() {
    for (name, file) in [
        ("scene", "scene"),
        ("puzzle-3x3", "puzzle_3x3"),
        ("puzzle-4x4", "puzzle_4x4"),
        ("puzzle-4x5", "puzzle_4x5"),
        ("puzzle-4x6", "puzzle_4x6"),
    ] {
        let (path, expected) = (fixture(&format!("{file}.npz")), format!("{file}_expected.npz"));
        let data = OgbenchData::read(&path).unwrap();
        // The original's function was asked about every row; its loader leaves out the last of each episode.
        let kept = |values: Vec<f32>| -> Vec<f32> {
            values.into_iter().zip(&data.terminals).filter(|(_, last)| !**last).map(|(value, _)| value).collect()
        };
        for number in 1..=5 {
            let task = OgbenchTask::parse(&format!("{name}-play-singletask-task{number}-v0")).unwrap();
            let ours = data.transitions(&task, &path).unwrap();
            let rewards = kept(array(&expected, &format!("rewards_task{number}")));
            assert_eq!(ours.rewards, rewards, "{name}-task{number}");
            assert_eq!(ours.masks, kept(array(&expected, &format!("masks_task{number}"))), "{name}-task{number}");
            assert!(ours.masks.contains(&0.0) && ours.rewards.iter().any(|reward| *reward < -1.0));
            let episodes = ogbench::read_episodes(&path, Some(&task), &mut |_, _| true).unwrap().episodes;
            let rewards: Vec<f32> = episodes.iter().flat_map(|episode| episode.rewards.clone()).collect();
            assert_eq!(rewards, ours.rewards, "{name}-task{number}");
            let ends = episodes.iter().filter(|episode| episode.terminated).count();
            assert_eq!(ends, ours.masks.iter().filter(|mask| **mask == 0.0).count());
        }
    }
}

#[test]
fn a_task_of_another_environment_is_refused_with_both_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |path: &Path, task: &str, parts: &[&str]| {
        let task = OgbenchTask::parse(task).unwrap();
        let errors = [
            ogbench::read_episodes(path, Some(&task), &mut |_, _| true).unwrap_err().to_string(),
            OgbenchData::read(path).unwrap().transitions(&task, path).unwrap_err().to_string(),
        ];
        for (error, part) in errors.iter().flat_map(|error| parts.iter().map(move |part| (error, part))) {
            assert!(error.contains(part), "`{part}` is not in: {error}");
        }
    };
    // Too few numbers, and too many.
    refused(&fixture("cube_double.npz"), "cube-triple", &["qpos", "28", "35", "cube-triple-task2"]);
    refused(&fixture("cube_double.npz"), "cube-single", &["qpos", "28", "21"]);
    refused(&fixture("scene.npz"), "puzzle-3x3", &["qpos", "25", "23"]);
    refused(&fixture("puzzle_3x3.npz"), "scene", &["qpos", "23", "25"]);
    let mut data = OgbenchData::read(&fixture("scene.npz")).unwrap();
    let path = folder.path().join("without.npz");
    data.button_states = None;
    data.write(&path, true).unwrap();
    refused(&path, "scene", &["button_states", "missing"]);
    data.button_states = Some(ogbench::Columns { width: 3, values: vec![0; 3 * data.rows()] });
    data.write(&path, true).unwrap();
    refused(&path, "scene", &["button_states", "3", "2 buttons"]);
}

#[test]
fn a_recording_keeps_what_repeats_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("play.npz");
    let recorded = OgbenchData {
        recording: Some(Recording {
            task: "scene-play".to_owned(),
            seeds: vec![7, u64::MAX],
            last_observations: ogbench::Columns { width: 40, values: (0..80).map(|number| number as f32).collect() },
        }),
        ..OgbenchData::read(&fixture("scene.npz")).unwrap()
    };
    recorded.write(&path, true).unwrap();
    assert_eq!(OgbenchData::read(&path).unwrap(), recorded);
    assert_eq!(ogbench::read_recording_episodes(&fixture("scene.npz")).unwrap(), None);
    let file = ogbench::read_recording_episodes(&path).unwrap().unwrap();
    assert_eq!((file.task.as_str(), file.origin), ("scene-play", Origin::Onestep));
    let sizes: Vec<_> = file.episodes.iter().map(|episode| (episode.len(), episode.seed)).collect();
    assert_eq!(sizes, [(21, 7), (39, u64::MAX)]);
    for (index, episode) in file.episodes.iter().enumerate() {
        episode.check(index, 40, 5).unwrap();
        assert!(episode.truncated && !episode.terminated && !episode.is_success());
        assert_eq!(episode.observations[episode.len() * 40 + 1], (40 * index + 1) as f32);
    }
    let summary = ogbench::summarize(&path).unwrap();
    assert_eq!((summary.lengths, summary.is_recording, summary.has_rewards), (vec![21, 39], true, false));
    // For a task it is read as any other file; the pieces begin where no seed leads.
    let task = OgbenchTask::parse("scene-task1").unwrap();
    let file = ogbench::read_episodes(&path, Some(&task), &mut |_, _| true).unwrap();
    assert_eq!((file.task.as_str(), file.origin), ("scene-task1", Origin::Ogbench));
    assert_eq!(file.steps(), 58);
    assert!(file.episodes.iter().all(|episode| episode.seed == 0));
    let error = ogbench::read_episodes(&path, None, &mut |_, _| true).unwrap_err().to_string();
    assert!(error.contains("play.npz") && error.contains("no rewards"), "{error}");

    let mut wrong = recorded;
    wrong.recording.as_mut().unwrap().seeds.pop();
    let error = wrong.write(&path, true).unwrap_err().to_string();
    assert!(error.contains("`seeds` has 1 numbers for 2 episodes"), "{error}");
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
    assert_eq!(name("scene-play-singletask-v0").as_deref(), Some("scene-task2"));
    assert_eq!(name("puzzle-4x4-singletask-v0").as_deref(), Some("puzzle-4x4-task4"));
    assert_eq!(name("puzzle-3x3").as_deref(), Some("puzzle-3x3-task4"));
    assert_eq!(name("puzzle-4x6").as_deref(), Some("puzzle-4x6-task2"));
    // Goal-conditioned environments have no goal of their own.
    for other in ["scene-play-v0", "cube-double-v0", "cube-double-play", "puzzle-9x9"] {
        assert_eq!(name(other), None, "{other}");
    }
    for other in ["cube", "cube-double-task0", "cube-double-task6", "cube-double-tsk1", "", "lift"] {
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
            prop_oneof![Just(Vec::new()), vec(any::<bool>(), steps)],
        )
            .prop_map(|(observations, actions, rewards, successes, (terminated, seed), by_hand)| EpisodeData {
                observations,
                actions,
                rewards,
                terminated,
                truncated: !terminated,
                successes,
                seed,
                // No person in any step is told by an empty list.
                interventions: if by_hand.contains(&true) { by_hand } else { Vec::new() },
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
