//! Mean Velocity Policy on the CPU, through the public interface.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use common::{Experience, Question, SPEC, Stream, distance, learner, learner_of, tensors, tiny};
use onestep_policy::mvp::{ElementWeighting, Regression};
use onestep_policy::{
    AlgorithmConfig, ComputeDevice, Learner, Metrics, MvpConfig, Phase, PolicyError, PolicySpec, create_learner,
    metrics,
};

fn metric(metrics: &Metrics, name: &str) -> f32 {
    metrics.iter().find(|(found, _)| *found == name).unwrap().1
}

fn train(learner: &mut dyn Learner, updates: usize, stream: &mut Stream) -> Metrics {
    let mut last = Metrics::new();
    for _ in 0..updates {
        let experience = Experience::bandit(32, stream);
        last = learner.update(&experience.batch(), stream).unwrap();
    }
    last
}

#[test]
fn learns_a_bandit_and_selection_improves_on_imitation() {
    let mut learner = learner(&tiny(), 1);
    let mut stream = Stream::new(2);
    let untrained = distance(&mut *learner, 1);
    let first = train(&mut *learner, 1, &mut stream);
    let last = train(&mut *learner, 1_200, &mut stream);
    assert!(metric(&last, metrics::CRITIC_LOSS) < 0.2 * metric(&first, metrics::CRITIC_LOSS));
    assert!(metric(&last, metrics::ACTOR_LOSS) < 0.7 * metric(&first, metrics::ACTOR_LOSS));

    // The data scatter by 0.16 about the goals; selecting among imitations must come closer than imitating.
    let imitated = distance(&mut *learner, 1);
    let selected = distance(&mut *learner, 32);
    assert!(
        imitated < 0.5 * untrained && selected < 0.6 * imitated,
        "distances: untrained {untrained}, imitated {imitated}, selected {selected}"
    );
}

#[test]
fn selection_is_the_best_candidate() {
    let mut learner = learner(&tiny(), 3);
    let question = Question::new(4, 6, &mut Stream::new(4));
    let brief = learner.select(&question.request(false)).unwrap();
    assert!(brief.candidates.is_none());
    let selection = learner.select(&question.request(true)).unwrap();
    assert_eq!(selection.actions, brief.actions);
    let candidates = selection.candidates.unwrap();
    let chunk = SPEC.chunk_dim();
    assert_eq!(candidates.actions.len(), 4 * 6 * chunk);
    assert!(candidates.actions.iter().all(|action| action.abs() <= 1.0));
    for agent in 0..4 {
        let index = selection.index[agent] as usize;
        let values = &candidates.q[agent * 6..][..6];
        assert!(values.iter().all(|value| *value <= selection.q[agent]));
        assert_eq!(values[index], selection.q[agent]);
        assert_eq!(
            candidates.actions[(agent * 6 + index) * chunk..][..chunk],
            selection.actions[agent * chunk..][..chunk]
        );
    }
}

#[test]
fn an_agent_is_answered_alike_alone_and_in_a_crowd() {
    let mut learner = learner(&tiny(), 5);
    let crowd = Question::new(40, 8, &mut Stream::new(6));
    let together = learner.select(&crowd.request(false)).unwrap();
    let chunk = SPEC.chunk_dim();
    for agent in [0, 7, 39] {
        let alone = Question {
            agents: 1,
            candidates: 8,
            observations: crowd.observations[agent * SPEC.observation_dim..][..SPEC.observation_dim].to_vec(),
            noise: crowd.noise[agent * 8 * chunk..][..8 * chunk].to_vec(),
        };
        let alone = learner.select(&alone.request(false)).unwrap();
        assert_eq!(alone.actions, together.actions[agent * chunk..][..chunk]);
        assert_eq!(alone.index[0], together.index[agent]);
    }
}

#[test]
fn base_noise_of_zero_makes_all_candidates_equal() {
    let config = MvpConfig { base_noise: 0.0, ..tiny() };
    let question = Question::new(1, 5, &mut Stream::new(7));
    let selection = learner(&config, 8).select(&question.request(true)).unwrap();
    let candidates = selection.candidates.unwrap().actions;
    for candidate in candidates.chunks(SPEC.chunk_dim()) {
        assert_eq!(candidate, selection.actions);
    }
}

#[test]
fn equal_seeds_give_equal_bits() {
    let run = || {
        let mut learner = learner(&tiny(), 9);
        let metrics = train(&mut *learner, 5, &mut Stream::new(10));
        (metrics, learner.weights().unwrap(), learner.optimizer().unwrap())
    };
    assert!(run() == run());
}

