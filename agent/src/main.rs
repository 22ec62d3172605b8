//! turnback
fn main() {}
