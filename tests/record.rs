//! `onestep record` from its arguments to a film that plays, and every way in which there is none.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

#[path = "../crates/record/tests/films_common/mod.rs"]
mod films_common;
mod rendering;
mod skip;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use films_common::{Film, decode_mp4};
use onestep::{
    config::{ConfigSources, Setting},
    folder::RunFolder,
    record::picture::Frame,
    train::Trainer,
};
use rendering::can_render;

/// A run of a task with short episodes: 50 control steps, 50 in a second.
static RUN: LazyLock<PathBuf> = LazyLock::new(|| {
    let settings = [
        ("compute", "cpu"),
        ("algorithm.actor_hidden", "[16]"),
        ("algorithm.critic_hidden", "[16]"),
        ("algorithm.batch_size", "8"),
        ("algorithm.candidates", "4"),
        ("learner.online_steps", "60"),
        ("learner.start_training", "20"),
        ("evaluation.episodes", "1"),
    ];
    let config = ConfigSources {
        task: Some("reacher".to_owned()),
        settings: settings.iter().map(|(key, value)| Setting::new("test", *key, value)).collect(),
        ..ConfigSources::default()
    }
    .resolve()
    .unwrap();
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("record-run");
    // One that an earlier test left.
    let _ = fs::remove_dir_all(&path);
    let folder = RunFolder::create(&path, &config).unwrap();
    Trainer::new(config, Some(folder), &mut ()).unwrap().run(&mut ()).unwrap();
    path
});

fn record(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onestep"));
    command.arg("record").arg(&*RUN).args(arguments).current_dir(folder);
    command
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_cannot_be_recorded_is_refused_in_words_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("frames"), b"a file").unwrap();
    let run_before = names(&RUN);
    let refused = |command: &mut Command, words: &[&str]| {
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(!text.contains("panicked"), "{text}");
        for word in words {
            assert!(text.contains(word), "`{word}` is missing in: {text}");
        }
        assert_eq!(names(folder.path()), ["frames"], "{text}");
    };
    let cases: [(&[&str], &[&str]); 12] = [
        (&["--out", "x.avi"], &["x.avi", "must end in .mp4 or .gif (film) or .png"]),
        (&["--out", "/nowhere/x.mp4"], &["/nowhere/x.mp4", "make the folder first"]),
        (&["--out", "frames/"], &["frames/", "a file of that name is there already", "choose another name"]),
        (&["--out", "frames/x.mp4"], &["frames/x.mp4", "a part of the path is a file"]),
        (&["--out", "x.mp4", "--episodes", "0"], &["--episodes is 0"]),
        (&["--out", "x.mp4", "--every", "0"], &["every is 0", "1 or more"]),
        (&["--out", "x.mp4", "--width", "641"], &["width is 641", "must be even"]),
        (&["--out", "x.mp4", "--width", "8192", "--height", "8192"], &["8192 x 8192", "use fewer pixels"]),
        (&["--out", "x.mp4", "--views", "nope"], &["`nope`", "main, front"]),
        (&["--out", "x.mp4", "--overlay", "nope"], &["`nope`", "success, reward"]),
        (&["--out", "x.mp4", "--quantizer", "52"], &["quantizer is 52"]),
        (&["--out", "x.mp4", "--strip", "x.mp4"], &["strip", ".png"]),
    ];
    for (arguments, words) in cases {
        refused(&mut record(folder.path(), arguments), words);
    }
    let mut undriven = record(folder.path(), &["--out", "x.mp4"]);
    undriven.env("VK_ICD_FILENAMES", "/nowhere").env("VK_DRIVER_FILES", "/nowhere");
    refused(&mut undriven, &["no graphics driver", "mesa-vulkan-drivers"]);
    assert_eq!(names(&RUN), run_before);
}

