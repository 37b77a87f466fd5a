//! Counters. Each worker has its own set and is its only writer, so counting is a plain load and
//! store; readers sum over workers when metrics are scraped. `METRICS` is the one list of names.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a metric is about, and so which labels it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Pool,
    Command,
    Duration,
    Backend,
}

pub struct MetricRow {
    pub name: &'static str,
    pub kind: &'static str,
    pub help: &'static str,
    pub scope: Scope,
}

impl Scope {
    pub fn labels(self) -> &'static [&'static str] {
        match self {
            Scope::Pool => &["pool"],
            Scope::Command => &["pool", "command", "result"],
            Scope::Duration => &["pool", "class"],
            Scope::Backend => &["pool", "shard", "backend"],
        }
    }
}

macro_rules! counters {
    ($enum:ident, $table:ident, $scope:expr, $($variant:ident $name:literal $kind:literal $help:literal;)+) => {
        #[derive(Clone, Copy, Debug)]
        pub enum $enum { $($variant),+ }
        pub const $table: &[MetricRow] = &[
            $(MetricRow { name: $name, kind: $kind, help: $help, scope: $scope }),+
        ];
    };
}

counters! { PoolCount, POOL_METRICS, Scope::Pool,
    Clients "client_connections" "gauge" "Clients connected now.";
    ClientsTotal "client_connections_total" "counter" "Clients accepted.";
    Rejected "client_connections_rejected_total" "counter" "Clients turned away at limits.clients.";
    ProtocolErrors "client_protocol_errors_total" "counter" "Clients closed because their bytes were no request.";
    OutputClosed "client_output_limit_closed_total" "counter" "Clients closed because they did not read their replies.";
    ReceivedBytes "client_received_bytes_total" "counter" "Bytes read from clients.";
    SentBytes "client_sent_bytes_total" "counter" "Bytes written to clients.";
    Split "requests_split_total" "counter" "Requests that were split over several shards.";
    CrossShard "cross_shard_refused_total" "counter" "Requests refused because their keys are on several shards.";
    Unsupported "unsupported_commands_total" "counter" "Requests for commands the proxy does not take.";
    Waits "request_waits_total" "counter" "Requests that had to wait for a membership change, an order or room.";
    Aside "reads_aside_total" "counter" "Reads sent on a second connection to a backend, clear of something large.";
    Handovers "worker_handovers_total" "counter" "Requests handed to the worker that orders the shard's writes.";
    Blocked "clients_blocked" "gauge" "Clients that wait in a blocking command.";
    PutBack "blocked_put_back_total" "counter" "Elements taken by a blocking command whose client had left, and put back.";
    PutBackFailed "blocked_put_back_failed_total" "counter" "The same, where it is not known that they were put back.";
    Repairs "write_repairs_total" "counter" "Writes that came out differently on replicas, whose keys were then copied from the leader.";
    Leases "watch_connections" "gauge" "Backend connections on which a client watches keys now.";
    LeaseWaits "watch_connections_taken_total" "counter" "Times that a client began to watch keys.";
    Subscriptions "subscriptions" "gauge" "Channels, patterns and monitors that clients are subscribed to now.";
    Messages "subscription_messages_total" "counter" "Messages and lines of MONITOR written for clients.";
    SubscribersCut "subscribers_cut_off_total" "counter" "Subscribers closed because they did not read their messages.";
    Resubscribed "subscriptions_interrupted_total" "counter" "Times a connection with subscriptions in use was lost or left its shard's leader; messages in between were lost.";
    ShardLost "shard_lost_errors_total" "counter" "Requests answered with an error because their shard has no backend.";
}

