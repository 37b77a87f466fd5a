//! Load generator for `bench/`: one thread, many clients, Redis or memcached text protocol.
//!
//! Each client sends a batch of `pipeline` requests, reads all their replies, sends the next batch
//! (a closed loop). Keys are drawn evenly from a fixed set that was written before, so that reads
//! find their values. It prints one JSON object, its own CPU time included: a measurement in which
//! the load generator's share of a core nears 1 measured the load generator.
//!
//! It exists because redis-benchmark speaks no memcached, mixes no reads and writes, and
//! memtier_benchmark is in few distributions. It uses the engine's `sys` and nothing else of it: it
//! must not share a parser, and so a mistake, with what it measures.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use _engine::sys::{connect, connect_outcome, read, write, Address, Io, Poll, PollEvents};

const USAGE: &str = "usage: loadgen --protocol redis|memcached --address IP:PORT [--clients 50] \
[--pipeline 1] [--seconds 3] [--sets 1] [--gets 10] [--keys-per-get 1] [--value-bytes 32] \
[--keys 100000] [--seed 1] [--populate yes]";

const READ_BYTES: usize = 256 * 1024;

#[derive(Clone, Copy, PartialEq)]
enum Protocol {
    Redis,
    Memcached,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Get,
    Set,
}

struct Options {
    protocol: Protocol,
    address: Address,
    clients: usize,
    pipeline: usize,
    duration: Duration,
    sets: u64,
    gets: u64,
    /// Above 1 a read is an MGET, or a get of so many keys.
    keys_per_get: usize,
    value: Vec<u8>,
    keys: u64,
    seed: u64,
    /// Write every key once instead of generating load.
    populate: bool,
}

impl Options {
    fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut given = HashMap::new();
        let mut arguments = arguments;
        while let Some(name) = arguments.next() {
            let value = arguments
                .next()
                .ok_or_else(|| format!("{name} needs a value"))?;
            given.insert(name, value);
        }
        let protocol = match given.remove("--protocol").as_deref() {
            Some("redis") => Protocol::Redis,
            Some("memcached") => Protocol::Memcached,
            _ => return Err("--protocol must be redis or memcached".into()),
        };
        let address = given
            .remove("--address")
            .and_then(|text| Address::parse(&text));
        let mut number = |name: &str, default: f64| match given.remove(name) {
            None => Ok(default),
            Some(text) => text
                .parse::<f64>()
                .ok()
                .filter(|v| *v >= 0.0)
                .ok_or(format!("{name}: {text}?")),
        };
        let options = Options {
            protocol,
            address: address.ok_or("--address must be IP:PORT or unix:/path")?,
            clients: number("--clients", 50.0)?.max(1.0) as usize,
            pipeline: number("--pipeline", 1.0)?.max(1.0) as usize,
            duration: Duration::from_secs_f64(number("--seconds", 3.0)?),
            sets: number("--sets", 1.0)? as u64,
            gets: number("--gets", 10.0)? as u64,
            keys_per_get: number("--keys-per-get", 1.0)?.max(1.0) as usize,
            value: vec![b'v'; number("--value-bytes", 32.0)? as usize],
            keys: number("--keys", 100_000.0)?.max(1.0) as u64,
            seed: number("--seed", 1.0)? as u64,
            populate: given.remove("--populate").as_deref() == Some("yes"),
        };
        match given.keys().next() {
            Some(unknown) => Err(format!("unknown option {unknown}")),
            None if options.sets + options.gets == 0 => Err("--sets and --gets are both 0".into()),
            None => Ok(options),
        }
    }
}

/// Which request comes next: xorshift64*, or every key once in order.
struct Plan {
    state: u64,
    sets: u64,
    gets: u64,
    keys: u64,
    /// The next key to write while populating; None otherwise.
    next: Option<u64>,
}

impl Plan {
    fn random(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33
    }

    /// The next request, or None when all is written.
    fn next(&mut self) -> Option<(Kind, u64)> {
        if let Some(key) = self.next {
            self.next = Some(key + 1);
            return (key < self.keys).then_some((Kind::Set, key));
        }
        let kind = if self.random() % (self.sets + self.gets) < self.sets {
            Kind::Set
        } else {
            Kind::Get
        };
        Some((kind, self.random() % self.keys))
    }
}

