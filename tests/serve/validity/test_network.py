"""The numpy network against torch, thumbnails against ranks counted by hand, and the packaged weights on films."""

import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cxrtriage.records import SourceImage
from cxrtriage.serve import validity
from cxrtriage.serve.validity.finding import finding_against
from cxrtriage.serve.validity.network import KINDS, packaged_network
from cxrtriage.serve.validity.thumbnail import SIDE, ranked, thumbnail
from films import REAL_FILMS, film_pixels


@given(arrays(np.int16, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(-5, 5)))
def test_ranks_count_what_is_darker_and_half_of_what_is_equal(film: np.ndarray) -> None:
    expected = [[np.mean(film < level) + np.mean(film == level) / 2 for level in row] for row in film]
    assert np.abs(ranked(film) - 255 * np.array(expected)).max() <= 0.5 + 1e-6


@pytest.mark.parametrize("shape", [(32, 32), (40, 150), (64, 64), (300, 260), (1500, 1100)])
def test_a_thumbnail_of_any_film_is_of_one_size_and_does_not_know_depth_or_sign(shape: tuple[int, int]) -> None:
    film = film_pixels(*shape)
    small = thumbnail(film)
    assert (small.shape, small.dtype) == ((SIDE, SIDE), np.uint8)
    signed = film.astype(np.int16) - 2048
    assert np.abs(thumbnail(signed).astype(int) - small).max() <= 1
    assert np.abs(thumbnail(film.astype(np.uint16) * 16).astype(int) - small).max() <= 1


def test_numpy_computes_what_torch_computes() -> None:
    network = packaged_network()
    films = np.random.default_rng(0).integers(0, 256, (5, SIDE, SIDE), dtype=np.uint8)
    values = torch.from_numpy(films[:, None]).float() / 255 - 0.5
    for weight, bias in network.convolutions:
        values = torch.relu(
            torch.nn.functional.conv2d(values, torch.from_numpy(weight), torch.from_numpy(bias), stride=2, padding=1)
        )
    logits = values.flatten(1) @ torch.from_numpy(network.weight).T + torch.from_numpy(network.bias)
    np.testing.assert_allclose(network.probabilities(films), logits.softmax(1).numpy(), atol=1e-5)


def test_the_packaged_network_is_small_and_knows_every_kind() -> None:
    network = packaged_network()
    assert network.bias.shape == (len(KINDS),)
    assert 0 < network.least_frontal <= 0.5
    path = Path(validity.__file__).with_name("validity.safetensors")
    assert path.stat().st_size < 300_000


def test_a_film_of_nine_million_pixels_takes_less_than_twenty_milliseconds() -> None:
    source = SourceImage(np.random.default_rng(0).integers(0, 1 << 14, (3000, 3000), dtype=np.uint16), 14)
    taken = []
    for _ in range(5):
        started = time.thread_time()
        finding_against(source)
        taken.append(time.thread_time() - started)
    assert min(taken) < 0.02


@pytest.mark.parametrize("level", [0, 1000])
def test_a_nearly_blank_film_is_refused(level: int) -> None:
    pixels = np.random.default_rng(0).normal(level + 20, 4, (512, 512)).astype(np.uint16)
    assert finding_against(SourceImage(pixels, 12)) == "the film looks blank or like noise"


def test_of_real_upright_frontal_films_nearly_none_is_refused() -> None:
    """On all films, also those it learnt from; `training.validity` measures on others."""
    for name in ("nih", "nih128", "shenzhen", "guangzhou"):
        folder = REAL_FILMS / name
        if not folder.exists():
            pytest.skip("the real films are not here")
        paths = pd.read_csv(folder / "labels.csv")["path"].iloc[::10]
        films = [thumbnail(cv2.imread(str(folder / path), cv2.IMREAD_GRAYSCALE)) for path in paths]
        likely = packaged_network().probabilities(np.stack(films))[:, 0]
        assert (likely < packaged_network().least_frontal).sum() <= 2 + 0.01 * len(films)  # some are misfiled
        inverted = packaged_network().probabilities(np.stack([255 - film for film in films]))[:, 0]
        assert (inverted < packaged_network().least_frontal).mean() >= 0.97
