//! Replays the golden vectors in `tests/vectors/`: what the real programs answered must be what
//! `Ring` answers. The format of the files and how to make them anew is in the README there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use _engine::hash::HashKind;
use _engine::ring::{Distribution, Ring, RingSpec};

/// One file: a server list, keys, and the program's number for each key in each column.
struct Vectors {
    path: PathBuf,
    spec: RingSpec,
    columns: Vec<String>,
    rows: Vec<(Vec<u8>, Vec<u64>)>,
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors")
}

/// Every file of the program, in order of name.
fn files(program: &str) -> Vec<Vectors> {
    let listing = fs::read_dir(directory().join(program)).expect("the program's directory");
    let mut paths: Vec<PathBuf> = listing
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "csv"));
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> Vectors {
    let text = fs::read_to_string(path).expect("a vector file");
    let (mut distribution, mut hash_tag, mut shards) = (None, None, Vec::new());
    let mut lines = text.lines();
    let header = loop {
        let line = lines.next().expect("a header line");
        let Some(comment) = line.strip_prefix("# ") else {
            break line;
        };
        match comment.split(' ').collect::<Vec<_>>()[..] {
            ["distribution", name] => distribution = Distribution::parse(name),
            ["hash_tag", tag] => hash_tag = Some((tag.as_bytes()[0], tag.as_bytes()[1])),
            ["shard", weight, label, ..] => {
                shards.push((label.to_string(), weight.parse().expect("a weight")));
            }
            ["program", ..] => {}
            _ => panic!("{path:?}: unknown line {line:?}"),
        }
    };
    let columns: Vec<String> = header.split(',').skip(1).map(str::to_string).collect();
    let rows = lines.map(|line| {
        let mut fields = line.split(',');
        let key = decode(fields.next().expect("a key"));
        let numbers: Vec<u64> = fields
            .map(|field| field.parse().expect("a number"))
            .collect();
        assert_eq!(numbers.len(), columns.len(), "{path:?}: {line:?}");
        (key, numbers)
    });
    Vectors {
        path: path.to_path_buf(),
        rows: rows.collect(),
        columns,
        spec: RingSpec {
            hash: HashKind::Md5,
            distribution: distribution.expect("a known distribution"),
            hash_tag,
            shards,
            routes: Vec::new(),
        },
    }
}

/// `%XX` is a byte, everything else stands for itself.
fn decode(text: &str) -> Vec<u8> {
    let mut pieces = text.split('%');
    let mut key = pieces
        .next()
        .expect("split yields a piece")
        .as_bytes()
        .to_vec();
    for piece in pieces {
        key.push(u8::from_str_radix(&piece[..2], 16).expect("two hexadecimal digits"));
        key.extend_from_slice(&piece.as_bytes()[2..]);
    }
    key
}

/// Compares all rows of a file and returns how many numbers agreed under each column's name.
fn replay(vectors: &Vectors) -> BTreeMap<String, usize> {
    let mut agreed = BTreeMap::new();
    for (i, column) in vectors.columns.iter().enumerate() {
        let mut spec = vectors.spec.clone();
        if let Some(hash) = HashKind::parse(column) {
            spec.hash = hash;
        }
        let ring = Ring::build(&spec).expect("a ring");
        for (key, numbers) in &vectors.rows {
            let explained = ring.explain(key);
            let ours = match column.as_str() {
                "hash" => explained.hash,
                name => {
                    assert!(name == "shard" || HashKind::parse(name).is_some(), "{name}");
                    ring.shard(key, &mut 1) as u64
                }
            };
            assert_eq!(
                ours,
                numbers[i],
                "{:?}, {column}, key {:?}",
                vectors.path,
                key.escape_ascii().to_string()
            );
            if column != "hash" {
                assert_eq!(
                    explained.shard as u64, numbers[i],
                    "explain and shard differ"
                );
            }
            *agreed.entry(column.clone()).or_default() += 1;
        }
    }
    agreed
}

/// Replays a program's files; there must be `count` of them, so that a lost one is noticed.
fn replay_program(program: &str, count: usize) -> BTreeMap<String, usize> {
    let files = files(program);
    assert_eq!(files.len(), count, "files of {program}");
    let mut agreed = BTreeMap::new();
    for vectors in &files {
        assert!(vectors.rows.len() >= 500, "{:?} is short", vectors.path);
        for (column, number) in replay(vectors) {
            *agreed.entry(column).or_default() += number;
        }
    }
    agreed
}

#[test]
fn twemproxy() {
    let agreed = replay_program("nutcracker", 12);
    for &(name, _) in HashKind::ALL {
        assert!(
            agreed.get(name).copied().unwrap_or(0) >= 3000,
            "{name}: {agreed:?}"
        );
    }
}

#[test]
fn libmemcached() {
    let agreed = replay_program("libmemcached", 5);
    assert!(agreed.len() >= 10 && agreed["shard"] >= 3000, "{agreed:?}");
}

#[test]
fn pylibmc() {
    let agreed = replay_program("pylibmc", 6);
    assert_eq!(agreed["one_at_a_time"], 3 * agreed["md5"]);
}

#[test]
fn pymemcache() {
    replay_program("pymemcache", 3);
}

#[test]
fn redis_cluster() {
    let agreed = replay_program("redis", 3);
    assert_eq!(agreed["hash"], agreed["shard"]);
}

#[test]
fn jump() {
    replay_program("jump", 3);
}

#[test]
fn the_keys_are_worth_replaying() {
    let files = files("nutcracker");
    let keys = |wanted: fn(&[u8]) -> bool| {
        let all = files.iter().flat_map(|file| &file.rows);
        all.filter(|row| wanted(&row.0)).count()
    };
    assert!(
        keys(|key| key.iter().any(|&byte| byte >= 0x80)) > 2000,
        "high bytes"
    );
    assert!(
        keys(|key| key.len() > 250) > 20,
        "longer than memcached allows"
    );
    assert!(keys(|key| key.contains(&b'{')) > 500, "hash tags");
    assert_eq!(decode("a%7B%ffz"), b"a{\xffz");
}
