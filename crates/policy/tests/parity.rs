//! The learners beside reference numbers, which `reference/reference.py` computes in float64 from the mathematics.
//!
//! Each case loads weights, hands out the recorded noise, makes whole updates and compares metrics, weights and the
//! moments of Adam. The moments are linear in the gradients, so they show what a first step of Adam, which divides each
//! gradient by its own size, would hide.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests fail by panicking, and say how close they came"
)]

mod common;
#[cfg(feature = "wgpu")]
#[path = "../../../tests/skip/mod.rs"]
mod skip;

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use burn::tensor::{Tensor, TensorData};
use burn_flex::{Flex, FlexDevice};
use common::{Experience, Question, SPEC, Stream, learner, tiny};
use onestep_policy::network::{Activation, Dense, Network};
use onestep_policy::{
    AlgorithmConfig, Batch, ComputeDevice, Learner, Metrics, MvpConfig, NoiseSource, Phase, PolicySpec, SelectRequest,
    create_learner, flow, metrics,
};
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

const CASES: [&str; 17] = [
    "mvp",
    "mvp_unconstrained",
    "mvp_adaptive",
    "mvp_best_of_n",
    "mvp_diagonal",
    "mvp_logit_normal",
    "qc",
    "bfn",
    "fql",
    "qc_fql",
    "fpmd_r",
    "fpmd_m_centred",
    "fpmd_m_scaled",
    "fpmd_m_self_normalised",
    "fpmd_m_advantage",
    "sac",
    "bc_flow",
];

#[derive(Deserialize)]
struct Case {
    algorithm: AlgorithmConfig,
    spec: PolicySpec,
    selection: SelectionCase,
    updates: Vec<UpdateCase>,
    intermediate: Option<BTreeMap<String, Vec<f64>>>,
}

#[derive(Deserialize)]
struct SelectionCase {
    agents: usize,
    candidates: usize,
    observations: Vec<f32>,
    noise: Vec<f32>,
    exploration: Vec<f32>,
    expected: ExpectedSelection,
}

#[derive(Deserialize)]
struct ExpectedSelection {
    actions: Vec<f64>,
    q: Vec<f64>,
    index: Vec<u32>,
    candidates: Vec<f64>,
    values: Vec<f64>,
    explored_actions: Vec<f64>,
}

#[derive(Deserialize)]
struct UpdateCase {
    phase: Phase,
    batch: BatchCase,
    draws: VecDeque<Draw>,
    metrics: BTreeMap<String, f64>,
}

#[derive(Clone, Deserialize)]
struct BatchCase {
    observations: Vec<f32>,
    actions: Vec<f32>,
    valid: Vec<f32>,
    returns: Vec<f32>,
    bootstrap: Vec<f32>,
    critic_valid: Vec<f32>,
    next_observations: Vec<f32>,
}

impl BatchCase {
    fn batch(&self, phase: Phase) -> Batch<'_> {
        Batch {
            size: self.returns.len(),
            phase,
            observations: &self.observations,
            actions: &self.actions,
            valid: &self.valid,
            returns: &self.returns,
            bootstrap: &self.bootstrap,
            critic_valid: &self.critic_valid,
            next_observations: &self.next_observations,
        }
    }
}

#[derive(Clone, Deserialize)]
struct Draw {
    kind: String,
    values: Vec<f32>,
}

/// Hands out what was recorded, each time exactly as much as was drawn then.
struct Script(VecDeque<Draw>);

impl Script {
    fn take(&mut self, kind: &str, out: &mut [f32]) {
        let draw = self.0.pop_front().expect("more draws than were recorded");
        assert_eq!((draw.kind.as_str(), draw.values.len()), (kind, out.len()), "another draw than was recorded");
        out.copy_from_slice(&draw.values);
    }
}

impl NoiseSource for Script {
    fn fill_normal(&mut self, out: &mut [f32]) {
        self.take("normal", out);
    }

    fn fill_uniform(&mut self, out: &mut [f32]) {
        self.take("uniform", out);
    }
}

