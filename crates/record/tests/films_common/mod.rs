//! Reading films back: with a decoder in Rust, and with ffmpeg where it is installed.

#![allow(dead_code, reason = "each test file uses another part")]

use std::{fs, path::Path, process::Command};

use onestep_record::picture::Frame;
use rusty_h264_common::YuvFrame;
use rusty_h264_decoder::Decoder;
use shiguredo_mp4::{
    boxes::SampleEntry,
    demux::{Input, Mp4FileDemuxer},
};

/// A film as its index tells it.
pub struct Film {
    pub width: u32,
    pub height: u32,
    pub seconds: f64,
    /// Numbers of the frames that stand alone, from 1.
    pub key_frames: Vec<u32>,
    pub frames: Vec<YuvFrame>,
}

/// Reads an ordinary MP4 with one H.264 track through its index.
pub fn decode_mp4(path: &Path) -> Film {
    let bytes = fs::read(path).unwrap();
    let mut demuxer = Mp4FileDemuxer::new();
    demuxer.handle_input(Input { position: 0, data: &bytes });
    let [track] = demuxer.tracks().unwrap() else { panic!("not one track") };
    let seconds = track.duration as f64 / f64::from(track.timescale.get());
    let mut film = Film { width: 0, height: 0, seconds, key_frames: Vec::new(), frames: Vec::new() };
    let mut stream = Vec::new();
    let mut unit = |nal: &[u8]| {
        stream.extend([0, 0, 0, 1]);
        stream.extend(nal);
    };
    let mut number = 0;
    while let Some(sample) = demuxer.next_sample().unwrap() {
        number += 1;
        if let Some(SampleEntry::Avc1(description)) = sample.sample_entry {
            film.width = u32::from(description.visual.width);
            film.height = u32::from(description.visual.height);
            unit(&description.avcc_box.sps_list[0]);
            unit(&description.avcc_box.pps_list[0]);
        }
        if sample.keyframe {
            film.key_frames.push(number);
        }
        let mut data = &bytes[sample.data_offset as usize..][..sample.data_size];
        while let Some((len, rest)) = data.split_first_chunk::<4>() {
            let (nal, rest) = rest.split_at(u32::from_be_bytes(*len) as usize);
            unit(nal);
            data = rest;
        }
    }
    film.frames = Decoder::new().decode_stream(&stream).unwrap();
    film
}

/// All frames as `[height, width, 3]`, decoded by ffmpeg; nothing when it is not installed.
pub fn ffmpeg_frames(path: &Path) -> Option<Vec<Vec<u8>>> {
    let probe = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", "v:0", "-show_entries", "stream=width,height", "-of", "csv=p=0"])
        .arg(path)
        .output();
    let Ok(probe) = probe else {
        eprintln!("ffmpeg is not installed: no second decoder looked at the film");
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
