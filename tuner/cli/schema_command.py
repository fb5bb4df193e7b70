"""``tuner schema``."""

import json

import click

from tuner.spec import build_json_schema


@click.command()
def schema() -> None:
    r"""Print the JSON Schema of search files, for editors.

    An editor that speaks YAML completes and checks a search file that begins with a line such as

    \b
        # yaml-language-server: $schema=search.schema.json

    \b
    Example:
        tuner schema > search.schema.json
    """
    click.echo(json.dumps(build_json_schema(), indent=2))
