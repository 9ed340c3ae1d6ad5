//! What the derivative of the mean-velocity loss costs in memory of the GPU, as its runtime counts it.
#![cfg(feature = "wgpu")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests fail by panicking, and one talks to the other"
)]

mod common;
#[path = "../../../tests/skip/mod.rs"]
mod skip;

use std::process::Command;

use burn_wgpu::{MemoryConfiguration, RuntimeOptions, WgpuDevice, WgpuRuntime, graphics::AutoGraphicsApi, init_setup};
use common::{Experience, SPEC, Stream};
use cubecl_runtime::runtime::Runtime;
use onestep_policy::{AlgorithmConfig, ComputeDevice, MvpConfig, create_learner};

/// Tells the child which share of the time pairs is diagonal: with 1 there is no derivative.
const SHARE: &str = "ONESTEP_TEST_DIAGONAL_SHARE";
/// What the child prints before its figure.
const ANSWER: &str = "reserved bytes: ";

/// Bytes that the runtime has reserved after updates with that share, or none without a graphics driver. In a process of
/// its own, because the runtime gives nothing back.
fn reserved(diagonal_share: f64) -> Option<u64> {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "report_reserved_memory", "--ignored", "--nocapture"])
        .env(SHARE, diagonal_share.to_string())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().find_map(|line| line.split_once(ANSWER)?.1.trim().parse().ok())
}

#[test]
#[ignore = "the other test starts it in a process of its own"]
fn report_reserved_memory() {
    let Ok(share) = std::env::var(SHARE) else { return };
    let device = WgpuDevice::DefaultDevice;
    // A buffer of its own for each tensor, so that what is reserved is the greatest that was needed at a time.
    let options = RuntimeOptions { memory_config: MemoryConfiguration::ExclusivePages, ..RuntimeOptions::default() };
    // burn has no way to ask for an adapter without panicking.
    if std::panic::catch_unwind(|| init_setup::<AutoGraphicsApi>(&device, options)).is_err() {
        return;
    }
    let config = AlgorithmConfig::Mvp(MvpConfig {
        horizon: SPEC.horizon,
        actor_hidden: vec![128; 3],
        critic_hidden: vec![32],
        batch_size: 256,
        target_candidates: 1,
        candidates: 1,
        diagonal_share: share.parse().unwrap(),
        ..MvpConfig::default()
    });
    let mut stream = Stream::new(1);
    let mut learner = create_learner(&config, &SPEC, &ComputeDevice::Wgpu(device.clone()), &mut stream).unwrap();
    let experience = Experience::random(config.batch_size(), &mut stream);
    for _ in 0..2 {
        learner.update(&experience.batch(), &mut stream).unwrap();
    }
    let usage = WgpuRuntime::client(&device).memory_usage().unwrap();
    println!("{ANSWER}{}", usage.bytes_reserved);
}

#[test]
fn the_derivative_adds_little_to_the_memory_of_the_gpu() {
    let (Some(with), Some(without)) = (reserved(0.0), reserved(1.0)) else {
        skip::skip("no graphics adapter; a software one is Mesa's llvmpipe (Debian: mesa-vulkan-drivers)");
        return;
    };
    let ratio = with as f64 / without as f64;
    eprintln!("reserved after updates: {with} bytes with the derivative, {without} without, ratio {ratio:.3}");
    assert!(ratio < 1.15, "ratio {ratio}");
}
