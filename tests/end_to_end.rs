//! A tiny training run from demonstrations to the last evaluation: it learns, and an interruption changes nothing.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests fail by panicking, and say how far a long one came"
)]

use std::path::Path;
use std::time::{Duration, Instant};

use onestep::{
    RunError,
    config::{ConfigSources, RunConfig, Setting},
    data::EpisodeFile,
    folder::{EvaluationKind, MetricsLog, Position, RunFolder, column},
    learn::{AlgorithmConfig, PolicyHandle},
    policy::{Learner, metrics},
    run::collect_demonstrations,
    train::{TrainWatcher, Trainer},
};

/// Small enough for seconds: what is tested is the machinery, not the arm's skill.
fn tiny() -> RunConfig {
    let settings = [
        ("compute", "cpu"),
        ("arenas", "2"),
        ("demonstrations.episodes", "6"),
        ("demonstrations.action_noise_std", "0.1"),
        ("algorithm.actor_hidden", "[32, 32]"),
        ("algorithm.critic_hidden", "[32, 32]"),
        ("algorithm.batch_size", "32"),
        ("algorithm.candidates", "4"),
        ("algorithm.target_candidates", "2"),
        ("algorithm.learning_rate", "1e-3"),
        ("learner.replay_capacity", "4000"),
        ("learner.offline_updates", "200"),
        ("learner.offline_updates_per_tick", "8"),
        ("learner.online_steps", "120"),
        ("learner.start_training", "20"),
        ("learner.updates_per_step", "0.5"),
        ("evaluation.episodes", "2"),
        ("evaluation.arenas", "2"),
        ("evaluation.every_steps", "50"),
        ("log.every_updates", "40"),
        ("log.every_steps", "40"),
    ];
    resolve("lift", &settings)
}

fn resolve(task: &str, settings: &[(&str, &str)]) -> RunConfig {
    ConfigSources {
        task: Some(task.to_owned()),
        settings: settings.iter().map(|(key, value)| Setting::new("--set", *key, value)).collect(),
        ..ConfigSources::default()
    }
    .resolve()
    .unwrap()
}

/// The same for a task that nobody demonstrates: it is learned online from the start.
const TINY_ONLINE: [(&str, &str); 14] = [
    ("compute", "cpu"),
    ("arenas", "2"),
    ("algorithm.actor_hidden", "[32, 32]"),
    ("algorithm.critic_hidden", "[32, 32]"),
    ("algorithm.batch_size", "32"),
    ("algorithm.candidates", "4"),
    ("algorithm.target_candidates", "2"),
    ("learner.replay_capacity", "4000"),
    ("learner.online_steps", "240"),
    ("learner.random_steps", "30"),
    ("learner.start_training", "20"),
    ("learner.updates_per_step", "0.5"),
    ("evaluation.episodes", "2"),
    ("log.every_steps", "40"),
];

/// Everything the networks and the optimiser hold, to the bit.
fn state(policy: &PolicyHandle) -> (Vec<u8>, Vec<u8>) {
    policy.with(|learner: &mut dyn Learner| (learner.weights().unwrap(), learner.optimizer().unwrap()))
}

fn demonstrations(config: &RunConfig) -> EpisodeFile {
    collect_demonstrations(config, |_| true).unwrap()
}

/// Asks to stop, as Ctrl-C does, once a run stands at `at` or beyond.
struct StopAt {
    at: Position,
    is_there: bool,
}

impl TrainWatcher for StopAt {
    fn ticked(&mut self, position: Position) {
        self.is_there = self.at.is_within(position);
    }

    fn wants_to_stop(&mut self) -> bool {
        self.is_there
    }
}

fn rows(path: &Path) -> Vec<csv::StringRecord> {
    csv::Reader::from_path(path).unwrap().records().map(Result::unwrap).collect()
}

fn header(path: &Path) -> Vec<String> {
    csv::Reader::from_path(path).unwrap().headers().unwrap().iter().map(str::to_owned).collect()
}

