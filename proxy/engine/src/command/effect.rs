//! How a write reaches the other replicas, where the arguments decide it.
//!
//! Called for each write to a shard with replicas. The rules follow what Redis sends its own
//! replicas: where it rewrites a command into its effect, the same bytes would diverge.

use super::keys::sort_store;
use super::overlay::{Effect, EffectRule};
use super::table::Row;
use crate::proto::Args;

impl Row {
    /// Whether the same bytes may go to every replica, or the state of the keys has to travel.
    #[inline]
    pub fn effect_of(&self, args: &Args<'_>) -> Effect {
        let verbatim = match self.effect {
            EffectRule::Always(effect) => return effect,
            EffectRule::StreamAdd => stream_add_is_exact(args),
            EffectRule::StreamTrim => !args.get(3).eq_ignore_ascii_case(b"~"),
            EffectRule::SortStore => sort_store(args).is_none(),
            EffectRule::GetExpire => !has_relative_time(args),
        };
        if verbatim {
            Effect::Verbatim
        } else {
            Effect::State
        }
    }
}

/// XADD key [NOMKSTREAM] [MAXLEN|MINID [=|~] threshold [LIMIT count]] id field value ...: exact if
/// the id is given whole and nothing is trimmed "about".
fn stream_add_is_exact(args: &Args<'_>) -> bool {
    let mut at = 2;
    while at < args.len() {
        let word = args.get(at);
        let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
        if is(b"NOMKSTREAM") {
            at += 1;
        } else if is(b"LIMIT") {
            at += 2;
        } else if is(b"MAXLEN") || is(b"MINID") {
            match args.get(at + 1) {
                b"~" => return false,
                b"=" => at += 3,
                _ => at += 2,
            }
        } else {
            return !word.ends_with(b"*");
        }
    }
    // No id at all: every server refuses it alike.
    true
}

fn has_relative_time(args: &Args<'_>) -> bool {
    (2..args.len())
        .any(|i| args.get(i).eq_ignore_ascii_case(b"EX") || args.get(i).eq_ignore_ascii_case(b"PX"))
}
