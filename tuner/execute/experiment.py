"""From a spec to a finished search: the paragraph to read first is ``run_search``."""

import contextlib
import datetime
import functools
import subprocess
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, Protocol

from tuner.errors import GaveUpError, InputError, SearchNotFoundError
from tuner.execute.check_process import checking, settle
from tuner.execute.cluster import connected, watched
from tuner.execute.notify import Event, find_end, notifying
from tuner.execute.placement import refuse_useless_limits, suggest_sharing
from tuner.execute.remote import fetch_artifacts, find_remote, publish
from tuner.execute.task import Manner, TrainFunction
from tuner.execute.views import read_kinds, view_records
from tuner.spec import dump_spec, load_text
from tuner.spec.search import FinishedSearch, SearchSpec
from tuner.spec.space import Space
from tuner.strategy.trial_view import STAGE_BEFORE, Before, TrialView
from tuner.track.address import ELSEWHERE
from tuner.track.best import find_source
from tuner.track.lease import Lease
from tuner.track.ledger import Ledger
from tuner.track.mirror_process import MirrorProcess, NoMirror
from tuner.track.store import FolderStore, find_store
from tuner.train.data import prepare

if TYPE_CHECKING:
    from tuner.execute.search_run import SearchRun

_MIRRORED = "mirrored"  # in a search's folder: MLflow and the other images have all of it
SITTINGS_AFTER_GIVING_UP = 3  # a search goes on by itself so often where Ray Tune gave up
_MAY_CHANGE = {"resources", "limits", "tracking", "notify", "tensorboard"}  # between two sittings of one search


class Watcher(Protocol):
    """Whoever watches a search."""

    def begin(self, run: "SearchRun") -> None:
        """See the search before its first trial; ``run.status()`` may be asked for at any time from now on."""

    def say(self, line: str) -> None:
        """Hear what is worth telling."""

    def end(self) -> None:
        """See that no more trials run."""


@dataclass(frozen=True)
class Surroundings:
    """What a search takes from the machine and the command line, read there and nowhere else.

    Attributes
    ----------
    results : Path
        Where the folders of searches are.
    cache : Path
        Where decoded images are kept.
    tracking_uri : str or None
        MLflow's store or server; None for none.
    ray_address : str or None
        An existing cluster; None starts Ray here.
    provenance : mapping
        Versions, commit and the like, recorded with every stage.
    is_checked : bool
        Whether a new search's networks are checked, quickly, before its first trial.
    webhook : str or None
        The address of the spec's ``notify.webhook``, with what is secret in it.
    """

    results: Path
    cache: Path
    tracking_uri: str | None = None
    ray_address: str | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    is_checked: bool = False
    webhook: str | None = field(default=None, repr=False)


def run_search(spec: SearchSpec, around: Surroundings, watcher: Watcher, *, train: TrainFunction | None = None) -> str:
    """Run a search, or go on with it where it was.

    Parameters
    ----------
    spec : SearchSpec
        What was asked.
    around : Surroundings
        Where, and with what.
    watcher : Watcher
        Sees what happens.
    train : function or None
        Trains one trial; None for the real training.

    Returns
    -------
    str
        Why it ended: ``complete``, ``interrupted`` or the limit that was reached.

    Raises
    ------
    InputError
        If the search cannot be run as asked.
    RunError
        If it was begun and failed.
    """
    folder = around.results / spec.name
    store = find_store(folder, spec.storage)
    remote = find_remote(folder)
    if remote is not None and isinstance(store, FolderStore):
        raise InputError(
            f"--results {remote.address}: a ledger that is a file cannot grow in an object store; keep it in "
            "PostgreSQL: set TUNER_STORAGE=postgresql://USER:PASSWORD@HOST/DATABASE, or storage: in the search file"
        )
    with store.claimed(watcher.say) as lease:
        publish(folder, folder / ELSEWHERE)
        ledger = Ledger.open(folder, create=True, lease=lease)
        refuse_another_spec(spec, ledger)
        if is_complete(spec, ledger):
            if not (folder / _MIRRORED).exists():  # the machine died before the images were whole
                mirror_rest(spec, folder, around, watcher)
            return "complete"
        has_begun = bool(ledger.stages())  # then the ledger has what was taken of other searches
        before = None if has_begun else read_before(spec, around.results)
        sources = {} if has_begun else read_sources(spec, around.results)
        left_by = lease.left_by if has_begun else None
        find = functools.partial(find_end, ledger)
        with notifying(spec, around.webhook, find, watcher.say, left_by) as tell:
            return run_stages(
                spec, ledger, lease, folder, around, watcher, before=before, sources=sources, tell=tell, train=train
            )


