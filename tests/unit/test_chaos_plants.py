"""The planted faults still fit the source: one that does not would silently plant nothing."""

from __future__ import annotations

import ast

import pytest
from chaos.planted.plant import ROOT, planted
from chaos.planted.plants import PLANTS


@pytest.mark.parametrize("name", PLANTS)
def test_a_plant_replaces_a_text_that_stands_there_once(name: str) -> None:
    plant = PLANTS[name]
    changed = planted((ROOT / plant.file).read_text(), plant)
    if not plant.needs_build:
        ast.parse(changed)
    assert plant.new in changed
    assert plant.seeds
    assert plant.rules
