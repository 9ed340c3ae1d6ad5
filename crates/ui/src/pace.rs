use std::time::{Duration, Instant};

use bevy::{
    app::{RunFixedMainLoop, RunFixedMainLoopSystems},
    ecs::message::{MessageRegistry, ShouldUpdateMessages},
    prelude::*,
    window::WindowCloseRequested,
};
use onestep_record::{TicksInFrames, recorder::FilmClock};

/// How fast ticks follow the clock on the wall.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Speed {
    /// So many times real time.
    Times(f32),
    /// As fast as the machine allows while pictures still come.
    Max,
}

impl Speed {
    /// The speeds that [`Pace::faster`] and [`Pace::slower`] go through.
    pub const LEVELS: [Self; 7] = [
        Self::Times(0.25),
        Self::Times(0.5),
        Self::Times(1.0),
        Self::Times(2.0),
        Self::Times(4.0),
        Self::Times(8.0),
        Self::Max,
    ];

    fn rank(self) -> f32 {
        match self {
            Self::Times(times) => times,
            Self::Max => f32::INFINITY,
        }
    }
}

impl std::fmt::Display for Speed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Times(times) => write!(f, "{times}×"),
            Self::Max => f.write_str("max"),
        }
    }
}

/// Speed, pause and single steps of the simulation. Panel and keys write it, [`PacePlugin`] obeys.
#[derive(Resource, Debug, Clone, PartialEq)]
pub struct Pace {
    /// Nothing moves.
    pub paused: bool,
    /// How fast it moves otherwise.
    pub speed: Speed,
    single_ticks: u32,
    owed_secs: f64,
}

impl Default for Pace {
    fn default() -> Self {
        Self::at(Speed::Times(1.0))
    }
}

impl Pace {
    /// Running at this speed.
    #[must_use]
    pub fn at(speed: Speed) -> Self {
        Self { paused: false, speed, single_ticks: 0, owed_secs: 0.0 }
    }

    /// The same, paused or not.
    #[must_use]
    pub fn with_pause(self, paused: bool) -> Self {
        Self { paused, ..self }
    }

    /// Pauses, or goes on.
    pub fn toggle(&mut self) {
        self.paused = !self.paused;
        self.owed_secs = 0.0;
    }

    /// Pauses after one more tick.
    pub fn single_tick(&mut self) {
        self.paused = true;
        self.single_ticks += 1;
    }

    /// The next higher speed.
    pub fn faster(&mut self) {
        if let Some(next) = Speed::LEVELS.into_iter().find(|level| level.rank() > self.speed.rank()) {
            self.speed = next;
        }
    }

    /// The next lower speed.
    pub fn slower(&mut self) {
        if let Some(next) = Speed::LEVELS.into_iter().rev().find(|level| level.rank() < self.speed.rank()) {
            self.speed = next;
        }
    }

    /// How much of the time to the next tick has passed, 0 to 1, where a driver makes the ticks.
    pub(crate) fn share_of_next(&self, period: Duration) -> f32 {
        match self.speed {
            Speed::Max => 1.0,
            Speed::Times(_) => (self.owed_secs / period.as_secs_f64().max(1e-6)).clamp(0.0, 1.0) as f32,
        }
    }

    /// How many ticks are due, when `elapsed` has passed since the last call and one tick stands for `period`.
    fn due(&mut self, elapsed: Duration, period: Duration) -> u32 {
        /// Time that was lost, by a hidden window or a slow disk, is not made up for beyond this.
        const MAX_OWED_SECS: f64 = 0.5;
        let singles = std::mem::take(&mut self.single_ticks);
        if self.paused {
            return singles;
        }
        match self.speed {
            Speed::Max => u32::MAX,
            Speed::Times(times) => {
                let period = period.as_secs_f64().max(1e-6);
                let most = f64::from(times) * MAX_OWED_SECS + period;
                self.owed_secs = (self.owed_secs + elapsed.as_secs_f64() * f64::from(times)).min(most);
                let ticks = (self.owed_secs / period).floor();
                self.owed_secs -= ticks * period;
                ticks as u32
            }
        }
    }
}

