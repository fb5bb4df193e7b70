"""The quick check of a search, in a process of its own while Ray starts: the driver need not load torch."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tuner.errors import RunError
from tuner.spec import dump_spec
from tuner.spec.search import SearchSpec
from tuner.spec.space import Space

PATIENCE_S = 60.0  # beyond the start of Ray; networks that take longer are for tuner check


@contextlib.contextmanager
def checking(spec: SearchSpec, space: Space, cache: Path) -> Iterator["subprocess.Popen[str]"]:
    """Check a search for as long as the block lasts.

    Parameters
    ----------
    spec : SearchSpec
        The search.
    space : Space
        Its first stage's.
    cache : Path
        The folder of decoded images.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "tuner.execute.check_main", str(cache)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # ctrl-C is meant for the search
    )
    try:
        assert process.stdin is not None, "a pipe was asked for"
        with contextlib.suppress(BrokenPipeError):  # what went wrong is told by settle
            process.stdin.write(dump_spec(spec.model_copy(update={"space": space, "first": (), "warm_start": ()})))
            process.stdin.close()
        process.stdin = None
        yield process
    finally:
        process.kill()
        process.communicate()


def settle(process: "subprocess.Popen[str]", say: Callable[[str], None]) -> None:
    """Wait for a check, tell its warnings, and refuse a search that has failed it.

    Parameters
    ----------
    process : Popen
        The check.
    say : function
        Told, in one line, what is worth telling.

    Raises
    ------
    RunError
        If anything fails.
    """
    is_whole = True
    try:
        output, errors = process.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        output, errors = process.communicate()
        is_whole = False
    findings: list[Mapping[str, Any]] = [json.loads(line) for line in output.splitlines()]
    for finding in findings:
        if finding["status"] == "warn":
            say(f"check: {_describe(finding)}")
    if failed := [_describe(finding) for finding in findings if finding["status"] == "fail"]:
        raise RunError(
            "the quick check failed:\n  " + "\n  ".join(failed) + "\ntuner check SPEC tells more. Mend this, or search "
            "all the same with --no-check"
        )
    if not is_whole:
        say(f"check: {len(findings)} lines right, the rest takes longer than {PATIENCE_S:g} s; see tuner check SPEC")
    elif process.returncode != 0:
        reason = errors.strip().splitlines()[-1:] or ["no reason given"]
        say(f"check: cannot be done ({reason[0]}); tuner check SPEC tells more")
    else:
        say(f"check: {len(findings)} lines, {sum(one['status'] == 'pass' for one in findings)} pass")


def _describe(finding: Mapping[str, Any]) -> str:
    return f"{finding['subject']}: {finding['check']}: {finding['text']}; {finding['advice']}"
