"""An S3 service on this machine, which speaks real HTTP to the real client."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cxrtriage.data.remote import address

BUCKET = "hospital"
# of connections that the S3 client leaves to the garbage collector
CLIENT_LEAVES_BEHIND = "ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning"


class S3:
    """The service; `url` is that of its one bucket."""

    url = f"s3://{BUCKET}"

    def __init__(self, port: int) -> None:
        self._port = port

    @property
    def files(self) -> Any:
        """The bucket as the client sees it, with nothing remembered."""
        system, _ = address.file_system(self.url)
        system.invalidate_cache()
        return system

    def put_folder(self, folder: Path, name: str) -> str:
        """Put all files below a folder into the bucket; return the URL that stands for the folder."""
        for path in folder.rglob("*"):
            if path.is_file():
                self.files.put_file(str(path), f"{BUCKET}/{name}/{path.relative_to(folder)}")
        return f"{self.url}/{name}"

    def refuse_all(self, refuse: bool) -> None:
        """Give no access to anybody, or to everybody again."""
        data = b"0" if refuse else b"inf"
        address = f"http://127.0.0.1:{self._port}/moto-api/reset-auth"
        request = urllib.request.Request(address, data, {"Content-Type": "text/plain"}, method="POST")
        urllib.request.urlopen(request).close()


@contextmanager
def s3_service() -> Iterator[S3]:
    """Start the service with an empty bucket, and point the client at it; end it afterwards."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "reader",
        "AWS_SECRET_ACCESS_KEY": "secret-of-the-reader",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with (
        pytest.MonkeyPatch.context() as patch,
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process,
    ):
        for name, value in settings.items():
            patch.setenv(name, value)
        try:
            _wait_for(port)
            service = S3(port)
            service.files.mkdir(BUCKET)
            yield service
        finally:
            address.SYSTEMS.clear()
            process.send_signal(signal.SIGKILL)


def _wait_for(port: int) -> None:
    for _ in range(400):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError("the S3 service did not start")
