//! Every plugin works alone, in an app that has nothing else.

use bevy::prelude::*;
use onestep_agent::{AgentPlugin, StageTimesPlugin};
use onestep_learn::{LearnerPlugin, PolicyPlugin};
use onestep_record::{
    baseline::BaselinePlugin, demonstrations::DemonstrationPlugin, episodes::EpisodeRecorderPlugin,
    recorder::RecorderPlugin,
};
use onestep_sim::{SimPlugin, visual::SimVisualPlugin};

use crate::{
    CandidatesPlugin, FilmPlugin, HumanPlugin, KeysPlugin, OrbitCameraPlugin, PacePlugin, PanelPlugin, SmoothPlugin,
};

/// Each with its name and what adds it.
macro_rules! table {
    ($($plugin:expr),* $(,)?) => {
        [$((stringify!($plugin), (|app: &mut App| _ = app.add_plugins($plugin)) as fn(&mut App))),*]
    };
}

#[test]
fn every_plugin_works_alone() {
    let plugins = table![
        AgentPlugin::default(),
        StageTimesPlugin,
        SimPlugin::default(),
        SimVisualPlugin::default(),
        PolicyPlugin::default(),
        LearnerPlugin::default(),
        BaselinePlugin::default(),
        DemonstrationPlugin,
        EpisodeRecorderPlugin::default(),
        RecorderPlugin::default(),
        CandidatesPlugin::default(),
        FilmPlugin::default(),
        HumanPlugin,
        KeysPlugin,
        OrbitCameraPlugin,
        PacePlugin::default(),
        PanelPlugin::default(),
        SmoothPlugin,
    ];
    for (name, add) in plugins {
        let mut app = App::new();
        app.add_plugins(MinimalPlugins);
        add(&mut app);
        app.finish();
        app.cleanup();
        let runs = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..3 {
                app.update();
                // Without a system in it, it does not exist.
                _ = app.world_mut().try_run_schedule(FixedUpdate);
            }
        }));
        assert!(runs.is_ok(), "{name} does not work alone");
    }
}
