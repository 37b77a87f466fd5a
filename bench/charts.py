"""A picture of each scenario: CPU per request, throughput and latency of every peer, side by side."""

from collections.abc import Mapping
from pathlib import Path

from load import Result
from peers import OURS
from targets import Medians

OURS_COLOUR, THEIR_COLOUR = "#1f6feb", "#b0b7c3"
PANELS = (
    ("CPU per request, µs", "cpu_us"),
    ("requests per second", "ops_per_second"),
    ("99th percentile, ms", "p99_ms"),
)


def file_name(scenario: str) -> str:
    """Of a scenario's picture."""
    kept = "".join(letter if letter.isalnum() else "-" for letter in scenario)
    return f"{kept}.svg"


def draw(medians: Medians, directory: Path) -> list[Path]:
    """Writes an SVG for each scenario; returns their paths.

    Raises:
        ImportError: matplotlib is not installed (`make bench` installs it).
    """
    directory.mkdir(parents=True, exist_ok=True)
    return [_draw(name, rows, directory / file_name(name)) for name, rows in medians.items()]


def _draw(scenario: str, rows: Mapping[str, Result], path: Path) -> Path:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    names = list(rows)[::-1]
    figure = Figure(figsize=(11, 0.9 + 0.4 * len(names)), layout="constrained")
    figure.suptitle(scenario)
    for axes, (title, field) in zip(figure.subplots(1, len(PANELS), sharey=True), PANELS, strict=True):
        values = [float(getattr(rows[name], field)) for name in names]
        colours = [OURS_COLOUR if name == OURS else THEIR_COLOUR for name in names]
        texts = [f"{value:,.2f}" if value < 100 else f"{value:,.0f}" for value in values]
        axes.bar_label(axes.barh(names, values, color=colours), texts, padding=3)
        axes.set_title(title, fontsize=10)
        axes.margins(x=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    # Without a date, and without names made by chance, so that the same figures make the same file.
    with rc_context({"svg.hashsalt": path.stem}):
        figure.savefig(path, format="svg", metadata={"Date": None})
    return path
