use bevy::prelude::*;
use onestep_agent::{ActOrder, Action, ActionSpace, Agent, AgentMode, AgentSpec, AgentSystems, Episode};
use onestep_sim::frames;

use crate::{InputCapture, OrbitCamera, PadInput, episodes::EpisodeControl, gamepad::read_pads};

/// Lets a person act for one agent by keyboard or gamepad, and take over from a policy or a script while it runs.
///
/// An agent in [`AgentMode::Human`] does what the keys of [`HumanControl::bindings`] say; without a key it does
/// nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct HumanPlugin;

impl Plugin for HumanPlugin {
    fn build(&self, app: &mut App) {
        #[cfg(feature = "gamepad")]
        if !app.is_plugin_added::<bevy_gilrs::GilrsPlugin>() {
            app.add_plugins(bevy_gilrs::GilrsPlugin);
        }
        // Without Bevy's input nobody presses a key.
        app.init_resource::<ButtonInput<KeyCode>>()
            .init_resource::<InputCapture>()
            .init_resource::<HumanControl>()
            .add_systems(Update, (follow_selection, read_keys, read_pads).chain())
            .add_systems(
                FixedUpdate,
                (open_gripper.in_set(AgentSystems::Observe), act_by_hand.in_set(ActOrder::Human)),
            );
    }
}

/// Arms that one agent may have.
const MOST_ARMS: usize = 2;

/// What a key does to an action.
#[derive(Debug, Clone, PartialEq)]
pub struct Binding {
    /// The key.
    pub key: KeyCode,
    /// What stands on it.
    pub label: &'static str,
    /// What does the same on a gamepad.
    pub pad: PadInput,
    /// What it does, in a few words.
    pub effect: String,
    /// Which number of the action.
    pub index: usize,
    /// Its direction.
    pub sign: f32,
}

/// Whose action a person writes, and what it is.
#[derive(Resource, Debug, Clone)]
pub struct HumanControl {
    /// Number of the agent that keys and panel speak of.
    pub agent: u32,
    /// Size of a movement while a key is down, of the largest possible one. Shift makes it a quarter.
    pub gain: f32,
    /// Whether forward means away from the camera, for an arm; else it is away from the arm's base.
    pub camera_frame: bool,
    bindings: Vec<Binding>,
    /// Which arm of two the keys move.
    arm: usize,
    /// What to return to after a take-over.
    mode_before: AgentMode,
    /// Directions of the keys that are down, one for each number of the action.
    held: Vec<f32>,
    /// The same for keys that were pressed since the last tick: a short tap counts for one tick.
    tapped: Vec<f32>,
    gripper: Option<usize>,
    /// Of each arm.
    gripper_closed: [bool; MOST_ARMS],
    is_fine: bool,
    /// Angle of the camera around the vertical, if directions are the camera's.
    yaw: Option<f32>,
    bound_to: Option<ActionSpace>,
}

impl Default for HumanControl {
    fn default() -> Self {
        Self {
            agent: 0,
            gain: 0.5,
            camera_frame: true,
            bindings: Vec::new(),
            arm: 0,
            mode_before: AgentMode::Policy,
            held: Vec::new(),
            tapped: Vec::new(),
            gripper: None,
            gripper_closed: [false; MOST_ARMS],
            is_fine: false,
            yaw: None,
            bound_to: None,
        }
    }
}

impl HumanControl {
    /// What keys, sticks and cross do, for the selected agent.
    #[must_use]
    pub fn bindings(&self) -> &[Binding] {
        &self.bindings
    }

    /// The number of the action that the gripper takes, if there is one. Space closes and opens it.
    #[must_use]
    pub fn gripper(&self) -> Option<usize> {
        self.gripper
    }

