//! Ctrl-C: the first asks to save and stop, the second stops at once.

use std::sync::atomic::{AtomicBool, Ordering};

static WANTED: AtomicBool = AtomicBool::new(false);

/// Takes over Ctrl-C.
///
/// # Errors
/// When the system has no such signals.
pub(super) fn listen() -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(|| {
        if WANTED.swap(true, Ordering::Relaxed) {
            std::process::exit(super::INTERRUPTED.into());
        }
    })
}

/// Whether Ctrl-C was pressed.
pub(super) fn is_wanted() -> bool {
    WANTED.load(Ordering::Relaxed)
}