#[test]
fn a_tiny_run_learns_and_leaves_a_whole_run_folder() {
    let mut config = tiny();
    config.learner.offline_updates = 600;
    if let AlgorithmConfig::Mvp(mvp) = &mut config.algorithm {
        mvp.learning_rate = 3e-3;
    }
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("run");
    let folder = RunFolder::create(&path, &config).unwrap();
    let mut trainer = Trainer::new(config.clone(), Some(folder), &mut ()).unwrap();
    let report = trainer.run(&mut ()).unwrap();

    // Both phases were judged, by whole episodes of seeds that are no training seeds.
    for kind in [EvaluationKind::AfterOffline, EvaluationKind::Online, EvaluationKind::Final] {
        let evaluation = report.evaluation(kind).unwrap_or_else(|| panic!("{kind:?}"));
        assert_eq!(evaluation.episodes, 2);
        assert!(evaluation.rows.iter().all(|row| row.seed >> 63 == 1 && row.terminated | row.truncated));
    }
    assert!(trainer.position().env_steps >= config.learner.online_steps);

    // The run folder holds what it promises, and every column from the first row.
    for name in ["config.toml", "metrics.csv", "evaluations.json", "checkpoint/weights.safetensors"] {
        assert!(path.join(name).is_file(), "{name}");
    }
    assert!(
        std::fs::read_dir(&path)
            .unwrap()
            .any(|entry| { entry.unwrap().file_name().to_str().unwrap().starts_with("events.out.tfevents.") })
    );
    assert_eq!(RunConfig::read(&path.join("config.toml")).unwrap(), config);
    let columns = header(&path.join("metrics.csv"));
    assert_eq!(columns, MetricsLog::columns());
    let rows = rows(&path.join("metrics.csv"));

    // It learns: the flow fits the demonstrations better at the end of the offline phase than at its start.
    let at = |name: &str| columns.iter().position(|column| column == name).unwrap();
    let series = |name: &str| -> Vec<f64> {
        rows.iter().filter(|row| row[at(column::PHASE)] == *"0").filter_map(|row| row[at(name)].parse().ok()).collect()
    };
    for name in [metrics::ACTOR_IVC_LOSS, metrics::ACTOR_MF_LOSS] {
        let losses = series(name);
        let (first, last) = (losses.first().unwrap(), losses.last().unwrap());
        assert!(last < &(0.8 * first), "{name} did not fall: {losses:?}");
    }
    assert!(rows.iter().any(|row| !row[at(column::EVAL_SUCCESS_RATE)].is_empty()));
}

#[test]
fn an_interrupted_and_resumed_run_equals_an_uninterrupted_one_to_the_bit() {
    let config = tiny();
    let demonstrations = demonstrations(&config);
    let place = tempfile::tempdir().unwrap();

    let mut whole = Trainer::with_demonstrations(config.clone(), None, Some(&demonstrations), &mut ()).unwrap();
    let whole_report = whole.run(&mut ()).unwrap();

    // Stopped in the offline phase, and in the middle of episodes of the online phase.
    let stops = [Position { updates: 100, env_steps: 0 }, Position { updates: 200, env_steps: 66 }];
    let path = place.path().join("run");
    let folder = RunFolder::create(&path, &config).unwrap();
    let mut trainer =
        Trainer::with_demonstrations(config.clone(), Some(folder), Some(&demonstrations), &mut ()).unwrap();
    for stop in stops {
        let error = trainer.run(&mut StopAt { at: stop, is_there: false }).unwrap_err();
        assert!(matches!(error, RunError::Interrupted), "{error}");
        drop(trainer);
        let (folder, config) = RunFolder::open(&path).unwrap();
        trainer = Trainer::resume(folder, config, &mut ()).unwrap();
    }
    let report = trainer.run(&mut ()).unwrap();

    assert_eq!(trainer.position(), whole.position());
    assert!(state(trainer.policy()) == state(whole.policy()), "the weights differ");
    assert_eq!(report.evaluations, whole_report.evaluations);

    // The metrics tell one story, without gaps and without repetition.
    let columns = header(&path.join("metrics.csv"));
    let at = |name: &str| columns.iter().position(|column| column == name).unwrap();
    let places: Vec<(u64, u64)> = rows(&path.join("metrics.csv"))
        .iter()
        .map(|row| (row[at(column::UPDATES)].parse().unwrap(), row[at(column::ENV_STEPS)].parse().unwrap()))
        .collect();
    assert!(places.is_sorted(), "{places:?}");
    assert!(places.iter().any(|place| place.1 == 0) && places.iter().any(|place| place.1 > 100));
}

