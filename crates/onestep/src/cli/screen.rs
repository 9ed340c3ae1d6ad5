//! Progress and results on the screen: one line that changes on a terminal, plain lines otherwise.

use std::{
    io::{IsTerminal, Write},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use onestep::{
    folder::{Evaluation, EvaluationKind, Position},
    learn::LearnPhase,
    record::evaluation::EvaluationReport,
    train::{Prepared, Progress, TrainWatcher},
};

use super::stop;

/// Prints a line. A closed pipe (`onestep list | head -1`) is not worth an error.
pub(super) fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Prints a line to the error output.
pub(super) fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// An error with its causes, each said once: many errors name their cause in their own text already.
pub(super) fn all_causes(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

/// Seconds between two plain lines.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

/// Shows one thing that goes on.
pub(super) struct Screen {
    bar: Option<ProgressBar>,
    last_plain: Option<Instant>,
}

impl Screen {
    pub(super) fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{wide_msg}") {
                bar.set_style(style);
            }
            bar
        });
        Self { bar, last_plain: None }
    }

    /// A line that stays.
    pub(super) fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say(text)),
            None => say(text),
        }
    }

    /// The line that changes. Without a terminal it is printed now and then.
    pub(super) fn update(&mut self, text: impl FnOnce() -> String) {
        match &self.bar {
            Some(bar) => {
                bar.set_message(text());
                bar.tick();
            }
            None => {
                if self.last_plain.is_none_or(|last| last.elapsed() >= PLAIN_EVERY) {
                    say(&text());
                    self.last_plain = Some(Instant::now());
                }
            }
        }
    }

    /// The changing line goes away.
    pub(super) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Shows a training run.
pub(super) struct TrainScreen {
    screen: Screen,
    saved: Option<Position>,
}

impl TrainScreen {
    pub(super) fn new() -> Self {
        Self { screen: Screen::new(), saved: None }
    }

    pub(super) fn clear(&self) {
        self.screen.clear();
    }

    pub(super) fn has_saved(&self) -> bool {
        self.saved.is_some()
    }
}

impl TrainWatcher for TrainScreen {
    fn demonstrating(&mut self, kept: usize, wanted: usize) {
        self.screen.update(|| format!("demonstrations {kept} of {wanted}"));
    }

    fn prepared(&mut self, start: &Prepared) {
        self.screen.note(&format!("{}; {} parameters", start.compute, grouped(start.parameters as u64)));
        let steps = grouped(start.transitions as u64);
        self.screen.note(&match start.demonstration_success_rate {
            Some(rate) => format!("{steps} steps of demonstrations, {} of the episodes succeed", percent(rate)),
            None => format!("{steps} steps in the replay"),
        });
    }

    fn progress(&mut self, progress: &Progress) {
        self.screen.update(|| progress_line(progress));
    }

    fn evaluating(&mut self, done: usize, episodes: usize) {
        self.screen.update(|| format!("evaluation, episode {done} of {episodes}"));
    }

    fn evaluated(&mut self, evaluation: &Evaluation) {
        self.screen.note(&evaluation_line(evaluation));
    }

    fn saved(&mut self, position: Position) {
        self.saved = Some(position);
    }

    fn wants_to_stop(&mut self) -> bool {
        stop::is_wanted()
    }
}

/// A screen that is still there when whoever shows a run on it is gone.
#[cfg(feature = "render")]
pub(super) struct SharedScreen(pub(super) std::rc::Rc<std::cell::RefCell<TrainScreen>>);

#[cfg(feature = "render")]
impl TrainWatcher for SharedScreen {
    fn prepared(&mut self, start: &Prepared) {
        self.0.borrow_mut().prepared(start);
    }

    fn progress(&mut self, progress: &Progress) {
        self.0.borrow_mut().progress(progress);
    }

    fn evaluating(&mut self, done: usize, episodes: usize) {
        self.0.borrow_mut().evaluating(done, episodes);
    }

    fn evaluated(&mut self, evaluation: &Evaluation) {
        self.0.borrow_mut().evaluated(evaluation);
    }

    fn saved(&mut self, position: Position) {
        self.0.borrow_mut().saved(position);
    }

    fn wants_to_stop(&mut self) -> bool {
        stop::is_wanted()
    }
}

fn progress_line(progress: &Progress) -> String {
    let Position { updates, env_steps } = progress.position;
    let mut line = match progress.phase {
        LearnPhase::Offline => {
            format!("offline  {} of {} updates", grouped(updates), grouped(progress.offline_updates))
        }
        LearnPhase::Online | LearnPhase::Done => {
            format!(
                "online  {} of {} steps, {:.0} steps/s",
                grouped(env_steps),
                grouped(progress.online_steps),
                progress.steps_per_sec
            )
        }
    };
    line.push_str(&format!(", {:.0} updates/s", progress.updates_per_sec));
    if let Some(rate) = progress.success_rate {
        line.push_str(&format!(", success lately {}", percent(rate)));
    }
    if let Some(left) = progress.left_secs {
        line.push_str(&format!(", {} left", duration(left)));
    }
    line
}

/// What an evaluation was, in words of equal width.
pub(super) fn kind_name(kind: EvaluationKind) -> &'static str {
    match kind {
        EvaluationKind::AfterOffline => "after the offline phase",
        EvaluationKind::Online => "during the online phase",
        EvaluationKind::Final => "at the end",
    }
}

/// One evaluation in one line.
pub(super) fn evaluation_line(evaluation: &Evaluation) -> String {
    let place = format!("{}, {} steps", kind_name(evaluation.kind), grouped(evaluation.env_steps));
    format!("success {place:<40} {}, mean return {:.2}", success(&evaluation.report), evaluation.report.mean_return)
}

/// The success rate with its interval.
pub(super) fn success(report: &EvaluationReport) -> String {
    format!(
        "{:>7} ({} of {}, 95 % interval {} to {})",
        percent(report.success_rate),
        report.successes,
        report.episodes,
        percent(report.success_interval.low),
        percent(report.success_interval.high),
    )
}

pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// `12 345`: digits in groups of three.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// `1 h 05 min`, `3 min 20 s`, `12 s`.
pub(super) fn duration(secs: f64) -> String {
    let secs = secs.clamp(0.0, 1e9).round() as u64;
    match (secs / 3600, secs / 60 % 60, secs % 60) {
        (0, 0, secs) => format!("{secs} s"),
        (0, minutes, secs) => format!("{minutes} min {secs:02} s"),
        (hours, minutes, _) => format!("{hours} h {minutes:02} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let system = || std::io::Error::other("the disk is full");
        let named = onestep::config::ConfigError::Read { path: "a.toml".into(), source: system() };
        assert_eq!(all_causes(&named.into()), "cannot read a.toml: the disk is full");
        let outer = anyhow::Error::from(system()).context("cannot write b").context("the run stopped");
        assert_eq!(all_causes(&outer), "the run stopped: cannot write b: the disk is full");
    }

    #[test]
    fn numbers_and_times_are_easy_to_read() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1 000", "1 234 567"]);
        assert_eq!([0.4, 61.0, 3_900.0].map(duration), ["0 s", "1 min 01 s", "1 h 05 min"]);
        assert_eq!(percent(0.965), "96.5 %");
    }
}
