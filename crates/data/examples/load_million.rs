//! How long a million transitions of the size of OGBench's cube-double take to load, and how much memory.
//!
//! ```sh
//! cargo run --release --example load_million -- write million.safetensors
//! cargo run --release --example load_million -- read million.safetensors
//! cargo run --release --example load_million -- read cube-double-play-v0.npz cube-double-task2
//! ```
//!
//! The ending chooses the format: `.safetensors`, `.npz` or `.hdf5`. A file of OGBench's own needs a task for its
//! rewards. Two programs, so that the memory of writing does not count.

#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use std::{path::Path, time::Instant};

use onestep_data::{
    DataError, EpisodeData, EpisodeFile, OgbenchTask, Origin, ReadOptions, WriteOptions, read_episodes, write_episodes,
};

const EPISODES: usize = 1000;
const STEPS: usize = 1000;
const OBSERVATION_DIM: usize = 37;
const ACTION_DIM: usize = 5;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["write", path] => write(Path::new(path))?,
        ["read", path] => read(Path::new(path), None)?,
        ["read", path, task] => read(Path::new(path), Some(OgbenchTask::parse(task).ok_or(OgbenchTask::NAMES)?))?,
        _ => return Err("say `write FILE` or `read FILE [TASK]`".into()),
    }
    Ok(())
}

/// Numbers that gzip cannot shorten much, as measured ones.
fn numbers(count: usize, state: &mut u64) -> Vec<f32> {
    (0..count)
        .map(|_| {
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (*state >> 40) as f32 / 8_388_608.0 - 1.0
        })
        .collect()
}

fn write(path: &Path) -> Result<(), DataError> {
    let mut state = 1;
    let episodes = (0..EPISODES)
        .map(|seed| EpisodeData {
            observations: numbers((STEPS + 1) * OBSERVATION_DIM, &mut state),
            actions: numbers(STEPS * ACTION_DIM, &mut state),
            rewards: vec![-1.0; STEPS],
            terminated: false,
            truncated: true,
            successes: vec![false; STEPS],
            seed: seed as u64,
            interventions: Vec::new(),
        })
        .collect();
    let file = EpisodeFile {
        task: "cube-double-task2".to_owned(),
        origin: Origin::Onestep,
        observation_dim: OBSERVATION_DIM,
        action_dim: ACTION_DIM,
        episodes,
    };
    let start = Instant::now();
    write_episodes(path, &file, &WriteOptions::default())?;
    println!("written in {:.2} s", start.elapsed().as_secs_f64());
    Ok(())
}

fn read(path: &Path, ogbench_task: Option<OgbenchTask>) -> Result<(), Box<dyn std::error::Error>> {
    let before = peak_bytes();
    let start = Instant::now();
    let options = ReadOptions { ogbench_task, ..ReadOptions::default() };
    let file = read_episodes(path, &options, &mut |_, _| true)?;
    let secs = start.elapsed().as_secs_f64();
    let size: usize = file
        .episodes
        .iter()
        .map(|episode| {
            4 * (episode.observations.len() + episode.actions.len() + episode.rewards.len()) + episode.successes.len()
        })
        .sum();
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    println!("{} transitions, {:.0} MB, read in {secs:.2} s", file.steps(), megabytes(size as u64));
    println!("on disk {:.0} MB", megabytes(std::fs::metadata(path)?.len()));
    if let (Some(before), Some(after)) = (before, peak_bytes()) {
        println!(
            "peak memory {:.0} MB ({:.2} times the data), {:.0} MB of it before",
            megabytes(after),
            after as f64 / size as f64,
            megabytes(before)
        );
    }
    Ok(())
}

/// Most memory that the process has held so far; Linux tells.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(1024 * line.split_whitespace().nth(1)?.parse::<u64>().ok()?)
}
