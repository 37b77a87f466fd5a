//! The key hashes of twemproxy, bit for bit as it computes them on x86.
//!
//! `ring` calls this to place keys; the control plane calls it through `hash_key`. It knows
//! nothing of shards. Several functions carry the name of a well-known hash but not its value;
//! whoever moves a cache here needs twemproxy's value, so each such difference stands beside its
//! function. libmemcached's functions of the same names agree (golden vectors for both programs
//! are in `tests/vectors/`).

#[cfg(test)]
mod tests;

use md5::{Digest, Md5};

/// A function from keys to 32-bit numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HashKind {
    OneAtATime,
    Md5,
    Crc16,
    Crc32,
    Crc32a,
    Fnv1_64,
    Fnv1a64,
    Fnv1_32,
    Fnv1a32,
    Hsieh,
    Murmur,
    Jenkins,
}

impl HashKind {
    /// Every hash and the name it has in configurations; the names are twemproxy's.
    pub const ALL: &'static [(&'static str, HashKind)] = &[
        ("one_at_a_time", HashKind::OneAtATime),
        ("md5", HashKind::Md5),
        ("crc16", HashKind::Crc16),
        ("crc32", HashKind::Crc32),
        ("crc32a", HashKind::Crc32a),
        ("fnv1_64", HashKind::Fnv1_64),
        ("fnv1a_64", HashKind::Fnv1a64),
        ("fnv1_32", HashKind::Fnv1_32),
        ("fnv1a_32", HashKind::Fnv1a32),
        ("hsieh", HashKind::Hsieh),
        ("murmur", HashKind::Murmur),
        ("jenkins", HashKind::Jenkins),
    ];

    /// The hash of that name, exactly as written in `ALL`.
    pub fn parse(name: &str) -> Option<HashKind> {
        let row = HashKind::ALL.iter().find(|row| row.0 == name)?;
        Some(row.1)
    }

    /// The name that `parse` takes.
    pub fn name(self) -> &'static str {
        let row = HashKind::ALL.iter().find(|row| row.1 == self);
        row.expect("ALL lists every hash").0
    }

    /// The 32-bit hash of `key`. An empty key is hashed like any other.
    #[inline]
    pub fn hash(self, key: &[u8]) -> u32 {
        match self {
            HashKind::OneAtATime => one_at_a_time(key),
            HashKind::Md5 => md5_words(key)[0],
            HashKind::Crc16 => crc16(key),
            // The register is inverted, but only 15 bits of it are the result.
            HashKind::Crc32 => (crc32a(key) >> 16) & 0x7fff,
            HashKind::Crc32a => crc32a(key),
            HashKind::Fnv1_64 => fnv1(key, FNV_64_BASIS_LOW, FNV_64_PRIME_LOW),
            HashKind::Fnv1a64 => fnv1a(key, FNV_64_BASIS_LOW, FNV_64_PRIME_LOW),
            HashKind::Fnv1_32 => fnv1(key, FNV_32_BASIS, FNV_32_PRIME),
            HashKind::Fnv1a32 => fnv1a(key, FNV_32_BASIS, FNV_32_PRIME),
            HashKind::Hsieh => hsieh(key),
            HashKind::Murmur => murmur2(key),
            HashKind::Jenkins => jenkins(key),
        }
    }
}

/// The MD5 of `data` as four little-endian words; ketama takes four points from one digest.
#[inline]
pub fn md5_words(data: &[u8]) -> [u32; 4] {
    let digest = Md5::digest(data);
    std::array::from_fn(|i| little_endian_word(&digest[4 * i..4 * i + 4]))
}

/// A byte as C's `char` on x86 widens to an unsigned word: 0x80 and above get their upper 24 bits
/// set. On ARM, where `char` is unsigned, twemproxy itself places such keys elsewhere; we follow x86.
#[inline]
fn sign_extended(byte: u8) -> u32 {
    byte as i8 as u32
}

