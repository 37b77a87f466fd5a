//! Lists of keys that a memcached sends over a connection of its own (`lru_crawler metadump`, `stats cachedump`),
//! line by line: what a client is shown of each, and what ends them. Keys of our own are left out.
//!
//! `mgdump` is made from a metadump, which servers before 1.6.19 have as well; a metadump does not say which keys
//! were stored as binary ones, so those that no text command can name are.

/// What a client has asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Meta,
    Mg,
    Cache,
}

/// What a line of a server means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    More,
    Ended,
    /// Not now: the server lists its keys for somebody else, and does that for one at a time.
    Busy,
    /// An error, which is the line itself.
    Refused,
}

impl Kind {
    pub fn end(self) -> &'static [u8] {
        match self {
            Kind::Mg => b"EN\r\n",
            Kind::Meta | Kind::Cache => b"END\r\n",
        }
    }

    /// Takes one line, its end included, and appends what the client is to see of it: nothing if the key is one
    /// that `is_ours`.
    pub fn take(self, line: &[u8], is_ours: fn(&[u8]) -> bool, out: &mut Vec<u8>) -> Next {
        let text = line.trim_ascii_end();
        match (self, text) {
            (_, b"END") => return Next::Ended,
            // The first line since 1.6.43.
            (Kind::Meta | Kind::Mg, b"OK") => return Next::More,
            _ => {}
        }
        // The latter while its table of keys grows, since 1.6.28.
        if text.starts_with(b"BUSY ") || text.starts_with(b"ERROR locked ") {
            return Next::Busy;
        }
        // Asked for classes that have nothing.
        if text.starts_with(b"NOTSTARTED ") {
            return Next::Ended;
        }
        let start = match self {
            Kind::Cache => &b"ITEM "[..],
            Kind::Meta | Kind::Mg => b"key=",
        };
        let Some(rest) = text.strip_prefix(start) else {
            return Next::Refused;
        };
        let word = rest.split(|byte| *byte == b' ').next().unwrap_or(rest);
        let key = match self {
            Kind::Cache => word.to_vec(),
            Kind::Meta | Kind::Mg => decode(word),
        };
        if is_ours(&key) {
            return Next::More;
        }
        match self {
            Kind::Mg => write_mg(&key, out),
            Kind::Meta | Kind::Cache => out.extend_from_slice(line),
        }
        Next::More
    }
}

fn write_mg(key: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"mg ");
    if key.iter().any(|byte| *byte <= b' ' || *byte == 0x7f) {
        encode(key, out);
        out.extend_from_slice(b" b\r\n");
    } else {
        out.extend_from_slice(key);
        out.extend_from_slice(b"\r\n");
    }
}

/// Undoes `%41`.
fn decode(word: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(word.len());
    let mut at = 0;
    while at < word.len() {
        let digits = word.get(at + 1..at + 3).filter(|_| word[at] == b'%');
        let byte = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        key.push(byte.unwrap_or(word[at]));
        at += if byte.is_some() { 3 } else { 1 };
    }
    key
}

/// Base64.
fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for chunk in bytes.chunks(3) {
        let byte = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i)) as usize & 63];
            out.push(if i <= chunk.len() { digit } else { b'=' });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(kind: Kind, line: &str) -> (Next, String) {
        let mut out = Vec::new();
        let next = kind.take(
            line.as_bytes(),
            |key| key.starts_with(b"__shardproxy:"),
            &mut out,
        );
        (next, String::from_utf8(out).unwrap())
    }

    #[test]
    fn keys_of_clients_are_shown_and_our_own_are_not() {
        let line = "key=foo%3Abar exp=-1 la=1 cas=2 fetch=no cls=1 size=63\n";
        assert_eq!(taken(Kind::Meta, line), (Next::More, line.to_owned()));
        let own = "key=__shardproxy%3Av exp=-1 la=1\n";
        assert_eq!(taken(Kind::Meta, own), (Next::More, String::new()));
        assert_eq!(taken(Kind::Mg, own), (Next::More, String::new()));
        let line = "ITEM foo:bar [5 b; 0 s]\r\n";
        assert_eq!(taken(Kind::Cache, line), (Next::More, line.to_owned()));
        let own = "ITEM __shardproxy:v [5 b; 0 s]\r\n";
        assert_eq!(taken(Kind::Cache, own), (Next::More, String::new()));
    }

    #[test]
    fn an_mgdump_names_each_key_as_it_can_be_asked_for() {
        let cases = [
            ("key=foo%3Abar exp=-1\n", "mg foo:bar\r\n"),
            ("key=a%20b exp=-1\n", "mg YSBi b\r\n"),
            ("key=%00 exp=-1\n", "mg AA== b\r\n"),
            ("key=a%0A exp=-1\n", "mg YQo= b\r\n"),
            ("key=100%25 exp=-1\n", "mg 100%\r\n"),
            ("key=%C3%A4 exp=-1\n", "mg ä\r\n"),
        ];
        for (line, expected) in cases {
            assert_eq!(taken(Kind::Mg, line), (Next::More, expected.to_owned()));
        }
    }

    #[test]
    fn a_list_ends_or_is_refused() {
        for kind in [Kind::Meta, Kind::Mg, Kind::Cache] {
            assert_eq!(taken(kind, "END\r\n").0, Next::Ended);
            for line in [
                "ERROR\r\n",
                "BADCLASS invalid class id\r\n",
                "\r\n",
                "keyed\n",
            ] {
                assert_eq!(taken(kind, line), (Next::Refused, String::new()), "{line}");
            }
        }
        assert_eq!(taken(Kind::Meta, "OK\r\n").0, Next::More);
        let busy = "BUSY currently processing crawler request\r\n";
        assert_eq!(taken(Kind::Mg, busy).0, Next::Busy);
        assert_eq!(
            taken(Kind::Meta, "ERROR locked try again later\r\n").0,
            Next::Busy
        );
    }
}
