//! H.264 in MP4, written so that an interrupted file is still a film.
//!
//! While a recording runs its file is a fragmented MP4: whatever ends the program, all fragments that were written play.
//! When it is whole, an ordinary index is added at the end, and the fragments' own indices disappear into the media
//! data, so the finished file is an ordinary MP4 that every player and browser knows.

use std::{
    io,
    num::{NonZeroU16, NonZeroU32},
    path::{Path, PathBuf},
};

use rusty_h264_common::YuvFrame;
use rusty_h264_encoder::{Encoder, EncoderConfig, Preset};
use shiguredo_mp4::{
    BoxSize, BoxType, Either, Encode, FixedPointNumber, LanguageCode, Mp4FileTime, SampleFlags, Uint, Utf8String,
    boxes::{
        Avc1Box, AvccBox, Brand, Co64Box, DinfBox, FtypBox, HdlrBox, MdhdBox, MdiaBox, MediaHeader, MfhdBox, MinfBox,
        MoofBox, MoovBox, MvexBox, MvhdBox, SampleEntry, StblBox, StscBox, StscEntry, StsdBox, StssBox, StszBox,
        SttsBox, SttsEntry, TfdtBox, TfhdBox, TkhdBox, TrafBox, TrakBox, TrexBox, TrunBox, TrunSample, UnknownBox,
        VisualSampleEntryFields, VmhdBox,
    },
};

use crate::{
    partial::{IfTaken, Kept, PartialFile},
    picture::Frame,
};

/// Seconds from one frame that stands alone to the next: where a player can jump to.
const KEY_INTERVAL_SECS: f64 = 2.0;
/// Seconds in a fragment: what a crash costs at most.
const FRAGMENT_SECS: f64 = 1.0;
/// Bytes of the box that becomes the header of the media data.
const PLACE_LEN: usize = 16;
/// Track and description are the only ones.
const ONE: NonZeroU32 = NonZeroU32::MIN;
/// Flags of a sample that stands alone, and of one that needs those before it.
const KEY_SAMPLE: SampleFlags = SampleFlags::new(0x0200_0000);
const OTHER_SAMPLE: SampleFlags = SampleFlags::new(0x0101_0000);

/// Levels of H.264: number times ten, macroblocks per second, macroblocks per frame.
/// Source: ITU-T H.264, table A-1.
const LEVELS: [(u8, f64, u64); 17] = [
    (10, 1_485.0, 99),
    (11, 3_000.0, 396),
    (12, 6_000.0, 396),
    (20, 11_880.0, 396),
    (21, 19_800.0, 792),
    (22, 20_250.0, 1_620),
    (30, 40_500.0, 1_620),
    (31, 108_000.0, 3_600),
    (32, 216_000.0, 5_120),
    (40, 245_760.0, 8_192),
    (42, 522_240.0, 8_704),
    (50, 589_824.0, 22_080),
    (51, 983_040.0, 36_864),
    (52, 2_073_600.0, 36_864),
    (60, 4_177_920.0, 139_264),
    (61, 8_355_840.0, 139_264),
    (62, 16_711_680.0, 139_264),
];

/// The lowest level that frames of this size and rate fit; nothing if there is none.
pub(crate) fn level(width: u32, height: u32, fps: f64) -> Option<u8> {
    let blocks = u64::from(width.div_ceil(16)) * u64::from(height.div_ceil(16));
    // The longer edge is bounded, too: at most the root of eight times the area.
    let edge = u64::from(width.max(height).div_ceil(16));
    let fits =
        |&&(_, rate, area): &&(u8, f64, u64)| blocks <= area && blocks as f64 * fps <= rate && edge * edge <= 8 * area;
    LEVELS.iter().find(fits).map(|(level, ..)| *level)
}

/// Writes frames as H.264 into an MP4.
pub(crate) struct Mp4Writer {
    file: PartialFile,
    encoder: Encoder,
    clock: Clock,
    planes: YuvFrame,
    /// Samples of the fragment that is being filled, and their bytes.
    open: Vec<Sample>,
    open_bytes: Vec<u8>,
    /// What the last index will list.
    samples: Vec<Sample>,
    chunks: Vec<Chunk>,
    written: u64,
    /// Samples in the fragments that are in the file system's hands.
    kept: u64,
    /// Where the head of the media data will stand.
    start_of_media: u64,
    track: Option<SampleEntry>,
    size: (u32, u32),
}

