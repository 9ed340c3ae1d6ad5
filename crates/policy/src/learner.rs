//! The contract between a learner and the program around it.
//!
//! A [`Learner`] is an object: nothing outside of this crate is generic over a backend. It speaks slices of `f32` in
//! row-major order and never draws random numbers of its own: all noise comes from the caller's named streams, so a
//! run can be repeated and resumed. (What is only measured, such as the diagnostics of FPMD, uses the same fixed
//! numbers each time.)

use serde::{Deserialize, Serialize};

use crate::settings::{MOST, MOST_ACTIONS, check_count};
use crate::{ObservationScaling, PolicyError};

/// The sizes that a policy is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicySpec {
    /// Numbers in one observation, `S`.
    pub observation_dim: usize,
    /// Numbers in one action, `A`, each within [-1, 1].
    pub action_dim: usize,
    /// Actions in one chunk, `h`; the chunk is executed open loop.
    pub horizon: usize,
}

impl PolicySpec {
    /// Numbers in one action chunk, `h · A`.
    pub fn chunk_dim(&self) -> usize {
        self.horizon * self.action_dim
    }

    /// Checks that no size is zero or beyond what can be computed with: observation and chunk have at most 65,536
    /// numbers, a chunk at most 1,024 actions.
    ///
    /// # Errors
    /// [`PolicyError::InvalidConfig`] names the first size that is.
    pub fn validate(&self) -> Result<(), PolicyError> {
        check_count("observation_dim", self.observation_dim, MOST)?;
        check_count("horizon", self.horizon, MOST_ACTIONS)?;
        check_count("action_dim", self.action_dim, MOST)?;
        if self.chunk_dim() > MOST {
            let hint = format!("with a horizon of {} it must be at most {}", self.horizon, MOST / self.horizon);
            return Err(PolicyError::config("action_dim", self.action_dim, hint));
        }
        Ok(())
    }
}

/// Where a learner's random numbers come from: a named stream of the host.
pub trait NoiseSource {
    /// Fills `out` with independent draws of the standard normal distribution.
    fn fill_normal(&mut self, out: &mut [f32]);
    /// Fills `out` with independent draws of the uniform distribution on [0, 1).
    fn fill_uniform(&mut self, out: &mut [f32]);
}

/// The two phases of learning from demonstrations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Updates on the demonstrations alone.
    Offline,
    /// Updates on demonstrations and own experience.
    Online,
}

/// One batch of `B` action chunks from the replay. All slices are row-major.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// The number of chunks, `B`.
    pub size: usize,
    /// The phase the update belongs to.
    pub phase: Phase,
    /// `[B, S]`, the observations at which the chunks start.
    pub observations: &'a [f32],
    /// `[B, h·A]`, the chunks that were executed, each number within [-1, 1].
    pub actions: &'a [f32],
    /// `[B, h]`, 1 for the actions up to the end of the episode, 0 after it.
    pub valid: &'a [f32],
    /// `[B]`, `Σ_{j<h} γ^j r_j`, summed up to the termination.
    pub returns: &'a [f32],
    /// `[B]`, the factor of the next value, `γ^h · m`, where m is 0 if the episode terminated inside the chunk.
    pub bootstrap: &'a [f32],
    /// `[B]`, 1 where the critic may learn from the chunk, 0 where the episode cut it short: what was never executed has no
    /// value.
    pub critic_valid: &'a [f32],
    /// `[B, S]`, the observations after the chunks.
    pub next_observations: &'a [f32],
}

impl Batch<'_> {
    /// Checks the size of every slice.
    ///
    /// # Errors
    /// [`PolicyError::Size`] names the first slice of another size, or `size` itself if it is 0.
    pub fn check(&self, spec: &PolicySpec) -> Result<(), PolicyError> {
        if self.size == 0 {
            return Err(PolicyError::Size {
                field: "batch.size",
                found: 0,
                expected: 1,
                hint: "a batch holds at least one chunk",
            });
        }
        let rows = self.size;
        for (field, found, width, hint) in [
            ("batch.observations", self.observations.len(), spec.observation_dim, "shape [batch, observation]"),
            ("batch.actions", self.actions.len(), spec.chunk_dim(), "shape [batch, horizon * action]"),
            ("batch.valid", self.valid.len(), spec.horizon, "shape [batch, horizon]"),
            ("batch.returns", self.returns.len(), 1, "shape [batch]"),
            ("batch.bootstrap", self.bootstrap.len(), 1, "shape [batch]"),
            ("batch.critic_valid", self.critic_valid.len(), 1, "shape [batch]"),
            (
                "batch.next_observations",
                self.next_observations.len(),
                spec.observation_dim,
                "shape [batch, observation]",
            ),
        ] {
            check_size(field, found, rows.checked_mul(width), hint)?;
        }
        Ok(())
    }
}

/// A request to choose one action chunk for each of `n` agents.
#[derive(Debug, Clone, Copy)]
pub struct SelectRequest<'a> {
    /// The number of agents, `n`.
    pub agents: usize,
    /// `[n, S]`, their observations.
    pub observations: &'a [f32],
    /// Candidates of each agent, `N`.
    pub candidates: usize,
    /// `[n, N, h·A]`, standard normal draws.
    pub noise: &'a [f32],
    /// `[n, h·A]`, standard normal draws, if the agents act to learn and the algorithm [explores](Learner::explores);
    /// none in an evaluation.
    pub exploration: Option<&'a [f32]>,
    /// Whether all candidates and their values are read back, for drawing or diagnosis.
    pub return_candidates: bool,
}

