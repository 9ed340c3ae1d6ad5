//! Recording inside any Bevy app, with or without a window.
//!
//! The recorder films with cameras of its own: each follows a camera of the scene, draws into an image of the film's
//! size, and is switched on only in the frames that are wanted. So a film has the size and the rate that were asked for,
//! whatever the window's, and costs nothing in between.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    time::Duration,
};

use bevy::{
    app::{AppExit, prelude::*},
    asset::prelude::*,
    camera::{CameraUpdateSystems, Hdr, RenderTarget, Viewport, prelude::*, visibility::RenderLayers},
    core_pipeline::{
        Skybox,
        tonemapping::{DebandDither, Tonemapping},
    },
    ecs::{message::Messages, prelude::*},
    image::prelude::*,
    light::EnvironmentMapLight,
    math::UVec2,
    pbr::DistanceFog,
    post_process::bloom::Bloom,
    render::{
        render_resource::{TextureFormat, TextureUsages},
        view::{ColorGrading, Msaa},
    },
    time::{Fixed, Time, Virtual},
    transform::prelude::*,
};
use onestep_agent::prelude::*;

use crate::{
    encoding::{EncodingSettings, VideoFile, VideoWriter},
    error::RecordError,
    overlay::{Label, Overlay, Tile},
    partial::IfTaken,
    picture::Frame,
    shot::{self, Delivery, Shot, ShotWanted},
};

/// How often a frame is taken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FrameRate {
    /// So many for each second of the app's time (`Time<Virtual>`, or [`FilmClock`]). When the app is slower, frames are
    /// shown longer.
    PerSecond(f64),
    /// One after every so many runs of `FixedUpdate`; the film plays at the world's own pace.
    EverySteps(u32),
}

/// Seconds that films of [`FrameRate::PerSecond`] go by, in an app whose `Time<Virtual>` does not show how time passes
/// for those who watch. Without this resource it is `Time<Virtual>`.
#[derive(Resource, Debug, Clone, Copy, Default, PartialEq)]
pub struct FilmClock {
    /// Seconds since any moment.
    pub seconds: f64,
}

/// Records what cameras of the app see: [`Recorder::start`] begins a film, [`Recorder::stop`] ends it.
///
/// It needs an app that renders: Bevy's `DefaultPlugins`, or [`VideoPlugin`](crate::video::VideoPlugin), which includes
/// it, for an app without a window. Recording only reads the world.
///
/// ```no_run
/// use bevy::{app::App, asset::AssetPlugin};
/// use onestep_record::prelude::*;
///
/// # let mut app = App::new();
/// // app.add_plugins(DefaultPlugins);
/// app.add_plugins(RecorderPlugin { output: Some("game.mp4".into()), width: 1280, height: 720, ..Default::default() });
/// ```
///
/// Which cameras: those with the component [`Filmed`], side by side; without any, the first active one.
#[derive(Debug, Clone)]
pub struct RecorderPlugin {
    /// Start a film here as soon as the scene is ready; it ends with the app. `None`: wait for [`Recorder::start`].
    pub output: Option<PathBuf>,
    /// Pixels in a row of the film; all cameras share them.
    pub width: u32,
    /// Rows of the film.
    pub height: u32,
    /// How often a frame is taken.
    pub rate: FrameRate,
    /// Lines in the corner of each picture, about the agent of its camera.
    pub overlays: Vec<Overlay>,
    /// H.264's quantiser, 0 to 51: lower is better and larger.
    pub quantizer: u8,
    /// Frames that may wait for the encoder. When there are more, the app waits.
    pub queue: usize,
}

impl Default for RecorderPlugin {
    fn default() -> Self {
        let EncodingSettings { width, height, quantizer, queue, fps } = EncodingSettings::default();
        let rate = FrameRate::PerSecond(fps);
        Self { output: None, width, height, rate, overlays: Vec::new(), quantizer, queue }
    }
}

