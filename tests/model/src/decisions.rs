//! The instances of writes that a leader decides, while somebody else goes on without it.

use crate::decide::{DecideRules, Deciding, Lease, Starting};
use crate::decide_world::Faults;
use crate::{Instance, Subject, WHOLE};

/// Take longer than the others.
const LARGE: [&str; 11] = [
    "decide: a link is cut, three writes",
    "decide: three proxies, a cut, a kill, a restart",
    "decide: a proxy starts again, three writes",
    "decide: a cut, a kill, a restart, a silence",
    "decide of three: two links are cut",
    "decide of three: a link is cut, one is killed",
    "decide of three: one skips a dead leader, a kill",
    "decide without: a wait that goes on",
    "decide: one comes back",
    "decide: one comes back, three proxies",
    "decide without: a wait of who skips a return",
];

const NO_FAULTS: Faults = Faults {
    cuts: 0,
    refusals: 0,
    silences: 0,
    kills: 0,
    revivals: 0,
    restarts: 0,
    stands: 0,
    returns: 0,
};

const CUT: Faults = Faults {
    cuts: 1,
    ..NO_FAULTS
};

const RULES: DecideRules = DecideRules {
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
    names_lives: true,
    doubts: Lease::Everybody,
};

const BASE: Deciding = Deciding {
    proxies: 2,
    backends: 2,
    writes: 2,
    faults: CUT,
    cuttable: 0b111,
    unaware: false,
    told: None,
    lease: 2,
    parting: 3,
    lag: 0,
    rules: RULES,
};

fn with(faults: Faults) -> Deciding {
    Deciding { faults, ..BASE }
}

/// Larger ones, where time is coarser and who leaves is never told.
fn large(proxies: usize, backends: usize, faults: Faults) -> Deciding {
    Deciding {
        proxies,
        backends,
        told: Some(false),
        lease: 1,
        parting: 2,
        ..with(faults)
    }
}

pub fn all() -> Vec<Instance> {
    let mut list = Vec::new();
    let mut add = |name, deciding, holds| {
        list.push(Instance {
            name,
            subject: Subject::Decide(deciding),
            holds,
            quick: !LARGE.contains(&name),
            depth: WHOLE,
        })
    };
    who_leaves(&mut add);
    who_waits(&mut add);
    when(&mut add);
    list
}

