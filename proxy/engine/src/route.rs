//! The routing table: one immutable version of who owns what.
//!
//! Built from values the control plane decided (`py.rs`), checked here, handed to every worker as an
//! `Arc` and swapped whole. A request uses one version from beginning to end. No IO.

mod leads;

use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::ring::{Ring, RingSpec};
use crate::sys::Address;

pub use leads::Leads;

/// Replicas per shard: sets of them are 16-bit masks.
pub const MAX_BACKENDS: usize = 16;

/// One backend of a shard.
#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    /// As configured; a metric label.
    pub name: String,
    pub address: Address,
    /// What a new connection sends first, and what each reply must contain.
    pub verify: Vec<(Vec<u8>, Vec<u8>)>,
}

/// One shard, seen at one moment. Positions are positions in `backends`.
#[derive(Clone, Debug)]
pub struct Shard {
    pub backends: Vec<Backend>,
    pub lead: Option<u8>,
    pub in_sync: u16,
    /// Those that get every write behind the leader's answer, and are not read from.
    pub joining: u16,
    /// Milliseconds for which what a backend has shown on a connection holds; 0 for ever.
    pub lease: u64,
    /// Epoch of the view since which somebody else may lead than before, and whether who did may still serve
    /// proxies that have not heard of it.
    pub succession: u64,
    pub succeeds: bool,
    pub reads: Vec<u8>,
    pub spread: bool,
    pub epoch: u64,
    pub restore: Vec<u8>,
    /// Keys of our own that may stand on its backends (Redis), in database 0.
    pub reserved: Vec<Vec<u8>>,
}

impl Shard {
    /// True if writes must be ordered over several backends, now or after the next publication.
    #[inline]
    pub fn is_replicated(&self) -> bool {
        self.backends.len() > 1
    }

    /// Everybody that a write goes to.
    #[inline]
    pub fn members(&self) -> u16 {
        self.in_sync | self.joining
    }
}

/// A shard of any pool: the position of the pool, and its own in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Spot {
    pub pool: u16,
    pub shard: u16,
}

#[derive(Clone, Debug)]
pub struct Pool {
    pub spec: RingSpec,
    /// Keys that clients of this pool name and that another one has.
    pub leads: Leads,
    /// Without the absent shards.
    pub ring: Arc<Ring>,
    /// By shard: its keys are with others, and nothing is asked of it.
    pub absent: Box<[bool]>,
    pub shards: Vec<Shard>,
}

#[derive(Clone, Debug)]
pub struct Table {
    pub epoch: u64,
    pub pools: Vec<Pool>,
}

impl Shard {
    /// Checks positions.
    ///
    /// # Errors
    /// A text that names what is out of range.
    pub fn check(&self) -> Result<(), String> {
        let count = self.backends.len();
        if count == 0 || count > MAX_BACKENDS {
            return Err(format!(
                "a shard has 1 to {MAX_BACKENDS} backends, not {count}"
            ));
        }
        if self.in_sync >> count != 0 {
            return Err("in_sync names a backend that the shard does not have".to_owned());
        }
        if self.joining >> count != 0 || self.joining & self.in_sync != 0 {
            return Err(
                "joining names a backend that is in sync or that the shard does not have"
                    .to_owned(),
            );
        }
        if let Some(lead) = self.lead {
            if self.in_sync & (1 << lead) == 0 {
                return Err(format!("lead {lead} is not in in_sync"));
            }
        }
        match self
            .reads
            .iter()
            .find(|read| self.in_sync & (1 << **read) == 0)
        {
            Some(read) => Err(format!("reads names {read}, which is not in in_sync")),
            None => Ok(()),
        }
    }
}

impl Table {
    /// Checks what names other pools.
    ///
    /// # Errors
    /// A text that names what is out of range.
    pub fn check(&self) -> Result<(), String> {
        for (at, pool) in self.pools.iter().enumerate() {
            if let Some(lead) = pool
                .leads
                .pools()
                .find(|to| usize::from(*to) >= self.pools.len())
            {
                return Err(format!(
                    "pool {at} leads to pool {lead}, which there is not"
                ));
            }
            if pool.leads.pools().any(|to| usize::from(to) == at) {
                return Err(format!("pool {at} leads to itself"));
            }
        }
        Ok(())
    }

