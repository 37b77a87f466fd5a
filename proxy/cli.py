"""The command ``shardproxy``: arguments in, an exit code out.

Each command imports what it needs when it runs, so that ``--help`` and ``check`` start fast. Errors
that an operator can act on (`ShardproxyError`) become one message on standard error and the error's
exit code: 0 fine, 1 failed, 2 configuration or usage, 3 an address is taken, 4 the engine refused,
5 a program of the demo is missing or did not start.
"""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from proxy.errors import ConfigError, ConfigProblem, ShardproxyError

if TYPE_CHECKING:
    from proxy.config import Loaded, PoolConfig
    from proxy.placement import Placed, Placement

app = typer.Typer(
    name="shardproxy",
    help="One address in front of many Redis or Memcached servers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ConfigOption = Annotated[
    str,
    typer.Option(
        "--config", "-c", metavar="FILE", envvar="SHARDPROXY_CONFIG", help="Configuration file (YAML)."
    ),
]


def main() -> None:
    """Entry point of the installed command and of ``python -m proxy``."""
    try:
        app()
    except ShardproxyError as error:
        _complain(error)
        sys.exit(error.exit_code)


def _complain(error: ShardproxyError) -> None:
    if isinstance(error, ConfigError):
        count = len(error.problems)
        print(error, file=sys.stderr)
        print(f"shardproxy: {count} problem{'s' if count > 1 else ''} in {error.file}", file=sys.stderr)
    else:
        print(f"shardproxy: {error}", file=sys.stderr)


