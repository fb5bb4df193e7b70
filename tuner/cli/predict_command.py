"""``tuner predict``."""

import json
import tempfile
from pathlib import Path

import click

from tuner.cli.options import choose_tracking_uri, find_tracking_uri, hush_mlflow, json_option, results_option


@click.command()
@click.argument("model")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--top", default=3, show_default=True, type=click.IntRange(min=1), help="Classes to name, of each image.")
@click.option("--resize", is_flag=True, help="Take the middle square of an image of another size, scaled.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:1.")
@results_option
@json_option
def predict(
    model: str, images: tuple[Path, ...], top: int, resize: bool, device: str, results: Path, as_json: bool
) -> None:
    r"""Say what a model makes of images.

    MODEL is the name of a search that was finalized, a model in MLflow's registry, or a model's file.

    \b
    Examples:
        tuner predict digits three.png
        tuner predict models:/digits@champion three.png seven.png
        tuner predict model.pt photo.jpg --resize --top 5 --json
        tuner predict digits scans/*.png --device cuda
    """
    with tempfile.TemporaryDirectory() as scratch:
        path = find_model(model, results, Path(scratch))
        from tuner.train.checkpoint import load_model
        from tuner.train.predict import predict as predict_classes
        from tuner.train.predict import read_pictures
        from tuner.train.run import require_device

        require_device(device)
        classifier, description = load_model(path)
    import numpy as np

    pictures = read_pictures(images, description, resize=resize)
    probabilities = predict_classes(classifier.to(device), np.array([picture.pixels for picture in pictures]))
    found = [
        [(description.class_names[i], float(row[i])) for i in np.argsort(-row, kind="stable")[:top]]
        for row in probabilities
    ]
    if as_json:
        rows = [
            {"image": str(picture.path), "classes": [{"class": name, "probability": p} for name, p in best]}
            for picture, best in zip(pictures, found, strict=True)
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    for picture, best in zip(pictures, found, strict=True):
        click.echo(f"{picture.path}: " + ", ".join(f"{name} {share:.1%}" for name, share in best))


def find_model(model: str, results: Path, scratch: Path) -> Path:
    """Find a model's file and see that it is the one on record; InputError if there is none or it was changed."""
    from tuner.errors import InputError
    from tuner.execute.remote import fetch_artifacts
    from tuner.track.artifacts import hash_file
    from tuner.track.ledger import Ledger
    from tuner.track.store import find_store

    if model.startswith("models:/"):
        hush_mlflow()
        from tuner.track.registry import fetch_model

        name = model.removeprefix("models:/").partition("@")[0].partition("/")[0]
        is_here = find_store(results.absolute() / name).has_ledger()
        uri = find_tracking_uri(results.absolute() / name) if is_here else choose_tracking_uri("auto")
        assert uri is not None, "only off is none"
        path, recorded = fetch_model(model, uri, "model.pt", scratch)
    elif Path(model).is_file():
        return Path(model)
    else:
        openings = [
            (opening, final)
            for final in Ledger.open(results / model).finals()
            for opening in final.attributes.get("openings", [])
            if "outcome" in opening
        ]
        if not openings:
            raise InputError(f"search {model!r} has no model yet; choose it with: tuner finalize {model}")
        opening, final = max(openings, key=lambda one: int(one[0]["number"]))
        fetch_artifacts(results.absolute() / model)
        path, recorded = results / model / "artifacts" / final.name / "model.pt", opening["outcome"]["model"]["sha256"]
    if not path.is_file():
        raise InputError(f"{path}: the model's file is gone; tuner finalize with --again writes it anew")
    if hash_file(path) != recorded:
        raise InputError(
            f"{path}: the file was changed since it was chosen: its SHA-256 is not the one on record; restore it, or "
            "name the file itself to use it as it is"
        )
    return path
