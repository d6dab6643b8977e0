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
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from cxrtriage.atomic import replacing
from cxrtriage.errors import ConfigError

SETTINGS_FILE = "cxrtriage.toml"
DATABASE_VARIABLE = "CXRTRIAGE_DATABASE_URL"  # in the environment, since the URL may hold a password


def _networks(addresses: tuple[str, ...]) -> tuple[str, ...]:
    for address in addresses:
        ip_network(address)  # raises a ValueError that names it
    return addresses


Networks = Annotated[tuple[str, ...], AfterValidator(_networks)]
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
    allow_address: Networks = Field(
        default=(),
        description='Addresses and networks that may connect, such as "10.1.2.3" or "10.1.0.0/16"; empty: any.',
    )
    tls_certificate: Path | None = Field(default=None, description="PEM file; with it the port speaks TLS only.")
    tls_key: Path | None = Field(default=None, description="PEM file of the certificate's key.")
    tls_ca: Path | None = Field(
        default=None, description="PEM file of authorities; with it peers must show a certificate."
    )

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


class WebSettings(BaseModel):
    """The pages and the JSON API."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field(
        default="127.0.0.1",
        description="Address to listen on. Put a proxy that speaks TLS in front before others may connect.",
    )
    port: int = Field(default=8080, ge=1, le=65535, description="Port to listen on.")
    url: str = Field(
        default="", description="How people reach the pages, for links in notices; empty: http://host:port."
    )
    session_hours: float = Field(
        default=8, gt=0, description="A sign-in ends after so long without use, in any case after a day."
    )
    hide_score_first: bool = Field(
        default=False, description="Whether a study's page shows the score only after the reader's own first look."
    )
    explanations: bool = Field(default=False, description="Whether heat maps and opposite-label images are shown.")

    @property
    def base_url(self) -> str:
        """How people reach the pages, without a slash at its end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.url.rstrip("/") or f"http://{host}:{self.port}"


class ReadingSettings(BaseModel):
    """The reading list."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    upper_wait_min: float = Field(
        default=240, gt=0, description="A study that waits longer rises above all but the emergent ones."
    )
    shadow: bool = Field(
        default=False, description="Score and record, but show nobody: the list is first come, first served."
    )
    drift_points: float = Field(
        default=0.1,
        gt=0,
        lt=1,
        description="Alarm when a week's share of flagged studies, or of agreement, differs from before by more.",
    )


class WatchSettings(BaseModel):
    """A folder that films are dropped into."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path | None = Field(
        default=None, description="DICOM files found here are taken in and removed; those refused go to refused/."
    )
    settle_s: float = Field(default=2, gt=0, description="A file is taken when it has not grown for so long.")


class Hl7Settings(BaseModel):
    """Orders and final reports in over MLLP."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field(default="0.0.0.0", description="Address to listen on.")
    port: int | None = Field(default=None, ge=1, le=65535, description="Port to listen on; without one it is off.")
    allow_address: Networks = Field(default=(), description="Addresses and networks that may connect; empty: any.")


class PacsSettings(BaseModel):
    """Evidence out to a PACS by C-STORE."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field(default="", description="Name or address of the PACS; empty: nothing is sent.")
    port: int = Field(default=104, ge=1, le=65535, description="Its port.")
    ae_title: AeTitle = Field(default="PACS", description="AE title that it answers to.")
    structured_report: bool = Field(default=True, description="Whether it gets a DICOM SR (TID 1500) of each result.")
    overlay: bool = Field(
        default=False, description="Whether it gets a Secondary Capture with the result and heat map."
    )
    tls_ca: Path | None = Field(default=None, description="PEM file of authorities; with it TLS is spoken.")
    tls_certificate: Path | None = Field(default=None, description="PEM file of the node's own certificate.")
    tls_key: Path | None = Field(default=None, description="PEM file of that certificate's key.")


class StowSettings(BaseModel):
    """Evidence out to a PACS by STOW-RS."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(default="", description="Of the DICOMweb service, such as https://pacs/dicom-web; empty: off.")
    structured_report: bool = Field(default=True, description="Whether it gets a DICOM SR of each result.")
    overlay: bool = Field(default=False, description="Whether it gets a Secondary Capture with the result.")


class Hl7OutSettings(BaseModel):
    """Preliminary results out as ORU^R01 over MLLP."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field(default="", description="Name or address of the receiver; empty: off.")
    port: int = Field(default=2575, ge=1, le=65535, description="Its port.")


