//! The Python module `proxy._engine`: translation only, class by class as in `_engine.pyi`, which is its
//! documentation. One file, as that is: past 600 lines, all of them glue, and the two are read side by side.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::command;
use crate::conn::lane::DATABASES_MAX;
use crate::engine::{Engine as Inner, EngineError, Sample as InnerSample};
use crate::hash::HashKind;
use crate::ring::{Distribution, Ring, RingSpec};
use crate::route;
use crate::stats::{all_metrics, MetricRow, BOUNDS_MICROS};
use crate::sys::{self, Address};
use crate::worker::shared::{self, Ack, Protocol, EVENT_KINDS, FAILURE_REASONS};

impl From<EngineError> for PyErr {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Value(text) => PyValueError::new_err(text),
            EngineError::NotRunning(text) => PyRuntimeError::new_err(text),
            EngineError::Io(error) => PyOSError::new_err((error.raw_os_error(), error.to_string())),
        }
    }
}

fn invalid(text: String) -> PyErr {
    PyValueError::new_err(text)
}

/// Seconds as milliseconds, at least 1 unless 0.
fn millis(seconds: f64, what: &str) -> PyResult<u64> {
    if !seconds.is_finite() || seconds < 0.0 {
        return Err(invalid(format!("{what} is not a number of seconds")));
    }
    Ok((seconds * 1000.0).ceil() as u64)
}

fn positive(value: usize, what: &str) -> PyResult<usize> {
    if value == 0 {
        return Err(invalid(format!("{what} must be at least 1")));
    }
    Ok(value)
}

#[pyclass(frozen, module = "proxy._engine")]
struct PoolConfig {
    name: String,
    protocol: Protocol,
    listeners: Vec<RawFd>,
    connect_timeout: u64,
    request_timeout: u64,
    client_idle_timeout: u64,
    client_limit: usize,
    request_bytes_limit: usize,
    client_inflight_limit: usize,
    client_output_limit: usize,
    backend_inflight_limit: usize,
    ack: Ack,
    cross_shard: bool,
    keyless_everywhere: bool,
    cluster: bool,
    databases: u8,
    monitor: bool,
    users: Vec<(String, Vec<u8>)>,
    backend_login: Option<(String, Vec<u8>)>,
    server_version: String,
}

/// Positions in a buffer are 32-bit, and a request may stand behind another in it.
const REQUEST_BYTES_MAX: usize = 1 << 30;

#[pymethods]
impl PoolConfig {
    #[new]
    #[pyo3(signature = (*, name, protocol, listeners, connect_timeout, request_timeout, client_idle_timeout,
        client_limit, request_bytes_limit, client_inflight_limit, client_output_bytes_limit,
        backend_inflight_limit, ack, cross_shard, keyless_everywhere, cluster, databases, users, backend_login,
        server_version, admin_commands=vec![]))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        name: String,
        protocol: &str,
        listeners: Vec<RawFd>,
        connect_timeout: f64,
        request_timeout: f64,
        client_idle_timeout: f64,
        client_limit: usize,
        request_bytes_limit: usize,
        client_inflight_limit: usize,
        client_output_bytes_limit: usize,
        backend_inflight_limit: usize,
        ack: &str,
        cross_shard: &str,
        keyless_everywhere: bool,
        cluster: bool,
        databases: u8,
        users: Vec<(String, Vec<u8>)>,
        backend_login: Option<(String, Vec<u8>)>,
        server_version: String,
        admin_commands: Vec<String>,
    ) -> PyResult<Self> {
        if let Some(other) = admin_commands.iter().find(|name| *name != "monitor") {
            return Err(invalid(format!(
                "admin_commands knows monitor, not {other:?}"
            )));
        }
        if request_bytes_limit > REQUEST_BYTES_MAX {
            return Err(invalid(format!(
                "request_bytes_limit may be at most {REQUEST_BYTES_MAX}"
            )));
        }
        Ok(PoolConfig {
            name,
            protocol: match protocol {
                "redis" => Protocol::Redis,
                "memcached" => Protocol::Memcached,
                other => {
                    return Err(invalid(format!(
                        "protocol is redis or memcached, not {other:?}"
                    )))
                }
            },
            listeners,
            connect_timeout: millis(connect_timeout, "connect_timeout")?.max(1),
            request_timeout: millis(request_timeout, "request_timeout")?.max(1),
            client_idle_timeout: millis(client_idle_timeout, "client_idle_timeout")?,
            client_limit: positive(client_limit, "client_limit")?,
            request_bytes_limit: positive(request_bytes_limit, "request_bytes_limit")?,
            client_inflight_limit: positive(client_inflight_limit, "client_inflight_limit")?,
            client_output_limit: positive(client_output_bytes_limit, "client_output_bytes_limit")?,
            backend_inflight_limit: positive(backend_inflight_limit, "backend_inflight_limit")?,
            ack: match ack {
                "all" => Ack::All,
                "quorum" => Ack::Quorum,
                "primary" => Ack::Primary,
                other => {
                    return Err(invalid(format!(
                        "ack is all, quorum or primary, not {other:?}"
                    )))
                }
            },
            cross_shard: match cross_shard {
                "split" => true,
                "refuse" => false,
                other => {
                    return Err(invalid(format!(
                        "cross_shard is split or refuse, not {other:?}"
                    )))
                }
            },
            keyless_everywhere,
            cluster,
            databases: match databases as usize {
                1..=DATABASES_MAX => databases,
                other => {
                    return Err(invalid(format!(
                        "databases is 1 to {DATABASES_MAX}, not {other}"
                    )))
                }
            },
            monitor: !admin_commands.is_empty(),
            users,
            backend_login,
            server_version,
        })
    }
}

