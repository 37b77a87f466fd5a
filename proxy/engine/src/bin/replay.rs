//! Replays a fixed stream of requests through one worker, for `bench/instructions.py`, which has
//! callgrind count the instructions of `measured_turn` and of nothing else.
//!
//! Client, worker and backends are one thread and take turns, over unix sockets, on which what one
//! end has written can be read at the other at once. The clock stands still. So every run does the
//! same, instruction by instruction, from a client's bytes to the reply (parser, command table, ring,
//! queues, reply path, and the turn around them), whatever the machine does meanwhile.
//!
//! The backends are a few lines of their own, answer from nothing, and share no parser with the engine.
//! Every reply is compared with what it has to be: a stream that broke would be fast.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use _engine::engine::worker_stats;
use _engine::hash::HashKind;
use _engine::ring::{Distribution, RingSpec};
use _engine::route::{ring_for, Backend, Leads, Pool, Shard, Table};
use _engine::sys::{Address, Clock, PollEvents};
use _engine::worker::shared::{Ack, Config, PoolConfig, Protocol, Shared};
use _engine::worker::{Worker, EVENTS_PER_TURN};

const VALUE: &[u8] = b"0123456789abcdef0123456789abcdef";
/// Rounds before the counting: connections are made, buffers reach their size.
const WARM_UP: usize = 5;
/// Turns within which every reply of a round must be there.
const TURNS_PER_ROUND: usize = 16;

/// One request and the reply it must have.
type Exchange = (Vec<u8>, Vec<u8>);

/// One load.
struct Stream {
    name: &'static str,
    protocol: Protocol,
    shards: usize,
    replicas: usize,
    clients: usize,
    /// Requests that a client sends at once.
    pipeline: usize,
    rounds: usize,
    /// The next request of a kind that may follow from the number of those before it.
    make: fn(&mut Keys, usize) -> Exchange,
}

const fn redis(name: &'static str, make: fn(&mut Keys, usize) -> Exchange) -> Stream {
    Stream {
        name,
        protocol: Protocol::Redis,
        shards: 4,
        replicas: 0,
        clients: 50,
        pipeline: 1,
        rounds: 20,
        make,
    }
}

const fn memcached(name: &'static str, make: fn(&mut Keys, usize) -> Exchange) -> Stream {
    Stream {
        protocol: Protocol::Memcached,
        ..redis(name, make)
    }
}

const fn deep(stream: Stream) -> Stream {
    Stream {
        clients: 8,
        pipeline: 64,
        rounds: 4,
        ..stream
    }
}

const STREAMS: &[Stream] = &[
    redis("redis-p1", get_and_set),
    deep(redis("redis-p64", get_and_set)),
    Stream {
        clients: 8,
        rounds: 8,
        ..redis("redis-mget100", mget)
    },
    Stream {
        replicas: 1,
        ..redis("redis-set-replica", set)
    },
    memcached("memcached-text-p1", text),
    deep(memcached("memcached-text-p64", text)),
    Stream {
        clients: 8,
        rounds: 8,
        ..memcached("memcached-get100", multiget)
    },
    deep(memcached("memcached-meta-p64", meta)),
    deep(memcached("memcached-binary-p64", binary)),
    Stream {
        replicas: 1,
        ..memcached("memcached-set-replica", text_set)
    },
];

/// The same keys in every run: xorshift64*.
struct Keys(u64);

impl Keys {
    fn next(&mut self) -> String {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        format!("key:{:06}", number % 100_000)
    }
}

fn array(words: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
    out
}

fn bulk() -> Vec<u8> {
    [b"$32\r\n", VALUE, b"\r\n"].concat()
}

fn get_and_set(keys: &mut Keys, turn: usize) -> Exchange {
    match turn % 11 {
        0 => set(keys, turn),
        _ => (array(&[b"GET", keys.next().as_bytes()]), bulk()),
    }
}

fn set(keys: &mut Keys, _turn: usize) -> Exchange {
    let request = array(&[b"SET", keys.next().as_bytes(), VALUE]);
    (request, b"+OK\r\n".to_vec())
}

fn mget(keys: &mut Keys, _turn: usize) -> Exchange {
    let keys: Vec<String> = (0..100).map(|_| keys.next()).collect();
    let words: Vec<&[u8]> = std::iter::once("MGET")
        .chain(keys.iter().map(String::as_str))
        .map(str::as_bytes)
        .collect();
    (
        array(&words),
        [b"*100\r\n".to_vec(), bulk().repeat(100)].concat(),
    )
}

fn item(key: &str) -> Vec<u8> {
    [format!("VALUE {key} 0 32\r\n").as_bytes(), VALUE, b"\r\n"].concat()
}

