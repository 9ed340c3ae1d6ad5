//! Weights and optimiser states as safetensors.
//!
//! A file holds one tensor per parameter of each network, under fixed names: `actor.layers.0.weight` (`[in, out]`),
//! `critic.1.layers.2.norm.scale`, `target.0.layers.3.bias`. Moments of the optimiser append `.first` or `.second`.
//! The metadata has one key, [`HEADER_KEY`], with a [`Header`] as JSON; one key alone keeps the bytes the same in every
//! process.

use std::collections::{BTreeMap, HashMap};

use burn::tensor::{Tensor, TensorData, Transaction};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use crate::backend::PolicyBackend;
use crate::network::Network;
use crate::{PolicyError, PolicySpec};

/// The version of the format; a reader refuses any other.
pub const FORMAT_VERSION: u32 = 1;
/// The metadata key under which the header lies.
pub const HEADER_KEY: &str = "onestep";

/// What a file says about itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT_VERSION`] of the writer.
    pub version: u32,
    /// What the file holds.
    pub content: Content,
    /// The name of the algorithm.
    pub algorithm: String,
    /// The sizes of the policy.
    pub spec: PolicySpec,
    /// The number of updates made.
    pub updates: u64,
    /// The configuration of the algorithm, for information.
    pub config: serde_json::Value,
}

/// The kinds of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// Weights of actor, critics and targets.
    Weights,
    /// Moments and counters of the optimiser.
    Optimizer,
}

