use std::collections::BTreeMap;

use bevy::ecs::prelude::*;
use onestep_policy::Metrics;

/// What the updates report, as means since somebody last looked.
#[derive(Resource, Debug, Default, Clone)]
pub struct LearnerMetrics {
    latest: Metrics,
    sums: BTreeMap<&'static str, (f64, u64)>,
}

impl LearnerMetrics {
    /// Adds what one update reported.
    pub fn add(&mut self, metrics: Metrics) {
        for &(name, value) in &metrics {
            let (sum, count) = self.sums.entry(name).or_default();
            *sum += f64::from(value);
            *count += 1;
        }
        self.latest = metrics;
    }

    /// The last update's numbers. The names are constants in [`onestep_policy::metrics`].
    #[must_use]
    pub fn latest(&self) -> &[(&'static str, f32)] {
        &self.latest
    }

    /// Means since the last call, in the order of their names.
    pub fn take_means(&mut self) -> Vec<(&'static str, f32)> {
        std::mem::take(&mut self.sums)
            .into_iter()
            .map(|(name, (sum, count))| (name, (sum / count as f64) as f32))
            .collect()
    }
}
