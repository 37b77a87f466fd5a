//! What the proxy does with a command, where the server's own data does not say so already.
//!
//! Default, from the generated rows: a command with a key that is neither blocking, pub/sub nor
//! administrative goes to the shard of its keys and is repeated on replicas as it came; everything
//! else is refused. Each entry here departs from that and says why. `table.rs` joins both at
//! compile time; nothing else reads this file. It is long because it is one list.

use super::channel::{Act, Kind, QueryKind};

/// What becomes of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handling {
    /// To the one shard that owns its keys.
    Forward,
    /// Split by shard, merged again.
    Split(SplitKind),
    /// To every shard, or to every backend (`worker/fan.rs`).
    Fan(FanKind),
    /// Tried until there is something, or its time is over (`blocking.rs`).
    Block,
    /// Answered by the proxy (`local.rs`).
    Local(LocalKind),
    /// MULTI and what belongs to it (`queue.rs`).
    Transaction(TransactionKind),
    /// Publish/subscribe and MONITOR (`worker/pubsub.rs`).
    Channel(Act),
    /// Answered with an error; the connection stays open.
    Refuse(Refusal),
    /// Has subcommands and does nothing alone; the arity check has answered before.
    Container,
}

impl Handling {
    /// The kind in one word, for `command_table()`.
    pub const fn name(self) -> &'static str {
        match self {
            Handling::Forward => "forward",
            Handling::Split(_) => "split",
            Handling::Fan(_) => "fan",
            Handling::Block => "block",
            Handling::Local(_) => "local",
            Handling::Transaction(_) => "transaction",
            Handling::Channel(_) => "channel",
            Handling::Refuse(_) => "refuse",
            Handling::Container => "container",
        }
    }

    /// A sentence for people: COMMAND DOCS and COMMANDS.md.
    pub const fn summary(self) -> &'static str {
        match self {
            Handling::Forward => "Runs on the shard that owns its keys.",
            Handling::Split(_) => "Split over the shards that own its keys, and merged.",
            Handling::Fan(FanKind::Only) => "Asked of the shard, in pools of one.",
            Handling::Fan(FanKind::First) => "Asked of one shard, as each would say the same or as good.",
            Handling::Fan(_) => "Concerns every shard; the answers are merged.",
            Handling::Block => "Waits in the proxy for the shards that own its keys.",
            Handling::Local(LocalKind::Cluster) => {
                "Answered by the proxy, as a cluster of one node or as a server without cluster support."
            }
            Handling::Local(_) => "Answered by the proxy.",
            Handling::Transaction(_) => {
                "Queues commands in the proxy, and runs them on the shards of their keys."
            }
            Handling::Channel(Act::Query(_)) => "Asked of all shards, and merged.",
            Handling::Channel(Act::Subscribe(Kind::Pattern) | Act::Unsubscribe(Kind::Pattern)) => {
                "Runs on all shards."
            }
            Handling::Channel(Act::Subscribe(Kind::Monitor)) => {
                "Shows what reaches all shards, where `admin_commands` allows it."
            }
            Handling::Channel(_) => "Runs on the shard that owns its channel.",
            Handling::Container => "Has subcommands.",
            Handling::Refuse(reason) => reason.summary(),
        }
    }
}

impl Refusal {
    /// Why, in a sentence for people.
    pub const fn summary(self) -> &'static str {
        match self {
            Refusal::Blocking => "Refused: it would hold a connection that others share.",
            Refusal::PubSub => "Refused: it subscribes in a way of its own.",
            Refusal::Keyspace => "Refused: it moves keys to a server that is none of the proxy's.",
            Refusal::Scripting => "Refused: it holds one server for one client.",
            Refusal::Cluster => "Refused: clients see one server, which they cannot rebuild.",
            Refusal::Admin => "Refused: it administers a server; ask the server itself.",
            Refusal::Replication => "Refused: it belongs to replication between servers.",
            Refusal::Keyless => {
                "Refused: it names no key, and answers of several servers make no whole."
            }
        }
    }
}

/// The commands that may name keys of several shards, by how their replies merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitKind {
    /// MGET: an array in the order of the keys.
    Mget,
    /// MSET: pairs; OK if every part is.
    Mset,
    /// DEL, UNLINK, EXISTS, TOUCH: the sum.
    Sum,
}

