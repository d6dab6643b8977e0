"""Making a prepared set: what is in it, and what interruptions, bad films and full disks do to it."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import worker_functions
from cxrtriage.config import Recipe
from cxrtriage.data.film.source import read_film
from cxrtriage.data.labels.manifest import check_manifest
from cxrtriage.data.prepared import build, unfinished
from cxrtriage.data.prepared.job import FilmJob, read_mask
from cxrtriage.data.prepared.prepare import prepare_film, prepare_mask
from cxrtriage.data.prepared.store import open_prepared
from cxrtriage.data.prepared.workers import Workers
from cxrtriage.errors import ConfigError, CxrTriageError, SourceError
from films import film_pixels, make_dicom, write_png, write_tiff

RECIPE = Recipe(size=32)

prepare_set = partial(build.prepare_set, workers=1)  # a second process takes longer to start than to save


def make_films(folder: Path, count: int = 6) -> pd.DataFrame:
    """Write films, the last one as DICOM, and return their manifest."""
    folder.mkdir(exist_ok=True)
    paths = [write_tiff(folder / f"{seed}.tif", film_pixels(80, 70, seed=seed)) for seed in range(count - 1)]
    paths.append(
        make_dicom(folder / "last.dcm", film_pixels(90, 60, seed=count), photometric_interpretation="MONOCHROME1")
    )
    splits = ["train", "train", "validation", "test"]
    frame = pd.DataFrame(
        {
            "path": [str(path) for path in paths],
            "label": [number % 3 for number in range(count)],
            "finding": [f"note {number}" for number in range(count)],
            "split": [splits[number % 4] for number in range(count)],
        }
    )
    return check_manifest(frame)


def test_each_row_holds_its_film_as_prepare_film_makes_it(tmp_path: Path) -> None:
    manifest = make_films(tmp_path)
    prepared = prepare_set(manifest, tmp_path / "set", RECIPE, workers=2)
    assert prepared.images.shape == (6, 32, 32)
    for path, image in zip(manifest["path"], prepared.images, strict=True):
        np.testing.assert_array_equal(image, prepare_film(read_film(Path(path)), RECIPE))
    assert prepared.manifest["finding"].tolist() == manifest["finding"].tolist()
    assert prepared.recipe == RECIPE
    assert (tmp_path / "set" / "rejects.csv").read_text() == "path,reason\n"
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == [
        "images.npy", "manifest.parquet", "prepared.json", "rejects.csv",
    ]  # fmt: skip


def test_facts_of_the_films_stand_in_the_manifest(tmp_path: Path) -> None:
    manifest = make_films(tmp_path).assign(view_position=["AP", None, None, None, None, None])
    rows = prepare_set(check_manifest(manifest), tmp_path / "set", RECIPE).manifest
    assert rows["film_height"].tolist() == [80, 80, 80, 80, 80, 90]
    assert rows["film_width"].tolist() == [70, 70, 70, 70, 70, 60]
    assert rows["film_bits"].tolist() == [16, 16, 16, 16, 16, 12]
    assert rows["polarity_inverted"].tolist() == [False] * 5 + [True]
    assert rows["view_position"].iloc[0] == "AP"
    assert rows["view_position"].iloc[1:5].isna().all()
    assert rows["view_position"].iloc[5] == "PA"  # the DICOM file tells
    assert rows["age"].iloc[5] == 54


def test_several_draws_are_made_of_training_films_only(tmp_path: Path) -> None:
    manifest = make_films(tmp_path)
    prepared = prepare_set(manifest, tmp_path / "set", RECIPE, draws=3)
    rows = prepared.manifest
    assert rows.groupby("path")["draw"].agg(list).loc[manifest["path"]].tolist() == [
        [0, 1, 2] if split == "train" else [0] for split in manifest["split"]
    ]
    film = read_film(Path(manifest["path"].iloc[1]))
    for draw in range(3):
        np.testing.assert_array_equal(prepared.images[3 + draw], prepare_film(film, RECIPE, draw))


def test_masks_are_prepared_like_their_films_and_may_be_unknown(tmp_path: Path) -> None:
    manifest = make_films(tmp_path)
    mask = np.zeros((80, 70), bool)
    mask[20:50, 10:30] = True
    write_png(tmp_path / "same.png", mask.astype(np.uint8) * 255)
    small = cv2.resize(mask.astype(np.uint8), (35, 40), interpolation=cv2.INTER_NEAREST)
    write_png(tmp_path / "small.png", small)
    write_png(tmp_path / "empty.png", np.zeros((80, 70), np.uint8))
    names = ["same.png", None, "small.png", "empty.png", None, None]
    manifest["lung_mask"] = pd.Series([None if name is None else str(tmp_path / name) for name in names], dtype="str")
    prepared = prepare_set(check_manifest(manifest), tmp_path / "set", RECIPE)
    masks = prepared.lung_masks
    assert masks is not None
    assert prepared.lesion_masks is None
    film = read_film(Path(manifest["path"].iloc[0]))
    np.testing.assert_array_equal(masks[0], prepare_mask(mask, film, RECIPE))
    np.testing.assert_array_equal(masks[2], prepare_mask(mask, film, RECIPE))  # the small one has the same outline
    assert (masks[3] == 0).all()
    assert (masks[[1, 4, 5]] == 255).all()


def test_a_finished_set_is_opened_at_once_and_untouched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = make_films(tmp_path)
    prepare_set(manifest, tmp_path / "set", RECIPE)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "set").iterdir()}
    monkeypatch.setattr(build, "Workers", None)
    again = prepare_set(manifest, tmp_path / "set", RECIPE)
    assert len(again.images) == 6
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "set").iterdir()} == before


def test_a_folder_with_another_set_is_refused_with_both_recipes_named(tmp_path: Path) -> None:
    manifest = make_films(tmp_path)
    prepare_set(manifest, tmp_path / "set", RECIPE)
    with pytest.raises(ConfigError, match=r"size=32, .* but asked for is size=64, .* Choose another --out or remove"):
        prepare_set(manifest, tmp_path / "set", Recipe(size=64))
    with pytest.raises(ConfigError, match=r"draws=1, manifest \w{12}, but asked for is .*draws=1, manifest \w{12}\."):
        prepare_set(manifest.iloc[1:], tmp_path / "set", RECIPE)


INTERRUPTED = """
import sys
from pathlib import Path
import pandas as pd
import worker_functions
from cxrtriage.config import Recipe
from cxrtriage.data.prepared import build, unfinished
build.prepare_job = worker_functions.slow_job
unfinished.SECONDS_BETWEEN_CHECKPOINTS = 0.2
build.prepare_set(pd.read_parquet(sys.argv[1]), Path(sys.argv[2]), Recipe(size=32), draws=2, workers=2)
"""


def start_slowly(manifest: pd.DataFrame, out: Path) -> subprocess.Popen[bytes]:
    """Start preparing in a process of its own, 40 films a second, and wait until it has kept some."""
    table = out.with_suffix(".parquet")
    manifest.to_parquet(table)
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, table, out],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.DEVNULL,
    )
    end = time.monotonic() + 90
    while time.monotonic() < end and not lines_of(out / unfinished.JOURNAL) >= 3:
        time.sleep(0.02)
    assert process.poll() is None, "it ended before it could be interrupted"
    return process


def lines_of(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_set_is_no_set_and_goes_on_to_the_same_bytes(how: signal.Signals, tmp_path: Path) -> None:
    manifest = make_films(tmp_path / "films", 60)
    whole = prepare_set(manifest, tmp_path / "whole", RECIPE, draws=2)
    process = start_slowly(manifest, tmp_path / "set")
    with pytest.raises(ConfigError, match="another process is preparing"):
        prepare_set(manifest, tmp_path / "set", RECIPE, draws=2)
    process.send_signal(how)
    process.wait()
    with pytest.raises(SourceError, match="no finished prepared set"):
        open_prepared(tmp_path / "set")
    with pytest.raises(ValueError, match=r"."):
        np.load(tmp_path / "set" / "images.npy")
    with pytest.raises(ConfigError, match=r"holds an unfinished set made with size=32.*asked for is size=64"):
        prepare_set(manifest, tmp_path / "set", Recipe(size=64), draws=2)
    done = []
    prepare_rest = build.prepare_rest
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "prepare_rest", lambda u, *rest: (done.append(len(u.outcomes)), prepare_rest(u, *rest)))
        prepared = prepare_set(manifest, tmp_path / "set", RECIPE, draws=2)
    assert 0 < done[0] < 60
    assert (tmp_path / "set" / "images.npy").read_bytes() == (tmp_path / "whole" / "images.npy").read_bytes()
    pd.testing.assert_frame_equal(prepared.manifest, whole.manifest)


def interrupt_after(count: int, patch: pytest.MonkeyPatch) -> None:
    """Make the parent stop when it has received `count` films, all of which the journal has."""
    add = unfinished.UnfinishedSet.add

    def stopping(self: unfinished.UnfinishedSet, film: object) -> None:
        if len(self.outcomes) == count:
            raise KeyboardInterrupt
        add(self, film)  # type: ignore[arg-type]

    patch.setattr(unfinished, "SECONDS_BETWEEN_CHECKPOINTS", -1)
    patch.setattr(unfinished.UnfinishedSet, "add", stopping)


def interrupted(manifest: pd.DataFrame, out: Path, count: int = 3) -> None:
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(count, patch)
        with pytest.raises(KeyboardInterrupt):
            prepare_set(manifest, out, RECIPE)


@pytest.mark.parametrize("tear", ["torn line", "torn rows", "finished header"])
def test_what_a_power_cut_leaves_behind_is_done_again(tear: str, tmp_path: Path) -> None:
    manifest = make_films(tmp_path)
    whole = prepare_set(manifest, tmp_path / "whole", RECIPE)
    interrupted(manifest, tmp_path / "set")
    images, journal = tmp_path / "set" / "images.npy", tmp_path / "set" / unfinished.JOURNAL
    match tear:
        case "torn line":
            journal.write_bytes(journal.read_bytes()[:-10])
        case "torn rows":
            images.write_bytes(images.read_bytes() + b"half a row")
        case "finished header":
            images.write_bytes((tmp_path / "whole" / "images.npy").read_bytes()[:128] + images.read_bytes()[128:])
    prepared = prepare_set(manifest, tmp_path / "set", RECIPE)
    np.testing.assert_array_equal(prepared.images, whole.images)


def test_a_journal_of_another_version_is_told(tmp_path: Path) -> None:
    manifest = make_films(tmp_path)
    interrupted(manifest, tmp_path / "set")
    journal = tmp_path / "set" / unfinished.JOURNAL
    journal.write_bytes(journal.read_bytes().replace(b"downsample", b"sampling"))
    with pytest.raises(ConfigError, match=r"holds an unfinished set of another version\. Remove that folder\."):
        prepare_set(manifest, tmp_path / "set", RECIPE)


def test_a_set_that_another_process_just_finished_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = make_films(tmp_path)
    whole = prepare_set(manifest, tmp_path / "set", RECIPE)
    monkeypatch.setattr(build, "CARD", "looked for too early.json")
    with pytest.raises(ConfigError, match="another process has just finished"):
        prepare_set(manifest, tmp_path / "set", RECIPE)
    np.testing.assert_array_equal(open_prepared(tmp_path / "set").images, whole.images)


def test_rows_that_the_journal_has_but_the_disk_not_are_told(tmp_path: Path) -> None:
    manifest = make_films(tmp_path)
    interrupted(manifest, tmp_path / "set")
    (tmp_path / "set" / "images.npy").write_bytes(b"")
    with pytest.raises(SourceError, match=r"images\.npy is shorter than its journal says\. Remove"):
        prepare_set(manifest, tmp_path / "set", RECIPE)


def test_another_order_of_the_rows_starts_anew(tmp_path: Path) -> None:
    """The manifest's hash does not depend on the order of rows, the set does."""
    manifest = make_films(tmp_path)
    interrupted(manifest, tmp_path / "set")
    turned = manifest.iloc[::-1].reset_index(drop=True)
    prepared = prepare_set(turned, tmp_path / "set", RECIPE)
    assert prepared.manifest["path"].tolist() == turned["path"].tolist()
    np.testing.assert_array_equal(prepared.images[5], prepare_film(read_film(Path(manifest["path"].iloc[0])), RECIPE))


