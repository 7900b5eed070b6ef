//! What it promises is in `src/fuzz.rs`.

#![no_main]

use kontor::fuzz::{Target, run};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| run(Target::Headers, bytes));
