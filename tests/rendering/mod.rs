//! Whether pictures can be drawn here. It needs `mod skip` at the root.

use onestep_record::video::find_adapter;

use crate::skip::skip;

/// Whether there is a graphics driver; says so if not.
#[track_caller]
pub fn can_render() -> bool {
    find_adapter().inspect_err(|error| skip(error)).is_ok()
}