#[pyclass(frozen, module = "proxy._engine")]
struct EngineConfig {
    workers: usize,
    run_id: String,
    pools: Vec<Py<PoolConfig>>,
}

#[pymethods]
impl EngineConfig {
    #[new]
    #[pyo3(signature = (*, workers, run_id, pools))]
    fn new(workers: usize, run_id: String, pools: Vec<Py<PoolConfig>>) -> PyResult<Self> {
        positive(workers, "workers")?;
        if workers > 255 {
            return Err(invalid("workers may be at most 255".to_owned()));
        }
        Ok(EngineConfig {
            workers,
            run_id,
            pools,
        })
    }
}

impl EngineConfig {
    fn build(&self) -> PyResult<shared::Config> {
        let pools = self.pools.iter().map(|pool| {
            let pool = pool.get();
            let listeners = pool
                .listeners
                .iter()
                .map(|fd| sys::duplicate(*fd))
                .collect::<Result<Vec<_>, _>>();
            let listeners = listeners.map_err(EngineError::Io)?;
            Ok(shared::PoolConfig {
                name: pool.name.clone(),
                protocol: pool.protocol,
                port: listeners
                    .iter()
                    .map(sys::port)
                    .find(|port| *port != 0)
                    .unwrap_or(0),
                listeners,
                connect_timeout: pool.connect_timeout,
                request_timeout: pool.request_timeout,
                client_idle_timeout: pool.client_idle_timeout,
                client_limit: pool.client_limit,
                request_bytes_limit: pool.request_bytes_limit,
                client_inflight_limit: pool.client_inflight_limit,
                client_output_limit: pool.client_output_limit,
                backend_inflight_limit: pool.backend_inflight_limit,
                ack: pool.ack,
                cross_shard: pool.cross_shard,
                keyless_everywhere: pool.keyless_everywhere,
                is_cluster: pool.cluster,
                databases: pool.databases,
                monitor: pool.monitor,
                users: pool.users.clone(),
                backend_login: pool.backend_login.clone(),
                server_version: pool.server_version.clone(),
            })
        });
        let pools = pools.collect::<PyResult<_>>()?;
        Ok(shared::Config {
            workers: self.workers,
            run_id: self.run_id.clone(),
            pools,
        })
    }
}

#[pyclass(frozen, module = "proxy._engine")]
struct BackendTable(route::Backend);

#[pymethods]
impl BackendTable {
    #[new]
    #[pyo3(signature = (*, name, address, verify))]
    fn new(name: String, address: &str, verify: Vec<(Vec<u8>, Vec<u8>)>) -> PyResult<Self> {
        let Some(address) = Address::parse(address) else {
            let form = "ip:port, [ip6]:port or unix:/path";
            return Err(invalid(format!(
                "backend {name}: address {address:?} is not {form}"
            )));
        };
        if verify.len() > 255 || verify.iter().any(|(request, _)| request.is_empty()) {
            return Err(invalid(format!(
                "backend {name}: verify needs at most 255 whole requests"
            )));
        }
        Ok(BackendTable(route::Backend {
            name,
            address,
            verify,
        }))
    }
}

