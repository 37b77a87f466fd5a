use super::*;

/// Nothing, of a kind that can be compared.
const NONE: [u32; 0] = [];

const NOBODY_OFF: fn(u16) -> bool = |_| false;

/// Topics of three shards.
fn topics() -> Topics {
    Topics::new(3)
}

fn peer(index: u32) -> Subscriber {
    let generation = 0;
    Handle { index, generation }
}

/// A client's request for channels at shard 1, and for patterns everywhere.
fn join(topics: &mut Topics, client: Subscriber, names: &[(Kind, &str)]) -> Result<u32, Join> {
    let mut join = Join::new(client, 0);
    for (kind, name) in names {
        let home = (*kind != Kind::Pattern).then_some(1);
        join.topics
            .push(topics.pin(*kind, name.as_bytes(), home, NOBODY_OFF));
    }
    topics.begin(join)
}

/// Has every shard confirm what is wanted; returns what is settled.
fn confirm_all(topics: &mut Topics) -> Vec<u32> {
    let mut settled = Vec::new();
    for shard in 0..3 {
        for topic in topics.wanted(0, shard) {
            topics.asked(topic, shard);
            let handle = topics.handle(topic);
            settled.extend(topics.confirmed(handle, shard));
        }
    }
    settled
}

fn subscribe(topics: &mut Topics, client: Subscriber, names: &[(Kind, &str)]) {
    match join(topics, client, names) {
        Ok(waiting) => {
            assert_eq!(confirm_all(topics), [waiting]);
            let join = topics.end(waiting).unwrap();
            topics.complete(&join);
        }
        Err(join) => {
            topics.complete(&join);
        }
    }
}

#[test]
fn a_join_waits_for_every_topic_and_every_shard() {
    let mut topics = topics();
    let waiting = join(
        &mut topics,
        peer(1),
        &[(Kind::Channel, "a"), (Kind::Pattern, "p*")],
    );
    let waiting = waiting.ok().unwrap();
    let (a, p) = (
        topics.find(Kind::Channel, b"a").unwrap(),
        topics.find(Kind::Pattern, b"p*").unwrap(),
    );
    assert_eq!(topics.wanted(0, 0), [p]);
    assert_eq!(topics.wanted(0, 1), [a, p]);
    let (a, p) = (topics.handle(a), topics.handle(p));
    for (topic, shard) in [(p, 0), (a, 1), (p, 1)] {
        topics.asked(topic.index, shard);
        assert_eq!(topics.confirmed(topic, shard), NONE);
    }
    topics.asked(p.index, 2);
    assert_eq!(topics.confirmed(p, 2), [waiting]);
    let join = topics.end(waiting).unwrap();
    assert_eq!(topics.complete(&join), [true, true]);
    assert_eq!(topics.topics_of(peer(1), None), [a.index, p.index]);
    assert_eq!(topics.topics_of(peer(1), Some(Kind::Pattern)), [p.index]);
}

#[test]
fn who_comes_later_shares_what_is_confirmed() {
    let mut topics = topics();
    subscribe(&mut topics, peer(1), &[(Kind::Channel, "a")]);
    let second = join(
        &mut topics,
        peer(2),
        &[(Kind::Channel, "a"), (Kind::Channel, "a")],
    );
    let Err(second) = second else {
        panic!("there is nothing to wait for");
    };
    assert_eq!(topics.complete(&second), [true, false]);
    let a = topics.find(Kind::Channel, b"a").unwrap();
    assert_eq!(topics.take_subscribers(a), [peer(1), peer(2)]);
}

#[test]
fn two_joins_for_one_topic_are_settled_together() {
    let mut topics = topics();
    let first = join(&mut topics, peer(1), &[(Kind::Channel, "a")])
        .ok()
        .unwrap();
    let second = join(
        &mut topics,
        peer(2),
        &[(Kind::Channel, "a"), (Kind::Channel, "b")],
    );
    let second = second.ok().unwrap();
    let a = topics.find(Kind::Channel, b"a").unwrap();
    let handle = topics.handle(a);
    assert_eq!(topics.confirmed(handle, 1), [first]);
    assert_eq!(confirm_all(&mut topics), [second]);
}

