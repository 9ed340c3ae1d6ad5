//! What is known when a run had to stop: where, why, and the last states.

use bevy::prelude::World;
use onestep_learn::LearnerState;
use onestep_sim::SimFaults;
use serde::Serialize;
use serde_json::{Value, json};

/// A number that is not finite, in a loss or in a state, and what led to it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FaultReport {
    /// What was being done.
    pub place: String,
    /// What went wrong.
    pub error: String,
    /// Updates done before.
    pub updates: u64,
    /// Control steps of the learning agents done before.
    pub env_steps: u64,
    /// The last states, oldest first. Numbers that are not finite are written as text.
    pub last_states: Vec<Value>,
}

/// The fault of the app, if there is one: of the simulation, or else of the learner.
#[must_use]
pub fn of_app(world: &World) -> Option<FaultReport> {
    of_simulation(world).or_else(|| of_learner(world))
}

/// The first fault of the simulation.
pub(crate) fn of_simulation(world: &World) -> Option<FaultReport> {
    let fault = world.get_resource::<SimFaults>()?.0.first()?;
    let (updates, env_steps) = counters(world);
    Some(FaultReport {
        place: format!("the simulation of arena {}, step {} of the episode", fault.arena, fault.step),
        error: fault.error.to_string(),
        updates,
        env_steps,
        last_states: fault
            .last_states
            .iter()
            .map(|state| {
                json!({
                    "step": state.step,
                    "action": numbers(state.action.iter().copied().map(f64::from)),
                    "joint_positions": numbers(state.joint_positions.iter().copied()),
                    "joint_velocities": numbers(state.joint_velocities.iter().copied()),
                    "observation": numbers(state.observation.iter().copied().map(f64::from)),
                })
            })
            .collect(),
    })
}

fn of_learner(world: &World) -> Option<FaultReport> {
    let state = world.get_resource::<LearnerState>()?;
    let fault = state.fault.as_ref()?;
    Some(FaultReport {
        place: fault.place.to_owned(),
        error: fault.error.to_string(),
        updates: state.updates,
        env_steps: state.env_steps,
        last_states: fault
            .recent
            .iter()
            .map(|step| {
                json!({
                    "agent": step.agent,
                    "seed": step.seed,
                    "step": step.step,
                    "observation": numbers(step.observation.iter().copied().map(f64::from)),
                    "action": numbers(step.action.iter().copied().map(f64::from)),
                    "reward": number(f64::from(step.reward)),
                })
            })
            .collect(),
    })
}

fn counters(world: &World) -> (u64, u64) {
    world.get_resource::<LearnerState>().map_or((0, 0), |state| (state.updates, state.env_steps))
}

fn numbers(values: impl IntoIterator<Item = f64>) -> Value {
    values.into_iter().map(number).collect()
}

/// JSON has no word for NaN; `null` would hide which of them it was.
fn number(value: f64) -> Value {
    if value.is_finite() { json!(value) } else { json!(value.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_not_finite_stay_visible() {
        assert_eq!(numbers([1.0, f64::NAN, f64::NEG_INFINITY]), json!([1.0, "NaN", "-inf"]));
    }
}