#[pyclass(frozen, module = "proxy._engine")]
struct ShardTable {
    name: String,
    weight: u32,
    shard: route::Shard,
}

#[pymethods]
impl ShardTable {
    #[new]
    #[pyo3(signature = (*, name, weight, backends, lead, in_sync, reads, spread, epoch, restore, joining=vec![], lease=0.0, succession=0, succeeds=false, reserved=vec![]))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        name: String,
        weight: u32,
        backends: Vec<Py<BackendTable>>,
        lead: Option<u8>,
        in_sync: Vec<u8>,
        reads: Vec<u8>,
        spread: bool,
        epoch: u64,
        restore: Vec<u8>,
        joining: Vec<u8>,
        lease: f64,
        succession: u64,
        succeeds: bool,
        reserved: Vec<Vec<u8>>,
    ) -> PyResult<Self> {
        let backends: Vec<_> = backends
            .iter()
            .map(|backend| backend.get().0.clone())
            .collect();
        let in_range =
            |position: &u8| usize::from(*position) < backends.len().min(route::MAX_BACKENDS);
        let mut positions = in_sync.iter().chain(&reads).chain(&lead).chain(&joining);
        if !positions.all(in_range) {
            return Err(invalid(format!(
                "shard {name}: a position is not one of its backends"
            )));
        }
        let mask = |positions: &[u8]| positions.iter().fold(0, |mask, at| mask | 1 << at);
        let shard = route::Shard {
            backends,
            lead,
            in_sync: mask(&in_sync),
            joining: mask(&joining),
            lease: millis(lease, "lease")?,
            succession,
            succeeds,
            reads,
            spread,
            epoch,
            restore,
            reserved,
        };
        shard
            .check()
            .map_err(|error| invalid(format!("shard {name}: {error}")))?;
        Ok(ShardTable {
            name,
            weight,
            shard,
        })
    }
}

#[pyclass(frozen, module = "proxy._engine")]
struct PoolTable {
    spec: RingSpec,
    whole: Arc<Ring>,
    ring: Arc<Ring>,
    absent: Box<[bool]>,
    leads: route::Leads,
    shards: Vec<route::Shard>,
}

#[pymethods]
impl PoolTable {
    #[new]
    #[pyo3(signature = (*, hash, distribution, hash_tag, shards, absent = Vec::new(), routes = Vec::new(),
        leads = Vec::new()))]
    fn new(
        hash: &str,
        distribution: &str,
        hash_tag: &str,
        shards: Vec<Py<ShardTable>>,
        absent: Vec<usize>,
        routes: Vec<(Vec<u8>, u32)>,
        leads: Vec<(Vec<u8>, u32)>,
    ) -> PyResult<Self> {
        let leads = route::Leads::new(&leads, &routes).map_err(invalid)?;
        let spec = RingSpec {
            hash: HashKind::parse(hash).ok_or_else(|| invalid(format!("unknown hash {hash:?}")))?,
            distribution: Distribution::parse(distribution)
                .ok_or_else(|| invalid(format!("unknown distribution {distribution:?}")))?,
            hash_tag: match *hash_tag.as_bytes() {
                [] => None,
                [open, close] => Some((open, close)),
                _ => {
                    return Err(invalid(format!(
                        "hash_tag {hash_tag:?} is not two characters"
                    )))
                }
            },
            shards: shards
                .iter()
                .map(|shard| (shard.get().name.clone(), shard.get().weight))
                .collect(),
            routes,
        };
        if shards.is_empty() || shards.len() > usize::from(u16::MAX) {
            return Err(invalid(format!(
                "a pool has 1 to 65535 shards, not {}",
                shards.len()
            )));
        }
        let mut mask = vec![false; shards.len()].into_boxed_slice();
        for position in absent {
            *mask.get_mut(position).ok_or_else(|| {
                invalid(format!("absent names shard {position}, which there is not"))
            })? = true;
        }
        if !mask.contains(&false) {
            return Err(invalid("every shard is absent".to_owned()));
        }
        let shards = shards
            .iter()
            .map(|shard| shard.get().shard.clone())
            .collect();
        Ok(PoolTable {
            whole: route::ring_for(&spec, &[]).map_err(invalid)?,
            ring: route::ring_for(&spec, &mask).map_err(invalid)?,
            spec,
            leads,
            shards,
            absent: mask,
        })
    }

    fn route(&self, key: &[u8]) -> KeyRoute {
        let found = self.ring.explain(key);
        let led = self.leads.find(key);
        KeyRoute {
            pool: led.map(|(pool, _)| pool),
            shard: found.shard,
            home: self.whole.explain(key).shard,
            hash: found.hash,
            hashed: key[found.hashed].to_vec(),
            prefix: key[..led.map_or(found.prefix, |(_, length)| length)].to_vec(),
        }
    }
}

