//! Every target is this file: its name, which is the program's, says which entry of `agent::fuzzing` it throws bytes at.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let name = env!("CARGO_BIN_NAME");
    let (_, target) = agent::fuzzing::TARGETS.iter().find(|(known, _)| *known == name).expect("an entry of this name");
    target(data);
});
