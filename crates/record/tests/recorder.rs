//! A recorder in an app: every frame that is asked for and no other, several cameras, words, and a device that is lost.
//! Without a graphics driver these tests say so and pass.

#![cfg(feature = "render")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod films_common;
#[path = "../../../tests/rendering/mod.rs"]
mod rendering;
#[path = "../../../tests/skip/mod.rs"]
mod skip;

use std::{convert::Infallible, path::Path};

use bevy::{
    app::App,
    ecs::prelude::*,
    render::{pipelined_rendering::PipelinedRenderingPlugin, renderer::RenderDevice},
};
use films_common::{Film, decode_mp4, luma_psnr};
use onestep_agent::AgentMode;
use onestep_record::{
    overlay::Overlay,
    picture::Frame,
    recorder::{Filmed, FrameRate, Recorder, RecorderPlugin},
    tick,
    video::{RecordError, VideoOptions, VideoPlugin, record_rollout, record_rollout_watched},
};
use onestep_sim::{
    Arena, SimPlugin,
    visual::{SimVisualPlugin, View, default_camera, task_view},
};
use rendering::can_render;

fn scene(app: &mut App, arenas: u32) {
    app.add_plugins((
        SimPlugin { mode: AgentMode::Scripted, arenas, ..SimPlugin::default() },
        SimVisualPlugin::default(),
    ));
}

/// Mean brightness of a part of a picture, and how much of it differs from another picture.
fn look(
    film: &Film,
    number: usize,
    other: usize,
    (x, y): (usize, usize),
    (width, height): (usize, usize),
) -> (f64, f64) {
    let part = |number: usize| {
        let frame = &film.frames[number];
        (y..y + height).flat_map(move |row| frame.y[row * frame.width + x..][..width].to_vec()).collect::<Vec<u8>>()
    };
    let (here, there) = (part(number), part(other));
    let mean = here.iter().map(|value| f64::from(*value)).sum::<f64>() / here.len() as f64;
    let moved = here.iter().zip(&there).filter(|(a, b)| a.abs_diff(**b) > 12).count();
    (mean, moved as f64 / here.len() as f64)
}

fn read_png(path: &Path) -> Frame {
    let mut reader =
        png::Decoder::new(std::io::BufReader::new(std::fs::File::open(path).unwrap())).read_info().unwrap();
    let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut rgb).unwrap();
    Frame { width: info.width, height: info.height, rgb }
}

