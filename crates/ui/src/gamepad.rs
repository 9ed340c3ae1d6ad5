//! Gamepads, by Bevy's own components: whoever brings them, a driver or a test.

use bevy::{
    input::gamepad::{Gamepad, GamepadAxis, GamepadButton},
    prelude::*,
};

use crate::{HumanControl, episodes::EpisodeControl};

/// One direction of a stick, or of the cross.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PadInput {
    /// A stick's axis, in this direction: 1 or -1.
    Stick(GamepadAxis, f32),
    /// An arm of the cross.
    Cross(GamepadButton),
}

impl PadInput {
    /// The same movements as the pairs of keys, in their order, the positive direction first.
    pub(crate) const PAIRS: [[Self; 2]; 6] = [
        [Self::Stick(GamepadAxis::LeftStickX, 1.0), Self::Stick(GamepadAxis::LeftStickX, -1.0)],
        [Self::Stick(GamepadAxis::LeftStickY, 1.0), Self::Stick(GamepadAxis::LeftStickY, -1.0)],
        [Self::Stick(GamepadAxis::RightStickY, 1.0), Self::Stick(GamepadAxis::RightStickY, -1.0)],
        [Self::Stick(GamepadAxis::RightStickX, 1.0), Self::Stick(GamepadAxis::RightStickX, -1.0)],
        [Self::Cross(GamepadButton::DPadUp), Self::Cross(GamepadButton::DPadDown)],
        [Self::Cross(GamepadButton::DPadRight), Self::Cross(GamepadButton::DPadLeft)],
    ];

    /// What it is called.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Stick(GamepadAxis::LeftStickX | GamepadAxis::LeftStickY, _) => "left stick",
            Self::Stick(GamepadAxis::RightStickX | GamepadAxis::RightStickY, _) => "right stick",
            Self::Stick(..) => "stick",
            Self::Cross(_) => "cross",
        }
    }

    /// How far it is pushed, 0 to 1.
    fn value(self, pad: &Gamepad) -> f32 {
        match self {
            Self::Stick(axis, sign) => pad.get(axis).map_or(0.0, |value| (sign * value).clamp(0.0, 1.0)),
            Self::Cross(button) => f32::from(u8::from(pad.pressed(button))),
        }
    }

    fn is_tapped(self, pad: &Gamepad) -> bool {
        matches!(self, Self::Cross(button) if pad.just_pressed(button))
    }
}

// What the buttons do, by their places: names differ between makers.
const HAND: GamepadButton = GamepadButton::South;
const TAKE_OVER: GamepadButton = GamepadButton::West;
pub(crate) const KEEP: GamepadButton = GamepadButton::North;
pub(crate) const DISCARD: GamepadButton = GamepadButton::East;
pub(crate) const END: GamepadButton = GamepadButton::Select;
pub(crate) const PAUSE: GamepadButton = GamepadButton::Start;
pub(crate) const NEW_EPISODE: GamepadButton = GamepadButton::RightTrigger;
const FINE: GamepadButton = GamepadButton::LeftTrigger;
const CLOSE_HAND: GamepadButton = GamepadButton::RightTrigger2;
const OTHER_ARM: GamepadButton = GamepadButton::RightThumb;
const OPEN_HAND: GamepadButton = GamepadButton::LeftTrigger2;

/// The buttons and what they do, for the help on the screen; sticks and cross are in the bindings.
pub(crate) const HELP: [(&str, &str); 8] = [
    ("A, lower", "close, open the hand"),
    ("R2, L2", "close, open"),
    ("L1", "finer"),
    ("X, left", "take over, give back"),
    ("Start", "pause"),
    ("R1", "new episode"),
    ("Y, B", "keep, discard the episode"),
    ("Select", "end the recording"),
];

/// The same for two arms.
pub(crate) const HELP_OTHER_ARM: (&str, &str) = ("right stick in", "other arm");

/// Whether a button of any gamepad went down in this frame.
pub(crate) fn is_pressed(pads: &Query<&Gamepad>, button: GamepadButton) -> bool {
    pads.iter().any(|pad| pad.just_pressed(button))
}

