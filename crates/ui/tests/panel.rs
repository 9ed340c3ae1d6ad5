//! The panel is there, its buttons do what they say, and the scene keeps the rest of the picture.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

#[path = "../../record/tests/films_common/mod.rs"]
mod films_common;
mod reference;
#[path = "../../../tests/rendering/mod.rs"]
mod rendering;
#[path = "../../../tests/skip/mod.rs"]
mod skip;

use std::{path::Path, time::Duration};

use bevy::{
    camera::{ImageRenderTarget, RenderTarget},
    input::gamepad::Gamepad,
    light::DirectionalLightShadowMap,
    prelude::*,
    render::{
        render_resource::TextureFormat,
        view::screenshot::{Screenshot, ScreenshotCaptured},
    },
};
use bevy_egui::{EguiContext, PrimaryEguiContext, egui, input::EguiInputEvent};
use onestep_agent::{Agent, AgentMode, AgentSpec, Episode, EpisodeEnd, EpisodeFinished, StageTimes, StageTimesPlugin};
use onestep_learn::{
    ActSettings, AlgorithmConfig, CandidateSet, Compute, LearnerMetrics, LearnerSchedule, LearnerState, PolicyPlugin,
    PolicySource,
};
use onestep_record::{
    demonstrations::{DemonstrationPlugin, DemonstrationRecorder},
    picture::Frame,
    recorder::Recorder,
    tick,
    video::VideoPlugin,
};
use onestep_sim::{
    Arena, SimPlugin,
    visual::{SimVisualPlugin, camera_place, default_camera},
};
use onestep_ui::{
    CandidatesPlugin, FilmPlugin, Filming, HumanPlugin, KeysPlugin, Notice, OrbitCamera, OrbitCameraPlugin, Pace,
    PacePlugin, Panel, PanelPlugin, RunStatus, SaveRequest, ShowHelp, SmoothPlugin, Speed, StatusPoint, TickDriver,
    drive,
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
    app_of(panel, films, UVec2::new(WIDTH, HEIGHT), 1.0)
}

/// As if on a screen of so many pixels, with so many for each point.
fn app_of(panel: Panel, films: &Path, size: UVec2, density: f32) -> Option<App> {
    if !rendering::can_render() {
        return None;
    }
    let mut app = App::new();
    app.add_plugins(VideoPlugin { width: size.x, height: size.y });
    let source = PolicySource::Create { algorithm: AlgorithmConfig::default(), compute: Compute::Cpu };
    app.add_plugins((SimPlugin::default(), PolicyPlugin { source, candidates: Some(24), keep_candidates: true }))
        .add_plugins((
            SimVisualPlugin::default(),
            CandidatesPlugin::default(),
            OrbitCameraPlugin,
            HumanPlugin,
            KeysPlugin,
            (StageTimesPlugin, DemonstrationPlugin),
            PacePlugin { pace: Pace::default().with_pause(true) },
            SmoothPlugin,
            FilmPlugin { folder: films.to_owned(), name: "lift".to_owned(), ..default() },
            PanelPlugin { panel },
        ));
    drive(&mut app, Ticks);
    let (eye, focus) = camera_place("lift");
    let image = Image::new_target_texture(size.x, size.y, TextureFormat::Rgba8UnormSrgb, None);
    let handle = app.world_mut().resource_mut::<Assets<Image>>().add(image);
    let target = RenderTarget::Image(ImageRenderTarget { handle, scale_factor: density });
    app.world_mut().spawn((default_camera(), OrbitCamera::new(eye, focus), target.clone())).insert(Msaa::Off);
    // Drawn by the CPU, most of the time goes into shadows and edges.
    app.insert_resource(DirectionalLightShadowMap { size: 512 });
    app.finish();
    app.cleanup();
    app.update();
    // Without a window the panel's own camera has to be told where to draw.
    let world = app.world_mut();
    let context = world.query_filtered::<Entity, With<PrimaryEguiContext>>().single(world).unwrap();
    world.entity_mut(context).insert(target);
    (0..3).for_each(|_| step(&mut app));
    Some(app)
}

/// One tick, as somebody asks for it in a pause.
fn step(app: &mut App) {
    app.world_mut().resource_mut::<Pace>().single_tick();
    app.update();
}

