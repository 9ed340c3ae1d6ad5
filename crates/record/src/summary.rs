//! Several evaluations of one agent taken together: one report for each root seed of its episodes.

use serde::{Deserialize, Serialize};

use crate::evaluation::{EpisodeRow, EvaluationReport, Interval};

/// The evaluation whose episodes came from one root seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeedReport {
    /// The root seed.
    pub seed: u64,
    /// What was found.
    pub report: EvaluationReport,
}

/// All episodes of some evaluations as one, and how the evaluations differ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Number of episodes, every one of them whole.
    pub episodes: usize,
    /// Episodes whose goal held at their last step.
    pub successes: usize,
    /// `successes / episodes`.
    pub success_rate: f64,
    /// 95 % interval of the success rate, of all episodes together.
    pub success_interval: Interval,
    /// Share of episodes whose goal held after at least one step.
    pub success_once_rate: f64,
    /// Its 95 % interval.
    pub success_once_interval: Interval,
    /// Mean undiscounted sum of rewards.
    pub mean_return: f64,
    /// Mean number of control steps.
    pub mean_steps: f64,
    /// Success rates of the evaluations.
    pub success_spread: Spread,
    /// Mean returns of the evaluations.
    pub return_spread: Spread,
}

impl Summary {
    /// Over all episodes of `reports`; `None` if there is no episode.
    #[must_use]
    pub fn of(reports: &[SeedReport]) -> Option<Self> {
        let rows: Vec<&EpisodeRow> = reports.iter().flat_map(|seed| &seed.report.rows).collect();
        let episodes = rows.len();
        let count = |is: fn(&EpisodeRow) -> bool| rows.iter().filter(|row| is(row)).count();
        let mean = |of: fn(&EpisodeRow) -> f64| rows.iter().map(|row| of(row)).sum::<f64>() / episodes as f64;
        let (successes, once) = (count(|row| row.success), count(|row| row.success_once));
        let spread = |of: fn(&EvaluationReport) -> f64| {
            let values: Vec<f64> = reports.iter().map(|seed| of(&seed.report)).collect();
            Spread::of(&values)
        };
        Some(Self {
            episodes,
            successes,
            success_rate: successes as f64 / episodes as f64,
            success_interval: Interval::wilson(successes, episodes),
            success_once_rate: once as f64 / episodes as f64,
            success_once_interval: Interval::wilson(once, episodes),
            mean_return: mean(|row| row.return_sum),
            mean_steps: mean(|row| f64::from(row.steps)),
            success_spread: spread(|report| report.success_rate)?,
            return_spread: spread(|report| report.mean_return)?,
        })
        .filter(|summary| summary.episodes > 0)
    }
}

/// How some numbers differ.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation, of the sample (divided by one less than their number); 0 for a single one.
    pub std: f64,
    /// The least of them.
    pub least: f64,
    /// The greatest of them.
    pub greatest: f64,
}

impl Spread {
    /// Of these numbers; `None` if there are none.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let least = values.iter().copied().min_by(f64::total_cmp)?;
        let greatest = values.iter().copied().max_by(f64::total_cmp)?;
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let std = if values.len() > 1 { (squares / (values.len() - 1) as f64).sqrt() } else { 0.0 };
        Some(Self { mean, std, least, greatest })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    fn report(seed: u64, successes: &[(bool, bool)]) -> SeedReport {
        let rows: Vec<EpisodeRow> = successes
            .iter()
            .map(|(success, success_once)| EpisodeRow {
                seed: 1,
                agent: 0,
                success: *success,
                success_once: *success_once,
                return_sum: if *success { -2.0 } else { -10.0 },
                steps: if *success { 3 } else { 10 },
                terminated: *success,
                truncated: !success,
            })
            .collect();
        let share = |count: usize| count as f64 / rows.len() as f64;
        let count = rows.iter().filter(|row| row.success).count();
        let report = EvaluationReport {
            episodes: rows.len(),
            successes: count,
            success_rate: share(count),
            success_interval: Interval::wilson(count, rows.len()),
            success_once_rate: share(rows.iter().filter(|row| row.success_once).count()),
            mean_return: rows.iter().map(|row| row.return_sum).sum::<f64>() / rows.len() as f64,
            mean_steps: 0.0,
            rows,
        };
        SeedReport { seed, report }
    }

    #[test]
    fn seeds_are_pooled_and_their_spread_is_told() {
        let reports = [
            report(0, &[(true, true), (true, true), (false, true), (false, false)]),
            report(1, &[(true, true), (true, true), (true, true), (true, true)]),
        ];
        let summary = Summary::of(&reports).unwrap();
        assert_eq!((summary.episodes, summary.successes), (8, 6));
        assert_eq!((summary.success_rate, summary.success_once_rate), (0.75, 0.875));
        assert_eq!(summary.success_interval, Interval::wilson(6, 8));
        assert_eq!(summary.success_once_interval, Interval::wilson(7, 8));
        assert_eq!((summary.mean_return, summary.mean_steps), (-4.0, 4.75));
        let Spread { mean, std, least, greatest } = summary.success_spread;
        assert_eq!((mean, least, greatest), (0.75, 0.5, 1.0));
        assert!((std - (2.0_f64 * 0.25 * 0.25).sqrt()).abs() < 1e-12, "{std}");
        assert_eq!(summary.return_spread.least, -6.0);
        assert_eq!(Summary::of(&[]), None);
    }
}
