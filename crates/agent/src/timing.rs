use std::time::{Duration, Instant};

use bevy_app::{App, FixedUpdate, Plugin};
use bevy_ecs::prelude::*;

use crate::{AgentPlugin, AgentSystems};

/// Measures how long each set of [`AgentSystems`] takes, into [`StageTimes`].
///
/// It reads the clock between the sets and nothing else, so a run is the same with and without it.
#[derive(Debug, Clone, Copy, Default)]
pub struct StageTimesPlugin;

/// How long the sets of the last ticks took.
#[derive(Resource, Debug, Clone)]
pub struct StageTimes {
    mark: Instant,
    last: [Duration; STAGES.len()],
    mean_secs: [f64; STAGES.len()],
    ticks: u64,
}

/// The sets of a tick with their names, in order.
const STAGES: [(AgentSystems, &str); 9] = [
    (AgentSystems::Begin, "begin"),
    (AgentSystems::Reset, "reset"),
    (AgentSystems::Observe, "observe"),
    (AgentSystems::Act, "act"),
    (AgentSystems::Step, "step"),
    (AgentSystems::Outcome, "outcome"),
    (AgentSystems::Store, "store"),
    (AgentSystems::Learn, "learn"),
    (AgentSystems::Record, "record"),
];

impl Default for StageTimes {
    fn default() -> Self {
        let zeros = [Duration::ZERO; STAGES.len()];
        Self { mark: Instant::now(), last: zeros, mean_secs: [0.0; STAGES.len()], ticks: 0 }
    }
}

impl StageTimes {
    /// Each set's name, its last duration, and its mean over about the last twenty ticks, in seconds.
    pub fn rows(&self) -> impl Iterator<Item = (&'static str, Duration, f64)> {
        let numbers = self.last.iter().zip(&self.mean_secs);
        STAGES.iter().zip(numbers).map(|((_, name), (last, mean))| (*name, *last, *mean))
    }

    /// Ticks measured so far.
    #[must_use]
    pub fn ticks(&self) -> u64 {
        self.ticks
    }

    /// Adds a tick that was measured elsewhere: how long each set took, in the order of [`Self::rows`].
    pub fn add_tick(&mut self, took: [Duration; STAGES.len()]) {
        for (stage, took) in took.into_iter().enumerate() {
            self.add(stage, took);
        }
    }

    fn note(&mut self, stage: usize) {
        let now = Instant::now();
        let took = now - std::mem::replace(&mut self.mark, now);
        self.add(stage, took);
    }

    fn add(&mut self, stage: usize, took: Duration) {
        /// Weight of a tick in the mean.
        const WEIGHT: f64 = 0.05;
        if let (Some(last), Some(mean)) = (self.last.get_mut(stage), self.mean_secs.get_mut(stage)) {
            *last = took;
            *mean = if self.ticks == 0 { took.as_secs_f64() } else { *mean + WEIGHT * (took.as_secs_f64() - *mean) };
        }
        if stage + 1 == STAGES.len() {
            self.ticks += 1;
        }
    }
}

impl Plugin for StageTimesPlugin {
    fn build(&self, app: &mut App) {
        if !app.is_plugin_added::<AgentPlugin>() {
            app.add_plugins(AgentPlugin::default());
        }
        app.init_resource::<StageTimes>();
        let start = |mut times: ResMut<StageTimes>| times.mark = Instant::now();
        app.add_systems(FixedUpdate, start.before(AgentSystems::Begin));
        for (index, (set, _)) in STAGES.iter().enumerate() {
            let note = move |mut times: ResMut<StageTimes>| times.note(index);
            match STAGES.get(index + 1) {
                Some((next, _)) => app.add_systems(FixedUpdate, note.after(*set).before(*next)),
                None => app.add_systems(FixedUpdate, note.after(*set)),
            };
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_slow_set_is_seen_as_such() {
        let mut app = App::new();
        app.add_plugins(StageTimesPlugin)
            .add_systems(FixedUpdate, (|| std::thread::sleep(Duration::from_millis(4))).in_set(AgentSystems::Act));
        for _ in 0..3 {
            app.world_mut().run_schedule(FixedUpdate);
        }
        let times = app.world().resource::<StageTimes>();
        assert_eq!(times.ticks(), 3);
        let (slowest, last, mean) = times.rows().max_by_key(|(_, last, _)| *last).unwrap();
        assert_eq!(slowest, "act");
        assert!(last >= Duration::from_millis(4) && mean >= 0.004);
    }

    #[test]
    fn a_tick_measured_elsewhere_counts_like_any_other() {
        let mut times = StageTimes::default();
        times.add_tick([1, 2, 3, 4, 5, 6, 7, 8, 9].map(Duration::from_millis));
        assert_eq!(times.ticks(), 1);
        for (index, (_, last, mean)) in times.rows().enumerate() {
            assert_eq!(last, Duration::from_millis(index as u64 + 1));
            assert!((mean - last.as_secs_f64()).abs() < 1e-12);
        }
    }
}
