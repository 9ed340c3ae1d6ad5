//! Which device learns, and how burn gets it.

use bevy::prelude::*;
use onestep_policy::ComputeDevice;
use serde::{Deserialize, Serialize};

use crate::LearnError;

/// Where the networks live.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compute {
    /// A GPU where there is a real one (Bevy's own device, if Bevy renders), else the CPU. A software driver such as
    /// llvmpipe can render, but learns many times slower than the CPU backend, so it does not count as a GPU here.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A GPU, or a software driver if there is no better: for tests and for certainty.
    Gpu,
}

/// The device that was taken, and why, in words for a log or a status line.
#[derive(Resource, Debug, Clone, PartialEq, Eq)]
pub struct ComputeReport {
    /// One line.
    pub text: String,
    /// Whether the networks live on the very device that Bevy renders with.
    pub shares_render_device: bool,
}

/// What Bevy's renderer offers, taken in `Plugin::finish`, when the device exists.
#[derive(Resource, Clone)]
pub(crate) struct ChosenDevice {
    pub device: ComputeDevice,
    pub report: ComputeReport,
}

fn cpu(why: &str) -> ChosenDevice {
    ChosenDevice {
        device: ComputeDevice::Cpu,
        report: ComputeReport { text: format!("learning on the CPU ({why})"), shares_render_device: false },
    }
}

/// Chooses the device for `compute`.
///
/// # Errors
/// [`LearnError::NoGpu`] when a GPU was demanded and none exists.
pub(crate) fn choose(app: &App, compute: Compute) -> Result<ChosenDevice, LearnError> {
    if compute == Compute::Cpu {
        return Ok(cpu("as asked"));
    }
    #[cfg(feature = "wgpu")]
    {
        gpu::choose(app, compute)
    }
    #[cfg(not(feature = "wgpu"))]
    {
        let _ = app;
        match compute {
            Compute::Gpu => {
                Err(LearnError::NoGpu { detail: "this program was built without its GPU backend".to_owned() })
            }
            Compute::Auto | Compute::Cpu => Ok(cpu("this program was built without its GPU backend")),
        }
    }
}

#[cfg(feature = "wgpu")]
mod gpu {
    use bevy::prelude::*;
    use burn_wgpu::{RuntimeOptions, WgpuDevice, WgpuSetup, init_device};
    use onestep_policy::ComputeDevice;

    use super::{ChosenDevice, Compute, ComputeReport, cpu};
    use crate::LearnError;

    pub(super) fn choose(app: &App, compute: Compute) -> Result<ChosenDevice, LearnError> {
        #[cfg(feature = "render")]
        if let Some(chosen) = bevy_device(app, compute) {
            return Ok(chosen);
        }
        #[cfg(not(feature = "render"))]
        let _ = app;
        own_device(compute)
    }

    fn is_real(info: &wgpu::AdapterInfo) -> bool {
        matches!(
            info.device_type,
            wgpu::DeviceType::DiscreteGpu | wgpu::DeviceType::IntegratedGpu | wgpu::DeviceType::VirtualGpu
        )
    }

    /// The device Bevy renders with, if it renders.
    #[cfg(feature = "render")]
    fn bevy_device(app: &App, compute: Compute) -> Option<ChosenDevice> {
        use bevy::render::{
            RenderApp,
            renderer::{RenderAdapter, RenderAdapterInfo, RenderDevice, RenderInstance, RenderQueue},
        };
        let world = app.get_sub_app(RenderApp)?.world();
        let info = world.get_resource::<RenderAdapterInfo>()?;
        if compute == Compute::Auto && !is_real(info) {
            return Some(cpu(&format!("the only graphics device is {}, a software driver", info.name)));
        }
        let setup = WgpuSetup {
            instance: (**world.get_resource::<RenderInstance>()?.0).clone(),
            adapter: (**world.get_resource::<RenderAdapter>()?.0).clone(),
            device: world.get_resource::<RenderDevice>()?.wgpu_device().clone(),
            queue: (**world.get_resource::<RenderQueue>()?.0).clone(),
            backend: info.backend,
        };
        let device = init_device(setup, RuntimeOptions::default());
        Some(ChosenDevice {
            device: ComputeDevice::Wgpu(device),
            report: ComputeReport {
                text: format!("learning on {} ({:?}), the device that renders", info.name, info.backend),
                shares_render_device: true,
            },
        })
    }

    /// A device of our own, for an app that does not render.
    fn own_device(compute: Compute) -> Result<ChosenDevice, LearnError> {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
            // OpenGL would print complaints of its own where there is no display.
            backends: wgpu::Backends::PRIMARY,
            ..wgpu::InstanceDescriptor::new_without_display_handle()
        });
        let adapters = bevy::tasks::block_on(instance.enumerate_adapters(wgpu::Backends::PRIMARY));
        let infos: Vec<_> = adapters.iter().map(wgpu::Adapter::get_info).collect();
        let (device, info) = match (infos.iter().find(|info| is_real(info)), infos.first(), compute) {
            (Some(real), ..) => (WgpuDevice::DefaultDevice, real),
            (None, Some(software), Compute::Gpu) => (WgpuDevice::Cpu, software),
            (None, Some(software), _) => {
                return Ok(cpu(&format!("the only graphics device is {}, a software driver", software.name)));
            }
            (None, None, Compute::Gpu) => {
                return Err(LearnError::NoGpu { detail: "no Vulkan, Metal or DirectX adapter answers".to_owned() });
            }
            (None, None, _) => return Ok(cpu("no graphics device answers")),
        };
        Ok(ChosenDevice {
            device: ComputeDevice::Wgpu(device),
            report: ComputeReport {
                text: format!("learning on {} ({:?})", info.name, info.backend),
                shares_render_device: false,
            },
        })
    }
}
