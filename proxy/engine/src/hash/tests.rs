//! Check values: twemproxy's own unit test for `apple`, and published values of standard hashes.

use super::*;

/// What twemproxy's unit test expects for the key `apple`.
const APPLE: &[(&str, u32)] = &[
    ("one_at_a_time", 2297466611),
    ("md5", 3195025439),
    ("crc16", 3662830516),
    ("crc32", 10542),
    ("crc32a", 2838417488),
    ("fnv1_32", 67176023),
    ("fnv1a_32", 280767167),
    ("fnv1_64", 473199127),
    ("fnv1a_64", 1488911807),
    ("hsieh", 3738850110),
    ("jenkins", 1442444624),
    ("murmur", 4142305122),
];

#[test]
fn apple_hashes_as_in_twemproxys_own_test() {
    assert_eq!(APPLE.len(), HashKind::ALL.len());
    for &(name, expected) in APPLE {
        let kind = HashKind::parse(name).unwrap_or_else(|| panic!("no hash named {name}"));
        assert_eq!(kind.hash(b"apple"), expected, "{name}");
        assert_eq!(kind.name(), name);
    }
}

#[test]
fn names_are_exact() {
    for name in ["", "FNV1A_64", "fnv1a64", " md5", "sha1"] {
        assert_eq!(HashKind::parse(name), None, "{name:?}");
    }
}

#[test]
fn md5_words_are_those_of_ketama() {
    let words = md5_words(b"server1-8");
    assert_eq!((words[0], words[3]), (3853726576, 2667054752));
    // RFC 1321: MD5("") = d41d8cd98f00b204e9800998ecf8427e
    assert_eq!(
        md5_words(b""),
        [0xd98c1dd4, 0x04b2008f, 0x980980e9, 0x7e42f8ec]
    );
}

#[test]
fn crcs_have_their_published_check_values() {
    assert_eq!(crc16(b"123456789") & 0xffff, 0x31c3); // CRC-16/XMODEM
    assert_eq!(HashKind::Crc32a.hash(b"123456789"), 0xcbf43926); // CRC-32/ISO-HDLC
    assert_eq!(HashKind::Crc32.hash(b"123456789"), 0x4bf4); // 15 bits of the upper half
    assert!(crc16(b"123456789") > 0xffff, "crc16 is not cut to 16 bits");
}

#[test]
fn fnv_of_ascii_is_the_published_one() {
    assert_eq!(HashKind::Fnv1a32.hash(b"foobar"), 0xbf9cf968);
    assert_eq!(HashKind::Fnv1_32.hash(b"foobar"), 0x31f0b262);
    // FNV-1a-64("foobar") = 85944171f73967e8, FNV-1-64 = 340d8765a4dda9c2
    assert_eq!(HashKind::Fnv1a64.hash(b"foobar"), 0xf73967e8);
    assert_eq!(HashKind::Fnv1_64.hash(b"foobar"), 0xa4dda9c2);
}

#[test]
fn high_bytes_are_sign_extended() {
    let expected = (FNV_32_BASIS ^ 0xffff_ffff).wrapping_mul(FNV_32_PRIME);
    assert_eq!(HashKind::Fnv1a32.hash(b"\xff"), expected);
    let unsigned = (FNV_32_BASIS ^ 0xff).wrapping_mul(FNV_32_PRIME);
    assert_ne!(HashKind::Fnv1a32.hash(b"\xff"), unsigned);
    assert_eq!(
        HashKind::Fnv1_64.hash(b"\x80"),
        FNV_64_BASIS_LOW.wrapping_mul(FNV_64_PRIME_LOW) ^ 0xffff_ff80
    );
}

#[test]
fn empty_keys_have_the_value_of_the_bare_state() {
    assert_eq!(HashKind::Fnv1a64.hash(b""), FNV_64_BASIS_LOW);
    assert_eq!(HashKind::Jenkins.hash(b""), 0xdead_beef + 13);
    for kind in [
        HashKind::OneAtATime,
        HashKind::Crc16,
        HashKind::Crc32,
        HashKind::Crc32a,
        HashKind::Hsieh,
        HashKind::Murmur,
    ] {
        assert_eq!(kind.hash(b""), 0, "{}", kind.name());
    }
}

#[test]
fn every_length_reads_every_byte() {
    // Changing any one byte must change the value: a tail that is skipped would show here. crc32
    // keeps only 15 bits, too few for this to hold.
    for &(name, kind) in HashKind::ALL {
        if kind == HashKind::Crc32 {
            continue;
        }
        for len in 1..40 {
            let key: Vec<u8> = (0..len).map(|i| b'a' + (i % 26) as u8).collect();
            for at in 0..len {
                let mut other = key.clone();
                other[at] ^= 1;
                assert_ne!(
                    kind.hash(&key),
                    kind.hash(&other),
                    "{name}, byte {at} of {len}"
                );
            }
        }
    }
}
