//! Output buffers.
//!
//! Bytes wait in one contiguous buffer per connection so that everything queued in a loop turn
//! leaves in one `send`. A backend's buffer also keeps what was sent until its reply has come, so
//! that reads can be asked of another replica when the connection dies.

/// A buffer larger than this is given back as soon as it is empty; smaller ones when their owner
/// rests (`shed`). So a burst leaves nothing behind, and steady traffic allocates nothing.
const KEEP_CAPACITY: usize = 1024 * 1024;
/// Sent bytes at the front of a buffer that is never empty are cut off in steps of this, or larger ones.
const COMPACT_BYTES: usize = 64 * 1024;

/// `[0 .. released)` is free, `[released .. written)` is sent and still kept, `[written .. end)` waits.
#[derive(Default)]
pub struct OutBuf {
    data: Vec<u8>,
    released: usize,
    written: usize,
}

impl OutBuf {
    #[inline]
    pub fn extend(&mut self, bytes: &[u8]) {
        self.tail().extend_from_slice(bytes);
    }

    /// The vector to append to directly.
    #[inline]
    pub fn tail(&mut self) -> &mut Vec<u8> {
        if self.released > COMPACT_BYTES && self.released > self.data.len() / 2 {
            self.compact();
        }
        &mut self.data
    }

    /// Not before something is appended: a large value that leaves in pieces is not moved up after each.
    #[cold]
    fn compact(&mut self) {
        self.data.drain(..self.released);
        self.written -= self.released;
        self.released = 0;
    }

    /// Takes a buffer over whose last `len` bytes wait to be written; what is in front of them is not wanted.
    /// Only while nothing is held.
    pub fn adopt(&mut self, data: Vec<u8>, len: usize) {
        debug_assert!(self.data.is_empty());
        self.released = data.len() - len;
        self.written = self.released;
        self.data = data;
    }

    #[inline]
    pub fn unwritten(&self) -> &[u8] {
        &self.data[self.written..]
    }

    #[inline]
    pub fn waiting(&self) -> usize {
        self.data.len() - self.written
    }

    /// Bytes that are held, sent or not.
    #[inline]
    pub fn held(&self) -> usize {
        self.data.len() - self.released
    }

    #[inline]
    pub fn advance(&mut self, count: usize) {
        self.written += count;
        debug_assert!(self.written <= self.data.len());
    }

    /// Forgets the oldest `count` held bytes (which have been sent).
    #[inline]
    pub fn release(&mut self, count: usize) {
        self.released += count;
        debug_assert!(self.released <= self.written);
        if self.released == self.data.len() {
            self.reset();
        }
    }

    /// Forgets everything that was sent.
    #[inline]
    pub fn release_written(&mut self) {
        self.release(self.written - self.released);
    }

    /// Held bytes from `offset` (counted from the oldest held) on, `len` of them.
    pub fn held_slice(&self, offset: usize, len: usize) -> &[u8] {
        &self.data[self.released + offset..self.released + offset + len]
    }

    pub fn reset(&mut self) {
        self.released = 0;
        self.written = 0;
        if self.data.capacity() > KEEP_CAPACITY {
            self.data = Vec::new();
        } else {
            self.data.clear();
        }
    }

    /// Gives the memory back if nothing is held.
    pub fn shed(&mut self) {
        if self.data.is_empty() {
            self.data = Vec::new();
        }
    }

    pub fn capacity(&self) -> usize {
        self.data.capacity()
    }
}
