//! What is recorded is what happened, whole.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use common::{MAX_STEPS, toy_app};
use onestep_agent::prelude::*;
use onestep_data::{EpisodeFile, Origin};
use onestep_record::{
    episodes::{EpisodeRecorderPlugin, RecordedEpisodes},
    evaluation::evaluate,
    tick,
};

#[test]
fn every_step_and_the_true_last_observation_are_kept() {
    let mut app = toy_app(3);
    app.add_plugins(EpisodeRecorderPlugin::default());
    let seeds = [4, 2, 6, 30];
    evaluate(&mut app, &seeds).unwrap();
    let episodes = std::mem::take(&mut app.world_mut().resource_mut::<RecordedEpisodes>().0);
    // In the order in which they end.
    assert_eq!(episodes.iter().map(|episode| episode.seed).collect::<Vec<_>>(), [2, 4, 6, 30]);
    for episode in &episodes {
        let steps = episode.seed.min(u64::from(MAX_STEPS)) as usize;
        assert_eq!(episode.len(), steps);
        let positions: Vec<f32> = episode.observations.chunks_exact(2).map(|row| row[0]).collect();
        assert_eq!(positions, (0..=steps).map(|x| x as f32).collect::<Vec<_>>());
        assert_eq!(episode.actions, vec![1.0; steps]);
        let reached = episode.seed <= u64::from(MAX_STEPS);
        assert_eq!((episode.terminated, episode.truncated, episode.is_success()), (reached, !reached, reached));
        episode.check(0, 2, 1).unwrap();
    }

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("toy.safetensors");
    let file = EpisodeFile { task: "toy".into(), origin: Origin::Onestep, observation_dim: 2, action_dim: 1, episodes };
    file.write(&path).unwrap();
    assert_eq!(EpisodeFile::read(&path).unwrap().episodes, file.episodes);
}

#[test]
fn halves_are_not_kept() {
    let mut app = toy_app(1);
    app.world_mut()
        .query::<&mut SeedSource>()
        .single_mut(app.world_mut())
        .unwrap()
        .clone_from(&SeedSource::List([5, 6].into()));
    tick(app.world_mut());
    tick(app.world_mut());
    // Arrives in the middle of the first episode, and the second is abandoned.
    app.add_plugins(EpisodeRecorderPlugin::default());
    for _ in 0..6 {
        tick(app.world_mut());
    }
    app.world_mut().query::<&mut Episode>().single_mut(app.world_mut()).unwrap().abandon();
    for _ in 0..5 {
        tick(app.world_mut());
    }
    assert!(app.world().resource::<RecordedEpisodes>().0.is_empty());
}

#[test]
fn failures_can_be_left_out() {
    let mut app = toy_app(2);
    app.add_plugins(EpisodeRecorderPlugin { successful_only: true });
    evaluate(&mut app, &[25, 3]).unwrap();
    let kept: Vec<u64> = app.world().resource::<RecordedEpisodes>().0.iter().map(|episode| episode.seed).collect();
    assert_eq!(kept, [3]);
}
