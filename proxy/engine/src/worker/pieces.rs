//! The replies to a transaction that was cut, put together again in the order of its commands.
//!
//! Called by `split.rs` when all parts have answered, and by `transaction.rs` where there are none; `cut.rs` says
//! what the pieces are.

use super::merge::{self, Drawn};
use super::scan::Scan;
use super::split::{self, Merge};
use super::*;
use crate::command::FanKind;
use crate::proto::resp;

/// Where the answer to one command of a transaction comes from.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// The proxy.
    Own(Vec<u8>),
    /// The next element of this part's EXEC.
    Part(u16),
    /// One element of each of these parts; `order` as in `Gather`, by position in `parts`.
    Split {
        merge: Merge,
        parts: Vec<u16>,
        order: Vec<u16>,
    },
    /// So many elements of each of these parts.
    Fan {
        kind: FanKind,
        parts: Vec<u16>,
        each: usize,
        /// For RANDOMKEY: any number, and what no key is.
        dice: u64,
        null: &'static [u8],
    },
    /// Of this part INFO, and the page of a SCAN.
    Scan { part: u16, shard: u16, scan: Scan },
    /// Of each of these parts how many of our own keys there are, and its INFO; `selects` if the database was
    /// changed before and is changed back. `asked` is the client's request.
    Info {
        parts: Vec<u16>,
        selects: bool,
        resp3: bool,
        asked: Vec<u8>,
    },
}

/// Writes the answers that take more than what the servers have said.
pub(super) trait Write {
    /// INFO: RESP3 or not, the client's request, what each shard said.
    fn info(&self, resp3: bool, asked: &[u8], parts: &[Vec<u8>], out: &mut Vec<u8>);
    /// A step of a SCAN: the shard, what was asked, who has answered (INFO), the page.
    fn page(&self, shard: u16, scan: &Scan, info: &[u8], page: &[u8], out: &mut Vec<u8>);
}

/// With what a worker knows of a pool.
pub(super) struct OfPool<'a> {
    pub worker: &'a Worker,
    pub pool: u16,
}

impl Write for OfPool<'_> {
    fn info(&self, resp3: bool, asked: &[u8], parts: &[Vec<u8>], out: &mut Vec<u8>) {
        self.worker.write_info(self.pool, resp3, asked, parts, out);
    }

    fn page(&self, shard: u16, scan: &Scan, info: &[u8], page: &[u8], out: &mut Vec<u8>) {
        let answered = self
            .worker
            .scanned_inside(self.pool, shard, scan, info, page, out);
        if let Err(error) = answered {
            out.extend_from_slice(error);
        }
    }
}

/// Appends what the parts of a command over all shards come to.
fn merge_fan(kind: FanKind, parts: &[Vec<u8>], dice: u64, null: &[u8], out: &mut Vec<u8>) {
    let mut made = Vec::new();
    let merged = match kind {
        FanKind::Dbsize => {
            merge::dbsize(parts).map(|sum| made.extend_from_slice(format!(":{sum}\r\n").as_bytes()))
        }
        FanKind::Keys => merge::keys(parts).map(|keys| merge::write_values(&mut made, &keys)),
        FanKind::RandomKey => merge::random_key(parts, dice).map(|drawn| match drawn {
            Drawn::Key(key) => made.extend_from_slice(key),
            Drawn::Nothing | Drawn::Again => made.extend_from_slice(null),
        }),
        FanKind::ScriptExists => {
            merge::all_of(parts).map(|flags| merge::write_flags(&mut made, &flags))
        }
        FanKind::FunctionStats => merge::running(parts).map(|part| made.extend_from_slice(part)),
        FanKind::Least => merge::least(parts)
            .map(|least| made.extend_from_slice(format!(":{least}\r\n").as_bytes())),
        _ => {
            split::merge_elements(Merge::Same, parts.to_vec(), Vec::new(), &mut made);
            Ok(())
        }
    };
    match merged {
        Ok(()) => out.extend_from_slice(&made),
        Err(error) => out.extend_from_slice(error),
    }
}

