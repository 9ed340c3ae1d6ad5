//! How good is a policy: whole episodes from given seeds, counted.

use std::collections::VecDeque;

use bevy::{
    app::App,
    ecs::{message::Messages, prelude::*},
};
use onestep_agent::{EpisodeEnd, EpisodeFinished, prelude::*};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ticking::{finish, tick};

/// What an evaluation found.
///
/// ```
/// # use onestep_record::evaluation::Interval;
/// let interval = Interval::wilson(48, 50);
/// assert!(interval.low > 0.86 && interval.high < 0.99);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvaluationReport {
    /// Number of episodes, every one of them whole.
    pub episodes: usize,
    /// Episodes whose goal held at their last step.
    pub successes: usize,
    /// `successes / episodes`.
    pub success_rate: f64,
    /// 95 % interval of the success rate.
    pub success_interval: Interval,
    /// Share of episodes whose goal held after at least one step.
    pub success_once_rate: f64,
    /// Mean undiscounted sum of rewards.
    pub mean_return: f64,
    /// Mean number of control steps.
    pub mean_steps: f64,
    /// One row for each episode, in the order of the given seeds.
    pub rows: Vec<EpisodeRow>,
}

/// One episode of an evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpisodeRow {
    /// Seed of its initial state.
    pub seed: u64,
    /// Number of the agent that played it.
    pub agent: u32,
    /// The goal held at the end.
    pub success: bool,
    /// The goal held after at least one step.
    pub success_once: bool,
    /// Undiscounted sum of rewards.
    pub return_sum: f64,
    /// Control steps it took.
    pub steps: u32,
    /// The task ended it.
    pub terminated: bool,
    /// Time ended it.
    pub truncated: bool,
}

/// A stretch that holds the true rate with 95 % confidence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end, in [0, 1].
    pub low: f64,
    /// Upper end, in [0, 1].
    pub high: f64,
}

impl Interval {
    /// The 95 % score interval of a rate, of which `successes` out of `trials` were seen. Without trials it is [0, 1].
    ///
    /// Unlike the textbook interval it stays sensible at 0 % and at 100 %.
    /// Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).
    #[must_use]
    pub fn wilson(successes: usize, trials: usize) -> Self {
        /// 97.5 % quantile of the normal distribution.
        const Z: f64 = 1.959_963_984_540_054;
        if trials == 0 {
            return Self { low: 0.0, high: 1.0 };
        }
        let n = trials as f64;
        let rate = successes as f64 / n;
        let scale = 1.0 + Z * Z / n;
        let center = (rate + Z * Z / (2.0 * n)) / scale;
        let half = Z / scale * (rate * (1.0 - rate) / n + Z * Z / (4.0 * n * n)).sqrt();
        Self { low: (center - half).max(0.0), high: (center + half).min(1.0) }
    }
}

/// Why an evaluation has no result.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EvaluationError {
    /// No seeds, so nothing to do.
    #[error("an evaluation needs at least one seed; ask for at least one episode")]
    NoSeeds,
    /// The app has no agent that acts.
    #[error("the app has no agent that acts; spawn one, and set its mode to something other than Idle")]
    NoAgents,
    /// Agents share a number.
    #[error("two agents have number {agent}; give each agent a number of its own")]
    SharedNumber {
        /// The number.
        agent: u32,
    },
    /// The time limit of every agent has passed and episodes are still open.
    #[error(
        "only {finished} of {expected} episodes ended within {ticks} control steps, which is more than the time limit \
         allows; does something else set the agents' modes, seeds or episodes?"
    )]
    Unfinished {
        /// Episodes that ended.
        finished: usize,
        /// Episodes that were asked for.
        expected: usize,
        /// Control steps done.
        ticks: u64,
    },
    /// The watcher stopped it.
    #[error("the evaluation was stopped: {reason}")]
    Stopped {
        /// What the watcher said.
        reason: String,
    },
}

/// Plays one whole episode for each seed and reports how they went.
///
/// The seeds are dealt out to the app's agents in turn (agent `k` of `n` gets seeds `k`, `k + n`, …), so an app with
/// ten arenas plays ten episodes at a time, and each ends where it ends: none is cut short, none is counted twice.
/// Use an app of its own for it, so that training episodes stay untouched.
///
/// The app's random streams start over for the evaluation and are put back afterwards: the same seeds, the same policy
/// and the same number of agents give the same report. The agents' modes are put back too, so the same app can
/// evaluate again.
///
/// # Errors
/// [`EvaluationError`], when there is nothing to evaluate, or when episodes do not end though their time is over.
pub fn evaluate(app: &mut App, seeds: &[u64]) -> Result<EvaluationReport, EvaluationError> {
    evaluate_watched(app, seeds, |_, _| Ok(()))
}

