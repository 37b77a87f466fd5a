//! Questions to several backends at once, each asked of the next one while somebody does not answer.
//!
//! Called by `fan.rs`, which has the rules. Must not know what the answers mean.

use super::forward::{Flow, Meta, Way};
use super::reads::PARKED;
use super::scan::Scan;
use super::split::{Gather, Merge};
use super::*;
use crate::command::effect::is_away;
use crate::command::{self, FanKind};
use crate::conn::backend::NO_PART;
use crate::conn::ReplyTo;
use crate::proto::memcache::ReplyKind;
use crate::proto::resp;

/// INFO waits so long for a backend: milliseconds.
const TOTALS_MS: u64 = 250;
/// A question is asked anew so often because the table has changed under it.
const ROUNDS: u32 = 64;

/// One question to one backend.
pub(super) struct Ask {
    pub shard: u16,
    pub lane: u8,
    /// This backend and no other.
    pub is_fixed: bool,
    /// Who was asked last.
    pub backend: u8,
    /// Everybody who was.
    pub tried: u16,
    /// They are asked once more.
    pub is_again: bool,
    pub bytes: Vec<u8>,
    /// Requests in it.
    pub replies: u32,
}

impl Ask {
    /// Of the leader, or of who is in sync.
    pub fn new(shard: u16, lane: u8, bytes: Vec<u8>, replies: u32) -> Ask {
        let (is_fixed, backend, tried) = (false, 0, 0);
        Ask {
            shard,
            lane,
            is_fixed,
            backend,
            tried,
            is_again: false,
            bytes,
            replies,
        }
    }

    /// Of this backend.
    pub fn of(shard: u16, backend: u8, lane: u8, bytes: Vec<u8>, replies: u32) -> Ask {
        Ask {
            backend,
            is_fixed: true,
            ..Ask::new(shard, lane, bytes, replies)
        }
    }
}

/// A request under way to all shards. Part `i` of its `Gather` answers `asks[i]`.
pub(super) struct Fan {
    pub kind: FanKind,
    pub lane: u8,
    pub asks: Vec<Ask>,
    pub rounds: u32,
    pub scan: Option<Scan>,
    /// As the client sent it, where the answer depends on it.
    pub request: Vec<u8>,
}

/// A request made of words.
pub(super) fn request(words: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    resp::write_request(&mut out, words);
    out
}

/// How many of our own keys are there. Without any it asks for one that never is.
pub(super) fn count_reserved(reserved: &[Vec<u8>]) -> Vec<u8> {
    let mut words: Vec<&[u8]> = vec![b"EXISTS"];
    words.extend(reserved.iter().map(Vec::as_slice));
    if reserved.is_empty() {
        words.push(command::RESERVED_PREFIX);
    }
    request(&words)
}

/// True for what another backend of the shard may be asked instead: it was not answered, or not by its data.
fn is_unanswered(reply: &[u8]) -> bool {
    const OURS: [Wire; 3] = [Wire::BackendUnreachable, Wire::ReadLost, Wire::ReadTimedOut];
    OURS.iter().any(|wire| wire.redis() == reply) || is_away(reply)
}

impl Worker {
    /// Asks for a client's request whose place in its order is the next.
    pub(super) fn ask_fan_for(&mut self, who: Handle, meta: Meta, pool: u16, fan: Fan) -> Flow {
        let way = |ask: &Ask| match self.shard_table(pool, ask.shard).is_replicated()
            && self.owner(pool, ask.shard) != self.id
        {
            true => Way::HereUnordered,
            false => Way::Here,
        };
        let ways: Vec<Way> = fan.asks.iter().map(way).collect();
        let seq = self.open_slot(who, meta, &ways);
        let to = ReplyTo::Slot { client: who, seq };
        self.pool_stats(pool).of(PoolCount::Split).add(1);
        self.ask_fan(to, pool, fan);
        Flow::Taken
    }

