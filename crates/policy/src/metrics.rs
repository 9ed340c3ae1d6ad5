//! The names of all metrics that an update may return.

/// Mean squared temporal-difference error, over critics and usable chunks.
pub const CRITIC_LOSS: &str = "critic/loss";
/// Mean value of the replayed chunks, over critics and usable chunks.
pub const CRITIC_Q_MEAN: &str = "critic/q_mean";
/// Mean absolute difference of a critic from the ensemble's mean.
pub const CRITIC_Q_SPREAD: &str = "critic/q_spread";
/// Mean temporal-difference target, over usable chunks.
pub const CRITIC_TARGET_MEAN: &str = "critic/target_mean";
/// The actor's whole loss, all its networks together.
pub const ACTOR_LOSS: &str = "actor/loss";
/// Mean-flow loss: the distance of the mean velocity from its identity.
pub const ACTOR_MF_LOSS: &str = "actor/mf_loss";
/// Loss of the instantaneous velocity constraint.
pub const ACTOR_IVC_LOSS: &str = "actor/ivc_loss";
/// Root mean square of the total derivative of the mean velocity in time.
pub const ACTOR_TANGENT_RMS: &str = "actor/tangent_rms";

/// Loss of a rectified flow: the distance of the velocity field from the velocity along straight paths.
pub const ACTOR_FLOW_LOSS: &str = "actor/flow_loss";
/// Squared distance of a one-step actor from the flow that teaches it.
pub const ACTOR_DISTILLATION_LOSS: &str = "actor/distillation_loss";
/// Mean value of the actor's own chunks, by the critics that pull it.
pub const ACTOR_Q_MEAN: &str = "actor/q_mean";
/// Entropy of the policy, in nats, estimated from its samples.
pub const ACTOR_ENTROPY: &str = "actor/entropy";
/// Temperature of the policy, alpha: greater means closer to the old policy, or more random.
pub const ACTOR_TEMPERATURE: &str = "actor/temperature";
/// Greatest weight of a sample, where a mean weight is 1.
pub const ACTOR_WEIGHT_MAX: &str = "actor/weight_max";
/// Effective share of the samples, `(sum w)^2 / (n sum w^2)`: 1 if all weights are equal.
pub const ACTOR_WEIGHT_SHARE: &str = "actor/weight_share";
/// Variance of the many-step policy at a state, summed over the numbers of a chunk.
pub const ACTOR_TRACE_VARIANCE: &str = "actor/trace_variance";
/// Squared distance of one-step samples from the mean of many-step samples at the same state.
pub const ACTOR_ONE_STEP_SPREAD: &str = "actor/one_step_spread";
/// Squared distance of one-step samples from many-step samples that start from the same noise.
pub const ACTOR_ONE_STEP_ERROR: &str = "actor/one_step_error";

/// All metrics, in the order of the columns of a table. A run reports those of its algorithm.
pub const ALL: [&str; 18] = [
    CRITIC_LOSS,
    CRITIC_Q_MEAN,
    CRITIC_Q_SPREAD,
    CRITIC_TARGET_MEAN,
    ACTOR_LOSS,
    ACTOR_MF_LOSS,
    ACTOR_IVC_LOSS,
    ACTOR_TANGENT_RMS,
    ACTOR_FLOW_LOSS,
    ACTOR_DISTILLATION_LOSS,
    ACTOR_Q_MEAN,
    ACTOR_ENTROPY,
    ACTOR_TEMPERATURE,
    ACTOR_WEIGHT_MAX,
    ACTOR_WEIGHT_SHARE,
    ACTOR_TRACE_VARIANCE,
    ACTOR_ONE_STEP_SPREAD,
    ACTOR_ONE_STEP_ERROR,
];
