//! The part of ZIP that npz files use: stored and deflated entries, with or without 64-bit sizes.
//!
//! Everything an archive says about places and sizes is held against the file's real size before it is used.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, BufReader, Cursor, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use flate2::{Compression, Crc, read::DeflateDecoder, write::DeflateEncoder};

use crate::{DataError, Format, MAX_EXPANSION};

const LOCAL: u32 = 0x0403_4b50;
const DESCRIPTOR: u32 = 0x0807_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const END64_LOCATOR: u32 = 0x0706_4b50;
const END64: u32 = 0x0606_4b50;
const END_BYTES: u64 = 22;
const CENTRAL_BYTES: usize = 46;
/// Tag of the extra field that holds 64-bit sizes.
const EXTRA64: u16 = 1;
/// Sizes follow behind the data.
const FLAG_DESCRIPTOR: u16 = 1 << 3;
const FLAG_ENCRYPTED: u16 = 1;
/// A central directory beyond this is no npz file: it would have half a million arrays.
const MAX_DIRECTORY_BYTES: u64 = 32 << 20;

/// What an archive is read from.
pub(crate) trait Input: Read + Seek {}
impl<T: Read + Seek> Input for T {}

/// One file in an archive.
#[derive(Debug, Clone)]
struct Entry {
    name: String,
    is_deflated: bool,
    crc: u32,
    stored: u64,
    size: u64,
    /// Where its local header is.
    header: u64,
}

/// A ZIP archive that is read.
pub(crate) struct Archive {
    path: PathBuf,
    input: Box<dyn Input>,
    len: u64,
    entries: Vec<Entry>,
}

impl Archive {
    pub(crate) fn open(path: &Path) -> Result<Self, DataError> {
        let failed = || DataError::io("read", path);
        let file = File::open(path).map_err(failed())?;
        let len = file.metadata().map_err(failed())?.len();
        Self::read(path, Box::new(BufReader::with_capacity(1 << 16, file)), len)
    }

    pub(crate) fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Self, DataError> {
        let len = bytes.len() as u64;
        Self::read(path, Box::new(Cursor::new(bytes)), len)
    }

    fn read(path: &Path, input: Box<dyn Input>, len: u64) -> Result<Self, DataError> {
        let mut archive = Self { path: path.to_owned(), input, len, entries: Vec::new() };
        let directory = archive.directory()?;
        let mut rest = directory.as_slice();
        let mut names = HashSet::new();
        let mut stored = 0u64;
        while !rest.is_empty() {
            let entry = archive.entry_of(&mut rest)?;
            if !names.insert(entry.name.clone()) {
                return Err(archive.wrong(&entry.name, "is there twice"));
            }
            stored = stored.saturating_add(entry.stored);
            archive.entries.push(entry);
        }
        if stored > len {
            let problem = format!("its entries take {stored} bytes, in a file of {len}: they share some");
            return Err(archive.wrong("directory of the archive", problem));
        }
        Ok(archive)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// An error that names the file and a place in it.
    pub(crate) fn wrong(&self, place: &str, problem: impl Into<String>) -> DataError {
        DataError::Foreign {
            path: self.path.clone(),
            format: Format::Ogbench,
            place: place.to_owned(),
            problem: problem.into(),
        }
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.name.as_str())
    }

