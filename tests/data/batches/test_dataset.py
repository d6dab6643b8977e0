"""Batches: the right films with the right targets, in an order that depends on seed and epoch only."""

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cxrtriage.data.batches.dataset import (
    FixedOrder,
    Part,
    TrainingOrder,
    class_targets,
    class_weights,
    draw_table,
    split_dataset,
)
from prepared_sets import make_prepared


def whole(dataset: object, draw: int = 0) -> Part:
    return Part(np.arange(len(dataset)), draw, 1.0)  # type: ignore[arg-type]


def test_a_batch_holds_the_films_and_labels_of_its_rows(tmp_path: Path) -> None:
    prepared = make_prepared(tmp_path, train=6, validation=2)
    dataset = split_dataset(prepared.images, prepared.manifest, "train", np.ones(2))
    batch = dataset[Part(np.array([4, 1, 3]), 0, 0.5)]
    assert batch.positions.tolist() == [1, 3, 4]  # in the order of the file
    np.testing.assert_array_equal(batch.films[:, 0].numpy(), prepared.images[[1, 3, 4]])
    assert batch.films.dtype == torch.uint8
    assert batch.truth.tolist() == [True, True, False]
    assert batch.targets.tolist() == [[0, 1], [0, 1], [1, 0]]
    assert float(batch.scale) == 0.5


def test_only_films_of_the_split_are_served(tmp_path: Path) -> None:
    prepared = make_prepared(tmp_path, train=6, validation=2)
    dataset = split_dataset(prepared.images, prepared.manifest, "validation", np.ones(2))
    np.testing.assert_array_equal(dataset[whole(dataset)].films[:, 0].numpy(), prepared.images[6:])


def test_a_pickled_dataset_opens_the_memory_map_again_instead_of_copying_it(tmp_path: Path) -> None:
    prepared = make_prepared(tmp_path, train=64)
    dataset = split_dataset(prepared.images, prepared.manifest, "train", np.ones(2))
    content = pickle.dumps(dataset)
    assert len(content) < 20_000 < prepared.images.nbytes
    again = pickle.loads(content)
    assert isinstance(again.images, np.memmap)
    assert torch.equal(again[whole(again)].films, dataset[whole(dataset)].films)


@given(
    films=st.integers(4, 60),
    steps=st.integers(1, 6),
    parts=st.sampled_from([1, 2, 4]),
    seed=st.integers(0, 5),
    epoch=st.integers(0, 3),
)
def test_an_epoch_takes_every_film_once_whatever_the_number_of_processes(
    films: int, steps: int, parts: int, seed: int, epoch: int
) -> None:
    steps = min(steps, films // 4)
    weights = np.random.default_rng(seed).uniform(0.5, 2, films)

    def epoch_of(rank: int, world: int) -> list[Part]:
        order = TrainingOrder(weights, 1, steps=steps, parts=parts, seed=seed, rank=rank, world=world)
        order.set_epoch(epoch)
        taken = list(order)
        assert len(taken) == len(order)
        return taken

    alone = epoch_of(0, 1)
    assert sorted(np.concatenate([part.positions for part in alone])) == list(range(films))
    sizes = [len(part.positions) for part in alone]
    assert max(sizes) - min(sizes) <= 2
    for world in {1, 2, parts} & {1, parts}:  # processes in turn make up the very same sequence
        shared = [epoch_of(rank, world) for rank in range(world)]
        interleaved = [part for together in zip(*shared, strict=True) for part in together]
        for ours, theirs in zip(alone, interleaved, strict=True):
            np.testing.assert_array_equal(ours.positions, theirs.positions)
            assert ours.scale == theirs.scale


def test_the_parts_of_a_step_add_up_to_the_weighted_mean_over_its_films() -> None:
    generator = np.random.default_rng(0)
    weights, losses = generator.uniform(0.1, 3, 21), generator.uniform(0, 2, 21)
    taken = list(TrainingOrder(weights, 1, steps=2, parts=4, seed=0))
    for step in (taken[:4], taken[4:]):
        # Lightning divides by the number of parts
        found = sum((weights[p.positions] * losses[p.positions]).sum() * p.scale for p in step) / 4
        films = np.concatenate([part.positions for part in step])
        assert found == pytest.approx(np.average(losses[films], weights=weights[films]))


def test_epochs_and_seeds_shuffle_differently() -> None:
    def first(seed: int, epoch: int) -> list[int]:
        order = TrainingOrder(np.ones(50), 1, steps=1, parts=1, seed=seed)
        order.set_epoch(epoch)
        return next(iter(order)).positions.tolist()

    assert first(0, 0) == first(0, 0)
    assert len({tuple(first(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_validation_films_come_once_and_in_order() -> None:
    shares = [list(FixedOrder(7, 2, rank=rank, world=2)) for rank in range(2)]
    assert [part.positions.tolist() for part in shares[0]] == [[0, 1], [2, 3]]
    assert [part.positions.tolist() for part in shares[1]] == [[4, 5], [6]]


def test_each_epoch_takes_one_draw_of_every_film(tmp_path: Path) -> None:
    prepared = make_prepared(
        tmp_path,
        train=6,
        validation=2,
        path=["a", "b", "a", "b", "a", "c", "v", "w"],
        draw=[0, 0, 1, 1, 2, 0, 0, 0],
        label=[1, 0, 1, 0, 1, 1, 0, 1],
    )
    table = draw_table(prepared.manifest, "train")
    assert table.tolist() == [[0, 2, 4], [1, 3, 1], [5, 5, 5]]  # films with fewer draws repeat them
    assert draw_table(prepared.manifest, "validation").tolist() == [[6], [7]]
    dataset = split_dataset(prepared.images, prepared.manifest, "train", np.ones(2))
    assert len(dataset) == 3
    np.testing.assert_array_equal(dataset[whole(dataset, draw=1)].films[:, 0].numpy(), prepared.images[[2, 3, 5]])
    order = TrainingOrder(dataset.weights, 3, steps=1, parts=1, seed=0)
    draws = []
    for epoch in range(4):
        order.set_epoch(epoch)
        draws += [part.draw for part in order]
    assert draws == [0, 1, 2, 0]


def test_the_readers_certainty_replaces_a_plain_label() -> None:
    manifest = pd.DataFrame({"label": [0, 1, 2, 1], "p_abnormal": [0.2, None, 0.7, 0.9]})
    np.testing.assert_allclose(class_targets(manifest, 2), [[0.8, 0.2], [0, 1], [0.3, 0.7], [0.1, 0.9]])
    np.testing.assert_allclose(class_targets(manifest, 3), [[0.8, 0.2, 0], [0, 1, 0], [0.3, 0, 0.7], [0.1, 0.9, 0]])


def test_class_weights_are_none_balanced_or_a_number() -> None:
    label = np.array([0, 0, 0, 1, 1, 2])
    assert class_weights(label, 2).tolist() == [1, 1]
    assert class_weights(label, 2, "balanced").tolist() == [1, 1]  # emergent counts as abnormal
    np.testing.assert_allclose(class_weights(label, 3, "balanced"), [6 / 9, 6 / 6, 6 / 3])
    assert class_weights(label, 3, 2.5).tolist() == [1, 2.5, 2.5]


def test_a_films_own_weight_multiplies_that_of_its_class(tmp_path: Path) -> None:
    prepared = make_prepared(tmp_path, train=4, validation=0, weight=[1.0, 2.0, None, 0.5])
    dataset = split_dataset(prepared.images, prepared.manifest, "train", np.array([1.0, 3.0]))
    assert dataset.weights.tolist() == [1, 6, 1, 1.5]