struct Client {
    fd: OwnedFd,
    connected: bool,
    out: Vec<u8>,
    sent: usize,
    unread: Vec<u8>,
    /// Kinds of the requests of the current batch, and how many of them are answered.
    batch: Vec<Kind>,
    answered: usize,
    sent_at: Instant,
}

impl Client {
    /// Makes the next batch; false if there is nothing left to send.
    fn fill(&mut self, options: &Options, plan: &mut Plan, key: &mut String) -> bool {
        self.out.clear();
        self.sent = 0;
        self.batch.clear();
        self.answered = 0;
        for _ in 0..options.pipeline {
            let Some((kind, number)) = plan.next() else {
                break;
            };
            key.clear();
            let _ = write!(key, "memtier-{number}"); // the shape of memtier_benchmark's keys
            match (kind, options.keys_per_get) {
                (Kind::Get, many) if many > 1 => {
                    let further = (1..many).map(|_| plan.random() % plan.keys);
                    let keys = std::iter::once(number).chain(further);
                    append_many(&mut self.out, options.protocol, many, keys);
                }
                _ => append(&mut self.out, options, kind, key),
            }
            self.batch.push(kind);
        }
        self.sent_at = Instant::now();
        !self.batch.is_empty()
    }

    /// Sends what the socket takes; the edge of its becoming writable calls again.
    fn flush(&mut self) -> Result<(), String> {
        while self.sent < self.out.len() {
            match write(&self.fd, &self.out[self.sent..]) {
                Io::Done(count) => self.sent += count,
                Io::Blocked => return Ok(()),
                Io::End | Io::Broken => return Err("the connection broke while sending".into()),
            }
        }
        Ok(())
    }
}