#[test]
fn a_saved_and_loaded_learner_continues_bit_for_bit() {
    let config = MvpConfig {
        curriculum: Some(onestep_policy::flow::Curriculum { diagonal_updates: 2, full_updates: 12 }),
        learning_rate_decay: Some(onestep_policy::optimizer::LearningRateDecay { updates: 8, ..Default::default() }),
        ..tiny()
    };
    let mut whole = learner(&config, 11);
    let mut stream = Stream::new(12);
    train(&mut *whole, 5, &mut stream);
    let (weights, optimizer) = (whole.weights().unwrap(), whole.optimizer().unwrap());

    let mut resumed = learner(&config, 77);
    assert!(resumed.weights().unwrap() != weights);
    resumed.load_weights(&weights).unwrap();
    resumed.load_optimizer(&optimizer).unwrap();
    assert_eq!(resumed.updates(), 5);
    assert!(resumed.weights().unwrap() == weights);
    assert!(resumed.optimizer().unwrap() == optimizer);

    train(&mut *whole, 5, &mut stream.clone());
    train(&mut *resumed, 5, &mut stream);
    assert!(resumed.weights().unwrap() == whole.weights().unwrap());
    assert!(resumed.optimizer().unwrap() == whole.optimizer().unwrap());
}

#[test]
fn weights_name_every_network() {
    let mut learner = learner(&tiny(), 13);
    train(&mut *learner, 1, &mut Stream::new(14));
    let bytes = learner.weights().unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let shape = |name: &str| file.tensor(name).unwrap().shape().to_vec();
    assert_eq!(shape("actor.layers.0.weight"), [5 + 6 + 2, 64]);
    assert_eq!(shape("actor.layers.2.bias"), [6]);
    assert_eq!(shape("critic.1.layers.0.weight"), [5 + 6, 64]);
    assert_eq!(shape("critic.0.layers.1.norm.scale"), [64]);
    assert_eq!(shape("target.1.layers.2.weight"), [64, 1]);
    let learned: usize = file
        .iter()
        .filter(|(name, _)| !name.starts_with("target."))
        .map(|(_, tensor)| tensor.shape().iter().product::<usize>())
        .sum();
    assert_eq!(learned, learner.parameter_count());
}

#[test]
fn entries_behind_an_episode_have_no_influence() {
    let mut stream = Stream::new(15);
    let mut experience = Experience::random(16, &mut stream);
    // Chunk 0 is cut after its first action, chunk 1 terminates at its end, chunk 2 is unusable for the critic.
    experience.valid[1] = 0.0;
    experience.valid[2] = 0.0;
    experience.bootstrap[1] = 0.0;
    experience.critic_valid[2] = 0.0;
    let mut changed = experience.clone();
    changed.actions[SPEC.action_dim..SPEC.chunk_dim()].fill(f32::NAN);
    changed.next_observations[SPEC.observation_dim..3 * SPEC.observation_dim].fill(f32::NAN);
    changed.returns[2] = f32::INFINITY;
    changed.bootstrap[2] = f32::NAN;

    let after = |experience: &Experience| {
        let mut learner = learner(&tiny(), 16);
        let metrics = learner.update(&experience.batch(), &mut Stream::new(17)).unwrap();
        (metrics, learner.weights().unwrap(), learner.optimizer().unwrap())
    };
    assert!(after(&experience) == after(&changed));
}

#[test]
fn a_batch_without_any_valid_entry_changes_nothing() {
    let mut experience = Experience::random(8, &mut Stream::new(18));
    experience.valid.fill(0.0);
    experience.critic_valid.fill(0.0);
    let mut learner = learner(&tiny(), 19);
    let before = learner.weights().unwrap();
    let metrics = learner.update(&experience.batch(), &mut Stream::new(20)).unwrap();
    assert_eq!(metric(&metrics, metrics::CRITIC_LOSS), 0.0);
    assert_eq!(metric(&metrics, metrics::ACTOR_LOSS), 0.0);
    let (before, after) = (tensors(&before), tensors(&learner.weights().unwrap()));
    assert_eq!(before.len(), after.len());
    for (name, before) in &before {
        for (found, before) in after[name].iter().zip(before) {
            // A slow copy is the mean of two equal numbers, which may round.
            let bound = if name.starts_with("target.") { 1e-7 * before.abs().max(1.0) } else { 0.0 };
            assert!((found - before).abs() <= bound, "{name}: {before} became {found}");
        }
    }
    for (name, moments) in tensors(&learner.optimizer().unwrap()) {
        assert!(moments.iter().all(|moment| *moment == 0.0), "{name}");
    }
}

