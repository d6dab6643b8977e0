"""The pages, over the application itself: what they show, what they do, and to whom."""

import io
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from PIL import Image
from sqlalchemy import select, update
from starlette.testclient import TestClient

from cxrtriage.errors import CxrTriageError
from cxrtriage.serve import database, node_state
from cxrtriage.serve.notify.notices import _sha256
from cxrtriage.serve.results import outbox
from cxrtriage.serve.tables import audit, instance, job, model_version, notice, result, review, study
from cxrtriage.serve.tables import outbox as outbox_table
from serve.web.pages_node import PagesNode, details, rows_of, small_films, without_times

EMERGENT, STAT, OVERDUE, FLAGGED, LESS, NORMAL, LATERAL, WAITING, FAILED = range(9)


def node_at(tmp_path: Path, model_file: Path, **settings: dict[str, Any]) -> PagesNode:
    return PagesNode(tmp_path / "home", model_file, small_films(tmp_path / "films"), **settings)


@pytest.fixture
def node(tmp_path: Path, model_file: Path) -> Iterator[PagesNode]:
    made = node_at(tmp_path, model_file)
    yield made
    made.engine.dispose()


@pytest.fixture
def reader(node: PagesNode) -> TestClient:
    return node.client("ada", "reader")


def row_of(node: PagesNode, number: int) -> Any:
    (row,) = [row for row in rows_of(node.engine, study) if row.study_instance_uid == node.uid(number)]
    return row


def order_on(page: str, node: PagesNode) -> list[int]:
    """Return the numbers of the studies in the order in which a page links to them."""
    links = [part.split('"', 1)[0] for part in page.split('href="/studies/')[1:]]
    return [int(link.rsplit(".", 1)[1]) for link in links if link.count(".") == node.uid(0).count(".")]


def test_the_list_is_in_its_order_and_says_everything_in_words(node: PagesNode, reader: TestClient) -> None:
    page = reader.get("/").text
    assert order_on(page, node) == [STAT, EMERGENT, OVERDUE, FLAGGED, LESS, FAILED, NORMAL, LATERAL, WAITING]
    for words in (
        "flagged, 0.91",
        "not flagged, 0.08",
        "flagged as emergent, 0.97",
        "overdue",
        "STAT",
        "<b>not assessed</b>: view LL",
        "waiting for the model",
        "Okafor, Ada",
        "Not validated here",
        "Preview, not for diagnosis",
    ):
        assert words in page
    assert "style=" not in page
    assert "<script>" not in page


def test_the_list_is_sent_again_only_when_it_has_changed(node: PagesNode, reader: TestClient) -> None:
    first = reader.post("/list")
    tag = first.text.split('name="seen" value="')[1].split('"')[0]
    assert reader.post("/list", data={"seen": tag}).status_code == 204
    with node.engine.begin() as connection:
        connection.execute(update(job).where(job.c.state == "failed").values(state="received"))
    again = reader.post("/list", data={"seen": tag})
    assert again.status_code == 200
    assert order_on(again.text, node) == order_on(first.text, node)


def test_the_list_says_that_another_film_of_a_study_has_no_score(node: PagesNode, reader: TestClient) -> None:
    first = reader.post("/list").text
    assert "film failed" not in first
    with node.engine.begin() as connection:
        failed = instance.c.study_id == row_of(node, FAILED).id
        connection.execute(update(instance).where(failed).values(study_id=row_of(node, NORMAL).id))
    page = reader.post("/list", data={"seen": first.split('name="seen" value="')[1].split('"')[0]}).text
    assert '<span class="state">· 1 film failed</span>' in page
    with node.engine.begin() as connection:
        connection.execute(update(job).where(job.c.state == "failed").values(state="received"))
    page = reader.post("/list", data={"seen": page.split('name="seen" value="')[1].split('"')[0]}).text
    assert '<span class="quiet">· 1 film waiting</span>' in page


@pytest.mark.parametrize("page", [0, 2, 10**30])
def test_a_page_that_the_list_does_not_have_is_the_nearest_that_it_has(
    node: PagesNode, reader: TestClient, page: int
) -> None:
    first = reader.get("/").text
    assert order_on(reader.get(f"/?page={page}").text, node) == order_on(first, node)
    assert order_on(reader.post("/list", data={"page": page}).text, node) == order_on(first, node)


