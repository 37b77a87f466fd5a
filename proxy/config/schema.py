"""The schema of the configuration file: every key, its type, default, bounds and meaning.

This is the one list of options: validation, ``check``, defaults and the test of
``deploy/example.yaml`` all read it. Models are frozen; unknown keys are errors. In code a duration is
``<key>_seconds`` (the file says ``connect: 250ms``); sizes are whole bytes.

Nothing here reads the YAML file (see ``load``) or compares one part with another (see ``checks``).
Keys and values that the design names but this version lacks are refused by name, so that nobody
believes in a promise that is not kept.
"""

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from proxy.config.address import parse_address
from proxy.config.cpus import read_usable_cpus
from proxy.config.secret import Secret, Sources
from proxy.config.units import (
    format_duration,
    format_size,
    parse_duration,
    parse_share,
    parse_size,
)
from proxy.control.naming import default_label

# What the engine offers; a test compares both with `_engine.HASHES` and `_engine.DISTRIBUTIONS`.
HASHES = (
    "one_at_a_time", "md5", "crc16", "crc32", "crc32a", "fnv1_64", "fnv1a_64", "fnv1_32", "fnv1a_32",
    "hsieh", "murmur", "jenkins",
)  # fmt: skip
DISTRIBUTIONS = (
    "ketama", "modula", "random", "libmemcached_ketama", "libmemcached_ketama_weighted", "rendezvous",
    "slots", "jump",
)  # fmt: skip

# Pool and shard names become labels of metrics, ring labels and part of reserved keys in backends.
NAME_PATTERN = r"[A-Za-z0-9_.:/@-]{1,64}"
_NAME = re.compile(NAME_PATTERN)
# As twemproxy limits nothing here, the number is ours: more copies than this help nobody, and the
# engine keeps the set of replicas of a shard in a 16-bit mask.
REPLICAS_MAX = 16
# An engine worker is a thread with its own epoll loop; the engine numbers them in one byte.
WORKERS_MAX = 255
# What redis-server has; the engine numbers them in a few bits.
DATABASES_MAX = 16
# As long as a key of memcached may be.
PREFIX_LENGTH_MAX = 250
LATER = "is not available in this version"


def _duration(least: float, most: float, *, zero: str | None = None) -> BeforeValidator:
    # `zero` says what 0 means where it is allowed ("never", "off").
    def read(value: object) -> float:
        seconds = parse_duration(value)
        if seconds == 0 and zero is not None:
            return seconds
        if not least <= seconds <= most:
            or_zero = f", or 0 for {zero}" if zero is not None else ""
            raise ValueError(
                f"expected a duration from {format_duration(least)} to {format_duration(most)}{or_zero}"
            )
        return seconds

    return BeforeValidator(read)


def _size(least: int, most: int) -> BeforeValidator:
    def read(value: object) -> int:
        size = parse_size(value)
        if not least <= size <= most:
            raise ValueError(f"expected a size from {format_size(least)} to {format_size(most)}")
        return size

    return BeforeValidator(read)


def _whole(least: int, most: int) -> BeforeValidator:
    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError(f"expected a whole number from {least} to {most}")
        return value

    return BeforeValidator(read)


def _name(value: object) -> str:
    if not isinstance(value, str) or _NAME.fullmatch(value) is None:
        raise ValueError("expected a name of 1 to 64 letters, digits or _ . : / @ -")
    return value


def _prefix(value: object) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= PREFIX_LENGTH_MAX:
        raise ValueError(f"expected what keys begin with, 1 to {PREFIX_LENGTH_MAX} characters")
    return value


def _listen_address(value: object) -> str:
    if isinstance(value, dict) and "tls" in value:
        raise ValueError(f"TLS on listeners {LATER}; expected a plain address")
    if isinstance(value, dict) and set(value) == {"address"}:
        value = value["address"]
    if not isinstance(value, str):
        raise ValueError("expected an address: host:port, [ipv6]:port or unix:/path")
    parse_address(value, port_zero=True)
    return value