/// The commands of transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionKind {
    Multi,
    Exec,
    Discard,
    Watch,
    Unwatch,
}

/// The commands that concern all shards, by who is asked and how the answers become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FanKind {
    /// DBSIZE: the sum.
    Dbsize,
    /// KEYS: all of them.
    Keys,
    /// RANDOMKEY: of one shard, chosen by how many keys each has.
    RandomKey,
    /// SCAN: one shard after the other.
    Scan,
    /// FLUSHALL and FLUSHDB: a write of every shard, which keeps our own keys.
    Flush,
    /// A write of every shard as it came, which all must take.
    Write,
    /// Of the first shard, as all hold the same.
    First,
    /// SCRIPT LOAD and SCRIPT FLUSH: every backend, of each shard one at least must take it.
    ScriptLoad,
    ScriptFlush,
    /// SCRIPT EXISTS: what exists on all shards.
    ScriptExists,
    /// SCRIPT KILL and FUNCTION KILL: every backend, one success is enough.
    Kill,
    /// INFO: facts of the proxy, and sums.
    Info,
    /// WAIT: the fewest replicas of any shard that have acknowledged, as the pool's `ack` says.
    Wait,
    /// Lists, one behind the other; sums; texts under the names of the shards. Of each backend where the
    /// command's tips say so, else of each shard.
    Concat,
    Sum,
    Texts,
    /// OK if of each shard one backend says so.
    Succeed,
    /// FUNCTION STATS: of the shard where something runs, if there is one.
    FunctionStats,
    /// SWAPDB: a write of every shard, after which our own keys are where they were.
    Swap,
    /// Maps of numbers, summed by their names.
    Tally,
    /// LASTSAVE: the least number, since when all have done it.
    Least,
    /// Of the only shard; refused where there are several, of whose answers none is whole.
    Only,
}

impl FanKind {
    /// True for what may be part of a transaction: the commands of a shard's part go to one server, its leader
    /// if any of them writes. So not what is asked of each server.
    pub const fn is_queued(self) -> bool {
        matches!(
            self,
            FanKind::Dbsize
                | FanKind::Keys
                | FanKind::RandomKey
                | FanKind::Scan
                | FanKind::Flush
                | FanKind::Write
                | FanKind::First
                | FanKind::ScriptLoad
                | FanKind::ScriptExists
                | FanKind::FunctionStats
                | FanKind::Wait
                | FanKind::Info
                | FanKind::Least
                | FanKind::Only
        )
    }
}

/// Why a command is refused; decides the error text (`admit.rs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Would hold a connection that other clients share.
    Blocking,
    /// Publishes or subscribes in a way of its own: a learned command.
    PubSub,
    /// Speaks of the whole keyspace, which is spread over shards.
    Keyspace,
    /// Changes servers behind the proxy's back.
    Scripting,
    /// A standalone server is what clients are shown.
    Cluster,
    Admin,
    Replication,
    /// Names no key, so no shard can be chosen, and the proxy has no answer of its own.
    Keyless,
}

/// What the proxy answers itself, one per answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalKind {
    AclWhoami,
    Auth,
    ClientCapa,
    ClientGetname,
    ClientGetredir,
    ClientId,
    ClientInfo,
    ClientKill,
    ClientList,
    ClientNoEvict,
    ClientNoTouch,
    ClientReply,
    ClientSetinfo,
    ClientSetname,
    ClientUnblock,
    /// CLUSTER, and what goes with it.
    Cluster,
    Command,
    CommandCount,
    CommandDocs,
    CommandGetkeys,
    CommandGetkeysandflags,
    CommandInfo,
    CommandList,
    ConfigGet,
    Echo,
    Hello,
    Help,
    Ping,
    Quit,
    Reset,
    Role,
    Select,
    Time,
    WaitAof,
}

