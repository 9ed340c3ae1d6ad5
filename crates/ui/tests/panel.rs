//! The panel is there, its buttons do what they say, and the scene keeps the rest of the picture.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

#[path = "../../record/tests/films_common/mod.rs"]
mod films_common;
mod reference;
#[path = "../../../tests/rendering/mod.rs"]
mod rendering;
#[path = "../../../tests/skip/mod.rs"]
mod skip;

use std::path::Path;

use bevy::{
    camera::RenderTarget,
    input::gamepad::Gamepad,
    light::DirectionalLightShadowMap,
    prelude::*,
    render::{
        render_resource::TextureFormat,
        view::screenshot::{Screenshot, ScreenshotCaptured},
    },
};
use bevy_egui::{PrimaryEguiContext, egui, input::EguiInputEvent};
use onestep_agent::StageTimesPlugin;
use onestep_learn::{AlgorithmConfig, Compute, PolicyPlugin, PolicySource};
use onestep_record::{picture::Frame, recorder::Recorder, tick, video::VideoPlugin};
use onestep_sim::{
    Arena, SimPlugin,
    visual::{SimVisualPlugin, camera_place, default_camera},
};
use onestep_ui::{
    CandidatesPlugin, FilmPlugin, Filming, HumanPlugin, KeysPlugin, Notice, OrbitCamera, OrbitCameraPlugin, Pace,
    PacePlugin, Panel, PanelPlugin, ShowHelp, SmoothPlugin, TickDriver, drive,
};

const WIDTH: u32 = 800;
const HEIGHT: u32 = 440;

struct Ticks;

impl TickDriver for Ticks {
    fn advance(&mut self, world: &mut World) {
        tick(world);
    }

    fn close(&mut self, _: &mut World) {}
}

/// An app with everything, paused after a few ticks; nothing if nothing can be drawn here.
fn app(panel: Panel) -> Option<App> {
    app_with_films(panel, Path::new("."))
}

fn app_with_films(panel: Panel, films: &Path) -> Option<App> {
    if !rendering::can_render() {
        return None;
    }
    let mut app = App::new();
    app.add_plugins(VideoPlugin { width: WIDTH, height: HEIGHT });
    let source = PolicySource::Create { algorithm: AlgorithmConfig::default(), compute: Compute::Cpu };
    app.add_plugins((SimPlugin::default(), PolicyPlugin { source, candidates: Some(24), keep_candidates: true }))
        .add_plugins((
            SimVisualPlugin::default(),
            CandidatesPlugin::default(),
            OrbitCameraPlugin,
            HumanPlugin,
            KeysPlugin,
            StageTimesPlugin,
            PacePlugin { pace: Pace::default().with_pause(true) },
            SmoothPlugin,
            FilmPlugin { folder: films.to_owned(), name: "lift".to_owned(), ..default() },
            PanelPlugin { panel },
        ));
    drive(&mut app, Ticks);
    let (eye, focus) = camera_place("lift");
    let image = Image::new_target_texture(WIDTH, HEIGHT, TextureFormat::Rgba8UnormSrgb, None);
    let image = app.world_mut().resource_mut::<Assets<Image>>().add(image);
    let target = RenderTarget::from(image.clone());
    app.world_mut().spawn((default_camera(), OrbitCamera::new(eye, focus), target)).insert(Msaa::Off);
    // Drawn by the CPU, most of the time goes into shadows and edges.
    app.insert_resource(DirectionalLightShadowMap { size: 512 });
    app.finish();
    app.cleanup();
    app.update();
    // Without a window the panel's own camera has to be told where to draw.
    let world = app.world_mut();
    let context = world.query_filtered::<Entity, With<PrimaryEguiContext>>().single(world).unwrap();
    world.entity_mut(context).insert(RenderTarget::from(image));
    (0..3).for_each(|_| step(&mut app));
    Some(app)
}

/// One tick, as somebody asks for it in a pause.
fn step(app: &mut App) {
    app.world_mut().resource_mut::<Pace>().single_tick();
    app.update();
}

/// What the camera of the scene draws, panel included. A film would leave the panel out: its cameras see the world alone.
fn picture(app: &mut App) -> Frame {
    app.update();
    let world = app.world_mut();
    let target = world.query_filtered::<&RenderTarget, With<OrbitCamera>>().single(world).unwrap();
    let image = target.as_image().unwrap().clone();
    let (sender, receiver) = std::sync::mpsc::channel();
    world.spawn(Screenshot::image(image)).observe(move |captured: On<ScreenshotCaptured>| {
        sender.send(captured.image.clone()).unwrap();
    });
    let image = (0..1_000)
        .find_map(|_| {
            app.update();
            receiver.try_recv().ok()
        })
        .unwrap();
    let rgb = image.try_into_dynamic().unwrap().to_rgb8();
    Frame { width: rgb.width(), height: rgb.height(), rgb: rgb.into_raw() }
}