def run_stages(
    spec: SearchSpec,
    ledger: Ledger,
    lease: Lease,
    folder: Path,
    around: Surroundings,
    watcher: Watcher,
    *,
    before: Before | None = None,
    sources: Mapping[str, tuple[TrialView, ...]] | None = None,
    record: Mapping[str, Any] | None = None,
    manner: Manner = Manner(),  # noqa: B008 it cannot change
    tell: Callable[[Event], None] = lambda _: None,
    train: TrainFunction | None = None,
) -> str:
    """Train the stages of a spec, whose folder is claimed, as far as its ledger does not have them.

    Parameters
    ----------
    spec, ledger, lease, folder, around, watcher, train
        As for ``run_search``, and what it opened.
    before : Before or None
        What the space comes from.
    sources : mapping
        Other searches that are learnt from.
    record : mapping
        What else is recorded with every stage.
    manner : Manner
        How trials are trained and kept.
    tell : function of Event
        Told of failures and new bests.

    Returns
    -------
    str
        Why it ended, as ``run_search`` says.
    """
    prepared = prepare(spec.data, around.cache)
    for note in prepared.notes:
        watcher.say(f"data: {note}")
    known = {"search_id": search_id(ledger), "class_sizes": list(prepared.class_sizes)}
    provenance = {**around.provenance, **known, **(record or {})}
    is_reached = around.ray_address is None  # by every machine that is to train
    with mirrored(spec, folder, around, watcher) as mirror, checked(spec, before, ledger, around) as check:

        def finish_mirror(_: object, error: BaseException | None, __: object) -> None:
            if not isinstance(error, GaveUpError):
                mirror.finish()

        def sit() -> str:
            """Go on with the search on a Ray of its own, or one more connection to a cluster."""
            nonlocal check, is_reached
            loading = Thread(target=import_module, args=("tuner.execute.drive",), daemon=True)
            with connected(around.ray_address, meanwhile=loading) as nodes:
                from tuner.execute.doctor import refuse_unreached
                from tuner.execute.drive import SearchRun, drive, train_trial  # takes as long as Ray takes to start
                from tuner.execute.growth import place_on_growing

                if not is_reached:
                    refuse_unreached(around.results)
                    is_reached = True
                placement = place_on_growing(spec.resources, nodes, watcher.say)
                refuse_useless_limits(spec.limits, placement)
                if advice := suggest_sharing(spec.resources, nodes):
                    watcher.say(advice)
                if check is not None:
                    settle(check, watcher.say)
                    check = None
                run = SearchRun(
                    spec,
                    ledger,
                    folder,
                    around.cache,
                    placement,
                    before,
                    provenance,
                    watcher.say,
                    mirror.notice,
                    sources=sources,
                    manner=manner,
                    tell=tell,
                )
                mirror.notice()
                lease.on_stop(run.interrupt)
                watcher.begin(run)
                with contextlib.ExitStack() as ending:  # each of these, whatever becomes of the others
                    ending.callback(watcher.end)
                    ending.push(finish_mirror)
                    ending.callback(run.finish)
                    if not (around.ray_address or "").startswith("ray://"):  # a client elsewhere reaches neither
                        ending.enter_context(watched(run.lose_cluster))
                    drive(run, placement, folder / "ray", train or train_trial)
            return run.stop_reason or "complete"

        for _ in range(SITTINGS_AFTER_GIVING_UP):
            try:
                return sit()
            except GaveUpError as error:  # as it does at times when a node dies; its actors end with the connection
                watcher.say(f"{error}; going on with it")
        return sit()


def put_aside(folder: Path, storage: str = "auto") -> Path | None:
    """Rename an earlier search, so that its name is free.

    Parameters
    ----------
    folder : Path
        The search's folder.
    storage : str
        Where the new search's ledger will be.

    Returns
    -------
    Path or None
        The new place; None if there was no such search.
    """
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
    remote, new_name = find_remote(folder), f"{folder.name}.before-{stamp}"
    moved = find_store(folder, storage).put_aside(new_name)
    if remote is not None and moved is not None:
        remote.rename(new_name)
    return moved


