//! Large values change hands without being copied: the buffer in which a reply, or a request, has been put together
//! becomes the output of whoever gets it.
//!
//! Whoever handles the bytes of such a buffer only borrows them, so it says that the output would like to have the
//! buffer, and the owner gives it away afterwards. That takes a message that is the last in its buffer, and an output
//! that is empty and gets nothing else until then.

use super::*;

/// Below it a copy costs less than the page faults of a new buffer: buffers that are copied from are used again.
pub(super) const LEND_BYTES: usize = 4 * 1024 * 1024;

/// Who gets the buffer, as far as it is known.
#[derive(Default)]
pub(super) struct Lent {
    /// Address of the end of the buffer; 0 while none is lent.
    end: usize,
    taker: Option<(Taker, usize)>,
}

/// Whose output it becomes.
pub(super) enum Taker {
    Client(Handle),
    Conn(u32),
}

impl Lent {
    /// The bytes of this buffer are being handled.
    #[inline]
    pub(super) fn lend(&mut self, buffer: &[u8]) {
        if buffer.len() >= LEND_BYTES {
            self.end = buffer.as_ptr_range().end as usize;
        }
    }

    /// True if the buffer will be the output of `taker`, whose bytes these are and whose output is empty. Not to
    /// be asked for less than `LEND_BYTES`.
    #[cold]
    pub(super) fn take(&mut self, taker: Taker, bytes: &[u8]) -> bool {
        let is_last = bytes.as_ptr_range().end as usize == self.end;
        if is_last {
            self.taker = Some((taker, bytes.len()));
        }
        is_last
    }
}

impl Worker {
    /// Ends the loan: None if the buffer was given away.
    #[inline]
    pub(super) fn settle(&mut self, buffer: Vec<u8>) -> Option<Vec<u8>> {
        self.lent.end = 0;
        let Some((taker, len)) = self.lent.taker.take() else {
            return Some(buffer);
        };
        match taker {
            Taker::Client(who) => self.clients.get_mut(who)?.out.adopt(buffer, len),
            Taker::Conn(index) => self.conns[index as usize].out.adopt(buffer, len),
        }
        None
    }
}
