use bevy_ecs::prelude::*;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A named stretch of an observation vector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// Name, as the benchmark or the world calls it.
    pub name: String,
    /// How many numbers.
    pub len: usize,
}

/// The layout of an observation: named fields, one after the other, as one flat vector of `f32`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservationSpace {
    fields: Vec<Field>,
}

impl ObservationSpace {
    /// A space of `(name, length)` fields in this order.
    pub fn new<N: Into<String>>(fields: impl IntoIterator<Item = (N, usize)>) -> Self {
        Self { fields: fields.into_iter().map(|(name, len)| Field { name: name.into(), len }).collect() }
    }

    /// Length of the vector.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.fields.iter().map(|field| field.len).sum()
    }

    /// The fields in order.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Where a field lies in the vector, if there is one of that name.
    #[must_use]
    pub fn range(&self, name: &str) -> Option<std::ops::Range<usize>> {
        let mut start = 0;
        for field in &self.fields {
            if field.name == name {
                return Some(start..start + field.len);
            }
            start += field.len;
        }
        None
    }

    /// What the number at `index` of the vector is: `cube_pos[2]`, or the index itself beyond the fields.
    #[must_use]
    pub fn name_at(&self, index: usize) -> String {
        let mut start = 0;
        for field in &self.fields {
            if index < start + field.len {
                return format!("{}[{}]", field.name, index - start);
            }
            start += field.len;
        }
        index.to_string()
    }
}

/// The meaning of an action: one name for each number. Every number lies in [-1, 1]; the world scales it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionSpace {
    names: Vec<String>,
}

impl ActionSpace {
    /// A space with one number for each name.
    pub fn new<N: Into<String>>(names: impl IntoIterator<Item = N>) -> Self {
        Self { names: names.into_iter().map(Into::into).collect() }
    }

    /// Length of the vector.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.names.len()
    }

    /// The names in order.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }
}

/// What a policy must know of an agent before it can be built for it.
#[derive(Component, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentSpec {
    /// What it sees.
    pub observation: ObservationSpace,
    /// What it does.
    pub action: ActionSpace,
    /// Steps after which an episode is truncated.
    pub max_episode_steps: u32,
}

/// Two specs that should agree and do not.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SpaceError {
    /// A vector or space has another length than expected.
    #[error("{what} has {found} numbers where {expected} are expected; was it made for another task?")]
    Length {
        /// Which vector or space.
        what: String,
        /// Length that is needed.
        expected: usize,
        /// Length that was given.
        found: usize,
    },
}

impl AgentSpec {
    /// A spec from its parts.
    #[must_use]
    pub fn new(observation: ObservationSpace, action: ActionSpace, max_episode_steps: u32) -> Self {
        Self { observation, action, max_episode_steps }
    }

    /// Checks that something made for `other` fits here.
    ///
    /// # Errors
    /// [`SpaceError::Length`] when the observation or the action has another length.
    pub fn check_fits(&self, other: &Self) -> Result<(), SpaceError> {
        for (what, expected, found) in [
            ("the observation", self.observation.dim(), other.observation.dim()),
            ("the action", self.action.dim(), other.action.dim()),
        ] {
            if expected != found {
                return Err(SpaceError::Length { what: what.to_owned(), expected, found });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_lie_one_after_the_other() {
        let space = ObservationSpace::new([("a", 2), ("b", 3)]);
        assert_eq!(space.dim(), 5);
        assert_eq!(space.range("b"), Some(2..5));
        assert_eq!(space.range("c"), None);
        assert_eq!([0, 1, 2, 4, 5].map(|index| space.name_at(index)), ["a[0]", "a[1]", "b[0]", "b[2]", "5"]);
    }

    #[test]
    fn a_spec_of_another_size_is_refused() {
        let spec = |dim| AgentSpec::new(ObservationSpace::new([("a", dim)]), ActionSpace::new(["x"]), 1);
        assert!(spec(2).check_fits(&spec(2)).is_ok());
        let error = spec(2).check_fits(&spec(3)).map_err(|e| e.to_string());
        assert_eq!(
            error,
            Err("the observation has 3 numbers where 2 are expected; was it made for another task?".to_owned())
        );
    }
}
