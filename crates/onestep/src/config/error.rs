use std::{io, path::PathBuf};

use thiserror::Error;

/// What can be wrong with the description of a run. Each message says where it stands: a file with line and column, or
/// the option of the command.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// No task has this name.
    #[error("there is no task `{name}`{}; `onestep list` shows all", did_you_mean(suggestion))]
    UnknownTask {
        /// The name that was given.
        name: String,
        /// The nearest name there is.
        suggestion: Option<String>,
    },
    /// No preset has this name.
    #[error("there is no preset `{name}`{}; `onestep list` shows all", did_you_mean(suggestion))]
    UnknownPreset {
        /// The name that was given.
        name: String,
        /// The nearest name there is.
        suggestion: Option<String>,
    },
    /// No algorithm has this name.
    #[error(
        "{origin}: `algorithm.name`: there is no algorithm `{name}`{}; `onestep list` shows all",
        did_you_mean(suggestion)
    )]
    UnknownAlgorithm {
        /// The option that gave it.
        origin: String,
        /// The name that was given.
        name: String,
        /// The nearest name there is.
        suggestion: Option<String>,
    },
    /// No setting has this name.
    #[error("{origin}: there is no setting `{key}`{}", did_you_mean(suggestion))]
    UnknownKey {
        /// Where it stands.
        origin: String,
        /// The key, dotted.
        key: String,
        /// The nearest key there is, dotted.
        suggestion: Option<String>,
    },
    /// A setting has a value it cannot have.
    #[error("{origin}: `{key}`: {problem}")]
    Invalid {
        /// Where it stands.
        origin: String,
        /// The key, dotted.
        key: String,
        /// What is wrong.
        problem: String,
    },
    /// A text is not TOML.
    #[error("{origin}: {problem}; nothing was changed")]
    Syntax {
        /// Where it stands.
        origin: String,
        /// What is wrong.
        problem: String,
    },
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The settings cannot be written as TOML.
    #[error("the settings cannot be written as TOML: {0}")]
    Write(String),
}

fn did_you_mean(suggestion: &Option<String>) -> String {
    suggestion.as_ref().map_or_else(String::new, |name| format!(", did you mean `{name}`?"))
}
