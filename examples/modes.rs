//! How well the generators of actions keep several modes apart: a study in the plane.
//!
//! The demonstrations are eight clouds on a ring; an actor that averages them ends in the empty middle. Each generator
//! learns them with the same network and the same number of updates, then draws samples. One picture and one table come
//! out: the share of samples near a mode, the modes that are found, the distance between samples and demonstrations
//! (maximum mean discrepancy), and the time of a sample.
//!
//! ```text
//! cargo run --release --example modes            # writes modes.png here
//! cargo run --release --example modes -- out.png
//! ```

use std::{path::PathBuf, time::Instant};

use anyhow::{Context, Result};
use onestep::{
    agent::{Purpose, RandomStreams},
    learn::StreamNoise,
    record::plot::{Chart, Mark, Series, draw},
};
use onestep_policy::{
    AlgorithmConfig, Batch, BcFlowConfig, ComputeDevice, Learner, MvpConfig, NoiseSource, Phase, PolicySpec,
    SelectRequest, create_learner, mvp::IntervalOrder, optimizer::LearningRateDecay,
};
use rand::{Rng, RngExt};
use rand_distr::StandardNormal;

const MODES: usize = 8;
const RADIUS: f32 = 0.7;
/// Standard deviation of each cloud.
const CLOUD: f32 = 0.03;
/// What counts as near a mode: three standard deviations hold 99 % of the demonstrations.
const NEAR: f32 = 0.1;
const UPDATES: usize = 20_000;
const BATCH: usize = 256;
const SAMPLES: usize = 2_000;
const SPEC: PolicySpec = PolicySpec { observation_dim: 1, action_dim: 2, horizon: 1 };

/// A generator and what becomes of it.
struct Study {
    name: &'static str,
    algorithm: AlgorithmConfig,
}

struct Outcome {
    name: &'static str,
    points: Vec<[f32; 2]>,
    /// Share of samples near a mode.
    near: f64,
    /// Modes that at least a quarter of their fair share of samples is near to.
    covered: usize,
    /// Squared maximum mean discrepancy to fresh demonstrations.
    discrepancy: f64,
    /// Of one sample, in a batch of many.
    micros: f64,
}

fn mode(index: usize) -> [f32; 2] {
    let (sine, cosine) = (index as f32 / MODES as f32 * std::f32::consts::TAU).sin_cos();
    [RADIUS * cosine, RADIUS * sine]
}

/// `count` demonstrations, flattened.
fn demonstrations(count: usize, random: &mut impl Rng) -> Vec<f32> {
    let one = |random: &mut _| {
        let [x, y] = mode(Rng::next_u32(random) as usize % MODES);
        let [dx, dy]: [f32; 2] = [0; 2].map(|_| RngExt::sample::<f32, _>(random, StandardNormal) * CLOUD);
        [x + dx, y + dy]
    };
    (0..count).flat_map(|_| one(random)).collect()
}

/// What all generators have in common.
fn base(updates: usize) -> MvpConfig {
    MvpConfig {
        horizon: 1,
        batch_size: BATCH,
        learning_rate: 1e-3,
        learning_rate_decay: Some(LearningRateDecay { updates: updates as u64, end: 0.05, ..Default::default() }),
        actor_hidden: vec![128; 3],
        // Nobody chooses here: the critics are as small as can be.
        critic_hidden: vec![1],
        critics: 1,
        candidates: 1,
        target_candidates: 1,
        metrics_every: 100,
        ..MvpConfig::default()
    }
}

