"""Rows of a node as tests need them: studies with films, results, orders; times in minutes before `NOW`."""

import itertools
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, Engine

from cxrtriage.config import Recipe
from cxrtriage.model.card import ModelCard
from cxrtriage.serve import queue
from cxrtriage.serve.settings import NodeSettings
from cxrtriage.serve.tables import imaging_order, instance, job, model_version, patient, result, study
from cxrtriage.serve.worklist import priority

NOW = datetime(2026, 11, 18, 3, 0, tzinfo=UTC)  # a Wednesday
SETTINGS = NodeSettings()
ACTIVE, SHADOW, OLDER = "a" * 64, "b" * 64, "c" * 64


def minutes_ago(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


def add_model(connection: Connection, sha256: str = ACTIVE, role: str = "active") -> None:
    card = ModelCard(architecture="googlenet", recipe=Recipe(size=128))
    connection.execute(
        model_version.insert().values(
            sha256=sha256,
            path=f"models/{sha256}.safetensors",
            name=f"{role}.safetensors",
            role=role,
            card=card.model_dump_json(),
            added_at=minutes_ago(600),
            activated_at=None if role == "shadow" else minutes_ago(600),
        )
    )


@dataclass
class Rows:
    """Adds studies one after the other; used as `Rows(engine).study(...)`."""

    engine: Engine
    number: itertools.count = field(default_factory=lambda: itertools.count(1))

    def study(
        self,
        waiting_min: float = 10,
        probability: float | None = None,
        *,
        decision: str | None = None,
        model: str = ACTIVE,
        order: str = "",
        state: str | None = None,
        reason: str = "",
        person: str = "DOE^JANE",
        patient_id: str = "P1",
        birth_date: str = "19500101",
        accession_number: str | None = None,
        read_min_ago: float | None = None,
        reported_abnormal: bool | None = None,
    ) -> str:
        """Add a study with one film; return its UID."""
        number = next(self.number)
        uid, at = f"1.2.3.{number}", minutes_ago(waiting_min)
        accession = f"A{number}" if accession_number is None else accession_number
        with self.engine.begin() as connection:
            key = connection.execute(
                study.insert()
                .values(
                    study_instance_uid=uid,
                    accession_number=accession,
                    received_at=at,
                    read_at=None if read_min_ago is None else minutes_ago(read_min_ago),
                    read_by="" if read_min_ago is None else "reader",
                    reported_abnormal=reported_abnormal,
                )
                .returning(study.c.id)
            ).scalar_one()
            if order:
                self._order(connection, accession, order)
            self._film(connection, key, number, at, (person, patient_id, birth_date))
            state = state or ("done" if probability is not None else "received")
            queue.add(connection, number, model)
            connection.execute(job.update().where(job.c.instance_id == number).values(state=state, reason=reason))
            if probability is not None:
                self.result(connection, number, probability, decision, model, at)
            priority.refresh(connection, key)
        return uid

    def result(
        self,
        connection: Connection,
        instance_id: int,
        probability: float,
        decision: str | None = None,
        model: str = ACTIVE,
        at: datetime = NOW,
    ) -> None:
        connection.execute(
            result.insert().values(
                instance_id=instance_id,
                model_sha256=model,
                probability=probability,
                threshold=0.5,
                decision=decision or ("abnormal" if probability >= 0.5 else "normal"),
                seconds=0.1,
                fence=1,
                made_at=at + timedelta(seconds=1),
            )
        )

    def _order(self, connection: Connection, accession: str, level: str) -> None:
        texts = ("study_instance_uid", "provider_id", "service", "procedure_code", "procedure_scheme")
        texts += ("procedure_text", "placer_order_number", "filler_order_number")
        connection.execute(
            imaging_order.insert().values(
                accession_number=accession, priority=level, received_at=NOW, **dict.fromkeys(texts, "")
            )
        )

    def _film(self, connection: Connection, key: int, number: int, at: datetime, person: tuple[str, str, str]) -> None:
        connection.execute(
            instance.insert().values(
                id=number,
                study_id=key,
                sop_instance_uid=f"1.2.3.{number}.1",
                content_sha256="d" * 64,
                series_instance_uid=f"1.2.3.{number}.2",
                sop_class_uid="1.2.840.10008.5.1.4.1.1.1.1",
                transfer_syntax_uid="1.2.840.10008.1.2.1",
                modality="DX",
                body_part="CHEST",
                view_position="PA",
                age_years=50.0,
                path=f"films/{number}.dcm",
                file_sha256="e" * 64,
                file_bytes=1,
                calling_ae="TESTER",
                received_at=at,
            )
        )
        name, patient_id, birth_date = person
        connection.execute(
            patient.insert().values(
                instance_id=number, name=name, patient_id=patient_id, birth_date=birth_date, sex="F"
            )
        )
