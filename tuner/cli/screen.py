"""Where tables are printed."""

import sys

from rich.console import Console


def open_console() -> Console:
    """Return the terminal, or, where there is none, a page wide enough that no line is broken."""
    return Console() if sys.stdout.isatty() else Console(width=240)
