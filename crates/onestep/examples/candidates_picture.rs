//! Draws what a trained policy considers: one picture for every few control steps of an episode.
//!
//! ```sh
//! cargo run --release --example candidates_picture -- runs/lift-mvp-seed0 pictures
//! ```

use std::path::PathBuf;

use anyhow::{Context, Result};
use bevy::prelude::*;
use onestep::{
    OnestepVisualPlugins,
    config::RunConfig,
    folder::RunFolder,
    learn::{ActSettings, checkpoint, prepare},
    record::{
        finish, tick,
        video::{VideoPlugin, capture},
    },
    run::{Role, add_plugins, build_app},
    sim::{Arena, visual::default_camera},
    ui::{Panel, PanelPlugin},
};

/// Control steps that are drawn.
const STEPS: u32 = 32;
const CANDIDATES: usize = 64;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let run = PathBuf::from(arguments.next().context("the first argument is the folder of a run")?);
    let out = PathBuf::from(arguments.next().unwrap_or_else(|| ".".to_owned()));
    let seed = arguments.next().map_or(Ok(1), |seed| seed.parse())?;
    std::fs::create_dir_all(&out)?;
    let (folder, mut config) = RunFolder::open(&run)?;
    let mut learner = build_app(&config, &Role::Train);
    let policy = prepare(&mut learner)?;
    checkpoint::load_weights(&policy, &folder.existing_checkpoint()?)?;
    config.seed = seed;
    let mut app = scene(&config, Role::Show(policy));
    for step in 0..STEPS {
        tick(app.world_mut());
        // The first step of each chunk: paths start where the hand is.
        if !step.is_multiple_of(u32::try_from(config.algorithm.horizon())?) {
            continue;
        }
        frame_the_hand(&mut app);
        (0..3).for_each(|_| app.update());
        capture(&mut app)?.write_png(&out.join(format!("candidates-{step:02}.png")))?;
    }
    Ok(())
}

fn scene(config: &RunConfig, role: Role) -> App {
    let mut app = App::new();
    app.add_plugins(VideoPlugin { width: 1280, height: 720 });
    add_plugins(&mut app, config, &role);
    // The panel itself stays closed: the legend of the candidates is wanted.
    app.add_plugins((OnestepVisualPlugins, PanelPlugin { panel: Panel { open: false, ..Panel::default() } }));
    app.world_mut().spawn(default_camera());
    finish(&mut app);
    if let Some(mut settings) = app.world_mut().get_resource_mut::<ActSettings>() {
        settings.candidates = Some(CANDIDATES);
    }
    app
}

/// The camera looks at the hand from nearby.
fn frame_the_hand(app: &mut App) {
    let world = app.world_mut();
    let hand = world.query::<&Arena>().iter(world).find_map(|arena| arena.sim().grip_site()).unwrap_or(Vec3::Y);
    let focus = hand - Vec3::Y * 0.045;
    for mut camera in world.query_filtered::<&mut Transform, With<Camera3d>>().iter_mut(world) {
        *camera = Transform::from_translation(focus + Vec3::new(0.40, 0.20, 0.50)).looking_at(focus, Vec3::Y);
    }
}
