//! NumPy's array format, as far as datasets use it: plain numbers and flags in C order.

use std::io::{self, Write};

use crate::{
    DataError,
    zip::{Archive, ArchiveWriter, EntryReader},
};

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// NumPy itself writes headers of 118 bytes; a header beyond this is no array of numbers.
const MAX_HEADER_BYTES: usize = 1 << 16;
/// Arrays of data have one or two dimensions, pictures four.
const MAX_DIMENSIONS: usize = 8;
/// Bytes that are read or written at once.
const PIECE: usize = 1 << 16;

/// How the elements of an array are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    I8,
    U8,
    I16,
    U16,
    I32,
    U32,
    I64,
    U64,
    F32,
    F64,
}

impl Kind {
    const ALL: [(&str, Self, usize); 11] = [
        ("b1", Self::Bool, 1),
        ("i1", Self::I8, 1),
        ("u1", Self::U8, 1),
        ("i2", Self::I16, 2),
        ("u2", Self::U16, 2),
        ("i4", Self::I32, 4),
        ("u4", Self::U32, 4),
        ("i8", Self::I64, 8),
        ("u8", Self::U64, 8),
        ("f4", Self::F32, 4),
        ("f8", Self::F64, 8),
    ];

    /// From NumPy's name: `<f4`, `|b1`.
    fn parse(name: &str) -> Option<(Self, usize)> {
        let (order, code) = name.split_at_checked(1)?;
        let (_, kind, width) = Self::ALL.into_iter().find(|(known, ..)| *known == code)?;
        let is_ours = order == "<" || (width == 1 && order == "|");
        is_ours.then_some((kind, width))
    }
}

/// Shape and kind of an array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ArrayInfo {
    pub(crate) shape: Vec<usize>,
    pub(crate) kind: Kind,
    width: usize,
}

/// An array that is read front to back.
pub(crate) struct ArrayReader<'a> {
    entry: EntryReader<'a>,
    pub(crate) info: ArrayInfo,
}

/// Opens the array `name` of an archive; `None` when there is none.
///
/// # Errors
/// [`DataError::Foreign`] naming the array, also when its shape does not fit the bytes it has.
pub(crate) fn open<'a>(archive: &'a mut Archive, name: &str) -> Result<Option<ArrayReader<'a>>, DataError> {
    let Some(mut entry) = archive.entry(&format!("{name}.npy"))? else { return Ok(None) };
    let info = read_header(&mut entry)?;
    let claimed = info.shape.iter().try_fold(info.width as u64, |bytes, size| bytes.checked_mul(*size as u64));
    if claimed != Some(entry.left()) {
        return Err(entry.wrong(format!(
            "has shape {:?} with {} bytes each, and {} bytes of data",
            info.shape,
            info.width,
            entry.left()
        )));
    }
    Ok(Some(ArrayReader { entry, info }))
}

impl ArrayReader<'_> {
    pub(crate) fn wrong(&self, problem: impl Into<String>) -> DataError {
        self.entry.wrong(problem)
    }

    /// Reads `count` elements and adds them to `out`, converted.
    ///
    /// # Errors
    /// [`DataError::Foreign`] when the data is broken or does not go so far.
    pub(crate) fn read<T: FromElement>(&mut self, count: usize, out: &mut Vec<T>) -> Result<(), DataError> {
        let width = self.info.width;
        let bytes = (count as u64).checked_mul(width as u64).filter(|bytes| *bytes <= self.entry.left());
        let Some(mut left) = bytes.and_then(|bytes| usize::try_from(bytes).ok()) else {
            return Err(self.wrong(format!("has no {count} more elements")));
        };
        let mut buffer = vec![0; PIECE.min(left)];
        while left > 0 {
            let size = left.min(buffer.len());
            let piece = buffer.split_at_mut(size).0;
            self.entry.fill(piece)?;
            if out.capacity() - out.len() < size / width {
                // What a packed entry claims is believed as far as it has come true: room grows with what was read, and
                // in the end it is no more than is needed.
                let room = (left / width).min(out.len().max(PIECE));
                out.try_reserve_exact(room)
                    .map_err(|error| self.wrong(format!("{} elements are too many: {error}", out.len() + room)))?;
            }
            T::extend(out, self.info.kind, piece);
            left -= size;
        }
        Ok(())
    }
}

