"""What a search opens to others: nothing."""

from threading import Thread

import psutil
import pytest
import ray

from tuner.execute.cluster import connected


@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_ray_that_starts_here_listens_on_loopback_only() -> None:
    me = psutil.Process()
    others = me.children(recursive=True)  # a cluster's head that other tests use
    with connected(None, Thread(target=lambda: None)):
        ray.get(ray.remote(lambda: 1).remote())  # so that there is a worker
        processes = [me, *(child for child in me.children(recursive=True) if child not in others)]
        names = {process.name() for process in processes}
        assert {"raylet", "gcs_server"} <= names
        commands = " ".join(" ".join(process.cmdline()) for process in processes)
        assert "monitor.py" not in commands, "neither the autoscaler nor what carries workers' logs"
        listening = {
            (process.name(), connection.laddr.ip)
            for process in processes
            for connection in process.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        }
    assert listening
    assert {address.removeprefix("::ffff:") for _, address in listening} <= {"127.0.0.1", "::1"}, listening
