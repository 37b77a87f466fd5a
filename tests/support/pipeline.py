"""Requests by the hundred thousand: built as bytes, sent in batches, the replies compared as bytes.

Called by tests that compare what two programs do with the same keys. Knows just enough of both
protocols to write a request; replies are the caller's expectation.
"""

from collections.abc import Iterable, Iterator

from support.raw import Closed, RawClient

BATCH_BYTES = 48 * 1024
"""Bytes sent before their replies are read: below what the sockets of both sides hold, so that neither
side can wait for the other while both write."""


def resp(*words: bytes | str | int) -> bytes:
    """One RESP request of these words."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        data = word if isinstance(word, bytes) else str(word).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


def bulk(data: bytes) -> bytes:
    """One RESP bulk string."""
    return b"$%d\r\n%b\r\n" % (len(data), data)


def exchange(client: RawClient, pairs: Iterable[tuple[bytes, bytes]]) -> int:
    """Sends the first of each pair, pipelined, and compares the replies with the second.

    Returns:
        The number of pairs.

    Raises:
        AssertionError: a reply differs; the message has the first request it happened to.
    """
    count = 0
    for batch in _batches(pairs):
        client.send(b"".join(request for request, _ in batch))
        expected = b"".join(reply for _, reply in batch)
        try:
            got = client.read_exactly(len(expected))
        except (TimeoutError, Closed) as short:  # replies differ in length: the last never come
            raise AssertionError(_first_difference(batch, client.unread)) from short
        if got != expected:
            raise AssertionError(_first_difference(batch, got))
        count += len(batch)
    return count


def _batches(pairs: Iterable[tuple[bytes, bytes]]) -> Iterator[list[tuple[bytes, bytes]]]:
    batch: list[tuple[bytes, bytes]] = []
    size = 0
    for pair in pairs:
        batch.append(pair)
        size += len(pair[0]) + len(pair[1])
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _first_difference(batch: list[tuple[bytes, bytes]], got: bytes) -> str:
    at = 0
    for request, reply in batch:
        if got[at : at + len(reply)] != reply:
            return f"{request!r}: expected {reply!r}, got {got[at : at + len(reply) + 80]!r}"
        at += len(reply)
    return f"all replies equal, {len(got) - at} bytes more"