/// What elements of an array can be read as.
pub(crate) trait FromElement: Sized {
    /// Adds the elements in `bytes`, which are whole ones of this kind.
    fn extend(out: &mut Vec<Self>, kind: Kind, bytes: &[u8]);
}

/// The words that `bytes` are made of.
fn words<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    bytes.as_chunks::<N>().0.iter().copied()
}

/// `as` is the one conversion that every pair of number types has.
macro_rules! from_element {
    ($($target:ty),*) => {$(
        impl FromElement for $target {
            fn extend(out: &mut Vec<Self>, kind: Kind, bytes: &[u8]) {
                match kind {
                    Kind::Bool | Kind::U8 => out.extend(bytes.iter().map(|byte| *byte as Self)),
                    Kind::I8 => out.extend(words(bytes).map(|word| i8::from_le_bytes(word) as Self)),
                    Kind::I16 => out.extend(words(bytes).map(|word| i16::from_le_bytes(word) as Self)),
                    Kind::U16 => out.extend(words(bytes).map(|word| u16::from_le_bytes(word) as Self)),
                    Kind::I32 => out.extend(words(bytes).map(|word| i32::from_le_bytes(word) as Self)),
                    Kind::U32 => out.extend(words(bytes).map(|word| u32::from_le_bytes(word) as Self)),
                    Kind::I64 => out.extend(words(bytes).map(|word| i64::from_le_bytes(word) as Self)),
                    Kind::U64 => out.extend(words(bytes).map(|word| u64::from_le_bytes(word) as Self)),
                    Kind::F32 => out.extend(words(bytes).map(|word| f32::from_le_bytes(word) as Self)),
                    Kind::F64 => out.extend(words(bytes).map(|word| f64::from_le_bytes(word) as Self)),
                }
            }
        }
    )*};
}

from_element!(f32, f64, i64, u64, u8);

/// Everything but zero is true.
impl FromElement for bool {
    fn extend(out: &mut Vec<Self>, kind: Kind, bytes: &[u8]) {
        let mut numbers: Vec<f64> = Vec::new();
        f64::extend(&mut numbers, kind, bytes);
        out.extend(numbers.into_iter().map(|number| number != 0.0));
    }
}

fn read_header(entry: &mut EntryReader<'_>) -> Result<ArrayInfo, DataError> {
    let mut start = [0; 8];
    entry.fill(&mut start)?;
    let Some((magic, [major, _])) = start.split_first_chunk::<6>() else {
        return Err(entry.wrong("is no NumPy array"));
    };
    if magic != MAGIC {
        return Err(entry.wrong("is no NumPy array"));
    }
    let len = match major {
        1 => {
            let mut len = [0; 2];
            entry.fill(&mut len)?;
            usize::from(u16::from_le_bytes(len))
        }
        2 | 3 => {
            let mut len = [0; 4];
            entry.fill(&mut len)?;
            u32::from_le_bytes(len) as usize
        }
        other => return Err(entry.wrong(format!("has version {other} of the array format; 1 to 3 are known"))),
    };
    if len > MAX_HEADER_BYTES {
        return Err(entry.wrong(format!("has a header of {len} bytes")));
    }
    let mut text = vec![0; len];
    entry.fill(&mut text)?;
    parse_header(&text).map_err(|problem| entry.wrong(problem))
}