impl SelectRequest<'_> {
    /// Checks the size of every slice.
    ///
    /// # Errors
    /// [`PolicyError::Size`] names the first slice of another size, or a count that is 0.
    pub fn check(&self, spec: &PolicySpec) -> Result<(), PolicyError> {
        for (field, count) in [("select.agents", self.agents), ("select.candidates", self.candidates)] {
            if count == 0 {
                return Err(PolicyError::Size { field, found: 0, expected: 1, hint: "it must be at least 1" });
            }
        }
        check_size(
            "select.observations",
            self.observations.len(),
            self.agents.checked_mul(spec.observation_dim),
            "shape [agents, observation]",
        )?;
        check_size(
            "select.noise",
            self.noise.len(),
            self.agents.checked_mul(self.candidates).and_then(|rows| rows.checked_mul(spec.chunk_dim())),
            "shape [agents, candidates, horizon * action]",
        )?;
        self.exploration.map_or(Ok(()), |noise| {
            check_size(
                "select.exploration",
                noise.len(),
                self.agents.checked_mul(spec.chunk_dim()),
                "shape [agents, horizon * action]",
            )
        })
    }
}

/// A slice must have so many elements; none has as many as a product that overflows.
pub(crate) fn check_size(
    field: &'static str,
    found: usize,
    expected: impl Into<Option<usize>>,
    hint: &'static str,
) -> Result<(), PolicyError> {
    let expected = expected.into().unwrap_or(usize::MAX);
    if found == expected { Ok(()) } else { Err(PolicyError::Size { field, found, expected, hint }) }
}

/// The chunks that were chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Selection {
    /// `[n, h·A]`, the chosen chunks, each number within [-1, 1].
    pub actions: Vec<f32>,
    /// `[n]`, the value that the critics give to the chosen candidate: before the exploration noise that some
    /// algorithms add to it (FPMD), zero where there are no critics (`bc-flow`).
    pub q: Vec<f32>,
    /// `[n]`, the index of the chosen candidate.
    pub index: Vec<u32>,
    /// All candidates, if they were asked for.
    pub candidates: Option<Candidates>,
}

/// All candidates of a selection.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidates {
    /// `[n, N, h·A]`, each number within [-1, 1].
    pub actions: Vec<f32>,
    /// `[n, N]`, their values.
    pub q: Vec<f32>,
}

/// Named numbers of one update; the names are those of [`metrics`](crate::metrics).
pub type Metrics = Vec<(&'static str, f32)>;

/// A policy that acts and learns, on a backend of its own.
pub trait Learner: Send {
    /// The sizes it was made for.
    fn spec(&self) -> &PolicySpec;

    /// The name of the algorithm, as in the configuration.
    fn algorithm(&self) -> &'static str;

    /// The device it computes on, in words.
    fn device_name(&self) -> String;

    /// The number of learned parameters, targets not counted.
    fn parameter_count(&self) -> usize;

    /// The number of updates made so far, over all sessions.
    fn updates(&self) -> u64;

    /// Whether acting to learn needs noise beside that of the candidates; see [`SelectRequest::exploration`].
    fn explores(&self) -> bool {
        false
    }

    /// How observations are scaled before networks see them, in [`Learner::select`] and [`Learner::update`]; none at
    /// first. It is part of the [weights](Learner::weights).
    fn observation_scaling(&self) -> Option<&ObservationScaling>;

    /// Sets it, before the first update: networks know nothing of a later change.
    ///
    /// # Errors
    /// [`PolicyError::Size`] if it is made for observations of another size.
    fn set_observation_scaling(&mut self, scaling: Option<ObservationScaling>) -> Result<(), PolicyError>;

    /// Generates candidates and selects the best of each agent.
    ///
    /// # Errors
    /// [`PolicyError::Size`] for a malformed request, [`PolicyError::NonFinite`] if a chosen chunk or its value is not
    /// finite, [`PolicyError::Device`] if the device fails.
    fn select(&mut self, request: &SelectRequest<'_>) -> Result<Selection, PolicyError>;

    /// Makes one update. Returns its metrics, or nothing at updates whose metrics are not read back.
    ///
    /// # Errors
    /// [`PolicyError::Size`] for a malformed batch, [`PolicyError::NonFinite`] if a loss is not finite (weights and
    /// optimiser stay as they were before the update), [`PolicyError::Device`] if the device fails.
    ///
    /// Losses are looked at only where metrics are read back. With `metrics_every` above 1 an update between two
    /// readings may therefore spoil the weights; the next reading, selection or checkpoint refuses them.
    fn update(&mut self, batch: &Batch<'_>, noise: &mut dyn NoiseSource) -> Result<Metrics, PolicyError>;

    /// The weights of actor, critics and targets as safetensors.
    ///
    /// # Errors
    /// [`PolicyError::NonFinite`] with the name of a tensor that holds a number that is not finite,
    /// [`PolicyError::Device`] if the device fails.
    fn weights(&self) -> Result<Vec<u8>, PolicyError>;

    /// Loads what [`Learner::weights`] wrote. On an error the learner stays as it was.
    ///
    /// # Errors
    /// One of the `Checkpoint…` errors names what does not fit.
    fn load_weights(&mut self, bytes: &[u8]) -> Result<(), PolicyError>;

    /// The state of the optimiser and the number of updates as safetensors.
    ///
    /// # Errors
    /// As [`Learner::weights`].
    fn optimizer(&self) -> Result<Vec<u8>, PolicyError>;

    /// Loads what [`Learner::optimizer`] wrote. On an error the learner stays as it was.
    ///
    /// # Errors
    /// One of the `Checkpoint…` errors names what does not fit.
    fn load_optimizer(&mut self, bytes: &[u8]) -> Result<(), PolicyError>;
}