#[test]
fn an_app_is_filmed_while_its_renderer_runs_beside_it() {
    if !can_render() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.mp4");
    let mut app = App::new();
    app.add_plugins((VideoPlugin { width: 96, height: 64 }, PipelinedRenderingPlugin));
    scene(&mut app, 1);
    app.world_mut().spawn(default_camera());
    app.finish();
    app.cleanup();
    let mut recorder = app.world_mut().resource_mut::<Recorder>();
    recorder.settings_mut().rate = FrameRate::EverySteps(3);
    recorder.start(&path).unwrap();
    assert!(matches!(recorder.start(&path), Err(RecordError::Busy { .. })));
    // The renderer warms up; the world stands still.
    while app.world().resource::<Recorder>().frames() == 0 {
        app.update();
    }
    for _ in 0..30 {
        tick(app.world_mut());
        app.update();
    }
    app.world_mut().resource_mut::<Recorder>().stop();
    for _ in 0..2_000 {
        app.update();
        if !app.world().resource::<Recorder>().is_recording() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let file = app.world().resource::<Recorder>().last().unwrap().as_ref().unwrap().clone();
    // One at the start, and one after every third step.
    assert_eq!((file.frames, file.is_partial), (11, false));
    let film = decode_mp4(&path);
    assert_eq!((film.width, film.height, film.frames.len()), (96, 64, 11));
    for number in 0..11 {
        let (mean, _) = look(&film, number, 0, (0, 0), (96, 64));
        assert!(mean > 50.0, "frame {number} is black: {mean}");
    }
    let (_, moved) = look(&film, 0, 10, (0, 0), (96, 64));
    assert!(moved > 0.01, "the arm did not move: {moved}");
}

#[test]
fn a_film_ends_with_its_app() {
    if !can_render() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.mp4");
    let mut app = App::new();
    app.add_plugins(VideoPlugin { width: 64, height: 48 });
    scene(&mut app, 1);
    app.world_mut().spawn(default_camera());
    app.finish();
    app.cleanup();
    app.world_mut().resource_mut::<Recorder>().settings_mut().rate = FrameRate::EverySteps(1);
    app.world_mut().resource_mut::<Recorder>().start(&path).unwrap();
    for _ in 0..200 {
        app.update();
    }
    tick(app.world_mut());
    app.update();
    drop(app);
    assert_eq!(decode_mp4(&path).frames.len(), 2);
}

#[test]
fn a_sheet_shows_every_arena_with_its_words_and_pngs_agree_with_the_film() {
    if !can_render() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let build = |app: &mut App| -> Result<(), Infallible> {
        scene(app, 4);
        let arenas: Vec<Entity> = app.world_mut().query_filtered::<Entity, With<Arena>>().iter(app.world()).collect();
        for (tile, (arena, view)) in (0..).zip(arenas.into_iter().zip([View::Main, View::Front, View::Side, View::Top]))
        {
            app.world_mut().spawn((task_view("lift", view), Filmed { tile, agent: None }, ChildOf(arena)));
        }
        Ok(())
    };
    let options = VideoOptions {
        width: 192,
        height: 144,
        every: 40,
        out: folder.path().join("sheet.mp4"),
        seeds: vec![1, 2, 3, 4],
        overlays: vec![Overlay::Step, Overlay::Reward, Overlay::Success],
        ..VideoOptions::default()
    };
    let report = record_rollout(&options, build).unwrap();
    let film = decode_mp4(&options.out);
    assert_eq!((film.width, film.height, film.frames.len() as u64), (192, 144, report.frames));
    let last = film.frames.len() - 1;
    for tile in 0..4 {
        let corner = (tile % 2 * 96, tile / 2 * 72);
        let (mean, moved) = look(&film, 0, last, corner, (96, 72));
        assert!(mean > 40.0, "tile {tile} is black: {mean}");
        assert!(moved > 0.01, "in tile {tile} nothing moves: {moved}");
        // Light letters on dark ground, in the corner of each.
        let words: Vec<u8> = (corner.1 + 6..corner.1 + 40)
            .flat_map(|y| film.frames[0].y[y * 192 + corner.0 + 6..][..50].to_vec())
            .collect();
        let dark = words.iter().filter(|luma| **luma < 110).count();
        let light = words.iter().filter(|luma| **luma > 130).count();
        assert!(dark > 400 && light > 30, "tile {tile}: {dark} dark and {light} light points");
    }

    // The same again as PNGs: what the film shows is what was rendered.
    let frames = VideoOptions { out: folder.path().join("frames/"), ..options };
    let again = record_rollout(&frames, build).unwrap();
    assert_eq!(again.evaluation, report.evaluation);
    for (number, shown) in film.frames.iter().enumerate() {
        let png = read_png(&frames.out.join(format!("frame-{number:06}.png")));
        let psnr = luma_psnr(shown, &png);
        assert!(psnr > 34.0, "frame {number}: {psnr} dB");
    }
}

#[test]
fn a_lost_device_is_an_error_in_words_and_keeps_what_there_is() {
    if !can_render() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let options = VideoOptions {
        width: 64,
        height: 48,
        out: folder.path().join("lost.mp4"),
        seeds: vec![7],
        ..VideoOptions::default()
    };
    let build = |app: &mut App| -> Result<(), Infallible> {
        scene(app, 1);
        app.world_mut().spawn(default_camera());
        Ok(())
    };
    let error = record_rollout_watched(&options, build, |world, frames| {
        if frames == 5 {
            world.resource::<RenderDevice>().wgpu_device().destroy();
        }
        Ok(())
    })
    .unwrap_err();
    let RecordError::Partial { source, frames, file } = &error else { panic!("{error}") };
    assert!(matches!(**source, RecordError::RenderingFailed { .. }), "{source}");
    assert_eq!((*frames, file.as_path()), (5, folder.path().join("lost.partial.mp4").as_path()));
    assert!(file.exists() && !options.out.exists());
    assert!(error.to_string().contains("try again"), "{error}");
}

#[test]
fn an_app_without_renderer_or_camera_says_so() {
    let mut app = App::new();
    app.add_plugins((bevy::MinimalPlugins, RecorderPlugin::default()));
    app.finish();
    app.cleanup();
    let error = app.world_mut().resource_mut::<Recorder>().start("a.mp4").unwrap_err();
    assert!(matches!(error, RecordError::NoRenderer), "{error}");
    app.update();
}
