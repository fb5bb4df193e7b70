"""What trained models make of the test images, found where the models were trained."""

import contextlib
import platform
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from ray.exceptions import RayError

from tuner.errors import ClusterError, TunerError
from tuner.execute.adapters import RETRIES
from tuner.execute.checkpoints import Checkpoints
from tuner.execute.cluster import connected
from tuner.execute.crew import share_out, start_crew
from tuner.execute.experiment import Surroundings
from tuner.execute.growth import place_on_growing
from tuner.execute.placement import Placement
from tuner.execute.remote import Remote
from tuner.execute.stage_run import GPU_SECONDS
from tuner.execute.task import MODEL
from tuner.spec.search import DataSpec, SearchSpec
from tuner.track.ledger import StageLedger
from tuner.train.data import Opening, open_images, prepare, prepare_test

if TYPE_CHECKING:  # torch takes seconds to import, which only who scores should pay
    from tuner.train.models import Classifier


class Scored(NamedTuple):
    """What one model makes of the test images.

    Attributes
    ----------
    trial : str
        The model's.
    probabilities : float64 array, shape (num_images, num_classes)
        Of each class.
    where : str
        The machine and its device.
    """

    trial: str
    probabilities: NDArray[np.float64]
    where: str


Score: TypeAlias = Callable[[Sequence[str], Opening], Iterator[Scored]]


class Scorer:
    """Scores the test images with one model after the other; its process maps them from its machine's cache.

    Parameters
    ----------
    data : DataSpec
        The images.
    cache : Path
        Where a machine keeps them decoded.
    placement : Placement or None
        What this process gets; None for all CPUs of the machine.
    """

    def __init__(self, data: DataSpec, cache: Path, placement: Placement | None = None) -> None:
        import torch

        self._data = data
        self._cache = cache
        self._device = "cpu"
        self._images: NDArray[np.uint8] | None = None
        if placement is not None:
            torch.set_num_threads(placement.cpus)
            # Ray may count GPUs that torch cannot use; the scores are the same without
            self._device = "cuda" if placement.gpus > 0 and torch.cuda.is_available() else "cpu"
        name = f"cpu {platform.machine()}" if self._device == "cpu" else torch.cuda.get_device_name()
        self._where = f"{socket.gethostname()}, {name}"

    def is_ready(self) -> bool:
        """Answer as soon as the process can score."""
        return True

    def score(self, trial: str, folder: Path, store: str, opening: Opening) -> Scored:
        """Score all test images with a model.

        Parameters
        ----------
        trial, folder, store : str, Path, str
            The model's trial, and where its checkpoints are, as for a ``TrialTask``.
        opening : Opening
            Leave to read the test images.
        """
        from tuner.train.predict import predict

        if self._images is None:
            test = prepare_test(self._data, self._cache, prepare(self._data, self._cache), opening)
            self._images = open_images(test, opening).images
        classifier = load_checkpoint(folder, store).to(self._device)
        return Scored(trial, predict(classifier, self._images), self._where)


def load_checkpoint(folder: Path, store: str) -> "Classifier":
    """Load the model of a trial from its folder, or from the object store that its checkpoints are in."""
    from tuner.train.checkpoint import load_model

    if not store:
        return load_model(folder / MODEL)[0]
    with tempfile.TemporaryDirectory(prefix="tuner-score-") as scratch:
        Remote(store).fetch(MODEL, Path(scratch) / MODEL)
        return load_model(Path(scratch) / MODEL)[0]


@contextlib.contextmanager
def scoring(spec: SearchSpec, final: StageLedger, folder: Path, around: Surroundings) -> Iterator[Score]:
    """Get ready to score the test images for as long as the block lasts; nothing of them is read before it is asked.

    Trainings on a cluster, or with a GPU, are followed by as many workers as they had, each with what one of their
    processes got: the driver's machine may have no GPU, and many images. Otherwise this process does it, which spares
    starting Ray.

    Parameters
    ----------
    spec : SearchSpec
        That of the final trainings.
    final : StageLedger
        These.
    folder : Path
        The search's folder.
    around : Surroundings
        Where, and with what.

    Yields
    ------
    function of names of trials and an Opening
        Yields what each of their models makes of the test images, as they come.

    Raises
    ------
    ClusterError
        If no worker can be started, or one fails or is lost more often than a trial may lose its own.
    TunerError
        What a worker failed with, where tuner itself explains it.
    """
    checkpoints, trials = Checkpoints(folder), final.trials()
    if around.ray_address is None and not any(GPU_SECONDS in epoch for trial in trials for epoch in trial.epochs):
        alone = Scorer(spec.data, around.cache)
        yield lambda names, opening: (alone.score(name, *checkpoints.find_place(name), opening) for name in names)
        return
    loading = Thread(target=import_module, args=("tuner.execute.verdict",), daemon=True)
    with connected(around.ray_address, meanwhile=loading) as nodes:
        placement = place_on_growing(spec.resources, nodes, lambda _: None)
        again = {"max_restarts": RETRIES, "max_task_retries": RETRIES}
        crew = start_crew(Scorer, placement, len(trials), spec.data, around.cache, placement, **again)

        def score(names: Sequence[str], opening: Opening) -> Iterator[Scored]:
            work = ((name, *checkpoints.find_place(name), opening) for name in names)
            for _, scored in share_out(crew, work, lambda worker, piece: worker.score.remote(*piece)):
                yield scored

        try:
            yield score
        except RayError as error:
            cause = getattr(error, "cause", None)  # of what was raised there
            if isinstance(cause, TunerError):
                raise cause from None
            raise ClusterError(
                f"a worker that scored the test images failed, or was lost {RETRIES + 1} times: {error}; all is "
                "recorded, and the same command goes on"
            ) from error