/// The generators, to be trained by so many updates. All have the same network; a mean velocity and a velocity differ by one input.
fn studies(updates: usize) -> Vec<Study> {
    let mvp = |name, change: fn(&mut MvpConfig)| {
        let mut config = base(updates);
        change(&mut config);
        Study { name, algorithm: AlgorithmConfig::Mvp(config) }
    };
    let flow = |name, flow_steps| {
        let MvpConfig { horizon, batch_size, learning_rate, learning_rate_decay, actor_hidden, metrics_every, .. } =
            base(updates);
        let common = BcFlowConfig { horizon, batch_size, learning_rate, actor_hidden, ..BcFlowConfig::default() };
        let config = BcFlowConfig { learning_rate_decay, metrics_every, flow_steps, ..common };
        Study { name, algorithm: AlgorithmConfig::BcFlow(config) }
    };
    vec![
        mvp("MVP", |_| {}),
        mvp("MVP without constraint", |config| config.ivc_weight = 0.0),
        mvp("MVP, wrong time order", |config| config.order = IntervalOrder::Reversed),
        mvp("MeanFlow, 75 % diagonal", |config| {
            config.ivc_weight = 0.0;
            config.diagonal_share = 0.75;
        }),
        flow("rectified flow, 1 step", 1),
        flow("rectified flow, 2 steps", 2),
        flow("rectified flow, 10 steps", 10),
    ]
}

/// Trains one generator and looks at its samples.
fn run(study: &Study, updates: usize, seed: u64) -> Result<Outcome> {
    let mut streams = RandomStreams::new(seed);
    let mut learner = create_learner(
        &study.algorithm,
        &SPEC,
        &ComputeDevice::Cpu,
        &mut StreamNoise(streams.get(Purpose::Weights, 0)),
    )?;
    let (nothing, one) = (vec![0.0; BATCH], vec![1.0; BATCH]);
    for _ in 0..updates {
        let actions = demonstrations(BATCH, streams.get(Purpose::Demonstration, 0));
        let batch = Batch {
            size: BATCH,
            phase: Phase::Offline,
            observations: &nothing,
            actions: &actions,
            valid: &one,
            returns: &nothing,
            bootstrap: &nothing,
            critic_valid: &nothing,
            next_observations: &nothing,
        };
        learner.update(&batch, &mut StreamNoise(streams.get(Purpose::Update, 0)))?;
    }
    // The first selection makes its buffers; the second is timed.
    sample(&mut *learner, &mut streams)?;
    let start = Instant::now();
    let points = sample(&mut *learner, &mut streams)?;
    let micros = start.elapsed().as_secs_f64() * 1e6 / SAMPLES as f64;
    let truth = demonstrations(SAMPLES, streams.get(Purpose::Evaluation, 0));
    Ok(judge(study.name, points, truth.as_chunks().0, micros))
}

fn sample(learner: &mut dyn Learner, streams: &mut RandomStreams) -> Result<Vec<[f32; 2]>> {
    let mut noise = vec![0.0; SAMPLES * SPEC.chunk_dim()];
    StreamNoise(streams.get(Purpose::Exploration, 0)).fill_normal(&mut noise);
    let selection = learner.select(&SelectRequest {
        agents: SAMPLES,
        observations: &[0.0; SAMPLES],
        candidates: 1,
        noise: &noise,
        exploration: None,
        return_candidates: false,
    })?;
    Ok(selection.actions.as_chunks().0.to_vec())
}

fn judge(name: &'static str, points: Vec<[f32; 2]>, truth: &[[f32; 2]], micros: f64) -> Outcome {
    let mut hits = [0_usize; MODES];
    for [x, y] in &points {
        for (index, count) in hits.iter_mut().enumerate() {
            let [mode_x, mode_y] = mode(index);
            *count += usize::from((x - mode_x).hypot(y - mode_y) < NEAR);
        }
    }
    let fair = points.len() / MODES;
    Outcome {
        name,
        near: hits.iter().sum::<usize>() as f64 / points.len().max(1) as f64,
        covered: hits.iter().filter(|count| **count >= fair / 4).count(),
        discrepancy: discrepancy(&points, truth),
        micros,
        points,
    }
}

