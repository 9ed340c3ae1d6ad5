//! The names of all metrics that an update may return.

/// Mean squared temporal-difference error, over critics and usable chunks.
pub const CRITIC_LOSS: &str = "critic/loss";
/// Mean value of the replayed chunks, over critics and usable chunks.
pub const CRITIC_Q_MEAN: &str = "critic/q_mean";
/// Mean absolute difference of a critic from the ensemble's mean.
pub const CRITIC_Q_SPREAD: &str = "critic/q_spread";
/// Mean temporal-difference target, over usable chunks.
pub const CRITIC_TARGET_MEAN: &str = "critic/target_mean";
/// The actor's whole loss.
pub const ACTOR_LOSS: &str = "actor/loss";
/// Mean-flow loss: the distance of the mean velocity from its identity.
pub const ACTOR_MF_LOSS: &str = "actor/mf_loss";
/// Loss of the instantaneous velocity constraint.
pub const ACTOR_IVC_LOSS: &str = "actor/ivc_loss";
/// Root mean square of the total derivative of the mean velocity in time.
pub const ACTOR_TANGENT_RMS: &str = "actor/tangent_rms";

/// All metrics, in the order of the columns of a table.
pub const ALL: [&str; 8] = [
    CRITIC_LOSS,
    CRITIC_Q_MEAN,
    CRITIC_Q_SPREAD,
    CRITIC_TARGET_MEAN,
    ACTOR_LOSS,
    ACTOR_MF_LOSS,
    ACTOR_IVC_LOSS,
    ACTOR_TANGENT_RMS,
];
