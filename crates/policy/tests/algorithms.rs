//! What every algorithm must do, through the public interface, on the CPU.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use common::{Experience, Question, SPEC, Stream, changed, distance, learner_of, tensors, tiny_of};
use onestep_policy::{
    AlgorithmConfig, Batch, ComputeDevice, Learner, Metrics, NoiseSource, ObservationScaling, Phase, PolicyError,
    PolicySpec, SelectRequest, create_learner, metrics,
};
use safetensors::SafeTensors;

fn train(learner: &mut dyn Learner, updates: usize, stream: &mut Stream) -> Metrics {
    let mut all = Metrics::new();
    for _ in 0..updates {
        let experience = Experience::bandit(32, stream);
        for (name, value) in learner.update(&experience.batch(), stream).unwrap() {
            all.retain(|(known, _)| *known != name);
            all.push((name, value));
        }
    }
    all
}

#[test]
fn each_learns_a_bandit() {
    for name in AlgorithmConfig::NAMES {
        // Old policies that follow quickly, and little wish to stay random: the test is short.
        let hasty = serde_json::json!({
            "tau": 0.02, "initial_temperature": if name == "sac" { 0.1 } else { 0.6 }, "reward_scale": 1.0,
            "distillation_weight": 3.0,
        });
        let config = changed(&tiny_of(name), &hasty);
        let mut learner = learner_of(&config, 1);
        assert_eq!(learner.algorithm(), name);
        let untrained = distance(&mut *learner, 1);
        train(&mut *learner, 1_200, &mut Stream::new(2));
        let trained = distance(&mut *learner, config.candidates());
        // The data scatter by 0.16 about the goals: whoever only imitates comes no closer.
        let bound = match name {
            "bc-flow" => 0.2,
            "fpmd-r" | "fpmd-m" => 0.16,
            _ => 0.12,
        };
        assert!(trained < bound && trained < 0.5 * untrained, "{name}: {untrained} untrained, {trained} trained");
    }
}

#[test]
fn each_continues_bit_for_bit_from_its_files() {
    for name in AlgorithmConfig::NAMES {
        let config = tiny_of(name);
        let mut whole = learner_of(&config, 11);
        let mut stream = Stream::new(12);
        train(&mut *whole, 5, &mut stream);
        let (weights, optimizer) = (whole.weights().unwrap(), whole.optimizer().unwrap());

        let mut resumed = learner_of(&config, 77);
        assert!(resumed.weights().unwrap() != weights, "{name}");
        resumed.load_weights(&weights).unwrap();
        resumed.load_optimizer(&optimizer).unwrap();
        assert_eq!(resumed.updates(), 5);

        let first = train(&mut *whole, 5, &mut stream.clone());
        let second = train(&mut *resumed, 5, &mut stream);
        assert_eq!(first, second, "{name}");
        assert!(resumed.weights().unwrap() == whole.weights().unwrap(), "{name}");
        assert!(resumed.optimizer().unwrap() == whole.optimizer().unwrap(), "{name}");
    }
}

