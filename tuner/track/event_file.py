"""TensorBoard's event files: the one door to what writes them.

A file is a sequence of records, each with its length and checksums, so that one which a kill cut off is known. It is
only ever added to; whoever goes on with it drops what was cut off, and sees by the last record how far it is.
"""

import io
import os
import struct
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tensorboardX.proto.api_pb2 import DataType, Experiment, HParamInfo, MetricInfo, MetricName, Status
from tensorboardX.proto.attr_value_pb2 import AttrValue
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.graph_pb2 import GraphDef
from tensorboardX.proto.node_def_pb2 import NodeDef
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo
from tensorboardX.proto.summary_pb2 import HistogramProto, Summary, SummaryMetadata
from tensorboardX.proto.versions_pb2 import VersionDef
from tensorboardX.record_writer import masked_crc32c

from tuner.spec.space import Scalar

Spread: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64], float, float, float, float]

_HEADER = struct.Struct("<QI")  # a record's length, and its checksum
_CHECKSUM = struct.Struct("<I")
_VERSION = "brain.Event:2"


class EventFile:
    """A file of events that is added to, by one process at a time.

    Parameters
    ----------
    path : Path
        Its name must have ``tfevents`` in it, or TensorBoard does not see it.

    Attributes
    ----------
    last : Event or None
        Its last event; None while it has none but the version that it begins with.

    Raises
    ------
    OSError
        If it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.last: Event | None = None
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as file:
            self._end, record = _find_end(file.fileno())
        if self._end:
            last = Event.FromString(record)
            self.last = None if last.file_version else last
        else:
            self.add(Event(file_version=_VERSION, wall_time=time.time()))
            self.last = None

    def add(self, *events: Event) -> None:
        """Write events, whole or not at all.

        Raises
        ------
        OSError
            If the disk is full or gone.
        """
        content = b"".join(_frame(event.SerializeToString()) for event in events)
        with self._path.open("rb+") as file:
            file.truncate(self._end)  # what a kill or a full disk cut off
            file.seek(self._end)
            file.write(content)
        self._end += len(content)
        self.last = events[-1]


def _frame(record: bytes) -> bytes:
    length = struct.pack("<Q", len(record))
    return _HEADER.pack(len(record), masked_crc32c(length)) + record + _CHECKSUM.pack(masked_crc32c(record))


def _find_end(descriptor: int) -> tuple[int, bytes]:
    """Return where the last whole record ends, and that record."""
    size = os.fstat(descriptor).st_size
    end, last = 0, (0, 0)
    while end + _HEADER.size <= size:
        length, _ = _HEADER.unpack(os.pread(descriptor, _HEADER.size, end))
        after = end + _HEADER.size + length + _CHECKSUM.size
        if after > size:
            break
        end, last = after, (end + _HEADER.size, length)
    return end, os.pread(descriptor, last[1], last[0])


def make_scalars(values: Mapping[str, float], step: int, time_s: float) -> Event:
    """Make one event of all that was measured at a step."""
    summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])
    return Event(step=step, wall_time=time_s, summary=summary)


def make_histograms(histograms: Mapping[str, Spread], step: int, time_s: float) -> Event:
    """Make one event of how tensors were spread at a step.

    Parameters
    ----------
    histograms : mapping from tags to tuples
        Of each tensor the upper ends of bins, the number of values in each, the least and the greatest value, the sum,
        and the sum of squares.
    step : int
        When it was so.
    time_s : float
        When that was.
    """
    values = []
    for tag, (edges, counts, low, high, total, total_of_squares) in histograms.items():
        histogram = HistogramProto(
            min=low,
            max=high,
            num=float(counts.sum()),
            sum=total,
            sum_squares=total_of_squares,
            bucket_limit=edges,
            bucket=counts,
        )
        values.append(Summary.Value(tag=tag, histo=histogram))
    return Event(step=step, wall_time=time_s, summary=Summary(value=values))


def make_image(tag: str, pixels: NDArray[np.uint8], step: int, time_s: float) -> Event:
    """Make an event of an image.

    Parameters
    ----------
    tag : str
        What it is.
    pixels : uint8 array, shape (height, width, 3)
        Itself.
    step : int
        When it was so.
    time_s : float
        When that was.
    """
    height, width, _ = pixels.shape
    image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=encode_png(pixels))
    return Event(step=step, wall_time=time_s, summary=Summary(value=[Summary.Value(tag=tag, image=image)]))


def make_graph(nodes: Iterable[tuple[str, str, tuple[str, ...], str]], time_s: float) -> Event:
    """Make the event of a network's graph.

    Parameters
    ----------
    nodes : iterable of tuples
        Of each step its name, what it does, the names of those whose output it takes, and its settings.
    time_s : float
        When it was drawn.
    """
    graph = GraphDef(versions=VersionDef(producer=22))
    for name, kind, inputs, about in nodes:
        attributes = {"about": AttrValue(s=about.encode())} if about else {}
        graph.node.append(NodeDef(name=name, op=kind, input=inputs, attr=attributes))
    return Event(wall_time=time_s, graph_def=graph.SerializeToString())


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """Return an image as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def make_experiment(numbers: Sequence[str], choices: Mapping[str, Sequence[str]], metrics: Sequence[str]) -> Event:
    """Make the event by which the page HParams knows what it compares.

    Parameters
    ----------
    numbers : sequence of str
        Hyperparameters that are numbers.
    choices : mapping from names to texts
        Hyperparameters that are one of a few texts, or of any where none are given.
    metrics : sequence of str
        Tags of the scalars that trials are compared by.
    """
    infos = [HParamInfo(name=name, type=DataType.Value("DATA_TYPE_FLOAT64")) for name in numbers]
    for name, options in choices.items():
        info = HParamInfo(name=name, type=DataType.Value("DATA_TYPE_STRING"))
        info.domain_discrete.extend(options)
        infos.append(info)
    compared = [MetricInfo(name=MetricName(tag=tag)) for tag in metrics]
    experiment = Experiment(hparam_infos=infos, metric_infos=compared, time_created_secs=time.time())
    return _make_hparams("experiment", HParamsPluginData(experiment=experiment), time.time())


