//! Every error text a client can get from the proxy, in one table, and the composed ones of Redis.
//!
//! Called by whoever has to answer a client with an error; bytes come from nowhere else. Clients
//! decide by these texts whether to retry, so a text about a write says whether it may have been
//! applied. Knows neither requests nor connections: names and arguments are handed in.

/// Defines `Wire` from rows of (name, Redis text, memcached text), without line ends.
macro_rules! wire_texts {
    ($($(#[$meta:meta])* $name:ident: $redis:literal, $memcached:literal;)+) => {
        /// An error with a fixed text.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Wire { $($(#[$meta])* $name),+ }

        impl Wire {
            pub const ALL: &'static [Wire] = &[$(Wire::$name),+];

            /// The whole reply to a Redis client.
            pub const fn redis(self) -> &'static [u8] {
                match self { $(Wire::$name => concat!($redis, "\r\n").as_bytes()),+ }
            }

            /// The whole reply to a memcached client (text protocol).
            pub const fn memcached(self) -> &'static [u8] {
                match self { $(Wire::$name => concat!($memcached, "\r\n").as_bytes()),+ }
            }
        }
    };
}

// `-CLUSTERDOWN` where nothing was applied: client libraries retry it, as they retry a refused
// connection. `-ERR` where a retry could apply a write twice.
wire_texts! {
    /// No in-sync backend of the shard is left.
    ShardLost:
        "-CLUSTERDOWN no backend of this shard is in sync, nothing was applied",
        "SERVER_ERROR no backend of this shard is in sync, nothing was applied";
    /// No connection could be made; nothing was sent.
    BackendUnreachable:
        "-CLUSTERDOWN no backend of this shard can be reached, nothing was applied",
        "SERVER_ERROR no backend of this shard can be reached, nothing was applied";
    /// A read was sent and no in-sync backend answered in time.
    ReadTimedOut:
        "-ERR read timed out: no backend answered within the request timeout",
        "SERVER_ERROR read timed out: no backend answered within the request timeout";
    /// The connection broke under a read and no other in-sync backend is left to ask.
    ReadLost:
        "-CLUSTERDOWN the connection to the backend was lost while it answered this read",
        "SERVER_ERROR the connection to the backend was lost while it answered this read";
    /// A write waited for its turn (membership change, full queue) for too long; it was never sent.
    WriteNotSent:
        "-CLUSTERDOWN write timed out before it was sent, it was not applied",
        "SERVER_ERROR write timed out before it was sent, it was not applied";
    /// A write was sent and not answered in time.
    WriteTimedOut:
        "-ERR write timed out: the backend did not answer, the write may have been applied",
        "SERVER_ERROR write timed out: the backend did not answer, the write may have been applied";
    /// The connection broke after a write was sent, or after part of it.
    WriteLost:
        "-ERR outcome unknown: the connection to the backend was lost, the write may have been applied",
        "SERVER_ERROR outcome unknown: the connection to the backend was lost, the write may have been applied";
    /// The leader applied a write, the replicas could not be brought to agree.
    WriteNotReplicated:
        "-ERR write not acknowledged: it was applied but may not survive the loss of a backend",
        "SERVER_ERROR write not acknowledged: it was applied but may not survive the loss of a backend";
    /// Some parts of a split write were applied, others were not or may not have been.
    SplitPartFailed:
        "-ERR outcome unknown: this request was split over shards and only some parts are known to be applied",
        "SERVER_ERROR outcome unknown: this request was split over shards and only some parts are known to be applied";
    /// The reply of a backend could not be parsed.
    BadReply:
        "-ERR the backend sent a malformed reply, a write may have been applied",
        "SERVER_ERROR the backend sent a malformed reply, a write may have been applied";
    /// Keys of one request on several shards, and the command cannot be split.
    CrossSlot:
        "-CROSSSLOT Keys in request don't hash to the same slot",
        "CLIENT_ERROR keys of this request belong to several shards";
    /// The proxy's own records live under this prefix.
    ReservedKey:
        "-ERR keys beginning with '__shardproxy:' are reserved",
        "CLIENT_ERROR keys beginning with '__shardproxy:' are reserved";
    /// The names that a client subscribes to would take more memory than its replies may.
    TooManySubscriptions:
        "-ERR too many subscriptions of one client: their names exceed limits.client_output_bytes",
        "ERROR";
    MonitorKeyspace:
        "-ERR Replica can't interact with the keyspace",
        "ERROR";
    TooManyClients:
        "-ERR max number of clients reached",
        "ERROR Too many open connections";
    RequestTooLarge:
        "-ERR Protocol error: request exceeds the proxy's limit",
        "SERVER_ERROR object too large for cache";
    ShuttingDown:
        "-CLUSTERDOWN the proxy is shutting down, nothing was applied",
        "SERVER_ERROR the proxy is shutting down, nothing was applied";
    NoAuth:
        "-NOAUTH Authentication required.",
        "CLIENT_ERROR unauthenticated";
    WrongPassword:
        "-WRONGPASS invalid username-password pair or user is disabled.",
        "CLIENT_ERROR authentication failure";
    InvalidCursor:
        "-ERR invalid cursor",
        "ERROR";
    /// A backend's cursor leaves no room for the shard beside it.
    CursorTooLarge:
        "-ERR the cursor of this backend is too large to be passed on",
        "ERROR";
    Syntax:
        "-ERR syntax error",
        "CLIENT_ERROR bad command line format";
    TimeoutNotInteger:
        "-ERR timeout is not an integer or out of range",
        "ERROR";
    TimeoutNegative:
        "-ERR timeout is negative",
        "ERROR";
    NotInteger:
        "-ERR value is not an integer or out of range",
        "CLIENT_ERROR invalid numeric delta argument";
    Unknown:
        "-ERR unknown command",
        "ERROR";
    BadDataChunk:
        "-ERR Protocol error: invalid bulk length",
        "CLIENT_ERROR bad data chunk";
    ClusterDisabled:
        "-ERR This instance has cluster support disabled",
        "ERROR";
    NoPassword:
        "-ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
        "CLIENT_ERROR authentication failure";
    HelloNoAuth:
        "-NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time",
        "CLIENT_ERROR unauthenticated";
    NoProto:
        "-NOPROTO unsupported protocol version",
        "ERROR";
    NotInt32:
        "-ERR value is out of range, value must between -2147483648 and 2147483647",
        "ERROR";
    DatabaseIndex:
        "-ERR DB index is out of range",
        "ERROR";
    FirstDatabase:
        "-ERR invalid first DB index",
        "ERROR";
    SecondDatabase:
        "-ERR invalid second DB index",
        "ERROR";
    /// A write that cannot be made while a backend of the shard is brought back.
    ShardJoined:
        "-TRYAGAIN a backend of a shard is being brought up to date, nothing was applied there",
        "SERVER_ERROR a backend of a shard is being brought up to date, nothing was applied there";
    UnbalancedStreams:
        "-ERR Unbalanced XREAD list of streams: for each stream key an ID or '$' must be specified.",
        "ERROR";
    NumkeysNotPositive:
        "-ERR numkeys should be greater than 0",
        "ERROR";
    BadNumkeys:
        "-ERR Bad number of keys provided",
        "ERROR";
    NumkeysNegative:
        "-ERR Number of keys can't be negative",
        "ERROR";
    NumkeysTooMany:
        "-ERR Number of keys can't be greater than number of args",
        "ERROR";
    CountNotPositive:
        "-ERR count should be greater than 0",
        "ERROR";
    TimeoutNotFloat:
        "-ERR timeout is not a float or out of range",
        "ERROR";
    Unblocked:
        "-UNBLOCKED client unblocked via CLIENT UNBLOCK",
        "ERROR";
    MissingGroup:
        "-ERR Missing GROUP option for XREADGROUP",
        "ERROR";
    /// XREADGROUP waits on a stream that was deleted.
    StreamGone:
        "-UNBLOCKED the stream key no longer exists",
        "ERROR";
    /// The same with its group.
    GroupGone:
        "-NOGROUP the consumer group this client was blocked on no longer exists",
        "ERROR";
    /// The waits of a worker take as much memory as they may.
    TooManyWaits:
        "-ERR too many keys are waited for",
        "ERROR";
    SortPattern:
        "-ERR BY and GET of SORT name keys that may be on other shards: put the key's hash tag before the *",
        "ERROR";
    ExecAbort:
        "-EXECABORT Transaction discarded because of previous errors.",
        "ERROR";
    ExecWithoutMulti:
        "-ERR EXEC without MULTI",
        "ERROR";
    DiscardWithoutMulti:
        "-ERR DISCARD without MULTI",
        "ERROR";
    NestedMulti:
        "-ERR MULTI calls can not be nested",
        "ERROR";
    WatchInsideMulti:
        "-ERR WATCH inside MULTI is not allowed",
        "ERROR";
    NotInTransaction:
        "-ERR Command not allowed inside a transaction",
        "ERROR";
    /// What is queued since MULTI is more than limits.request_bytes.
    TransactionTooLarge:
        "-ERR the transaction exceeds the proxy's limit for requests",
        "ERROR";
}