/// How the members of an ensemble are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// An ensemble of one under its plain name: `actor.layers.0.weight`.
    Single(&'static str),
    /// Each member under its index: `critic.1.layers.0.weight`.
    Indexed(&'static str),
}

impl Naming {
    fn name(self, member: usize, parameter: &str, suffix: &str) -> String {
        match self {
            Self::Single(network) => format!("{network}.{parameter}{suffix}"),
            Self::Indexed(network) => format!("{network}.{member}.{parameter}{suffix}"),
        }
    }
}

/// Collects tensors on the host and writes them as one file.
#[derive(Debug)]
pub struct Writer {
    updates: u64,
    tensors: Vec<(String, Vec<usize>, Vec<u8>)>,
}

impl Writer {
    /// A file of a learner that has made so many updates.
    pub fn new(updates: u64) -> Self {
        Self { updates, tensors: Vec::new() }
    }

    /// Adds tensors that are named and shaped like the parameters of `network`.
    ///
    /// # Errors
    /// [`PolicyError::Device`] if they cannot be read back, [`PolicyError::NonFinite`] with the name of a tensor that
    /// holds a number that is not finite: nobody could go on from it, so the file before it must stay.
    pub fn add<B: PolicyBackend>(
        &mut self,
        naming: Naming,
        suffix: &str,
        network: &Network<B>,
        tensors: &[Tensor<B, 3>],
    ) -> Result<(), PolicyError> {
        let mut read = Transaction::default();
        for tensor in tensors {
            read = read.register(tensor.clone());
        }
        let read = read.try_execute().map_err(|error| PolicyError::Device { reason: format!("{error:?}") })?;
        for ((parameter, tensor), data) in network.parameters().into_iter().zip(read) {
            let values = to_vec(data)?;
            let dims = tensor.dims();
            let shape = member_shape(&parameter, dims);
            for (member, values) in values.chunks(dims[1] * dims[2]).enumerate() {
                self.push(naming.name(member, &parameter, suffix), shape.clone(), values)?;
            }
        }
        Ok(())
    }

    /// Adds single numbers under their names, shape `[1]`.
    ///
    /// # Errors
    /// [`PolicyError::NonFinite`] with the name of one that is not finite.
    pub fn add_scalars(&mut self, scalars: &[(&'static str, f32)]) -> Result<(), PolicyError> {
        scalars.iter().try_for_each(|(name, value)| self.push((*name).to_owned(), vec![1], &[*value]))
    }

    fn push(&mut self, name: String, shape: Vec<usize>, values: &[f32]) -> Result<(), PolicyError> {
        if let Some(&value) = values.iter().find(|value| !value.is_finite()) {
            return Err(PolicyError::NonFinite { metric: name, value, update: self.updates });
        }
        self.tensors.push((name, shape, values.iter().flat_map(|value| value.to_le_bytes()).collect()));
        Ok(())
    }

    /// Adds a list of numbers under its name, shape `[n]`.
    ///
    /// # Errors
    /// [`PolicyError::NonFinite`] with the name if a number is not finite.
    pub fn add_vector(&mut self, name: &str, values: &[f32]) -> Result<(), PolicyError> {
        self.push(name.to_owned(), vec![values.len()], values)
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// [`PolicyError::CheckpointUnreadable`] if the header cannot be encoded.
    pub fn finish(self, header: &Header) -> Result<Vec<u8>, PolicyError> {
        let header = serde_json::to_string(header).map_err(unreadable)?;
        let mut views = Vec::with_capacity(self.tensors.len());
        for (name, shape, bytes) in &self.tensors {
            let view = TensorView::new(Dtype::F32, shape.clone(), bytes).map_err(unreadable)?;
            views.push((name.as_str(), view));
        }
        let metadata = HashMap::from([(HEADER_KEY.to_owned(), header)]);
        safetensors::serialize(views, Some(metadata)).map_err(unreadable)
    }
}

/// A file that was read and whose header fits.
#[derive(Debug)]
pub struct Reader {
    header: Header,
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

impl Reader {
    /// Reads a file and checks its header.
    ///
    /// # Errors
    /// [`PolicyError::CheckpointUnreadable`] for damaged bytes, [`PolicyError::CheckpointMismatch`] for another
    /// version, content, algorithm or policy size, [`PolicyError::CheckpointTensor`] for numbers of another type or
    /// that are not finite.
    pub fn open(bytes: &[u8], content: Content, algorithm: &str, spec: &PolicySpec) -> Result<Self, PolicyError> {
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(unreadable)?;
        let header = metadata.metadata().as_ref().and_then(|metadata| metadata.get(HEADER_KEY)).ok_or_else(|| {
            PolicyError::CheckpointUnreadable { reason: format!("the metadata key `{HEADER_KEY}` is missing") }
        })?;
        // The version is read alone first: another version may have other fields.
        let version: Version = serde_json::from_str(header).map_err(unreadable)?;
        expect("version", &version.version, &FORMAT_VERSION, "use the release of Onestep that wrote it")?;
        let header: Header = serde_json::from_str(header).map_err(unreadable)?;
        expect("content", &header.content, &content, "weights and optimiser are two files")?;
        expect("algorithm", &header.algorithm.as_str(), &algorithm, "load it with the algorithm of its run")?;
        for (field, found, expected) in [
            ("observation_dim", header.spec.observation_dim, spec.observation_dim),
            ("action_dim", header.spec.action_dim, spec.action_dim),
            ("horizon", header.spec.horizon, spec.horizon),
        ] {
            expect(field, &found, &expected, "load it with the task and horizon of its run")?;
        }

        let mut tensors = BTreeMap::new();
        for (name, view) in SafeTensors::deserialize(bytes).map_err(unreadable)?.tensors() {
            if view.dtype() != Dtype::F32 {
                let reason = format!("its type is {:?}, not F32; another program wrote it", view.dtype());
                return Err(PolicyError::CheckpointTensor { name, reason });
            }
            let values: Vec<f32> =
                view.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            if let Some(value) = values.iter().find(|value| !value.is_finite()) {
                let reason = format!("it holds {value}, with which nothing can go on; take an earlier checkpoint");
                return Err(PolicyError::CheckpointTensor { name, reason });
            }
            tensors.insert(name, (view.shape().to_vec(), values));
        }
        Ok(Self { header, tensors })
    }

    /// What the file says about itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Takes tensors that are named and shaped like the parameters of `network`.
    ///
    /// # Errors
    /// [`PolicyError::CheckpointTensor`] if one is missing or has another shape.
    pub fn take<B: PolicyBackend>(
        &mut self,
        naming: Naming,
        suffix: &str,
        network: &Network<B>,
        device: &B::Device,
    ) -> Result<Vec<Tensor<B, 3>>, PolicyError> {
        let mut found = Vec::new();
        for (parameter, tensor) in network.parameters() {
            let dims = tensor.dims();
            let mut values = Vec::with_capacity(dims.iter().product());
            for member in 0..dims[0] {
                let name = naming.name(member, &parameter, suffix);
                let Some((shape, part)) = self.tensors.remove(&name) else {
                    return Err(other_sizes(name, "it is missing"));
                };
                let expected = member_shape(&parameter, dims);
                if shape != expected {
                    return Err(other_sizes(name, &format!("its shape is {shape:?}, expected {expected:?}")));
                }
                values.extend(part);
            }
            found.push(Tensor::from_data(TensorData::new(values, dims), device));
        }
        Ok(found)
    }

    /// Takes single numbers, in the order of `scalars`, whose values are not read.
    ///
    /// # Errors
    /// [`PolicyError::CheckpointTensor`] if one is missing or is not a single number.
    pub fn take_scalars(&mut self, scalars: &[(&'static str, f32)]) -> Result<Vec<f32>, PolicyError> {
        let mut found = Vec::with_capacity(scalars.len());
        for (name, _) in scalars {
            match self.tensors.remove(*name) {
                Some((_, values)) if values.len() == 1 => found.extend(values),
                Some((shape, _)) => {
                    return Err(other_sizes((*name).to_owned(), &format!("its shape is {shape:?}, expected [1]")));
                }
                None => return Err(other_sizes((*name).to_owned(), "it is missing")),
            }
        }
        Ok(found)
    }

    /// Takes a list of `length` numbers, if the file has it.
    ///
    /// # Errors
    /// [`PolicyError::CheckpointTensor`] if it has another shape.
    pub fn take_vector(&mut self, name: &str, length: usize) -> Result<Option<Vec<f32>>, PolicyError> {
        match self.tensors.remove(name) {
            None => Ok(None),
            Some((shape, values)) if shape == [length] => Ok(Some(values)),
            Some((shape, _)) => {
                Err(other_sizes(name.to_owned(), &format!("its shape is {shape:?}, expected [{length}]")))
            }
        }
    }

    /// Checks that every tensor was taken.
    ///
    /// # Errors
    /// [`PolicyError::CheckpointTensor`] names the first one left.
    pub fn finish(self) -> Result<(), PolicyError> {
        match self.tensors.into_keys().next() {
            None => Ok(()),
            Some(name) => Err(other_sizes(name, "this learner has no such tensor")),
        }
    }
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// The shape of one member's parameter: `[in, out]` for weights, also with one input, `[out]` for the others.
fn member_shape(parameter: &str, dims: [usize; 3]) -> Vec<usize> {
    let [_, input, output] = dims;
    if parameter.ends_with(".weight") { vec![input, output] } else { vec![output] }
}

fn expect<T: PartialEq + std::fmt::Debug>(
    field: &str,
    found: &T,
    expected: &T,
    hint: &'static str,
) -> Result<(), PolicyError> {
    if found == expected {
        return Ok(());
    }
    Err(PolicyError::CheckpointMismatch {
        field: field.to_owned(),
        found: format!("{found:?}"),
        expected: format!("{expected:?}"),
        hint,
    })
}

/// A tensor of a network of other sizes.
fn other_sizes(name: String, problem: &str) -> PolicyError {
    let reason = format!("{problem}; the network sizes of the run must be the ones it was saved with");
    PolicyError::CheckpointTensor { name, reason }
}

fn unreadable(error: impl std::fmt::Display) -> PolicyError {
    PolicyError::CheckpointUnreadable { reason: error.to_string() }
}

/// The numbers of a tensor that was read back.
pub(crate) fn to_vec(data: TensorData) -> Result<Vec<f32>, PolicyError> {
    data.into_vec::<f32>().map_err(|error| PolicyError::Device { reason: format!("{error:?}") })
}
