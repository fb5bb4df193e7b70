"""One HTML page that needs nothing else: no network, no file beside it, light and dark, narrow and wide."""

import html
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files

from tuner.report.figures import Figure

MOST_ROWS = 30  # of a table that is shown whole; the rest unfolds


@dataclass(frozen=True)
class Table:
    """A table: its head, and its rows as text; columns of numbers are set to the right."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Panel:
    """A part of a section: a figure or a table under a heading, and what there is to say of it.

    Attributes
    ----------
    title : str
        Its heading.
    content : Figure, Table or None
        What it shows.
    text : str
        What to see in it.
    is_wide : bool
        Whether it takes the whole width.
    """

    title: str
    content: Figure | Table | None = None
    text: str = ""
    is_wide: bool = False


@dataclass(frozen=True)
class Section:
    """A part of the page that its contents name."""

    title: str
    panels: Sequence[Panel]
    text: Sequence[str] = field(default_factory=tuple)


def build_page(title: str, lead: Sequence[str], sections: Sequence[Section]) -> str:
    """Write the page.

    Parameters
    ----------
    title : str
        Its title.
    lead : sequence of str
        What stands above all, a paragraph each.
    sections : sequence of Section
        In their order.

    Returns
    -------
    str
        The HTML, plotly's script within. Figures are drawn when they come into view.
    """
    figures: list[Figure] = []
    body = [f"<h1>{html.escape(title)}</h1>", *(f"<p>{html.escape(text)}</p>" for text in lead)]
    links = "".join(f'<a href="#s{i}">{html.escape(section.title)}</a>' for i, section in enumerate(sections))
    body.append(f"<nav>{links}</nav>")
    for i, section in enumerate(sections):
        body.append(f'<section id="s{i}"><h2>{html.escape(section.title)}</h2>')
        body += [f"<p>{html.escape(text)}</p>" for text in section.text]
        body.append('<div class="panels">')
        body += [_write_panel(panel, figures) for panel in section.panels]
        body.append("</div></section>")
    texts: dict[str, int] = {}
    for trace in (trace for figure in figures for trace in figure["data"]):
        if isinstance(trace.get("text"), list) and all(isinstance(text, str) for text in trace["text"]):
            trace["text"] = [texts.setdefault(text, len(texts)) for text in trace["text"]]
    tree = {"texts": list(texts), "figures": figures}  # a trial is described once, however many figures show it
    data = json.dumps(tree, allow_nan=False, separators=(",", ":")).replace("</", "<\\/")
    own = files("tuner.report")
    script = files("plotly").joinpath("package_data/plotly.min.js").read_text(encoding="utf-8")
    return (
        own.joinpath("page.html")
        .read_text(encoding="utf-8")
        .format(
            title=html.escape(title),
            style=own.joinpath("page.css").read_text(encoding="utf-8"),
            body="\n".join(body),
            data=data,
            plotly=script,
            script=own.joinpath("page.js").read_text(encoding="utf-8"),
        )
    )


def _write_panel(panel: Panel, figures: list[Figure]) -> str:
    parts = [f'<article class="{"wide" if panel.is_wide else ""}"><h3>{html.escape(panel.title)}</h3>']
    if panel.text:
        parts.append(f"<p>{html.escape(panel.text)}</p>")
    if isinstance(panel.content, Table):
        parts.append(_write_table(panel.content))
    elif panel.content is not None:
        width = panel.content.get("min_width", 0)
        height = panel.content["layout"].get("height", 380)
        style = f"height:{height}px;min-width:{width}px"
        parts.append(
            f'<div class="scroll"><div class="figure" data-figure="{len(figures)}" style="{style}"></div></div>'
        )
        figures.append({"data": [dict(trace) for trace in panel.content["data"]], "layout": panel.content["layout"]})
    return "".join([*parts, "</article>"])


def _write_table(table: Table) -> str:
    is_number = [
        bool(table.rows) and all(row[i][:1] in "-+0123456789" for row in table.rows if row[i])
        for i in range(len(table.head))
    ]

    def write(rows: Sequence[Sequence[str]], head: str) -> str:
        lines = [
            "<tr>"
            + "".join(
                f"<td{' class=number' if number else ''}>{html.escape(cell)}</td>"
                for cell, number in zip(row, is_number, strict=True)
            )
            + "</tr>"
            for row in rows
        ]
        return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'

    head = "".join(
        f"<th{' class=number' if number else ''}>{html.escape(cell)}</th>"
        for cell, number in zip(table.head, is_number, strict=True)
    )
    shown = write(table.rows[:MOST_ROWS], head)
    rest = table.rows[MOST_ROWS:]
    if rest:
        shown += f"<details><summary>{len(rest):,} more</summary>{write(rest, head)}</details>"
    return shown
