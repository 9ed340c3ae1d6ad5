//! A trained policy as the controller of a robot: no learner, no training, only the networks of a finished run.
//!
//! ```text
//! cargo run --release -- train lift
//! cargo run --release --example controller -- runs/lift-mvp-seed0
//! ```

#![allow(clippy::print_stdout, reason = "an example shows its result")]

use std::path::Path;

use bevy::prelude::*;
use onestep::{
    folder::RunFolder,
    learn::{checkpoint, prepare},
    prelude::*,
    record::evaluation::evaluate,
};

/// An app in which `arenas` arms act, with networks of the same form as the run's.
fn robots(config: &RunConfig, arenas: u32) -> App {
    let mut app = App::new();
    app.add_plugins(MinimalPlugins).add_plugins(
        OnestepPlugins
            .set(SimPlugin { task: config.task.clone(), arenas, ..default() })
            .set(PolicyPlugin {
                source: PolicySource::Create { algorithm: config.algorithm.clone(), compute: Compute::Cpu },
                ..default()
            })
            .disable::<LearnerPlugin>(),
    );
    app.finish();
    app.cleanup();
    app
}

/// Gives them the weights of a checkpoint.
fn load(app: &mut App, checkpoint: &Path) -> Result<(), onestep::learn::LearnError> {
    let policy = prepare(app)?;
    checkpoint::load_weights(&policy, checkpoint)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let run = std::env::args().nth(1).unwrap_or_else(|| "runs/lift-mvp-seed0".to_owned());
    let (folder, config) = RunFolder::open(Path::new(&run))?;
    let mut app = robots(&config, 4);
    load(&mut app, &folder.existing_checkpoint()?)?;
    // A robot of your own has no `SimPlugin`: its systems write `Observation` and read `Action`, 20 times a second.
    let report = evaluate(&mut app, &(1_000..1_008).collect::<Vec<u64>>())?;
    for row in &report.rows {
        println!(
            "seed {}: {} after {} control steps",
            row.seed,
            if row.success { "success" } else { "failure" },
            row.steps
        );
    }
    Ok(())
}

#[test]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
fn a_policy_from_disk_acts_as_the_one_that_was_saved() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    let config = RunConfig::preset("lift", "small").unwrap();
    let actions = |app: &mut App| -> Vec<f32> {
        for _ in 0..3 {
            onestep::tick(app.world_mut());
        }
        let mut agents = app.world_mut().query::<&Action>();
        agents.iter(app.world()).flat_map(|action| action.values().to_vec()).collect()
    };
    let mut trained = robots(&config, 2);
    prepare(&mut trained).unwrap();
    checkpoint::save(trained.world_mut(), &path).unwrap();
    let wanted = actions(&mut trained);
    let mut other = robots(&config, 2);
    load(&mut other, &path).unwrap();
    assert_eq!(actions(&mut other), wanted);
}