fn append(out: &mut Vec<u8>, options: &Options, kind: Kind, key: &str) {
    let size = options.value.len();
    let head = match (options.protocol, kind) {
        (Protocol::Redis, Kind::Get) => format!("*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len()),
        (Protocol::Redis, Kind::Set) => {
            format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${size}\r\n", key.len())
        }
        (Protocol::Memcached, Kind::Get) => format!("get {key}\r\n"),
        (Protocol::Memcached, Kind::Set) => format!("set {key} 0 0 {size}\r\n"),
    };
    out.extend_from_slice(head.as_bytes());
    if kind == Kind::Set {
        out.extend_from_slice(&options.value);
        out.extend_from_slice(b"\r\n");
    }
}

/// One read of many keys.
fn append_many(
    out: &mut Vec<u8>,
    protocol: Protocol,
    count: usize,
    keys: impl Iterator<Item = u64>,
) {
    let head = match protocol {
        Protocol::Redis => format!("*{}\r\n$4\r\nMGET\r\n", count + 1),
        Protocol::Memcached => "get".to_owned(),
    };
    out.extend_from_slice(head.as_bytes());
    for number in keys {
        let key = format!("memtier-{number}");
        let word = match protocol {
            Protocol::Redis => format!("${}\r\n{key}\r\n", key.len()),
            Protocol::Memcached => format!(" {key}"),
        };
        out.extend_from_slice(word.as_bytes());
    }
    if protocol == Protocol::Memcached {
        out.extend_from_slice(b"\r\n");
    }
}

enum Reply {
    Hit,
    Miss,
    Stored,
    Error(String),
}

fn line(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    Some(&bytes[..=end])
}

/// The reply to a read of many keys and its length; None if more bytes are needed. A hit if all were found.
fn parse_many(protocol: Protocol, count: usize, bytes: &[u8]) -> Option<(Reply, usize)> {
    let first = line(bytes)?;
    let begin = match protocol {
        Protocol::Redis if first.starts_with(b"*") => first.len(),
        Protocol::Memcached if first.starts_with(b"VALUE ") || first == b"END\r\n" => 0,
        _ => return parse(protocol, Kind::Get, bytes),
    };
    let (mut at, mut found) = (begin, 0);
    for _ in 0..count {
        let head = line(&bytes[at..])?;
        let size = match protocol {
            Protocol::Redis => &head[1..],
            Protocol::Memcached if head == b"END\r\n" => break,
            Protocol::Memcached => head.split(|byte| *byte == b' ').nth(3).unwrap_or(b""),
        };
        let size = std::str::from_utf8(size).ok()?.trim().parse::<i64>();
        at += head.len();
        if let Some(size) = size.ok().and_then(|size| usize::try_from(size).ok()) {
            at += size + 2;
            found += 1;
        }
        if at > bytes.len() {
            return None;
        }
    }
    if protocol == Protocol::Memcached {
        at += line(&bytes[at..])?.len(); // END
    }
    let reply = if found == count {
        Reply::Hit
    } else {
        Reply::Miss
    };
    Some((reply, at))
}

/// The first whole reply and its length; None if more bytes are needed.
fn parse(protocol: Protocol, kind: Kind, bytes: &[u8]) -> Option<(Reply, usize)> {
    let first = line(bytes)?;
    let unexpected = || {
        (
            Reply::Error(String::from_utf8_lossy(first).trim().to_owned()),
            first.len(),
        )
    };
    let number = |text: &[u8]| std::str::from_utf8(text).ok()?.trim().parse::<usize>().ok();
    let (size, trailer) = match (protocol, kind) {
        (Protocol::Redis, Kind::Set) if first == b"+OK\r\n" => {
            return Some((Reply::Stored, first.len()))
        }
        (Protocol::Redis, Kind::Get) if first == b"$-1\r\n" => {
            return Some((Reply::Miss, first.len()))
        }
        (Protocol::Redis, Kind::Get) if first[0] == b'$' => (number(&first[1..]), "\r\n".len()),
        (Protocol::Memcached, Kind::Set) if first == b"STORED\r\n" => {
            return Some((Reply::Stored, first.len()))
        }
        (Protocol::Memcached, Kind::Get) if first == b"END\r\n" => {
            return Some((Reply::Miss, first.len()))
        }
        (Protocol::Memcached, Kind::Get) if first.starts_with(b"VALUE ") => (
            first.split(|byte| *byte == b' ').nth(3).and_then(number),
            "\r\nEND\r\n".len(),
        ),
        _ => return Some(unexpected()),
    };
    let Some(size) = size else {
        return Some(unexpected());
    };
    let length = first.len() + size + trailer;
    (bytes.len() >= length).then_some((Reply::Hit, length))
}

/// Latencies in buckets of about 3 %: 32 per power of two of nanoseconds.
struct Histogram(Vec<u64>);

impl Histogram {
    fn new() -> Self {
        Histogram(vec![0; 64 * 32])
    }

    /// The upper edge of the bucket of the longest, in µs.
    fn longest_us(&self) -> f64 {
        self.quantile_us(1.0)
    }

    fn add(&mut self, nanoseconds: u64) {
        let value = nanoseconds.max(32);
        let power = value.ilog2() as usize;
        let step = (value >> (power - 5)) as usize & 31;
        self.0[power * 32 + step] += 1;
    }

    /// The upper edge of the bucket in which the given share of all values lies at or below, in µs.
    fn quantile_us(&self, share: f64) -> f64 {
        let wanted = (self.0.iter().sum::<u64>() as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, count) in self.0.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return ((32 + bucket as u64 % 32 + 1) << (bucket / 32 - 5)) as f64 / 1000.0;
            }
        }
        0.0
    }
}

/// What was counted over all clients.
struct Totals {
    requests: u64,
    hits: u64,
    misses: u64,
    stored: u64,
    errors: u64,
    first_error: String,
    latencies: Histogram,
}

impl Totals {
    fn count(&mut self, reply: Reply, nanoseconds: u64) {
        self.requests += 1;
        self.latencies.add(nanoseconds);
        match reply {
            Reply::Hit => self.hits += 1,
            Reply::Miss => self.misses += 1,
            Reply::Stored => self.stored += 1,
            Reply::Error(text) => {
                if self.errors == 0 {
                    self.first_error = text;
                }
                self.errors += 1;
            }
        }
    }
}

