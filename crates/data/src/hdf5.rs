//! What is needed of an HDF5 library, and the library that gives it.
//!
//! The rest of the crate sees the trait alone, so the library can be replaced. It is pure Rust: no system library is
//! needed to build.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
    ops::Range,
    path::Path,
    sync::{Mutex, PoisonError},
};

use hdf5_pure::{AttrValue, DType, Dataset, File, Group, Layout, VlenStringReadOptions};

use crate::MAX_EXPANSION;

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Attribute {
    Text(String),
    Integer(i128),
    /// Something this crate has no use for.
    Other,
}

/// Reads an HDF5 file. Paths are absolute: `/data/demo_0/obs`. Errors say what is wrong with the object at the path.
pub(crate) trait Hdf5 {
    /// Names of the groups in a group.
    fn groups(&self, path: &str) -> Result<Vec<String>, String>;
    /// Names of the datasets in a group.
    fn datasets(&self, path: &str) -> Result<Vec<String>, String>;
    /// Attributes of a group.
    fn attributes(&self, path: &str) -> Result<BTreeMap<String, Attribute>, String>;
    /// Shape of a dataset.
    fn shape(&self, path: &str) -> Result<Vec<usize>, String>;
    /// The numbers in these rows of a dataset; all rows for `None`.
    fn floats(&self, path: &str, rows: Option<Range<usize>>) -> Result<Vec<f32>, String>;
    /// Like [`Hdf5::floats`], whole and in double precision.
    fn doubles(&self, path: &str) -> Result<Vec<f64>, String>;
    /// The strings in a dataset.
    fn strings(&self, path: &str) -> Result<Vec<String>, String>;
}

/// Opens a file. Data is read when it is asked for.
pub(crate) fn open(path: &Path, len: u64) -> Result<Box<dyn Hdf5>, String> {
    let file = File::open_streaming(path).map_err(text)?;
    Ok(Box::new(Pure::new(file, len)?))
}

/// Like [`open`], from memory.
pub(crate) fn from_bytes(bytes: Vec<u8>) -> Result<Box<dyn Hdf5>, String> {
    let len = bytes.len() as u64;
    let file = File::from_bytes(bytes).map_err(text)?;
    Ok(Box::new(Pure::new(file, len)?))
}

fn text(error: hdf5_pure::Error) -> String {
    match error {
        hdf5_pure::Error::Format(hdf5_pure::FormatError::InvalidLayoutVersion(5)) => {
            "is stored in a layout of HDF5 2.0 that is not read; h5py writes the one before with libver='v114'"
                .to_owned()
        }
        other => other.to_string(),
    }
}

/// What is said when a group's members cannot be listed; in an old file a soft link is enough.
fn unlinked(error: hdf5_pure::Error) -> String {
    format!("its members cannot be listed: {}; soft and external links are not followed", text(error))
}

struct Pure {
    file: File,
    /// Length of the file in bytes.
    len: u64,
    /// The groups in [`DEMOS`], opened: looking one up by its name goes through the names of all others, which for
    /// thousands of them takes minutes.
    demos: HashMap<String, Group>,
    unfolded: Mutex<Unfolded>,
}

/// What the datasets that were read so far unfold to, bytes. Several may lie at the same place of the file.
#[derive(Default)]
struct Unfolded {
    of: HashMap<String, u64>,
    all: u64,
}

/// The group whose groups are many.
const DEMOS: &str = "data";

/// Deflate, shuffle, Fletcher-32 and LZF: what h5py offers. None of them unfolds further than [`MAX_EXPANSION`].
const FILTERS: [u16; 4] = [1, 2, 3, 32000];

impl Pure {
    fn new(file: File, len: u64) -> Result<Self, String> {
        let has_demos = file.root().groups().map_err(unlinked)?.iter().any(|name| name == DEMOS);
        let demos = if has_demos {
            file.group(DEMOS)
                .and_then(|group| Ok(group.iter_groups()?.collect()))
                .map_err(|error| format!("/{DEMOS}: {}", unlinked(error)))?
        } else {
            HashMap::new()
        };
        Ok(Self { file, len, demos, unfolded: Mutex::default() })
    }