    /// Bytes at a place of the file, which must have them.
    fn bytes(&mut self, place: &str, start: u64, len: u64) -> Result<Vec<u8>, DataError> {
        if start.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(self.wrong(place, format!("lies at byte {start}, beyond the file's end at {}", self.len)));
        }
        let failed = || DataError::io("read", &self.path);
        self.input.seek(SeekFrom::Start(start)).map_err(failed())?;
        let mut bytes = Vec::new();
        self.input.by_ref().take(len).read_to_end(&mut bytes).map_err(failed())?;
        if bytes.len() as u64 == len { Ok(bytes) } else { Err(self.wrong(place, "is cut off")) }
    }

    /// The central directory: the list of entries at the archive's end.
    fn directory(&mut self) -> Result<Vec<u8>, DataError> {
        const PLACE: &str = "end of the archive";
        let not_zip = "is missing; the file is cut off, or no npz file";
        // A comment of up to 65535 bytes may follow the end record.
        let tail_len = self.len.min(END_BYTES + 0xffff);
        let tail_start = self.len - tail_len;
        let tail = self.bytes(PLACE, tail_start, tail_len)?;
        let at = (0..=tail.len().saturating_sub(END_BYTES as usize))
            .rev()
            .find(|at| Fields::new(tail.get(*at..).unwrap_or_default()).u32() == Some(END))
            .ok_or_else(|| self.wrong(PLACE, not_zip))?;
        let end_at = tail_start + at as u64;
        let mut fields = Fields::new(tail.get(at..).unwrap_or_default());
        let (size, start) = (|| {
            fields.skip(12)?;
            Some((u64::from(fields.u32()?), u64::from(fields.u32()?)))
        })()
        .ok_or_else(|| self.wrong(PLACE, not_zip))?;

        let (mut size, mut start) = (size, start);
        if let Some(locator_at) = end_at.checked_sub(20) {
            let locator = self.bytes(PLACE, locator_at, 20)?;
            let mut fields = Fields::new(&locator);
            if fields.u32() == Some(END64_LOCATOR) {
                let end64_at = (|| {
                    fields.skip(4)?;
                    fields.u64()
                })()
                .ok_or_else(|| self.wrong(PLACE, not_zip))?;
                let end64 = self.bytes(PLACE, end64_at, 56)?;
                let mut fields = Fields::new(&end64);
                (size, start) = (|| {
                    (fields.u32()? == END64).then_some(())?;
                    fields.skip(36)?;
                    Some((fields.u64()?, fields.u64()?))
                })()
                .ok_or_else(|| self.wrong(PLACE, "its 64-bit record is broken"))?;
            }
        }
        if size > MAX_DIRECTORY_BYTES {
            return Err(self.wrong(PLACE, format!("tells of a directory of {size} bytes")));
        }
        self.bytes("directory of the archive", start, size)
    }

    /// Takes one entry from the directory.
    fn entry_of(&self, rest: &mut &[u8]) -> Result<Entry, DataError> {
        const PLACE: &str = "directory of the archive";
        let parsed = (|| {
            let (fixed, variable) = rest.split_at_checked(CENTRAL_BYTES)?;
            let mut fields = Fields::new(fixed);
            (fields.u32()? == CENTRAL).then_some(())?;
            fields.skip(4)?;
            let (flags, method) = (fields.u16()?, fields.u16()?);
            fields.skip(4)?;
            let crc = fields.u32()?;
            let (stored, size) = (fields.u32()?, fields.u32()?);
            let (name_len, extra_len, comment_len) = (fields.u16()?, fields.u16()?, fields.u16()?);
            fields.skip(8)?;
            let header = fields.u32()?;
            let (name, variable) = variable.split_at_checked(usize::from(name_len))?;
            let (extra, variable) = variable.split_at_checked(usize::from(extra_len))?;
            let (_, variable) = variable.split_at_checked(usize::from(comment_len))?;
            *rest = variable;

            // Whatever does not fit into 32 bits stands in the extra field, in this order.
            let mut wide = Fields::new(extra64(extra));
            let mut full = |value: u32| if value == u32::MAX { wide.u64() } else { Some(u64::from(value)) };
            let (size, stored, header) = (full(size)?, full(stored)?, full(header)?);
            Some((String::from_utf8_lossy(name).into_owned(), flags, method, crc, stored, size, header))
        })();
        let (name, flags, method, crc, stored, size, header) = parsed.ok_or_else(|| self.wrong(PLACE, "is broken"))?;
        if flags & FLAG_ENCRYPTED != 0 {
            return Err(self.wrong(&name, "is encrypted"));
        }
        let is_deflated = match method {
            0 => false,
            8 => true,
            other => return Err(self.wrong(&name, format!("is compressed by method {other}; 0 and 8 are known"))),
        };
        let most = if is_deflated { stored.saturating_mul(MAX_EXPANSION) } else { stored };
        if stored > self.len || size > most || (!is_deflated && size != stored) {
            return Err(
                self.wrong(&name, format!("claims {size} bytes from {stored} stored ones, in a file of {}", self.len))
            );
        }
        Ok(Entry { name, is_deflated, crc, stored, size, header })
    }

    /// Opens an entry; `None` when there is none of this name.
    pub(crate) fn entry(&mut self, name: &str) -> Result<Option<EntryReader<'_>>, DataError> {
        let Some(entry) = self.entries.iter().find(|entry| entry.name == name).cloned() else { return Ok(None) };
        let local = self.bytes(name, entry.header, 30)?;
        let mut fields = Fields::new(&local);
        let behind = (|| {
            (fields.u32()? == LOCAL).then_some(())?;
            fields.skip(22)?;
            Some(u64::from(fields.u16()?) + u64::from(fields.u16()?))
        })()
        .ok_or_else(|| self.wrong(name, "has no header where the directory says"))?;
        let start = entry.header + 30 + behind;
        if start.checked_add(entry.stored).is_none_or(|end| end > self.len) {
            return Err(self.wrong(name, "reaches beyond the file's end"));
        }
        self.input.seek(SeekFrom::Start(start)).map_err(DataError::io("read", &self.path))?;
        let stored: Box<dyn Read + '_> = Box::new(self.input.as_mut().take(entry.stored));
        let data: Box<dyn Read + '_> = if entry.is_deflated { Box::new(DeflateDecoder::new(stored)) } else { stored };
        Ok(Some(EntryReader { path: &self.path, entry, data, at: 0, crc: Crc::new() }))
    }
}