    /// Binds keys to the numbers of an action: by name for an arm, else pair by pair.
    fn bind(&mut self, space: &ActionSpace) {
        const PAIRS: [[(KeyCode, &str); 2]; 6] = [
            [(KeyCode::KeyD, "D"), (KeyCode::KeyA, "A")],
            [(KeyCode::KeyW, "W"), (KeyCode::KeyS, "S")],
            [(KeyCode::KeyE, "E"), (KeyCode::KeyQ, "Q")],
            [(KeyCode::KeyL, "L"), (KeyCode::KeyJ, "J")],
            [(KeyCode::KeyI, "I"), (KeyCode::KeyK, "K")],
            [(KeyCode::KeyO, "O"), (KeyCode::KeyU, "U")],
        ];
        self.bindings.clear();
        self.gripper = None;
        let mut free = 0;
        for (index, name) in space.names().iter().enumerate() {
            let Some(name) = name_for(self.arm, name) else { continue };
            let (pair, effects) = match name {
                "gripper" | "dgripper" => {
                    self.gripper = Some(index);
                    continue;
                }
                "dx" => (1, Some(["forward", "back"])),
                "dy" => (0, Some(["right", "left"])),
                "dz" => (2, Some(["up", "down"])),
                "rx" | "droll" => (5, Some(["roll right", "roll left"])),
                "ry" | "dpitch" => (4, Some(["pitch down", "pitch up"])),
                "rz" | "dyaw" => (3, Some(["turn right", "turn left"])),
                _ => {
                    free += 1;
                    (free - 1, None)
                }
            };
            let (Some(keys), Some(pads)) = (PAIRS.get(pair), PadInput::PAIRS.get(pair)) else { continue };
            // A person thinks of right and clockwise, where the benchmark's axes point left and turn the other way.
            let flip = if matches!(name, "dy" | "rz" | "dyaw") { -1.0 } else { 1.0 };
            for (place, ((key, label), pad)) in keys.iter().zip(pads).enumerate() {
                let sign = if place == 0 { 1.0 } else { -1.0 };
                let effect = match effects.as_ref().and_then(|effects| effects.get(place)) {
                    Some(effect) => (*effect).to_owned(),
                    None => format!("{name} {}", if place == 0 { "+" } else { "−" }),
                };
                self.bindings.push(Binding { key: *key, label, pad: *pad, effect, index, sign: sign * flip });
            }
        }
        self.held = vec![0.0; space.dim()];
        self.tapped = vec![0.0; space.dim()];
        self.bound_to = Some(space.clone());
    }

    /// The action of this tick. Taps are used up.
    fn action(&mut self) -> Vec<f32> {
        const FINE: f32 = 0.25;
        let size = self.gain * if self.is_fine { FINE } else { 1.0 };
        let mut action: Vec<f32> = self
            .held
            .iter()
            .zip(&self.tapped)
            .map(|(held, tapped)| size * if *held == 0.0 { *tapped } else { *held }.clamp(-1.0, 1.0))
            .collect();
        self.tapped.fill(0.0);
        if let (Some(space), Some(yaw)) = (&self.bound_to, self.yaw) {
            turn_to_camera(space, self.arm, &mut action, yaw);
        }
        // The other arm's gripper gets a 0, and stays as it is.
        if let Some(number) = self.gripper.and_then(|index| action.get_mut(index)) {
            *number = if self.gripper_closed.get(self.arm).is_some_and(|closed| *closed) { 1.0 } else { -1.0 };
        }
        action
    }

    /// Closes an open gripper and opens a closed one.
    pub fn toggle_gripper(&mut self) {
        if let Some(closed) = self.gripper_closed.get_mut(self.arm) {
            *closed = !*closed;
        }
    }

    /// Closes or opens the gripper.
    pub fn set_gripper(&mut self, closed: bool) {
        if let Some(own) = self.gripper_closed.get_mut(self.arm) {
            *own = closed;
        }
    }

    /// Adds to what the keys say about a number of the action, -1 to 1; a tap counts until the next tick.
    pub(crate) fn push(&mut self, index: usize, value: f32, is_tap: bool) {
        if let Some(held) = self.held.get_mut(index) {
            *held += value;
        }
        if is_tap && let Some(tapped) = self.tapped.get_mut(index) {
            *tapped = value;
        }
    }

    /// Makes movements smaller until the keys are read again.
    pub(crate) fn be_fine(&mut self) {
        self.is_fine = true;
    }

    /// Who acts when a person gives back.
    pub(crate) fn mode_before(&self) -> AgentMode {
        self.mode_before
    }

    /// Whom a person took over from.
    pub(crate) fn remember(&mut self, mode: AgentMode) {
        self.mode_before = mode;
    }

    /// How many arms the selected agent has that keys can move.
    #[must_use]
    pub fn arms(&self) -> usize {
        let names = self.bound_to.iter().flat_map(ActionSpace::names);
        let has = |arm: usize| names.clone().any(|name| name_for(arm, name).is_some_and(|own| own.len() < name.len()));
        (0..MOST_ARMS).filter(|arm| has(*arm)).count().max(1)
    }

    /// Lets keys move the other arm of two.
    pub fn next_arm(&mut self) {
        self.arm = (self.arm + 1) % self.arms();
        if let Some(space) = self.bound_to.take() {
            self.bind(&space);
        }
    }
}

/// What a number of an action is called for one arm: of two arms each has names of its own, `robot0_dx` and `robot1_dx`.
/// `None` for the other arm's.
fn name_for(arm: usize, name: &str) -> Option<&str> {
    match name.strip_prefix("robot").and_then(|rest| rest.split_once('_')) {
        Some((number, own)) => (number.parse() == Ok(arm)).then_some(own),
        None => Some(name),
    }
}

