"""Films, tables, sets and scores in a store: the bytes of a folder, nothing half done, nothing told that is secret."""

import csv
import errno
import functools
import http.server
import json
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from cxrtriage import scores
from cxrtriage.cli import app
from cxrtriage.config import Recipe
from cxrtriage.data.film.source import find_films, read_film
from cxrtriage.data.labels.manifest import manifest_hash, read_manifest
from cxrtriage.data.prepared import build, upload
from cxrtriage.data.prepared.build import prepare_set
from cxrtriage.data.prepared.job import FilmJob
from cxrtriage.data.prepared.store import open_prepared
from cxrtriage.data.prepared.unfinished import stamps
from cxrtriage.data.prepared.upload import prepare_into_store
from cxrtriage.data.remote import put as putting
from cxrtriage.data.remote.address import Address, is_url, shown
from cxrtriage.data.remote.fetch import AT_A_TIME, at_hand, fetched
from cxrtriage.errors import ConfigError, SourceError
from cxrtriage.machine import cache_home
from cxrtriage.records import Prediction
from cxrtriage.scores import write_scores
from films import film_pixels, make_dicom, write_png, write_tiff
from object_stores import CLIENT_LEAVES_BEHIND, S3, s3_service

pytest.importorskip("s3fs")
pytest.importorskip("moto")
pytestmark = pytest.mark.filterwarnings(CLIENT_LEAVES_BEHIND)

RECIPE = Recipe(size=128)
ODD_NAME = "a film #1?.tif"