/// From the literal that stands before the data: `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }`.
fn parse_header(text: &[u8]) -> Result<ArrayInfo, String> {
    let text = std::str::from_utf8(text).map_err(|_| "has a header that is no text".to_owned())?;
    let broken =
        || format!("has a header that cannot be understood: {}", text.trim_end().chars().take(200).collect::<String>());
    // Keys and values are simple enough that the text behind `'key':` tells each of them.
    let value = |key: &str| {
        let (_, behind) = text.split_once(&format!("'{key}'"))?;
        behind.trim_start().strip_prefix(':').map(str::trim_start)
    };
    let descr = value("descr").ok_or_else(broken)?;
    let Some((name, _)) = descr.strip_prefix('\'').and_then(|rest| rest.split_once('\'')) else {
        return Err("holds records, not plain numbers".to_owned());
    };
    let (kind, width) = Kind::parse(name)
        .ok_or_else(|| format!("has elements of type `{name}`; little-endian numbers and flags are read"))?;
    let order = value("fortran_order").ok_or_else(broken)?;
    let is_fortran = if order.starts_with("True") {
        true
    } else if order.starts_with("False") {
        false
    } else {
        return Err(broken());
    };
    let inner = value("shape").and_then(|shape| shape.strip_prefix('(')?.split_once(')')).ok_or_else(broken)?.0;
    let shape: Vec<usize> = inner
        .split(',')
        .map(str::trim)
        .filter(|size| !size.is_empty())
        .map(|size| size.trim_end_matches('L').parse().map_err(|_| broken()))
        .collect::<Result<_, _>>()?;
    if shape.len() > MAX_DIMENSIONS {
        return Err(format!("has {} dimensions", shape.len()));
    }
    if is_fortran && shape.iter().filter(|size| **size > 1).count() > 1 {
        return Err("lies column by column (Fortran order); save it by `np.ascontiguousarray`".to_owned());
    }
    Ok(ArrayInfo { shape, kind, width })
}

/// Adds an array to an archive: its header, then what `fill` writes.
pub(crate) fn write(
    archive: &mut ArchiveWriter<'_>,
    name: &str,
    descr: &str,
    shape: &[usize],
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let sizes: Vec<String> = shape.iter().map(usize::to_string).collect();
    let sizes = if let [only] = sizes.as_slice() { format!("{only},") } else { sizes.join(", ") };
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({sizes}), }}").into_bytes();
    // Data starts at a multiple of 64, and the header ends in a line feed.
    let unpadded = MAGIC.len() + 4 + header.len() + 1;
    header.resize(header.len() + unpadded.next_multiple_of(64) - unpadded, b' ');
    header.push(b'\n');
    let len = u16::try_from(header.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    archive.add(&format!("{name}.npy"), |out| {
        out.write_all(MAGIC)?;
        out.write_all(&[1, 0])?;
        out.write_all(&len.to_le_bytes())?;
        out.write_all(&header)?;
        fill(out)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ArrayInfo, String> {
        parse_header(text.as_bytes())
    }

    #[test]
    fn headers_of_numpy_are_understood() {
        let info = |shape: &[usize], kind, width| Ok(ArrayInfo { shape: shape.to_vec(), kind, width });
        assert_eq!(
            parse("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }   \n"),
            info(&[3, 2], Kind::F32, 4)
        );
        assert_eq!(parse("{'descr': '|b1', 'fortran_order': False, 'shape': (7,), }"), info(&[7], Kind::Bool, 1));
        assert_eq!(parse("{'shape': (), 'descr': '<i8', 'fortran_order': True}"), info(&[], Kind::I64, 8));
        assert_eq!(parse("{'descr': '<f8', 'fortran_order': True, 'shape': (1, 5)}"), info(&[1, 5], Kind::F64, 8));
    }

    #[test]
    fn other_arrays_are_refused_with_a_reason() {
        for (text, part) in [
            ("", "cannot be understood"),
            ("{'descr': '<f4'}", "cannot be understood"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (3, -2)}", "cannot be understood"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}", "cannot be understood"),
            ("{'descr': '<f4', 'fortran_order': 0, 'shape': (3,)}", "cannot be understood"),
            ("{'descr': '<f4', 'fortran_order': True, 'shape': (3, 2)}", "Fortran"),
            ("{'descr': '>f4', 'fortran_order': False, 'shape': (3,)}", "`>f4`"),
            ("{'descr': '|O', 'fortran_order': False, 'shape': (3,)}", "`|O`"),
            ("{'descr': '<U5', 'fortran_order': False, 'shape': (3,)}", "`<U5`"),
            ("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (3,)}", "records"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1)}", "9 dimensions"),
        ] {
            let error = parse(text).err().unwrap_or_default();
            assert!(error.contains(part), "`{part}` is not in: {error}");
        }
    }
}
