//! The frame of every algorithm: requests, read-back, checkpoints, the count of updates.
//!
//! An algorithm's own file holds its networks, its losses and its settings; an [`Agent`] makes a [`Learner`] of it.

use burn::tensor::{Tensor, Transaction};

use crate::backend::PolicyBackend;
use crate::checkpoint::{Content, FORMAT_VERSION, Header, Naming, Reader, Writer, to_vec};
use crate::critic::Chosen;
use crate::host::{DeviceBatch, Host, device_error};
use crate::learner::check_size;
use crate::network::Network;
use crate::optimizer::Moments;
use crate::{
    Batch, Candidates, Learner, Metrics, NoiseSource, ObservationScaling, Phase, PolicyError, PolicySpec,
    SelectRequest, Selection,
};

/// Under which names files keep networks.
pub(crate) const ACTOR: Naming = Naming::Single("actor");
pub(crate) const CRITIC: Naming = Naming::Indexed("critic");
pub(crate) const TARGET: Naming = Naming::Indexed("target");

/// Shift and factor of observations in a file, if they are scaled.
const SHIFT: &str = "observation.shift";
const FACTOR: &str = "observation.factor";

/// A network and what is saved with it.
pub(crate) struct Part<'a, B: PolicyBackend> {
    pub(crate) naming: Naming,
    pub(crate) network: &'a Network<B>,
    /// The optimiser's moments; none for a slow copy.
    pub(crate) moments: Option<&'a Moments<B>>,
}

/// The same, to be loaded.
pub(crate) struct PartMut<'a, B: PolicyBackend> {
    pub(crate) network: &'a mut Network<B>,
    pub(crate) moments: Option<&'a mut Moments<B>>,
}

/// Writes what each [`Algorithm`] says of itself in the same way: its settings, and its networks. Each is named once,
/// with its moments behind an arrow unless it is a slow copy, so that `parts` and `parts_mut` have one order.
macro_rules! networks {
    (@moments) => { None };
    (@moments $moments:expr) => { Some($moments) };
    ($($naming:ident: $($network:ident).+ $(=> $($moments:ident).+)?,)*) => {
        fn settings(&self) -> serde_json::Result<serde_json::Value> {
            serde_json::to_value(&self.config)
        }

        fn metrics_every(&self) -> u64 {
            self.config.metrics_every
        }

        fn parts(&self) -> Vec<$crate::agent::Part<'_, B>> {
            vec![$($crate::agent::Part {
                naming: $naming,
                network: &self.$($network).+,
                moments: networks!(@moments $(&self.$($moments).+)?),
            },)*]
        }

        fn parts_mut(&mut self) -> Vec<$crate::agent::PartMut<'_, B>> {
            vec![$($crate::agent::PartMut {
                network: &mut self.$($network).+,
                moments: networks!(@moments $(&mut self.$($moments).+)?),
            },)*]
        }
    };
}
pub(crate) use networks;

/// Observations of `n` agents and the noise their candidates start from.
pub(crate) struct Acting<B: PolicyBackend> {
    /// `[n, S]`.
    pub(crate) observations: Tensor<B, 2>,
    /// `[n · N, h·A]`, standard normal.
    pub(crate) noise: Tensor<B, 2>,
    /// `[n, h·A]`, standard normal, if the agents act to learn.
    pub(crate) exploration: Option<Tensor<B, 2>>,
}

/// One update as an algorithm sees it.
pub(crate) struct Update<'a, B: PolicyBackend> {
    pub(crate) batch: DeviceBatch<B>,
    /// Chunks in the batch, B.
    pub(crate) size: usize,
    pub(crate) phase: Phase,
    /// The number of this update, counted from 1.
    pub(crate) index: u64,
    /// Whether metrics are read back, and checked before anything changes.
    pub(crate) reads: bool,
    pub(crate) noise: &'a mut dyn NoiseSource,
}

/// What makes one algorithm different from another.
pub(crate) trait Algorithm<B: PolicyBackend>: Send {
    /// Its name, as in the configuration.
    fn name(&self) -> &'static str;

    /// Its settings, for the header of a checkpoint.
    fn settings(&self) -> serde_json::Result<serde_json::Value>;

