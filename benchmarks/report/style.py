"""Colours, sizes and fonts of every figure and page.

One palette, safe for colour-blind readers, in a light and a dark form.

Figures are drawn in the light colours. In a page each colour is replaced by a CSS variable of the same name, so that
one drawing serves both themes; hence no two names may share a light colour.
"""

import re
from collections.abc import Mapping
from typing import Any

PALETTE: Mapping[str, tuple[str, str]] = {
    # name: (light, dark); hues after Okabe and Ito
    "ink": ("#1d2430", "#e7eaf0"),
    "muted": ("#5f6b7d", "#9aa6b8"),
    "grid": ("#dfe3ea", "#313a49"),
    "shade": ("#eef1f5", "#232b38"),
    "blue": ("#0072b2", "#5ab4ec"),
    "orange": ("#e09600", "#f2b134"),
    "green": ("#009e73", "#35c79c"),
    "vermilion": ("#d0500a", "#ff8c52"),
    "pink": ("#c4679b", "#e79cc6"),
    "violet": ("#6a4c93", "#b39ad9"),
    "brown": ("#8a6d3b", "#cfb27c"),
    "grey": ("#8b95a5", "#7b8699"),
}
STAGE_COLOURS: Mapping[str, str] = {
    "accepted": "blue",
    "sequenced": "orange",
    "firm": "green",
    "executed": "vermilion",
    "atomic_safe": "pink",
    "proved": "violet",
    "settled": "brown",
    "final": "ink",
}
STAGE_DASHES: Mapping[str, Any] = {
    # Told apart without colour too, for instance in print.
    "accepted": (0, (1, 1.2)),
    "sequenced": (0, (5, 1.5)),
    "firm": (0, (5, 1.5, 1, 1.5)),
    "executed": "solid",
    "atomic_safe": (0, (8, 2)),
    "proved": (0, (3, 1, 1, 1, 1, 1)),
    "settled": (0, (2, 2)),
    "final": (0, (1, 3)),
}
OUTCOME_COLOURS: Mapping[str, str] = {
    "succeeded": "green",
    "partly_succeeded": "orange",
    "reverted": "vermilion",
    "skipped": "pink",
    "aborted": "violet",
    "dropped": "brown",
    "refused": "muted",
    "unsent": "grey",
    "lost": "ink",
}
SEGMENT_COLOURS: Mapping[str, str] = {
    "send": "grey",
    "accept": "blue",
    "order": "orange",
    "deliver": "green",
    "derive": "pink",
    "execute": "vermilion",
    "announce": "violet",
    "resolve": "ink",
}
WIDE_INCHES = 6.2
NARROW_INCHES = 3.9
RC: Mapping[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 9.5,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": PALETTE["muted"][0],
    "axes.labelcolor": PALETTE["muted"][0],
    "axes.titlecolor": PALETTE["ink"][0],
    "text.color": PALETTE["ink"][0],
    "xtick.color": PALETTE["muted"][0],
    "ytick.color": PALETTE["muted"][0],
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": PALETTE["grid"][0],
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "figure.constrained_layout.use": True,
    "lines.linewidth": 1.8,
    "svg.fonttype": "none",
    # Names of parts of a drawing are hashed with this instead of chance: equal runs give equal files.
    "svg.hashsalt": "lockstep",
    "pdf.fonttype": 42,
}


def colour(name: str) -> str:
    """The light form, for drawing."""
    return PALETTE[name][0]


def with_css_variables(svg: str) -> str:
    """Replace every palette colour of a drawing by its CSS variable."""
    names = {light: name for name, (light, _) in PALETTE.items()}
    return re.sub(r"#[0-9a-f]{6}\b", lambda found: f"var(--{names[found[0]]})" if found[0] in names else found[0], svg)


def css_variables(theme: int) -> str:
    """Declarations of the light (0) or dark (1) colours."""
    return " ".join(f"--{name}: {forms[theme]};" for name, forms in PALETTE.items())
