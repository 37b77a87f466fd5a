//! Memcached's items on their way from the leader to others: all there is of them, by `mg`.
//!
//! An item may be marked as stale, and as won by a client that is to replace it. Whoever is the first to ask for a
//! stale item by `mg` wins it, so what is asked here may be taken from the clients: it is given back, by marking
//! the same item as stale again, which changes its CAS token.

use crate::proto::memcache as text;
use crate::proto::meta as dialect;

/// Behind it, as an expiry, stands a moment; up to it a number of seconds from now (memcached's REALTIME_MAXDELTA).
const RELATIVE_SECONDS_LIMIT: i64 = 60 * 60 * 24 * 30;
/// A time before which everything ends that ever does: `R` with it wins.
pub(super) const LAST_MOMENT: &[u8] = b" R2147483647";

/// How an item is named in a request: a word, and behind the flags ` b` if it is base64.
pub(super) type Name<'a> = (&'a [u8], &'a [u8]);

/// What follows from what was shown.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Travel {
    /// For the others, and how many replies they have.
    pub bytes: Vec<u8>,
    pub replies: u32,
    /// For the one who was asked, one request each.
    pub back: Vec<Vec<u8>>,
}

/// Asks for all there is of an item; its place in the LRU is left alone.
pub(super) fn ask(out: &mut Vec<u8>, (word, mark): Name<'_>) {
    for part in [b"mg ", word, b" v f t c u", mark, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

/// The request that removes an item.
pub(super) fn delete((word, mark): Name<'_>) -> Vec<u8> {
    [b"md ", word, mark, b"\r\n"].concat()
}

/// Takes the answer to `ask` that stands at the start of `reply`; `now` in seconds since 1970. Returns its length, None
/// if it is no such answer.
pub(super) fn take(travel: &mut Travel, name: Name<'_>, reply: &[u8], now: i64) -> Option<usize> {
    let (word, mark) = name;
    let (item, len) = text::item(reply)?;
    travel.replies += 1;
    let Some(item) = item.filter(|item| item.ttl != 0) else {
        travel.bytes.extend_from_slice(&delete(name));
        return Some(len);
    };
    let expiry = match item.ttl {
        ttl if ttl < 0 => 0,
        ttl if ttl > RELATIVE_SECONDS_LIMIT => now + ttl,
        ttl => ttl,
    };
    let is_stale = dialect::shows(reply, b'X');
    let is_won = dialect::shows(reply, b'Z');
    // Only an item that ends can be won without being stale, so it ends until it is.
    let first = if is_won && !is_stale { 100 } else { expiry };
    let head = format!(" {} F{} T{first}", item.data.len(), item.flags);
    let mut add = |parts: &[&[u8]]| {
        for part in parts {
            travel.bytes.extend_from_slice(part);
        }
    };
    add(&[
        b"ms ",
        word,
        head.as_bytes(),
        mark,
        b"\r\n",
        item.data,
        b"\r\n",
    ]);
    if is_stale {
        add(&[b"md ", word, b" I", mark, b"\r\n"]);
    }
    if is_won {
        let time = format!(" T{expiry}");
        add(&[b"mg ", word, LAST_MOMENT, time.as_bytes(), mark, b"\r\n"]);
    }
    travel.replies += u32::from(is_stale) + u32::from(is_won);
    travel.back.extend(give_back(name, reply));
    Some(len)
}

/// What takes back that asking has won the item, if it has.
pub(super) fn give_back((word, mark): Name<'_>, reply: &[u8]) -> Option<Vec<u8>> {
    let is_taken = dialect::shows(reply, b'X') && dialect::shows(reply, b'W');
    let token = dialect::number(reply, b'c').filter(|_| is_taken)?;
    let token = token.to_string();
    Some([b"md ", word, b" I C", token.as_bytes(), mark, b"\r\n"].concat())
}

/// The same for several keys that are text, whose answers stand one behind the other.
pub(super) fn take_all(keys: &[Vec<u8>], mark: &[u8], replies: &[u8], now: i64) -> Option<Travel> {
    let mut travel = Travel::default();
    let mut rest = replies;
    for key in keys {
        let len = take(&mut travel, (key, mark), rest, now)?;
        rest = &rest[len..];
    }
    Some(travel)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copied(replies: &[u8]) -> Option<String> {
        let keys = [b"a".to_vec(), b"b".to_vec()];
        take_all(&keys, b"", replies, 1_000_000).map(|travel| {
            let text = String::from_utf8_lossy(&travel.bytes).into_owned();
            let back = String::from_utf8_lossy(&travel.back.concat()).into_owned();
            format!("{} {text}{back}", travel.replies)
        })
    }

    #[test]
    fn items_become_sets_and_absent_ones_deletes() {
        let found = copied(b"VA 2 f7 t-1 c1\r\n\r\n\r\nEN\r\n");
        assert_eq!(found.as_deref(), Some("2 ms a 2 F7 T0\r\n\r\n\r\nmd b\r\n"));
    }

    #[test]
    fn times_to_live_stay_what_they_are() {
        let found = copied(b"VA 1 f0 t30\r\nx\r\nVA 1 f0 t2592001\r\ny\r\n");
        let expected = "2 ms a 1 F0 T30\r\nx\r\nms b 1 F0 T3592001\r\ny\r\n";
        assert_eq!(found.as_deref(), Some(expected));
        let found = copied(b"VA 1 f0 t0\r\nx\r\nEN\r\n");
        assert_eq!(found.as_deref(), Some("2 md a\r\nmd b\r\n"));
    }

    #[test]
    fn marks_travel_and_what_was_won_by_asking_is_given_back() {
        let found = copied(b"VA 1 f0 t30 c7 X W\r\nx\r\nVA 1 f0 t-1 c8 Z X\r\ny\r\n");
        let expected = "5 ms a 1 F0 T30\r\nx\r\nmd a I\r\nms b 1 F0 T0\r\ny\r\nmd b I\r\n\
                        mg b R2147483647 T0\r\nmd a I C7\r\n";
        assert_eq!(found.as_deref(), Some(expected));
        let found = copied(b"VA 0 f0 t30 c7 Z\r\n\r\nEN\r\n");
        let expected = "3 ms a 0 F0 T100\r\n\r\nmg a R2147483647 T30\r\nmd b\r\n";
        assert_eq!(found.as_deref(), Some(expected));
        let mut travel = Travel::default();
        let name = (&b"Zm8="[..], &b" b"[..]);
        take(&mut travel, name, b"VA 1 f0 t-1 c7 X W\r\nx\r\n", 0);
        let expected = "ms Zm8= 1 F0 T0 b\r\nx\r\nmd Zm8= I b\r\n";
        assert_eq!(String::from_utf8_lossy(&travel.bytes), expected);
        assert_eq!(travel.back, [b"md Zm8= I C7 b\r\n"]);
    }

    #[test]
    fn what_is_no_item_is_not_guessed_at() {
        for replies in [
            &b"ERROR\r\nERROR\r\n"[..],
            b"EN\r\n",
            b"VA 9 f0 t0\r\nx\r\nEN\r\n",
            b"VA 1 f0\r\nx\r\nEN\r\n",
        ] {
            assert_eq!(copied(replies), None);
        }
    }
}
