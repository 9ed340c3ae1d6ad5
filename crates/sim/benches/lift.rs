//! Control steps per second.
fn main() {}