def test_a_number_that_no_row_can_have_is_not_understood(node: PagesNode, reader: TestClient) -> None:
    for number in (0, 10**30):
        assert reader.get(f"/studies/{node.uid(FLAGGED)}/films/{number}.png").status_code == 422
        assert reader.post(f"/failures/films/{number}").status_code == 422
        assert reader.post(f"/failures/deliveries/{number}").status_code == 422


def test_a_search_finds_names_and_leaves_no_trace_of_them(node: PagesNode, reader: TestClient) -> None:
    found = reader.post("/list", data={"search": "haddad"})
    assert order_on(found.text, node) == [NORMAL]
    assert {"what": "reading list", "searched": True} in details(node.engine, "query")
    assert "No study fits" in reader.post("/list", data={"search": "nobody"}).text
    assert "haddad" not in str(rows_of(node.engine, audit)).lower()


def test_read_studies_of_the_last_day_and_second_looks_have_their_tabs(node: PagesNode, reader: TestClient) -> None:
    reader.post(f"/studies/{node.uid(FLAGGED)}/read", data={"finding": "normal"})
    reader.post(f"/studies/{node.uid(NORMAL)}/read", data={"finding": "normal"})
    with node.engine.begin() as connection:
        long_ago = database.now() - timedelta(days=2)
        this = study.c.study_instance_uid == node.uid(NORMAL)
        connection.execute(update(study).where(this).values(read_at=long_ago))
    assert order_on(reader.get("/?tab=read").text, node) == [FLAGGED]
    assert order_on(reader.post("/list", data={"tab": "read", "search": "haddad"}).text, node) == [NORMAL]
    assert order_on(reader.get("/?tab=second").text, node) == [FLAGGED]


def test_a_study_view_and_its_films_leave_one_row_in_the_trail(node: PagesNode, reader: TestClient) -> None:
    page = reader.get(f"/studies/{node.uid(FLAGGED)}").text
    assert "flagged, 0.91" in page
    assert "it flags from 0.42 on" in page
    (source,) = [part.split('"')[0] for part in page.split('<img src="')[1:]]
    picture = reader.get(source)
    assert picture.headers["cache-control"] == "no-store"
    assert Image.open(io.BytesIO(picture.content)).format == "PNG"
    assert details(node.engine, "accessed") == [{"score": True}]
    other = f"/studies/{node.uid(NORMAL)}" + source[source.index("/films") :]
    assert reader.get(other).status_code == 404  # another study's film
    assert reader.get("/studies/1.2.3").status_code == 404


def test_the_earlier_film_of_the_same_patient_stands_beside(node: PagesNode, reader: TestClient) -> None:
    page = reader.get(f"/studies/{node.uid(EMERGENT)}").text  # Okafor, as is the lateral, which came before
    assert page.count('<figure class="viewer"') == 2
    assert f"/studies/{node.uid(LATERAL)}/films/" in page
    assert {"beside": node.uid(EMERGENT)} in details(node.engine, "accessed")


