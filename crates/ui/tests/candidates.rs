//! The candidates of a policy can be seen, and looking at them changes nothing.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod reference;
#[path = "../../../tests/rendering/mod.rs"]
mod rendering;
#[path = "../../../tests/skip/mod.rs"]
mod skip;

use bevy::prelude::*;
use onestep_learn::{AlgorithmConfig, CandidateSet, Compute, PolicyPlugin, PolicySource};
use onestep_record::{
    evaluation::evaluate,
    picture::Frame,
    tick,
    video::{VideoPlugin, capture},
};
use onestep_sim::{
    Arena, SimPlugin,
    visual::{SimVisualPlugin, View, task_view},
};
use onestep_ui::CandidatesPlugin;

fn add_world(app: &mut App) {
    let source = PolicySource::Create { algorithm: AlgorithmConfig::default(), compute: Compute::Cpu };
    app.add_plugins((SimPlugin::default(), PolicyPlugin { source, candidates: Some(16), keep_candidates: true }));
}

/// The scene after three steps, with or without candidates, and the hash of the simulation.
fn picture(with_candidates: bool) -> (Frame, u64) {
    let mut app = App::new();
    app.add_plugins(VideoPlugin { width: 480, height: 360 });
    add_world(&mut app);
    app.add_plugins(SimVisualPlugin::default());
    if with_candidates {
        app.add_plugins(CandidatesPlugin::default());
    }
    app.world_mut().spawn(task_view("lift", View::Close));
    app.finish();
    app.cleanup();
    for _ in 0..3 {
        capture(&mut app).unwrap();
        tick(app.world_mut());
    }
    let set = app.world_mut().query::<&CandidateSet>().single(app.world()).unwrap();
    assert_eq!(set.q.len(), 16);
    let frame = capture(&mut app).unwrap();
    let hash = app.world_mut().query::<&Arena>().single(app.world()).unwrap().sim().hash();
    (frame, hash)
}

#[test]
fn candidates_are_drawn_and_change_nothing() {
    if !rendering::can_render() {
        return;
    }
    let (plain, plain_hash) = picture(false);
    let (drawn, drawn_hash) = picture(true);
    assert_eq!(plain_hash, drawn_hash);
    let changed = plain.rgb.chunks_exact(3).zip(drawn.rgb.chunks_exact(3)).filter(|(a, b)| a != b).count();
    // Lines around the hand, not a new picture.
    assert!((200..480 * 360 / 4).contains(&changed), "{changed} pixels differ");
    reference::assert_like(&drawn, "candidates");
    let found = reference::difference(&plain, "candidates");
    assert!(!reference::is_like(&plain, "candidates"), "without candidates it passes, too: {found:?}");
}

#[test]
fn no_renderer_no_candidates_no_harm() {
    let mut app = App::new();
    app.add_plugins(MinimalPlugins);
    add_world(&mut app);
    app.add_plugins((SimVisualPlugin::default(), CandidatesPlugin::default()));
    assert_eq!(evaluate(&mut app, &[1]).unwrap().episodes, 1);
}