/// Keeps the bindings those of the selected agent.
fn follow_selection(mut control: ResMut<HumanControl>, agents: Query<(&Agent, &AgentSpec)>) {
    let Some((_, spec)) = agents.iter().find(|(agent, _)| agent.0 == control.agent) else { return };
    if control.bound_to.as_ref() != Some(&spec.action) {
        control.arm = 0;
        control.gripper_closed = [false; MOST_ARMS];
        control.bind(&spec.action);
    }
}

fn read_keys(
    keys: Res<ButtonInput<KeyCode>>,
    capture: Res<InputCapture>,
    mut control: ResMut<HumanControl>,
    cameras: Query<&OrbitCamera>,
    mut episodes: EpisodeControl,
) {
    let control = control.bypass_change_detection();
    control.held.fill(0.0);
    control.is_fine = keys.any_pressed([KeyCode::ShiftLeft, KeyCode::ShiftRight]);
    control.yaw = cameras.iter().next().map(|camera| camera.yaw).filter(|_| control.camera_frame);
    if capture.keyboard || keys.any_pressed([KeyCode::ControlLeft, KeyCode::ControlRight]) {
        return;
    }
    let mut tapped = std::mem::take(&mut control.tapped);
    for binding in &control.bindings {
        if keys.pressed(binding.key)
            && let Some(held) = control.held.get_mut(binding.index)
        {
            *held += binding.sign;
        }
        if keys.just_pressed(binding.key)
            && let Some(tapped) = tapped.get_mut(binding.index)
        {
            *tapped = binding.sign;
        }
    }
    control.tapped = tapped;
    if keys.just_pressed(KeyCode::Space) {
        control.toggle_gripper();
    }
    if keys.just_pressed(KeyCode::KeyX) {
        control.next_arm();
    }
    if keys.just_pressed(KeyCode::KeyT) {
        episodes.take_over(control);
    }
}

/// Turns forward and left, as a person before the picture sees them, into an arm's own x and y.
fn turn_to_camera(space: &ActionSpace, arm: usize, action: &mut [f32], yaw: f32) {
    let place = |name: &str| space.names().iter().position(|known| name_for(arm, known) == Some(name));
    let (Some(x), Some(y)) = (place("dx"), place("dy")) else { return };
    let (Some(forward), Some(left)) = (action.get(x).copied(), action.get(y).copied()) else { return };
    let in_arm = frames::from_bevy(Quat::from_rotation_y(yaw) * Vec3::new(-left, 0.0, -forward));
    for (place, value) in [(x, in_arm.x), (y, in_arm.y)] {
        if let Some(number) = action.get_mut(place) {
            *number = value.clamp(-1.0, 1.0);
        }
    }
}

/// A new episode starts with an open hand, whatever the last one ended with.
fn open_gripper(mut control: ResMut<HumanControl>, agents: Query<(&Agent, &Episode)>) {
    if agents.iter().any(|(agent, episode)| agent.0 == control.agent && episode.is_fresh()) {
        control.gripper_closed = [false; MOST_ARMS];
    }
}