#[test]
fn every_metric_is_listed() {
    let mut learner = learner(&tiny(), 21);
    let metrics = train(&mut *learner, 1, &mut Stream::new(22));
    assert_eq!(metrics.len(), 8);
    for (name, _) in &metrics {
        assert!(metrics::ALL.contains(name), "{name}");
    }
}

#[test]
fn metrics_are_read_at_the_chosen_updates() {
    let config = MvpConfig { metrics_every: 3, ..tiny() };
    let mut learner = learner(&config, 23);
    let mut stream = Stream::new(24);
    let read: Vec<bool> = (0..6).map(|_| !train(&mut *learner, 1, &mut stream).is_empty()).collect();
    assert_eq!(read, [false, false, true, false, false, true]);
}

#[test]
fn settings_change_the_update() {
    let after = |config: MvpConfig, phase| {
        let mut learner = learner(&config, 25);
        let mut stream = Stream::new(26);
        let experience = Experience { phase, ..Experience::random(16, &mut stream) };
        let metrics = learner.update(&experience.batch(), &mut stream).unwrap();
        assert!(metrics.iter().all(|(_, value)| value.is_finite()));
        metrics
    };
    let all = after(tiny(), Phase::Online);
    let after = |config, phase| metric(&after(config, phase), metrics::ACTOR_LOSS);
    let plain = metric(&all, metrics::ACTOR_LOSS);
    let adaptive = MvpConfig { weighting: ElementWeighting::Adaptive { power: 0.5, c: 1e-3 }, ..tiny() };
    assert!(after(adaptive, Phase::Online) != plain);
    let best_of_n = MvpConfig { regression: Regression::BestOfN, ..tiny() };
    assert!(after(best_of_n.clone(), Phase::Online) != plain);
    assert_eq!(after(best_of_n, Phase::Offline), plain);
    // Without the constraint the rest is what it was, and half of it is half of it.
    let (mean_flow, constraint) = (metric(&all, metrics::ACTOR_MF_LOSS), metric(&all, metrics::ACTOR_IVC_LOSS));
    assert!(mean_flow > 0.1 && constraint > 0.1, "{mean_flow} {constraint}");
    for ivc_weight in [0.0, 0.5, 1.0] {
        let found = after(MvpConfig { ivc_weight, ..tiny() }, Phase::Online);
        let expected = mean_flow + ivc_weight as f32 * constraint;
        assert!((found - expected).abs() < 1e-5 * expected, "{found} instead of {expected} with {ivc_weight}");
    }
}

#[test]
fn without_its_constraint_it_is_an_algorithm_of_its_own_name() {
    let update = |config: &AlgorithmConfig| {
        let mut learner = learner_of(config, 25);
        let mut stream = Stream::new(26);
        let experience = Experience::random(16, &mut stream);
        let metrics = learner.update(&experience.batch(), &mut stream).unwrap();
        (metrics, tensors(&learner.weights().unwrap()), learner.algorithm())
    };
    let named = update(&AlgorithmConfig::MvpNoIvc(MvpConfig { ivc_weight: 0.0, ..tiny() }));
    let set = update(&AlgorithmConfig::Mvp(MvpConfig { ivc_weight: 0.0, ..tiny() }));
    assert_eq!((named.2, set.2), ("mvp-no-ivc", "mvp"));
    assert!(named.0 == set.0 && named.1 == set.1);
    assert!(named.0.iter().all(|(name, _)| *name != metrics::ACTOR_IVC_LOSS));

    // The constraint cannot come back under this name, nor the networks of the other algorithm.
    let error = AlgorithmConfig::MvpNoIvc(tiny()).validate().unwrap_err().to_string();
    assert!(error.contains("`ivc_weight` is 1.0") && error.contains("`mvp`"), "{error}");
    let weights = learner(&tiny(), 1).weights().unwrap();
    let config = AlgorithmConfig::MvpNoIvc(MvpConfig { ivc_weight: 0.0, ..tiny() });
    let error = learner_of(&config, 1).load_weights(&weights).unwrap_err().to_string();
    assert!(error.contains("`algorithm` \"mvp\", expected \"mvp-no-ivc\""), "{error}");
}

