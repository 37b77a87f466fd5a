//! A ring some of whose shards are absent: their keys, and no others, go to the next that is present.
//!
//! What is "next" is each distribution's own order: the next point for the ketama family, the next
//! highest score for rendezvous, the next shard in the list for all that count shards (modula, slots,
//! jump); random chooses among the rest. In all of them a key whose owner is present stays where it is,
//! and one that moved moves on only when the shard it moved to is absent as well, whatever else is.
//!
//! The result is a ring like any other, so a lookup costs what it did before.

use super::{Placement, Ring};

impl Ring {
    /// The ring without the shards at which `absent` is true; the same ring if that is all of them.
    pub fn without(&self, absent: &[bool]) -> Ring {
        let mut ring = self.clone();
        let Some(owners) = heirs(absent) else {
            return ring;
        };
        ring.routes = self.routes.without(absent);
        ring.placement = match &self.placement {
            Placement::Lone => Placement::Lone,
            Placement::Continuum(continuum) => Placement::Continuum(continuum.without(absent)),
            Placement::Modula(table) => {
                let hand = |shard: &u32| owners[*shard as usize];
                Placement::Modula(table.iter().map(hand).collect())
            }
            Placement::Random(choices) => {
                let present = |shard: &&u32| !absent[**shard as usize];
                Placement::Random(choices.iter().filter(present).copied().collect())
            }
            Placement::Rendezvous(nodes) => Placement::Rendezvous(nodes.without(absent)),
            Placement::Slots(slots) => Placement::Slots(slots.handed(&owners)),
            Placement::Jump(_) | Placement::JumpOver(_) => Placement::JumpOver(owners),
        };
        ring
    }
}

/// For each shard itself if it is present, else the next in the list that is; None if nobody is.
fn heirs(absent: &[bool]) -> Option<Box<[u32]>> {
    let mut next = absent.iter().position(|is_absent| !is_absent)? as u32;
    let mut owners = vec![0; absent.len()].into_boxed_slice();
    for (shard, is_absent) in absent.iter().enumerate().rev() {
        if !is_absent {
            next = shard as u32;
        }
        owners[shard] = next;
    }
    Some(owners)
}
