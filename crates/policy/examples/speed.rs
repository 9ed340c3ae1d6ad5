//! How fast an algorithm selects and learns on a device, without Bevy: a table for the CPU or for a GPU.
//!
//! ```text
//! cargo run --release -p onestep_policy --example speed -- --device wgpu --algorithm mvp --agents 1,16,256 --seconds 5
//! ```
//!
//! The networks have the published sizes, the spaces are those of cube-double (observation 37, action 5). A selection
//! counts from the observations on the host to the chosen actions on the host, read-back included. An update counts from
//! the batch on the host; the device may still compute when it returns, unless its metrics are read back, so the whole
//! stretch of updates is timed, up to the moment when the last one is finished.
#![allow(clippy::print_stdout, reason = "the table is what this program is for")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::{
    error::Error,
    time::{Duration, Instant},
};

use common::{Stream, changed};
use onestep_policy::{
    AlgorithmConfig, Batch, ComputeDevice, Learner, Phase, PolicySpec, SelectRequest, create_learner,
};

/// Observation and action of cube-double.
const SPACES: (usize, usize) = (37, 5);
const USAGE: &str = "options, with their defaults: --device cpu|wgpu (cpu), --algorithm NAME (mvp), --agents N,N (1,16,256), \
                     --seconds S for each row (5), --metrics-every N updates (1)";

struct Options {
    device: String,
    algorithm: String,
    agents: Vec<usize>,
    time: Duration,
    metrics_every: u64,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let mut options = Self {
            device: "cpu".to_owned(),
            algorithm: "mvp".to_owned(),
            agents: vec![1, 16, 256],
            time: Duration::from_secs(5),
            metrics_every: 1,
        };
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value; {USAGE}"))?;
            let wrong = |problem: &dyn std::fmt::Display| format!("{name} is `{value}`: {problem}; {USAGE}");
            match name.as_str() {
                "--device" => options.device = value,
                "--algorithm" => options.algorithm = value,
                "--agents" => {
                    let counts = value.split(',').map(str::parse).collect::<Result<Vec<usize>, _>>();
                    options.agents = counts.map_err(|error| wrong(&error))?;
                }
                "--seconds" => {
                    let seconds: f64 = value.parse().map_err(|error| wrong(&error))?;
                    options.time = Duration::try_from_secs_f64(seconds).map_err(|error| wrong(&error))?;
                }
                "--metrics-every" => options.metrics_every = value.parse().map_err(|error| wrong(&error))?,
                _ => return Err(format!("there is no option {name}; {USAGE}").into()),
            }
        }
        Ok(options)
    }
}

/// The device of that name, and what it is in words.
fn device(name: &str) -> Result<(ComputeDevice, String), Box<dyn Error>> {
    match name {
        "cpu" => {
            let threads = std::thread::available_parallelism().map_or(1, usize::from);
            Ok((ComputeDevice::Cpu, format!("CPU, {threads} threads")))
        }
        #[cfg(feature = "wgpu")]
        "wgpu" => wgpu(),
        #[cfg(not(feature = "wgpu"))]
        "wgpu" => Err("this program was built without its GPU backend, the feature `wgpu`".into()),
        other => Err(format!("there is no device `{other}`; cpu or wgpu").into()),
    }
}

#[cfg(feature = "wgpu")]
fn wgpu() -> Result<(ComputeDevice, String), Box<dyn Error>> {
    use burn_wgpu::{RuntimeOptions, WgpuDevice, graphics::AutoGraphicsApi, init_setup};
    let device = WgpuDevice::DefaultDevice;
    // burn has no way to ask for an adapter without panicking, and its panic says nothing that helps.
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let setup = std::panic::catch_unwind(|| init_setup::<AutoGraphicsApi>(&device, RuntimeOptions::default()));
    std::panic::set_hook(usual);
    let Ok(setup) = setup else {
        return Err(
            "no graphics adapter answers: there is no Vulkan, Metal or DirectX driver here; a software one is \
                    Mesa's llvmpipe (Debian: mesa-vulkan-drivers)"
                .into(),
        );
    };
    let info = setup.adapter.get_info();
    Ok((ComputeDevice::Wgpu(device), format!("{} ({:?}, {:?})", info.name, info.device_type, info.backend)))
}

