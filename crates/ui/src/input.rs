use bevy::prelude::*;

/// Input that somebody else takes, so that keys and drags do not mean two things at once.
#[derive(Resource, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InputCapture {
    /// The pointer is over a panel.
    pub pointer: bool,
    /// A text field takes the keys.
    pub keyboard: bool,
    /// Left and right mean something else than the camera.
    pub arrows: bool,
}
