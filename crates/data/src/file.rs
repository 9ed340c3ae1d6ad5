use std::{
    collections::HashMap,
    fmt,
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use safetensors::{
    Dtype,
    tensor::{Metadata, TensorInfo},
};
use serde::{Deserialize, Serialize};

use crate::{DataError, EpisodeData, atomic};

const FORMAT: &str = "onestep-episodes";
const VERSION: u32 = 1;
/// All facts about the file are one entry, because the container keeps its entries in a hash map: with more than one,
/// the same episodes would give files that differ.
const HEADER_KEY: &str = "onestep";
const INTERVENTIONS: &str = "interventions";
/// Nine tensors take a few hundred bytes; a header beyond this is not ours.
const MAX_HEADER_BYTES: u64 = 1 << 20;
/// Bytes that are read or written at once.
const PIECE: usize = 1 << 16;

/// Episodes of one task, as they lie on disk.
///
/// The container is safetensors, so every tool of that format can open it. Episodes lie one after the other:
///
/// | tensor | type | shape |
/// |---|---|---|
/// | `observations` | f32 | `[sum of (T + 1), S]` |
/// | `actions` | f32 | `[sum of T, A]` |
/// | `rewards` | f32 | `[sum of T]` |
/// | `successes` | u8, 0 or 1 | `[sum of T]` |
/// | `interventions` | u8, 0 or 1; only in files where a person stepped in | `[sum of T]` |
/// | `lengths` | u64, `T` of each | `[episodes]` |
/// | `seeds` | u64 | `[episodes]` |
/// | `terminated`, `truncated` | u8, 0 or 1 | `[episodes]` |
///
/// The metadata entry `onestep` holds format name, version, task, origin and sizes as JSON.
///
/// Reading and writing pass the numbers through in pieces: beside the episodes themselves, memory is needed for one
/// piece only.
#[derive(Debug, Clone, PartialEq)]
pub struct EpisodeFile {
    /// Name of the task.
    pub task: String,
    /// Who recorded the episodes.
    pub origin: Origin,
    /// Length `S` of an observation.
    pub observation_dim: usize,
    /// Length `A` of an action.
    pub action_dim: usize,
    /// The episodes.
    pub episodes: Vec<EpisodeData>,
}

/// Who recorded episodes. Only Onestep's have seeds that rebuild their initial states.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Onestep's simulator, or another world on its contract.
    #[default]
    Onestep,
    /// A robomimic file; the seeds of the episodes are 0 and mean nothing.
    Robomimic,
    /// An OGBench file; the seeds of the episodes are 0 and mean nothing.
    Ogbench,
}

impl Origin {
    /// Whether the episodes' seeds rebuild their initial states.
    #[must_use]
    pub fn has_seeds(self) -> bool {
        self == Self::Onestep
    }

    fn is_onestep(&self) -> bool {
        self.has_seeds()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Onestep => "Onestep",
            Self::Robomimic => "robomimic",
            Self::Ogbench => "OGBench",
        })
    }
}

/// The facts about a file that stand in its header, here and in the other formats that Onestep writes.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    format: String,
    version: u32,
    pub(crate) task: String,
    #[serde(default, skip_serializing_if = "Origin::is_onestep")]
    pub(crate) origin: Origin,
    pub(crate) observation_dim: usize,
    pub(crate) action_dim: usize,
}

/// What is looked at before the rest, so that a later version is named as such.
#[derive(Deserialize)]
struct Kind {
    format: String,
    version: u32,
}

impl Header {
    pub(crate) fn of(file: &EpisodeFile) -> Self {
        Self::new(&file.task, file.origin, file.observation_dim, file.action_dim)
    }

    pub(crate) fn new(task: &str, origin: Origin, observation_dim: usize, action_dim: usize) -> Self {
        Self { format: FORMAT.to_owned(), version: VERSION, task: task.to_owned(), origin, observation_dim, action_dim }
    }

    /// As JSON; `path` is the file in the error.
    pub(crate) fn to_bytes(&self, path: &Path) -> Result<Vec<u8>, DataError> {
        serde_json::to_vec(self)
            .map_err(|error| DataError::Request { path: path.to_owned(), problem: error.to_string() })
    }

