//! Acting, learning and checkpoints in a world of a few lines.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use std::{fs, path::Path};

use bevy::prelude::*;
use onestep_agent::{EpisodeSums, prelude::*};
use onestep_data::EpisodeData;
use onestep_learn::{
    AlgorithmConfig, Compute, Execution, LearnError, LearnPhase, LearnerMetrics, LearnerPlugin, LearnerSchedule,
    LearnerState, PolicyHandle, PolicyPlugin, PolicySource, Replay, checkpoint, keep_pace, prepare, settle,
    try_keep_pace, try_settle,
};
use onestep_policy::{MvpConfig, metrics};

/// A point on a line; its start follows from the episode's seed, its episode ends at the origin or after nine steps.
#[derive(Component, Default)]
struct Point(f32);

/// From this control step on, the world is broken.
#[derive(Resource)]
struct BreaksAt(u32);

fn reset(mut agents: Query<(&Episode, &mut Point, &mut Observation)>) {
    for (episode, mut point, mut observation) in &mut agents {
        if episode.is_fresh() {
            point.0 = (episode.seed % 1_000) as f32 / 500.0 - 1.0;
            observation.set(&[point.0, 1.0]);
        }
    }
}

fn step(mut agents: Query<(&AgentMode, &Action, &mut Point)>) {
    for (mode, action, mut point) in &mut agents {
        if *mode != AgentMode::Idle {
            point.0 += 0.3 * action.values()[0];
        }
    }
}

fn judge(
    breaks: Option<Res<BreaksAt>>,
    mut clock: Local<u32>,
    mut agents: Query<(&Point, &mut NextObservation, &mut Outcome)>,
) {
    *clock += 1;
    let is_broken = breaks.is_some_and(|breaks| *clock >= breaks.0);
    for (point, mut next, mut outcome) in &mut agents {
        let success = point.0.abs() < 0.1;
        next.set(&[if is_broken { f32::NAN } else { point.0 }, 1.0]);
        *outcome =
            Outcome { reward: -1.0 + f32::from(u8::from(success)), terminated: success, success, truncated: false };
    }
}

fn tiny() -> MvpConfig {
    MvpConfig {
        horizon: 3,
        batch_size: 16,
        actor_hidden: vec![24],
        critic_hidden: vec![24],
        candidates: 6,
        target_candidates: 3,
        learning_rate: 1e-3,
        ..MvpConfig::small()
    }
}

fn toy_app(agents: u32, schedule: LearnerSchedule) -> App {
    toy_app_of(AlgorithmConfig::Mvp(tiny()), agents, schedule)
}

fn toy_app_of(algorithm: AlgorithmConfig, agents: u32, schedule: LearnerSchedule) -> App {
    let policy = PolicyPlugin {
        source: PolicySource::Create { algorithm, compute: Compute::Cpu },
        keep_candidates: true,
        ..default()
    };
    toy_world((AgentPlugin { seed: 5 }, policy, LearnerPlugin { schedule }), agents)
}

fn toy_world<M>(plugins: impl bevy::app::Plugins<M>, agents: u32) -> App {
    let mut app = App::new();
    app.add_plugins(MinimalPlugins).add_plugins(plugins);
    app.add_systems(
        FixedUpdate,
        (reset.in_set(AgentSystems::Reset), step.in_set(AgentSystems::Step), judge.in_set(AgentSystems::Outcome)),
    );
    for agent in 0..agents {
        app.world_mut().spawn((AgentBundle::new(agent, spec()), Point::default()));
    }
    app.finish();
    app.cleanup();
    app
}

fn spec() -> AgentSpec {
    AgentSpec::new(ObservationSpace::new([("x", 1), ("one", 1)]), ActionSpace::new(["push"]), 9)
}

fn demonstration() -> EpisodeData {
    EpisodeData {
        observations: [0.9f32, 0.6, 0.3, 0.0].iter().flat_map(|x| [*x, 1.0]).collect(),
        actions: vec![-1.0; 3],
        rewards: vec![-1.0, -1.0, 0.0],
        terminated: true,
        truncated: false,
        successes: vec![false, false, true],
        seed: 0,
        interventions: Vec::new(),
    }
}

fn online() -> LearnerSchedule {
    LearnerSchedule { replay_capacity: 200, start_training: 20, updates_per_step: 0.5, ..default() }
}

