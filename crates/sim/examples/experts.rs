//! How often and how fast the scripted experts succeed, task by task.
//!
//! `cargo run --release --workspace --example experts -- [TASKS, separated by commas] [EPISODES] [NOISE]`
//!
//! NOISE is the standard deviation of what is added to each number of an action; 0 without.
#![allow(clippy::print_stdout, reason = "an example prints what it measured")]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use onestep_sim::{ExpertMemory, ExpertNoise, Robot, SimArena, SimError, Task, task, task_from_file, tasks};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// A task by its name, or by its scene file.
fn find(name: &str) -> Result<Arc<dyn Task>, SimError> {
    if name.ends_with(".toml") { task_from_file(Path::new(name)) } else { task(name) }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let names = arguments.next();
    let episodes: u64 = arguments.next().map_or(Ok(200), |text| text.parse())?;
    let noise = ExpertNoise { std: arguments.next().map_or(Ok(0.0), |text| text.parse())?, ..ExpertNoise::default() };
    let names: Vec<&str> = match &names {
        Some(names) => names.split(',').collect(),
        None => tasks().to_vec(),
    };

    println!("{:<12} {:>9} {:>11} {:>14} {:>8}", "task", "success", "mean steps", "longest", "steps/s");
    for name in names {
        let task = find(name)?;
        if !task.has_expert() {
            continue;
        }
        let robot = Robot::panda()?;
        let (mut steps, mut longest, mut failed) = (0u64, 0, Vec::new());
        let mut all_steps = 0u64;
        let clock = Instant::now();
        for seed in 0..episodes {
            let mut arena = SimArena::new(task.clone(), robot.clone(), seed);
            let mut memory = ExpertMemory::default();
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let outcome = loop {
                let Some(mut action) = arena.expert(&mut memory) else { break None };
                noise.apply(&mut action, &mut random);
                let outcome = arena.step(&action)?;
                if outcome.is_end() {
                    break Some(outcome);
                }
            };
            all_steps += u64::from(arena.steps());
            if outcome.is_some_and(|outcome| outcome.success) {
                steps += u64::from(arena.steps());
                longest = longest.max(arena.steps());
            } else {
                failed.push(seed);
            }
        }
        let successes = episodes - failed.len() as u64;
        let mean = steps as f64 / successes.max(1) as f64;
        let rate = all_steps as f64 / clock.elapsed().as_secs_f64();
        println!("{name:<12} {successes:>5}/{episodes:<3} {mean:>11.1} {longest:>14} {rate:>8.0}");
        if !failed.is_empty() {
            println!("             failed: {failed:?}");
        }
    }
    Ok(())
}
