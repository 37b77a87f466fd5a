//! SCAN: one shard after the other, each as its own server walks it (`command/cursor.rs` has the number that a
//! client sees).
//!
//! A cursor is good for the process that made it. When that one cannot be asked any more, or not as the same
//! process, the shard is begun again with another that is in sync.

use super::ask::{request, Ask, Fan};
use super::forward::{Flow, Incoming};
use super::merge::{self, Merged};
use super::*;
use crate::command::cursor::{self, Place};
use crate::command::FanKind;
use crate::proto::{resp, Args};
use memchr::memmem;

/// A step of a SCAN under way.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scan {
    /// Of whom it is asked now.
    pub tag: u16,
    /// Where the shard is to be gone on with, and by whom.
    from: u64,
    made_by: u16,
    /// The words behind the cursor.
    options: Vec<Vec<u8>>,
}

impl Scan {
    /// What a backend with this tag is asked: to go on if it made the cursor, to begin otherwise.
    pub fn request(&mut self, tag: u16) -> Vec<u8> {
        self.tag = tag;
        let from = if tag == self.made_by { self.from } else { 0 };
        let from = from.to_string();
        let mut words: Vec<&[u8]> = vec![b"SCAN", from.as_bytes()];
        words.extend(self.options.iter().map(Vec::as_slice));
        request(&words)
    }

    /// True if who was asked was given a cursor of its own.
    fn goes_on(&self) -> bool {
        self.from != 0 && self.tag == self.made_by
    }
}

impl Worker {
    /// SCAN cursor [option ...]
    pub(super) fn scan(&mut self, asked: &Incoming) -> Flow {
        let Incoming {
            who,
            meta,
            pool,
            lane,
            args,
            ..
        } = *asked;
        let (shard, scan) = match self.scan_from(pool, &args) {
            Ok(found) => found,
            Err(answer) => {
                self.reply_now(who, meta, answer);
                return Flow::Taken;
            }
        };
        let fan = Fan {
            kind: FanKind::Scan,
            lane,
            asks: vec![Ask::new(shard, lane, Vec::new(), 1)],
            rounds: 0,
            scan: Some(scan),
            request: Vec::new(),
        };
        self.ask_fan_for(who, meta, pool, fan)
    }

    /// Where a SCAN goes on, and how; or its answer, if nobody is asked.
    pub(super) fn scan_from(
        &self,
        pool: u16,
        args: &Args<'_>,
    ) -> Result<(u16, Scan), &'static [u8]> {
        let number = cursor::parse(args.get(1)).ok_or(Wire::InvalidCursor.redis())?;
        let present = self.present(pool);
        let shards = self.table.pools[pool as usize].shards.len();
        let place = cursor::unpack(number, shards).filter(|place| number == 0 || place.tag != 0);
        // What nobody gave out, and a shard that has left with all behind it, is the end.
        let shard = place.and_then(|place| present.iter().find(|shard| **shard >= place.shard));
        let (Some(place), Some(&shard)) = (place, shard) else {
            return Err(b"*2\r\n$1\r\n0\r\n*0\r\n");
        };
        let is_same = shard == place.shard;
        let scan = Scan {
            tag: 0,
            from: if is_same { place.cursor } else { 0 },
            made_by: place.tag,
            options: args.iter().skip(2).map(<[u8]>::to_vec).collect(),
        };
        Ok((shard, scan))
    }

    /// The tag of the process that the table says is there.
    pub(super) fn tag_of(&self, pool: u16, shard: u16, backend: u8) -> u16 {
        let verify = &self.shard_table(pool, shard).backends[backend as usize].verify;
        let needles = verify.iter().map(|(_, needle)| needle.as_slice());
        cursor::tag(
            backend,
            needles.filter(|needle| needle.starts_with(b"run_id:")),
        )
    }

    /// What the client gets for a page.
    pub(super) fn scanned<'a>(
        &self,
        pool: u16,
        fan: &Fan,
        parts: &'a [Vec<u8>],
        out: &mut Vec<u8>,
    ) -> Merged<'a, ()> {
        let (Some(scan), [ask], [part]) = (&fan.scan, &fan.asks[..], parts) else {
            return Err(Wire::BadReply.redis());
        };
        let (cursor, keys) = merge::page(part)?;
        let (shard, tag) = (ask.shard, scan.tag);
        if tag != self.tag_of(pool, shard, ask.backend) {
            return Err(Wire::ReadLost.redis());
        }
        let next = self.next_place(pool, Place { shard, tag, cursor });
        self.write_page(pool, next, &keys, out)
    }

    /// The same inside a transaction, which goes to whoever leads by then: `info` is INFO of who has
    /// answered. A cursor of somebody else meant nothing there, so the page does not count, and the shard is
    /// begun again.
    pub(super) fn scanned_inside<'a>(
        &self,
        pool: u16,
        shard: u16,
        scan: &Scan,
        info: &[u8],
        page: &'a [u8],
        out: &mut Vec<u8>,
    ) -> Merged<'a, ()> {
        let (cursor, keys) = merge::page(page)?;
        let is_its = |(_, needle): &(Vec<u8>, Vec<u8>)| {
            needle.starts_with(b"run_id:") && memmem::find(info, needle).is_some()
        };
        let backends = &self.shard_table(pool, shard).backends;
        let by = backends
            .iter()
            .position(|backend| backend.verify.iter().any(is_its));
        let tag = self.tag_of(pool, shard, by.ok_or(Wire::ReadLost.redis())? as u8);
        if scan.goes_on() && tag != scan.tag {
            let cursor = 0;
            return self.write_page(pool, Some(Place { shard, tag, cursor }), &[], out);
        }
        let next = self.next_place(pool, Place { shard, tag, cursor });
        self.write_page(pool, next, &keys, out)
    }

    /// Where it goes on behind a server's own cursor; `None` at the end.
    fn next_place(&self, pool: u16, place: Place) -> Option<Place> {
        if place.cursor != 0 {
            return Some(place);
        }
        // Whoever is asked there, it is from the beginning.
        let mut present = self.present(pool).into_iter();
        let shard = present.find(|next| *next > place.shard)?;
        Some(Place { shard, ..place })
    }

    fn write_page<'a>(
        &self,
        pool: u16,
        next: Option<Place>,
        keys: &[&[u8]],
        out: &mut Vec<u8>,
    ) -> Merged<'a, ()> {
        let shards = self.table.pools[pool as usize].shards.len();
        let number = match next {
            Some(place) => cursor::pack(place, shards).ok_or(Wire::CursorTooLarge.redis())?,
            None => 0,
        };
        resp::write_array(out, 2);
        resp::write_bulk(out, number.to_string().as_bytes());
        merge::write_values(out, keys);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_did_not_make_a_cursor_begins() {
        let mut scan = Scan {
            tag: 0,
            from: 96,
            made_by: 7,
            options: vec![b"COUNT".to_vec(), b"5".to_vec()],
        };
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace("\r\n", " ");
        assert_eq!(text(scan.request(7)), "*4 $4 SCAN $2 96 $5 COUNT $1 5 ");
        assert!(scan.goes_on());
        assert_eq!(text(scan.request(8)), "*4 $4 SCAN $1 0 $5 COUNT $1 5 ");
        assert_eq!(scan.tag, 8);
        assert!(!scan.goes_on());
    }
}
