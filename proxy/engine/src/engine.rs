//! The engine: threads up, tables in, events and numbers out, threads down.
//!
//! This is the Rust side of the seam; `py.rs` only translates. Nothing here is on a request's path.

use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::command;
use crate::proto::memcache::VERBS;
use crate::route::Table;
use crate::stats::{
    BackendStats, PoolStats, WorkerStats, BACKEND_METRICS, BOUNDS_MICROS, COMMAND_METRIC,
    DURATION_METRIC, POOL_METRICS,
};
use crate::sys;
use crate::worker::shared::{Config, Event, EventKind, Protocol, Shared};
use crate::worker::Worker;

/// Workers adopt a table within one loop turn; one that takes this long is stuck.
const ADOPTION_LIMIT: Duration = Duration::from_secs(5);
/// Classes of the duration histogram, by `PoolStats::durations`.
const CLASSES: [&str; 2] = ["read", "write"];

/// One value of one metric, with the values of its labels.
pub struct Sample {
    pub name: &'static str,
    pub labels: Vec<String>,
    pub value: f64,
    pub buckets: Vec<u64>,
}

/// Why something was not done.
#[derive(Debug)]
pub enum EngineError {
    Value(String),
    NotRunning(String),
    Io(io::Error),
}

impl From<io::Error> for EngineError {
    fn from(error: io::Error) -> Self {
        EngineError::Io(error)
    }
}

enum Stage {
    Configured(Config),
    Running(Arc<Shared>),
    Empty,
}

pub struct Engine {
    stage: Mutex<Stage>,
}

impl Engine {
    pub fn new(config: Config) -> Self {
        Engine {
            stage: Mutex::new(Stage::Configured(config)),
        }
    }

    /// The running workers' shared part.
    ///
    /// # Errors
    /// `NotRunning` before `start`.
    pub fn shared(&self) -> Result<Arc<Shared>, EngineError> {
        match &*self.stage.lock().unwrap_or_else(PoisonError::into_inner) {
            Stage::Running(shared) => Ok(Arc::clone(shared)),
            _ => Err(EngineError::NotRunning(
                "the engine was not started".to_owned(),
            )),
        }
    }

    /// # Errors
    /// `Value` when the table does not fit the configuration, `Io` when the system gives no threads
    /// or descriptors.
    pub fn start(&self, table: Table) -> Result<(), EngineError> {
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        let Stage::Configured(config) = &*stage else {
            return Err(EngineError::NotRunning(
                "an engine can be started once".to_owned(),
            ));
        };
        if table.pools.len() != config.pools.len() {
            let (have, want) = (table.pools.len(), config.pools.len());
            return Err(EngineError::Value(format!(
                "the table has {have} pools, the configuration {want}"
            )));
        }
        for (pool, from) in table.pools.iter().zip(&config.pools) {
            let is_strange = |to: &u16| config.pools[usize::from(*to)].protocol != from.protocol;
            if let Some(to) = pool.leads.pools().find(is_strange) {
                let (from, to) = (&from.name, &config.pools[usize::from(to)].name);
                return Err(EngineError::Value(format!(
                    "pool {from} leads to pool {to}, which speaks another protocol"
                )));
            }
        }
        let stats = (0..config.workers)
            .map(|_| worker_stats(config, &table))
            .collect();
        let Stage::Configured(config) = std::mem::replace(&mut *stage, Stage::Empty) else {
            return Err(EngineError::NotRunning(
                "an engine can be started once".to_owned(),
            ));
        };
        let epoch = table.epoch;
        let shared = Arc::new(Shared::new(config, table, stats)?);
        let mut workers = Vec::new();
        for id in 0..shared.config.workers {
            workers.push(Worker::new(id, Arc::clone(&shared))?);
        }
        for (id, worker) in workers.into_iter().enumerate() {
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name(format!("worker-{id}"))
                .spawn(move || {
                    worker.run();
                    // Nobody waits for it any more, while others still drain.
                    shared.set_adopted(id, u64::MAX);
                    shared.set_quiet(id, u64::MAX);
                    if shared.running.fetch_sub(1, SeqCst) == 1 {
                        shared.report(stopped(shared.table_epoch.load(SeqCst)));
                    }
                })?;
        }
        shared.wait_adopted(epoch, ADOPTION_LIMIT);
        *stage = Stage::Running(shared);
        Ok(())
    }

    /// Hands a table to the workers and waits until all have it.
    ///
    /// # Errors
    /// `Value` when it cannot follow the present one, `NotRunning` when workers do not run.
    pub fn publish(&self, table: Table) -> Result<u64, EngineError> {
        let shared = self.shared()?;
        let current = shared.table();
        if table.epoch <= current.epoch {
            let (new, old) = (table.epoch, current.epoch);
            return Err(EngineError::Value(format!(
                "epoch {new} does not follow {old}"
            )));
        }
        if !table.same_shape(&current) {
            let what = "the table has other pools, shards or backends than the one before";
            return Err(EngineError::Value(what.to_owned()));
        }
        if shared.running.load(SeqCst) == 0 {
            return Err(EngineError::NotRunning(
                "the workers have stopped".to_owned(),
            ));
        }
        let epoch = table.epoch;
        shared.publish(Arc::new(table));
        if shared.wait_adopted(epoch, ADOPTION_LIMIT) || shared.draining.load(SeqCst) {
            Ok(epoch)
        } else {
            Err(EngineError::NotRunning(
                "a worker did not adopt the table in time".to_owned(),
            ))
        }
    }

