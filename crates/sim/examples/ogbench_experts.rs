//! How often the scripted experts solve OGBench's tasks: `cargo run --release --example ogbench_experts [seeds] [names]`.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "an example prints, and fails by panicking")]

use onestep_sim::{ExpertMemory, MANIP_TASKS, Robot, SimArena, SimError, task};

fn main() -> Result<(), SimError> {
    let mut arguments = std::env::args().skip(1);
    let seeds: u64 = arguments.next().map_or(200, |text| text.parse().unwrap());
    let mut names: Vec<String> = arguments.collect();
    if names.is_empty() {
        names = MANIP_TASKS.iter().filter(|name| name.contains("-task")).map(|name| (*name).to_owned()).collect();
    }
    println!("| task | success of {seeds} | mean steps of the solved |");
    println!("|---|---|---|");
    for name in names {
        let (mut solved, mut steps) = (0u64, 0u64);
        let mut failed = Vec::new();
        for seed in 1000..1000 + seeds {
            let mut arena = SimArena::new(task(&name)?, Robot::panda()?, seed);
            let mut memory = ExpertMemory::default();
            loop {
                let action = arena.expert(&mut memory).unwrap();
                let outcome = arena.step(&action)?;
                if outcome.is_end() {
                    if outcome.success {
                        solved += 1;
                        steps += u64::from(arena.steps());
                    } else {
                        failed.push(seed);
                    }
                    break;
                }
            }
        }
        let share = 100.0 * solved as f64 / seeds as f64;
        println!("| {name} | {share:.1} % | {:.0} |", steps as f64 / solved.max(1) as f64);
        if !failed.is_empty() && failed.len() < 12 {
            println!("<!-- not solved: seeds {failed:?} -->");
        }
    }
    Ok(())
}