/// As [`evaluate`], and asks `watch` after each tick whether to go on. It gets the world and the number of ended
/// episodes: the place for a progress line, for Ctrl-C, and to notice faults.
///
/// # Errors
/// As [`evaluate`], and [`EvaluationError::Stopped`] with the reason that `watch` gives.
pub fn evaluate_watched(
    app: &mut App,
    seeds: &[u64],
    mut watch: impl FnMut(&World, usize) -> Result<(), String>,
) -> Result<EvaluationReport, EvaluationError> {
    let mut run = EvaluationRun::start(app, seeds)?;
    let world = app.world_mut();
    loop {
        if let Some(result) = run.tick(world) {
            return result;
        }
        if let Err(reason) = watch(world, run.finished()) {
            run.stop(world);
            return Err(EvaluationError::Stopped { reason });
        }
    }
}

/// An evaluation under way, for whoever has other things to do between two of its control steps.
///
/// [`evaluate_watched`] is a loop around it.
pub struct EvaluationRun {
    deal: Deal,
    streams: Option<RandomStreams>,
    ticks: u64,
}

impl EvaluationRun {
    /// Deals the seeds out to the agents of `app`, and lets its random streams start over.
    ///
    /// # Errors
    /// [`EvaluationError`], when there is nothing to evaluate.
    pub fn start(app: &mut App, seeds: &[u64]) -> Result<Self, EvaluationError> {
        finish(app);
        let world = app.world_mut();
        let deal = Deal::new(world, seeds)?;
        let streams = world.get_resource::<RandomStreams>().cloned();
        if let Some(streams) = &streams {
            world.insert_resource(RandomStreams::new(streams.root()));
        }
        Ok(Self { deal, streams, ticks: 0 })
    }

    /// One control step of the same app's world; the result when all episodes are over, or cannot end any more.
    pub fn tick(&mut self, world: &mut World) -> Option<Result<EvaluationReport, EvaluationError>> {
        let result = if self.deal.is_complete() {
            self.deal.report()
        } else if self.ticks >= self.deal.max_ticks {
            let (finished, expected) = (self.deal.finished, self.deal.seeds.len());
            Err(EvaluationError::Unfinished { finished, expected, ticks: self.ticks })
        } else {
            tick(world);
            self.ticks += 1;
            self.deal.collect(world);
            return None;
        };
        self.stop(world);
        Some(result)
    }

    /// Episodes that are over.
    #[must_use]
    pub fn finished(&self) -> usize {
        self.deal.finished
    }

    /// Gives it up: modes and random streams are put back.
    pub fn stop(&mut self, world: &mut World) {
        self.deal.put_back(world);
        if let Some(streams) = self.streams.take() {
            world.insert_resource(streams);
        }
    }
}

/// Seeds dealt out to agents, and the episodes that came back.
pub(crate) struct Deal {
    seeds: Vec<u64>,
    players: Vec<Player>,
    rows: Vec<Option<EpisodeRow>>,
    finished: usize,
    max_ticks: u64,
    cursor: bevy::ecs::message::MessageCursor<EpisodeFinished>,
}

struct Player {
    agent: Agent,
    entity: Entity,
    mode: AgentMode,
    /// Which seeds it still has to play, by position.
    pending: VecDeque<usize>,
}