/// The part of an extra field that holds 64-bit sizes; empty when there is none.
fn extra64(mut extra: &[u8]) -> &[u8] {
    loop {
        let mut fields = Fields::new(extra);
        let (Some(tag), Some(len)) = (fields.u16(), fields.u16()) else { return &[] };
        let Some((data, rest)) = fields.rest.split_at_checked(usize::from(len)) else { return &[] };
        if tag == EXTRA64 {
            return data;
        }
        extra = rest;
    }
}

/// Reads one entry from its beginning to its end.
pub(crate) struct EntryReader<'a> {
    path: &'a Path,
    entry: Entry,
    data: Box<dyn Read + 'a>,
    at: u64,
    crc: Crc,
}

impl EntryReader<'_> {
    pub(crate) fn wrong(&self, problem: impl Into<String>) -> DataError {
        DataError::Foreign {
            path: self.path.to_owned(),
            format: Format::Ogbench,
            place: self.entry.name.clone(),
            problem: problem.into(),
        }
    }

    /// Bytes that are still to come.
    pub(crate) fn left(&self) -> u64 {
        self.entry.size - self.at
    }

    /// Fills `buffer`. With the last byte of the entry its checksum is compared.
    pub(crate) fn fill(&mut self, buffer: &mut [u8]) -> Result<(), DataError> {
        if buffer.len() as u64 > self.left() {
            return Err(self.wrong(format!("ends after {} bytes", self.entry.size)));
        }
        self.data.read_exact(buffer).map_err(|error| {
            let what = match error.kind() {
                io::ErrorKind::UnexpectedEof => "unfolds to less than the archive says".to_owned(),
                _ => error.to_string(),
            };
            self.wrong(format!("{what}, near its byte {}", self.at))
        })?;
        self.crc.update(buffer);
        self.at += buffer.len() as u64;
        if self.left() == 0 && self.crc.sum() != self.entry.crc {
            return Err(self.wrong("its checksum does not match; the file is damaged"));
        }
        Ok(())
    }
}

/// Little-endian numbers, one after the other.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*first)
    }

    fn skip(&mut self, len: usize) -> Option<()> {
        self.rest = self.rest.get(len..)?;
        Some(())
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}

/// Writes an archive front to back. Every size is written with 64 bits, so that arrays beyond 4 GiB need no care.
pub(crate) struct ArchiveWriter<'a> {
    out: Counted<'a>,
    is_deflated: bool,
    entries: Vec<Entry>,
}

/// What a writer passes on, counted.
struct Counted<'a> {
    out: &'a mut dyn Write,
    count: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.count += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Counts and sums what goes into an entry before it is compressed.
struct Summed<'a> {
    out: &'a mut dyn Write,
    crc: Crc,
    size: u64,
}