#[test]
fn each_scales_observations_as_if_its_caller_had() {
    let shift = vec![0.3, -2.0, 0.0, 0.5, 1.0];
    let scaling = ObservationScaling::new(shift, vec![4.0, 0.5, 1.0, 100.0, 1.0]).unwrap();
    let scaled = |values: &[f32]| {
        let mut values = values.to_vec();
        scaling.apply(&mut values);
        values
    };
    for name in AlgorithmConfig::NAMES {
        let (mut inside, mut outside) = (learner_of(&tiny_of(name), 41), learner_of(&tiny_of(name), 41));
        inside.set_observation_scaling(Some(scaling.clone())).unwrap();
        let mut stream = Stream::new(42);
        for _ in 0..3 {
            let plain = Experience::random(16, &mut stream);
            let by_caller = Experience {
                observations: scaled(&plain.observations),
                next_observations: scaled(&plain.next_observations),
                ..plain.clone()
            };
            inside.update(&plain.batch(), &mut stream.clone()).unwrap();
            outside.update(&by_caller.batch(), &mut stream).unwrap();
        }
        let question = Question::new(3, 4, &mut stream);
        let by_caller = Question {
            observations: scaled(&question.observations),
            noise: question.noise.clone(),
            agents: 3,
            candidates: 4,
        };
        let ask = |learner: &mut dyn Learner, question: &Question| learner.select(&question.request(true)).unwrap();
        let chosen = ask(&mut *inside, &question);
        assert_eq!(chosen, ask(&mut *outside, &by_caller), "{name}");
        assert_ne!(chosen, ask(&mut *outside, &question), "{name}: the scaling does nothing");

        // It goes with the weights, there and back.
        let (with, without) = (inside.weights().unwrap(), outside.weights().unwrap());
        outside.load_weights(&with).unwrap();
        assert_eq!(outside.observation_scaling(), Some(&scaling), "{name}");
        assert_eq!(ask(&mut *outside, &question), chosen, "{name}");
        outside.load_weights(&without).unwrap();
        assert_eq!(outside.observation_scaling(), None, "{name}");
    }
    let wrong = ObservationScaling::new(vec![0.0; 4], vec![1.0; 4]).unwrap();
    let error = learner_of(&tiny_of("mvp"), 1).set_observation_scaling(Some(wrong)).unwrap_err().to_string();
    assert!(error.contains("observation_scaling") && error.contains('4') && error.contains('5'), "{error}");
}

#[test]
fn each_reports_listed_metrics_and_no_others() {
    let mut seen = std::collections::BTreeSet::new();
    for name in AlgorithmConfig::NAMES {
        let found = train(&mut *learner_of(&tiny_of(name), 21), 6, &mut Stream::new(22));
        for (metric, value) in found {
            assert!(value.is_finite(), "{name}: {metric} is {value}");
            seen.insert(metric);
        }
    }
    assert_eq!(seen, metrics::ALL.into_iter().collect());
}

#[test]
fn each_ignores_what_lies_behind_an_episode() {
    let mut stream = Stream::new(15);
    let mut experience = Experience::random(16, &mut stream);
    // Chunk 0 is cut after its first action, chunk 1 terminates at its end, chunk 2 is unusable for the critic.
    experience.valid[1] = 0.0;
    experience.valid[2] = 0.0;
    experience.bootstrap[1] = 0.0;
    experience.critic_valid[2] = 0.0;
    let mut spoilt = experience.clone();
    spoilt.actions[SPEC.action_dim..SPEC.chunk_dim()].fill(f32::NAN);
    spoilt.next_observations[SPEC.observation_dim..3 * SPEC.observation_dim].fill(f32::NAN);
    spoilt.returns[2] = f32::INFINITY;
    spoilt.bootstrap[2] = f32::NAN;
    for name in AlgorithmConfig::NAMES {
        let after = |experience: &Experience| {
            let mut learner = learner_of(&tiny_of(name), 16);
            let mut stream = Stream::new(17);
            learner.update(&experience.batch(), &mut stream).unwrap();
            let metrics = learner.update(&experience.batch(), &mut stream).unwrap();
            (metrics, learner.weights().unwrap(), learner.optimizer().unwrap())
        };
        assert!(after(&experience) == after(&spoilt), "{name}");
    }
}

#[test]
fn a_non_finite_loss_stops_each_and_spoils_nothing() {
    for name in AlgorithmConfig::NAMES {
        let mut learner = learner_of(&tiny_of(name), 29);
        let mut stream = Stream::new(30);
        train(&mut *learner, 1, &mut stream);
        let before = (learner.weights().unwrap(), learner.optimizer().unwrap());
        let mut experience = Experience::random(8, &mut stream);
        experience.observations[3] = f32::NAN;
        let error = learner.update(&experience.batch(), &mut stream).unwrap_err();
        assert!(matches!(error, PolicyError::NonFinite { update: 1, .. }), "{name}: {error}");
        assert!((learner.weights().unwrap(), learner.optimizer().unwrap()) == before, "{name}");
        train(&mut *learner, 1, &mut stream);
    }
}

