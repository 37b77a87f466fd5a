//! The instances of the view protocol and of the procedures that bring a backend back.

use crate::protocol::{Config, Rules};
use crate::resync::Procedure;
use crate::state::Budget;
use crate::{Instance, Subject, WHOLE};

pub const fn budget(crashes: u8, restarts: u8, cuts: u8, stalls: u8) -> Budget {
    Budget {
        crashes,
        restarts,
        cuts,
        stalls,
        mutes: 0,
        losses: 0,
    }
}

pub fn all() -> Vec<Instance> {
    let base = Config {
        backends: 2,
        writes: 1,
        epochs: 5,
        ..Config::default()
    };
    let three = Config {
        backends: 3,
        ..base
    };
    let mut list = Vec::new();
    let mut add = |name, config, holds, quick| {
        list.push(Instance {
            name,
            subject: Subject::Protocol(config),
            holds,
            quick,
            depth: WHOLE,
        })
    };
    let with = |config: Config, budget: Budget| Config { budget, ..config };

    // The view protocol, two replicas and three.
    add(
        "view: crash and a slow backend",
        with(base, budget(1, 0, 0, 1)),
        true,
        true,
    );
    add(
        "view: two proxy restarts, a cut",
        with(base, budget(0, 2, 1, 0)),
        true,
        true,
    );
    add(
        "view: late writes",
        Config {
            late: true,
            writes: 2,
            ..with(base, budget(0, 0, 0, 1))
        },
        true,
        true,
    );
    add(
        "view: crash, proxy restart, cut",
        with(base, budget(1, 1, 1, 0)),
        true,
        false,
    );
    add(
        "view of three: crash",
        with(three, budget(1, 0, 0, 0)),
        true,
        true,
    );
    add(
        "view of three: cut",
        with(three, budget(0, 0, 1, 0)),
        true,
        true,
    );
    add(
        "view of three: crash and a slow backend",
        with(three, budget(1, 0, 0, 1)),
        true,
        false,
    );
    // The decider dies between the first and the second member, and succession runs against the order of addresses.
    let against = Config {
        reversed: true,
        ..three
    };
    add(
        "view of three: succession against addresses",
        with(against, budget(1, 0, 0, 1)),
        true,
        false,
    );
    add(
        "view of three: cut and a slow backend",
        with(three, budget(0, 0, 1, 1)),
        true,
        false,
    );
    add(
        "view of three: crash, cut",
        Config {
            epochs: 3,
            writes_in_all: 1,
            ..with(three, budget(1, 0, 1, 0))
        },
        true,
        false,
    );
    let late_record = Config {
        late_records: true,
        ..with(three, budget(0, 0, 0, 2))
    };
    add("view of three: late records", late_record, true, true);
    // It answers but takes nothing, from some moment to another (MISCONF, READONLY).
    let refusing = |config: Config, stalls| Config {
        budget: Budget {
            mutes: 1,
            ..budget(0, 0, 0, stalls)
        },
        ..config
    };
    add("view: one refuses writes", refusing(base, 2), true, true);
    add(
        "view of three: one refuses writes",
        refusing(three, 1),
        true,
        false,
    );
    add(
        "view of three: one refuses, against addresses",
        refusing(against, 1),
        true,
        false,
    );

    // What the parts of the protocol are for.
    let without = |rules: Rules, config: Config| Config { rules, ..config };
    let acknowledging = Rules {
        commit_first: false,
        ..Rules::default()
    };
    add(
        "view without: commit before acknowledging",
        without(acknowledging, with(base, budget(1, 0, 0, 1))),
        false,
        true,
    );
    let deaf = Rules {
        arbiters: false,
        ..Rules::default()
    };
    add(
        "view without: arbiters",
        without(deaf, with(base, budget(0, 0, 0, 2))),
        false,
        true,
    );
    let secretive = Rules {
        everybody: false,
        ..Rules::default()
    };
    add(
        "view without: telling all that leave",
        without(secretive, refusing(three, 1)),
        false,
        true,
    );
    let anonymous = Rules {
        succession: false,
        ..Rules::default()
    };
    add(
        "view without: succession",
        without(anonymous, refusing(three, 1)),
        false,
        true,
    );
    let forgetful = Rules {
        outdates: false,
        ..Rules::default()
    };
    add(
        "view without: outdating what lost",
        without(forgetful, with(three, budget(0, 0, 1, 1))),
        false,
        false,
    );
    let trusting_rivals = Rules {
        common: false,
        ..Rules::default()
    };
    add(
        "view without: who is in both",
        without(
            trusting_rivals,
            Config {
                epochs: 3,
                writes_in_all: 1,
                ..with(three, budget(1, 0, 1, 0))
            },
        ),
        false,
        false,
    );
    let credulous = Rules {
        told_apart: false,
        ..Rules::default()
    };
    add(
        "view without: telling apart who leaves",
        without(credulous, refusing(three, 1)),
        false,
        false,
    );
    let trusting = Rules {
        verify: false,
        ..Rules::default()
    };
    add(
        "view without: verified connections",
        without(trusting, with(base, budget(1, 0, 0, 0))),
        false,
        true,
    );

    // Bringing a backend back.
    let back = |procedure| Config {
        procedure: Some(procedure),
        ..base
    };
    add("resync: naive", back(Procedure::Naive), false, true);
    add(
        "resync: pause until all have adopted",
        back(Procedure::Pause),
        false,
        true,
    );
    add(
        "resync: pause and kill",
        back(Procedure::PauseKill),
        false,
        true,
    );
    add(
        "resync: hold without cutting off",
        back(Procedure::HoldOnly),
        false,
        true,
    );
    add("resync: fence", back(Procedure::Fence), true, true);
    add(
        "resync: fence, crash",
        with(back(Procedure::Fence), budget(1, 0, 0, 0)),
        true,
        false,
    );
    add(
        "resync: fence, proxy restart",
        with(back(Procedure::Fence), budget(0, 1, 0, 0)),
        true,
        true,
    );
    add(
        "resync: fence, cut",
        with(back(Procedure::Fence), budget(0, 0, 1, 0)),
        true,
        false,
    );
    let late = Config {
        late: true,
        ..with(back(Procedure::Fence), budget(0, 0, 0, 1))
    };
    add("resync: fence, late writes", late, true, true);
    let twice = Rules {
        leased: false,
        ..Rules::default()
    };
    add(
        "resync: fence, two at work",
        without(twice, back(Procedure::Fence)),
        true,
        true,
    );
    let unbound = Rules {
        bound: false,
        ..twice
    };
    add(
        "resync: fence without: one epoch",
        without(unbound, back(Procedure::Fence)),
        false,
        true,
    );
    let careless = Rules {
        guarded: false,
        ..Rules::default()
    };
    add(
        "resync: fence without: target's record",
        without(careless, back(Procedure::Fence)),
        false,
        true,
    );
    add(
        "resync: fan-out, copy at once",
        back(Procedure::FanOut),
        false,
        true,
    );
    let expiring = with(back(Procedure::FanOutExpire), budget(0, 0, 1, 0));
    add(
        "resync: fan-out, expiring announcements",
        expiring,
        false,
        true,
    );
    add(
        "resync: fan-out, lease",
        back(Procedure::FanOutLease),
        true,
        true,
    );
    add(
        "resync: fan-out, lease, proxy restart",
        with(back(Procedure::FanOutLease), budget(0, 1, 0, 0)),
        true,
        false,
    );
    add(
        "resync: fan-out, lease, crash",
        with(back(Procedure::FanOutLease), budget(1, 0, 0, 0)),
        true,
        false,
    );
    // The proxy that has not heard of the admission finds the member that it knows restarted.
    let admitted = Config {
        admitted: true,
        ..with(three, budget(1, 0, 0, 0))
    };
    add("resync: admitted, crash", admitted, true, true);
    let presumptuous = Rules {
        asks_all: false,
        ..Rules::default()
    };
    add(
        "resync: admitted without: asking all",
        without(presumptuous, admitted),
        false,
        true,
    );
    let nameless = Rules {
        joining_named: false,
        ..Rules::default()
    };
    let nameless = without(
        nameless,
        with(back(Procedure::FanOutLease), budget(1, 0, 0, 0)),
    );
    add(
        "resync: fan-out without: joining life",
        nameless,
        false,
        false,
    );
    list
}
