"""Copies a Redis key by key for `proxy.tasks.copying`, as `proxy.control.redis_copying` says.

Must not know views' rules, leases or phases. Asks both servers, and says which keys are to be copied again.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from functools import partial

from proxy.control.copying import BATCH_KEYS, Key, KeyList
from proxy.control.model import Condition, Reason
from proxy.control.redis_copying import (
    TRIAL_MS,
    Doubts,
    Outcome,
    Placed,
    State,
    has_needed_version,
    is_reserved,
    judge_restore,
    read_states,
    restore_requests,
    sized,
    sizes_request,
    state_requests,
    transaction,
)
from proxy.control.reserved import token_key, trial_key
from proxy.control.resync import Trouble, may_overwrite
from proxy.control.routing import resp_request, select_request
from proxy.control.view import RESERVED_PREFIX
from proxy.tasks.job import BATCH_SECONDS, GivenUp, Job, asking
from proxy.tasks.link import Link, LinkError, Talk
from proxy.tasks.wire import ErrorReply, Reply, RespReader, condition_of, info_fields, key_counts, reason_of

SCAN_COUNT = str(BATCH_KEYS)
RESERVED_SCAN_COUNT = "10000"
"""Where few of the keys looked at are returned."""
REPLY_BYTES = 768 << 20
"""Of one reply: a server takes no payload above 512 MiB, unless told so (proto-max-bulk-len)."""
BYTES_PER_SECOND = 10 << 20
"""At least, for a batch that is larger than others for one large value in it."""
FUNCTION_ROUNDS = 8
"""Libraries are loaded when an application starts, not all the time."""
VIEW_PREFIX = f"{RESERVED_PREFIX}view:".encode()
END = b"0"
"""The cursor behind the last keys of a SCAN, and the one it begins with."""


class RedisCopier:
    """One attempt's asking."""

    renews_view = True

    def __init__(self, job: Job) -> None:
        self._job = job
        self._shard = job.desk.shard
        self._address = job.target.address
        pool = self._shard().pool
        self._source, self._sink = (
            Link(
                each.address,
                "redis",
                pool.login,
                pool.connect_timeout,
                reader=partial(RespReader, REPLY_BYTES),
            )
            for each in (job.leader, job.target)
        )
        self._token_key = token_key(job.owner.pool, job.owner.shard)
        self._token = ""
        self._tokens = 0
        self._doubts = Doubts()
        self._scanned: list[tuple[Link, int]] = []
        self._cursor = END
        self._ready: list[list[Key]] = []

    def close(self) -> None:
        """Closes the connections of its own."""
        self._source.close()
        self._sink.close()

    # Before it joins.

    async def check(self) -> None:
        """Versions, and whether the target takes a payload of the leader."""
        job = self._job
        for link in (self._source, self._sink):
            fields = info_fields(await link.exchange(asking("INFO", "server"), job.seconds))
            version = fields.get("redis_version", "")
            if version and not has_needed_version(version):
                raise GivenUp(Trouble.UNSUPPORTED, f"{link.address} is older than 7.0: it has no PEXPIRETIME")
        payload = await self._tell(self._source, "DUMP", job.view_key)
        if not isinstance(payload, bytes):
            raise GivenUp(Trouble.LEADER_CHANGED, "it lacks the view's record")
        trial = trial_key(job.owner.pool, job.owner.shard)
        request = resp_request("RESTORE", trial, str(TRIAL_MS), payload, "REPLACE")
        (reply,) = await self._ask(self._sink, request, 1)
        if isinstance(reply, ErrorReply) and "DUMP payload version" in reply.text:
            detail = f"{self._address} does not read what {job.leader.address} dumps: is it older?"
            raise GivenUp(Trouble.UNSUPPORTED, detail)
        if condition_of(reply) is not Condition.OOM:  # there is room once it is empty
            _refuse_errors([reply])

    async def prepare(self) -> None:
        """Removes what the target holds, and gives it the record that it is stale by, in one transaction."""
        job = self._job
        reserved, cursor = set(), END
        while True:
            words = ("SCAN", cursor, "MATCH", f"{RESERVED_PREFIX}*", "COUNT", RESERVED_SCAN_COUNT)
            cursor, keys = _scanned(await self._tell(self._sink, *words))
            reserved |= set(keys)
            if cursor == END:
                break
        ours = job.view_key.encode()
        foreign = [key for key in sorted(reserved) if key.startswith(VIEW_PREFIX) and key != ours]
        if foreign:
            raise GivenUp(Trouble.FOREIGN_RECORD, foreign[0].decode("utf-8", "replace"))
        found = await self._databases(self._sink)
        is_empty = sum(found.values()) == found.get(0, 0) <= len(reserved)
        shard = self._shard()
        if shard.view is None or shard.view.joining or self._address in shard.view.in_sync:
            raise GivenUp(Trouble.LEADER_CHANGED)
        change = [] if is_empty else [(0, resp_request("FLUSHALL", "ASYNC"))]
        change.append((0, resp_request("SET", job.view_key, shard.record)))

        async def work(talk: Talk) -> list[Reply] | None:
            watched, record = await talk(
                resp_request("WATCH", job.view_key) + resp_request("GET", job.view_key), 2
            )
            if watched != b"OK" or not (record is None or isinstance(record, bytes)):
                raise GivenUp(Trouble.REFUSED, _text(watched if watched != b"OK" else record))
            if not may_overwrite(self._shard(), record, self._address):
                raise GivenUp(Trouble.TARGET_CHANGED)
            return await _executed(talk, change)

        answers = await self._sink.exchange(work, BATCH_SECONDS)
        if answers is None:
            raise GivenUp(Trouble.TARGET_CHANGED)
        _refuse_errors(answers)

    # The copy.

    async def begin(self) -> int:
        """Makes requests of earlier attempts void; returns what the leader's data takes, in bytes."""
        await self._draw_token()
        # What comes into a database that is empty by now is a write, and comes to the target by itself.
        self._scanned = [
            (link, number)
            for link in (self._sink, self._source)
            for number in sorted({0, *await self._databases(link)})
        ]
        info = info_fields(await self._source.exchange(asking("INFO", "memory"), self._job.seconds))
        memory = info.get("used_memory_dataset", "")
        return int(memory) if memory.isdigit() else 0

    async def more(self, size_limit: int) -> list[Key]:
        """The next keys, none at the end: those that only the target has, then the leader's."""
        while not self._ready and self._scanned:
            link, database = self._scanned[0]
            request = resp_request("SCAN", self._cursor, "COUNT", SCAN_COUNT)
            (reply,) = await self._ask(link, request, 1, database)
            _refuse_errors([reply])
            cursor, names = _scanned(reply)
            words = [name for name in names if not is_reserved(name)]
            asked = (self._source, self._sink) if link is self._sink else (self._source,)
            sizes = [await self._ask(each, sizes_request(words), len(words), database) for each in asked]
            keys = sized(words, sizes, database)
            self._doubts.everything = link is self._sink
            self._ready = list(KeyList(keys).batches(size_limit))
            self._cursor = cursor
            if cursor == END:
                self._scanned.pop(0)
        if self._ready:
            return self._ready.pop(0)
        return []

    async def copy(self, batch: Sequence[Key]) -> list[Key]:
        """Copies these keys; returns those to copy again."""
        try:
            again = await self._copy(batch)
        except LinkError:
            self._doubts.add(batch)
            self._token = ""  # what is on its way shall not arrive later
            raise
        self._doubts.settle(batch)
        return again

    async def _copy(self, batch: Sequence[Key]) -> list[Key]:
        if not self._token:
            await self._draw_token()
        if self._doubts.everything:
            wrong = await self._compare(batch, {key.place for key in batch})
        else:
            wrong = await self._add(batch)
        await self._change([(key.database, resp_request("DEL", key.word)) for key in wrong], batch)
        return wrong

    async def _add(self, batch: Sequence[Key]) -> list[Key]:
        """Adds those that the target lacks; returns those that are wrong there by now."""
        fetched = await self._states(self._source, batch)
        copies = [
            (key, state) for key, state in zip(batch, fetched, strict=True) if state.payload is not None
        ]
        added: list[tuple[Key, State]] = []
        is_there = {key.place for key, _ in copies}
        doubtful = [key for key in batch if key.place not in is_there and key in self._doubts]
        answers = await self._change(restore_requests(copies), batch)
        for copy, answer in zip(copies, answers, strict=True):
            error = answer.text if isinstance(answer, ErrorReply) else None
            outcome = judge_restore(answer, error)
            if outcome is Outcome.REFUSED:
                raise GivenUp(Trouble.REFUSED, f"RESTORE: {_text(answer)}")
            if outcome is Outcome.ADDED:
                added.append(copy)
            elif copy[0] in self._doubts:
                doubtful.append(copy[0])
        verified = await self._states(self._source, [key for key, _ in added])
        wrong = [key for (key, state), now in zip(added, verified, strict=True) if now != state]
        return wrong + await self._compare(doubtful, is_there)

    async def _compare(self, keys: Sequence[Key], expected: Container[tuple[int, bytes]]) -> list[Key]:
        """Those that are on the target, and not as the leader has them; or were ``expected`` there, and have
        expired, or were removed by a request that broke off: the leader may have what is newer."""
        held = await self._states(self._sink, keys)
        there = [
            (key, state)
            for key, state in zip(keys, held, strict=True)
            if state.payload is not None or key.place in expected
        ]
        states = await self._states(self._source, [key for key, _ in there])
        return [key for (key, state), now in zip(there, states, strict=True) if now != state]

    async def finish(self) -> None:
        """Copies the libraries of functions; then removes the token, by which requests that are still on
        their way are void."""
        try:
            if not self._token:
                await self._draw_token()
            await self._copy_functions()
            await self._change([(0, resp_request("DEL", self._token_key))], ())
        except LinkError:
            self._token = ""
            raise

    async def _copy_functions(self) -> None:
        """All at once, until the leader had the same before and behind it: by now every proxy writes to both,
        so what changes later comes to the target by itself. A library that is loaded in between may come
        twice, which the target refuses; it then leaves, and is copied anew."""
        for _ in range(FUNCTION_ROUNDS):
            payload = await self._functions()
            if payload is None:
                return
            restore = resp_request("FUNCTION", "RESTORE", payload, "FLUSH")
            _refuse_errors(await self._change([(0, restore)], ()))
            if await self._functions() == payload:
                return
        raise GivenUp(Trouble.REFUSED, "FUNCTION DUMP: it is never the same")

    async def _functions(self) -> bytes | None:
        """The leader's libraries; None where nobody may see them, and so nobody may load any."""
        (reply,) = await self._ask(self._source, resp_request("FUNCTION", "DUMP"), 1)
        return reply if isinstance(reply, bytes) else None

    # Asking.

    async def _states(self, link: Link, keys: Sequence[Key]) -> list[State]:
        if not keys:
            return []

        async def work(talk: Talk) -> list[Reply] | None:
            return await _executed(talk, state_requests(keys))

        answers = await link.exchange(work, _seconds(keys))
        if answers is None:
            raise GivenUp(Trouble.REFUSED, "EXEC")
        _refuse_errors(answers)
        states = read_states(answers)
        if states is None:
            raise GivenUp(Trouble.REFUSED, "DUMP")
        return states

    async def _change(self, requests: list[Placed], keys: Sequence[Key]) -> list[Reply]:
        """Changes the target, if it is still ours: the view's record and our token stand there."""
        if not requests:
            return []
        job = self._job
        watched = job.view_key, self._token_key
        has_begun = False

        async def work(talk: Talk) -> list[Reply] | None:
            nonlocal has_begun
            if has_begun:
                raise LinkError(Reason.EOF)  # it may have been done, so it is not the same again
            has_begun = True
            look = resp_request("WATCH", *watched) + b"".join(resp_request("GET", each) for each in watched)
            ready, record, token = await talk(look, 3)
            if ready != b"OK":
                raise GivenUp(Trouble.REFUSED, f"WATCH: {_text(ready)}")
            if record != self._shard().record:
                raise GivenUp(Trouble.TARGET_CHANGED)
            if token != self._token.encode():
                raise GivenUp(Trouble.LEASE_LOST)
            return await _executed(talk, requests)

        answers = await self._sink.exchange(work, _seconds(keys))
        if answers is None:
            raise GivenUp(Trouble.TARGET_CHANGED)
        return answers

    async def _draw_token(self) -> None:
        """From here on only what this attempt sends from now on counts."""
        job = self._job
        self._tokens += 1
        token = f"{job.owner.proxy}:{job.clock()}:{self._tokens}"

        async def work(talk: Talk) -> list[Reply] | None:
            ready, record = await talk(
                resp_request("WATCH", job.view_key) + resp_request("GET", job.view_key), 2
            )
            if ready != b"OK":
                raise GivenUp(Trouble.REFUSED, f"WATCH: {_text(ready)}")
            if record != self._shard().record:
                raise GivenUp(Trouble.TARGET_CHANGED)
            return await _executed(talk, [(0, resp_request("SET", self._token_key, token))])

        answers = await self._sink.exchange(work, job.seconds)
        if answers is None:
            raise GivenUp(Trouble.TARGET_CHANGED)
        _refuse_errors(answers)
        self._token = token

    async def _databases(self, link: Link) -> dict[int, int]:
        return key_counts(await link.exchange(asking("INFO", "keyspace"), self._job.seconds))

    async def _tell(self, link: Link, *words: str | bytes) -> Reply:
        (reply,) = await self._ask(link, resp_request(*words), 1)
        if isinstance(reply, ErrorReply):
            raise GivenUp(Trouble.REFUSED, f"{words[0]!s}: {_text(reply)}")
        return reply

    async def _ask(self, link: Link, request: bytes, count: int, database: int = 0) -> list[Reply]:
        if not count:
            return []

        async def work(talk: Talk) -> list[Reply]:
            if not database:
                return await talk(request, count)
            (selected,) = await talk(select_request(database), 1)
            if selected != b"OK":
                raise GivenUp(Trouble.REFUSED, f"{link.address}: SELECT {database}: {_text(selected)}")
            return (await talk(request + select_request(0), count + 1))[:count]

        return await link.exchange(work, BATCH_SECONDS)


