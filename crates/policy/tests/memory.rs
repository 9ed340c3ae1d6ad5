//! What the derivative of the mean-velocity loss costs in memory.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod common;

use common::{Experience, SPEC, Stream};
use onestep_policy::{AlgorithmConfig, ComputeDevice, MvpConfig, create_learner};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// The peak of an update above what the learner holds anyway, in bytes.
fn peak_of_update(config: MvpConfig) -> usize {
    let mut stream = Stream::new(1);
    let config = AlgorithmConfig::Mvp(config);
    let mut learner = create_learner(&config, &SPEC, &ComputeDevice::Cpu, &mut stream).unwrap();
    let experience = Experience::random(config.batch_size(), &mut stream);
    // The first update makes what stays: moments, threads, buffers.
    learner.update(&experience.batch(), &mut stream).unwrap();
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    learner.update(&experience.batch(), &mut stream).unwrap();
    ALLOCATOR.peak_usage() - before
}

/// Reverse-over-forward differentiation would keep the tangents of all layers for the backward pass and about double
/// the peak. Here a layer's tangent is gone when the next one is there.
#[test]
#[allow(clippy::print_stderr, reason = "the figure is in the documentation")]
fn the_derivative_adds_little_to_the_peak_of_an_update() {
    let config = MvpConfig {
        horizon: SPEC.horizon,
        // The target's candidates would hide what the losses need.
        target_candidates: 1,
        candidates: 1,
        ..MvpConfig::default()
    };
    let without = peak_of_update(MvpConfig { diagonal_share: 1.0, ..config.clone() });
    let with = peak_of_update(config.clone());
    let wider = peak_of_update(MvpConfig { batch_size: 2 * config.batch_size, ..config });
    let ratio = with as f64 / without as f64;
    eprintln!("peak of an update: {with} bytes with the derivative, {without} without, ratio {ratio:.3}");
    assert!(ratio < 1.15, "ratio {ratio}");
    // The measure sees activations: twice as many rows, and the peak rises.
    assert!(wider as f64 > 1.3 * with as f64, "{wider} bytes with twice as many rows");
}
