"""A PACS for tests: Orthanc with its DICOMweb plug-in, on free ports, in a folder of its own."""

import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Self

import httpx2
import pytest

from cxrtriage.serve.settings import NodeSettings, PacsSettings, StowSettings
from serve.peers import free_port

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


class Orthanc:
    """Orthanc; used as a context. `stop` and `start` again keep what it holds."""

    def __init__(self, folder: Path) -> None:
        self.program = shutil.which("Orthanc", path="/usr/sbin:/usr/bin:/usr/local/bin")
        if self.program is None:
            pytest.skip("Orthanc is not installed")
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port, self.http_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.http_port}"
        settings = {
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "DicomAet": "ORTHANC",
            "DicomPort": self.port,
            "HttpPort": self.http_port,
            "AuthenticationEnabled": False,
            "Plugins": [str(PLUGIN)] if PLUGIN.exists() else [],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }
        self.settings = folder / "orthanc.json"
        self.settings.write_text(json.dumps(settings))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen([self.program, str(self.settings)], stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while True:
            try:
                self.get("/system")
                return
            except httpx2.HTTPError:
                assert self.process.poll() is None, (self.folder / "log").read_text()[-2000:]
                assert time.monotonic() < deadline
                time.sleep(0.05)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def get(self, path: str) -> Any:
        answer = httpx2.get(self.url + path, timeout=10)
        answer.raise_for_status()
        return answer.json()

    def find(self, **query: str) -> list[dict[str, Any]]:
        """Return the tags of the instances that match."""
        asked = {"Level": "Instance", "Query": query, "Expand": True}
        answer = httpx2.post(self.url + "/tools/find", json=asked, timeout=10).raise_for_status()
        return [self.get(f"/instances/{found['ID']}/simplified-tags") for found in answer.json()]

    def file(self, **query: str) -> bytes:
        """Return the one instance that matches, as the PACS holds it."""
        asked = {"Level": "Instance", "Query": query}
        (found,) = httpx2.post(self.url + "/tools/find", json=asked, timeout=10).raise_for_status().json()
        return httpx2.get(f"{self.url}/instances/{found}/file", timeout=10).raise_for_status().content

    def as_pacs(self, **more: Any) -> NodeSettings:
        return NodeSettings(pacs=PacsSettings(host="127.0.0.1", port=self.port, ae_title="ORTHANC", **more))

    def as_stow(self, **more: Any) -> NodeSettings:
        if not PLUGIN.exists():
            pytest.skip("Orthanc's DICOMweb plug-in is not installed")
        return NodeSettings(stow=StowSettings(url=f"{self.url}/dicom-web", **more))