/// A camera that is filmed. Several of them share the film as tiles, row by row.
#[derive(Component, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Filmed {
    /// Its place among the tiles; equal ones stand in the order in which they were spawned.
    pub tile: u32,
    /// Whom the overlays are about. `None`: the agent that the camera is a child of, else the first one.
    pub agent: Option<Agent>,
}

/// Records; see [`RecorderPlugin`].
#[derive(Resource)]
pub struct Recorder {
    settings: RecorderPlugin,
    take: Option<Take>,
    last: Option<Result<VideoFile, RecordError>>,
    steps: u64,
    deliveries: Mutex<Receiver<Delivery>>,
    has_renderer: bool,
    /// Somebody waits for one frame: [`capture`](crate::video::capture).
    pub(crate) is_once: bool,
    /// Shots that the renderer has not answered yet.
    outstanding: u64,
    /// Time that one run of `FixedUpdate` stands for.
    period_secs: f64,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("settings", &self.settings).field("take", &self.take).finish_non_exhaustive()
    }
}

/// One film.
#[derive(Debug)]
struct Take {
    path: PathBuf,
    writer: VideoWriter,
    state: TakeState,
    /// Steps and seconds at its first frame.
    start: Option<(u64, f64)>,
    /// Frames asked of the renderer, repeats included.
    asked: u64,
    fps: f64,
    tries_without_camera: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TakeState {
    /// Renders without keeping anything, until nothing is missing any more.
    Warming {
        good: u32,
    },
    Running,
    /// No new frames; those under way are waited for.
    Stopping,
    /// The encoder has been told that nothing follows.
    Closing,
}

/// The recorder's own camera, a child of the one that it follows.
#[derive(Component, Debug)]
pub(crate) struct Twin {
    of: Entity,
    tile: Tile,
}

/// The image that is drawn into.
#[derive(Resource, Clone)]
struct FilmImage {
    image: Handle<Image>,
    size: (u32, u32),
}

impl Plugin for RecorderPlugin {
    fn build(&self, app: &mut App) {
        app.init_resource::<ShotWanted>()
            .add_systems(First, collect)
            .add_systems(FixedUpdate, count_steps.in_set(AgentSystems::Record))
            .add_systems(PostUpdate, direct.before(CameraUpdateSystems).before(TransformSystems::Propagate))
            .add_systems(Last, end_with_the_app);
    }

    fn finish(&self, app: &mut App) {
        let (sender, receiver) = mpsc::channel();
        let has_renderer = shot::add(app, sender);
        let mut recorder = Recorder {
            settings: self.clone(),
            take: None,
            last: None,
            steps: 0,
            deliveries: Mutex::new(receiver),
            has_renderer,
            is_once: false,
            outstanding: 0,
            period_secs: period_secs(app.world()),
        };
        if let Some(output) = &self.output
            && let Err(error) = recorder.start(output)
        {
            tracing::error!(%error, "nothing is recorded");
            recorder.last = Some(Err(error));
        }
        app.insert_resource(recorder);
    }
}

/// Seconds that one run of `FixedUpdate` stands for.
pub(crate) fn period_secs(world: &World) -> f64 {
    world.get_resource::<Time<Fixed>>().map_or(1.0 / 64.0, |time| time.timestep().as_secs_f64())
}

impl Recorder {
    /// Begins a film: `.mp4`, `.gif`, or a folder of PNG frames when the path ends in a slash. When it is whole, an older
    /// file of that name goes.
    ///
    /// # Errors
    /// [`RecordError::Busy`] while another one is under way, [`RecordError::NoRenderer`],
    /// [`RecordError::Option`] for settings that make no sense and [`RecordError::Write`] for a path that cannot be
    /// written.
    pub fn start(&mut self, path: impl AsRef<Path>) -> Result<(), RecordError> {
        self.begin(path.as_ref(), IfTaken::Replace)
    }

    /// As [`Recorder::start`], but no other file goes: if the name is taken when the film is whole, it gets the next free
    /// number. [`VideoFile::path`] tells.
    ///
    /// # Errors
    /// As [`Recorder::start`].
    pub fn start_new(&mut self, path: impl AsRef<Path>) -> Result<(), RecordError> {
        self.begin(path.as_ref(), IfTaken::TakeNext)
    }

