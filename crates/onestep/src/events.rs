//! Event files for TensorBoard: scalars over steps.
//!
//! An event file is a row of records, each with its length and two checksums (the TFRecord framing), and each record is
//! one `Event` in protocol-buffer encoding. Only four fields are needed, so they are encoded here by hand.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Writes scalars to a new `events.out.tfevents.*` file in a run folder.
#[derive(Debug)]
pub struct EventWriter {
    file: File,
}

impl EventWriter {
    /// Opens a new event file in `folder`.
    ///
    /// `wall_time_secs` is the time since 1970 in seconds. A run that goes on passes `resumed_at`, the step it goes on
    /// from: TensorBoard then drops what an earlier file says about later steps.
    ///
    /// # Errors
    /// What the system says about creating or writing the file.
    pub fn create(folder: &Path, wall_time_secs: f64, resumed_at: Option<u64>) -> io::Result<Self> {
        let file = new_file(folder, wall_time_secs as u64)?;
        let mut writer = Self { file };
        writer.write(&encode::version(wall_time_secs))?;
        if let Some(step) = resumed_at {
            writer.write(&encode::start(wall_time_secs, step))?;
        }
        Ok(writer)
    }

    /// Adds `(name, value)` pairs at `step`. Values that are not finite are left out, as TensorBoard cannot draw them.
    ///
    /// # Errors
    /// What the system says about writing.
    pub fn add_scalars(&mut self, wall_time_secs: f64, step: u64, scalars: &[(&str, f32)]) -> io::Result<()> {
        let finite: Vec<_> = scalars.iter().copied().filter(|(_, value)| value.is_finite()).collect();
        if finite.is_empty() {
            return Ok(());
        }
        self.write(&encode::scalars(wall_time_secs, step, &finite))
    }

    fn write(&mut self, event: &[u8]) -> io::Result<()> {
        // One call, so that a reader beside us sees whole records.
        self.file.write_all(&frame(event))
    }
}

/// A file that did not exist before: two starts within one second get different numbers at the end.
fn new_file(folder: &Path, seconds: u64) -> io::Result<File> {
    let mut number = 0;
    loop {
        let path: PathBuf = folder.join(format!("events.out.tfevents.{seconds:010}.onestep.{number}"));
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 1000 => number += 1,
            other => return other,
        }
    }
}

/// A record: length, its checksum, the bytes, their checksum.
fn frame(bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(bytes.len() + 16);
    record.extend_from_slice(&length);
    record.extend_from_slice(&masked_crc(&length).to_le_bytes());
    record.extend_from_slice(bytes);
    record.extend_from_slice(&masked_crc(bytes).to_le_bytes());
    record
}

/// The checksum of the TFRecord format: CRC-32C, rotated and shifted, because a checksum of data that holds checksums is weak.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Protocol-buffer encoding of `tensorflow.Event`.
mod encode {
    // (field number << 3) | wire type; 0 is a varint, 1 eight bytes, 2 bytes with a length, 5 four bytes.
    const EVENT_WALL_TIME: u8 = 1 << 3 | 1;
    const EVENT_STEP: u8 = 2 << 3;
    const EVENT_FILE_VERSION: u8 = 3 << 3 | 2;
    const EVENT_SUMMARY: u8 = 5 << 3 | 2;
    const EVENT_SESSION_LOG: u8 = 7 << 3 | 2;
    const SUMMARY_VALUE: u8 = 1 << 3 | 2;
    const VALUE_TAG: u8 = 1 << 3 | 2;
    const VALUE_SIMPLE: u8 = 2 << 3 | 5;
    const SESSION_STATUS: u8 = 1 << 3;
    const SESSION_START: u8 = 1;

    pub(super) fn version(wall_time_secs: f64) -> Vec<u8> {
        let mut event = wall_time(wall_time_secs);
        bytes(&mut event, EVENT_FILE_VERSION, b"brain.Event:2");
        event
    }

    pub(super) fn start(wall_time_secs: f64, step: u64) -> Vec<u8> {
        let mut event = at(wall_time_secs, step);
        bytes(&mut event, EVENT_SESSION_LOG, &[SESSION_STATUS, SESSION_START]);
        event
    }

    pub(super) fn scalars(wall_time_secs: f64, step: u64, scalars: &[(&str, f32)]) -> Vec<u8> {
        let mut summary = Vec::new();
        for (name, number) in scalars {
            let mut value = Vec::new();
            bytes(&mut value, VALUE_TAG, name.as_bytes());
            value.push(VALUE_SIMPLE);
            value.extend_from_slice(&number.to_le_bytes());
            bytes(&mut summary, SUMMARY_VALUE, &value);
        }
        let mut event = at(wall_time_secs, step);
        bytes(&mut event, EVENT_SUMMARY, &summary);
        event
    }

