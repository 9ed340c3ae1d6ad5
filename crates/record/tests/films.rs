//! Films are decoded again: every frame is there, in its size, and looks as it did. No device is needed.

#![cfg(feature = "render")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod films_common;
#[path = "../../../tests/skip/mod.rs"]
mod skip;

use std::{fs, path::Path};

use films_common::{decode_fragments, decode_mp4, ffmpeg_frames, luma_psnr, rgb_psnr};
use onestep_record::{
    encoding::{EncodingSettings, VideoFormat, VideoWriter, partial_path},
    picture::Frame,
    video::RecordError,
};

const SIZE: (u32, u32) = (144, 100);

/// A gradient with a red square that has moved `step` pixels.
fn moving(step: u32) -> Frame {
    let (width, height) = SIZE;
    let mut frame = Frame::filled(width, height, [0; 3]);
    for y in 0..height {
        for x in 0..width {
            let square = (20..50).contains(&y) && (step..step + 30).contains(&x);
            let color = if square { [210, 30, 20] } else { [(60 + x) as u8, (90 + y) as u8, 150] };
            let at = 3 * (y * width + x) as usize;
            frame.rgb[at..at + 3].copy_from_slice(&color);
        }
    }
    frame
}

fn settings() -> EncodingSettings {
    EncodingSettings { width: SIZE.0, height: SIZE.1, fps: 20.0, ..EncodingSettings::default() }
}

