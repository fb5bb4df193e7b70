"""``tuner validate``."""

import json
from pathlib import Path

import click

from tuner.cli.options import json_option, set_option, warn
from tuner.errors import SpecError
from tuner.spec import load_spec


@click.command()
@click.argument("spec_path", metavar="SPEC", type=click.Path(path_type=Path))
@set_option
@json_option
def validate(spec_path: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    r"""Check a search file and say everything that is wrong with it.

    Nothing is started; the exit code is 0 if the file is right and 2 if it is not.

    \b
    Examples:
        tuner validate search_spaces/coarse.yaml
        tuner validate search_spaces/coarse.yaml --set stages.coarse.trials=4
    """
    warnings: list[str] = []
    try:
        spec = load_spec(spec_path, overrides, warnings.append)
    except SpecError as error:
        if not as_json:
            raise
        click.echo(json.dumps({"valid": False, "faults": str(error).splitlines(), "warnings": warnings}))
        raise SystemExit(error.exit_code) from None
    if as_json:
        click.echo(json.dumps({"valid": True, "name": spec.name, "faults": [], "warnings": warnings}))
        return
    for warning in warnings:
        warn(warning)
    stages = ", ".join(
        f"{stage.name} ({stage.trials} trials of up to {stage.max_epochs} epochs)" for stage in spec.stages
    )
    click.echo(f"{spec_path} is right: search {spec.name!r} on {spec.data.name}, stages {stages}")
