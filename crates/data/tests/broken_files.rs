//! Broken, cut, foreign and lying files: an error that names the file, never a panic, never memory beyond reason.
//!
//! `cargo test --release --workspace --test broken_files -- --ignored --nocapture` goes on for an hour, or for as many
//! seconds as the variable `ONESTEP_FUZZ_SECS` says.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "tests fail by panicking")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use onestep_data::{
    DataError, EpisodeData, EpisodeFile, OgbenchTask, Origin, RobomimicFile, RobomimicReadOptions,
    RobomimicWriteOptions, WriteOptions,
    ogbench::{self, OgbenchData},
    write_episodes,
};
use proptest::{
    collection::vec,
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};

/// Remembers the largest piece of memory that a thread has asked for.
struct Watching;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

fn note(size: usize) {
    // A thread that is ending has no more to tell.
    let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(size)));
}

#[allow(unsafe_code, reason = "an allocator cannot be written without")]
// SAFETY: every call goes on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watching = Watching;

/// Fixtures that are whole, and yet no episodes can be had of: by the keys and the task that are asked for here.
const UNREADABLE: [&str; 3] = ["robomimic_shaped.hdf5", "later_version.hdf5", "later_version.npz"];
/// Files of our own, which are made here: each format with our header.
const OURS: [&str; 4] = ["ours.npz", "ours.hdf5", "ours_packed.hdf5", "ours.safetensors"];
/// Longer than a shared machine needs for any of these files.
const PATIENCE: Duration = Duration::from_secs(20);