def test_bad_films_are_left_out_and_listed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    manifest = make_films(tmp_path)
    Path(manifest["path"].iloc[2]).write_bytes(b"II*\x00 no film")
    prepared = prepare_set(manifest, tmp_path / "set", RECIPE, max_rejected=0.2)
    assert prepared.manifest["path"].tolist() == manifest["path"].drop(index=2).tolist()
    np.testing.assert_array_equal(prepared.images[2], prepare_film(read_film(Path(manifest["path"].iloc[3])), RECIPE))
    assert f"left out: 1 of 6 films; {tmp_path / 'set' / 'rejects.csv'} says why" in caplog.text
    rejects = pd.read_csv(tmp_path / "set" / "rejects.csv")
    assert rejects["path"].tolist() == [manifest["path"].iloc[2]]
    assert rejects["reason"].str.startswith("cannot read").all()


def test_too_many_bad_films_fail_the_run_with_the_list_written_and_mended_ones_are_tried_again(tmp_path: Path) -> None:
    manifest = make_films(tmp_path)
    good = Path(manifest["path"].iloc[1]).read_bytes()
    for row in (1, 2):
        Path(manifest["path"].iloc[row]).write_bytes(b"")
    with pytest.raises(SourceError) as caught:
        prepare_set(manifest, tmp_path / "set", RECIPE, max_rejected=0.2)
    message = str(caught.value)
    assert "2 of 6 films cannot be prepared, more than the share of 0.2" in message
    assert "2 of them like this: cannot read" in message
    assert f"All are listed in {tmp_path / 'set' / 'rejects.csv'}." in message
    assert len(pd.read_csv(tmp_path / "set" / "rejects.csv")) == 2
    with pytest.raises(SourceError, match="no finished prepared set"):
        open_prepared(tmp_path / "set")
    Path(manifest["path"].iloc[1]).write_bytes(good)
    prepared = prepare_set(manifest, tmp_path / "set", RECIPE, max_rejected=0.2)
    assert prepared.manifest["path"].tolist() == manifest["path"].drop(index=2).tolist()
    np.testing.assert_array_equal(prepared.images[1], prepare_film(read_film(Path(manifest["path"].iloc[1])), RECIPE))


