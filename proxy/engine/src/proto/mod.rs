//! Wire formats, without IO: bytes in, positions out. No descriptor, no clock.
//!
//! A request or a reply is described by positions in the buffer it was read into, so that nothing
//! is copied before it is known where the bytes go. Every parser resumes where it stopped
//! (`Resume`), so that input that trickles in byte by byte is not scanned again and again.

pub mod binary;
pub mod dump;
pub mod login;
pub mod memcache;
pub mod meta;
pub mod resp;
#[cfg(test)]
mod tests;
pub mod token;
pub mod verb;

/// One argument of a request: where its bytes stand in the buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arg {
    pub start: u32,
    pub len: u32,
}

/// The arguments of one request over the buffer they were parsed from; `get(0)` is the command.
#[derive(Clone, Copy)]
pub struct Args<'a> {
    pub buf: &'a [u8],
    pub list: &'a [Arg],
}

impl<'a> Args<'a> {
    /// Argument `i`; empty if there is none, so that callers check `len` where it matters.
    #[inline]
    pub fn get(&self, i: usize) -> &'a [u8] {
        match self.list.get(i) {
            Some(arg) => &self.buf[arg.start as usize..(arg.start + arg.len) as usize],
            None => b"",
        }
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// All arguments in order.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + '_ {
        (0..self.len()).map(|i| self.get(i))
    }
}

/// What a parser makes of the bytes so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<E> {
    /// A whole message of that many bytes stands at the start of the buffer.
    Complete(usize),
    /// More bytes are needed; call again with the same start and more at the end.
    Incomplete,
    /// The bytes cannot be a message.
    Invalid(E),
}

/// How far an incomplete message was scanned. `Default` is the start of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resume {
    /// Bytes that need no second look.
    pub at: usize,
    /// Parts of the message that are still to come after `at`, once its head is known.
    pub remaining: u64,
    /// True once `remaining` means something.
    pub started: bool,
}
