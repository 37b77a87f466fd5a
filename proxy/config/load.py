"""YAML text -> `Config`, or every problem in it with file, line, key and the nearest valid key.

Called by ``cli``. Two stages, each reporting all it finds: the schema, then the cross-checks (which
need a file that the schema accepts).
"""

import difflib
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from proxy.config.checks import Place, errors_in, warnings_in
from proxy.config.schema import LATER, LATER_KEYS, Config, UnknownWord, keys_of
from proxy.config.secret import Sources
from proxy.errors import ConfigError, ConfigProblem

# A pool of 4096 shards with 16 backends each is about 4 MiB; aliases may not blow a file up beyond.
FILE_BYTES_MAX = 16 << 20
NODES_MAX = 1_000_000
DEPTH_MAX = 32
ZONE_VARIABLE = "SHARDPROXY_ZONE"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A usable configuration, from ``file``. ``digest`` names its text: 12 hex digits of SHA-256."""

    config: Config
    warnings: tuple[ConfigProblem, ...]
    digest: str
    file: str = ""


def load(path: str, sources: Sources | None = None) -> Loaded:
    """Reads and checks a configuration file.

    Raises:
        ConfigError: with every problem found; also when the file cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
        if len(content) > FILE_BYTES_MAX:
            raise ValueError(f"expected a file of at most {FILE_BYTES_MAX >> 20} MiB")
        text = content.decode("utf-8")
    except OSError as error:
        raise ConfigError((ConfigProblem(path, 0, "", f"cannot be read: {error.strerror}"),)) from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError((ConfigProblem(path, line, "", "expected text in UTF-8"),)) from None
    except ValueError as error:
        raise ConfigError((ConfigProblem(path, 0, "", str(error)),)) from None
    return parse(text, path, sources)


def parse(text: str, file: str, sources: Sources | None = None) -> Loaded:
    """The same for text in memory; ``file`` is only for messages.

    Raises:
        ConfigError: with every problem found.
    """
    sources = sources or Sources()
    data, lines = _read_yaml(text, file)
    zone = sources.environ.get(ZONE_VARIABLE)
    if zone is not None and isinstance(data, dict):
        data["zone"] = zone

    def problem(place: Place, expected: str, nearest: str | None = None) -> ConfigProblem:
        return ConfigProblem(file, _line_of(place, lines), dotted(place), expected, nearest)

    try:
        config = Config.model_validate(data, context=sources)
    except ValidationError as error:
        details = error.errors(include_url=False)
        raise ConfigError(tuple(problem(*_explain(d)) for d in details if not _is_echo(d))) from None
    found = tuple(problem(place, text) for place, text in errors_in(config))
    if found:
        raise ConfigError(found)
    warnings = sorted((problem(*finding) for finding in warnings_in(config)), key=lambda p: (p.line, p.key))
    return Loaded(config, tuple(warnings), hashlib.sha256(text.encode()).hexdigest()[:12], file)


def dotted(place: Place) -> str:
    """``("pools", "p", "shards", 0)`` as ``pools.p.shards[0]``."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


# YAML --------------------------------------------------------------------------------------------


def _read_yaml(text: str, file: str) -> tuple[object, dict[Place, int]]:
    """Plain values, and the 1-based line of each key and list item."""
    lines: dict[Place, int] = {(): 1}
    try:
        tree = YAML(typ="rt").load(text)
        data = _Plain(lines).value(tree, ())
    except DuplicateKeyError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        key = re.search(r'duplicate key "([^"]*)"', str(error.problem))
        expected = "expected each key once; this one stands here a second time"
        raise ConfigError((ConfigProblem(file, line, key[1] if key else "", expected),)) from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        why = " ".join(str(part) for part in (error.problem, error.context) if part)
        line = mark.line + 1 if mark else 0
        raise ConfigError((ConfigProblem(file, line, "", f"expected YAML: {why}"),)) from None
    except YAMLError as error:
        line = text.count("\n", 0, getattr(error, "position", 0)) + 1
        reason = getattr(error, "reason", "") or str(error).partition("\n")[0]
        raise ConfigError((ConfigProblem(file, line, "", f"expected YAML: {reason}"),)) from None
    except (_TooDeepError, RecursionError):
        text = f"expected at most {DEPTH_MAX} levels and {NODES_MAX} values"
        raise ConfigError((ConfigProblem(file, 0, "", text),)) from None
    if data is None:
        raise ConfigError((ConfigProblem(file, 1, "", "the file is empty; expected at least pools"),))
    return data, lines


class _TooDeepError(Exception):
    pass


class _Plain:
    """Turns ruamel's tree into dicts, lists and scalars, noting lines on the way."""

    def __init__(self, lines: dict[Place, int]) -> None:
        self._lines = lines
        self._nodes = 0

    def value(self, node: Any, place: Place) -> object:
        self._nodes += 1
        if len(place) > DEPTH_MAX or self._nodes > NODES_MAX:
            raise _TooDeepError
        if isinstance(node, Mapping):
            return dict(self._pairs(node, place))
        if isinstance(node, Sequence) and not isinstance(node, str | bytes):
            return list(self._items(node, place))
        # ruamel's scalars are subclasses that remember how they were written; only the value matters.
        for kind in (str, int, float):
            if isinstance(node, kind) and not isinstance(node, bool):
                return kind(node)
        return node

    def _pairs(self, node: Any, place: Place) -> Iterator[tuple[str, object]]:
        for key, value in node.items():
            name = key if isinstance(key, str) else str(key)
            self._note((*place, name), node.lc.data, key)
            yield name, self.value(value, (*place, name))

    def _items(self, node: Any, place: Place) -> Iterator[object]:
        for position, value in enumerate(node):
            self._note((*place, position), node.lc.data, position)
            yield self.value(value, (*place, position))

    def _note(self, place: Place, marks: Any, key: object) -> None:
        # Keys that came in by a merge (<<) have no mark of their own; they report their section's line.
        mark = (marks or {}).get(key)
        self._lines[place] = mark[0] + 1 if mark else _line_of(place[:-1], self._lines)