    /// The opened group that a path leads through, and the rest of the path; the root when there is none.
    fn nearest<'a>(&self, path: &'a str) -> (Group, &'a str) {
        let inner = path.strip_prefix('/').and_then(|path| path.strip_prefix(DEMOS)?.strip_prefix('/'));
        let (name, rest) = inner.map_or(("", ""), |inner| inner.split_once('/').unwrap_or((inner, ".")));
        match self.demos.get(name) {
            Some(group) => (group.clone(), rest),
            None => (self.file.root(), path),
        }
    }

    fn group(&self, path: &str) -> Result<Group, String> {
        let (group, rest) = self.nearest(path);
        group.group(rest).map_err(text)
    }

    /// A dataset as it is, with sizes that may be lies.
    fn unchecked(&self, path: &str) -> Result<Dataset, String> {
        let (group, rest) = self.nearest(path);
        group.dataset(rest).map_err(text)
    }

    /// A dataset of numbers, checked like [`Pure::dataset`].
    fn numbers(&self, path: &str) -> Result<Dataset, String> {
        let dataset = self.dataset(path)?;
        match dataset.dtype().map_err(text)? {
            DType::F32
            | DType::F64
            | DType::I8
            | DType::I16
            | DType::I32
            | DType::I64
            | DType::U8
            | DType::U16
            | DType::U32
            | DType::U64
            // h5py's flags.
            | DType::Enum(_) => Ok(dataset),
            DType::String | DType::VariableLengthString => Err("holds text, not numbers".to_owned()),
            _ => Err("holds other elements than integers, flags, and floats of 32 or 64 bits".to_owned()),
        }
    }

    /// A dataset whose claims about its size were held against the bytes it has in the file.
    fn dataset(&self, path: &str) -> Result<Dataset, String> {
        let dataset = self.unchecked(path)?;
        let shape = dataset.shape().map_err(text)?;
        let element = dataset.element_size().map_err(text)?;
        let bytes_of = |shape: &[u64]| shape.iter().try_fold(element, |bytes, size| bytes.checked_mul(*size));
        let claimed = bytes_of(&shape).ok_or_else(|| format!("has shape {shape:?}, more than any file holds"))?;
        if claimed == 0 {
            return Ok(dataset);
        }
        let is_inside = |start: u64, size: u64| start.checked_add(size).is_some_and(|end| end <= self.len);
        let most = match dataset.layout().map_err(text)? {
            Layout::Compact { size } => size.min(self.len),
            Layout::Contiguous { address: Some(start), size } if is_inside(start, size) => size,
            Layout::Contiguous { address: None, .. } => return Err("has a shape, but no data".to_owned()),
            Layout::Contiguous { .. } => return Err("reaches beyond the file's end".to_owned()),
            Layout::Chunked { chunk_shape, .. } => {
                if let Some(filter) = dataset.filters().iter().find(|filter| !FILTERS.contains(filter)) {
                    return Err(format!("is packed by filter {filter}; gzip, shuffle, Fletcher-32 and LZF are read"));
                }
                let chunk_bytes = bytes_of(&chunk_shape).unwrap_or(u64::MAX);
                let (mut most, mut stored) = (0u64, 0u64);
                // The library leaves zeros where there is no chunk, and takes places outside the shape at their word.
                let grid = shape.iter().zip(&chunk_shape).map(|(size, step)| size.div_ceil((*step).max(1)));
                let wanted = grid.fold(1u64, u64::saturating_mul);
                let mut places = HashSet::new();
                for chunk in dataset.chunks().map_err(text)? {
                    let is_in_grid = chunk.offset.len() == shape.len()
                        && chunk
                            .offset
                            .iter()
                            .zip(shape.iter().zip(&chunk_shape))
                            .all(|(at, (size, step))| at < size && at.is_multiple_of(*step));
                    if !is_in_grid {
                        return Err(format!("has shape {shape:?}, and a chunk at {:?}", chunk.offset));
                    }
                    let unfolded = chunk.storage_size.saturating_mul(MAX_EXPANSION);
                    if !is_inside(chunk.address, chunk.storage_size) || unfolded < chunk_bytes {
                        return Err(format!(
                            "has a chunk at {:?} that claims {chunk_bytes} bytes from {} stored ones",
                            chunk.offset, chunk.storage_size
                        ));
                    }
                    most = most.saturating_add(chunk_bytes);
                    stored = stored.saturating_add(chunk.storage_size);
                    places.insert(chunk.offset);
                }
                if stored > self.len {
                    return Err(format!(
                        "has chunks of {stored} bytes in a file of {}: they lie in each other's place",
                        self.len
                    ));
                }
                if places.len() as u64 != wanted {
                    return Err(format!("has {} of the {wanted} chunks that its shape {shape:?} takes", places.len()));
                }
                most
            }
            _ => return Err("is stored in other files, or in a way that is not read".to_owned()),
        };
        if claimed > most {
            return Err(format!("has shape {shape:?}, {claimed} bytes, and data for {most}"));
        }
        self.account(path, claimed)?;
        Ok(dataset)
    }

    /// Refuses a dataset with which all that were read together claim more than the file can unfold to.
    fn account(&self, path: &str, claimed: u64) -> Result<(), String> {
        let mut unfolded = self.unfolded.lock().unwrap_or_else(PoisonError::into_inner);
        let before = unfolded.of.insert(path.to_owned(), claimed).unwrap_or_default();
        let all = unfolded.all.saturating_sub(before).saturating_add(claimed);
        unfolded.all = all;
        if all > self.len.saturating_mul(MAX_EXPANSION) {
            return Err(format!("claims {claimed} bytes, and with the others {all}, in a file of {}", self.len));
        }
        Ok(())
    }
}

