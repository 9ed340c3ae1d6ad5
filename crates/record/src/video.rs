//! Rollouts as videos and pictures, rendered without a window.
//!
//! Only the frames that are asked for are rendered: in between the world ticks alone. A frame is read back in the same
//! call that renders it, after all pipelines are compiled, so it shows the tick it belongs to: no black frame at the
//! start, none missing at the end. Rendering only reads the world, so an episode is the same with and without it.

use std::{fmt::Display, io, path::PathBuf, sync::mpsc, time::Duration};

use bevy::{
    a11y::AccessibilityPlugin,
    anti_alias::AntiAliasPlugin,
    app::{PluginGroupBuilder, prelude::*},
    asset::{AssetPlugin, prelude::*},
    camera::{CameraPlugin, RenderTarget, prelude::*},
    core_pipeline::CorePipelinePlugin,
    diagnostic::{DiagnosticsPlugin, FrameCountPlugin},
    ecs::prelude::*,
    gizmos::GizmoPlugin,
    gizmos_render::GizmoRenderPlugin,
    image::{ImagePlugin, prelude::*},
    input::InputPlugin,
    light::LightPlugin,
    mesh::MeshPlugin,
    pbr::PbrPlugin,
    post_process::PostProcessPlugin,
    render::{
        RenderApp, RenderPlugin,
        render_asset::RenderAssets,
        render_resource::{
            BufferDescriptor, BufferUsages, CommandEncoderDescriptor, Extent3d, MapMode, PipelineCache, PollType,
            TexelCopyBufferInfo, TexelCopyBufferLayout, TextureFormat, TextureUsages,
        },
        renderer::{RenderAdapterInfo, RenderDevice, RenderQueue},
        settings::{Backends, RenderCreation, WgpuSettings},
        texture::GpuImage,
    },
    tasks::block_on,
    time::{Fixed, Time, TimePlugin, TimeUpdateStrategy},
    transform::TransformPlugin,
    window::{ExitCondition, WindowPlugin},
};
use thiserror::Error;

use crate::{
    evaluation::{Deal, EvaluationError, EvaluationReport},
    picture::{Frame, GifWriter, StripKeeper},
    ticking::{finish, tick},
};

/// What to record and where to.
#[derive(Debug, Clone, PartialEq)]
pub struct VideoOptions {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Every how many control steps a frame is rendered. The last step of an episode is always shown.
    pub every: u32,
    /// Frames per second of the video. Without it the video runs at the world's own pace.
    pub fps: Option<f64>,
    /// The file: `.gif` for a video, `.png` for one picture.
    pub out: PathBuf,
    /// File for a strip of frames of the first episode side by side, a `.png`.
    pub strip: Option<PathBuf>,
    /// Number of frames in the strip.
    pub strip_frames: usize,
    /// Which control step of the first episode the single picture shows; the last one if there is none.
    pub still_step: Option<u32>,
    /// One episode for each seed.
    pub seeds: Vec<u64>,
}

impl Default for VideoOptions {
    fn default() -> Self {
        Self {
            width: 640,
            height: 480,
            every: 1,
            fps: None,
            out: PathBuf::from("rollout.gif"),
            strip: None,
            strip_frames: 6,
            still_step: None,
            seeds: vec![0],
        }
    }
}

/// What was recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct VideoReport {
    /// Frames rendered.
    pub frames: u64,
    /// Control steps done.
    pub ticks: u64,
    /// The device that rendered, by its own name.
    pub adapter: String,
    /// How the recorded episodes went.
    pub evaluation: EvaluationReport,
}