/// How a write reaches the other replicas of its shard. Each server expires keys by its own clock, so
/// even on equal data a key may be gone on one and still be there on another; what follows holds then
/// too. In "compared" forms a difference between the replicas' answers has the leader's state sent to
/// the others before the write is acknowledged (`worker/repair.rs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The same bytes to all at once: what they leave behind does not depend on what was there.
    Verbatim,
    /// The same bytes to all at once, replies compared: an equal reply means an equal effect.
    Compared,
    /// The same bytes to all at once; compared are the reply and when the key then expires. A write
    /// that found the key gone has made one that does not expire.
    Verified,
    /// Nothing is changed, so it goes where reads go.
    Nothing,
    /// The others get SREM of the members in the leader's reply.
    Popped,
    /// The others get the leader's id, and if it trimmed "about", its length; then as `Verified`.
    StreamAdd { about: bool },
    /// The others trim to the leader's length.
    StreamTrim,
    /// The leader's reply does not tell the effect, so the state of the keys travels.
    State,
    /// The same for keys of two databases.
    Moved,
    /// The same bytes to all at once, of all databases: libraries, and whatever removes all keys.
    Everything,
    /// It names no keys and may write any: repeated on the others if it did, and compared.
    Program,
}

/// `Effect` as a row has it: decided, or decided by the arguments (`effect.rs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EffectRule {
    Always(Effect),
    Set,
    GetExpire,
    StreamAdd,
    StreamTrim,
    SortStore,
    CopyTo,
    Script,
}

/// Where a command has a time to live that counts from now, or takes the server's clock for a timestamp;
/// `expiry.rs` makes it a point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    None,
    /// SET key value ... EX n, GETEX key EX n: options from this position on.
    Option {
        from: u8,
    },
    /// The same, up to the word FIELDS.
    FieldOption,
    /// SETEX key n value: milliseconds per unit of n.
    SetEx {
        unit_ms: i64,
    },
    /// EXPIRE key n ...; and the name of the same command with a point in time.
    Expire {
        unit_ms: i64,
        absolute: &'static str,
    },
    /// RESTORE key n payload ...: 0 is "never".
    Restore,
    /// TS.ADD key * ..., TS.MADD key * value key * value ...: at position 2, and each third from there on.
    Stamps {
        many: bool,
    },
    /// TS.INCRBY key n [TIMESTAMP *] ...: unless it says another one.
    StampOption,
}

use Act::{Publish, Query, Subscribe, Unsubscribe};
use Handling::{Block, Channel, Container, Fan, Forward, Local, Refuse, Split, Transaction};
use Refusal::{Admin, Cluster, Keyspace, Replication, Scripting};

