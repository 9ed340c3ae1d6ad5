//! Rollouts as videos and pictures, rendered without a window.
//!
//! Only the frames that are asked for are rendered: in between the world ticks alone. A frame is read back in the same
//! call that renders it, after all pipelines are compiled, so it shows the tick it belongs to: no black frame at the
//! start, none missing at the end. Rendering only reads the world, so an episode is the same with and without it.

use std::{
    fmt::Display,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    time::Duration,
};

use bevy::{
    a11y::AccessibilityPlugin,
    anti_alias::AntiAliasPlugin,
    app::{PluginGroupBuilder, prelude::*},
    asset::AssetPlugin,
    camera::{CameraPlugin, prelude::*},
    core_pipeline::CorePipelinePlugin,
    diagnostic::{DiagnosticsPlugin, FrameCountPlugin},
    ecs::prelude::*,
    gizmos::GizmoPlugin,
    gizmos_render::GizmoRenderPlugin,
    image::ImagePlugin,
    input::InputPlugin,
    light::LightPlugin,
    mesh::MeshPlugin,
    pbr::PbrPlugin,
    post_process::PostProcessPlugin,
    render::{
        RenderPlugin,
        renderer::RenderAdapterInfo,
        settings::{Backends, RenderCreation, WgpuSettings},
    },
    tasks::block_on,
    time::{TimePlugin, TimeUpdateStrategy},
    transform::TransformPlugin,
    window::{ExitCondition, WindowPlugin},
};

pub use crate::error::RecordError;
use crate::{
    encoding::{EncodingSettings, VideoFile, VideoFormat, VideoWriter},
    evaluation::{Deal, EvaluationError, EvaluationReport},
    overlay::{Label, Overlay, draw_labels},
    partial::{IfTaken, PartialFile},
    picture::{Frame, StripKeeper},
    recorder::{Recorder, RecorderPlugin, is_exiting, keep, period_secs},
    shot::Delivery,
    ticking::{finish, tick},
};

/// What to record and where to.
#[derive(Debug, Clone)]
pub struct VideoOptions {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Every how many control steps a frame is rendered. The last step of an episode is always shown.
    pub every: u32,
    /// Frames per second of the video. Without it the video runs at the world's own pace.
    pub fps: Option<f64>,
    /// The file: `.mp4` or `.gif` for a film, `.png` for one picture; a folder of PNG frames if it ends in a slash.
    pub out: PathBuf,
    /// File for a strip of frames of the first episode side by side, a `.png`.
    pub strip: Option<PathBuf>,
    /// Number of frames in the strip.
    pub strip_frames: usize,
    /// Which control step of the first episode the single picture shows; the last one if there is none.
    pub still_step: Option<u32>,
    /// One episode for each seed.
    pub seeds: Vec<u64>,
    /// Lines in the corner of each picture.
    pub overlays: Vec<Overlay>,
    /// H.264's quantiser, 0 to 51: lower is better and larger.
    pub quantizer: u8,
    /// Frames that may wait for the encoder. When there are more, rendering waits.
    pub queue: usize,
}

