//! Reading films back: with a decoder in Rust, and with ffmpeg where it is installed. It needs `mod skip` at the root.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "each test uses another part, fails by panicking, and says what it passes over"
)]

use std::{fs, path::Path, process::Command};

use onestep_record::picture::Frame;
use rusty_h264_common::YuvFrame;
use rusty_h264_decoder::Decoder;
use shiguredo_mp4::{
    boxes::SampleEntry,
    demux::{Fmp4FileDemuxer, Input, Mp4FileDemuxer, Sample},
};

use crate::skip::skip;

/// A film as its index tells it.
pub struct Film {
    pub width: u32,
    pub height: u32,
    pub seconds: f64,
    /// Numbers of the frames that stand alone, from 1.
    pub key_frames: Vec<u32>,
    pub frames: Vec<YuvFrame>,
}

impl Film {
    /// Mean of the luma of a frame: limited range, so black is 16.
    pub fn brightness(&self, number: usize) -> f64 {
        let luma = &self.frames[number].y;
        luma.iter().map(|value| f64::from(*value)).sum::<f64>() / luma.len() as f64
    }

    /// Share of the pixels in which two frames differ clearly.
    pub fn moved(&self, number: usize, other: usize) -> f64 {
        let (here, there) = (&self.frames[number].y, &self.frames[other].y);
        here.iter().zip(there).filter(|(a, b)| a.abs_diff(**b) > 12).count() as f64 / here.len() as f64
    }
}

/// What a decoder gets: parameters and samples, with start codes.
#[derive(Default)]
struct Stream {
    bytes: Vec<u8>,
    size: (u32, u32),
    key_frames: Vec<u32>,
    samples: u32,
    /// Parts of a second that they last.
    duration: u64,
}

impl Stream {
    fn unit(&mut self, nal: &[u8]) {
        self.bytes.extend([0, 0, 0, 1]);
        self.bytes.extend(nal);
    }

    fn add(&mut self, sample: &Sample<'_>, file: &[u8]) {
        self.samples += 1;
        self.duration += u64::from(sample.duration);
        if let Some(SampleEntry::Avc1(description)) = sample.sample_entry {
            self.size = (u32::from(description.visual.width), u32::from(description.visual.height));
            self.unit(&description.avcc_box.sps_list[0]);
            self.unit(&description.avcc_box.pps_list[0]);
        }
        if sample.keyframe {
            self.key_frames.push(self.samples);
        }
        let mut data = &file[sample.data_offset as usize..][..sample.data_size];
        while let Some((len, rest)) = data.split_first_chunk::<4>() {
            let (nal, rest) = rest.split_at(u32::from_be_bytes(*len) as usize);
            self.unit(nal);
            data = rest;
        }
    }

    fn decode(self, timescale: u32) -> Film {
        let frames = Decoder::new().decode_stream(&self.bytes).unwrap();
        let seconds = self.duration as f64 / f64::from(timescale);
        Film { width: self.size.0, height: self.size.1, seconds, key_frames: self.key_frames, frames }
    }
}

/// Reads an ordinary MP4 with one H.264 track through its index.
pub fn decode_mp4(path: &Path) -> Film {
    let bytes = fs::read(path).unwrap();
    let mut demuxer = Mp4FileDemuxer::new();
    demuxer.handle_input(Input { position: 0, data: &bytes });
    let [track] = demuxer.tracks().unwrap() else { panic!("not one track") };
    let (timescale, duration) = (track.timescale.get(), track.duration);
    let mut stream = Stream::default();
    while let Some(sample) = demuxer.next_sample().unwrap() {
        stream.add(&sample, &bytes);
    }
    assert_eq!(stream.duration, duration, "the index and the samples disagree");
    stream.decode(timescale)
}

/// Reads a film that was broken off: an MP4 of fragments.
pub fn decode_fragments(path: &Path) -> Film {
    let bytes = fs::read(path).unwrap();
    let mut demuxer = Fmp4FileDemuxer::new();
    let mut stream = Stream::default();
    let timescale = loop {
        while let Some(wanted) = demuxer.required_input() {
            // Not a byte more than it asks for; at the end it asks for more than there is.
            let rest = bytes.get(wanted.position as usize..).unwrap_or_default();
            let data = wanted.size.and_then(|size| rest.get(..size)).unwrap_or(rest);
            demuxer.handle_input(Input { position: wanted.position, data });
        }
        match demuxer.next_sample().unwrap() {
            Some(sample) => stream.add(&sample, &bytes),
            None => break demuxer.tracks().unwrap()[0].timescale.get(),
        }
    };
    stream.decode(timescale)
}

/// All frames as `[height, width, 3]`, decoded by ffmpeg; nothing when it is not installed.
pub fn ffmpeg_frames(path: &Path) -> Option<Vec<Vec<u8>>> {
    let probe = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", "v:0", "-show_entries", "stream=width,height", "-of", "csv=p=0"])
        .arg(path)
        .output();
    let Ok(probe) = probe else {
        skip("ffmpeg is not installed: no second decoder looked at the film");
        return None;
    };
    let text = String::from_utf8_lossy(&probe.stdout);
    let sizes: Vec<usize> = text.trim().split(',').map(|size| size.parse().unwrap()).collect();
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(path)
        .args(["-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty(), "ffmpeg complains: {}", String::from_utf8_lossy(&output.stderr));
    Some(output.stdout.chunks_exact(3 * sizes[0] * sizes[1]).map(<[u8]>::to_vec).collect())
}

/// Peak signal-to-noise ratio of the luma, dB, with BT.709 in limited range.
pub fn luma_psnr(shown: &YuvFrame, wanted: &Frame) -> f64 {
    let luma = wanted.rgb.chunks_exact(3).map(|pixel| {
        let [r, g, b] = [pixel[0], pixel[1], pixel[2]].map(f64::from);
        16.0 + (0.2126 * r + 0.7152 * g + 0.0722 * b) * 219.0 / 255.0
    });
    psnr(shown.y.iter().map(|value| f64::from(*value)), luma)
}

/// Peak signal-to-noise ratio of two pictures, dB.
pub fn rgb_psnr(shown: &[u8], wanted: &[u8]) -> f64 {
    assert_eq!(shown.len(), wanted.len());
    psnr(shown.iter().map(|value| f64::from(*value)), wanted.iter().map(|value| f64::from(*value)))
}

fn psnr(shown: impl ExactSizeIterator<Item = f64>, wanted: impl Iterator<Item = f64>) -> f64 {
    let count = shown.len() as f64;
    let error: f64 = shown.zip(wanted).map(|(a, b)| (a - b).powi(2)).sum::<f64>() / count;
    10.0 * (255.0 * 255.0 / error.max(1e-9)).log10()
}
