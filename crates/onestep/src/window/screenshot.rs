use std::path::PathBuf;

use bevy::{
    prelude::*,
    render::view::screenshot::{Screenshot as Capture, ScreenshotCaptured},
};
use onestep_record::picture::Frame;
use onestep_ui::{CloseRequest, Notice};

/// A picture of the whole window, panel included; the window closes after it.
#[derive(Debug, Clone, PartialEq)]
pub struct Screenshot {
    /// A file that ends in `.png`.
    pub path: PathBuf,
    /// Seconds after the first frame.
    pub after_secs: f32,
}

#[derive(Resource)]
struct Wanted {
    screenshot: Screenshot,
    is_asked: bool,
}

pub(super) fn add(app: &mut App, screenshot: Screenshot) {
    app.insert_resource(Wanted { screenshot, is_asked: false }).add_systems(Update, ask);
}

fn ask(mut commands: Commands, mut wanted: ResMut<Wanted>, time: Res<Time<Real>>) {
    if wanted.is_asked || time.elapsed_secs() < wanted.screenshot.after_secs {
        return;
    }
    wanted.is_asked = true;
    commands.spawn(Capture::primary_window()).observe(write);
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
