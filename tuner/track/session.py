"""A session with PostgreSQL that ends when the server falls silent.

Of a server whose processes stand still, the kernel acknowledges what is sent, so that no time-out of TCP notices, and
its own time-outs stand still with it. Only whoever waits for the answer can tell.
"""

import time
from collections.abc import Generator
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen

SILENT_S = 10.0  # a server that works on a question of ours answers in milliseconds

Answer = TypeVar("Answer")


class Session(psycopg.Connection[Any]):
    """A connection on which no wait takes longer than ``SILENT_S`` without a sign of life."""

    def wait(self, gen: PQGen[Answer], *arguments: Any, **options: Any) -> Answer:
        """Let a question of libpq's go on until it is answered.

        Raises
        ------
        psycopg.OperationalError
            If the server is silent for too long.
        """
        return super().wait(_bound(gen), *arguments, **options)


def _bound(gen: PQGen[Answer]) -> Generator[Any, Any, Answer]:
    """Pass on what is waited for and what is ready, which psycopg tells ten times a second even if nothing is.

    Raises
    ------
    psycopg.OperationalError
        If nothing was for too long.
    """
    try:
        heard, wanted = time.monotonic(), next(gen)
        while True:
            ready = yield wanted
            if ready:
                heard = time.monotonic()
            elif time.monotonic() - heard > SILENT_S:
                raise psycopg.OperationalError(f"the server has not answered for {SILENT_S:g} s")
            wanted = gen.send(ready)
    except StopIteration as end:
        answer: Answer = end.value
        return answer
