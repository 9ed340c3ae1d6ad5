use bevy::prelude::*;

/// Where the run of this app stands, as far as components do not tell. Who drives the run writes it; a panel reads it.
#[derive(Resource, Debug, Clone, Default, PartialEq)]
pub struct RunStatus {
    /// Name of the task.
    pub task: String,
    /// Name of the algorithm.
    pub algorithm: String,
    /// Updates of the offline phase in all.
    pub offline_updates: u64,
    /// Control steps of the online phase in all; 0 where nothing is learned.
    pub online_steps: u64,
    /// Estimated seconds to the end.
    pub left_secs: Option<f64>,
    /// Episodes done and episodes in all of an evaluation under way.
    pub evaluating: Option<(usize, usize)>,
    /// Nothing more comes.
    pub is_over: bool,
    /// Evaluations so far.
    pub evaluations: Vec<StatusPoint>,
}

/// What an evaluation showed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StatusPoint {
    /// Control steps before it.
    pub step: u64,
    /// Share of successes.
    pub success_rate: f64,
    /// Mean undiscounted sum of rewards.
    pub mean_return: f64,
}