def _backend_address(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("expected an address: host:port, [ipv6]:port or unix:/path")
    parse_address(value)
    return value  # as written, not as parsed: the text may be hashed into a ring label


def _one_or_many(value: object) -> object:
    return [value] if isinstance(value, str | dict) else value


def _refuse_later(values: dict[str, str]) -> BeforeValidator:
    # A valid word whose feature is still to come gets a message of its own instead of "expected one of".
    def read(value: object) -> object:
        if isinstance(value, str) and value in values:
            raise ValueError(f"{value!r} {LATER}; expected {values[value]}")
        return value

    return BeforeValidator(read)


Name = Annotated[str, BeforeValidator(_name)]
ListenAddress = Annotated[str, BeforeValidator(_listen_address)]
BackendAddress = Annotated[str, BeforeValidator(_backend_address)]
MILLISECOND, MINUTE, HOUR, DAY = 1e-3, 60.0, 3600.0, 86400.0


class Model(BaseModel):
    """Base of all sections: frozen, no unknown keys, secrets out of error messages."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=False)


class AdminConfig(Model):
    listen: ListenAddress = Field(
        default="127.0.0.1:9180", description="where metrics, probes and status are served"
    )


class LogConfig(Model):
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least level written"
    )
    format: Literal["text", "json"] = Field(default="text", description="one line each: key=value or JSON")


class BackendConfig(Model):
    """One server. In the file a bare string is short for ``{address: ...}``."""

    address: BackendAddress = Field(description="where the server is reached")
    zone: str = Field(default="", max_length=64, description="where it stands, for reads: nearest")

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        return {"address": value} if isinstance(value, str) else value


class ShardConfig(Model):
    """A slice of the keys, held by each of its backends; the first is the preferred primary."""

    name: Name = Field(default="", description="ring label; default by the distribution's naming rule")
    weight: Annotated[int, _whole(1, 1000)] = Field(default=1, description="share of the ring")
    backends: tuple[BackendConfig, ...] = Field(min_length=1, max_length=REPLICAS_MAX)
    _is_named: bool = PrivateAttr(default=False)

    @property
    def is_named(self) -> bool:
        """Whether the file gave the name (True) or the naming rule did."""
        return self._is_named

    @model_validator(mode="after")
    def _remember(self) -> Self:
        self._is_named = bool(self.name)
        return self


class RouteConfig(Model):
    """Keys that begin with ``prefix`` belong to ``shard``, whatever their hash, or are placed by another
    ``pool`` among its own; the longest prefix wins."""

    prefix: Annotated[str, BeforeValidator(_prefix)] = Field(description="what such keys begin with")
    shard: Name = Field(default="", description="name of the shard that has them")
    pool: Name = Field(default="", description="or name of the pool that has them")

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if bool(self.shard) == bool(self.pool):
            raise ValueError("expected exactly one of shard and pool")
        return self


class ReplicationConfig(Model):
    mode: Annotated[
        Literal["fanout", "none"], _refuse_later({"native": "fanout or none"})
    ] = Field(default="fanout", description="who brings writes to the replicas")  # fmt: skip
    ack: Literal["all", "quorum", "primary"] = Field(default="all", description="answers before the client's")


class TimeoutsConfig(Model):
    connect_seconds: Annotated[float, _duration(MILLISECOND, MINUTE)] = Field(default=0.25, alias="connect")
    request_seconds: Annotated[float, _duration(MILLISECOND, HOUR)] = Field(default=1.0, alias="request")
    client_idle_seconds: Annotated[float, _duration(MILLISECOND, 30 * DAY, zero="never")] = Field(
        default=0.0, alias="client_idle"
    )


class HealthConfig(Model):
    interval_seconds: Annotated[float, _duration(10 * MILLISECOND, 10 * MINUTE)] = Field(
        default=1.0, alias="interval"
    )
    timeout_seconds: Annotated[float, _duration(MILLISECOND, MINUTE)] = Field(default=0.5, alias="timeout")
    fall: Annotated[int, _whole(1, 100)] = Field(default=3, description="failed probes in a row before down")
    rise: Annotated[int, _whole(1, 100)] = Field(default=2, description="good probes in a row before back")


class ResyncConfig(Model):
    """How backends that missed writes are brought back."""

    auto: bool = Field(default=True, description="without being asked")
    method: Literal["auto", "replicaof", "copy"] = Field(
        default="auto", description="by the servers' own replication or key by key"
    )
    parallel: Annotated[int, _whole(1, 1000)] = Field(default=1, description="shards at once, per proxy")
    rate: Annotated[int, _size(0, 1 << 40)] = Field(
        default=100 << 20,
        description="bytes a second that the proxy copies for one shard; 0 for no limit",
    )


class LimitsConfig(Model):
    clients: Annotated[int, _whole(1, 1_000_000)] = 10_000
    request_bytes: Annotated[int, _size(1 << 10, 512 << 20)] = 64 << 20
    client_inflight: Annotated[int, _whole(1, 1_000_000)] = 4096
    client_output_bytes: Annotated[int, _size(1 << 12, 4 << 30)] = 64 << 20
    backend_inflight: Annotated[int, _whole(1, 10_000_000)] = 65_536


NO_SECRET = Secret(b"")


class Credential(Model):
    """A password from exactly one of a file and an environment variable, read when the file is."""

    password_file: str | None = None
    password_env: str | None = None
    _password: Secret = PrivateAttr(default=NO_SECRET)

    @property
    def password(self) -> Secret:
        return self._password

    @model_validator(mode="before")
    @classmethod
    def _no_plain_password(cls, value: object) -> object:
        if isinstance(value, dict) and "password" in value:
            raise ValueError("expected password_file or password_env: passwords do not stand in this file")
        return value

    @model_validator(mode="after")
    def _read(self, info: ValidationInfo) -> Self:
        if (self.password_file is None) == (self.password_env is None):
            raise ValueError("expected exactly one of password_file and password_env")
        sources = info.context if isinstance(info.context, Sources) else Sources()
        if self.password_file is not None:
            self._password = sources.from_file(self.password_file)
        elif self.password_env is not None:
            self._password = sources.from_environment(self.password_env)
        return self


class UserConfig(Credential):
    name: Name = Field(description="name clients log in with; `default` is AUTH with a password alone")


class AuthConfig(Model):
    users: tuple[UserConfig, ...] = Field(default=(), max_length=1000)


class BackendAuthConfig(Credential):
    user: str = Field(default="", max_length=256, description="empty for AUTH with a password alone")


class PoolConfig(Model):
    """One listener in front of a list of shards. Redis and Memcached pools take the same keys."""

    protocol: Literal["redis", "memcached"]
    listen: Annotated[tuple[ListenAddress, ...], BeforeValidator(_one_or_many)] = Field(
        min_length=1, max_length=64
    )
    hash: str = "fnv1a_64"
    distribution: str = "ketama"
    hash_tag: str = Field(default="", description="two characters; what stands between them is hashed")
    shards: tuple[ShardConfig, ...] = Field(min_length=1, max_length=4096)
    routes: tuple[RouteConfig, ...] = Field(default=(), max_length=1000)
    replication: ReplicationConfig = ReplicationConfig()
    reads: Literal["primary", "nearest", "spread"] = "primary"
    bootstrap: Literal["sync", "trust", "refuse"] = "sync"
    views: Literal["available", "majority"] = "available"
    cross_shard: Literal["split", "refuse"] = "split"
    keyless_scripts: Literal["one", "all"] = "one"
    cluster: Literal["disabled", "emulate"] = "disabled"
    databases: Annotated[int, _whole(1, DATABASES_MAX)] = DATABASES_MAX
    hedge_after_seconds: Annotated[float, _duration(0, DAY)] = Field(default=0.0, alias="hedge_after")
    on_shard_loss: Literal["error", "remap"] = "error"
    panic_threshold: Annotated[float, BeforeValidator(parse_share)] = 0.5
    timeouts: TimeoutsConfig = TimeoutsConfig()
    health: HealthConfig = HealthConfig()
    limits: LimitsConfig = LimitsConfig()
    resync: ResyncConfig = ResyncConfig()
    auth: AuthConfig = AuthConfig()
    backend_auth: BackendAuthConfig | None = None
    admin_commands: tuple[Literal["monitor"], ...] = Field(
        default=(), max_length=1, description="commands clients may use that are kept from them otherwise"
    )

    @property
    def routes_by_position(self) -> tuple[tuple[bytes, int], ...]:
        """Those to shards, as the engine takes them: prefix, and position of the shard."""
        positions = {shard.name: position for position, shard in enumerate(self.shards)}
        return tuple((route.prefix.encode(), positions[route.shard]) for route in self.routes if route.shard)

    def leads_by_position(self, pools: Iterable[str]) -> tuple[tuple[bytes, int], ...]:
        """Those to other pools, as the engine takes them: prefix, and position of the pool.

        Args:
            pools: the names of all pools, in the order of the file.
        """
        positions = {name: position for position, name in enumerate(pools)}
        return tuple((route.prefix.encode(), positions[route.pool]) for route in self.routes if route.pool)

    @field_validator("hash", "distribution")
    @classmethod
    def _known(cls, value: str, info: ValidationInfo) -> str:
        known = HASHES if info.field_name == "hash" else DISTRIBUTIONS
        if value not in known:
            raise UnknownWord(value, known)
        return value

    @field_validator("hash_tag")
    @classmethod
    def _two_characters(cls, value: str) -> str:
        if value and (len(value) != 2 or not value.isascii() or not value.isprintable() or " " in value):
            raise ValueError('expected two characters such as "{}", or "" for none')
        return value

    @field_validator("hedge_after_seconds")
    @classmethod
    def _no_hedging_yet(cls, value: float) -> float:
        if value:
            raise ValueError(f"hedging {LATER}; expected 0")
        return value

    @model_validator(mode="after")
    def _name_shards(self) -> Self:
        # Done once here, so that everybody sees the same label; a frozen model has no other way in.
        shards = tuple(self._named(position, shard) for position, shard in enumerate(self.shards))
        self.__dict__["shards"] = shards
        return self

    def _named(self, position: int, shard: ShardConfig) -> ShardConfig:
        if shard.name:
            return shard
        label = default_label(self.distribution, shard.backends[0].address)
        if _NAME.fullmatch(label) is None:
            raise ValueError(f"shards[{position}] needs a name: its default {label!r} cannot be one")
        return shard.model_copy(update={"name": label})


class UnknownWord(ValueError):
    """A word that is not in a list; carries the list, so that ``load`` can name the nearest."""

    def __init__(self, word: str, known: tuple[str, ...]) -> None:
        self.word, self.known = word, known
        super().__init__(f"expected one of {', '.join(known)}; got {word!r}")


def _workers(value: object) -> int:
    if value == "auto":
        return min(read_usable_cpus(), WORKERS_MAX)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= WORKERS_MAX:
        raise ValueError(f"expected auto or a whole number from 1 to {WORKERS_MAX}")
    return value


def _frozen(pools: Mapping[str, PoolConfig]) -> Mapping[str, PoolConfig]:
    return MappingProxyType(dict(pools))


class Config(Model):
    """The whole file. ``pools`` keeps the order of the file: positions in the engine are its positions."""

    admin: AdminConfig = AdminConfig()
    workers: Annotated[int, BeforeValidator(_workers)] = Field(default="auto", validate_default=True)
    log: LogConfig = LogConfig()
    zone: str = Field(
        default="", max_length=64, description="where this proxy stands; SHARDPROXY_ZONE overrides"
    )
    shutdown_grace_seconds: Annotated[float, _duration(MILLISECOND, HOUR, zero="none")] = Field(
        default=10.0, alias="shutdown_grace"
    )
    pools: Annotated[Mapping[Name, PoolConfig], AfterValidator(_frozen)] = Field(min_length=1, max_length=256)


# Keys of the design that are still to come, by the model that would hold them.
LATER_KEYS: Mapping[type[BaseModel], frozenset[str]] = {
    Config: frozenset({"discovery", "otel"}),
    PoolConfig: frozenset({"scripts", "tls", "backend_tls"}),
    BackendConfig: frozenset({"tls"}),
}


def keys_of(model: type[BaseModel]) -> list[str]:
    """The keys of a section as they stand in the file."""
    return [field.alias or name for name, field in model.model_fields.items()]