/// How far numbers may be from the reference.
struct Tolerance {
    /// Metrics and selections, relative to `max(0.1, |expected|)`: below that they are differences of greater numbers.
    value: f64,
    /// Moments of Adam, relative to the greatest of their kind in the layer. A tensor alone is too small a measure: the
    /// last bias of a critic is one number, and gradients of opposite signs in successive updates may leave little of
    /// its first moment, but not of their rounding.
    moment: f64,
    /// Changes of weights, relative to the greatest of their tensor.
    ///
    /// Greater than that of the moments: Adam divides a gradient by its own size, so an error that is small beside the
    /// greatest gradient of a tensor is as many times greater as the entry is smaller, up to 3,000 times here (and
    /// 20,000 in the networks of times). The reference draws cases again until no gradient is smaller still, nor zero.
    change: f64,
    /// Rounding of a weight itself, relative to `max(1, |weight|)`: its change is a difference of nearly equal numbers.
    rounding: f64,
}

/// The greatest error of each kind, as a share of what is allowed, and where it was.
#[derive(Default)]
struct Errors(BTreeMap<&'static str, (f64, String)>);

impl Errors {
    fn add(&mut self, kind: &'static str, name: &str, found: f64, expected: f64, bound: f64) {
        let share = (found - expected).abs() / bound;
        let text = || format!("{name}: {found} instead of {expected}, allowed {bound:.1e}");
        let worst = self.0.entry(kind).or_default();
        if share.is_nan() || share >= worst.0 {
            *worst = (if share.is_nan() { f64::INFINITY } else { share }, text());
        }
    }

    fn add_all(&mut self, kind: &'static str, name: &str, found: &[f32], expected: &[f64], tolerance: f64) {
        assert_eq!(found.len(), expected.len(), "{name}");
        for (found, expected) in found.iter().zip(expected) {
            self.add(kind, name, f64::from(*found), *expected, tolerance * expected.abs().max(0.1));
        }
    }

    fn finish(&self) {
        for (kind, (share, text)) in &self.0 {
            eprintln!("{kind}: {share:.3} of what is allowed; {text}");
        }
        for (kind, (share, text)) in &self.0 {
            assert!(*share <= 1.0, "{kind}: {text}");
        }
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference")
}

fn load(name: &str) -> (Case, Vec<u8>, BTreeMap<String, Vec<f64>>) {
    let read = |suffix: &str| std::fs::read(folder().join(format!("{name}.{suffix}"))).unwrap();
    (serde_json::from_slice(&read("json")).unwrap(), read("safetensors"), tensors(&read("after.safetensors")))
}

/// All numbers of a file, by name.
fn tensors(bytes: &[u8]) -> BTreeMap<String, Vec<f64>> {
    let file = SafeTensors::deserialize(bytes).unwrap();
    let read = |name: &str| {
        let tensor = file.tensor(name).unwrap();
        let data = tensor.data();
        match tensor.dtype() {
            Dtype::F32 => data.chunks(4).map(|part| f64::from(f32::from_le_bytes(part.try_into().unwrap()))).collect(),
            Dtype::F64 => data.chunks(8).map(|part| f64::from_le_bytes(part.try_into().unwrap())).collect(),
            other => panic!("{name} is {other:?}"),
        }
    };
    file.names().into_iter().map(|name| (name.to_owned(), read(name))).collect()
}

/// A learner with the weights of a case.
fn prepared(device: &ComputeDevice, case: &Case, weights: &[u8]) -> Box<dyn Learner> {
    let mut learner = create_learner(&case.algorithm, &case.spec, device, &mut Stream::new(1)).unwrap();
    learner.load_weights(weights).unwrap();
    learner
}

fn compare_selection(case: &Case, name: &str, learner: &mut dyn Learner, tolerance: &Tolerance, errors: &mut Errors) {
    let SelectionCase { agents, candidates, observations, noise, exploration, expected } = &case.selection;
    let request = SelectRequest {
        agents: *agents,
        observations,
        candidates: *candidates,
        noise,
        exploration: None,
        return_candidates: true,
    };
    let found = learner.select(&request).unwrap();
    assert_eq!(found.index, expected.index, "{name}: chosen candidates");
    let all = found.candidates.unwrap();
    for (what, found, expected) in [
        ("candidates", &all.actions, &expected.candidates),
        ("values of candidates", &all.q, &expected.values),
        ("chosen actions", &found.actions, &expected.actions),
        ("values of chosen actions", &found.q, &expected.q),
    ] {
        errors.add_all("selection", &format!("{name} {what}"), found, expected, tolerance.value);
    }
    let found = learner.select(&SelectRequest { exploration: Some(exploration), ..request }).unwrap();
    errors.add_all(
        "selection",
        &format!("{name} actions of exploration"),
        &found.actions,
        &expected.explored_actions,
        tolerance.value,
    );
}

fn compare(device: &ComputeDevice, name: &str, tolerance: &Tolerance, errors: &mut Errors) {
    let (case, weights, after) = load(name);
    let mut learner = prepared(device, &case, &weights);
    compare_selection(&case, name, &mut *learner, tolerance, errors);

    for (index, update) in case.updates.iter().enumerate() {
        let mut script = Script(update.draws.clone());
        let found = learner.update(&update.batch.batch(update.phase), &mut script).unwrap();
        assert!(script.0.is_empty(), "{name}: {} draws were not asked for", script.0.len());
        let found: BTreeMap<_, _> = found.into_iter().collect();
        let names: Vec<_> = found.keys().copied().collect();
        let expected: Vec<_> = update.metrics.keys().map(String::as_str).collect();
        assert_eq!(names, expected, "{name}: metrics of update {index}");
        for (metric, expected) in &update.metrics {
            let what = format!("{name} update {index} {metric}");
            errors.add_all("metrics", &what, &[found[metric.as_str()]], &[*expected], tolerance.value);
        }
    }

    let before = tensors(&weights);
    let mut found = tensors(&learner.weights().unwrap());
    found.extend(tensors(&learner.optimizer().unwrap()));
    assert_eq!(found.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>(), "{name}");
    for (tensor, expected) in &after {
        let what = format!("{name} {tensor}");
        let found = &found[tensor];
        assert_eq!(found.len(), expected.len(), "{what}");
        let greatest = |values: &mut dyn Iterator<Item = f64>| values.map(f64::abs).fold(0.0, f64::max);
        if tensor.ends_with(".first") || tensor.ends_with(".second") {
            let bound = tolerance.moment * greatest(&mut layer(&after, tensor));
            for (found, expected) in found.iter().zip(expected) {
                errors.add("moments", &what, *found, *expected, bound);
            }
        } else {
            let before = &before[tensor];
            let changes = || expected.iter().zip(before).map(|(after, before)| after - before);
            let bound = tolerance.change * greatest(&mut changes());
            assert!(bound > 0.0, "{what} does not change");
            for ((found, before), change) in found.iter().zip(before).zip(changes()) {
                let bound = bound + tolerance.rounding * before.abs().max(1.0);
                errors.add("changes of weights", &what, found - before, change, bound);
            }
        }
    }
}

/// All numbers of the same kind in the layer that a tensor of moments belongs to.
fn layer<'a>(tensors: &'a BTreeMap<String, Vec<f64>>, name: &str) -> impl Iterator<Item = f64> + 'a {
    // `critic.0.layers.2.norm.scale.first` has the place `critic.0.layers.2.` and the kind `.first`.
    let place = name.find("layers.").map_or(name.len(), |start| {
        let number = start + "layers.".len();
        name[number..].find('.').map_or(name.len(), |end| number + end + 1)
    });
    let (place, kind) = (name[..place].to_owned(), name[name.rfind('.').unwrap()..].to_owned());
    let same = tensors.iter().filter(move |(name, _)| name.starts_with(&place) && name.ends_with(&kind));
    same.flat_map(|(_, values)| values.iter().copied())
}

