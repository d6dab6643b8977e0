"""A Ray cluster of several nodes on this machine: order, errors, deaths, and sets that equal those of one machine."""

import logging
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

import worker_functions
from cxrtriage.cli import app
from cxrtriage.config import Recipe
from cxrtriage.data.prepared import build, cluster
from cxrtriage.data.prepared.build import prepare_set
from cxrtriage.data.prepared.cluster import Cluster
from cxrtriage.data.prepared.workers import Died
from cxrtriage.errors import ConfigError
from films import film_pixels, write_png
from ray_nodes import RAY_LEAVES_BEHIND, Nodes, ray_nodes

pytest.importorskip("ray")
pytestmark = pytest.mark.filterwarnings(RAY_LEAVES_BEHIND)

RECIPE = Recipe(size=128)
FILMS = 60


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with ray_nodes() as started:
        yield started


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Films of which one is text, one is missing, and every third has a mask."""
    folder = tmp_path_factory.mktemp("films")
    paths = [write_png(folder / f"{n}.png", film_pixels(200, 160, seed=n)) for n in range(FILMS)]
    paths[7].write_text("not a film")
    paths[20].unlink()
    mask = write_png(folder / "mask.png", film_pixels(200, 160, bits=8))
    return pd.DataFrame(
        {
            "path": [str(path) for path in paths],
            "label": [n % 2 for n in range(FILMS)],
            "split": ["train", "test"] * (FILMS // 2),
            "lung_mask": [str(mask) if n % 3 == 0 else None for n in range(FILMS)],
        }
    )


@pytest.fixture(scope="module")
def of_one_machine(manifest: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_set(manifest, tmp_path_factory.mktemp("one") / "prepared", RECIPE, draws=2).path


def content(folder: Path) -> dict[str, bytes]:
    """Return the files of a set; its card tells the time that it took, so it is left out."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "prepared.json"}


def no_files(_: object) -> tuple[str, ...]:
    return ()


@pytest.mark.parametrize("count", [1, 3])
def test_a_set_has_the_same_bytes_whatever_the_number_of_nodes(
    nodes: Nodes, manifest: pd.DataFrame, of_one_machine: Path, tmp_path: Path, count: int
) -> None:
    nodes.set_count(count)
    prepared = prepare_set(manifest, tmp_path / "prepared", RECIPE, draws=2, cluster=nodes.address)
    assert content(prepared.path) == content(of_one_machine)
    assert {"images.npy", "lung_masks.npy", "manifest.parquet", "rejects.csv"} == set(content(prepared.path))
    rejects = pd.read_csv(prepared.path / "rejects.csv")["path"].map(lambda path: Path(path).name)
    assert rejects.tolist() == ["7.png", "20.png"]


