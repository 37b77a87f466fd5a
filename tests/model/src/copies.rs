//! The instances of copying one key.

use crate::copy::{CopyRules, Copying};
use crate::redis_copy::{Names, RedisCopyRules, RedisCopying, Takeover};
use crate::{Instance, Subject, WHOLE};

pub fn all() -> Vec<Instance> {
    let mut list = Vec::new();
    memcached(&mut list);
    redis(&mut list);
    list
}

/// Copying one key for Memcached.
fn memcached(list: &mut Vec<Instance>) {
    let base = Copying {
        writers: 1,
        writes: 4,
        dies: false,
        ordered: false,
        held: None,
        rules: CopyRules::default(),
    };
    let two = Copying {
        writers: 2,
        writes: 2,
        ..base
    };
    let mut add = |name, copying, holds| {
        list.push(Instance {
            name,
            subject: Subject::Copy(copying),
            holds,
            quick: true,
            depth: WHOLE,
        })
    };
    add("copy: one proxy", base, true);
    add(
        "copy: one proxy that dies",
        Copying { dies: true, ..base },
        true,
    );
    let in_turn = Copying {
        ordered: true,
        ..two
    };
    add(
        "copy: two proxies, one write after the other",
        in_turn,
        true,
    );
    add(
        "copy: two proxies, one dies",
        Copying {
            dies: true,
            ..in_turn
        },
        true,
    );
    add("copy: two proxies at once", two, false);
    let held = |value, copying| Copying {
        held: Some(value),
        dies: true,
        ..copying
    };
    for (value, one, several) in [
        (
            0,
            "copy: T holds what S has lost",
            "copy: T holds what S has lost, two proxies",
        ),
        (
            1,
            "copy: T holds what S has",
            "copy: T holds what S has, two proxies",
        ),
        (
            2,
            "copy: T holds an older value",
            "copy: T holds an older value, two proxies",
        ),
    ] {
        add(one, held(value, base), true);
        add(several, held(value, in_turn), true);
    }
    let without = |rules| Copying { rules, ..base };
    let rules = CopyRules::default();
    let parallel = CopyRules {
        leader_first: false,
        ..rules
    };
    add("copy without: the leader first", without(parallel), false);
    let blind = CopyRules {
        verified: false,
        ..rules
    };
    add("copy without: verification", without(blind), false);
    let greedy = CopyRules {
        own_only: false,
        ..rules
    };
    add(
        "copy without: taking back only its own",
        without(greedy),
        false,
    );
    let early = CopyRules {
        asked_after: false,
        ..rules
    };
    add("copy without: asking after the add", without(early), false);
    let trusting = CopyRules {
        compared: false,
        ..rules
    };
    add(
        "copy without: comparing what T holds",
        held(0, without(trusting)),
        false,
    );
    let reversed = CopyRules {
        target_first: false,
        ..rules
    };
    add(
        "copy without: comparing T before S",
        held(0, without(reversed)),
        false,
    );
}

/// Take longer than the others.
const LARGE_COPIES: [&str; 3] = [
    "redis copy: two proxies, one dies",
    "redis copy: the copier was only slow",
    "redis copy without: a view of its own",
];

/// Copying one key of Redis.
fn redis(list: &mut Vec<Instance>) {
    let rules = RedisCopyRules::default();
    let base = RedisCopying {
        writers: 1,
        writes: 3,
        ordered: true,
        dies: false,
        unaware: false,
        takeover: Takeover::Never,
        breaks: 0,
        rules,
    };
    let two = RedisCopying {
        writers: 2,
        writes: 2,
        ..base
    };
    let mut add = |name, copying, holds| {
        list.push(Instance {
            name,
            subject: Subject::RedisCopy(copying),
            holds,
            quick: !LARGE_COPIES.contains(&name),
            depth: WHOLE,
        })
    };
    let breaking = RedisCopying { breaks: 1, ..base };
    let dead = RedisCopying {
        takeover: Takeover::OfDead,
        writes: 2,
        ..base
    };
    let slow = RedisCopying {
        takeover: Takeover::OfSlow,
        ..dead
    };
    let unaware = RedisCopying {
        unaware: true,
        ..two
    };
    add("redis copy: one proxy", base, true);
    add("redis copy: exchanges break off", breaking, true);
    add("redis copy: two proxies, one after the other", two, true);
    add(
        "redis copy: two proxies, one dies",
        RedisCopying { dies: true, ..two },
        true,
    );
    add("redis copy: one has not heard yet", unaware, true);
    add("redis copy: the copier dies", dead, true);
    add("redis copy: the copier was only slow", slow, true);
    add(
        "redis copy: two proxies at once",
        RedisCopying {
            ordered: false,
            ..two
        },
        false,
    );
    let without = |rules, copying| RedisCopying { rules, ..copying };
    let parallel = RedisCopyRules {
        leader_first: false,
        ..rules
    };
    add(
        "redis copy without: the leader first",
        without(parallel, base),
        false,
    );
    let blind = RedisCopyRules {
        verified: false,
        ..rules
    };
    add(
        "redis copy without: verification",
        without(blind, base),
        false,
    );
    // Verification sees to that alone; without it the copy takes newer values away.
    let greedy = RedisCopyRules {
        adds: false,
        ..rules
    };
    add(
        "redis copy: RESTORE with REPLACE",
        without(greedy, dead),
        true,
    );
    let careless = RedisCopyRules {
        verified: false,
        ..greedy
    };
    add(
        "redis copy without: both of that",
        without(careless, base),
        false,
    );
    let open = RedisCopyRules {
        watched: false,
        ..rules
    };
    add("redis copy without: WATCH", without(open, breaking), false);
    add(
        "redis copy without: WATCH, the copier dies",
        without(open, dead),
        false,
    );
    let constant = RedisCopyRules {
        redraws: false,
        ..rules
    };
    add(
        "redis copy without: another token",
        without(constant, breaking),
        false,
    );
    let same = RedisCopyRules {
        renews: false,
        ..rules
    };
    add(
        "redis copy without: a view of its own",
        without(same, slow),
        false,
    );
    let trusting = RedisCopyRules {
        compares: false,
        ..rules
    };
    add(
        "redis copy without: comparison",
        without(trusting, breaking),
        false,
    );
    let hasty = RedisCopyRules {
        target_first: false,
        ..rules
    };
    add(
        "redis copy: the leader's state first",
        without(hasty, unaware),
        true,
    );
    let forgetful = RedisCopyRules {
        expects: false,
        ..rules
    };
    add(
        "redis copy without: what T has lost since",
        without(forgetful, breaking),
        false,
    );
    let leaders = RedisCopyRules {
        names: Names::Leaders,
        ..rules
    };
    add(
        "redis copy without: names on the target",
        without(leaders, unaware),
        false,
    );
    let missing = RedisCopyRules {
        names: Names::Missing,
        ..rules
    };
    add(
        "redis copy without: all names on the target",
        without(missing, unaware),
        false,
    );
}
