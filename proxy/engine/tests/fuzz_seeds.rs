//! Replays the inputs fuzzing starts from, and those it once found, without a fuzzer.
//!
//! `fuzz/seeds/TARGET/` holds one input per file; a crash that was mended is kept there.

#[path = "../fuzz/checks.rs"]
mod checks;

use std::path::Path;

/// Runs `check` on every file of the target's directory.
fn replay(target: &str, check: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/seeds")
        .join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(&directory).unwrap() {
        let input = std::fs::read(entry.unwrap().path()).unwrap();
        check(&input);
        // Cut anywhere, an input is another one.
        for end in (0..input.len().min(2000)).step_by(7) {
            check(&input[..end]);
        }
        count += 1;
    }
    assert!(count >= 3, "{count} seeds in {}", directory.display());
}

#[test]
fn resp_request() {
    replay("resp_request", checks::resp_request);
}

#[test]
fn resp_reply() {
    replay("resp_reply", checks::resp_reply);
}

#[test]
fn memcache_request() {
    replay("memcache_request", checks::memcache_request);
}

#[test]
fn memcache_reply() {
    replay("memcache_reply", checks::memcache_reply);
}

#[test]
fn memcache_binary() {
    replay("memcache_binary", checks::memcache_binary);
}

#[test]
fn meta_dialect() {
    replay("meta_dialect", checks::meta_dialect);
}

#[test]
fn key_extraction() {
    replay("key_extraction", checks::key_extraction);
}
