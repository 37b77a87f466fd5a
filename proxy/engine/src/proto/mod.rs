//! Wire formats, without IO: bytes in, positions out. No descriptor, no clock.
//!
//! A request or a reply is described by positions in the buffer it was read into, so that nothing
//! is copied before it is known where the bytes go.

pub mod memcache;
pub mod resp;

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
