//! CLUSTER: the proxy as a cluster of one node that has all slots, so that clients that speak to clusters only
//! work too; or, by default, as a server without cluster support, which makes the others stay simple.
//!
//! Called by `local.rs`. The node's address is the one that the client connected to. What changes clusters,
//! or asks of keys by slot, is not taken (`overlay.rs`).

use super::reply::Reply;
use super::session::{Context, Session};
use super::table::Row;
use crate::error::{quoted, Wire};
use crate::proto::Args;

const SLOTS: i64 = 16384;
/// Redis' own distance between the port for clients and the one for other nodes.
const BUS_OFFSET: u16 = 10_000;

/// The address of the proxy as the client sees it: host and port.
fn endpoint<'a>(session: &'a Session, context: &Context<'_>) -> (&'a [u8], u16) {
    let address = &session.local_address;
    let Some(colon) = address.iter().rposition(|byte| *byte == b':') else {
        return (b"", context.port);
    };
    let host = &address[..colon];
    let host = host.strip_prefix(b"[").unwrap_or(host);
    let host = host.strip_suffix(b"]").unwrap_or(host);
    let port = std::str::from_utf8(&address[colon + 1..]);
    match port.ok().and_then(|port| port.parse().ok()) {
        Some(port) => (host, port),
        // The path of a unix socket.
        None => (b"", context.port),
    }
}

pub(super) fn answer(
    session: &Session,
    row: &Row,
    args: &Args<'_>,
    context: &Context<'_>,
    reply: &mut Reply<'_>,
) {
    if !context.is_cluster {
        return reply.wire(Wire::ClusterDisabled);
    }
    let (host, port) = endpoint(session, context);
    match row.subcommand_name() {
        "INFO" => reply.text(info().as_bytes()),
        "KEYSLOT" => reply.integer((context.slot_of)(args.get(2)) as i64),
        "LINKS" => reply.array(0),
        "MYID" | "MYSHARDID" => reply.bulk(context.run_id),
        "NODES" => {
            let mut line = context.run_id.as_bytes().to_vec();
            line.push(b' ');
            line.extend_from_slice(host);
            let bus = port.wrapping_add(BUS_OFFSET);
            let rest = format!(
                ":{port}@{bus} myself,master - 0 0 0 connected 0-{}\n",
                SLOTS - 1
            );
            line.extend_from_slice(rest.as_bytes());
            reply.text(&line);
        }
        "REPLICAS" | "SLAVES" if args.get(2) == context.run_id.as_bytes() => reply.array(0),
        "REPLICAS" | "SLAVES" => reply.error(&format!("Unknown node {}", quoted(args.get(2)))),
        "SHARDS" => shards(host, port, context, reply),
        "SLOTS" => {
            reply.array(1);
            reply.array(3);
            reply.integer(0);
            reply.integer(SLOTS - 1);
            reply.array(4);
            reply.bulk(host);
            reply.integer(port.into());
            reply.bulk(context.run_id);
            reply.map(0);
        }
        // READONLY, READWRITE, ASKING.
        _ => reply.ok(),
    }
}

fn shards(host: &[u8], port: u16, context: &Context<'_>, reply: &mut Reply<'_>) {
    reply.array(1);
    reply.map(2);
    reply.bulk("slots");
    reply.array(2);
    reply.integer(0);
    reply.integer(SLOTS - 1);
    reply.bulk("nodes");
    reply.array(1);
    reply.map(7);
    reply.bulk("id");
    reply.bulk(context.run_id);
    reply.bulk("port");
    reply.integer(port.into());
    for name in ["ip", "endpoint"] {
        reply.bulk(name);
        reply.bulk(host);
    }
    reply.bulk("role");
    reply.bulk("master");
    reply.bulk("replication-offset");
    reply.integer(0);
    reply.bulk("health");
    reply.bulk("online");
}

/// The fields of a healthy cluster of one node, as redis-server 7.0 has them.
fn info() -> String {
    let counts = [
        ("slots_assigned", SLOTS),
        ("slots_ok", SLOTS),
        ("slots_pfail", 0),
        ("slots_fail", 0),
        ("known_nodes", 1),
        ("size", 1),
        ("current_epoch", 0),
        ("my_epoch", 0),
        ("stats_messages_sent", 0),
        ("stats_messages_received", 0),
    ];
    let mut text = "cluster_state:ok\r\n".to_owned();
    for (name, count) in counts {
        text.push_str(&format!("cluster_{name}:{count}\r\n"));
    }
    text.push_str("total_cluster_links_buffer_limit_exceeded:0\r\n");
    text
}