#[test]
fn the_last_to_leave_ends_a_topic_and_places_stay_right() {
    let mut topics = topics();
    let clients: Vec<Subscriber> = (0..5).map(peer).collect();
    for client in &clients {
        subscribe(
            &mut topics,
            *client,
            &[(Kind::Channel, "a"), (Kind::Shard, "a")],
        );
    }
    let a = topics.find(Kind::Channel, b"a").unwrap();
    for order in [2, 0, 4, 1] {
        assert!(topics.unsubscribe(clients[order], a));
        assert!(!topics.unsubscribe(clients[order], a));
        assert!(topics.release(a).is_none());
    }
    assert_eq!(topics.take_subscribers(a), [clients[3]]);
    topics.put_back(a, vec![clients[3]]);
    let gone = topics.leave(clients[3]);
    assert_eq!(gone.len(), 1, "the shard channel has four more");
    assert_eq!((&*gone[0].name, gone[0].kind), (&b"a"[..], Kind::Channel));
    assert_eq!(gone[0].asked_at().collect::<Vec<_>>(), [1]);
    for client in clients {
        topics.leave(client);
        assert_eq!(topics.bytes_of(client), 0);
    }
    assert!(topics.is_empty());
    assert!(!topics.needs(0, 1));
}

#[test]
fn who_leaves_while_waiting_leaves_nothing_behind() {
    let mut topics = topics();
    let waiting = join(
        &mut topics,
        peer(1),
        &[(Kind::Channel, "a"), (Kind::Pattern, "p")],
    );
    assert!(waiting.is_ok());
    assert!(topics.needs(0, 0) && topics.needs(0, 1));
    assert_eq!(topics.leave(peer(1)).len(), 2);
    assert!(topics.is_empty() && !topics.has_joins());
    assert!(!topics.needs(0, 0) && !topics.needs(0, 1));
    // Somebody else was waiting with it: the topic stays, and its confirmation reaches the one left.
    let first = join(&mut topics, peer(1), &[(Kind::Channel, "a")]);
    let second = join(&mut topics, peer(2), &[(Kind::Channel, "a")])
        .ok()
        .unwrap();
    assert!(first.is_ok());
    assert_eq!(topics.leave(peer(1)).len(), 0);
    assert_eq!(confirm_all(&mut topics), [second]);
}

#[test]
fn a_confirmation_for_an_earlier_tenant_is_not_taken() {
    let mut topics = topics();
    join(&mut topics, peer(1), &[(Kind::Channel, "a")])
        .ok()
        .unwrap();
    let a = topics.find(Kind::Channel, b"a").unwrap();
    topics.asked(a, 1);
    let earlier = topics.handle(a);
    topics.leave(peer(1));
    let again = join(&mut topics, peer(2), &[(Kind::Channel, "a")])
        .ok()
        .unwrap();
    assert_eq!(topics.confirmed(earlier, 1), NONE);
    assert_eq!(confirm_all(&mut topics), [again]);
}

#[test]
fn a_lost_connection_has_everything_asked_again() {
    let mut topics = topics();
    subscribe(
        &mut topics,
        peer(1),
        &[(Kind::Channel, "a"), (Kind::Pattern, "p")],
    );
    assert!(topics.lost(0, 1));
    assert!(!topics.lost(0, 1), "it is lost already");
    assert!(!topics.lost(1, 0), "MONITOR has another connection");
    assert_eq!(topics.wanted(0, 1).len(), 2);
    assert_eq!(topics.wanted(0, 0), NONE);
    assert_eq!(confirm_all(&mut topics), NONE);
    assert_eq!(topics.wanted(0, 1), NONE);
}

