"""Models side by side: what is queued for whom, what is shown, and the way back."""

from pathlib import Path

import pytest
import torch
from sqlalchemy import Engine, select

from cxrtriage.config import Recipe
from cxrtriage.errors import ConfigError, ModelError
from cxrtriage.model.architectures import build_network
from cxrtriage.model.bundle import save_model
from cxrtriage.model.card import ModelCard
from cxrtriage.serve import models, queue
from cxrtriage.serve.database import reading
from cxrtriage.serve.queue import Queue, Score
from cxrtriage.serve.settings import WorkerSettings
from cxrtriage.serve.tables import job, result, study
from cxrtriage.serve.worklist import priority
from cxrtriage.serve.worklist.reading_list import reading_list
from serve.worklist.rows import NOW, SETTINGS, Rows


@pytest.fixture(scope="session")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("other") / "other.safetensors"
    save_model(path, build_network("googlenet", 2, 128), ModelCard(architecture="googlenet", recipe=Recipe(size=128)))
    return path


def waiting(engine: Engine) -> set[tuple[int, str]]:
    with reading(engine) as connection:
        rows = connection.execute(select(job.c.instance_id, job.c.model_sha256).where(job.c.state == "received")).all()
    return {(row.instance_id, row.model_sha256) for row in rows}


def roles(engine: Engine) -> dict[str, str]:
    with reading(engine) as connection:
        return {version.sha256: version.role for version in models.all_models(connection)}


def assess_all(engine: Engine, sha256: str, probability: float) -> None:
    def refresh(connection, study_id, result_id):  # type: ignore[no-untyped-def]
        priority.refresh(connection, study_id)

    films = Queue(engine, WorkerSettings(), on_result=refresh)
    while (film := films.take("w", [sha256])) is not None:
        films.finish(film, Score(sha256, probability, 0.5, "abnormal" if probability >= 0.5 else "normal", 0.1))


def test_the_first_model_adopts_the_films_that_came_before_it(engine: Engine, tmp_path: Path, model_file: Path) -> None:
    Rows(engine).study(model=queue.NO_MODEL_YET)
    version = models.add_model(engine, tmp_path, model_file, "active")
    assert waiting(engine) == {(1, version.sha256)}
    assert (tmp_path / version.path).read_bytes() == model_file.read_bytes()
    models.add_model(engine, tmp_path, model_file, "active")  # again: nothing twice
    assert waiting(engine) == {(1, version.sha256)}


def test_a_shadow_model_scores_what_is_unread_and_what_comes_and_raises_nothing(
    engine: Engine, tmp_path: Path, model_file: Path, other_model: Path
) -> None:
    first = models.add_model(engine, tmp_path, model_file, "active").sha256
    rows = Rows(engine)
    rows.study(20, 0.1, model=first)
    rows.study(30, 0.1, model=first, read_min_ago=5)
    shadow = models.add_model(engine, tmp_path, other_model, "shadow").sha256
    assert waiting(engine) == {(1, shadow)}
    with engine.begin() as connection:
        connection.execute(job.delete().where(job.c.instance_id == 2))
        queue.add_for_all_models(connection, 2)
    assert waiting(engine) == {(1, shadow), (2, first), (2, shadow)}
    assess_all(engine, shadow, 0.99)
    with reading(engine) as connection:
        assert set(connection.execute(select(study.c.rank)).scalars()) == {priority.ROUTINE}
    with pytest.raises(ConfigError, match="is the active one, and would leave the node without"):
        models.add_model(engine, tmp_path, model_file, "shadow")
    assert roles(engine) == {first: "active", shadow: "shadow"}


def test_a_change_of_model_scores_open_studies_again_keeps_results_and_can_be_taken_back(
    engine: Engine, tmp_path: Path, model_file: Path, other_model: Path
) -> None:
    first = models.add_model(engine, tmp_path, model_file, "active").sha256
    Rows(engine).study(20, 0.1, model=first)
    second = models.add_model(engine, tmp_path, other_model, "shadow").sha256
    assess_all(engine, second, 0.9)
    models.activate(engine, second[:8])
    assert roles(engine) == {first: "retired", second: "active"}
    with reading(engine) as connection:
        assert connection.execute(select(study.c.rank)).scalar() == priority.ABNORMAL, "its shadow results count now"
        assert len(connection.execute(select(result)).all()) == 2
    assert models.go_back(engine).sha256 == first
    assert roles(engine) == {first: "active", second: "retired"}
    with reading(engine) as connection:
        assert connection.execute(select(study.c.rank)).scalar() == priority.ABNORMAL, "only a person lowers it"


def test_a_model_that_was_active_and_then_runs_in_shadow_counts_with_what_it_said_before_alone(
    engine: Engine, tmp_path: Path, model_file: Path, other_model: Path
) -> None:
    def seen() -> dict[str, tuple[int, str]]:
        with reading(engine) as connection:
            found, _ = reading_list(connection, SETTINGS, NOW)
        return {row.study_instance_uid: (row.rank, row.decision) for row in found}

    first = models.add_model(engine, tmp_path, model_file, "active").sha256
    rows = Rows(engine)
    flagged = rows.study(20, 0.9, model=first)
    second = models.add_model(engine, tmp_path, other_model, "active").sha256
    assess_all(engine, second, 0.1)
    later = rows.study(10, 0.1, model=second)
    models.add_model(engine, tmp_path, model_file, "shadow")
    assess_all(engine, first, 0.95)
    expected = {flagged: (priority.ABNORMAL, "abnormal"), later: (priority.ROUTINE, "normal")}
    assert seen() == expected
    models.retire(engine, first)
    models.add_model(engine, tmp_path, model_file, "shadow")
    with engine.begin() as connection:
        priority.refresh(connection, 2)
    assert seen() == expected, "what it said in shadow is told by no change of its role but one"
    models.activate(engine, first)
    assert seen()[later] == (priority.ABNORMAL, "abnormal")


def test_a_retired_model_leaves_nothing_in_the_queue(
    engine: Engine, tmp_path: Path, model_file: Path, other_model: Path
) -> None:
    first = models.add_model(engine, tmp_path, model_file, "active").sha256
    Rows(engine).study(20, model=first)
    second = models.add_model(engine, tmp_path, other_model, "shadow").sha256
    models.retire(engine, second)
    assert waiting(engine) == {(1, first)}
    with pytest.raises(ConfigError, match="is active"):
        models.retire(engine, first)


def test_what_is_no_model_or_not_known_is_told(engine: Engine, tmp_path: Path, model_file: Path) -> None:
    (tmp_path / "no.safetensors").write_bytes(b"x")
    with pytest.raises(ModelError, match="not a whole safetensors file"):
        models.add_model(engine, tmp_path, tmp_path / "no.safetensors", "active")
    assert not roles(engine)
    with pytest.raises(ConfigError, match="no model was active before"):
        models.go_back(engine)
    models.add_model(engine, tmp_path, model_file, "active")
    with pytest.raises(ConfigError, match=r"0 models of this node begin with 'zz'.* It has: [0-9a-f]{12}"):
        models.activate(engine, "zz")