/// Numbers for selections of so many agents.
struct Crowd {
    agents: usize,
    observations: Vec<f32>,
    noise: Vec<f32>,
}

impl Crowd {
    fn new(agents: usize, candidates: usize, spec: &PolicySpec, stream: &mut Stream) -> Self {
        Self {
            agents,
            observations: stream.normal(agents * spec.observation_dim),
            noise: stream.normal(agents * candidates * spec.chunk_dim()),
        }
    }

    fn request(&self, candidates: usize) -> SelectRequest<'_> {
        SelectRequest {
            agents: self.agents,
            observations: &self.observations,
            candidates,
            noise: &self.noise,
            exploration: None,
            return_candidates: false,
        }
    }
}

/// Milliseconds of each selection, in order of size.
fn time_selections(
    learner: &mut dyn Learner,
    request: &SelectRequest<'_>,
    time: Duration,
) -> Result<Vec<f64>, Box<dyn Error>> {
    // The first ones compile kernels, make buffers and wake threads.
    for _ in 0..5 {
        learner.select(request)?;
    }
    let mut times = Vec::new();
    let start = Instant::now();
    while start.elapsed() < time || times.len() < 10 {
        let begin = Instant::now();
        learner.select(request)?;
        times.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

/// The number below which a share of the sorted `times` lies.
fn quantile(times: &[f64], share: f64) -> f64 {
    let index = (share * times.len().saturating_sub(1) as f64).round() as usize;
    times.get(index).copied().unwrap_or(f64::NAN)
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse(std::env::args().skip(1))?;
    let config = AlgorithmConfig::named(&options.algorithm).ok_or_else(|| {
        format!("there is no algorithm `{}`; one of {}", options.algorithm, AlgorithmConfig::NAMES.join(", "))
    })?;
    let config = changed(&config, &serde_json::json!({ "metrics_every": options.metrics_every }));
    let (observation_dim, action_dim) = SPACES;
    let spec = PolicySpec { observation_dim, action_dim, horizon: config.horizon() };
    let (device, words) = device(&options.device)?;
    let mut stream = Stream::new(1);
    let mut learner = create_learner(&config, &spec, &device, &mut stream)?;
    println!(
        "{}, {} parameters, {} candidates, batch {}, on {words}\n",
        learner.algorithm(),
        learner.parameter_count(),
        config.candidates(),
        config.batch_size()
    );

    println!("| agents | selections | p50, ms | p99, ms | p50 for each agent, ms |\n|---|---|---|---|---|");
    for &agents in &options.agents {
        let crowd = Crowd::new(agents, config.candidates(), &spec, &mut stream);
        let times = time_selections(&mut *learner, &crowd.request(config.candidates()), options.time)?;
        let (middle, late) = (quantile(&times, 0.5), quantile(&times, 0.99));
        println!("| {agents} | {} | {middle:.3} | {late:.3} | {:.3} |", times.len(), middle / agents as f64);
    }

    let rows = config.batch_size();
    let mut actions = stream.normal(rows * spec.chunk_dim());
    actions.iter_mut().for_each(|action| *action = action.clamp(-1.0, 1.0));
    let batch = Batch {
        size: rows,
        phase: Phase::Online,
        observations: &stream.normal(rows * observation_dim),
        actions: &actions,
        valid: &vec![1.0; rows * spec.horizon],
        returns: &stream.normal(rows),
        bootstrap: &vec![0.95; rows],
        critic_valid: &vec![1.0; rows],
        next_observations: &stream.normal(rows * observation_dim),
    };
    let one = Crowd::new(1, 1, &spec, &mut stream);
    for _ in 0..4 {
        learner.update(&batch, &mut stream)?;
    }
    learner.select(&one.request(1))?;
    let (mut updates, start) = (0_u32, Instant::now());
    while start.elapsed() < options.time || updates < 4 {
        learner.update(&batch, &mut stream)?;
        updates += 1;
    }
    // Its read-back waits for all that was asked for before.
    learner.select(&one.request(1))?;
    let seconds = start.elapsed().as_secs_f64();
    let rate = f64::from(updates) / seconds;
    println!("\n{updates} updates in {seconds:.2} s: {rate:.2} per second, {:.2} ms each", 1e3 / rate);
    Ok(())
}
