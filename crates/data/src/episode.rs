use crate::DataError;

/// One episode as it happened, in flat vectors.
///
/// The sizes `S` (observation) and `A` (action) are not repeated here; [`EpisodeFile`](crate::EpisodeFile) and the
/// replay know them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EpisodeData {
    /// Observations `[T + 1, S]`, row after row. The last row is the true last observation, before any reset.
    pub observations: Vec<f32>,
    /// Actions `[T, A]`, each number in [-1, 1].
    pub actions: Vec<f32>,
    /// Rewards `[T]`.
    pub rewards: Vec<f32>,
    /// The task ended the episode in its last step.
    pub terminated: bool,
    /// The episode was cut in its last step (time limit).
    pub truncated: bool,
    /// Whether the goal held after each step, `[T]`.
    pub successes: Vec<bool>,
    /// Seed of the initial state.
    pub seed: u64,
    /// Whether a person acted in each step where a policy or a script was to act, `[T]`; empty where nobody did.
    pub interventions: Vec<bool>,
}

impl EpisodeData {
    /// Number of control steps `T`.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rewards.len()
    }

    /// Whether no step was made.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rewards.is_empty()
    }

    /// Whether the goal held after the last step.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.successes.last().copied().unwrap_or(false)
    }

    /// Undiscounted sum of rewards.
    #[must_use]
    pub fn return_sum(&self) -> f64 {
        self.rewards.iter().copied().map(f64::from).sum()
    }

    /// Checks that all lengths fit `T`, `observation_dim` and `action_dim`. `episode` is the index named in the error.
    ///
    /// # Errors
    /// [`DataError::Episode`] with the field and both lengths.
    pub fn check(&self, episode: usize, observation_dim: usize, action_dim: usize) -> Result<(), DataError> {
        let steps = self.len();
        let flagged = if self.interventions.is_empty() { 0 } else { steps };
        for (field, expected, found) in [
            ("observations", (steps + 1) * observation_dim, self.observations.len()),
            ("actions", steps * action_dim, self.actions.len()),
            ("successes", steps, self.successes.len()),
            ("interventions", flagged, self.interventions.len()),
        ] {
            if expected != found {
                return Err(DataError::Episode { episode, field, expected, found });
            }
        }
        Ok(())
    }
}

/// Brings actions that lie a rounding error outside [-1, 1] back into it.
///
/// # Errors
/// The index of the first number that is further away, or not finite.
pub(crate) fn settle_actions(actions: &mut [f32]) -> Result<(), usize> {
    const ROUNDING: f32 = 1e-4;
    for (index, value) in actions.iter_mut().enumerate() {
        if !(-1.0 - ROUNDING..=1.0 + ROUNDING).contains(value) {
            return Err(index);
        }
        *value = value.clamp(-1.0, 1.0);
    }
    Ok(())
}
