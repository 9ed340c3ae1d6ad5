//! Options of commands that open a window.

use std::path::PathBuf;

use clap::Args;
use onestep::{
    ui::{Pace, Speed},
    window::{Screenshot, WindowOptions, parse_size, parse_speed},
};

/// How the window starts.
#[derive(Args)]
pub(super) struct WindowArgs {
    /// Speed in the window: so many times real time, or `max`
    #[arg(long, value_name = "TIMES", value_parser = parse_speed)]
    speed: Option<Speed>,
    /// Start paused; P goes on, a full stop makes one step
    #[arg(long)]
    paused: bool,
    /// Size of the window [default: 1280x720]
    #[arg(long, value_name = "WIDTHxHEIGHT", value_parser = parse_size)]
    size: Option<(u32, u32)>,
    /// Write a picture of the window, a .png, and close it
    #[arg(long, value_name = "FILE")]
    screenshot: Option<PathBuf>,
    /// Seconds before that picture
    #[arg(long, value_name = "SECS", default_value_t = 3.0, requires = "screenshot")]
    after: f32,
}

impl WindowArgs {
    /// The window of a command, with the speed it has by itself.
    pub(super) fn options(&self, title: String, speed: Speed) -> anyhow::Result<WindowOptions> {
        if let Some(path) = &self.screenshot {
            let is_png = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("png"));
            anyhow::ensure!(is_png, "--screenshot is {}; its name must end in .png", path.display());
            onestep::data::atomic::check_writable(path)?;
        }
        let defaults = WindowOptions::default();
        Ok(WindowOptions {
            title,
            size: self.size.unwrap_or(defaults.size),
            pace: Pace::at(self.speed.unwrap_or(speed)).with_pause(self.paused),
            screenshot: self.screenshot.clone().map(|path| Screenshot::new(path, self.after)),
        })
    }

    /// Whether an option was given that only a window understands.
    pub(super) fn is_set(&self) -> bool {
        self.speed.is_some() || self.paused || self.size.is_some() || self.screenshot.is_some()
    }
}
