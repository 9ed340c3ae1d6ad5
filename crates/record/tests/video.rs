//! Videos show what happens, and recording changes nothing. Without a graphics driver the rendering tests say so and
//! pass; the checks of options need none.

#![cfg(feature = "render")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

#[path = "films_common/gifs.rs"]
mod gifs;
#[path = "../../../tests/rendering/mod.rs"]
mod rendering;
#[path = "../../../tests/skip/mod.rs"]
mod skip;

use std::{convert::Infallible, fs::File, path::Path};

use bevy::app::App;
use gifs::decode_gif;
use onestep_agent::AgentMode;
use onestep_record::{
    evaluation::evaluate,
    video::{RecordError, VideoOptions, record_rollout},
};
use onestep_sim::{
    Arena, SimPlugin,
    visual::{SimVisualPlugin, default_camera},
};
use rendering::can_render;

fn lift(app: &mut App) -> Result<(), Infallible> {
    app.add_plugins((SimPlugin { mode: AgentMode::Scripted, ..SimPlugin::default() }, SimVisualPlugin::default()));
    app.world_mut().spawn(default_camera());
    Ok(())
}

fn decode_png(path: &Path) -> (u32, u32, Vec<u8>) {
    let mut reader = png::Decoder::new(std::io::BufReader::new(File::open(path).unwrap())).read_info().unwrap();
    let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut rgb).unwrap();
    (info.width, info.height, rgb)
}

/// Mean and spread of the brightness: a picture of something is neither black nor all the same.
fn brightness(bytes: impl Iterator<Item = u8> + Clone) -> (f64, f64) {
    let count = bytes.clone().count() as f64;
    let mean = bytes.clone().map(f64::from).sum::<f64>() / count;
    (mean, (bytes.map(|b| (f64::from(b) - mean).powi(2)).sum::<f64>() / count).sqrt())
}

#[test]
fn a_video_has_every_frame_and_the_world_does_not_notice() {
    if !can_render() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let options = VideoOptions {
        width: 96,
        height: 72,
        every: 6,
        out: folder.path().join("lift.gif"),
        strip: Some(folder.path().join("strip.png")),
        strip_frames: 3,
        seeds: vec![11],
        ..VideoOptions::default()
    };
    let hash_of =
        |app: &App| app.world().iter_entities().find_map(|entity| Some(entity.get::<Arena>()?.sim().hash())).unwrap();

    let mut hash_with_video = None;
    let report = onestep_record::video::record_rollout_watched(&options, lift, |world, _| {
        let arena = world.iter_entities().find_map(|entity| entity.get::<Arena>());
        hash_with_video = arena.map(|arena| arena.sim().hash());
        Ok(())
    })
    .unwrap();

    // The first step, every sixth after it, and the last.
    let steps = u64::from(report.evaluation.rows[0].steps);
    assert_eq!(report.ticks, steps);
    assert_eq!(report.frames, (steps - 1) / 6 + 1 + u64::from((steps - 1) % 6 != 0));

    let gif = decode_gif(&options.out);
    assert_eq!((gif.width, gif.height, gif.frames.len() as u64), (96, 72, report.frames));
    for (number, frame) in gif.frames.iter().enumerate() {
        let (mean, spread) =
            brightness(frame.chunks_exact(4).flat_map(|pixel| pixel[..3].to_vec()).collect::<Vec<_>>().into_iter());
        assert!(mean > 40.0 && spread > 15.0, "frame {number} shows nothing: mean {mean}, spread {spread}");
    }
    for pair in gif.frames.windows(2) {
        let moved = pair[0].chunks_exact(4).zip(pair[1].chunks_exact(4)).filter(|(a, b)| a != b).count();
        assert!(moved > 20, "nothing moves: {moved} pixels");
        assert!(moved < 96 * 72 / 2, "everything moves: {moved} pixels");
    }
    let (width, height, rgb) = decode_png(options.strip.as_ref().unwrap());
    assert_eq!((width, height), (3 * 96 + 12, 72));
    assert!(brightness(rgb.into_iter()).1 > 15.0);

    let mut plain = App::new();
    plain.add_plugins(bevy::MinimalPlugins);
    lift_without_pictures(&mut plain);
    let without_video = evaluate(&mut plain, &options.seeds).unwrap();
    assert_eq!(without_video, report.evaluation);
    assert_eq!(Some(hash_of(&plain)), hash_with_video);
}

fn lift_without_pictures(app: &mut App) {
    app.add_plugins((SimPlugin { mode: AgentMode::Scripted, ..SimPlugin::default() }, SimVisualPlugin::default()));
}

#[test]
fn a_scene_that_cannot_be_seen_or_built_is_an_error() {
    if !can_render() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let options = VideoOptions { width: 32, height: 32, out: folder.path().join("a.png"), ..VideoOptions::default() };
    let error = record_rollout(&options, |_: &mut App| Ok::<(), Infallible>(())).unwrap_err();
    assert!(matches!(error, RecordError::NoCamera), "{error}");
    let error = record_rollout(&options, |_: &mut App| Err("no such task")).unwrap_err();
    assert_eq!(error.to_string(), "the scene cannot be built: no such task");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn options_are_checked_before_anything_is_rendered() {
    let folder = tempfile::tempdir().unwrap();
    let good = VideoOptions { out: folder.path().join("a.gif"), ..VideoOptions::default() };
    let check = |options: VideoOptions, expected: &str| {
        let built = |_: &mut App| -> Result<(), Infallible> { panic!("it went on") };
        let error = record_rollout(&options, built).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(VideoOptions { out: folder.path().join("a.avi"), ..good.clone() }, "must end in .mp4 or .gif (film) or .png");
    check(VideoOptions { out: folder.path().join("noname"), ..good.clone() }, "must end in .mp4 or .gif");
    check(VideoOptions { strip: Some(folder.path().join("b.gif")), ..good.clone() }, "must end in .png");
    check(VideoOptions { width: 0, ..good.clone() }, "width is 0");
    check(VideoOptions { height: 9000, ..good.clone() }, "height is 9000");
    check(VideoOptions { every: 0, ..good.clone() }, "every is 0");
    check(VideoOptions { fps: Some(1000.0), ..good.clone() }, "fps is 1000");
    check(VideoOptions { fps: Some(f64::NAN), ..good.clone() }, "fps is NaN");
    check(VideoOptions { seeds: vec![], ..good.clone() }, "at least one episode");
    // Also where the rate is the world's own, and not known yet.
    let huge = VideoOptions { width: 8192, height: 8192, out: folder.path().join("a.mp4"), ..good.clone() };
    check(huge, "8192 x 8192; H.264 has no level for frames so large");
    std::fs::write(folder.path().join("frames"), b"a file").unwrap();
    check(VideoOptions { out: folder.path().join("frames/"), ..good.clone() }, "a file of that name is there already");
    check(VideoOptions { out: folder.path().join("missing/a.gif"), ..good.clone() }, "cannot write");
    std::fs::create_dir(folder.path().join("folder.gif")).unwrap();
    check(VideoOptions { out: folder.path().join("folder.gif"), ..good }, "is a folder");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}
