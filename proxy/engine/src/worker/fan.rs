//! Requests that concern every shard of a Redis pool: DBSIZE, KEYS, SCAN, FLUSHALL and their like.
//!
//! | | who is asked | when somebody does not answer |
//! |---|---|---|
//! | reads | of each shard the leader, or whoever is in sync and can be reached | the next one that is in sync |
//! | writes | all replicas of all shards, as any write (`replicate.rs`) | as for any write |
//!
//! Absent shards are left out: they hold nothing that counts. Our own keys are never shown, counted or removed.
//!
//! Such a request is taken when all earlier ones of its client are answered. So it sees what they did, whatever
//! workers they went through, and a client can have one of them under way. Behind RANDOMKEY, which may be asked
//! for in several rounds, its next request waits as well.
//!
//! A read is *pinned* to the backend that was chosen (`Pending::pinned`): what several answers have in common,
//! and a cursor, hold for one server only. Several requests to one backend are one part, whose replies stand
//! behind each other. They are no transaction: a server that is out of memory takes none, not even of reads.

use super::ask::{count_reserved, request, Ask, Fan};
use super::forward::{Flow, Incoming};
use super::merge::{self, Drawn};
use super::split::Gather;
use super::sums;
use super::*;
use crate::command::table::RequestPolicy;
use crate::command::{scripts, FanKind, Row};
use crate::conn::lane;
use crate::proto::resp;

/// RANDOMKEY is drawn so often at once, and in so many rounds, until it is none of our own keys. With one key
/// beside one of ours two hundred and fifty draws in vain do not happen.
const DRAWS: usize = 4;
const ROUNDS: u32 = 64;

/// No key.
pub(super) fn null(lane: u8) -> &'static [u8] {
    if lane::is_resp3(lane) {
        b"_\r\n"
    } else {
        b"$-1\r\n"
    }
}

impl Worker {
    /// Takes such a request of a client.
    pub(super) fn fan(&mut self, asked: &Incoming, kind: FanKind) -> Flow {
        let Incoming {
            who,
            meta,
            pool,
            lane,
            row,
            args,
            frame,
        } = *asked;
        let Some(client) = self.clients.get_mut(who) else {
            return Flow::Taken;
        };
        if !client.slots.is_empty() {
            client.block = Block::Drain;
            return Flow::Wait;
        }
        // Whatever it is drawn again for, what its client asks for later is not there yet.
        client.fenced |= kind == FanKind::RandomKey;
        let per_shard = |worker: &Worker, make: &dyn Fn(&crate::route::Shard) -> (Vec<u8>, u32)| {
            let shards = worker.present(pool).into_iter();
            let asks = shards.map(|shard| {
                let (bytes, replies) = make(worker.shard_table(pool, shard));
                Ask::new(shard, lane, bytes, replies)
            });
            asks.collect::<Vec<_>>()
        };
        let asks = match kind {
            FanKind::Flush => return self.flush(asked),
            FanKind::Swap => return self.swap(asked),
            FanKind::Scan => return self.scan(asked),
            FanKind::Write => return self.write_everywhere(asked),
            FanKind::Wait => {
                let text = self.wait_for_replicas(pool, &args);
                self.reply_now(who, meta, &text);
                return Flow::Taken;
            }
            FanKind::Info => self.ask_for_totals(pool, lane, &args),
            FanKind::Concat | FanKind::Sum | FanKind::Texts | FanKind::Succeed | FanKind::Tally
                if row.request_policy == RequestPolicy::AllNodes =>
            {
                self.of_all_members(pool, lane, frame)
            }
            FanKind::Keys
            | FanKind::Least
            | FanKind::Concat
            | FanKind::Sum
            | FanKind::Texts
            | FanKind::Succeed
            | FanKind::Tally => per_shard(self, &|_| (frame.to_vec(), 1)),
            FanKind::Only if self.table.pools[pool as usize].shards.len() > 1 => {
                self.pool_stats(pool).of(PoolCount::CrossShard).add(1);
                self.reply_now(who, meta, Wire::CrossSlot.redis());
                return Flow::Taken;
            }
            FanKind::First | FanKind::Only => {
                let mut asks = per_shard(self, &|_| (frame.to_vec(), 1));
                asks.truncate(1);
                asks
            }
            FanKind::ScriptLoad => {
                self.remember_script(args.get(2));
                self.of_all_members(pool, lane, frame)
            }
            FanKind::ScriptFlush => {
                self.forget_scripts();
                self.of_all_members(pool, lane, frame)
            }
            FanKind::ScriptExists => {
                for digest in args.iter().skip(2).filter_map(scripts::parse) {
                    for shard in self.present(pool) {
                        self.give_script(pool, shard, lane, digest);
                    }
                }
                per_shard(self, &|_| (frame.to_vec(), 1))
            }
            // On a connection of their own: nobody listens on that of the script that runs.
            FanKind::Kill | FanKind::FunctionStats => {
                self.of_all_members(pool, lane::control(lane::is_resp3(lane)), frame)
            }
            FanKind::Dbsize | FanKind::RandomKey => {
                let draws = if kind == FanKind::Dbsize { 0 } else { DRAWS };
                per_shard(self, &|shard| {
                    let mut requests = vec![request(&[b"DBSIZE"]), count_reserved(&shard.reserved)];
                    requests.extend((0..draws).map(|_| request(&[row.name.as_bytes()])));
                    (requests.concat(), requests.len() as u32)
                })
            }
        };
        let request = match kind {
            FanKind::Info => frame.to_vec(),
            _ => Vec::new(),
        };
        let (rounds, scan) = (0, None);
        let fan = Fan {
            kind,
            lane,
            asks,
            rounds,
            scan,
            request,
        };
        self.ask_fan_for(who, meta, pool, fan)
    }