class FhirSettings(BaseModel):
    """Preliminary results out as a FHIR R4 bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(default="", description="Base of the FHIR server; empty: off.")


class MailSettings(BaseModel):
    """Notices to the referring physician by e-mail."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field(default="", description="SMTP server; empty: off.")
    port: int = Field(default=25, ge=1, le=65535, description="Its port.")
    sender: str = Field(default="cxrtriage@localhost", description="From whom the messages come.")
    starttls: bool = Field(default=False, description="Whether TLS is required.")
    user: str = Field(default="", description="To sign in with; the password is in CXRTRIAGE_SMTP_PASSWORD.")


class WebhookSettings(BaseModel):
    """Notices to the referring physician by a signed POST."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(default="", description="Where to post; signed with CXRTRIAGE_WEBHOOK_SECRET. Empty: off.")


class NoticeSettings(BaseModel):
    """When and whom to tell."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    when: Literal["confirmed", "result"] = Field(
        default="confirmed",
        description='"confirmed": after a radiologist called the study abnormal or emergent; "result": at once.',
    )
    recipients: Path = Field(default=Path("recipients.csv"), description="Table of physicians, services, addresses.")
    escalate_min: float = Field(
        default=30, gt=0, description="A notice not acknowledged by then goes to the next contact."
    )


class DeliverySettings(BaseModel):
    """How often a delivery is tried."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    attempts: int = Field(default=20, ge=1, description="After so many it is parked until a person tries again.")
    backoff_s: float = Field(default=10, ge=0, le=3600, description="Wait before the second; doubled for each later.")
    limit_s: float = Field(default=30, gt=0, le=600, description="A peer that takes longer costs an attempt.")


class RetentionSettings(BaseModel):
    """How long films stay."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    films_days: float = Field(
        default=0, ge=0, description="Films of studies read so many days ago are deleted; 0: kept for ever."
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
    web: WebSettings = WebSettings()
    reading: ReadingSettings = ReadingSettings()
    watch: WatchSettings = WatchSettings()
    hl7: Hl7Settings = Hl7Settings()
    pacs: PacsSettings = PacsSettings()
    stow: StowSettings = StowSettings()
    hl7_out: Hl7OutSettings = Hl7OutSettings()
    fhir: FhirSettings = FhirSettings()
    mail: MailSettings = MailSettings()
    webhook: WebhookSettings = WebhookSettings()
    notice: NoticeSettings = NoticeSettings()
    delivery: DeliverySettings = DeliverySettings()
    retention: RetentionSettings = RetentionSettings()


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
                temporary.write_text(commented_toml(NodeSettings()), encoding="utf-8")
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot use {path}: {error.strerror}. Check the folder and its owner.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}. Correct it, or remove it to get a fresh one.") from error
    try:
        settings = NodeSettings.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{path}: {'; '.join(map(_sentence, error.errors()))}.") from error
    url = os.environ.get(DATABASE_VARIABLE) or settings.database.url or f"sqlite:///{home.absolute()}/cxrtriage.sqlite"
    sections = {name: _under(home, part) for name, part in settings}
    return settings.model_copy(update={**sections, "database": DatabaseSettings(url=url)})


def commented_toml(settings: NodeSettings) -> str:
    """Return settings as TOML, a comment above each key; keys without a value are commented out."""
    lines = ["# Settings of this cxrtriage node. Restart the node after a change.", ""]
    for section, part in settings:
        lines += [f"[{section}]"]
        for name, field in type(part).model_fields.items():
            value = getattr(part, name)
            key = f"# {name} =" if value is None else f"{name} = {json.dumps(value, default=str)}"
            lines += [f"# {field.description}", key]
        lines.append("")
    return "\n".join(lines)


def _under(home: Path, part: BaseModel) -> BaseModel:
    """Return a section with its relative paths under `home`."""
    return part.model_copy(update={name: home / value for name, value in part if isinstance(value, Path)})


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
