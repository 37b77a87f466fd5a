"""What the binary protocol has beyond single requests: logins, barriers, statistics, limits, staying in step.

That its answers are a server's is compared in test_binary_differential.py.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support import packets
from support.cluster import Cluster
from support.eventually import eventually
from support.packets import Reply, ask, item_extras, packet, read_packet, read_until_noop
from support.proxy_process import ProxyProcess
from support.raw import RawClient

LIMIT = 1_200_000
"""Above what a memcached takes, which is 1 MiB with all that belongs to an item."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster("memcached", shards=3, workers=2, limits={"request_bytes": LIMIT}) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: Cluster) -> Iterator[RawClient]:
    with RawClient(cluster.proxy.memcached_port) as client:
        yield client


def store(client: RawClient, key: bytes, value: bytes, opcode: int = packets.SET) -> Reply:
    return ask(client, packet(opcode, key, value, extras=item_extras()))


def test_the_first_byte_tells_the_protocols_apart(cluster: Cluster, client: RawClient) -> None:
    assert store(client, b"first", b"value").status == 0
    with RawClient(cluster.proxy.memcached_port) as text:
        text.send(b"get first\r\n")
        text.expect(b"VALUE first 0 5\r\nvalue\r\nEND\r\n")
        text.send(packet(packets.VERSION) + b"\r\nversion\r\n")
        text.expect(b"ERROR\r\n")
        assert text.read_line().startswith(b"VERSION ")
    client.send(b"get first\r\n" + bytes(24))
    assert client.expect_closed() == b""


def test_a_noop_is_answered_behind_all_shards(client: RawClient) -> None:
    names = [b"barrier%d" % n for n in range(300)]
    stores = [packet(packets.SETQ, name, name * 3, extras=item_extras(7)) for name in names]
    client.send(b"".join(stores) + packet(packets.NOOP, opaque=b"done"))
    assert read_until_noop(client, b"done") == []
    asked = [name for pair in zip(names, [b"none" + name for name in names], strict=True) for name in pair]
    gets = [packet(packets.GETKQ, name, opaque=n.to_bytes(4, "big")) for n, name in enumerate(asked)]
    client.send(b"".join(gets) + packet(packets.NOOP, opaque=b"done"))
    found = read_until_noop(client, b"done")
    assert [reply.key for reply in found] == names, "in the order they were asked for, without the misses"
    for n, reply in enumerate(found):
        assert reply.value == names[n] * 3
        assert reply.extras == (7).to_bytes(4, "big")
        assert reply.opaque == (2 * n).to_bytes(4, "big")


def test_a_token_is_good_for_one_change(client: RawClient) -> None:
    for n in range(30):
        key = b"token%d" % n
        stored = store(client, key, b"0")
        assert stored.cas == ask(client, packet(packets.GET, key)).cas != 0
        swap = packet(packets.SET, key, b"1", extras=item_extras(), cas=stored.cas)
        assert [ask(client, swap).status for _ in range(2)] == [0, 2]
        removed = packet(packets.DELETE, key, cas=stored.cas)
        assert ask(client, removed).status == 2
        assert (
            ask(client, packet(packets.SET, b"none" + key, extras=item_extras(), cas=stored.cas)).status == 1
        )


@pytest.mark.parametrize("size", [LIMIT + 1, 1_100_000], ids=["for the proxy", "for the servers"])
@pytest.mark.parametrize("opcode", [packets.SET, packets.SETQ, packets.APPEND])
def test_too_large_is_said_and_passed_over(client: RawClient, size: int, opcode: int) -> None:
    assert store(client, b"large", b"small").status == 0
    extras = b"" if opcode == packets.APPEND else item_extras()
    client.send(packet(opcode, b"large", bytes(size), extras=extras) + packet(packets.NOOP, opaque=b"done"))
    (reply,) = read_until_noop(client, b"done")
    assert (reply.opcode, reply.status, reply.value) == (opcode, 3, b"Too large.")
    if opcode != packets.APPEND:
        assert ask(client, packet(packets.GET, b"large")).status == 1, (
            "what was there is gone, as in a server"
        )


