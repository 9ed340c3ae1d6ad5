//! Robomimic files: those that h5py wrote, and our own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::path::{Path, PathBuf};

use onestep_data::{
    DataError, EpisodeData, EpisodeFile, Format, Origin, ReadOptions, RobomimicFile, RobomimicReadOptions,
    RobomimicWriteOptions, WriteOptions, read_episodes, robomimic, write_episodes,
};
use proptest::{collection::vec, prelude::*};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn open(name: &str) -> RobomimicFile {
    RobomimicFile::open(&fixture(name)).unwrap()
}

/// The numbers of the fixtures, as their script makes them: key after key by name.
const KEYS: [(&str, usize); 5] = [
    ("object", 10),
    ("robot0_eef_pos", 3),
    ("robot0_eef_quat", 4),
    ("robot0_gripper_qpos", 2),
    ("robot0_joint_pos", 7),
];

fn row(demo: u32, step: usize, keys: &[&str]) -> Vec<f32> {
    let mut row = Vec::new();
    for wanted in keys {
        let (key, (_, width)) = KEYS.iter().enumerate().find(|(_, (name, _))| name == wanted).unwrap();
        let first = 100.0 * demo as f32 + step as f32 + 10.0 * key as f32;
        row.extend((0..*width).map(|column| first + column as f32 / 64.0));
    }
    row
}

fn read(name: &str, options: &RobomimicReadOptions) -> Result<EpisodeFile, DataError> {
    open(name).episodes(options, &mut |_, _| true)
}

/// Checks all numbers of an episode of `demo`, of which `kept` of `steps` steps are there.
#[track_caller]
fn check(episode: &EpisodeData, demo: u32, steps: usize, kept: usize, keys: &[&str]) {
    let observations: Vec<f32> = (0..=kept).flat_map(|step| row(demo, step, keys)).collect();
    assert_eq!(episode.observations, observations);
    let actions = (0..kept).flat_map(|t| (0..7).map(move |a| (f64::from(demo) + t as f64 + f64::from(a)).sin() as f32));
    assert_eq!(episode.actions, actions.collect::<Vec<_>>());
    let solved: Vec<bool> = (0..kept).map(|step| step + 2 >= steps).collect();
    assert_eq!(episode.successes, solved);
    assert_eq!(episode.rewards, solved.iter().map(|solved| f32::from(u8::from(*solved)) - 1.0).collect::<Vec<_>>());
    assert_eq!((episode.terminated, episode.truncated, episode.seed), (true, false, 0));
}

#[test]
fn files_of_h5py_are_read_to_the_last_number() {
    let default = robomimic::LOW_DIM_KEYS;
    for (name, demos, keys) in [
        ("robomimic_default.hdf5", &[(0, 5), (2, 4), (10, 6)][..], &default[..]),
        ("robomimic_gzip.hdf5", &[(0, 5)], &["object", "robot0_eef_pos"]),
        ("robomimic_latest_chunked.hdf5", &[(0, 5), (1, 4)], &default),
    ] {
        for end_at_success in [true, false] {
            let keys_option =
                if keys == default { Vec::new() } else { keys.iter().map(|key| (*key).to_owned()).collect() };
            let options = RobomimicReadOptions { keys: keys_option, end_at_success, ..Default::default() };
            let file = read(name, &options).unwrap();
            assert_eq!((file.task.as_str(), file.origin), ("lift", Origin::Robomimic));
            assert_eq!((file.observation_dim, file.action_dim), (row(0, 0, keys).len(), 7));
            assert_eq!(file.episodes.len(), demos.len());
            for (episode, (demo, steps)) in file.episodes.iter().zip(demos) {
                let kept = if end_at_success { steps - 1 } else { *steps };
                check(episode, *demo, *steps, kept, keys);
            }
        }
    }
}