@pytest.fixture(scope="module")
def store() -> Iterator[S3]:
    with s3_service() as service:
        yield service


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Films of all kinds, in folders and with odd names, one cut short, and what is no film; and a table of them."""
    films = tmp_path_factory.mktemp("hospital") / "films"
    (films / "sub").mkdir(parents=True)
    (films / ".hidden").mkdir()
    write_tiff(films / ODD_NAME, film_pixels(200, 160, seed=1))
    make_dicom(films / "b.dcm", film_pixels(200, 160, seed=2))
    make_dicom(films / "sub" / "no_suffix", film_pixels(200, 160, seed=3))
    for number in range(6):
        write_png(films / "sub" / f"{number}.png", film_pixels(200, 160, seed=number + 4))
    write_tiff(films / "cut.tif", film_pixels(200, 160, seed=11))
    os.truncate(films / "cut.tif", 9000)
    write_png(films / ".hidden" / "x.png", film_pixels(200, 160))
    (films / "notes.txt").write_text("no film")
    mask = write_png(films / "mask.dat", film_pixels(200, 160, bits=8))
    names = [ODD_NAME, "b.dcm", "no_suffix", *(f"sub/{number}.png" for number in range(6)), "cut.tif", "missing.tif"]
    table = pd.DataFrame({"path": names, "label": [n % 2 for n in range(len(names))]})
    table["lung_mask"] = [mask.name if n % 3 == 0 else None for n in range(len(names))]
    table.to_csv(films / "labels.csv", index=False)
    return films


@pytest.fixture(scope="module")
def films_url(store: S3, folder: Path) -> str:
    return store.put_folder(folder, "films")


def without_card(files: dict[str, bytes]) -> dict[str, bytes]:
    """Of a set, what does not tell the time that it took."""
    return {name: content for name, content in files.items() if name != "prepared.json"}


def in_folder(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def in_store(store: S3, url: str) -> dict[str, bytes]:
    found = store.files.find(url.removeprefix("s3://"))
    return {path.rpartition("/")[2]: store.files.cat_file(path) for path in found}


def same_but_for_paths(found: Path, expected: Path, url: str, folder: Path) -> None:
    """Sets agree to the byte, and in their tables in all but where the films lie."""
    assert (found / "images.npy").read_bytes() == (expected / "images.npy").read_bytes()
    assert (found / "lung_masks.npy").read_bytes() == (expected / "lung_masks.npy").read_bytes()
    here, there = (open_prepared(path).manifest for path in (expected, found))
    for column in ("path", "lung_mask"):
        here[column] = here[column].str.replace(str(folder), url, regex=False)
    pd.testing.assert_frame_equal(there, here)
    text = (expected / "rejects.csv").read_text().replace(str(folder), url)
    assert (found / "rejects.csv").read_text().replace("no such object", "no such file") == text


@pytest.fixture(scope="module")
def of_folder(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    manifest = read_manifest(folder / "labels.csv")
    return prepare_set(
        manifest, tmp_path_factory.mktemp("local") / "prepared", RECIPE, workers=1, max_rejected=0.3
    ).path


def test_the_films_below_a_url_are_those_of_the_folder_in_the_same_order(folder: Path, films_url: str) -> None:
    here = [str(film).replace(str(folder), films_url) for film in find_films([folder])]
    assert find_films([films_url]) == here
    assert find_films([f"{films_url}/{ODD_NAME}"]) == [f"{films_url}/{ODD_NAME}"]


def test_a_film_reads_as_from_a_file(folder: Path, films_url: str) -> None:
    here, there = read_film(folder / ODD_NAME), read_film(f"{films_url}/{ODD_NAME}", mapped=True)
    np.testing.assert_array_equal(here.pixels, there.pixels)
    assert there.provenance["path"] == f"{films_url}/{ODD_NAME}"


def test_a_film_that_cannot_be_read_is_told_by_its_url(films_url: str) -> None:
    with pytest.raises(SourceError, match=rf"^cannot read {films_url}/cut\.tif: it is cut short"):
        read_film(f"{films_url}/cut.tif")
    with pytest.raises(
        SourceError, match=rf"^cannot read {films_url}/no\.tif: there is no such object\. Check the path"
    ):
        read_film(f"{films_url}/no.tif")
    with pytest.raises(SourceError, match=r"^cannot read s3://no-such-bucket/a\.tif: there is no such bucket"):
        read_film("s3://no-such-bucket/a.tif")


def test_a_set_of_a_store_is_that_of_the_folder(folder: Path, films_url: str, of_folder: Path, tmp_path: Path) -> None:
    manifest = read_manifest(f"{films_url}/labels.csv")
    assert manifest_hash(manifest) == manifest_hash(read_manifest(folder / "labels.csv"))
    prepared = prepare_set(manifest, tmp_path / "prepared", RECIPE, workers=2, max_rejected=0.3)
    same_but_for_paths(prepared.path, of_folder, films_url, folder)


def test_a_table_here_may_name_films_there_by_url_or_below_images(folder: Path, films_url: str, tmp_path: Path) -> None:
    whole = read_manifest(f"{films_url}/labels.csv")
    table = pd.read_csv(folder / "labels.csv")
    table.to_csv(tmp_path / "below.csv", index=False)
    pd.testing.assert_frame_equal(read_manifest(tmp_path / "below.csv", films_url), whole)
    whole.drop(columns="patient_id").to_csv(tmp_path / "urls.csv", index=False)
    pd.testing.assert_frame_equal(read_manifest(tmp_path / "urls.csv"), whole)


def test_the_commands_read_from_a_store_and_write_to_it_with_and_without_a_cluster(
    store: S3, folder: Path, films_url: str, of_folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ray")
    run = CliRunner()
    done = run.invoke(app, ["score", str(folder), "--out", str(tmp_path / "here.csv"), "--engine", "openvino"])
    assert done.exit_code == 0, done.output
    for name, extra in (("one", ["--engine", "openvino"]), ("many", ["--cluster", "local"])):
        out = f"{store.url}/{name}/scores.csv"
        done = run.invoke(app, ["score", films_url, "--out", out, *extra])
        assert done.exit_code == 0, (done.output, done.exception)
        assert done.stdout.strip() == out
        table = store.files.cat_file(out).replace(films_url.encode(), str(folder).encode())
        assert table.replace(b"no such object", b"no such file") == (tmp_path / "here.csv").read_bytes()
    for name, extra in (("one", ["--workers", "1"]), ("many", ["--cluster", "local"])):
        out = f"{store.url}/{name}/prepared"
        command = ["prepare", f"{films_url}/labels.csv", "--out", out, "--size", "128", "--max-rejected", "0.3"]
        done = run.invoke(app, [*command, *extra])
        assert done.exit_code == 0, (done.output, done.exception)
        (tmp_path / name).mkdir()
        for file, content in in_store(store, out).items():
            (tmp_path / name / file).write_bytes(content)
        same_but_for_paths(tmp_path / name, of_folder, films_url, folder)
    assert not list((cache_home() / "cxrtriage-unfinished").iterdir())
    out = str(tmp_path / "manifest.csv")
    done = run.invoke(app, ["manifest", f"{films_url}/labels.csv", "--images", films_url, "--out", out])
    assert done.exit_code == 0, (done.output, done.exception)
    assert set(pd.read_csv(out)["path"]) == set(read_manifest(f"{films_url}/labels.csv")["path"])


def test_a_set_that_is_there_is_opened_and_one_of_another_recipe_is_refused(
    store: S3, films_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = read_manifest(f"{films_url}/labels.csv").iloc[:3]
    url = f"{store.url}/again"
    prepare_into_store(manifest, url, RECIPE, workers=1)
    monkeypatch.delattr(upload, "prepare_set")  # nothing is prepared again
    prepare_into_store(manifest, url, RECIPE, workers=1)
    with pytest.raises(ConfigError, match=rf"^{url} holds a set made with .*size=128.* asked for is .*size=160"):
        prepare_into_store(manifest, url, Recipe(size=160), workers=1)


@pytest.mark.parametrize("after", [0, 2])
def test_an_interrupted_upload_leaves_no_complete_set_and_goes_on_without_preparing(
    store: S3, films_url: str, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    manifest = read_manifest(f"{films_url}/labels.csv").iloc[:3]
    url = f"{store.url}/interrupted{after}"
    system = store.files
    put_file, done = system.put_file, []

    def interrupted(file: str, path: str) -> None:
        if len(done) == after:
            raise KeyboardInterrupt
        done.append(path)
        put_file(file, path)

    with monkeypatch.context() as patch:
        patch.setattr(system, "put_file", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare_into_store(manifest, url, RECIPE, workers=1)
    assert len(in_store(store, url)) == after
    assert "prepared.json" not in in_store(store, url)
    monkeypatch.setattr(build, "prepare_rest", lambda *_: pytest.fail("prepared again"))
    prepare_into_store(manifest, url, RECIPE, workers=1)
    assert set(in_store(store, url)) == {
        "images.npy",
        "lung_masks.npy",
        "manifest.parquet",
        "rejects.csv",
        "prepared.json",
    }


def test_an_object_that_is_shorter_than_its_file_is_told(
    store: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"whole")
    system = store.files
    monkeypatch.setattr(system, "put_file", lambda file, path: system.pipe_file(path, b"who"))
    with pytest.raises(ConfigError, match=r"has 3 bytes after writing, expected 5"):
        putting.put({tmp_path / "a": f"{store.url}/short"})


class Scorer:
    """Scores films by the length of their name; is interrupted after `stop`."""

    def __init__(self, stop: int | None = None) -> None:
        self.stop = stop
        self.scored: list[Address] = []

    def __call__(self, films: Sequence[Address]) -> Iterator[Prediction]:
        for number, film in enumerate(films):
            if number == self.stop:
                raise KeyboardInterrupt
            self.scored.append(film)
            yield Prediction(shown(film), len(str(film)) / 1000, "normal")


def test_a_table_goes_on_where_it_was_and_films_that_changed_are_scored_again(
    store: S3, films_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    films = find_films([films_url])
    url = f"{store.url}/tables/scores.csv"
    with pytest.raises(KeyboardInterrupt):
        write_scores(films, url, Scorer(4), "")
    assert not store.files.exists(url)
    rest = Scorer(2)
    monkeypatch.setattr(scores, "CLOCKS_DIFFER_NS", -10 * 10**9)  # films that were put here a moment ago count as old
    with pytest.raises(KeyboardInterrupt):
        write_scores(films, url, rest, "")
    assert rest.scored == films[4:6]
    monkeypatch.setattr(scores, "CLOCKS_DIFFER_NS", 3600 * 10**9)  # and now as new
    anew = Scorer()
    write_scores(films, url, anew, "")
    assert anew.scored == films
    rows = list(csv.DictReader(store.files.cat_file(url).decode().splitlines()))
    assert [row["path"] for row in rows] == films


def test_a_whole_table_that_could_not_be_put_is_put_later_without_scoring(
    store: S3, films_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    films, url = find_films([films_url]), f"{store.url}/later/scores.csv"
    with monkeypatch.context() as patch:
        patch.setattr(store.files, "put_file", lambda *_: (_ for _ in ()).throw(TimeoutError("no answer")))
        with pytest.raises(ConfigError, match=rf"^cannot reach {url} \(TimeoutError: no answer\)"):
            write_scores(films, url, Scorer(), "")
    monkeypatch.setattr(scores, "CLOCKS_DIFFER_NS", -10 * 10**9)
    rest = Scorer()
    write_scores(films, url, rest, "")
    assert rest.scored == []
    assert store.files.exists(url)


def test_a_store_that_gives_no_access_ends_the_run_and_costs_no_film(
    store: S3, films_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    manifest = read_manifest(f"{films_url}/labels.csv")
    store.refuse_all(True)
    try:
        for work in (
            lambda: prepare_set(manifest, tmp_path / "prepared", RECIPE, workers=3),
            lambda: find_films([films_url]),
            lambda: (
                putting.working_folder(f"{store.url}/refused/scores.csv")
                and putting.put({Path(__file__): f"{store.url}/refused/scores.csv"})
            ),
        ):
            with pytest.raises(ConfigError, match=r"^the store gives no access to s3://hospital/.*credentials") as told:
                work()
            assert "secret-of" not in str(told.value)
    finally:
        store.refuse_all(False)
    prepare_set(manifest, tmp_path / "prepared", RECIPE, workers=1, max_rejected=0.3)  # goes on
    assert not list((tmp_path / "temporary").iterdir())  # workers that were ended left no films behind


def test_a_missing_film_is_tried_again_once_it_is_there(store: S3, folder: Path) -> None:
    job = FilmJob(f"{store.url}/late.dcm", 1, {})
    missing = stamps(job)
    assert missing == [None]
    store.files.put_file(str(folder / "b.dcm"), f"{store.url}/late.dcm")
    there = stamps(job)
    assert there == json.loads(json.dumps(there)) == stamps(job) != missing
    store.files.put_file(str(folder / "cut.tif"), f"{store.url}/late.dcm")
    assert stamps(job) != there


def test_a_full_disk_is_told(store: S3, films_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("cxrtriage.data.remote.fetch.WAITS_S", ())
    monkeypatch.setattr(store.files, "get_file", full)
    with pytest.raises(ConfigError, match=r"^cannot copy .*b\.dcm: the temporary folder .* is full\. .*TMPDIR"):
        read_film(f"{films_url}/b.dcm")


def test_what_cannot_be_written_to_is_refused_before_work(store: S3) -> None:
    with pytest.raises(ConfigError, match="there is no bucket no-such-bucket"):
        putting.working_folder("s3://no-such-bucket/scores.csv")
    with pytest.raises(ConfigError, match="web servers are read only"):
        putting.working_folder("https://hospital/scores.csv")
    with pytest.raises(
        ConfigError, match=r"gs://b/scores\.csv needs a package that is not installed\. Please install gcsfs"
    ):
        putting.working_folder("gs://b/scores.csv")
    with pytest.raises(ConfigError, match="no kind of store that is known: nope://"):
        find_films(["nope://b/films"])


@pytest.fixture
def web(folder: Path) -> Iterator[str]:
    all_at_once = threading.Barrier(AT_A_TIME)

    class Guarded(http.server.SimpleHTTPRequestHandler):
        """Gives a film to who has the password, one that is cut off, and slow ones to all who ask at once."""

        def do_GET(self) -> None:
            if self.headers.get("Authorization") is None:
                self.send_error(401)
            elif "slow" in self.path:
                all_at_once.wait(timeout=60)
                self.send_response(200)
                self.end_headers()
                self.wfile.write(self.path.encode())
            elif "broken" in self.path:
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b"short")
            else:
                super().do_GET()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Guarded, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_no_password_or_signature_gets_into_messages_tables_or_logs(
    web: str, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cxrtriage.data.remote.fetch.WAITS_S", ())
    site = f"http://reader:hush-hush@{web}"
    good, missing = f"{site}/b.dcm?signature=tell-nobody", f"{site}/missing.dcm?signature=tell-nobody"
    with caplog.at_level(logging.DEBUG, "cxrtriage"):
        done = CliRunner().invoke(app, ["score", good, missing, "--out", str(tmp_path / "scores.csv")])
    assert done.exit_code == 0, (done.output, done.exception)
    rows = list(csv.DictReader((tmp_path / "scores.csv").open()))
    assert [row["decision"] == "not assessed" for row in rows] == [False, True]
    np.testing.assert_array_equal(read_film(good).pixels, read_film(folder / "b.dcm").pixels)
    told = [done.output, caplog.text, (tmp_path / "scores.csv").read_text()]
    broken = f"{site}/broken.dcm?signature=tell-nobody"
    for url in (broken, f"http://{web}/b.dcm?signature=tell-nobody", "http://reader:hush-hush@127.0.0.1:1/a.dcm"):
        with pytest.raises(ConfigError) as error:
            read_film(url)
        told.append(str(error.value))
    assert "hush-hush" not in " ".join(told)
    assert "tell-nobody" not in " ".join(told)
    assert "401" in told[-2]
    assert shown(good) != shown(f"{site}/b.dcm?signature=another")


def test_objects_are_fetched_side_by_side_and_leave_nothing_behind(
    web: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    urls = [f"http://reader:x@{web}/slow{number}.png" for number in range(AT_A_TIME)]
    with fetched([*urls, Path("here.png")]) as here:
        assert here[Path("here.png")] == Path("here.png")
        for number, url in enumerate(urls):
            with at_hand(here[url]) as file:
                assert file.read_text() == f"/slow{number}.png"
                assert file.suffix == ".png"
    assert not list(tmp_path.iterdir())


def test_paths_are_no_urls() -> None:
    assert not any(map(is_url, ("a.png", "/a//b.png", "C:\\films\\a.png", "s3:/collapsed", Path("s3://b/a"))))
