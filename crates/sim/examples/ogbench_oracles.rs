//! What OGBench's scripted oracles reach here: `cargo run --release --example ogbench_oracles [targets] [substeps]`.
//!
//! Play with the benchmark's default noise, as its data are made. For each target: whether the cube ends within 4 cm of
//! it, after how many control steps, and how far from it.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "an example prints, and fails by panicking")]

use std::sync::Arc;
use std::time::Instant;

use onestep_sim::{ExpertMemory, ManipScene, ManipTask, Oracle, Robot, ServoRobot, SimArena, SimError, Target};

fn main() -> Result<(), SimError> {
    let mut arguments = std::env::args().skip(1);
    let targets: usize = arguments.next().map_or(330, |text| text.parse().unwrap());
    let substeps: Option<u32> = arguments.next().map(|text| text.parse().unwrap());
    println!("| scene | oracle | targets | success | steps per target | median distance | control steps/s |");
    println!("|---|---|---|---|---|---|---|");
    let oracles = [Oracle::PLAY, Oracle::NOISY];
    for (name, oracle) in
        ["cube-single", "cube-double"].into_iter().flat_map(|name| oracles.map(|oracle| (name, oracle)))
    {
        let mut scene = ManipScene::embedded(name)?;
        if let Some(substeps) = substeps {
            scene.physics.substeps = substeps;
        }
        let task = Arc::new(ManipTask::of_scene(scene, ServoRobot::ur5e()?, 1)?.in_play(oracle));
        let (mut distances, mut lengths) = (Vec::new(), Vec::new());
        let (mut steps, mut seed) = (0, 0);
        let start = Instant::now();
        while distances.len() < targets {
            let mut arena = SimArena::new(task.clone(), Robot::panda()?, seed);
            let mut memory = ExpertMemory::default();
            let mut last: Option<(u32, Target, u32)> = None;
            seed += 1;
            loop {
                let action = arena.expert(&mut memory).unwrap();
                let (count, target) = memory.target().unwrap();
                if let Some((before, Target::Cube { index, position, .. }, begin)) = last
                    && before != count
                {
                    distances.push(arena.manip().unwrap().state().cubes[index].translation.distance(position));
                    lengths.push(f64::from(arena.steps() - begin));
                }
                if last.is_none_or(|(before, ..)| before != count) {
                    last = Some((count, target, arena.steps()));
                }
                steps += 1;
                if arena.step(&action)?.is_end() {
                    break;
                }
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        distances.truncate(targets);
        lengths.truncate(targets);
        let success = distances.iter().filter(|distance| **distance <= 0.04).count();
        distances.sort_by(f64::total_cmp);
        println!(
            "| {name} | {oracle:?} | {targets} | {:.1} % | {:.1} | {:.1} mm | {:.0} |",
            100.0 * success as f64 / targets as f64,
            lengths.iter().sum::<f64>() / targets as f64,
            1e3 * distances[targets / 2],
            f64::from(steps) / seconds,
        );
    }
    Ok(())
}