def _line_of(place: Place, lines: dict[Place, int]) -> int:
    while place not in lines:
        place = place[:-1]
    return lines[place]


# Words for what the schema found -------------------------------------------------------------------

_PHRASES = {
    "missing": "required key is missing",
    "string_type": "expected text",
    "bool_type": "expected true or false",
    "model_type": "expected a section of keys and values",
    "model_attributes_type": "expected a section of keys and values",
    "dict_type": "expected a section of keys and values",
    "mapping_type": "expected a section of keys and values",
    "tuple_type": "expected a list",
}
# Inputs are quoted in messages except below these: somebody may have pasted a password there.
_PRIVATE = {"auth", "backend_auth"}


def _explain(detail: ErrorDetails) -> tuple[Place, str, str | None]:
    kind, context = detail["type"], detail.get("ctx", {})
    place: Place = tuple(part for part in detail["loc"] if part != "[key]")
    value = detail["input"]
    if kind == "extra_forbidden":
        return _unknown_key(place)
    if kind == "missing":
        return place, _PHRASES[kind], None
    if kind in {"too_short", "too_long"}:
        few = kind == "too_short"
        bound = context["min_length" if few else "max_length"]
        return (
            place,
            f"expected at {'least' if few else 'most'} {bound} {'entry' if bound == 1 else 'entries'}",
            None,
        )
    if kind == "string_too_long":
        return place, f"expected at most {context['max_length']} characters", None
    error = context.get("error")
    if isinstance(error, UnknownWord):
        return place, str(error), _nearest(error.word, error.known)
    if kind == "literal_error":
        known = re.findall(r"'([^']*)'", str(context["expected"]))
        text = f"expected one of {', '.join(known)}" if len(known) > 1 else f"expected {known[0]}"
        return place, text + _got(value, place), _nearest(str(value), known)
    text = str(error) if error is not None else _PHRASES.get(kind, detail["msg"])
    # The value is worth quoting where something else was expected of it, not where it is a whole section.
    quote = "expected" in text and LATER not in text and not (error is not None and isinstance(value, dict))
    return place, text + (_got(value, place) if quote else ""), None


def _is_echo(detail: ErrorDetails) -> bool:
    """Whether this only repeats others: a list "too short" because its entries are wrong themselves."""
    value = detail["input"]
    return (
        detail["type"] == "too_short"
        and isinstance(value, list | dict)
        and len(value) >= detail["ctx"]["min_length"]
    )


def _got(value: object, place: Place) -> str:
    if _PRIVATE & set(place):
        return ""
    if value is None:
        return "; got nothing"
    if isinstance(value, str | int | float):
        shown = str(value).lower() if isinstance(value, bool) else repr(value)
        return f"; got {shown if len(shown) <= 60 else shown[:57] + '...'}"
    return f"; got a {'list' if isinstance(value, list) else 'section'}"


def _unknown_key(place: Place) -> tuple[Place, str, str | None]:
    model, key = _model_at(place[:-1]), str(place[-1])
    if key in LATER_KEYS.get(model, frozenset()):
        return place, f"{key} {LATER}", None
    known = keys_of(model)
    nearest = _nearest(key, known) or _in_subsection(model, key)
    # The whole list only helps where there is no guess.
    return place, "unknown key" if nearest else f"unknown key; expected one of {', '.join(known)}", nearest


def _in_subsection(model: type[BaseModel], key: str) -> str | None:
    for name, field in model.model_fields.items():
        inner = _model_in(field.annotation)
        if inner is not None and key in keys_of(inner):
            return f"{field.alias or name}.{key}"
    return None


def _nearest(word: str, known: Sequence[str]) -> str | None:
    return next(iter(difflib.get_close_matches(word, known, n=1, cutoff=0.6)), None)


def _model_at(place: Place) -> type[BaseModel]:
    """The section that a place in the file belongs to."""
    model: type[BaseModel] = Config
    is_name = False
    for part in place:
        if is_name or isinstance(part, int):
            is_name = False
            continue
        field = next(f for n, f in model.model_fields.items() if part == (f.alias or n))
        inner = _model_in(field.annotation)
        if inner is None:
            break
        # Below a mapping the next part is a name that the user chose, whatever it reads like.
        model, is_name = inner, get_origin(field.annotation) is Mapping
    return model


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((inner for arg in get_args(annotation) if (inner := _model_in(arg)) is not None), None)
