//! How many control steps a second the simulation makes: task by task, and for growing numbers of arenas.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bevy::prelude::*;
use onestep_agent::AgentMode;
use onestep_record::baseline::{BaselinePlugin, random_action};
use onestep_sim::{
    ExpertNoise, Robot, Script, SimArena, SimError, SimPlugin, Task,
    memory::{require_memory, resident_bytes},
};
use serde::Serialize;

use crate::run::Baseline;

/// How fast one arena of a task is, on one core.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskSpeed {
    /// Name of the task.
    pub task: String,
    /// Control steps a second with uniformly random actions, resets left out: the median over the runs.
    pub random_steps_per_sec: f64,
    /// The same with the scripted expert; its own time is left out, too. None for a task without one.
    pub expert_steps_per_sec: Option<f64>,
    /// Milliseconds of a reset: the median.
    pub reset_ms: f64,
}

/// How fast some arenas are together, on all cores.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ArenasSpeed {
    /// How many.
    pub arenas: u32,
    /// Control steps a second of all of them, with everything: agents, resets.
    pub steps_per_sec: f64,
    /// Bytes by which the process has grown since before the first world; none if the system does not tell.
    pub bytes: Option<u64>,
}

/// Runs over which a median is taken.
const RUNS: u32 = 7;
/// Control steps before anything counts.
const WARM_UP: u32 = 50;

/// Measures one arena, `time` with each of the two agents.
///
/// # Errors
/// [`SimError`] when a state is not finite.
pub fn measure_task(task: &Arc<dyn Task>, robot: &Arc<Robot>, time: Duration) -> Result<TaskSpeed, SimError> {
    let mut resets = Vec::new();
    let random_steps_per_sec = steps_per_sec(task, robot, Baseline::Random, time, &mut resets)?;
    let expert_steps_per_sec =
        task.has_expert().then(|| steps_per_sec(task, robot, Baseline::Expert, time, &mut resets)).transpose()?;
    // An episode may be longer than the measurement.
    let mut arena = SimArena::new(task.clone(), robot.clone(), 0);
    for seed in 0..u64::from(RUNS) {
        timed(&mut resets, || arena.reset(seed));
    }
    let name = task.name().to_owned();
    Ok(TaskSpeed { task: name, random_steps_per_sec, expert_steps_per_sec, reset_ms: 1e3 * median(resets) })
}

/// Measures a world of `arenas` arenas for `time`, with random actions or the expert's. `before` are the bytes of the
/// process before the first world.
///
/// # Errors
/// [`SimError`] for a task without an expert, or for more arenas than memory.
pub fn measure_arenas(
    task: &Arc<dyn Task>,
    arenas: u32,
    agent: Baseline,
    time: Duration,
    before: Option<u64>,
) -> Result<ArenasSpeed, SimError> {
    let mode = if agent == Baseline::Expert { AgentMode::Scripted } else { AgentMode::Policy };
    let plugin = SimPlugin { custom_task: Some(task.clone()), arenas, mode, bodies: false, ..SimPlugin::default() };
    let (task, robot) = plugin.resolve()?;
    require_memory(&task, &robot, u64::from(arenas))?;
    let mut app = App::new();
    app.add_plugins((MinimalPlugins, plugin, BaselinePlugin { random: agent == Baseline::Random }));
    app.finish();
    app.cleanup();
    let world = app.world_mut();
    (0..WARM_UP.div_ceil(arenas.max(1)) + 1).for_each(|_| onestep_record::tick(world));
    // As many ticks in each run, however long they take.
    let start = Instant::now();
    onestep_record::tick(world);
    let ticks = (time.as_secs_f64() / start.elapsed().as_secs_f64().max(1e-9) / f64::from(RUNS)).clamp(1.0, 1e6) as u32;
    let rates = (0..RUNS).map(|_| {
        let start = Instant::now();
        (0..ticks).for_each(|_| onestep_record::tick(world));
        f64::from(ticks) * f64::from(arenas) / start.elapsed().as_secs_f64()
    });
    let steps_per_sec = median(rates.collect());
    let bytes = resident_bytes().zip(before).map(|(now, before)| now.saturating_sub(before));
    Ok(ArenasSpeed { arenas, steps_per_sec, bytes })
}

/// The median over the runs, each of a part of `time`.
fn steps_per_sec(
    task: &Arc<dyn Task>,
    robot: &Arc<Robot>,
    agent: Baseline,
    time: Duration,
    resets: &mut Vec<f64>,
) -> Result<f64, SimError> {
    let mut arena = SimArena::new(task.clone(), robot.clone(), 0);
    let mut script = Script::new(0);
    let mut action = vec![0.0; arena.spec().action.dim()];
    let mut step = |steps: &mut Vec<f64>| -> Result<(), SimError> {
        if agent == Baseline::Expert {
            action = script.act(&arena, &ExpertNoise::default()).unwrap_or_default();
        } else {
            random_action(arena.seed(), arena.steps(), &mut action);
        }
        if timed(steps, || arena.step(&action))?.is_end() {
            let seed = arena.seed() + 1;
            timed(resets, || arena.reset(seed));
            script = Script::new(seed);
        }
        Ok(())
    };
    for _ in 0..WARM_UP {
        step(&mut Vec::new())?;
    }
    let mut rates = Vec::new();
    for _ in 0..RUNS {
        let (start, mut steps) = (Instant::now(), Vec::new());
        while start.elapsed() < time / RUNS {
            step(&mut steps)?;
        }
        rates.push(steps.len() as f64 / steps.iter().sum::<f64>());
    }
    Ok(median(rates))
}

fn timed<T>(secs: &mut Vec<f64>, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let done = work();
    secs.push(start.elapsed().as_secs_f64());
    done
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