/// Mean brightness of a part of the picture, 0 to 255.
fn brightness(frame: &Frame, x: std::ops::Range<u32>) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0);
    for (index, pixel) in frame.rgb.chunks_exact(3).enumerate() {
        if x.contains(&(index as u32 % frame.width)) {
            sum += pixel.iter().map(|part| f64::from(*part)).sum::<f64>() / 3.0;
            count += 1.0;
        }
    }
    sum / count
}

/// A press and a release. The scene is not drawn meanwhile, which saves most of the time.
fn click(app: &mut App, at: egui::Pos2) {
    draw_scene(app, false);
    let world = app.world_mut();
    let context = world.query_filtered::<Entity, With<PrimaryEguiContext>>().single(world).unwrap();
    let button = |pressed| egui::Event::PointerButton {
        pos: at,
        button: egui::PointerButton::Primary,
        pressed,
        modifiers: egui::Modifiers::default(),
    };
    for event in [egui::Event::PointerMoved(at), button(true), button(false)] {
        app.world_mut().write_message(EguiInputEvent { context, event });
        app.update();
    }
    // What the button asks for is done in the next frame.
    app.update();
    draw_scene(app, true);
}

fn draw_scene(app: &mut App, is_active: bool) {
    let world = app.world_mut();
    world.query_filtered::<&mut Camera, With<OrbitCamera>>().single_mut(world).unwrap().is_active = is_active;
}

/// Clicks down a column of the panel until `is_hit`; returns where.
fn find_button(app: &mut App, column: u32, is_hit: impl Fn(&App) -> bool) -> egui::Pos2 {
    let x = (WIDTH - 336 + column) as f32;
    let hit = (40..200).step_by(8).map(|y| egui::pos2(x, y as f32)).find(|at| {
        click(app, *at);
        is_hit(app)
    });
    hit.unwrap()
}

#[test]
fn the_window_looks_as_it_did() {
    let Some(mut app) = app(Panel::default()) else { return };
    let dark = picture(&mut app);
    reference::assert_like(&dark, "panel-dark");
    // The scene has the rest for itself.
    let world = app.world_mut();
    let camera = world.query_filtered::<&Camera, With<OrbitCamera>>().single(world).unwrap();
    assert_eq!(camera.viewport.as_ref().unwrap().physical_size, UVec2::new(WIDTH - 336, HEIGHT));

    app.world_mut().resource_mut::<Panel>().dark = false;
    app.world_mut().resource_mut::<ShowHelp>().0 = true;
    let pad = app.world_mut().spawn(Gamepad::default()).id();
    app.update();
    let light = picture(&mut app);
    reference::assert_like(&light, "panel-light-help");
    app.world_mut().despawn(pad);
    *app.world_mut().resource_mut::<Notice>() = Notice::default();
    app.world_mut().resource_mut::<Panel>().open = false;
    app.world_mut().resource_mut::<ShowHelp>().0 = false;
    app.update();
    let closed = picture(&mut app);
    reference::assert_like(&closed, "panel-closed");

    // The measure sees what is missing: the panel, its colours, the help.
    assert!(brightness(&dark, WIDTH - 330..WIDTH) < 70.0 && brightness(&light, WIDTH - 330..WIDTH) > 180.0);
    for (frame, other) in
        [(&closed, "panel-dark"), (&light, "panel-dark"), (&dark, "panel-closed"), (&closed, "panel-light-help")]
    {
        assert!(!reference::is_like(frame, other), "{other}");
    }

    // Nobody acts by the policy any more: no candidates, no legend; all else stays.
    *app.world_mut().resource_mut::<Panel>() = Panel::default();
    let world = app.world_mut();
    *world.query::<&mut onestep_agent::AgentMode>().single_mut(world).unwrap() = onestep_agent::AgentMode::Human;
    app.update();
    let without = picture(&mut app);
    let found = reference::difference(&without, "panel-dark");
    assert!(found.worst_mean > reference::PART, "{found:?}");
    assert!(!reference::is_like(&without, "panel-dark"));
}

