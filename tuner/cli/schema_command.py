"""``tuner schema``."""

import click

from tuner.spec import dump_json_schema


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
    click.echo(dump_json_schema(), nl=False)