fn ours(name: &str) -> Vec<u8> {
    let episode = |seed| EpisodeData {
        observations: vec![0.5; 6 * 7],
        actions: vec![0.25; 5 * 2],
        rewards: vec![-1.0; 5],
        truncated: true,
        successes: vec![false; 5],
        seed,
        ..EpisodeData::default()
    };
    let file = EpisodeFile {
        task: "push".to_owned(),
        origin: Origin::Onestep,
        observation_dim: 7,
        action_dim: 2,
        episodes: (0..3).map(episode).collect(),
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    let options = WriteOptions {
        robomimic: RobomimicWriteOptions {
            keys: ["robot0_eef_pos", "object"].map(str::to_owned).into_iter().zip([3, 4]).collect(),
            filters: [("train".to_owned(), vec![0, 1])].into(),
            compress: name.contains("packed"),
            ..RobomimicWriteOptions::default()
        },
        ..WriteOptions::default()
    };
    write_episodes(&path, &file, &options).unwrap();
    fs::read(path).unwrap()
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn fixture(name: &str) -> Vec<u8> {
    if OURS.contains(&name) {
        return ours(name);
    }
    fs::read(fixtures().join(name)).unwrap()
}

/// All fixtures with this ending: a new one is damaged, too.
fn all(ending: &str) -> Vec<String> {
    let names = fs::read_dir(fixtures()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(ending)).collect();
    names.sort_unstable();
    assert!(names.len() > 5, "{names:?}");
    names
}

/// The task whose rewards are asked for.
fn task_of(name: &str) -> Option<OgbenchTask> {
    let environment = ["scene", "puzzle_3x3", "puzzle_4x4", "puzzle_4x5", "puzzle_4x6"];
    let found = environment.into_iter().find(|environment| name.starts_with(environment));
    OgbenchTask::parse(&found.unwrap_or("cube_double").replace('_', "-"))
}

/// Whether episodes can be had of the fixture as it is.
fn is_readable(name: &str) -> bool {
    // Arrays that are no episodes: what the original makes of others.
    !UNREADABLE.contains(&name) && !name.ends_with("_expected.npz") && name != "cube_goals.npz"
}

/// One change to a file.
#[derive(Debug, Clone)]
enum Damage {
    /// One byte becomes another.
    Byte(prop::sample::Index, u8),
    /// One bit flips.
    Bit(prop::sample::Index, u8),
    /// Eight bytes become a number that headers like to lie with.
    Number(prop::sample::Index, u64),
    /// Bytes are copied elsewhere.
    Copy(prop::sample::Index, prop::sample::Index, u8),
    /// The file ends here.
    Cut(prop::sample::Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let index = any::<prop::sample::Index>;
    let number = prop_oneof![
        Just(u64::MAX),
        Just(u64::MAX / 2),
        Just(0),
        Just(1),
        (0u32..64).prop_map(|bit| 1u64 << bit),
        any::<u64>(),
        0u64..100_000,
    ];
    prop_oneof![
        4 => (index(), any::<u8>()).prop_map(|(at, byte)| Damage::Byte(at, byte)),
        4 => (index(), 0u8..8).prop_map(|(at, bit)| Damage::Bit(at, bit)),
        3 => (index(), number).prop_map(|(at, number)| Damage::Number(at, number)),
        2 => (index(), index(), any::<u8>()).prop_map(|(from, to, len)| Damage::Copy(from, to, len)),
        1 => index().prop_map(Damage::Cut),
    ]
}

fn damaged(mut bytes: Vec<u8>, changes: &[Damage]) -> Vec<u8> {
    for change in changes {
        if bytes.is_empty() {
            break;
        }
        let len = bytes.len();
        match change {
            Damage::Byte(at, byte) => bytes[at.index(len)] = *byte,
            Damage::Bit(at, bit) => bytes[at.index(len)] ^= 1 << bit,
            Damage::Number(at, number) => {
                let at = at.index(len);
                for (byte, new) in bytes[at..].iter_mut().zip(number.to_le_bytes()) {
                    *byte = new;
                }
            }
            Damage::Copy(from, to, count) => {
                let (from, to) = (from.index(len), to.index(len));
                let count = usize::from(*count).min(len - from).min(len - to);
                bytes.copy_within(from..from + count, to);
            }
            Damage::Cut(at) => bytes.truncate(at.index(len)),
        }
    }
    bytes
}

/// An error must name the file.
fn check_result<T>(result: Result<T, DataError>, name: &str) -> Option<T> {
    match result {
        Ok(read) => Some(read),
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains(name) || matches!(error, DataError::Episode { .. }), "no file is named: {text}");
            None
        }
    }
}

/// Reads a file in every way there is. Returns whether its episodes could be read.
fn read_everything(name: &str, bytes: &[u8]) -> bool {
    let path = Path::new(name);
    LARGEST.with(|largest| largest.set(0));
    let start = Instant::now();
    let episodes = if name.ends_with(".safetensors") {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        check_result(EpisodeFile::read(&path), name)
    } else if name.ends_with(".npz") {
        check_result(OgbenchData::from_bytes(path, bytes.to_vec()), name);
        let by_default = check_result(ogbench::read_episodes_from_bytes(path, bytes.to_vec(), None), name);
        let task = task_of(name);
        let of_task = check_result(ogbench::read_episodes_from_bytes(path, bytes.to_vec(), task.as_ref()), name);
        if name.starts_with("ours") { by_default } else { of_task }
    } else {
        read_hdf5(name, RobomimicFile::from_bytes(path, bytes.to_vec()))
    };
    assert!(start.elapsed() < PATIENCE, "reading a file of {} bytes took {:?}", bytes.len(), start.elapsed());
    // Deflate unfolds at most 1032 times, and vectors grow by doubling.
    let most = 2 * 1032 * bytes.len() + (4 << 20);
    let largest = LARGEST.with(Cell::get);
    assert!(largest <= most, "{largest} bytes were asked for at once for a file of {}", bytes.len());
    if let Some(file) = &episodes {
        for (index, episode) in file.episodes.iter().enumerate() {
            episode.check(index, file.observation_dim, file.action_dim).unwrap();
        }
    }
    episodes.is_some()
}

fn read_hdf5(name: &str, opened: Result<RobomimicFile, DataError>) -> Option<EpisodeFile> {
    let file = check_result(opened, name)?;
    for filter in check_result(file.filters(), name).unwrap_or_default() {
        check_result(file.filtered(&filter), name);
    }
    for demo in file.demos().iter().take(20) {
        check_result(file.states(demo), name);
        check_result(file.model_file(demo), name);
        check_result(file.keys(demo), name);
    }
    check_result(file.episodes(&RobomimicReadOptions::default(), &mut |_, _| true), name);
    let keys = ["robot0_eef_pos", "object"].map(str::to_owned).to_vec();
    let options = RobomimicReadOptions { keys, ..Default::default() };
    check_result(file.episodes(&options, &mut |_, _| true), name)
}

#[test]
fn the_fixtures_are_whole() {
    for name in all(".hdf5").into_iter().chain(all(".npz")).chain(OURS.map(str::to_owned)) {
        assert_eq!(read_everything(&name, &fixture(&name)), is_readable(&name), "{name}");
    }
}

fn survives(name: &str, cases: u32, changes: usize) {
    let bytes = fixture(name);
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    runner
        .run(&vec(damage(), 1..=changes), |changes| {
            read_everything(name, &damaged(bytes.clone(), &changes));
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{name}: {error}"));
}

#[test]
fn damaged_hdf5_is_refused_or_read_but_never_a_panic() {
    for name in all(".hdf5") {
        survives(&name, 250, 3);
    }
}

#[test]
fn damaged_npz_is_refused_or_read_but_never_a_panic() {
    for name in all(".npz") {
        survives(&name, 600, 3);
    }
}

#[test]
fn damage_to_our_own_files_is_refused_or_read_but_never_a_panic() {
    for name in OURS {
        survives(name, 600, 3);
    }
}

#[test]
fn every_cut_is_refused() {
    for name in all(".npz").into_iter().chain(["ours.npz", "ours.safetensors"].map(str::to_owned)) {
        let bytes = fixture(&name);
        for len in (0..bytes.len()).step_by(7) {
            assert!(!read_everything(&name, &bytes[..len]), "{name} cut to {len} bytes was read");
        }
    }
    for name in all(".hdf5") {
        let bytes = fixture(&name);
        for len in (0..bytes.len()).step_by(503) {
            read_everything(&name, &bytes[..len]);
        }
        assert!(!read_everything(&name, &bytes[..bytes.len() / 2]));
    }
}

#[test]
fn damaged_files_on_the_disk_are_no_worse() {
    let folder = tempfile::tempdir().unwrap();
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    for name in all(".hdf5") {
        let path: PathBuf = folder.path().join(&name);
        let bytes = fixture(&name);
        for _ in 0..20 {
            let changes = vec(damage(), 1..3).new_tree(&mut runner).unwrap().current();
            fs::write(&path, damaged(bytes.clone(), &changes)).unwrap();
            read_hdf5(&name, RobomimicFile::open(&path));
        }
    }
}

#[test]
fn chunks_in_each_others_place_are_refused() {
    let name = "robomimic_gzip_chunked.hdf5";
    const NODE: &[u8] = b"TREE\x01";
    let mut bytes = fixture(name);
    let half = bytes.len() as u32 / 2;
    let nodes: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(NODE)).collect();
    let mut told = 0;
    for node in nodes {
        let entries = usize::from(u16::from_le_bytes([bytes[node + 6], bytes[node + 7]]));
        // A chunk of actions or observations has two coordinates and its element's: a key of 32 bytes, then its address.
        for entry in (0..entries).map(|entry| node + 24 + 40 * entry) {
            // Not a key of another rank, whose numbers stand elsewhere: filters are all used, the last coordinate is 0.
            if bytes[entry + 4..entry + 8] != [0; 4] || bytes[entry + 24..entry + 32] != [0; 8] {
                continue;
            }
            bytes[entry..entry + 4].copy_from_slice(&half.to_le_bytes());
            bytes[entry + 32..entry + 40].copy_from_slice(&0u64.to_le_bytes());
            told += 1;
        }
    }
    assert!(told > 8, "{told}");
    LARGEST.with(|largest| largest.set(0));
    let file = RobomimicFile::from_bytes(Path::new(name), bytes).unwrap();
    let options = RobomimicReadOptions { keys: vec!["object".to_owned()], ..Default::default() };
    let error = file.episodes(&options, &mut |_, _| true).unwrap_err().to_string();
    assert!(error.contains(name) && error.contains("in each other's place"), "{error}");
}

/// A ZIP archive of one deflated entry for each name, which claims sizes that it need not have.
fn archive(entries: &[(&str, &[u8], u32)]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for (name, stored, size) in entries {
        let start = bytes.len() as u32;
        let len = (name.len() as u16).to_le_bytes();
        let mut whole = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::DeflateDecoder::new(*stored), &mut whole).unwrap();
        let mut crc = flate2::Crc::new();
        crc.update(&whole);
        let numbers = [crc.sum(), stored.len() as u32, *size];
        let sizes = numbers.map(u32::to_le_bytes).concat();
        let common = [&[20, 0, 0, 0, 8, 0, 0, 0, 0, 0][..], &sizes, &len, &[0; 2]].concat();
        bytes.extend([&b"PK\x03\x04"[..], &common, name.as_bytes(), stored].concat());
        directory.extend([&b"PK\x01\x02\x14\0"[..], &common, &[0; 10], &start.to_le_bytes(), name.as_bytes()].concat());
    }
    let (count, start) = ((entries.len() as u16).to_le_bytes(), bytes.len() as u32);
    let size = directory.len() as u32;
    bytes.extend(directory);
    bytes.extend(
        [&b"PK\x05\x06\0\0\0\0"[..], &count, &count, &size.to_le_bytes(), &start.to_le_bytes(), &[0; 2]].concat(),
    );
    bytes
}

fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::none());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