#[pyclass(frozen, module = "proxy._engine")]
struct RoutingTable(route::Table);

#[pymethods]
impl RoutingTable {
    #[new]
    #[pyo3(signature = (*, epoch, pools))]
    fn new(epoch: u64, pools: Vec<Py<PoolTable>>) -> PyResult<Self> {
        let pools = pools.iter().map(|pool| {
            let pool = pool.get();
            route::Pool {
                spec: pool.spec.clone(),
                leads: pool.leads.clone(),
                ring: pool.ring.clone(),
                absent: pool.absent.clone(),
                shards: pool.shards.clone(),
            }
        });
        let pools = pools.collect();
        let table = route::Table { epoch, pools };
        table.check().map_err(invalid)?;
        Ok(RoutingTable(table))
    }
}

#[pyclass(frozen, module = "proxy._engine")]
struct KeyRoute {
    #[pyo3(get)]
    pool: Option<u16>,
    #[pyo3(get)]
    shard: usize,
    #[pyo3(get)]
    home: usize,
    #[pyo3(get)]
    hash: u64,
    hashed: Vec<u8>,
    prefix: Vec<u8>,
}

#[pymethods]
impl KeyRoute {
    #[getter]
    fn hashed<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.hashed)
    }

    #[getter]
    fn prefix<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.prefix)
    }
}

#[pyclass(frozen, module = "proxy._engine")]
struct Event(shared::Event);

#[pymethods]
impl Event {
    #[getter]
    fn kind(&self) -> &'static str {
        EVENT_KINDS[self.0.kind as usize]
    }

    #[getter]
    fn pool(&self) -> u16 {
        self.0.pool
    }

    #[getter]
    fn shard(&self) -> u16 {
        self.0.shard
    }

    #[getter]
    fn backend(&self) -> u8 {
        self.0.backend
    }

    #[getter]
    fn table_epoch(&self) -> u64 {
        self.0.table_epoch
    }

    #[getter]
    fn detail(&self) -> &str {
        &self.0.detail
    }

    #[getter]
    fn data<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.data)
    }

    fn __repr__(&self) -> String {
        let (kind, event) = (self.kind(), &self.0);
        let place = format!("{}/{}/{}", event.pool, event.shard, event.backend);
        format!(
            "<Event {kind} {place} {} epoch={}>",
            event.detail, event.table_epoch
        )
    }
}

#[pyclass(frozen, module = "proxy._engine")]
struct Metric(&'static MetricRow);

#[pymethods]
impl Metric {
    #[getter]
    fn name(&self) -> &'static str {
        self.0.name
    }

    #[getter]
    fn kind(&self) -> &'static str {
        self.0.kind
    }

    #[getter]
    fn help(&self) -> &'static str {
        self.0.help
    }

    #[getter]
    fn labels(&self) -> Vec<&'static str> {
        self.0.scope.labels().to_vec()
    }
}

#[pyclass(frozen, module = "proxy._engine")]
struct Sample(InnerSample);

#[pymethods]
impl Sample {
    #[getter]
    fn name(&self) -> &'static str {
        self.0.name
    }

    #[getter]
    fn labels(&self) -> Vec<String> {
        self.0.labels.clone()
    }

    #[getter]
    fn value(&self) -> f64 {
        self.0.value
    }

    #[getter]
    fn buckets(&self) -> Vec<u64> {
        self.0.buckets.clone()
    }
}

