//! Agents that learned nothing, to compare policies with.

use bevy::{
    app::{App, FixedUpdate, Plugin},
    ecs::prelude::*,
};
use onestep_agent::{derive_seed, prelude::*};

/// Acts for every agent in [`AgentMode::Policy`], where no policy does: with zeros, or uniformly at random.
///
/// A random action follows from the episode's seed and the step in it alone, so that an episode is the same whatever is
/// played before it and beside it.
#[derive(Debug, Clone, Default)]
pub struct BaselinePlugin {
    /// Draw every number of an action from [-1, 1], instead of 0.
    pub random: bool,
}

impl Plugin for BaselinePlugin {
    fn build(&self, app: &mut App) {
        if !app.is_plugin_added::<AgentPlugin>() {
            app.add_plugins(AgentPlugin::default());
        }
        if self.random {
            app.add_systems(FixedUpdate, act_at_random.in_set(ActOrder::Policy));
        } else {
            app.add_systems(FixedUpdate, do_nothing.in_set(ActOrder::Policy));
        }
    }
}

fn do_nothing(mut agents: Query<(&AgentMode, &mut Action)>) {
    for (_, mut action) in agents.iter_mut().filter(|(mode, _)| **mode == AgentMode::Policy) {
        action.values_mut().fill(0.0);
    }
}

fn act_at_random(mut agents: Query<(&AgentMode, &Episode, &mut Action)>) {
    for (_, episode, mut action) in agents.iter_mut().filter(|(mode, ..)| **mode == AgentMode::Policy) {
        random_action(episode.seed, episode.step, action.values_mut());
    }
}

/// Writes the random action of a step of the episode with this seed.
pub fn random_action(seed: u64, step: u32, action: &mut [f32]) {
    for (index, number) in (0..).zip(action) {
        *number = uniform(seed, step, index);
    }
}

/// A number in [-1, 1] that follows from the episode's seed, the step in it and the place in the action.
fn uniform(seed: u64, step: u32, index: u32) -> f32 {
    // The highest bit of such a seed is always clear; 24 of the others fill a single precision number.
    let bits = derive_seed(seed, Purpose::Exploration, index, u64::from(step)) >> 39;
    bits as f32 / ((1 << 24) - 1) as f32 * 2.0 - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_numbers_fill_the_range_evenly() {
        let numbers: Vec<f32> = (0..10_000).map(|step| uniform(7, step, 1)).collect();
        assert!(numbers.iter().all(|number| (-1.0..=1.0).contains(number)));
        let below = |limit: f32| numbers.iter().filter(|number| **number < limit).count() as f64 / 1e4;
        for (limit, share) in [(-0.98, 0.01), (-0.5, 0.25), (0.0, 0.5), (0.5, 0.75), (0.98, 0.99)] {
            assert!((below(limit) - share).abs() < 0.02, "{} below {limit}", below(limit));
        }
        assert!(uniform(7, 0, 0) != uniform(7, 0, 1) && uniform(7, 0, 0) != uniform(8, 0, 0));
    }
}
