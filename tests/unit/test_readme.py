"""What README.md names exists: files, make targets, commands, configuration keys."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """The fenced blocks in that language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def section(title: str) -> str:
    """The text below a heading."""
    return README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_links_lead_to_files() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_tour_visits_what_exists() -> None:
    named = re.findall(r"`((?:proxy|tests|bench)/[\w./]*)`", section("A tour of the source"))
    assert len(named) > 5
    assert [path for path in named if not (ROOT / path).exists()] == []
    parts = re.findall(r"`(\w+(?:/|\.rs))`", section("A tour of the source").partition("\n6. ")[2])
    assert len(parts) > 3
    assert [part for part in parts if not (ROOT / "proxy/engine/src" / part).exists()] == []


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        name
        for names in re.findall(r"(?:^|`)make ((?:[a-z-]+ ?)+)", README, re.MULTILINE)
        for name in names.split()
    }
    assert named
    assert named <= targets


def test_commands_exist() -> None:
    from proxy.cli import app

    commands = {c.name or c.callback.__name__ for c in app.registered_commands if c.callback}
    assert set(re.findall(r"(?:^|`|bin/)shardproxy ([a-z]+)", README, re.MULTILINE)) <= commands


def test_the_configurations_are_valid() -> None:
    from proxy.config import parse

    texts = blocks("yaml")
    assert len(texts) == 2
    assert not any(parse(text, "README.md").warnings for text in texts)


@pytest.mark.parametrize(
    ("address", "label"), [("10.0.0.1:6379", "10.0.0.1:6379"), ("10.0.0.1:11211", "10.0.0.1")]
)
def test_shards_are_named_as_the_table_for_movers_says(address: str, label: str) -> None:
    from proxy.config import parse

    text = "pools: {p: {protocol: redis, listen: '127.0.0.1:1', shards: [{backends: ['%s']}]}}"
    config = parse(text % address, "text").config
    assert config.pools["p"].shards[0].name == label
