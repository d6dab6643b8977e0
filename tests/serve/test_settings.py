import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from cxrtriage.errors import ConfigError
from cxrtriage.serve.settings import DATABASE_VARIABLE, NodeSettings, commented_toml, load_settings

NODE_DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "node.md"
KEYS = [(section, key) for section, part in NodeSettings() for key in type(part).model_fields]


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DATABASE_VARIABLE, raising=False)


def test_the_first_start_writes_every_key_with_a_comment_and_reads_it_back(tmp_path: Path) -> None:
    first = load_settings(tmp_path)
    text = (tmp_path / "cxrtriage.toml").read_text()
    for section, key in KEYS:
        lines = text.partition(f"[{section}]\n")[2].partition("\n[")[0].splitlines()
        (number,) = [n for n, line in enumerate(lines) if line.removeprefix("# ").startswith(f"{key} =")]
        assert lines[number - 1].startswith("# ")
    assert load_settings(tmp_path) == first
    defaults = NodeSettings().model_dump(mode="json", exclude_none=True)
    assert tomllib.loads(commented_toml(NodeSettings())) == defaults


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[dicom]\nprot = 104", "dicom.prot is not a setting, the nearest is dicom.port"),
        ("[dicmo]\nport = 104", "dicmo is not a setting, the nearest is dicom"),
        ("[worker]\natempts = 5", "the nearest is worker.attempts"),
        ("[dicom]\nport = 0", "dicom.port: .*greater than or equal to 1"),
        ('[dicom]\nallow_address = ["10.0.0.0/33"]', "10.0.0.0/33"),
        ('[dicom]\ntls_ca = "ca.pem"', "tls_ca needs both"),
        ('[dicom]\nae_title = "MORE THAN SIXTEEN"', "dicom.ae_title"),
        ("[dicom", "cxrtriage.toml: Expected"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "cxrtriage.toml").write_text(content)
    with pytest.raises(ConfigError, match=message):
        load_settings(tmp_path)


def test_the_environment_overrides_the_database_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings(tmp_path).database.url == f"sqlite:///{tmp_path}/cxrtriage.sqlite"
    (tmp_path / "cxrtriage.toml").write_text('[database]\nurl = "postgresql://a/b"')
    assert load_settings(tmp_path).database.url == "postgresql://a/b"
    monkeypatch.setenv(DATABASE_VARIABLE, "postgresql://c/d")
    assert load_settings(tmp_path).database.url == "postgresql://c/d"


def test_certificates_are_looked_up_under_home(tmp_path: Path) -> None:
    (tmp_path / "cxrtriage.toml").write_text('[dicom]\ntls_certificate = "a.pem"\ntls_key = "/b.pem"')
    dicom = load_settings(tmp_path).dicom
    assert (dicom.tls_certificate, dicom.tls_key) == (tmp_path / "a.pem", Path("/b.pem"))


def test_the_file_is_utf_8_wherever_the_node_runs(tmp_path: Path) -> None:
    (tmp_path / "cxrtriage.toml").write_text("# Köln\n[dicom]\nport = 4242\n", encoding="utf-8")
    code = (
        "from pathlib import Path; from cxrtriage.serve.settings import load_settings; "
        f"print(load_settings(Path({str(tmp_path)!r})).dicom.port)"
    )
    plain = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}  # Python then reads ASCII
    done = subprocess.run([sys.executable, "-c", code], env=plain, capture_output=True, text=True)
    assert done.stdout == "4242\n", done.stderr


@pytest.mark.parametrize(("section", "key"), KEYS)
def test_every_setting_stands_in_the_document(section: str, key: str) -> None:
    assert f"`{section}.{key}`" in NODE_DOCUMENT.read_text()
