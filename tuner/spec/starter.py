"""A search file to start from, for a data set and a budget, with a comment beside what one will want to change."""

from dataclasses import dataclass
from typing import Literal

from tuner.spec.load import load_text
from tuner.spec.yaml_tree import NUMBER, resolve_plain

Kind = Literal["small grey", "small colour", "large"]
KINDS: dict[str, Kind] = {
    "digits": "small grey",
    "mnist": "small grey",
    "fashion_mnist": "small grey",
    "idx": "small grey",
    "cifar10": "small colour",
    "cifar100": "small colour",
    "svhn": "small colour",
    "imagenet": "large",
    "folder": "large",
    "parquet": "large",
}
NETWORKS: dict[Kind, str] = {
    "small grey": """\
      simple_cnn: {depth: {int: [1, 4]}, width: {logint: [8, 64]}}
      lenet: {activation: {choice: [tanh, relu]}}
      resnet: {depth: {choice: [8, 14, 20]}, width: {choice: [8, 16, 32]}}""",
    "small colour": """\
      simple_cnn: {depth: {int: [3, 6]}, width: {logint: [32, 256]}, batch_norm: {choice: [false, true]}}
      resnet: {depth: {choice: [14, 20, 32]}, width: {choice: [16, 32, 64]}}
      mobilenet_v2: {width: {loguniform: [0.5, 1.5]}}""",
    "large": """\
      resnet: {depth: {choice: [18, 34, 50]}}
      mobilenet_v2: {width: {loguniform: [0.5, 1.5]}}
      vit: {patch: {choice: [16, 32]}, depth: {int: [6, 12]}, heads: {choice: [3, 6]}, width: {choice: [192, 384]}}""",
}
MIRRORED = {"cifar10", "cifar100", "imagenet", "folder", "parquet", "fashion_mnist"}  # still what they are in a mirror


@dataclass(frozen=True)
class Wish:
    """What a search file is wanted for.

    Attributes
    ----------
    name : str
        The search's.
    data : str
        The data set.
    budget : str
        For how long it may search, such as ``2h``; a plain number is seconds.
    path : str or None
        The data set's folder.
    size : int or None
        The side that images are scaled to; None for 224 where images are large, and for as they are elsewhere.
    """

    name: str
    data: str
    budget: str
    path: str | None = None
    size: int | None = None


def write_starter(wish: Wish) -> str:
    """Write a search file, which is checked.

    Raises
    ------
    SpecError
        If what is wished for is wrong: a name, a duration, a folder that is missing.
    """
    kind = KINDS.get(wish.data, "large")
    size = wish.size or (224 if kind == "large" else None)
    told = [f"name: {_quote(wish.data)}"]
    told += [f"path: {_quote(wish.path)}"] if wish.path is not None else []
    told += [f"size: {size}"] if size is not None else []
    crops = {"small grey": "{choice: [0, 1]}", "small colour": "{choice: [0, 4]}", "large": "{choice: [0, 16]}"}[kind]
    is_number = NUMBER.fullmatch(wish.budget) is not None
    budget, shown = (wish.budget, f"{wish.budget} s") if is_number else (_quote(wish.budget), wish.budget)
    flip = "flip: {choice: [false, true]}" if wish.data in MIRRORED else "# flip: true"
    text = f"""\
# A search on {wish.data} for {shown}: coarse, then fine. All of it may be changed; any key is explained by
#   tuner explain KEY
# Before it is run: tuner validate FILE. To run it, and to go on with it after ctrl-C: tuner run FILE
name: {_quote(wish.name)}
data: {{{", ".join(told)}, validation: 0.2}}
objective: val_accuracy                          # or val_loss; [val_accuracy, parameters] looks for small networks too
space:                                           # a plain value is fixed; try: adds configurations that you know
  architecture:
    choice:                                      # what stands under a family exists only where it is chosen
{NETWORKS[kind]}
  learning_rate: {{loguniform: [1e-4, 1.0]}}       # a scale: as many trials from 1e-4 to 1e-3 as from 0.1 to 1
  learning_rate_decay: {{choice: [step, cosine]}}
  batch_size: {{choice: [32, 64, 128]}}
  l2: {{loguniform: [1e-7, 1e-2]}}                 # against overfitting, as dropout is
  dropout: {{uniform: [0.0, 0.5]}}
  crop_padding: {crops}
  {flip:<46} # right where a mirrored image is of the same class
stages:
  coarse:                                        # many configurations, few epochs
    trials: 48
    max_epochs: 9
    halving: {{reduction: 3, min_epochs: 1}}       # after 1 and 3 epochs what promises little waits or ends
  fine:                                          # fewer, longer, around the best fifth
    trials: 24
    max_epochs: 27
    halving: {{reduction: 3, min_epochs: 3}}
    narrow: {{keep: 0.2, margin: 0.1}}
resources: {{cpus: 1, gpus: auto}}                 # for each trial; as many run at once as fit
limits: {{time: {budget}}}
seed: 0
"""
    load_text(text, "what is wished for")
    return text


def _quote(text: str) -> str:
    """Put text into quotes where YAML would read something else."""
    is_plain = text.replace("-", "").replace("_", "").replace(".", "").replace("/", "").isalnum()
    return text if is_plain and isinstance(resolve_plain(text), str) else "'" + text.replace("'", "''") + "'"