def test_a_set_of_nothing_is_no_set(tmp_path: Path) -> None:
    manifest = make_films(tmp_path)
    for path in manifest["path"]:
        Path(path).unlink()
    with pytest.raises(SourceError, match=r"6 of 6 films cannot be prepared\. 6 of them like this: cannot read"):
        prepare_set(manifest, tmp_path / "set", RECIPE, max_rejected=1)
    with pytest.raises(SourceError, match="the manifest has no rows"):
        prepare_set(manifest.iloc[:0], tmp_path / "other", RECIPE)


def test_an_unreadable_mask_rejects_its_film(tmp_path: Path) -> None:
    manifest = make_films(tmp_path)
    (tmp_path / "mask.png").write_bytes(b"no image")
    names = [str(tmp_path / "missing.png"), str(tmp_path / "mask.png"), None, None, None, None]
    manifest["lesion_mask"] = pd.Series(names, dtype="str")
    prepared = prepare_set(check_manifest(manifest), tmp_path / "set", RECIPE, max_rejected=0.5)
    assert len(prepared.images) == 4
    reasons = pd.read_csv(tmp_path / "set" / "rejects.csv")["reason"].tolist()
    assert "there is no such file" in reasons[0]
    assert "it is no image that can be decoded" in reasons[1]


def test_a_film_that_kills_its_process_costs_that_film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = make_films(tmp_path)
    bad = Path(manifest["path"].iloc[3])
    manifest.loc[3, "path"] = str(bad.rename(tmp_path / "bad.tif"))
    monkeypatch.setattr(build, "prepare_job", worker_functions.job_that_kills_on_bad)
    prepared = prepare_set(manifest, tmp_path / "set", RECIPE, max_rejected=0.2)
    assert prepared.manifest["path"].tolist() == manifest["path"].drop(index=3).tolist()
    assert "the process that read it was killed by SIGSEGV" in (tmp_path / "set" / "rejects.csv").read_text()


