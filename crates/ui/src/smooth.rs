use bevy::{
    app::{RunFixedMainLoop, RunFixedMainLoopSystems},
    prelude::*,
};
use onestep_agent::{AgentSystems, Episode};
use onestep_record::TicksInFrames;
use onestep_sim::{Arena, SimBody};

use crate::Pace;

/// Draws bodies between their last two places, so that a world of 20 steps per second moves evenly at 60 frames per
/// second.
///
/// What is drawn is up to one tick old. Nothing is drawn between the end of an episode and the start of the next, and in
/// a pause bodies are where they are. The simulation does not know: only the `Transform`s of [`SimBody`]s change, between
/// ticks, and each tick writes them anew.
#[derive(Debug, Clone, Copy, Default)]
pub struct SmoothPlugin;

impl Plugin for SmoothPlugin {
    fn build(&self, app: &mut App) {
        app.add_systems(PreUpdate, begin)
            .add_systems(FixedUpdate, remember.in_set(AgentSystems::Record))
            .add_systems(RunFixedMainLoop, place_between.in_set(RunFixedMainLoopSystems::AfterFixedMainLoop));
    }
}

/// Where a body was before the last tick, and where that tick left it.
#[derive(Component, Debug, Clone, Copy)]
struct LastPlaces {
    before: Transform,
    now: Transform,
}

/// Which episode a body's places belong to.
#[derive(Component, Debug, Clone, Copy, PartialEq, Eq)]
struct LastEpisode(u64, u64);

fn begin(mut commands: Commands, bodies: Query<(Entity, &Transform), (With<SimBody>, Without<LastPlaces>)>) {
    for (body, transform) in &bodies {
        commands.entity(body).insert(LastPlaces { before: *transform, now: *transform });
    }
}

/// After a tick: the bodies' transforms are the simulation's.
fn remember(
    mut commands: Commands,
    arenas: Query<(Entity, &Episode, &Children, Option<&LastEpisode>), With<Arena>>,
    mut bodies: Query<(&Transform, &mut LastPlaces)>,
) {
    /// What goes farther than this in one tick was put there, metres.
    const JUMP: f32 = 0.5;
    for (arena, episode, children, last) in &arenas {
        let current = LastEpisode(episode.index, episode.seed);
        let is_new = last != Some(&current);
        if is_new {
            commands.entity(arena).insert(current);
        }
        for child in children {
            let Ok((transform, mut places)) = bodies.get_mut(*child) else { continue };
            let jumps = is_new || places.now.translation.distance(transform.translation) > JUMP;
            let before = if jumps { *transform } else { places.now };
            *places = LastPlaces { before, now: *transform };
        }
    }
}