def version() -> str:
    """The installed version; the single source is the engine's Cargo.toml."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("shardproxy")
    except PackageNotFoundError:
        return "unknown (not installed)"


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"shardproxy {version()}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def run(config: ConfigOption) -> None:
    """Serve until SIGTERM or Ctrl-C; then drain."""
    from proxy import log
    from proxy.config import load

    loaded = load(config)
    log.setup(loaded.config.log.level, loaded.config.log.format)
    lines = log.Log("config")
    for warning in loaded.warnings:
        lines.warning(str(warning))

    from proxy.app import serve

    sys.exit(serve(loaded))


@app.command()
def check(config: ConfigOption) -> None:
    """Validate a configuration and show what it means."""
    from proxy.config import load

    loaded = load(config)
    for line in _summary(loaded):
        print(line)
    for warning in loaded.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(f"{config}: ok" + (f", {len(loaded.warnings)} warning(s)" if loaded.warnings else ""))


def _placement(loaded: "Loaded", pool: str) -> "Placement":
    from proxy.placement import Placement

    try:
        return Placement(loaded.config.pools[pool], loaded.config.pools)
    except ValueError as error:
        # The schema should have said it, with a line; the engine's word is the last one all the same.
        problem = ConfigProblem(loaded.file, 0, f"pools.{pool}", str(error))
        raise ConfigError((problem,)) from None


def _summary(loaded: "Loaded") -> list[str]:
    lines = [f"workers {loaded.config.workers}, admin on {loaded.config.admin.listen}"]
    for name, pool in loaded.config.pools.items():
        lines += ["", f"pool {name}: {pool.protocol} on {', '.join(pool.listen)}"]
        tag = f", hash tag {pool.hash_tag}" if pool.hash_tag else ""
        writes = f"writes {pool.replication.mode}, ack {pool.replication.ack}"
        lines.append(f"  {pool.distribution}, hash {_hash_name(pool)}{tag}; {writes}; reads {pool.reads}")
        shares = _placement(loaded, name).shares()
        width = max(len(shard.name) for shard in pool.shards)
        for shard, share in zip(pool.shards, shares, strict=True):
            backends = ", ".join(b.address + (f" ({b.zone})" if b.zone else "") for b in shard.backends)
            lines.append(f"  {shard.name:<{width}}  weight {shard.weight:<4} {share:7.2%}  {backends}")
        for led in pool.routes:
            target = f"pool {led.pool}" if led.pool else f"shard {led.shard}"
            lines.append(f"  keys that begin with {_shown(led.prefix.encode())}: {target}")
    return [*lines, ""]


@app.command()
def route(
    config: ConfigOption,
    pool: Annotated[str, typer.Option("--pool", "-p", metavar="P", help="Name of the pool.")],
    keys: Annotated[list[str], typer.Argument(metavar="KEY...", help="Keys, as a client would send them.")],
) -> None:
    """Show which shard and backends own a key, and why."""
    import os

    from proxy.config import load

    loaded = load(config)
    _pool_of(loaded, pool)
    placement = _placement(loaded, pool)
    for key in keys:
        # Arguments that are no UTF-8 come as surrogates; a key is bytes and goes through unchanged.
        raw = os.fsencode(key)
        placed = placement.place(raw)
        settings = loaded.config.pools[placed.pool or pool]
        if settings.distribution == "random" and len(settings.shards) > 1 and not placed.prefix:
            print(f"{_shown(raw)} -> any shard{_of(placed)}")
            print("  why          distribution random: another one each time")
            continue
        print(f"{_shown(raw)} -> shard {placed.shard.name}{_of(placed)}")
        print(f"  backends     {', '.join(backend.address for backend in placed.shard.backends)}")
        if (heir := placement.heir(raw)) is not None:
            print(f"  if lost      shard {heir.name}, until {placed.shard.name} is back and empty")
        if placed.prefix:
            print(f"  why          the route of the prefix {_shown(placed.prefix)}")
            continue
        print(f"  distribution {settings.distribution}")
        if len(settings.shards) == 1:
            print("  why          the pool has one shard, so nothing is hashed")
            continue
        print(f"  hashed       {_shown(placed.hashed)}{_why(raw, placed.hashed, settings)}")
        print(f"  hash         {_hash_name(settings)} {placed.hash} (0x{placed.hash:08x})")


def _of(placed: "Placed") -> str:
    return (
        f" of pool {placed.pool}, by the route of the prefix {_shown(placed.led_by)}" if placed.pool else ""
    )


def _hash_name(pool: "PoolConfig") -> str:
    from proxy.config.checks import OWN_HASH

    return f"of {pool.distribution}" if pool.distribution in OWN_HASH else pool.hash


def _why(key: bytes, hashed: bytes, pool: "PoolConfig") -> str:
    if hashed != key:
        return f"  (between the first {pool.hash_tag or '{}'} of the key)"
    return "  (the whole key)" if pool.hash_tag else ""


def _shown(key: bytes) -> str:
    return repr(key)[1:]


def _pool_of(loaded: "Loaded", name: str) -> "PoolConfig":
    import difflib

    pools = loaded.config.pools
    if name not in pools:
        near = difflib.get_close_matches(name, list(pools), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(pools)}"
        raise typer.BadParameter(f"no pool {name!r}{hint}", param_hint="--pool")
    return pools[name]


@app.command()
def status(
    admin: Annotated[
        str,
        typer.Option(metavar="ADDR", envvar="SHARDPROXY_ADMIN", help="Admin address of a running proxy."),
    ] = "127.0.0.1:9180",
    json: Annotated[bool, typer.Option("--json", help="Print the raw answer.")] = False,
) -> None:
    """Show pools, shards and backends of a running proxy."""
    from proxy.admin.client import fetch_status, print_status

    raw, parsed = fetch_status(admin)
    if json:
        print(raw)
    else:
        print_status(parsed)


@app.command()
def resync(
    pool: Annotated[str, typer.Option("--pool", "-p", metavar="P", help="Name of the pool.")],
    shard: Annotated[str, typer.Option("--shard", "-s", metavar="S", help="Name of the shard.")],
    backend: Annotated[
        str | None,
        typer.Option("--backend", "-b", metavar="A", help="Its address; default: the first stale."),
    ] = None,
    admin: Annotated[
        str,
        typer.Option(metavar="ADDR", envvar="SHARDPROXY_ADMIN", help="Admin address of a running proxy."),
    ] = "127.0.0.1:9180",
) -> None:
    """Have a stale backend filled from its shard's leader, now."""
    from proxy.admin.client import ask_resync

    refusal = ask_resync(admin, pool, shard, backend)
    if refusal is not None:
        print(f"shardproxy: {refusal}", file=sys.stderr)
        sys.exit(1)
    print("begun; `shardproxy status` shows how far it is")


@app.command()
def demo(
    redis_port: Annotated[int, typer.Option(envvar="REDIS_PORT", min=1, max=65535)] = 6380,
    memcached_port: Annotated[int, typer.Option(envvar="MEMCACHED_PORT", min=1, max=65535)] = 11311,
    admin_port: Annotated[int, typer.Option(envvar="ADMIN_PORT", min=1, max=65535)] = 9180,
) -> None:
    """Start private redis-server and memcached children and a proxy in front of them."""
    from proxy.demo import Ports, run_demo

    sys.exit(run_demo(Ports(redis_port, memcached_port, admin_port)))