#[test]
fn a_task_without_demonstrations_is_learned_online_and_resumed_to_the_bit() {
    // Hopper's episodes end by falling, Reacher's by time.
    for (task, falls) in [("hopper", true), ("reacher", false)] {
        let config = resolve(task, &TINY_ONLINE);
        assert_eq!((config.demonstrations.episodes, config.learner.offline_updates), (0, 0));
        let mut whole = Trainer::new(config.clone(), None, &mut ()).unwrap();
        let report = whole.run(&mut ()).unwrap();
        assert!(report.evaluation(EvaluationKind::AfterOffline).is_none(), "{task} had an offline phase");
        let last = report.evaluation(EvaluationKind::Final).unwrap();
        assert!(
            last.mean_return.is_finite() && last.rows.iter().all(|row| row.terminated == falls),
            "{task}: {last:?}"
        );
        assert!(last.rows.iter().all(|row| row.truncated != falls && !row.success), "{task}: {last:?}");

        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("run");
        let folder = RunFolder::create(&path, &config).unwrap();
        let mut trainer = Trainer::new(config, Some(folder), &mut ()).unwrap();
        let stop = Position { updates: 0, env_steps: 130 };
        let error = trainer.run(&mut StopAt { at: stop, is_there: false }).unwrap_err();
        assert!(matches!(error, RunError::Interrupted), "{error}");
        drop(trainer);
        let (folder, config) = RunFolder::open(&path).unwrap();
        let mut trainer = Trainer::resume(folder, config, &mut ()).unwrap();
        assert_eq!(trainer.run(&mut ()).unwrap().evaluations, report.evaluations, "{task}");
        assert!(state(trainer.policy()) == state(whole.policy()), "{task}: the weights differ");
    }
}

#[test]
fn a_prolonged_run_equals_a_longer_one_to_the_bit() {
    let longer = resolve("reacher", &TINY_ONLINE);
    let mut whole = Trainer::new(longer.clone(), None, &mut ()).unwrap();
    let report = whole.run(&mut ()).unwrap();

    let mut config = longer.clone();
    config.learner.online_steps = 130;
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("run");
    let folder = RunFolder::create(&path, &config).unwrap();
    Trainer::new(config.clone(), Some(folder.clone()), &mut ()).unwrap().run(&mut ()).unwrap();

    // No shorter than it is, and a refusal changes nothing.
    config.learner.online_steps = 130 - 20;
    let error = Trainer::resume(folder.clone(), config, &mut ()).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("has made 130 control steps already"), "{error}");
    assert_eq!(RunFolder::open(&path).unwrap().1.learner.online_steps, 130);

    let mut trainer = Trainer::resume(folder.clone(), longer.clone(), &mut ()).unwrap();
    // Interrupted here, it would not look finished.
    assert!(folder.evaluations().unwrap().iter().all(|evaluation| evaluation.kind == EvaluationKind::Online));
    let prolonged = trainer.run(&mut ()).unwrap();
    assert_eq!(trainer.position(), whole.position());
    assert!(state(trainer.policy()) == state(whole.policy()), "the weights differ");
    assert_eq!(RunFolder::open(&path).unwrap().1, longer);
    // What was its end is one more look at a run under way.
    let kinds: Vec<_> =
        prolonged.evaluations.iter().map(|evaluation| (evaluation.kind, evaluation.env_steps)).collect();
    assert_eq!(kinds, [(EvaluationKind::Online, 130), (EvaluationKind::Final, 240)]);
    assert_eq!(prolonged.evaluation(EvaluationKind::Final), report.evaluation(EvaluationKind::Final));
}