fn write(path: &Path, frames: u32) -> VideoWriter {
    let mut writer = VideoWriter::create(path, settings()).unwrap();
    for step in 0..frames {
        writer.push(moving(step), Vec::new()).unwrap();
    }
    writer
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn an_mp4_comes_back_frame_by_frame() {
    let folder = tempfile::tempdir().unwrap();
    // One frame, part of a fragment, several fragments and key frames.
    for count in [1, 7, 95] {
        let path = folder.path().join(format!("{count}.mp4"));
        let file = write(&path, count).finish().unwrap();
        assert_eq!((file.frames, file.is_partial, &file.path), (u64::from(count), false, &path));
        let film = decode_mp4(&path);
        assert_eq!((film.width, film.height, film.frames.len()), (SIZE.0, SIZE.1, count as usize));
        assert!((film.seconds - f64::from(count) / 20.0).abs() < 1e-9, "{} seconds", film.seconds);
        assert_eq!(film.key_frames, (0..count).step_by(40).map(|number| number + 1).collect::<Vec<_>>());
        for (step, shown) in film.frames.iter().enumerate() {
            let psnr = luma_psnr(shown, &moving(step as u32));
            assert!(psnr > 36.0, "frame {step} of {count}: {psnr} dB");
        }
        if let Some(frames) = ffmpeg_frames(&path) {
            assert_eq!(frames.len(), count as usize);
            for (step, rgb) in frames.iter().enumerate() {
                let psnr = rgb_psnr(rgb, &moving(step as u32).rgb);
                assert!(psnr > 28.0, "frame {step} of {count} as ffmpeg sees it: {psnr} dB");
            }
        }
    }
    assert_eq!(names(folder.path()), ["1.mp4", "7.mp4", "95.mp4"]);
}

#[test]
fn what_was_recorded_before_a_break_is_kept_under_another_name() {
    let folder = tempfile::tempdir().unwrap();
    for (name, partial) in [("a.mp4", "a.partial.mp4"), ("a.gif", "a.partial.gif"), ("a/", "a.partial")] {
        let path = folder.path().join(name);
        if name != "a/" {
            fs::write(&path, b"old").unwrap();
        }
        drop(write(&path, 30));
        assert_eq!(partial_path(&path), folder.path().join(partial));
        assert!(folder.path().join(partial).exists());
        assert!(name == "a/" || fs::read(&path).unwrap() == b"old");
    }
    assert_eq!(names(folder.path()), ["a.gif", "a.mp4", "a.partial", "a.partial.gif", "a.partial.mp4"]);
    assert_eq!(fs::read_dir(folder.path().join("a.partial")).unwrap().count(), 30);
    // It still has its fragments' indices: players read those.
    assert_eq!(decode_fragments(&folder.path().join("a.partial.mp4")).frames.len(), 30);
    if let Some(frames) = ffmpeg_frames(&folder.path().join("a.partial.mp4")) {
        assert_eq!(frames.len(), 30);
    }
    let report = write(&folder.path().join("b.mp4"), 3).keep_partial().unwrap();
    assert_eq!((report.frames, report.is_partial), (3, true));
    // A second one replaces none of the first.
    for name in ["a.mp4", "a.gif", "a/"] {
        let report = write(&folder.path().join(name), 4).keep_partial().unwrap();
        assert!(report.path.to_string_lossy().contains("a.partial-2"), "{}", report.path.display());
    }
    assert_eq!(fs::read_dir(folder.path().join("a.partial")).unwrap().count(), 30);
    assert_eq!(fs::read_dir(folder.path().join("a.partial-2")).unwrap().count(), 4);
    assert_eq!(decode_fragments(&folder.path().join("a.partial.mp4")).frames.len(), 30);
}

#[test]
fn a_film_that_cannot_get_its_name_is_kept_and_said() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.mp4", "a.gif"] {
        let path = folder.path().join(name);
        let writer = write(&path, 6);
        fs::create_dir(&path).unwrap();
        let error = writer.finish().unwrap_err();
        let RecordError::Partial { frames: 6, file, .. } = &error else { panic!("{error}") };
        assert_eq!(*file, partial_path(&path));
        assert!(file.is_file() && error.to_string().contains("6 frames until then are in"), "{error}");
    }
    // It was whole, so the part is an ordinary film.
    assert_eq!(decode_mp4(&folder.path().join("a.partial.mp4")).frames.len(), 6);

    // And if not even that works: both errors, and where it would be.
    let writer = write(&folder.path().join("b.mp4"), 6);
    let temporary = names(folder.path()).into_iter().find(|name| name.ends_with(".tmp")).unwrap();
    fs::remove_file(folder.path().join(&temporary)).unwrap();
    let error = writer.finish().unwrap_err();
    assert!(matches!(error, RecordError::Twice { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("b.mp4: ") && text.contains(&temporary) && text.contains("rename it"), "{text}");
    assert_eq!(names(folder.path()), ["a.gif", "a.mp4", "a.partial.gif", "a.partial.mp4"]);
}

#[test]
fn two_films_of_one_name_are_two_files() {
    let folder = tempfile::tempdir().unwrap();
    for (name, next) in [("lift-1.mp4", "lift-2.mp4"), ("lift.gif", "lift-2.gif"), ("frames/", "frames-2")] {
        let path = folder.path().join(name);
        // Both begin before either has its name.
        let mut writers = [(); 2].map(|()| VideoWriter::create_new(&path, settings()).unwrap());
        for (writer, frames) in writers.iter_mut().zip([3, 5]) {
            (0..frames).for_each(|step| writer.push(moving(step), Vec::new()).unwrap());
        }
        let files = writers.map(|writer| writer.finish().unwrap());
        assert_eq!(files.each_ref().map(|file| file.frames), [3, 5]);
        let stem = name.trim_end_matches('/');
        assert_eq!(files.map(|file| file.path), [stem, next].map(|name| folder.path().join(name)));
    }
    assert_eq!(decode_mp4(&folder.path().join("lift-1.mp4")).frames.len(), 3);
    assert_eq!(decode_mp4(&folder.path().join("lift-2.mp4")).frames.len(), 5);
    assert_eq!(names(folder.path()), ["frames", "frames-2", "lift-1.mp4", "lift-2.gif", "lift-2.mp4", "lift.gif"]);
}

#[test]
fn an_mp4_plays_up_to_its_last_fragment_when_the_program_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = write(&folder.path().join("a.mp4"), 0);
    for step in 0..50 {
        writer.push(moving(step), Vec::new()).unwrap();
    }
    // As after a kill: whatever has reached the file system. Two fragments of a second are whole, the third is not.
    let temporary = || names(folder.path()).into_iter().find(|name| name.ends_with(".tmp")).unwrap();
    let mut len = 0;
    while len < 2 {
        std::thread::sleep(std::time::Duration::from_millis(5));
        let bytes = fs::read(folder.path().join(temporary())).unwrap();
        len = bytes.windows(4).filter(|window| window == b"moof").count();
    }
    let copy = folder.path().join("killed.mp4");
    fs::copy(folder.path().join(temporary()), &copy).unwrap();
    if let Some(frames) = ffmpeg_frames(&copy) {
        assert_eq!(frames.len(), 40);
        assert!(rgb_psnr(&frames[39], &moving(39).rgb) > 28.0);
    }
    drop(writer);
}

