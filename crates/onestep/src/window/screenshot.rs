use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use bevy::{
    prelude::*,
    render::{
        Render, RenderApp, RenderSystems,
        render_resource::PipelineCache,
        view::screenshot::{Screenshot as Capture, ScreenshotCaptured},
    },
};
use onestep_agent::StageTimes;
use onestep_record::picture::Frame;
use onestep_ui::{CloseRequest, Notice, Pace, RunStatus};

/// A picture of the whole window, panel included; the window closes after it.
#[derive(Debug, Clone, PartialEq)]
pub struct Screenshot {
    /// A file that ends in `.png`.
    pub path: PathBuf,
    /// When it is taken.
    pub after: After,
}

/// The moment of a picture. Before the scene is there, time does not count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum After {
    /// So many seconds of the window.
    Secs(f32),
    /// So many control steps, made one by one: the same picture every time. A run that is over sooner is taken at its end.
    Steps(u64),
}

#[derive(Resource)]
struct Wanted {
    screenshot: Screenshot,
    /// Frames in a row in which nothing was missing; the renderer counts.
    whole_frames: Arc<AtomicU32>,
    /// Seconds at the first of them.
    since: Option<f32>,
    /// Frames after the last step, so that what was drawn by it is on the screen.
    settled: u32,
    is_asked: bool,
}

/// Without these frames something may still be under way between world and screen.
const FRAMES: u32 = 3;

pub(super) fn add(app: &mut App, screenshot: Screenshot) {
    let whole_frames = Arc::new(AtomicU32::new(0));
    if let Some(render) = app.get_sub_app_mut(RenderApp) {
        let whole_frames = whole_frames.clone();
        let count = move |pipelines: Res<PipelineCache>| {
            if pipelines.waiting_pipelines().next().is_some() {
                whole_frames.store(0, Ordering::Relaxed);
            } else {
                whole_frames.fetch_add(1, Ordering::Relaxed);
            }
        };
        render.add_systems(Render, count.after(RenderSystems::Render).before(RenderSystems::PostCleanup));
    }
    let wanted = Wanted { screenshot, whole_frames, since: None, settled: 0, is_asked: false };
    app.insert_resource(wanted).add_systems(Update, ask);
}

fn ask(
    mut commands: Commands,
    mut wanted: ResMut<Wanted>,
    time: Res<Time<Real>>,
    times: Option<Res<StageTimes>>,
    status: Option<Res<RunStatus>>,
    mut pace: ResMut<Pace>,
) {
    /// Steps that are asked for in one frame.
    const STEPS: u64 = 4;
    if matches!(wanted.screenshot.after, After::Steps(_)) {
        pace.paused = true;
    }
    if wanted.is_asked || wanted.whole_frames.load(Ordering::Relaxed) < FRAMES {
        return;
    }
    let is_time = match wanted.screenshot.after {
        After::Secs(secs) => {
            let now = time.elapsed_secs();
            now - *wanted.since.get_or_insert(now) >= secs
        }
        After::Steps(steps) => {
            let is_over = status.is_some_and(|status| status.is_over);
            let left = if is_over { 0 } else { steps.saturating_sub(times.map_or(steps, |times| times.ticks())) };
            (0..left.min(STEPS)).for_each(|_| pace.single_tick());
            wanted.settled = if left == 0 { wanted.settled + 1 } else { 0 };
            wanted.settled > FRAMES
        }
    };
    if is_time {
        wanted.is_asked = true;
        commands.spawn(Capture::primary_window()).observe(write);
    }
}

fn write(captured: On<ScreenshotCaptured>, mut commands: Commands, wanted: Res<Wanted>, mut notice: ResMut<Notice>) {
    let path = &wanted.screenshot.path;
    let written = captured.image.clone().try_into_dynamic().map_err(|error| error.to_string()).and_then(|picture| {
        let rgb = picture.to_rgb8();
        let frame = Frame { width: rgb.width(), height: rgb.height(), rgb: rgb.into_raw() };
        frame.write_png(path).map_err(|error| error.to_string())
    });
    if let Err(error) = written {
        tracing::error!("no picture in {}: {error}", path.display());
        notice.complain(format!("no picture in {}: {error}", path.display()));
    }
    commands.insert_resource(CloseRequest);
}