impl Hdf5 for Pure {
    fn groups(&self, path: &str) -> Result<Vec<String>, String> {
        if path.strip_prefix('/') == Some(DEMOS) && !self.demos.is_empty() {
            return Ok(self.demos.keys().cloned().collect());
        }
        self.group(path)?.groups().map_err(unlinked)
    }

    fn datasets(&self, path: &str) -> Result<Vec<String>, String> {
        self.group(path)?.datasets().map_err(unlinked)
    }

    fn attributes(&self, path: &str) -> Result<BTreeMap<String, Attribute>, String> {
        let attributes = self.group(path)?.attrs().map_err(text)?;
        Ok(attributes
            .into_iter()
            .map(|(name, value)| {
                let value = if let Some(text) = value.as_str() {
                    Attribute::Text(text.to_owned())
                } else if let Some(number) = value.as_u64() {
                    Attribute::Integer(i128::from(number))
                } else if let Some(number) = value.as_i64() {
                    Attribute::Integer(i128::from(number))
                } else {
                    Attribute::Other
                };
                (name, value)
            })
            .collect())
    }

    fn shape(&self, path: &str) -> Result<Vec<usize>, String> {
        let shape = self.unchecked(path)?.shape().map_err(text)?;
        shape
            .iter()
            .map(|size| usize::try_from(*size).map_err(|_| format!("has shape {shape:?}, more than any file holds")))
            .collect()
    }

    fn floats(&self, path: &str, rows: Option<Range<usize>>) -> Result<Vec<f32>, String> {
        let dataset = self.numbers(path)?;
        match rows {
            None => dataset.read_f32().map_err(text),
            Some(rows) => dataset.read_f32_rows(rows.start as u64, rows.len() as u64).map_err(text),
        }
    }