    fn begin(&mut self, path: &Path, if_taken: IfTaken) -> Result<(), RecordError> {
        if let Some(take) = &self.take {
            return Err(RecordError::Busy { file: take.path.clone() });
        }
        if !self.has_renderer {
            return Err(RecordError::NoRenderer);
        }
        let RecorderPlugin { width, height, rate, quantizer, queue, .. } = self.settings;
        let fps = match rate {
            FrameRate::PerSecond(fps) => fps,
            FrameRate::EverySteps(0) => {
                let hint = "it must be 1 or more steps";
                return Err(RecordError::Option { option: "rate", value: "every 0 steps".to_owned(), hint });
            }
            FrameRate::EverySteps(steps) => 1.0 / (self.period_secs * f64::from(steps)),
        };
        let writer = VideoWriter::open(path, EncodingSettings { width, height, fps, quantizer, queue }, if_taken)?;
        self.take = Some(Take {
            path: path.to_owned(),
            writer,
            state: TakeState::Warming { good: 0 },
            start: None,
            asked: 0,
            fps,
            tries_without_camera: 0,
        });
        self.last = None;
        Ok(())
    }

    /// Ends the film. Its last frames are written in the background; [`Recorder::last`] tells when it is whole.
    pub fn stop(&mut self) {
        if let Some(take) = &mut self.take
            && take.state != TakeState::Closing
        {
            take.state = TakeState::Stopping;
        }
    }

    /// Whether a film is under way, its last frames being written included.
    #[must_use]
    pub fn is_recording(&self) -> bool {
        self.take.is_some()
    }

    /// The film under way: its file, which has its name when it is whole.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.take.as_ref().map(|take| take.path.as_path())
    }

    /// Seconds of the film under way, until now.
    #[must_use]
    pub fn film_secs(&self) -> f64 {
        self.take.as_ref().map_or(0.0, |take| take.writer.frames() as f64 / take.fps)
    }

    /// Frames of the film under way.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.take.as_ref().map_or(0, |take| take.writer.frames())
    }

    /// What became of the last film; nothing before its end.
    #[must_use]
    pub fn last(&self) -> Option<&Result<VideoFile, RecordError>> {
        self.last.as_ref()
    }

    /// As [`Recorder::last`], and takes it out.
    pub fn take_last(&mut self) -> Option<Result<VideoFile, RecordError>> {
        self.last.take()
    }

    /// What the next film will be like.
    #[must_use]
    pub fn settings(&self) -> &RecorderPlugin {
        &self.settings
    }

    /// Change what the next film will be like; the lines of the overlay change at once.
    pub fn settings_mut(&mut self) -> &mut RecorderPlugin {
        &mut self.settings
    }

    /// The renderer's answer, if it has come.
    pub(crate) fn take_delivery(&mut self) -> Option<Delivery> {
        let receiver = self.deliveries.get_mut().unwrap_or_else(PoisonError::into_inner);
        let delivery = receiver.try_recv().ok()?;
        self.outstanding = self.outstanding.saturating_sub(1);
        Some(delivery)
    }

    /// Ends the film with an error; its frames are kept.
    fn fail(&mut self, error: RecordError) {
        let Some(take) = self.take.take() else { return };
        let error = keep(take.writer, error);
        tracing::error!(%error, "the recording ended");
        self.last = Some(Err(error));
    }

    fn deliver(&mut self, delivery: Delivery) {
        let Some(take) = &mut self.take else { return };
        match delivery {
            Delivery::Frame(frame, shot) if take.state != TakeState::Closing => {
                if let Err(error) = push(&mut take.writer, frame, shot) {
                    self.fail(error);
                }
            }
            Delivery::Ready => {
                /// Frames without anything missing before the first is kept.
                const GOOD_FRAMES: u32 = 3;
                if let TakeState::Warming { good } = &mut take.state {
                    *good += 1;
                    if *good >= GOOD_FRAMES {
                        take.state = TakeState::Running;
                    }
                }
            }
            Delivery::NotReady => {
                if let TakeState::Warming { good } = &mut take.state {
                    *good = 0;
                }
            }
            Delivery::Frame(..) => {}
            Delivery::Failed(reason) => self.fail(RecordError::RenderingFailed { reason }),
        }
    }

    /// Moves a film that ends through its last states.
    fn wind_up(&mut self) {
        let Some(take) = &mut self.take else { return };
        if take.state == TakeState::Stopping && self.outstanding == 0 {
            take.writer.close();
            take.state = TakeState::Closing;
        }
        // Before the end it is through only when it failed.
        if take.writer.is_done()
            && let Some(take) = self.take.take()
        {
            let result = take.writer.finish();
            match &result {
                Ok(file) => tracing::info!(path = %file.path.display(), frames = file.frames, "recorded"),
                Err(error) => tracing::error!(%error, "the recording ended"),
            }
            self.last = Some(result);
        }
    }
}

