use bevy::{input::gamepad::Gamepad, prelude::*};
use onestep_agent::AgentSystems;
use onestep_record::demonstrations::DemonstrationRecorder;

use crate::{HumanControl, InputCapture, Pace, episodes::EpisodeControl, gamepad, pace::CloseRequest};

/// Keys for everything but the camera and the arm: pace, episodes, demonstrations.
///
/// | key | effect |
/// |---|---|
/// | P | pause, go on |
/// | . (full stop) | one tick |
/// | \[ and \] | slower, faster |
/// | R | a new episode |
/// | Ctrl and S | save, where a driver can |
/// | H | help on the screen |
/// | → | keep the demonstration |
/// | ← | discard it |
/// | Esc | stop recording demonstrations, and close |
///
/// On a gamepad: Start pauses, R1 begins a new episode, the upper button keeps, the right one discards, Select ends.
///
/// The last three need a [`DemonstrationRecorder`]. Without [`PacePlugin`](crate::PacePlugin) the first three rest.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeysPlugin;

impl Plugin for KeysPlugin {
    fn build(&self, app: &mut App) {
        // Without Bevy's input nobody presses a key.
        app.init_resource::<ButtonInput<KeyCode>>()
            .init_resource::<InputCapture>()
            .init_resource::<HumanControl>()
            .init_resource::<Notice>()
            .init_resource::<ShowHelp>()
            .add_systems(Update, (greet_pads, pace_keys, episode_keys, demonstration_keys).chain())
            // The episode under judgement stays in sight.
            .add_systems(FixedUpdate, pause_when_over.after(AgentSystems::Record));
    }
}

/// Whether the help is on the screen.
#[derive(Resource, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShowHelp(pub bool);

/// What was done last, or went wrong, in one sentence for the screen.
#[derive(Resource, Debug, Clone, Default, PartialEq, Eq)]
pub struct Notice {
    /// The sentence.
    pub text: String,
    /// Something went wrong.
    pub is_error: bool,
}

impl Notice {
    /// Something was done.
    pub fn tell(&mut self, text: impl Into<String>) {
        *self = Self { text: text.into(), is_error: false };
    }

    /// Something went wrong.
    pub fn complain(&mut self, text: impl Into<String>) {
        *self = Self { text: text.into(), is_error: true };
    }
}

/// Asks the driver of the app to save now. A driver that can save inserts it and watches it.
#[derive(Resource, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SaveRequest {
    /// Somebody asked.
    pub wanted: bool,
}

/// A gamepad that was found or plugged in.
fn greet_pads(pads: Query<Option<&Name>, Added<Gamepad>>, mut notice: ResMut<Notice>) {
    for name in &pads {
        let name = name.map_or("a gamepad", Name::as_str);
        notice.tell(format!("{name} is connected; H shows what it does"));
    }
}

fn pace_keys(
    keys: Res<ButtonInput<KeyCode>>,
    pads: Query<&Gamepad>,
    capture: Res<InputCapture>,
    mut pace: Option<ResMut<Pace>>,
    save: Option<ResMut<SaveRequest>>,
    mut help: ResMut<ShowHelp>,
) {
    if let Some(pace) = &mut pace
        && gamepad::is_pressed(&pads, gamepad::PAUSE)
    {
        pace.toggle();
    }
    if capture.keyboard {
        return;
    }
    if keys.any_pressed([KeyCode::ControlLeft, KeyCode::ControlRight]) {
        if keys.just_pressed(KeyCode::KeyS)
            && let Some(mut save) = save
        {
            save.wanted = true;
        }
        return;
    }
    if keys.just_pressed(KeyCode::KeyH) {
        help.0 = !help.0;
    }
    let Some(mut pace) = pace else { return };
    if keys.just_pressed(KeyCode::KeyP) {
        pace.toggle();
    }
    if keys.just_pressed(KeyCode::Period) {
        pace.single_tick();
    }
    if keys.just_pressed(KeyCode::BracketRight) {
        pace.faster();
    }
    if keys.just_pressed(KeyCode::BracketLeft) {
        pace.slower();
    }
}

fn episode_keys(
    keys: Res<ButtonInput<KeyCode>>,
    pads: Query<&Gamepad>,
    capture: Res<InputCapture>,
    control: Res<HumanControl>,
    mut episodes: EpisodeControl,
) {
    let is_wanted = !capture.keyboard && keys.just_pressed(KeyCode::KeyR);
    if !is_wanted && !gamepad::is_pressed(&pads, gamepad::NEW_EPISODE) {
        return;
    }
    episodes.new_episode(control.agent, None);
}

fn demonstration_keys(
    mut commands: Commands,
    keys: Res<ButtonInput<KeyCode>>,
    pads: Query<&Gamepad>,
    mut capture: ResMut<InputCapture>,
    mut episodes: EpisodeControl,
) {
    let is_recording = episodes.recorder.is_some();
    if capture.arrows != is_recording {
        capture.arrows = is_recording;
    }
    if !is_recording {
        return;
    }
    let is_pressed = |key, button| (!capture.keyboard && keys.just_pressed(key)) || gamepad::is_pressed(&pads, button);
    if is_pressed(KeyCode::ArrowRight, gamepad::KEEP) {
        episodes.keep();
    } else if is_pressed(KeyCode::ArrowLeft, gamepad::DISCARD) {
        episodes.discard();
    } else if is_pressed(KeyCode::Escape, gamepad::END) {
        commands.insert_resource(CloseRequest);
    }
}