#[test]
fn each_task_has_its_own_keys() {
    for (name, task, dim, action_dim) in [
        ("robomimic_can.hdf5", "can", 23, 7),
        ("robomimic_square.hdf5", "square", 23, 7),
        ("robomimic_tool_hang.hdf5", "tool-hang", 53, 7),
        ("robomimic_transport.hdf5", "transport", 59, 14),
    ] {
        let file = read(name, &RobomimicReadOptions::default()).unwrap();
        assert_eq!((file.task.as_str(), file.observation_dim, file.action_dim), (task, dim, action_dim), "{name}");
        // The arms first, in order, then the object, which is the script's first key.
        let arms = action_dim / 7;
        let starts: Vec<f32> = (0..arms * 3).map(|key| 10.0 * (key + 1) as f32).chain([0.0]).collect();
        let widths = robomimic::task_keys(task).unwrap();
        let mut place = 0;
        for ((key, width), start) in widths.iter().zip(starts) {
            assert_eq!(file.episodes[0].observations[place], start, "{name}, {key}");
            place += width;
        }
        assert_eq!(place, dim);

        // What is written for a task has the same keys.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("again.hdf5");
        write_episodes(&path, &file, &WriteOptions::default()).unwrap();
        let again = RobomimicFile::open(&path).unwrap();
        let mut names = widths.clone();
        names.sort();
        assert_eq!(again.keys("demo_0").unwrap(), names);
        assert_eq!(again.episodes(&RobomimicReadOptions::default(), &mut |_, _| true).unwrap(), file);
    }
}

#[test]
fn numbers_in_another_order_are_refused_until_keys_are_named() {
    for (name, place, part) in [
        ("robomimic_square_old.hdf5", "env_args", "robosuite before 1.5"),
        ("robomimic_transport_wrong.hdf5", "/data/demo_0/obs/object", "has 14 numbers, `transport` has 41"),
    ] {
        let error = read(name, &RobomimicReadOptions::default()).unwrap_err().to_string();
        assert!([name, place, part, "--keys"].iter().all(|needle| error.contains(needle)), "{error}");
        let named = RobomimicReadOptions { keys: vec!["object".to_owned()], ..Default::default() };
        assert_eq!(read(name, &named).unwrap().observation_dim, 14);
    }
    // Some users leave the second arm out.
    let keys = robomimic::LOW_DIM_KEYS.map(str::to_owned).to_vec();
    let named = RobomimicReadOptions { keys, ..Default::default() };
    assert_eq!(read("robomimic_transport.hdf5", &named).unwrap().observation_dim, 50);
}

#[test]
fn keys_are_joined_in_the_chosen_order() {
    let keys = ["robot0_eef_pos", "object"];
    let options = RobomimicReadOptions { keys: keys.map(str::to_owned).to_vec(), ..Default::default() };
    // Ten demonstrations of three steps in the format's newest version.
    let file = read("robomimic_latest.hdf5", &options).unwrap();
    assert_eq!(file.episodes.len(), 10);
    for (episode, demo) in file.episodes.iter().zip(0..) {
        check(episode, demo, 3, 2, &keys);
    }
}

#[test]
fn without_next_obs_the_last_action_is_left_out() {
    let keys = ["robot0_eef_pos", "object"];
    for end_at_success in [true, false] {
        let options =
            RobomimicReadOptions { keys: keys.map(str::to_owned).to_vec(), end_at_success, ..Default::default() };
        let file = read("robomimic_no_next.hdf5", &options).unwrap();
        // The goal is reached in the step before the last one, so that nothing of the way to it is missing.
        for (episode, (demo, steps)) in file.episodes.iter().zip([(0, 5), (1, 4)]) {
            check(episode, demo, steps, steps - 1, &keys);
        }
    }
}