#[test]
fn the_queue_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let (width, height) = (256, 192);
    let settings = EncodingSettings { width, height, queue: 2, ..settings() };
    let mut writer = VideoWriter::create(&folder.path().join("a.mp4"), settings).unwrap();
    for number in 0..20 {
        // Noise is what an encoder takes longest for.
        let mut seed = 12_345u32 + number;
        let rgb = (0..3 * width * height).map(|_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 24) as u8
        });
        writer.push(Frame { width, height, rgb: rgb.collect() }, Vec::new()).unwrap();
    }
    let file = writer.finish().unwrap();
    assert_eq!(file.frames, 20);
    // Two in the queue, one in the encoder's hands, one that waits for its place.
    assert!((1..=4).contains(&file.most_waiting), "{} frames were in memory", file.most_waiting);
}

#[test]
fn frames_become_pngs_without_loss() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("frames/");
    write(&path, 3).finish().unwrap();
    assert_eq!(names(&path), ["frame-000000.png", "frame-000001.png", "frame-000002.png"]);
    let file = std::io::BufReader::new(fs::File::open(path.join("frame-000002.png")).unwrap());
    let mut reader = png::Decoder::new(file).read_info().unwrap();
    let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut rgb).unwrap();
    assert_eq!(rgb, moving(2).rgb);
    // Nothing that is there is written over.
    let error = VideoWriter::create(&path, settings()).unwrap_err().to_string();
    assert!(error.contains("is there already"), "{error}");
}

#[test]
fn what_cannot_become_a_film_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let refuse = |name: &str, settings: EncodingSettings, expected: &str| {
        let error = VideoWriter::create(&path(name), settings).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    refuse("a.avi", settings(), "must end in .mp4 or .gif");
    refuse("noname", settings(), "must end in .mp4 or .gif");
    refuse("a.mp4", EncodingSettings { width: 641, ..settings() }, "width is 641; H.264 stores colour for 2 by 2");
    refuse("a.mp4", EncodingSettings { height: 0, ..settings() }, "height is 0");
    refuse("a.mp4", EncodingSettings { fps: 0.0, ..settings() }, "fps is 0");
    refuse("a.mp4", EncodingSettings { fps: f64::NAN, ..settings() }, "fps is NaN");
    refuse("a.gif", EncodingSettings { fps: 60.0, ..settings() }, "an MP4 plays more");
    refuse("a.mp4", EncodingSettings { quantizer: 52, ..settings() }, "quantizer is 52");
    let huge = EncodingSettings { width: 8192, height: 8192, ..settings() };
    refuse("a.mp4", huge, "H.264 has no level for frames so large");
    fs::create_dir(path("folder.mp4")).unwrap();
    refuse("folder.mp4", settings(), "is a folder; add a file name");
    refuse("missing/a.mp4", settings(), "make the folder first");
    fs::write(path("file"), b"").unwrap();
    refuse("file/a.mp4", settings(), "a part of the path is a file");
    refuse("file/", settings(), "a file of that name is there already; choose another name");
    fs::remove_file(path("file")).unwrap();
    // A GIF and PNGs take odd sizes.
    assert!(VideoFormat::Gif.check(641, 3, Some(20.0)).is_ok());

    let error = VideoWriter::create(&path("none.mp4"), settings()).unwrap().finish().unwrap_err();
    assert!(matches!(error, RecordError::NoFrames { .. }), "{error}");
    let mut writer = VideoWriter::create(&path("none.mp4"), settings()).unwrap();
    let error = writer.push(Frame::filled(10, 10, [0; 3]), Vec::new()).unwrap_err().to_string();
    assert!(error.contains("10 x 10"), "{error}");
    drop(writer);
    assert_eq!(names(folder.path()), ["folder.mp4"]);
}
