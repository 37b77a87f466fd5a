"""Clients that write, count, append and read until told to stop, and enter it all in a history.

Called by `chaos.run`. Each key is written through one proxy only: the order of writes to one key is
promised within a proxy process. Or by one client that waits for each answer (batons): what was acknowledged
is there for what begins afterwards, whatever proxy that goes through. It is read through all of them. Knows
nothing of what is broken meanwhile.
"""

from __future__ import annotations

import itertools
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from chaos.binary import Binary
from chaos.dialect import Answer, Dialect, Memcached
from chaos.history import History, Kind, Op, Outcome
from support.raw import RawClient

ANSWER_SECONDS = 8.0
"""How long a client waits for an answer. The proxy has to answer within its own timeouts, so silence for
so long is a fault in itself."""
RETRY_SECONDS = 0.05
"""Pause before connecting again."""
PAUSES_SECONDS = (0.004, 0.04, 0.15)
"""Longest pause between two batches, one of these per schedule: histories stay small, keys come to rest now
and then, and not all is found by clients that keep the machine busy."""
BATCH = 6
"""Most requests sent at once."""
FILLER_BYTES = 20_000
"""Of what memcached is filled with until it evicts."""
LARGE = 0.06
"""Share of the writes of one value whose value is large, where there are such."""
LARGE_BYTES = (100_000, 300_000, 700_000)
"""On both sides of what a connection is written in one turn; the largest fit into a Memcached of today."""
FILLER = b"x"
BINARY = Binary()
MANY = 0.12
"""Share of the requests that name several keys."""
OWN_KEYS = 3
ONCE_KEYS = 120
"""Per client: each is written once, and deleted for good some writes later. All other keys are written again
before a mistake in what became of them can show, such as a copy that was not verified."""
ONCE_ALIVE = 3
ONCE = 0.1
"""Share of the writes that are to such keys; of the reads, a little less."""
BATONS, BATON_CLIENTS = 40, 2
"""Counters that one client has increased by all proxies in turn, and how many clients do; of each one key at
a time."""
SHARED_KEYS = 3
COUNTERS = 2
LISTS = 2
"""Keys of each sort: own ones per client, the others per proxy."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: of several keys a GET, or in Redis a SET."""

    kind: Kind
    keys: Sequence[bytes]
    values: Sequence[bytes]


