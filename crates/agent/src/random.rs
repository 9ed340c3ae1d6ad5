use std::collections::BTreeMap;

use bevy_ecs::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// What a random stream is for. Each purpose of each agent has a stream of its own, so that drawing more of one kind
/// (another number of candidates, an evaluation in between) never shifts another kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// Seeds of training episodes.
    Reset,
    /// Noise that a policy turns into actions.
    Exploration,
    /// Noise that is added to a scripted expert.
    Expert,
    /// Which transitions a batch holds.
    Replay,
    /// Noise of an update: flow times, base noise, candidates of the target.
    Update,
    /// Initial weights.
    Weights,
    /// Seeds of evaluation episodes.
    Evaluation,
    /// Seeds of demonstration episodes.
    Demonstration,
    /// For a world's own needs.
    World,
}

impl Purpose {
    fn name(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::Exploration => "exploration",
            Self::Expert => "expert",
            Self::Replay => "replay",
            Self::Update => "update",
            Self::Weights => "weights",
            Self::Evaluation => "evaluation",
            Self::Demonstration => "demonstration",
            Self::World => "world",
        }
    }
}

/// A seed for `index`-th use of `purpose` by `agent` under the root seed `root`.
///
/// Streams of different purposes never meet: the name of the purpose goes through the hash, and the purposes of
/// training and of evaluation differ in the highest bit, so an evaluation episode cannot have a training seed.
#[must_use]
pub fn derive_seed(root: u64, purpose: Purpose, agent: u32, index: u64) -> u64 {
    let mut bytes = Vec::with_capacity(64);
    bytes.extend_from_slice(b"onestep/");
    bytes.extend_from_slice(purpose.name().as_bytes());
    for number in [root, u64::from(agent), index] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    let hash = xxh3_64(&bytes);
    const EVALUATION_BIT: u64 = 1 << 63;
    if purpose == Purpose::Evaluation { hash | EVALUATION_BIT } else { hash & !EVALUATION_BIT }
}

/// The named random streams of an app, one ChaCha stream for each purpose and agent.
#[derive(Resource, Debug, Clone)]
pub struct RandomStreams {
    root: u64,
    streams: BTreeMap<(Purpose, u32), ChaCha8Rng>,
}

/// The streams as a checkpoint holds them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SavedStreams {
    root: u64,
    streams: Vec<(Purpose, u32, ChaCha8Rng)>,
}

impl RandomStreams {
    /// Streams under one root seed.
    #[must_use]
    pub fn new(root: u64) -> Self {
        Self { root, streams: BTreeMap::new() }
    }

    /// The seed everything derives from.
    #[must_use]
    pub fn root(&self) -> u64 {
        self.root
    }

    /// The stream of `purpose` for `agent`, started on first use.
    pub fn get(&mut self, purpose: Purpose, agent: u32) -> &mut ChaCha8Rng {
        let root = self.root;
        self.streams
            .entry((purpose, agent))
            .or_insert_with(|| ChaCha8Rng::seed_from_u64(derive_seed(root, purpose, agent, u64::MAX)))
    }

    /// A fresh seed from the stream of `purpose` for `agent`, with the highest bit clear (see [`derive_seed`]).
    pub fn next_seed(&mut self, purpose: Purpose, agent: u32) -> u64 {
        self.get(purpose, agent).next_u64() >> 1
    }

    /// The state of all streams, for a checkpoint.
    #[must_use]
    pub fn save(&self) -> SavedStreams {
        SavedStreams {
            root: self.root,
            streams: self.streams.iter().map(|((purpose, agent), stream)| (*purpose, *agent, stream.clone())).collect(),
        }
    }

    /// Streams that go on where a checkpoint stopped.
    #[must_use]
    pub fn load(saved: SavedStreams) -> Self {
        let streams = saved.streams.into_iter().map(|(purpose, agent, stream)| ((purpose, agent), stream)).collect();
        Self { root: saved.root, streams }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_stream_does_not_shift_another() {
        let mut plain = RandomStreams::new(1);
        let mut busy = RandomStreams::new(1);
        for _ in 0..100 {
            busy.get(Purpose::Exploration, 0).next_u64();
            busy.get(Purpose::Replay, 1).next_u64();
        }
        assert_eq!(plain.next_seed(Purpose::Replay, 0), busy.next_seed(Purpose::Replay, 0));
    }

    proptest! {
        #[test]
        fn evaluation_seeds_are_never_training_seeds(root: u64, agent: u32, i: u64, j: u64) {
            let training = derive_seed(root, Purpose::Reset, agent, i);
            prop_assert_ne!(training, derive_seed(root, Purpose::Evaluation, agent, j));
            prop_assert_ne!(RandomStreams::new(root).next_seed(Purpose::Reset, agent) >> 63, 1);
        }

        #[test]
        fn saved_streams_go_on_where_they_stopped(root: u64, drawn in 0usize..50) {
            let mut streams = RandomStreams::new(root);
            for _ in 0..drawn {
                streams.get(Purpose::Update, 3).next_u32();
            }
            let text = serde_json::to_string(&streams.save()).unwrap();
            let mut again = RandomStreams::load(serde_json::from_str(&text).unwrap());
            prop_assert_eq!(streams.get(Purpose::Update, 3).next_u64(), again.get(Purpose::Update, 3).next_u64());
        }
    }
}
