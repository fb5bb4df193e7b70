"""What failed trials have in common."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from tuner.spec.space import Scalar
from tuner.track.ledger import TrialRecord

MOST_NAMED = 3  # of what they have in common
_VARIABLE = re.compile(r"0x[0-9a-fA-F]+|[0-9]+(\.[0-9]+)?")  # addresses, sizes, numbers of trials


def find_failed(trials: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Return the trials of a stage that failed and were not tried again."""
    trials = list(trials)
    retried = {trial.again for trial in trials}
    return [trial for trial in trials if trial.state == "failed" and trial.number not in retried]


def describe_failures(failed: Sequence[TrialRecord], sound: Sequence[TrialRecord]) -> str:
    """Say what failed trials have in common, and others have not.

    Parameters
    ----------
    failed : sequence of TrialRecord, not empty
        Those that failed.
    sound : sequence of TrialRecord
        Others, which have trained an epoch.

    Returns
    -------
    str
        A line or more; the most frequent error is in the first, as the last trial has it.
    """
    errors = Counter(_simplify(trial.reason) for trial in failed)
    kind, count = errors.most_common(1)[0]
    example = next(trial for trial in reversed(failed) if _simplify(trial.reason) == kind)
    lines = [f"{count} of {len(failed)} alike, such as {example.name}: {example.reason}"]
    names = dict.fromkeys(name for trial in failed for name in trial.config)
    shared = [
        _find_shared("host", failed, sound, "execution"),
        *(_find_shared(n, failed, sound, "config") for n in names),
    ]
    lines += [text for text in shared if text][:MOST_NAMED]
    return "\n".join(lines)


def _find_shared(name: str, failed: Sequence[TrialRecord], sound: Sequence[TrialRecord], where: str) -> str:
    """Say what all failed trials have under a name and no sound one has; nothing if there is no such thing."""
    bad, good = ([getattr(trial, where).get(name) for trial in trials] for trials in (failed, sound))
    if len(bad) < 2 or not good or None in bad:
        return ""
    others = [value for value in good if value is not None]
    if len(set(bad)) == 1 and bad[0] not in others:
        return f"all of them have {name} {_show(bad[0])}, and none of the {len(good)} others"
    if not others or not all(_is_number(value) for value in (*bad, *others)):
        return ""
    if min(bad) > max(others):
        return f"all of them have {name} of {_show(min(bad))} or more, and the others {_show(max(others))} or less"
    if max(bad) < min(others):
        return f"all of them have {name} of {_show(max(bad))} or less, and the others {_show(min(others))} or more"
    return ""


def _is_number(value: Scalar) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _show(value: Scalar) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _simplify(reason: str) -> str:
    """Return a reason without what differs between errors that are the same."""
    return _VARIABLE.sub("#", reason)
