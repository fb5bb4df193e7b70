"""A store that speaks S3, with a bucket, of the tests' own."""

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field

from moto.server import ThreadedMotoServer
from pyarrow import fs


@dataclass(frozen=True)
class Bucket:
    """A bucket, and who may ask for it."""

    endpoint: str
    secret: str = field(default_factory=lambda: secrets.token_hex(20))

    @property
    def address(self) -> str:
        """A folder for results in it."""
        return f"s3://bucket/runs?endpoint_override={self.endpoint}&region=us-east-1"

    @property
    def environment(self) -> dict[str, str]:
        """The credentials, as a process has them in its environment."""
        return {
            "AWS_ACCESS_KEY_ID": "AKIATUNERTESTS",
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "TUNER_RESULTS": self.address,
        }


@contextlib.contextmanager
def running_store() -> Iterator[Bucket]:
    """Start a server in this process and make a bucket."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        bucket = Bucket(f"http://{host}:{port}")
        system = fs.S3FileSystem(
            access_key="any", secret_key=bucket.secret, endpoint_override=bucket.endpoint, allow_bucket_creation=True
        )
        system.create_dir("bucket")
        yield bucket
    finally:
        server.stop()