async def _executed(talk: Talk, requests: list[Placed]) -> list[Reply] | None:
    """The answers in a transaction; None if a watched key had changed."""
    batch, is_answer = transaction(requests)
    replies = await talk(batch, 2 + len(is_answer))
    answers = replies[-1]
    if isinstance(answers, list):
        _refuse_errors([answer for answer, is_asked in zip(answers, is_answer, strict=True) if not is_asked])
        return [answer for answer, is_asked in zip(answers, is_answer, strict=True) if is_asked]
    refusal = next((reply for reply in replies if isinstance(reply, ErrorReply)), None)
    if refusal is not None:
        raise GivenUp(Trouble.REFUSED, _text(refusal))
    if answers is not None:
        raise LinkError(reason_of(answers))
    return None


def _refuse_errors(replies: Sequence[Reply]) -> None:
    for reply in replies:
        if isinstance(reply, ErrorReply):
            raise GivenUp(Trouble.REFUSED, _text(reply))


def _scanned(reply: Reply) -> tuple[bytes, list[bytes]]:
    if not isinstance(reply, list) or len(reply) != 2:
        raise GivenUp(Trouble.REFUSED, "SCAN")
    cursor, keys = reply
    if not isinstance(cursor, bytes) or not isinstance(keys, list):
        raise GivenUp(Trouble.REFUSED, "SCAN")
    return cursor, [key for key in keys if isinstance(key, bytes)]


def _seconds(keys: Sequence[Key]) -> float:
    return BATCH_SECONDS + sum(key.size for key in keys) / BYTES_PER_SECOND


def _text(reply: Reply) -> str:
    """What a server said, for a log line; never a value or a key."""
    return reply.brief if isinstance(reply, ErrorReply) else "an answer of another kind"
