"""Quantities as operators write them: durations, sizes, shares.

Pure text to number, used by the schema's field types; knows nothing of YAML or pydantic.
"""

import re

# Longest suffix first is not needed: the pattern takes all letters and looks them up whole.
DURATION_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
SIZE_BYTES = {
    "": 1, "B": 1,
    "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30,
    "KB": 10**3, "MB": 10**6, "GB": 10**9,
}  # fmt: skip
_QUANTITY = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) *([A-Za-z]*)")


def parse_duration(value: object) -> float:
    """Seconds in ``250ms``, ``1s``, ``1.5s``, ``2m``, ``1h``; a bare number only if it is 0.

    Raises:
        ValueError: anything else. A bare number is refused because nobody can tell its unit.
    """
    wanted = "expected a duration such as 250ms, 1s or 2m"
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(wanted)
    match = _QUANTITY.fullmatch(str(value).strip())
    if match is None:
        raise ValueError(wanted)
    number, suffix = float(match[1]), match[2]
    if suffix == "":
        if number == 0:
            return 0.0
        raise ValueError(f"{wanted} (a number needs a unit)")
    if suffix not in DURATION_SECONDS:
        raise ValueError(f"{wanted} (units: {', '.join(DURATION_SECONDS)})")
    return number * DURATION_SECONDS[suffix]


def parse_size(value: object) -> int:
    """Bytes in ``64MiB``, ``4KiB``, ``10MB`` or a bare whole number of bytes.

    Raises:
        ValueError: anything else, and sizes that are not a whole number of bytes.
    """
    wanted = "expected a size such as 64MiB, 4KiB or a number of bytes"
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(wanted)
    match = _QUANTITY.fullmatch(str(value).strip())
    if match is None:
        raise ValueError(wanted)
    if match[2] not in SIZE_BYTES:
        raise ValueError(f"{wanted} (units: {', '.join(u for u in SIZE_BYTES if u)})")
    size = float(match[1]) * SIZE_BYTES[match[2]]
    if size != int(size):
        raise ValueError(f"{wanted} (this is not a whole number of bytes)")
    return int(size)


def parse_share(value: object) -> float:
    """A share between 0 and 1, from ``0.5`` or ``50%``.

    Raises:
        ValueError: anything else.
    """
    wanted = "expected a share such as 0.5 or 50%"
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(wanted)
    text = str(value).strip()
    percent = text.endswith("%")
    match = _QUANTITY.fullmatch(text.removesuffix("%"))
    if match is None or match[2]:
        raise ValueError(wanted)
    share = float(match[1]) / (100 if percent else 1)
    if share > 1:
        raise ValueError(wanted)
    return share


def format_duration(seconds: float) -> str:
    """The shortest spelling: ``0``, ``250ms``, ``1.5s``, ``2m``."""
    if seconds == 0:
        return "0"
    for suffix in ("h", "m", "s", "ms"):
        number = seconds / DURATION_SECONDS[suffix]
        if number >= 1 and (suffix in {"s", "ms"} or number == int(number)):
            return f"{number:g}{suffix}"
    return f"{seconds / DURATION_SECONDS['us']:g}us"


def format_size(size: int) -> str:
    """The largest binary unit that divides: ``64MiB``, ``4KiB``, ``1000``."""
    for suffix in ("GiB", "MiB", "KiB"):
        if size and size % SIZE_BYTES[suffix] == 0:
            return f"{size // SIZE_BYTES[suffix]}{suffix}"
    return str(size)
