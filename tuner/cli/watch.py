"""What a person sees of a search that runs: one live table, or a line an event where there is no terminal."""

import shlex
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tuner.cli.screen import open_console
from tuner.report.leaderboard import describe_config, format_objective, format_seconds

if TYPE_CHECKING:
    from tuner.execute.search_run import SearchRun, Status

_ROWS = 8


class PlainLines:
    """Prints a line an event, and now and then, if there was progress, how far the search is.

    Parameters
    ----------
    is_error : bool
        Whether to print to standard error, where the output is for scripts.
    every_s : float
        How often to look for progress.
    """

    def __init__(self, *, is_error: bool = False, every_s: float = 10.0) -> None:
        self._is_error = is_error
        self._every_s = every_s
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._last: tuple[str, int] | None = None

    def begin(self, run: "SearchRun") -> None:
        """Begin to look at how far the search is."""
        self._over.clear()
        self._thread = threading.Thread(target=self._look, args=(run,), daemon=True)
        self._thread.start()

    def say(self, line: str) -> None:
        """Print a line."""
        click.echo(f"{time.strftime('%H:%M:%S')} {line}", err=self._is_error)

    def end(self) -> None:
        """Say for the last time how far it is."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _look(self, run: "SearchRun") -> None:
        is_over = False
        while not is_over:
            is_over = self._over.wait(self._every_s)
            status = run.status()
            if (status.stage, status.epochs_done) != self._last:
                self._last = status.stage, status.epochs_done
                self.say(f"progress: {describe_progress(status, run)}")


class LiveTable:
    """Draws one table anew twice a second, and prints above it what should stay."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or open_console()
        self._live: Live | None = None
        self._run: SearchRun | None = None

    def begin(self, run: "SearchRun") -> None:
        """Begin to draw."""
        self._run = run
        self._live = Live(
            get_renderable=self._draw,
            console=self._console,
            refresh_per_second=2,
            transient=True,
            redirect_stderr=False,
        )
        self._live.start()

    def say(self, line: str) -> None:
        """Print a line above the table, unless it is about a single trial: those are in the table."""
        if not line.split(":", maxsplit=1)[0].partition(" ")[2].isdigit():
            self._console.print(line, style="dim" if line.startswith("  ") else "", markup=False, highlight=False)

    def end(self) -> None:
        """Leave the terminal as it was."""
        if self._live is not None:
            self._live.stop()

    def _draw(self) -> RenderableType:
        return Text("") if self._run is None else draw_status(self._run.status(), self._run)


def describe_progress(status: "Status", run: "SearchRun") -> str:
    """Say in one line, as NAME=VALUE, how far a search is; ``tuner status`` reads it from a job's log."""
    metric, sign = run.spec.objective.metric, 1 if run.spec.objective.mode == "max" else -1
    said = {
        "stage": status.stage,
        "number": f"{status.stage_number} of {status.num_stages}",
        "done": f"{count_ended(status.counts)} of {status.trials}",
        **{state: str(number) for state, number in status.counts.items() if number},
        "epochs": str(status.epochs_done),
        "gone": format_seconds(status.elapsed_s),
    }
    if status.left_s is not None:
        said["left"] = f"about {format_seconds(status.left_s)}"
    if status.best:
        said |= {"metric": metric, "best": format_objective(sign * status.best[0].best, metric)}
    return " ".join(f"{name}={shlex.quote(value)}" for name, value in said.items())


def count_ended(counts: Mapping[str, int]) -> int:
    """Count the trials that have ended."""
    return sum(number for state, number in counts.items() if state not in {"running", "paused"})


def draw_status(status: "Status", run: "SearchRun") -> RenderableType:
    """Draw a search at one moment.

    Parameters
    ----------
    status : Status
        The moment.
    run : SearchRun
        The search, for its spec.
    """
    counts = status.counts
    done = count_ended(counts)
    left = "-" if status.left_s is None else f"about {format_seconds(status.left_s)}"
    head = Text.assemble(
        (f"{run.spec.name}", "bold"),
        f"  stage {status.stage_number} of {status.num_stages}: {status.stage}   ",
        f"{done} of {status.trials} trials   {status.epochs_done} epochs   ",
        f"{format_seconds(status.elapsed_s)} gone, {left} left",
    )
    order = ("running", "paused", "complete", "stopped", "diverged", "failed")
    tally = Text("   ".join(f"{counts[state]} {state}" for state in order if counts.get(state)), style="cyan")
    metric = run.spec.objective.metric
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title, justify in (
        ("trial", "right"),
        (metric, "right"),
        ("epochs", "right"),
        ("state", "left"),
        ("config", "left"),
    ):
        table.add_column(title, justify=justify, overflow="fold")  # type: ignore[arg-type]
    sign = 1 if run.spec.objective.mode == "max" else -1
    for view in status.best[:_ROWS]:
        table.add_row(
            str(view.number),
            format_objective(sign * view.best, metric),
            str(len(view.values)),
            view.state,
            describe_config(view.config, status.searched),
        )
    bar = Table.grid(padding=(0, 3))
    bar.add_column()
    bar.add_column(overflow="fold")
    bar.add_row(ProgressBar(total=status.trials, completed=done, width=40), tally)
    return Group(Text(""), head, bar, Text(""), table)
