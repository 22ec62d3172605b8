//! What is promised by the clock: from a sample to what was decided from it. Cargo runs this after the other tests, when
//! the machine has nothing else to do, for a second is soon gone beside six servers.

mod detect_path;
mod pushed;
