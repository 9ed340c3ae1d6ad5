use bevy::{
    app::{App, FixedUpdate, PluginsState},
    ecs::{
        message::{MessageRegistry, ShouldUpdateMessages, message_update_system},
        prelude::*,
    },
    tasks::tick_global_task_pools_on_main_thread,
};

/// Says that frames of a running app age the messages and the change trackers, so that [`tick`] leaves both alone.
///
/// For an app whose frames call [`tick`] between two of Bevy's own steps, as a window does: with several ticks in one
/// frame, its input would otherwise be forgotten before anybody has read it. Message aging is then the frames' alone.
#[derive(Resource, Debug, Clone, Copy, Default)]
pub struct TicksInFrames;

/// Runs one control step: `FixedUpdate` exactly once, whatever the clock says.
///
/// Messages live for this tick and the next one, as they do between two frames of a running app; with
/// [`TicksInFrames`] as long as frames let them.
/// Call [`App::finish`] and [`App::cleanup`] first, once; [`evaluate`](crate::evaluation::evaluate) and
/// `record_rollout` do it themselves.
pub fn tick(world: &mut World) {
    if world.contains_resource::<TicksInFrames>() {
        world.run_schedule(FixedUpdate);
        return;
    }
    // Nothing but this call ages messages, so a frame that is rendered in between makes no message die early.
    if let Err(error) = world.run_system_cached(message_update_system) {
        tracing::warn!(%error, "messages of the last tick stay for one tick longer");
    }
    if let Some(mut registry) = world.get_resource_mut::<MessageRegistry>() {
        registry.should_update = ShouldUpdateMessages::Waiting;
    }
    world.run_schedule(FixedUpdate);
    world.clear_trackers();
}

/// Waits until every plugin is ready, then finishes the app. Does nothing to an app that was finished before.
pub fn finish(app: &mut App) {
    while app.plugins_state() == PluginsState::Adding {
        tick_global_task_pools_on_main_thread();
    }
    if app.plugins_state() == PluginsState::Ready {
        app.finish();
    }
    if app.plugins_state() == PluginsState::Finished {
        app.cleanup();
    }
}