#[inline]
fn little_endian_word(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

#[inline]
fn little_endian_half(bytes: &[u8]) -> u32 {
    u32::from(u16::from_le_bytes([bytes[0], bytes[1]]))
}

fn one_at_a_time(key: &[u8]) -> u32 {
    let mut hash = 0u32;
    for &byte in key {
        hash = hash.wrapping_add(sign_extended(byte));
        hash = hash.wrapping_add(hash << 10);
        hash ^= hash >> 6;
    }
    hash = hash.wrapping_add(hash << 3);
    hash ^= hash >> 11;
    hash.wrapping_add(hash << 15)
}

const CRC16_TABLE: [u16; 256] = {
    let mut table = [0u16; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = (i as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            let carry = crc & 0x8000 != 0;
            crc <<= 1;
            if carry {
                crc ^= 0x1021;
            }
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
};

/// CRC-16/XMODEM in a 32-bit register that is never cut to 16 bits: the lower half is the real
/// CRC-16 (what Redis Cluster uses), the upper half is what was shifted out.
#[inline]
pub fn crc16(key: &[u8]) -> u32 {
    let mut crc = 0u32;
    for &byte in key {
        let row = ((crc >> 8) as u8) ^ byte;
        crc = (crc << 8) ^ u32::from(CRC16_TABLE[usize::from(row)]);
    }
    crc
}

const CRC32_TABLE: [u32; 256] = {
    let mut table = [0u32; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = i as u32;
        let mut bit = 0;
        while bit < 8 {
            let carry = crc & 1 != 0;
            crc >>= 1;
            if carry {
                crc ^= 0xedb8_8320;
            }
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
};

/// The CRC-32 of zip and Ethernet.
fn crc32a(key: &[u8]) -> u32 {
    let mut crc = !0u32;
    for &byte in key {
        crc = (crc >> 8) ^ CRC32_TABLE[usize::from(crc as u8 ^ byte)];
    }
    !crc
}

// Both "64-bit" FNVs return the lower half of a 64-bit state. Neither xor nor multiplication moves
// anything downwards, so a 32-bit state with the lower halves of basis and prime is the same.
const FNV_64_BASIS_LOW: u32 = 0x8422_2325;
const FNV_64_PRIME_LOW: u32 = 0x0000_01b3;
const FNV_32_BASIS: u32 = 0x811c_9dc5;
const FNV_32_PRIME: u32 = 0x0100_0193;

#[inline]
fn fnv1(key: &[u8], basis: u32, prime: u32) -> u32 {
    key.iter().fold(basis, |hash, &byte| {
        hash.wrapping_mul(prime) ^ sign_extended(byte)
    })
}

#[inline]
fn fnv1a(key: &[u8], basis: u32, prime: u32) -> u32 {
    key.iter().fold(basis, |hash, &byte| {
        (hash ^ sign_extended(byte)).wrapping_mul(prime)
    })
}

/// Hsieh's SuperFastHash with a zero seed (his own starts from the length).
fn hsieh(key: &[u8]) -> u32 {
    let mut hash = 0u32;
    let mut quads = key.chunks_exact(4);
    for quad in &mut quads {
        hash = hash.wrapping_add(little_endian_half(quad));
        let mixed = (little_endian_half(&quad[2..]) << 11) ^ hash;
        hash = (hash << 16) ^ mixed;
        hash = hash.wrapping_add(hash >> 11);
    }
    match quads.remainder() {
        rest @ [_, _, last] => {
            hash = hash.wrapping_add(little_endian_half(rest));
            hash ^= hash << 16;
            // The one place where this hash reads a signed byte.
            hash ^= sign_extended(*last) << 18;
            hash = hash.wrapping_add(hash >> 11);
        }
        rest @ [_, _] => {
            hash = hash.wrapping_add(little_endian_half(rest));
            hash ^= hash << 11;
            hash = hash.wrapping_add(hash >> 17);
        }
        [byte] => {
            hash = hash.wrapping_add(u32::from(*byte));
            hash ^= hash << 10;
            hash = hash.wrapping_add(hash >> 1);
        }
        _ => {}
    }
    hash ^= hash << 3;
    hash = hash.wrapping_add(hash >> 5);
    hash ^= hash << 4;
    hash = hash.wrapping_add(hash >> 17);
    hash ^= hash << 25;
    hash.wrapping_add(hash >> 6)
}

/// MurmurHash2; the seed depends on the length.
fn murmur2(key: &[u8]) -> u32 {
    const MIX: u32 = 0x5bd1_e995;
    let len = key.len() as u32;
    let mut hash = 0xdead_beef_u32.wrapping_mul(len) ^ len;
    let mut words = key.chunks_exact(4);
    for word in &mut words {
        let mut k = little_endian_word(word).wrapping_mul(MIX);
        k ^= k >> 24;
        hash = hash.wrapping_mul(MIX) ^ k.wrapping_mul(MIX);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (i, &byte) in rest.iter().enumerate() {
            hash ^= u32::from(byte) << (8 * i);
        }
        hash = hash.wrapping_mul(MIX);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MIX);
    hash ^ (hash >> 15)
}

/// Bob Jenkins's lookup3 (`hashlittle`) with the initial value 13.
fn jenkins(key: &[u8]) -> u32 {
    let start = 0xdead_beef_u32
        .wrapping_add(key.len() as u32)
        .wrapping_add(13);
    let (mut a, mut b, mut c) = (start, start, start);
    let mut rest = key;
    // The last block, even a full one, gets the final mixing instead of this.
    while rest.len() > 12 {
        a = a.wrapping_add(little_endian_word(&rest[0..4]));
        b = b.wrapping_add(little_endian_word(&rest[4..8]));
        c = c.wrapping_add(little_endian_word(&rest[8..12]));
        for (turn_a, turn_b, turn_c) in [(4, 6, 8), (16, 19, 4)] {
            a = a.wrapping_sub(c) ^ c.rotate_left(turn_a);
            c = c.wrapping_add(b);
            b = b.wrapping_sub(a) ^ a.rotate_left(turn_b);
            a = a.wrapping_add(c);
            c = c.wrapping_sub(b) ^ b.rotate_left(turn_c);
            b = b.wrapping_add(a);
        }
        rest = &rest[12..];
    }
    if rest.is_empty() {
        return c;
    }
    let mut block = [0u8; 12];
    block[..rest.len()].copy_from_slice(rest);
    a = a.wrapping_add(little_endian_word(&block[0..4]));
    b = b.wrapping_add(little_endian_word(&block[4..8]));
    c = c.wrapping_add(little_endian_word(&block[8..12]));
    c = (c ^ b).wrapping_sub(b.rotate_left(14));
    a = (a ^ c).wrapping_sub(c.rotate_left(11));
    b = (b ^ a).wrapping_sub(a.rotate_left(25));
    c = (c ^ b).wrapping_sub(b.rotate_left(16));
    a = (a ^ c).wrapping_sub(c.rotate_left(4));
    b = (b ^ a).wrapping_sub(a.rotate_left(14));
    (c ^ b).wrapping_sub(b.rotate_left(24))
}