#[test]
fn every_algorithm_trains_on_lift() {
    let config = tiny();
    let demonstrations = demonstrations(&config);
    for name in AlgorithmConfig::NAMES {
        let mut settings = vec![
            ("algorithm.name", name),
            ("compute", "cpu"),
            ("algorithm.actor_hidden", "[32, 32]"),
            ("algorithm.batch_size", "32"),
            ("learner.offline_updates", "40"),
            ("learner.online_steps", "60"),
            ("learner.start_training", "10"),
            ("evaluation.episodes", "1"),
        ];
        if name != "bc-flow" {
            settings.push(("algorithm.critic_hidden", "[32, 32]"));
        }
        let config = resolve("lift", &settings);
        assert_eq!(config.algorithm.name(), name);
        let mut trainer = Trainer::with_demonstrations(config, None, Some(&demonstrations), &mut ()).unwrap();
        let report = trainer.run(&mut ()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(trainer.position().updates > 80, "{name}");
        assert!(report.evaluation(EvaluationKind::Final).unwrap().mean_return.is_finite(), "{name}");
    }
}

/// Asks to stop when the time is up.
struct StopAfter {
    end: Instant,
}

impl TrainWatcher for StopAfter {
    fn wants_to_stop(&mut self) -> bool {
        Instant::now() >= self.end
    }
}

/// At the sizes of the preset, long enough that values and weights would run away if they could.
#[test]
#[ignore = "20 minutes: cargo test --release --workspace --test end_to_end -- --ignored --nocapture two_minutes"]
fn every_algorithm_trains_on_lift_for_two_minutes() {
    let shared = demonstrations(&resolve("lift", &[("demonstrations.episodes", "20")]));
    for name in AlgorithmConfig::NAMES {
        let settings = [("algorithm.name", name), ("compute", "cpu"), ("learner.offline_updates", "500")];
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("run");
        let config = resolve("lift", &settings);
        let folder = RunFolder::create(&path, &config).unwrap();
        let mut trainer = Trainer::with_demonstrations(config, Some(folder), Some(&shared), &mut ()).unwrap();
        let mut watcher = StopAfter { end: Instant::now() + Duration::from_secs(120) };
        // A number that is not finite would end the run with another error.
        match trainer.run(&mut watcher) {
            Ok(_) | Err(RunError::Interrupted) => {}
            Err(error) => panic!("{name}: {error}"),
        }
        let position = trainer.position();
        assert!(position.updates > 500 && position.env_steps > 0, "{name}: {position:?}");
        for row in rows(&path.join("metrics.csv")) {
            for number in row.iter().filter_map(|cell| cell.parse::<f64>().ok()) {
                assert!(number.is_finite(), "{name}: {row:?}");
            }
        }
        println!("{name}: {} updates, {} control steps", position.updates, position.env_steps);
    }
}

#[test]
fn a_run_starts_with_the_networks_of_another() {
    let place = tempfile::tempdir().unwrap();
    let (first, second) = (place.path().join("first"), place.path().join("second"));
    let mut config = tiny();
    config.learner.online_steps = 0;
    let demonstrations = demonstrations(&config);
    let start = |config: &RunConfig, path: &Path| {
        let folder = RunFolder::create(path, config).unwrap();
        Trainer::with_demonstrations(config.clone(), Some(folder), Some(&demonstrations), &mut ())
    };
    let mut trained = start(&config, &first).unwrap();
    trained.run(&mut ()).unwrap();

    config.seed = 77;
    config.init_from = Some(first);
    let continued = start(&config, &second).unwrap();
    // The header counts updates; the numbers follow it.
    let numbers = |policy: &PolicyHandle| {
        let weights = state(policy).0;
        let header = u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
        weights[8 + header..].to_vec()
    };
    assert!(numbers(continued.policy()) == numbers(trained.policy()));
    assert_eq!(continued.position(), Position::default());
    let (_, read) = RunFolder::open(&second).unwrap();
    assert_eq!(read.init_from, config.init_from);

    let AlgorithmConfig::Mvp(mvp) = &mut config.algorithm else { panic!() };
    mvp.actor_hidden = vec![32, 33];
    let error = start(&config, &place.path().join("third")).err().unwrap().to_string();
    assert!(error.contains("first") && error.contains("actor.layers.1"), "{error}");
}

#[test]
fn the_command_says_what_nobody_demonstrates() {
    let place = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let program = std::process::Command::new(env!("CARGO_BIN_EXE_onestep"))
            .args(arguments)
            .current_dir(place.path())
            .output()
            .unwrap();
        assert!(program.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&program.stderr));
        String::from_utf8(program.stdout).unwrap()
    };
    let list = run(&["list"]);
    for task in onestep::config::tasks() {
        let line = list.lines().find(|line| line.trim_start().starts_with(&format!("{task} "))).unwrap();
        let from_scratch =
            ["inverted-pendulum", "inverted-double-pendulum", "reacher", "hopper", "half-cheetah", "walker2d"];
        assert_eq!(line.contains("demonstrations by a script"), !from_scratch.contains(&task), "{line}");
    }
    let settings: Vec<String> = TINY_ONLINE.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mut arguments = vec!["train", "inverted-pendulum", "--out", "run"];
    arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    let said = run(&arguments);
    for part in ["nobody demonstrates this task", "mean return", "done in"] {
        assert!(said.contains(part), "`{part}` is missing in: {said}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    let mut config = tiny();
    config.learner.offline_updates = 16;
    config.learner.online_steps = 10;
    let run = |config: &RunConfig| {
        let mut trainer = Trainer::new(config.clone(), None, &mut ()).unwrap();
        let report = trainer.run(&mut ()).unwrap();
        (state(trainer.policy()), report.evaluations)
    };
    let first = run(&config);
    assert!(first == run(&config), "two runs of one seed differ");
    config.seed = 1;
    assert!(first != run(&config), "two seeds give one run");
}

#[test]
fn demonstrations_are_whole_successful_and_repeatable() {
    let config = tiny();
    let file = demonstrations(&config);
    assert_eq!(file.episodes.len(), config.demonstrations.episodes);
    assert_eq!((file.observation_dim, file.action_dim), (19, 7));
    for (index, episode) in file.episodes.iter().enumerate() {
        episode.check(index, file.observation_dim, file.action_dim).unwrap();
        assert!(episode.is_success() && episode.terminated && episode.seed >> 63 == 0);
    }
    assert_eq!(file, demonstrations(&config));
}

/// Ctrl-C in a process of its own: it saves, says how to go on, and what it says works.
#[cfg(unix)]
#[test]
fn ctrl_c_saves_and_says_how_to_go_on() {
    use std::{
        io::{BufRead, BufReader, Read},
        process::{Command, Stdio},
    };

    let place = tempfile::tempdir().unwrap();
    let mut config = tiny();
    config.learner.offline_updates = 1_000_000;
    config.learner.offline_updates_per_tick = 1;
    std::fs::write(place.path().join("my.toml"), config.to_toml().unwrap()).unwrap();
    let onestep = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_onestep"));
        command.args(arguments).current_dir(place.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let mut child = onestep(&["train", "--config", "my.toml", "--out", "run"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let learning = lines.by_ref().map(Result::unwrap).find(|line| line.starts_with("offline"));
    assert!(learning.is_some());
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{errors}");
    assert!(rest.iter().any(|line| line.contains("onestep train --resume run")), "{rest:?}");
    assert_eq!(errors.trim(), "interrupted");

    // What it says works: the weights are there, and the run goes on from them.
    assert!(onestep(&["eval", "run", "--episodes", "1"]).output().unwrap().status.success());
    let (folder, config) = RunFolder::open(&place.path().join("run")).unwrap();
    let resumed = Trainer::resume(folder, config, &mut ()).unwrap();
    assert!(resumed.position().updates > 0);
}

#[test]
fn tasks_of_other_robots_are_learned_by_the_same_preset() {
    for task in ["cube-single-task1", "cube-double-task2", "puzzle-3x3"] {
        let settings = [
            ("compute", "cpu"),
            ("demonstrations.episodes", "1"),
            ("demonstrations.action_noise_std", "0.0"),
            ("algorithm.actor_hidden", "[16]"),
            ("algorithm.critic_hidden", "[16]"),
            ("algorithm.batch_size", "8"),
            ("algorithm.candidates", "2"),
            ("algorithm.target_candidates", "2"),
            ("learner.offline_updates", "6"),
            ("learner.online_steps", "30"),
            ("learner.start_training", "5"),
            ("evaluation.episodes", "1"),
        ];
        let mut trainer = Trainer::new(resolve(task, &settings), None, &mut ()).unwrap();
        let report = trainer.run(&mut ()).unwrap();
        let last = report.evaluation(EvaluationKind::Final).unwrap();
        assert!(last.rows.iter().all(|row| row.terminated != row.truncated), "{task}: {last:?}");
        assert!(trainer.position().updates > 6 && trainer.position().env_steps >= 30, "{task}");
    }
}
