//! Plays given actions from a given state in a control task and writes the states: for comparing with other simulators.
//!
//! ```sh
//! cargo run --release --example control_rollout < rollout.txt
//! ```
//!
//! Input, numbers separated by spaces: a line with the task's name, a line of joint positions, a line of joint
//! velocities, then a line for each action (in [-1, 1]). Output: for each action a line of joint positions, joint
//! velocities, reward, and 1 or 0 for the end of the episode. A new task name starts over.
#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::io::BufRead;

use onestep_sim::{Robot, SimArena, task, tasks};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut lines = std::io::stdin().lock().lines().collect::<Result<Vec<_>, _>>()?.into_iter();
    let mut arena: Option<SimArena> = None;
    while let Some(line) = lines.next() {
        if tasks().contains(&line.trim()) {
            let mut fresh = SimArena::new(task(line.trim())?, Robot::panda()?, 0);
            let mut next = || numbers::<f64>(&lines.next().unwrap_or_default());
            if !fresh.set_joints(&next()?, &next()?) {
                return Err(format!("`{line}` has other joints").into());
            }
            arena = Some(fresh);
        } else if let Some(arena) = &mut arena {
            let outcome = arena.step(&numbers::<f32>(&line)?)?;
            let state = arena.joint_positions().iter().chain(arena.joint_velocities());
            let state: Vec<String> = state.map(|number| format!("{number:.9}")).collect();
            println!("{} {:.9} {}", state.join(" "), outcome.reward, u8::from(outcome.terminated));
        }
    }
    Ok(())
}

fn numbers<T: std::str::FromStr>(line: &str) -> Result<Vec<T>, T::Err> {
    line.split_whitespace().map(str::parse).collect()
}
