"""The smaller sections of a file, each from its YAML to a checked record."""

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic.fields import FieldInfo

from tuner.spec.domain import Domain, find_domain
from tuner.spec.faults import Fault, enumerate_words, suggest, suggest_among
from tuner.spec.model import SpecModel
from tuner.spec.search import COSTS, DataSpec, Limits, Objective, Resources, Tracking
from tuner.spec.space import Scalar
from tuner.spec.yaml_tree import ListNode, MapNode, Node, ScalarNode, printable, show

Record = TypeVar("Record", bound=SpecModel)
Reader = Callable[[Node, list[Fault]], Any]

NAME_PATTERN = "[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
DURATION_PATTERN = r"(?=[0-9])([0-9]+(\.[0-9]+)?d)?([0-9]+(\.[0-9]+)?h)?([0-9]+(\.[0-9]+)?m)?([0-9]+(\.[0-9]+)?s)?"
STORE_PATTERN = r"auto|off|databricks|(https?|sqlite|postgresql|mysql|mssql|databricks)(\+[a-z0-9]+)?://.+"
LEDGER_PATTERN = r"postgres(ql)?://.+"
PATH_NEEDED = ("folder", "idx", "imagenet", "parquet")
DOWNLOADED = ("mnist", "fashion_mnist", "cifar10", "cifar100", "svhn")
DATA_KEYS: dict[str, tuple[str, ...]] = {  # which data sets a key goes with, where not with all
    "path": (*PATH_NEEDED, *DOWNLOADED),
    "labels": ("cifar100",),
    "size": ("folder", "imagenet", "parquet"),
    "corrupt": ("folder", "imagenet", "parquet"),
    "download": DOWNLOADED,
    "image_column": ("parquet",),
    "label_column": ("parquet",),
}
NATURAL_MODES = {"val_accuracy": "max", "val_loss": "min"}
FURTHER = Domain(words=(*NATURAL_MODES, *COSTS))
_CREDENTIALS = r"://[^/@]*:[^/]*@|[?&](ssl)?password="
_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


