"""``tuner refine``."""

import re
from collections import Counter
from pathlib import Path

import click

from tuner.cli.options import results_option

_SUFFIX = "-refined"
_LONGEST = 64  # characters of a search's name


def _check_share(_: click.Context, option: click.Parameter, value: float | None) -> float | None:
    """Hold a number against what the spec's section ``narrow`` allows."""
    from tuner.spec.domain import find_domain
    from tuner.spec.search import Narrow

    assert option.name is not None
    domain = find_domain(Narrow, option.name)
    if value is not None and not domain.is_in_bounds(value):
        raise click.BadParameter(f"must be {domain.describe()}, found {value:g}.")
    return value


def _check_name(_: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """Refuse what is no search's name."""
    from tuner.spec.sections import NAME_PATTERN

    if value is not None and not re.fullmatch(NAME_PATTERN, value):
        raise click.BadParameter(
            f"names a folder, so it must be letters, digits, dots, - and _, at most {_LONGEST}, the first no sign, "
            f"found {value!r}."
        )
    return value


@click.command()
@click.argument("search")
@click.option("--name", default=None, callback=_check_name, help=f"The new search's name.  [default: SEARCH{_SUFFIX}]")
@click.option("--stage", "stage_name", default=None, help="Narrow by this stage's trials, instead of the last one's.")
@click.option(
    "--keep",
    type=float,
    default=None,
    callback=_check_share,
    help="Share of the trials, the best, that define the new space.  [default: as in the search's last stage, or 0.2]",
)
@click.option(
    "--margin",
    type=float,
    default=None,
    callback=_check_share,
    help="Added at each end, as a share of what is kept.  [default: as in the search's last stage, or 0.1]",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="Write the new search here, instead of printing it.",
)
@results_option
def refine(
    search: str,
    name: str | None,
    stage_name: str | None,
    keep: float | None,
    margin: float | None,
    output: Path | None,
    results: Path,
) -> None:
    r"""Write the search that follows a search, its space narrowed, and do not run it.

    The new search has the narrowed space of the last stage, with a comment above every hyperparameter that says what
    became of it and why; it runs the last stage again there, and learns from the earlier search's trials.

    \b
    Examples:
        tuner refine digits
        tuner refine digits --output finer.yaml && tuner run finer.yaml
        tuner refine digits --stage coarse --keep 0.1 --name digits-finer
    """
    from tuner.errors import InputError
    from tuner.execute.refine import refine_search

    name = name or f"{search[: _LONGEST - len(_SUFFIX)]}{_SUFFIX}"
    if name == search:
        raise InputError(f"--name: the new search learns from {search!r}, so it needs another name; choose one")
    refined = refine_search(results / search, name, stage_name=stage_name, keep=keep, margin=margin)
    if (results / name).exists():
        click.echo(f"warning: {results} has a search {name!r} already; choose another name with --name", err=True)
    if output is None:
        click.echo(refined.text, nl=False)
        return
    try:
        output.write_text(refined.text)
    except OSError as error:
        raise InputError(
            f"{output}: cannot be written ({error.strerror}); choose another place with --output"
        ) from error
    counts = Counter(reason.action for reason in refined.narrowing.reasons)
    click.echo(f"{output}: search {name!r}; hyperparameters {', '.join(f'{n} {a}' for a, n in counts.items())}")
