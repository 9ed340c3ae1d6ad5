use std::path::PathBuf;

use thiserror::Error;

/// What can go wrong in the simulator.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum SimError {
    /// No task of that name.
    #[error("there is no task `{name}`; the tasks are: {known}{}", suggestion.as_ref().map(|s| format!(". Did you mean `{s}`?")).unwrap_or_default())]
    UnknownTask {
        /// The name that was given.
        name: String,
        /// All names, separated by commas.
        known: String,
        /// The nearest name, if one is near.
        suggestion: Option<String>,
    },
    /// The task has no scripted expert.
    #[error(
        "the task `{task}` has no scripted expert, so nobody can demonstrate it; learn it online, without demonstrations, or \
         choose a task that has one (`onestep list`)"
    )]
    NoExpert {
        /// Name of the task.
        task: String,
    },
    /// The arenas would not fit into memory.
    #[error(
        "{arenas} arenas of `{task}` need about {}, {} each as measured, and {} are free; at most {most} fit, so ask for fewer arenas",
        bytes(*needed), bytes(*per_arena), bytes(*free)
    )]
    Memory {
        /// Name of the task.
        task: String,
        /// How many arenas were asked for.
        arenas: u64,
        /// Bytes of one arena.
        per_arena: u64,
        /// Bytes of all arenas.
        needed: u64,
        /// Bytes of memory that are free.
        free: u64,
        /// How many arenas fit.
        most: u64,
    },
    /// A data file cannot be read.
    #[error("cannot read {}: {message}; check the path and its permissions", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        message: String,
    },
    /// A data file is not what it should be: wrong syntax, an unknown or a missing field.
    #[error("{file} is not a valid {what}: {message}")]
    Parse {
        /// What the file should be.
        what: &'static str,
        /// The file, or the name of the embedded one.
        file: String,
        /// Place and reason, from the parser.
        message: String,
    },
    /// A field of a data file has a value that makes no sense.
    #[error("{file}: field `{field}` is {value}, but {expected}")]
    Value {
        /// The file, or the name of the embedded one.
        file: String,
        /// The field.
        field: String,
        /// Its value.
        value: String,
        /// What it should be.
        expected: String,
    },
    /// An action has the wrong number of entries.
    #[error("the action has {found} numbers where {expected} are expected")]
    ActionLength {
        /// How many are needed.
        expected: usize,
        /// How many were given.
        found: usize,
    },
    /// A state from a file has too few numbers.
    #[error("the state has {found} numbers where at least {expected} are needed; is it of another task?")]
    StateLength {
        /// How many are needed.
        expected: usize,
        /// How many were given.
        found: usize,
    },
    /// A number that is not finite got into the simulation.
    #[error(
        "{what} is not finite after step {step} of the episode with seed {seed}; the arena stands still until its next reset"
    )]
    NotFinite {
        /// Which quantity.
        what: String,
        /// Control step within the episode.
        step: u32,
        /// The episode's seed.
        seed: u64,
    },
}

/// `1.5 GB`: bytes in the unit that keeps the number short.
fn bytes(count: u64) -> String {
    let count = count as f64;
    match count {
        _ if count >= 1e12 => format!("{:.1} TB", count / 1e12),
        _ if count >= 1e9 => format!("{:.1} GB", count / 1e9),
        _ if count >= 1e6 => format!("{:.1} MB", count / 1e6),
        _ => format!("{:.0} kB", count / 1e3),
    }
}