fn tick(app: &mut App, ticks: usize) {
    for _ in 0..ticks {
        app.world_mut().run_schedule(FixedUpdate);
    }
}

fn weights(app: &App) -> Vec<u8> {
    app.world().resource::<PolicyHandle>().with(|learner| learner.weights()).unwrap()
}

fn state(app: &App) -> &LearnerState {
    app.world().resource()
}

#[test]
fn the_world_waits_for_the_offline_phase() {
    let mut app = toy_app(2, LearnerSchedule { offline_updates: 10, offline_updates_per_tick: 4, ..online() });
    prepare(&mut app).unwrap();
    let mut replay = app.world_mut().resource_mut::<Replay>();
    for _ in 0..5 {
        replay.push_episode(&demonstration()).unwrap();
    }
    assert_eq!((replay.len(), replay.demonstrations()), (15, 15));
    tick(&mut app, 3);
    assert_eq!((state(&app).updates, state(&app).env_steps), (10, 0));
    assert!(app.world_mut().query::<&AgentMode>().iter(app.world()).all(|mode| *mode == AgentMode::Idle));
    tick(&mut app, 1);
    assert_eq!((state(&app).phase, state(&app).env_steps), (LearnPhase::Online, 2));
    let means = app.world_mut().resource_mut::<LearnerMetrics>().take_means();
    assert!(means.iter().any(|(name, value)| *name == metrics::CRITIC_LOSS && value.is_finite()));
}

#[test]
fn an_offline_phase_without_demonstrations_says_so() {
    let mut app = toy_app(1, LearnerSchedule { offline_updates: 10, ..online() });
    tick(&mut app, 1);
    let fault = state(&app).fault.as_ref().unwrap();
    assert!(matches!(fault.error, LearnError::TooFewTransitions { held: 0, .. }));
}

#[test]
fn learning_begins_when_the_first_chunk_is_whole() {
    // Five agents fill the replay with five steps before any of them has made the two steps of a chunk.
    let mut app = toy_app(5, LearnerSchedule { start_training: 0, ..online() });
    tick(&mut app, 12);
    let state = state(&app);
    assert!(state.fault.is_none(), "{:?}", state.fault);
    assert!(state.updates > 0 && state.updates < 12 * 5 / 2, "{} updates", state.updates);
}

/// The actions of one agent in the first ticks.
fn first_actions(app: &mut App, ticks: usize) -> Vec<f32> {
    let mut actions = Vec::new();
    for _ in 0..ticks {
        tick(app, 1);
        actions.push(app.world_mut().query::<&Action>().single(app.world()).unwrap().values()[0]);
    }
    actions
}

#[test]
fn random_steps_come_first_and_look_random() {
    let random = || LearnerSchedule { random_steps: 300, ..online() };
    let actions = first_actions(&mut toy_app(1, random()), 300);
    let mean = actions.iter().sum::<f32>() / 300.0;
    let square = actions.iter().map(|action| action * action).sum::<f32>() / 300.0;
    // Uniform on [-1, 1]: mean 0, mean square 1/3.
    assert!(mean.abs() < 0.12 && (square - 1.0 / 3.0).abs() < 0.07, "mean {mean}, mean square {square}");
    assert_eq!(first_actions(&mut toy_app(1, random()), 300), actions);
    assert!(first_actions(&mut toy_app(1, online()), 300) != actions);
}

#[test]
fn who_learns_from_scratch_explores_and_goes_on_after_an_interruption() {
    let config = onestep_policy::FpmdConfig {
        horizon: 1,
        batch_size: 16,
        actor_hidden: vec![24],
        critic_hidden: vec![24],
        candidates: 6,
        temperature_every: 3,
        ..onestep_policy::FpmdConfig::mean_flow()
    };
    let schedule = || LearnerSchedule { random_steps: 10, ..online() };
    let app = || toy_app_of(AlgorithmConfig::FpmdM(config.clone()), 1, schedule());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    let mut whole = app();
    tick(&mut whole, 37);
    checkpoint::save(whole.world_mut(), &path).unwrap();
    tick(&mut whole, 30);

    let mut resumed = app();
    prepare(&mut resumed).unwrap();
    checkpoint::load(&mut resumed, &path).unwrap();
    while state(&resumed).env_steps < state(&whole).env_steps {
        tick(&mut resumed, 1);
    }
    assert!(weights(&resumed) == weights(&whole));
}

