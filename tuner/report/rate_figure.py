"""Learning-rate range tests as one figure."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

COLUMNS, WIDTH, HEIGHT = 3, 4.2, 3.0  # of the figure; inches of a panel


def draw_rates(
    tests: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    windows: Mapping[str, tuple[float, float]],
    searched: tuple[float, float],
    path: Path,
) -> None:
    """Draw the loss over the learning rate, a panel a network, with the window that the test suggests.

    Parameters
    ----------
    tests : mapping from names to (sequence of float, sequence of float)
        Rates and smoothed losses, in nats.
    windows : mapping from names to (float, float)
        Between which rates the loss falls; NaN where it does not.
    searched : (float, float)
        The ends of the space.
    path : Path
        The image that is written.
    """
    rows = math.ceil(len(tests) / COLUMNS)
    figure = Figure(figsize=(COLUMNS * WIDTH, rows * HEIGHT), layout="constrained")
    panels = list(figure.subplots(rows, COLUMNS, squeeze=False).flat)
    for panel, (name, (rates, losses)) in zip(panels, tests.items(), strict=False):
        panel.plot(rates, losses, color="tab:blue")
        low, high = windows[name]
        if math.isfinite(low):
            panel.axvspan(low, high, color="tab:green", alpha=0.25, label=f"falls: {low:.2g} to {high:.2g}")
        for end in searched:
            panel.axvline(end, color="tab:red", linestyle=":")
        panel.set_title(name, fontsize=9)
        panel.set_xscale("log")
        panel.set_ylim(0, 1.5 * losses[0])
        panel.set_xlabel("learning rate (dotted: the space's ends)", fontsize=8)
        panel.set_ylabel("training loss", fontsize=8)
        if math.isfinite(low):
            panel.legend(fontsize=7, loc="lower left")
    for panel in panels[len(tests) :]:
        panel.set_axis_off()
    figure.savefig(path, dpi=110)