def test_a_value_near_the_limit_comes_back(client: RawClient) -> None:
    value = bytes(range(256)) * 4000
    assert store(client, b"near", value).status == 0
    assert ask(client, packet(packets.GETK, b"near"))[4:] == (bytes(4), b"near", value)


def test_what_follows_an_unknown_opcode_is_answered(client: RawClient) -> None:
    """Also when it has a key, of which a memcached passes over too much."""
    for data in (
        packet(0x1B, b"key", b"value", extras=b"1234"),
        packet(0xEE, value=bytes(100)),
        packet(0x1F),
    ):
        client.send(data + packet(packets.GET, b"nothing here"))
        assert (read_packet(client).status, read_packet(client).status) == (0x81, 1)


def test_a_key_that_no_line_can_carry_has_to_be_shorter(client: RawClient) -> None:
    assert store(client, b" " * 186, b"v").status == 0
    assert ask(client, packet(packets.GET, b" " * 186)).value == b"v"
    assert store(client, b" " * 187, b"v")[1:] == (4, b"opaq", 0, b"", b"", b"Invalid arguments")
    assert store(client, b"x" * 250, b"v").status == 0


def test_keys_of_the_proxy_are_not_shown(client: RawClient) -> None:
    reply = ask(client, packet(packets.GET, b"__shardproxy:view"))
    assert reply.status == 4
    assert b"reserved" in reply.value


def statistics(client: RawClient, name: bytes) -> dict[bytes, bytes]:
    client.send(packet(packets.STAT, name))
    rows = {}
    while (reply := read_packet(client)).key:
        rows[reply.key] = reply.value
    assert reply.value == b""
    return rows


def test_statistics_are_those_of_the_text_protocol(cluster: Cluster, client: RawClient) -> None:
    store(client, b"counted", b"v")
    for name in (b"", b"settings", b"items"):
        with RawClient(cluster.proxy.memcached_port) as text:
            text.send(b"stats " + name + b"\r\n")
            lines = text.read_until(b"END\r\n").splitlines()[:-1]
        assert statistics(client, name).keys() == {line.split()[1] for line in lines}, name
    assert statistics(client, b"reset") == {}
    assert ask(client, packet(packets.STAT, b"a\r\nflush_all")).status == 1


@pytest.mark.parametrize("opcode", [packets.FLUSH, packets.FLUSHQ])
def test_a_flush_may_come_later(opcode: int, cluster: Cluster, client: RawClient) -> None:
    """With the moment in its extras, as `flush_all` has it in text."""
    assert store(client, b"flushed", b"v").status == 0
    client.send(packet(opcode, extras=(2).to_bytes(4, "big")) + packet(packets.NOOP, opaque=b"done"))
    statuses = [(reply.opcode, reply.status) for reply in read_until_noop(client, b"done")]
    assert statuses == ([] if opcode == packets.FLUSHQ else [(opcode, 0)])
    assert ask(client, packet(packets.GET, b"flushed")).value == b"v", "it is not time yet"
    eventually(
        lambda: ask(client, packet(packets.GET, b"flushed")).status == 1, within=10, what="it is flushed"
    )
    assert set(cluster.proxy.backend_states("p").values()) == {"in_sync"}


def test_any_segments_will_do(client: RawClient) -> None:
    data = [
        packet(packets.SETQ, b"slow", b"value", extras=item_extras(3)),
        packet(packets.GETK, b"slow"),
        packet(packets.VERSION),
        packet(packets.NOOP, opaque=b"done"),
    ]
    client.send_bytewise(b"".join(data))
    found, version = read_until_noop(client, b"done")
    assert (found.key, found.value) == (b"slow", b"value")
    assert version.value.startswith(b"1.")


def test_a_backend_that_is_gone_is_an_error_with_its_reason() -> None:
    with Cluster("memcached", replicas=1) as cluster, RawClient(cluster.proxy.memcached_port) as client:
        assert store(client, b"k", b"v").status == 0
        cluster.servers[0][0].kill9()
        eventually(lambda: ask(client, packet(packets.GET, b"k")).status == 0x84, what="it is noticed")
        for opcode in (packets.GETQ, packets.DELETEQ):
            reply = ask(client, packet(opcode, b"k"))
            assert (reply.opcode, reply.status) == (opcode, 0x84), "quiet is not silent about failures"
            assert reply.value, "no reason is given"


