use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bevy::prelude::*;
use onestep_agent::{EpisodeFinished, StageTimes};
use onestep_learn::{LearnerMetrics, LearnerState, PolicyHandle};

/// A curve that never holds more than [`Series::MOST`] points: when it is full, neighbours are joined.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Series {
    points: Vec<[f64; 2]>,
    /// How many values one point stands for.
    stride: u32,
    sum: [f64; 2],
    count: u32,
}

impl Series {
    /// Points of a curve; a panel has fewer pixels.
    pub(super) const MOST: usize = 512;

    pub(super) fn push(&mut self, x: f64, y: f64) {
        if !y.is_finite() {
            return;
        }
        self.stride = self.stride.max(1);
        self.sum = [self.sum[0] + x, self.sum[1] + y];
        self.count += 1;
        if self.count < self.stride {
            return;
        }
        self.points.push(self.sum.map(|sum| sum / f64::from(self.count)));
        (self.sum, self.count) = ([0.0; 2], 0);
        if self.points.len() >= Self::MOST {
            let (pairs, _) = self.points.as_chunks::<2>();
            self.points = pairs.iter().map(|[a, b]| [0.5 * (a[0] + b[0]), 0.5 * (a[1] + b[1])]).collect();
            self.stride *= 2;
        }
    }

    pub(super) fn points(&self) -> &[[f64; 2]] {
        &self.points
    }

    pub(super) fn last(&self) -> Option<f64> {
        self.points.last().map(|point| point[1])
    }
}

/// What the curves of the panel show, and how fast things go.
#[derive(Resource, Debug)]
pub(super) struct History {
    pub(super) success: Series,
    pub(super) returns: Series,
    pub(super) metrics: BTreeMap<&'static str, Series>,
    /// Episodes that ended, those with steps by hand left out where a policy is what one looks at.
    pub(super) episodes: u64,
    /// Episodes that were left out.
    pub(super) by_hand: u64,
    recent: std::collections::VecDeque<bool>,
    pub(super) rates: Rates,
    mark: Mark,
    last_updates: u64,
    frames: u64,
}

/// Events for each second, lately.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Rates {
    pub(super) steps: f64,
    pub(super) updates: f64,
    pub(super) frames: f64,
}

#[derive(Debug, Clone, Copy)]
struct Mark {
    at: Instant,
    steps: u64,
    updates: u64,
    frames: u64,
}

impl Default for History {
    fn default() -> Self {
        Self {
            success: Series::default(),
            returns: Series::default(),
            metrics: BTreeMap::new(),
            episodes: 0,
            by_hand: 0,
            recent: std::collections::VecDeque::new(),
            rates: Rates::default(),
            mark: Mark { at: Instant::now(), steps: 0, updates: 0, frames: 0 },
            last_updates: 0,
            frames: 0,
        }
    }
}

impl History {
    /// Share of the last episodes that ended in success.
    pub(super) fn recent_success(&self) -> Option<f64> {
        let successes = self.recent.iter().filter(|success| **success).count();
        (!self.recent.is_empty()).then(|| successes as f64 / self.recent.len() as f64)
    }

    fn measure(&mut self, steps: u64, updates: u64) {
        const EVERY: Duration = Duration::from_millis(800);
        let elapsed = self.mark.at.elapsed();
        if elapsed < EVERY {
            return;
        }
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / elapsed.as_secs_f64();
        self.rates = Rates {
            steps: rate(steps, self.mark.steps),
            updates: rate(updates, self.mark.updates),
            frames: rate(self.frames, self.mark.frames),
        };
        self.mark = Mark { at: Instant::now(), steps, updates, frames: self.frames };
    }
}

/// Reads what happened since the last frame.
pub(super) fn collect(
    mut history: ResMut<History>,
    mut finished: Option<MessageReader<EpisodeFinished>>,
    state: Option<Res<LearnerState>>,
    metrics: Option<Res<LearnerMetrics>>,
    times: Option<Res<StageTimes>>,
    policy: Option<Res<PolicyHandle>>,
) {
    /// Episodes that the success rate is taken over.
    const RECENT: usize = 20;
    let history = history.bypass_change_detection();
    history.frames += 1;
    let ticks = times.as_ref().map_or(0, |times| times.ticks());
    let (env_steps, updates) = state.as_ref().map_or((0, 0), |state| (state.env_steps, state.updates));
    // Without a learner nobody counts steps; the ticks are as good.
    let steps = if env_steps > 0 { env_steps } else { ticks };
    if let Some(finished) = &mut finished {
        for EpisodeFinished(end) in finished.read() {
            // What a person did is no success of the policy.
            if policy.is_some() && end.human_steps > 0 {
                history.by_hand += 1;
                continue;
            }
            history.episodes += 1;
            history.recent.push_back(end.success);
            if history.recent.len() > RECENT {
                history.recent.pop_front();
            }
            let share = history.recent_success().unwrap_or_default();
            history.success.push(steps as f64, 100.0 * share);
            history.returns.push(steps as f64, end.return_sum);
        }
    }
    if let Some(metrics) = metrics
        && updates > history.last_updates
    {
        history.last_updates = updates;
        for (name, value) in metrics.latest() {
            history.metrics.entry(*name).or_default().push(updates as f64, f64::from(*value));
        }
    }
    history.measure(ticks.max(env_steps), updates);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_curve_keeps_its_shape_in_few_points() {
        let mut series = Series::default();
        for step in 0..100_000 {
            series.push(f64::from(step), (f64::from(step) * 1e-4).sin());
        }
        series.push(1e5, f64::NAN);
        assert!(series.points().len() <= Series::MOST && series.points().len() > Series::MOST / 3);
        for [x, y] in series.points() {
            assert!((y - (x * 1e-4).sin()).abs() < 1e-2, "{x} {y}");
        }
        assert!(series.last().is_some_and(f64::is_finite));
    }
}
