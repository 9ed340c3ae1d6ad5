//! The commands that judge tasks, agents and algorithms: `check`, `eval`, `bench`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use onestep::{
    config::{ConfigSources, PRESETS, RunConfig, Setting},
    folder::EvaluationKind,
    learn::{AlgorithmConfig, Replay},
    run::{Baseline, Role, evaluate_role},
    train::Trainer,
};
use serde_json::Value;

fn onestep(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_onestep")).args(arguments).output().unwrap()
}

/// Runs the command, which must fail and say all `parts`.
#[track_caller]
fn refuses(arguments: &[&str], parts: &[&str]) {
    let output = onestep(arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && !said.contains("panicked"), "{said}");
    for part in parts {
        assert!(said.contains(part), "`{part}` is not in: {said}");
    }
}

#[track_caller]
fn says(arguments: &[&str]) -> String {
    let output = onestep(arguments);
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

/// Settings of runs that take a second, for every algorithm.
const QUICK: [&str; 18] = [
    "--compute",
    "cpu",
    "--demonstrations",
    "2",
    "--offline-updates",
    "4",
    "--online-steps",
    "4",
    "--set",
    "algorithm.actor_hidden=[8]",
    "--set",
    "algorithm.batch_size=4",
    "--set",
    "evaluation.episodes=1",
    "--set",
    "demonstrations.action_noise_std=0.0",
    "--set",
    "learner.start_training=0",
];

#[test]
fn algorithms_are_compared_and_only_what_is_missing_is_done_again() {
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("compared");
    let command = ["bench", "algorithms", "lift", "--of", "mvp,bc-flow", "--seeds", "0,1", "--out"];
    let command: Vec<&str> = command.into_iter().chain([out.to_str().unwrap()]).chain(QUICK).collect();
    says(&command);

    // Name and seeds of each row, and what the runs have reached: the times behind it are never the same.
    let rows = || -> Vec<Vec<String>> {
        let table = fs::read_to_string(out.join("table.md")).unwrap();
        let rows = table.lines().filter(|line| line.starts_with("| `"));
        rows.map(|row| row.split('|').map(|cell| cell.trim().to_owned()).skip(1).take(5).collect()).collect()
    };
    let first = rows();
    let heads: Vec<[&str; 2]> = first.iter().map(|row| [row[0].as_str(), row[1].as_str()]).collect();
    assert_eq!(heads, [["`mvp`", "2"], ["`bc-flow`", "2"]]);
    #[cfg(feature = "render")]
    assert!(fs::read(out.join("curves.png")).unwrap().starts_with(b"\x89PNG"));

    // Runs can be set beside each other without training, too.
    let [some, none] = ["some", "none"].map(|name| place.path().join(name).to_str().unwrap().to_owned());
    let run = |name: &str| out.join(name).to_str().unwrap().to_owned();
    let (one, two, other) = (run("mvp-seed0"), run("mvp-seed1"), run("bc-flow-seed0"));
    let said = says(&["bench", "runs", &one, &two, &other, "--out", &some]);
    assert!(said.contains("| `lift` | `mvp` | 2 |") && said.contains("| `lift` | `bc-flow` | 1 |"), "{said}");
    assert!(fs::read_to_string(format!("{some}/table.md")).unwrap().contains("at the end"));
    // Success in per cent if there is any, and the return if there is none.
    let is_solved = first.iter().any(|row| row[3] != "0 %");
    assert_eq!(said.lines().any(|line| line.starts_with("| `lift`") && line.contains(" %")), is_solved, "{said}");
    refuses(&["bench", "runs", &one, &none, "--out", &some], &["none"]);

    let runs = ["mvp-seed0", "mvp-seed1", "bc-flow-seed0", "bc-flow-seed1"];
    let files = |run: &str| ["metrics.csv", "evaluations.json"].map(|name| fs::read(out.join(run).join(name)).unwrap());
    let before = runs.map(files);
    says(&command);
    assert!(runs.map(files) == before);
    assert_eq!(rows(), first);

    // A run without evaluations is taken up from its checkpoint, and judged again to the same result.
    let evaluations = |bytes: &[u8]| -> Vec<onestep::folder::Evaluation> { serde_json::from_slice(bytes).unwrap() };
    let last = |bytes: &[u8]| evaluations(bytes).pop().unwrap();
    fs::remove_file(out.join("bc-flow-seed1/evaluations.json")).unwrap();
    let said = says(&command);
    assert!(said.contains("run 4 of 4: bc-flow, seed 1"), "{said}");
    let after = runs.map(files);
    assert!(after[..3] == before[..3]);
    assert!(after[3][0] != before[3][0], "nothing was done again");
    assert_eq!(last(&after[3][1]).kind, EvaluationKind::Final);
    assert_eq!(last(&after[3][1]), last(&before[3][1]));

    // Other settings are not mixed into what is there, and no run becomes shorter.
    let with = |option: &str, value: &'static str| -> Vec<&str> {
        let at = command.iter().position(|word| *word == option).unwrap() + 1;
        command.iter().enumerate().map(|(index, word)| if index == at { value } else { *word }).collect()
    };
    refuses(&with("--offline-updates", "5"), &["mvp-seed0", "`learner.offline_updates` is 4 there, 5 here", "--out"]);
    refuses(&with("--online-steps", "3"), &["mvp-seed0", "`learner.online_steps` is 4 there, 3 here", "--out"]);
    assert!(runs.map(files) == after);

    // But one becomes longer.
    says(&with("--online-steps", "6"));
    for run in runs {
        let evaluations = evaluations(&files(run)[1]);
        let ends = evaluations.iter().filter(|evaluation| evaluation.kind == EvaluationKind::Final);
        let steps: Vec<u64> = ends.map(|evaluation| evaluation.env_steps).collect();
        assert!(steps.len() == 1 && steps[0] >= 6, "{run} ended at {steps:?}");
    }
}

