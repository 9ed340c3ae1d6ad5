//! Chunks cut by the replay, beside those that `crates/policy/tests/reference/reference.py` cuts from the episodes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use std::collections::BTreeSet;
use std::path::Path;

use onestep_learn::{BatchBuffer, Replay, ReplayCursor, Transition};
use onestep_policy::Phase;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use serde::Deserialize;

#[derive(Deserialize)]
struct Reference {
    episodes: Vec<Episode>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Episode {
    ending: Ending,
    rewards: Vec<f32>,
}

#[derive(Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Ending {
    Terminated,
    Truncated,
    /// Terminated in the step at which time would have ended it.
    Both,
    /// Still under way.
    Open,
}

#[derive(Deserialize)]
struct Case {
    horizon: usize,
    discount: f32,
    chunks: Vec<Chunk>,
}

#[derive(Deserialize)]
struct Chunk {
    episode: usize,
    start: usize,
    valid: Vec<f32>,
    returns: f64,
    bootstrap: f64,
    critic_valid: f32,
    /// The step whose observation follows the chunk.
    next: usize,
}

/// Episode and step: an observation that says where it is from.
fn observation(episode: usize, step: usize) -> [f32; 2] {
    [episode as f32, step as f32]
}

fn action(episode: usize, step: usize) -> f32 {
    (episode as f32 + 0.1 * step as f32) / 10.0
}

/// All episodes, their steps interleaved as if several agents had lived through them at once.
fn replay(episodes: &[Episode]) -> Replay {
    let mut replay = Replay::new(2, 1, 1_000).unwrap();
    let mut cursors = vec![ReplayCursor::default(); episodes.len()];
    for step in 0..episodes.iter().map(|episode| episode.rewards.len()).max().unwrap() {
        for (index, (episode, cursor)) in episodes.iter().zip(&mut cursors).enumerate() {
            let Some(&reward) = episode.rewards.get(step) else { continue };
            let is_last = step + 1 == episode.rewards.len();
            let ends = |endings: [Ending; 2]| is_last && endings.contains(&episode.ending);
            let transition = Transition {
                observation: &observation(index, step),
                action: &[action(index, step)],
                reward,
                terminated: ends([Ending::Terminated, Ending::Both]),
                truncated: ends([Ending::Truncated, Ending::Both]),
                next_observation: &observation(index, step + 1),
                intervention: false,
            };
            replay.push(cursor, transition).unwrap();
        }
    }
    replay
}

fn close(name: &str, found: f32, expected: f64) {
    assert!((f64::from(found) - expected).abs() <= 1e-6 * expected.abs().max(1.0), "{name}: {found}, not {expected}");
}

#[test]
fn chunks_are_those_of_the_definition() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policy/tests/reference/replay.json");
    let reference: Reference = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let replay = replay(&reference.episodes);
    for Case { horizon, discount, chunks } in &reference.cases {
        // Places are drawn at random: enough draws meet every one of them.
        let mut buffer = BatchBuffer::default();
        let size = 200 * chunks.len();
        replay.sample(&mut buffer, size, *horizon, *discount, &mut ChaCha8Rng::seed_from_u64(1)).unwrap();
        let batch = buffer.as_batch(Phase::Online);
        let mut seen = BTreeSet::new();
        for row in 0..size {
            let found = &batch.observations[2 * row..][..2];
            let place = chunks.iter().position(|chunk| observation(chunk.episode, chunk.start) == found);
            let chunk = &chunks[place.unwrap_or_else(|| panic!("no chunk of {horizon} starts at {found:?}"))];
            seen.insert(place);
            let name = format!("horizon {horizon}, episode {}, step {}", chunk.episode, chunk.start);
            assert_eq!(&batch.valid[horizon * row..][..*horizon], chunk.valid, "{name}");
            for (step, found) in batch.actions[horizon * row..][..*horizon].iter().enumerate() {
                let expected = chunk.valid[step] * action(chunk.episode, chunk.start + step);
                assert_eq!(*found, expected, "{name}: action {step}");
            }
            close(&format!("{name}: returns"), batch.returns[row], chunk.returns);
            close(&format!("{name}: bootstrap"), batch.bootstrap[row], chunk.bootstrap);
            assert_eq!(batch.critic_valid[row], chunk.critic_valid, "{name}");
            assert_eq!(batch.next_observations[2 * row..][..2], observation(chunk.episode, chunk.next), "{name}");
        }
        assert_eq!(seen.len(), chunks.len(), "horizon {horizon}: some chunks were never cut");
    }
}
