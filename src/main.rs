//! The binary: choose the face and hand over.
fn main() {}