    /// Metrics are read at every so many updates.
    fn metrics_every(&self) -> u64;

    /// Whether acting to learn needs noise of its own, beside that of the candidates.
    fn explores(&self) -> bool {
        false
    }

    /// All networks.
    fn parts(&self) -> Vec<Part<'_, B>>;

    /// All networks in the same order.
    fn parts_mut(&mut self) -> Vec<PartMut<'_, B>>;

    /// Learned numbers that are not networks, with their names in a checkpoint.
    fn scalars(&self) -> Result<Vec<(&'static str, f32)>, PolicyError> {
        Ok(Vec::new())
    }

    /// Takes back what [`Algorithm::scalars`] gave.
    fn set_scalars(&mut self, _values: &[f32]) {}

    /// Generates candidates and selects.
    fn choose(&self, acting: Acting<B>) -> Chosen<B>;

    /// Makes one update.
    fn update(&mut self, host: &Host<B>, update: Update<'_, B>) -> Result<Metrics, PolicyError>;
}

/// A learner made of an algorithm.
#[derive(Debug)]
pub(crate) struct Agent<B: PolicyBackend, A> {
    host: Host<B>,
    algorithm: A,
    updates: u64,
}

impl<B: PolicyBackend, A: Algorithm<B>> Agent<B, A> {
    pub(crate) fn new(algorithm: A, host: Host<B>) -> Self {
        Self { host, algorithm, updates: 0 }
    }

    fn header(&self, content: Content) -> Result<Header, PolicyError> {
        let config = self
            .algorithm
            .settings()
            .map_err(|error| PolicyError::CheckpointUnreadable { reason: error.to_string() })?;
        Ok(Header {
            version: FORMAT_VERSION,
            content,
            algorithm: self.algorithm.name().to_owned(),
            spec: self.host.spec,
            updates: self.updates,
            config,
        })
    }
}

impl<B: PolicyBackend, A: Algorithm<B>> Learner for Agent<B, A> {
    fn spec(&self) -> &PolicySpec {
        &self.host.spec
    }

    fn algorithm(&self) -> &'static str {
        self.algorithm.name()
    }

    fn device_name(&self) -> String {
        format!("{} ({:?})", B::name(&self.host.device), self.host.device)
    }

    fn parameter_count(&self) -> usize {
        let learned = self.algorithm.parts().into_iter().filter(|part| part.moments.is_some());
        learned.map(|part| part.network.parameter_count()).sum()
    }

    fn updates(&self) -> u64 {
        self.updates
    }

    fn explores(&self) -> bool {
        self.algorithm.explores()
    }

    fn observation_scaling(&self) -> Option<&ObservationScaling> {
        self.host.scaling.as_ref()
    }

    fn set_observation_scaling(&mut self, scaling: Option<ObservationScaling>) -> Result<(), PolicyError> {
        if let Some(scaling) = &scaling {
            let hint = "make it from observations of this policy's task";
            let found = scaling.observation_dim();
            check_size("observation_scaling", found, self.host.spec.observation_dim, hint)?;
        }
        self.host.scaling = scaling;
        Ok(())
    }

    fn select(&mut self, request: &SelectRequest<'_>) -> Result<Selection, PolicyError> {
        request.check(&self.host.spec)?;
        let chunk = self.host.spec.chunk_dim();
        let chosen = self.algorithm.choose(Acting {
            observations: self.host.observations(request.observations),
            noise: self.host.upload(request.noise.to_vec(), chunk),
            exploration: request.exploration.map(|noise| self.host.upload(noise.to_vec(), chunk)),
        });

        let mut read = Transaction::default().register(chosen.actions).register(chosen.q).register(chosen.index);
        if request.return_candidates {
            read = read.register(chosen.candidates).register(chosen.values);
        }
        let mut read = read.try_execute().map_err(device_error)?.into_iter();
        let mut next =
            || read.next().ok_or_else(|| PolicyError::Device { reason: "a tensor was not read back".to_owned() });
        let actions = to_vec(next()?)?;
        let q = to_vec(next()?)?;
        let index = next()?.iter::<i64>().map(|index| index as u32).collect();
        let candidates = if request.return_candidates {
            Some(Candidates { actions: to_vec(next()?)?, q: to_vec(next()?)? })
        } else {
            None
        };
        for (metric, values) in [("select/q", &q), ("select/action", &actions)] {
            if let Some(&value) = values.iter().find(|value| !value.is_finite()) {
                return Err(PolicyError::NonFinite { metric: metric.to_owned(), value, update: self.updates });
            }
        }
        Ok(Selection { actions, q, index, candidates })
    }