fn text(keys: &mut Keys, turn: usize) -> Exchange {
    if turn % 11 == 0 {
        return text_set(keys, turn);
    }
    let key = keys.next();
    let reply = [item(&key), b"END\r\n".to_vec()].concat();
    (format!("get {key}\r\n").into_bytes(), reply)
}

fn text_set(keys: &mut Keys, _turn: usize) -> Exchange {
    let head = format!("set {} 0 0 32\r\n", keys.next());
    let request = [head.as_bytes(), VALUE, b"\r\n"].concat();
    (request, b"STORED\r\n".to_vec())
}

fn multiget(keys: &mut Keys, _turn: usize) -> Exchange {
    let keys: Vec<String> = (0..100).map(|_| keys.next()).collect();
    let request = format!("get {}\r\n", keys.join(" ")).into_bytes();
    let mut reply: Vec<u8> = keys.iter().flat_map(|key| item(key)).collect();
    reply.extend_from_slice(b"END\r\n");
    (request, reply)
}

fn meta(keys: &mut Keys, turn: usize) -> Exchange {
    let key = keys.next();
    if turn % 11 == 0 {
        let request = [format!("ms {key} 32\r\n").as_bytes(), VALUE, b"\r\n"].concat();
        return (request, b"HD\r\n".to_vec());
    }
    let request = format!("mg {key} v\r\n").into_bytes();
    (request, [b"VA 32\r\n", VALUE, b"\r\n"].concat())
}

/// A packet of the binary protocol: 24 bytes of header, extras, key, value.
fn packet(magic: u8, opcode: u8, extras: &[u8], key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut out = vec![magic, opcode];
    out.extend_from_slice(&(key.len() as u16).to_be_bytes());
    out.extend_from_slice(&[extras.len() as u8, 0, 0, 0]);
    let total = (extras.len() + key.len() + value.len()) as u32;
    out.extend_from_slice(&total.to_be_bytes());
    out.extend_from_slice(&[0, 0, 0, 1]);
    out.extend_from_slice(&(if magic == 0x81 { CAS } else { 0 }).to_be_bytes());
    for part in [extras, key, value] {
        out.extend_from_slice(part);
    }
    out
}

/// Of every item here.
const CAS: u64 = 7;

fn binary(keys: &mut Keys, turn: usize) -> Exchange {
    let key = keys.next();
    let (get, set) = (0x00, 0x01);
    if turn % 11 == 0 {
        let request = packet(0x80, set, &[0; 8], key.as_bytes(), VALUE);
        return (request, packet(0x81, set, b"", b"", b""));
    }
    let request = packet(0x80, get, b"", key.as_bytes(), b"");
    (request, packet(0x81, get, &[0; 4], b"", VALUE))
}

/// One backend: whatever connects to its socket.
struct Server {
    listener: UnixListener,
    connections: Vec<(UnixStream, Vec<u8>)>,
}

impl Server {
    /// Answers every whole request that has come.
    fn serve(&mut self, protocol: Protocol) -> Result<(), String> {
        while let Some(stream) = arrived(self.listener.accept())? {
            stream.0.set_nonblocking(true).map_err(text_of)?;
            self.connections.push((stream.0, Vec::new()));
        }
        let answer = match protocol {
            Protocol::Redis => answer_redis,
            Protocol::Memcached => answer_memcached,
        };
        for (stream, unread) in &mut self.connections {
            receive(stream, unread)?;
            let (mut used, mut out) = (0, Vec::new());
            while let Some(length) = answer(&unread[used..], &mut out)? {
                used += length;
            }
            unread.drain(..used);
            stream.write_all(&out).map_err(text_of)?;
        }
        Ok(())
    }
}

fn text_of(error: std::io::Error) -> String {
    error.to_string()
}

fn arrived<T>(result: std::io::Result<T>) -> Result<Option<T>, String> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// All that has come.
fn receive(stream: &mut UnixStream, unread: &mut Vec<u8>) -> Result<(), String> {
    let mut buffer = [0; 64 * 1024];
    while let Some(count) = arrived(stream.read(&mut buffer))? {
        if count == 0 {
            return Err("the worker closed a connection".to_owned());
        }
        unread.extend_from_slice(&buffer[..count]);
    }
    Ok(())
}

/// The line at the start of `bytes`, without its end.
fn line(bytes: &[u8]) -> Option<&str> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    std::str::from_utf8(&bytes[..end]).ok()
}

