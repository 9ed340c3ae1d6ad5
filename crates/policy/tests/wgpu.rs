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
use common::{Experience, Question, Stream, changed, learner_of, learner_on, tiny, tiny_of};
use onestep_policy::mvp::ElementWeighting;
use onestep_policy::{AlgorithmConfig, ComputeDevice, Learner, MvpConfig};

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

fn weights(learner: &dyn Learner) -> Vec<f32> {
    let bytes = learner.weights().unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut names = file.names();
    names.sort_unstable();
    names
        .into_iter()
        .flat_map(|name| {
            let data = file.tensor(name).unwrap().data().to_vec();
            data.chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect::<Vec<_>>()
        })
        .collect()
}

/// Selects, updates and selects again on both backends.
fn compare(device: &ComputeDevice, config: &AlgorithmConfig, updates: usize) {
    let mut cpu = learner_of(config, 1);
    let mut gpu = learner_on(device, config, 1);
    assert_eq!(weights(&*gpu), weights(&*cpu));
    let mut stream = Stream::new(2);
    for round in 0..=updates {
        let question = Question::new(3, config.candidates(), &mut stream);
        let expected = cpu.select(&question.request(true)).unwrap();
        let found = gpu.select(&question.request(true)).unwrap();
        let (found_all, expected_all) = (found.candidates.unwrap(), expected.candidates.unwrap());
        assert_close("candidates", &found_all.actions, &expected_all.actions);
        assert_close("values", &found_all.q, &expected_all.q);
        assert_close("q", &found.q, &expected.q);
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
    assert_close("weights", &weights(&*gpu), &weights(&*cpu));

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
