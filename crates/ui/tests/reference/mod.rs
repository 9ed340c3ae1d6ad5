//! Pictures that somebody has looked at, and how near a new one must come to them.
//!
//! `ONESTEP_RENEW_REFERENCES=1 cargo test …` writes them anew, small, into this folder: look at each before it is
//! committed. They were drawn by Mesa's llvmpipe; other drivers round edges and shadows differently, which the bounds
//! allow for. `ONESTEP_KEEP_PICTURES=FOLDER` keeps what a test has drawn, at full size.

use std::path::{Path, PathBuf};

use onestep_record::picture::{Difference, Frame};

/// Rows of a reference.
const HEIGHT: u32 = 240;

/// Largest mean difference, of 255.
pub const MEAN: f64 = 2.0;
/// Largest mean difference in any of the parts, of 255: a card or a curve that is missing is more.
pub const PART: f64 = 9.0;

fn file(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../ui/tests/reference")).join(format!("{name}.png"))
}

/// How far a picture is from the reference of this name.
pub fn difference(frame: &Frame, name: &str) -> Difference {
    let path = file(name);
    let reference = Frame::read_png(&path).unwrap_or_else(|error| {
        panic!("{}: {error}; ONESTEP_RENEW_REFERENCES=1 makes the references anew", path.display())
    });
    frame.difference(&reference).unwrap_or_else(|| {
        let (width, height) = (frame.width, frame.height);
        panic!("{name}: a picture of {width} x {height} has another shape than its reference; was its size changed?")
    })
}

#[allow(dead_code, reason = "not every test file asks")]
/// Whether a picture passes for the reference of this name.
pub fn is_like(frame: &Frame, name: &str) -> bool {
    let difference = difference(frame, name);
    difference.mean <= MEAN && difference.worst_mean <= PART
}

/// Fails unless a picture passes for the reference of this name; renews the reference if that was asked for.
#[track_caller]
pub fn assert_like(frame: &Frame, name: &str) {
    if let Ok(folder) = std::env::var("ONESTEP_KEEP_PICTURES") {
        frame.write_png(&Path::new(&folder).join(format!("{name}.png"))).unwrap();
    }
    if std::env::var_os("ONESTEP_RENEW_REFERENCES").is_some() {
        frame.scaled_to_height(HEIGHT).write_png(&file(name)).unwrap();
    }
    let difference = difference(frame, name);
    assert!(
        difference.mean <= MEAN && difference.worst_mean <= PART,
        "{name} does not look like its reference, {}: {difference:.2?}; at most {MEAN} and {PART} are allowed. If it \
         should look otherwise now, see tests/reference/mod.rs",
        file(name).display()
    );
}