#[test]
fn a_number_that_is_not_finite_reaches_no_checkpoint() {
    // With this setting nobody looks at the losses of updates 1 and 2.
    let config = MvpConfig { metrics_every: 3, ..tiny() };
    let mut spoilt = learner(&config, 41);
    let mut stream = Stream::new(42);
    train(&mut *spoilt, 1, &mut stream);
    let sound = (spoilt.weights().unwrap(), spoilt.optimizer().unwrap());
    let mut experience = Experience::random(8, &mut stream);
    experience.returns[3] = f32::NAN;
    assert!(spoilt.update(&experience.batch(), &mut stream).unwrap().is_empty());
    for error in [spoilt.weights().unwrap_err(), spoilt.optimizer().unwrap_err()] {
        let text = error.to_string();
        assert!(matches!(error, PolicyError::NonFinite { update: 2, .. }), "{text}");
        assert!(text.contains("`critic.0.layers.0.") && text.contains("NaN"), "{text}");
    }
    // The next reading tells, and what was saved before still loads.
    assert!(spoilt.update(&Experience::random(8, &mut stream).batch(), &mut stream).is_err());
    spoilt.load_weights(&sound.0).unwrap();
    spoilt.load_optimizer(&sound.1).unwrap();
    assert!((spoilt.weights().unwrap(), spoilt.optimizer().unwrap()) == sound);

    // A file that holds one all the same, its last number, is refused.
    for (bytes, is_weights) in [(&sound.0, true), (&sound.1, false)] {
        let mut bytes = bytes.clone();
        let end = bytes.len();
        bytes[end - 4..].copy_from_slice(&f32::INFINITY.to_le_bytes());
        let error = if is_weights { spoilt.load_weights(&bytes) } else { spoilt.load_optimizer(&bytes) }.unwrap_err();
        assert!(matches!(error, PolicyError::CheckpointTensor { .. }), "{error}");
        assert!(error.to_string().contains("it holds inf"), "{error}");
        assert!((spoilt.weights().unwrap(), spoilt.optimizer().unwrap()) == sound);
    }
}

#[test]
fn malformed_requests_are_named() {
    let mut learner = learner(&tiny(), 27);
    let mut stream = Stream::new(28);
    let good = Experience::random(4, &mut stream);
    let mut bad = good.clone();
    bad.valid.pop();
    let error = learner.update(&bad.batch(), &mut stream).unwrap_err();
    assert_eq!(error.to_string(), "`batch.valid` has 11 elements, expected 12; shape [batch, horizon]");
    let mut empty = good.batch();
    empty.size = 0;
    let error = learner.update(&empty, &mut stream).unwrap_err();
    assert!(error.to_string().contains("`batch.size` has 0"), "{error}");

    let question = Question::new(2, 3, &mut stream);
    let mut request = question.request(false);
    request.candidates = 4;
    let error = learner.select(&request).unwrap_err();
    assert!(matches!(error, PolicyError::Size { field: "select.noise", found: 36, expected: 48, .. }), "{error}");
    request.candidates = 0;
    assert!(learner.select(&request).is_err());
    // Sizes whose product is more than a number can hold do not wrap to the one that was given.
    request = question.request(false);
    request.agents = usize::MAX / 4 + 1;
    let error = learner.select(&request).unwrap_err().to_string();
    assert!(error.contains("`select.observations` has 10 elements, expected 18446744073709551615"), "{error}");
    request = question.request(false);
    request.candidates = usize::MAX / 4 + 1;
    let error = learner.select(&request).unwrap_err().to_string();
    assert!(error.contains("`select.noise` has 36 elements, expected 18446744073709551615"), "{error}");
    let mut batch = good.batch();
    batch.size = usize::MAX / 4 + 1;
    let error = learner.update(&batch, &mut stream).unwrap_err().to_string();
    assert!(error.contains("`batch.observations` has 20 elements, expected 18446744073709551615"), "{error}");
    assert_eq!(learner.updates(), 0);
}

#[test]
fn a_non_finite_loss_stops_the_update_and_spoils_nothing() {
    let mut learner = learner(&tiny(), 29);
    let mut stream = Stream::new(30);
    train(&mut *learner, 2, &mut stream);
    let before = (learner.weights().unwrap(), learner.optimizer().unwrap());
    let mut experience = Experience::random(8, &mut stream);
    experience.returns[3] = f32::NAN;
    let error = learner.update(&experience.batch(), &mut stream).unwrap_err();
    assert!(
        matches!(&error, PolicyError::NonFinite { metric, update: 2, .. } if metric == metrics::CRITIC_LOSS),
        "{error}"
    );
    assert!((learner.weights().unwrap(), learner.optimizer().unwrap()) == before);
    train(&mut *learner, 1, &mut stream);

    let mut question = Question::new(2, 3, &mut stream);
    question.observations[0] = f32::NAN;
    let error = learner.select(&question.request(false)).unwrap_err();
    assert!(error.to_string().contains("select/q"), "{error}");
}

