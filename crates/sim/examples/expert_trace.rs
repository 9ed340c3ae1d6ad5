//! One episode of a scripted expert, step by step.
//!
//! `cargo run --release --workspace --example expert_trace -- TASK SEED [EVERY]`
#![allow(clippy::print_stdout, reason = "an example prints what it measured")]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use onestep_sim::{ExpertMemory, Robot, SimArena, SimError, Task, task, task_from_file};

/// A task by its name, or by its scene file.
fn find(name: &str) -> Result<Arc<dyn Task>, SimError> {
    if name.ends_with(".toml") { task_from_file(Path::new(name)) } else { task(name) }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_else(|| "can".to_owned());
    let seed: u64 = arguments.next().map_or(Ok(0), |text| text.parse())?;
    let every: u32 = arguments.next().map_or(Ok(5), |text| text.parse())?;
    let mut arena = SimArena::new(find(&name)?, Robot::panda()?, seed);
    let mut memory = ExpertMemory::default();
    while let Some(action) = arena.expert(&mut memory) {
        if arena.steps().is_multiple_of(every)
            && let Some(view) = arena.view()
        {
            let phases = memory.clocks().map(|clock| (clock.phase, clock.steps));
            print!("{:>4} {phases:?}", arena.steps());
            for arm in view.arms {
                let [x, y, z] = arm.grip_site.to_array();
                print!("  arm {x:.3} {y:.3} {z:.3} yaw {:.2} fingers {:.4}", arm.yaw(), arm.fingers[0]);
            }
            for object in view.objects {
                let [x, y, z] = object.translation.to_array();
                let up = object.rotation * bevy::math::DVec3::Z;
                print!("  | {x:.3} {y:.3} {z:.4} up {:.2} {:.2} {:.2}", up.x, up.y, up.z);
            }
            println!();
        }
        let outcome = arena.step(&action)?;
        if outcome.is_end() {
            println!("{:>4} {outcome:?}", arena.steps());
            break;
        }
    }
    Ok(())
}
