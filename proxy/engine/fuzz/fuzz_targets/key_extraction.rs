//! Fuzzes `checks::key_extraction`, which says what must hold.

#![no_main]

#[path = "../checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|input: &[u8]| checks::key_extraction(input));
