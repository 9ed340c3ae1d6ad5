use thiserror::Error;

/// Everything that can go wrong in the learning core.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// A setting has a value that makes no sense.
    #[error("setting `{field}` is {value}; {hint}")]
    InvalidConfig {
        /// The path of the setting, as in the configuration file.
        field: &'static str,
        /// The value that was found.
        value: String,
        /// What would be accepted.
        hint: String,
    },

    /// A slice or a request has the wrong size.
    #[error("`{field}` has {found} elements, expected {expected}; {hint}")]
    Size {
        /// The field of the request or of the batch.
        field: &'static str,
        /// The number of elements that was found.
        found: usize,
        /// The number of elements that was expected.
        expected: usize,
        /// The shape in words.
        hint: &'static str,
    },

    /// A number that must be finite is not.
    #[error(
        "`{metric}` is {value} at update {update}; look for a non-finite observation or reward, or lower `learning_rate`"
    )]
    NonFinite {
        /// The metric, one of [`metrics`](crate::metrics), or the name of the value or of the tensor.
        metric: String,
        /// The value that was found.
        value: f32,
        /// The number of updates made before.
        update: u64,
    },

    /// The bytes are not a checkpoint: truncated, damaged or something else.
    #[error("the checkpoint cannot be read: {reason}; the file may be truncated or of another kind")]
    CheckpointUnreadable {
        /// What the reader said.
        reason: String,
    },

    /// The checkpoint was written for something else.
    #[error("the checkpoint has `{field}` {found}, expected {expected}; {hint}")]
    CheckpointMismatch {
        /// The field of the checkpoint's header.
        field: String,
        /// What the checkpoint holds.
        found: String,
        /// What the learner needs.
        expected: String,
        /// What to do.
        hint: &'static str,
    },

    /// A tensor of the checkpoint is missing, unknown, of another shape, or holds a number that is not finite.
    #[error("tensor `{name}` of the checkpoint: {reason}")]
    CheckpointTensor {
        /// The name of the tensor.
        name: String,
        /// What is wrong with it, and what to do.
        reason: String,
    },

    /// The compute device failed.
    #[error("the compute device failed: {reason}; the CPU device needs no driver")]
    Device {
        /// What the device said.
        reason: String,
    },
}

impl PolicyError {
    /// An [`PolicyError::InvalidConfig`] of any printable value.
    pub(crate) fn config(field: &'static str, value: impl std::fmt::Debug, hint: impl Into<String>) -> Self {
        Self::InvalidConfig { field, value: format!("{value:?}"), hint: hint.into() }
    }
}
