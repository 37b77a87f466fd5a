//! What is asked of the worker that holds the connections of those that watch keys (`lease.rs`), as the bytes of a
//! handover: a tag, the client's id, and its own request. Bytes in, bytes out.

/// First bytes of the requests below; no request of a client begins so.
const WATCH: u8 = 0;
const EXEC: u8 = 1;
const RELEASE: u8 = 2;
const READ: u8 = 3;
const MORE: u8 = 4;

/// What is asked of the worker that holds the connections, as `Handover.bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request<'a> {
    /// To watch keys, by the client's own request.
    Watch { id: u64, frame: &'a [u8] },
    /// To watch these as well. What was watched before may be lost, which this must not hide.
    More { id: u64, frame: &'a [u8] },
    /// To execute a batch, after which nothing is watched.
    Exec { id: u64, batch: &'a [u8] },
    /// To watch nothing any more.
    Release { id: u64 },
    /// To read where keys are watched.
    Read { id: u64, frame: &'a [u8] },
}

impl Request<'_> {
    pub fn bytes(self) -> Vec<u8> {
        let (tag, id, rest) = match self {
            Request::Watch { id, frame } => (WATCH, id, frame),
            Request::More { id, frame } => (MORE, id, frame),
            Request::Exec { id, batch } => (EXEC, id, batch),
            Request::Release { id } => (RELEASE, id, &b""[..]),
            Request::Read { id, frame } => (READ, id, frame),
        };
        [&[tag][..], &id.to_le_bytes(), rest].concat()
    }
}

/// The request that a handover is, if it is one of these.
pub(super) fn request(bytes: &[u8]) -> Option<Request<'_>> {
    let (tag, rest) = bytes.split_first().filter(|(tag, _)| **tag <= MORE)?;
    let (id, rest) = rest.split_first_chunk::<8>()?;
    let id = u64::from_le_bytes(*id);
    Some(match *tag {
        WATCH => Request::Watch { id, frame: rest },
        EXEC => Request::Exec { id, batch: rest },
        READ => Request::Read { id, frame: rest },
        MORE => Request::More { id, frame: rest },
        _ => Request::Release { id },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_as_they_were_written() {
        let id = u64::MAX - 7;
        for asked in [
            Request::Watch {
                id,
                frame: b"*2\r\n$5\r\nWATCH\r\n$1\r\nk\r\n",
            },
            Request::More { id, frame: b"x" },
            Request::Exec { id, batch: b"x" },
            Request::Release { id },
            Request::Read { id, frame: b"x" },
        ] {
            assert_eq!(request(&asked.bytes()), Some(asked));
        }
        for other in [&b""[..], b"*1\r\n$4\r\nPING\r\n", b"get k\r\n", b"\x01\x02"] {
            assert_eq!(request(other), None, "{other:?}");
        }
    }
}