/// Keeps what a writer has, and says so in the error.
pub(crate) fn keep(writer: VideoWriter, error: RecordError) -> RecordError {
    if writer.has_ended() {
        // The error is the writer's own, and tells what became of its frames.
        return error;
    }
    match writer.keep_partial() {
        Ok(VideoFile { frames, path, .. }) if frames > 0 => {
            RecordError::Partial { source: Box::new(error), frames, file: path }
        }
        Ok(_) => error,
        Err(second) => RecordError::Twice { source: Box::new(error), second: Box::new(second) },
    }
}

fn push(writer: &mut VideoWriter, frame: Frame, Shot { labels, repeat }: Shot) -> Result<(), RecordError> {
    for _ in 1..repeat {
        writer.push(frame.clone(), labels.clone())?;
    }
    writer.push(frame, labels)
}

impl Drop for Recorder {
    /// The app is gone: the film ends here, with the frames that are still being rendered.
    fn drop(&mut self) {
        /// Longest wait for a frame that is being rendered.
        const PATIENCE: Duration = Duration::from_secs(2);
        while self.take.is_some() && self.outstanding > 0 {
            let receiver = self.deliveries.get_mut().unwrap_or_else(PoisonError::into_inner);
            match receiver.recv_timeout(PATIENCE) {
                Ok(delivery) => {
                    self.outstanding -= 1;
                    self.deliver(delivery);
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        let Some(take) = self.take.take() else { return };
        // After a panic nobody knows whether the last frames are right, and without an answer some are missing: the name
        // says that it is a part.
        let is_whole = self.outstanding == 0 && !std::thread::panicking();
        match if is_whole { take.writer.finish() } else { take.writer.keep_partial() } {
            Ok(VideoFile { path, frames, is_partial: true, .. }) if frames > 0 => {
                tracing::warn!(path = %path.display(), frames, "the recording has no end; this is what there is");
            }
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "the recording could not be finished"),
        }
    }
}

fn count_steps(recorder: Option<ResMut<Recorder>>) {
    if let Some(mut recorder) = recorder {
        recorder.bypass_change_detection().steps += 1;
    }
}

/// Hands what the renderer delivered to the encoder.
fn collect(recorder: Option<ResMut<Recorder>>, time: Option<Res<Time<Fixed>>>) {
    let Some(mut recorder) = recorder else { return };
    if let Some(time) = time {
        recorder.period_secs = time.timestep().as_secs_f64();
    }
    if recorder.is_once {
        return;
    }
    while let Some(delivery) = recorder.take_delivery() {
        recorder.deliver(delivery);
    }
    recorder.wind_up();
}

fn end_with_the_app(recorder: Option<ResMut<Recorder>>, exits: MessageReader<AppExit>) {
    if let Some(mut recorder) = recorder
        && !exits.is_empty()
    {
        // What is under way is waited for when the app is dropped.
        recorder.stop();
    }
}

/// Before the cameras are prepared for this frame: decides whether it is filmed, and switches the cameras on or off.
fn direct(world: &mut World) {
    let Some(mut recorder) = world.remove_resource::<Recorder>() else { return };
    let virtual_seconds = || world.get_resource::<Time<Virtual>>().map_or(0.0, |time| time.elapsed_secs_f64());
    let seconds = world.get_resource::<FilmClock>().map_or_else(virtual_seconds, |clock| clock.seconds);
    let now = (recorder.steps, seconds);
    let wanted = match &mut recorder.take {
        _ if recorder.is_once => Wanted::Frame { repeat: 1 },
        None | Some(Take { state: TakeState::Stopping | TakeState::Closing, .. }) => Wanted::Nothing,
        Some(Take { state: TakeState::Warming { .. }, .. }) => Wanted::Warmth,
        Some(take) => take.due(now, recorder.settings.rate),
    };
    let mut shot = None;
    if wanted == Wanted::Nothing {
        switch_off(world);
    } else {
        let tiles = prepare_cameras(world, &recorder.settings);
        match (tiles, &mut recorder.take) {
            (Some(tiles), take) => {
                if let Some(take) = take {
                    take.tries_without_camera = 0;
                }
                let labels = labels(world, &recorder.settings.overlays, &tiles);
                let repeat = if let Wanted::Frame { repeat } = wanted { repeat } else { 0 };
                shot = world
                    .get_resource::<FilmImage>()
                    .map(|film| (film.image.clone(), film.size, Shot { labels, repeat }));
                recorder.outstanding += 1;
            }
            (None, Some(take)) => {
                /// A scene may spawn its cameras late, but not for ever.
                const MAX_TRIES: u32 = 300;
                take.tries_without_camera += 1;
                if take.tries_without_camera > MAX_TRIES {
                    recorder.fail(RecordError::NoCamera);
                }
            }
            (None, None) => {}
        }
    }
    let is_strict = recorder.is_once;
    world.insert_resource(ShotWanted::new(shot, is_strict));
    world.insert_resource(recorder);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Nothing,
    Warmth,
    Frame { repeat: u32 },
}

impl Take {
    /// How many frames of the film the picture of this moment stands for.
    fn due(&mut self, (steps, seconds): (u64, f64), rate: FrameRate) -> Wanted {
        let (first_step, first_second) = *self.start.get_or_insert((steps, seconds));
        let owed = match rate {
            FrameRate::PerSecond(_) => ((seconds - first_second) * self.fps + 1e-6).floor().max(0.0) as u64 + 1,
            FrameRate::EverySteps(every) => (steps - first_step) / u64::from(every.max(1)) + 1,
        };
        let repeat = owed.saturating_sub(self.asked);
        self.asked = self.asked.max(owed);
        if repeat == 0 { Wanted::Nothing } else { Wanted::Frame { repeat: repeat.min(u64::from(u32::MAX)) as u32 } }
    }
}

fn switch_off(world: &mut World) {
    let mut twins = world.query_filtered::<&mut Camera, With<Twin>>();
    for mut camera in twins.iter_mut(world) {
        if camera.is_active {
            camera.is_active = false;
        }
    }
}

/// The cameras to film, by tile, each with the agent that it is about.
fn filmed_cameras(world: &mut World) -> Vec<(Entity, Option<Agent>)> {
    let mut marked: Vec<_> = world
        .query_filtered::<(Entity, &Filmed), (With<Camera>, Without<Twin>)>()
        .iter(world)
        .map(|(entity, filmed)| (filmed.tile, entity, filmed.agent))
        .collect();
    marked.sort_unstable();
    if !marked.is_empty() {
        return marked.into_iter().map(|(_, entity, agent)| (entity, agent)).collect();
    }
    let mut cameras = world.query_filtered::<(Entity, &Camera, &RenderTarget), Without<Twin>>();
    cameras
        .iter(world)
        .filter(|(_, camera, target)| camera.is_active && !matches!(target, RenderTarget::None { .. }))
        .min_by_key(|(entity, camera, _)| (camera.order, *entity))
        .map(|(entity, ..)| (entity, None))
        .into_iter()
        .collect()
}

/// Brings the recorder's own cameras in line with those that they follow, and switches them on. Nothing when there is
/// no camera.
fn prepare_cameras(world: &mut World, settings: &RecorderPlugin) -> Option<Vec<(Tile, Entity, Option<Agent>)>> {
    /// Drawn before the app's own cameras, and in the order of the tiles.
    const FIRST_ORDER: isize = -10_000;
    let filmed = filmed_cameras(world);
    if filmed.is_empty() {
        return None;
    }
    let size = (settings.width, settings.height);
    let film = film_image(world, size)?;
    let tiles: Vec<_> = tiles(filmed.len() as u32, size)
        .into_iter()
        .zip(filmed)
        .map(|(tile, (entity, agent))| (tile, entity, agent))
        .collect();
    let mut twins: Vec<(Entity, Entity, Tile)> =
        world.query::<(Entity, &Twin)>().iter(world).map(|(entity, twin)| (twin.of, entity, twin.tile)).collect();
    for (number, (tile, of, _)) in (0..).zip(&tiles) {
        let known = twins.iter().position(|(owner, _, place)| owner == of && place == tile);
        let twin = match known {
            Some(place) => twins.swap_remove(place).1,
            None => world.spawn((Twin { of: *of, tile: *tile }, ChildOf(*of), Transform::IDENTITY)).id(),
        };
        follow(world, *of, twin);
        let viewport = Viewport {
            physical_position: UVec2::new(tile.x, tile.y),
            physical_size: UVec2::new(tile.width, tile.height),
            ..Viewport::default()
        };
        let clear_color = world.get::<Camera>(*of).map(|camera| camera.clear_color).unwrap_or_default();
        let mut twin = world.entity_mut(twin);
        twin.insert(RenderTarget::from(film.clone()));
        if let Some(mut camera) = twin.get_mut::<Camera>() {
            camera.viewport = Some(viewport);
            camera.order = FIRST_ORDER + number;
            camera.clear_color = clear_color;
            camera.is_active = true;
        }
    }
    // Cameras that are filmed no more, or elsewhere.
    for (_, twin, _) in twins {
        world.despawn(twin);
    }
    Some(tiles)
}

/// What makes a camera's picture what it is goes to its twin; what a game has put on it does not.
fn follow(world: &mut World, of: Entity, twin: Entity) {
    world.entity_mut(of).clone_with_opt_in(twin, |cloner| {
        cloner.without_required_components(|cloner| {
            cloner
                .allow::<(Camera2d, Camera3d, Projection, RenderLayers, Msaa, Hdr)>()
                .allow::<(Tonemapping, DebandDither, ColorGrading, bevy::camera::Exposure, Bloom)>()
                .allow::<(DistanceFog, EnvironmentMapLight, Skybox)>();
        });
    });
}

fn film_image(world: &mut World, size: (u32, u32)) -> Option<Handle<Image>> {
    if let Some(film) = world.get_resource::<FilmImage>()
        && film.size == size
    {
        return Some(film.image.clone());
    }
    let mut image = Image::new_target_texture(size.0, size.1, TextureFormat::Rgba8UnormSrgb, None);
    image.texture_descriptor.usage |= TextureUsages::COPY_SRC;
    let image = world.get_resource_mut::<Assets<Image>>()?.add(image);
    world.insert_resource(FilmImage { image: image.clone(), size });
    Some(image)
}

/// `count` tiles, as square a grid as possible, row by row.
fn tiles(count: u32, (width, height): (u32, u32)) -> Vec<Tile> {
    let columns = (1..).find(|columns| columns * columns >= count).unwrap_or(1).max(1);
    let rows = count.div_ceil(columns).max(1);
    let (tile_width, tile_height) = ((width / columns).max(1), (height / rows).max(1));
    (0..count)
        .map(|number| Tile {
            x: number % columns * tile_width,
            y: number / columns * tile_height,
            width: tile_width,
            height: tile_height,
        })
        .collect()
}

fn labels(world: &mut World, overlays: &[Overlay], tiles: &[(Tile, Entity, Option<Agent>)]) -> Vec<Label> {
    if overlays.is_empty() {
        return Vec::new();
    }
    let mut agents: Vec<(Agent, Entity)> =
        world.query::<(&Agent, Entity)>().iter(world).map(|(agent, entity)| (*agent, entity)).collect();
    agents.sort_unstable();
    let world = &*world;
    let about = |camera: Entity, agent: Option<Agent>| {
        if let Some(agent) = agent {
            return agents.iter().find(|(number, _)| *number == agent).map(|(_, entity)| *entity);
        }
        let mut place = camera;
        while let Some(ChildOf(parent)) = world.get::<ChildOf>(place) {
            if world.get::<Agent>(*parent).is_some() {
                return Some(*parent);
            }
            place = *parent;
        }
        agents.first().map(|(_, entity)| *entity)
    };
    tiles
        .iter()
        .filter_map(|(tile, camera, agent)| {
            let entity = about(*camera, *agent)?;
            Some(Label::of_agent(overlays, world.get_entity(entity).ok()?, *tile))
        })
        .collect()
}

/// Whether the app was told to end, which is what Bevy does when the graphics device fails.
pub(crate) fn is_exiting(world: &World) -> bool {
    world.get_resource::<Messages<AppExit>>().is_some_and(|messages| !messages.is_empty())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    /// A recorder with two frames of a film, whose renderer owes `outstanding` answers.
    fn with_two_frames(path: &Path, outstanding: u64) -> (Recorder, mpsc::Sender<Delivery>) {
        let (sender, receiver) = mpsc::channel();
        let settings = RecorderPlugin { width: 64, height: 48, ..RecorderPlugin::default() };
        let mut recorder = Recorder {
            settings,
            take: None,
            last: None,
            steps: 0,
            deliveries: Mutex::new(receiver),
            has_renderer: true,
            is_once: false,
            outstanding,
            period_secs: 0.05,
        };
        recorder.start(path).unwrap();
        recorder.take.as_mut().unwrap().state = TakeState::Running;
        for color in [[10; 3], [90; 3]] {
            recorder.deliver(Delivery::Frame(Frame::filled(64, 48, color), Shot { labels: Vec::new(), repeat: 1 }));
        }
        (recorder, sender)
    }

    #[test]
    fn a_film_whose_last_frames_never_came_is_a_part() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.mp4");
        let names = || {
            let entries = std::fs::read_dir(folder.path()).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        // The renderer is gone; then it is there and says nothing.
        let (recorder, sender) = with_two_frames(&path, 1);
        drop(sender);
        drop(recorder);
        assert_eq!(names(), ["a.partial.mp4"]);
        let (recorder, _sender) = with_two_frames(&path, 1);
        drop(recorder);
        assert_eq!(names(), ["a.partial-2.mp4", "a.partial.mp4"]);
        // All have come, the last one late.
        let (recorder, sender) = with_two_frames(&path, 1);
        let shot = Shot { labels: Vec::new(), repeat: 1 };
        sender.send(Delivery::Frame(Frame::filled(64, 48, [50; 3]), shot)).unwrap();
        drop(recorder);
        assert_eq!(names(), ["a.mp4", "a.partial-2.mp4", "a.partial.mp4"]);
        assert_eq!(crate::films_common::decode_mp4(&path).frames.len(), 3);
    }

    #[test]
    fn tiles_fill_the_frame() {
        let corners = |count, size| tiles(count, size).iter().map(|tile| (tile.x, tile.y)).collect::<Vec<(u32, u32)>>();
        assert_eq!(corners(1, (640, 480)), [(0, 0)]);
        assert_eq!(corners(2, (640, 480)), [(0, 0), (320, 0)]);
        assert_eq!(corners(4, (640, 480)), [(0, 0), (320, 0), (0, 240), (320, 240)]);
        assert_eq!(tiles(2, (640, 480))[1], Tile { x: 320, y: 0, width: 320, height: 480 });
        assert_eq!(tiles(5, (90, 60))[4], Tile { x: 30, y: 30, width: 30, height: 30 });
    }
}
