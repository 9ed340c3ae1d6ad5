use bevy::ecs::prelude::*;
use onestep_data::EpisodeData;
use onestep_policy::{Batch, Phase};
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use crate::LearnError;

/// No row: the episode goes no further here (yet).
const NONE: u32 = u32::MAX;

/// What a row of the replay is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    /// A transition inside an episode.
    Step = 0,
    /// The last transition of an episode that the task ended.
    Terminated = 1,
    /// The last transition of an episode that was cut by time.
    Truncated = 2,
    /// Only an observation: the true last one of an episode.
    Last = 3,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Step,
            1 => Self::Terminated,
            2 => Self::Truncated,
            3 => Self::Last,
            _ => return None,
        })
    }
}

/// What has been lived through: demonstrations and online experience, in one ring of fixed capacity.
///
/// Rows lie in contiguous arrays in the order in which they came, whatever agent they came from. Each row knows the
/// row that follows it in its episode, so chunks of `h` actions are cut from any place of any episode, of several
/// agents at once, and an episode's true last observation is a row of its own (never a start of a chunk).
#[derive(Resource, Debug, Clone)]
pub struct Replay {
    observation_dim: usize,
    action_dim: usize,
    capacity: usize,
    head: usize,
    /// Rows in use.
    used: usize,
    /// Number of the next episode; rows of different episodes never carry the same number.
    next_episode: u32,
    observations: Vec<f32>,
    actions: Vec<f32>,
    rewards: Vec<f32>,
    next_rows: Vec<u32>,
    kinds: Vec<u8>,
    episodes: Vec<u32>,
    demonstrations: Vec<u8>,
    interventions: Vec<u8>,
    /// Rows in the ring whose action a person wrote.
    by_hand: usize,
    /// Transitions in the ring, without the rows that are only a last observation.
    transitions: usize,
}

/// One transition as it is added.
#[derive(Debug, Clone, Copy)]
pub struct Transition<'a> {
    /// `s_t`, `[S]`.
    pub observation: &'a [f32],
    /// `a_t`, `[A]`.
    pub action: &'a [f32],
    /// `r_t`.
    pub reward: f32,
    /// The task ended here.
    pub terminated: bool,
    /// Time ended it here.
    pub truncated: bool,
    /// `s_{t+1}`, `[S]`: kept only at the end of an episode, else it is the next transition's observation.
    pub next_observation: &'a [f32],
    /// A person wrote the action, while a policy learned or in a demonstration.
    pub intervention: bool,
}

/// Where a row comes from.
#[derive(Debug, Default, Clone, Copy)]
struct Source {
    demonstration: bool,
    intervention: bool,
}

/// The open end of one episode that is being added.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayCursor {
    last: Option<(u32, u32)>,
}

/// A sampled batch that owns its memory, to be filled again and again.
#[derive(Debug, Default, Clone)]
pub struct BatchBuffer {
    size: usize,
    observations: Vec<f32>,
    actions: Vec<f32>,
    valid: Vec<f32>,
    returns: Vec<f32>,
    bootstrap: Vec<f32>,
    critic_valid: Vec<f32>,
    next_observations: Vec<f32>,
}

impl BatchBuffer {
    /// The batch as the learner takes it.
    #[must_use]
    pub fn as_batch(&self, phase: Phase) -> Batch<'_> {
        Batch {
            size: self.size,
            phase,
            observations: &self.observations,
            actions: &self.actions,
            valid: &self.valid,
            returns: &self.returns,
            bootstrap: &self.bootstrap,
            critic_valid: &self.critic_valid,
            next_observations: &self.next_observations,
        }
    }

    fn clear(&mut self) {
        self.size = 0;
        for column in [
            &mut self.observations,
            &mut self.actions,
            &mut self.valid,
            &mut self.returns,
            &mut self.bootstrap,
            &mut self.critic_valid,
            &mut self.next_observations,
        ] {
            column.clear();
        }
    }
}