fn array_header(descr: &str, shape: &str) -> Vec<u8> {
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}").into_bytes();
    header.resize(117, b' ');
    header.push(b'\n');
    [&b"\x93NUMPY\x01\0"[..], &(header.len() as u16).to_le_bytes(), &header].concat()
}

#[test]
fn an_array_that_claims_more_than_it_has_reserves_no_more_than_comes() {
    // 100 kB that would unfold to 64 MB, if they were what the archive says.
    let flags = [&array_header("|b1", "(2,)")[..], &[0, 1]].concat();
    let numbers = [&array_header("<f4", "(2, 8000000)")[..], &[7; 100_000]].concat();
    let (stored_flags, stored) = (deflated(&flags), deflated(&numbers));
    let claimed = (array_header("<f4", "(2, 8000000)").len() + 64_000_000) as u32;
    let bytes = archive(&[
        ("terminals.npy", &stored_flags, flags.len() as u32),
        ("observations.npy", &stored, claimed),
        ("actions.npy", &stored_flags, flags.len() as u32),
    ]);
    LARGEST.with(|largest| largest.set(0));
    let error = OgbenchData::from_bytes(Path::new("lying.npz"), bytes).unwrap_err().to_string();
    let largest = LARGEST.with(Cell::get);
    assert!(error.contains("lying.npz") && error.contains("observations"), "{error}");
    assert!(largest < 4 << 20, "{largest} bytes were asked for at once");
}

