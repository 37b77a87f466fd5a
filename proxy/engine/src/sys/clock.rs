//! Time as the workers see it: microseconds since the engine started, read once per loop turn.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A monotonic clock. `u32` microseconds wrap after 71 minutes, so differences are taken with
/// `wrapping_sub` and only for spans far shorter than that; deadlines use `millis`.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// None: it stands still.
    start: Option<Instant>,
}

impl Clock {
    pub fn new() -> Self {
        Clock {
            start: Some(Instant::now()),
        }
    }

    /// A clock that shows 0 for ever, for replays that must not depend on how long they take.
    pub fn stopped() -> Self {
        Clock { start: None }
    }

    fn elapsed(&self) -> Duration {
        self.start.map_or(Duration::ZERO, |start| start.elapsed())
    }

    pub fn micros(&self) -> u64 {
        self.elapsed().as_micros() as u64
    }

    pub fn seconds(&self) -> u64 {
        self.elapsed().as_secs()
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
