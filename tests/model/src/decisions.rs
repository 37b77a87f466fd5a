//! The instances of writes that a leader decides, while somebody else goes on without it.

use crate::decide::{DecideRules, Deciding, Faults, Lease, Starting};
use crate::{Instance, Subject, WHOLE};

pub fn all() -> Vec<Instance> {
    let none = Faults::default();
    let cut = Faults { cuts: 1, ..none };
    let base = Deciding {
        proxies: 2,
        backends: 2,
        writes: 2,
        overlapping: true,
        faults: cut,
        told: None,
        lease: 2,
        parting: 3,
        lag: 0,
        rules: DecideRules::default(),
    };
    let three_proxies = Deciding { proxies: 3, ..base };
    let mut list = Vec::new();
    let mut add = |name, deciding, holds, quick| {
        list.push(Instance {
            name,
            subject: Subject::Decide(deciding),
            holds,
            quick,
            depth: WHOLE,
        })
    };
    let with = |deciding: Deciding, faults: Faults| Deciding { faults, ..deciding };
    let without = |rules: DecideRules, deciding: Deciding| Deciding { rules, ..deciding };
    let rules = DecideRules::default();

    add("decide: cut", base, true, true);
    add(
        "decide: cut, three writes",
        Deciding { writes: 3, ..base },
        true,
        true,
    );
    add("decide: three proxies, cut", three_proxies, true, true);
    add(
        "decide without: a lease",
        without(
            DecideRules {
                lease: Lease::Nobody,
                ..rules
            },
            base,
        ),
        false,
        true,
    );
    add(
        "decide without: a lease on all, but the leader",
        without(
            DecideRules {
                lease: Lease::Leader,
                ..rules
            },
            base,
        ),
        false,
        true,
    );
    add(
        "decide without: a wait",
        Deciding { parting: 0, ..base },
        false,
        true,
    );
    add(
        "decide without: a wait of a lease's length",
        Deciding { parting: 1, ..base },
        false,
        true,
    );
    add(
        "decide: a wait of just a lease",
        Deciding { parting: 2, ..base },
        true,
        true,
    );
    add(
        "decide without: a wait of who adopts",
        without(
            DecideRules {
                adopters_wait: false,
                ..rules
            },
            three_proxies,
        ),
        false,
        true,
    );
    list
}

impl Default for DecideRules {
    fn default() -> Self {
        DecideRules {
            lease: Lease::Everybody,
            plain_leased: true,
            from_question: true,
            adopters_wait: true,
            starting: Starting::SomebodyOut,
            excepts_refusing: true,
            skipping_waits: true,
            keeps_waiting: true,
            withholds: true,
            holds_writes: true,
            doubts: true,
        }
    }
}