/// The squared maximum mean discrepancy with a Gaussian kernel of width 0.2 (Gretton and others, 2012, equation 3).
fn discrepancy(left: &[[f32; 2]], right: &[[f32; 2]]) -> f64 {
    let kernel = |[x, y]: &[f32; 2], [u, v]: &[f32; 2]| {
        f64::from((-((x - u).powi(2) + (y - v).powi(2)) / (2.0 * 0.2 * 0.2)).exp())
    };
    let within = |set: &[[f32; 2]]| {
        let pairs = set.iter().enumerate().flat_map(|(index, a)| set.iter().skip(index + 1).map(move |b| kernel(a, b)));
        2.0 * pairs.sum::<f64>() / (set.len() as f64 * (set.len() as f64 - 1.0))
    };
    let between: f64 = left.iter().flat_map(|a| right.iter().map(move |b| kernel(a, b))).sum();
    within(left) + within(right) - 2.0 * between / (left.len() as f64 * right.len() as f64)
}

fn panel(outcome: &Outcome) -> Chart {
    let wide = |[x, y]: [f32; 2]| (f64::from(x), f64::from(y));
    let ring = Mark::Points((0..MODES).map(|index| wide(mode(index))).collect(), 14);
    let samples = Mark::Points(outcome.points.iter().copied().map(wide).collect(), 1);
    Chart {
        title: format!("{}: {:.0} % near", outcome.name, 100.0 * outcome.near),
        x_range: Some(-1.05..1.05),
        y_range: Some(-1.05..1.05),
        series: vec![
            Series { name: String::new(), color: None, mark: ring },
            Series { name: String::new(), color: Some(0), mark: samples },
        ],
        ..Chart::default()
    }
}

#[allow(clippy::print_stdout, reason = "the table is what the example is for")]
fn main() -> Result<()> {
    let path = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("modes.png"), PathBuf::from);
    println!("{:<26}{:>12}{:>8}{:>12}{:>14}", "generator", "near a mode", "modes", "MMD²", "µs per sample");
    let mut charts = Vec::new();
    for study in studies(UPDATES) {
        let outcome = run(&study, UPDATES, 0)?;
        println!(
            "{:<26}{:>10.1} %{:>5} / {MODES}{:>12.5}{:>14.2}",
            outcome.name,
            100.0 * outcome.near,
            outcome.covered,
            outcome.discrepancy,
            outcome.micros
        );
        charts.push(panel(&outcome));
    }
    let frame = draw(&charts, 4, 320, 340)?;
    frame.write_png(&path).with_context(|| format!("{} cannot be written", path.display()))?;
    println!("the picture is {}", path.display());
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn the_wrong_time_order_fails() {
        let updates = 2_500;
        let judged = |name: &str| {
            let study = studies(updates).into_iter().find(|study| study.name == name).unwrap();
            run(&study, updates, 1).unwrap()
        };
        let (right, wrong) = (judged("MVP"), judged("MVP, wrong time order"));
        assert!(right.discrepancy < 0.1, "MMD² {}", right.discrepancy);
        assert!(
            wrong.discrepancy > 3.0 * right.discrepancy && wrong.near < right.near,
            "MMD² {} and {} near a mode with the wrong order, {} and {} with the right one",
            wrong.discrepancy,
            wrong.near,
            right.discrepancy,
            right.near
        );
    }

    #[test]
    fn the_measures_tell_good_samples_from_bad_ones() {
        let mut streams = RandomStreams::new(3);
        let mut draw = || demonstrations(SAMPLES, streams.get(Purpose::Demonstration, 0)).as_chunks().0.to_vec();
        let (truth, again): (Vec<[f32; 2]>, Vec<[f32; 2]>) = (draw(), draw());
        let good = judge("", again, &truth, 0.0);
        assert!(good.near > 0.97 && good.covered == MODES && good.discrepancy.abs() < 2e-3);
        let one: Vec<_> = truth.iter().map(|_| mode(0)).collect();
        let collapsed = judge("", one, &truth, 0.0);
        assert!(collapsed.covered == 1 && collapsed.discrepancy > 0.1);
    }
}
