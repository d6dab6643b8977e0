"""The node's settings: `HOME/cxrtriage.toml` in, one checked `NodeSettings` out; every process of the node reads it.

The file is written at the first start with every key, its default and a sentence on it. An unknown key is
refused with the nearest name, so that a slip of the pen never leaves a default in force unnoticed.
"""

import json
import os
import tomllib
from difflib import get_close_matches
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from cxrtriage.atomic import replacing
from cxrtriage.errors import ConfigError

SETTINGS_FILE = "cxrtriage.toml"
DATABASE_VARIABLE = "CXRTRIAGE_DATABASE_URL"  # in the environment, since the URL may hold a password

AeTitle = Annotated[str, Field(pattern=r"^[!-\[\]-~][ -\[\]-~]{0,15}$")]  # PS3.5 6.2, AE: no backslash


class DicomSettings(BaseModel):
    """How films come in over DICOM."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ae_title: AeTitle = Field(
        default="CXRTRIAGE", description="AE title that this node answers as; any called title is taken."
    )
    host: str = Field(default="0.0.0.0", description="Address to listen on; 127.0.0.1 for this machine only.")
    port: int = Field(default=11112, ge=1, le=65535, description="Port to listen on.")
    max_associations: int = Field(
        default=20, ge=1, description="Associations at once; more are rejected for the time being."
    )
    max_instance_mib: int = Field(default=256, ge=1, description="A larger instance ends its association (A-ABORT).")
    idle_s: float = Field(
        default=60, gt=0, description="A peer silent for so long is disconnected, also in mid-transfer."
    )
    allow_ae: tuple[AeTitle, ...] = Field(default=(), description="Calling AE titles that may send; empty: any.")
    allow_address: tuple[str, ...] = Field(
        default=(),
        description='Addresses and networks that may connect, such as "10.1.2.3" or "10.1.0.0/16"; empty: any.',
    )
    tls_certificate: Path | None = Field(default=None, description="PEM file; with it the port speaks TLS only.")
    tls_key: Path | None = Field(default=None, description="PEM file of the certificate's key.")
    tls_ca: Path | None = Field(
        default=None, description="PEM file of authorities; with it peers must show a certificate."
    )

    @field_validator("allow_address")
    @classmethod
    def _networks(cls, addresses: tuple[str, ...]) -> tuple[str, ...]:
        for address in addresses:
            ip_network(address)  # raises a ValueError that names it
        return addresses

    @model_validator(mode="after")
    def _tls_whole(self) -> "DicomSettings":
        if (self.tls_certificate is None) != (self.tls_key is None) or (self.tls_ca and not self.tls_key):
            raise ValueError("tls_certificate and tls_key go together, and tls_ca needs both")
        return self


class StoreSettings(BaseModel):
    """Where films are kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_free_gib: float = Field(
        default=2.0, gt=0, allow_inf_nan=False, description="Films are refused (0xA700) while less is free under HOME."
    )


class WorkerSettings(BaseModel):
    """How films are scored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    processes: int = Field(default=1, ge=1, description="Scoring processes; each holds a copy of the model.")
    threads: int = Field(default=1, ge=1, description="Processors that a scoring process uses.")
    film_limit_s: float = Field(default=60, gt=0, le=3600, description="A film that takes longer costs an attempt.")
    attempts: int = Field(
        default=3, ge=1, description="After so many a film is parked as failed until a person retries it."
    )
    backoff_s: float = Field(
        default=10, ge=0, le=3600, description="Wait before the second attempt; doubled for each later."
    )


class DatabaseSettings(BaseModel):
    """Where the rows are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(
        default="",
        description=(
            "Empty: SQLite under HOME. Else postgresql://user@host/name; give one with a password in the "
            f"environment instead, as {DATABASE_VARIABLE}."
        ),
    )


class NodeSettings(BaseModel):
    """All settings of a node."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dicom: DicomSettings = DicomSettings()
    store: StoreSettings = StoreSettings()
    worker: WorkerSettings = WorkerSettings()
    database: DatabaseSettings = DatabaseSettings()


def load_settings(home: Path) -> NodeSettings:
    """Read the settings of the node at `home`; write the file with its defaults if there is none.

    Returns
    -------
    NodeSettings
        With `database.url` filled in: from the environment, else the file, else SQLite under `home`.
        Relative paths of certificates are under `home`.

    Raises
    ------
    ConfigError
        If the file cannot be read or written, is no TOML, or holds an unknown key or a wrong value.
    """
    path = home / SETTINGS_FILE
    try:
        if not path.exists():
            with replacing(path) as temporary:
                temporary.write_text(commented_toml(NodeSettings()))
        content = tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"cannot use {path}: {error.strerror}. Check the folder and its owner.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}. Correct it, or remove it to get a fresh one.") from error
    try:
        settings = NodeSettings.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{path}: {'; '.join(map(_sentence, error.errors()))}.") from error
    url = os.environ.get(DATABASE_VARIABLE) or settings.database.url or f"sqlite:///{home.absolute()}/cxrtriage.sqlite"
    pems = ("tls_certificate", "tls_key", "tls_ca")
    paths = {name: home / found for name in pems if (found := getattr(settings.dicom, name)) is not None}
    return settings.model_copy(
        update={"database": DatabaseSettings(url=url), "dicom": settings.dicom.model_copy(update=paths)}
    )


def commented_toml(settings: NodeSettings) -> str:
    """Return settings as TOML, a comment above each key; keys without a value are commented out."""
    lines = ["# Settings of this cxrtriage node. Restart the node after a change.", ""]
    for section, part in settings:
        lines += [f"[{section}]"]
        for name, field in type(part).model_fields.items():
            value = getattr(part, name)
            key = f"# {name} =" if value is None else f"{name} = {json.dumps(value)}"
            lines += [f"# {field.description}", key]
        lines.append("")
    return "\n".join(lines)


def _sentence(error: Any) -> str:
    """Say what is wrong with one key, and for an unknown one which is meant."""
    *sections, name = [str(part) for part in error["loc"]] or [""]
    key = ".".join([*sections, name])
    if error["type"] != "extra_forbidden":
        return f"{key or 'settings'}: {error['msg']}"
    model: Any = NodeSettings
    for section in sections:
        model = model.model_fields[section].annotation
    nearest = get_close_matches(name, model.model_fields, n=1, cutoff=0)
    return f"{key} is not a setting, the nearest is {'.'.join([*sections, *nearest])}"