#[test]
fn each_works_with_the_smallest_sizes_and_constant_rewards() {
    let spec = PolicySpec { observation_dim: 1, action_dim: 1, horizon: 1 };
    for name in AlgorithmConfig::NAMES {
        let smallest = serde_json::json!({ "horizon": 1, "candidates": 1, "target_candidates": 1, "batch_size": 1 });
        let config = changed(&tiny_of(name), &smallest);
        let mut stream = Stream::new(40);
        let mut learner = create_learner(&config, &spec, &ComputeDevice::Cpu, &mut stream).unwrap();
        for _ in 0..10 {
            let batch = Batch {
                size: 1,
                phase: Phase::Online,
                observations: &stream.normal(1),
                actions: &[0.5],
                valid: &[1.0],
                returns: &[1.0],
                bootstrap: &[0.99],
                critic_valid: &[1.0],
                next_observations: &stream.normal(1),
            };
            let found = learner.update(&batch, &mut stream).unwrap();
            assert!(found.iter().all(|(_, value)| value.is_finite()), "{name}: {found:?}");
        }
        let request = SelectRequest {
            agents: 1,
            observations: &[0.1],
            candidates: 1,
            noise: &[0.3],
            exploration: Some(&[0.2]),
            return_candidates: true,
        };
        let selection = learner.select(&request).unwrap();
        assert!(selection.actions.len() == 1 && selection.actions[0].abs() <= 1.0, "{name}");
        // Weights keep both their axes, also with one input.
        let weights = learner.weights().unwrap();
        for (parameter, view) in SafeTensors::deserialize(&weights).unwrap().iter() {
            let axes = if parameter.ends_with(".weight") { 2 } else { 1 };
            assert_eq!(view.shape().len(), axes, "{name}: {parameter} is {:?}", view.shape());
        }
        learner.load_weights(&weights).unwrap();
    }
}

/// A bound of zero width: a world that scales a number of the action by 0 has demonstrations in which it never changes.
#[test]
fn each_works_where_one_number_of_the_action_never_changes() {
    for name in AlgorithmConfig::NAMES {
        let mut stream = Stream::new(41);
        let mut learner = learner_of(&tiny_of(name), 42);
        for _ in 0..30 {
            let mut experience = Experience::bandit(32, &mut stream);
            experience.actions.iter_mut().step_by(SPEC.action_dim).for_each(|number| *number = 0.0);
            let found = learner.update(&experience.batch(), &mut stream).unwrap();
            assert!(found.iter().all(|(_, value)| value.is_finite()), "{name}: {found:?}");
        }
        let chosen = learner.select(&Question::new(6, 4, &mut stream).request(false)).unwrap();
        assert!(chosen.actions.iter().all(|action| action.abs() <= 1.0), "{name}");
        learner.weights().unwrap();
        learner.optimizer().unwrap();
    }
}

#[test]
fn those_that_explore_do_so_only_when_asked_and_stay_within_bounds() {
    for name in AlgorithmConfig::NAMES {
        let mut learner = learner_of(&tiny_of(name), 50);
        let question = Question::new(6, 4, &mut Stream::new(51));
        let calm = learner.select(&question.request(false)).unwrap();
        let mut noise = vec![0.0; 6 * SPEC.chunk_dim()];
        Stream::new(52).fill_normal(&mut noise);
        noise[0] = 50.0;
        let request = SelectRequest { exploration: Some(&noise), ..question.request(false) };
        let stirred = learner.select(&request).unwrap();
        assert_eq!(stirred.actions != calm.actions, learner.explores(), "{name}");
        assert!(stirred.actions.iter().all(|action| action.abs() <= 1.0), "{name}");

        let short = SelectRequest { exploration: Some(&noise[1..]), ..question.request(false) };
        let error = learner.select(&short).unwrap_err();
        assert!(error.to_string().contains("`select.exploration`"), "{error}");
    }
}

