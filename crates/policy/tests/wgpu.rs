//! The GPU backend computes what the CPU backend computes. Any Vulkan driver will do, a software one too.
#![cfg(feature = "wgpu")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests fail by panicking, and say why they are skipped"
)]

mod common;
#[path = "../../../tests/skip/mod.rs"]
mod skip;

use burn_wgpu::{RuntimeOptions, WgpuDevice, graphics::AutoGraphicsApi, init_setup};
use common::{Experience, Question, SPEC, Stream, changed, learner_of, learner_on, tensors, tiny, tiny_of};
use onestep_policy::mvp::ElementWeighting;
use onestep_policy::{AlgorithmConfig, ComputeDevice, Learner, MvpConfig, Selection};

/// The best device, or none if this machine has no graphics driver.
fn device() -> Option<ComputeDevice> {
    let device = WgpuDevice::DefaultDevice;
    // burn has no way to ask for an adapter without panicking.
    let setup = std::panic::catch_unwind(|| init_setup::<AutoGraphicsApi>(&device, RuntimeOptions::default()));
    match setup {
        Ok(setup) => {
            eprintln!("adapter: {}", setup.adapter.get_info().name);
            Some(ComputeDevice::Wgpu(device))
        }
        Err(_) => {
            skip::skip("no graphics adapter; a software one is Mesa's llvmpipe (Debian: mesa-vulkan-drivers)");
            None
        }
    }
}

fn assert_close(name: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{name}");
    for (found, expected) in found.iter().zip(expected) {
        let bound = 1e-3 * expected.abs().max(1.0);
        assert!((found - expected).abs() <= bound, "{name}: {found} on the GPU, {expected} on the CPU");
    }
}

/// The same candidates were chosen, and done.
fn assert_same_choice(found: &Selection, expected: &Selection) {
    let values = &expected.candidates.as_ref().unwrap().q;
    let size = values.len() / expected.q.len();
    let chunks = found.actions.chunks(SPEC.chunk_dim()).zip(expected.actions.chunks(SPEC.chunk_dim()));
    for (agent, (found_chunk, expected_chunk)) in chunks.enumerate() {
        let index = found.index[agent];
        if index == expected.index[agent] {
            assert_close("actions", found_chunk, expected_chunk);
        } else {
            // Rounding may decide between two of equal value.
            let value = values[agent * size + index as usize];
            assert!(expected.q[agent] - value < 1e-4, "agent {agent}: another candidate on the GPU");
        }
    }
}

/// What updates did to each tensor, as one backend and as the other.
///
/// Adam divides a gradient by its own size: where one is as small as its rounding, its sign is anybody's guess, and the
/// weight goes the other way. So one number of 256 may go its own way in a tensor of weights; the moments, which are
/// linear in the gradients, may not.
fn assert_same_learning(before: &dyn Learner, found: &dyn Learner, expected: &dyn Learner) {
    let files = |learner: &dyn Learner| (tensors(&learner.weights().unwrap()), tensors(&learner.optimizer().unwrap()));
    let ((before, _), (found, found_moments), (expected, moments)) = (files(before), files(found), files(expected));
    for (name, expected) in &expected {
        let start = &before[name];
        let greatest = expected.iter().zip(start).map(|(after, before)| (after - before).abs()).fold(0.0, f32::max);
        // The temperature of FPMD waits for its turn.
        assert!(greatest > 0.0 || name.starts_with("log_temperature"), "{name} does not change");
        // The change is a difference of two rounded numbers.
        let bound = |before: f32| 0.05 * greatest + 2.5e-7 * before.abs().max(1.0);
        let pairs = found[name].iter().zip(expected).zip(start);
        let astray = pairs.filter(|((found, expected), before)| {
            let difference = (*found - **before) - (*expected - **before);
            difference.is_nan() || difference.abs() > bound(**before)
        });
        let astray = astray.count();
        assert!(astray <= expected.len() / 256, "{name}: {astray} of {} changes differ", expected.len());
    }
    for (name, expected) in &moments {
        let greatest = expected.iter().map(|moment| moment.abs()).fold(0.0, f32::max);
        for (found, expected) in found_moments[name].iter().zip(expected) {
            let bound = 0.01 * greatest + f32::MIN_POSITIVE;
            assert!((found - expected).abs() <= bound, "{name}: {found} on the GPU, {expected} on the CPU");
        }
    }
}

/// Selects, updates and selects again on both backends.
fn compare(device: &ComputeDevice, config: &AlgorithmConfig, updates: usize) {
    let fresh = learner_of(config, 1);
    let mut cpu = learner_of(config, 1);
    let mut gpu = learner_on(device, config, 1);
    assert!(gpu.weights().unwrap() == cpu.weights().unwrap());
    let mut stream = Stream::new(2);
    for round in 0..=updates {
        let question = Question::new(3, config.candidates(), &mut stream);
        let expected = cpu.select(&question.request(true)).unwrap();
        let found = gpu.select(&question.request(true)).unwrap();
        let (found_all, expected_all) = (found.candidates.as_ref().unwrap(), expected.candidates.as_ref().unwrap());
        assert_close("candidates", &found_all.actions, &expected_all.actions);
        assert_close("values", &found_all.q, &expected_all.q);
        assert_close("q", &found.q, &expected.q);
        assert_same_choice(&found, &expected);
        if round < updates {
            let experience = Experience::random(config.batch_size(), &mut stream);
            let expected = cpu.update(&experience.batch(), &mut stream.clone()).unwrap();
            let found = gpu.update(&experience.batch(), &mut stream).unwrap();
            for ((name, found), (expected_name, expected)) in found.iter().zip(&expected) {
                assert_eq!(name, expected_name);
                assert_close(name, &[*found], &[*expected]);
            }
        }
    }
    assert_same_learning(&*fresh, &*gpu, &*cpu);

    // A checkpoint moves between the backends.
    gpu.load_weights(&cpu.weights().unwrap()).unwrap();
    gpu.load_optimizer(&cpu.optimizer().unwrap()).unwrap();
    assert_eq!(gpu.weights().unwrap(), cpu.weights().unwrap());
    assert_eq!(gpu.optimizer().unwrap(), cpu.optimizer().unwrap());
}

#[test]
fn both_backends_agree() {
    // One test function: the device is set up once in a process.
    let Some(device) = device() else { return };
    // Adam turns rounding into steps of the size of its rate, so the rate must be small for close weights.
    let config = MvpConfig { learning_rate: 1e-4, ..tiny() };
    compare(&device, &AlgorithmConfig::Mvp(config.clone()), 3);
    let unusual = MvpConfig {
        weighting: ElementWeighting::Adaptive { power: 0.5, c: 1e-3 },
        critic_layer_norm: false,
        critics: 3,
        base_noise: 0.5,
        ..config
    };
    compare(&device, &AlgorithmConfig::Mvp(unusual), 1);
    let paper = MvpConfig { horizon: tiny().horizon, ..MvpConfig::default() };
    compare(&device, &AlgorithmConfig::Mvp(paper), 1);

    for name in AlgorithmConfig::NAMES {
        // Rates as above, for all that learns.
        let gentle = serde_json::json!({ "learning_rate": 1e-4, "temperature_learning_rate": 1e-4 });
        eprintln!("{name}");
        compare(&device, &changed(&tiny_of(name), &gentle), 2);
    }
}
