//! The panel is there, its buttons do what they say, and the scene keeps the rest of the picture.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests fail by panicking and say why they skip")]

use bevy::{
    camera::RenderTarget,
    prelude::*,
    render::{
        render_resource::TextureFormat,
        view::screenshot::{Screenshot, ScreenshotCaptured},
    },
};
use bevy_egui::{PrimaryEguiContext, egui, input::EguiInputEvent};
use onestep_agent::StageTimesPlugin;
use onestep_learn::{AlgorithmConfig, Compute, PolicyPlugin, PolicySource};
use onestep_record::{
    picture::Frame,
    tick,
    video::{VideoPlugin, find_adapter},
};
use onestep_sim::{
    SimPlugin,
    visual::{SimVisualPlugin, camera_place, default_camera},
};
use onestep_ui::{
    CandidatesPlugin, HumanPlugin, KeysPlugin, OrbitCamera, OrbitCameraPlugin, Pace, PacePlugin, Panel, PanelPlugin,
};

const WIDTH: u32 = 960;
const HEIGHT: u32 = 640;

/// An app with everything, after a few ticks; nothing if nothing can be drawn here.
fn app(panel: Panel) -> Option<App> {
    if let Err(error) = find_adapter() {
        eprintln!("skipped: {error}");
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
            PanelPlugin { panel },
        ));
    let (eye, focus) = camera_place("lift");
    let image = Image::new_target_texture(WIDTH, HEIGHT, TextureFormat::Rgba8UnormSrgb, None);
    let image = app.world_mut().resource_mut::<Assets<Image>>().add(image);
    app.world_mut().spawn((default_camera(), OrbitCamera::new(eye, focus), RenderTarget::from(image.clone())));
    app.finish();
    app.cleanup();
    app.update();
    // Without a window the panel's own camera has to be told where to draw.
    let world = app.world_mut();
    let context = world.query_filtered::<Entity, With<PrimaryEguiContext>>().single(world).unwrap();
    world.entity_mut(context).insert(RenderTarget::from(image));
    for _ in 0..3 {
        app.update();
        tick(app.world_mut());
    }
    Some(app)
}

/// What the camera of the scene draws, panel included. A film would leave the panel out: its cameras see the world alone.
fn picture(app: &mut App, name: &str) -> Frame {
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
    let frame = Frame { width: rgb.width(), height: rgb.height(), rgb: rgb.into_raw() };
    if let Ok(folder) = std::env::var("ONESTEP_KEEP_PICTURES") {
        frame.write_png(&std::path::Path::new(&folder).join(name)).unwrap();
    }
    frame
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

fn click(app: &mut App, at: egui::Pos2) {
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
}

#[test]
fn the_panel_takes_its_side_dark_or_light_and_goes_away() {
    let Some(mut dark) = app(Panel::default()) else { return };
    let shown = picture(&mut dark, "panel-dark.png");
    let panel = WIDTH - 330..WIDTH;
    assert!(brightness(&shown, panel.clone()) < 70.0);
    assert!(brightness(&shown, 0..WIDTH - 345) > 110.0);
    // The scene has the rest for itself.
    let world = dark.world_mut();
    let camera = world.query_filtered::<&Camera, With<OrbitCamera>>().single(world).unwrap();
    assert_eq!(camera.viewport.as_ref().unwrap().physical_size, UVec2::new(WIDTH - 336, HEIGHT));

    dark.world_mut().resource_mut::<Panel>().dark = false;
    dark.update();
    assert!(brightness(&picture(&mut dark, "panel-light.png"), panel.clone()) > 180.0);
    dark.world_mut().resource_mut::<Panel>().open = false;
    dark.update();
    let without = picture(&mut dark, "panel-closed.png");
    assert!(brightness(&without, panel) > 110.0);
}

#[test]
fn a_click_on_the_button_changes_what_it_says() {
    let Some(mut app) = app(Panel::default()) else { return };
    let before = picture(&mut app, "panel-paused.png");
    let x = (WIDTH - 336 + 50) as f32;
    // The first button in the column under the title is the one that pauses and goes on.
    let found = (40..160).step_by(8).find(|y| {
        click(&mut app, egui::pos2(x, *y as f32));
        !app.world().resource::<Pace>().paused
    });
    let y = found.unwrap();
    let after = picture(&mut app, "panel-running.png");
    let changed = |row: u32| {
        let part = |frame: &Frame| {
            let start = ((row * WIDTH + WIDTH - 336) * 3) as usize;
            frame.rgb[start..start + 3 * 110].to_vec()
        };
        part(&before) != part(&after)
    };
    assert!((y - 8..y + 8).any(|row| changed(row as u32)), "the button still says the same");
    click(&mut app, egui::pos2(x, y as f32));
    assert!(app.world().resource::<Pace>().paused);
}

#[test]
fn an_app_without_a_renderer_is_left_alone() {
    let mut app = App::new();
    app.add_plugins((MinimalPlugins, PanelPlugin::default()));
    app.update();
}