# --- logins -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    folder: Path = tmp_path_factory.mktemp("sasl")
    for user, password in {"app": "secret", "other": "pass\x01word"}.items():
        (folder / user).write_text(password + "\n")
    users = [{"name": user, "password_file": str(folder / user)} for user in ("app", "other")]
    with Cluster("memcached", shards=2, auth={"users": users}) as cluster:
        yield cluster.proxy


@pytest.fixture
def guest(guarded: ProxyProcess) -> Iterator[RawClient]:
    with RawClient(guarded.memcached_port) as client:
        yield client


def login(client: RawClient, response: bytes, mechanism: bytes = b"PLAIN") -> tuple[int, bytes]:
    reply = ask(client, packet(packets.SASL_AUTH, mechanism, response))
    return reply.status, reply.value


def test_sasl_plain_logs_in(guest: RawClient) -> None:
    assert ask(guest, packet(packets.VERSION)).status == 0
    assert ask(guest, packet(packets.SASL_LIST)).value == b"PLAIN"
    assert login(guest, b"\0app\0secret") == (0, b"Authenticated")
    assert store(guest, b"k", b"v").status == 0
    settings = statistics(guest, b"settings")
    assert settings[b"auth_enabled_sasl"] == settings[b"auth_enabled_ascii"] == b"yes"
    assert ask(guest, packet(packets.SASL_AUTH, b"plain", b"somebody\0other\0pass\x01word")).status == 0


def test_sasl_in_two_steps(guest: RawClient) -> None:
    step = packet(packets.SASL_STEP, b"PLAIN", b"\0app\0secret")
    assert ask(guest, step).status == 0x20, "a step that nothing was begun for"
    assert login(guest, b"") == (0x21, b"")
    assert ask(guest, packet(packets.SASL_STEP, b"PLAIN", b"\0app\0wrong")).status == 0x20
    assert ask(guest, step).value == b"Authenticated"
    assert ask(guest, step).status == 0x20, "it has ended"


@pytest.mark.parametrize(
    "response", [b"\0app\0wrong", b"\0other\0secret", b"app\0secret", b"\0\0", b"secret", b"\0app\0secret\0"]
)
def test_who_is_not_known_is_not_let_in(guest: RawClient, response: bytes) -> None:
    assert login(guest, response) == (0x20, b"Auth failure.")
    assert login(guest, b"\0app\0secret", b"CRAM-MD5") == (0x20, b"Auth failure.")
    guest.send(packet(packets.GETQ, b"k") + packet(packets.NOOP))
    assert read_packet(guest)[:2] == (packets.GETQ, 0x20)
    assert guest.expect_closed() == b"", "nothing is taken from who has not logged in"


def test_a_login_is_bounded(guest: RawClient) -> None:
    """Refused when its length is read and passed over; whoever has logged in may send more."""
    assert login(guest, b"x" * 16_384) == (0x20, b"Auth failure.")
    guest.send(packet(packets.SASL_AUTH, b"PLAIN", b"x" * 16_385)[:-16_385])
    refusal = read_packet(guest)
    assert (refusal.status, refusal.value) == (3, b"Too large.")
    guest.send(b"x" * 16_385)
    assert login(guest, b"\0app\0secret") == (0, b"Authenticated")
    assert login(guest, b"x" * 16_385) == (0x20, b"Auth failure.")


def test_a_login_that_fails_ends_the_one_before(guest: RawClient) -> None:
    assert login(guest, b"\0app\0secret")[0] == 0
    assert login(guest, b"\0app\0wrong")[0] == 0x20
    assert ask(guest, packet(packets.GET, b"k")).status == 0x20


def test_without_users_there_is_no_sasl(client: RawClient) -> None:
    for data in (
        packet(packets.SASL_LIST),
        packet(packets.SASL_AUTH, b"PLAIN", b"\0a\0b"),
        packet(packets.SASL_STEP, b"PLAIN", b"\0a\0b"),
    ):
        assert ask(client, data).status == 0x81
    assert ask(client, packet(packets.NOOP)).status == 0