/// Merges the parts' replies in the order of the commands. A part that failed has its error in the place of
/// each of its commands, as the others were carried out; if all failed, the first error is the answer.
pub(super) fn merge(pieces: &[Piece], parts: &[Vec<u8>], write: &dyn Write, out: &mut Vec<u8>) {
    let is_null = |part: &&Vec<u8>| part.starts_with(b"*-1") || part.starts_with(b"_");
    if let Some(null) = parts.iter().find(is_null) {
        out.extend_from_slice(null);
        return;
    }
    let is_failed = |part: &Vec<u8>| resp::aggregate(part).is_none();
    if let Some(first) = parts.first().filter(|_| parts.iter().all(is_failed)) {
        out.extend_from_slice(first);
        return;
    }
    let start = |part: &Vec<u8>| resp::aggregate(part).map(|(_, start)| start);
    let mut at: Vec<Option<usize>> = parts.iter().map(start).collect();
    let mut is_whole = true;
    let mut next = |part: u16| -> &[u8] {
        let bytes = &parts[part as usize][..];
        let Some(from) = at[part as usize] else {
            return bytes;
        };
        let rest = &bytes[from..];
        is_whole &= !rest.is_empty();
        let len = if rest.is_empty() {
            0
        } else {
            resp::value_len(rest)
        };
        at[part as usize] = Some(from + len);
        &rest[..len]
    };
    resp::write_array(out, pieces.len());
    for piece in pieces {
        match piece {
            Piece::Own(answer) => out.extend_from_slice(answer),
            Piece::Part(part) => out.extend_from_slice(next(*part)),
            Piece::Split {
                merge,
                parts,
                order,
            } => {
                let elements = parts.iter().map(|part| next(*part).to_vec()).collect();
                split::merge_elements(*merge, elements, order.clone(), out);
            }
            Piece::Fan {
                kind,
                parts,
                each,
                dice,
                null,
            } => {
                let elements: Vec<Vec<u8>> = parts
                    .iter()
                    .map(|part| (0..*each).flat_map(|_| next(*part).to_vec()).collect())
                    .collect();
                merge_fan(*kind, &elements, *dice, null, out);
            }
            Piece::Scan { part, shard, scan } => {
                let (info, page) = (next(*part).to_vec(), next(*part));
                write.page(*shard, scan, &info, page, out);
            }
            Piece::Info {
                parts,
                selects,
                resp3,
                asked,
            } => {
                let mut elements = Vec::with_capacity(parts.len());
                for part in parts {
                    let mut read = || next(*part).to_vec();
                    if *selects {
                        read();
                    }
                    elements.push([read(), read()].concat());
                    if *selects {
                        read();
                    }
                }
                write.info(*resp3, asked, &elements, out);
            }
        }
    }
    if !is_whole {
        out.clear();
        out.extend_from_slice(Wire::BadReply.redis());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Plain;

    impl Write for Plain {
        fn info(&self, _: bool, asked: &[u8], parts: &[Vec<u8>], out: &mut Vec<u8>) {
            out.extend_from_slice(asked);
            parts.iter().for_each(|part| out.extend_from_slice(part));
        }

        fn page(&self, _: u16, _: &Scan, _: &[u8], page: &[u8], out: &mut Vec<u8>) {
            out.extend_from_slice(page);
        }
    }

    fn merged(pieces: &[Piece], parts: &[&[u8]]) -> String {
        let parts: Vec<Vec<u8>> = parts.iter().map(|part| part.to_vec()).collect();
        let mut out = Vec::new();
        merge(pieces, &parts, &Plain, &mut out);
        String::from_utf8_lossy(&out).replace("\r\n", " ")
    }

    #[test]
    fn answers_come_in_the_order_of_the_commands() {
        let split = Piece::Split {
            merge: Merge::Arrays,
            parts: vec![0, 1],
            order: vec![1, 0, 1],
        };
        let own = Piece::Own(b"+PONG\r\n".to_vec());
        let pieces = [Piece::Part(1), own, split, Piece::Part(0)];
        let parts = [
            &b"*2\r\n*1\r\n$1\r\nb\r\n:7\r\n"[..],
            b"*2\r\n+OK\r\n*2\r\n$1\r\na\r\n$1\r\nc\r\n",
        ];
        let expected = "*4 +OK +PONG *3 $1 a $1 b $1 c :7 ";
        assert_eq!(merged(&pieces, &parts), expected);
    }

    #[test]
    fn a_part_that_failed_has_its_error_in_each_place() {
        let sum = Piece::Split {
            merge: Merge::Sum,
            parts: vec![0, 1],
            order: vec![],
        };
        let pieces = [Piece::Part(0), Piece::Part(1), sum];
        let parts = [&b"*2\r\n+OK\r\n:1\r\n"[..], b"-CLUSTERDOWN x\r\n"];
        let expected = "*3 +OK -CLUSTERDOWN x -CLUSTERDOWN x ";
        assert_eq!(merged(&pieces, &parts), expected);
        let parts = [&b"-EXECABORT y\r\n"[..], b"-CLUSTERDOWN x\r\n"];
        assert_eq!(merged(&pieces, &parts), "-EXECABORT y ");
    }

    #[test]
    fn what_concerns_all_shards_has_elements_of_each() {
        let fan = |kind, each| Piece::Fan {
            kind,
            parts: vec![0, 1],
            each,
            dice: 4,
            null: b"$-1\r\n",
        };
        let pieces = [
            fan(FanKind::Dbsize, 2),
            Piece::Part(1),
            fan(FanKind::Flush, 1),
        ];
        let parts = [
            &b"*3\r\n:5\r\n:1\r\n+OK\r\n"[..],
            b"*4\r\n:7\r\n:0\r\n$1\r\nx\r\n+OK\r\n",
        ];
        assert_eq!(merged(&pieces, &parts), "*3 :11 $1 x +OK ");
        let parts = [parts[0], b"-CLUSTERDOWN x\r\n"];
        let told = merged(&pieces, &parts);
        assert!(
            told.starts_with("*3 -CLUSTERDOWN x -CLUSTERDOWN x -ERR outcome unknown"),
            "{told}"
        );
    }

    #[test]
    fn info_is_written_from_what_each_shard_said() {
        let info = |selects| Piece::Info {
            parts: vec![0, 1],
            selects,
            resp3: false,
            asked: b"+asked\r\n".to_vec(),
        };
        let parts = [
            &b"*3\r\n:1\r\n$1\r\na\r\n+OK\r\n"[..],
            b"*2\r\n:2\r\n$1\r\nb\r\n",
        ];
        let pieces = [info(false), Piece::Part(0)];
        assert_eq!(merged(&pieces, &parts), "*2 +asked :1 $1 a :2 $1 b +OK ");
        let parts = [&b"*4\r\n+OK\r\n:1\r\n$1\r\na\r\n+OK\r\n"[..]; 2];
        assert_eq!(merged(&[info(true)], &parts), "*1 +asked :1 $1 a :1 $1 a ");
    }

    #[test]
    fn null_is_null_and_what_is_missing_is_no_answer() {
        for null in [&b"*-1\r\n"[..], b"_\r\n"] {
            let expected = String::from_utf8_lossy(null).replace("\r\n", " ");
            assert_eq!(merged(&[Piece::Part(0)], &[null]), expected);
        }
        let told = merged(&[Piece::Part(0), Piece::Part(0)], &[b"*1\r\n+OK\r\n"]);
        assert!(told.contains("malformed"), "{told}");
    }
}
