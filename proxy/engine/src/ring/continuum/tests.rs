//! Points per shard, and that the index answers as a plain scan of the points would.

use super::*;
use crate::ring::xorshift;

const SEED: u32 = 0x5eed_4321;

fn shards(weights: &[u32]) -> Vec<(String, u32)> {
    let shard = |(i, &weight): (usize, &u32)| (format!("shard{i}"), weight);
    weights.iter().enumerate().map(shard).collect()
}

#[test]
fn ketama_points_follow_32_bit_floats() {
    for (count, points) in [
        (1, 160),
        (24, 160),
        (25, 156),
        (26, 160),
        (47, 156),
        (200, 156),
    ] {
        let ring = Continuum::weighted(&shards(&vec![1; count]));
        assert_eq!(
            ring.counts(count),
            vec![points; count],
            "{count} shards of one weight"
        );
    }
    let ring = Continuum::weighted(&shards(&[1, 2, 3]));
    assert_eq!(ring.counts(3), [80, 160, 240]);
    // A share below a 160th of the average gets no point at all; twemproxy does the same.
    let ring = Continuum::weighted(&shards(&[1, 1000]));
    assert_eq!(ring.counts(2), [0, 316]);
    let ring = Continuum::unweighted(&shards(&[1; 3]), HashKind::Md5);
    assert_eq!(ring.counts(3), [100; 3]);
}

#[test]
fn a_hash_belongs_to_the_first_point_at_or_after_it() {
    let ring = Continuum::from_pairs(&[(100, 1), (0x8000_0000, 2), (0x8000_0001, 0)]);
    for (hash, shard) in [
        (0, 1),
        (100, 1),
        (101, 2),
        (0x8000_0000, 2),
        (0x8000_0001, 0),
        (0x8000_0002, 1),
        (u32::MAX, 1),
    ] {
        assert_eq!(ring.shard(hash), shard, "{hash:#x}");
    }
    let ring = Continuum::from_pairs(&[(u32::MAX, 3), (0, 4)]);
    assert_eq!(
        (ring.shard(0), ring.shard(1), ring.shard(u32::MAX)),
        (4, 3, 3)
    );
}

#[test]
fn of_two_shards_on_one_point_the_first_owns_it() {
    for pairs in [&[(7, 2), (7, 1), (9, 0)], &[(7, 1), (9, 0), (7, 2)]] {
        let ring = Continuum::from_pairs(pairs);
        assert_eq!(ring.shard(7), 1);
        assert_eq!(ring.shard(3), 1);
        assert_eq!(ring.shard(8), 0);
    }
}

#[test]
fn the_index_finds_what_a_scan_finds() {
    let mut state = SEED;
    for points in [1, 2, 9, 160, 4000, 200_000] {
        // Some clustered, so that buckets with many points are searched too.
        let pairs: Vec<(u32, u32)> = (0..points)
            .map(|i| {
                let value = xorshift(&mut state);
                (if i % 3 == 0 { value >> 20 } else { value }, i % 17)
            })
            .collect();
        let ring = Continuum::from_pairs(&pairs);
        for _ in 0..300 {
            let random = xorshift(&mut state);
            let known = pairs[random as usize % pairs.len()].0;
            let near = [known, known.wrapping_add(1), known.wrapping_sub(1)];
            for hash in near.into_iter().chain([random, random >> 20, 0, u32::MAX]) {
                assert_eq!(
                    ring.shard(hash),
                    ring.shard_by_scan(hash),
                    "{points} points, hash {hash:#x}, seed {SEED:#x}"
                );
            }
        }
    }
}