/// Departures from the default. An entry for a container also holds for its subcommands without one.
#[rustfmt::skip]
pub const HANDLINGS: &[(&str, Handling)] = &[
    // Redis itself says they may be split (request_policy multi_shard).
    ("MGET", Split(SplitKind::Mget)),
    ("MSET", Split(SplitKind::Mset)),
    ("DEL", Split(SplitKind::Sum)),
    ("UNLINK", Split(SplitKind::Sum)),
    ("EXISTS", Split(SplitKind::Sum)),
    ("TOUCH", Split(SplitKind::Sum)),

    ("BLMOVE", Block),
    ("BLMPOP", Block),
    ("BLPOP", Block),
    ("BRPOP", Block),
    ("BRPOPLPUSH", Block),
    ("BZMPOP", Block),
    ("BZPOPMAX", Block),
    ("BZPOPMIN", Block),
    // BLOCKING, but only with the option BLOCK, which `blocking.rs` looks for.
    ("XREAD", Forward),
    ("XREADGROUP", Forward),
    // Servers count acknowledgements of their own replicas, which the backends are not: the proxy knows.
    ("WAIT", Fan(FanKind::Wait)),
    // What is on a disk only each server knows: as of one without an append-only file.
    ("WAITAOF", Local(LocalKind::WaitAof)),

    // Belongs to the client's connection, of which a backend knows nothing.
    ("AUTH", Local(LocalKind::Auth)),
    ("HELLO", Local(LocalKind::Hello)),
    ("SELECT", Local(LocalKind::Select)),
    ("PING", Local(LocalKind::Ping)),
    ("ECHO", Local(LocalKind::Echo)),
    ("QUIT", Local(LocalKind::Quit)),
    ("RESET", Local(LocalKind::Reset)),
    // Sent on connecting by clients that may meet a cluster; a standalone server has an answer.
    ("READONLY", Local(LocalKind::Cluster)),
    ("READWRITE", Local(LocalKind::Cluster)),
    ("CLIENT", Container),
    ("CLIENT|CAPA", Local(LocalKind::ClientCapa)),
    ("CLIENT|GETNAME", Local(LocalKind::ClientGetname)),
    ("CLIENT|GETREDIR", Local(LocalKind::ClientGetredir)),
    ("CLIENT|HELP", Local(LocalKind::Help)),
    ("CLIENT|ID", Local(LocalKind::ClientId)),
    ("CLIENT|INFO", Local(LocalKind::ClientInfo)),
    ("CLIENT|KILL", Local(LocalKind::ClientKill)),
    ("CLIENT|LIST", Local(LocalKind::ClientList)),
    ("CLIENT|NO-EVICT", Local(LocalKind::ClientNoEvict)),
    ("CLIENT|NO-TOUCH", Local(LocalKind::ClientNoTouch)),
    ("CLIENT|REPLY", Local(LocalKind::ClientReply)),
    ("CLIENT|SETINFO", Local(LocalKind::ClientSetinfo)),
    ("CLIENT|SETNAME", Local(LocalKind::ClientSetname)),
    ("CLIENT|UNBLOCK", Local(LocalKind::ClientUnblock)),
    // Clients take "unknown subcommand" as "no client side caching here" and go on. To be right, every key
    // read would have to be tracked at each replica it may be read from, for as long as clients cache it.
    ("CLIENT|CACHING", Refuse(Admin)),
    ("CLIENT|TRACKING", Refuse(Admin)),
    ("CLIENT|TRACKINGINFO", Refuse(Admin)),
    // Would stop every client of the backend.
    ("CLIENT|PAUSE", Refuse(Admin)),
    ("CLIENT|UNPAUSE", Refuse(Admin)),
    // Has keys live on that are over, for who copies a whole server.
    ("CLIENT|IMPORT-SOURCE", Refuse(Admin)),

    // About the server, which for the client is the proxy; a backend's answer is never shown.
    ("ACL", Container),
    ("ACL|CAT", Fan(FanKind::First)),
    ("ACL|GENPASS", Fan(FanKind::First)),
    ("ACL|WHOAMI", Local(LocalKind::AclWhoami)),
    ("ACL|HELP", Local(LocalKind::Help)),
    ("COMMAND", Local(LocalKind::Command)),
    ("COMMAND|COUNT", Local(LocalKind::CommandCount)),
    ("COMMAND|DOCS", Local(LocalKind::CommandDocs)),
    ("COMMAND|GETKEYS", Local(LocalKind::CommandGetkeys)),
    ("COMMAND|GETKEYSANDFLAGS", Local(LocalKind::CommandGetkeysandflags)),
    ("COMMAND|HELP", Local(LocalKind::Help)),
    ("COMMAND|INFO", Local(LocalKind::CommandInfo)),
    ("COMMAND|LIST", Local(LocalKind::CommandList)),
    ("CONFIG", Container),
    ("CONFIG|GET", Local(LocalKind::ConfigGet)),
    ("CONFIG|HELP", Local(LocalKind::Help)),
    // With sums over the shards.
    ("INFO", Fan(FanKind::Info)),
    ("LASTSAVE", Fan(FanKind::Least)),
    ("LOLWUT", Fan(FanKind::First)),
    ("ROLE", Local(LocalKind::Role)),
    ("TIME", Local(LocalKind::Time)),

    // Containers of which some subcommands name a key.
    ("MEMORY", Container),
    ("MEMORY|DOCTOR", Fan(FanKind::Texts)),
    ("MEMORY|HELP", Local(LocalKind::Help)),
    ("MEMORY|MALLOC-STATS", Fan(FanKind::Texts)),
    ("MEMORY|PURGE", Fan(FanKind::Succeed)),
    ("MEMORY|STATS", Fan(FanKind::Tally)),
    ("OBJECT", Container),
    ("OBJECT|HELP", Local(LocalKind::Help)),
    ("XGROUP", Container),
    ("XGROUP|HELP", Local(LocalKind::Help)),
    ("XINFO", Container),
    ("XINFO|HELP", Local(LocalKind::Help)),

    // State that lasts over several requests: kept here, and for WATCH on a connection of its own.
    ("MULTI", Transaction(TransactionKind::Multi)),
    ("EXEC", Transaction(TransactionKind::Exec)),
    ("DISCARD", Transaction(TransactionKind::Discard)),
    ("WATCH", Transaction(TransactionKind::Watch)),
    ("UNWATCH", Transaction(TransactionKind::Unwatch)),

    // A channel is no key, and a subscription would hold the connection: workers have one of their own
    // for all clients.
    ("SUBSCRIBE", Channel(Subscribe(Kind::Channel))),
    ("PSUBSCRIBE", Channel(Subscribe(Kind::Pattern))),
    ("SSUBSCRIBE", Channel(Subscribe(Kind::Shard))),
    ("UNSUBSCRIBE", Channel(Unsubscribe(Kind::Channel))),
    ("PUNSUBSCRIBE", Channel(Unsubscribe(Kind::Pattern))),
    ("SUNSUBSCRIBE", Channel(Unsubscribe(Kind::Shard))),
    ("PUBLISH", Channel(Publish)),
    ("SPUBLISH", Channel(Publish)),
    ("PUBSUB", Container),
    ("PUBSUB|CHANNELS", Channel(Query(QueryKind::Channels))),
    ("PUBSUB|HELP", Local(LocalKind::Help)),
    ("PUBSUB|NUMPAT", Channel(Query(QueryKind::NumPat))),
    ("PUBSUB|NUMSUB", Channel(Query(QueryKind::NumSub))),
    ("PUBSUB|SHARDCHANNELS", Channel(Query(QueryKind::ShardChannels))),
    ("PUBSUB|SHARDNUMSUB", Channel(Query(QueryKind::ShardNumSub))),
    // Only where the pool's `admin_commands` names it; otherwise it is unknown.
    ("MONITOR", Channel(Subscribe(Kind::Monitor))),

    // The whole keyspace.
    ("DBSIZE", Fan(FanKind::Dbsize)),
    ("FLUSHALL", Fan(FanKind::Flush)),
    ("FLUSHDB", Fan(FanKind::Flush)),
    ("KEYS", Fan(FanKind::Keys)),
    ("RANDOMKEY", Fan(FanKind::RandomKey)),
    ("SCAN", Fan(FanKind::Scan)),
    ("SWAPDB", Fan(FanKind::Swap)),
    // To another server.
    ("MIGRATE", Refuse(Keyspace)),

    // Libraries are data that every server of every shard has.
    ("FUNCTION", Container),
    ("FUNCTION|DELETE", Fan(FanKind::Write)),
    ("FUNCTION|DUMP", Fan(FanKind::First)),
    ("FUNCTION|FLUSH", Fan(FanKind::Write)),
    ("FUNCTION|HELP", Local(LocalKind::Help)),
    ("FUNCTION|KILL", Fan(FanKind::Kill)),
    ("FUNCTION|LIST", Fan(FanKind::First)),
    ("FUNCTION|LOAD", Fan(FanKind::Write)),
    ("FUNCTION|RESTORE", Fan(FanKind::Write)),
    ("FUNCTION|STATS", Fan(FanKind::FunctionStats)),
    // Scripts are a cache that any server may have lost.
    ("SCRIPT", Container),
    ("SCRIPT|EXISTS", Fan(FanKind::ScriptExists)),
    ("SCRIPT|FLUSH", Fan(FanKind::ScriptFlush)),
    ("SCRIPT|HELP", Local(LocalKind::Help)),
    ("SCRIPT|KILL", Fan(FanKind::Kill)),
    ("SCRIPT|LOAD", Fan(FanKind::ScriptLoad)),
    ("SCRIPT|SHOW", Fan(FanKind::First)),
    // Would stop a server for everybody.
    ("SCRIPT|DEBUG", Refuse(Scripting)),

    // A cluster of one node, or "cluster support disabled" (`cluster.rs`): clients that get anything but this go
    // into cluster mode.
    ("CLUSTER", Refuse(Cluster)),
    ("CLUSTER|INFO", Local(LocalKind::Cluster)),
    ("CLUSTER|KEYSLOT", Local(LocalKind::Cluster)),
    ("CLUSTER|LINKS", Local(LocalKind::Cluster)),
    ("CLUSTER|MYID", Local(LocalKind::Cluster)),
    ("CLUSTER|MYSHARDID", Local(LocalKind::Cluster)),
    ("CLUSTER|NODES", Local(LocalKind::Cluster)),
    ("CLUSTER|REPLICAS", Local(LocalKind::Cluster)),
    ("CLUSTER|SHARDS", Local(LocalKind::Cluster)),
    ("CLUSTER|SLAVES", Local(LocalKind::Cluster)),
    ("CLUSTER|SLOTS", Local(LocalKind::Cluster)),
    ("ASKING", Local(LocalKind::Cluster)),
    ("CLUSTERSCAN", Refuse(Cluster)),
    // Written to take keys that a server is importing; not for clients.
    ("RESTORE-ASKING", Refuse(Cluster)),

    ("PSYNC", Refuse(Replication)),
    ("REPLCONF", Refuse(Replication)),
    ("REPLICAOF", Refuse(Replication)),
    ("SLAVEOF", Refuse(Replication)),
    ("SYNC", Refuse(Replication)),
    ("FAILOVER", Refuse(Replication)),

    // What servers have measured.
    ("LATENCY", Container),
    ("LATENCY|DOCTOR", Fan(FanKind::Texts)),
    ("LATENCY|HELP", Local(LocalKind::Help)),
    ("LATENCY|HISTORY", Fan(FanKind::Concat)),
    ("LATENCY|LATEST", Fan(FanKind::Concat)),
    ("LATENCY|RESET", Fan(FanKind::Sum)),
    ("LATENCY|GRAPH", Fan(FanKind::Texts)),
    ("LATENCY|HISTOGRAM", Fan(FanKind::Tally)),
    ("SLOWLOG", Container),
    ("SLOWLOG|GET", Fan(FanKind::Concat)),
    ("SLOWLOG|HELP", Local(LocalKind::Help)),
    ("SLOWLOG|LEN", Fan(FanKind::Sum)),
    ("SLOWLOG|RESET", Fan(FanKind::Succeed)),
    ("COMMANDLOG", Container),
    ("COMMANDLOG|GET", Fan(FanKind::Concat)),
    ("COMMANDLOG|HELP", Local(LocalKind::Help)),
    ("COMMANDLOG|LEN", Fan(FanKind::Sum)),
    ("COMMANDLOG|RESET", Fan(FanKind::Succeed)),
    // Clients look for modules before they use their commands, which are learned.
    ("MODULE", Container),
    ("MODULE|HELP", Local(LocalKind::Help)),
    ("MODULE|LIST", Fan(FanKind::First)),
    ("MODULE|LOAD", Refuse(Admin)),
    ("MODULE|LOADEX", Refuse(Admin)),
    ("MODULE|UNLOAD", Refuse(Admin)),
    // Reads and rewrites the inside of a value for tests of the server.
    ("PFDEBUG", Refuse(Admin)),
    ("PFSELFTEST", Refuse(Admin)),
];

