//! One way to pass over a test that this machine cannot run.

#![allow(clippy::print_stderr, reason = "a test that is passed over says so")]

use std::fmt::Display;

/// Says why a test is passed over. With `ONESTEP_REQUIRE_RENDERING=1`, where all that tests need is installed, it fails.
#[track_caller]
pub fn skip(reason: impl Display) {
    let is_required = std::env::var_os("ONESTEP_REQUIRE_RENDERING").is_some_and(|value| value == "1");
    assert!(!is_required, "ONESTEP_REQUIRE_RENDERING is set, and a test cannot run: {reason}");
    eprintln!("skipped: {reason}");
}