impl Replay {
    /// An empty replay of `capacity` rows. Memory is taken as it fills.
    ///
    /// # Errors
    /// [`LearnError::Setting`] when the capacity is zero or does not fit a row number of 32 bits.
    pub fn new(observation_dim: usize, action_dim: usize, capacity: usize) -> Result<Self, LearnError> {
        if capacity < 2 || capacity as u64 >= u64::from(NONE) {
            return Err(LearnError::Setting {
                name: "learner.replay_capacity",
                value: capacity.to_string(),
                hint: "use a number from 2 to four thousand million",
            });
        }
        Ok(Self {
            observation_dim,
            action_dim,
            capacity,
            head: 0,
            used: 0,
            next_episode: 0,
            observations: Vec::new(),
            actions: Vec::new(),
            rewards: Vec::new(),
            next_rows: Vec::new(),
            kinds: Vec::new(),
            episodes: Vec::new(),
            demonstrations: Vec::new(),
            interventions: Vec::new(),
            by_hand: 0,
            transitions: 0,
        })
    }

    /// How many transitions it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.transitions
    }

    /// Whether it holds no transition.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.transitions == 0
    }

    /// How many rows fit: one for each transition and one for each episode's last observation.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// How many of its transitions are demonstrations.
    #[must_use]
    pub fn demonstrations(&self) -> usize {
        self.rows().filter(|&row| self.demonstrations.get(row) == Some(&1) && self.kind(row) != Kind::Last).count()
    }

    /// How many of its transitions were made by hand: a person wrote the action.
    #[must_use]
    pub fn interventions(&self) -> usize {
        self.by_hand
    }

    /// Bytes of its arrays as they are now.
    #[must_use]
    pub fn bytes(&self) -> usize {
        4 * (self.observations.len()
            + self.actions.len()
            + self.rewards.len()
            + self.next_rows.len()
            + self.episodes.len())
            + self.kinds.len()
            + self.demonstrations.len()
            + self.interventions.len()
    }

    /// Adds one transition of the episode that `cursor` follows; at its end the cursor starts a new one.
    ///
    /// # Errors
    /// [`LearnError::Length`] when a vector has another length than the replay was made for, [`LearnError::NotFinite`]
    /// when a number is NaN or infinite: such a row would spoil every batch that meets it.
    pub fn push(&mut self, cursor: &mut ReplayCursor, transition: Transition<'_>) -> Result<(), LearnError> {
        self.push_from(cursor, transition, false)
    }

    fn push_from(
        &mut self,
        cursor: &mut ReplayCursor,
        transition: Transition<'_>,
        demonstration: bool,
    ) -> Result<(), LearnError> {
        for (what, values, expected) in [
            ("an observation", transition.observation, self.observation_dim),
            ("an action", transition.action, self.action_dim),
            ("a next observation", transition.next_observation, self.observation_dim),
            ("a reward", std::slice::from_ref(&transition.reward), 1),
        ] {
            if values.len() != expected {
                return Err(LearnError::Length { what, expected, found: values.len() });
            }
            if let Some(index) = values.iter().position(|value| !value.is_finite()) {
                return Err(LearnError::NotFinite { what, index });
            }
        }
        let kind = match (transition.terminated, transition.truncated) {
            (true, _) => Kind::Terminated,
            (false, true) => Kind::Truncated,
            (false, false) => Kind::Step,
        };
        // An episode that is longer than the whole ring overwrites its own start, never its own last row.
        let episode = match cursor.last {
            Some((_, episode)) => episode,
            None => {
                self.next_episode = self.next_episode.wrapping_add(1);
                self.next_episode
            }
        };
        let source = Source { demonstration, intervention: transition.intervention };
        let row = self.add_row(transition.observation, transition.action, transition.reward, kind, episode, source);
        self.link(cursor.last, row);
        cursor.last = Some((row, episode));
        if kind != Kind::Step {
            let zeros = vec![0.0; self.action_dim];
            let source = Source { intervention: false, ..source };
            let last = self.add_row(transition.next_observation, &zeros, 0.0, Kind::Last, episode, source);
            self.link(cursor.last, last);
            cursor.last = None;
        }
        Ok(())
    }

    /// Forgets where an unfinished episode was going: its next transition belongs to a new one.
    pub fn abandon(&mut self, cursor: &mut ReplayCursor) {
        cursor.last = None;
    }

    /// Adds a whole demonstration.
    ///
    /// # Errors
    /// As [`Replay::push`].
    pub fn push_episode(&mut self, episode: &EpisodeData) -> Result<(), LearnError> {
        let (s, a) = (self.observation_dim, self.action_dim);
        let steps = episode.rewards.len();
        for (what, expected, found) in [
            ("a demonstration's observations", (steps + 1) * s, episode.observations.len()),
            ("a demonstration's actions", steps * a, episode.actions.len()),
        ] {
            if expected != found {
                return Err(LearnError::Length { what, expected, found });
            }
        }
        let mut cursor = ReplayCursor::default();
        let observations: Vec<&[f32]> = episode.observations.chunks_exact(s).collect();
        for (step, ((pair, action), reward)) in
            observations.windows(2).zip(episode.actions.chunks_exact(a)).zip(&episode.rewards).enumerate()
        {
            let [observation, next_observation] = pair else { continue };
            let is_last = step + 1 == steps;
            self.push_from(
                &mut cursor,
                Transition {
                    observation,
                    action,
                    reward: *reward,
                    terminated: is_last && episode.terminated,
                    // A demonstration that simply stops was stopped from outside.
                    truncated: is_last && !episode.terminated,
                    next_observation,
                    intervention: episode.interventions.get(step) == Some(&true),
                },
                true,
            )?;
        }
        Ok(())
    }

    /// Cuts `size` chunks of `horizon` actions from uniformly drawn places.
    ///
    /// A place is drawn among all transitions from which either `horizon` steps follow or the episode's end is
    /// reached; the open tail of an episode under way is left out until it has grown. For each:
    /// `valid[j]` is 1 while the episode lasts, `returns` is `Σ γ^j r_j` over the valid steps, `bootstrap` is
    /// `γ^n (1 - terminated)` with n the valid steps, and `critic_valid` is 1 where the whole chunk lies in one episode (its end may be the
    /// episode's end): a chunk whose tail was never executed has no value to regress onto (as in Q-chunking, Li et
    /// al. 2025).
    ///
    /// # Errors
    /// [`LearnError::TooFewTransitions`] when no place qualifies.
    pub fn sample(
        &self,
        buffer: &mut BatchBuffer,
        size: usize,
        horizon: usize,
        discount: f32,
        random: &mut impl Rng,
    ) -> Result<(), LearnError> {
        buffer.clear();
        // Rejected rows are rare (last observations and at most `horizon` open rows per agent), unless next to nothing
        // is there: then the bound turns an endless search into an error.
        let mut tries_left = 100 * size + 10_000;
        while buffer.size < size {
            if self.used == 0 || tries_left == 0 {
                return Err(LearnError::TooFewTransitions { horizon, held: self.transitions });
            }
            tries_left -= 1;
            let row = random.random_range(0..self.used);
            self.append_chunk(buffer, row, horizon, discount);
        }
        Ok(())
    }

    /// Whether the next row overwrites the oldest one.
    pub(crate) fn is_full(&self) -> bool {
        self.used == self.capacity
    }

    /// Whether [`Self::sample`] would find a place: there is none before the first episode has lasted for `horizon` steps.
    #[must_use]
    pub fn has_chunk(&self, horizon: usize) -> bool {
        let mut buffer = BatchBuffer::default();
        self.rows().any(|row| self.append_chunk(&mut buffer, row, horizon, 1.0))
    }

    /// Appends the chunk that starts at `row`, if one does.
    fn append_chunk(&self, buffer: &mut BatchBuffer, row: usize, horizon: usize, discount: f32) -> bool {
        if self.kind(row) == Kind::Last {
            return false;
        }
        let start = buffer.actions.len();
        let mut current = row;
        let mut valid_steps = 0;
        let mut discounted = 0.0;
        let mut gamma = 1.0;
        let (next, terminated) = loop {
            buffer.actions.extend_from_slice(self.action(current));
            discounted += gamma * self.rewards.get(current).copied().unwrap_or(0.0);
            gamma *= discount;
            valid_steps += 1;
            let kind = self.kind(current);
            let Some(next) = self.next_row(current) else {
                // The episode is still growing, or its end has been overwritten.
                buffer.actions.truncate(start);
                return false;
            };
            if kind != Kind::Step || valid_steps == horizon {
                break (next, kind == Kind::Terminated);
            }
            current = next;
        };
        buffer.actions.resize(start + horizon * self.action_dim, 0.0);
        buffer.observations.extend_from_slice(self.observation(row));
        buffer.next_observations.extend_from_slice(self.observation(next));
        buffer.valid.extend((0..horizon).map(|step| f32::from(u8::from(step < valid_steps))));
        buffer.returns.push(discounted);
        buffer.bootstrap.push(if terminated { 0.0 } else { gamma });
        buffer.critic_valid.push(f32::from(u8::from(valid_steps == horizon)));
        buffer.size += 1;
        true
    }

    fn rows(&self) -> std::ops::Range<usize> {
        0..self.used
    }

    fn kind(&self, row: usize) -> Kind {
        self.kinds.get(row).copied().and_then(Kind::from_byte).unwrap_or(Kind::Last)
    }

    fn observation(&self, row: usize) -> &[f32] {
        self.observations.get(row * self.observation_dim..(row + 1) * self.observation_dim).unwrap_or(&[])
    }

    fn action(&self, row: usize) -> &[f32] {
        self.actions.get(row * self.action_dim..(row + 1) * self.action_dim).unwrap_or(&[])
    }

    fn next_row(&self, row: usize) -> Option<usize> {
        let next = *self.next_rows.get(row)?;
        (next != NONE).then_some(next as usize)
    }

    /// Writes the next row of the ring. What it overwrites is the oldest row: whatever pointed there is older still,
    /// and gone already.
    fn add_row(
        &mut self,
        observation: &[f32],
        action: &[f32],
        reward: f32,
        kind: Kind,
        episode: u32,
        source: Source,
    ) -> u32 {
        let row = self.head;
        if row == self.used {
            self.observations.extend_from_slice(observation);
            self.actions.extend_from_slice(action);
            self.rewards.push(reward);
            self.next_rows.push(NONE);
            self.kinds.push(kind as u8);
            self.episodes.push(episode);
            self.demonstrations.push(u8::from(source.demonstration));
            self.interventions.push(u8::from(source.intervention));
            self.used += 1;
        } else {
            if self.kind(row) != Kind::Last {
                self.transitions -= 1;
            }
            self.by_hand -= usize::from(self.interventions.get(row) == Some(&1));
            let (s, a) = (self.observation_dim, self.action_dim);
            if let Some(place) = self.observations.get_mut(row * s..(row + 1) * s) {
                place.copy_from_slice(observation);
            }
            if let Some(place) = self.actions.get_mut(row * a..(row + 1) * a) {
                place.copy_from_slice(action);
            }
            for (column, value) in [(&mut self.next_rows, NONE), (&mut self.episodes, episode)] {
                if let Some(place) = column.get_mut(row) {
                    *place = value;
                }
            }
            for (column, value) in [
                (&mut self.kinds, kind as u8),
                (&mut self.demonstrations, u8::from(source.demonstration)),
                (&mut self.interventions, u8::from(source.intervention)),
            ] {
                if let Some(place) = column.get_mut(row) {
                    *place = value;
                }
            }
            if let Some(place) = self.rewards.get_mut(row) {
                *place = reward;
            }
        }
        if kind != Kind::Last {
            self.transitions += 1;
        }
        self.by_hand += usize::from(source.intervention);
        self.head = (self.head + 1) % self.capacity;
        row as u32
    }

    fn link(&mut self, from: Option<(u32, u32)>, to: u32) {
        let Some((row, episode)) = from else { return };
        // The row may have been overwritten meanwhile by a faster agent: then its episode number is another.
        if row != to
            && self.episodes.get(row as usize) == Some(&episode)
            && let Some(place) = self.next_rows.get_mut(row as usize)
        {
            *place = to;
        }
    }

    /// The observations of all rows in the order in which they are kept, `[S]` each; the last observations of episodes, from
    /// which nobody acted, are among them.
    pub fn observations(&self) -> impl Iterator<Item = &[f32]> {
        self.observations.chunks_exact(self.observation_dim.max(1))
    }

    /// The replay as named columns, for a checkpoint.
    pub(crate) fn columns(&self) -> ReplayColumns<'_> {
        ReplayColumns {
            observations: &self.observations,
            actions: &self.actions,
            rewards: &self.rewards,
            next_rows: &self.next_rows,
            kinds: &self.kinds,
            episodes: &self.episodes,
            demonstrations: &self.demonstrations,
            interventions: &self.interventions,
        }
    }

    /// Sizes and counters, for a checkpoint.
    pub(crate) fn header(&self) -> ReplayHeader {
        ReplayHeader {
            observation_dim: self.observation_dim,
            action_dim: self.action_dim,
            capacity: self.capacity,
            head: self.head,
            len: self.used,
            next_episode: self.next_episode,
        }
    }

    /// A replay from a checkpoint's columns, every size and every link checked.
    pub(crate) fn from_columns(header: &ReplayHeader, columns: OwnedColumns) -> Result<Self, String> {
        let mut replay =
            Self::new(header.observation_dim, header.action_dim, header.capacity).map_err(|error| error.to_string())?;
        let len = header.len;
        for (name, expected, found) in [
            ("observations", len.checked_mul(header.observation_dim), columns.observations.len()),
            ("actions", len.checked_mul(header.action_dim), columns.actions.len()),
            ("rewards", Some(len), columns.rewards.len()),
            ("next_rows", Some(len), columns.next_rows.len()),
            ("kinds", Some(len), columns.kinds.len()),
            ("episodes", Some(len), columns.episodes.len()),
            ("demonstrations", Some(len), columns.demonstrations.len()),
            ("interventions", Some(len), columns.interventions.len()),
        ] {
            if expected != Some(found) {
                return Err(format!("column `{name}` has {found} numbers, which does not fit {len} rows"));
            }
        }
        if len > header.capacity || header.head >= header.capacity || (len < header.capacity && header.head != len) {
            return Err(format!(
                "{len} rows and write position {} do not fit a capacity of {}",
                header.head, header.capacity
            ));
        }
        if columns.next_rows.iter().any(|&next| next != NONE && next as usize >= len) {
            return Err("column `next_rows` points outside of the replay".to_owned());
        }
        if columns.kinds.iter().any(|&kind| Kind::from_byte(kind).is_none()) {
            return Err("column `kinds` holds an unknown kind of row".to_owned());
        }
        replay.head = header.head;
        replay.used = len;
        replay.next_episode = header.next_episode;
        replay.transitions = columns.kinds.iter().filter(|&&kind| kind != Kind::Last as u8).count();
        replay.observations = columns.observations;
        replay.actions = columns.actions;
        replay.rewards = columns.rewards;
        replay.next_rows = columns.next_rows;
        replay.kinds = columns.kinds;
        replay.episodes = columns.episodes;
        replay.demonstrations = columns.demonstrations;
        replay.by_hand = columns.interventions.iter().filter(|&&by_hand| by_hand == 1).count();
        replay.interventions = columns.interventions;
        Ok(replay)
    }
}