fn act_by_hand(mut control: ResMut<HumanControl>, mut agents: Query<(&Agent, &AgentMode, &mut Action)>) {
    let selected = control.agent;
    let values = control.bypass_change_detection().action();
    for (agent, mode, mut action) in &mut agents {
        if *mode != AgentMode::Human {
            continue;
        }
        if agent.0 == selected && values.len() == action.values().len() {
            action.set(&values);
        } else {
            action.values_mut().fill(0.0);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;
    use bevy::input::{
        ButtonState,
        keyboard::{Key, KeyboardInput},
    };
    use onestep_sim::SimPlugin;

    fn app(mode: AgentMode) -> App {
        let mut app = App::new();
        app.add_plugins((MinimalPlugins, bevy::input::InputPlugin))
            .add_plugins((SimPlugin { mode, ..default() }, HumanPlugin));
        app.world_mut().resource_mut::<HumanControl>().camera_frame = false;
        app.finish();
        app.cleanup();
        app.update();
        app
    }

    fn press(app: &mut App, key_code: KeyCode, state: ButtonState) {
        app.world_mut().write_message(KeyboardInput {
            key_code,
            logical_key: Key::Unidentified(bevy::input::keyboard::NativeKey::Unidentified),
            state,
            text: None,
            repeat: false,
            window: Entity::PLACEHOLDER,
        });
        app.update();
    }

    fn action_after_tick(app: &mut App) -> Vec<f32> {
        app.world_mut().run_schedule(FixedUpdate);
        app.world_mut().query::<&Action>().single(app.world()).unwrap().values().to_vec()
    }

    #[test]
    fn keys_move_the_arm_and_a_tap_counts_once() {
        let mut app = app(AgentMode::Human);
        assert_eq!(action_after_tick(&mut app), [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0]);
        press(&mut app, KeyCode::KeyW, ButtonState::Pressed);
        press(&mut app, KeyCode::KeyA, ButtonState::Pressed);
        assert_eq!(action_after_tick(&mut app)[..3], [0.5, 0.5, 0.0]);
        press(&mut app, KeyCode::KeyW, ButtonState::Released);
        press(&mut app, KeyCode::KeyA, ButtonState::Released);
        assert_eq!(action_after_tick(&mut app)[..3], [0.0, 0.0, 0.0]);
        // Down and up again between two ticks.
        press(&mut app, KeyCode::KeyQ, ButtonState::Pressed);
        press(&mut app, KeyCode::KeyQ, ButtonState::Released);
        assert_eq!(action_after_tick(&mut app)[2], -0.5);
        assert_eq!(action_after_tick(&mut app)[2], 0.0);
    }

    #[test]
    fn space_closes_the_hand_until_the_next_episode() {
        let mut app = app(AgentMode::Human);
        action_after_tick(&mut app);
        press(&mut app, KeyCode::Space, ButtonState::Pressed);
        assert_eq!(action_after_tick(&mut app)[6], 1.0);
        app.world_mut().query::<&mut Episode>().single_mut(app.world_mut()).unwrap().abandon();
        assert_eq!(action_after_tick(&mut app)[6], -1.0);
    }

    #[test]
    fn t_takes_over_and_gives_back() {
        let mut app = app(AgentMode::Scripted);
        let mode = |app: &mut App| *app.world_mut().query::<&AgentMode>().single(app.world()).unwrap();
        let by_expert = action_after_tick(&mut app);
        assert!(by_expert.iter().take(3).any(|number| *number != 0.0));
        press(&mut app, KeyCode::KeyT, ButtonState::Pressed);
        assert_eq!(mode(&mut app), AgentMode::Human);
        assert_eq!(action_after_tick(&mut app)[..6], [0.0; 6]);
        press(&mut app, KeyCode::KeyT, ButtonState::Released);
        press(&mut app, KeyCode::KeyT, ButtonState::Pressed);
        assert_eq!(mode(&mut app), AgentMode::Scripted);
    }

    #[test]
    fn forward_is_away_from_the_camera() {
        let space = ActionSpace::new(["dx", "dy", "dz", "rx", "ry", "rz", "gripper"]);
        // A camera on the arm's far side that looks back at it: forward is towards the base.
        let eye = frames::to_bevy(Vec3::new(2.0, 0.0, 1.0));
        let camera = OrbitCamera::new(eye, frames::to_bevy(Vec3::new(0.0, 0.0, 1.0)));
        let mut action = [1.0, 0.0, 0.5, 0.0, 0.0, 0.0, 1.0];
        turn_to_camera(&space, 0, &mut action, camera.yaw);
        assert!((action[0] + 1.0).abs() < 1e-5 && action[1].abs() < 1e-5, "{action:?}");
        assert_eq!(action[2..], [0.5, 0.0, 0.0, 0.0, 1.0]);
    }

    #[test]
    fn the_other_arm_keeps_its_grasp() {
        let spec = onestep_sim::task("transport").unwrap().spec();
        let mut control = HumanControl::default();
        control.bind(&spec.action);
        control.toggle_gripper();
        assert_eq!((control.action()[6], control.action()[13]), (1.0, 0.0));
        control.next_arm();
        assert_eq!((control.action()[6], control.action()[13]), (0.0, -1.0));
        control.next_arm();
        assert_eq!((control.action()[6], control.action()[13]), (1.0, 0.0));
    }

    #[test]
    fn every_task_has_keys_for_its_actions() {
        for name in onestep_sim::tasks() {
            let spec = onestep_sim::task(name).unwrap().spec();
            let mut control = HumanControl::default();
            control.bind(&spec.action);
            let mut bound = vec![0; spec.action.dim()];
            for _ in 0..control.arms() {
                control.bindings.iter().for_each(|binding| bound[binding.index] += 1);
                // The space bar closes and opens.
                control.gripper.iter().for_each(|index| bound[*index] += 2);
                let mut keys: Vec<_> = control.bindings.iter().map(|binding| binding.label).collect();
                keys.sort_unstable();
                keys.dedup();
                assert_eq!(keys.len(), control.bindings.len(), "{name}: a key means two things");
                control.next_arm();
            }
            assert!(bound.iter().all(|count| *count == 2), "{name}: {bound:?}");
            assert_eq!(control.arms(), if *name == "transport" { 2 } else { 1 }, "{name}");
        }
    }
}