use Effect::{Compared, State, Verbatim};
use EffectRule::Always;

/// How writes reach the other replicas. What is not named here is `Verified`, which is right for every
/// command that decides by its keys and arguments alone, whatever it does to a key that is gone. A
/// request with several keys is compared by all of them (`worker/replicate.rs`).
#[rustfmt::skip]
pub const EFFECTS: &[(&str, EffectRule)] = &[
    // Leave the same behind whatever was there, and fail on nothing that was there.
    ("DEL", Always(Verbatim)),
    ("UNLINK", Always(Verbatim)),
    ("MSET", Always(Verbatim)),
    // Its time to live counts from now, behind as many keys as it says.
    ("MSETEX", Always(State)),
    ("SETEX", Always(Verbatim)),
    ("PSETEX", Always(Verbatim)),
    // By its options: NX, XX and GET look at what was there, KEEPTTL takes over when it expires.
    ("SET", EffectRule::Set),

    // Replace the whole value if they do anything, and the reply says whether they did.
    ("SETNX", Always(Compared)),
    ("GETSET", Always(Compared)),
    ("GETDEL", Always(Compared)),
    // Whatever the condition: also a digest is of the value alone.
    ("DELEX", Always(Compared)),
    ("DELIFEQ", Always(Compared)),
    // Make no key: where it is gone nothing happens, and where it is not it goes at its time. A key that
    // outlives that (PERSIST, GETEX, EXPIRE) is told by the reply.
    ("EXPIRE", Always(Compared)),
    ("EXPIREAT", Always(Compared)),
    ("PEXPIRE", Always(Compared)),
    ("PEXPIREAT", Always(Compared)),
    ("PERSIST", Always(Compared)),
    ("GETEX", EffectRule::GetExpire),
    ("HDEL", Always(Compared)),
    ("HGETDEL", Always(Compared)),
    ("LINSERT", Always(Compared)),
    ("LMPOP", Always(Compared)),
    ("LPOP", Always(Compared)),
    ("LPUSHX", Always(Compared)),
    ("LREM", Always(Compared)),
    ("LSET", Always(Compared)),
    ("LTRIM", Always(Compared)),
    ("RPOP", Always(Compared)),
    ("RPUSHX", Always(Compared)),
    ("SREM", Always(Compared)),
    ("XACK", Always(Compared)),
    ("XDEL", Always(Compared)),
    ("XGROUP|DELCONSUMER", Always(Compared)),
    ("XGROUP|DESTROY", Always(Compared)),
    ("XGROUP|SETID", Always(Compared)),
    ("XSETID", Always(Compared)),
    // What they may delete depends on the groups, which equal copies have alike: no clock is asked. That DELREF
    // has taken an entry off a group which is no longer in the stream the reply does not tell, and need not:
    // where the key is gone there is no group either, and nothing is made.
    ("XACKDEL", Always(Compared)),
    ("XDELEX", Always(Compared)),
    // Forgets the names of entries only if it changes what was set, which is stored with the stream. An error
    // tells that there is none.
    ("XCFGSET", Always(Compared)),
    ("ZMPOP", Always(Compared)),
    ("ZPOPMAX", Always(Compared)),
    ("ZPOPMIN", Always(Compared)),
    ("ZREM", Always(Compared)),
    ("ZREMRANGEBYLEX", Always(Compared)),
    ("ZREMRANGEBYRANK", Always(Compared)),
    ("ZREMRANGEBYSCORE", Always(Compared)),

    // Chance. Removing what is not there does nothing.
    ("SPOP", Always(Effect::Popped)),
    // The clock makes the id; node sizes decide where `~` stops.
    ("XADD", EffectRule::StreamAdd),
    ("XTRIM", EffectRule::StreamTrim),
    // Without STORE it only reads; with it, the order of a set without order is stored.
    ("SORT", EffectRule::SortStore),
    // A program may do anything.
    ("EVAL", EffectRule::Script),
    ("EVALSHA", EffectRule::Script),
    ("FCALL", EffectRule::Script),
    // Need no look at what was there: all servers have the same libraries.
    ("FUNCTION|DELETE", Always(Effect::Everything)),
    ("FUNCTION|FLUSH", Always(Effect::Everything)),
    ("FUNCTION|LOAD", Always(Effect::Everything)),
    ("FUNCTION|RESTORE", Always(Effect::Everything)),
    ("FLUSHALL", Always(Effect::Everything)),
    ("FLUSHDB", Always(Effect::Everything)),
    ("SWAPDB", Always(Effect::Everything)),
    // Store when an entry was delivered or a consumer seen.
    ("XREADGROUP", Always(State)),
    ("XCLAIM", Always(State)),
    ("XAUTOCLAIM", Always(State)),
    ("XGROUP|CREATECONSUMER", Always(State)),
    // Into another database.
    ("MOVE", Always(Effect::Moved)),
    ("COPY", EffectRule::CopyTo),
];
// INCRBYFLOAT, HINCRBYFLOAT and ZINCRBY need no rule of their own: the reply is the text that is stored, so
// servers whose arithmetic or formatting differs are told apart by it.

/// Commands with a time to live that counts from now.
#[rustfmt::skip]
pub const LIFETIMES: &[(&str, Lifetime)] = &[
    ("SET", Lifetime::Option { from: 3 }),
    ("GETEX", Lifetime::Option { from: 2 }),
    ("SETEX", Lifetime::SetEx { unit_ms: 1000 }),
    ("PSETEX", Lifetime::SetEx { unit_ms: 1 }),
    ("EXPIRE", Lifetime::Expire { unit_ms: 1000, absolute: "PEXPIREAT" }),
    ("PEXPIRE", Lifetime::Expire { unit_ms: 1, absolute: "PEXPIREAT" }),
    ("HEXPIRE", Lifetime::Expire { unit_ms: 1000, absolute: "HPEXPIREAT" }),
    ("HPEXPIRE", Lifetime::Expire { unit_ms: 1, absolute: "HPEXPIREAT" }),
    ("HGETEX", Lifetime::FieldOption),
    ("HSETEX", Lifetime::FieldOption),
    ("RESTORE", Lifetime::Restore),
];