def test_what_was_begun_on_a_cluster_goes_on_on_one_machine(
    nodes: Nodes, manifest: pd.DataFrame, of_one_machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = build.UnfinishedSet.add

    def interrupted_add(self: build.UnfinishedSet, film: object) -> None:
        if len(self.outcomes) == 25:
            self.checkpoint()
            raise KeyboardInterrupt
        add(self, film)  # type: ignore[arg-type]

    monkeypatch.setattr(build.UnfinishedSet, "add", interrupted_add)
    with pytest.raises(KeyboardInterrupt):
        prepare_set(manifest, tmp_path / "prepared", RECIPE, draws=2, cluster=nodes.address)
    monkeypatch.undo()
    assert content(prepare_set(manifest, tmp_path / "prepared", RECIPE, draws=2).path) == content(of_one_machine)


def test_the_command_takes_the_address_of_a_cluster_and_relative_paths(
    nodes: Nodes, manifest: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest.iloc[:5][["path", "label"]].to_csv(tmp_path / "manifest.csv", index=False)
    folder = Path(manifest["path"][0]).parent
    monkeypatch.chdir(folder.parent)
    table = manifest.iloc[:5][["path", "label"]].assign(path=[f"{folder.name}/{n}.png" for n in range(5)])
    table.to_csv("manifest.csv", index=False)
    done = CliRunner().invoke(
        app, ["prepare", "manifest.csv", "--out", str(tmp_path / "s"), "--cluster", nodes.address]
    )
    assert done.exit_code == 0, done.output
    assert pd.read_csv(tmp_path / "s" / "rejects.csv").empty
    done = CliRunner().invoke(app, ["prepare", "m.csv", "--out", "s", "--cluster", "auto", "--workers", "2"])
    assert "--workers counts the processes of one machine" in str(done.exception)


def test_results_come_in_order_and_a_death_costs_the_item_that_caused_it(nodes: Nodes) -> None:
    nodes.set_count(2)
    with Cluster(nodes.address, no_files) as connected:
        assert list(connected.map(worker_functions.slow_if_first, range(200))) == list(range(200))
        results = list(connected.map(worker_functions.die_on_13, range(40)))
    assert results[13] == Died("killed")
    assert [result for result in results if result != results[13]] == [number for number in range(40) if number != 13]


def test_no_more_groups_are_given_out_than_the_processors_will_soon_need(nodes: Nodes, tmp_path: Path) -> None:
    nodes.set_count(2)
    with Cluster(nodes.address, no_files) as connected:
        marks = [tmp_path / str(number) for number in range(1000)]
        results = connected.map(Path.touch, marks)
        for _ in range(cluster.ITEMS_A_GROUP):
            next(results)
        time.sleep(0.5)  # long enough for all, were they not held back
        ahead = 2 * cluster.GROUPS_AHEAD * cluster.ITEMS_A_GROUP
        assert cluster.ITEMS_A_GROUP <= len(list(tmp_path.iterdir())) <= ahead


def test_what_a_function_raises_is_raised_to_the_caller(nodes: Nodes) -> None:
    with Cluster(nodes.address, no_files) as connected, pytest.raises(LookupError, match="three"):
        list(connected.map(worker_functions.raise_on_3, range(9)))


def test_a_film_that_a_node_does_not_see_is_told_as_such(nodes: Nodes) -> None:
    """The files of a process's own folder in /proc are no other process's."""
    unseen = f"/proc/self/task/{os.getpid()}"
    assert Path(unseen).exists()
    message = rf"of the Ray cluster does not see {unseen}, which is there on this machine\. Put the films"
    with Cluster(nodes.address, lambda _: (unseen,)) as connected, pytest.raises(ConfigError, match=message):
        list(connected.map(worker_functions.double, range(9)))
    with Cluster(nodes.address, lambda _: ("/nowhere",)) as connected:  # neither here nor there: missing
        assert list(connected.map(worker_functions.double, [1])) == [2]


def test_a_node_with_other_versions_is_refused(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "versions", lambda: {"OpenCV": "0.1"})
    message = r"of the Ray cluster has OpenCV \d\S+, this machine 0\.1\. Install the same versions"
    with Cluster(nodes.address, no_files) as connected, pytest.raises(ConfigError, match=message):
        list(connected.map(worker_functions.double, range(9)))


def test_a_node_without_the_package_is_told(nodes: Nodes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "only_here.py").write_text("def double(item): return 2 * item\n")
    monkeypatch.syspath_prepend(tmp_path)
    import only_here  # type: ignore[import-not-found]

    with Cluster(nodes.address, no_files) as connected:
        (tmp_path / "only_here.py").unlink()  # nodes on one machine would find it
        with pytest.raises(ConfigError, match=r"has no Python module only_here\. Install cxrtriage"):
            list(connected.map(only_here.double, range(9)))


def test_other_versions_of_ray_are_refused_in_one_sentence(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.__version__", "1.0.0")
    message = r"^cannot use the Ray cluster '\S+': Version mismatch.*Ray: \d.*Ray: 1\.0\.0"
    with pytest.raises(ConfigError, match=message) as caught:
        Cluster(nodes.address, no_files)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:9", r"no Ray cluster answers at 127\.0\.0\.1:9 \(Connection refused\)\. Start it with 'ray start"),
        ("ray://127.0.0.1:9", r"no Ray cluster answers at ray://127\.0\.0\.1:9"),
        ("nonsense", r"--cluster is 'nonsense', expected auto, local, HOST:PORT or ray://HOST:PORT\."),
    ],
)
def test_an_address_at_which_nothing_answers_is_told_at_once(address: str, message: str) -> None:
    began = time.monotonic()
    with pytest.raises(ConfigError, match=message):
        Cluster(address, no_files)
    assert time.monotonic() - began < 60  # Ray itself would try for three minutes


def test_without_ray_the_message_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"not installed\. Install it with: pip install 'cxrtriage\[cluster\]'"):
        Cluster("auto", no_files)


def test_a_node_killed_in_the_middle_costs_time_only(
    nodes: Nodes,
    manifest: pd.DataFrame,
    of_one_machine: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The last test, since the node stays dead."""
    nodes.set_count(2)
    monkeypatch.setattr(build, "prepare_job", worker_functions.job_that_waits_until_killed)
    killed = Path(manifest["path"][0]).with_name(worker_functions.KILLED)
    with caplog.at_level(logging.INFO, "cxrtriage"), nodes.killing_last_once_busy(killed):
        prepared = prepare_set(manifest, tmp_path / "prepared", RECIPE, draws=2, cluster=nodes.address)
    assert "a machine of the cluster is gone" in caplog.text
    assert content(prepared.path) == content(of_one_machine)