#[test]
fn the_cpu_computes_what_the_mathematics_say() {
    let tolerance = Tolerance { value: 1e-5, moment: 1e-5, change: 1e-4, rounding: 2.5e-7 };
    let mut errors = Errors::default();
    for name in CASES {
        compare(&ComputeDevice::Cpu, name, &tolerance, &mut errors);
    }
    errors.finish();
}

#[cfg(feature = "wgpu")]
#[test]
fn the_gpu_computes_what_the_mathematics_say() {
    use burn_wgpu::{RuntimeOptions, WgpuDevice, graphics::AutoGraphicsApi, init_setup};
    let device = WgpuDevice::DefaultDevice;
    // burn has no way to ask for an adapter without panicking.
    let setup = std::panic::catch_unwind(|| init_setup::<AutoGraphicsApi>(&device, RuntimeOptions::default()));
    let Ok(setup) = setup else {
        skip::skip("no graphics adapter; a software one is Mesa's llvmpipe (Debian: mesa-vulkan-drivers)");
        return;
    };
    eprintln!("adapter: {}", setup.adapter.get_info().name);
    // A driver may round sines, exponentials and reciprocals more coarsely than the CPU.
    let tolerance = Tolerance { value: 1e-3, moment: 1e-3, change: 1e-2, rounding: 2.5e-7 };
    let mut errors = Errors::default();
    // Each algorithm once: what else the cases vary is no matter of the device, and a software driver takes its time.
    let same =
        ["mvp_unconstrained", "mvp_best_of_n", "mvp_diagonal", "mvp_logit_normal", "fpmd_m_centred", "fpmd_m_scaled"];
    for name in CASES.into_iter().filter(|name| !same.contains(name)) {
        compare(&ComputeDevice::Wgpu(device.clone()), name, &tolerance, &mut errors);
    }
    errors.finish();
}

