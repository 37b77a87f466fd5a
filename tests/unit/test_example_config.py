"""``deploy/example.yaml`` is the reference of options: it parses, has every key, and states true defaults."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from ruamel.yaml import YAML

from proxy.config import Config, Sources, parse
from proxy.config.schema import DISTRIBUTIONS, HASHES, Credential

EXAMPLE = Path(__file__).parents[2] / "deploy" / "example.yaml"
SECRETS = Sources(environ={"REPORTING_PASSWORD": "x"}, read_file=lambda path: b"secret")


def sections(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """The model and every model below it."""
    yield model
    for field in model.model_fields.values():
        yield from inner_models(field.annotation)


def inner_models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield from sections(annotation)
    for argument in get_args(annotation):
        yield from inner_models(argument)


def keys(tree: Any) -> Iterator[str]:
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield str(key)
            yield from keys(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from keys(value)


def test_it_parses_without_a_warning() -> None:
    loaded = parse(EXAMPLE.read_text(), str(EXAMPLE), SECRETS)
    # The one nameless thing in it is deliberate: none.
    assert [str(warning) for warning in loaded.warnings] == []
    assert list(loaded.config.pools) == ["sessions", "scratch", "pages"]


def test_every_key_of_the_schema_appears() -> None:
    wanted = {field.alias or name for model in sections(Config) for name, field in model.model_fields.items()}
    assert len(wanted) > 40
    assert wanted - set(keys(YAML(typ="rt").load(EXAMPLE.read_text()))) == set()


def test_every_key_has_a_comment_above_it_where_it_first_appears() -> None:
    lines = EXAMPLE.read_text().splitlines()
    sections_ = {"admin", "log", "pools", "replication", "timeouts", "health", "limits", "users"}
    wanted = {field.alias or name for model in sections(Config) for name, field in model.model_fields.items()}
    for key in wanted - sections_:
        place = next(i for i, line in enumerate(lines) if re.match(rf"\s*(- )?{key}:", line))
        assert lines[place - 1].lstrip(" -").startswith("#"), f"{key} is not explained"


def test_stated_defaults_are_the_real_ones() -> None:
    # The example spells out the default of everything except these.
    given = parse(EXAMPLE.read_text(), str(EXAMPLE), SECRETS).config
    minimal = parse(
        "pools: {sessions: {protocol: redis, listen: h:1, shards: [{name: x, backends: [h:2]}]}}",
        "m",
        SECRETS,
    ).config
    chosen = {"protocol", "listen", "shards", "hash_tag", "routes", "auth", "backend_auth"}
    ours, default = (config.pools["sessions"] for config in (given, minimal))
    for name in type(ours).model_fields:
        if name not in chosen:
            assert getattr(ours, name) == getattr(default, name), name
    assert (given.admin, given.log, given.workers) == (minimal.admin, minimal.log, minimal.workers)
    assert given.shutdown_grace_seconds == minimal.shutdown_grace_seconds


def test_words_of_hash_and_distribution_are_all_listed() -> None:
    text = EXAMPLE.read_text()
    assert [word for word in (*HASHES, *DISTRIBUTIONS) if not re.search(rf"\b{word}\b", text)] == []


def test_credentials_are_the_only_sections_with_passwords() -> None:
    holders = {m for m in sections(Config) if any("password" in name for name in m.model_fields)}
    assert all(issubclass(model, Credential) for model in holders)
    assert len(holders) == 2
