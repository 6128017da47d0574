"""Colours, sizes and captions that all figures share."""

import textwrap
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from sweep.aggregation.collected_scores import ConfigurationScores
from sweep.experiment.runs import shown_values

_DPI = 150
# The palette of Okabe and Ito, made for colour-blind readers.
BLUE, ORANGE, GREEN, VERMILLION, PINK = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7"
INK, QUIET, FAINT = "#222222", "#666666", "#D9D9D9"
LABELS = {
    "none": (GREEN, "no labels"),
    "others": (ORANGE, "labels of other samples"),
    "own": (BLUE, "the sample's own label"),
}
STYLE: dict[str, Any] = {
    "savefig.dpi": _DPI,
    "figure.dpi": _DPI,
    "figure.facecolor": "white",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.labelsize": 9,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "figure.constrained_layout.h_pad": 0.08,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": QUIET,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "hatch.color": "#BBBBBB",
    "hatch.linewidth": 0.6,
    "text.parse_math": False,  # a reason or a class name may hold dollar signs
}


def described(one: ConfigurationScores) -> str:
    """A configuration in a title: regimen, searched values, seeds and samples."""
    samples = f"{len(one.sample_ids):,} samples"
    parts = (
        one.configuration.regimen,
        shown_values(one.parameters),
        count_of(len(one.seeds), "seed"),
        samples,
    )
    return textwrap.fill(" · ".join(filter(None, parts)), 85)


def count_of(number: int, noun: str) -> str:
    """A number and its noun, such as ``2 seeds``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def missing_line(one: ConfigurationScores) -> str:
    """Small print about missing seeds; empty if there are none."""
    return f"Missing: {one.configuration.regimen} {one.missing_seeds}" if one.missing else ""


def wrapped(paragraphs: Sequence[str], width_in: float) -> str:
    """Small print broken into lines; a paragraph is cut after three lines."""
    characters = int(width_in * 15)  # in a font of 8 points
    lines = [
        textwrap.fill(text, characters, max_lines=3, placeholder=" …")
        for text in paragraphs
        if text
    ]
    return "\n".join(lines)


def foot(axis: Axes, paragraphs: Sequence[str], width_in: float, *, below: float) -> None:
    """Draw small print ``below`` points under an axis."""
    text = wrapped(paragraphs, width_in)
    if text:
        axis.annotate(
            text, (0, 0), xycoords="axes fraction", xytext=(0, -below), fontsize=8,
            textcoords="offset points", va="top", color=QUIET, annotation_clip=False,
        )  # fmt: skip


def signed(value: float) -> str:
    """A number with two decimals, a typographic minus, and no negative zero."""
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")  # noqa: RUF001