fn upload(values: &[f64], rows: usize) -> Tensor<Flex, 2> {
    let values: Vec<f32> = values.iter().map(|value| *value as f32).collect();
    let width = values.len() / rows;
    Tensor::from_data(TensorData::new(values, [rows, width]), &FlexDevice)
}

fn to_vec<const D: usize>(tensor: Tensor<Flex, D>) -> Vec<f32> {
    tensor.into_data().into_vec().unwrap()
}

/// The actor of an MVP, from its file.
fn actor(weights: &[u8], layers: usize) -> Network<Flex> {
    let tensors = tensors(weights);
    let layer = |index| {
        let bias = upload(&tensors[&format!("actor.layers.{index}.bias")], 1);
        let weight = &tensors[&format!("actor.layers.{index}.weight")];
        Dense {
            weight: upload(weight, weight.len() / bias.dims()[1]).unsqueeze(),
            bias: bias.unsqueeze(),
            activation: if index + 1 < layers { Activation::Gelu } else { Activation::None },
            norm: None,
        }
    };
    Network::new((0..layers).map(layer).collect())
}

#[test]
fn path_derivative_and_target_of_the_mean_velocity() {
    let (case, weights, _) = load("mvp");
    let expected = case.intermediate.unwrap();
    let batch = &case.updates[0].batch;
    let rows = batch.returns.len();
    let reference = |name: &str| upload(&expected[name], rows);
    let (start, end) = (reference("start"), reference("end"));
    let velocity = flow::conditional_velocity(reference("noise"), reference("actions"));
    let point = flow::interpolate(reference("noise"), reference("actions"), start.clone());

    let observations: Vec<f64> = batch.observations.iter().map(|value| f64::from(*value)).collect();
    let observations = upload(&observations, rows);
    let input = Tensor::cat(vec![observations.clone(), point.clone(), start.clone(), end.clone()], 1);
    let actor = actor(&weights, 3);
    let (_, traces) = actor.track().forward(Tensor::from_inner(input.unsqueeze()));
    let tangent =
        Tensor::cat(vec![observations.zeros_like(), velocity.clone(), start.ones_like(), end.zeros_like()], 1);
    let derivative: Tensor<Flex, 2> = actor.tangent(&traces, tangent.unsqueeze()).squeeze_dim(0);
    let target = flow::mean_velocity_target(velocity.clone(), derivative.clone(), start, end);

    let mut errors = Errors::default();
    for (name, found) in [("velocity", velocity), ("point", point), ("derivative", derivative), ("target", target)] {
        errors.add_all("intermediate", name, &to_vec(found), &expected[name], 1e-5);
    }
    errors.finish();
}

fn metric(metrics: &Metrics, name: &str) -> f32 {
    metrics.iter().find(|(found, _)| *found == name).unwrap().1
}

#[test]
fn temporal_difference_targets_of_single_chunks() {
    let (case, weights, _) = load("mvp");
    let expected = &case.intermediate.as_ref().unwrap()["td_targets"];
    let update = &case.updates[0];
    let mut errors = Errors::default();
    for (row, expected) in expected.iter().enumerate() {
        // With one usable chunk the mean of the targets is its own.
        let mut batch = update.batch.clone();
        batch.critic_valid.fill(0.0);
        batch.critic_valid[row] = 1.0;
        let mut learner = prepared(&ComputeDevice::Cpu, &case, &weights);
        let found = learner.update(&batch.batch(update.phase), &mut Script(update.draws.clone())).unwrap();
        let found = metric(&found, metrics::CRITIC_TARGET_MEAN);
        errors.add_all("targets", &format!("chunk {row}"), &[found], &[*expected], 1e-5);
    }
    errors.finish();
}

#[derive(Deserialize)]
struct Schedule {
    every: u64,
    points: Vec<Point>,
}