#[test]
fn filters_environment_states_and_models_are_read() {
    let file = open("robomimic_default.hdf5");
    assert_eq!(file.demos(), ["demo_0", "demo_2", "demo_10"]);
    assert_eq!(file.filters().unwrap(), ["train", "valid"]);
    assert_eq!(file.filtered("train").unwrap(), ["demo_0", "demo_2"]);
    assert_eq!(open("robomimic_latest.hdf5").filtered("valid").unwrap(), ["demo_9"]);
    let options = RobomimicReadOptions { filter: Some("valid".to_owned()), ..Default::default() };
    let episodes = read("robomimic_default.hdf5", &options).unwrap().episodes;
    assert_eq!(episodes.len(), 1);
    check(&episodes[0], 10, 6, 5, &robomimic::LOW_DIM_KEYS);

    let env_args = file.env_args().unwrap().unwrap();
    assert_eq!((env_args.env_name.as_str(), env_args.env_type), ("Lift", Some(1)));
    assert_eq!(env_args.env_kwargs["control_freq"], 20);
    let (states, width) = file.states("demo_2").unwrap();
    assert_eq!((width, states), (3, vec![0.0, 2.0, 0.5, 0.05, 2.0, 0.5, 0.1, 2.0, 0.5, 3.0 * 0.05, 2.0, 0.5]));
    assert_eq!(file.model_file("demo_2").unwrap().unwrap(), "<mujoco model='lift2'/>");
    assert_eq!(file.keys("demo_0").unwrap(), KEYS.map(|(key, width)| (key.to_owned(), width)));
    assert_eq!(file.steps("demo_10").unwrap(), 6);
}

#[test]
fn rewards_can_stay_as_they_are() {
    let options = RobomimicReadOptions { reward_offset: 0.0, ..Default::default() };
    let file = read("robomimic_default.hdf5", &options).unwrap();
    assert_eq!(file.episodes[1].rewards, [0.0, 0.0, 1.0]);
    assert_eq!(file.episodes[1].successes, [false, false, true]);
}

