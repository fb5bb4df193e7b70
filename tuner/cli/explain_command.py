"""``tuner explain``."""

import click

from tuner.spec.catalogue import find_entries, list_entries


@click.command()
@click.argument("key", required=False)
def explain(key: str | None) -> None:
    r"""Say what a key of a search file means, what it allows and what it is by default.

    KEY is a path, or its end; without KEY, all keys are listed.

    \b
    Examples:
        tuner explain halving.reduction
        tuner explain learning_rate
        tuner explain architecture.resnet
        tuner explain
    """
    if key is None:
        for entry in list_entries():
            click.echo(entry.key)
        return
    for entry in find_entries(key):
        click.echo(entry.key)
        for title, text in (("", entry.meaning), ("allowed: ", entry.allowed), ("default: ", entry.default)):
            if text:
                click.echo(click.wrap_text(f"{title}{text}", 100, "  ", "  "))