def read_section(
    node: Node,
    record: type[Record],
    faults: list[Fault],
    readers: Mapping[str, Reader] | None = None,
    *,
    hidden: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Check a mapping against the fields of a record.

    Parameters
    ----------
    node : Node
        The section; an empty one has nothing but defaults.
    record : type
        The record that it becomes.
    faults : list of Fault
        Gets what is wrong.
    readers : mapping from keys to functions
        Keys that are no plain values, and what reads them.
    hidden : tuple of str
        Fields that are no keys of the file.

    Returns
    -------
    dict
        The values of the keys that are given and right, by key.
    """
    readers = readers or {}
    fields = {key: field for key, field in record.model_fields.items() if key not in hidden}
    keys = [*fields, *(key for key in readers if key not in fields)]
    if isinstance(node, ScalarNode) and node.value is None:
        node = MapNode(node.place, {}, {})
    if not isinstance(node, MapNode):
        message = f"must be a mapping with the keys {enumerate_words(keys, 'and')}, found {show(node)}"
        faults.append(Fault(node.place, message))
        return {}
    values: dict[str, Any] = {}
    for key, value_node in node.entries.items():
        num_faults = len(faults)
        if key in readers or key in fields:
            read = readers.get(key) or find_domain(record, key).read
            value = read(value_node, faults)
            if len(faults) == num_faults:
                values[key] = value
        else:
            message = f"there is no key {printable(key)} here{suggest_among(key, keys)}"
            faults.append(Fault(node.keys[key], message))
    for key, field in fields.items():
        if field.is_required() and key not in node.entries:
            faults.append(Fault(node.place, f"{key} is missing; {_explain_missing(record, key, field, readers)}"))
    return values


def _explain_missing(record: type[SpecModel], key: str, field: FieldInfo, readers: Mapping[str, Reader]) -> str:
    what = (field.description or "").rstrip(".")
    allowed = "" if key in readers else f" ({find_domain(record, key).describe()})"
    return f"write {key}: ...{allowed}: {what[:1].lower()}{what[1:]}"


def read_name(node: Node, faults: list[Fault]) -> str | None:
    """Read a name that becomes the name of a folder."""
    if isinstance(node, ScalarNode) and isinstance(node.value, str) and re.fullmatch(NAME_PATTERN, node.value):
        return node.value
    number = isinstance(node, ScalarNode) and isinstance(node.value, int | float)
    advice = "; put it in quotes" if number else ""
    faults.append(
        Fault(
            node.place,
            "names a folder, so it must be letters, digits, dots, - and _, at most 64, the first no sign, "
            f"found {show(node)}{advice}",
        )
    )
    return None


def read_data(node: Node, faults: list[Fault]) -> DataSpec | None:
    """Read which images to train on: a mapping, or the name of a data set that needs no more.

    A key that the data set has no use for is a fault unless it says what it says anyhow: a file that was
    written with all its defaults can be read again.
    """
    num_faults = len(faults)
    values = read_section(_expand(node, "name"), DataSpec, faults)
    name, path = values.get("name"), values.get("path")
    entries = node.entries if isinstance(node, MapNode) else {}
    is_path_wrong = "path" in entries and "path" not in values
    if name in PATH_NEEDED and not path and not is_path_wrong:
        message = f"path is missing; the data set {name} is a folder, so write path: FOLDER"
        faults.append(Fault(node.place, message))
    elif path == "":
        faults.append(Fault(entries["path"].place, "is empty; name a folder or take it out"))
    elif isinstance(path, str) and re.search(_CREDENTIALS, path):
        message = "a password does not belong here, for the file is copied with the results; set it in the environment"
        faults.append(Fault(entries["path"].place, message))
    elif isinstance(path, str) and "://" in path and name != "parquet":
        message = f"the data set {name} is read from a folder of this machine; copy it there"
        faults.append(Fault(entries["path"].place, message))
    if isinstance(name, str) and isinstance(node, MapNode):
        for key, value in values.items():
            owners = find_owners(key)
            if name not in owners and value != DataSpec.model_fields[key].default:
                message = f"the data set {name} has no {key}; take it out, or write name: {enumerate_words(owners)}"
                faults.append(Fault(node.keys[key], message))
    return DataSpec(**values) if len(faults) == num_faults else None


def find_owners(key: str) -> tuple[str, ...]:
    """Return the data sets that a key of the data section goes with."""
    names = tuple(str(word) for word in find_domain(DataSpec, "name").words)
    return DATA_KEYS.get(key, names)


def read_objective(node: Node, faults: list[Fault]) -> Objective | None:
    """Read what is optimised: a mapping, the metric alone, or a list of several; the mode follows from the metric."""
    num_faults = len(faults)
    if isinstance(node, ListNode):
        if not node.items:
            faults.append(Fault(node.place, "must name a metric or more, found []; write [val_accuracy, parameters]"))
            return None
        first, *rest = node.items
        also = ListNode(node.place, tuple(rest))
        node = MapNode(node.place, {"metric": first, "also": also}, {"metric": first.place, "also": node.place})
    values = read_section(_expand(node, "metric"), Objective, faults, {"also": _read_also})
    if len(faults) > num_faults:
        return None
    metric = values.get("metric", Objective().metric)
    if metric in values.get("also", ()):
        assert isinstance(node, MapNode) and isinstance(node.entries["also"], ListNode)
        place = node.entries["also"].items[values["also"].index(metric)].place
        faults.append(Fault(place, f"{metric} is the first objective already; take it out"))
        return None
    natural = NATURAL_MODES[metric]
    if values.setdefault("mode", natural) != natural:
        assert isinstance(node, MapNode)
        message = f"must be {natural} for {metric}, found {values['mode']}; it can be left out"
        faults.append(Fault(node.entries["mode"].place, message))
        return None
    return Objective(**values)


def _read_also(node: Node, faults: list[Fault]) -> tuple[Scalar, ...] | None:
    """Read what else counts, each once."""
    if not isinstance(node, ListNode):
        faults.append(Fault(node.place, f"must be a list of metrics, found {show(node)}; write [parameters]"))
        return None
    num_faults = len(faults)
    metrics: list[Scalar] = []
    for item in node.items:
        metric = FURTHER.read(item, faults)
        if metric in metrics:
            faults.append(Fault(item.place, f"{metric} is there already; take it out"))
        elif metric is not None:
            metrics.append(metric)
    return tuple(metrics) if len(faults) == num_faults else None


def read_resources(node: Node, faults: list[Fault]) -> Resources | None:
    """Read what a trial gets; a share of a GPU is below one."""
    num_faults = len(faults)
    values = read_section(node, Resources, faults)
    gpus = values.get("gpus")
    if isinstance(gpus, float) and gpus > 1 and not gpus.is_integer():
        assert isinstance(node, MapNode)
        message = f"must be auto, a share below 1 or a whole number, found {show(node.entries['gpus'])}"
        faults.append(Fault(node.entries["gpus"].place, f"{message}; write {int(gpus)} or {int(gpus) + 1}"))
    return Resources(**values) if len(faults) == num_faults else None


def read_limits(node: Node, faults: list[Fault]) -> Limits:
    """Read when the search ends; the key ``time`` is a duration."""
    values = read_section(node, Limits, faults, {"time": _read_duration}, hidden=("time_s",))
    return Limits(time_s=values.pop("time", None), **values)


def find_useless_limits(node: Node, limits: Limits, objective: Objective, resources: Resources) -> list[Fault]:
    """Find the limits that a search can never reach."""
    faults: list[Fault] = []
    if not isinstance(node, MapNode):
        return faults
    if limits.target is not None and limits.target > 1 and objective.metric == "val_accuracy":
        target = node.entries["target"]
        advice = f"write {limits.target / 100:g}" if limits.target <= 100 else "write 0.99"
        message = f"must be at most 1, for val_accuracy is a fraction, found {show(target)}; {advice}"
        faults.append(Fault(target.place, message))
    if limits.gpu_hours is not None and resources.gpus == 0:
        message = "trials that have no GPU (resources.gpus: 0) use no GPU hours; take this out, or give them GPUs"
        faults.append(Fault(node.keys["gpu_hours"], message))
    return faults


def parse_duration(text: str) -> float | None:
    """Return the seconds of a duration such as 1h30m; None if it is none."""
    if not text or not re.fullmatch(DURATION_PATTERN, text):
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in re.findall(r"([0-9.]+)([dhms])", text))


def _read_duration(node: Node, faults: list[Fault]) -> float | None:
    """Read seconds, or a duration such as 1h30m."""
    seconds: float | None = None
    if isinstance(node, ScalarNode):
        if node.value is None:
            return None
        if isinstance(node.value, str):
            seconds = parse_duration(node.value)
        elif isinstance(node.value, int | float) and not isinstance(node.value, bool):
            seconds = float(node.value) if abs(node.value) < 1e15 else None
    if seconds is None or not 0 < seconds < 1e15:
        message = f"must be a duration above 0, found {show(node)}; write 90s, 30m, 1h30m, 2d, or seconds"
        faults.append(Fault(node.place, message))
        return None
    return seconds


def read_tracking(node: Node, faults: list[Fault]) -> Tracking:
    """Read where the results go; an address with a password is refused without showing it."""
    return Tracking(**read_section(node, Tracking, faults, {"mlflow": _read_store, "wandb": _read_project}))


def _read_project(node: Node, faults: list[Fault]) -> Scalar | None:
    if isinstance(node, ScalarNode) and node.value == "":
        faults.append(Fault(node.place, "is empty; name a project, or write off"))
        return None
    return find_domain(Tracking, "wandb").read(node, faults)


def _read_store(node: Node, faults: list[Fault]) -> str | None:
    value = node.value if isinstance(node, ScalarNode) else None
    if isinstance(value, str) and re.search(_CREDENTIALS, value):
        message = (
            "a password does not belong here, for the file is copied with the results; "
            "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the environment"
        )
        faults.append(Fault(node.place, message))
        return None
    if isinstance(value, str) and re.fullmatch(STORE_PATTERN, value):
        return value
    advice = suggest(value, ["auto", "off"]) if isinstance(value, str) else ""
    faults.append(
        Fault(
            node.place,
            "must be auto, off or an address such as http://host:5000 or sqlite:///mlflow.db, "
            f"found {show(node)}{advice}",
        )
    )
    return None


def read_storage(node: Node, faults: list[Fault]) -> str | None:
    """Read where the ledger is; an address with a password is refused without showing it."""
    value = node.value if isinstance(node, ScalarNode) else None
    if isinstance(value, str) and re.search(r"://[^/@]*:.*@|password=", value):
        message = (
            "a password does not belong here, for the file is copied with the results; set TUNER_STORAGE to the whole "
            "address, or PGPASSWORD, in the environment"
        )
        faults.append(Fault(node.place, message))
        return None
    if isinstance(value, str) and (value == "auto" or re.fullmatch(LEDGER_PATTERN, value)):
        return value
    message = f"must be auto or an address such as postgresql://user@host/database, found {show(node)}"
    faults.append(Fault(node.place, message))
    return None


def _expand(node: Node, key: str) -> Node:
    """Return a single word as the mapping that it is short for."""
    if isinstance(node, ScalarNode) and node.value is not None:
        return MapNode(node.place, {key: node}, {key: node.place})
    return node
