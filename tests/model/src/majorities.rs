//! The instances of `views: majority`: two sides of a partition, and votes that are lost.

use crate::instances::budget;
use crate::protocol::{Config, Rules};
use crate::state::Budget;
use crate::{Instance, Subject, WHOLE};

/// Has more states than can be kept: it is searched to a depth at which all the rules that can be left out have long
/// broken something.
const LARGEST: &str = "majority: parted, crash";
const LARGEST_DEPTH: usize = 16;

pub fn all() -> Vec<Instance> {
    let two = Config {
        backends: 2,
        writes: 1,
        writes_in_all: 1,
        epochs: 3,
        majority: true,
        ..Config::default()
    };
    let three = Config { backends: 3, ..two };
    let mut list = Vec::new();
    let mut add = |name, config, holds, quick| {
        list.push(Instance {
            name,
            subject: Subject::Protocol(config),
            holds,
            quick,
            depth: if name == LARGEST {
                LARGEST_DEPTH
            } else {
                WHOLE
            },
        })
    };
    // Both proxies reach c, p0 also b, and p1 also a.
    let parted = |config: Config| Config {
        cut: 0b010_001,
        ..config
    };
    let brief = |config: Config| Config {
        epochs: 2,
        ..config
    };
    // Whose views count, whatever is written.
    let silent = |config: Config| Config {
        writes: 0,
        writes_in_all: 0,
        ..config
    };
    let outside = |config: Config| Config {
        outside: true,
        ..config
    };
    let with = |config: Config, budget: Budget| Config { budget, ..config };
    let (cut, crash) = (budget(0, 0, 1, 0), budget(1, 0, 0, 0));
    add(
        "majority of two: cuts, a restart",
        with(two, budget(0, 1, 2, 0)),
        true,
        false,
    );
    add(
        "majority of two: crash, cut",
        with(two, budget(1, 0, 1, 0)),
        true,
        false,
    );
    let short = brief(parted(three));
    let evicting = |config: Config, budget: Budget| Config {
        budget: Budget {
            losses: 1,
            ..budget
        },
        ..config
    };
    let slow = Config {
        writes_in_all: 2,
        epochs: 4,
        ..evicting(two, budget(0, 0, 0, 2))
    };
    add(
        "majority of two: an evicted record, slow backends",
        slow,
        true,
        false,
    );
    // p0 blames a, and p1 blames b.
    let blaming = Config {
        blamed: (0b01, 0b10),
        ..evicting(two, budget(0, 0, 0, 0))
    };
    add(
        "majority of two: an evicted record, others blamed",
        blaming,
        true,
        true,
    );
    add(
        "majority of two: an evicted record, cut",
        evicting(two, cut),
        true,
        true,
    );
    add("majority: cut", with(three, cut), true, true);
    add(
        "majority: parted, an evicted record",
        evicting(short, budget(0, 0, 0, 0)),
        true,
        false,
    );
    add(
        "majority: parted, an evicted record, next rounds",
        evicting(parted(silent(three)), budget(0, 0, 0, 0)),
        true,
        false,
    );
    add("majority: crash", with(three, crash), true, false);
    add("majority: parted", short, true, true);
    add("majority: parted, cut", with(short, cut), true, false);
    add(LARGEST, with(short, crash), true, false);
    add(
        "majority: parted, proxy restart",
        with(short, budget(0, 1, 0, 0)),
        true,
        false,
    );
    let late_record = Config {
        late_records: true,
        ..short
    };
    add(
        "majority: parted, late records",
        with(late_record, budget(0, 0, 0, 2)),
        true,
        false,
    );
    let late_write = Config {
        late: true,
        ..short
    };
    add(
        "majority: parted, late writes",
        with(late_write, budget(0, 0, 0, 1)),
        true,
        false,
    );
    add(
        "majority: parted, cut, next rounds",
        with(parted(silent(three)), cut),
        true,
        false,
    );
    add(
        "majority: parted, crash, next rounds",
        with(parted(silent(three)), crash),
        true,
        false,
    );
    add(
        "majority, one outside: two cuts",
        with(outside(three), budget(0, 0, 2, 0)),
        true,
        false,
    );
    let forgetful = with(outside(parted(silent(three))), crash);
    add(
        "majority, one outside: parted, crash",
        forgetful,
        true,
        false,
    );

    let admitted = Config {
        admitted: true,
        epochs: 4,
        ..evicting(parted(three), budget(0, 0, 0, 0))
    };
    add("majority: parted, one just admitted", admitted, true, false);

    let without = |rules: Rules, config: Config| Config { rules, ..config };
    let rules = Rules::default();
    let credulous = Rules {
        elects: false,
        ..rules
    };
    add(
        "majority without: seeing a majority",
        without(credulous, short),
        false,
        true,
    );
    let hasty = Rules {
        waits: false,
        ..rules
    };
    add(
        "majority without: waiting for the unknown",
        without(hasty, parted(three)),
        false,
        true,
    );
    let fickle = Rules {
        votes_once: false,
        ..rules
    };
    add(
        "majority without: one vote",
        without(fickle, parted(silent(three))),
        false,
        true,
    );
    let amnesic = Rules {
        forgets: false,
        ..rules
    };
    add(
        "majority without: losing the vote",
        without(amnesic, forgetful),
        false,
        true,
    );
    let forgiving = Rules {
        readmits: false,
        ..rules
    };
    add(
        "majority without: readmission",
        without(forgiving, forgetful),
        false,
        true,
    );
    let sure = Rules {
        doubts: false,
        ..rules
    };
    add("majority without: doubt", without(sure, short), false, true);
    let unhearing = Rules {
        hears: false,
        ..rules
    };
    add(
        "majority without: records to be heard by",
        without(unhearing, admitted),
        false,
        true,
    );
    let hurried = Rules {
        skips: false,
        ..rules
    };
    add(
        "majority of two without: leaving out an epoch",
        without(hurried, blaming),
        false,
        true,
    );
    list
}
