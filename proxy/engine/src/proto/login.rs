//! The login of memcached's classic text protocol (`-Y`): a `set` whose key, flags and expiry say nothing and
//! whose data block is `user password`. Until it was right a server takes nothing else.
//!
//! The first blank ends the name, so that a password may have some, as servers have it since 1.6.39.

use memchr::memchr;

use super::memcache::{unsigned, EndlessLine};
use super::{Resume, Step};

/// A line without end that is longer closes the connection.
const LINE_LIMIT: usize = 2048;
/// Longest `user password`.
pub const TOKEN_LIMIT: u64 = 16 * 1024;

/// What a client that has to log in has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login<'a> {
    Credentials {
        user: &'a [u8],
        password: &'a [u8],
    },
    /// No login: the text of the refusal.
    Refused(&'static [u8]),
}

/// Parses what stands at the start of `buf`: a login, or one line of something else.
pub fn login<'a>(buf: &'a [u8], resume: &mut Resume) -> (Step<EndlessLine>, Option<Login<'a>>) {
    if resume.started && (buf.len() as u64) < resume.remaining {
        return (Step::Incomplete, None);
    }
    // Also with an end behind it, or it would matter where the bytes were cut.
    let newline = memchr(b'\n', buf);
    if newline.unwrap_or(buf.len()) > LINE_LIMIT {
        return (Step::Invalid(EndlessLine), None);
    }
    let Some(newline) = newline else {
        return (Step::Incomplete, None);
    };
    let head = newline + 1;
    let refused = |size, text| (Step::Complete(size), Some(Login::Refused(text)));
    let line = buf[..newline]
        .strip_suffix(b"\r")
        .unwrap_or(&buf[..newline]);
    let mut words = line
        .split(|byte| *byte == b' ')
        .filter(|word| !word.is_empty());
    let (verb, length) = (words.next(), words.nth(3).and_then(unsigned));
    let length = match length {
        Some(length) if verb == Some(b"set") && length <= u64::from(u32::MAX) => length,
        _ => return refused(head, b"CLIENT_ERROR unauthenticated\r\n"),
    };
    if length > TOKEN_LIMIT {
        return refused(head, b"CLIENT_ERROR auth token too long\r\n");
    }
    let (end, size) = (head + length as usize, head + length as usize + 2);
    if buf.len() < size {
        *resume = Resume {
            at: 0,
            remaining: size as u64,
            started: true,
        };
        return (Step::Incomplete, None);
    }
    *resume = Resume::default();
    if buf[end..size] != *b"\r\n" {
        return refused(size, b"CLIENT_ERROR bad command line termination\r\n");
    }
    let token = &buf[head..end];
    let found = match memchr(b' ', token) {
        Some(at) => Login::Credentials {
            user: &token[..at],
            password: &token[at + 1..],
        },
        None => Login::Refused(b"CLIENT_ERROR bad authentication token format\r\n"),
    };
    (Step::Complete(size), Some(found))
}

/// Appends a login. If the server wants none it stores an item that is over at once, under a key of our own.
pub fn write_login(user: &[u8], password: &[u8], out: &mut Vec<u8>) {
    let length = user.len() + 1 + password.len();
    out.extend_from_slice(format!("set __shardproxy:login 0 -1 {length}\r\n").as_bytes());
    for part in [user, b" ", password, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials<'a>(user: &'a str, password: &'a str) -> Login<'a> {
        let (user, password) = (user.as_bytes(), password.as_bytes());
        Login::Credentials { user, password }
    }

    #[test]
    fn a_login_is_a_set_of_any_key() {
        let cases = [
            ("set a 0 0 8\r\nfoo barb\r\n", credentials("foo", "barb")),
            (
                "set x y z 8 noreply\nfoo barb\r\n",
                credentials("foo", "barb"),
            ),
            ("set  a 0 0 9\r\nfoo b rb \r\n", credentials("foo", "b rb ")),
            ("set a 0 0 2\r\nf \r\n", credentials("f", "")),
        ];
        for (text, expected) in cases {
            let (step, found) = login(text.as_bytes(), &mut Resume::default());
            assert_eq!(
                (step, found),
                (Step::Complete(text.len()), Some(expected)),
                "{text}"
            );
        }
    }

    #[test]
    fn anything_else_is_refused_line_by_line() {
        let cases = [
            ("get a\r\n", "", "unauthenticated"),
            ("\r\n", "", "unauthenticated"),
            ("set a 0 0 x\r\n", "foo bar\r\n", "unauthenticated"),
            ("set a 0 0\r\n", "", "unauthenticated"),
            ("add a 0 0 7\r\n", "foo bar\r\n", "unauthenticated"),
            ("set a 0 0 4294967296\r\n", "", "unauthenticated"),
            ("set a 0 0 16385\r\n", "", "auth token too long"),
            (
                "set a 0 0 7\r\nfoo barXX",
                "",
                "bad command line termination",
            ),
            (
                "set a 0 0 6\r\nfoobar\r\n",
                "",
                "bad authentication token format",
            ),
        ];
        for (text, rest, reason) in cases {
            let buf = format!("{text}{rest}");
            let (step, found) = login(buf.as_bytes(), &mut Resume::default());
            let reason = format!("CLIENT_ERROR {reason}\r\n");
            assert_eq!(step, Step::Complete(text.len()), "{text}");
            let Some(Login::Refused(found)) = found else {
                panic!("{text} is taken");
            };
            assert_eq!(found, reason.as_bytes(), "{text}");
        }
    }

    #[test]
    fn it_may_come_byte_by_byte_but_not_for_ever() {
        let text = b"set a 0 0 8\r\nfoo barb\r\n";
        let mut resume = Resume::default();
        for end in 1..text.len() {
            assert_eq!(login(&text[..end], &mut resume), (Step::Incomplete, None));
        }
        let (step, found) = login(text, &mut resume);
        assert_eq!(step, Step::Complete(text.len()));
        assert_eq!(found, Some(credentials("foo", "barb")));
        let endless = vec![b'x'; LINE_LIMIT + 1];
        for endless in [&endless[..], &[&endless[..], b"\n"].concat()] {
            let step = login(endless, &mut Resume::default()).0;
            assert_eq!(step, Step::Invalid(EndlessLine));
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut out = Vec::new();
        write_login(b"app", b"pass word", &mut out);
        let (step, found) = login(&out, &mut Resume::default());
        assert_eq!(step, Step::Complete(out.len()));
        assert_eq!(found, Some(credentials("app", "pass word")));
    }
}