/// Loads damaged bytes and checks that the learner stayed as it was.
fn refused(load: impl Fn(&mut dyn Learner) -> Result<(), PolicyError>) -> String {
    let mut learner = learner(&tiny(), 31);
    train(&mut *learner, 1, &mut Stream::new(32));
    let before = (learner.weights().unwrap(), learner.optimizer().unwrap());
    let error = load(&mut *learner).unwrap_err();
    assert!((learner.weights().unwrap(), learner.optimizer().unwrap()) == before);
    error.to_string()
}

#[test]
fn damaged_checkpoints_are_refused_and_named() {
    let source = learner(&tiny(), 33);
    let (weights, optimizer) = (source.weights().unwrap(), source.optimizer().unwrap());
    let has = |error: String, part: &str| assert!(error.contains(part), "{error}");

    has(refused(|learner| learner.load_weights(&[])), "cannot be read");
    has(refused(|learner| learner.load_weights(&weights[..weights.len() / 2])), "cannot be read");
    has(refused(|learner| learner.load_weights(&optimizer)), "`content` Optimizer, expected Weights");
    has(refused(|learner| learner.load_optimizer(&weights)), "`content` Weights, expected Optimizer");

    // The header is JSON in front of the numbers, so a replacement of equal length keeps the file well formed.
    let edited = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let mut bytes = weights.clone();
        let at = bytes.windows(from.len()).position(|w| w == from.as_bytes());
        bytes[at.unwrap()..][..to.len()].copy_from_slice(to.as_bytes());
        bytes
    };
    for (from, to, part) in [
        (r#"\"version\":1"#, r#"\"version\":9"#, "`version` 9, expected 1"),
        (r#"\"mvp\""#, r#"\"abc\""#, "`algorithm` \"abc\", expected \"mvp\""),
        (r#"\"horizon\":3"#, r#"\"horizon\":4"#, "`horizon` 4, expected 3"),
        ("actor.layers.1.bias", "actor.layers.1.bios", "tensor `actor.layers.1.bias` of the checkpoint: it is missing"),
    ] {
        let bytes = edited(from, to);
        has(refused(|learner| learner.load_weights(&bytes)), part);
    }

    let wider = MvpConfig { critic_hidden: vec![64, 65], ..tiny() };
    let bytes = learner(&wider, 34).weights().unwrap();
    has(
        refused(|learner| learner.load_weights(&bytes)),
        "tensor `critic.0.layers.1.weight` of the checkpoint: its shape is [64, 65], expected [64, 64]",
    );
    let deeper = MvpConfig { critics: 3, ..tiny() };
    let bytes = learner(&deeper, 35).weights().unwrap();
    has(
        refused(|learner| learner.load_weights(&bytes)),
        "tensor `critic.2.layers.0.bias` of the checkpoint: this learner has no such tensor",
    );
}

#[test]
fn sizes_of_policy_and_configuration_must_fit() {
    let config = AlgorithmConfig::Mvp(tiny());
    let create =
        |spec| create_learner(&config, &spec, &ComputeDevice::Cpu, &mut Stream::new(36)).err().unwrap().to_string();
    let spec = PolicySpec { horizon: 4, ..SPEC };
    assert!(create(spec).contains("`horizon` is 3; it must be 4"), "{}", create(spec));
    for (field, spec) in [
        ("action_dim` is 0; it must be at least 1", PolicySpec { action_dim: 0, ..SPEC }),
        ("observation_dim` is 65537; it must be at most 65536", PolicySpec { observation_dim: 65_537, ..SPEC }),
        (
            "action_dim` is 21846; with a horizon of 3 it must be at most 21845",
            PolicySpec { action_dim: 21_846, ..SPEC },
        ),
        ("horizon` is 1025; it must be at most 1024", PolicySpec { horizon: 1_025, ..SPEC }),
    ] {
        assert!(create(spec).contains(field), "{field}: {}", create(spec));
    }
    // Each size may be possible, and the network that follows from them not.
    let config = AlgorithmConfig::Mvp(MvpConfig { critic_hidden: vec![40_000, 40_000], ..tiny() });
    let error = create_learner(&config, &SPEC, &ComputeDevice::Cpu, &mut Stream::new(36)).err().unwrap().to_string();
    assert!(error.contains("setting `critic_hidden` is [40000, 40000]") && error.contains("268435456"), "{error}");
}