    fn doubles(&self, path: &str) -> Result<Vec<f64>, String> {
        self.numbers(path)?.read_f64().map_err(text)
    }

    fn strings(&self, path: &str) -> Result<Vec<String>, String> {
        let dataset = self.dataset(path)?;
        let is_variable = matches!(dataset.dtype().map_err(text)?, DType::VariableLengthString);
        if is_variable {
            let most = usize::try_from(self.len).unwrap_or(usize::MAX);
            dataset.read_vlen_strings(VlenStringReadOptions::new().with_max_payload_bytes(most)).map_err(text)
        } else {
            dataset.read_string().map_err(text)
        }
    }
}

/// A group under construction, to be written in one piece.
#[derive(Default)]
pub(crate) struct GroupContent {
    pub(crate) attributes: Vec<(String, AttrValue)>,
    pub(crate) groups: Vec<(String, GroupContent)>,
    pub(crate) datasets: Vec<(String, Content)>,
}

/// The numbers or strings of a dataset.
pub(crate) enum Content {
    /// Shape and numbers.
    F32(Vec<u64>, Vec<f32>),
    /// Shape and numbers.
    F64(Vec<u64>, Vec<f64>),
    I64(Vec<i64>),
    U8(Vec<u8>),
    Strings(Vec<String>),
}

pub(crate) fn text_attribute(name: &str, value: &str) -> (String, AttrValue) {
    (name.to_owned(), AttrValue::VarLenString(value.to_owned()))
}

pub(crate) fn integer_attribute(name: &str, value: usize) -> (String, AttrValue) {
    (name.to_owned(), AttrValue::I64(i64::try_from(value).unwrap_or(i64::MAX)))
}

pub(crate) fn seed_attribute(name: &str, value: u64) -> (String, AttrValue) {
    (name.to_owned(), AttrValue::U64(value))
}

/// Writes a file with these groups at its root. `compress`: gzip, in one chunk for each dataset.
pub(crate) fn write(root: GroupContent, compress: bool, out: &mut dyn io::Write) -> io::Result<()> {
    assemble(root, compress, out).map_err(|error| match error {
        hdf5_pure::Error::Io(error) => error,
        other => io::Error::other(other.to_string()),
    })
}

fn assemble(root: GroupContent, compress: bool, out: &mut dyn io::Write) -> Result<(), hdf5_pure::Error> {
    let mut file = hdf5_pure::FileBuilder::new();
    for (name, group) in root.groups {
        let builder = file.create_group(&name);
        file.add_group(build(builder, group, compress)?);
    }
    file.finish_to(out)
}

fn build(
    mut builder: hdf5_pure::GroupBuilder,
    content: GroupContent,
    compress: bool,
) -> Result<hdf5_pure::FinishedGroup, hdf5_pure::Error> {
    for (name, value) in content.attributes {
        builder.set_attr(&name, value);
    }
    for (name, group) in content.groups {
        let inner = builder.create_group(&name);
        builder.add_group(build(inner, group, compress)?);
    }
    for (name, content) in content.datasets {
        let dataset = builder.create_dataset(&name);
        let shape = match &content {
            Content::F32(shape, values) => {
                dataset.with_f32_data(values);
                shape.clone()
            }
            Content::F64(shape, values) => {
                dataset.with_f64_data(values);
                shape.clone()
            }
            Content::I64(values) => {
                dataset.with_i64_data(values);
                vec![values.len() as u64]
            }
            Content::U8(values) => {
                dataset.with_u8_data(values);
                vec![values.len() as u64]
            }
            Content::Strings(values) => {
                let values: Vec<&str> = values.iter().map(String::as_str).collect();
                dataset.with_ascii_strings(&values)?;
                continue;
            }
        };
        dataset.with_shape(&shape);
        if compress && shape.iter().all(|size| *size > 0) {
            dataset.with_chunks(&shape).with_shuffle().with_deflate(4);
        }
    }
    Ok(builder.finish())
}