/// What becomes of the leader, and what is taken for its death.
fn who_leaves(add: &mut impl FnMut(&'static str, Deciding, bool)) {
    add("decide: a link is cut", BASE, true);
    add(
        "decide: a link is cut, three writes",
        Deciding { writes: 3, ..BASE },
        true,
    );
    let follower = Deciding {
        cuttable: 0b10,
        parting: 0,
        ..BASE
    };
    add(
        "decide: a link to a follower is cut, no wait",
        follower,
        true,
    );
    let silence = Faults {
        silences: 1,
        ..NO_FAULTS
    };
    let told = Deciding {
        told: Some(true),
        ..with(silence)
    };
    add("decide: the leader takes the record", told, true);
    let on_leader = DecideRules {
        lease: Lease::Leader,
        ..RULES
    };
    add(
        "decide: the leader takes it, a lease on it only",
        Deciding {
            rules: on_leader,
            ..told
        },
        true,
    );
    add(
        "decide without: a lease on all",
        Deciding {
            rules: on_leader,
            ..BASE
        },
        false,
    );
    let unleased = DecideRules {
        lease: Lease::Nobody,
        ..RULES
    };
    add(
        "decide without: a lease",
        Deciding {
            rules: unleased,
            ..BASE
        },
        false,
    );
    let kill = Faults {
        kills: 1,
        ..NO_FAULTS
    };
    add("decide: one is killed", with(kill), true);
    let revived = with(Faults {
        revivals: 1,
        ..kill
    });
    add("decide: it starts again with what it held", revived, true);
    let nameless = DecideRules {
        names_lives: false,
        ..RULES
    };
    add(
        "decide without: lives in the record",
        Deciding {
            rules: nameless,
            ..revived
        },
        false,
    );
    let refused = with(Faults {
        refusals: 1,
        ..NO_FAULTS
    });
    add(
        "decide without: a wait for who refuses one only",
        refused,
        false,
    );
    let unexcepted = DecideRules {
        excepts_refusing: false,
        ..RULES
    };
    add(
        "decide: one is refused, and waits",
        Deciding {
            rules: unexcepted,
            ..refused
        },
        true,
    );
    let all = Faults {
        kills: 1,
        restarts: 1,
        silences: 1,
        ..CUT
    };
    add(
        "decide: a cut, a kill, a restart, a silence",
        Deciding {
            lease: 1,
            parting: 2,
            ..with(all)
        },
        true,
    );
}

/// Who waits for whom, and what is held meanwhile.
fn who_waits(add: &mut impl FnMut(&'static str, Deciding, bool)) {
    let rules = |rules, deciding| Deciding { rules, ..deciding };
    add("decide: three proxies", large(3, 2, CUT), true);
    let alone = DecideRules {
        adopters_wait: false,
        ..RULES
    };
    add(
        "decide without: a wait of who adopts",
        rules(alone, large(3, 2, CUT)),
        false,
    );
    let restart = with(Faults { restarts: 1, ..CUT });
    add("decide: a proxy starts again", restart, true);
    let hasty = DecideRules {
        starting: Starting::None,
        ..RULES
    };
    let coarse = Deciding {
        writes: 3,
        lease: 1,
        parting: 2,
        ..restart
    };
    add("decide: a proxy starts again, three writes", coarse, true);
    let restart_and_kill = Faults {
        kills: 1,
        restarts: 1,
        ..CUT
    };
    add(
        "decide: three proxies, a cut, a kill, a restart",
        large(3, 2, restart_and_kill),
        true,
    );
    add(
        "decide without: a wait of who has started",
        rules(hasty, restart),
        false,
    );
    let open = DecideRules {
        withholds: false,
        ..RULES
    };
    add(
        "decide without: withholding what is under way",
        rules(open, BASE),
        false,
    );
    let eager = DecideRules {
        holds_writes: false,
        ..RULES
    };
    add("decide: writes begin in the wait", rules(eager, BASE), true);
    let cuts = large(2, 3, Faults { cuts: 2, ..CUT });
    let killed = large(2, 3, Faults { kills: 1, ..CUT });
    add("decide of three: three proxies", large(3, 3, CUT), true);
    add("decide of three: two links are cut", cuts, true);
    add(
        "decide of three: a link is cut, one is killed",
        killed,
        true,
    );
    let forgetful = DecideRules {
        keeps_waiting: false,
        ..RULES
    };
    add(
        "decide without: a wait that goes on",
        rules(forgetful, killed),
        false,
    );
    let unaware = Deciding {
        unaware: true,
        ..large(3, 3, CUT)
    };
    add("decide of three: one skips a dead leader", unaware, true);
    let unaware_and_kill = Deciding {
        unaware: true,
        ..large(3, 3, Faults { kills: 1, ..CUT })
    };
    add(
        "decide of three: one skips a dead leader, a kill",
        unaware_and_kill,
        true,
    );
    let skipping = DecideRules {
        skipping_waits: false,
        ..RULES
    };
    add(
        "decide without: a wait of who skips a view",
        rules(skipping, unaware),
        false,
    );
    let back = Faults {
        cuts: 2,
        returns: 1,
        ..NO_FAULTS
    };
    add("decide: one comes back", with(back), true);
    add(
        "decide: one comes back, three proxies",
        large(3, 2, back),
        true,
    );
    add(
        "decide without: a wait of who skips a return",
        rules(skipping, large(3, 2, back)),
        false,
    );
    let unequal = DecideRules {
        plain_leased: false,
        ..RULES
    };
    add(
        "decide: plain writes without a lease",
        rules(unequal, BASE),
        true,
    );
    add(
        "decide without: a lease of plain writes",
        rules(unequal, large(2, 2, back)),
        false,
    );
}

/// How long, and by which clock.
fn when(add: &mut impl FnMut(&'static str, Deciding, bool)) {
    add(
        "decide without: a wait",
        Deciding { parting: 0, ..BASE },
        false,
    );
    add(
        "decide without: a wait as long as a lease",
        Deciding { parting: 1, ..BASE },
        false,
    );
    add(
        "decide: a wait just as long",
        Deciding { parting: 2, ..BASE },
        true,
    );
    let late = |parting| Deciding {
        lag: 1,
        parting,
        ..BASE
    };
    add("decide: clocks are late", late(4), true);
    add("decide without: twice the lateness", late(3), false);
    let answered = DecideRules {
        from_question: false,
        ..RULES
    };
    add(
        "decide without: a lease from the question",
        Deciding {
            rules: answered,
            ..BASE
        },
        false,
    );
    let stands = with(Faults { stands: 1, ..CUT });
    add("decide: a proxy stood still", stands, true);
    let doubting = |doubts| Deciding {
        rules: DecideRules { doubts, ..RULES },
        ..stands
    };
    add(
        "decide without: doubts of who stood still",
        doubting(Lease::Nobody),
        false,
    );
    add(
        "decide without: doubts of all, but the leader",
        doubting(Lease::Leader),
        false,
    );
}