    /// Sends the questions; the last answer is merged with the others for `to`.
    pub(super) fn ask_fan(&mut self, to: ReplyTo, pool: u16, mut fan: Fan) {
        fan.asks.truncate(usize::from(NO_PART));
        let limit = (fan.kind == FanKind::Info).then_some(TOTALS_MS);
        let count = fan.asks.len();
        let parts = (0..count).map(|_| self.spare.pop().unwrap_or_default());
        let parts = parts.collect();
        let gather = self.gathers.insert(Gather {
            waiting: count as u16,
            parts,
            fan: Some(Box::new(fan)),
            ..Gather::unordered(to, pool, Merge::Fan, 0, Vec::new())
        });
        if let Some(limit) = limit {
            self.fan_deadlines.push_back((self.now_ms + limit, gather));
        }
        for part in 0..count {
            self.ask_next(gather, part as u16);
        }
        if count == 0 {
            self.end_fan(gather);
        }
    }

    /// Ends those that have waited long enough, with what has come.
    pub(super) fn expire_fans(&mut self) {
        while let Some((deadline, gather)) = self.fan_deadlines.front().copied() {
            if deadline > self.now_ms {
                return;
            }
            self.fan_deadlines.pop_front();
            self.end_fan(gather);
        }
    }

    fn end_fan(&mut self, gather: Handle) {
        if let Some(gather) = self.gathers.remove(gather) {
            self.finish_fan(gather);
        }
    }

    /// Asks the next backend that can be. If there is none, what the last one said is the answer: false. If nobody
    /// was asked, that is the answer, and it is given here.
    fn ask_next(&mut self, gather: Handle, part: u16) -> bool {
        let Some((pool, lane, shard, tried, fixed)) =
            self.gathers.get_mut(gather).and_then(|gather| {
                let (pool, fan) = (gather.pool, gather.fan.as_ref()?);
                let ask = fan.asks.get(part as usize)?;
                let fixed = ask.is_fixed.then_some(ask.backend);
                Some((pool, ask.lane, ask.shard, ask.tried, fixed))
            })
        else {
            return false;
        };
        let to = ReplyTo::Part {
            gather,
            part,
            last: true,
        };
        let source = match fixed {
            Some(backend) => (tried == 0).then_some(backend),
            None => self.pick_source(pool, shard, lane, tried),
        };
        let Some(backend) = source else {
            if tried == 0 {
                let is_lost = self.shard_table(pool, shard).lead.is_none();
                let wire = match is_lost {
                    true => Wire::ShardLost,
                    false => Wire::BackendUnreachable,
                };
                self.fail(pool, to, wire);
            }
            return tried == 0;
        };
        let tag = self.tag_of(pool, shard, backend);
        let Some(state) = self.gathers.get_mut(gather) else {
            return false;
        };
        state.parts[part as usize].clear();
        let Some(fan) = state.fan.as_mut() else {
            return false;
        };
        let ask = &mut fan.asks[part as usize];
        ask.backend = backend;
        ask.tried |= 1 << backend;
        if let Some(scan) = &mut fan.scan {
            ask.bytes = scan.request(tag);
        }
        // It may fail at once, and then be asked of somebody else meanwhile.
        let (bytes, replies) = (ask.bytes.clone(), ask.replies);
        self.send_pinned(to, pool, shard, backend, lane, &bytes, replies);
        true
    }

