"""``tuner models``."""

import dataclasses
import json
import re
from typing import TYPE_CHECKING

import click
from rich.table import Table

from tuner.cli.options import json_option
from tuner.cli.screen import print_table
from tuner.errors import SpecError
from tuner.spec.domain import find_domain, show_value
from tuner.spec.faults import Fault, Place, enumerate_words, list_faults, suggest_among
from tuner.spec.hyperparameters import ARCHITECTURES, Architecture
from tuner.spec.space import Scalar
from tuner.spec.yaml_tree import ScalarNode, parse_yaml, printable

if TYPE_CHECKING:
    from tuner.train.models.summary import LayerSummary

IMAGE = re.compile(r"(\d{1,4})x(\d{1,4})x([13])")
SIDES = range(8, 1025)
DEFAULT_IMAGE, DEFAULT_CLASSES = "32x32x3", 100
NOTE = """\
Multiply-adds are those of convolutions, dense layers and attention; normalisation, pooling and activations count none.
Memory is that of the outputs listed, in float32; a backward pass keeps them and takes as much again for gradients."""


@click.command()
@click.argument("family", metavar="[NAME]", required=False)
@click.option("--input", "image", show_default=DEFAULT_IMAGE, help="Height x width x channels of an image.")
@click.option(
    "--classes", show_default=str(DEFAULT_CLASSES), type=click.IntRange(min=2), help="How many scores come out."
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="A hyperparameter of the family, such as depth=50; may be given again.",
)
@json_option
def models(
    family: str | None, image: str | None, classes: int | None, settings: tuple[str, ...], as_json: bool
) -> None:
    r"""List the families of networks, or the layers of one.

    Each layer with its output shape, parameters, multiply-adds and memory, for one image.

    \b
    Examples:
        tuner models
        tuner models simple_cnn --input 32x32x3 --classes 100
        tuner models resnet --input 224x224x3 --classes 1000 --set depth=50
    """
    if family is None:
        if image is not None or classes is not None or settings:
            raise SpecError(
                "--input, --classes and --set need a family, found none; write: tuner models NAME, with one of "
                f"{enumerate_words(list(ARCHITECTURES))}"
            )
        list_families(as_json=as_json)
        return
    if family not in ARCHITECTURES:
        raise SpecError(f"no family is called {printable(family)}{suggest_among(family, list(ARCHITECTURES))}")
    image_shape = read_image_shape(DEFAULT_IMAGE if image is None else image)
    architecture = read_architecture(family, settings)
    from tuner.train.models.summary import summarise_architecture

    layers = summarise_architecture(architecture, image_shape, classes or DEFAULT_CLASSES)
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(layer) for layer in layers], indent=2))
        return
    print_layers(layers)


def list_families(*, as_json: bool) -> None:
    """Print each family with what it is and what may be varied."""
    families = [
        (name, (record.__doc__ or "").splitlines()[0], {key: one.default for key, one in record.model_fields.items()})
        for name, record in ARCHITECTURES.items()
    ]
    if as_json:
        click.echo(json.dumps([dict(zip(("name", "is", "defaults"), one, strict=True)) for one in families], indent=2))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("family", no_wrap=True)
    table.add_column("what it is")
    table.add_column("hyperparameters and what they are by default")
    for name, meaning, defaults in families:
        table.add_row(name, meaning, " ".join(f"{key}={show_value(value)}" for key, value in defaults.items()))
    print_table(table)


def read_image_shape(text: str) -> tuple[int, int, int]:
    """Read ``32x32x3``: height, width, channels; SpecError if it is something else."""
    found = IMAGE.fullmatch(text)
    height, width, channels = (int(number) for number in found.groups()) if found else (0, 0, 0)
    if height not in SIDES or width not in SIDES:
        raise SpecError(
            f"--input: must be HEIGHTxWIDTHxCHANNELS with {SIDES[0]} to {SIDES[-1]} pixels a side and 1 or 3 channels, "
            f"found {printable(text)!r}; write --input 32x32x3"
        )
    return height, width, channels


def read_architecture(family: str, settings: tuple[str, ...]) -> Architecture:
    """Read a family's hyperparameters from ``key=value`` each; SpecError, with all faults, if any is wrong."""
    record = ARCHITECTURES[family]
    values: dict[str, Scalar] = {}
    faults: list[Fault] = []
    for setting in settings:
        key, equals, text = setting.partition("=")
        key = key.strip().removeprefix("architecture.").removeprefix(f"{family}.")
        shown = printable(key)
        place = Place(1, 1, shown, shown)
        if not equals or not key:
            example = next(iter(record.model_fields))
            faults.append(Fault(place, f"must be a key, = and a value; write --set {example}=..."))
        elif key not in record.model_fields:
            faults.append(Fault(place, f"{family} has no such hyperparameter{suggest_among(key, record.model_fields)}"))
        else:
            node, found = parse_yaml(text, shown, shown)
            faults.extend(found)
            value = None if found else find_domain(record, key).read(node or ScalarNode(place, None, ""), faults)
            if value is not None:
                values[key] = value
    if faults:
        raise SpecError(list_faults(f"tuner models {family}", faults))
    return record.model_validate(values)


def print_layers(layers: tuple["LayerSummary", ...]) -> None:
    """Print a network's layers and their totals."""
    table = Table(box=None, pad_edge=False, header_style="bold", show_footer=True, footer_style="bold")
    parameters, multiply_adds, memory = (
        sum(getattr(layer, name) for layer in layers)
        for name in ("num_parameters", "num_multiply_adds", "memory_bytes")
    )
    table.add_column("layer", "total")
    table.add_column("kind")
    table.add_column("output", justify="right", no_wrap=True)
    table.add_column("parameters", f"{parameters:,}", justify="right", no_wrap=True)
    table.add_column("multiply-adds", f"{multiply_adds:,}", justify="right", no_wrap=True)
    table.add_column("memory", format_bytes(memory), justify="right", no_wrap=True)
    for layer in layers:
        table.add_row(
            layer.name,
            layer.kind,
            "x".join(map(str, layer.output_shape)) or "while training",
            f"{layer.num_parameters:,}",
            f"{layer.num_multiply_adds:,}",
            format_bytes(layer.memory_bytes),
        )
    print_table(table)
    click.echo(
        f"\n{parameters:,} parameters ({format_bytes(4 * parameters)}), {format_count(multiply_adds)} multiply-adds an "
        f"image; {format_bytes(memory)} an image forward, about {format_bytes(2 * memory)} with the backward pass"
    )
    click.echo(NOTE)


def format_bytes(count: int) -> str:
    """Write bytes in the largest unit that leaves a whole number before the point; 1 kB is 1,000 bytes."""
    for size, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B" if count else "0"


def format_count(count: int) -> str:
    """Write a large number with three or more digits: ``15.5 G``."""
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return str(count)