    fn update(&mut self, batch: &Batch<'_>, noise: &mut dyn NoiseSource) -> Result<Metrics, PolicyError> {
        batch.check(&self.host.spec)?;
        let index = self.updates + 1;
        let update = Update {
            batch: self.host.batch(batch),
            size: batch.size,
            phase: batch.phase,
            index,
            reads: index.is_multiple_of(self.algorithm.metrics_every()),
            noise,
        };
        let metrics = self.algorithm.update(&self.host, update)?;
        self.updates = index;
        Ok(metrics)
    }

    fn weights(&self) -> Result<Vec<u8>, PolicyError> {
        let mut writer = Writer::new(self.updates);
        for part in self.algorithm.parts() {
            let tensors: Vec<_> = part.network.parameters().into_iter().map(|(_, tensor)| tensor.clone()).collect();
            writer.add(part.naming, "", part.network, &tensors)?;
        }
        writer.add_scalars(&self.algorithm.scalars()?)?;
        if let Some(scaling) = &self.host.scaling {
            writer.add_vector(SHIFT, scaling.shift())?;
            writer.add_vector(FACTOR, scaling.factor())?;
        }
        writer.finish(&self.header(Content::Weights)?)
    }

    fn load_weights(&mut self, bytes: &[u8]) -> Result<(), PolicyError> {
        let mut reader = Reader::open(bytes, Content::Weights, self.algorithm.name(), &self.host.spec)?;
        let mut found = Vec::new();
        for part in self.algorithm.parts() {
            found.push(reader.take(part.naming, "", part.network, &self.host.device)?);
        }
        let scalars = reader.take_scalars(&self.algorithm.scalars()?)?;
        let observation_dim = self.host.spec.observation_dim;
        let scaling = match (reader.take_vector(SHIFT, observation_dim)?, reader.take_vector(FACTOR, observation_dim)?)
        {
            (Some(shift), Some(factor)) => Some(ObservationScaling::new(shift, factor)?),
            (None, None) => None,
            (found, _) => {
                let name = if found.is_some() { FACTOR } else { SHIFT };
                let reason = "it is missing, though its counterpart is there".to_owned();
                return Err(PolicyError::CheckpointTensor { name: name.to_owned(), reason });
            }
        };
        reader.finish()?;
        self.host.scaling = scaling;
        for (part, tensors) in self.algorithm.parts_mut().into_iter().zip(found) {
            for (parameter, tensor) in part.network.parameters_mut().into_iter().zip(tensors) {
                *parameter = tensor;
            }
        }
        self.algorithm.set_scalars(&scalars);
        Ok(())
    }

    fn optimizer(&self) -> Result<Vec<u8>, PolicyError> {
        let mut writer = Writer::new(self.updates);
        for part in self.algorithm.parts() {
            if let Some(moments) = part.moments {
                writer.add(part.naming, ".first", part.network, &moments.first)?;
                writer.add(part.naming, ".second", part.network, &moments.second)?;
            }
        }
        writer.finish(&self.header(Content::Optimizer)?)
    }

    fn load_optimizer(&mut self, bytes: &[u8]) -> Result<(), PolicyError> {
        let mut reader = Reader::open(bytes, Content::Optimizer, self.algorithm.name(), &self.host.spec)?;
        let mut found = Vec::new();
        for part in self.algorithm.parts() {
            if part.moments.is_some() {
                found.push(Moments {
                    first: reader.take(part.naming, ".first", part.network, &self.host.device)?,
                    second: reader.take(part.naming, ".second", part.network, &self.host.device)?,
                });
            }
        }
        let updates = reader.header().updates;
        reader.finish()?;
        let saved = self.algorithm.parts_mut().into_iter().filter_map(|part| part.moments);
        for (moments, loaded) in saved.zip(found) {
            *moments = loaded;
        }
        self.updates = updates;
        Ok(())
    }
}