impl Write for Summed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.crc.update(bytes.get(..written).unwrap_or_default());
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl<'a> ArchiveWriter<'a> {
    pub(crate) fn new(out: &'a mut dyn Write, is_deflated: bool) -> Self {
        Self { out: Counted { out, count: 0 }, is_deflated, entries: Vec::new() }
    }

    /// Adds an entry with what `fill` writes.
    pub(crate) fn add(&mut self, name: &str, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        let header = self.out.count;
        let name_len = u16::try_from(name.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let mut local = Vec::new();
        local.extend(LOCAL.to_le_bytes());
        local.extend(45u16.to_le_bytes());
        local.extend(FLAG_DESCRIPTOR.to_le_bytes());
        local.extend(self.method().to_le_bytes());
        local.extend(DATE);
        local.extend([0; 4]); // the checksum follows behind the data
        local.extend([0xff; 8]); // as the sizes do, with 64 bits
        local.extend(name_len.to_le_bytes());
        local.extend(20u16.to_le_bytes());
        local.extend(name.as_bytes());
        local.extend(EXTRA64.to_le_bytes());
        local.extend(16u16.to_le_bytes());
        local.extend([0; 16]);
        self.out.write_all(&local)?;

        let start = self.out.count;
        let (crc, size) = if self.is_deflated {
            let mut encoder = DeflateEncoder::new(&mut self.out, Compression::default());
            let mut summed = Summed { out: &mut encoder, crc: Crc::new(), size: 0 };
            fill(&mut summed)?;
            let sums = (summed.crc.sum(), summed.size);
            encoder.finish()?;
            sums
        } else {
            let mut summed = Summed { out: &mut self.out, crc: Crc::new(), size: 0 };
            fill(&mut summed)?;
            (summed.crc.sum(), summed.size)
        };
        let stored = self.out.count - start;

        let mut descriptor = Vec::new();
        descriptor.extend(DESCRIPTOR.to_le_bytes());
        descriptor.extend(crc.to_le_bytes());
        descriptor.extend(stored.to_le_bytes());
        descriptor.extend(size.to_le_bytes());
        self.out.write_all(&descriptor)?;
        self.entries.push(Entry { name: name.to_owned(), is_deflated: self.is_deflated, crc, stored, size, header });
        Ok(())
    }

    /// Writes the directory.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        let start = self.out.count;
        let mut directory = Vec::new();
        for entry in &self.entries {
            directory.extend(CENTRAL.to_le_bytes());
            directory.extend(45u16.to_le_bytes());
            directory.extend(45u16.to_le_bytes());
            directory.extend(FLAG_DESCRIPTOR.to_le_bytes());
            directory.extend(self.method().to_le_bytes());
            directory.extend(DATE);
            directory.extend(entry.crc.to_le_bytes());
            directory.extend([0xff; 8]);
            directory.extend((entry.name.len() as u16).to_le_bytes());
            directory.extend(28u16.to_le_bytes());
            directory.extend([0; 10]); // no comment, first disk, no attributes
            directory.extend([0xff; 4]);
            directory.extend(entry.name.as_bytes());
            directory.extend(EXTRA64.to_le_bytes());
            directory.extend(24u16.to_le_bytes());
            directory.extend(entry.size.to_le_bytes());
            directory.extend(entry.stored.to_le_bytes());
            directory.extend(entry.header.to_le_bytes());
        }
        let (count, size) = (self.entries.len() as u64, directory.len() as u64);
        let end64 = start + size;
        directory.extend(END64.to_le_bytes());
        directory.extend(44u64.to_le_bytes());
        directory.extend(45u16.to_le_bytes());
        directory.extend(45u16.to_le_bytes());
        directory.extend([0; 8]); // first disk
        for number in [count, count, size, start] {
            directory.extend(number.to_le_bytes());
        }
        directory.extend(END64_LOCATOR.to_le_bytes());
        directory.extend([0; 4]);
        directory.extend(end64.to_le_bytes());
        directory.extend(1u32.to_le_bytes());
        directory.extend(END.to_le_bytes());
        directory.extend([0; 4]);
        directory.extend([0xff; 12]); // counts, size and place stand in the 64-bit record
        directory.extend([0; 2]);
        self.out.write_all(&directory)
    }

    fn method(&self) -> u16 {
        if self.is_deflated { 8 } else { 0 }
    }
}

/// The first of January 1980, midnight: the same content gives the same file.
const DATE: [u8; 4] = [0, 0, 0x21, 0];