    /// The same question to each backend of each shard that gets its writes.
    fn of_all_members(&self, pool: u16, lane: u8, frame: &[u8]) -> Vec<Ask> {
        let mut asks = Vec::new();
        for shard in self.present(pool) {
            let members = self.shard_table(pool, shard).members();
            for backend in (0..16u8).filter(|backend| members & (1 << backend) != 0) {
                asks.push(Ask::of(shard, backend, lane, frame.to_vec(), 1));
            }
            if members == 0 {
                // Which is answered with an error.
                asks.push(Ask::new(shard, lane, frame.to_vec(), 1));
            }
        }
        asks
    }

    /// Positions of the shards that hold their keys.
    pub(super) fn present(&self, pool: u16) -> Vec<u16> {
        let absent = &self.table.pools[pool as usize].absent;
        let is_present = |shard: &u16| !absent[*shard as usize];
        (0..absent.len() as u16).filter(is_present).collect()
    }

    /// The same, as they are named among those of all pools.
    pub(super) fn present_spots(&self, pool: u16) -> Vec<Spot> {
        let shards = self.present(pool).into_iter();
        shards.map(|shard| Spot { pool, shard }).collect()
    }

    /// The shards that such a write goes to: those of the pool. What its keys may call is known where
    /// routes lead to, as a script is (`scripts.rs`).
    pub(super) fn spots_of_write(&self, pool: u16, row: &Row) -> Vec<Spot> {
        let mut spots = self.present_spots(pool);
        if matches!(row.name, "FUNCTION|LOAD" | "FUNCTION|DELETE") {
            for other in self.table.pools[pool as usize].leads.pools() {
                if spots.iter().all(|spot| spot.pool != other) {
                    spots.extend(self.present_spots(other));
                }
            }
        }
        spots
    }