fn run(options: &Options) -> Result<String, String> {
    let system = |error: std::io::Error| error.to_string();
    let poll = Poll::new().map_err(system)?;
    let mut clients = Vec::new();
    for token in 0..options.clients {
        let fd = connect(&options.address).map_err(system)?;
        poll.add_connection(&fd, token as u64).map_err(system)?;
        clients.push(Client {
            fd,
            connected: false,
            out: Vec::new(),
            sent: 0,
            unread: Vec::new(),
            batch: Vec::new(),
            answered: 0,
            sent_at: Instant::now(),
        });
    }
    let mut plan = Plan {
        state: options.seed | 1 << 40, // never 0, where xorshift stays
        sets: options.sets,
        gets: options.gets,
        keys: options.keys,
        next: options.populate.then_some(0),
    };
    let mut totals = Totals {
        requests: 0,
        hits: 0,
        misses: 0,
        stored: 0,
        errors: 0,
        first_error: String::new(),
        latencies: Histogram::new(),
    };
    let mut events = PollEvents::new(options.clients.min(1024));
    let mut buffer = vec![0; READ_BYTES];
    let mut key = String::new();
    let mut active = options.clients;
    let start = Instant::now();
    let mut last_reply = start;
    let is_over = |now: Instant| !options.populate && now.duration_since(start) >= options.duration;

    while active > 0 {
        poll.wait(&mut events, Some(5_000)).map_err(system)?;
        if events.is_empty() {
            return Err(format!(
                "no reply for 5 s, after {} requests",
                totals.requests
            ));
        }
        for index in 0..events.len() {
            let ready = events.get(index);
            let client = &mut clients[ready.token as usize];
            if ready.writable && !client.connected {
                connect_outcome(&client.fd).map_err(system)?;
                client.connected = true;
                if !client.fill(options, &mut plan, &mut key) {
                    active -= 1;
                    continue;
                }
            }
            if client.connected {
                client.flush()?;
            }
            if !ready.readable && !ready.closing {
                continue;
            }
            // Edge-triggered: read until the socket has no more.
            loop {
                match read(&client.fd, &mut buffer) {
                    Io::Done(count) => client.unread.extend_from_slice(&buffer[..count]),
                    Io::Blocked => break,
                    Io::End | Io::Broken => return Err("the server closed the connection".into()),
                }
            }
            last_reply = Instant::now();
            let waited = last_reply.duration_since(client.sent_at).as_nanos() as u64;
            let mut used = 0;
            while client.answered < client.batch.len() {
                let kind = client.batch[client.answered];
                let unread = &client.unread[used..];
                let reply = match (kind, options.keys_per_get) {
                    (Kind::Get, many) if many > 1 => parse_many(options.protocol, many, unread),
                    _ => parse(options.protocol, kind, unread),
                };
                let Some((reply, length)) = reply else {
                    break;
                };
                totals.count(reply, waited);
                client.answered += 1;
                used += length;
            }
            client.unread.drain(..used);
            if client.answered < client.batch.len() {
                continue;
            }
            if is_over(last_reply) || !client.fill(options, &mut plan, &mut key) {
                client.batch.clear();
                active -= 1;
                continue;
            }
            client.flush()?;
        }
    }
    let seconds = last_reply.duration_since(start).as_secs_f64();
    Ok(format!(
        "{{\"requests\": {}, \"seconds\": {seconds:.6}, \"ops_per_second\": {:.1}, \"p50_us\": {:.1}, \
         \"p99_us\": {:.1}, \"p999_us\": {:.1}, \"max_us\": {:.1}, \"hits\": {}, \"misses\": {}, \"stored\": {}, \
         \"errors\": {}, \"first_error\": {:?}, \"own_cpu_seconds\": {:.2}}}",
        totals.requests,
        totals.requests as f64 / seconds.max(1e-9),
        totals.latencies.quantile_us(0.5),
        totals.latencies.quantile_us(0.99),
        totals.latencies.quantile_us(0.999),
        totals.latencies.longest_us(),
        totals.hits,
        totals.misses,
        totals.stored,
        totals.errors,
        totals.first_error,
        own_cpu_seconds().unwrap_or(0.0),
    ))
}