/// Why there is no recording.
#[derive(Debug, Error)]
pub enum RecordError {
    /// An option makes no sense.
    #[error("{option} is {value}; {hint}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// What was given.
        value: String,
        /// What would do.
        hint: &'static str,
    },
    /// The file cannot be written.
    #[error("cannot write {}: {source}; choose a folder that exists and that you may write to", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No driver that can render.
    #[error(
        "no graphics driver was found, so nothing can be rendered; a software driver is enough. Debian, Ubuntu: \
         `apt install mesa-vulkan-drivers`; Fedora: `dnf install mesa-vulkan-drivers`; Arch: `pacman -S vulkan-swrast`"
    )]
    NoAdapter,
    /// The scene has no camera.
    #[error("the app has no camera, so there is nothing to see; spawn one before the recording starts")]
    NoCamera,
    /// The app could not be put together.
    #[error("the scene cannot be built: {reason}")]
    Build {
        /// Why.
        reason: String,
    },
    /// The renderer did not deliver a frame.
    #[error("the renderer delivered no frame: {reason}")]
    Readback {
        /// Why.
        reason: String,
    },
    /// The episodes could not be played.
    #[error(transparent)]
    Episodes(#[from] EvaluationError),
    /// The watcher stopped it.
    #[error("the recording was stopped: {reason}")]
    Stopped {
        /// What the watcher said.
        reason: String,
    },
}

/// A renderer without a window: every camera draws into an image of this size.
///
/// It brings all of Bevy that a 3D scene needs and nothing else, so use it instead of `DefaultPlugins` or
/// `MinimalPlugins`. The clock stands still: the world moves by [`tick`] alone.
///
/// # Panics
/// Bevy panics in this plugin when there is no graphics driver. Ask [`find_adapter`] first; [`record_rollout`] does.
#[derive(Debug, Clone)]
pub struct VideoPlugin {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl Default for VideoPlugin {
    fn default() -> Self {
        let VideoOptions { width, height, .. } = VideoOptions::default();
        Self { width, height }
    }
}

impl Plugin for VideoPlugin {
    fn build(&self, app: &mut App) {
        app.add_plugins(HeadlessPlugins)
            .insert_resource(TimeUpdateStrategy::ManualDuration(Duration::ZERO))
            .add_systems(PreUpdate, aim_cameras);
        let mut image = Image::new_target_texture(self.width, self.height, TextureFormat::Rgba8UnormSrgb, None);
        image.texture_descriptor.usage |= TextureUsages::COPY_SRC;
        let target = app.world_mut().resource_mut::<Assets<Image>>().add(image);
        app.insert_resource(VideoTarget { image: target, width: self.width, height: self.height });
    }
}

/// What a scene without a window needs of Bevy. A list of its own, because `DefaultPlugins` opens windows, takes over
/// Ctrl-C and sets up logging as soon as some other crate of the build asks Bevy for those features.
struct HeadlessPlugins;

impl PluginGroup for HeadlessPlugins {
    fn build(self) -> PluginGroupBuilder {
        PluginGroupBuilder::start::<Self>()
            .add(TaskPoolPlugin::default())
            .add(FrameCountPlugin)
            .add(TimePlugin)
            .add(TransformPlugin)
            .add(DiagnosticsPlugin)
            .add(InputPlugin)
            .add(WindowPlugin {
                primary_window: None,
                exit_condition: ExitCondition::DontExit,
                ..WindowPlugin::default()
            })
            .add(AccessibilityPlugin)
            .add(AssetPlugin::default())
            .add(RenderPlugin {
                render_creation: RenderCreation::Automatic(Box::new(WgpuSettings {
                    backends: Some(BACKENDS),
                    ..WgpuSettings::default()
                })),
                // A frame that is asked for is drawn whole, not without the parts that still compile.
                synchronous_pipeline_compilation: true,
                ..RenderPlugin::default()
            })
            .add(ImagePlugin::default())
            .add(MeshPlugin)
            .add(CameraPlugin)
            .add(LightPlugin)
            .add(CorePipelinePlugin)
            .add(PostProcessPlugin)
            .add(AntiAliasPlugin)
            // No glTF files here: all meshes are made in code.
            .add(PbrPlugin { gltf_enable_standard_materials: false, ..PbrPlugin::default() })
            .add(GizmoPlugin)
            .add(GizmoRenderPlugin)
    }
}

/// OpenGL is left out: its drivers render offscreen on few machines, and then not all of it.
const BACKENDS: Backends = Backends::PRIMARY;

/// The image that all cameras draw into.
#[derive(Resource, Clone)]
struct VideoTarget {
    image: Handle<Image>,
    width: u32,
    height: u32,
}

fn aim_cameras(mut commands: Commands, target: Res<VideoTarget>, cameras: Query<Entity, Added<Camera>>) {
    for camera in &cameras {
        commands.entity(camera).insert(RenderTarget::from(target.image.clone()));
    }
}

/// Name of the device that Bevy would render with, or the error that says what to install.
///
/// # Errors
/// [`RecordError::NoAdapter`].
pub fn find_adapter() -> Result<String, RecordError> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: BACKENDS,
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let adapters = block_on(instance.enumerate_adapters(BACKENDS));
    adapters.first().map(|adapter| adapter.get_info().name).ok_or(RecordError::NoAdapter)
}