    /// All have answered.
    pub(super) fn finish_fan(&mut self, mut gather: Gather) {
        let Some(fan) = gather.fan.take() else { return };
        let mut reply = std::mem::take(&mut self.scratch);
        reply.clear();
        let parts = &gather.parts;
        let merged = match fan.kind {
            FanKind::Dbsize => merge::dbsize(parts).map(|sum| {
                reply.extend_from_slice(format!(":{sum}\r\n").as_bytes());
            }),
            FanKind::Keys => merge::keys(parts).map(|keys| merge::write_values(&mut reply, &keys)),
            FanKind::Scan => self.scanned(gather.pool, &fan, parts, &mut reply),
            FanKind::RandomKey => match merge::random_key(parts, self.dice()) {
                Ok(Drawn::Again) if fan.rounds < ROUNDS => {
                    self.scratch = reply;
                    self.draw_again(gather, *fan);
                    return;
                }
                Ok(Drawn::Key(key)) => {
                    reply.extend_from_slice(key);
                    Ok(())
                }
                Ok(_) => {
                    reply.extend_from_slice(null(fan.lane));
                    Ok(())
                }
                Err(error) => Err(error),
            },
            FanKind::First | FanKind::Only => {
                reply.extend_from_slice(&parts[0]);
                Ok(())
            }
            FanKind::ScriptLoad | FanKind::ScriptFlush => {
                if fan.kind == FanKind::ScriptFlush {
                    // What was loaded again meanwhile is gone on some.
                    self.forget_scripts();
                }
                let shards = fan.asks.iter().map(|ask| ask.shard);
                merge::one_of_each(shards, parts).map(|part| reply.extend_from_slice(part))
            }
            FanKind::ScriptExists => {
                merge::all_of(parts).map(|flags| merge::write_flags(&mut reply, &flags))
            }
            FanKind::Kill => {
                reply.extend_from_slice(merge::any(parts));
                Ok(())
            }
            FanKind::FunctionStats => {
                merge::running(parts).map(|part| reply.extend_from_slice(part))
            }
            FanKind::Info => {
                let resp3 = lane::is_resp3(fan.lane);
                self.write_info(gather.pool, resp3, &fan.request, parts, &mut reply);
                Ok(())
            }
            FanKind::Concat => {
                let shards = fan.asks.iter().map(|ask| ask.shard);
                merge::lists(shards, parts).map(|list| merge::write_values(&mut reply, &list))
            }
            FanKind::Sum => {
                let shards = fan.asks.iter().map(|ask| ask.shard);
                merge::sum(shards, parts)
                    .map(|sum| reply.extend_from_slice(format!(":{sum}\r\n").as_bytes()))
            }
            FanKind::Least => merge::least(parts)
                .map(|least| reply.extend_from_slice(format!(":{least}\r\n").as_bytes())),
            FanKind::Succeed => {
                let shards = fan.asks.iter().map(|ask| ask.shard);
                merge::one_of_each(shards, parts).map(|part| reply.extend_from_slice(part))
            }
            FanKind::Texts => {
                let table = &self.table.pools[gather.pool as usize];
                let titles = fan.asks.iter().map(|ask| {
                    let backend = &table.shards[ask.shard as usize].backends[ask.backend as usize];
                    backend.name.as_str()
                });
                merge::texts(titles, parts).map(|text| resp::write_bulk(&mut reply, &text))
            }
            FanKind::Tally => {
                let shards = fan.asks.iter().map(|ask| ask.shard);
                sums::merge(shards, parts, lane::is_resp3(fan.lane), &mut reply)
            }
            FanKind::Flush | FanKind::Swap | FanKind::Write | FanKind::Wait => Ok(()),
        };
        if let Err(error) = merged {
            reply.clear();
            reply.extend_from_slice(error);
        }
        self.deliver(gather.to, &reply);
        self.scratch = reply;
        self.recycle(gather.parts);
    }

    /// Any number.
    pub(super) fn dice(&mut self) -> u64 {
        let mut half = || {
            self.entropy ^= self.entropy << 13;
            self.entropy ^= self.entropy >> 17;
            self.entropy ^= self.entropy << 5;
            u64::from(self.entropy)
        };
        half() << 32 | half()
    }

    fn draw_again(&mut self, gather: Gather, mut fan: Fan) {
        fan.rounds += 1;
        for ask in &mut fan.asks {
            ask.tried = 0;
        }
        self.recycle(gather.parts);
        self.ask_fan(gather.to, gather.pool, fan);
    }
}
