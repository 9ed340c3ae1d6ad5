//! Options of commands that open a window.

use std::path::PathBuf;

use clap::Args;
use onestep::{
    ui::{Pace, Panel, Speed},
    window::{After, Screenshot, WindowOptions, parse_size, parse_speed},
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
    /// Seconds of the window before that picture [default: 3]
    #[arg(long, value_name = "SECS", requires = "screenshot", conflicts_with = "steps")]
    after: Option<f32>,
    /// Control steps before that picture, each in its turn: the same picture every time
    #[arg(long, value_name = "N", requires = "screenshot")]
    steps: Option<u64>,
    /// Start without the panel; F1 shows it
    #[arg(long)]
    no_panel: bool,
    /// Start with a light panel
    #[arg(long)]
    light: bool,
    /// Film the scene from the start
    #[arg(long)]
    film: bool,
    /// Folder for films of the scene, by the key V or the panel's button [default: the current one; `train`: the run's]
    #[arg(long, value_name = "FOLDER")]
    films: Option<PathBuf>,
    /// Give the graphics device up after so many frames, to try what happens
    #[arg(long, value_name = "FRAMES", hide = true)]
    lose_device_after: Option<u32>,
}

impl WindowArgs {
    /// The window of a command, with the speed it has by itself.
    pub(super) fn options(&self, title: String, speed: Speed) -> anyhow::Result<WindowOptions> {
        if let Some(path) = &self.screenshot {
            let is_png = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("png"));
            anyhow::ensure!(is_png, "--screenshot is {}; its name must end in .png", path.display());
            onestep::data::atomic::check_writable(path)?;
        }
        if let Some(films) = &self.films {
            anyhow::ensure!(films.is_dir(), "--films is {}, which is no folder; make it first", films.display());
        }
        let after = match (self.steps, self.after) {
            (Some(steps), _) => After::Steps(steps),
            (None, Some(secs)) if secs.is_finite() && secs >= 0.0 => After::Secs(secs),
            (None, Some(secs)) => anyhow::bail!("--after is {secs}; it must be 0 or more seconds"),
            (None, None) => After::Secs(3.0),
        };
        let defaults = WindowOptions::default();
        Ok(WindowOptions {
            title,
            size: self.size.unwrap_or(defaults.size),
            pace: Pace::at(self.speed.unwrap_or(speed)).with_pause(self.paused),
            screenshot: self.screenshot.clone().map(|path| Screenshot { path, after }),
            panel: Panel { open: !self.no_panel, dark: !self.light, ..Panel::default() },
            film: self.film,
            films: self.films.clone().unwrap_or(defaults.films),
            lose_device_after: self.lose_device_after,
        })
    }

    /// The folder of films, if it was named, else `default`.
    pub(super) fn films_or(&self, default: &std::path::Path) -> PathBuf {
        self.films.clone().unwrap_or_else(|| default.to_owned())
    }

    /// Whether an option was given that only a window understands.
    pub(super) fn is_set(&self) -> bool {
        self.speed.is_some()
            || self.paused
            || self.size.is_some()
            || self.screenshot.is_some()
            || self.no_panel
            || self.light
            || self.film
            || self.films.is_some()
    }
}