    /// Looks at an answer that came: true if somebody else was asked instead.
    pub(super) fn ask_again(&mut self, gather: Handle, part: u16, reply: &[u8]) -> bool {
        let Some(state) = self.gathers.get_mut(gather) else {
            return false;
        };
        let pool = state.pool;
        let Some(fan) = &state.fan else { return false };
        let Some(ask) = fan.asks.get(part as usize) else {
            return false;
        };
        let (shard, backend, tried) = (ask.shard, ask.backend, ask.tried);
        // As for any read (`reads.rs`): whoever brings a backend back may have cut all connections.
        let may_repeat = !ask.is_fixed && !ask.is_again && reply == Wire::ReadLost.redis();
        let asked = fan.scan.as_ref().map(|scan| scan.tag);
        // A cursor is good for the process that it was meant for, not for its successor.
        if asked.is_some_and(|tag| tag != self.tag_of(pool, shard, backend)) {
            return self.ask_anew(gather, part);
        }
        if !is_unanswered(reply) || tried == 0 {
            return false;
        }
        if self.ask_next(gather, part) {
            return true;
        }
        let fan = self.gathers.get_mut(gather);
        match fan.and_then(|gather| gather.fan.as_mut()) {
            Some(fan) if may_repeat => {
                let ask = &mut fan.asks[part as usize];
                (ask.is_again, ask.tried) = (true, 0);
                self.ask_next(gather, part)
            }
            _ => false,
        }
    }

    /// Asks all of them once more.
    fn ask_anew(&mut self, gather: Handle, part: u16) -> bool {
        let fan = self.gathers.get_mut(gather);
        let Some(fan) = fan.and_then(|gather| gather.fan.as_mut()) else {
            return false;
        };
        fan.rounds += 1;
        if fan.rounds > ROUNDS {
            return false;
        }
        fan.asks[part as usize].tried = 0;
        self.ask_next(gather, part)
    }

    /// Whom of a shard to ask: the leader first, then the others that serve reads; suspects last.
    fn pick_source(&self, pool: u16, shard: u16, lane: u8, tried: u16) -> Option<u8> {
        let table = self.shard_table(pool, shard);
        let conns = &self.pools[pool as usize].shards[shard as usize].conns;
        let suspects = self.shared.shards[pool as usize][shard as usize]
            .suspects
            .load(SeqCst);
        let is_readable = |backend: &u8| table.reads.contains(backend);
        let lead = table.lead.filter(is_readable);
        let order = lead.into_iter().chain(table.reads.iter().copied());
        let mut untried = order.filter(|backend| tried & (1 << backend) == 0);
        let is_good = |backend: &u8| {
            let index = conns[*backend as usize][lane as usize];
            let is_away = index != NO_CONN && {
                let conn = &self.conns[index as usize];
                conn.state == ConnState::Held
                    || (conn.state == ConnState::Closed && conn.retry_at > self.now_ms)
            };
            suspects & (1 << backend) == 0 && !is_away
        };
        let first = untried.clone().next();
        untried.find(is_good).or(first)
    }

    /// Asks one backend and nobody else.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn send_pinned(
        &mut self,
        to: ReplyTo,
        pool: u16,
        shard: u16,
        backend: u8,
        lane: u8,
        bytes: &[u8],
        replies: u32,
    ) {
        let index = self.conn_for(pool, shard, backend, lane);
        let tried = match self.conns[index as usize].state {
            ConnState::Closed => return self.fail(pool, to, Wire::BackendUnreachable),
            // It waits there for the table that follows (`park_read`): nobody better was left.
            ConnState::Held => PARKED,
            _ => 0,
        };
        for i in 0..replies {
            let to = match to {
                ReplyTo::Part { gather, part, .. } => ReplyTo::Part {
                    gather,
                    part,
                    last: i + 1 == replies,
                },
                other => other,
            };
            let mut pending = self.pending(to, ReplyKind::Line, true, tried);
            pending.pinned = true;
            self.enqueue(index, if i == 0 { bytes } else { b"" }, pending);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exists_is_never_asked_about_nothing() {
        assert_eq!(
            count_reserved(&[]),
            b"*2\r\n$6\r\nEXISTS\r\n$13\r\n__shardproxy:\r\n"
        );
    }

    #[test]
    fn who_did_not_answer_is_told_from_who_refused() {
        assert!(is_unanswered(Wire::ReadLost.redis()));
        assert!(is_unanswered(b"-LOADING Redis is loading\r\n"));
        for reply in [
            &b"-ERR syntax error\r\n"[..],
            b":1\r\n",
            Wire::ShardLost.redis(),
        ] {
            assert!(!is_unanswered(reply));
        }
    }
}
