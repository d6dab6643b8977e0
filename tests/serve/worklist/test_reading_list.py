from sqlalchemy import Engine, delete, insert, update

from cxrtriage.serve import node_state
from cxrtriage.serve.database import reading
from cxrtriage.serve.settings import NodeSettings, ReadingSettings
from cxrtriage.serve.tables import instance, patient, study
from cxrtriage.serve.worklist import priority
from cxrtriage.serve.worklist.reading_list import (
    StudyRow,
    count_by_rank,
    earlier_studies,
    find_study,
    next_study,
    parked_films,
    reading_list,
    second_looks,
)
from serve.worklist.rows import NOW, SETTINGS, SHADOW, Rows, add_model


def listed(engine: Engine, settings: NodeSettings = SETTINGS, **options: object) -> list[StudyRow]:
    with reading(engine) as connection:
        found, total = reading_list(connection, settings, NOW, **options)  # type: ignore[arg-type]
    assert total >= len(found)
    return found


def uids(engine: Engine, settings: NodeSettings = SETTINGS, **options: object) -> list[str]:
    return [row.study_instance_uid for row in listed(engine, settings, **options)]


def test_the_list_is_emergent_then_overdue_then_abnormal_by_probability_then_first_come(rows: Rows) -> None:
    late_normal = rows.study(20, 0.1)
    early_normal = rows.study(30, 0.2)
    likely = rows.study(5, 0.9)
    likelier = rows.study(4, 0.95)
    waiting = rows.study(25)
    overdue = rows.study(300, 0.1)
    long_overdue = rows.study(400)
    emergent = rows.study(2, 0.6, decision="emergent")
    stat = rows.study(3, order="stat")
    assert uids(rows.engine) == [
        stat, emergent, long_overdue, overdue, likelier, likely, early_normal, waiting, late_normal,
    ]  # fmt: skip


def test_a_studys_priority_is_the_highest_of_its_models_and_shadow_does_not_count(rows: Rows) -> None:
    with rows.engine.begin() as connection:
        add_model(connection, SHADOW, "shadow")
    rows.study(10, 0.1)
    with rows.engine.begin() as connection:
        rows.result(connection, 1, 0.99, model=SHADOW)
        priority.refresh(connection, 1)
    (row,) = listed(rows.engine)
    assert (row.rank, row.probability, row.decision) == (priority.ROUTINE, 0.1, "normal")


def test_only_a_person_lowers_a_priority_and_what_comes_later_counts_again(rows: Rows) -> None:
    uid = rows.study(10, 0.9)
    with rows.engine.begin() as connection:
        priority.set_by_person(connection, 1, priority.ROUTINE, "dr.x")
    assert listed(rows.engine)[0].rank == priority.ROUTINE
    with rows.engine.begin() as connection:
        priority.refresh(connection, 1)
    assert listed(rows.engine)[0].rank == priority.ROUTINE, "the same result does not raise it again"
    with rows.engine.begin() as connection:
        add_model(connection, SHADOW, "retired")
        later = connection.execute(priority.study.c.person_ranked_at.select() if False else study.select()).one()
        rows.result(connection, 1, 0.8, model=SHADOW, at=later.person_ranked_at)
        priority.refresh(connection, 1)
    (row,) = listed(rows.engine)
    assert (row.study_instance_uid, row.rank) == (uid, priority.ABNORMAL)


def test_while_scores_are_hidden_the_list_is_first_come_first_served_but_for_orders_and_persons(rows: Rows) -> None:
    abnormal, normal, stat = rows.study(5, 0.99), rows.study(20, 0.1), rows.study(1, 0.1, order="stat")
    shadow = SETTINGS.model_copy(update={"reading": ReadingSettings(shadow=True)})
    assert uids(rows.engine, shadow) == [stat, normal, abnormal]
    assert {(row.probability, row.decision) for row in listed(rows.engine, shadow)} == {(None, "")}
    assert uids(rows.engine) == [stat, abnormal, normal]
    with rows.engine.begin() as connection:
        node_state.put(connection, node_state.MODEL_OFF, "under repair")
    assert uids(rows.engine) == [stat, normal, abnormal]
    with reading(rows.engine) as connection:
        assert count_by_rank(connection, SETTINGS) == {2: 1, 1: 0, 0: 2}


def test_what_is_not_assessed_says_why_and_never_looks_normal(rows: Rows) -> None:
    rows.study(10, state="not_assessed", reason="a lateral")
    rows.study(9, state="failed", reason="the scoring process died")
    rows.study(8)
    assert [(row.state, row.decision, row.probability, row.reasons) for row in listed(rows.engine)] == [
        ("not assessed", "", None, ("a lateral",)),
        ("failed", "", None, ("the scoring process died",)),
        ("waiting", "", None, ()),
    ]
    with reading(rows.engine) as connection:
        assert [film.reason for film in parked_films(connection)] == ["the scoring process died", "a lateral"]


