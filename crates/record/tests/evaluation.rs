//! Whole episodes from given seeds, counted once each.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use common::{MAX_STEPS, toy_app};
use onestep_agent::prelude::*;
use onestep_record::{
    evaluation::{EvaluationError, EvaluationReport, Interval, evaluate, evaluate_watched},
    tick,
};

#[test]
fn each_seed_is_played_whole_and_reported_in_order() {
    let seeds = [5, 1, 20, 21, 7, 99, 3];
    for agents in [1, 3, 10] {
        let report = evaluate(&mut toy_app(agents), &seeds).unwrap();
        assert_eq!(report.episodes, seeds.len());
        assert_eq!(report.rows.iter().map(|row| row.seed).collect::<Vec<_>>(), seeds);
        for row in &report.rows {
            let reached = row.seed <= u64::from(MAX_STEPS);
            assert_eq!(u64::from(row.steps), row.seed.min(u64::from(MAX_STEPS)), "{row:?}");
            assert_eq!((row.success, row.terminated, row.truncated), (reached, reached, !reached), "{row:?}");
            assert_eq!(row.return_sum, -f64::from(row.steps) + f64::from(u8::from(reached)));
        }
        assert_eq!(report.successes, 5);
        assert!((report.success_rate - 5.0 / 7.0).abs() < 1e-12);
        assert!((report.mean_steps - (5 + 1 + 20 + 20 + 7 + 20 + 3) as f64 / 7.0).abs() < 1e-12);
    }
}

#[test]
fn episodes_under_way_do_not_count_and_the_app_can_evaluate_again() {
    let mut app = toy_app(2);
    for _ in 0..7 {
        tick(app.world_mut());
    }
    let first = evaluate(&mut app, &[4, 9, 2]).unwrap();
    let second = evaluate(&mut app, &[4, 9, 2]).unwrap();
    assert_eq!(first, second);
    assert_eq!(first.rows.iter().map(|row| row.steps).collect::<Vec<_>>(), [4, 9, 2]);
    let modes: Vec<AgentMode> = app.world_mut().query::<&AgentMode>().iter(app.world()).copied().collect();
    assert_eq!(modes, [AgentMode::Policy; 2]);
}

#[test]
fn what_cannot_be_evaluated_is_said() {
    assert_eq!(evaluate(&mut toy_app(1), &[]), Err(EvaluationError::NoSeeds));
    assert_eq!(evaluate(&mut toy_app(0), &[1]), Err(EvaluationError::NoAgents));
    let mut twins = toy_app(2);
    let mut query = twins.world_mut().query::<&mut Agent>();
    query.iter_mut(twins.world_mut()).for_each(|mut agent| agent.0 = 4);
    assert_eq!(evaluate(&mut twins, &[1]), Err(EvaluationError::SharedNumber { agent: 4 }));
}

#[test]
fn a_world_that_never_ends_is_an_error_and_not_a_hang() {
    let mut app = toy_app(1);
    // Something else keeps putting the agent to sleep.
    app.add_systems(
        bevy::app::FixedUpdate,
        (|mut modes: bevy::ecs::system::Query<&mut AgentMode>| {
            modes.iter_mut().for_each(|mut mode| *mode = AgentMode::Idle)
        })
        .in_set(AgentSystems::Observe),
    );
    use bevy::ecs::schedule::IntoScheduleConfigs;
    let error = evaluate(&mut app, &[30]).unwrap_err();
    assert!(matches!(error, EvaluationError::Unfinished { finished: 0, expected: 1, .. }), "{error}");
}

#[test]
fn the_watcher_sees_progress_and_can_stop() {
    let mut seen = Vec::new();
    evaluate_watched(&mut toy_app(1), &[2, 2], |_, done| {
        seen.push(done);
        Ok(())
    })
    .unwrap();
    assert_eq!(seen, [0, 1, 1, 2]);
    let stopped =
        evaluate_watched(&mut toy_app(1), &[2, 2], |_, done| if done == 1 { Err("enough".into()) } else { Ok(()) });
    assert_eq!(stopped, Err(EvaluationError::Stopped { reason: "enough".into() }));
}

#[test]
fn the_interval_is_the_one_in_the_books() {
    let check = |successes, trials, low: f64, high: f64| {
        let interval = Interval::wilson(successes, trials);
        assert!((interval.low - low).abs() < 5e-4 && (interval.high - high).abs() < 5e-4, "{interval:?}");
    };
    check(50, 50, 0.9287, 1.0);
    check(0, 50, 0.0, 0.0713);
    check(48, 50, 0.8654, 0.9890);
    check(1, 2, 0.0945, 0.9055);
    check(0, 0, 0.0, 1.0);
}

#[test]
fn a_report_comes_back_from_json() {
    let report = evaluate(&mut toy_app(3), &[5, 30, (1 << 63) | 12]).unwrap();
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<EvaluationReport>(&text).unwrap(), report);
}
