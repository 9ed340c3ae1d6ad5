use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};

use crate::{DataError, EpisodeData, atomic};

const FORMAT: &str = "onestep-episodes";
const VERSION: u32 = 1;
/// All facts about the file are one entry, because the container keeps its entries in a hash map: with more than one,
/// the same episodes would give files that differ.
const HEADER_KEY: &str = "onestep";

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
/// | `lengths` | u64, `T` of each | `[episodes]` |
/// | `seeds` | u64 | `[episodes]` |
/// | `terminated`, `truncated` | u8, 0 or 1 | `[episodes]` |
///
/// The metadata entry `onestep` holds format name, version, task and sizes as JSON.
#[derive(Debug, Clone, PartialEq)]
pub struct EpisodeFile {
    /// Name of the task.
    pub task: String,
    /// Length `S` of an observation.
    pub observation_dim: usize,
    /// Length `A` of an action.
    pub action_dim: usize,
    /// The episodes.
    pub episodes: Vec<EpisodeData>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: String,
    version: u32,
    task: String,
    observation_dim: usize,
    action_dim: usize,
}

/// What is looked at before the rest, so that a later version is named as such.
#[derive(Deserialize)]
struct Kind {
    format: String,
    version: u32,
}

impl EpisodeFile {
    /// Control steps of all episodes together.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.episodes.iter().map(EpisodeData::len).sum()
    }

    /// Writes the file in one piece (see [`atomic::write`]).
    ///
    /// # Errors
    /// [`DataError::Episode`] when an episode does not fit the sizes, [`DataError::Io`] when the disk refuses.
    pub fn write(&self, path: &Path) -> Result<(), DataError> {
        atomic::write(path, &self.to_bytes(path)?)
    }

    /// Reads a file and checks every size in it.
    ///
    /// # Errors
    /// [`DataError`] naming the file and the field; nothing is returned of a file that is wrong anywhere.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        let bytes = fs::read(path).map_err(DataError::io("read", path))?;
        Self::from_bytes(path, &bytes)
    }

    fn to_bytes(&self, path: &Path) -> Result<Vec<u8>, DataError> {
        for (index, episode) in self.episodes.iter().enumerate() {
            episode.check(index, self.observation_dim, self.action_dim)?;
        }
        let floats = |field: fn(&EpisodeData) -> &[f32]| -> Vec<u8> {
            self.episodes.iter().flat_map(|episode| field(episode).iter().flat_map(|x| x.to_le_bytes())).collect()
        };
        let integers = |field: fn(&EpisodeData) -> u64| -> Vec<u8> {
            self.episodes.iter().flat_map(|episode| field(episode).to_le_bytes()).collect()
        };
        let flags =
            |field: fn(&EpisodeData) -> bool| -> Vec<u8> { self.episodes.iter().map(|e| u8::from(field(e))).collect() };
        let (episodes, steps) = (self.episodes.len(), self.steps());
        let tensors = [
            ("actions", Dtype::F32, vec![steps, self.action_dim], floats(|e| &e.actions)),
            ("lengths", Dtype::U64, vec![episodes], integers(|e| e.len() as u64)),
            ("observations", Dtype::F32, vec![steps + episodes, self.observation_dim], floats(|e| &e.observations)),
            ("rewards", Dtype::F32, vec![steps], floats(|e| &e.rewards)),
            ("seeds", Dtype::U64, vec![episodes], integers(|e| e.seed)),
            (
                "successes",
                Dtype::U8,
                vec![steps],
                self.episodes.iter().flat_map(|e| e.successes.iter().copied().map(u8::from)).collect(),
            ),
            ("terminated", Dtype::U8, vec![episodes], flags(|e| e.terminated)),
            ("truncated", Dtype::U8, vec![episodes], flags(|e| e.truncated)),
        ];
        let refused = |reason: String| DataError::Container { path: path.to_owned(), reason };
        let header = Header {
            format: FORMAT.to_owned(),
            version: VERSION,
            task: self.task.clone(),
            observation_dim: self.observation_dim,
            action_dim: self.action_dim,
        };
        let header = serde_json::to_string(&header).map_err(|error| refused(error.to_string()))?;
        let mut views = Vec::with_capacity(tensors.len());
        for (name, dtype, shape, bytes) in &tensors {
            let view = TensorView::new(*dtype, shape.clone(), bytes).map_err(|error| refused(error.to_string()))?;
            views.push((*name, view));
        }
        safetensors::serialize(views, Some(HashMap::from([(HEADER_KEY.to_owned(), header)])))
            .map_err(|error| refused(error.to_string()))
    }

    fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Self, DataError> {
        let reader = Reader::open(path, bytes)?;
        let header = reader.header()?;
        let Header { observation_dim, action_dim, .. } = header;

        let lengths = reader.lengths()?;
        let episodes = lengths.len();
        // The sizes are the file's own claims: sums that overflow are as wrong as sums that do not fit.
        let sum = |what: &str, extra: usize| {
            lengths.iter().try_fold(0usize, |sum, length| sum.checked_add(length.checked_add(extra)?)).ok_or_else(
                || reader.wrong("lengths", format!("the {what} of {episodes} episodes do not fit into memory")),
            )
        };
        let steps = sum("steps", 0)?;
        let rows = sum("observations", 1)?;

        let mut observations = reader.floats("observations", &[rows, observation_dim])?.into_iter();
        let mut actions = reader.floats("actions", &[steps, action_dim])?.into_iter();
        let mut rewards = reader.floats("rewards", &[steps])?.into_iter();
        let mut successes = reader.flags("successes", steps)?.into_iter();
        let seeds = reader.integers("seeds", Some(episodes))?;
        let terminated = reader.flags("terminated", episodes)?;
        let truncated = reader.flags("truncated", episodes)?;
        let ends = seeds.into_iter().zip(terminated).zip(truncated);
        let episodes = lengths
            .iter()
            .zip(ends)
            .map(|(&length, ((seed, terminated), truncated))| EpisodeData {
                observations: observations.by_ref().take((length + 1) * observation_dim).collect(),
                actions: actions.by_ref().take(length * action_dim).collect(),
                rewards: rewards.by_ref().take(length).collect(),
                successes: successes.by_ref().take(length).collect(),
                terminated,
                truncated,
                seed,
            })
            .collect();
        Ok(Self { task: header.task, observation_dim, action_dim, episodes })
    }
}

