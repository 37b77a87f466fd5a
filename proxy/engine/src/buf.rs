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
///
/// `released` may be ahead of `written`: a server answers the first command of a batch, for which all of the batch
/// is released, before the rest has been written. Only what is both is cut off.
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
        let spent = self.spent();
        if spent > COMPACT_BYTES && spent > self.data.len() / 2 {
            self.compact();
        }
        &mut self.data
    }

    /// Bytes at the front that nobody needs any more.
    #[inline]
    fn spent(&self) -> usize {
        self.released.min(self.written)
    }

    /// Not before something is appended: a large value that leaves in pieces is not moved up after each.
    #[cold]
    fn compact(&mut self) {
        let spent = self.spent();
        self.data.drain(..spent);
        self.written -= spent;
        self.released -= spent;
    }

    /// Takes a buffer over whose last `len` bytes wait to be written; what is in front of them is not wanted.
    /// Only while it is empty.
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

    /// True if nothing is held and nothing waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
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
        self.reset_spent();
    }

    /// Forgets the oldest `count` held bytes, which have been sent, or have begun to be.
    #[inline]
    pub fn release(&mut self, count: usize) {
        self.released += count;
        debug_assert!(self.released <= self.data.len());
        self.reset_spent();
    }

    #[inline]
    fn reset_spent(&mut self) {
        if self.spent() == self.data.len() {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_answered_before_it_is_all_written_is_written_all_the_same() {
        let mut out = OutBuf::default();
        out.extend(b"MULTI INCR EXEC");
        out.advance(5);
        // The reply to MULTI, which stands for all of the batch.
        out.release(15);
        assert_eq!((out.held(), out.unwritten()), (0, &b" INCR EXEC"[..]));
        assert!(!out.is_empty());
        out.extend(b"GET");
        assert_eq!(out.unwritten(), b" INCR EXECGET");
        assert_eq!(out.held_slice(0, 3), b"GET");
        out.advance(13);
        out.release(3);
        assert!(out.is_empty());
    }

    #[test]
    fn it_is_empty_when_the_rest_is_written_and_was_released_before() {
        let mut out = OutBuf::default();
        out.extend(b"MULTI INCR EXEC");
        out.advance(5);
        out.release(15);
        out.advance(10);
        assert!(out.is_empty());
        out.extend(b"GET");
        assert_eq!(out.unwritten(), b"GET");
    }

    #[test]
    fn what_is_cut_off_at_the_front_was_written() {
        let mut out = OutBuf::default();
        let batch = vec![b'x'; 4 * COMPACT_BYTES];
        out.extend(&batch);
        out.advance(batch.len() - 15);
        out.release(batch.len());
        out.extend(b"GET");
        assert_eq!(out.unwritten(), [&[b'x'; 15][..], b"GET"].concat());
        assert_eq!((out.held(), out.held_slice(0, 3)), (3, &b"GET"[..]));
    }
}
