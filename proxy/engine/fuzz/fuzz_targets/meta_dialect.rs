//! Fuzzes `checks::meta_dialect`, which says what must hold.

#![no_main]

#[path = "../checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|input: &[u8]| checks::meta_dialect(input));