#[pyclass(frozen, module = "proxy._engine")]
struct CommandRow(&'static command::Row);

#[pymethods]
impl CommandRow {
    #[getter]
    fn name(&self) -> &'static str {
        self.0.name
    }

    #[getter]
    fn arity(&self) -> i16 {
        self.0.arity
    }

    #[getter]
    fn flags(&self) -> Vec<&'static str> {
        self.0.flags.names().collect()
    }

    #[getter]
    fn handling(&self) -> &'static str {
        self.0.handling.name()
    }

    #[getter]
    fn summary(&self) -> &'static str {
        self.0.handling.summary()
    }
}

#[pyclass(frozen, module = "proxy._engine")]
struct Engine(Inner);

#[pymethods]
impl Engine {
    #[new]
    fn new(config: &EngineConfig) -> PyResult<Self> {
        Ok(Engine(Inner::new(config.build()?)))
    }

    fn start(&self, py: Python<'_>, table: &RoutingTable) -> PyResult<()> {
        let table = table.0.clone();
        Ok(py.detach(|| self.0.start(table))?)
    }

    fn publish(&self, py: Python<'_>, table: &RoutingTable) -> PyResult<u64> {
        let table = table.0.clone();
        Ok(py.detach(|| self.0.publish(table))?)
    }

    fn fileno(&self) -> PyResult<RawFd> {
        Ok(self.0.fileno()?)
    }

    fn drain_events(&self, max: usize) -> PyResult<Vec<Event>> {
        Ok(self
            .0
            .shared()?
            .drain_events(max)
            .into_iter()
            .map(Event)
            .collect())
    }

    fn statistics(&self) -> PyResult<Vec<Sample>> {
        Ok(self.0.statistics()?.into_iter().map(Sample).collect())
    }

    fn pause_writes(&self, py: Python<'_>, pool: usize, shard: usize) -> PyResult<bool> {
        Ok(py.detach(|| self.0.set_paused(pool, shard, true))?)
    }

    fn resume_writes(&self, py: Python<'_>, pool: usize, shard: usize) -> PyResult<()> {
        py.detach(|| self.0.set_paused(pool, shard, false))?;
        Ok(())
    }

    fn shutdown(&self, grace_seconds: f64) -> PyResult<()> {
        let grace = Duration::from_millis(millis(grace_seconds, "grace_seconds")?);
        Ok(self.0.shutdown(grace)?)
    }
}

#[pyfunction]
fn metrics() -> Vec<Metric> {
    all_metrics().map(Metric).collect()
}

#[pyfunction]
fn command_table() -> Vec<CommandRow> {
    command::ROWS.iter().map(CommandRow).collect()
}

#[pyfunction]
fn hash_key(hash: &str, key: &[u8]) -> PyResult<u32> {
    let kind = HashKind::parse(hash).ok_or_else(|| invalid(format!("unknown hash {hash:?}")))?;
    Ok(kind.hash(key))
}

#[pymodule]
fn _engine(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add(
        "build_profile",
        if cfg!(debug_assertions) {
            "debug"
        } else {
            "release"
        },
    )?;
    module.add(
        "HASHES",
        HashKind::ALL.iter().map(|row| row.0).collect::<Vec<_>>(),
    )?;
    module.add(
        "DISTRIBUTIONS",
        Distribution::ALL
            .iter()
            .map(|row| row.0)
            .collect::<Vec<_>>(),
    )?;
    module.add("EVENT_KINDS", EVENT_KINDS.to_vec())?;
    module.add("FAILURE_REASONS", FAILURE_REASONS.to_vec())?;
    let bounds: Vec<f64> = BOUNDS_MICROS
        .iter()
        .map(|micros| f64::from(*micros) / 1e6)
        .collect();
    module.add("HISTOGRAM_BOUNDS_SECONDS", bounds)?;
    module.add_class::<PoolConfig>()?;
    module.add_class::<EngineConfig>()?;
    module.add_class::<BackendTable>()?;
    module.add_class::<ShardTable>()?;
    module.add_class::<PoolTable>()?;
    module.add_class::<RoutingTable>()?;
    module.add_class::<KeyRoute>()?;
    module.add_class::<Event>()?;
    module.add_class::<Metric>()?;
    module.add_class::<Sample>()?;
    module.add_class::<CommandRow>()?;
    module.add_class::<Engine>()?;
    module.add_function(wrap_pyfunction!(metrics, module)?)?;
    module.add_function(wrap_pyfunction!(command_table, module)?)?;
    module.add_function(wrap_pyfunction!(hash_key, module)?)?;
    Ok(())
}