@dataclass
class Workload:
    """The clients.

    Args:
        dialect: the protocol.
        connect: makes a connection to the proxy of this number.
        proxies: how many.
        clients: per proxy; half of them write.
        seed: for what they ask; when they ask it is up to the machine.
        noise: also send random requests of all types, through the first proxy.
        fills: also write more than the servers can hold.
        large: some values are large ones; see `expanded`.
        parts_fail: a get of several keys may be split, and what a lost shard would have answered is missing.
    """

    dialect: Dialect
    connect: Callable[[int], RawClient]
    proxies: int
    clients: int
    seed: int
    noise: bool = True
    fills: bool = False
    large: bool = False
    parts_fail: bool = False
    history: History = field(default_factory=History)
    noise_answers: int = 0

    def __post_init__(self) -> None:
        self._stopping = threading.Event()
        self._pause_seconds = random.Random(f"pause {self.seed}").choice(PAUSES_SECONDS)
        self._sessions = itertools.count(1)
        self._threads: list[threading.Thread] = []
        self._errors: list[BaseException] = []
        self._shared: list[list[bytes]] = []
        self._own: dict[tuple[int, int], list[bytes]] = {}
        self._once: dict[tuple[int, int], Iterator[tuple[Kind, bytes]]] = {}
        self._begun: list[bytes] = []
        """Of the keys that are written once, those that were."""
        once: list[bytes] = []
        for proxy in range(self.proxies):
            names = [(b"reg", SHARED_KEYS), (b"count", COUNTERS), (b"list", LISTS)]
            self._shared.append(
                [b"%b:p%d:%d" % (name, proxy, each) for name, count in names for each in range(count)]
            )
            for client in range(self.clients):
                own = [b"reg:p%d:own%d:%d" % (proxy, client, each) for each in range(OWN_KEYS)]
                self._own[proxy, client] = own
                fleeting = [b"once:p%d:own%d:%d" % (proxy, client, each) for each in range(ONCE_KEYS)]
                self._once[proxy, client] = _once(fleeting)
                once += fleeting
        self._batons = [iter(_batons(each)) for each in range(BATON_CLIENTS if self.proxies > 1 else 0)]
        once += itertools.chain(*(_batons(each) for each in range(len(self._batons))))
        self._lasting = sorted(itertools.chain(*self._shared, *self._own.values()))
        self._plain = [key for key in self._lasting if not key.startswith(b"list:")]
        self.keys = frozenset([*self._lasting, *once])

    # Life.

    def start(self) -> None:
        """Writes every key once, then lets the clients go."""
        for proxy in range(self.proxies):
            with self.connect(proxy) as client:
                session = next(self._sessions)
                for key in self._lasting:
                    if key.split(b":")[1] == b"p%d" % proxy:
                        self._prepare(client, key, proxy, session)
        for proxy in range(self.proxies):
            for client_number in range(self.clients):
                self._spawn(self._client, proxy, client_number)
            if self.dialect.has_tokens:
                self._spawn(self._swap, proxy, 0)
        for client_number in range(len(self._batons)):
            self._spawn(self._pass_on, 0, client_number)
        if self.noise:
            self._spawn(self._noise, 0, 0)
        if self.fills:
            self._spawn(self._fill, 0, 0)

    def stop(self) -> None:
        """Ends the clients; each finishes what it has begun. Raises what one of them raised."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        if self._errors:
            raise self._errors[0]

    def read_all(self, proxy: int) -> None:
        """Final reads of every key through one proxy."""
        with self.connect(proxy) as client:
            session = next(self._sessions)
            for key in (*self._lasting, *self._begun):
                op = self._op(Kind.GET, key, None, proxy, session)
                op.is_final = True
                client.send(self.dialect.request(Kind.GET, key, b""))
                self._finish(client, self.dialect, op)

    # Clients.

    def _spawn(self, run: object, proxy: int, number: int) -> None:
        thread = threading.Thread(target=self._guard, args=(run, proxy, number), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _guard(self, run: object, proxy: int, number: int) -> None:
        rng = random.Random(f"{self.seed}/{run.__name__}/{proxy}/{number}")  # type: ignore[attr-defined]
        try:
            while not self._stopping.is_set():
                try:
                    with self.connect(proxy) as client:
                        run(client, rng, proxy, number)  # type: ignore[operator]
                except OSError:  # also that it is not there at the moment, or silent
                    time.sleep(RETRY_SECONDS)
        except BaseException as error:
            self._errors.append(error)

    def _client(self, client: RawClient, rng: random.Random, proxy: int, number: int) -> None:
        session = next(self._sessions)
        writes, dialect = number % 2 == 0, self._dialect_of(number)
        own = self._own[proxy, number]
        while not self._stopping.is_set():
            batch = []
            for _ in range(rng.choice((1, 1, 1, 2, BATCH))):
                if writes and rng.random() < 0.75:
                    batch.append(self._write(rng, own, proxy, session, number))
                else:
                    batch.append(self._read(rng))
            self._exchange(client, dialect, batch, proxy, session)
            if rng.random() < 0.5:
                time.sleep(rng.random() * self._pause_seconds)

    def _dialect_of(self, number: int) -> Dialect:
        """Half of the clients of a Memcached, writers and readers, speak the binary protocol."""
        return BINARY if self.dialect.name == "memcached" and number % 4 >= 2 else self.dialect

    def _write(self, rng: random.Random, own: list[bytes], proxy: int, session: int, number: int) -> Ask:
        value = b"%d.%d.%d" % (proxy, session, rng.randrange(1 << 60))
        step = next(self._once[proxy, number], None) if rng.random() < ONCE else None
        if step is not None:
            kind, key = step
            if kind is Kind.SET:
                self._begun.append(key)
            return Ask(kind, [key], [value])
        if self.dialect.name == "redis" and rng.random() < MANY:
            keys = rng.sample(own, 2)
            return Ask(Kind.SET, keys, [b"%b.%d" % (value, each) for each in range(len(keys))])
        key = rng.choice(own if rng.random() < 0.5 else self._shared[proxy])
        if key.startswith(b"count:"):
            return Ask(Kind.INCR, [key], [b""])
        if key.startswith(b"list:"):
            return Ask(Kind.APPEND, [key], [value])
        if self.large and rng.random() < LARGE:
            value = b"%b+%d" % (value, rng.choice(LARGE_BYTES))
        return Ask(Kind.DELETE if rng.random() < 0.1 else Kind.SET, [key], [value])

    def _read(self, rng: random.Random) -> Ask:
        count = rng.randint(2, 5) if rng.random() < MANY else 1
        single = self._begun if self._begun and rng.random() < ONCE else self._lasting
        keys = [rng.choice(single)] if count == 1 else rng.sample(self._plain, count)
        return Ask(Kind.GET, keys, [b""] * len(keys))

    def _exchange(
        self, client: RawClient, dialect: Dialect, batch: list[Ask], proxy: int, session: int
    ) -> None:
        asked = [
            [
                self._op(ask.kind, key, value, proxy, session)
                for key, value in zip(ask.keys, ask.values, strict=True)
            ]
            for ask in batch
        ]
        at = 0
        try:
            client.send(b"".join(_request(dialect, ask) for ask in batch))
            for at, ops in enumerate(asked):  # noqa: B007
                self._finish(client, dialect, *ops)
        except OSError as failure:
            self._give_up([op for ops in asked[at:] for op in ops], failure)
            raise

    def _op(self, kind: Kind, key: bytes, value: bytes | None, proxy: int, session: int) -> Op:
        shown = value if kind in (Kind.SET, Kind.APPEND) else None
        return self.history.add(Op(kind, key, shown, proxy, session, time.monotonic()))

    def _finish(self, client: RawClient, dialect: Dialect, *ops: Op) -> None:
        """Reads the answer to the request these are of."""
        kind = ops[0].kind
        if len(ops) == 1:
            answers = [dialect.read(client, kind, ops[0].key, ops[0].value)]
        else:
            answers = dialect.read_many(client, kind, [op.key for op in ops])
        now = time.monotonic()
        for op, (outcome, value, text, is_odd) in zip(ops, answers, strict=True):
            op.end, op.outcome, op.text, op.is_odd = now, outcome, text, is_odd
            if outcome is Outcome.OK and kind in (Kind.GET, Kind.INCR):
                op.value = folded(value) if isinstance(value, bytes) else value
                op.is_part = len(ops) > 1 and self.parts_fail

    def _give_up(self, ops: Sequence[Op], failure: OSError) -> None:
        text = "silence" if isinstance(failure, TimeoutError) else "closed"
        now = time.monotonic()
        for op in ops:
            op.text = text
            if op.kind is Kind.GET:
                op.outcome, op.end = Outcome.FAIL, now

    def _prepare(self, client: RawClient, key: bytes, proxy: int, session: int) -> None:
        """The first write: counters and lists of memcached must be there to be added to."""
        if self.dialect.name == "redis" and not key.startswith(b"reg:"):
            return
        value = {b"count": b"0", b"list:": b""}.get(key[:5], b"first")
        op = self._op(Kind.SET, key, value, proxy, session)
        client.send(self.dialect.request(Kind.SET, key, value))
        self._finish(client, self.dialect, op)

    def _swap(self, client: RawClient, rng: random.Random, proxy: int, number: int) -> None:
        """Counts up by tokens what others count up by increments: reads a number, and stores the next one if
        nobody was faster. To the rules that is an increment like any other."""
        assert isinstance(self.dialect, Memcached)
        session = next(self._sessions)
        keys = [key for key in self._shared[proxy] if key.startswith(b"count:")]
        while not self._stopping.is_set():
            key = rng.choice(keys)
            op = self._op(Kind.GET, key, None, proxy, session)
            try:
                client.send(self.dialect.token_request(key))
                answer, token = self.dialect.read_token(client, key)
                _note(op, answer)
                if isinstance(answer[1], int):
                    op = self._op(Kind.INCR, key, None, proxy, session)
                    client.send(self.dialect.swap_request(key, answer[1] + 1, token))
                    _note(op, self.dialect.read_swap(client, answer[1] + 1))
            except OSError as failure:
                self._give_up([op], failure)
                raise
            time.sleep(rng.random() * self._pause_seconds)

    def _pass_on(self, client: RawClient, rng: random.Random, proxy: int, number: int) -> None:
        """Counts through one proxy after the other, each time when the last one has answered. A key of which
        it is not known what became is left alone: it may come late, and then two would write at once."""
        client.close()
        first = Kind.INCR if self.dialect.name == "redis" else Kind.SET  # where it must be there before
        for key in self._batons[number]:
            kind, outcome, is_read = first, Outcome.OK, False
            while outcome is not Outcome.UNKNOWN and not self._stopping.is_set():
                at = rng.randrange(self.proxies)
                try:
                    with self.connect(at) as client:
                        outcome = self._ask(client, kind, key, b"0", at)
                except OSError:  # it is not there at the moment: nothing was sent
                    time.sleep(RETRY_SECONDS)
                    continue
                if outcome is Outcome.OK and kind is Kind.INCR and not is_read:
                    self._begun.append(key)
                    is_read = True
                kind = Kind.INCR if outcome is Outcome.OK else kind
                time.sleep(rng.random() * self._pause_seconds)

    def _ask(self, client: RawClient, kind: Kind, key: bytes, value: bytes, proxy: int) -> Outcome:
        """One request on a connection of its own."""
        op = self._op(kind, key, value, proxy, next(self._sessions))
        try:
            client.send(self.dialect.request(kind, key, value))
            self._finish(client, self.dialect, op)
        except OSError as failure:
            self._give_up([op], failure)
        return op.outcome

    def _noise(self, client: RawClient, rng: random.Random, proxy: int, number: int) -> None:
        while not self._stopping.is_set():
            batch = self.dialect.noise(rng, rng.choice((1, 2, 8)))
            client.send(b"".join(request for request, _ in batch))
            for _, is_values in batch:
                self.dialect.read_noise(client, is_values)
                self.noise_answers += 1
            time.sleep(rng.random() * self._pause_seconds)

    def _fill(self, client: RawClient, rng: random.Random, proxy: int, number: int) -> None:
        data = b"x" * FILLER_BYTES
        for filler in itertools.count():
            if self._stopping.is_set():
                return
            client.send(b"set fill:%d 0 0 %d\r\n%b\r\n" % (filler, len(data), data))
            client.read_line()


def _note(op: Op, answer: Answer) -> None:
    """What came of a request."""
    op.end = time.monotonic()
    op.outcome, value, op.text, op.is_odd = answer
    op.value = value if op.outcome is Outcome.OK else op.value


def _request(dialect: Dialect, ask: Ask) -> bytes:
    if len(ask.keys) > 1:
        return dialect.many(ask.kind, ask.keys, ask.values)
    return dialect.request(ask.kind, ask.keys[0], expanded(ask.values[0]))


def expanded(value: bytes) -> bytes:
    """What is stored for a value of the history: ``0.1.77+3`` stands for itself and three more bytes, so that
    a history of large values stays small."""
    return value + FILLER * int(value.partition(b"+")[2] or 0)


def folded(data: bytes) -> bytes:
    """The value of the history that `expanded` makes into this; where there is none, the beginning of it,
    marked as damaged."""
    value = data[: data.find(FILLER)] if FILLER in data else data
    if not re.fullmatch(rb"(first|[0-9.]+(\+[0-9]+)?)", value) or expanded(value) != data:
        return b"damaged, %d bytes: %b" % (len(data), data[:100])
    return value


def _batons(client: int) -> list[bytes]:
    return [b"count:baton%d:%d" % (client, each) for each in range(BATONS)]


def _once(keys: Sequence[bytes]) -> Iterator[tuple[Kind, bytes]]:
    """The writes of keys that are written once: each is deleted when some later ones are there."""
    for at, key in enumerate(keys):
        yield Kind.SET, key
        if at >= ONCE_ALIVE:
            yield Kind.DELETE, keys[at - ONCE_ALIVE]
