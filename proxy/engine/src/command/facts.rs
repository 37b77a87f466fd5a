//! INFO and CONFIG GET: the facts clients ask of a server, about the proxy.
//!
//! Called by `local.rs`, and INFO by `worker/fan.rs`. Of the backends nothing is told but sums (`totals.rs`).

use super::glob;
use super::keys::number;
use super::reply::Reply;
use super::session::Context;
use super::totals::{self, Totals};
use crate::error::Wire;
use crate::proto::Args;

/// The sections of INFO in order. Each ends its lines itself; clients look for single fields, so
/// what is not known is left out rather than made up.
type Section = (&'static str, fn(&Context<'_>, &Totals) -> String);

const SECTIONS: [Section; 12] = [
    ("Server", |context, _| server(context)),
    ("Clients", |context, _| clients(context)),
    ("Memory", |_, totals| memory(totals)),
    ("Persistence", |_, totals| {
        format!(
            "loading:0\r\nasync_loading:0\r\n{}",
            totals.lines("Persistence")
        )
    }),
    ("Stats", |_, totals| totals.lines("Stats")),
    ("Replication", |context, _| replication(context)),
    ("CPU", |_, totals| totals.cpu()),
    ("Commandstats", |_, totals| totals.commands()),
    ("Errorstats", |_, totals| totals.errors()),
    ("Cluster", |context, _| {
        format!("cluster_enabled:{}\r\n", u8::from(context.is_cluster))
    }),
    ("Shards", |_, totals| totals.counts()),
    ("Keyspace", |_, totals| totals.keyspace()),
];

/// True if a section was asked for by its name, or with all.
fn is_asked(args: &Args<'_>, name: &str) -> bool {
    let is_default = name != "Commandstats"; // long, and so only by its name or with all
    let asks = |word: &[u8]| {
        let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        is(name) || is("all") || is("everything") || (is_default && is("default"))
    };
    (args.len() == 1 && is_default) || args.iter().skip(1).any(asks)
}

/// The sections that backends must be asked for to answer this INFO.
pub fn sections_of_backends(args: &Args<'_>) -> Vec<&'static str> {
    let asked = totals::SECTIONS.iter().copied();
    let mut found: Vec<_> = asked.filter(|name| is_asked(args, name)).collect();
    if found.is_empty() && is_asked(args, "Shards") {
        found.push("Keyspace"); // to count who answers
    }
    found
}

/// INFO [section ...]. A section nobody knows is empty, as in Redis.
pub fn info(
    args: &Args<'_>,
    context: &Context<'_>,
    totals: &Totals,
    resp3: bool,
    out: &mut Vec<u8>,
) {
    let mut text = String::new();
    for (name, lines) in SECTIONS.iter().filter(|section| is_asked(args, section.0)) {
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        text.push_str(&format!("# {name}\r\n{}", lines(context, totals)));
    }
    Reply::new(out, resp3).text(text.as_bytes());
}

/// WAITAOF numlocal numreplicas timeout, as of a server without an append-only file whose replicas have none:
/// nobody has it on a disk that we know of. There is nothing to wait for, so the answer comes at once.
pub fn wait_aof(args: &Args<'_>, reply: &mut Reply<'_>) {
    let local = match number(args.get(1)) {
        None => return reply.wire(Wire::NotInteger),
        Some(local @ (0 | 1)) => local,
        Some(_) => return reply.error("value is out of range, must be between 0 and 1"),
    };
    match (number(args.get(2)), number(args.get(3))) {
        (None | Some(..=-1), _) => reply.error("value is out of range, must be positive"),
        (_, None) => reply.wire(Wire::TimeoutNotInteger),
        (_, Some(..=-1)) => reply.wire(Wire::TimeoutNegative),
        _ if local == 1 => {
            reply.error("WAITAOF cannot be used when numlocal is set but appendonly is disabled.")
        }
        _ => {
            reply.array(2);
            reply.integer(0);
            reply.integer(0);
        }
    }
}

fn server(context: &Context<'_>) -> String {
    format!(
        "redis_version:{}\r\nredis_mode:{}\r\nos:{}\r\narch_bits:{}\r\nprocess_id:{}\r\nrun_id:{}\r\n\
         tcp_port:{}\r\nserver_time_usec:{}\r\nuptime_in_seconds:{}\r\nuptime_in_days:{}\r\n",
        context.server_version,
        context.mode(),
        std::env::consts::OS,
        usize::BITS,
        context.process_id,
        context.run_id,
        context.port,
        context.unix_time_us,
        context.uptime_seconds,
        context.uptime_seconds / 86_400,
    )
}

fn clients(context: &Context<'_>) -> String {
    format!(
        "connected_clients:{}\r\nmaxclients:{}\r\nblocked_clients:{}\r\n",
        context.clients_connected, context.clients_limit, context.clients_blocked
    )
}

fn memory(totals: &Totals) -> String {
    format!(
        "{}{}maxmemory_policy:noeviction\r\n",
        totals.lines("Memory"),
        totals.largest()
    )
}

fn replication(context: &Context<'_>) -> String {
    format!(
        "role:master\r\nconnected_slaves:0\r\nmaster_replid:{}\r\nmaster_repl_offset:0\r\n",
        context.run_id
    )
}

/// CONFIG GET pattern ...: what clients ask on connecting.
pub(super) fn config_get(args: &Args<'_>, context: &Context<'_>, reply: &mut Reply<'_>) {
    let options: [(&str, String); 10] = [
        ("appendonly", "no".to_string()),
        ("databases", context.databases.to_string()),
        ("maxclients", context.clients_limit.to_string()),
        ("maxmemory", "0".to_string()),
        ("maxmemory-policy", "noeviction".to_string()),
        ("port", context.port.to_string()),
        ("replica-read-only", "yes".to_string()),
        ("save", String::new()),
        ("slave-read-only", "yes".to_string()),
        ("timeout", context.client_idle_timeout_seconds.to_string()),
    ];
    // A name without wildcards comes back as the client wrote it, and clients look for that.
    let shown = |name: &'static str| {
        let pattern = args
            .iter()
            .skip(2)
            .find(|pattern| glob::matches(pattern, name.as_bytes()))?;
        let is_name = pattern.eq_ignore_ascii_case(name.as_bytes());
        Some(if is_name { pattern } else { name.as_bytes() })
    };
    let found: Vec<_> = options
        .iter()
        .filter_map(|option| Some((shown(option.0)?, &option.1)))
        .collect();
    reply.map(found.len());
    for (name, value) in found {
        reply.bulk(name);
        reply.bulk(value);
    }
}