def test_a_film_that_failed_or_waits_beside_one_with_a_score_is_not_passed_over(rows: Rows) -> None:
    rows.study(10, 0.1)
    for state in ("failed", "received", "running", "not_assessed", "done"):
        rows.study(5, 0.2 if state == "done" else None, state=state, reason="")
    rows.study(4, state="failed")
    rows.study(3, state="not_assessed")
    with rows.engine.begin() as connection:
        connection.execute(update(instance).where(instance.c.id <= 6).values(study_id=1))
        connection.execute(update(instance).where(instance.c.id == 8).values(study_id=7))
        connection.execute(delete(study).where(study.c.id.not_in((1, 7))))
    mixed, unscored = listed(rows.engine)
    assert (mixed.state, mixed.left_out) == ("assessed", ("1 film failed", "2 films waiting", "1 film not assessed"))
    assert (unscored.state, unscored.left_out) == ("failed", ("1 film not assessed",))


def test_search_finds_name_number_accession_and_uid_and_takes_signs_literally(rows: Rows) -> None:
    rows.study(person="MÜLLER^ANNA", patient_id="X_7", accession_number="ACC9")
    rows.study(person="SMITH^BO", patient_id="XY7", accession_number="")
    for part in ("müller", "MÜLLER", "Müller, Anna", "anna müller", "MÜLLER^ANNA"):
        assert uids(rows.engine, search=part) == ["1.2.3.1"], part
    assert uids(rows.engine, search="müller, bo") == uids(rows.engine, search=",") == []
    for part, expected in {"smith": ["1.2.3.2"], "x_7": ["1.2.3.1"], "acc9": ["1.2.3.1"], "2.3.2": ["1.2.3.2"]}.items():
        assert uids(rows.engine, search=part) == expected, part
    assert uids(rows.engine, search="%") == []


def test_next_study_is_the_one_below_and_after_the_last_the_first(rows: Rows) -> None:
    first, second, third = rows.study(30), rows.study(20), rows.study(10)
    with reading(rows.engine) as connection:
        following = [next_study(connection, SETTINGS, NOW, uid) for uid in (first, second, third, "1.9")]
    assert following == [second, third, first, first]


def test_earlier_studies_need_the_same_number_and_name_or_birth_date(rows: Rows) -> None:
    same = rows.study(90)
    married = rows.study(80, person="ROE^JANE")
    rows.study(70, person="OTHER^MAN", birth_date="19990101")
    rows.study(60, patient_id="P2")
    uid = rows.study(10)
    rows.study(5)
    with reading(rows.engine) as connection:
        row = find_study(connection, SETTINGS, NOW, uid)
        assert row is not None
        found = earlier_studies(connection, SETTINGS, NOW, row.study_id)
    assert [study.study_instance_uid for study in found] == [married, same]


def test_second_look_lists_what_was_read_as_normal_above_the_operating_point(rows: Rows) -> None:
    missed = rows.study(60, 0.8, read_min_ago=5, reported_abnormal=False)
    rows.study(60, 0.9, read_min_ago=5, reported_abnormal=True)
    rows.study(60, 0.2, read_min_ago=5, reported_abnormal=False)
    rows.study(60, 0.99)
    with reading(rows.engine) as connection:
        assert [row.study_instance_uid for row in second_looks(connection, SETTINGS, NOW)] == [missed]


def test_pages_of_the_list_join_without_gap_or_repetition(rows: Rows) -> None:
    everything = [rows.study(10, 0.1) for _ in range(7)]
    pages = [uid for offset in range(0, 7, 3) for uid in uids(rows.engine, limit=3, offset=offset)]
    assert pages == everything


def test_a_row_never_shows_its_patient_in_a_log(rows: Rows) -> None:
    rows.study(person="SECRET^NAME")
    assert "SECRET" not in repr(listed(rows.engine)[0])


def test_a_study_whose_patients_row_is_gone_stays_on_the_list(rows: Rows) -> None:
    rows.study(10, 0.9)
    with rows.engine.begin() as connection:
        connection.execute(patient.delete())
    (row,) = listed(rows.engine)
    assert (row.patient_name, row.patient_id, row.probability, row.films) == ("", "", 0.9, 1)


def test_a_study_without_films_yet_is_waiting(rows: Rows) -> None:
    with rows.engine.begin() as connection:
        connection.execute(insert(study).values(study_instance_uid="1.9", accession_number="", received_at=NOW))
    assert [(row.state, row.films) for row in listed(rows.engine)] == [("waiting", 0)]
