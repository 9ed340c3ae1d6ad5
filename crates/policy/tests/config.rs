//! Configurations: defaults, text form, validation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use onestep_policy::flow::{Curriculum, TimeDistribution};
use onestep_policy::mvp::{ElementWeighting, IntervalOrder, Regression};
use onestep_policy::optimizer::LearningRateDecay;
use onestep_policy::{AlgorithmConfig, MvpConfig};
use proptest::prelude::*;

#[test]
fn presets_are_valid_and_named() {
    let ablation = AlgorithmConfig::named("mvp-no-ivc").unwrap();
    assert_eq!(ablation, AlgorithmConfig::MvpNoIvc(MvpConfig { ivc_weight: 0.0, ..MvpConfig::default() }));
    for config in [MvpConfig::default(), MvpConfig::small()] {
        let config = AlgorithmConfig::Mvp(config);
        config.validate().unwrap();
        assert_eq!(config.name(), "mvp");
        assert!(AlgorithmConfig::NAMES.contains(&config.name()));
    }
    let paper = MvpConfig::default();
    assert_eq!(paper.actor_hidden, [512; 4]);
    assert_eq!((paper.batch_size, paper.horizon, paper.critics), (256, 5, 2));
}

#[test]
fn a_file_names_only_what_differs() {
    let text = "name = 'mvp'\ntau = 0.01\ntimes = { logit_normal = { mean = 0.4, std = 1 } }\n";
    let config: AlgorithmConfig = toml::from_str(text).unwrap();
    let expected =
        MvpConfig { tau: 0.01, times: TimeDistribution::LogitNormal { mean: 0.4, std: 1.0 }, ..MvpConfig::default() };
    assert_eq!(config, AlgorithmConfig::Mvp(expected));
}

#[test]
fn every_algorithm_has_defaults_of_its_own() {
    for name in AlgorithmConfig::NAMES {
        let config = AlgorithmConfig::named(name).unwrap();
        assert_eq!(config.name(), name);
        config.validate().unwrap();
        config.clone().shrunk().validate().unwrap();
        assert_eq!(toml::from_str::<AlgorithmConfig>(&format!("name = '{name}'")).unwrap(), config);
        assert_eq!(toml::from_str::<AlgorithmConfig>(&toml::to_string(&config).unwrap()).unwrap(), config);
        assert!(!config.summary().is_empty());
    }
    assert!(AlgorithmConfig::named("mvq").is_none());
    let sizes = |text: &str| {
        let config: AlgorithmConfig = toml::from_str(text).unwrap();
        (config.horizon(), config.candidates())
    };
    // Two algorithms of one type differ in what is not named.
    assert_eq!(sizes("name = 'qc'\ntau = 0.01"), (5, 32));
    assert_eq!(sizes("name = 'bfn'\ntau = 0.01"), (1, 4));
    assert_eq!(sizes("name = 'fql'"), (1, 1));
    assert_eq!(sizes("name = 'qc-fql'\ncandidates = 3"), (5, 3));
}

#[test]
fn the_settings_of_each_algorithm_are_checked_by_name() {
    for (field, text) in [
        ("flow_steps", "name = 'qc'\nflow_steps = 0"),
        ("flow_steps", "name = 'bc-flow'\nflow_steps = 0"),
        ("distillation_weight", "name = 'fql'\ndistillation_weight = -1.0"),
        ("target_candidates", "name = 'sac'\ntarget_candidates = 2"),
        ("initial_temperature", "name = 'sac'\ninitial_temperature = 0.0"),
        ("reward_scale", "name = 'fpmd-r'\nreward_scale = 0.0"),
        ("policy_delay", "name = 'fpmd-m'\npolicy_delay = 0"),
        ("samples", "name = 'fpmd-m'\nweighting = { self_normalised = { temperature = 1.0 } }"),
        ("samples", "name = 'fpmd-m'\nweighting = { advantage = { temperature = 1.0 } }"),
        ("weighting.scaled.temperature", "name = 'fpmd-m'\nweighting = { scaled = { temperature = 0.0 } }"),
        (
            "weighting.self_normalised.temperature",
            "name = 'fpmd-m'\nsamples = 2\nweighting = { self_normalised = { temperature = -1.0 } }",
        ),
        (
            "weighting.advantage.temperature",
            "name = 'fpmd-m'\nsamples = 2\nweighting = { advantage = { temperature = 0.0 } }",
        ),
        ("ivc_weight", "name = 'mvp-no-ivc'\nivc_weight = 0.5"),
        ("running_rate", "name = 'fpmd-m'\nrunning_rate = 0.0"),
    ] {
        let config: AlgorithmConfig = toml::from_str(text).unwrap();
        let error = config.validate().unwrap_err().to_string();
        assert!(error.contains(&format!("setting `{field}` is ")), "{error}");
    }
}

