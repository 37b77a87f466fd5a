"""The command line: what each command prints and which exit code it ends with.

The engine is a stand-in here (placement is proven by the tests of the engine); everything else is real.
"""

import subprocess
import sys
import types
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from proxy import cli
from proxy.errors import (
    AdminUnreachableError,
    BackendStartError,
    EngineError,
    ListenError,
    MissingProgramError,
)

CONFIG = """\
pools:
  sessions:
    protocol: redis
    listen: 127.0.0.1:6380
    hash: md5
    hash_tag: "{}"
    shards:
      - {name: s1, backends: [{address: "127.0.0.1:7001", zone: a}, "127.0.0.1:7002"]}
      - {name: second, weight: 2, backends: ["127.0.0.1:7003"]}
  lone:
    protocol: memcached
    listen: 127.0.0.1:11311
    shards: [{name: m, backends: ["127.0.0.1:7101"]}]
"""


class FakeRoute(NamedTuple):
    shard: int
    hash: int
    hashed: bytes
    prefix: bytes = b""
    pool: int | None = None


class FakePoolTable:
    """Places keys by CRC-32 of what stands in braces; looks like `_engine.PoolTable`."""

    def __init__(
        self,
        *,
        hash: str,
        distribution: str,
        hash_tag: str,
        shards: Sequence[Any],
        absent: Sequence[int],
        routes: Sequence[tuple[bytes, int]],
        leads: Sequence[tuple[bytes, int]],
    ) -> None:
        if distribution == "jump":
            raise ValueError("the engine knows better")
        self._shards = shards
        self._routes, self._leads = routes, leads

    def route(self, key: bytes) -> FakeRoute:
        for prefix, pool in self._leads:
            if key.startswith(prefix):
                return FakeRoute(0, 0, b"", prefix, pool)
        for prefix, shard in self._routes:
            if key.startswith(prefix):
                return FakeRoute(shard, 0, b"", prefix)
        hashed = key.partition(b"{")[2].partition(b"}")[0] or key
        number = zlib.crc32(hashed)
        return FakeRoute(number % len(self._shards), number, hashed)


@pytest.fixture
def _fake_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    import proxy

    engine = types.ModuleType("proxy._engine")
    engine.PoolTable = FakePoolTable  # type: ignore[attr-defined]
    engine.ShardTable = lambda **fields: types.SimpleNamespace(**fields)  # type: ignore[attr-defined]
    engine.BackendTable = lambda **fields: types.SimpleNamespace(**fields)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "proxy._engine", engine)
    monkeypatch.setattr(proxy, "_engine", engine, raising=False)
    # Whoever has bound the real one must be imported again now, and once more afterwards.
    monkeypatch.delitem(sys.modules, "proxy.placement", raising=False)
    monkeypatch.delattr(proxy, "placement", raising=False)


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "f.yaml"
    path.write_text(CONFIG)
    return str(path)


class Result(NamedTuple):
    code: int
    out: str
    err: str


Shell = Callable[..., Result]


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    """Runs the command in this process."""

    def run(*arguments: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["shardproxy", *arguments])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code
        return Result(code if isinstance(code, int) else 0, *capsys.readouterr())

    return run


def test_help_names_every_command(shell: Shell) -> None:
    result = shell("--help")
    assert result.code == 0
    for command in ("run", "check", "route", "status", "resync", "demo"):
        assert f" {command} " in result.out


def test_version(shell: Shell) -> None:
    result = shell("--version")
    assert result.code == 0
    assert result.out.startswith("shardproxy ")


def test_an_unknown_command_is_a_usage_error(shell: Shell) -> None:
    result = shell("serve")
    assert result.code == 2
    assert "No such command 'serve'" in result.err


@pytest.mark.usefixtures("_fake_engine")
def test_check_shows_pools_shards_and_shares(shell: Shell, config: str) -> None:
    result = shell("check", "--config", config)
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[0].startswith("workers ")
    assert "pool sessions: redis on 127.0.0.1:6380" in lines
    assert "  ketama, hash md5, hash tag {}; writes fanout, ack all; reads primary" in lines
    s1 = next(line for line in lines if line.startswith("  s1 "))
    assert s1.split()[:3] == ["s1", "weight", "1"]
    assert 49 < float(s1.split()[3].rstrip("%")) < 51
    assert s1.endswith("127.0.0.1:7001 (a), 127.0.0.1:7002")
    assert next(line for line in lines if line.startswith("  m ")).split()[3] == "100.00%"
    assert lines[-1] == f"{config}: ok"