def test_columns_of_mixed_types_are_kept_as_text(tmp_path: Path) -> None:
    manifest = make_films(tmp_path)
    manifest["note"] = [1, "two", None, 4.5, "five", "six"]
    prepared = prepare_set(manifest, tmp_path / "set", RECIPE)
    assert prepared.manifest["note"].iloc[[0, 1, 3]].tolist() == ["1", "two", "4.5"]
    assert pd.isna(prepared.manifest["note"].iloc[2])


def test_too_little_space_is_told_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "free_bytes", lambda _: 6000)
    with pytest.raises(ConfigError, match=r"the set needs 0\.00 GiB more in .*, 0\.00 GiB are free"):
        prepare_set(make_films(tmp_path), tmp_path / "set", RECIPE)


def test_a_disk_that_fills_up_is_told_and_what_is_done_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", small], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here (needs root)")
    try:
        manifest = make_films(tmp_path / "films", 60)
        monkeypatch.setattr(build, "check_space", lambda *_: None)
        monkeypatch.setattr(unfinished, "SECONDS_BETWEEN_CHECKPOINTS", -1)
        recipe = Recipe(size=96)
        for _ in range(2):
            with pytest.raises(CxrTriageError, match=r"images\.npy: the disk is full .* what is done is kept"):
                prepare_set(manifest, small / "set", recipe)
        subprocess.run(["mount", "-o", "remount,size=2m", small], check=True)
        prepared = prepare_set(manifest, small / "set", recipe)
        np.testing.assert_array_equal(
            prepared.images[40], prepare_film(read_film(Path(manifest["path"].iloc[40])), recipe)
        )
        del prepared
    finally:
        subprocess.run(["umount", "--lazy", small], check=True)