/// User and system time so far; the kernel counts in hundredths of a second on every Linux.
fn own_cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / 100.0)
}

fn main() -> ExitCode {
    let result = Options::parse(std::env::args().skip(1))
        .map_err(|error| format!("{error}\n{USAGE}"))
        .and_then(|options| run(&options));
    match result {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("loadgen: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &[(Protocol, Kind, &[u8])] = &[
        (Protocol::Redis, Kind::Set, b"+OK\r\n"),
        (Protocol::Redis, Kind::Get, b"$-1\r\n"),
        (Protocol::Redis, Kind::Get, b"$5\r\na\r\nbc\r\n"),
        (Protocol::Redis, Kind::Get, b"-LOADING wait\r\n"),
        (Protocol::Memcached, Kind::Set, b"STORED\r\n"),
        (Protocol::Memcached, Kind::Get, b"END\r\n"),
        (
            Protocol::Memcached,
            Kind::Get,
            b"VALUE k 0 5\r\nEND\r\n\r\nEND\r\n",
        ),
        (Protocol::Memcached, Kind::Get, b"SERVER_ERROR no\r\n"),
    ];

    #[test]
    fn a_reply_is_taken_when_it_is_whole_and_not_before() {
        for (protocol, kind, bytes) in WHOLE {
            for end in 0..bytes.len() {
                assert!(parse(*protocol, *kind, &bytes[..end]).is_none());
            }
            let followed = [*bytes, b"+OK\r\n"].concat();
            assert_eq!(parse(*protocol, *kind, &followed).unwrap().1, bytes.len());
        }
    }

    #[test]
    fn a_reply_of_many_values_is_taken_when_it_is_whole_and_not_before() {
        let whole: &[(Protocol, &[u8], bool)] = &[
            (Protocol::Redis, b"*2\r\n$1\r\na\r\n$4\r\n\r\n$1\r\n", true),
            (Protocol::Redis, b"*2\r\n$-1\r\n$1\r\na\r\n", false),
            (Protocol::Redis, b"-ERR no\r\n", false),
            (
                Protocol::Memcached,
                b"VALUE k 0 5\r\nEND\r\n\r\nVALUE l 0 1\r\na\r\nEND\r\n",
                true,
            ),
            (Protocol::Memcached, b"VALUE k 0 1\r\na\r\nEND\r\n", false),
            (Protocol::Memcached, b"END\r\n", false),
            (Protocol::Memcached, b"SERVER_ERROR no\r\n", false),
        ];
        for (protocol, bytes, is_hit) in whole {
            for end in 0..bytes.len() {
                assert!(parse_many(*protocol, 2, &bytes[..end]).is_none(), "{end}");
            }
            let followed = [*bytes, b"+OK\r\n"].concat();
            let (reply, length) = parse_many(*protocol, 2, &followed).unwrap();
            assert_eq!(length, bytes.len());
            assert_eq!(matches!(reply, Reply::Hit), *is_hit);
        }
    }

    #[test]
    fn what_was_not_asked_for_is_an_error() {
        for (protocol, kind, bytes) in [
            (Protocol::Redis, Kind::Set, &b"$-1\r\n"[..]),
            (Protocol::Memcached, Kind::Set, b"ERROR\r\n"),
        ] {
            assert!(matches!(
                parse(protocol, kind, bytes),
                Some((Reply::Error(_), _))
            ));
        }
    }

    #[test]
    fn quantiles_are_within_a_bucket_of_the_truth() {
        let mut histogram = Histogram::new();
        for microseconds in 1..=1000 {
            histogram.add(microseconds * 1000);
        }
        for (share, truth) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let found = histogram.quantile_us(share);
            assert!((truth..truth * 1.04).contains(&found), "{share}: {found}");
        }
    }

    #[test]
    fn populating_names_every_key_once() {
        let mut plan = Plan {
            state: 1,
            sets: 1,
            gets: 1,
            keys: 3,
            next: Some(0),
        };
        let keys: Vec<u64> = std::iter::from_fn(|| plan.next())
            .map(|(_, key)| key)
            .collect();
        assert_eq!(keys, [0, 1, 2]);
    }
}
