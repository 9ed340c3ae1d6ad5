//! What happens when the renderer, or the window system, gives up: the simulation is whole and is saved.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
};

use bevy::{
    ecs::schedule::{ScheduleLabel, SingleThreadedExecutor},
    prelude::*,
    render::{
        RenderApp,
        error_handler::{RenderError, RenderErrorHandler, RenderErrorPolicy},
        renderer::RenderDevice,
    },
};
use onestep_ui::CloseRequest;

/// What the renderer said when it gave up, known on both sides and after the app.
#[derive(Resource, Debug, Clone, Default)]
pub(super) struct LostDevice(Arc<Mutex<Option<String>>>);

impl LostDevice {
    /// Keeps the first reason: later ones follow from it.
    pub(super) fn report(&self, reason: &str) {
        let mut place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        place.get_or_insert_with(|| reason.lines().collect::<Vec<_>>().join(" "));
    }

    /// Does `work` while there is a device; a panic of it means that there is none any more.
    fn guard(&self, work: impl FnOnce()) {
        if self.reason().is_some() {
            return;
        }
        if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
            self.report(&text_of(panic.as_ref()));
        }
    }

    pub(super) fn reason(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The word on the device of an app with [`guard`].
pub(super) fn lost_device(app: &App) -> LostDevice {
    app.world().get_resource::<LostDevice>().cloned().unwrap_or_default()
}

#[derive(ScheduleLabel, Debug, Clone, PartialEq, Eq, Hash)]
struct Guarded;

/// Lets an app go on without pictures when its renderer reports an error or panics, and ask its driver to save and close.
/// Call it before the app is finished. After `lose_after` frames the device is given up by purpose.
pub(super) fn guard(app: &mut App, lose_after: Option<u32>) {
    let lost = LostDevice::default();
    app.insert_resource(lost.clone())
        .insert_resource(RenderErrorHandler(stop_for_error))
        .add_systems(First, close_if_lost);
    let Some(render) = app.get_sub_app_mut(RenderApp) else { return };
    // What the renderer gets to see of the world, in each frame.
    if let Some(mut extract) = render.take_extract() {
        let lost = lost.clone();
        render.set_extract(move |main, render| lost.guard(|| extract(main, render)));
    }
    let Some(rendering) = render.update_schedule else { return };
    let mut frame = 0;
    let guarded = move |world: &mut World| {
        frame += 1;
        if lose_after == Some(frame)
            && let Some(device) = world.get_resource::<RenderDevice>()
        {
            device.wgpu_device().destroy();
        }
        lost.guard(|| world.run_schedule(rendering));
    };
    let mut schedule = Schedule::new(Guarded);
    schedule.set_executor(SingleThreadedExecutor::new());
    schedule.add_systems(guarded);
    render.add_schedule(schedule);
    render.update_schedule = Some(Guarded.intern());
}

fn stop_for_error(error: &RenderError, world: &mut World, _: &mut World) -> RenderErrorPolicy {
    if let Some(lost) = world.get_resource::<LostDevice>() {
        lost.report(&error.description);
    }
    RenderErrorPolicy::StopRendering
}

fn close_if_lost(mut commands: Commands, lost: Res<LostDevice>, close: Option<Res<CloseRequest>>) {
    if close.is_none() && lost.reason().is_some() {
        // The simulation is whole: its driver saves as it does when the window is closed.
        commands.insert_resource(CloseRequest);
    }
}

/// Runs `work`; a panic comes back as what it carries. One of the window system or of the graphics, by its words or its
/// place, says nothing by itself, and neither does one that `is_expected`.
pub(super) fn caught<R>(
    is_expected: impl Fn(&str) -> bool + Send + Sync + 'static,
    work: impl FnOnce() -> R,
) -> Result<R, Box<dyn Any + Send>> {
    /// Crates that give up by panicking.
    const CRATES: [&str; 4] = ["wgpu", "bevy_render", "bevy_winit", "winit"];
    let hook = Arc::new(std::panic::take_hook());
    let usual = hook.clone();
    std::panic::set_hook(Box::new(move |panic| {
        let said = text_of(panic.payload());
        let place = panic.location().map_or("", |place| place.file());
        if is_expected(&said) || is_of_window(&said) || CRATES.iter().any(|name| place.contains(name)) {
            tracing::debug!("{place}: {said}");
        } else {
            usual(panic);
        }
    }));
    let result = catch_unwind(AssertUnwindSafe(work));
    std::panic::set_hook(Box::new(move |panic| hook(panic)));
    result
}

/// The words of a panic.
pub(super) fn text_of(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
        (Some(text), _) => text.clone(),
        (None, Some(text)) => (*text).to_owned(),
        (None, None) => "it did not say why".to_owned(),
    }
}

/// Whether the window system is what panicked.
pub(super) fn is_of_display(said: &str) -> bool {
    ["event loop", "EventLoop", "winit", "OsError", "X11", "Connection"].iter().any(|word| said.contains(word))
}

/// Whether the window system or the graphics are what panicked, and not the run.
pub(super) fn is_of_window(said: &str) -> bool {
    const WORDS: [&str; 8] =
        ["wgpu", "GPU", "swap chain", "surface", "Surface", "DeviceLost", "device is lost", "Vulkan"];
    is_of_display(said) || WORDS.iter().any(|word| said.contains(word))
}