def test_a_film_without_room_for_its_preview_is_shown_and_not_called_damaged(
    node: PagesNode, reader: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cxrtriage.serve.web.pictures.replacing", Mock(side_effect=CxrTriageError("the disk is full")))
    (source,) = [
        part.split('"')[0] for part in reader.get(f"/studies/{node.uid(FLAGGED)}").text.split('<img src="')[1:]
    ]
    assert Image.open(io.BytesIO(reader.get(source).content)).format == "PNG"


def test_reading_takes_it_off_the_list_and_goes_on_and_can_be_undone(node: PagesNode, reader: TestClient) -> None:
    answer = reader.post(f"/studies/{node.uid(FLAGGED)}/read", data={"finding": "abnormal"})
    assert answer.headers["location"] == f"/studies/{node.uid(LESS)}?left={node.uid(FLAGGED)}"
    row = row_of(node, FLAGGED)
    assert (row.read_by, row.reported_abnormal) == ("ada", True)
    page = reader.get(answer.headers["location"]).text
    assert "read, abnormal" in page
    assert "Undo" in page
    second = node.client("bob", "reader")
    answer = second.post(f"/studies/{node.uid(FLAGGED)}/read", data={"finding": "normal"})
    assert answer.status_code == 409
    assert "ada has meanwhile read this study as abnormal" in answer.text
    second.post(f"/studies/{node.uid(FLAGGED)}/read")
    assert (row_of(node, FLAGGED).read_by, row_of(node, FLAGGED).reported_abnormal) == ("ada", True)  # the first counts
    reader.post(f"/studies/{node.uid(FLAGGED)}/reopen")
    assert row_of(node, FLAGGED).read_at is None
    assert reader.get(f"/studies/{node.uid(FLAGGED)}/next").headers["location"] == f"/studies/{node.uid(LESS)}"


def test_a_verdict_is_kept_with_what_the_reader_had_seen(node: PagesNode, reader: TestClient) -> None:
    reader.post(f"/studies/{node.uid(FLAGGED)}/verdict", data={"verdict": "disagree"})
    (said,) = rows_of(node.engine, review)
    assert (said.verdict, said.abnormal, said.score_visible, said.probability) == ("disagree", False, True, 0.91)
    assert row_of(node, FLAGGED).rank == 1  # a word on the score lowers nothing
    reader.post(f"/studies/{node.uid(NORMAL)}/verdict", data={"verdict": "emergent"})
    assert row_of(node, NORMAL).rank == 2
    assert reader.post(f"/studies/{node.uid(LATERAL)}/verdict", data={"verdict": "agree"}).status_code == 409
    page = reader.get(f"/studies/{node.uid(FLAGGED)}").text
    assert '<input type="hidden" name="score" value="0.91">' in page
    changed = reader.post(f"/studies/{node.uid(FLAGGED)}/verdict", data={"verdict": "agree", "score": 0.5})
    assert (changed.status_code, len(rows_of(node.engine, review))) == (409, 2)
    assert "the score has changed" in changed.text
    history = reader.get(f"/studies/{node.uid(FLAGGED)}").text
    assert "ada disagrees with the model" in history


def test_only_a_person_lowers_a_priority(node: PagesNode, reader: TestClient) -> None:
    reader.post(f"/studies/{node.uid(EMERGENT)}/priority", data={"rank": 0})
    assert row_of(node, EMERGENT).rank == 0
    page = reader.get(f"/studies/{node.uid(EMERGENT)}").text
    assert "ada changed the priority from emergent to routine" in page
    assert reader.post(f"/studies/{node.uid(EMERGENT)}/priority", data={"rank": 3}).status_code == 422


def test_a_score_can_wait_for_the_first_look(tmp_path: Path, model_file: Path) -> None:
    node = node_at(tmp_path, model_file, web={"hide_score_first": True})
    reader = node.client("ada", "reader")
    where = f"/studies/{node.uid(FLAGGED)}"
    before = without_times(reader.get(where).text)
    listed = without_times(reader.get("/").text)
    for page in (before, listed):
        assert "0.91" not in page
        assert "flagged, " not in page
    assert reader.post(f"{where}/verdict", data={"verdict": "agree"}).status_code == 409
    reader.post(f"{where}/look", data={"finding": "normal"})
    (said,) = rows_of(node.engine, review)
    assert (said.verdict, said.abnormal, said.score_visible) == ("disagree", False, False)
    assert "flagged, 0.91" in reader.get(where).text
    assert "0.91" not in without_times(node.client("bob", "reader").get(where).text)  # each has a first look of his own
    reader.post(f"{where}/look", data={"finding": "normal"})
    assert len(rows_of(node.engine, review)) == 1  # no second first look
    node.engine.dispose()


@pytest.mark.parametrize("how", ["shadow", "off"])
def test_scores_shown_to_nobody_are_on_no_page(tmp_path: Path, model_file: Path, how: str) -> None:
    node = node_at(tmp_path, model_file, reading={"shadow": how == "shadow"})
    if how == "off":
        with node.engine.begin() as connection:
            node_state.put(connection, node_state.MODEL_OFF, "new detector")
    reader = node.client("ada", "reader")
    for where in ("/", f"/studies/{node.uid(FLAGGED)}", f"/studies/{node.uid(EMERGENT)}", "/figures"):
        page = without_times(reader.get(where).text)
        assert "0.91" not in page
        assert "0.97" not in page
        assert ("Shadow mode" if how == "shadow" else "The model is off: new detector") in page
    assert order_on(reader.get("/").text, node)[0] == STAT  # an order is not the model's word
    node.engine.dispose()


def test_calling_emergent_promises_no_notice_that_does_not_leave(tmp_path: Path, model_file: Path) -> None:
    node = node_at(tmp_path, model_file, mail={"host": "127.0.0.1"})
    reader, where = node.client("ada", "reader"), f"/studies/{node.uid(FLAGGED)}"
    assert "everybody's list. The physician is told.</p>" in reader.get(where).text
    with node.engine.begin() as connection:
        node_state.put(connection, node_state.MODEL_OFF, "new detector")
    assert "everybody's list. The model is off, and no notice leaves" in reader.get(where).text
    node.engine.dispose()


def test_parked_films_and_deliveries_can_be_tried_again(node: PagesNode, reader: TestClient) -> None:
    with node.engine.begin() as connection:
        outbox.put(
            connection,
            destination="mail",
            kind="mail",
            key="k",
            study_id=row_of(node, FLAGGED).id,
            parked="recipients.csv has no contact for W7.",
        )
    page = reader.get("/failures").text
    assert "the scoring process died" in page
    assert "view LL" in page
    assert "no contact for W7" in page
    failed = next(row for row in rows_of(node.engine, job) if row.state == "failed")
    assert reader.post(f"/failures/films/{failed.id}").status_code == 303
    assert reader.post(f"/failures/films/{failed.id}").status_code == 409
    (parked,) = rows_of(node.engine, outbox_table)
    reader.post(f"/failures/deliveries/{parked.id}")
    assert [row.state for row in rows_of(node.engine, outbox_table)] == ["waiting"]
    assert {row.state for row in rows_of(node.engine, job)} == {"done", "not_assessed", "received"}
    assert len(details(node.engine, "changed")) >= 2


def test_figures_have_every_rank_and_time(node: PagesNode, reader: TestClient) -> None:
    page = reader.get("/figures").text
    assert "Had it been first come, first served" in page
    assert page.count("emergent</span>") == 3
    assert reader.get("/figures?hours=168").status_code == 200
    assert reader.get("/figures?hours=1").status_code == 422


def test_settings_show_no_secret(tmp_path: Path, model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXRTRIAGE_WEBHOOK_SECRET", "swordfish")
    node = node_at(tmp_path, model_file, webhook={"url": "https://u:pw@hook.example/key-marlin?t=halibut"})
    page = node.client("ada", "reader").get("/settings").text
    assert "https://hook.example/…" in page
    for secret in ("swordfish", "pw@", "marlin", "halibut"):
        assert secret not in page
    assert "upper_wait_min" in page
    node.engine.dispose()


def test_an_admin_switches_the_model_with_a_reason_and_reads_the_trail(node: PagesNode, reader: TestClient) -> None:
    admin = node.client("root", "admin")
    assert reader.get("/model").status_code == 403
    assert "no model was active before" in admin.post("/model/back", follow_redirects=True).text.lower()
    admin.post("/model/switch", data={"why": "new detector <b>"})
    assert "The model is off: new detector &lt;b&gt;." in reader.get("/").text
    admin.post("/model/switch", data={"why": ""})
    assert "The model is off" not in reader.get("/").text
    assert {"model": "off", "why": "new detector <b>"} in details(node.engine, "changed")
    reader.get(f"/studies/{node.uid(FLAGGED)}")
    page = admin.get(f"/audit?study={node.uid(FLAGGED)}&verify=true").text
    assert "The chain holds" in page
    assert "accessed" in page


def test_banners_tell_of_dead_processes_and_low_disk(node: PagesNode, reader: TestClient) -> None:
    node_state.beat(node.engine, "worker")
    assert "no sign of life" not in reader.get("/").text
    long_ago = database.now() - timedelta(minutes=5)
    with node.engine.begin() as connection:
        connection.execute(update(node_state.heartbeat).values(seen_at=long_ago))
        connection.execute(update(model_version).values(acceptance='{"auroc": 0.9}'))
    node.settings = node.settings.model_copy(
        update={"store": node.settings.store.model_copy(update={"min_free_gib": 1e9})}
    )
    node.app.state.settings = node.settings
    page = reader.get("/figures").text
    assert "The worker on" in page
    assert "The disk is low" in page
    assert "Not validated here" not in page


def test_a_referrer_acknowledges_and_sees_that_study_alone(node: PagesNode) -> None:
    with node.engine.begin() as connection:
        key = outbox.put(
            connection, destination="mail", kind="mail", key="n", study_id=row_of(node, FLAGGED).id, content={}
        )
        values = {"recipient": "dr-w7", "step": 1, "token_sha256": _sha256("token"), "made_at": database.now()}
        connection.execute(notice.insert().values(study_id=row_of(node, FLAGGED).id, outbox_id=key, **values))
    referrer = node.client("w7", "referrer", "dr-w7")
    assert order_on(referrer.get("/").text, node) == [FLAGGED]
    assert "take notice" not in referrer.get("/notices/token").text
    assert rows_of(node.engine, notice)[0].acknowledged_by == ""  # opening the link says nothing
    answer = referrer.post("/notices/token")
    assert answer.headers["location"] == f"/studies/{node.uid(FLAGGED)}"
    assert rows_of(node.engine, notice)[0].acknowledged_by == "w7"
    page = referrer.get(answer.headers["location"]).text
    assert "Acknowledged by w7" in page
    assert "Read: normal" not in page
    assert referrer.get(f"/studies/{node.uid(NORMAL)}").status_code == 404
    node.client("ada", "reader").post(f"/studies/{node.uid(NORMAL)}/read", data={"finding": "normal"})
    undo = f"?left={node.uid(NORMAL)}"
    assert "Haddad" not in referrer.get(answer.headers["location"] + undo).text
    assert referrer.get("/failures").status_code == 403
    assert referrer.get("/notices/other").status_code == 404
    assert node.client("stranger", "referrer", "dr-x").get("/notices/token").status_code == 404
    assert referrer.post("/list").status_code == 403


def test_an_explanation_is_worked_out_once_and_carries_its_words(tmp_path: Path, model_file: Path) -> None:
    node = node_at(tmp_path, model_file, web={"explanations": True})
    reader = node.client("ada", "reader")
    page = reader.get(f"/studies/{node.uid(FLAGGED)}").text
    where = page.split('hx-get="')[1].split('"')[0]
    part = reader.get(where).text
    assert "orange speaks for abnormal" in part
    picture = reader.get(part.split('<img src="')[1].split('"')[0])
    assert Image.open(io.BytesIO(picture.content)).size == (2 * 512 + 8, 512)
    assert len(list((node.home / "pictures").rglob("*grad-cam.png"))) == 1
    assert details(node.engine, "accessed") == [{"score": True}, {"explanation": "grad-cam"}]
    node.engine.dispose()


def test_the_film_whose_score_is_shown_is_the_one_that_is_explained(tmp_path: Path, model_file: Path) -> None:
    node = node_at(tmp_path, model_file, web={"explanations": True})
    this, other = (row_of(node, number).id for number in (NORMAL, FLAGGED))
    with node.engine.begin() as connection:  # two films of one study, of which the second has the higher score
        connection.execute(update(instance).where(instance.c.study_id == other).values(study_id=this))
        of_study = select(instance.c.id).where(instance.c.study_id == this).order_by(instance.c.id)
        key = connection.execute(of_study).scalars().all()
        higher = {"probability": 0.95, "decision": "abnormal"}
        connection.execute(update(result).where(result.c.instance_id == key[1]).values(higher))
    page = node.client("ada", "reader").get(f"/studies/{node.uid(NORMAL)}").text
    assert "flagged, 0.95" in page
    assert f"/films/{key[1]}/why/" in page
    assert f"/films/{key[0]}/why/" not in page
    assert "probability is shown above: film 2." in page
    node.engine.dispose()


def test_explanations_that_are_off_are_nowhere(node: PagesNode, reader: TestClient) -> None:
    page = reader.get(f"/studies/{node.uid(FLAGGED)}").text
    assert "Heat map" not in page
    film = page.split('data-film="')[1].split('"')[0]
    assert reader.get(f"/studies/{node.uid(FLAGGED)}/films/{film}/why/grad-cam").status_code == 404