    /// From JSON.
    ///
    /// # Errors
    /// [`DataError::Field`] for another format, [`DataError::Version`] for another version.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, DataError> {
        let wrong = |field: &str, problem| DataError::Field { path: path.to_owned(), field: field.to_owned(), problem };
        let broken = |error: serde_json::Error| wrong(HEADER_KEY, format!("broken metadata: {error}"));
        let kind: Kind = serde_json::from_str(text).map_err(broken)?;
        if kind.format != FORMAT {
            return Err(wrong("format", format!("is `{}`, not `{FORMAT}`", kind.format)));
        }
        if kind.version != VERSION {
            return Err(DataError::Version { path: path.to_owned(), found: kind.version, expected: VERSION });
        }
        serde_json::from_str(text).map_err(broken)
    }
}

impl EpisodeFile {
    /// Control steps of all episodes together.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.episodes.iter().map(EpisodeData::len).sum()
    }

    /// Whether a person stepped in anywhere.
    fn has_interventions(&self) -> bool {
        self.episodes.iter().any(|episode| episode.interventions.contains(&true))
    }

    /// Checks that the episodes are of this task and these sizes. `path` is the file named in the error.
    ///
    /// # Errors
    /// [`DataError::Mismatch`].
    pub fn require(&self, path: &Path, task: &str, observation_dim: usize, action_dim: usize) -> Result<(), DataError> {
        let mismatch = |what, expected: String, found: String| {
            if expected == found {
                Ok(())
            } else {
                Err(DataError::Mismatch { path: path.to_owned(), what, expected, found })
            }
        };
        mismatch("the task", format!("`{task}`"), format!("`{}`", self.task))?;
        mismatch("the length of an observation", observation_dim.to_string(), self.observation_dim.to_string())?;
        mismatch("the length of an action", action_dim.to_string(), self.action_dim.to_string())
    }

    /// Checks that every episode fits the sizes.
    pub(crate) fn check(&self) -> Result<(), DataError> {
        self.episodes
            .iter()
            .enumerate()
            .try_for_each(|(index, episode)| episode.check(index, self.observation_dim, self.action_dim))
    }

    /// Writes the file in one piece (see [`atomic::write_with`]).
    ///
    /// # Errors
    /// [`DataError::Episode`] when an episode does not fit the sizes, [`DataError::Io`] when the disk refuses.
    pub fn write(&self, path: &Path) -> Result<(), DataError> {
        let header = self.container_header(path)?;
        atomic::write_with(path, |file| self.write_to(&header, file))
    }

    /// Reads a file and checks every size in it.
    ///
    /// # Errors
    /// [`DataError`] naming the file and the field; nothing is returned of a file that is wrong anywhere.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        let failed = || DataError::io("read", path);
        let file = File::open(path).map_err(failed())?;
        let len = file.metadata().map_err(failed())?.len();
        Self::read_from(path, BufReader::new(file), len)
    }

    /// The container's beginning, up to the first number.
    fn container_header(&self, path: &Path) -> Result<Vec<u8>, DataError> {
        self.check()?;
        let refused = |reason: String| DataError::Container { path: path.to_owned(), reason };
        let (episodes, steps) = (self.episodes.len(), self.steps());
        // Wide types first, then by name, as the format's own library lays them out.
        let mut end = 0;
        let mut tensors = vec![
            ("lengths", Dtype::U64, 8, vec![episodes]),
            ("seeds", Dtype::U64, 8, vec![episodes]),
            ("actions", Dtype::F32, 4, vec![steps, self.action_dim]),
            ("observations", Dtype::F32, 4, vec![steps + episodes, self.observation_dim]),
            ("rewards", Dtype::F32, 4, vec![steps]),
            ("successes", Dtype::U8, 1, vec![steps]),
            ("terminated", Dtype::U8, 1, vec![episodes]),
            ("truncated", Dtype::U8, 1, vec![episodes]),
        ];
        if self.has_interventions() {
            tensors.insert(5, (INTERVENTIONS, Dtype::U8, 1, vec![steps]));
        }
        let tensors: Vec<_> = tensors
            .into_iter()
            .map(|(name, dtype, width, shape)| {
                let start = end;
                end += width * shape.iter().product::<usize>();
                (name.to_owned(), TensorInfo { dtype, shape, data_offsets: (start, end) })
            })
            .collect();
        let facts = serde_json::to_string(&Header::of(self)).map_err(|error| refused(error.to_string()))?;
        let metadata = Metadata::new(Some(HashMap::from([(HEADER_KEY.to_owned(), facts)])), tensors)
            .map_err(|error| refused(error.to_string()))?;
        let mut text = serde_json::to_vec(&metadata).map_err(|error| refused(error.to_string()))?;
        // The format wants numbers to start at a multiple of eight.
        text.resize(text.len().next_multiple_of(8), b' ');
        let mut header = (text.len() as u64).to_le_bytes().to_vec();
        header.append(&mut text);
        Ok(header)
    }

    fn write_to(&self, header: &[u8], out: &mut dyn Write) -> io::Result<()> {
        out.write_all(header)?;
        for episode in &self.episodes {
            out.write_all(&(episode.len() as u64).to_le_bytes())?;
        }
        for episode in &self.episodes {
            out.write_all(&episode.seed.to_le_bytes())?;
        }
        let numbers: [fn(&EpisodeData) -> &[f32]; 3] = [|e| &e.actions, |e| &e.observations, |e| &e.rewards];
        for field in numbers {
            for episode in &self.episodes {
                write_floats(out, field(episode))?;
            }
        }
        if self.has_interventions() {
            for episode in &self.episodes {
                let mut flags: Vec<u8> = episode.interventions.iter().copied().map(u8::from).collect();
                flags.resize(episode.len(), 0);
                out.write_all(&flags)?;
            }
        }
        for episode in &self.episodes {
            let flags: Vec<u8> = episode.successes.iter().copied().map(u8::from).collect();
            out.write_all(&flags)?;
        }
        let ends: [fn(&EpisodeData) -> bool; 2] = [|e| e.terminated, |e| e.truncated];
        for field in ends {
            let flags: Vec<u8> = self.episodes.iter().map(|episode| u8::from(field(episode))).collect();
            out.write_all(&flags)?;
        }
        Ok(())
    }

    fn read_from(path: &Path, input: impl Read + Seek, len: u64) -> Result<Self, DataError> {
        let mut reader = Reader::open(path, input, len)?;
        let Header { task, origin, observation_dim, action_dim, .. } = reader.header()?;

        let lengths = reader.lengths()?;
        let count = lengths.len();
        // The sizes are the file's own claims: sums that overflow are as wrong as sums that do not fit.
        let sum = |reader: &Reader<_>, what: &str, extra: usize| {
            lengths.iter().try_fold(0usize, |sum, length| sum.checked_add(length.checked_add(extra)?)).ok_or_else(
                || reader.wrong("lengths", format!("the {what} of {count} episodes do not fit into memory")),
            )
        };
        let steps = sum(&reader, "steps", 0)?;
        let rows = sum(&reader, "observations", 1)?;

        // Every shape is held against the file's size before anything of its size is reserved.
        for (field, shape) in
            [("observations", &[rows, observation_dim][..]), ("actions", &[steps, action_dim]), ("rewards", &[steps])]
        {
            reader.locate(field, Dtype::F32, Some(shape))?;
        }
        let seeds = reader.integers("seeds", Some(count))?;
        let terminated = reader.flags("terminated", &[count])?;
        let truncated = reader.flags("truncated", &[count])?;
        let successes = reader.flags("successes", &lengths)?;
        let interventions = match reader.tensors.info(INTERVENTIONS) {
            Some(_) => reader.flags(INTERVENTIONS, &lengths)?,
            None => vec![Vec::new(); count],
        };
        let mut episodes: Vec<EpisodeData> = seeds
            .into_iter()
            .zip(terminated.into_iter().flatten())
            .zip(truncated.into_iter().flatten())
            .zip(successes)
            .zip(interventions)
            .map(|((((seed, terminated), truncated), successes), interventions)| EpisodeData {
                terminated,
                truncated,
                successes,
                seed,
                // Steps without a person are told by an empty vector, wherever the episode lies.
                interventions: if interventions.contains(&true) { interventions } else { Vec::new() },
                ..EpisodeData::default()
            })
            .collect();
        let counts = |extra: usize, dim: usize| lengths.iter().map(move |length| (length + extra) * dim);
        reader.floats("actions", counts(0, action_dim), &mut episodes, |episode| &mut episode.actions)?;
        reader.floats("observations", counts(1, observation_dim), &mut episodes, |e| &mut e.observations)?;
        reader.floats("rewards", counts(0, 1), &mut episodes, |episode| &mut episode.rewards)?;
        Ok(Self { task, origin, observation_dim, action_dim, episodes })
    }
}