/// Asks to end as if the window had been closed: a driver saves first. Insert it.
#[derive(Resource, Debug, Clone, Copy, Default)]
pub struct CloseRequest;

/// What a tick is in this app, if it is more than Bevy's own fixed schedule. [`PacePlugin`] calls it.
pub trait TickDriver: 'static {
    /// Makes one tick, or another small piece of work.
    fn advance(&mut self, world: &mut World);

    /// Called in every frame, also in a pause: does what a person asked for, saving for example.
    fn serve(&mut self, _world: &mut World) {}

    /// Whether the next piece of work moves nothing that is shown, so that it need not wait for the clock.
    fn is_free(&self, _world: &World) -> bool {
        false
    }

    /// Whether the last [`advance`](Self::advance) could do nothing, because something that goes on beside has to come
    /// first: the frame goes on without it, and the tick is still to be made.
    fn is_waiting(&self) -> bool {
        false
    }

    /// How long it may work in one frame; `None`: as long as pictures still come.
    fn budget(&self) -> Option<Duration> {
        None
    }

    /// Whether somebody outside of the window asked to end: Ctrl-C.
    fn wants_to_close(&mut self) -> bool {
        false
    }

    /// The window was closed: the last chance to save. The app ends after it.
    fn close(&mut self, world: &mut World);
}

/// Lets ticks follow the clock as [`Pace`] says.
///
/// Without a driver it sets Bevy's own clock: pause and speed of `Time<Virtual>`. With a driver, see [`drive`], Bevy's
/// fixed schedules rest and the driver is called instead.
#[derive(Debug, Clone, Default)]
pub struct PacePlugin {
    /// Speed and pause at the start.
    pub pace: Pace,
}

impl Plugin for PacePlugin {
    fn build(&self, app: &mut App) {
        app.insert_resource(self.pace.clone()).add_systems(
            RunFixedMainLoop,
            (set_bevys_clock, run_driver).chain().in_set(RunFixedMainLoopSystems::BeforeFixedMainLoop),
        );
    }
}

/// The driver of an app. It may hold anything, so it stays on the main thread.
struct Driver(Box<dyn TickDriver>);

/// Hands the ticks of a windowed app over to `driver`. The app needs [`PacePlugin`].
pub fn drive(app: &mut App, driver: impl TickDriver) {
    // Input and other messages age with the frames; ticks in between must not make them older.
    app.insert_resource(TicksInFrames).init_resource::<FilmClock>();
    if let Some(mut registry) = app.world_mut().get_resource_mut::<MessageRegistry>() {
        registry.should_update = ShouldUpdateMessages::Always;
    }
    app.world_mut().insert_non_send(Driver(Box::new(driver)));
}

/// Without a driver, Bevy's own loop makes the ticks.
fn set_bevys_clock(world: &mut World) {
    /// Bevy's clock has no highest speed.
    const MAX_SPEED: f32 = 16.0;
    let is_driven = world.get_non_send::<Driver>().is_some();
    let Some(mut pace) = world.get_resource_mut::<Pace>() else { return };
    let (paused, speed) = (pace.paused || is_driven, pace.speed);
    let singles = if is_driven { 0 } else { std::mem::take(&mut pace.single_ticks) };
    if let Some(mut clock) = world.get_resource_mut::<Time<Virtual>>() {
        if clock.is_paused() != paused {
            if paused { clock.pause() } else { clock.unpause() }
        }
        let times = if let Speed::Times(times) = speed { times } else { MAX_SPEED };
        if clock.relative_speed() != times {
            clock.set_relative_speed(times);
        }
    }
    if let Some(mut fixed) = world.get_resource_mut::<Time<Fixed>>() {
        let period = fixed.timestep();
        fixed.accumulate_overstep(period * singles);
    }
}

