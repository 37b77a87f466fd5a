"""Promise P1: replies come in the order of the requests, and requests for one key act in order.

The hard part is a client that pipelines reads and writes of shards whose writes another worker orders,
so the random pipelines here run with two workers and several shards, against a model.
"""

import random
from collections.abc import Callable
from typing import Any

import pytest
from support.cluster import Cluster
from support.store import PROTOCOLS, MemcachedStore, RedisStore, Store, command, parse

KEYS = [b"k%d" % number for number in range(12)]
PIPELINES = 25
PIPELINE_REQUESTS = 120

Model = dict[bytes, int]
Step = tuple[bytes, Any]
"""A request, and what must be answered."""


def redis_step(rng: random.Random, model: Model, prefix: bytes) -> Step:
    keys = [prefix + key for key in rng.sample(KEYS, rng.randint(1, 5))]
    key = keys[0]
    kind = rng.choice(
        ["get", "get", "incr", "set", "mget", "mset", "del", "exists", "ping", "unknown", "append"]
    )
    if kind == "get":
        return command("GET", key), _text(model.get(key))
    if kind == "incr":
        model[key] = model.get(key, 0) + 1
        return command("INCR", key), model[key]
    if kind == "set":
        model[key] = rng.randrange(10**6)
        return command("SET", key, model[key]), b"OK"
    if kind == "mget":
        return command("MGET", *keys), [_text(model.get(each)) for each in keys]
    if kind == "mset":
        pairs = [(each, rng.randrange(10**6)) for each in keys]
        model.update(pairs)
        return command("MSET", *(word for pair in pairs for word in pair)), b"OK"
    if kind == "del":
        return command("DEL", *keys), sum(model.pop(each, None) is not None for each in keys)
    if kind == "exists":
        return command("EXISTS", *keys), sum(each in model for each in keys)
    if kind == "append":
        text = (_text(model.get(key)) or b"") + b"7"
        if len(text) > 15:
            return command("STRLEN", key), len(text) - 1
        model[key] = int(text)
        # A text with leading zeros would not be this number; there are none in what is written here,
        # but of zero itself.
        return command("APPEND", key, "7") if text[:1] != b"0" else command("SET", key, int(text)), (
            len(text) if text[:1] != b"0" else b"OK"
        )
    if kind == "ping":
        return command("PING", key), key
    return command("NOSUCH", key), "error"


def memcached_step(rng: random.Random, model: Model, prefix: bytes) -> Step:
    keys = [prefix + key for key in rng.sample(KEYS, rng.randint(1, 5))]
    key = keys[0]
    kind = rng.choice(
        ["get", "get", "set", "gets", "incr", "delete", "add", "replace", "quiet", "version", "gat"]
    )
    value = rng.randrange(10**6)
    if kind in ("get", "gets", "gat"):
        verb = {"get": b"get", "gets": b"gets", "gat": b"gat 0"}[kind]
        found = {each: _text(model[each]) for each in keys if each in model}
        return b"%b %b\r\n" % (verb, b" ".join(keys)), found
    if kind == "incr":
        if key not in model:
            return b"incr %b 1\r\n" % key, b"NOT_FOUND"
        model[key] += 1
        return b"incr %b 1\r\n" % key, b"%d" % model[key]
    if kind == "delete":
        return b"delete %b\r\n" % key, b"DELETED" if model.pop(key, None) is not None else b"NOT_FOUND"
    if kind == "version":
        return b"version\r\n", "version"
    if kind in ("add", "replace"):
        stored = (key in model) == (kind == "replace")
        if stored:
            model[key] = value
        return _store(kind, key, value), b"STORED" if stored else b"NOT_STORED"
    model[key] = value
    if kind == "quiet":
        return _store("set", key, value, b" noreply"), None
    return _store("set", key, value), b"STORED"


def _store(verb: str, key: bytes, value: int, end: bytes = b"") -> bytes:
    text = b"%d" % value
    return b"%b %b 0 0 %d%b\r\n%b\r\n" % (verb.encode(), key, len(text), end, text)


def _text(value: int | None) -> bytes | None:
    return None if value is None else b"%d" % value


def read_answer(client: Store, expected: Any) -> Any:
    """The next answer in the form of what is expected."""
    if isinstance(client, MemcachedStore):
        if isinstance(expected, dict):
            return {key: values[0] for key, values in client.read_values().items()}
        line = client.raw.read_line()[:-2]
        return "version" if expected == "version" and line.startswith(b"VERSION ") else line
    reply = client.raw.read_reply()
    if expected == "error":
        return "error" if reply.startswith(b"-ERR unknown command") else reply
    return parse(reply)


STEPS: dict[str, Callable[[random.Random, Model, bytes], Step]] = {
    "redis": redis_step,
    "memcached": memcached_step,
}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_pipelines_are_answered_in_order_and_act_in_order(
    protocol: str, replicas: int, workers: int, rng: random.Random
) -> None:
    with Cluster(protocol, shards=3, replicas=replicas, workers=workers) as cluster:
        clients = [cluster.connect() for _ in range(4)]
        if protocol == "redis":
            for client in clients[2:]:
                assert isinstance(client, RedisStore)
                client.hello3()
        models: list[Model] = [{} for _ in clients]
        for _ in range(PIPELINES):
            expected = []
            for number, client in enumerate(clients):  # all in flight at once, each on keys of its own
                steps = [
                    STEPS[protocol](rng, models[number], b"c%d:" % number)
                    for _ in range(rng.randint(1, PIPELINE_REQUESTS))
                ]
                client.raw.send(b"".join(request for request, _ in steps))
                expected.append([answer for _, answer in steps if answer is not None or protocol == "redis"])
            for client, answers in zip(clients, expected, strict=True):
                got = [read_answer(client, answer) for answer in answers]
                assert got == answers
        for client in clients:
            client.raw.close()
        assert cluster.differences() == {}
        if workers == 2 and replicas == 2:
            handed = cluster.proxy.metric("shardproxy_worker_handovers_total")
            assert handed > 0, "no request crossed from one worker to the other: nothing was tested"


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_fast_reply_waits_for_the_slow_one_before_it(protocol: str, workers: int) -> None:
    with Cluster(protocol, shards=2, replicas=1, workers=workers, relays=True) as cluster:
        with cluster.connect() as client:
            keys = [b"k%d" % number for number in range(40)]
            for key in keys:
                client.set(key, key)
            cluster.relays[0][0].delay(0.05)
            client.raw.send(b"".join(client.get_request(key) for key in keys))
            assert [client.read_get() for _ in keys] == keys
