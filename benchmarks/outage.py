"""Does a slow or absent MLflow server slow training down, and is everything there at the end?

Runs the same search of 2 trials at a time, 40 of 6 epochs of 0.5 s of sleep each, about a minute, in turn with a real
``mlflow server`` that is

- near: on loopback;
- slow: behind a proxy that holds each direction up by 100 ms, so that every request takes 200 ms longer;
- stopped: stands still (SIGSTOP) for 60 s, from the first epoch on.

    python benchmarks/outage.py --repeats 2 --output benchmarks/results/outage.json

*wall* is from the first epoch's begin to the last one's end. What is there already is gone on from (``--minutes``).
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

from chaos import Server, compare_points

CONDITIONS = ("near", "slow", "stopped")
TRIALS, EPOCHS, WORK_S, STOPPED_S, DELAY_S = 40, 6, 0.5, 60.0, 0.1
SPEC = f"""
name: outage
data: digits
space: {{architecture: lenet, learning_rate: {{loguniform: [1e-4, 1.0]}}}}
stages:
  only: {{trials: {TRIALS}, max_epochs: {EPOCHS}, sampler: random, halving: none}}
resources: {{gpus: 0, trials_at_once: 2}}
"""


def sleep_instead(task: Any) -> Iterator[dict[str, float]]:
    """Stand where training stands."""
    for epoch in range(1, 1 if task is None else EPOCHS + 1):
        begun = time.time()
        time.sleep(WORK_S)
        now = time.time()
        measured = {"epoch": epoch, "val_accuracy": 0.5, "train_loss": 1.0, "val_loss": 1.0}
        yield {**measured, "begun": begun, "timestamp": now}


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            await asyncio.sleep(DELAY_S)
            writer.write(data)
            await writer.drain()
    writer.close()


def start_proxy(target: int) -> int:
    """Start a proxy that is slow, in a thread, and return its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target)
        await asyncio.gather(_carry(reader, far_writer), _carry(far_reader, writer))

    async def run(listening: socket.socket) -> None:
        await (await asyncio.start_server(serve, sock=listening)).serve_forever()

    listening = socket.create_server(("127.0.0.1", 0))
    Thread(target=lambda: asyncio.run(run(listening)), daemon=True).start()
    return int(listening.getsockname()[1])


def measure(condition: str, folder: Path) -> dict[str, Any]:
    """Run the search under one condition."""
    from tuner.cli.watch import PlainLines
    from tuner.execute.experiment import Surroundings, run_search
    from tuner.spec import load_text
    from tuner.track.ledger import Ledger
    from tuner.track.provenance import read_provenance

    server = Server(folder)
    server.start()
    server.wait()
    assert server.process is not None
    group = server.process.pid
    uri = f"http://127.0.0.1:{start_proxy(server.port)}" if condition == "slow" else server.uri

    def stand_still() -> None:
        while (
            not (folder / "outage" / "ledger.journal").exists()
            or b'"epoch:' not in (folder / "outage" / "ledger.journal").read_bytes()
        ):
            time.sleep(0.1)
        os.killpg(group, signal.SIGSTOP)
        time.sleep(STOPPED_S)
        os.killpg(group, signal.SIGCONT)

    if condition == "stopped":
        Thread(target=stand_still, daemon=True).start()
    start = time.monotonic()
    try:
        around = Surroundings(folder, folder / "cache", uri, None, read_provenance(folder))
        run_search(load_text(SPEC), around, PlainLines(), train=sleep_instead)
        command_s = time.monotonic() - start
        epochs = [epoch for trial in Ledger.open(folder / "outage").stages()[0].trials() for epoch in trial.epochs]
        wall_s = max(epoch["timestamp"] for epoch in epochs) - min(epoch["begun"] for epoch in epochs)
        return {"wall_s": wall_s, "command_s": command_s, **compare_points(folder, folder / "outage")}
    finally:
        server.kill()


def main() -> None:
    """Measure each condition in turn, several times over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/outage.json"))
    given = parser.parse_args()
    runs = json.loads(given.output.read_text())["runs"] if given.output.exists() else []
    end = time.monotonic() + 60 * given.minutes
    while len(runs) < given.repeats * len(CONDITIONS) and time.monotonic() < end:
        condition = CONDITIONS[len(runs) % len(CONDITIONS)]
        with tempfile.TemporaryDirectory() as folder:
            runs.append({"condition": condition, **measure(condition, Path(folder))})
        print(json.dumps(runs[-1]), flush=True)
        walls = {
            name: statistics.median(run["wall_s"] for run in runs if run["condition"] == name)
            for name in {run["condition"] for run in runs}
        }
        given.output.write_text(json.dumps({"median_wall_s": walls, "runs": runs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