/// Writes numbers in little-endian order, many at once.
pub(crate) fn write_floats(out: &mut dyn Write, values: &[f32]) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(PIECE.min(values.len() * 4));
    for piece in values.chunks(PIECE / 4) {
        bytes.clear();
        bytes.extend(piece.iter().flat_map(|value| value.to_le_bytes()));
        out.write_all(&bytes)?;
    }
    Ok(())
}

/// The container with every access checked.
struct Reader<R> {
    path: PathBuf,
    input: R,
    tensors: Metadata,
    header: String,
    /// Where the numbers begin in the file.
    data_start: u64,
}

impl<R: Read + Seek> Reader<R> {
    fn open(path: &Path, mut input: R, len: u64) -> Result<Self, DataError> {
        let container = |reason: String| DataError::Container { path: path.to_owned(), reason };
        let failed = || DataError::io("read", path);
        if len < 8 {
            return Err(container(format!("it has {len} bytes")));
        }
        let mut length = [0; 8];
        input.read_exact(&mut length).map_err(failed())?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER_BYTES || length > len - 8 {
            return Err(container(format!("a header of {length} bytes in a file of {len}")));
        }
        let mut text = Vec::new();
        (&mut input).take(length).read_to_end(&mut text).map_err(failed())?;
        let tensors: Metadata = serde_json::from_slice(&text).map_err(|error| container(error.to_string()))?;
        let (claimed, real) = (tensors.data_len() as u64, len - 8 - length);
        if claimed != real {
            return Err(container(format!("its tensors take {claimed} bytes, and there are {real}")));
        }
        let header = tensors
            .metadata()
            .as_ref()
            .and_then(|entries| entries.get(HEADER_KEY))
            .ok_or_else(|| container(format!("the metadata has no entry `{HEADER_KEY}`")))?
            .clone();
        Ok(Self { path: path.to_owned(), input, tensors, header, data_start: 8 + length })
    }

