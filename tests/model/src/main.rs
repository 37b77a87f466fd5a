//! Runs the instances of `instances`, `majorities` and `copies`: each says whether the promises must hold in it or break.
//!
//! `cargo run --release` runs all; with `quick` those that take no time; with another word those whose name has it.

mod commit;
mod control;
mod copies;
mod copy;
mod decide;
mod decide_views;
mod decide_world;
mod decisions;
mod instances;
mod majorities;
mod protocol;
mod queue;
mod quorum;
mod redis_copier;
mod redis_copy;
mod resync;
mod search;
mod state;
mod writes;

use std::process::ExitCode;
use std::time::Instant;

use copy::Copying;
use decide::Deciding;
use protocol::Config;
use redis_copy::RedisCopying;

/// States after which an instance is given up, and so not passed.
const LIMIT: usize = 60_000_000;

enum Subject {
    Protocol(Config),
    Copy(Copying),
    RedisCopy(RedisCopying),
    Decide(Deciding),
}

impl Subject {
    fn search(&self, depth: usize) -> search::Found {
        match self {
            Subject::Protocol(config) => search::search(config, LIMIT, depth),
            Subject::Copy(copying) => search::search(copying, LIMIT, depth),
            Subject::RedisCopy(copying) => search::search(copying, LIMIT, depth),
            Subject::Decide(deciding) => search::search(deciding, LIMIT, depth),
        }
    }
}

/// A model to be searched, and whether the promises hold in it; `quick` if that takes no time.
struct Instance {
    name: &'static str,
    subject: Subject,
    holds: bool,
    quick: bool,
    /// How many steps deep it is searched; `WHOLE` for all.
    depth: usize,
}

const WHOLE: usize = usize::MAX;

fn main() -> ExitCode {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    let mut failed = 0;
    let all = [
        instances::all(),
        majorities::all(),
        copies::all(),
        decisions::all(),
    ];
    for instance in all.into_iter().flatten() {
        let is_wanted = if wanted == "quick" {
            instance.quick
        } else {
            instance.name.contains(&wanted)
        };
        if !is_wanted {
            continue;
        }
        let began = Instant::now();
        let found = instance.subject.search(instance.depth);
        let is_expected = found.complete && found.fault.is_none() == instance.holds;
        failed += usize::from(!is_expected);
        println!(
            "{} {:<48} {:<15} {:>8} states, {:>2} steps deep, {:.1} s",
            if is_expected { "ok  " } else { "FAIL" },
            instance.name,
            match (&found.fault, found.complete) {
                (Some(_), _) => "broken",
                (None, true) if found.depth == instance.depth => "holds so far",
                (None, true) => "holds",
                (None, false) => "not finished",
            },
            found.states,
            found.depth,
            began.elapsed().as_secs_f32(),
        );
        let Some((fault, trace)) = found.fault else {
            continue;
        };
        if !is_expected || wanted != "quick" {
            println!("       {fault}:");
            for (number, label) in trace.iter().enumerate() {
                println!("       {:>2}. {label}", number + 1);
            }
        }
    }
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