fn run_driver(world: &mut World) {
    /// Work for this long, then show a picture.
    const BUDGET: Duration = Duration::from_millis(80);
    /// A longer frame is a disturbance: a film does not show it longer.
    const LONGEST_FRAME: Duration = Duration::from_millis(500);
    /// As fast as possible: pictures come less often than they could, and most of the time is work.
    const MAX_BUDGET: Duration = Duration::from_millis(40);
    let Some(mut driver) = world.remove_non_send::<Driver>() else { return };
    let closed = world.get_resource::<Messages<WindowCloseRequested>>().is_some_and(|closed| !closed.is_empty());
    if closed || world.contains_resource::<CloseRequest>() || driver.0.wants_to_close() {
        driver.0.close(world);
        world.write_message(AppExit::Success);
        return;
    }
    driver.0.serve(world);
    let elapsed = world.get_resource::<Time<Real>>().map_or(Duration::ZERO, Time::delta);
    let period = world.get_resource::<Time<Fixed>>().map_or(Duration::from_millis(50), Time::<Fixed>::timestep);
    let Some(mut pace) = world.get_resource_mut::<Pace>() else { return };
    let (asked, paused) = (pace.due(elapsed, period), pace.paused);
    let mut due = asked;
    let budget = if pace.speed == Speed::Max { MAX_BUDGET } else { BUDGET };
    let budget = driver.0.budget().map_or(budget, |own| own.min(budget));
    let started = Instant::now();
    loop {
        let is_free = !paused && driver.0.is_free(world);
        if !is_free && due == 0 {
            break;
        }
        driver.0.advance(world);
        if driver.0.is_waiting() {
            break;
        }
        if !is_free {
            due -= 1;
        }
        // Somebody may have paused in this tick: an episode to judge, for example.
        let goes_on = paused || world.get_resource::<Pace>().is_some_and(|pace| !pace.paused);
        if !goes_on || started.elapsed() >= budget {
            break;
        }
    }
    // Ticks that somebody asked for one by one are not lost.
    if paused
        && due > 0
        && let Some(mut pace) = world.get_resource_mut::<Pace>()
    {
        pace.single_ticks += due;
    }
    // Films go by what is seen: a pause takes no time, single ticks do.
    let shown = if paused { period * (asked - due) } else { elapsed.min(LONGEST_FRAME) };
    if let Some(mut clock) = world.get_resource_mut::<FilmClock>() {
        clock.seconds += shown.as_secs_f64();
    }
    world.insert_non_send(driver);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_millis(50);

    /// Ticks in one second of 60 frames.
    fn ticks_in_a_second(pace: &mut Pace) -> u32 {
        (0..60).map(|_| pace.due(Duration::from_secs_f64(1.0 / 60.0), PERIOD)).sum()
    }

    #[test]
    fn ticks_follow_the_clock() {
        for (times, expected) in [(0.25, 5), (1.0, 20), (4.0, 80)] {
            let ticks = ticks_in_a_second(&mut Pace::at(Speed::Times(times)));
            assert!(ticks.abs_diff(expected) <= 1, "{ticks} ticks at {times}");
        }
        assert_eq!(Pace::at(Speed::Max).due(Duration::ZERO, PERIOD), u32::MAX);
    }

    #[test]
    fn lost_time_is_not_made_up_for() {
        let mut pace = Pace::default();
        assert!(pace.due(Duration::from_secs(60), PERIOD) <= 11);
        assert!(pace.due(Duration::from_millis(50), PERIOD) <= 2);
    }

    #[test]
    fn a_pause_holds_and_single_ticks_are_single() {
        let mut pace = Pace::default();
        pace.toggle();
        assert_eq!(ticks_in_a_second(&mut pace), 0);
        pace.single_tick();
        assert_eq!(ticks_in_a_second(&mut pace), 1);
        pace.toggle();
        assert!(ticks_in_a_second(&mut pace) >= 19);
    }

    #[test]
    fn speeds_go_up_and_down_to_their_ends() {
        let mut pace = Pace::default();
        (0..20).for_each(|_| pace.faster());
        assert_eq!(pace.speed, Speed::Max);
        pace.slower();
        assert_eq!(pace.speed, Speed::Times(8.0));
        (0..20).for_each(|_| pace.slower());
        assert_eq!(pace.speed, Speed::Times(0.25));
    }

    #[derive(Resource, Default)]
    struct Count(u32);

    struct Counter;

    impl TickDriver for Counter {
        fn advance(&mut self, world: &mut World) {
            world.resource_mut::<Count>().0 += 1;
            onestep_record::tick(world);
        }

        fn close(&mut self, world: &mut World) {
            world.resource_mut::<Count>().0 += 100;
        }
    }

    /// Works only in every third frame.
    #[derive(Default)]
    struct Busy {
        calls: u32,
    }

    impl TickDriver for Busy {
        fn advance(&mut self, world: &mut World) {
            self.calls += 1;
            if !self.is_waiting() {
                world.resource_mut::<Count>().0 += 1;
            }
        }

        fn is_waiting(&self) -> bool {
            !self.calls.is_multiple_of(3)
        }

        fn budget(&self) -> Option<Duration> {
            Some(Duration::ZERO)
        }

        fn close(&mut self, _: &mut World) {}
    }

    #[test]
    fn frames_go_on_while_a_driver_waits_and_single_ticks_are_not_lost() {
        let mut app = driven(Pace::default().with_pause(true));
        app.insert_non_send(Driver(Box::new(Busy::default())));
        (0..2).for_each(|_| app.world_mut().resource_mut::<Pace>().single_tick());
        let counts: Vec<u32> = (0..9)
            .map(|_| {
                app.update();
                app.world().resource::<Count>().0
            })
            .collect();
        assert_eq!(counts, [0, 0, 1, 1, 1, 2, 2, 2, 2]);
        // Nor does it take a frame longer at the highest speed.
        *app.world_mut().resource_mut::<Pace>() = Pace::at(Speed::Max);
        (0..6).for_each(|_| app.update());
        assert_eq!(app.world().resource::<Count>().0, 4);
    }

    fn driven(pace: Pace) -> App {
        let mut app = App::new();
        app.add_plugins((MinimalPlugins, PacePlugin { pace }))
            .add_message::<WindowCloseRequested>()
            .init_resource::<Count>()
            .init_schedule(FixedUpdate);
        drive(&mut app, Counter);
        app
    }

    #[test]
    fn a_driver_is_called_instead_of_bevys_loop_and_once_more_at_the_end() {
        let mut app = driven(Pace { paused: true, ..Pace::default() });
        app.update();
        assert_eq!(app.world().resource::<Count>().0, 0);
        app.world_mut().resource_mut::<Pace>().single_tick();
        app.update();
        app.update();
        assert_eq!(app.world().resource::<Count>().0, 1);
        assert!(app.world().resource::<Time<Virtual>>().is_paused());
        app.world_mut().write_message(WindowCloseRequested { window: Entity::PLACEHOLDER });
        app.update();
        assert_eq!(app.world().resource::<Count>().0, 101);
        assert_eq!(app.should_exit(), Some(AppExit::Success));
    }

    #[test]
    fn without_a_driver_bevys_clock_obeys() {
        let mut app = App::new();
        app.add_plugins((MinimalPlugins, PacePlugin { pace: Pace::at(Speed::Times(2.0)) }))
            .init_resource::<Count>()
            .add_systems(FixedUpdate, |mut count: ResMut<Count>| count.0 += 1);
        app.update();
        assert_eq!(app.world().resource::<Time<Virtual>>().relative_speed(), 2.0);
        let before = app.world().resource::<Count>().0;
        app.world_mut().resource_mut::<Pace>().single_tick();
        app.update();
        assert!(app.world().resource::<Time<Virtual>>().is_paused());
        assert!(app.world().resource::<Count>().0 > before);
    }
}