    fn wrong(&self, field: &str, problem: impl Into<String>) -> DataError {
        DataError::Field { path: self.path.clone(), field: field.to_owned(), problem: problem.into() }
    }

    fn header(&self) -> Result<Header, DataError> {
        Header::parse(&self.path, &self.header)
    }

    /// Where in the file the tensor of this type and shape (`None`: any one-dimensional shape) begins, and the number
    /// of its elements.
    fn locate(&self, field: &str, dtype: Dtype, shape: Option<&[usize]>) -> Result<(u64, usize), DataError> {
        let tensor = self.tensors.info(field).ok_or_else(|| self.wrong(field, "is missing"))?;
        if tensor.dtype != dtype {
            return Err(self.wrong(field, format!("has type {}, not {dtype}", tensor.dtype)));
        }
        match shape {
            Some(shape) if tensor.shape != shape => {
                return Err(
                    self.wrong(field, format!("has shape {:?}; lengths and sizes ask for {shape:?}", tensor.shape))
                );
            }
            None if tensor.shape.len() != 1 => {
                return Err(self.wrong(field, format!("has shape {:?}; one dimension is expected", tensor.shape)));
            }
            _ => {}
        }
        let count = tensor.shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size));
        let bytes = count.and_then(|count| count.checked_mul(dtype.bitsize() / 8));
        let (start, end) = tensor.data_offsets;
        match (count, bytes, end.checked_sub(start)) {
            (Some(count), Some(bytes), Some(stored)) if bytes == stored && end <= self.tensors.data_len() => {
                Ok((self.data_start + start as u64, count))
            }
            _ => Err(self.wrong(field, format!("has shape {:?}, and lies at {start} to {end}", tensor.shape))),
        }
    }

    fn seek(&mut self, to: u64) -> Result<(), DataError> {
        self.input.seek(SeekFrom::Start(to)).map(|_| ()).map_err(DataError::io("read", &self.path))
    }

    /// Gives the next `len` bytes of the file to `take`, in pieces of [`PIECE`] bytes at most.
    fn pieces(&mut self, len: usize, mut take: impl FnMut(&[u8])) -> Result<(), DataError> {
        let mut buffer = vec![0; PIECE.min(len)];
        let mut left = len;
        while left > 0 {
            let size = left.min(buffer.len());
            let piece = buffer.split_at_mut(size).0;
            self.input.read_exact(piece).map_err(DataError::io("read", &self.path))?;
            take(piece);
            left -= size;
        }
        Ok(())
    }

    /// Reads a tensor whose place was checked before: `counts` numbers for each episode, into the vector that `of`
    /// names.
    fn floats(
        &mut self,
        field: &str,
        counts: impl Iterator<Item = usize>,
        episodes: &mut [EpisodeData],
        of: impl Fn(&mut EpisodeData) -> &mut Vec<f32>,
    ) -> Result<(), DataError> {
        let start = self.tensors.info(field).map_or(0, |tensor| tensor.data_offsets.0);
        self.seek(self.data_start + start as u64)?;
        let mut before = 0;
        for (count, episode) in counts.zip(episodes) {
            let values = of(episode);
            values.reserve_exact(count);
            self.pieces(4 * count, |piece| {
                values.extend(piece.as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word)));
            })?;
            if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                return Err(self.wrong(field, format!("number {} is not finite", before + at)));
            }
            before += count;
        }
        Ok(())
    }

    fn integers(&mut self, field: &str, len: Option<usize>) -> Result<Vec<u64>, DataError> {
        let shape = len.map(|len| [len]);
        let (start, count) = self.locate(field, Dtype::U64, shape.as_ref().map(|shape| &shape[..]))?;
        self.seek(start)?;
        let mut values = Vec::with_capacity(count);
        self.pieces(8 * count, |piece| {
            values.extend(piece.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)));
        })?;
        Ok(values)
    }

    fn lengths(&mut self) -> Result<Vec<usize>, DataError> {
        let lengths = self.integers("lengths", None)?;
        lengths
            .into_iter()
            .map(|length| {
                usize::try_from(length)
                    .map_err(|_| self.wrong("lengths", format!("{length} steps do not fit into memory")))
            })
            .collect()
    }

    /// A tensor of flags, cut into parts of these lengths.
    fn flags(&mut self, field: &str, parts: &[usize]) -> Result<Vec<Vec<bool>>, DataError> {
        let (start, _) = self.locate(field, Dtype::U8, Some(&[parts.iter().sum()]))?;
        self.seek(start)?;
        let mut wrong = None;
        let mut all = Vec::with_capacity(parts.len());
        for part in parts {
            let mut flags = Vec::with_capacity(*part);
            self.pieces(*part, |piece| {
                wrong = wrong.or_else(|| piece.iter().copied().find(|byte| *byte > 1));
                flags.extend(piece.iter().map(|byte| *byte == 1));
            })?;
            all.push(flags);
        }
        match wrong {
            None => Ok(all),
            Some(other) => Err(self.wrong(field, format!("holds {other} where 0 or 1 is expected"))),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};
    use safetensors::{SafeTensors, tensor::TensorView};

    fn episode(observation_dim: usize, action_dim: usize) -> impl Strategy<Value = EpisodeData> {
        (0usize..6).prop_flat_map(move |steps| {
            (
                vec(-10f32..10.0, (steps + 1) * observation_dim),
                vec(-1f32..1.0, steps * action_dim),
                vec(-1f32..1.0, steps),
                vec(any::<bool>(), steps),
                prop_oneof![Just(Vec::new()), vec(any::<bool>(), steps)],
                any::<(bool, bool, u64)>(),
            )
                .prop_map(
                    |(observations, actions, rewards, successes, by_hand, (terminated, truncated, seed))| {
                        let interventions = if by_hand.contains(&true) { by_hand } else { Vec::new() };
                        EpisodeData {
                            observations,
                            actions,
                            rewards,
                            terminated,
                            truncated,
                            successes,
                            seed,
                            interventions,
                        }
                    },
                )
        })
    }

    fn file() -> impl Strategy<Value = EpisodeFile> {
        (1usize..4, 1usize..3).prop_flat_map(|(observation_dim, action_dim)| {
            (vec(episode(observation_dim, action_dim), 0..4), "[a-z]{1,8}").prop_map(move |(episodes, task)| {
                EpisodeFile { task, origin: Origin::Onestep, observation_dim, action_dim, episodes }
            })
        })
    }

    fn example() -> EpisodeFile {
        let episode = |seed| EpisodeData {
            observations: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
            actions: vec![0.5, -0.5],
            rewards: vec![-1.0, 0.0],
            terminated: true,
            truncated: false,
            successes: vec![false, true],
            seed,
            interventions: Vec::new(),
        };
        EpisodeFile {
            task: "lift".to_owned(),
            origin: Origin::Onestep,
            observation_dim: 2,
            action_dim: 1,
            episodes: vec![episode(1), episode(u64::MAX)],
        }
    }

    const NAME: &str = "demos.safetensors";

    fn bytes(file: &EpisodeFile) -> Vec<u8> {
        try_bytes(file).unwrap()
    }

    fn try_bytes(file: &EpisodeFile) -> Result<Vec<u8>, DataError> {
        let header = file.container_header(Path::new(NAME))?;
        let mut bytes = Vec::new();
        file.write_to(&header, &mut bytes).unwrap();
        Ok(bytes)
    }

    fn parse(bytes: &[u8]) -> Result<EpisodeFile, DataError> {
        EpisodeFile::read_from(Path::new(NAME), io::Cursor::new(bytes), bytes.len() as u64)
    }

    #[test]
    fn written_files_are_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        example().write(&path).unwrap();
        assert_eq!(EpisodeFile::read(&path).unwrap(), example());
        assert_eq!(example().steps(), 4);
        assert!(example().episodes[0].is_success());
    }

    #[test]
    fn other_tasks_and_sizes_are_refused_by_name() {
        let path = Path::new(NAME);
        let file = example();
        file.require(path, "lift", 2, 1).unwrap();
        for (error, parts) in [
            (file.require(path, "push", 2, 1), ["the task is `lift`", "`push` is needed"]),
            (file.require(path, "lift", 3, 1), ["observation is 2", "3 is needed"]),
            (file.require(path, "lift", 2, 7), ["action is 1", "7 is needed"]),
        ] {
            let error = error.unwrap_err().to_string();
            for part in parts.iter().chain(&[NAME]) {
                assert!(error.contains(part), "`{part}` is not in: {error}");
            }
        }
    }

    #[test]
    fn the_origin_survives_and_ours_is_not_written() {
        let mut file = example();
        assert!(!String::from_utf8_lossy(&bytes(&file)).contains("origin"));
        for origin in [Origin::Robomimic, Origin::Ogbench] {
            file.origin = origin;
            assert_eq!(parse(&bytes(&file)).unwrap().origin, origin);
            assert!(!origin.has_seeds());
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = EpisodeFile::read(Path::new("/nowhere/demos.safetensors")).unwrap_err().to_string();
        assert!(error.starts_with("cannot read /nowhere/demos.safetensors"), "{error}");
    }

    /// Rebuilds the example's container with one tensor or the header changed, as a lying file would have it.
    fn lying(change: impl FnOnce(&mut Vec<(String, Dtype, Vec<usize>, Vec<u8>)>, &mut String)) -> String {
        let original = bytes(&example());
        let container = SafeTensors::deserialize(&original).unwrap();
        let (_, metadata) = SafeTensors::read_metadata(&original).unwrap();
        let mut header = metadata.metadata().as_ref().unwrap()[HEADER_KEY].clone();
        let mut tensors: Vec<_> = container
            .iter()
            .map(|(name, tensor)| (name.to_owned(), tensor.dtype(), tensor.shape().to_vec(), tensor.data().to_vec()))
            .collect();
        change(&mut tensors, &mut header);
        let views = tensors
            .iter()
            .map(|(name, dtype, shape, data)| (name.clone(), TensorView::new(*dtype, shape.clone(), data).unwrap()));
        let changed = safetensors::serialize(views, Some(HashMap::from([(HEADER_KEY.to_owned(), header)]))).unwrap();
        parse(&changed).unwrap_err().to_string()
    }

    fn with_tensor(name: &str, change: impl FnOnce(&mut Dtype, &mut Vec<usize>, &mut Vec<u8>)) -> String {
        lying(|tensors, _| {
            let (_, dtype, shape, data) = tensors.iter_mut().find(|(found, ..)| found == name).unwrap();
            change(dtype, shape, data);
        })
    }

    #[test]
    fn lies_are_named_with_their_field() {
        let check = |error: String, parts: &[&str]| {
            for part in parts.iter().chain(&[NAME]) {
                assert!(error.contains(part), "`{part}` is not in: {error}");
            }
        };
        check(with_tensor("lengths", |_, _, data| data[0] = 7), &["observations", "[6, 2]", "[11, 2]"]);
        check(with_tensor("lengths", |_, _, data| data.fill(255)), &["lengths", "memory"]);
        check(with_tensor("lengths", |_, shape, _| *shape = vec![1, 2]), &["lengths", "one dimension"]);
        check(
            with_tensor("seeds", |_, shape, data| {
                *shape = vec![1];
                data.truncate(8);
            }),
            &["seeds", "[1]", "[2]"],
        );
        check(with_tensor("successes", |_, _, data| data[1] = 2), &["successes", "holds 2"]);
        check(with_tensor("rewards", |dtype, _, _| *dtype = Dtype::I32), &["rewards", "I32", "F32"]);
        check(
            with_tensor("actions", |_, _, data| data[4..8].copy_from_slice(&f32::NAN.to_le_bytes())),
            &["actions", "number 1", "not finite"],
        );
        check(lying(|tensors, _| tensors.retain(|(name, ..)| name != "truncated")), &["truncated", "missing"]);
        check(lying(|_, header| *header = header.replace("episodes", "weights")), &["format", "onestep-weights"]);
        check(
            lying(|_, header| *header = header.replace("\"version\":1", "\"version\":9")),
            &["version 9", "version 1"],
        );
        check(lying(|_, header| *header = header.replace("\"action_dim\":1", "\"action_dim\":2")), &["actions"]);
        check(lying(|_, header| header.truncate(20)), &["broken metadata"]);
    }

    #[test]
    fn foreign_files_are_refused() {
        for foreign in [&b""[..], b"\x89PNG\r\n\x1a\n and so on", b"{}", &[0; 64], &[255; 64]] {
            let error = parse(foreign).unwrap_err().to_string();
            assert!(error.contains(NAME) && error.contains("not a complete Onestep episode file"), "{error}");
        }
    }

    #[test]
    fn episodes_that_do_not_fit_are_not_written() {
        let mut file = example();
        file.episodes[1].actions.pop();
        let error = try_bytes(&file).unwrap_err().to_string();
        assert_eq!(error, "episode 1: `actions` has 1 numbers where 2 are expected");
    }

    proptest! {
        #[test]
        fn any_episodes_survive_the_disk(file in file()) {
            prop_assert_eq!(parse(&bytes(&file)).unwrap(), file);
        }

        #[test]
        fn equal_episodes_give_equal_files(file in file()) {
            prop_assert_eq!(bytes(&file), bytes(&file.clone()));
        }

        #[test]
        fn a_cut_file_is_refused(file in file(), cut in 0f64..1.0) {
            let bytes = bytes(&file);
            let kept = (bytes.len() as f64 * cut) as usize;
            prop_assert!(parse(&bytes[..kept]).is_err());
        }

        #[test]
        fn a_damaged_file_is_refused_or_read_but_never_a_panic(file in file(), at in any::<prop::sample::Index>(), value: u8) {
            let mut bytes = bytes(&file);
            let at = at.index(bytes.len());
            bytes[at] = value;
            if let Ok(read) = parse(&bytes) {
                for (index, episode) in read.episodes.iter().enumerate() {
                    prop_assert!(episode.check(index, read.observation_dim, read.action_dim).is_ok());
                }
            }
        }
    }
}