#[test]
fn only_who_acts_to_learn_explores() {
    let config = onestep_policy::FpmdConfig { horizon: 3, candidates: 6, ..onestep_policy::FpmdConfig::mean_flow() };
    for (algorithm, explores) in [(AlgorithmConfig::FpmdM(config), true), (AlgorithmConfig::Mvp(tiny()), false)] {
        // Nothing is updated: the networks stay the same, whether a learner stores what happens or not.
        let schedule = LearnerSchedule { updates_per_step: 0.0, ..online() };
        let learning = first_actions(&mut toy_app_of(algorithm.clone(), 1, schedule), 3);
        let source = PolicySource::Create { algorithm, compute: Compute::Cpu };
        let policy = PolicyPlugin { source, keep_candidates: true, ..default() };
        let evaluated = first_actions(&mut toy_world((AgentPlugin { seed: 5 }, policy), 1), 3);
        assert_eq!(learning != evaluated, explores, "{learning:?} {evaluated:?}");
    }
}

#[test]
fn an_agent_acts_the_same_whoever_else_is_there() {
    let actions = |agents: u32| {
        // No learning: with more agents the networks would see more.
        let mut app = toy_app(agents, LearnerSchedule { updates_per_step: 0.0, ..online() });
        let mut seen = Vec::new();
        for _ in 0..40 {
            tick(&mut app, 1);
            let mut query = app.world_mut().query::<(&Agent, &Action)>();
            seen.extend(
                query.iter(app.world()).filter(|(agent, _)| agent.0 == 0).map(|(_, action)| action.values()[0]),
            );
        }
        seen
    };
    let (alone, crowded) = (actions(1), actions(4));
    assert_eq!(alone.len(), 40);
    for (a, b) in alone.iter().zip(&crowded) {
        // Not to the bit: a product of more rows may be summed in another order.
        assert!((a - b).abs() < 1e-5, "{a} {b}");
    }
}

#[test]
fn an_interrupted_run_goes_on_to_the_same_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    let mut straight = toy_app(2, online());
    tick(&mut straight, 120);

    // 61 ticks in: the agents are in the middle of their episodes and of their chunks.
    let mut first = toy_app(2, online());
    tick(&mut first, 61);
    checkpoint::save(first.world_mut(), &path).unwrap();
    drop(first);
    let mut second = toy_app(2, online());
    checkpoint::load(&mut second, &path).unwrap();
    while state(&second).env_steps < state(&straight).env_steps {
        tick(&mut second, 1);
    }
    assert!(state(&straight).fault.is_none() && state(&second).fault.is_none());
    assert_eq!(state(&straight).updates, state(&second).updates);
    assert!(state(&straight).updates > 50);
    assert!(weights(&straight) == weights(&second), "the networks differ after resuming");
    let replay = |app: &App| format!("{:?}", app.world().resource::<Replay>());
    assert_eq!(replay(&straight), replay(&second));
}

#[test]
fn a_broken_checkpoint_is_named_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    let mut app = toy_app(1, online());
    tick(&mut app, 50);
    checkpoint::save(app.world_mut(), &path).unwrap();
    for file in [checkpoint::WEIGHTS_FILE, checkpoint::OPTIMIZER_FILE, checkpoint::REPLAY_FILE, checkpoint::STATE_FILE]
    {
        let place = path.join(file);
        let whole = fs::read(&place).unwrap();
        let half = &whole[..whole.len() / 2];
        fs::write(&place, half).unwrap();
        let error = checkpoint::load(&mut toy_app(1, online()), &path).unwrap_err().to_string();
        assert!(error.contains(file), "{file}: {error}");
        assert_eq!(fs::read(&place).unwrap(), half);
        fs::write(&place, whole).unwrap();
    }
    let error = checkpoint::load(&mut toy_app(3, online()), &path).unwrap_err().to_string();
    assert!(error.contains("1 agents") && error.contains('3'), "{error}");
    checkpoint::load(&mut toy_app(1, online()), &path).unwrap();
}

#[test]
fn a_checkpoint_that_cannot_be_written_leaves_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    let mut app = toy_app(1, online());
    tick(&mut app, 30);
    checkpoint::save(app.world_mut(), &path).unwrap();
    let before = fs::read(path.join(checkpoint::WEIGHTS_FILE)).unwrap();
    tick(&mut app, 30);
    assert!(checkpoint::save(app.world_mut(), Path::new("/proc/onestep/checkpoint")).is_err());
    assert_eq!(fs::read(path.join(checkpoint::WEIGHTS_FILE)).unwrap(), before);
    checkpoint::save(app.world_mut(), &path).unwrap();
    assert_ne!(fs::read(path.join(checkpoint::WEIGHTS_FILE)).unwrap(), before);
}