impl Deal {
    /// Gives each acting agent its share of the seeds.
    pub(crate) fn new(world: &mut World, seeds: &[u64]) -> Result<Self, EvaluationError> {
        /// Ticks beyond the sum of all time limits after which something must be wrong.
        const SLACK_TICKS: u64 = 100;
        if seeds.is_empty() {
            return Err(EvaluationError::NoSeeds);
        }
        let mut found: Vec<_> = world
            .query::<(Entity, &Agent, &AgentMode, &AgentSpec)>()
            .iter(world)
            .filter(|(_, _, mode, _)| **mode != AgentMode::Idle)
            .map(|(entity, agent, mode, spec)| (*agent, entity, *mode, spec.max_episode_steps))
            .collect();
        found.sort_unstable_by_key(|(agent, ..)| *agent);
        if let Some([(agent, ..), _]) = found.array_windows().find(|[(a, ..), (b, ..)]| a == b) {
            return Err(EvaluationError::SharedNumber { agent: agent.0 });
        }
        let count = found.len();
        if count == 0 {
            return Err(EvaluationError::NoAgents);
        }
        let mut max_ticks = 0;
        let mut players = Vec::with_capacity(count);
        for (k, (agent, entity, mode, max_episode_steps)) in found.into_iter().enumerate() {
            let pending: VecDeque<usize> = (k..seeds.len()).step_by(count).collect();
            max_ticks = max_ticks.max(pending.len() as u64 * (u64::from(max_episode_steps) + 1));
            let list = pending.iter().filter_map(|position| seeds.get(*position).copied()).collect();
            let mut entity_mut = world.entity_mut(entity);
            entity_mut.insert(SeedSource::List(list));
            // Half an episode from before is nobody's result.
            if let Some(mut episode) = entity_mut.get_mut::<Episode>() {
                episode.abandon();
            }
            players.push(Player { agent, entity, mode, pending });
        }
        let cursor = world.get_resource_or_init::<Messages<EpisodeFinished>>().get_cursor_current();
        Ok(Self {
            rows: vec![None; seeds.len()],
            seeds: seeds.to_vec(),
            players,
            finished: 0,
            max_ticks: max_ticks + SLACK_TICKS,
            cursor,
        })
    }

    /// Reads the news of the last tick; returns how many episodes ended in it.
    pub(crate) fn collect(&mut self, world: &World) -> usize {
        let Some(messages) = world.get_resource::<Messages<EpisodeFinished>>() else { return 0 };
        let before = self.finished;
        for EpisodeFinished(end) in self.cursor.read(messages) {
            let Some(player) = self.players.iter_mut().find(|player| player.agent == end.agent) else { continue };
            let Some(position) = player.pending.pop_front() else { continue };
            if let Some(row) = self.rows.get_mut(position) {
                *row = Some(EpisodeRow::from(end));
                self.finished += 1;
            }
        }
        self.finished - before
    }

    /// Whether every episode has ended.
    pub(crate) fn is_complete(&self) -> bool {
        self.finished == self.seeds.len()
    }

    /// Episodes ended so far.
    #[cfg(feature = "render")]
    pub(crate) fn finished(&self) -> usize {
        self.finished
    }

    /// Ticks after which something must be wrong.
    #[cfg(feature = "render")]
    pub(crate) fn max_ticks(&self) -> u64 {
        self.max_ticks
    }

    /// The agents get their modes back.
    pub(crate) fn put_back(&self, world: &mut World) {
        for player in &self.players {
            if let Ok(mut entity) = world.get_entity_mut(player.entity) {
                entity.insert(player.mode);
                if let Some(mut episode) = entity.get_mut::<Episode>() {
                    episode.abandon();
                }
            }
        }
    }

    /// The sums over all rows.
    pub(crate) fn report(&self) -> Result<EvaluationReport, EvaluationError> {
        let rows: Vec<EpisodeRow> = self.rows.iter().flatten().cloned().collect();
        let episodes = rows.len();
        if episodes == 0 {
            return Err(EvaluationError::NoSeeds);
        }
        let mean = |of: &dyn Fn(&EpisodeRow) -> f64| rows.iter().map(of).sum::<f64>() / episodes as f64;
        let successes = rows.iter().filter(|row| row.success).count();
        Ok(EvaluationReport {
            episodes,
            successes,
            success_rate: successes as f64 / episodes as f64,
            success_interval: Interval::wilson(successes, episodes),
            success_once_rate: mean(&|row| f64::from(u8::from(row.success_once))),
            mean_return: mean(&|row| row.return_sum),
            mean_steps: mean(&|row| f64::from(row.steps)),
            rows,
        })
    }
}

impl From<&EpisodeEnd> for EpisodeRow {
    fn from(end: &EpisodeEnd) -> Self {
        Self {
            seed: end.seed,
            agent: end.agent.0,
            success: end.success,
            success_once: end.success_once,
            return_sum: end.return_sum,
            steps: end.steps,
            terminated: end.terminated,
            truncated: end.truncated,
        }
    }
}