#[test]
fn a_click_on_the_button_changes_what_it_says() {
    let Some(mut app) = app(Panel::default()) else { return };
    let before = picture(&mut app);
    // The first button in the column under the title is the one that pauses and goes on.
    let at = find_button(&mut app, 50, |app| !app.world().resource::<Pace>().paused);
    let after = picture(&mut app);
    let changed = |row: u32| {
        let part = |frame: &Frame| {
            let start = ((row * WIDTH + WIDTH - 336) * 3) as usize;
            frame.rgb[start..start + 3 * 110].to_vec()
        };
        part(&before) != part(&after)
    };
    let y = at.y as u32;
    assert!((y - 8..y + 8).any(changed), "the button still says the same");
    click(&mut app, at);
    assert!(app.world().resource::<Pace>().paused);
}

fn hash(app: &mut App) -> u64 {
    let world = app.world_mut();
    world.query::<&Arena>().single(world).unwrap().sim().hash()
}

/// Presses the button that records, makes ten ticks, presses it again, and waits for the film.
#[test]
fn the_button_records_a_film_and_the_world_does_not_notice() {
    const TICKS: usize = 10;
    let folder = tempfile::tempdir().unwrap();
    let Some(mut app) = app_with_films(Panel::default(), folder.path()) else { return };
    let is_recording = |app: &App| app.world().resource::<Recorder>().is_recording();
    // In the row of the one that pauses.
    let at = find_button(&mut app, 200, is_recording);
    app.world_mut().resource_mut::<Pace>().paused = true;
    let path = app.world().resource::<Recorder>().path().unwrap().to_owned();
    assert_eq!(path, folder.path().join("lift-1.mp4"));
    assert!(app.world().resource::<Notice>().text.contains("lift-1.mp4"));
    let frames = |app: &App| app.world().resource::<Recorder>().frames();
    for _ in 0..20 {
        app.update();
        if frames(&app) > 0 {
            break;
        }
    }
    // A pause takes no time in the film.
    (0..2).for_each(|_| app.update());
    assert_eq!(frames(&app), 1, "{:?}", app.world().resource::<Notice>());
    let start = hash(&mut app);
    (0..TICKS).for_each(|_| step(&mut app));
    // The folder's name is another one each time.
    *app.world_mut().resource_mut::<Notice>() = Notice::default();
    let recording = picture(&mut app);
    reference::assert_like(&recording, "panel-recording");
    let end = hash(&mut app);
    assert_ne!(start, end);
    assert!(!path.exists(), "a film has its name when it is whole");
    click(&mut app, at);
    draw_scene(&mut app, false);
    for _ in 0..2_000 {
        app.update();
        if app.world().resource::<Filming>().last().is_some() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    draw_scene(&mut app, true);
    assert!(!is_recording(&app));
    assert_eq!(app.world().resource::<Filming>().last(), Some(path.as_path()));
    // Ten ticks are half a second: 15 pictures at 30 for each second, and the first.
    let notice = app.world().resource::<Notice>().clone();
    assert!(notice.text.starts_with("16 pictures in") && !notice.is_error, "{notice:?}");
    let film = films_common::decode_mp4(&path);
    // The camera's part of the window: what the panel leaves.
    assert_eq!((film.width, film.height, film.frames.len()), (WIDTH - 336, HEIGHT, 16));
    assert!((0..16).all(|number| film.brightness(number) > 50.0), "it is black");
    assert!(film.moved(0, 15) > 0.002, "nothing moves: {}", film.moved(0, 15));

    // The same ticks without a film.
    let mut plain = self::app(Panel::default()).unwrap();
    draw_scene(&mut plain, false);
    (0..TICKS).for_each(|_| step(&mut plain));
    assert_eq!(hash(&mut plain), end);

    // The next film has another name; one that is under way when the app goes is kept.
    click(&mut app, at);
    for _ in 0..20 {
        app.update();
        if frames(&app) > 0 {
            break;
        }
    }
    (0..2).for_each(|_| step(&mut app));
    drop(app);
    let second = films_common::decode_mp4(&folder.path().join("lift-2.mp4"));
    assert!(!second.frames.is_empty() && second.brightness(second.frames.len() - 1) > 50.0);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn a_film_that_cannot_be_written_is_told_in_the_window() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut app) = app_with_films(Panel::default(), &folder.path().join("nowhere")) else { return };
    app.world_mut().resource_mut::<Filming>().toggle();
    app.update();
    let notice = app.world().resource::<Notice>();
    assert!(notice.is_error && notice.text.contains("lift-1.mp4") && notice.text.contains("folder"), "{notice:?}");
    assert!(!app.world().resource::<Recorder>().is_recording());
}

#[test]
fn an_app_without_a_renderer_is_left_alone() {
    let mut app = App::new();
    app.add_plugins((MinimalPlugins, PanelPlugin::default()));
    app.update();
}