impl Default for VideoOptions {
    fn default() -> Self {
        let EncodingSettings { width, height, quantizer, queue, .. } = EncodingSettings::default();
        Self {
            width,
            height,
            every: 1,
            fps: None,
            out: PathBuf::from("rollout.mp4"),
            strip: None,
            strip_frames: 6,
            still_step: None,
            seeds: vec![0],
            overlays: Vec::new(),
            quantizer,
            queue,
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
    /// The film; none when a single picture was asked for.
    pub film: Option<VideoFile>,
    /// The device that rendered, by its own name.
    pub adapter: String,
    /// How the recorded episodes went.
    pub evaluation: EvaluationReport,
}

/// A renderer without a window, and a [`RecorderPlugin`] with pictures of this size.
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
            .add_plugins(RecorderPlugin { width: self.width, height: self.height, ..RecorderPlugin::default() });
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
/// [`RecordError`]. Options and paths are checked before anything is rendered. A recording that breaks off never writes
/// over an older file: the frames until then are in a file of their own, which [`RecordError::Partial`] names.
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
    if let Some(mut recorder) = app.world_mut().get_resource_mut::<Recorder>() {
        recorder.settings_mut().overlays.clone_from(&options.overlays);
    }
    let fps = match options.fps {
        Some(fps) => fps,
        None => 1.0 / (period_secs(app.world()) * f64::from(options.every)),
    };
    output.check_rate(options, fps)?;
    warm_up(app)?;
    let mut deal = Deal::new(app.world_mut(), &options.seeds)?;
    output.start(options, fps)?;
    let played = play(app, options, &mut deal, &mut output, &mut watch);
    deal.put_back(app.world_mut());
    let played = played.and_then(|counts| Ok((counts, deal.report()?)));
    let ((ticks, frames), evaluation) = match played {
        Ok(played) => played,
        Err(error) => return Err(output.keep(error)),
    };
    let film = output.finish()?;
    let adapter = app.world().get_resource::<RenderAdapterInfo>().map_or_else(String::new, |info| info.name.clone());
    Ok(VideoReport { frames, ticks, film, adapter, evaluation })
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
        let is_of_film = ended || (step - 1).is_multiple_of(options.every);
        if is_still || (is_of_film && output.wants(first_episode, ended)) {
            if step == 1 || frames == 0 {
                // What was spawned since the last frame gets its looks in this one, and is drawn in the next.
                app.update();
            }
            let (frame, labels) = capture_labelled(app)?;
            frames += 1;
            output.push(frame, labels, first_episode, is_still)?;
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
/// [`RecordError::NoRenderer`] when the app lacks [`VideoPlugin`], [`RecordError::NoCamera`],
/// [`RecordError::RenderingFailed`] when the device fails, [`RecordError::Readback`] when the picture never becomes whole.
pub fn capture(app: &mut App) -> Result<Frame, RecordError> {
    capture_labelled(app).map(|(frame, _)| frame)
}

fn capture_labelled(app: &mut App) -> Result<(Frame, Vec<Label>), RecordError> {
    const MAX_TRIES: usize = 1_000;
    let wait = |app: &mut App, is_once| match app.world_mut().get_resource_mut::<Recorder>() {
        Some(mut recorder) => {
            recorder.is_once = is_once;
            Ok(())
        }
        None => Err(RecordError::NoRenderer),
    };
    wait(app, true)?;
    let mut result = Err(RecordError::Readback { reason: "its shaders never became ready".to_owned() });
    for _ in 0..MAX_TRIES {
        // Bevy and wgpu panic when the device is gone. What was recorded before that must not be lost for it.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| app.update())) {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked");
            // The app may be in pieces: nothing more is asked of it.
            return Err(RecordError::RenderingFailed { reason: text.trim().replace('\n', " ") });
        }
        let delivery = app.world_mut().get_resource_mut::<Recorder>().and_then(|mut recorder| recorder.take_delivery());
        match delivery {
            Some(Delivery::Frame(frame, shot)) => {
                result = Ok((frame, shot.labels));
                break;
            }
            Some(Delivery::Failed(reason)) => {
                result = Err(RecordError::RenderingFailed { reason });
                break;
            }
            None if app.world_mut().query::<&Camera>().iter(app.world()).next().is_none() => {
                result = Err(RecordError::NoCamera);
                break;
            }
            None if is_exiting(app.world()) => {
                result = Err(RecordError::RenderingFailed { reason: "the renderer has stopped".to_owned() });
                break;
            }
            // A shader is still being read by another thread.
            Some(Delivery::NotReady | Delivery::Ready) | None => std::thread::sleep(Duration::from_millis(2)),
        }
    }
    wait(app, false)?;
    result
}

/// The files of a recording.
struct Output {
    out: PathBuf,
    film: Option<VideoWriter>,
    /// Of the film; none for a single picture.
    format: Option<VideoFormat>,
    still: Option<Frame>,
    still_is_chosen: bool,
    strip: Option<(PathBuf, StripKeeper)>,
}

impl Output {
    /// Checks all options, and that the files can be written.
    fn open(options: &VideoOptions) -> Result<Self, RecordError> {
        let is_png = |path: &PathBuf| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png"));
        let is_folder = options.out.as_os_str().to_string_lossy().ends_with('/');
        let is_film = is_folder || !is_png(&options.out);
        let check = |fine: bool, option: &'static str, value: String, hint: &'static str| {
            if fine { Ok(()) } else { Err(RecordError::Option { option, value, hint }) }
        };
        if let Some(strip) = &options.strip {
            let value = || strip.display().to_string();
            check(is_png(strip), "the strip's file", value(), "its name must end in .png")?;
            check(*strip != options.out, "the strip's file", value(), "the video has that name too")?;
        }
        let format = if is_film { film_format(&options.out)? } else { VideoFormat::PngFrames };
        format.check(options.width, options.height, options.fps)?;
        check(options.every > 0, "every", options.every.to_string(), "it must be 1 or more control steps")?;
        check(options.strip_frames > 0, "strip_frames", options.strip_frames.to_string(), "it must be 1 or more")?;
        check(options.quantizer <= 51, "quantizer", options.quantizer.to_string(), "it lies between 0 and 51")?;
        check(!options.seeds.is_empty(), "the list of seeds", "empty".to_owned(), "record at least one episode")?;
        // Tried now, not after minutes of rendering.
        let try_file = |file: &PathBuf| PartialFile::create(file, IfTaken::Replace).map(|_| ());
        let write = |file: &PathBuf, result: std::io::Result<()>| {
            result.map_err(|source| RecordError::Write { file: file.clone(), source })
        };
        let try_out = if is_film { format.try_path(&options.out) } else { try_file(&options.out) };
        write(&options.out, try_out)?;
        if let Some(strip) = &options.strip {
            write(strip, try_file(strip))?;
        }
        Ok(Self {
            out: options.out.clone(),
            film: None,
            format: is_film.then_some(format),
            still: None,
            still_is_chosen: false,
            strip: options.strip.clone().map(|file| (file, StripKeeper::new(options.strip_frames))),
        })
    }

    /// The world's own pace may be too fast for a format; that is told before anything is rendered.
    fn check_rate(&self, options: &VideoOptions, fps: f64) -> Result<(), RecordError> {
        self.format.map_or(Ok(()), |format| format.check(options.width, options.height, Some(fps)))
    }

    fn start(&mut self, options: &VideoOptions, fps: f64) -> Result<(), RecordError> {
        if self.format.is_some() {
            let &VideoOptions { width, height, quantizer, queue, .. } = options;
            let settings = EncodingSettings { width, height, fps, quantizer, queue };
            self.film = Some(VideoWriter::create(&self.out, settings)?);
        }
        Ok(())
    }

    /// Whether a frame that a film would have is kept here, too. A single picture needs but one.
    fn wants(&self, first_episode: bool, ended: bool) -> bool {
        let is_for_strip = first_episode && self.strip.is_some();
        self.format.is_some() || is_for_strip || (first_episode && ended && !self.still_is_chosen)
    }

    fn push(
        &mut self,
        frame: Frame,
        labels: Vec<Label>,
        first_episode: bool,
        is_still: bool,
    ) -> Result<(), RecordError> {
        if first_episode && let Some((_, keeper)) = &mut self.strip {
            keeper.push(&frame);
        }
        if let Some(film) = &mut self.film {
            return film.push(frame, labels);
        }
        if is_still || (first_episode && !self.still_is_chosen) {
            let mut frame = frame;
            draw_labels(&mut frame, &labels);
            self.still = Some(frame);
            self.still_is_chosen |= is_still;
        }
        Ok(())
    }

    /// Keeps the frames until here, and says so in the error.
    fn keep(self, error: RecordError) -> RecordError {
        match self.film {
            Some(film) => keep(film, error),
            None => error,
        }
    }

    fn finish(self) -> Result<Option<VideoFile>, RecordError> {
        let Self { out, film, still, strip, .. } = self;
        let film = film.map(VideoWriter::finish).transpose()?;
        if let Some(still) = still {
            still.write_png(&out).map_err(|source| RecordError::Write { file: out.clone(), source })?;
        }
        if let Some((file, keeper)) = strip
            && let Some(strip) = keeper.strip()
        {
            strip.write_png(&file).map_err(|source| RecordError::Write { file, source })?;
        }
        Ok(film)
    }
}

/// The format of a film; the hint tells of single pictures, too.
fn film_format(path: &std::path::Path) -> Result<VideoFormat, RecordError> {
    VideoFormat::of(path).map_err(|_| RecordError::Option {
        option: "the output file",
        value: path.display().to_string(),
        hint: "its name must end in .mp4 or .gif (film) or .png (one picture), or in a slash (folder of PNG frames)",
    })
}
