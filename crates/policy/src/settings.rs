//! What the settings of all algorithms have in common.

use crate::{PolicyError, PolicySpec};

/// What the program around a learner asks of its settings.
pub(crate) trait Settings {
    /// Actions in a chunk, h.
    fn horizon(&self) -> usize;
    /// Chunks in a batch, B.
    fn batch_size(&self) -> usize;
    /// Discount of one step, γ.
    fn discount(&self) -> f64;
    /// Candidates per agent when acting, N.
    fn candidates(&self) -> usize;
    /// The hidden layers of all networks: the setting that names them, members of the ensemble, widths.
    fn networks(&self) -> Vec<(&'static str, usize, &[usize])>;
    /// Checks every setting.
    fn validate(&self) -> Result<(), PolicyError>;
}

/// The greatest number of anything that is counted in rows, columns or steps. Bounds keep a slip of the keyboard from
/// taking all memory, or from wrapping where sizes are multiplied; nothing sensible comes near them.
pub(crate) const MOST: usize = 1 << 16;
/// The greatest number of actions in a chunk.
pub(crate) const MOST_ACTIONS: usize = 1 << 10;
/// The greatest number of critics in an ensemble, and of hidden layers in a network.
pub(crate) const MOST_PARTS: usize = 64;
/// The greatest number of actions that one pass makes, and of weights in an ensemble.
pub(crate) const MOST_NUMBERS: usize = 1 << 28;

/// Defines the settings of an actor-critic algorithm: the common ones, then its own with their defaults, then the
/// common ones whose default differs.
macro_rules! settings {
    (
        $(#[$doc:meta])*
        $name:ident {
            $($(#[$attribute:meta])* $field:ident: $type:ty = $value:expr,)*
        }
        $(other defaults { $($common:ident: $other:expr,)* })?
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            /// Actions in a chunk, executed open loop. (C)
            pub horizon: usize,
            /// Chunks in a batch. (C)
            pub batch_size: usize,
            /// Discount of one step, γ. (C)
            pub discount: f64,
            /// Step of Adam, for all networks. (C)
            pub learning_rate: f64,
            /// A learning rate that falls during training, if set: that of all networks, in FPMD that of the actor. (C in
            /// FPMD, ? elsewhere)
            #[serde(skip_serializing_if = "Option::is_none")]
            pub learning_rate_decay: Option<$crate::optimizer::LearningRateDecay>,
            /// Share of the online networks in their slow copies, the target networks, after an update: τ. (C)
            pub tau: f64,
            /// Features of each hidden layer of the actor. (C)
            pub actor_hidden: Vec<usize>,
            /// Features of each hidden layer of a critic. (C)
            pub critic_hidden: Vec<usize>,
            /// Critics in the ensemble. (C)
            pub critics: usize,
            /// Whether hidden layers of critics end with a layer normalisation. (C)
            pub critic_layer_norm: bool,
            /// Candidates per agent when acting, N. (?)
            pub candidates: usize,
            /// Candidates per chunk in the temporal-difference target. (C in Q-chunking, ? elsewhere)
            pub target_candidates: usize,
            $($(#[$attribute])* pub $field: $type,)*
            /// Metrics are read back, and checked to be finite, at every so many updates; above 1 the GPU need not
            /// wait.
            pub metrics_every: u64,
        }

        impl Default for $name {
            #[allow(unused_mut, reason = "not every algorithm has defaults of its own")]
            fn default() -> Self {
                let mut settings = Self {
                    horizon: 5,                 // 0.25 s of control at 20 Hz
                    batch_size: 256,            // of chunks, not of steps
                    discount: 0.99,             // a horizon of about 100 steps
                    learning_rate: 3e-4,        // no clipping
                    learning_rate_decay: None,  // the same to the end
                    tau: 0.005,                 // slow copies lag by about 200 updates
                    actor_hidden: vec![512; 4], // GELU, no normalisation
                    critic_hidden: vec![512; 4],// GELU, then layer normalisation
                    critics: 2,                 // see the algorithm for how they are combined
                    critic_layer_norm: true,    // bounds values away from the data
                    candidates: 32,             // as Q-chunking does
                    target_candidates: 32,      // as when acting
                    $($field: $value,)*
                    metrics_every: 1,           // every update
                };
                $($(settings.$common = $other;)*)?
                settings
            }
        }

        impl $name {
            /// Sizes for the CPU of a laptop; results made with them are not the papers'.
            #[must_use]
            pub fn small() -> Self {
                Self::default().shrunk()
            }

            /// The same settings with sizes for the CPU of a laptop.
            #[must_use]
            pub fn shrunk(self) -> Self {
                Self {
                    batch_size: self.batch_size.div_ceil(2),  // half as many
                    actor_hidden: vec![256; 2],               // a tenth of the parameters
                    critic_hidden: vec![256; 2],              // the same
                    target_candidates: self.target_candidates.div_ceil(4), // a quarter of the target's cost
                    ..self
                }
            }

            /// Checks what all actor-critic algorithms have in common.
            fn validate_common(&self) -> Result<(), PolicyError> {
                use $crate::settings::{
                    MOST, MOST_ACTIONS, MOST_PARTS, check_count, check_hidden, check_number, check_period, check_rows,
                    positive, unit, unit_above_zero,
                };
                check_count("horizon", self.horizon, MOST_ACTIONS)?;
                check_count("batch_size", self.batch_size, MOST)?;
                check_count("critics", self.critics, MOST_PARTS)?;
                check_count("candidates", self.candidates, MOST)?;
                check_rows("target_candidates", self.target_candidates, self.batch_size, self.horizon)?;
                check_period("metrics_every", self.metrics_every)?;
                check_hidden("actor_hidden", &self.actor_hidden)?;
                check_hidden("critic_hidden", &self.critic_hidden)?;
                check_number("learning_rate", self.learning_rate, positive)?;
                check_number("discount", self.discount, unit)?;
                check_number("tau", self.tau, unit_above_zero)?;
                self.learning_rate_decay.as_ref().map_or(Ok(()), $crate::optimizer::LearningRateDecay::validate)
            }

            /// The learning rate at update `index`, counted from 1.
            fn rate(&self, index: u64) -> f64 {
                self.learning_rate * self.learning_rate_decay.map_or(1.0, |decay| decay.share(index))
            }

            /// The ensemble of critics that these settings describe.
            fn make_critics<B: $crate::backend::PolicyBackend>(
                &self,
                host: &$crate::host::Host<B>,
                aggregate: $crate::critic::Aggregate,
                activation: $crate::network::Activation,
                noise: &mut dyn $crate::NoiseSource,
            ) -> $crate::critic::Critics<B> {
                let shape = $crate::network::NetworkShape {
                    members: self.critics,
                    input: host.spec.observation_dim + host.spec.chunk_dim(),
                    hidden: self.critic_hidden.clone(),
                    output: 1,
                    activation,
                    norm: self.critic_layer_norm,
                };
                $crate::critic::Critics::new(&shape, aggregate, host, noise)
            }
        }

        impl $crate::settings::Settings for $name {
            fn horizon(&self) -> usize {
                self.horizon
            }

            fn batch_size(&self) -> usize {
                self.batch_size
            }

            fn discount(&self) -> f64 {
                self.discount
            }

            fn candidates(&self) -> usize {
                self.candidates
            }

            fn networks(&self) -> Vec<(&'static str, usize, &[usize])> {
                vec![
                    ("actor_hidden", 1, self.actor_hidden.as_slice()),
                    ("critic_hidden", self.critics, self.critic_hidden.as_slice()),
                ]
            }

            fn validate(&self) -> Result<(), PolicyError> {
                Self::validate(self)
            }
        }
    };
}
pub(crate) use settings;

/// What a number must satisfy, and the hint if it does not.
pub(crate) type Rule = (fn(f64) -> bool, &'static str);

#[allow(non_upper_case_globals, reason = "they read as words in the checks")]
mod rules {
    use super::Rule;

    pub(crate) const any: Rule = (|_| true, "it must be finite");
    pub(crate) const positive: Rule = (|value| value > 0.0, "it must be above 0");
    pub(crate) const not_negative: Rule = (|value| value >= 0.0, "it must not be negative");
    pub(crate) const unit: Rule = (|value| (0.0..=1.0).contains(&value), "it must lie within 0 and 1");
    pub(crate) const unit_above_zero: Rule = (|value| value > 0.0 && value <= 1.0, "it must be above 0, at most 1");
}
pub(crate) use rules::{any, not_negative, positive, unit, unit_above_zero};

pub(crate) fn check_number(field: &'static str, value: f64, (accept, hint): Rule) -> Result<(), PolicyError> {
    if value.is_finite() && accept(value) { Ok(()) } else { Err(PolicyError::config(field, value, hint)) }
}

/// A number of things, from 1 to `most`.
pub(crate) fn check_count(field: &'static str, value: usize, most: usize) -> Result<(), PolicyError> {
    match value {
        0 => Err(PolicyError::config(field, value, "it must be at least 1")),
        _ if value > most => Err(PolicyError::config(field, value, format!("it must be at most {most}"))),
        _ => Ok(()),
    }
}

/// A number of updates between two events, at least 1.
pub(crate) fn check_period(field: &'static str, value: u64) -> Result<(), PolicyError> {
    if value > 0 { Ok(()) } else { Err(PolicyError::config(field, value, "it must be at least 1")) }
}

/// Samples for each of `batch_size` chunks of `horizon` actions: all of them pass the networks at once.
pub(crate) fn check_rows(
    field: &'static str,
    value: usize,
    batch_size: usize,
    horizon: usize,
) -> Result<(), PolicyError> {
    check_count(field, value, MOST)?;
    let numbers = value.saturating_mul(batch_size).saturating_mul(horizon);
    if numbers > MOST_NUMBERS {
        let hint = format!(
            "with {batch_size} chunks of {horizon} actions in a batch it must be at most {}",
            MOST_NUMBERS / (batch_size * horizon).max(1)
        );
        return Err(PolicyError::config(field, value, hint));
    }
    Ok(())
}

pub(crate) fn check_hidden(field: &'static str, widths: &[usize]) -> Result<(), PolicyError> {
    if widths.is_empty() || widths.len() > MOST_PARTS || !widths.iter().all(|width| (1..=MOST).contains(width)) {
        let hint = format!("name the widths of 1 to {MOST_PARTS} hidden layers, each from 1 to {MOST}");
        return Err(PolicyError::config(field, widths.to_vec(), hint));
    }
    Ok(())
}

/// Refuses networks whose weights would not fit into any memory.
pub(crate) fn check_weights(settings: &dyn Settings, spec: &PolicySpec) -> Result<(), PolicyError> {
    // No network has more inputs or outputs: observation, two chunks, embedded times.
    let ends = spec.observation_dim + 2 * spec.chunk_dim() + 64;
    for (field, members, widths) in settings.networks() {
        let sizes = [&[ends][..], widths, &[ends][..]].concat();
        let products = sizes.windows(2).map(|pair| pair.iter().fold(members, |all, size| all.saturating_mul(*size)));
        let weights = products.fold(0_usize, usize::saturating_add);
        if weights > MOST_NUMBERS {
            let hint = format!(
                "with {} numbers in an observation and {} in a chunk that is up to {weights} weights; at most \
                 {MOST_NUMBERS} are possible",
                spec.observation_dim,
                spec.chunk_dim()
            );
            return Err(PolicyError::config(field, widths.to_vec(), hint));
        }
    }
    Ok(())
}