/// Plays one episode for each seed and records it.
///
/// `build` gets an app with a renderer but nothing in it, and adds the world: simulation, policy, meshes, lights and a
/// camera. It must not add `DefaultPlugins` or `MinimalPlugins`.
///
/// # Errors
/// [`RecordError`]. Options and paths are checked before anything is rendered, and a recording that fails leaves no
/// file behind and an older one untouched.
pub fn record_rollout<E: Display>(
    options: &VideoOptions,
    build: impl FnOnce(&mut App) -> Result<(), E>,
) -> Result<VideoReport, RecordError> {
    record_rollout_watched(options, build, |_, _| Ok(()))
}

/// As [`record_rollout`], and asks `watch` after each control step whether to go on. It gets the world and the number
/// of frames so far.
///
/// # Errors
/// As [`record_rollout`], and [`RecordError::Stopped`] with the reason that `watch` gives.
pub fn record_rollout_watched<E: Display>(
    options: &VideoOptions,
    build: impl FnOnce(&mut App) -> Result<(), E>,
    watch: impl FnMut(&World, u64) -> Result<(), String>,
) -> Result<VideoReport, RecordError> {
    let output = Output::open(options)?;
    find_adapter()?;
    let mut app = App::new();
    app.add_plugins(VideoPlugin { width: options.width, height: options.height });
    build(&mut app).map_err(|error| RecordError::Build { reason: error.to_string() })?;
    record_into(&mut app, options, output, watch)
}

/// Records in an app that has [`VideoPlugin`] and a camera.
///
/// # Errors
/// As [`record_rollout`].
pub fn record_frames(app: &mut App, options: &VideoOptions) -> Result<VideoReport, RecordError> {
    let output = Output::open(options)?;
    record_into(app, options, output, |_, _| Ok(()))
}

fn record_into(
    app: &mut App,
    options: &VideoOptions,
    mut output: Output,
    mut watch: impl FnMut(&World, u64) -> Result<(), String>,
) -> Result<VideoReport, RecordError> {
    finish(app);
    warm_up(app)?;
    let fps = match options.fps {
        Some(fps) => fps,
        None => {
            let step =
                app.world().get_resource::<Time<Fixed>>().map_or(1.0 / 64.0, |time| time.timestep().as_secs_f64());
            1.0 / (step * f64::from(options.every))
        }
    };
    output.start(fps)?;
    let mut deal = Deal::new(app.world_mut(), &options.seeds)?;
    let played = play(app, options, &mut deal, &mut output, &mut watch);
    deal.put_back(app.world_mut());
    let (ticks, frames) = played?;
    let evaluation = deal.report()?;
    output.finish()?;
    let adapter = app.world().get_resource::<RenderAdapterInfo>().map_or_else(String::new, |info| info.name.clone());
    Ok(VideoReport { frames, ticks, adapter, evaluation })
}

/// Ticks until all episodes have ended; returns the numbers of control steps and of frames.
fn play(
    app: &mut App,
    options: &VideoOptions,
    deal: &mut Deal,
    output: &mut Output,
    watch: &mut dyn FnMut(&World, u64) -> Result<(), String>,
) -> Result<(u64, u64), RecordError> {
    let (mut ticks, mut frames, mut step) = (0, 0, 0);
    while !deal.is_complete() {
        if ticks >= deal.max_ticks() {
            let (finished, expected) = (deal.finished(), options.seeds.len());
            return Err(EvaluationError::Unfinished { finished, expected, ticks }.into());
        }
        tick(app.world_mut());
        ticks += 1;
        step += 1;
        let first_episode = deal.finished() == 0;
        let ended = deal.collect(app.world()) > 0;
        let is_still = first_episode && options.still_step == Some(step);
        if ended || is_still || (step - 1).is_multiple_of(options.every) {
            if step == 1 {
                // What a reset has spawned gets its looks in this frame, and is drawn in the next.
                app.update();
            }
            let frame = capture(app)?;
            frames += 1;
            output.push(frame, first_episode, is_still)?;
        }
        if ended {
            step = 0;
        }
        watch(app.world(), frames).map_err(|reason| RecordError::Stopped { reason })?;
    }
    Ok((ticks, frames))
}