@contextlib.contextmanager
def mirrored(
    spec: SearchSpec, folder: Path, around: Surroundings, watcher: Watcher
) -> Iterator[MirrorProcess | NoMirror]:
    """Keep the images like the ledger for as long as the block lasts, and see at its end whether they are whole."""
    if around.tracking_uri is None and not spec.tensorboard.scalars and spec.tracking.wandb == "off":
        yield NoMirror()
        return
    fetch_artifacts(folder)  # another machine may have made them
    mirror = MirrorProcess(folder, around.tracking_uri, watcher.say)
    (folder / _MIRRORED).unlink(missing_ok=True)
    try:
        yield mirror
    finally:
        if mirror.has_begun and mirror.close():
            (folder / _MIRRORED).touch()
        elif mirror.has_begun:
            watcher.say(
                f"what is looked at is not whole; all of it is in {folder}, and why in its mirror.log. When that is "
                f"mended: tuner sync {folder.name}"
            )
        else:
            mirror.cancel()


@contextlib.contextmanager
def checked(
    spec: SearchSpec, before: Before | None, ledger: Ledger, around: Surroundings
) -> Iterator["subprocess.Popen[str] | None"]:
    """Check a search that has not begun, if that is wanted, while the block starts Ray."""
    space = spec.space if isinstance(spec.space, Space) else None if before is None else before.space
    if not around.is_checked or ledger.stages() or space is None:
        yield None
        return
    with checking(spec, space, around.cache) as process:
        yield process


def mirror_rest(spec: SearchSpec, folder: Path, around: Surroundings, watcher: Watcher) -> None:
    """Send to the images what they lack of a search in which nothing trains."""
    with mirrored(spec, folder, around, watcher) as mirror:
        mirror.notice()


def refuse_another_spec(spec: SearchSpec, ledger: Ledger) -> None:
    """Check that a search that is gone on with is the one that was begun.

    Raises
    ------
    InputError
        If anything differs but what may change between two sittings.
    """
    stages = ledger.stages()
    if not stages:
        return
    begun = load_text(stages[0].attributes["asked"], "the ledger")
    changed = [
        name
        for name in type(spec).model_fields
        if name not in _MAY_CHANGE and getattr(spec, name) != getattr(begun, name)
    ]
    if changed:
        raise InputError(
            f"a search {spec.name!r} was begun with another {', another '.join(changed)}, or was extended since; go on "
            f"with it as it is with: tuner resume {spec.name}; give this one another name (tuner run SPEC --set "
            "name=NAME), or start over with tuner run SPEC --fresh, which puts the earlier one aside"
        )


def is_complete(spec: SearchSpec, ledger: Ledger) -> bool:
    """Tell whether every stage was run to its end."""
    begun = (ledger.stage(stage.name) for stage in spec.stages)
    return all(stage is not None and stage.attributes.get("ended") == "complete" for stage in begun)


def search_id(ledger: Ledger) -> str:
    """Return the id that tells this search from others of its name, making one for a new search."""
    stages = ledger.stages()
    return str(stages[0].attributes["search_id"]) if stages else uuid.uuid4().hex


def read_sources(spec: SearchSpec, results: Path) -> dict[str, tuple[TrialView, ...]]:
    """Read the searches that a search learns from: of each the stage that `find_source` names.

    Raises
    ------
    SearchNotFoundError
        If one of them is not there, or none of its trials has ended.
    """
    sources = {}
    for i, name in enumerate(spec.warm_start):
        stage = find_source(Ledger.open(results / name).stages())
        if stage is None:
            raise SearchNotFoundError(f"warm_start[{i}]: search {name!r} has no complete trial yet; finish it first")
        one_objective = spec.objective.model_copy(update={"also": ()})  # the others may not be recorded there
        sources[name] = view_records(stage.trials(), one_objective, maximize=stage.maximize)
    return sources


def read_before(spec: SearchSpec, results: Path) -> Before | None:
    """Read the search that a space comes from, if it comes from one.

    Raises
    ------
    SearchNotFoundError
        If that search is not there, or none of its trials has ended.
    SpecError
        If a sampler that was asked for does not go with that space.
    """
    if not isinstance(spec.space, FinishedSearch):
        return None
    stage = find_source(Ledger.open(results / spec.space.name).stages()[-1:])
    if stage is None:
        raise SearchNotFoundError(
            f"space.from: search {spec.space.name!r} has no complete trial in its last stage yet; finish it first"
        )
    space, records = stage.space, stage.trials()
    load_text(dump_spec(spec.model_copy(update={"space": space})), f"on the space of search {spec.space.name!r}")
    asked = load_text(stage.attributes["asked"], f"the ledger of search {spec.space.name!r}")
    is_alike = (asked.data, asked.objective.metric) == (spec.data, spec.objective.metric)
    views = view_records(records, spec.objective, maximize=stage.maximize)
    return Before(space, views, read_kinds(records), STAGE_BEFORE if is_alike else spec.space.name)