/// True for an error of our own that says that a write may have been applied.
pub fn is_doubt(reply: &[u8]) -> bool {
    const DOUBTS: [Wire; 5] = [
        Wire::WriteTimedOut,
        Wire::WriteLost,
        Wire::WriteNotReplicated,
        Wire::SplitPartFailed,
        Wire::BadReply,
    ];
    let is_it = |wire: &Wire| reply == wire.redis() || reply == wire.memcached();
    DOUBTS.iter().any(is_it)
}

/// Redis cuts what it quotes of a request to this many bytes.
const QUOTED_BYTES: usize = 128;

/// `-ERR unknown command 'X', with args beginning with: 'a' 'b' `, byte for byte as Redis 7.
///
/// Args:
///     name: the command as the client wrote it.
///     rest: its arguments.
pub fn unknown_command<'a>(name: &[u8], rest: impl Iterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"-ERR unknown command '");
    quote(name, QUOTED_BYTES, out);
    out.extend_from_slice(b"', with args beginning with: ");
    // The limit counts the quotes and blanks of the earlier arguments but not of the current one.
    let mut used = 0;
    for arg in rest {
        if used >= QUOTED_BYTES {
            break;
        }
        out.push(b'\'');
        used += quote(arg, QUOTED_BYTES - used, out) + 3;
        out.extend_from_slice(b"' ");
    }
    out.extend_from_slice(b"\r\n");
}