def write_choice(option: Scalar) -> str:
    """Write an option of a choice that is no choice of numbers, as the page HParams shows it."""
    return str(option).lower() if isinstance(option, bool) else str(option)


def make_session_start(name: str, config: Mapping[str, Scalar], time_s: float) -> Event:
    """Make the event that tells the page HParams what a trial has."""
    start = SessionStartInfo(group_name=name, start_time_secs=time_s)
    for key, value in config.items():
        if isinstance(value, str | bool):
            start.hparams[key].string_value = write_choice(value)
        else:
            start.hparams[key].number_value = value
    return _make_hparams("session_start_info", HParamsPluginData(session_start_info=start), time_s)


def make_session_end(*, is_success: bool, time_s: float) -> Event:
    """Make the event that tells the page HParams that a trial has ended."""
    status = Status.Value("STATUS_SUCCESS" if is_success else "STATUS_FAILURE")
    end = SessionEndInfo(status=status, end_time_secs=time_s)
    return _make_hparams("session_end_info", HParamsPluginData(session_end_info=end), time_s)


def is_session_end(event: Event) -> bool:
    """Tell whether an event is that by which a trial ends."""
    return any(value.tag.endswith("session_end_info") for value in event.summary.value)


def _make_hparams(tag: str, content: HParamsPluginData, time_s: float) -> Event:
    plugin = SummaryMetadata.PluginData(plugin_name="hparams", content=content.SerializeToString())
    value = Summary.Value(tag=f"_hparams_/{tag}", metadata=SummaryMetadata(plugin_data=plugin))
    return Event(wall_time=time_s, summary=Summary(value=[value]))