fn pause_when_over(
    pace: Option<ResMut<Pace>>,
    recorder: Option<Res<DemonstrationRecorder>>,
    mut notice: ResMut<Notice>,
) {
    let (Some(mut pace), Some(recorder)) = (pace, recorder) else { return };
    if recorder.is_waiting() && !pace.paused {
        pace.toggle();
        let outcome = if recorder.is_success() { "success" } else { "no success" };
        notice.tell(format!("the episode is over: {outcome}. → keeps it, ← discards it"));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;
    use crate::{HumanPlugin, PacePlugin};
    use bevy::input::{
        ButtonState, InputPlugin,
        keyboard::{Key, KeyboardInput, NativeKey},
    };
    use onestep_agent::{Agent, AgentMode, AgentSpec};
    use onestep_data::EpisodeFile;
    use onestep_record::demonstrations::DemonstrationPlugin;
    use onestep_sim::SimPlugin;

    fn tap(app: &mut App, key_code: KeyCode) {
        for state in [ButtonState::Pressed, ButtonState::Released] {
            app.world_mut().write_message(KeyboardInput {
                key_code,
                logical_key: Key::Unidentified(NativeKey::Unidentified),
                state,
                text: None,
                repeat: false,
                window: Entity::PLACEHOLDER,
            });
            app.update();
        }
    }

    fn ticks(app: &mut App, count: usize) {
        for _ in 0..count {
            app.world_mut().run_schedule(FixedUpdate);
        }
    }

    /// An app whose clock never ticks by itself.
    fn app() -> App {
        let mut app = App::new();
        app.add_plugins((MinimalPlugins, InputPlugin, PacePlugin { pace: Pace::default().with_pause(true) }))
            .add_plugins((
                SimPlugin { mode: AgentMode::Scripted, ..default() },
                HumanPlugin,
                KeysPlugin,
                DemonstrationPlugin,
            ));
        app.finish();
        app.cleanup();
        app.update();
        app
    }

    #[test]
    fn keys_set_the_pace() {
        let mut app = app();
        tap(&mut app, KeyCode::KeyP);
        assert!(!app.world().resource::<Pace>().paused);
        tap(&mut app, KeyCode::BracketRight);
        assert_eq!(app.world().resource::<Pace>().speed, crate::Speed::Times(2.0));
        tap(&mut app, KeyCode::Period);
        assert!(app.world().resource::<Pace>().paused);
        // Keys that a text field takes do nothing here.
        app.world_mut().resource_mut::<InputCapture>().keyboard = true;
        tap(&mut app, KeyCode::KeyP);
        assert!(app.world().resource::<Pace>().paused);
    }

    #[test]
    fn an_evaluation_keeps_its_episodes_whatever_is_pressed() {
        use onestep_record::evaluation::EvaluationRun;
        const SEEDS: [u64; 3] = [11, 12, 13];
        let mut undisturbed = app();
        let expected = onestep_record::evaluation::evaluate(&mut undisturbed, &SEEDS).unwrap();

        let mut app = app();
        let mut run = EvaluationRun::start(&mut app, &SEEDS).unwrap();
        let mode = |app: &mut App| *app.world_mut().query::<&AgentMode>().single(app.world()).unwrap();
        let mut ended = None;
        for tick in 0..10_000 {
            ended = run.tick(app.world_mut());
            if ended.is_some() {
                break;
            }
            if tick % 20 == 5 {
                for key in [KeyCode::KeyR, KeyCode::KeyT] {
                    *app.world_mut().resource_mut::<Notice>() = Notice::default();
                    tap(&mut app, key);
                    let notice = app.world().resource::<Notice>();
                    assert!(notice.is_error && notice.text.contains("keeps its episodes"), "{key:?}: {notice:?}");
                    assert_ne!(mode(&mut app), AgentMode::Human);
                }
            }
        }
        let report = ended.unwrap().unwrap();
        assert_eq!(report, expected);
        assert_eq!(report.rows.iter().map(|row| row.seed).collect::<Vec<_>>(), SEEDS);
    }

    #[test]
    fn a_new_episode_ends_the_pause_for_a_judgement_too() {
        let folder = tempfile::tempdir().unwrap();
        let mut app = app();
        let spec = app.world_mut().query::<&AgentSpec>().single(app.world()).unwrap().clone();
        let path = folder.path().join("demos.safetensors");
        app.insert_resource(DemonstrationRecorder::open(&path, "lift", &spec, Agent(0)).unwrap());
        for (key, is_kept) in [(KeyCode::KeyR, 0), (KeyCode::ArrowLeft, 0), (KeyCode::ArrowRight, 1)] {
            app.world_mut().resource_mut::<Pace>().paused = false;
            for _ in 0..spec.max_episode_steps {
                ticks(&mut app, 1);
                if app.world().resource::<Pace>().paused {
                    break;
                }
            }
            assert!(app.world().resource::<DemonstrationRecorder>().is_waiting());
            tap(&mut app, key);
            assert!(!app.world().resource::<Pace>().paused, "{key:?} left the pause");
            let word = if is_kept == 1 { "kept" } else { "discarded" };
            assert!(app.world().resource::<Notice>().text.starts_with(word), "{key:?}");
            assert_eq!(app.world().resource::<DemonstrationRecorder>().kept(), is_kept);
        }
    }

    #[test]
    fn what_could_not_be_written_is_written_later_or_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("demos.safetensors");
        let mut app = app();
        let spec = app.world_mut().query::<&AgentSpec>().single(app.world()).unwrap().clone();
        app.insert_resource(DemonstrationRecorder::open(&path, "lift", &spec, Agent(0)).unwrap());
        // A folder is in the way.
        std::fs::create_dir(&path).unwrap();
        ticks(&mut app, 3);
        tap(&mut app, KeyCode::ArrowRight);
        let notice = app.world().resource::<Notice>();
        assert!(notice.is_error && notice.text.contains("in memory") && notice.text.contains("demos.safetensors"));
        assert_eq!(app.world().resource::<DemonstrationRecorder>().unwritten(), 1);
        let error = app.world_mut().resource_mut::<DemonstrationRecorder>().flush().unwrap_err().to_string();
        let other = folder.path().join("demos-rescued-1.safetensors");
        assert!(error.contains(&other.display().to_string()), "{error}");
        assert_eq!(EpisodeFile::read(&other).unwrap().episodes.len(), 1);
        assert_eq!(app.world().resource::<DemonstrationRecorder>().unwritten(), 0);
        // It is free again: the next one is written with all before it.
        std::fs::remove_dir(&path).unwrap();
        ticks(&mut app, 4);
        tap(&mut app, KeyCode::ArrowRight);
        assert_eq!(EpisodeFile::read(&path).unwrap().episodes.len(), 2);
        app.world_mut().resource_mut::<DemonstrationRecorder>().flush().unwrap();
    }

    #[test]
    fn episodes_are_kept_and_discarded_by_keys_and_take_overs_are_flagged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("demos.safetensors");
        let mut app = app();
        let spec = app.world_mut().query::<&AgentSpec>().single(app.world()).unwrap().clone();
        app.insert_resource(DemonstrationRecorder::open(&path, "lift", &spec, Agent(0)).unwrap());
        ticks(&mut app, 4);
        tap(&mut app, KeyCode::KeyT);
        ticks(&mut app, 3);
        tap(&mut app, KeyCode::ArrowRight);
        let file = EpisodeFile::read(&path).unwrap();
        assert_eq!((file.task.as_str(), file.observation_dim, file.action_dim), ("lift", 19, 7));
        let episode = &file.episodes[0];
        assert_eq!(episode.interventions, [false, false, false, false, true, true, true]);
        assert!(episode.truncated && !episode.terminated);
        episode.check(0, 19, 7).unwrap();

        tap(&mut app, KeyCode::KeyT);
        ticks(&mut app, 5);
        tap(&mut app, KeyCode::ArrowLeft);
        assert_eq!(EpisodeFile::read(&path).unwrap().episodes.len(), 1);
        // The expert to the end: the pace waits for the judgement.
        app.world_mut().resource_mut::<Pace>().paused = false;
        for _ in 0..spec.max_episode_steps {
            ticks(&mut app, 1);
            if app.world().resource::<Pace>().paused {
                break;
            }
        }
        assert!(app.world().resource::<Notice>().text.contains("success"));
        tap(&mut app, KeyCode::ArrowRight);
        let file = EpisodeFile::read(&path).unwrap();
        assert!(file.episodes[1].is_success() && file.episodes[1].interventions.is_empty());
        assert_ne!(file.episodes[0].seed, file.episodes[1].seed);
        let recorder = app.world().resource::<DemonstrationRecorder>();
        assert_eq!((recorder.kept(), recorder.discarded()), (2, 1));
        assert!(!app.world().contains_resource::<CloseRequest>());
        tap(&mut app, KeyCode::Escape);
        assert!(app.world().contains_resource::<CloseRequest>());

        // The file grows in the next session, and refuses another task.
        assert_eq!(DemonstrationRecorder::open(&path, "lift", &spec, Agent(0)).unwrap().episodes().len(), 2);
        let error = DemonstrationRecorder::open(&path, "reacher", &spec, Agent(0)).unwrap_err().to_string();
        assert!(error.contains("reacher") && error.contains("lift"), "{error}");
        let hopper = onestep_sim::task("hopper").unwrap().spec();
        let error = DemonstrationRecorder::open(&path, "lift", &hopper, Agent(0)).unwrap_err().to_string();
        assert!(error.contains("observation"), "{error}");
    }
}
