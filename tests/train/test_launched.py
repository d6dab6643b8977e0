"""Training under torchrun, and as SLURM starts it: the documented commands, with real processes on this machine."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxrtriage.config import Recipe
from cxrtriage.data.phantom import make_phantoms
from cxrtriage.data.prepared.build import prepare_set

pytestmark = pytest.mark.slow  # a minute each: every process loads PyTorch and trains GoogLeNet

TRAIN = [sys.executable, "-m", "cxrtriage", "train"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "cxrtriage", "train"]
OPTIONS = ["--epochs", "3", "--batch", "12", "--devices", "2"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    manifest = pd.read_csv(make_phantoms(folder, 35, 256, workers=1))[["path", "label"]]
    manifest["path"] = [str(folder / path) for path in manifest["path"]]
    manifest["split"] = np.where(np.arange(35) < 24, "train", "validation")
    return prepare_set(manifest, folder / "prepared", Recipe(size=128), workers=1).path


@pytest.fixture(scope="module")
def history(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Of two processes that torchrun has started."""
    out = tmp_path_factory.mktemp("torchrun") / "run"
    subprocess.run([*TORCHRUN, str(prepared), "--out", str(out), *OPTIONS], check=True)
    assert (out / "model.safetensors").exists()
    return history_of(out)


def history_of(out: Path) -> pd.DataFrame:
    return pd.read_csv(out / "history.csv").drop(columns="seconds")


def test_a_run_under_torchrun_ends_at_sigterm_and_goes_on_where_it_was(
    prepared: Path, history: pd.DataFrame, tmp_path: Path
) -> None:
    command = [*TORCHRUN, str(prepared), "--out", str(tmp_path / "run"), *OPTIONS]
    run = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while not (tmp_path / "run" / "history.csv").exists():
        assert run.poll() is None
        time.sleep(0.1)
    began = time.monotonic()
    run.send_signal(signal.SIGTERM)
    assert run.wait() != 0
    assert time.monotonic() - began < 25  # torchrun kills after 30 s what does not end by itself, SLURM too
    assert 1 <= len(history_of(tmp_path / "run")) < 3
    subprocess.run(command, check=True)
    pd.testing.assert_frame_equal(history_of(tmp_path / "run"), history)


def test_two_tasks_of_slurm_train_like_two_of_torchrun(prepared: Path, history: pd.DataFrame, tmp_path: Path) -> None:
    """The variables are those that srun sets."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    job = {
        "SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_STEP_NUM_TASKS": "2", "SLURM_NODELIST": "127.0.0.1", "SLURM_NODEID": "0", "MASTER_PORT": str(port),
    }  # fmt: skip
    command = [*TRAIN, str(prepared), "--out", str(tmp_path / "run"), *OPTIONS]
    tasks = [
        subprocess.Popen(command, env={**os.environ, **job, "SLURM_PROCID": rank, "SLURM_LOCALID": rank})
        for rank in ("0", "1")
    ]
    assert [task.wait() for task in tasks] == [0, 0]
    pd.testing.assert_frame_equal(history_of(tmp_path / "run"), history)
