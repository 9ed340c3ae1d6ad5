//! The description of a run: presets, files, the command line, and back.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::{fs, path::PathBuf};

use onestep::{
    config::{ConfigSources, PRESETS, RunConfig, Setting, tasks},
    learn::{AlgorithmConfig, Compute},
    policy::MvpConfig,
};
use proptest::prelude::*;

fn sources(settings: &[(&str, &str)]) -> ConfigSources {
    ConfigSources {
        task: Some("lift".to_owned()),
        settings: settings.iter().map(|(key, value)| Setting::new("--set", *key, value)).collect(),
        ..ConfigSources::default()
    }
}

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("my.toml");
    fs::write(&path, text).unwrap();
    (folder, path)
}

#[test]
fn every_preset_fits_every_task_and_survives_its_own_file() {
    for task in tasks() {
        for preset in PRESETS {
            let config = RunConfig::preset(task, preset.name).unwrap();
            assert_eq!((config.task.as_str(), config.preset.as_str()), (task, preset.name));
            let (_folder, path) = file(&config.to_toml().unwrap());
            assert_eq!(RunConfig::read(&path).unwrap(), config);
        }
    }
}

#[test]
fn every_name_of_a_task_finds_it_with_what_its_environment_says() {
    let short = RunConfig::preset("cube-double-task2", "small").unwrap();
    assert_eq!(short.task, "cube-double-task2");
    let environment = RunConfig::preset("cube-double", "small").unwrap();
    assert_eq!(short.demonstrations, environment.demonstrations);
    assert!(
        short.demonstrations.action_noise_std
            < RunConfig::preset("lift", "small").unwrap().demonstrations.action_noise_std
    );
    let mut long = sources(&[]);
    long.task = Some("cube-double-play-singletask-task2-v0".to_owned());
    assert_eq!(long.resolve().unwrap(), short);
    let mut wrong = sources(&[]);
    wrong.task = Some("cube-double-task6".to_owned());
    check(wrong.resolve().unwrap_err(), &["no task `cube-double-task6`", "did you mean `cube-double-task"]);
}

#[test]
fn what_nobody_demonstrates_is_learned_online_from_the_start() {
    let config = RunConfig::preset("hopper", "small").unwrap();
    assert_eq!((config.demonstrations.episodes, config.learner.offline_updates), (0, 0));
    assert!(RunConfig::preset("lift", "small").unwrap().demonstrations.episodes > 0);

    let mut asked = sources(&[("demonstrations.episodes", "5")]);
    asked.task = Some("hopper".to_owned());
    check(asked.resolve().unwrap_err(), &["demonstrations.episodes", "5", "`hopper`", "no scripted expert"]);
    let mut offline = sources(&[("learner.offline_updates", "5")]);
    offline.task = Some("hopper".to_owned());
    check(offline.resolve().unwrap_err(), &["offline_updates=0"]);
    check(onestep::run::collect_demonstrations(&config, |_| true).unwrap_err(), &["`hopper`", "no scripted expert"]);
}

#[test]
fn the_paper_preset_has_the_published_sizes() {
    let AlgorithmConfig::Mvp(config) = RunConfig::preset("lift", "paper").unwrap().algorithm else { panic!() };
    assert_eq!(config, MvpConfig::default());
}

#[test]
fn the_command_line_lies_over_the_file_and_the_file_over_the_preset() {
    let (_folder, path) = file("preset = \"paper\"\nseed = 5\n[learner]\noffline_updates = 7\nonline_steps = 8\n");
    let mut sources = sources(&[("learner.online_steps", "9"), ("compute", "cpu")]);
    sources.file = Some(path);
    let config = sources.resolve().unwrap();
    assert_eq!(config.preset, "paper");
    assert_eq!((config.seed, config.learner.offline_updates, config.learner.online_steps), (5, 7, 9));
    assert_eq!(config.compute, Compute::Cpu);
    // What nobody named is the preset's.
    assert_eq!(config.learner.start_training, RunConfig::preset("lift", "paper").unwrap().learner.start_training);

    sources.preset = Some("small".to_owned());
    let config = sources.resolve().unwrap();
    assert_eq!((config.preset.as_str(), config.seed), ("small", 5));
}

#[test]
fn optional_and_chosen_settings_can_be_set() {
    let config = sources(&[
        ("algorithm.times", "{ logit_normal = { mean = 0.4, std = 1.0 } }"),
        ("algorithm.actor_hidden", "[64, 32]"),
        ("algorithm.discount", "1"),
    ])
    .resolve()
    .unwrap();
    let AlgorithmConfig::Mvp(mvp) = &config.algorithm else { panic!() };
    assert_eq!(mvp.actor_hidden, [64, 32]);
    assert_eq!(mvp.discount, 1.0);
    let (_folder, path) = file(&config.to_toml().unwrap());
    assert_eq!(RunConfig::read(&path).unwrap(), config);
}