/// The length of the first request, whose answer is appended; None if it is not whole.
fn answer_redis(bytes: &[u8], out: &mut Vec<u8>) -> Result<Option<usize>, String> {
    let Some(head) = line(bytes) else {
        return Ok(None);
    };
    let number = |text: &str| text[1..].parse::<usize>().map_err(|_| format!("{text}?"));
    let mut at = head.len() + 2;
    let mut words = Vec::new();
    for _ in 0..number(head)? {
        let Some(size) = line(&bytes[at..]) else {
            return Ok(None);
        };
        let start = at + size.len() + 2;
        at = start + number(size)? + 2;
        if at > bytes.len() {
            return Ok(None);
        }
        words.push(&bytes[start..at - 2]);
    }
    match words[0] {
        b"GET" => out.extend(bulk()),
        b"SET" => out.extend(b"+OK\r\n"),
        b"MGET" => {
            out.extend(format!("*{}\r\n", words.len() - 1).as_bytes());
            out.extend(bulk().repeat(words.len() - 1));
        }
        other => return Err(format!("a backend got {}", other.escape_ascii())),
    }
    Ok(Some(at))
}

fn answer_memcached(bytes: &[u8], out: &mut Vec<u8>) -> Result<Option<usize>, String> {
    let Some(head) = line(bytes) else {
        return Ok(None);
    };
    let words: Vec<&str> = head.split(' ').collect();
    let size = match words[0] {
        "set" => words[4].parse::<usize>().ok(),
        "ms" => words[2].parse::<usize>().ok(),
        _ => None,
    };
    let length = head.len() + 2 + size.map_or(0, |size| size + 2);
    if length > bytes.len() {
        return Ok(None);
    }
    match words[0] {
        "get" => {
            out.extend(words[1..].iter().flat_map(|key| item(key)));
            out.extend(b"END\r\n");
        }
        "gets" => {
            for key in &words[1..] {
                out.extend(format!("VALUE {key} 0 32 {CAS}\r\n").as_bytes());
                out.extend([VALUE, b"\r\n"].concat());
            }
            out.extend(b"END\r\n");
        }
        "set" => out.extend(b"STORED\r\n"),
        "stats" => out.extend(b"STAT item_size_max 1048576\r\nEND\r\n"),
        "mg" | "ms" => {
            let shown = |flag: &&str| match flag.as_bytes()[0] {
                b'f' if words[0] == "mg" => Some("f0".to_owned()),
                b's' => Some("s32".to_owned()),
                b't' => Some("t-1".to_owned()),
                b'c' => Some(format!("c{CAS}")),
                b'k' => Some(format!("k{}", words[1])),
                b'O' => Some((*flag).to_owned()),
                _ => None,
            };
            let flags = &words[if words[0] == "ms" { 3 } else { 2 }..];
            let (status, value) = match flags.contains(&"v") {
                true => ("VA 32", [VALUE, b"\r\n"].concat()),
                false => ("HD", Vec::new()),
            };
            let mut reply = vec![status.to_owned()];
            reply.extend(flags.iter().filter_map(shown));
            out.extend(format!("{}\r\n", reply.join(" ")).as_bytes());
            out.extend(value);
        }
        other => return Err(format!("a backend got {other}")),
    }
    Ok(Some(length))
}

/// A worker with its listener and backends below a directory of their own.
struct Bench {
    worker: Worker,
    events: PollEvents,
    servers: Vec<Server>,
    clients: Vec<UnixStream>,
}

fn listen(path: &Path) -> Result<UnixListener, String> {
    let listener = UnixListener::bind(path).map_err(text_of)?;
    listener.set_nonblocking(true).map_err(text_of)?;
    Ok(listener)
}

impl Bench {
    fn new(stream: &Stream, directory: &Path) -> Result<Bench, String> {
        let (mut servers, mut shards) = (Vec::new(), Vec::new());
        let members = 1 + stream.replicas;
        for shard in 0..stream.shards {
            let mut backends = Vec::new();
            for member in 0..members {
                let path = directory.join(format!("{shard}-{member}"));
                servers.push(Server {
                    listener: listen(&path)?,
                    connections: Vec::new(),
                });
                backends.push(Backend {
                    name: format!("s{shard}-{member}"),
                    address: Address::Unix(path.display().to_string()),
                    verify: Vec::new(),
                });
            }
            shards.push(Shard {
                backends,
                lead: Some(0),
                in_sync: (1 << members) - 1,
                joining: 0,
                lease: 0,
                succession: 0,
                succeeds: false,
                reads: vec![0],
                spread: false,
                epoch: 1,
                restore: Vec::new(),
                reserved: Vec::new(),
            });
        }
        let spec = RingSpec {
            hash: HashKind::parse("fnv1a_64").ok_or("no such hash")?,
            distribution: Distribution::Ketama,
            hash_tag: None,
            shards: (0..stream.shards).map(|s| (format!("s{s}"), 1)).collect(),
            routes: Vec::new(),
        };
        let table = Table {
            epoch: 1,
            pools: vec![Pool {
                leads: Leads::default(),
                ring: ring_for(&spec, &[])?,
                spec,
                absent: vec![false; stream.shards].into(),
                shards,
            }],
        };
        let front = directory.join("front");
        let config = Config {
            workers: 1,
            pools: vec![pool(stream.protocol, listen(&front)?)],
            run_id: "0".repeat(40),
        };
        let stats = vec![worker_stats(&config, &table)];
        let mut shared = Shared::new(config, table, stats).map_err(text_of)?;
        shared.clock = Clock::stopped();
        let mut worker = Worker::new(0, Arc::new(shared)).map_err(text_of)?;
        worker.begin();
        let mut clients = Vec::new();
        for _ in 0..stream.clients {
            let client = UnixStream::connect(&front).map_err(text_of)?;
            client.set_nonblocking(true).map_err(text_of)?;
            clients.push(client);
        }
        Ok(Bench {
            worker,
            events: PollEvents::new(EVENTS_PER_TURN),
            servers,
            clients,
        })
    }

