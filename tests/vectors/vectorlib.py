"""What the generators of golden vectors share: the keys, the file format, a pipelined question.

Called by the ``make_*.py`` scripts beside this file; the format is described in README.md. Knows
nothing of how any program places keys: a mistake made here and in the engine alike would prove
nothing.
"""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import trio

HERE = Path(__file__).parent
SEED = 20_240_229
"""Fixed, so that a second run makes the same files."""

PLAIN = frozenset(range(0x21, 0x7F)) - frozenset(b'%,"#')
"""Bytes written as themselves in the files; all others as ``%XX``."""


def first_line(*command: str) -> str:
    """The first line that a program prints, such as its version.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return (done.stdout + done.stderr).split("\n")[0]


@dataclass(frozen=True)
class Shard:
    """One server as the program was told of it.

    Attributes:
        label: what the program hashes to place the server.
        weight: share of the keys.
        address: set if the program made the label from this address; else it was given a name.
    """

    label: str
    weight: int = 1
    address: str | None = None


def keys(count: int = 1600) -> list[bytes]:
    """Distinct keys of many shapes: counters, words, UTF-8, any bytes, long ones; no blank, no control byte
    below 0x21, none empty, so that both protocols can carry them."""
    rng = random.Random(SEED)
    words = ["user", "session", "cart", "bull", "tmp", "page", "rate", "lock"]
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:/"
    wide = "äöüßéèñçøåλдяשبあ漢字🙂"
    high = [*range(0x21, 0x7F), *range(0x80, 0x100)]
    shapes: list[Callable[[], bytes]] = [
        lambda: f"{rng.choice(words)}:{rng.randrange(10**6)}".encode(),
        lambda: "".join(rng.choices(letters, k=rng.randint(1, 20))).encode(),
        lambda: f"{rng.choice(words)}:{rng.getrandbits(64):016x}".encode(),
        lambda: "".join(rng.choices(letters + wide, k=rng.randint(1, 12))).encode(),
        lambda: bytes(rng.choices(high, k=rng.randint(1, 14))),
    ]
    found: dict[bytes, None] = {b"apple": None}
    found.update(dict.fromkeys(bytes([byte]) for byte in range(0x80, 0x100, 7)))
    # Every length up to 64 for the block-wise hashes, then to memcached's limit and beyond.
    for length in [*range(1, 65), 100, 127, 128, 249, 250, 251, 600, 1500]:
        found["".join(rng.choices(letters, k=length)).encode()] = None
    while len(found) < count:
        found[rng.choice(shapes)()] = None
    return list(found)


def tagged_keys(opening: str, closing: str, count: int = 500) -> list[bytes]:
    """Keys around a hash tag: whole, empty, nested, reversed, unclosed, several."""
    rng = random.Random(SEED)
    shapes = ["O{t}C{r}", "{r}O{t}C", "{r}O{t}C{r}O{r}C", "{r}OC{t}", "OC{r}O{t}C", "{r}O{t}", "{r}C{t}"]
    shapes += ["{r}C{t}O{r}", "OO{t}CC", "O{t}CC{r}", "{r}", "{t}C{r}O{t}C", "O{t}C", "O{t}éC{r}"]
    found: dict[bytes, None] = {}
    while len(found) < count:
        shape = rng.choice(shapes).replace("O", opening).replace("C", closing)
        tag, rest = f"u{rng.randrange(60)}", f"{rng.getrandbits(24):x}"
        found[shape.replace("{t}", tag).replace("{r}", rest).encode()] = None
    return list(found)


def encode_key(key: bytes) -> str:
    return "".join(chr(byte) if byte in PLAIN else f"%{byte:02X}" for byte in key)


def write_vectors(
    path: Path,
    *,
    program: str,
    distribution: str,
    shards: Sequence[Shard],
    keys: Sequence[bytes],
    columns: Mapping[str, Sequence[int]],
    hash_tag: str = "",
) -> None:
    """Writes one file; ``columns`` holds one number per key under a hash's name, ``shard`` or ``hash``.

    Raises:
        ValueError: a column has another length than the keys, or no column tells any keys apart. (One
            column may: under ketama twemproxy's crc32 puts nearly all keys on one server.)
    """
    for name, column in columns.items():
        if len(column) != len(keys):
            raise ValueError(f"{path.name}: {len(column)} numbers under {name} for {len(keys)} keys")
    if all(len(set(column)) == 1 for column in columns.values()):
        raise ValueError(f"{path.name}: every key has the same answer")
    lines = [f"# program {program}", f"# distribution {distribution}"]
    if hash_tag:
        lines.append(f"# hash_tag {hash_tag}")
    lines += [f"# shard {each.weight} {each.label} {each.address or ''}".rstrip() for each in shards]
    lines.append(",".join(["key", *columns]))
    for row, key in enumerate(keys):
        numbers = [str(column[row]) for column in columns.values()]
        lines.append(",".join([encode_key(key), *numbers]))
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{path.relative_to(HERE)}: {len(keys)} keys, {path.stat().st_size // 1024} KiB")


def resp_request(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


class LineReader:
    """Lines and counted blocks from a stream."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._buffer = bytearray()

    async def _fill(self) -> None:
        data = await self._stream.receive_some(65536)
        if not data:
            raise EOFError("the other side closed the connection")
        self._buffer += data

    async def line(self) -> bytes:
        """The next line without its CRLF.

        Raises:
            EOFError: the stream ended.
        """
        while (end := self._buffer.find(b"\r\n")) < 0:
            await self._fill()
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    async def block(self, length: int) -> bytes:
        """The next ``length`` bytes; the CRLF behind them is dropped.

        Raises:
            EOFError: the stream ended.
        """
        while len(self._buffer) < length + 2:
            await self._fill()
        block = bytes(self._buffer[:length])
        del self._buffer[: length + 2]
        return block


async def ask_integers(host: str, port: int, requests: Sequence[bytes]) -> list[int]:
    """Sends all requests in one pipeline; each reply must be an integer, plain or as a bulk string.

    Raises:
        EOFError: the connection ended early.
        ValueError: another reply.
    """
    answers: list[int] = []
    with trio.fail_after(60):
        async with await trio.open_tcp_stream(host, port) as stream, trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, b"".join(requests))
            reader = LineReader(stream)
            for _ in requests:
                line = await reader.line()
                if line[:1] == b"$":
                    line = b":" + await reader.block(int(line[1:]))
                if line[:1] != b":":
                    raise ValueError(f"not an integer: {line!r}")
                answers.append(int(line[1:]))
    return answers


async def wait_until_listening(host: str, port: int) -> None:
    """Waits until something accepts connections there.

    Raises:
        trio.TooSlowError: nothing did within 10 seconds.
    """
    with trio.fail_after(10):
        while True:
            try:
                stream = await trio.open_tcp_stream(host, port)
            except OSError:
                await trio.sleep(0.02)
            else:
                await stream.aclose()
                return