/// Renders until two frames in a row are the same: shaders are loaded, pipelines compiled, textures uploaded.
fn warm_up(app: &mut App) -> Result<(), RecordError> {
    const MAX_FRAMES: usize = 100;
    const MIN_FRAMES: usize = 3;
    app.update();
    if app.world_mut().query::<&Camera>().iter(app.world()).next().is_none() {
        return Err(RecordError::NoCamera);
    }
    let mut before = None;
    for number in 0..MAX_FRAMES {
        let frame = capture(app)?;
        if number >= MIN_FRAMES && before.as_ref() == Some(&frame) {
            return Ok(());
        }
        before = Some(frame);
    }
    // Something in the scene moves by itself. That is no fault: by now everything is loaded.
    Ok(())
}

/// Renders the world as it is now, and reads the picture back.
///
/// # Errors
/// [`RecordError::Readback`], when the app lacks [`VideoPlugin`] or the device fails.
pub fn capture(app: &mut App) -> Result<Frame, RecordError> {
    const MAX_TRIES: usize = 1_000;
    for _ in 0..MAX_TRIES {
        app.update();
        let waiting = app
            .get_sub_app(RenderApp)
            .and_then(|render| render.world().get_resource::<PipelineCache>())
            .is_some_and(|cache| cache.waiting_pipelines().next().is_some());
        if !waiting {
            return read_back(app);
        }
        // A shader is still being read by another thread.
        std::thread::sleep(Duration::from_millis(2));
    }
    Err(RecordError::Readback { reason: "its shaders never became ready".to_owned() })
}

