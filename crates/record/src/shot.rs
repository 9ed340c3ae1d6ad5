//! One frame from the device, in the render world.

use std::sync::mpsc::{Sender, channel};

use bevy::{
    app::App,
    asset::Handle,
    ecs::prelude::*,
    image::Image,
    render::{
        Extract, ExtractSchedule, Render, RenderApp, RenderSystems,
        render_asset::RenderAssets,
        render_resource::{
            BufferDescriptor, BufferUsages, CommandEncoderDescriptor, Extent3d, MapMode, PipelineCache, PollType,
            TexelCopyBufferInfo, TexelCopyBufferLayout,
        },
        renderer::{RenderDevice, RenderQueue},
        texture::GpuImage,
    },
};

use crate::{overlay::Label, picture::Frame};

/// What goes with a frame from the moment in which it is decided on to the encoder.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shot {
    pub(crate) labels: Vec<Label>,
    /// How many frames of the film it stands for; none while the renderer warms up.
    pub(crate) repeat: u32,
}

/// Set for each frame of the app: whether it is read back.
#[derive(Resource, Debug, Clone, Default)]
pub(crate) struct ShotWanted {
    shot: Option<(Handle<Image>, (u32, u32), Shot)>,
    /// Rather no frame than one in which something is missing.
    is_strict: bool,
}

impl ShotWanted {
    pub(crate) fn new(shot: Option<(Handle<Image>, (u32, u32), Shot)>, is_strict: bool) -> Self {
        Self { shot, is_strict }
    }
}

/// The renderer's answer to a [`ShotWanted`].
#[derive(Debug)]
pub(crate) enum Delivery {
    Frame(Frame, Shot),
    /// It was rendered with everything in it; nobody wanted to keep it.
    Ready,
    /// Something is still being compiled or uploaded.
    NotReady,
    Failed(String),
}

/// Where answers go.
#[derive(Resource)]
struct Answers(Sender<Delivery>);

/// Adds what reads frames back. Returns false if the app renders nothing.
pub(crate) fn add(app: &mut App, sender: Sender<Delivery>) -> bool {
    let Some(render) = app.get_sub_app_mut(RenderApp) else { return false };
    render
        .insert_resource(Answers(sender))
        .init_resource::<ShotWanted>()
        .add_systems(ExtractSchedule, take_over)
        .add_systems(Render, answer.after(RenderSystems::Render).before(RenderSystems::PostCleanup));
    true
}

fn take_over(mut here: ResMut<ShotWanted>, there: Extract<Option<Res<ShotWanted>>>) {
    *here = there.as_deref().cloned().unwrap_or_default();
}

fn answer(
    mut wanted: ResMut<ShotWanted>,
    answers: Res<Answers>,
    pipelines: Res<PipelineCache>,
    images: Res<RenderAssets<GpuImage>>,
    device: Res<RenderDevice>,
    queue: Res<RenderQueue>,
) {
    let Some((handle, size, shot)) = wanted.shot.take() else { return };
    let is_waiting = pipelines.waiting_pipelines().next().is_some();
    let is_optional = shot.repeat == 0 || wanted.is_strict;
    let delivery = match images.get(&handle) {
        None => Delivery::NotReady,
        Some(_) if is_waiting && is_optional => Delivery::NotReady,
        Some(_) if shot.repeat == 0 => Delivery::Ready,
        Some(image) => match read_back(image, size, &device, &queue) {
            Ok(frame) => Delivery::Frame(frame, shot),
            Err(reason) => Delivery::Failed(reason),
        },
    };
    // Nobody listens once the recorder is gone.
    let _ = answers.0.send(delivery);
}

/// Waits until the device has drawn, and copies the picture.
fn read_back(
    image: &GpuImage,
    (width, height): (u32, u32),
    device: &RenderDevice,
    queue: &RenderQueue,
) -> Result<Frame, String> {
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
    let (sender, receiver) = channel();
    slice.map_async(MapMode::Read, move |result| {
        // The receiver waits below, so this cannot fail; if it did, the frame would be missing there.
        let _ = sender.send(result);
    });
    device.poll(PollType::wait_indefinitely()).map_err(|error| error.to_string())?;
    receiver.try_recv().map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    let mut rgb = Vec::with_capacity(3 * width as usize * height as usize);
    for row in slice.get_mapped_range().chunks_exact(padded) {
        for pixel in row.chunks_exact(4).take(width as usize) {
            rgb.extend(pixel.iter().take(3));
        }
    }
    Ok(Frame { width, height, rgb })
}