#[test]
fn entries_that_share_bytes_are_refused() {
    let flags = deflated(&[&array_header("|b1", "(2,)")[..], &[0, 1]].concat());
    let mut bytes = archive(&[("terminals.npy", &flags, 130), ("observations.npy", &flags, 130)]);
    // Both claim nearly all of the file.
    let whole = (bytes.len() as u32 - 60).to_le_bytes();
    let entries: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(b"PK\x01\x02")).collect();
    assert_eq!(entries.len(), 2);
    for entry in entries {
        bytes[entry + 20..entry + 24].copy_from_slice(&whole);
    }
    let error = OgbenchData::from_bytes(Path::new("shared.npz"), bytes).unwrap_err().to_string();
    assert!(error.contains("shared.npz") && error.contains("share some"), "{error}");
}

/// Found by the long test below: the library adds such places up without a check.
#[test]
fn a_chunk_outside_of_its_dataset_is_refused() {
    let name = "robomimic_gzip.hdf5";
    // Nodes of the trees that tell where chunks are. Their first key: size, filters, then the place, row first.
    const NODE: &[u8] = b"TREE\x01";
    let whole = fixture(name);
    let nodes: Vec<usize> = (0..whole.len()).filter(|at| whole[*at..].starts_with(NODE)).collect();
    assert!(nodes.len() > 3);
    for place in [u64::MAX, u64::MAX - 1, 1 << 40, 1] {
        let mut bytes = whole.clone();
        for node in &nodes {
            bytes[node + 32..node + 40].copy_from_slice(&place.to_le_bytes());
        }
        let file = RobomimicFile::from_bytes(Path::new(name), bytes).unwrap();
        let error = file.episodes(&RobomimicReadOptions::default(), &mut |_, _| true).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("/data/demo_0/actions"), "{error}");
    }
}

#[test]
fn foreign_files_are_named() {
    for foreign in
        [&b""[..], b"\x89PNG\r\n\x1a\n and so on", b"PK\x05\x06", b"\x89HDF\r\n\x1a\n", &[0; 4096], &[255; 4096]]
    {
        for name in ["a.npz", "a.hdf5"] {
            assert!(!read_everything(name, foreign));
        }
    }
}

#[test]
#[ignore = "goes on for an hour"]
fn any_damage_for_an_hour() {
    let secs = std::env::var("ONESTEP_FUZZ_SECS").ok().and_then(|text| text.parse().ok()).unwrap_or(3600);
    let end = Instant::now() + Duration::from_secs(secs);
    let names = all(".hdf5").into_iter().chain(all(".npz")).chain(OURS.map(str::to_owned));
    let files: Vec<(String, Vec<u8>)> =
        names.map(|name| (fixture(&name), name)).map(|(bytes, name)| (name, bytes)).collect();
    // Seeded by the clock: each hour sees other damage. A failure shows the changes that led to it.
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    let (mut cases, mut read) = (0u64, 0u64);
    while Instant::now() < end {
        for (name, bytes) in &files {
            let changes = vec(damage(), 1..6).new_tree(&mut runner).unwrap().current();
            let bytes = damaged(bytes.clone(), &changes);
            let result = std::panic::catch_unwind(|| read_everything(name, &bytes));
            match result {
                Ok(is_read) => read += u64::from(is_read),
                Err(_) => panic!("{name} with {changes:?}"),
            }
            cases += 1;
        }
    }
    eprintln!("{cases} damaged files, {read} of them could be read");
}