#[derive(Debug, Clone, Copy)]
struct Clock {
    /// Parts of a second.
    timescale: NonZeroU32,
    /// Parts that a frame lasts.
    duration: u32,
    frames_per_fragment: usize,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    bytes: u32,
    is_key: bool,
}

#[derive(Debug, Clone, Copy)]
struct Chunk {
    offset: u64,
    samples: u32,
}

impl Mp4Writer {
    /// A film of frames with this size. The sizes are even and fit a [`level`].
    pub(crate) fn create(
        path: &Path,
        (width, height): (u32, u32),
        fps: f64,
        quantizer: u8,
        if_taken: IfTaken,
    ) -> io::Result<Self> {
        let level = level(width, height, fps)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "H.264 has no level for frames that large"))?;
        let mut config = EncoderConfig::new(width as usize, height as usize);
        config.preset = Preset::Balanced;
        config.qp = quantizer;
        config.level_idc = level;
        config.framerate = fps as f32;
        let key_interval = (KEY_INTERVAL_SECS * fps).round().max(1.0) as u32;
        (config.gop_size, config.min_keyint) = (key_interval, key_interval);
        // One frame in, one frame out: nothing waits in the encoder, so memory stays small and nothing is missing when
        // the program ends early.
        config.scenecut = 0;
        config.mbtree = false;
        config.lookahead = 0;
        config.num_ref_frames = 1;
        let encoder = Encoder::new(config).map_err(io::Error::other)?;
        let clock = Clock {
            // Whole thousandths of a frame per second are told exactly.
            timescale: NonZeroU32::new((fps * 1000.0).round() as u32).unwrap_or(ONE),
            duration: 1000,
            frames_per_fragment: (FRAGMENT_SECS * fps).ceil().max(1.0) as usize,
        };
        let mut writer = Self {
            file: PartialFile::create(path, if_taken)?,
            encoder,
            clock,
            planes: YuvFrame::black(width as usize, height as usize),
            open: Vec::new(),
            open_bytes: Vec::new(),
            samples: Vec::new(),
            chunks: Vec::new(),
            written: 0,
            kept: 0,
            start_of_media: 0,
            track: None,
            size: (width, height),
        };
        let ftyp = FtypBox {
            major_brand: Brand::ISOM,
            minor_version: 512,
            compatible_brands: [*b"isom", *b"iso6", *b"avc1", *b"mp41"].map(Brand::new).to_vec(),
        };
        let mut bytes = encode(&ftyp)?;
        writer.start_of_media = bytes.len() as u64;
        bytes.extend(place(b"free", PLACE_LEN as u64));
        writer.append(&bytes)?;
        Ok(writer)
    }

    pub(crate) fn push(&mut self, frame: &Frame) -> io::Result<()> {
        to_planes(frame, &mut self.planes);
        let unit = self.encoder.try_encode(&self.planes).map_err(io::Error::other)?;
        self.add(&unit)?;
        if self.open.len() >= self.clock.frames_per_fragment { self.write_fragment() } else { Ok(()) }
    }

    /// Makes it an ordinary MP4, and gives it its name; returns it.
    pub(crate) fn finish(&mut self) -> io::Result<PathBuf> {
        let rest = self.encoder.try_flush().map_err(io::Error::other)?;
        if !rest.is_empty() {
            self.add(&rest)?;
        }
        self.write_fragment()?;
        let start = self.start_of_media;
        let media_len = self.written - start;
        let index = encode(&self.index(false))?;
        self.append(&index)?;
        // The head that follows needs no room on the disk; without the index it would make the film unreadable.
        io::Write::flush(&mut self.file)?;
        // From here on the fragments' own indices are media data that nobody refers to.
        self.file.overwrite(start, &place(b"mdat", media_len))?;
        self.file.mark()?;
        self.file.finish()
    }

    /// Keeps the file as a part that plays up to its last fragment; the second is an error that kept some frames out.
    pub(crate) fn keep(&mut self) -> (Kept, io::Result<()>) {
        let fragment = self.write_fragment();
        (self.file.keep(&[], self.kept), fragment)
    }

    #[cfg(test)]
    pub(crate) fn file(&mut self) -> &mut PartialFile {
        &mut self.file
    }

    /// Takes apart what the encoder gave: parameters go into the header, the rest is a sample.
    fn add(&mut self, unit: &[u8]) -> io::Result<()> {
        let mut parameters = [None, None];
        let (mut bytes, mut is_key) = (0, false);
        for nal in nal_units(unit) {
            match nal.first().map_or(0, |header| header & 31) {
                7 => parameters[0] = Some(nal),
                8 => parameters[1] = Some(nal),
                9 => {}
                kind => {
                    is_key |= kind == 5;
                    self.open_bytes.extend((nal.len() as u32).to_be_bytes());
                    self.open_bytes.extend(nal);
                    bytes += 4 + nal.len() as u32;
                }
            }
        }
        if let (None, [Some(sequence), Some(picture)]) = (&self.track, parameters) {
            self.track = Some(description(sequence, picture, self.size)?);
            let header = encode(&self.index(true))?;
            self.append(&header)?;
        }
        if bytes > 0 {
            self.open.push(Sample { bytes, is_key });
        }
        Ok(())
    }

    fn write_fragment(&mut self) -> io::Result<()> {
        if self.open.is_empty() {
            return Ok(());
        }
        let entry = |sample: &Sample| TrunSample {
            duration: None,
            size: Some(sample.bytes),
            flags: Some(if sample.is_key { KEY_SAMPLE } else { OTHER_SAMPLE }),
            composition_time_offset: None,
        };
        let mut moof = MoofBox {
            mfhd_box: MfhdBox { sequence_number: self.chunks.len() as u32 + 1 },
            traf_boxes: vec![TrafBox {
                tfhd_box: TfhdBox {
                    track_id: ONE.get(),
                    base_data_offset: None,
                    sample_description_index: None,
                    default_sample_duration: Some(self.clock.duration),
                    default_sample_size: None,
                    default_sample_flags: None,
                    duration_is_empty: false,
                    default_base_is_moof: true,
                },
                tfdt_box: Some(TfdtBox {
                    version: 1,
                    base_media_decode_time: self.samples.len() as u64 * u64::from(self.clock.duration),
                }),
                trun_boxes: vec![TrunBox {
                    data_offset: Some(0),
                    first_sample_flags: None,
                    samples: self.open.iter().map(entry).collect(),
                }],
                unknown_boxes: Vec::new(),
            }],
            unknown_boxes: Vec::new(),
        };
        let header_len = 8;
        let offset = encode(&moof)?.len() + header_len;
        if let Some(run) = moof.traf_boxes.first_mut().and_then(|traf| traf.trun_boxes.first_mut()) {
            run.data_offset = Some(offset as i32);
        }
        let mut bytes = encode(&moof)?;
        bytes.extend(((self.open_bytes.len() + header_len) as u32).to_be_bytes());
        bytes.extend(b"mdat");
        bytes.append(&mut self.open_bytes);
        self.chunks.push(Chunk { offset: self.written + offset as u64, samples: self.open.len() as u32 });
        self.samples.append(&mut self.open);
        self.append(&bytes)?;
        // Each fragment is in the file system's hands before the next one begins.
        self.file.mark()?;
        self.kept = self.samples.len() as u64;
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        io::Write::write_all(&mut self.file, bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// The index of the film: empty before its fragments, or of all samples behind them.
    fn index(&self, of_fragments: bool) -> MoovBox {
        let samples = if of_fragments { &[] } else { self.samples.as_slice() };
        let chunks = if of_fragments { &[] } else { self.chunks.as_slice() };
        let duration = samples.len() as u64 * u64::from(self.clock.duration);
        let numbers = || (1..).filter_map(NonZeroU32::new);
        let mut runs: Vec<StscEntry> = Vec::new();
        for (chunk, first_chunk) in chunks.iter().zip(numbers()) {
            if runs.last().is_none_or(|run| run.sample_per_chunk != chunk.samples) {
                runs.push(StscEntry { first_chunk, sample_per_chunk: chunk.samples, sample_description_index: ONE });
            }
        }
        let keys = samples.iter().zip(numbers()).filter(|(sample, _)| sample.is_key).map(|(_, number)| number);
        let all = SttsEntry { sample_count: samples.len() as u32, sample_delta: self.clock.duration };
        let table = StblBox {
            stsd_box: StsdBox { entries: self.track.clone().into_iter().collect() },
            stts_box: SttsBox { entries: if samples.is_empty() { Vec::new() } else { vec![all] } },
            ctts_box: None,
            cslg_box: None,
            stsc_box: StscBox { entries: runs },
            stsz_box: StszBox::Variable { entry_sizes: samples.iter().map(|sample| sample.bytes).collect() },
            stco_or_co64_box: Either::B(Co64Box { chunk_offsets: chunks.iter().map(|chunk| chunk.offset).collect() }),
            stss_box: (!of_fragments).then(|| StssBox { sample_numbers: keys.collect() }),
            sdtp_box: None,
            unknown_boxes: Vec::new(),
        };
        let time = Mp4FileTime::default();
        let media = MdiaBox {
            mdhd_box: MdhdBox {
                creation_time: time,
                modification_time: time,
                timescale: self.clock.timescale,
                duration,
                language: LanguageCode::UNDEFINED,
            },
            hdlr_box: HdlrBox {
                handler_type: HdlrBox::HANDLER_TYPE_VIDE,
                name: Utf8String::EMPTY.into_null_terminated_bytes(),
            },
            minf_box: MinfBox {
                media_header: Some(MediaHeader::Vmhd(VmhdBox::default())),
                dinf_box: DinfBox::LOCAL_FILE,
                stbl_box: table,
                unknown_boxes: Vec::new(),
            },
            unknown_boxes: Vec::new(),
        };
        let (width, height) = self.size;
        let track = TrakBox {
            tkhd_box: TkhdBox {
                flag_track_enabled: true,
                flag_track_in_movie: true,
                flag_track_in_preview: false,
                flag_track_size_is_aspect_ratio: false,
                creation_time: time,
                modification_time: time,
                track_id: ONE.get(),
                duration,
                layer: TkhdBox::DEFAULT_LAYER,
                alternate_group: TkhdBox::DEFAULT_ALTERNATE_GROUP,
                volume: TkhdBox::DEFAULT_VIDEO_VOLUME,
                matrix: TkhdBox::DEFAULT_MATRIX,
                width: FixedPointNumber::new(width as i16, 0),
                height: FixedPointNumber::new(height as i16, 0),
            },
            edts_box: None,
            mdia_box: media,
            unknown_boxes: Vec::new(),
        };
        MoovBox {
            mvhd_box: MvhdBox {
                creation_time: time,
                modification_time: time,
                timescale: self.clock.timescale,
                duration,
                rate: MvhdBox::DEFAULT_RATE,
                volume: MvhdBox::DEFAULT_VOLUME,
                matrix: MvhdBox::DEFAULT_MATRIX,
                next_track_id: ONE.get() + 1,
            },
            trak_boxes: vec![track],
            mvex_box: of_fragments.then(|| MvexBox {
                mehd_box: None,
                trex_boxes: vec![TrexBox {
                    track_id: ONE.get(),
                    default_sample_description_index: ONE.get(),
                    default_sample_duration: self.clock.duration,
                    default_sample_size: 0,
                    default_sample_flags: OTHER_SAMPLE,
                }],
                unknown_boxes: Vec::new(),
            }),
            unknown_boxes: Vec::new(),
        }
    }
}

/// What a decoder must know before the first frame.
fn description(sequence: &[u8], picture: &[u8], (width, height): (u32, u32)) -> io::Result<SampleEntry> {
    let &[_, profile, compatibility, level, ..] = sequence else {
        return Err(io::Error::other("the encoder gave no parameters"));
    };
    // Numbers of ITU-T H.273: primaries of BT.709, the curve of sRGB, matrix of BT.709; then limited range.
    let color = [b"nclx".as_slice(), &[0, 1, 0, 13, 0, 1, 0]].concat();
    Ok(SampleEntry::Avc1(Avc1Box {
        visual: VisualSampleEntryFields {
            data_reference_index: NonZeroU16::MIN,
            width: width as u16,
            height: height as u16,
            horizresolution: VisualSampleEntryFields::DEFAULT_HORIZRESOLUTION,
            vertresolution: VisualSampleEntryFields::DEFAULT_VERTRESOLUTION,
            frame_count: VisualSampleEntryFields::DEFAULT_FRAME_COUNT,
            compressorname: VisualSampleEntryFields::NULL_COMPRESSORNAME,
            depth: VisualSampleEntryFields::DEFAULT_DEPTH,
        },
        avcc_box: AvccBox {
            avc_profile_indication: profile,
            profile_compatibility: compatibility,
            avc_level_indication: level,
            // Units are preceded by their lengths in four bytes.
            length_size_minus_one: Uint::new(3),
            sps_list: vec![sequence.to_vec()],
            pps_list: vec![picture.to_vec()],
            // The profile "High" tells these once more: 4:2:0, 8 bits.
            chroma_format: Some(Uint::new(1)),
            bit_depth_luma_minus8: Some(Uint::new(0)),
            bit_depth_chroma_minus8: Some(Uint::new(0)),
            sps_ext_list: Vec::new(),
        },
        unknown_boxes: vec![UnknownBox {
            box_type: BoxType::Normal(*b"colr"),
            box_size: BoxSize::U32(8 + color.len() as u32),
            payload: color,
        }],
    }))
}

fn encode(atom: &impl Encode) -> io::Result<Vec<u8>> {
    atom.encode_to_vec().map_err(|error| io::Error::other(error.to_string()))
}

/// The head of a box that says how long it is in 64 bits.
fn place(kind: &[u8; 4], len: u64) -> [u8; PLACE_LEN] {
    let mut bytes = [0; PLACE_LEN];
    bytes[..4].copy_from_slice(&1u32.to_be_bytes());
    bytes[4..8].copy_from_slice(kind);
    bytes[8..].copy_from_slice(&len.to_be_bytes());
    bytes
}

/// The units between the start codes of a byte stream (ITU-T H.264, annex B), without their trailing zeros.
fn nal_units(stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    let starts: Vec<usize> =
        stream.windows(3).enumerate().filter(|(_, bytes)| *bytes == [0, 0, 1]).map(|(at, _)| at + 3).collect();
    let ends: Vec<usize> = starts.iter().skip(1).map(|start| start - 3).chain([stream.len()]).collect();
    starts.into_iter().zip(ends).filter_map(|(start, end)| {
        let unit = stream.get(start..end)?;
        let zeros = unit.iter().rev().take_while(|byte| **byte == 0).count();
        unit.get(..unit.len() - zeros).filter(|unit| !unit.is_empty())
    })
}

/// From sRGB to luma and chroma of half the size: BT.709, limited range. `frame` has the size of `planes`.
fn to_planes(frame: &Frame, planes: &mut YuvFrame) {
    /// Fixed point: 16 bits behind the point.
    const fn fixed(value: f64) -> i32 {
        (value * 65_536.0 + if value < 0.0 { -0.5 } else { 0.5 }) as i32
    }
    const KR: f64 = 0.2126;
    const KB: f64 = 0.0722;
    const KG: f64 = 1.0 - KR - KB;
    const LUMA: f64 = 219.0 / 255.0;
    const CHROMA: f64 = 224.0 / 255.0;
    const Y: [i32; 3] = [fixed(LUMA * KR), fixed(LUMA * KG), fixed(LUMA * KB)];
    const U: [i32; 3] =
        [fixed(-CHROMA * KR / (2.0 - 2.0 * KB)), fixed(-CHROMA * KG / (2.0 - 2.0 * KB)), fixed(CHROMA * 0.5)];
    const V: [i32; 3] =
        [fixed(CHROMA * 0.5), fixed(-CHROMA * KG / (2.0 - 2.0 * KR)), fixed(-CHROMA * KB / (2.0 - 2.0 * KR))];
    let dot = |weights: [i32; 3], pixel: &[i32; 3]| -> i32 { weights.iter().zip(pixel).map(|(w, p)| w * p).sum() };
    let width = planes.width;
    let rows = frame.rgb.chunks_exact(6 * width).zip(planes.y.chunks_exact_mut(2 * width));
    let chroma = planes.u.chunks_exact_mut(width / 2).zip(planes.v.chunks_exact_mut(width / 2));
    for ((rgb, luma), (u_row, v_row)) in rows.zip(chroma) {
        let (upper, lower) = rgb.split_at(3 * width);
        let (luma_upper, luma_lower) = luma.split_at_mut(width);
        let pairs = upper.chunks_exact(6).zip(lower.chunks_exact(6));
        let lumas = luma_upper.chunks_exact_mut(2).zip(luma_lower.chunks_exact_mut(2));
        for (((above, below), (luma_above, luma_below)), (u, v)) in pairs.zip(lumas).zip(u_row.iter_mut().zip(v_row)) {
            let mut sum = [0; 3];
            for (pixels, lumas) in [(above, luma_above), (below, luma_below)] {
                for (pixel, luma) in pixels.chunks_exact(3).zip(lumas) {
                    let mut color = [0; 3];
                    for (channel, value) in color.iter_mut().zip(pixel) {
                        *channel = i32::from(*value);
                    }
                    *luma = (16 + ((dot(Y, &color) + 32_768) >> 16)).clamp(0, 255) as u8;
                    for (sum, channel) in sum.iter_mut().zip(color) {
                        *sum += channel;
                    }
                }
            }
            *u = (128 + ((dot(U, &sum) + 131_072) >> 18)).clamp(0, 255) as u8;
            *v = (128 + ((dot(V, &sum) + 131_072) >> 18)).clamp(0, 255) as u8;
        }
    }
}