/// After the keys: sticks and buttons add to them.
pub(crate) fn read_pads(pads: Query<&Gamepad>, mut control: ResMut<HumanControl>, mut episodes: EpisodeControl) {
    let control = control.bypass_change_detection();
    for pad in &pads {
        for (index, value, is_tap) in control
            .bindings()
            .iter()
            .map(|binding| (binding.index, binding.sign * binding.pad.value(pad), binding.pad.is_tapped(pad)))
            .collect::<Vec<_>>()
        {
            control.push(index, value, is_tap);
        }
        if pad.pressed(FINE) {
            control.be_fine();
        }
        if pad.just_pressed(OTHER_ARM) {
            control.next_arm();
        }
        if pad.just_pressed(HAND) {
            control.toggle_gripper();
        }
        if pad.just_pressed(CLOSE_HAND) {
            control.set_gripper(true);
        }
        if pad.just_pressed(OPEN_HAND) {
            control.set_gripper(false);
        }
    }
    if is_pressed(&pads, TAKE_OVER) {
        episodes.take_over(control);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;
    use crate::{CloseRequest, HumanPlugin, KeysPlugin, Notice, Pace, PacePlugin};
    use bevy::input::{
        InputPlugin,
        gamepad::{
            GamepadConnection, GamepadConnectionEvent, RawGamepadAxisChangedEvent, RawGamepadButtonChangedEvent,
            RawGamepadEvent,
        },
    };
    use onestep_agent::{Action, Agent, AgentMode, AgentSpec, Episode};
    use onestep_record::demonstrations::{DemonstrationPlugin, DemonstrationRecorder};
    use onestep_sim::SimPlugin;

    /// An app with a connected gamepad, whose clock never ticks by itself.
    fn app(task: &str, mode: AgentMode) -> (App, Entity) {
        let mut app = App::new();
        app.add_plugins((MinimalPlugins, InputPlugin, PacePlugin { pace: Pace::default().with_pause(true) }))
            .add_plugins((
                SimPlugin { task: task.to_owned(), mode, ..default() },
                HumanPlugin,
                KeysPlugin,
                DemonstrationPlugin,
            ));
        app.world_mut().resource_mut::<HumanControl>().camera_frame = false;
        app.finish();
        app.cleanup();
        let pad = app.world_mut().spawn_empty().id();
        let connection =
            GamepadConnection::Connected { name: "test pad".to_owned(), vendor_id: None, product_id: None };
        app.world_mut().write_message(GamepadConnectionEvent::new(pad, connection));
        app.update();
        (app, pad)
    }

    fn push(app: &mut App, pad: Entity, axis: GamepadAxis, value: f32) {
        let event = RawGamepadAxisChangedEvent::new(pad, axis, value);
        app.world_mut().write_message(RawGamepadEvent::Axis(event));
        app.update();
    }

    fn press(app: &mut App, pad: Entity, button: GamepadButton) {
        for value in [1.0, 0.0] {
            let event = RawGamepadButtonChangedEvent::new(pad, button, value);
            app.world_mut().write_message(RawGamepadEvent::Button(event));
            app.update();
        }
    }

    fn action_after_tick(app: &mut App) -> Vec<f32> {
        app.world_mut().run_schedule(FixedUpdate);
        app.world_mut().query::<&Action>().single(app.world()).unwrap().values().to_vec()
    }

    #[test]
    fn sticks_move_and_turn_as_far_as_they_are_pushed() {
        let (mut app, pad) = app("lift", AgentMode::Human);
        assert!(app.world().resource::<Notice>().text.contains("test pad"));
        push(&mut app, pad, GamepadAxis::LeftStickY, 1.0);
        push(&mut app, pad, GamepadAxis::LeftStickX, -1.0);
        push(&mut app, pad, GamepadAxis::RightStickY, -0.5);
        let action = action_after_tick(&mut app);
        // Forward, left, and half as fast down; a stick's last stretch is dead, so half is not quite half.
        assert_eq!(action[..2], [0.5, 0.5]);
        assert!((action[2] + 0.25).abs() < 0.03, "{action:?}");
        for axis in [GamepadAxis::LeftStickX, GamepadAxis::LeftStickY, GamepadAxis::RightStickY] {
            push(&mut app, pad, axis, 0.0);
        }
        push(&mut app, pad, GamepadAxis::RightStickX, 1.0);
        // To the right is clockwise from above: negative around the vertical.
        assert_eq!(action_after_tick(&mut app), [0.0, 0.0, 0.0, 0.0, 0.0, -0.5, -1.0]);
        push(&mut app, pad, GamepadAxis::RightStickX, 0.0);
        // A short tap of the cross counts for one tick, and a resting thumb for none.
        push(&mut app, pad, GamepadAxis::LeftStickY, 0.01);
        press(&mut app, pad, GamepadButton::DPadUp);
        assert_eq!(action_after_tick(&mut app)[..6], [0.0, 0.0, 0.0, 0.0, 0.5, 0.0]);
        assert_eq!(action_after_tick(&mut app)[..6], [0.0; 6]);
    }

    #[test]
    fn buttons_and_triggers_move_the_hand_and_l1_is_finer() {
        let (mut app, pad) = app("lift", AgentMode::Human);
        // The first step of an episode opens the hand.
        action_after_tick(&mut app);
        let mut grip = |button, expected| {
            press(&mut app, pad, button);
            assert_eq!(action_after_tick(&mut app)[6], expected, "{button:?}");
        };
        grip(GamepadButton::South, 1.0);
        grip(GamepadButton::South, -1.0);
        grip(GamepadButton::RightTrigger2, 1.0);
        grip(GamepadButton::RightTrigger2, 1.0);
        grip(GamepadButton::LeftTrigger2, -1.0);
        push(&mut app, pad, GamepadAxis::LeftStickY, 1.0);
        let down = RawGamepadButtonChangedEvent::new(pad, GamepadButton::LeftTrigger, 1.0);
        app.world_mut().write_message(RawGamepadEvent::Button(down));
        app.update();
        assert_eq!(action_after_tick(&mut app)[0], 0.125);
    }

    #[test]
    fn other_mechanisms_move_by_stick() {
        let (mut app, pad) = app("reacher", AgentMode::Human);
        push(&mut app, pad, GamepadAxis::LeftStickX, 1.0);
        push(&mut app, pad, GamepadAxis::LeftStickY, -1.0);
        assert_eq!(action_after_tick(&mut app), [0.5, -0.5]);
    }

    #[test]
    fn the_right_stick_pressed_moves_the_other_arm() {
        let (mut app, pad) = app("transport", AgentMode::Human);
        push(&mut app, pad, GamepadAxis::LeftStickY, 1.0);
        let forward = |action: &[f32]| (action[0], action[7]);
        assert_eq!(forward(&action_after_tick(&mut app)), (0.5, 0.0));
        press(&mut app, pad, GamepadButton::RightThumb);
        assert_eq!(forward(&action_after_tick(&mut app)), (0.0, 0.5));
        press(&mut app, pad, GamepadButton::RightThumb);
        assert_eq!(forward(&action_after_tick(&mut app)), (0.5, 0.0));
    }

    #[test]
    fn buttons_take_over_keep_discard_and_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("demos.safetensors");
        let (mut app, pad) = app("lift", AgentMode::Scripted);
        let spec = app.world_mut().query::<&AgentSpec>().single(app.world()).unwrap().clone();
        app.insert_resource(DemonstrationRecorder::open(&path, "lift", &spec, Agent(0)).unwrap());
        let ticks = |app: &mut App| (0..3).for_each(|_| app.world_mut().run_schedule(FixedUpdate));
        ticks(&mut app);
        press(&mut app, pad, GamepadButton::West);
        assert_eq!(*app.world_mut().query::<&AgentMode>().single(app.world()).unwrap(), AgentMode::Human);
        ticks(&mut app);
        press(&mut app, pad, GamepadButton::North);
        ticks(&mut app);
        press(&mut app, pad, GamepadButton::East);
        let recorder = app.world().resource::<DemonstrationRecorder>();
        assert_eq!((recorder.kept(), recorder.discarded()), (1, 1));
        assert_eq!(recorder.episodes()[0].interventions, [false, false, false, true, true, true]);
        press(&mut app, pad, GamepadButton::Start);
        assert!(!app.world().resource::<Pace>().paused);
        let index = |app: &mut App| app.world_mut().query::<&Episode>().single(app.world()).unwrap().index;
        ticks(&mut app);
        let before = index(&mut app);
        press(&mut app, pad, GamepadButton::RightTrigger);
        ticks(&mut app);
        assert_eq!(index(&mut app), before + 1);
        assert!(!app.world().contains_resource::<CloseRequest>());
        press(&mut app, pad, GamepadButton::Select);
        assert!(app.world().contains_resource::<CloseRequest>());
    }
}