/// After the ticks of a frame: the place of this moment.
fn place_between(
    pace: Option<Res<Pace>>,
    driven: Option<Res<TicksInFrames>>,
    fixed: Res<Time<Fixed>>,
    clock: Res<Time<Virtual>>,
    mut bodies: Query<(&mut LastPlaces, &mut Transform)>,
) {
    let is_paused = pace.as_ref().map_or_else(|| clock.is_paused(), |pace| pace.paused);
    let share = match &pace {
        _ if is_paused => 1.0,
        Some(pace) if driven.is_some() => pace.share_of_next(fixed.timestep()),
        _ => fixed.overstep_fraction(),
    };
    for (mut places, mut transform) in &mut bodies {
        let LastPlaces { before, now } = *places;
        if before == now {
            transform.set_if_neq(now);
            continue;
        }
        if is_paused {
            // It goes on from what is seen, not from one tick earlier.
            places.before = now;
        }
        let shown = if share >= 1.0 {
            now
        } else {
            Transform {
                translation: before.translation.lerp(now.translation, share),
                rotation: before.rotation.slerp(now.rotation, share),
                scale: now.scale,
            }
        };
        transform.set_if_neq(shown);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{PacePlugin, Speed, TickDriver, drive};
    use bevy::time::TimeUpdateStrategy;
    use onestep_agent::AgentMode;
    use onestep_sim::SimPlugin;

    struct Ticks;

    impl TickDriver for Ticks {
        fn advance(&mut self, world: &mut World) {
            onestep_record::tick(world);
        }

        fn close(&mut self, _: &mut World) {}
    }

    /// An arm at 20 ticks per second in frames of 1/80 second; four frames are a tick.
    fn app(smooth: bool, driven: bool) -> App {
        let mut app = App::new();
        app.add_plugins((MinimalPlugins, PacePlugin::default()))
            .add_plugins(SimPlugin { mode: AgentMode::Scripted, ..default() });
        if smooth {
            app.add_plugins(SmoothPlugin);
        }
        if driven {
            drive(&mut app, Ticks);
        }
        app.finish();
        app.cleanup();
        app.update();
        app.insert_resource(TimeUpdateStrategy::ManualDuration(Duration::from_micros(12_500)));
        app
    }

    fn hand(app: &mut App) -> Vec3 {
        let world = app.world_mut();
        let mut bodies = world.query::<(&SimBody, &Transform)>();
        bodies.iter(world).find(|(body, _)| body.name == "hand").unwrap().1.translation
    }

    fn hash(app: &mut App) -> (u32, u64) {
        let world = app.world_mut();
        let (episode, arena) = world.query::<(&Episode, &Arena)>().single(world).unwrap();
        (episode.step, arena.sim().hash())
    }

    #[test]
    fn frames_between_ticks_move_evenly_and_the_world_does_not_notice() {
        for driven in [false, true] {
            let (mut plain, mut smooth) = (app(false, driven), app(true, driven));
            let mut places = Vec::new();
            let mut ticks = Vec::new();
            for _ in 0..81 {
                plain.update();
                smooth.update();
                assert_eq!(hash(&mut plain), hash(&mut smooth));
                ticks.push(hand(&mut plain));
                places.push(hand(&mut smooth));
            }
            let moves = |places: &[Vec3]| places.windows(2).filter(|pair| pair[0].distance(pair[1]) > 1e-5).count();
            let (few, many) = (moves(&ticks[40..]), moves(&places[40..]));
            assert!(few <= 12 && many >= 36, "driven {driven}: {few} and {many} of 40 frames move");
            // One tick behind, and on the way between the two.
            for frame in 44..81 {
                let (before, now) = (ticks[frame - 4], ticks[frame]);
                let detour = before.distance(places[frame]) + places[frame].distance(now) - before.distance(now);
                assert!(detour < 1e-4, "driven {driven}, frame {frame}: {detour} m off the way");
            }
        }
    }

    #[test]
    fn a_pause_shows_where_things_are_and_going_on_does_not_go_back() {
        let (mut plain, mut smooth) = (app(false, true), app(true, true));
        for app in [&mut plain, &mut smooth] {
            (0..42).for_each(|_| app.update());
            app.world_mut().resource_mut::<Pace>().toggle();
            app.update();
        }
        assert_eq!(hand(&mut plain), hand(&mut smooth));
        for _ in 0..3 {
            for app in [&mut plain, &mut smooth] {
                app.world_mut().resource_mut::<Pace>().single_tick();
                app.update();
            }
            assert_eq!(hand(&mut plain), hand(&mut smooth));
        }
        let paused = hand(&mut smooth);
        smooth.world_mut().resource_mut::<Pace>().toggle();
        smooth.update();
        assert!(hand(&mut smooth).distance(paused) < 1e-6);
    }

    #[test]
    fn nothing_is_drawn_between_two_episodes() {
        let (mut plain, mut smooth) = (app(false, true), app(true, true));
        for app in [&mut plain, &mut smooth] {
            app.world_mut().resource_mut::<Pace>().speed = Speed::Times(1.0);
            (0..160).for_each(|_| app.update());
        }
        let late = hand(&mut smooth);
        for app in [&mut plain, &mut smooth] {
            app.world_mut().query::<&mut Episode>().single_mut(app.world_mut()).unwrap().abandon();
            while app.world_mut().query::<&Episode>().single(app.world()).unwrap().step != 1 {
                app.update();
            }
        }
        let start = hand(&mut plain);
        assert!(late.distance(start) > 0.05, "the hand has hardly moved: {late} and {start}");
        assert!(hand(&mut smooth).distance(start) < 1e-6);
    }
}