@pytest.mark.usefixtures("_fake_engine")
def test_check_shows_routes(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    routes = "routes: [{prefix: 'bull:', shard: s1}, {prefix: 'tmp:', pool: lone}]"
    path.write_text(
        CONFIG.replace("hash: md5", f"hash: md5\n    {routes}").replace(
            "protocol: memcached", "protocol: redis"
        )
    )
    result = shell("check", "-c", str(path))
    assert (result.code, result.err) == (0, "")
    assert (
        "  keys that begin with 'bull:': shard s1\n  keys that begin with 'tmp:': pool lone\n" in result.out
    )


@pytest.mark.usefixtures("_fake_engine")
def test_check_prints_warnings_and_still_succeeds(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    path.write_text(CONFIG.replace("hash: md5", "hash: crc32"))
    result = shell("check", "-c", str(path))
    assert result.code == 0
    assert result.err.startswith(f"warning: {path}:5: pools.sessions.hash: crc32 gives 15 bits")
    assert result.out.endswith("ok, 1 warning(s)\n")


@pytest.mark.usefixtures("_fake_engine")
@pytest.mark.parametrize("command", [("check",), ("route", "--pool", "lone", "k")])
def test_what_only_the_engine_refuses_is_a_problem_of_the_file_too(
    shell: Shell, tmp_path: Path, command: tuple[str, ...]
) -> None:
    path = tmp_path / "f.yaml"
    path.write_text(CONFIG.replace("  lone:\n", "  lone:\n    distribution: jump\n"))
    result = shell(*command, "--config", str(path))
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"{path}: pools.lone: the engine knows better\n")


@pytest.mark.parametrize("command", [("check",), ("run",), ("route", "--pool", "p", "k")])
def test_every_problem_of_the_file_is_printed_by_each_command_that_reads_it(
    shell: Shell, tmp_path: Path, command: tuple[str, ...]
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(CONFIG.replace("hash:", "hsah:").replace("weight: 2", "weight: 0"))
    result = shell(*command, "--config", str(path))
    assert (result.code, result.out) == (2, "")
    assert result.err.splitlines() == [
        f"{path}:5: pools.sessions.hsah: unknown key; did you mean 'hash'?",
        f"{path}:9: pools.sessions.shards[1].weight: expected a whole number from 1 to 1000; got 0",
        f"shardproxy: 2 problems in {path}",
    ]


def test_a_missing_file(shell: Shell, tmp_path: Path) -> None:
    result = shell("check", "--config", f"{tmp_path}/no.yaml")
    assert result.code == 2
    assert result.err.startswith(f"{tmp_path}/no.yaml: cannot be read: No such file or directory\n")


@pytest.mark.usefixtures("_fake_engine")
def test_route_says_where_and_why(shell: Shell, config: str) -> None:
    result = shell("route", "--config", config, "--pool", "sessions", "user{7}:a", "plain", "{}x")
    number = zlib.crc32(b"7")
    shard, backends = [("s1", "127.0.0.1:7001, 127.0.0.1:7002"), ("second", "127.0.0.1:7003")][number % 2]
    assert result.code == 0
    assert result.out.splitlines()[:5] == [
        f"'user{{7}}:a' -> shard {shard}",
        f"  backends     {backends}",
        "  distribution ketama",
        "  hashed       '7'  (between the first {} of the key)",
        f"  hash         md5 {number} (0x{number:08x})",
    ]
    assert "  hashed       'plain'  (the whole key)" in result.out


@pytest.mark.usefixtures("_fake_engine")
def test_route_in_a_pool_of_one_shard_hashes_nothing(shell: Shell, config: str) -> None:
    result = shell("route", "--config", config, "--pool", "lone", "k\udcff")
    assert result.out.splitlines() == [
        "'k\\xff' -> shard m",
        "  backends     127.0.0.1:7101",
        "  distribution ketama",
        "  why          the pool has one shard, so nothing is hashed",
    ]


@pytest.mark.usefixtures("_fake_engine")
def test_route_explains_distributions_that_bring_their_own_hash(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text(CONFIG.replace("hash: md5", "distribution: slots"))
    line = f"  hash         of slots {zlib.crc32(b'k')} (0x{zlib.crc32(b'k'):08x})"
    assert line in shell("route", "-c", str(path), "-p", "sessions", "k").out.splitlines()
    path.write_text(CONFIG.replace("hash: md5", "distribution: random"))
    out = shell("route", "-c", str(path), "-p", "sessions", "k").out
    assert out == "'k' -> any shard\n  why          distribution random: another one each time\n"


@pytest.mark.usefixtures("_fake_engine")
@pytest.mark.parametrize("distribution", ["ketama", "random"])
def test_route_names_the_prefix_that_decides(shell: Shell, tmp_path: Path, distribution: str) -> None:
    path = tmp_path / "f.yaml"
    routes = f"distribution: {distribution}\n    routes: [{{prefix: 'bull:', shard: second}}]"
    path.write_text(CONFIG.replace("hash: md5", routes))
    assert shell("route", "-c", str(path), "-p", "sessions", "bull:1").out.splitlines() == [
        "'bull:1' -> shard second",
        "  backends     127.0.0.1:7003",
        "  why          the route of the prefix 'bull:'",
    ]


@pytest.mark.usefixtures("_fake_engine")
def test_route_names_the_pool_that_has_the_key(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    scratch = CONFIG.partition("pools:\n")[2].partition("  lone:")[0].replace("second", "other")
    path.write_text(
        CONFIG.replace("hash: md5", "routes: [{prefix: 'tmp:', pool: scratch}]")
        + scratch.replace("sessions", "scratch").replace("6380", "6381").replace("700", "710")
    )
    number = zlib.crc32(b"7")
    shard, backends = [("s1", "127.0.0.1:7101, 127.0.0.1:7102"), ("other", "127.0.0.1:7103")][number % 2]
    assert shell("route", "-c", str(path), "-p", "sessions", "tmp:{7}").out.splitlines() == [
        f"'tmp:{{7}}' -> shard {shard} of pool scratch, by the route of the prefix 'tmp:'",
        f"  backends     {backends}",
        "  distribution ketama",
        "  hashed       '7'  (between the first {} of the key)",
        f"  hash         md5 {number} (0x{number:08x})",
    ]
    assert "of pool" not in shell("route", "-c", str(path), "-p", "scratch", "tmp:{7}").out


@pytest.mark.usefixtures("_fake_engine")
def test_route_with_an_unknown_pool_names_the_nearest(shell: Shell, config: str) -> None:
    result = shell("route", "--config", config, "--pool", "session", "k")
    assert result.code == 2
    assert "no pool 'session'; did you mean 'sessions'?" in result.err
    assert "there are: sessions, lone" in shell("route", "--config", config, "--pool", "x", "k").err


def test_status_without_a_proxy_says_what_to_look_for(shell: Shell) -> None:
    # Port 1 is tcpmux, which nobody runs; connecting to it is refused.
    result = shell("status", "--admin", "127.0.0.1:1")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("shardproxy: nothing listens on 127.0.0.1:1: is shardproxy running there?")


@pytest.mark.parametrize("raw", [False, True])
def test_status_prints_a_table_or_the_raw_answer(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, raw: bool
) -> None:
    shards: dict[str, Any] = {"s1": {"epoch": 3, "lead": None, "backends": []}}
    status = {"pools": {"p": {"epoch": 1, "protocol": "redis", "shards": shards}}}
    monkeypatch.setattr("proxy.admin.client.fetch_status", lambda address: (f"raw from {address}", status))
    result = shell("status", "--admin", "h:1", *(["--json"] if raw else []))
    assert result.code == 0
    assert (result.out == "raw from h:1\n") is raw
    assert ("1 shard, 0 with a lead" in result.out) is not raw


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ListenError("pool p", "h:1", "taken"), 3),
        (EngineError("x"), 4),
        (MissingProgramError("x"), 5),
        (BackendStartError("x"), 5),
        (AdminUnreachableError("x"), 1),
    ],
)
def test_errors_become_one_line_and_their_exit_code(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    def fail(address: str) -> None:
        raise error

    monkeypatch.setattr("proxy.admin.client.fetch_status", fail)
    assert shell("status") == (code, "", f"shardproxy: {error}\n")


def test_the_command_line_itself_imports_nothing_heavy() -> None:
    heavy = ("trio", "pydantic", "starlette", "rich.console")
    script = f"import sys, proxy.cli; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