fn read_back(app: &App) -> Result<Frame, RecordError> {
    let failed = |reason: &str| RecordError::Readback { reason: reason.to_owned() };
    let target = app.world().get_resource::<VideoTarget>().ok_or_else(|| failed("the app lacks VideoPlugin"))?;
    let render = app.get_sub_app(RenderApp).ok_or_else(|| failed("the app has no renderer"))?.world();
    let (Some(images), Some(device), Some(queue)) = (
        render.get_resource::<RenderAssets<GpuImage>>(),
        render.get_resource::<RenderDevice>(),
        render.get_resource::<RenderQueue>(),
    ) else {
        return Err(failed("the renderer has not started"));
    };
    let image = images.get(&target.image).ok_or_else(|| failed("its target is not on the device"))?;
    let (width, height) = (target.width, target.height);
    // Rows are padded on the device.
    let padded = RenderDevice::align_copy_bytes_per_row(4 * width as usize);
    let buffer = device.create_buffer(&BufferDescriptor {
        label: Some("video frame"),
        size: padded as u64 * u64::from(height),
        usage: BufferUsages::MAP_READ | BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    let mut encoder = device.create_command_encoder(&CommandEncoderDescriptor::default());
    encoder.copy_texture_to_buffer(
        image.texture.as_image_copy(),
        TexelCopyBufferInfo {
            buffer: &buffer,
            layout: TexelCopyBufferLayout { offset: 0, bytes_per_row: Some(padded as u32), rows_per_image: None },
        },
        Extent3d { width, height, depth_or_array_layers: 1 },
    );
    queue.submit([encoder.finish()]);
    let slice = buffer.slice(..);
    let (sender, receiver) = mpsc::channel();
    slice.map_async(MapMode::Read, move |result| {
        // The receiver waits below, so this cannot fail; if it did, the frame would be missing there.
        let _ = sender.send(result);
    });
    device.poll(PollType::wait_indefinitely()).map_err(|error| failed(&error.to_string()))?;
    match receiver.try_recv() {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(failed(&error.to_string())),
        Err(error) => return Err(failed(&error.to_string())),
    }
    let mut rgb = Vec::with_capacity(3 * width as usize * height as usize);
    for row in slice.get_mapped_range().chunks_exact(padded) {
        for pixel in row.chunks_exact(4).take(width as usize) {
            rgb.extend(pixel.iter().take(3));
        }
    }
    Ok(Frame { width, height, rgb })
}

/// The files of a recording.
struct Output {
    out: PathBuf,
    gif: Option<GifWriter>,
    is_gif: bool,
    still: Option<Frame>,
    still_is_chosen: bool,
    strip: Option<(PathBuf, StripKeeper)>,
}

impl Output {
    /// Checks all options, and that the files can be written.
    fn open(options: &VideoOptions) -> Result<Self, RecordError> {
        /// Largest edge of a frame, pixels: what every graphics device can draw into.
        const MAX_EDGE: u32 = 8192;
        let extension =
            |path: &PathBuf| path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
        let check = |fine: bool, option: &'static str, value: String, hint: &'static str| {
            if fine { Ok(()) } else { Err(RecordError::Option { option, value, hint }) }
        };
        check(
            matches!(extension(&options.out).as_str(), "gif" | "png"),
            "the output file",
            options.out.display().to_string(),
            "its name must end in .gif (video) or .png (one picture)",
        )?;
        if let Some(strip) = &options.strip {
            check(
                extension(strip) == "png",
                "the strip's file",
                strip.display().to_string(),
                "its name must end in .png",
            )?;
            check(
                *strip != options.out,
                "the strip's file",
                strip.display().to_string(),
                "the video has that name too",
            )?;
        }
        for (option, value) in [("width", options.width), ("height", options.height)] {
            check((1..=MAX_EDGE).contains(&value), option, value.to_string(), "it must lie between 1 and 8192 pixels")?;
        }
        check(options.every > 0, "every", options.every.to_string(), "it must be 1 or more control steps")?;
        check(options.strip_frames > 0, "strip_frames", options.strip_frames.to_string(), "it must be 1 or more")?;
        if let Some(fps) = options.fps {
            check((0.1..=50.0).contains(&fps), "fps", fps.to_string(), "a GIF plays 0.1 to 50 frames per second")?;
        }
        check(!options.seeds.is_empty(), "the list of seeds", "empty".to_owned(), "record at least one episode")?;
        for file in [Some(&options.out), options.strip.as_ref()].into_iter().flatten() {
            // Tried now, not after minutes of rendering.
            crate::picture::PartialFile::create(file)
                .map_err(|source| RecordError::Write { file: file.clone(), source })?;
        }
        Ok(Self {
            out: options.out.clone(),
            gif: None,
            is_gif: extension(&options.out) == "gif",
            still: None,
            still_is_chosen: false,
            strip: options.strip.clone().map(|file| (file, StripKeeper::new(options.strip_frames))),
        })
    }

    fn start(&mut self, fps: f64) -> Result<(), RecordError> {
        if self.is_gif {
            let gif = GifWriter::create(&self.out, fps);
            self.gif = Some(gif.map_err(|source| RecordError::Write { file: self.out.clone(), source })?);
        }
        Ok(())
    }

    fn push(&mut self, frame: Frame, first_episode: bool, is_still: bool) -> Result<(), RecordError> {
        if first_episode && let Some((_, keeper)) = &mut self.strip {
            keeper.push(&frame);
        }
        if let Some(gif) = &mut self.gif {
            return gif.push(frame).map_err(|source| RecordError::Write { file: self.out.clone(), source });
        }
        if is_still || (first_episode && !self.still_is_chosen) {
            self.still = Some(frame);
            self.still_is_chosen |= is_still;
        }
        Ok(())
    }

    fn finish(self) -> Result<(), RecordError> {
        let Self { out, gif, still, strip, .. } = self;
        if let Some(gif) = gif {
            gif.finish().map_err(|source| RecordError::Write { file: out.clone(), source })?;
        }
        if let Some(still) = still {
            still.write_png(&out).map_err(|source| RecordError::Write { file: out.clone(), source })?;
        }
        if let Some((file, keeper)) = strip
            && let Some(strip) = keeper.strip()
        {
            strip.write_png(&file).map_err(|source| RecordError::Write { file, source })?;
        }
        Ok(())
    }
}
