"""The files that belong to a stage: written when it ends, then sent to MLflow as they are."""

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tuner.spec import dump_config, dump_training_spec
from tuner.track.best import describe_training, rank_trials
from tuner.track.ledger import StageLedger
from tuner.track.results import build_table, write_table

CARD, OUTCOME = "model_card.md", "outcome.json"  # of a model that a search has ended with


def write_artifacts(folder: Path, stage: StageLedger, find_model: Callable[[str], Path]) -> Path:
    """Write a stage's files.

    Parameters
    ----------
    folder : Path
        The search's folder.
    stage : StageLedger
        The stage.
    find_model : function
        Returns the path of a trial's model by the trial's name; there need not be one.

    Returns
    -------
    Path
        Their folder: ``spec.yaml`` as run, ``narrowing.md``, ``trials.parquet``, and in ``best`` the best trial's
        ``config.yaml`` and its model.
    """
    target = folder / "artifacts" / stage.name
    (target / "best").mkdir(parents=True, exist_ok=True)
    attributes, trials = stage.attributes, stage.trials()
    (target / "spec.yaml").write_text(attributes["spec"])
    (target / "narrowing.md").write_text(describe_narrowing(attributes["narrowing"]))
    write_table(build_table(trials), target / "trials.parquet")
    for best in rank_trials(trials, maximize=stage.maximize)[:1]:
        (target / "best" / "config.yaml").write_text(dump_training_spec(describe_training(best, stage, folder.name)))
        source = find_model(best.name)
        if source.exists():
            shutil.copyfile(source, target / "best" / source.name)
    return target


def describe_narrowing(reasons: Sequence[Mapping[str, Any]]) -> str:
    """Write why a stage's space is what it is, as a Markdown table."""
    if not reasons:
        return "The space is as it was asked for.\n"
    lines = ["| hyperparameter | before | now | | why | trials |", "| --- | --- | --- | --- | --- | ---: |"]
    lines += [
        "| {name} | {before} | {after} | {action} | {text} | {num_trials} |".format(**reason) for reason in reasons
    ]
    return "\n".join(lines) + "\n"


def write_model_card(path: Path, final: StageLedger, outcome: Mapping[str, Any]) -> None:
    """Write what whoever uses a model should know of it, as Markdown: what it is, how good, on what, and what not.

    Parameters
    ----------
    path : Path
        The file.
    final : StageLedger
        The trainings that it was chosen from.
    outcome : mapping
        What the test set said.
    """
    test, data, model = outcome["test"], outcome["data"], outcome["model"]
    low, high = test["interval"]["low"], test["interval"]["high"]
    attributes = final.attributes
    figures = {
        "accuracy": f"{test['accuracy']:.2%} (95% interval over images: {low:.2%} to {high:.2%})",
        "top-5 accuracy": _percent(test["top5_accuracy"]),
        "superclass accuracy": _percent(test["superclass_accuracy"]),
        "loss": f"{test['loss']:.4f} nats",
        "expected calibration error": f"{test['calibration_error']:.2%}",
    }
    images = f"{data['num_train']:,} training images" + (
        ", those for validation among them" if model["is_retrained"] else ""
    )
    versions = ", ".join(f"{name} {version}" for name, version in attributes.get("versions", {}).items())
    lines = [
        f"# {final.search}",
        "",
        f"An image classifier for the {len(outcome['class_names'])} classes of {data['name']}, which the search "
        f"{final.search} chose by validation and trained on {images} for {model['epochs']} epochs.",
        "",
        f"## On {data['num_test']:,} test images",
        "",
        "| | |",
        "| --- | ---: |",
        *(f"| {name} | {figure} |" for name, figure in figures.items() if figure),
        "",
        f"Weakest classes by recall: {_name_weakest(outcome)}.",
        "",
        *(f"Warning: {warning}.\n" for warning in outcome["warnings"]),
        "## How it is called",
        "",
        "Images of the size and channels that it was trained with, values 0 to 255, not normalised; the result is a "
        f"score a class, in this order: {', '.join(outcome['class_names'])}.",
        "",
        "```",
        f"tuner predict {final.search} IMAGE...",
        "```",
        "",
        "## What it is not for",
        "",
        "It gives every image one of its classes, also an image of none of them. Its figures hold for images like "
        "those of the test set, and for nothing else.",
        "",
        "## Where it comes from",
        "",
        f"Trial {model['trial']}, seed {model['seed']}; SHA-256 of model.pt: `{model['sha256']}`. Content of the "
        f"training images: `{data['train']}`, of the test images: `{data['test']}`. {versions}.",
        "",
        "```yaml",
        dump_config(model["config"]).rstrip(),
        "```",
    ]
    path.write_text("\n".join(lines) + "\n")


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.2%}"


def _name_weakest(outcome: Mapping[str, Any]) -> str:
    """Name the three classes that are found least often."""
    recall = [
        (share, name)
        for share, name in zip(outcome["test"]["recall"], outcome["class_names"], strict=True)
        if share is not None
    ]
    return ", ".join(f"{name} {share:.1%}" for share, name in sorted(recall)[:3])