/// The arrays of a replay, borrowed.
pub(crate) struct ReplayColumns<'a> {
    pub observations: &'a [f32],
    pub actions: &'a [f32],
    pub rewards: &'a [f32],
    pub next_rows: &'a [u32],
    pub kinds: &'a [u8],
    pub episodes: &'a [u32],
    pub demonstrations: &'a [u8],
    pub interventions: &'a [u8],
}

/// The arrays of a replay, owned.
#[derive(Debug, Default)]
pub(crate) struct OwnedColumns {
    pub observations: Vec<f32>,
    pub actions: Vec<f32>,
    pub rewards: Vec<f32>,
    pub next_rows: Vec<u32>,
    pub kinds: Vec<u8>,
    pub episodes: Vec<u32>,
    pub demonstrations: Vec<u8>,
    pub interventions: Vec<u8>,
}

/// Sizes and counters of a replay.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReplayHeader {
    pub observation_dim: usize,
    pub action_dim: usize,
    pub capacity: usize,
    pub head: usize,
    pub len: usize,
    pub next_episode: u32,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

    /// Pushes an episode whose observation is its own number and clock, so that a batch can be checked by reading it.
    fn push_numbered(replay: &mut Replay, cursor: &mut ReplayCursor, episode: f32, steps: usize, terminated: bool) {
        for step in 0..steps {
            let last = step + 1 == steps;
            replay
                .push(
                    cursor,
                    Transition {
                        observation: &[episode, step as f32],
                        action: &[step as f32],
                        reward: 1.0,
                        terminated: last && terminated,
                        truncated: last && !terminated,
                        next_observation: &[episode, step as f32 + 1.0],
                        intervention: step % 3 == 1,
                    },
                )
                .unwrap();
        }
    }

    fn batch(replay: &Replay, size: usize, horizon: usize, discount: f32, seed: u64) -> BatchBuffer {
        let mut buffer = BatchBuffer::default();
        replay.sample(&mut buffer, size, horizon, discount, &mut ChaCha8Rng::seed_from_u64(seed)).unwrap();
        buffer
    }

    #[test]
    fn a_chunk_at_a_termination_has_no_bootstrap_and_a_short_one_no_critic() {
        let mut replay = Replay::new(2, 1, 100).unwrap();
        push_numbered(&mut replay, &mut ReplayCursor::default(), 1.0, 5, true);
        let buffer = batch(&replay, 500, 3, 0.5, 1);
        for i in 0..500 {
            let step = buffer.observations[2 * i + 1];
            let valid: f32 = buffer.valid[3 * i..3 * i + 3].iter().sum();
            assert_eq!(valid, (5.0 - step).min(3.0));
            assert_eq!(buffer.critic_valid[i], f32::from(u8::from(step <= 2.0)));
            let ends = step >= 2.0;
            assert_eq!(buffer.bootstrap[i], if ends { 0.0 } else { 0.125 });
            assert_eq!(buffer.next_observations[2 * i + 1], (step + 3.0).min(5.0));
            assert_eq!(buffer.returns[i], [0.0, 1.0, 1.5, 1.75][valid as usize]);
        }
    }

    #[test]
    fn a_chunk_at_a_time_limit_bootstraps_from_the_true_last_observation() {
        let mut replay = Replay::new(2, 1, 100).unwrap();
        push_numbered(&mut replay, &mut ReplayCursor::default(), 1.0, 5, false);
        push_numbered(&mut replay, &mut ReplayCursor::default(), 2.0, 5, false);
        let buffer = batch(&replay, 200, 3, 0.5, 2);
        for i in 0..200 {
            if buffer.observations[2 * i + 1] == 2.0 {
                assert_eq!(buffer.next_observations[2 * i + 1], 5.0);
                assert_eq!(buffer.bootstrap[i], 0.125);
            }
            assert_eq!(buffer.observations[2 * i], buffer.next_observations[2 * i], "a chunk left its episode");
        }
    }

    #[test]
    fn the_open_tail_of_an_episode_is_not_sampled() {
        let mut replay = Replay::new(1, 1, 100).unwrap();
        let mut cursor = ReplayCursor::default();
        for step in 0..4 {
            let transition = Transition {
                observation: &[step as f32],
                action: &[0.0],
                reward: 0.0,
                terminated: false,
                truncated: false,
                next_observation: &[step as f32 + 1.0],
                intervention: false,
            };
            replay.push(&mut cursor, transition).unwrap();
        }
        let buffer = batch(&replay, 50, 3, 0.9, 3);
        assert!(buffer.observations.iter().all(|&step| step == 0.0));
        assert!(!replay.has_chunk(4));
        let error = replay.sample(&mut BatchBuffer::default(), 1, 4, 0.9, &mut ChaCha8Rng::seed_from_u64(0));
        assert!(matches!(error, Err(LearnError::TooFewTransitions { horizon: 4, held: 4 })));
    }

    #[test]
    fn numbers_that_are_not_finite_are_refused() {
        let mut replay = Replay::new(1, 1, 10).unwrap();
        let transition = Transition {
            observation: &[f32::NAN],
            action: &[0.0],
            reward: 0.0,
            terminated: false,
            truncated: false,
            next_observation: &[0.0],
            intervention: false,
        };
        let error = replay.push(&mut ReplayCursor::default(), transition);
        assert!(matches!(error, Err(LearnError::NotFinite { what: "an observation", index: 0 })));
    }

    proptest! {
        #[test]
        fn no_chunk_ever_mixes_episodes_or_steps(
            capacity in 6usize..60,
            lengths in prop::collection::vec((1usize..9, any::<bool>(), 0usize..3), 1..30),
            horizon in 1usize..6,
            seed: u64,
        ) {
            // Three agents add rows in turns; the ring overwrites old rows all the time.
            let mut replay = Replay::new(2, 1, capacity).unwrap();
            let mut cursors = [ReplayCursor::default(); 3];
            let mut clocks = [0usize; 3];
            for (number, (steps, terminated, agent)) in lengths.iter().enumerate() {
                for other in 0..3 {
                    let (episode, step) = (1000.0 * (other as f32 + 1.0) + number as f32, clocks[other]);
                    let ends = other == *agent;
                    for k in 0..if ends { *steps } else { 1 } {
                        let last = ends && k + 1 == *steps;
                        let id = if step == 0 && k == 0 { episode } else {
                            // An episode keeps the number with which it started.
                            replay.observation(cursors[other].last.unwrap().0 as usize)[0]
                        };
                        replay.push(&mut cursors[other], Transition {
                            observation: &[id, (step + k) as f32],
                            action: &[(step + k) as f32],
                            reward: 1.0,
                            terminated: last && *terminated,
                            truncated: last && !*terminated,
                            next_observation: &[id, (step + k + 1) as f32],
                            intervention: (step + k) % 2 == 1,
                        }).unwrap();
                        clocks[other] = if last { 0 } else { step + k + 1 };
                    }
                }
            }
            prop_assert!(replay.transitions <= replay.used && replay.used <= capacity);
            // What is counted is what lies there, also after rows were overwritten.
            let by_hand = (0..replay.used)
                .filter(|&row| replay.kind(row) != Kind::Last && replay.observation(row)[1] as usize % 2 == 1)
                .count();
            prop_assert_eq!(replay.interventions(), by_hand);
            let mut buffer = BatchBuffer::default();
            if replay.sample(&mut buffer, 64, horizon, 0.9, &mut ChaCha8Rng::seed_from_u64(seed)).is_ok() {
                for i in 0..64 {
                    let valid = buffer.valid[i * horizon..(i + 1) * horizon].iter().sum::<f32>();
                    let (episode, step) = (buffer.observations[2 * i], buffer.observations[2 * i + 1]);
                    prop_assert_eq!(buffer.next_observations[2 * i], episode);
                    prop_assert_eq!(buffer.next_observations[2 * i + 1], step + valid);
                    for j in 0..horizon {
                        let expected = if (j as f32) < valid { step + j as f32 } else { 0.0 };
                        prop_assert_eq!(buffer.actions[i * horizon + j], expected);
                    }
                }
            }
        }

        #[test]
        fn columns_go_round(capacity in 4usize..40, steps in 1usize..30, terminated: bool) {
            let mut replay = Replay::new(2, 1, capacity).unwrap();
            push_numbered(&mut replay, &mut ReplayCursor::default(), 1.0, steps, terminated);
            let c = replay.columns();
            let owned = OwnedColumns {
                observations: c.observations.to_vec(), actions: c.actions.to_vec(), rewards: c.rewards.to_vec(),
                next_rows: c.next_rows.to_vec(), kinds: c.kinds.to_vec(), episodes: c.episodes.to_vec(),
                demonstrations: c.demonstrations.to_vec(), interventions: c.interventions.to_vec(),
            };
            let again = Replay::from_columns(&replay.header(), owned).unwrap();
            prop_assert_eq!(format!("{replay:?}"), format!("{again:?}"));
        }
    }
}