/// What the camera of the scene draws, panel included. A film would leave the panel out: its cameras see the world alone.
///
/// The times of a tick are the same in each picture: measured ones would draw another bar on another machine.
fn picture(app: &mut App) -> Frame {
    const MICROSECONDS: [u64; 9] = [50, 80, 120, 4_200, 2_900, 40, 60, 2_300, 250];
    let mut times = StageTimes::default();
    times.add_tick(MICROSECONDS.map(Duration::from_micros));
    app.insert_resource(times);
    app.update();
    let world = app.world_mut();
    let target = world.query_filtered::<&RenderTarget, With<OrbitCamera>>().single(world).unwrap();
    // With its density: it tells targets of one image apart.
    let target = target.clone();
    let (sender, receiver) = std::sync::mpsc::channel();
    world.spawn(Screenshot(target)).observe(move |captured: On<ScreenshotCaptured>| {
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

fn send(app: &mut App, event: egui::Event) {
    let world = app.world_mut();
    let context = world.query_filtered::<Entity, With<PrimaryEguiContext>>().single(world).unwrap();
    app.world_mut().write_message(EguiInputEvent { context, event });
    app.update();
}

/// A press and a release; then the pointer leaves, so that no button is lit by it. The scene is not drawn meanwhile, which
/// saves most of the time.
fn click(app: &mut App, at: egui::Pos2) {
    draw_scene(app, false);
    let button = |pressed| egui::Event::PointerButton {
        pos: at,
        button: egui::PointerButton::Primary,
        pressed,
        modifiers: egui::Modifiers::default(),
    };
    for event in [egui::Event::PointerMoved(at), button(true), button(false), egui::Event::PointerGone] {
        send(app, event);
    }
    // What the button asks for is done in the next frame.
    app.update();
    draw_scene(app, true);
}

/// Where the panel has put a button, points.
fn place(app: &mut App, name: &str) -> egui::Rect {
    let world = app.world_mut();
    let mut context = world.query_filtered::<&mut EguiContext, With<PrimaryEguiContext>>().single_mut(world).unwrap();
    let rect = context.get_mut().data(|data| data.get_temp(egui::Id::new(format!("onestep {name}"))));
    rect.unwrap_or_else(|| panic!("there is no button `{name}`"))
}

fn press(app: &mut App, name: &str) {
    let at = place(app, name).center();
    click(app, at);
}

fn draw_scene(app: &mut App, is_active: bool) {
    let world = app.world_mut();
    world.query_filtered::<&mut Camera, With<OrbitCamera>>().single_mut(world).unwrap().is_active = is_active;
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
    // The help finds its size.
    draw_scene(&mut app, false);
    (0..6).for_each(|_| app.update());
    draw_scene(&mut app, true);
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

/// The pixels of a button without its edges.
fn button_pixels(app: &mut App, name: &str) -> Vec<[u8; 3]> {
    let rect = place(app, name).shrink(3.0);
    let frame = picture(app);
    let at = |x: u32, y: u32| {
        let start = ((y * frame.width + x) * 3) as usize;
        [frame.rgb[start], frame.rgb[start + 1], frame.rgb[start + 2]]
    };
    let rows = rect.top() as u32..rect.bottom() as u32;
    rows.flat_map(|y| (rect.left() as u32..rect.right() as u32).map(move |x| (x, y))).map(|(x, y)| at(x, y)).collect()
}

#[test]
fn a_click_on_the_button_changes_what_it_says() {
    let Some(mut app) = app(Panel::default()) else { return };
    // The pointer has been there and gone, before each of the pictures.
    let at = place(&mut app, "run").center();
    send(&mut app, egui::Event::PointerMoved(at));
    send(&mut app, egui::Event::PointerGone);
    let paused = button_pixels(&mut app, "run");
    click(&mut app, at);
    assert!(!app.world().resource::<Pace>().paused);
    let running = button_pixels(&mut app, "run");
    let changed = paused.iter().zip(&running).filter(|(a, b)| a != b).count();
    assert!(changed > 60, "the button still says the same: {changed} pixels differ");
    click(&mut app, at);
    assert!(app.world().resource::<Pace>().paused);
    assert!(button_pixels(&mut app, "run") == paused, "something else than its words makes the difference");
}

/// Each button, and what it must have changed.
#[test]
fn every_button_does_what_it_says() {
    let Some(mut app) = app(Panel::default()) else { return };
    app.init_resource::<SaveRequest>();
    app.update();
    let ticks = |app: &App| app.world().resource::<StageTimes>().ticks();
    let mode = |app: &mut App| *app.world_mut().query::<&AgentMode>().single(app.world()).unwrap();
    let before = ticks(&app);
    press(&mut app, "step");
    assert_eq!(ticks(&app), before + 1);
    press(&mut app, "save");
    assert!(app.world().resource::<SaveRequest>().wanted);
    for speed in [Speed::Max, Speed::Times(0.25), Speed::Times(2.0)] {
        press(&mut app, &format!("speed {speed}"));
        assert_eq!(app.world().resource::<Pace>().speed, speed);
    }
    for (name, expected) in
        [("Script", AgentMode::Scripted), ("Human", AgentMode::Human), ("Policy", AgentMode::Policy)]
    {
        press(&mut app, &format!("mode {name}"));
        assert_eq!(mode(&mut app), expected);
    }
    app.world_mut().resource_mut::<Panel>().seed = "4711".to_owned();
    press(&mut app, "reset");
    let episode = app.world_mut().query::<&Episode>().single(app.world()).unwrap().clone();
    assert_eq!((episode.seed, episode.step), (4711, 0));
    let slider = place(&mut app, "candidates");
    click(&mut app, egui::pos2(slider.left() + 4.0, slider.center().y));
    assert_eq!(app.world().resource::<ActSettings>().candidates, Some(1));
    press(&mut app, "help");
    assert!(app.world().resource::<ShowHelp>().0);
    press(&mut app, "theme");
    assert!(!app.world().resource::<Panel>().dark);
}

/// As → and ← do: the same words, the same end of the pause, the same next episode.
#[test]
fn buttons_judge_demonstrations_as_keys_do() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut app) = app(Panel::default()) else { return };
    draw_scene(&mut app, false);
    let (spec, mut mode) = app.world_mut().query::<(&AgentSpec, &mut AgentMode)>().single_mut(app.world_mut()).unwrap();
    *mode = AgentMode::Scripted;
    let spec = spec.clone();
    let path = folder.path().join("demos.safetensors");
    app.insert_resource(DemonstrationRecorder::open(&path, "lift", &spec, Agent(0)).unwrap());
    for (name, word, counts) in
        [("keep", "kept", (1, 0)), ("discard", "discarded", (1, 1)), ("reset", "discarded", (1, 2))]
    {
        app.world_mut().resource_mut::<Pace>().paused = false;
        for _ in 0..spec.max_episode_steps {
            app.world_mut().run_schedule(FixedUpdate);
            if app.world().resource::<Pace>().paused {
                break;
            }
        }
        let index = |app: &mut App| app.world_mut().query::<&Episode>().single(app.world()).unwrap().index;
        let before = index(&mut app);
        app.update();
        assert!(app.world().resource::<DemonstrationRecorder>().is_waiting() && app.world().resource::<Pace>().paused);
        press(&mut app, name);
        assert!(!app.world().resource::<Pace>().paused, "{name} left the pause");
        let notice = app.world().resource::<Notice>();
        assert!(notice.text.starts_with(word) && !notice.is_error, "{name}: {notice:?}");
        let recorder = app.world().resource::<DemonstrationRecorder>();
        assert_eq!((recorder.kept(), recorder.discarded()), counts, "{name}");
        app.world_mut().run_schedule(FixedUpdate);
        assert!(index(&mut app) > before, "{name}");
    }
}

/// Curves, losses and evaluations as a run has them.
fn fill(app: &mut App) {
    app.insert_resource(LearnerSchedule::default()).init_resource::<LearnerMetrics>().init_resource::<SaveRequest>();
    let evaluations = [4_000, 8_000].map(|step| StatusPoint { step, success_rate: 0.8, mean_return: -40.0 });
    app.insert_resource(RunStatus {
        task: "lift".to_owned(),
        algorithm: "mvp".to_owned(),
        evaluations: evaluations.to_vec(),
        ..RunStatus::default()
    });
    for step in 1..=40_u64 {
        let mut state = app.world_mut().resource_mut::<LearnerState>();
        (state.updates, state.env_steps) = (300 * step, 250 * step);
        let share = step as f32 / 40.0;
        app.world_mut()
            .resource_mut::<LearnerMetrics>()
            .add(vec![("critic/loss", 0.4 / (1.0 + 5.0 * share)), ("actor/loss", 0.9 - 0.4 * share)]);
        let end = EpisodeEnd {
            agent: Agent(0),
            index: step,
            seed: step,
            steps: 60,
            return_sum: f64::from(-24.3 + 0.7 * share),
            success: step % 5 > 1,
            success_once: true,
            terminated: true,
            truncated: false,
            // Two were played by hand.
            human_steps: u32::from(step % 20 == 7),
        };
        app.world_mut().write_message(EpisodeFinished(end));
        app.update();
    }
}

/// On a small screen, and on a large one with few and with many pixels for each point: all of the panel is there, and it
/// takes its share of the width.
#[test]
fn everything_has_room_on_small_and_large_screens() {
    for (name, size, density, panel) in [
        ("panel-1280x720", UVec2::new(1280, 720), 1.0, 336),
        ("panel-4k", UVec2::new(3840, 2160), 1.0, 672),
        ("panel-4k-dense", UVec2::new(3840, 2160), 2.0, 672),
    ] {
        let Some(mut app) = app_of(Panel::default(), Path::new("."), size, density) else { return };
        draw_scene(&mut app, false);
        fill(&mut app);
        (0..3).for_each(|_| app.update());
        let world = app.world_mut();
        let camera = world.query_filtered::<&Camera, With<OrbitCamera>>().single(world).unwrap();
        assert_eq!(camera.viewport.as_ref().unwrap().physical_size, UVec2::new(size.x - panel, size.y), "{name}");
        // The last lines of the panel, in points of its own zoom.
        let (stages, points) = (place(&mut app, "stages"), size.y as f32 * 336.0 / panel as f32);
        assert!(stages.bottom() <= points, "{name}: {stages:?} of {points}");
        let kept = std::env::var_os("ONESTEP_KEEP_PICTURES");
        if size.x > 1280 && kept.is_none() {
            continue;
        }
        draw_scene(&mut app, true);
        let shown = picture(&mut app);
        match kept.filter(|_| size.x > 1280) {
            Some(folder) => shown.write_png(&Path::new(&folder).join(format!("{name}.png"))).unwrap(),
            None => reference::assert_like(&shown, name),
        }
    }
}

#[test]
fn help_and_notices_keep_to_the_scene() {
    let Some(mut app) = app(Panel::default()) else { return };
    draw_scene(&mut app, false);
    let world = app.world_mut();
    world.spawn(Gamepad::default());
    app.update();
    app.world_mut().resource_mut::<ShowHelp>().0 = true;
    (0..8).for_each(|_| app.update());
    let card = |app: &mut App, name: &str| {
        let world = app.world_mut();
        let mut context =
            world.query_filtered::<&mut EguiContext, With<PrimaryEguiContext>>().single_mut(world).unwrap();
        context.get_mut().memory(|memory| memory.area_rect(egui::Id::new(name))).unwrap()
    };
    let help = card(&mut app, "onestep help");
    let free = egui::Rect::from_min_max(egui::pos2(0.0, 0.0), egui::pos2((WIDTH - 336) as f32, HEIGHT as f32));
    assert!(free.contains_rect(help), "{help:?} is not within {free:?}");

    // A card that was small takes the words of the next notice in one line.
    app.world_mut().resource_mut::<ShowHelp>().0 = false;
    app.world_mut().resource_mut::<Notice>().tell("short");
    (0..3).for_each(|_| app.update());
    let short = card(&mut app, "onestep notice");
    app.world_mut().resource_mut::<Notice>().tell("a sentence that is much longer than it");
    (0..3).for_each(|_| app.update());
    let long = card(&mut app, "onestep notice");
    assert!(long.width() > 2.0 * short.width() && (long.height() - short.height()).abs() < 2.0, "{short:?} {long:?}");
}

/// The values shown are those of the agent that keys and knobs speak of, and none while a person acts.
#[test]
fn the_values_shown_are_those_of_the_selected_agent() {
    let Some(mut app) = app(Panel::default()) else { return };
    let shows = |app: &mut App| {
        let world = app.world_mut();
        let mut context =
            world.query_filtered::<&mut EguiContext, With<PrimaryEguiContext>>().single_mut(world).unwrap();
        context.get_mut().data_mut(|data| {
            let id = egui::Id::new("onestep values");
            let is_shown = data.get_temp::<egui::Rect>(id).is_some();
            data.remove::<egui::Rect>(id);
            is_shown
        })
    };
    draw_scene(&mut app, false);
    app.update();
    assert!(shows(&mut app));
    *app.world_mut().query::<&mut AgentMode>().single_mut(app.world_mut()).unwrap() = AgentMode::Human;
    app.update();
    assert!(!shows(&mut app));
    *app.world_mut().query::<&mut AgentMode>().single_mut(app.world_mut()).unwrap() = AgentMode::Policy;
    app.update();
    assert!(shows(&mut app));
    // Another agent has values, the selected one has none.
    let mut sets = app.world_mut().query::<&mut CandidateSet>();
    let set = std::mem::take(&mut *sets.single_mut(app.world_mut()).unwrap());
    app.world_mut().spawn((Agent(9), set));
    app.update();
    assert!(!shows(&mut app));
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
    press(&mut app, "record");
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
    press(&mut app, "record");
    draw_scene(&mut app, false);
    for _ in 0..2_000 {
        app.update();
        if app.world().resource::<Filming>().last().is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
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
    press(&mut app, "record");
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