#[test]
fn a_lost_shard_fails_its_channels_and_not_the_patterns() {
    let mut topics = topics();
    let pattern = join(&mut topics, peer(1), &[(Kind::Pattern, "p")])
        .ok()
        .unwrap();
    let channel = join(&mut topics, peer(2), &[(Kind::Channel, "a")])
        .ok()
        .unwrap();
    let p = topics.find(Kind::Pattern, b"p").unwrap();
    for shard in [0, 2] {
        topics.asked(p, shard);
        let handle = topics.handle(p);
        assert_eq!(topics.confirmed(handle, shard), NONE);
    }
    assert_eq!(topics.switch(1, true), [pattern, channel]);
    assert_eq!(topics.hopeless(), [channel]);
    let join = topics.end(pattern).unwrap();
    topics.complete(&join);
    let join = topics.end(channel).unwrap();
    assert_eq!(topics.abandon(&join).len(), 1);
    assert_eq!(topics.switch(1, true), NONE);
    // When it is back, the pattern is asked for there as well.
    assert_eq!(topics.switch(1, false), NONE);
    assert_eq!(topics.wanted(0, 1), [p]);
}

#[test]
fn another_ring_gives_channels_other_homes() {
    let mut topics = topics();
    subscribe(&mut topics, peer(1), &[(Kind::Channel, "a")]);
    let a = topics.find(Kind::Channel, b"a").unwrap();
    assert_eq!(topics.rehome(a, 1, false), None, "it is there");
    assert_eq!(topics.rehome(a, 2, false), Some(1));
    assert_eq!(topics.wanted(0, 2), [a]);
    assert!(topics.needs(0, 2) && !topics.needs(0, 1));
    assert_eq!(
        topics.rehome(a, 0, false),
        None,
        "it was not asked for at the one before"
    );
}

#[test]
fn memory_is_counted_by_name() {
    let mut topics = topics();
    let cost = topics.cost(Kind::Pattern, b"p*");
    subscribe(&mut topics, peer(1), &[(Kind::Pattern, "p*")]);
    assert_eq!(topics.bytes_of(peer(1)), cost);
    subscribe(&mut topics, peer(1), &[(Kind::Pattern, "p*")]);
    assert_eq!(topics.bytes_of(peer(1)), cost, "the same one again");
}

/// Random comings and goings against the plainest description of who is subscribed to what.
#[test]
fn any_order_of_events_leaves_the_tables_right() {
    use std::collections::BTreeSet;
    let mut random = 1u32;
    let mut next = move |below: u32| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 16) % below
    };
    let mut topics = topics();
    let mut model: BTreeSet<(u32, u32)> = BTreeSet::new(); // client, name
    let names: Vec<String> = (0..6).map(|name| format!("n{name}")).collect();
    for _ in 0..20_000 {
        let (client, name) = (next(8), next(6));
        let kind = if name < 3 {
            Kind::Channel
        } else {
            Kind::Pattern
        };
        match next(10) {
            0..=4 => {
                subscribe(&mut topics, peer(client), &[(kind, &names[name as usize])]);
                model.insert((client, name));
            }
            5..=7 => {
                let found = topics.find(kind, names[name as usize].as_bytes());
                let ended = found.is_some_and(|topic| topics.unsubscribe(peer(client), topic));
                found.and_then(|topic| topics.release(topic));
                assert_eq!(ended, model.remove(&(client, name)));
            }
            8 => {
                topics.lost(0, next(3) as u16);
            }
            _ => {
                topics.leave(peer(client));
                model.retain(|entry| entry.0 != client);
            }
        }
        let mut seen = BTreeSet::new();
        for (at, name) in names.iter().enumerate() {
            let kind = if at < 3 { Kind::Channel } else { Kind::Pattern };
            if let Some(topic) = topics.find(kind, name.as_bytes()) {
                let subscribers = topics.take_subscribers(topic);
                assert!(!subscribers.is_empty(), "a topic that nobody wants");
                seen.extend(subscribers.iter().map(|client| (client.index, at as u32)));
                topics.put_back(topic, subscribers);
            }
        }
        assert_eq!(seen, model);
    }
}