    fn wall_time(wall_time_secs: f64) -> Vec<u8> {
        let mut event = vec![EVENT_WALL_TIME];
        event.extend_from_slice(&wall_time_secs.to_le_bytes());
        event
    }

    fn at(wall_time_secs: f64, step: u64) -> Vec<u8> {
        let mut event = wall_time(wall_time_secs);
        event.push(EVENT_STEP);
        varint(&mut event, step);
        event
    }

    fn bytes(out: &mut Vec<u8>, key: u8, content: &[u8]) {
        out.push(key);
        varint(out, content.len() as u64);
        out.extend_from_slice(content);
    }

    /// Seven bits a byte, lowest first; the highest bit says that more follow.
    fn varint(out: &mut Vec<u8>, mut value: u64) {
        while value >= 0x80 {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    /// A field of a message: number and content.
    #[derive(Debug, PartialEq)]
    enum Content {
        Varint(u64),
        Eight([u8; 8]),
        Bytes(Vec<u8>),
        Four([u8; 4]),
    }

    fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
        let (head, tail) = bytes.split_at(count);
        *bytes = tail;
        head
    }

    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = take(bytes, 1)[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }

    fn message(mut bytes: &[u8]) -> Vec<(u64, Content)> {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let content = match key & 7 {
                0 => Content::Varint(varint(&mut bytes)),
                1 => Content::Eight(take(&mut bytes, 8).try_into().unwrap()),
                2 => {
                    let length = varint(&mut bytes) as usize;
                    Content::Bytes(take(&mut bytes, length).to_vec())
                }
                5 => Content::Four(take(&mut bytes, 4).try_into().unwrap()),
                other => panic!("wire type {other}"),
            };
            fields.push((key >> 3, content));
        }
        fields
    }

    fn records(mut bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut records = Vec::new();
        while !bytes.is_empty() {
            let length = take(&mut bytes, 8);
            assert_eq!(take(&mut bytes, 4), masked_crc(length).to_le_bytes());
            let content = take(&mut bytes, u64::from_le_bytes(length.try_into().unwrap()) as usize);
            assert_eq!(take(&mut bytes, 4), masked_crc(content).to_le_bytes());
            records.push(content.to_vec());
        }
        records
    }

    #[test]
    fn checksums_are_those_of_the_format() {
        // CRC-32C of 32 zero bytes is 8a9136aa (RFC 3720, appendix B.4).
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(masked_crc(&[0; 32]), 0x8a91_36aa_u32.rotate_right(15).wrapping_add(0xa282_ead8));
        // The length of a 24-byte record, as every TensorBoard file starts with it ("brain.Event:2").
        assert_eq!(masked_crc(&24_u64.to_le_bytes()), u32::from_le_bytes([0xa3, 0x7f, 0x4b, 0x22]));
    }

    #[test]
    fn what_is_written_decodes_to_the_same_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::create(folder.path(), 1.5e9, Some(300)).unwrap();
        writer
            .add_scalars(1.5e9 + 1.0, 300, &[("critic/loss", 0.25), ("rate", f32::NAN), ("eval/success", 1.0)])
            .unwrap();
        writer.add_scalars(1.5e9 + 2.0, u64::MAX, &[]).unwrap();
        let path = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        assert!(path.to_str().unwrap().contains("events.out.tfevents.1500000000"));

        let records = records(&std::fs::read(path).unwrap());
        let time = |seconds: f64| (1, Content::Eight(seconds.to_le_bytes()));
        assert_eq!(records.len(), 3);
        assert_eq!(message(&records[0]), [time(1.5e9), (3, Content::Bytes(b"brain.Event:2".to_vec()))]);
        assert_eq!(message(&records[1]), [time(1.5e9), (2, Content::Varint(300)), (7, Content::Bytes(vec![8, 1]))]);
        let event = message(&records[2]);
        assert_eq!(event[..2], [time(1.5e9 + 1.0), (2, Content::Varint(300))]);
        let (5, Content::Bytes(summary)) = &event[2] else { panic!("{event:?}") };
        let values: Vec<_> = message(summary)
            .into_iter()
            .map(|(number, value)| match (number, value) {
                (1, Content::Bytes(value)) => message(&value),
                other => panic!("{other:?}"),
            })
            .collect();
        let value = |name: &str, number: f32| {
            vec![(1, Content::Bytes(name.as_bytes().to_vec())), (2, Content::Four(number.to_le_bytes()))]
        };
        assert_eq!(values, [value("critic/loss", 0.25), value("eval/success", 1.0)]);
    }

    #[test]
    fn two_starts_in_one_second_do_not_share_a_file() {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..3 {
            EventWriter::create(folder.path(), 7.0, None).unwrap();
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
    }
}