#[test]
fn sizes_beyond_any_memory_are_refused_with_the_bound() {
    for (field, bound, text) in [
        ("horizon", "1024", "name = 'mvp'\nhorizon = 1025"),
        ("horizon", "1024", "name = 'bc-flow'\nhorizon = 9223372036854775807"),
        ("batch_size", "65536", "name = 'qc'\nbatch_size = 65537"),
        ("batch_size", "65536", "name = 'bc-flow'\nbatch_size = 4000000000"),
        ("critics", "64", "name = 'sac'\ncritics = 65"),
        ("candidates", "65536", "name = 'fql'\ncandidates = 65537"),
        ("candidates", "65536", "name = 'bc-flow'\ncandidates = 65537"),
        ("target_candidates", "65536", "name = 'mvp'\ntarget_candidates = 65537"),
        // Each alone is possible: the product is not.
        ("target_candidates", "13107", "name = 'mvp'\nbatch_size = 4096\ntarget_candidates = 13108"),
        ("candidates", "13107", "name = 'mvp'\nbatch_size = 4096\ncandidates = 13108\nregression = 'best_of_n'"),
        ("samples", "4096", "name = 'fpmd-m'\nbatch_size = 65536\nsamples = 4097"),
        ("actor_hidden", "65536", "name = 'mvp'\nactor_hidden = [65537]"),
        ("critic_hidden", "64", &format!("name = 'mvp'\ncritic_hidden = {:?}", [8; 65])),
        ("flow_steps", "65536", "name = 'qc'\nflow_steps = 65537"),
        ("flow_steps", "65536", "name = 'fql'\nflow_steps = 65537"),
        ("flow_steps", "65536", "name = 'bc-flow'\nflow_steps = 65537"),
        ("training_steps", "65536", "name = 'fpmd-r'\ntraining_steps = 65537"),
        ("acting_steps", "65536", "name = 'fpmd-m'\nacting_steps = 65537"),
    ] {
        let config: AlgorithmConfig = toml::from_str(text).unwrap();
        let error = config.validate().unwrap_err().to_string();
        assert!(error.contains(&format!("setting `{field}` is ")) && error.contains(bound), "{text}: {error}");
    }
}

#[test]
fn settings_that_an_evaluation_may_change_exist() {
    for name in AlgorithmConfig::NAMES {
        let config = AlgorithmConfig::named(name).unwrap();
        let table = toml::Table::try_from(&config).unwrap();
        for setting in config.acting_settings() {
            assert!(table.contains_key(*setting), "{name} has no `{setting}`");
        }
    }
}

#[test]
fn unknown_keys_and_names_are_refused() {
    for (text, part) in [
        ("name = 'mvp'\nlearningrate = 1.0", "learningrate"),
        ("name = 'mvq'", "mvq"),
        ("name = 'mvq'", "qc-fql"),
        ("name = 3", "3"),
        ("name = 'qc'\nivc_weight = 1.0", "ivc_weight"),
        ("tau = 0.1", "name"),
        ("name = 'mvp'\ntimes = 'uniformly'", "uniformly"),
        ("name = 'mvp'\ntimes = { logit_normal = { mean = 1, std = 1, sd = 1 } }", "sd"),
        ("name = 'mvp'\ncurriculum = { full = 1 }", "full"),
        ("name = 'mvp'\nregression = 'best'", "best"),
    ] {
        let error = toml::from_str::<AlgorithmConfig>(text).unwrap_err();
        assert!(error.to_string().contains(part), "{text}: {error}");
    }
}

