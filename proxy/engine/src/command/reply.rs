//! Writes replies in the client's protocol version: the same call gives RESP2 or RESP3.
//!
//! Used by the local answers only; replies of backends pass through as they are.

use crate::error::{self, Wire};

pub struct Reply<'a> {
    out: &'a mut Vec<u8>,
    resp3: bool,
}

impl<'a> Reply<'a> {
    pub fn new(out: &'a mut Vec<u8>, resp3: bool) -> Reply<'a> {
        Reply { out, resp3 }
    }

    pub fn ok(&mut self) {
        self.status("OK");
    }

    pub fn status(&mut self, text: &str) {
        self.line(b'+', text.as_bytes());
    }

    pub fn integer(&mut self, value: i64) {
        self.line(b':', value.to_string().as_bytes());
    }

    pub fn bulk(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        self.line(b'$', bytes.len().to_string().as_bytes());
        self.out.extend_from_slice(bytes);
        self.out.extend_from_slice(b"\r\n");
    }

    /// Text for people: a verbatim string in RESP3.
    pub fn text(&mut self, text: &[u8]) {
        if !self.resp3 {
            return self.bulk(text);
        }
        self.line(b'=', (text.len() + 4).to_string().as_bytes());
        self.out.extend_from_slice(b"txt:");
        self.out.extend_from_slice(text);
        self.out.extend_from_slice(b"\r\n");
    }

    pub fn null(&mut self) {
        self.out
            .extend_from_slice(if self.resp3 { b"_\r\n" } else { b"$-1\r\n" });
    }

    /// Begins an array of `n` items, which the caller writes next.
    pub fn array(&mut self, n: usize) {
        self.line(b'*', n.to_string().as_bytes());
    }

    /// Begins a map of `n` pairs; RESP2 has it as a flat array.
    pub fn map(&mut self, n: usize) {
        if self.resp3 {
            self.line(b'%', n.to_string().as_bytes());
        } else {
            self.array(2 * n);
        }
    }

    /// Begins a set of `n` items; RESP2 has it as an array.
    pub fn set(&mut self, n: usize) {
        self.line(
            if self.resp3 { b'~' } else { b'*' },
            n.to_string().as_bytes(),
        );
    }

    pub fn wire(&mut self, error: Wire) {
        self.out.extend_from_slice(error.redis());
    }

    /// `-ERR ` and the text.
    pub fn error(&mut self, text: &str) {
        error::message(text, self.out);
    }

    pub fn wrong_arity(&mut self, name: &str) {
        error::wrong_arity(name, self.out);
    }

    fn line(&mut self, kind: u8, text: &[u8]) {
        self.out.push(kind);
        self.out.extend_from_slice(text);
        self.out.extend_from_slice(b"\r\n");
    }
}