    /// Sends each client's requests and takes turns until all are answered as they must be.
    fn round(
        &mut self,
        stream: &Stream,
        keys: &mut Keys,
        turns: Option<&mut u64>,
    ) -> Result<(), String> {
        let mut expected = Vec::new();
        for (number, client) in self.clients.iter_mut().enumerate() {
            let exchanges = (0..stream.pipeline).map(|i| (stream.make)(keys, number + i));
            let (requests, replies): (Vec<_>, Vec<_>) = exchanges.unzip();
            client.write_all(&requests.concat()).map_err(text_of)?;
            expected.push(replies.concat());
        }
        let mut received = vec![Vec::new(); self.clients.len()];
        let (mut ignored, mut left) = (0, TURNS_PER_ROUND);
        let is_counted = turns.is_some();
        let turns = turns.unwrap_or(&mut ignored);
        while (0..expected.len()).any(|i| received[i].len() < expected[i].len()) {
            left = left.checked_sub(1).ok_or("replies are missing")?;
            let turn = match is_counted {
                true => measured_turn(&mut self.worker, &mut self.events, turns),
                false => self.worker.turn(&mut self.events),
            };
            turn.map_err(text_of)?;
            for server in &mut self.servers {
                server.serve(stream.protocol)?;
            }
            for (client, bytes) in self.clients.iter_mut().zip(&mut received) {
                receive(client, bytes)?;
            }
        }
        match received
            .iter()
            .zip(&expected)
            .find(|(got, wanted)| got != wanted)
        {
            None => Ok(()),
            Some((got, wanted)) => Err(format!(
                "a client got {}\nand not {}",
                got.escape_ascii(),
                wanted.escape_ascii()
            )),
        }
    }
}

/// What callgrind counts, by its name.
#[inline(never)]
fn measured_turn(
    worker: &mut Worker,
    events: &mut PollEvents,
    turns: &mut u64,
) -> std::io::Result<()> {
    *turns += 1;
    worker.turn(events)
}

fn pool(protocol: Protocol, listener: UnixListener) -> PoolConfig {
    PoolConfig {
        name: "replay".to_owned(),
        protocol,
        listeners: vec![listener.into()],
        port: 0,
        connect_timeout: 1_000,
        request_timeout: 1_000,
        client_idle_timeout: 0,
        client_limit: 10_000,
        request_bytes_limit: 512 << 20,
        client_inflight_limit: 1024,
        client_output_limit: 64 << 20,
        backend_inflight_limit: 65_536,
        ack: Ack::All,
        cross_shard: true,
        keyless_everywhere: false,
        is_cluster: false,
        databases: 16,
        monitor: false,
        users: Vec::new(),
        backend_login: None,
        server_version: "7.0.0".to_owned(),
    }
}

/// A directory that ends with its owner.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Scratch, String> {
        let path = std::env::temp_dir().join(format!("replay-{}", std::process::id()));
        std::fs::create_dir(&path).map_err(text_of)?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn run(name: &str) -> Result<String, String> {
    let Some(stream) = STREAMS.iter().find(|stream| stream.name == name) else {
        let names: Vec<&str> = STREAMS.iter().map(|stream| stream.name).collect();
        return Ok(names.join("\n"));
    };
    let directory = Scratch::new()?;
    let mut bench = Bench::new(stream, &directory.0)?;
    let mut keys = Keys(1 << 40 | 1);
    for _ in 0..WARM_UP {
        bench.round(stream, &mut keys, None)?;
    }
    let mut turns = 0;
    for _ in 0..stream.rounds {
        bench.round(stream, &mut keys, Some(&mut turns))?;
    }
    let requests = stream.rounds * stream.clients * stream.pipeline;
    Ok(format!("{{\"requests\": {requests}, \"turns\": {turns}}}"))
}

/// Without the name of a stream it prints all names.
fn main() -> ExitCode {
    match run(&std::env::args().nth(1).unwrap_or_default()) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("replay: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stream_is_answered_as_it_must_be() {
        for stream in STREAMS {
            run(stream.name).unwrap_or_else(|error| panic!("{}: {error}", stream.name));
        }
    }
}