#[derive(Deserialize)]
struct Point {
    updates: u64,
    temperature: f64,
}

#[test]
fn the_temperature_of_mirror_descent_along_a_run() {
    let bytes = std::fs::read(folder().join("temperature.json")).unwrap();
    let schedule: Schedule = serde_json::from_slice(&bytes).unwrap();
    // The schedule depends on the number of its own steps alone, so here every update makes one.
    let settings = serde_json::json!({
        "name": "fpmd-r", "actor_hidden": [1], "critic_hidden": [1], "temperature_every": 1, "training_steps": 1,
        "diagnostics_every": 0,
    });
    let config: AlgorithmConfig = serde_json::from_value(settings).unwrap();
    let spec = PolicySpec { observation_dim: 1, action_dim: 1, horizon: 1 };
    let mut stream = Stream::new(3);
    let mut learner = create_learner(&config, &spec, &ComputeDevice::Cpu, &mut stream).unwrap();
    let batch = Batch {
        size: 1,
        phase: Phase::Online,
        observations: &[0.1],
        actions: &[0.2],
        valid: &[1.0],
        returns: &[0.3],
        bootstrap: &[0.99],
        critic_valid: &[1.0],
        next_observations: &[0.4],
    };
    let mut errors = Errors::default();
    for Point { updates, temperature } in schedule.points {
        let mut found = Metrics::new();
        while learner.updates() < updates / schedule.every {
            found = learner.update(&batch, &mut stream).unwrap();
        }
        let found = metric(&found, metrics::ACTOR_TEMPERATURE);
        errors.add_all("temperature", &format!("after {updates} updates"), &[found], &[temperature], 2e-5);
    }
    errors.finish();
}

/// One question to an exported policy and its answer: what `run_policy.py` must answer too.
#[derive(Serialize, Deserialize)]
struct Answer {
    observation: Vec<f32>,
    noise: Vec<Vec<f32>>,
    actions: Vec<f32>,
}

impl Answer {
    fn of(learner: &mut dyn Learner, observation: &[f32], noise: &[Vec<f32>]) -> Self {
        let request = SelectRequest {
            agents: 1,
            observations: observation,
            candidates: noise.len(),
            noise: &noise.concat(),
            exploration: None,
            return_candidates: false,
        };
        let actions = learner.select(&request).unwrap().actions;
        Self { observation: observation.to_vec(), noise: noise.to_vec(), actions }
    }
}

fn exported() -> MvpConfig {
    MvpConfig { actor_hidden: vec![16, 16], critic_hidden: vec![16, 16], base_noise: 0.9, ..tiny() }
}

#[test]
fn an_exported_policy_answers_as_it_did() {
    let read = |name: &str| std::fs::read(folder().join(name)).unwrap();
    let mut learner = learner(&exported(), 5);
    learner.load_weights(&read("exported_mvp.safetensors")).unwrap();
    let answers: Vec<Answer> = serde_json::from_slice(&read("exported_mvp.json")).unwrap();
    let mut errors = Errors::default();
    for (index, expected) in answers.iter().enumerate() {
        let found = Answer::of(&mut *learner, &expected.observation, &expected.noise);
        let expected: Vec<f64> = expected.actions.iter().map(|value| f64::from(*value)).collect();
        errors.add_all("actions", &format!("answer {index}"), &found.actions, &expected, 1e-5);
    }
    errors.finish();
}

#[test]
#[ignore = "writes `reference/exported_mvp.*` anew; check them with `run_policy.py` after it"]
fn export_a_policy() {
    let mut learner = learner(&exported(), 5);
    let mut stream = Stream::new(6);
    for _ in 0..200 {
        learner.update(&Experience::bandit(32, &mut stream).batch(), &mut stream).unwrap();
    }
    let mut answers = Vec::new();
    for candidates in [1, 1, 8, 8, 32, 32] {
        let Question { observations, noise, .. } = Question::new(1, candidates, &mut stream);
        let noise: Vec<_> = noise.chunks(SPEC.chunk_dim()).map(<[f32]>::to_vec).collect();
        answers.push(Answer::of(&mut *learner, &observations, &noise));
    }
    std::fs::write(folder().join("exported_mvp.safetensors"), learner.weights().unwrap()).unwrap();
    std::fs::write(folder().join("exported_mvp.json"), serde_json::to_string(&answers).unwrap()).unwrap();
}
