"""The configuration: YAML in, one frozen `Config` out, or a `ConfigError` that names every problem.

``schema`` is the list of options, ``load`` reads a file, ``checks`` compares its parts. Imported by
whoever needs types (`PoolConfig`, `ShardConfig`, ...); only ``cli`` and ``demo`` load files.
"""

from proxy.config.address import Address, parse_address
from proxy.config.load import Loaded, load, parse
from proxy.config.schema import (
    DISTRIBUTIONS,
    HASHES,
    BackendConfig,
    Config,
    HealthConfig,
    LimitsConfig,
    PoolConfig,
    ShardConfig,
    TimeoutsConfig,
)
from proxy.config.secret import Secret, Sources

__all__ = [
    "DISTRIBUTIONS",
    "HASHES",
    "Address",
    "BackendConfig",
    "Config",
    "HealthConfig",
    "LimitsConfig",
    "Loaded",
    "PoolConfig",
    "Secret",
    "ShardConfig",
    "Sources",
    "TimeoutsConfig",
    "load",
    "parse",
    "parse_address",
]