#[test]
fn a_trained_policy_is_evaluated_with_other_settings_of_acting() {
    let place = tempfile::tempdir().unwrap();
    let run = place.path().join("run");
    let run = run.to_str().unwrap();
    let tiny = [
        "algorithm.actor_hidden=[8]",
        "algorithm.critic_hidden=[8]",
        "algorithm.batch_size=4",
        "arenas=1",
        "learner.random_steps=5",
        "learner.start_training=10",
        "evaluation.episodes=2",
    ];
    let command =
        ["train", "reacher", "--algorithm", "fpmd-m", "--compute", "cpu", "--online-steps", "30", "--out", run];
    let command: Vec<&str> = command.into_iter().chain(tiny.iter().flat_map(|setting| ["--set", setting])).collect();
    says(&command);
    let saved = fs::read(Path::new(run).join("config.toml")).unwrap();

    let mean_return = |settings: &[&str]| {
        let options = settings.iter().flat_map(|setting| ["--set", setting]);
        let report = json(&["eval", run, "--json"].into_iter().chain(options).collect::<Vec<_>>());
        report["evaluations"][0]["summary"]["mean_return"].as_f64().unwrap()
    };
    let usual = mean_return(&[]);
    assert_eq!(mean_return(&["algorithm.acting_steps=1"]), usual);
    let twenty = mean_return(&["algorithm.acting_steps=20"]);
    assert!(twenty != usual && twenty != mean_return(&["algorithm.acting_steps=20", "algorithm.candidates=1"]));
    assert_eq!(fs::read(Path::new(run).join("config.toml")).unwrap(), saved);

    // What would change the networks, or nothing at all, is refused with what can be changed.
    let can = "algorithm.candidates, algorithm.base_noise, algorithm.acting_steps";
    for setting in ["algorithm.actor_hidden=[9]", "algorithm.flow_steps=3", "algorithm.name=sac", "seed=3", "acting=3"]
    {
        let key = format!("`{}`", setting.split_once('=').unwrap().0);
        refuses(&["eval", run, "--set", setting], &[&key, "`fpmd-m`", can]);
    }
    refuses(&["eval", run, "--set", "algorithm.acting_steps=0"], &["acting_steps", "at least 1"]);
    refuses(&["eval", run, "--set", "algorithm.acting_steps"], &["--set", "KEY=VALUE"]);
    refuses(&["eval", "reacher", "--agent", "zero", "--set", "algorithm.candidates=1"], &["--set", "--agent"]);
}

#[test]
fn a_batch_larger_than_the_replay_trains() {
    let settings = [
        ("compute", "cpu"),
        ("demonstrations.episodes", "1"),
        ("demonstrations.action_noise_std", "0.0"),
        ("algorithm.actor_hidden", "[8]"),
        ("algorithm.critic_hidden", "[8]"),
        ("algorithm.batch_size", "1000"),
        ("learner.offline_updates", "3"),
        ("learner.online_steps", "4"),
        ("learner.start_training", "0"),
        ("evaluation.episodes", "1"),
    ];
    let settings = settings.into_iter().map(|(key, value)| Setting::new("--set", key, value)).collect();
    let sources = ConfigSources { task: Some("lift".to_owned()), settings, ..ConfigSources::default() };
    let mut trainer = Trainer::new(sources.resolve().unwrap(), None, &mut ()).unwrap();
    trainer.run(&mut ()).unwrap();
    assert!(trainer.position().updates > 3, "{:?}", trainer.position());
    let transitions = trainer.app_mut().world().resource::<Replay>().len();
    assert!(transitions < 1_000, "{transitions}");
}

#[test]
fn the_ablation_differs_from_its_algorithm_in_the_constraint_alone() {
    for preset in PRESETS {
        let resolve = |name: &str| {
            let sources = ConfigSources {
                task: Some("lift".to_owned()),
                preset: Some(preset.name.to_owned()),
                settings: vec![Setting::new("--algorithm", "algorithm.name", name)],
                ..ConfigSources::default()
            };
            sources.resolve().unwrap().algorithm
        };
        let (AlgorithmConfig::Mvp(mut whole), AlgorithmConfig::MvpNoIvc(part)) =
            (resolve("mvp"), resolve("mvp-no-ivc"))
        else {
            panic!()
        };
        assert_eq!((whole.ivc_weight, part.ivc_weight), (1.0, 0.0));
        whole.ivc_weight = 0.0;
        assert_eq!(part, whole, "{}", preset.name);
    }
    let said = says(&["list"]);
    assert!(said.contains("\n  mvp-no-ivc  the same without its constraint"), "{said}");
}
