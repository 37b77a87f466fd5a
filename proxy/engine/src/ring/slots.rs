//! Redis Cluster's 16384 slots: CRC-16 of the key (or of its hash tag) modulo 16384.
//!
//! Shards own contiguous ranges in configuration order. With `W` the sum of all weights, the shard
//! whose predecessors weigh `b` together and that weighs `w` owns the slots from
//! `round(16384 * b / W)` to just before `round(16384 * (b + w) / W)`, halves rounded up. For equal
//! weights these are the ranges that `redis-cli --cluster create` deals out.

use super::tagged_range;
use crate::hash::crc16;

/// Number of slots.
pub const SLOTS: usize = 16384;

/// The hash tag of the cluster specification.
pub const HASH_TAG: (u8, u8) = (b'{', b'}');

/// Owner of each slot.
#[derive(Clone, Debug)]
pub struct SlotMap {
    owners: Box<[u16]>,
}

impl SlotMap {
    /// Deals the slots out.
    ///
    /// # Errors
    /// A shard would get no slot.
    pub fn new(shards: &[(String, u32)]) -> Result<SlotMap, String> {
        let total: u64 = shards.iter().map(|shard| u64::from(shard.1)).sum();
        let mut owners = Vec::with_capacity(SLOTS);
        let mut weight_so_far = 0;
        for (position, (label, weight)) in shards.iter().enumerate() {
            weight_so_far += u64::from(*weight);
            let end = (2 * SLOTS as u64 * weight_so_far + total) / (2 * total);
            let end = end as usize;
            if end == owners.len() {
                return Err(format!(
                    "shard {label:?} gets none of the {SLOTS} slots: too many shards, or too small a weight"
                ));
            }
            // Fits: every shard before this one has a slot, so there are at most 16384.
            owners.resize(end, position as u16);
        }
        Ok(SlotMap {
            owners: owners.into_boxed_slice(),
        })
    }

    /// The same slots, each given to the shard that `owners` has at its owner's place.
    pub fn handed(&self, owners: &[u32]) -> SlotMap {
        let hand = |owner: &u16| owners[usize::from(*owner)] as u16;
        SlotMap {
            owners: self.owners.iter().map(hand).collect(),
        }
    }

    #[inline]
    pub fn shard(&self, slot: usize) -> usize {
        usize::from(self.owners[slot])
    }
}

/// The slot of a key, its hash tag looked for.
pub fn slot_of_key(key: &[u8]) -> usize {
    slot_of(&key[tagged_range(HASH_TAG, key)])
}

/// The slot of a key from which the hash tag was already taken.
#[inline]
pub fn slot_of(part: &[u8]) -> usize {
    crc16(part) as usize % SLOTS
}
