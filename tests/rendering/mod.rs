//! Whether pictures can be drawn here.

#[path = "../skip/mod.rs"]
mod skip;

use onestep_record::video::find_adapter;

/// Whether there is a graphics driver; says so if not.
#[track_caller]
pub fn can_render() -> bool {
    find_adapter().inspect_err(|error| skip::skip(error)).is_ok()
}