counters! { BackendCount, BACKEND_METRICS, Scope::Backend,
    Connections "backend_connections" "gauge" "Connections that are verified and carry requests.";
    Connects "backend_connects_total" "counter" "Connections attempted.";
    Failures "backend_connection_failures_total" "counter" "Connections refused, lost, timed out or not verified.";
    Requests "backend_requests_total" "counter" "Requests sent.";
    Inflight "backend_inflight" "gauge" "Requests sent and not answered yet.";
    Errors "backend_error_replies_total" "counter" "Error replies received.";
    Timeouts "backend_timeouts_total" "counter" "Requests not answered in time.";
    LateReplies "backend_late_replies_total" "counter" "Replies that came after their request had timed out.";
    Retried "backend_reads_retried_total" "counter" "Reads moved to another replica because this backend failed.";
    WriteFailures "replica_write_failures_total" "counter" "Writes that failed here while they concerned other replicas too.";
    SentBytes "backend_sent_bytes_total" "counter" "Bytes written to the backend.";
    ReceivedBytes "backend_received_bytes_total" "counter" "Bytes read from the backend.";
}

pub const COMMAND_METRIC: MetricRow = MetricRow {
    name: "requests_total",
    kind: "counter",
    help: "Requests answered, by command and whether the answer was an error.",
    scope: Scope::Command,
};

pub const DURATION_METRIC: MetricRow = MetricRow {
    name: "request_duration_seconds",
    kind: "histogram",
    help: "Time from reading a request to having its reply, by class (read, write).",
    scope: Scope::Duration,
};

/// Every metric of the engine.
pub fn all_metrics() -> impl Iterator<Item = &'static MetricRow> {
    static SINGLE: [MetricRow; 2] = [COMMAND_METRIC, DURATION_METRIC];
    POOL_METRICS.iter().chain(BACKEND_METRICS).chain(&SINGLE)
}

/// Upper bounds of the duration buckets, in microseconds; one more bucket takes the rest.
/// From a loopback round trip to the longest request timeout in use, two or three per decade.
pub const BOUNDS_MICROS: [u32; 16] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000,
];

/// One number with one writer.
#[derive(Default)]
pub struct Count(AtomicU64);

impl Count {
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    #[inline]
    pub fn sub(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(n), Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

fn counts(n: usize) -> Box<[Count]> {
    (0..n).map(|_| Count::default()).collect()
}

/// Durations of one class of requests.
pub struct Histogram {
    pub buckets: [Count; BOUNDS_MICROS.len() + 1],
    pub sum_micros: Count,
}

impl Histogram {
    fn new() -> Self {
        Histogram {
            buckets: std::array::from_fn(|_| Count::default()),
            sum_micros: Count::default(),
        }
    }

    #[inline]
    pub fn observe(&self, micros: u32) {
        let bucket = BOUNDS_MICROS.iter().position(|bound| micros <= *bound);
        self.buckets[bucket.unwrap_or(BOUNDS_MICROS.len())].add(1);
        self.sum_micros.add(u64::from(micros));
    }
}

pub struct PoolStats {
    counts: Box<[Count]>,
    /// By command id: ok, error.
    pub commands: Box<[[Count; 2]]>,
    /// Read, write.
    pub durations: [Histogram; 2],
}

pub struct BackendStats {
    counts: Box<[Count]>,
}

/// One worker's numbers; `backends` by pool, shard, backend.
pub struct WorkerStats {
    pub pools: Vec<PoolStats>,
    pub backends: Vec<Vec<Vec<BackendStats>>>,
}

impl PoolStats {
    pub fn new(commands: usize) -> Self {
        PoolStats {
            counts: counts(POOL_METRICS.len()),
            commands: (0..commands).map(|_| Default::default()).collect(),
            durations: [Histogram::new(), Histogram::new()],
        }
    }

    #[inline]
    pub fn of(&self, count: PoolCount) -> &Count {
        &self.counts[count as usize]
    }

    /// By position in `POOL_METRICS`.
    pub fn at(&self, i: usize) -> &Count {
        &self.counts[i]
    }
}

impl BackendStats {
    pub fn new() -> Self {
        BackendStats {
            counts: counts(BACKEND_METRICS.len()),
        }
    }

    #[inline]
    pub fn of(&self, count: BackendCount) -> &Count {
        &self.counts[count as usize]
    }

    /// By position in `BACKEND_METRICS`.
    pub fn at(&self, i: usize) -> &Count {
        &self.counts[i]
    }
}

impl Default for BackendStats {
    fn default() -> Self {
        Self::new()
    }
}