#[track_caller]
fn refused(result: Result<EpisodeFile, DataError>, parts: &[&str]) {
    let error = result.unwrap_err().to_string();
    for part in parts {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
}

#[test]
fn what_is_missing_is_named_with_what_there_is() {
    let options = |keys: &[&str], filter: Option<&str>| RobomimicReadOptions {
        keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        filter: filter.map(str::to_owned),
        ..Default::default()
    };
    let name = "robomimic_default.hdf5";
    refused(read(name, &options(&["objekt"], None)), &[name, "/data/demo_0/obs/objekt", "robot0_joint_pos"]);
    refused(read(name, &options(&[], Some("better"))), &[name, "`better`", "train, valid"]);
    refused(read("robomimic_shaped.hdf5", &options(&[], None)), &["robomimic_shaped.hdf5", "reward_shaping"]);
    refused(
        RobomimicFile::open(&fixture("cube_double.npz"))
            .and_then(|file| file.episodes(&options(&[], None), &mut |_, _| true)),
        &["cube_double.npz", "robomimic HDF5"],
    );
    let missing = RobomimicFile::open(Path::new("/nowhere/low_dim.hdf5")).err().unwrap();
    assert!(matches!(missing, DataError::Io { .. }), "{missing}");
}

#[test]
fn whoever_watches_can_stop() {
    let mut seen = Vec::new();
    let result = open("robomimic_default.hdf5").episodes(&RobomimicReadOptions::default(), &mut |done, total| {
        seen.push((done, total));
        done < 2
    });
    assert!(matches!(result, Err(DataError::Stopped { .. })));
    assert_eq!(seen, [(1, 3), (2, 3)]);
}

fn episode(observation_dim: usize, action_dim: usize) -> impl Strategy<Value = EpisodeData> {
    (1usize..6).prop_flat_map(move |steps| {
        (
            vec(-10f32..10.0, (steps + 1) * observation_dim),
            vec(-1f32..1.0, steps * action_dim),
            vec(-1f32..1.0, steps),
            vec(any::<bool>(), steps),
            prop_oneof![Just(Vec::new()), vec(any::<bool>(), steps)],
            any::<(bool, bool, u64)>(),
        )
            .prop_map(|(observations, actions, rewards, successes, by_hand, (terminated, truncated, seed))| {
                let interventions = if by_hand.contains(&true) { by_hand } else { Vec::new() };
                EpisodeData { observations, actions, rewards, terminated, truncated, successes, seed, interventions }
            })
    })
}

fn file() -> impl Strategy<Value = EpisodeFile> {
    (1usize..6, 1usize..4).prop_flat_map(|(observation_dim, action_dim)| {
        vec(episode(observation_dim, action_dim), 1..14).prop_map(move |episodes| EpisodeFile {
            task: "push".to_owned(),
            origin: Origin::Onestep,
            observation_dim,
            action_dim,
            episodes,
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_episodes_survive_the_format(file in file(), compress: bool) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("demos.hdf5");
        let options = WriteOptions {
            robomimic: RobomimicWriteOptions { compress, ..Default::default() },
            ..Default::default()
        };
        write_episodes(&path, &file, &options).unwrap();
        prop_assert_eq!(read_episodes(&path, &ReadOptions::default(), &mut |_, _| true).unwrap(), file);
    }
}

#[test]
fn keys_filters_states_and_models_are_written() {
    let episode = |steps: usize, seed| EpisodeData {
        observations: (0..(steps + 1) * 3).map(|number| number as f32).collect(),
        actions: vec![0.5; steps],
        rewards: vec![-1.0; steps],
        successes: vec![false; steps],
        truncated: true,
        seed,
        ..EpisodeData::default()
    };
    let file = EpisodeFile {
        task: "push".to_owned(),
        origin: Origin::Onestep,
        observation_dim: 3,
        action_dim: 1,
        episodes: vec![episode(2, 7), EpisodeData { observations: vec![0.0; 3], ..Default::default() }, episode(1, 8)],
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("demos.h5");
    let options = RobomimicWriteOptions {
        keys: vec![("hand".to_owned(), 2), ("cube".to_owned(), 1)],
        env_args: Some("{\"env_name\": \"Push\", \"type\": 1}".to_owned()),
        filters: [("few".to_owned(), vec![2])].into(),
        states: vec![vec![0.0, 1.0, 2.0, 3.0], Vec::new(), vec![4.0, 5.0]],
        model_files: ["a", "b", "c"].map(str::to_owned).to_vec(),
        reward_offset: 1.0,
        compress: false,
    };
    robomimic::write_episodes(&path, &file, &options).unwrap();
    let read = RobomimicFile::open(&path).unwrap();
    // The empty episode is left out, and those behind it move up.
    assert_eq!(read.demos(), ["demo_0", "demo_1"]);
    assert_eq!(read.filtered("few").unwrap(), ["demo_1"]);
    assert_eq!(read.states("demo_1").unwrap(), (vec![4.0, 5.0], 2));
    assert_eq!(read.model_file("demo_1").unwrap().unwrap(), "c");
    assert_eq!(read.env_args().unwrap().unwrap().env_name, "Push");
    let reversed = RobomimicReadOptions { keys: ["cube", "hand"].map(str::to_owned).to_vec(), ..Default::default() };
    let episodes = read.episodes(&reversed, &mut |_, _| true).unwrap().episodes;
    assert_eq!(episodes[0].observations, [2.0, 0.0, 1.0, 5.0, 3.0, 4.0, 8.0, 6.0, 7.0]);
    // The file says what was added to the rewards, so that they come back as they were.
    assert_eq!((episodes[0].rewards.as_slice(), episodes[1].seed), (&[-1.0, -1.0][..], 8));

    let wrong = RobomimicWriteOptions { keys: vec![("hand".to_owned(), 2)], ..Default::default() };
    let error = robomimic::write_episodes(&path, &file, &wrong).unwrap_err().to_string();
    assert!(error.contains("the keys have 2 numbers, an observation has 3"), "{error}");
}

#[test]
fn the_ending_tells_the_format() {
    for (name, format) in [
        ("a.hdf5", Format::Robomimic),
        ("a.H5", Format::Robomimic),
        ("a.b.npz", Format::Ogbench),
        ("demos.safetensors", Format::Onestep),
    ] {
        assert_eq!(Format::of(Path::new(name)).unwrap(), format);
    }
    let error = Format::of(Path::new("demos.zarr")).unwrap_err().to_string();
    assert!(error.contains("demos.zarr") && error.contains(".npz (OGBench)"), "{error}");
}
