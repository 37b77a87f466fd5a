//! CAS tokens of replicated shards: what servers count, and what clients are told (design: 5.2).
//!
//! Each server counts tokens for itself, so another server's could be equal by accident; a tag tells them
//! apart, which changes with the view. A token that a client gives an item (`E`) is the client's own and
//! stays what it is; on the servers a bit keeps it apart from those they count.
//!
//! | | the client's | a server's |
//! |---|---|---|
//! | counted by a server | tag (20 to 7f) in the upper byte | below 2^56 |
//! | given by a client | as given, below 2^61 | with the highest bit |
//! | none | 0 | 0 |
//!
//! A server would have to store 2^56 items to reach the tag. All are below 2^63, as clients in languages
//! without unsigned numbers want them; tokens given may be times in nanoseconds for some years.

use memchr::memchr;

use super::memcache::{unsigned, value_block};
use super::meta::is_status;
use super::resp::write_number;

const TAG_SHIFT: u32 = 56;
const COUNTED: u64 = (1 << TAG_SHIFT) - 1;
const GIVEN: u64 = 1 << 63;
const FIRST_TAG: u8 = 0x20;
/// What comes from a server that does not lead: no token of it is accepted.
pub const FOREIGN: u8 = 0x7f;
/// A token that no item has.
const NONE: u64 = u64::MAX;

/// The tag of a view.
#[inline]
pub fn tag_of(epoch: u64) -> u8 {
    (epoch % u64::from(FOREIGN - FIRST_TAG)) as u8 + FIRST_TAG
}

/// What a client is told.
#[inline]
pub fn told(token: u64, tag: u8) -> u64 {
    match token {
        0 => 0,
        given if given & GIVEN != 0 => given & !GIVEN,
        counted => u64::from(tag) << TAG_SHIFT | counted & COUNTED,
    }
}

/// What a token that a client compares with is to the leader, whose tag is given if there is one. A token of
/// another view was read elsewhere or before; one that no item has lets the leader say what there is.
#[inline]
pub fn compared(token: u64, tag: Option<u8>) -> u64 {
    let found = (token >> TAG_SHIFT) as u8;
    match token {
        0 => 0,
        _ if found < FIRST_TAG => token | GIVEN,
        _ if Some(found) == tag && found != FOREIGN => token & COUNTED,
        _ => NONE,
    }
}

/// What a token that a client gives an item is to servers.
#[inline]
pub fn given(token: u64) -> u64 {
    if token == 0 {
        0
    } else {
        token | GIVEN
    }
}

/// Copies a `Values` reply to `out` with the tag put on every token.
pub fn tag_values(reply: &[u8], tag: u8, out: &mut Vec<u8>) {
    let mut rest = reply;
    while let Some((_, len)) = value_block(rest) {
        let head = memchr(b'\n', rest).map_or(0, |newline| newline + 1);
        let line = rest[..head].trim_ascii_end();
        let (before, token) =
            line.split_at(line.iter().rposition(|b| *b == b' ').map_or(0, |at| at + 1));
        out.extend_from_slice(before);
        write_number(out, told(unsigned(token).unwrap_or(0), tag));
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&rest[head..len]);
        rest = &rest[len..];
    }
    out.extend_from_slice(rest);
}

/// Copies the reply to a meta command to `out` with the tag put on its token.
pub fn tag_item(reply: &[u8], tag: u8, out: &mut Vec<u8>) {
    if !is_status(reply) {
        out.extend_from_slice(reply);
        return;
    }
    let head = memchr(b'\n', reply).map_or(reply.len(), |newline| newline + 1);
    let line = reply[..head].trim_ascii_end();
    for (i, word) in line.split(|byte| *byte == b' ').enumerate() {
        if i > 0 {
            out.push(b' ');
        }
        match word.strip_prefix(b"c").and_then(unsigned) {
            Some(token) if i > 0 => {
                out.push(b'c');
                write_number(out, told(token, tag));
            }
            _ => out.extend_from_slice(word),
        }
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(&reply[head..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_in_its_view_only() {
        let tag = tag_of(7);
        let client = told(1234, tag);
        assert!(client < 1 << 63);
        assert_eq!(compared(client, Some(tag)), 1234);
        assert_eq!(compared(client, Some(tag_of(8))), NONE);
        assert_eq!(compared(client, None), NONE);
        assert_eq!(compared(told(5, FOREIGN), Some(FOREIGN)), NONE);
        assert_eq!(told(0, tag), 0);
        assert_eq!(compared(0, Some(tag)), 0);
    }

    #[test]
    fn a_given_token_stays_what_it_is() {
        for token in [1, 1000, 1_800_000_000_000_000_000, (1 << 61) - 1] {
            assert_eq!(told(given(token), tag_of(3)), token);
            for tag in [None, Some(tag_of(3))] {
                assert_eq!(compared(token, tag), given(token));
            }
            assert_ne!(given(token), token, "it could be one that a server counts");
        }
        assert!(given(5) < given(6));
        assert_eq!(given(0), 0);
    }

    #[test]
    fn tags_are_told_apart_and_none_is_the_foreign_one() {
        let tags: std::collections::HashSet<u8> = (0..95).map(tag_of).collect();
        assert_eq!(tags.len(), 95);
        assert!(tags.iter().all(|tag| (FIRST_TAG..FOREIGN).contains(tag)));
    }

    #[test]
    fn values_are_tagged() {
        let mut out = Vec::new();
        let reply = b"VALUE a 0 2 7\r\nx\n\r\nVALUE b 1 0 9\r\n\r\nEND\r\n";
        tag_values(reply, 0x22, &mut out);
        let tagged = (0x22_u64 << 56) + 7;
        let expected = format!(
            "VALUE a 0 2 {tagged}\r\nx\n\r\nVALUE b 1 0 {}\r\n\r\nEND\r\n",
            tagged + 2
        );
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }

    #[test]
    fn items_are_tagged() {
        let tagged = (0x22_u64 << 56) + 7;
        for (reply, expected) in [
            (
                "VA 3 c7 t-1\r\nc9\n\r\n",
                format!("VA 3 c{tagged} t-1\r\nc9\n\r\n"),
            ),
            ("HD Oc7 kc7 c7\r\n", format!("HD Oc7 kc7 c{tagged}\r\n")),
            ("EX c0\r\n", "EX c0\r\n".to_owned()),
            ("CLIENT_ERROR c7\r\n", "CLIENT_ERROR c7\r\n".to_owned()),
            ("EN\r\n", "EN\r\n".to_owned()),
        ] {
            let mut out = Vec::new();
            tag_item(reply.as_bytes(), 0x22, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), expected);
        }
    }
}