#[test]
fn the_forms_of_weights_differ_and_bound_each_other() {
    let after = |weighting: serde_json::Value, samples: usize| {
        let settings = serde_json::json!({ "weighting": weighting, "samples": samples });
        let mut learner = learner_of(&changed(&tiny_of("fpmd-m"), &settings), 60);
        let found = train(&mut *learner, 2, &mut Stream::new(61));
        let read = |name| found.iter().find(|(metric, _)| *metric == name).unwrap().1;
        (read(metrics::ACTOR_WEIGHT_MAX), read(metrics::ACTOR_WEIGHT_SHARE))
    };
    let centred = after("centred".into(), 4);
    let scaled = after(serde_json::json!({ "scaled": { "temperature": 3.0 } }), 4);
    let sharp = after(serde_json::json!({ "self_normalised": { "temperature": 1e-3 } }), 4);
    assert!(centred != scaled);
    // A cold temperature leaves one of the four samples of each state.
    assert!((sharp.1 - 0.25).abs() < 0.05 && (sharp.0 - 4.0).abs() < 0.1, "{sharp:?}");
    for (greatest, share) in [centred, scaled] {
        assert!(greatest >= 1.0 && share > 0.25 && share <= 1.0 + 1e-5, "{greatest} {share}");
    }
}

/// Whatever the weights of samples divide by may be zero: all values are equal, or nearly so.
#[test]
fn every_form_of_weights_bears_constant_rewards_at_one_state() {
    let mut stream = Stream::new(62);
    let mut experience = Experience::random(8, &mut stream);
    for row in 1..8 {
        let (size, chunk) = (SPEC.observation_dim, SPEC.chunk_dim());
        experience.observations.copy_within(0..size, row * size);
        experience.next_observations.copy_within(0..size, row * size);
        experience.actions.copy_within(0..chunk, row * chunk);
    }
    experience.returns.fill(1.0);
    for weighting in [
        serde_json::json!("centred"),
        serde_json::json!({ "scaled": { "temperature": 3.0 } }),
        serde_json::json!({ "self_normalised": { "temperature": 1e-3 } }),
        serde_json::json!({ "advantage": { "temperature": 0.5 } }),
    ] {
        for name in ["fpmd-r", "fpmd-m"] {
            let settings = serde_json::json!({
                "weighting": weighting, "samples": 4, "batch_size": 8, "training_steps": 2, "learning_rate": 1e-2,
            });
            let mut learner = learner_of(&changed(&tiny_of(name), &settings), 63);
            for update in 0..300 {
                let found = learner.update(&experience.batch(), &mut stream).unwrap();
                assert!(found.iter().all(|(_, value)| value.is_finite()), "{name}, {weighting}, {update}: {found:?}");
            }
            // Writing refuses whatever is not finite.
            learner.weights().unwrap();
            learner.optimizer().unwrap();
        }
    }
}

#[test]
fn what_is_measured_does_not_change_what_is_learned() {
    for name in ["fpmd-r", "fpmd-m"] {
        let after = |diagnostics_every: u64, metrics_every: u64| {
            let settings =
                serde_json::json!({ "diagnostics_every": diagnostics_every, "metrics_every": metrics_every });
            let mut learner = learner_of(&changed(&tiny_of(name), &settings), 64);
            let found = train(&mut *learner, 6, &mut Stream::new(65));
            let is_diagnosed = found.iter().any(|(metric, _)| *metric == metrics::ACTOR_TRACE_VARIANCE);
            assert_eq!(is_diagnosed, diagnostics_every > 0, "{name}");
            // The header tells the settings, which differ.
            (tensors(&learner.weights().unwrap()), tensors(&learner.optimizer().unwrap()))
        };
        let plain = after(0, 1);
        assert!(after(1, 1) == plain && after(1, 3) == plain && after(0, 3) == plain, "{name}");
    }
}

#[test]
fn several_steps_of_a_flow_differ_from_one() {
    for (name, key) in
        [("qc", "flow_steps"), ("bc-flow", "flow_steps"), ("fpmd-r", "acting_steps"), ("fpmd-m", "acting_steps")]
    {
        let select = |steps: usize| {
            let mut learner = learner_of(&changed(&tiny_of(name), &serde_json::json!({ key: steps })), 70);
            let question = Question::new(2, 3, &mut Stream::new(71));
            learner.select(&question.request(true)).unwrap().candidates.unwrap().actions
        };
        let (one, ten) = (select(1), select(10));
        assert!(one != ten, "{name}");
    }
}