#[test]
fn a_state_that_is_not_finite_stops_learning_and_shows_the_last_steps() {
    let mut app = toy_app(1, online());
    app.insert_resource(BreaksAt(30));
    tick(&mut app, 60);
    let fault = state(&app).fault.as_ref().expect("the broken world went unnoticed");
    assert!(matches!(fault.error, LearnError::NotFinite { what: "a next observation", .. }), "{:?}", fault.error);
    assert_eq!(fault.recent.len(), 30);
    assert_eq!(fault.recent.last().unwrap().observation.len(), 2);
    assert_eq!(state(&app).env_steps, 29);
}

#[test]
fn agents_of_different_shapes_are_refused() {
    let mut app = toy_app(1, online());
    let other = AgentSpec::new(ObservationSpace::new([("x", 3)]), ActionSpace::new(["push"]), 9);
    app.world_mut().spawn((AgentBundle::new(1, other), Point::default()));
    assert!(matches!(prepare(&mut app), Err(LearnError::MixedAgents { first: 0, second: 1, .. })));
}

fn beside() -> LearnerSchedule {
    LearnerSchedule { execution: Execution::Background, offline_updates: 10, ..online() }
}

fn with_demonstrations(mut app: App, episode: &EpisodeData) -> App {
    prepare(&mut app).unwrap();
    let mut replay = app.world_mut().resource_mut::<Replay>();
    for _ in 0..5 {
        replay.push_episode(episode).unwrap();
    }
    app
}

/// Ticks until `done`, waiting for the worker in between as a headless run does.
fn tick_until(app: &mut App, done: impl Fn(&LearnerState) -> bool) {
    for _ in 0..100_000 {
        if done(state(app)) {
            return;
        }
        tick(app, 1);
        keep_pace(app.world_mut());
        std::thread::yield_now();
    }
    panic!("it never came to that: {:?}", state(app));
}

#[test]
fn a_learner_in_the_background_makes_the_same_updates() {
    let mut app = with_demonstrations(toy_app(2, beside()), &demonstration());
    let before = weights(&app);
    tick_until(&mut app, |state| state.phase == LearnPhase::Online && state.env_steps >= 100);
    // The agents act with what was learned, and the world has waited for the offline phase.
    assert_ne!(weights(&app), before);
    settle(app.world_mut());
    let LearnerState { updates, env_steps, .. } = *state(&app);
    // Half an update for each step from the twentieth on, as inside the tick.
    assert_eq!(updates, 10 + (env_steps - 20) / 2 + 1, "{env_steps} steps");
    assert_eq!(state(&app).behind(), 0);
    let taken = weights(&app);
    assert_eq!(app.world().resource::<PolicyHandle>().with(|learner| learner.spec().horizon), 3);
    settle(app.world_mut());
    assert_eq!(weights(&app), taken);
    let means = app.world_mut().resource_mut::<LearnerMetrics>().take_means();
    assert!(means.iter().any(|(name, value)| *name == metrics::CRITIC_LOSS && value.is_finite()));
}

#[test]
fn a_run_with_a_learner_in_the_background_is_saved_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    let mut first = with_demonstrations(toy_app(2, beside()), &demonstration());
    tick_until(&mut first, |state| state.env_steps >= 60);
    checkpoint::save(first.world_mut(), &path).unwrap();
    let (updates, env_steps) = (state(&first).updates, state(&first).env_steps);
    settle(first.world_mut());
    assert!(updates > 10);

    // In the background again, and inside the tick: what was saved does not depend on where it was learned.
    for execution in [Execution::Background, Execution::Inline] {
        let mut second = toy_app(2, LearnerSchedule { execution, ..beside() });
        checkpoint::load(&mut second, &path).unwrap();
        assert_eq!((state(&second).updates, state(&second).env_steps), (updates, env_steps));
        tick_until(&mut second, |state| state.env_steps >= env_steps + 40);
        settle(second.world_mut());
        assert!(state(&second).updates >= updates + 19, "{:?}", state(&second));
        assert!(state(&second).fault.is_none());
        let learned = second.world().resource::<PolicyHandle>().clone();
        checkpoint::save(second.world_mut(), &path.with_extension("again")).unwrap();
        let saved = fs::read(path.with_extension("again").join(checkpoint::WEIGHTS_FILE)).unwrap();
        // The agents' copy has not counted the updates, so only the numbers are compared: what follows the header.
        let numbers = |file: Vec<u8>| {
            let header = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
            file[8 + header..].to_vec()
        };
        assert!(numbers(learned.with(|learner| learner.weights()).unwrap()) == numbers(saved));
    }
}

