//! The commands that judge tasks and agents: `check`, `eval`, `bench tasks`, `bench arenas`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::process::Command;

use onestep::{
    config::RunConfig,
    run::{Baseline, Role, evaluate_role},
};
use serde_json::Value;

#[track_caller]
fn says(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_onestep")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&says(arguments)).unwrap()
}

#[test]
fn a_task_is_checked_with_a_table_and_an_exit_code() {
    let said = says(&["check", "lift", "reacher", "--quick"]);
    for part in ["lift", "reacher", "✔ determinism", "✔ neighbours", "– expert", "time of  reset"] {
        assert!(said.contains(part), "`{part}` is not in: {said}");
    }
    assert!(!said.contains('✘'), "{said}");
    let reports = json(&["check", "reacher", "--quick", "--json"]);
    assert_eq!((&reports[0]["task"], &reports[0]["checks"][3]["verdict"]), (&"reacher".into(), &"passed".into()));
}

#[test]
fn agents_that_learned_nothing_are_evaluated_beside_each_other() {
    let arguments = ["eval", "--agent", "zero,random,expert", "lift", "--episodes", "4", "--seeds", "1,2,3", "--json"];
    let report = json(&arguments);
    let all = report["evaluations"].as_array().unwrap();
    assert_eq!(all.len(), 3);
    for (evaluated, (agent, successes)) in all.iter().zip([("zero", 0), ("random", 0), ("expert", 12)]) {
        assert_eq!((&evaluated["agent"], &evaluated["task"]), (&agent.into(), &"lift".into()));
        let summary = &evaluated["summary"];
        assert_eq!((&summary["episodes"], &summary["successes"]), (&12.into(), &successes.into()), "{agent}");
        let seeds = evaluated["seeds"].as_array().unwrap();
        assert_eq!(seeds.iter().map(|seed| seed["seed"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3]);
        for seed in seeds {
            let rows = seed["report"]["rows"].as_array().unwrap();
            // Whole episodes, of seeds that training never has.
            assert!(rows.iter().all(|row| row["seed"].as_u64().unwrap() >> 63 == 1));
            assert!(rows.iter().all(|row| row["terminated"].as_bool() != row["truncated"].as_bool()));
        }
    }
    let said = says(&["eval", "--agent", "expert,zero", "lift", "--episodes", "3", "--seeds", "1,2"]);
    for part in ["95 % interval", "over seeds", "expert    100.0 %", "zero        0.0 %", "100.0 % ± 0.0 %"] {
        assert!(said.contains(part), "`{part}` is not in: {said}");
    }
}

#[test]
fn an_evaluation_does_not_depend_on_the_number_of_arenas() {
    for baseline in [Baseline::Random, Baseline::Expert] {
        let report = |arenas| {
            let mut config = RunConfig::preset("lift", "small").unwrap();
            config.evaluation.arenas = arenas;
            let mut report = evaluate_role(&config, &Role::Baseline(baseline), 5, |_, _| Ok(())).unwrap();
            report.rows.iter_mut().for_each(|row| row.agent = 0);
            report
        };
        assert_eq!(report(1), report(4), "{baseline:?}");
    }
}

#[test]
fn speed_is_measured_with_sensible_figures() {
    let speeds = json(&["bench", "tasks", "--of", "lift,reacher", "--secs", "0.05", "--json"]);
    for (speed, (name, has_expert)) in speeds.as_array().unwrap().iter().zip([("lift", true), ("reacher", false)]) {
        assert_eq!(speed["task"], name);
        assert!(speed["random_steps_per_sec"].as_f64().unwrap() > 10.0, "{speed}");
        assert_eq!(speed["expert_steps_per_sec"].is_number(), has_expert, "{speed}");
        assert!(speed["reset_ms"].as_f64().unwrap() > 0.0, "{speed}");
    }
    let speeds = json(&["bench", "arenas", "reacher", "--of", "1,3", "--secs", "0.05", "--json"]);
    assert_eq!((&speeds[0]["arenas"], &speeds[1]["arenas"]), (&1.into(), &3.into()));
    assert!(speeds[1]["steps_per_sec"].as_f64().unwrap() > 10.0);
}