#[test]
fn a_policy_becomes_a_film_that_plays() {
    if !can_render() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let arguments =
        ["--out", "film.mp4", "--strip", "strip.png", "--every", "5", "--width", "96", "--height", "64", "--seed", "3"];
    let output = record(folder.path(), &arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // The first of 50 steps, every fifth after it, and the last.
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("11 pictures of 50 control steps") && said.contains("film.mp4 and strip.png"), "{said}");
    let film = decode_mp4(&folder.path().join("film.mp4"));
    assert_eq!((film.width, film.height, film.frames.len()), (96, 64, 11));
    assert!((film.seconds - 1.1).abs() < 1e-9, "{} seconds", film.seconds);
    for number in 0..11 {
        assert!(film.brightness(number) > 40.0, "frame {number} is black: {}", film.brightness(number));
    }
    assert!(film.moved(0, 10) > 0.002, "nothing moves: {}", film.moved(0, 10));
    assert_eq!(Frame::read_png(&folder.path().join("strip.png")).unwrap().height, 64);
    assert_eq!(names(folder.path()), ["film.mp4", "strip.png"]);
}

/// Light letters on a dark box, in the upper left corner of a tile.
fn has_words(film: &Film, number: usize, (x, y): (usize, usize)) -> bool {
    let frame = &film.frames[number];
    let corner: Vec<u8> = (y + 6..y + 40).flat_map(|row| frame.y[row * frame.width + x + 6..][..50].to_vec()).collect();
    let dark = corner.iter().filter(|luma| **luma < 110).count();
    let light = corner.iter().filter(|luma| **luma > 130).count();
    dark > 400 && light > 30
}

#[test]
fn several_worlds_become_a_sheet_with_words() {
    if !can_render() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let common = ["--arenas", "4", "--every", "25", "--width", "240", "--height", "160", "--strip", "strip.png"];
    let film = |name: &str, overlay: &[&str]| {
        let output = record(folder.path(), &[&["--out", name][..], &common[..], overlay].concat()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        decode_mp4(&folder.path().join(name))
    };
    let plain = film("plain.mp4", &[]);
    let sheet = film("sheet.mp4", &["--overlay", "step,reward,q"]);
    assert_eq!((sheet.width, sheet.height, sheet.frames.len()), (240, 160, plain.frames.len()));
    let last = sheet.frames.len() - 1;
    assert!(last >= 2);
    for corner in [(0, 0), (120, 0), (0, 80), (120, 80)] {
        assert!(has_words(&sheet, last, corner) && !has_words(&plain, last, corner), "{corner:?}");
    }
    // Four worlds, four episodes: no tile is another one.
    let tile = |(x, y): (usize, usize)| -> Vec<u8> {
        (y..y + 80).flat_map(|row| plain.frames[last].y[row * 240 + x..][..120].to_vec()).collect()
    };
    assert!(plain.brightness(last) > 40.0 && tile((0, 0)) != tile((120, 0)) && tile((0, 80)) != tile((120, 80)));
}

/// Ctrl-C keeps what there is until then, and says where.
#[cfg(unix)]
#[test]
fn ctrl_c_keeps_what_was_recorded() {
    use std::process::Stdio;

    if !can_render() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("long.mp4"), b"old").unwrap();
    let arguments = ["--out", "long.mp4", "--episodes", "1000", "--every", "5", "--width", "96", "--height", "64"];
    let mut child = record(folder.path(), &arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    // Until the first second of it is on the disk.
    let is_under_way = || {
        let temporary = names(folder.path()).into_iter().find(|name| name.ends_with(".tmp"));
        let bytes = temporary.and_then(|name| fs::read(folder.path().join(name)).ok()).unwrap_or_default();
        bytes.windows(4).any(|window| window == b"moof")
    };
    while !is_under_way() {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{text}");
    assert!(text.contains("long.partial.mp4"), "{text}");
    assert_eq!(names(folder.path()), ["long.mp4", "long.partial.mp4"]);
    assert_eq!(fs::read(folder.path().join("long.mp4")).unwrap(), b"old");
    let film = films_common::decode_fragments(&folder.path().join("long.partial.mp4"));
    assert!(film.frames.len() >= 10 && text.contains(&format!("the {} pictures", film.frames.len())), "{text}");
    assert_eq!((film.width, film.height), (96, 64));
    assert!(film.brightness(film.frames.len() - 1) > 40.0);
}