#[test]
fn every_setting_is_checked_by_name() {
    let paper = MvpConfig::default;
    let cases: Vec<(&str, MvpConfig)> = vec![
        ("horizon", MvpConfig { horizon: 0, ..paper() }),
        ("batch_size", MvpConfig { batch_size: 0, ..paper() }),
        ("critics", MvpConfig { critics: 0, ..paper() }),
        ("candidates", MvpConfig { candidates: 0, ..paper() }),
        ("target_candidates", MvpConfig { target_candidates: 0, ..paper() }),
        ("metrics_every", MvpConfig { metrics_every: 0, ..paper() }),
        ("actor_hidden", MvpConfig { actor_hidden: vec![], ..paper() }),
        ("critic_hidden", MvpConfig { critic_hidden: vec![8, 0], ..paper() }),
        ("learning_rate", MvpConfig { learning_rate: 0.0, ..paper() }),
        ("discount", MvpConfig { discount: 1.1, ..paper() }),
        ("tau", MvpConfig { tau: f64::NAN, ..paper() }),
        ("ivc_weight", MvpConfig { ivc_weight: -1.0, ..paper() }),
        ("diagonal_share", MvpConfig { diagonal_share: 2.0, ..paper() }),
        ("base_noise", MvpConfig { base_noise: f64::INFINITY, ..paper() }),
        (
            "times.logit_normal.mean",
            MvpConfig { times: TimeDistribution::LogitNormal { mean: f64::NAN, std: 1.0 }, ..paper() },
        ),
        (
            "times.logit_normal.std",
            MvpConfig { times: TimeDistribution::LogitNormal { mean: 0.0, std: 0.0 }, ..paper() },
        ),
        (
            "weighting.adaptive.power",
            MvpConfig { weighting: ElementWeighting::Adaptive { power: -0.5, c: 1e-3 }, ..paper() },
        ),
        ("weighting.adaptive.c", MvpConfig { weighting: ElementWeighting::Adaptive { power: 0.5, c: 0.0 }, ..paper() }),
        (
            "learning_rate_decay.updates",
            MvpConfig {
                learning_rate_decay: Some(LearningRateDecay { updates: 0, ..LearningRateDecay::default() }),
                ..paper()
            },
        ),
        (
            "learning_rate_decay.end",
            MvpConfig {
                learning_rate_decay: Some(LearningRateDecay { end: 1.5, ..LearningRateDecay::default() }),
                ..paper()
            },
        ),
        (
            "curriculum.full_updates",
            MvpConfig { curriculum: Some(Curriculum { diagonal_updates: 2, full_updates: 1 }), ..paper() },
        ),
    ];
    for (field, config) in cases {
        let error = config.validate().unwrap_err().to_string();
        assert!(error.contains(&format!("setting `{field}` is ")), "{error}");
    }
}

prop_compose! {
    fn any_config()(
        sizes in prop::array::uniform4(1_usize..400),
        critics in 1_usize..=64,
        hidden in prop::collection::vec(1_usize..600, 1..5),
        shares in prop::array::uniform3(0.0..=1.0_f64),
        weights in prop::array::uniform2(1e-6..10.0_f64),
        times in prop_oneof![
            Just(TimeDistribution::Uniform),
            (-2.0..2.0_f64, 0.1..3.0_f64)
                .prop_map(|(mean, std)| TimeDistribution::LogitNormal { mean, std }),
        ],
        weighting in prop_oneof![
            Just(ElementWeighting::Plain),
            (0.0..2.0_f64, 1e-6..1.0_f64)
                .prop_map(|(power, c)| ElementWeighting::Adaptive { power, c }),
        ],
        curriculum in prop::option::of((0_u64..100, 0_u64..100)),
        decay in prop::option::of((1_u64..1_000_000, 0.0..=1.0_f64)),
        best_of_n in any::<bool>(),
        critic_layer_norm in any::<bool>(),
    ) -> MvpConfig {
        let [horizon, batch_size, candidates, target_candidates] = sizes;
        let [discount, diagonal_share, base_noise] = shares;
        let [learning_rate, ivc_weight] = weights;
        MvpConfig {
            horizon,
            batch_size,
            discount,
            learning_rate,
            learning_rate_decay: decay.map(|(updates, end)| LearningRateDecay { updates, end, ..LearningRateDecay::default() }),
            tau: 1.0 - 0.5 * diagonal_share,
            actor_hidden: hidden.clone(),
            critic_hidden: hidden,
            critics,
            critic_layer_norm,
            candidates,
            target_candidates,
            ivc_weight,
            times,
            order: if best_of_n { IntervalOrder::Reversed } else { IntervalOrder::Forward },
            diagonal_share,
            curriculum: curriculum.map(|(first, more)| Curriculum {
                diagonal_updates: first,
                full_updates: first + more,
            }),
            weighting,
            regression: if best_of_n { Regression::BestOfN } else { Regression::Replay },
            base_noise,
            metrics_every: 1,
        }
    }
}

proptest! {
    #[test]
    fn configurations_survive_their_text_form(config in any_config()) {
        config.validate().unwrap();
        let config = AlgorithmConfig::Mvp(config);
        let text = toml::to_string(&config).unwrap();
        prop_assert_eq!(&toml::from_str::<AlgorithmConfig>(&text).unwrap(), &config);
    }
}
