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
use onestep_ui::{CandidatesPlugin, value_color};

fn add_world(app: &mut App) {
    let source = PolicySource::Create { algorithm: AlgorithmConfig::default(), compute: Compute::Cpu };
    app.add_plugins((SimPlugin::default(), PolicyPlugin { source, candidates: Some(16), keep_candidates: true }));
}

/// The scene after three steps, with or without candidates, the hash of the simulation, and the colour that the legend has
/// for the chosen candidate.
fn picture(with_candidates: bool) -> (Frame, u64, [u8; 3]) {
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
    let (low, high) = set.q.iter().fold((f32::MAX, f32::MIN), |(low, high), q| (low.min(*q), high.max(*q)));
    let color = value_color(set.q[set.chosen], low, high).to_srgba().to_u8_array_no_alpha();
    let frame = capture(&mut app).unwrap();
    let hash = app.world_mut().query::<&Arena>().single(app.world()).unwrap().sim().hash();
    (frame, hash, color)
}

/// Within the thick tube of the chosen candidate the picture has the legend's colour, but for the shade that makes it
/// round: neither light nor a tone curve change it.
fn assert_legend_holds(plain: &Frame, drawn: &Frame, legend: [u8; 3]) {
    let distance = |a: &[u8], b: [u8; 3]| a.iter().zip(b).map(|(a, b)| a.abs_diff(b)).max().unwrap();
    let pixels = plain.rgb.chunks_exact(3).zip(drawn.rgb.chunks_exact(3)).filter(|(a, b)| a != b);
    let near = pixels.filter(|(_, drawn)| distance(drawn, legend) <= 24).count();
    let nearest = drawn.rgb.chunks_exact(3).map(|pixel| distance(pixel, legend)).min().unwrap();
    assert!(nearest <= 8 && near >= 60, "legend {legend:?}: the nearest pixel is {nearest} away, {near} are near");
}

#[test]
fn candidates_are_drawn_and_change_nothing() {
    if !rendering::can_render() {
        return;
    }
    let (plain, plain_hash, _) = picture(false);
    let (drawn, drawn_hash, set_of_chosen) = picture(true);
    assert_eq!(plain_hash, drawn_hash);
    let changed = plain.rgb.chunks_exact(3).zip(drawn.rgb.chunks_exact(3)).filter(|(a, b)| a != b).count();
    // Lines around the hand, not a new picture.
    assert!((200..480 * 360 / 4).contains(&changed), "{changed} pixels differ");
    assert_legend_holds(&plain, &drawn, set_of_chosen);
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
