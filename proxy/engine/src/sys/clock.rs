//! Time as the workers see it: microseconds since the engine started, read once per loop turn.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A monotonic clock. `u32` microseconds wrap after 71 minutes, so differences are taken with
/// `wrapping_sub` and only for spans far shorter than that; deadlines use `millis`.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    pub fn new() -> Self {
        Clock {
            start: Instant::now(),
        }
    }

    pub fn micros(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }

    pub fn seconds(&self) -> u64 {
        self.start.elapsed().as_secs()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// Microseconds since 1970.
pub fn unix_micros() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as u64)
}