/// `-ERR unknown subcommand 'X'. Try NAME HELP.`, byte for byte as Redis 7.
pub fn unknown_subcommand(container: &[u8], name: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"-ERR unknown subcommand '");
    quote(name, QUOTED_BYTES, out);
    out.extend_from_slice(b"'. Try ");
    out.extend(container.iter().map(u8::to_ascii_uppercase));
    out.extend_from_slice(b" HELP.\r\n");
}

/// `-ERR wrong number of arguments for 'client|setname' command`. `name` in any case.
pub fn wrong_arity(name: &str, out: &mut Vec<u8>) {
    named(
        b"-ERR wrong number of arguments for '",
        name,
        b"' command\r\n",
        out,
    );
}

/// `-ERR at least 1 input key is needed for 'zunion' command`. `name` in any case.
pub fn no_input_key(name: &str, out: &mut Vec<u8>) {
    named(
        b"-ERR at least 1 input key is needed for '",
        name,
        b"' command\r\n",
        out,
    );
}

/// What a RESP2 client that is subscribed may not do. `name` in any case.
pub fn not_while_subscribed(name: &str, out: &mut Vec<u8>) {
    named(
        b"-ERR Can't execute '",
        name,
        b"': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context\r\n",
        out,
    );
}

/// `-ERR unknown subcommand or wrong number of arguments for 'CHANNELS'. Try PUBSUB HELP.`
pub fn subcommand_syntax(container: &[u8], name: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"-ERR unknown subcommand or wrong number of arguments for '");
    quote(name, QUOTED_BYTES, out);
    out.extend_from_slice(b"'. Try ");
    out.extend(container.iter().map(u8::to_ascii_uppercase));
    out.extend_from_slice(b" HELP.\r\n");
}

/// `-ERR ` and a text of our own, with what would break the line replaced.
pub fn message(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"-ERR ");
    out.extend(text.bytes().map(one_line));
    out.extend_from_slice(b"\r\n");
}

/// What a client sent, fit to be quoted in `message`: cut short, so that an error is never long.
pub fn quoted(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(QUOTED_BYTES)]).into_owned()
}

/// What EXEC says where the server refused a command of the transaction on its way, as Redis does where it
/// refuses EXEC itself. `reason` is the server's whole error.
pub fn exec_abort(reason: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"-EXECABORT Transaction discarded because of: ");
    out.extend_from_slice(reason.strip_prefix(b"-").unwrap_or(reason));
}

/// The same for the wrong number of arguments of EXEC itself. `name` in any case.
pub fn exec_abort_arity(name: &str, out: &mut Vec<u8>) {
    named(
        b"-EXECABORT Transaction discarded because of: wrong number of arguments for '",
        name,
        b"' command\r\n",
        out,
    );
}

fn named(before: &[u8], name: &str, after: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(before);
    out.extend(name.bytes().map(|byte| byte.to_ascii_lowercase()));
    out.extend_from_slice(after);
}

/// Appends at most `limit` bytes of `text` and returns how many: Redis formats them as a C string,
/// so a NUL ends it, and line ends become blanks, or the rest would be read as another reply.
fn quote(text: &[u8], limit: usize, out: &mut Vec<u8>) -> usize {
    let end = text
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(text.len())
        .min(limit);
    out.extend(text[..end].iter().copied().map(one_line));
    end
}

fn one_line(byte: u8) -> u8 {
    match byte {
        b'\r' | b'\n' => b' ',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_one_line_of_its_protocol() {
        for wire in Wire::ALL {
            let (redis, memcached) = (wire.redis(), wire.memcached());
            assert!(
                redis.starts_with(b"-") && redis.ends_with(b"\r\n"),
                "{wire:?}"
            );
            let starts = [&b"ERROR"[..], b"SERVER_ERROR ", b"CLIENT_ERROR "];
            assert!(
                starts.iter().any(|start| memcached.starts_with(start)),
                "{wire:?}"
            );
            for text in [redis, memcached] {
                assert_eq!(
                    text.iter().filter(|&&byte| byte == b'\n').count(),
                    1,
                    "{wire:?}"
                );
            }
        }
    }

    #[test]
    fn a_text_about_a_sent_write_says_that_it_may_have_been_applied() {
        for wire in [Wire::WriteTimedOut, Wire::WriteLost, Wire::BadReply] {
            assert!(String::from_utf8_lossy(wire.redis()).contains("may have been applied"));
            assert!(String::from_utf8_lossy(wire.memcached()).contains("may have been applied"));
        }
    }
}