@pytest.mark.parametrize(
    ("draws", "recipe", "split", "message"),
    [
        (2, Recipe(size=32, downsample="area"), True, "draws=2 with downsample=area would repeat"),
        (2, RECIPE, False, "the manifest has no column split"),
    ],
)
def test_draws_that_make_no_sense_are_refused(
    draws: int, recipe: Recipe, split: bool, message: str, tmp_path: Path
) -> None:
    manifest = make_films(tmp_path)
    with pytest.raises(ConfigError, match=message):
        prepare_set(manifest if split else manifest.drop(columns="split"), tmp_path / "set", recipe, draws=draws)


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cannot write into .*file/set: Not a directory"):
        prepare_set(make_films(tmp_path), tmp_path / "file" / "set", RECIPE)


def test_workers_load_neither_torch_nor_pandas(tmp_path: Path) -> None:
    manifest = make_films(tmp_path)
    jobs = [(RECIPE, FilmJob(path, 1, {})) for path in manifest["path"]]
    with Workers(1) as workers:
        modules = set().union(*workers.map(worker_functions.loaded_modules, jobs))
    assert not {"torch", "lightning", "pandas", "skimage", "matplotlib"} & modules


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_a_worker_stays_under_500_mb_with_films_of_3000_pixels(tmp_path: Path) -> None:
    film = np.random.default_rng(0).integers(0, 65536, (3000, 3000), dtype=np.uint16)
    path = str(write_tiff(tmp_path / "large.tif", film))
    recipes = [RECIPE, Recipe(size=512, downsample="area", crop_edges=True, mask_border=True)]
    with Workers(1) as workers:
        peaks = list(
            workers.map(worker_functions.peak_memory_mb, [(recipe, FilmJob(path, 2, {})) for recipe in recipes])
        )
    assert max(peaks) < 500


def test_a_mask_of_labels_holds_both_lungs(tmp_path: Path) -> None:
    labels = np.zeros((40, 60), np.uint8)
    labels[10:30, 5:25], labels[10:30, 35:55] = 1, 2
    cv2.imwrite(str(tmp_path / "labels.png"), labels)
    np.testing.assert_array_equal(read_mask(tmp_path / "labels.png"), labels > 0)
    soft = cv2.GaussianBlur(255 * (labels > 0).astype(np.uint8), (5, 5), 0)
    cv2.imwrite(str(tmp_path / "soft.png"), soft)
    np.testing.assert_array_equal(read_mask(tmp_path / "soft.png"), soft > 127.5)


def test_a_mask_is_turned_no_more_than_its_film(tmp_path: Path) -> None:
    image = Image.fromarray(film_pixels(100, 60, bits=8))
    turned = image.getexif()
    turned[0x0112] = 6  # EXIF's orientation: a quarter turn
    image.save(tmp_path / "a.jpg", exif=turned)
    assert read_mask(tmp_path / "a.jpg").shape == read_film(tmp_path / "a.jpg").pixels.shape == (100, 60)
