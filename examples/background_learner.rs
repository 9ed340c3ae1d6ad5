//! A learner beside the frames: the world runs at 60 frames per second while an arm learns in it.
//!
//! ```text
//! cargo run --release --example background_learner                    60 seconds for each way to learn
//! cargo run --release --example background_learner -- 20 frames.png   20 seconds each, with a chart
//! ```
//!
//! It measures how long a frame's own work takes without learning, with updates inside the tick, and with updates in the
//! background. Nothing is drawn, so that the numbers are about learning alone.

#![allow(clippy::print_stdout, reason = "an example shows its result")]

use std::time::{Duration, Instant};

use bevy::prelude::*;
use onestep::{
    learn::Execution,
    prelude::*,
    record::plot::{Chart, Mark, Series, draw},
};

/// Frames for each second.
const FRAME_RATE: f64 = 60.0;

/// An arm that acts by a new policy at its own 20 control steps per second; with `execution` it learns, too.
fn app(execution: Option<Execution>, config: MvpConfig) -> App {
    let mut app = App::new();
    let plugins = OnestepPlugins.set(SimPlugin { task: "lift".to_owned(), arenas: 1, ..default() }).set(PolicyPlugin {
        source: PolicySource::Create { algorithm: AlgorithmConfig::Mvp(config), compute: Compute::Cpu },
        keep_candidates: true,
        ..default()
    });
    app.add_plugins(MinimalPlugins);
    match execution {
        // This one line is all that it takes.
        Some(execution) => app.add_plugins(
            plugins.set(LearnerPlugin { schedule: LearnerSchedule { start_training: 40, execution, ..default() } }),
        ),
        None => app.add_plugins(plugins.disable::<LearnerPlugin>()),
    };
    app.finish();
    app.cleanup();
    app
}

/// Runs `app` in real time; returns the milliseconds that each frame's work took, and the updates that were made.
fn run(app: &mut App, duration: Duration) -> (Vec<f64>, u64) {
    /// The first episode's steps and the first updates are not measured.
    const WARM_UP: Duration = Duration::from_secs(4);
    let frame = Duration::from_secs_f64(1.0 / FRAME_RATE);
    let mut times = Vec::new();
    let start = Instant::now();
    let mut next = start;
    let mut updates_before = 0;
    while start.elapsed() < WARM_UP + duration {
        let begin = Instant::now();
        app.update();
        if start.elapsed() >= WARM_UP {
            times.push(begin.elapsed().as_secs_f64() * 1e3);
        } else {
            updates_before = updates(app);
        }
        // A frame that took too long makes the next one late, not two of them short.
        next = (next + frame).max(Instant::now());
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    (times, updates(app) - updates_before)
}

fn updates(app: &App) -> u64 {
    app.world().get_resource::<LearnerState>().map_or(0, |state| state.updates)
}

/// The value below which `share` of the sorted `times` lie.
fn percentile(times: &[f64], share: f64) -> f64 {
    let place = (share * times.len().saturating_sub(1) as f64).round() as usize;
    times.get(place).copied().unwrap_or(f64::NAN)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let seconds: u64 = arguments.next().map_or(Ok(60), |text| text.parse())?;
    let ways = [
        ("without learning", None),
        ("updates inside the tick", Some(Execution::Inline)),
        ("updates in the background", Some(Execution::Background)),
    ];
    let mut series = Vec::new();
    // The longest frames of all would leave no room for the others: what is above the greatest p99 is left out.
    let mut most = 0.0f64;
    for (color, (name, execution)) in ways.into_iter().enumerate() {
        let (mut times, updates) = run(&mut app(execution, MvpConfig::small()), Duration::from_secs(seconds));
        times.sort_by(f64::total_cmp);
        println!(
            "{name:<26}{:>6} frames {updates:>6} updates; a frame's work: p50 {:.2} ms, p90 {:.2} ms, p99 {:.2} ms, \
             longest {:.2} ms",
            times.len(),
            percentile(&times, 0.5),
            percentile(&times, 0.9),
            percentile(&times, 0.99),
            percentile(&times, 1.0),
        );
        most = most.max(1.05 * percentile(&times, 0.99));
        let points = (0..=1000).map(|k| f64::from(k) / 1000.0).map(|share| (100.0 * share, percentile(&times, share)));
        series.push(Series { name: name.to_owned(), color: Some(color), mark: Mark::Line(points.collect()) });
    }
    if let Some(path) = arguments.next() {
        for series in &mut series {
            if let Mark::Line(points) = &mut series.mark {
                points.retain(|(_, millis)| *millis <= most);
            }
        }
        let chart = Chart {
            title: "work in a frame at 60 frames per second, one arm, CPU, preset small".to_owned(),
            x_label: "share of all frames, %".to_owned(),
            y_label: "milliseconds".to_owned(),
            y_range: Some(0.0..most),
            series,
            ..Chart::default()
        };
        draw(&[chart], 1, 640, 400)?.write_png(path.as_ref())?;
    }
    Ok(())
}

#[test]
fn frames_go_on_while_it_learns() {
    let mut app = app(Some(Execution::Background), MvpConfig::small());
    for _ in 0..120 {
        onestep::tick(app.world_mut());
    }
    onestep::learn::settle(app.world_mut());
    let state = app.world().resource::<LearnerState>();
    assert!(state.fault.is_none());
    assert_eq!((state.env_steps, state.updates), (120, 81));
}

/// With updates that take far longer than a tick, ticks return while updates are under way; inside the tick none does.
#[test]
fn no_tick_waits_for_a_slow_learner() {
    let slow = || MvpConfig { batch_size: 2048, ..MvpConfig::small() };
    // So many ticks that two updates are due at least; more would only take longer.
    let made = |execution| {
        let mut app = app(Some(execution), slow());
        let mut due_and_made = (0, 0);
        for _ in 0..43 {
            onestep::tick(app.world_mut());
            let state = app.world().resource::<LearnerState>();
            assert!(state.fault.is_none());
            due_and_made = (state.env_steps.saturating_sub(39), state.updates);
        }
        due_and_made
    };
    assert_eq!(made(Execution::Inline), (4, 4));
    let (due, updates) = made(Execution::Background);
    assert!(due == 4 && updates < due, "after {due} were due, {updates} updates were waited for");
}
