"""What a worker writes for TensorBoard while it trains: what only the network itself shows."""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tuner.spec.search import TensorBoard
from tuner.track.event_file import EventFile, encode_png, make_graph, make_histograms, make_image
from tuner.train.insight import (
    Embedding,
    draw_filters,
    draw_sprite,
    embed_validation,
    measure_histograms,
    trace_graph,
)
from tuner.train.run import Progress

EVENTS = "events.out.tfevents.1.worker"  # in a trial's folder; its scalars have another name

_log = logging.getLogger(__name__)


class InsightWriter:
    """Writes what is asked for after each epoch; what goes wrong is logged and never stops the training.

    Whoever goes on with a trial begins with the epoch after its checkpoint, which is written before this: no step comes
    twice, and at worst a killed worker's last one is missing.

    Parameters
    ----------
    wanted : TensorBoard
        What is asked for.
    folder : Path
        The trial's folder for TensorBoard.
    can_embed : bool
        Whether this process alone may evaluate the network, as it may not where several train it together.
    """

    def __init__(self, wanted: TensorBoard, folder: Path, *, can_embed: bool) -> None:
        self._folder = folder
        self._file: EventFile | None = None
        self._writers: list[Callable[[Progress], None]] = []
        self._writers += [self._write_graph] if wanted.graph else []
        self._writers += [self._write_histograms] if wanted.histograms else []
        self._writers += [self._write_filters] if wanted.filters else []
        self._writers += [self._write_embedding] if wanted.embedding and can_embed else []

    def write(self, progress: Progress) -> None:
        """Write what is asked for after an epoch that was trained just now."""
        for write in tuple(self._writers):
            try:
                write(progress)
            except Exception:
                _log.exception("%s: cannot be written, and is left out from now on", self._folder)
                self._writers.remove(write)

    @property
    def _events(self) -> EventFile:
        self._file = self._file or EventFile(self._folder / EVENTS)
        return self._file

    def _write_graph(self, progress: Progress) -> None:
        if self._events.last is None:  # it is the first of all
            self._events.add(make_graph(trace_graph(progress.trainer.classifier.network), time.time()))

    def _write_histograms(self, progress: Progress) -> None:
        histograms = dict(measure_histograms(progress.trainer))
        if histograms:
            self._events.add(make_histograms(histograms, progress.result.epoch, time.time()))

    def _write_filters(self, progress: Progress) -> None:
        pixels = draw_filters(progress.trainer.classifier.network)
        if pixels is not None:
            self._events.add(make_image("filters/first_layer", pixels, progress.result.epoch, time.time()))

    def _write_embedding(self, progress: Progress) -> None:
        if progress.is_best:
            write_embedding(embed_validation(progress.trainer), self._folder)


def write_embedding(embedding: Embedding, folder: Path) -> None:
    """Write the files that TensorBoard's projector reads; each is there whole, or as it was.

    Parameters
    ----------
    embedding : Embedding
        What is shown.
    folder : Path
        The trial's folder for TensorBoard.
    """
    folder.mkdir(parents=True, exist_ok=True)
    height, width = embedding.images.shape[1:3]
    lines = ["class\tfound", *(f"{a}\t{b}" for a, b in zip(embedding.labels, embedding.found, strict=True))]
    with _replacing(folder / "embedding.tsv") as path:
        np.savetxt(path, embedding.vectors, fmt="%.5g", delimiter="\t")
    with _replacing(folder / "embedding_classes.tsv") as path:
        path.write_text("\n".join(lines) + "\n")
    with _replacing(folder / "embedding.png") as path:
        path.write_bytes(encode_png(draw_sprite(embedding.images)))
    with _replacing(folder / "projector_config.pbtxt") as path:
        path.write_text(
            'embeddings {\n  tensor_name: "validation images"\n  tensor_path: "embedding.tsv"\n'
            '  metadata_path: "embedding_classes.tsv"\n'
            f'  sprite {{ image_path: "embedding.png" single_image_dim: {width} single_image_dim: {height} }}\n}}\n'
        )


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Give a name to write to, and rename that at the block's end."""
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    yield new
    new.replace(path)