/// The container with every access checked.
struct Reader<'a> {
    path: PathBuf,
    tensors: SafeTensors<'a>,
    header: String,
}

impl<'a> Reader<'a> {
    fn open(path: &Path, bytes: &'a [u8]) -> Result<Self, DataError> {
        let container = |reason: String| DataError::Container { path: path.to_owned(), reason };
        let tensors = SafeTensors::deserialize(bytes).map_err(|error| container(error.to_string()))?;
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| container(error.to_string()))?;
        let header = metadata
            .metadata()
            .as_ref()
            .and_then(|entries| entries.get(HEADER_KEY))
            .ok_or_else(|| container(format!("the metadata has no entry `{HEADER_KEY}`")))?
            .clone();
        Ok(Self { path: path.to_owned(), tensors, header })
    }

    fn wrong(&self, field: &str, problem: impl Into<String>) -> DataError {
        DataError::Field { path: self.path.clone(), field: field.to_owned(), problem: problem.into() }
    }

    fn header(&self) -> Result<Header, DataError> {
        let broken = |error: serde_json::Error| self.wrong(HEADER_KEY, format!("broken metadata: {error}"));
        let kind: Kind = serde_json::from_str(&self.header).map_err(broken)?;
        if kind.format != FORMAT {
            return Err(self.wrong("format", format!("is `{}`, not `{FORMAT}`", kind.format)));
        }
        if kind.version != VERSION {
            return Err(DataError::Version { path: self.path.clone(), found: kind.version, expected: VERSION });
        }
        serde_json::from_str(&self.header).map_err(broken)
    }

    /// The bytes of a tensor of this type and shape (`None`: any one-dimensional shape).
    fn bytes(&self, field: &str, dtype: Dtype, shape: Option<&[usize]>) -> Result<&[u8], DataError> {
        let tensor = self.tensors.tensor(field).map_err(|_| self.wrong(field, "is missing"))?;
        if tensor.dtype() != dtype {
            return Err(self.wrong(field, format!("has type {}, not {dtype}", tensor.dtype())));
        }
        match shape {
            Some(shape) if tensor.shape() != shape => {
                Err(self.wrong(field, format!("has shape {:?}; lengths and sizes ask for {shape:?}", tensor.shape())))
            }
            None if tensor.shape().len() != 1 => {
                Err(self.wrong(field, format!("has shape {:?}; one dimension is expected", tensor.shape())))
            }
            _ => self.data(field),
        }
    }

    fn data(&self, field: &str) -> Result<&[u8], DataError> {
        self.tensors.tensor(field).map(|tensor| tensor.data()).map_err(|_| self.wrong(field, "is missing"))
    }

    fn floats(&self, field: &str, shape: &[usize]) -> Result<Vec<f32>, DataError> {
        let (words, _) = self.bytes(field, Dtype::F32, Some(shape))?.as_chunks::<4>();
        let values: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(values),
            Some(at) => Err(self.wrong(field, format!("number {at} is not finite"))),
        }
    }

    fn integers(&self, field: &str, len: Option<usize>) -> Result<Vec<u64>, DataError> {
        let (words, _) = match len {
            Some(len) => self.bytes(field, Dtype::U64, Some(&[len]))?,
            None => self.bytes(field, Dtype::U64, None)?,
        }
        .as_chunks::<8>();
        Ok(words.iter().map(|word| u64::from_le_bytes(*word)).collect())
    }

    fn lengths(&self) -> Result<Vec<usize>, DataError> {
        let lengths = self.integers("lengths", None)?;
        lengths
            .into_iter()
            .map(|length| {
                usize::try_from(length)
                    .map_err(|_| self.wrong("lengths", format!("{length} steps do not fit into memory")))
            })
            .collect()
    }

    fn flags(&self, field: &str, len: usize) -> Result<Vec<bool>, DataError> {
        self.bytes(field, Dtype::U8, Some(&[len]))?
            .iter()
            .map(|byte| match byte {
                0 => Ok(false),
                1 => Ok(true),
                other => Err(self.wrong(field, format!("holds {other} where 0 or 1 is expected"))),
            })
            .collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    fn episode(observation_dim: usize, action_dim: usize) -> impl Strategy<Value = EpisodeData> {
        (0usize..6).prop_flat_map(move |steps| {
            (
                vec(-10f32..10.0, (steps + 1) * observation_dim),
                vec(-1f32..1.0, steps * action_dim),
                vec(-1f32..1.0, steps),
                vec(any::<bool>(), steps),
                any::<(bool, bool, u64)>(),
            )
                .prop_map(|(observations, actions, rewards, successes, (terminated, truncated, seed))| {
                    EpisodeData { observations, actions, rewards, terminated, truncated, successes, seed }
                })
        })
    }

    fn file() -> impl Strategy<Value = EpisodeFile> {
        (1usize..4, 1usize..3).prop_flat_map(|(observation_dim, action_dim)| {
            (vec(episode(observation_dim, action_dim), 0..4), "[a-z]{1,8}")
                .prop_map(move |(episodes, task)| EpisodeFile { task, observation_dim, action_dim, episodes })
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
        };
        EpisodeFile {
            task: "lift".to_owned(),
            observation_dim: 2,
            action_dim: 1,
            episodes: vec![episode(1), episode(u64::MAX)],
        }
    }

    const NAME: &str = "demos.safetensors";

    fn bytes(file: &EpisodeFile) -> Vec<u8> {
        file.to_bytes(Path::new(NAME)).unwrap()
    }

    fn parse(bytes: &[u8]) -> Result<EpisodeFile, DataError> {
        EpisodeFile::from_bytes(Path::new(NAME), bytes)
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
        let error = file.to_bytes(Path::new(NAME)).unwrap_err().to_string();
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
