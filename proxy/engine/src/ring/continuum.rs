//! Points on a circle of 32-bit numbers: a hash belongs to the first point at or after it.
//!
//! Used by `ring` for the ketama family. Holds shard positions only; labels serve to place the
//! points and are then forgotten.

#[cfg(test)]
mod tests;

use crate::hash::{md5_words, HashKind};

/// Points of one shard of average weight: 40 digests of 4 points (twemproxy, libmemcached weighted).
const POINTS_PER_SHARD: f32 = 160.0;
const POINTS_PER_DIGEST: u32 = 4;
/// Points of each shard in libmemcached without weights, each from a hash of its own.
const POINTS_PER_SHARD_UNWEIGHTED: u32 = 100;

/// Bounds of the bucket index. Two to four buckets per point keep a lookup at one or two probes;
/// more would only push a small ring out of the first-level cache.
const BUCKETS_MIN: usize = 1 << 8;
const BUCKETS_MAX: usize = 1 << 16;
const BUCKETS_PER_POINT: usize = 2;

/// Buckets with more points than this are searched by halves. Only a lopsided hash makes such
/// buckets: with libmemcached's crc32 all points lie below 32768, in one bucket.
const LINEAR_PROBES: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Point {
    value: u32,
    shard: u32,
}

/// Sorted points and an index over the upper bits of their values.
#[derive(Clone, Debug)]
pub struct Continuum {
    /// By value, then by shard: of two shards on one point the first in the configuration owns it,
    /// as in libmemcached. (twemproxy sorts by value alone with glibc's stable sort: the same.)
    points: Box<[Point]>,
    /// For each bucket the first point at or after the bucket's first value, and one entry more.
    buckets: Box<[u32]>,
    /// A hash shifted right by this is its bucket.
    shift: u32,
}

impl Continuum {
    /// twemproxy's ketama and libmemcached's weighted one.
    pub fn weighted(shards: &[(String, u32)]) -> Continuum {
        let total: u64 = shards.iter().map(|shard| u64::from(shard.1)).sum();
        let mut points = Vec::new();
        for (position, (label, weight)) in shards.iter().enumerate() {
            let digests = weighted_points(*weight, total, shards.len()) / POINTS_PER_DIGEST;
            for_each_point_label(label, digests, |name| {
                points.extend(md5_words(name).map(|value| Point {
                    value,
                    shard: position as u32,
                }));
            });
        }
        Continuum::from_points(points)
    }

    /// libmemcached's ketama without weights: `hash` places the points too.
    pub fn unweighted(shards: &[(String, u32)], hash: HashKind) -> Continuum {
        let mut points = Vec::new();
        for (position, (label, _)) in shards.iter().enumerate() {
            for_each_point_label(label, POINTS_PER_SHARD_UNWEIGHTED, |name| {
                points.push(Point {
                    value: hash.hash(name),
                    shard: position as u32,
                });
            });
        }
        Continuum::from_points(points)
    }

    fn from_points(mut points: Vec<Point>) -> Continuum {
        points.sort_unstable();
        let count = (points.len() * BUCKETS_PER_POINT)
            .next_power_of_two()
            .clamp(BUCKETS_MIN, BUCKETS_MAX);
        let shift = 32 - count.trailing_zeros();
        let mut buckets = Vec::with_capacity(count + 1);
        let mut next = 0;
        for bucket in 0..count as u32 {
            while next < points.len() && points[next].value < bucket << shift {
                next += 1;
            }
            buckets.push(next as u32);
        }
        buckets.push(points.len() as u32);
        // The circle closes: a hash beyond the last point belongs to the first.
        let first = points[0];
        points.push(first);
        Continuum {
            points: points.into_boxed_slice(),
            buckets: buckets.into_boxed_slice(),
            shift,
        }
    }

    /// The shard that owns `hash`.
    #[inline]
    pub fn shard(&self, hash: u32) -> usize {
        let bucket = (hash >> self.shift) as usize;
        let start = self.buckets[bucket] as usize;
        let end = self.buckets[bucket + 1] as usize;
        let inside = &self.points[start..end];
        let before = if inside.len() <= LINEAR_PROBES {
            // At most a handful, so counting without branches beats leaving early.
            inside.iter().filter(|point| point.value < hash).count()
        } else {
            inside.partition_point(|point| point.value < hash)
        };
        self.points[start + before].shard as usize
    }

    /// The same points, those of absent shards given to the next present one behind them.
    pub fn without(&self, absent: &[bool]) -> Continuum {
        let mut points = self.points.clone();
        // The last point is the first again, so the walk begins with whoever takes over at the end.
        let is_present = |point: &&Point| !absent[point.shard as usize];
        let Some(mut next) = points.iter().find(is_present).map(|point| point.shard) else {
            return self.clone();
        };
        for point in points.iter_mut().rev() {
            if absent[point.shard as usize] {
                point.shard = next;
            }
            next = point.shard;
        }
        Continuum {
            points,
            buckets: self.buckets.clone(),
            shift: self.shift,
        }
    }

    /// Points of each shard, for tests and for whoever wants to see the shares.
    #[cfg(test)]
    pub fn counts(&self, shards: usize) -> Vec<usize> {
        let mut counts = vec![0; shards];
        for point in &self.points[..self.points.len() - 1] {
            counts[point.shard as usize] += 1;
        }
        counts
    }

    #[cfg(test)]
    pub fn from_pairs(pairs: &[(u32, u32)]) -> Continuum {
        let point = |&(value, shard)| Point { value, shard };
        Continuum::from_points(pairs.iter().map(point).collect())
    }

    /// The slow and obvious lookup that `shard` is tested against.
    #[cfg(test)]
    pub fn shard_by_scan(&self, hash: u32) -> usize {
        let points = &self.points[..self.points.len() - 1];
        let owner = points.iter().find(|point| point.value >= hash);
        owner.unwrap_or(&points[0]).shard as usize
    }
}

/// Points of a shard of `weight`, a multiple of 4.
///
/// In 32-bit floats like both programs: the exact result for equal weights is always 160, but the
/// floats fall short of it at 25, 47, 50, 55, ... shards, which then get 156 points each.
fn weighted_points(weight: u32, total: u64, shards: usize) -> u32 {
    let share = weight as f32 / total as f32;
    let digests = share * POINTS_PER_SHARD / POINTS_PER_DIGEST as f32 * shards as f32;
    // The nudge is part of the original formula; it is lost in rounding for all but tiny shares.
    let digests = (f64::from(digests) + 1e-10) as f32;
    digests.floor() as u32 * POINTS_PER_DIGEST
}

/// Calls `place` with `label-0`, `label-1`, ... up to `count` of them.
fn for_each_point_label(label: &str, count: u32, mut place: impl FnMut(&[u8])) {
    let mut name = String::with_capacity(label.len() + 11);
    for number in 0..count {
        name.clear();
        name.push_str(label);
        name.push('-');
        name.push_str(&number.to_string());
        place(name.as_bytes());
    }
}
