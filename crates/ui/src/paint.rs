//! A surface that shows its colours as they are: neither light nor the camera's tone curve change them.

use bevy::{
    asset::uuid_handle,
    mesh::MeshVertexBufferLayoutRef,
    pbr::{MaterialPipeline, MaterialPipelineKey},
    prelude::*,
    render::render_resource::{AsBindGroup, RenderPipelineDescriptor, SpecializedMeshPipelineError},
    shader::ShaderRef,
};

/// Colours at the corners of a mesh, as a legend beside the picture shows them.
///
/// A tone curve would mute them: no colour that goes through it comes out as bright yellow. It is exact for cameras whose
/// surfaces go through the curve as they are drawn; with `Hdr` the whole picture goes through it, and this with it.
#[derive(Asset, TypePath, AsBindGroup, Debug, Clone)]
#[bind_group_data(PaintKey)]
pub(crate) struct Paint {
    /// Drawn as if so much nearer, in units of the depth buffer's last digit.
    pub(crate) depth_bias: i32,
}

/// What another pipeline is needed for.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PaintKey {
    depth_bias: i32,
}

impl From<&Paint> for PaintKey {
    fn from(paint: &Paint) -> Self {
        Self { depth_bias: paint.depth_bias }
    }
}

const SHADER: Handle<Shader> = uuid_handle!("2f7be2a4-57d3-4c6c-9b0f-0c7d0f1a6e55");

const SOURCE: &str = "\
#import bevy_pbr::forward_io::VertexOutput

@fragment
fn fragment(in: VertexOutput) -> @location(0) vec4<f32> {
#ifdef VERTEX_COLORS
    return in.color;
#else
    return vec4<f32>(1.0);
#endif
}
";

impl Material for Paint {
    fn fragment_shader() -> ShaderRef {
        SHADER.into()
    }

    fn alpha_mode(&self) -> AlphaMode {
        AlphaMode::Blend
    }

    fn depth_bias(&self) -> f32 {
        self.depth_bias as f32
    }

    fn enable_prepass() -> bool {
        false
    }

    fn enable_shadows() -> bool {
        false
    }

    fn specialize(
        _: &MaterialPipeline,
        descriptor: &mut RenderPipelineDescriptor,
        _: &MeshVertexBufferLayoutRef,
        key: MaterialPipelineKey<Self>,
    ) -> Result<(), SpecializedMeshPipelineError> {
        if let Some(depth) = &mut descriptor.depth_stencil {
            depth.bias.constant = key.bind_group_data.depth_bias;
        }
        Ok(())
    }
}

/// Lets an app with a renderer draw [`Paint`].
pub(crate) fn add(app: &mut App) {
    if app.is_plugin_added::<MaterialPlugin<Paint>>() {
        return;
    }
    app.add_plugins(MaterialPlugin::<Paint>::default());
    if let Some(mut shaders) = app.world_mut().get_resource_mut::<Assets<Shader>>()
        && let Err(error) = shaders.insert(SHADER.id(), Shader::from_wgsl(SOURCE, "onestep_ui/paint.wgsl"))
    {
        tracing::error!(%error, "candidates cannot be drawn");
    }
}