    /// The shard that has a key which a client of the pool names. A pool that was led to places it as its own
    /// clients find it, but leads no further, so that no key goes round in circles.
    ///
    /// `entropy` as for `Ring::shard`.
    #[inline]
    pub fn spot(&self, pool: u16, key: &[u8], entropy: &mut u32) -> Spot {
        let own = &self.pools[pool as usize];
        if !own.leads.is_empty() {
            if let Some((pool, _)) = own.leads.find(key) {
                let shard = self.pools[pool as usize].ring.shard(key, entropy) as u16;
                return Spot { pool, shard };
            }
        }
        let shard = own.ring.shard(key, entropy) as u16;
        Spot { pool, shard }
    }

    /// The shard of all keys that a pattern stands for, as `Ring::shard_of_pattern`; None if they may be on
    /// several.
    pub fn spot_of_pattern(&self, pool: u16, pattern: &[u8]) -> Option<Spot> {
        let fixed = pattern.split(|&byte| byte == b'*').next()?;
        let led = self.pools[pool as usize].leads.of_all(fixed)?;
        let pool = led.unwrap_or(pool);
        let shard = self.pools[pool as usize].ring.shard_of_pattern(pattern)?;
        let shard = shard as u16;
        Some(Spot { pool, shard })
    }

    /// True if keys that clients of `pool` name may be elsewhere in `other`, since one of the rings they go by
    /// is another one.
    pub fn has_moved(&self, other: &Table, pool: u16) -> bool {
        let own = std::iter::once(pool);
        own.chain(self.pools[pool as usize].leads.pools())
            .any(|at| {
                !Arc::ptr_eq(
                    &self.pools[at as usize].ring,
                    &other.pools[at as usize].ring,
                )
            })
    }

    /// True if `other` has the same pools, shards and backends by position, so that it can follow.
    pub fn same_shape(&self, other: &Table) -> bool {
        self.pools.len() == other.pools.len()
            && self.pools.iter().zip(&other.pools).all(|(a, b)| {
                a.shards.len() == b.shards.len()
                    && a.shards
                        .iter()
                        .zip(&b.shards)
                        .all(|(a, b)| a.backends.len() == b.backends.len())
            })
    }
}

/// A ring in use, what it was built from, and without whom.
type Known = (RingSpec, Box<[bool]>, Weak<Ring>);

static RINGS: Mutex<Vec<Known>> = Mutex::new(Vec::new());

/// The ring of a placement without the `absent` shards (by position; empty for nobody): the one in use
/// if there is one, else a new one. Tables are made anew for every change of membership, and a ring of
/// a thousand shards has 160,000 points.
///
/// # Errors
/// What `Ring::build` says.
pub fn ring_for(spec: &RingSpec, absent: &[bool]) -> Result<Arc<Ring>, String> {
    if !absent.contains(&true) {
        return remember(spec, &[], || Ring::build(spec));
    }
    let whole = ring_for(spec, &[])?;
    remember(spec, absent, || Ok(whole.without(absent)))
}

fn remember(
    spec: &RingSpec,
    absent: &[bool],
    build: impl FnOnce() -> Result<Ring, String>,
) -> Result<Arc<Ring>, String> {
    let mut rings = RINGS.lock().unwrap_or_else(PoisonError::into_inner);
    rings.retain(|(.., ring)| ring.strong_count() > 0);
    let known = rings
        .iter()
        .find(|(known, without, _)| **without == *absent && known == spec);
    if let Some(ring) = known.and_then(|(.., ring)| ring.upgrade()) {
        return Ok(ring);
    }
    let ring = Arc::new(build()?);
    rings.push((spec.clone(), absent.into(), Arc::downgrade(&ring)));
    Ok(ring)
}