    /// Stops accepting and closes what is idle; everything after `grace`.
    ///
    /// # Errors
    /// `NotRunning` before `start`.
    pub fn shutdown(&self, grace: Duration) -> Result<(), EngineError> {
        let shared = self.shared()?;
        let deadline = shared.clock.micros() / 1000 + grace.as_millis() as u64;
        shared.drain_deadline.store(deadline, SeqCst);
        shared.draining.store(true, SeqCst);
        for listener in shared.config.pools.iter().flat_map(|pool| &pool.listeners) {
            sys::stop_listening(listener);
        }
        shared.wake_all();
        Ok(())
    }

    /// With `paused`, waits for writes in flight; false if some are left after `ADOPTION_LIMIT`.
    ///
    /// # Errors
    /// `NotRunning` before `start`, `Value` for a shard that does not exist.
    pub fn set_paused(&self, pool: usize, shard: usize, paused: bool) -> Result<bool, EngineError> {
        let shared = self.shared()?;
        let flags = shared.shards.get(pool).and_then(|shards| shards.get(shard));
        let Some(flags) = flags else {
            return Err(EngineError::Value(format!(
                "there is no shard {shard} in pool {pool}"
            )));
        };
        flags.paused.store(paused, SeqCst);
        let pause = shared.pauses.fetch_add(u64::from(paused), SeqCst) + u64::from(paused);
        shared.wake_all();
        Ok(!paused || shared.wait_quiet(pause, ADOPTION_LIMIT))
    }

    /// # Errors
    /// `NotRunning` before `start`.
    pub fn fileno(&self) -> Result<RawFd, EngineError> {
        Ok(self.shared()?.events_wake.raw())
    }

    /// Sums over all workers.
    ///
    /// # Errors
    /// `NotRunning` before `start`.
    pub fn statistics(&self) -> Result<Vec<Sample>, EngineError> {
        let shared = self.shared()?;
        let table = shared.table();
        let mut samples = Vec::new();
        for (p, pool) in shared.config.pools.iter().enumerate() {
            pool_samples(&shared, p, pool.protocol, &pool.name, &mut samples);
            for (s, shard) in table.pools[p].shards.iter().enumerate() {
                let name = &table.pools[p].spec.shards[s].0;
                for (b, backend) in shard.backends.iter().enumerate() {
                    let labels = vec![pool.name.clone(), name.clone(), backend.name.clone()];
                    for (i, metric) in BACKEND_METRICS.iter().enumerate() {
                        let sum: u64 = shared
                            .stats
                            .iter()
                            .map(|stats| stats.backends[p][s][b].at(i).get())
                            .sum();
                        samples.push(sample(metric.name, labels.clone(), sum as f64));
                    }
                }
            }
        }
        Ok(samples)
    }
}

fn stopped(table_epoch: u64) -> Event {
    Event {
        kind: EventKind::Stopped,
        pool: 0,
        shard: 0,
        backend: 0,
        table_epoch,
        detail: String::new(),
        data: Vec::new(),
    }
}

fn sample(name: &'static str, labels: Vec<String>, value: f64) -> Sample {
    Sample {
        name,
        labels,
        value,
        buckets: Vec::new(),
    }
}

fn command_names(protocol: Protocol) -> Vec<String> {
    match protocol {
        Protocol::Redis => {
            let names = command::ROWS.iter().map(|row| row.lower_name());
            names.chain(["other".to_owned()]).collect()
        }
        Protocol::Memcached => VERBS.iter().map(|row| row.name.to_owned()).collect(),
    }
}

fn pool_samples(
    shared: &Shared,
    p: usize,
    protocol: Protocol,
    name: &str,
    samples: &mut Vec<Sample>,
) {
    let pools = || shared.stats.iter().map(|stats| &stats.pools[p]);
    for (i, metric) in POOL_METRICS.iter().enumerate() {
        let sum: u64 = pools().map(|pool| pool.at(i).get()).sum();
        samples.push(sample(metric.name, vec![name.to_owned()], sum as f64));
    }
    for (id, command) in command_names(protocol).into_iter().enumerate() {
        for (result, text) in ["ok", "error"].into_iter().enumerate() {
            let sum: u64 = pools().map(|pool| pool.commands[id][result].get()).sum();
            if sum > 0 {
                let labels = vec![name.to_owned(), command.clone(), text.to_owned()];
                samples.push(sample(COMMAND_METRIC.name, labels, sum as f64));
            }
        }
    }
    for (class, text) in CLASSES.into_iter().enumerate() {
        let bucket = |i: usize| {
            pools()
                .map(|pool| pool.durations[class].buckets[i].get())
                .sum()
        };
        let micros: u64 = pools()
            .map(|pool| pool.durations[class].sum_micros.get())
            .sum();
        samples.push(Sample {
            name: DURATION_METRIC.name,
            labels: vec![name.to_owned(), text.to_owned()],
            value: micros as f64 / 1e6,
            buckets: (0..=BOUNDS_MICROS.len()).map(bucket).collect(),
        });
    }
}

/// The counters of one worker.
pub fn worker_stats(config: &Config, table: &Table) -> WorkerStats {
    let commands = |protocol| match protocol {
        // And one for all that were learned.
        Protocol::Redis => command::ROWS.len() + 1,
        Protocol::Memcached => VERBS.len(),
    };
    WorkerStats {
        pools: config
            .pools
            .iter()
            .map(|pool| PoolStats::new(commands(pool.protocol)))
            .collect(),
        backends: table
            .pools
            .iter()
            .map(|pool| {
                let backends = |shard: &crate::route::Shard| {
                    shard.backends.iter().map(|_| BackendStats::new()).collect()
                };
                pool.shards.iter().map(backends).collect()
            })
            .collect(),
    }
}