#[test]
fn a_loss_that_is_not_finite_stops_a_learner_in_the_background() {
    let mut monstrous = demonstration();
    monstrous.rewards = vec![1e38; 3];
    let mut app = with_demonstrations(toy_app(1, LearnerSchedule { offline_updates: 1_000, ..beside() }), &monstrous);
    let before = weights(&app);
    tick_until(&mut app, |state| state.fault.is_some());
    let fault = state(&app).fault.as_ref().unwrap();
    assert_eq!(fault.place, "an update: a loss is not a number any more");
    // It goes no further, and can be asked for everything.
    let updates = state(&app).updates;
    tick(&mut app, 5);
    settle(app.world_mut());
    assert!(state(&app).updates >= updates);
    assert_eq!(weights(&app).len(), before.len());
}

#[test]
fn learning_in_the_background_stays_within_its_queue_however_many_updates_a_tick_owes() {
    // Eighty updates for each tick of four agents, more than the queue holds.
    let schedule = LearnerSchedule { updates_per_step: 20.0, offline_updates: 0, ..beside() };
    let mut app = with_demonstrations(toy_app(4, schedule.clone()), &demonstration());
    for _ in 0..12 {
        tick(&mut app, 1);
        keep_pace(app.world_mut());
        assert_eq!(state(&app).behind(), 0, "{:?}", state(&app));
    }
    assert!(state(&app).updates >= 7 * 80 - 32, "{:?}", state(&app));

    // A loop that must not wait sees when it may tick, and ends with the same updates.
    let mut other = with_demonstrations(toy_app(4, schedule), &demonstration());
    let mut ticks = 0;
    while ticks < 12 {
        if try_keep_pace(other.world_mut()) {
            tick(&mut other, 1);
            ticks += 1;
        } else {
            std::thread::yield_now();
        }
    }
    settle(app.world_mut());
    while !try_settle(other.world_mut()) {
        std::thread::yield_now();
    }
    assert_eq!((state(&other).behind(), state(&other).updates), (0, state(&app).updates));
}

#[test]
fn steps_by_hand_are_flagged_and_stay_so_in_a_checkpoint() {
    fn set_mode(app: &mut App, mode: AgentMode) {
        *app.world_mut().query::<&mut AgentMode>().single_mut(app.world_mut()).unwrap() = mode;
    }
    fn by_hand(app: &mut App) -> (usize, u32) {
        let steps = app.world_mut().query::<&EpisodeSums>().single(app.world()).unwrap().human_steps;
        (app.world().resource::<Replay>().interventions(), steps)
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    let mut app = toy_app(1, online());
    // Nobody writes an action: the point stays where it is, and the episode goes on.
    set_mode(&mut app, AgentMode::Human);
    tick(&mut app, 3);
    set_mode(&mut app, AgentMode::Policy);
    assert_eq!(by_hand(&mut app), (3, 3));
    checkpoint::save(app.world_mut(), &path).unwrap();

    let mut second = toy_app(1, online());
    checkpoint::load(&mut second, &path).unwrap();
    // The open episode is repeated, then goes on; repeated steps are nobody's.
    tick(&mut second, 4);
    assert_eq!(by_hand(&mut second), (3, 3));
    assert_eq!(second.world().resource::<Replay>().len(), 4);

    // A checkpoint of before, without the column.
    let replay = path.join(checkpoint::REPLAY_FILE);
    let bytes = fs::read(&replay).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let columns: Vec<_> = file.tensors().into_iter().filter(|(name, _)| name != "interventions").collect();
    assert_eq!(columns.len() + 1, file.len());
    fs::write(&replay, safetensors::serialize(columns, metadata.metadata().clone()).unwrap()).unwrap();
    let mut third = toy_app(1, online());
    checkpoint::load(&mut third, &path).unwrap();
    tick(&mut third, 4);
    assert_eq!(by_hand(&mut third), (0, 3));
}
