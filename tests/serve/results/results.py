"""A node's home with films and results in it, made as the receiver and the worker make them, but without their time."""

import hashlib
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from sqlalchemy import Engine, select

from cxrtriage.config import Recipe
from cxrtriage.model.card import ModelCard
from cxrtriage.serve.database import insert_new, reading
from cxrtriage.serve.files import FilmStore
from cxrtriage.serve.header import read_header
from cxrtriage.serve.results import plan
from cxrtriage.serve.results.facts import ResultFacts, result_facts
from cxrtriage.serve.settings import NodeSettings
from cxrtriage.serve.tables import instance, model_version, outbox, result
from serve.peers import film

MADE_AT = datetime(2026, 11, 18, 3, 0, 1, tzinfo=UTC)
VALIDATOR = Path(sys.executable).parent / "dciodvfy"


@dataclass
class Home:
    """A home with its database; used as `Home(path, engine).result(...)`."""

    path: Path
    engine: Engine
    model: str = "a" * 64

    def add_model(self, file: Path | None = None, role: str = "active") -> str:
        """Add a model, real or only its row; return its hash."""
        if file is not None:
            self.model = hashlib.sha256(file.read_bytes()).hexdigest()
            (self.path / "models").mkdir(exist_ok=True)
            shutil.copy(file, self.path / "models" / f"{self.model}.safetensors")
        card = ModelCard(architecture="googlenet", recipe=Recipe(size=128))
        with self.engine.begin() as connection:
            insert_new(
                connection,
                model_version,
                sha256=self.model,
                path=f"models/{self.model}.safetensors",
                name="model.safetensors",
                role=role,
                card=card.model_dump_json(),
                added_at=MADE_AT,
                activated_at=MADE_AT if role == "active" else None,
            )
        return self.model

    def film(self, source: Path | None = None, seed: int = 0, **tags: Any) -> int:
        """Keep a film; return its key."""
        self.path.mkdir(exist_ok=True)
        with FilmStore(self.path, self.engine, 0.01) as store:
            part = store.incoming / "part.dcm"
            if source is None:
                film(part, seed, **tags)
            else:
                shutil.copy(source, part)
            header = read_header(part)
            assert store.keep(part, header, "TESTER")
        with reading(self.engine) as connection:
            this = instance.c.sop_instance_uid == header.sop_instance_uid
            return connection.execute(select(instance.c.id).where(this)).scalar_one()

    def result(
        self,
        instance_id: int,
        settings: NodeSettings | None = None,
        *,
        probability: float = 0.75,
        decision: str = "abnormal",
    ) -> int:
        """Write a result and, with settings, what is to be told of it; return its key."""
        with self.engine.begin() as connection:
            key = connection.execute(
                result.insert()
                .values(
                    instance_id=instance_id,
                    model_sha256=self.model,
                    probability=probability,
                    threshold=0.5,
                    decision=decision,
                    seconds=0.1,
                    fence=1,
                    made_at=MADE_AT,
                )
                .returning(result.c.id)
            ).scalar_one()
            if settings is not None:
                plan.result_ready(connection, settings, key, self.path)
        return key

    def facts(self, result_id: int) -> ResultFacts:
        with reading(self.engine) as connection:
            return result_facts(connection, self.path, result_id)

    def deliveries(self) -> list[tuple[str, str]]:
        """Return state and reason of all that is in the outbox."""
        with reading(self.engine) as connection:
            rows = connection.execute(select(outbox.c.state, outbox.c.reason).order_by(outbox.c.id)).all()
        return [(row.state, row.reason) for row in rows]


def errors_of(path: Path) -> list[str]:
    """Return what dciodvfy calls an error in a file, and that it knew what the file is."""
    if not VALIDATOR.exists():
        pytest.skip("dciodvfy (dicom3tools) is not installed")
    said = subprocess.run([VALIDATOR, path], capture_output=True, text=True, check=False, errors="replace")
    lines = (said.stdout + said.stderr).splitlines()
    assert any(not line.startswith(("Error", "Warning")) for line in lines if line)
    return [line for line in lines if line.startswith("Error")]


def written(made: Dataset, path: Path) -> Path:
    made.save_as(path, enforce_file_format=True)
    return path