#[track_caller]
fn check(error: impl ToString, parts: &[&str]) {
    let error = error.to_string();
    for part in parts {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
}

#[test]
fn mistakes_are_explained() {
    let set = |key: &str, value: &str| sources(&[(key, value)]).resolve().unwrap_err();
    check(set("algorithm.learnign_rate", "1e-3"), &["--set", "algorithm.learnign_rate", "`algorithm.learning_rate`"]);
    check(set("learning_rate", "1e-3"), &["`learning_rate`", "`algorithm.learning_rate`"]);
    check(set("seed", "-1"), &["`seed`", "-1"]);
    check(set("seed", "lots"), &["`seed`", "lots"]);
    check(set("compute", "gppu"), &["`compute`", "gppu", "gpu"]);
    check(set("algorithm.name", "mpv"), &["`algorithm.name`", "mpv", "mvp"]);
    check(set("arenas", "0"), &["`arenas`", "at least 1"]);
    check(set("demonstrations.action_noise_std", "nan"), &["demonstrations.action_noise_std"]);
    check(set("algorithm.learning_rate", "-1.0"), &["learning_rate", "above 0"]);
    check(Setting::parse("--set", "seed").unwrap_err(), &["--set", "KEY=VALUE"]);

    let (_folder, path) = file("task = \"lift\"\n\n[learner]\nonline_step = 3\n");
    let read = ConfigSources { file: Some(path.clone()), ..ConfigSources::default() };
    check(read.resolve().unwrap_err(), &["my.toml:4:1", "learner.online_step", "`learner.online_steps`"]);
    check(RunConfig::read(&path).unwrap_err(), &["my.toml:4:1"]);
    check(ConfigSources::default().resolve().unwrap_err(), &["no task", "lift"]);

    let (_folder, path) = file("task = \"sorting\"\n");
    let read = ConfigSources { task: Some("lift".to_owned()), file: Some(path), ..ConfigSources::default() };
    check(read.resolve().unwrap_err(), &["my.toml", "sorting", "lift"]);
}

prop_compose! {
    fn any_config()(
        preset in prop::sample::select(PRESETS.map(|preset| preset.name).to_vec()),
        seed in 0..=i64::MAX as u64,
        compute in prop::sample::select(vec![Compute::Auto, Compute::Cpu, Compute::Gpu]),
        arenas in 1usize..64,
        episodes in 1usize..10_000,
        noise in 0f32..2.0,
        probability in 0f32..=1.0,
        successful_only: bool,
        learning_rate in 1e-9f64..1.0,
        hidden in prop::collection::vec(1usize..2048, 1..6),
        online_steps in 0u64..1 << 40,
        updates_per_step in 0f64..100.0,
        every_secs in 1e-3f64..1e6,
    ) -> RunConfig {
        let mut config = RunConfig::preset("lift", preset).unwrap();
        config.seed = seed;
        config.compute = compute;
        config.arenas = arenas;
        config.demonstrations.episodes = episodes;
        config.demonstrations.action_noise_std = noise;
        config.demonstrations.random_action_probability = probability;
        config.demonstrations.successful_only = successful_only;
        if let AlgorithmConfig::Mvp(mvp) = &mut config.algorithm {
            mvp.learning_rate = learning_rate;
            mvp.actor_hidden = hidden;
        }
        config.learner.online_steps = online_steps;
        config.learner.updates_per_step = updates_per_step;
        config.checkpoint.every_secs = every_secs;
        config
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_description_survives_toml(config in any_config()) {
        let (_folder, path) = file(&config.to_toml().unwrap());
        prop_assert_eq!(RunConfig::read(&path).unwrap(), config);
    }

    #[test]
    fn any_description_can_be_given_setting_by_setting(config in any_config()) {
        // Every number that differs from the preset, as `--set` would give it.
        let table: toml::Table = config.to_toml().unwrap().parse().unwrap();
        let mut settings = Vec::new();
        flatten(&table, "", &mut settings);
        let sources = ConfigSources {
            task: Some(config.task.clone()),
            preset: Some(config.preset.clone()),
            settings: settings.iter().map(|(key, value)| Setting::new("--set", key, value)).collect(),
            ..ConfigSources::default()
        };
        prop_assert_eq!(sources.resolve().unwrap(), config);
    }

    #[test]
    fn damaged_text_is_an_error_or_a_description_but_never_a_panic(at in any::<prop::sample::Index>(), byte in 32u8..127) {
        let mut text = RunConfig::preset("lift", "small").unwrap().to_toml().unwrap().into_bytes();
        let at = at.index(text.len());
        text[at] = byte;
        let (_folder, path) = file(&String::from_utf8(text).unwrap());
        if let Err(error) = RunConfig::read(&path) {
            prop_assert!(!error.to_string().is_empty());
        }
    }
}

fn flatten(table: &toml::Table, prefix: &str, out: &mut Vec<(String, String)>) {
    for (key, value) in table {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            toml::Value::Table(inner) => flatten(inner, &path, out),
            other => out.push((path, other.to_string())),
        }
    }
}
