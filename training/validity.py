"""Fit the node's small network that tells upright frontal chest films from others, and measure it.

    python -m training.validity DATA

Comes in: folders of real frontal films with a `labels.csv` each (see `docs/data.md`), phantoms, and what
`drawings` draws. Goes out: `src/cxrtriage/serve/validity/validity.safetensors`, and on standard output a
table of films that it never saw: how many real ones it refuses, set by set, and what it catches.

Patients are in one of three parts: 60 % to learn from, 15 % to choose the threshold on, 25 % to measure on.
What is turned, inverted or cut off is made of real films. Real laterals, hands and other bones are not
there: what is said of them is said of drawn ones. About three minutes on one processor.
"""

import argparse
import sys
from collections import defaultdict
from pathlib import Path
from zlib import crc32

import cv2
import numpy as np
import pandas as pd
import torch
from safetensors.numpy import save_file
from torch import nn

from cxrtriage.data.phantom.plan import FINDING_SHARES
from cxrtriage.serve.validity.network import CONVOLUTIONS, FRONTAL, KINDS, Network
from cxrtriage.serve.validity.thumbnail import SIDE as SMALL
from cxrtriage.serve.validity.thumbnail import thumbnail
from training import drawings
from training.drawings import SIDE, shrunk

OUT = Path(__file__).resolve().parents[1] / "src" / "cxrtriage" / "serve" / "validity" / "validity.safetensors"
PARTS = {"train": 0.6, "tune": 0.15, "test": 0.25}
MOST_FILMS = 1200  # of a set to learn from, one a patient, so that no set drowns the others
REFUSED = 0.005  # share of a set's tuning films that the threshold may refuse: half of what is bearable
CHANNELS = (12, 24, 48, 48)
EPOCHS, BATCH = 12, 64
CLEANED_AFTER = 6  # epochs; see `fit`
MISFILED = ("quarter turn", "upside down", "inverted", "lateral")
HELD_OUT_PICTURES = ("camera", "page", "chelsea", "grass", "moon", "coins")
# of each kind in an epoch, for each frontal film
SHARES = {"quarter turn": 0.3, "upside down": 0.25, "inverted": 0.3, "cut off": 0.35, "lateral": 0.3,
          "not a chest": 0.35, "no picture": 0.1}  # fmt: skip
DRAWN = {  # the kind, who draws it, how many to learn from
    "lateral": ("lateral", drawings.lateral, 400),
    "hand": ("not a chest", drawings.hand, 150),
    "long bones": ("not a chest", drawings.long_bones, 150),
    "belly": ("not a chest", drawings.belly, 150),
    "skull": ("not a chest", drawings.skull, 150),
    "picture": ("not a chest", drawings.picture, 300),
    "noise": ("no picture", drawings.noise, 300),
}


def main(data: Path) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    films = real_films(data)
    frontal = np.concatenate([part["train"] for part in films.values()] + [phantoms(300, seed=1)])
    drawn = draw(1, 1.0, tuple(set(drawings.PICTURES) - set(HELD_OUT_PICTURES)))
    network = fit(frontal, drawn)
    tuned = [network.probabilities(part["tune small"])[:, 0] for part in films.values()]
    # one film may be refused of a small set, too
    least_frontal = min(0.5, *(float(np.sort(likely)[max(1, int(REFUSED * len(likely)))]) for likely in tuned))
    network = Network(network.convolutions, network.weight, network.bias, least_frontal)
    save(network, OUT)
    print(f"{OUT.name}: {OUT.stat().st_size / 1000:.0f} kB, frontal from p = {least_frontal:.4f}\n")
    measure(Network.load(OUT), films, draw(2, 0.5, HELD_OUT_PICTURES))


def real_films(data: Path) -> dict[str, dict[str, np.ndarray]]:
    """Read the sets; to learn from, one film a patient.

    Returns
    -------
    name, then "train", "tune" or "test": (N, 96, 96) uint8 ranks; the same and "small": (N, 64, 64) uint8, the
    thumbnails that the node makes of the same films; the same and "labels": (N,) int
    """
    films: dict[str, dict[str, np.ndarray]] = {}
    for labels in sorted(data.glob("*/labels.csv")):
        table = pd.read_csv(labels)
        # one patient has the same number in `nih` and `nih128`
        place = table["patient_id"].map(lambda patient: crc32(patient.partition("-")[2].encode()) % 1000 / 1000)
        table["part"] = np.select([place < 0.6, place < 0.75], ["train", "tune"], "test")
        first = ~table["patient_id"].duplicated()
        films[labels.parent.name] = {}
        for part in PARTS:
            rows = table[(table["part"] == part) & (first | (part != "train"))]
            if part == "train":
                rows = rows.sample(min(MOST_FILMS, len(rows)), random_state=0)
            images = [cv2.imread(str(labels.parent / path), cv2.IMREAD_GRAYSCALE) for path in rows["path"]]
            films[labels.parent.name][part] = np.stack(list(map(shrunk, images)))
            films[labels.parent.name][f"{part} small"] = np.stack(list(map(thumbnail, images)))
            films[labels.parent.name][f"{part} labels"] = rows["label"].to_numpy()
    return films


def phantoms(count: int, seed: int) -> np.ndarray:
    """Draw frontal phantoms, half of them normal."""
    rng = np.random.default_rng(seed)
    findings = list(FINDING_SHARES)
    return np.stack(
        [drawings.frontal(rng, "normal" if n % 2 else findings[n // 2 % len(findings)]) for n in range(count)]
    )


def draw(seed: int, share: float, pictures: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Draw what is not frontal."""
    rng = np.random.default_rng(seed)
    drawn = {}
    for name, (_, drawing, count) in DRAWN.items():
        drawn[name] = np.stack(
            [
                drawings.picture(rng, tuple(sorted(pictures))) if name == "picture" else drawing(rng)
                for _ in range(int(count * share))
            ]
        )
    return drawn


def spoilt(kind: str, film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turn, invert or cut a film."""
    match kind:
        case "quarter turn":
            return np.rot90(film, rng.choice((1, 3)))
        case "upside down":
            return np.rot90(film, 2)
        case "inverted":
            return 255 - film
        case "cut off":
            half = rng.random() < 0.3
            share = rng.uniform(0.28, 0.5), 0.9 if half else rng.uniform(0.28, 0.5)
            height, width = (round(SIDE * part) for part in (share if rng.random() < 0.3 else share[::-1]))
            # mostly at an edge or in a corner
            row, column = (round((SIDE - side) * rng.beta(0.4, 0.4)) for side in (height, width))
            return cv2.resize(film[row : row + height, column : column + width], (SIDE, SIDE))
    return film


def moved(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a (64, 64) film as another technician might have taken it: shifted, turned, enlarged, blurred, marked."""
    angle, scale = np.clip(rng.normal(0, 4), -10, 10), rng.uniform(0.85, 1.2)
    if rng.random() < 0.07:
        scale = rng.uniform(0.55, 0.85)  # a child on a large detector
    matrix = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), angle, scale)
    matrix[0] *= rng.uniform(0.93, 1.07)
    matrix[:, 2] += rng.uniform(-0.06, 0.06, 2) * SIDE
    matrix *= SMALL / SIDE
    edge = cv2.BORDER_REPLICATE if rng.random() < 0.5 else cv2.BORDER_CONSTANT
    small = cv2.warpAffine(film, matrix, (SMALL, SMALL), borderMode=edge).astype(np.float32)
    if rng.random() < 0.5:
        small = np.ascontiguousarray(small[:, ::-1])
    if rng.random() < 0.15:  # a thick patient, whose shadow outweighs all else
        falling = np.linspace(-127, 127, SMALL)
        slopes = rng.normal(0, (1.2, 0.5))
        small = small * rng.uniform(0.3, 1) + slopes[0] * falling[:, None] + slopes[1] * falling[None, :]
        small -= small.min()
        small *= 255 / max(float(small.max()), 1.0)
    if rng.random() < 0.3:
        small = cv2.GaussianBlur(small, (0, 0), rng.uniform(0.3, 1))
    small = small + rng.uniform(0, 12) * rng.standard_normal(small.shape)
    if rng.random() < 0.25:  # collimated
        low, high = np.rint(SMALL * rng.uniform(0, 0.1, (2, 2))).astype(int)
        level = rng.choice((0, 255), p=(0.8, 0.2))
        small[: low[0]] = small[SMALL - high[0] :] = level
        small[:, : low[1]] = small[:, SMALL - high[1] :] = level
    for _ in range(rng.integers(3)):  # letters
        row, column = rng.integers(0, SMALL - 8, 2)
        small[row : row + rng.integers(2, 8), column : column + rng.integers(2, 8)] = rng.choice((0, 255))
    return cv2.equalizeHist(np.clip(small, 0, 255).astype(np.uint8))


def centred(films: np.ndarray) -> np.ndarray:
    """Return (N, 96, 96) films as (N, 64, 64) thumbnails, as the node makes them."""
    return np.stack([thumbnail(film) for film in films])


def epoch_of(
    frontal: np.ndarray, drawn: dict[str, np.ndarray], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the films of an epoch: (N, 64, 64) uint8 and (N,) the index in KINDS."""
    small = [moved(film, rng) for film in frontal]
    kinds = [0] * len(frontal)
    by_kind = defaultdict(list)
    for name, (kind, _, _) in DRAWN.items():
        by_kind[kind].append(drawn[name])
    for kind, share in SHARES.items():
        for _ in range(int(share * len(frontal))):
            if kind in by_kind:
                pool = by_kind[kind][rng.integers(len(by_kind[kind]))]
                film = pool[rng.integers(len(pool))]
                if kind == "not a chest" and rng.random() < 0.5:
                    film = np.rot90(film, rng.integers(4))
            else:
                film = spoilt(kind, frontal[rng.integers(len(frontal))], rng)
            small.append(moved(np.ascontiguousarray(film), rng))
            kinds.append(KINDS.index(kind))
    return np.stack(small), np.array(kinds)


def fit(frontal: np.ndarray, drawn: dict[str, np.ndarray]) -> Network:
    """Train, and return the weights as the node uses them.

    Of the real films about one in three hundred is itself turned, inverted or a lateral. Half way, when the
    network holds that likely, they are left out.
    """
    rng = np.random.default_rng(0)
    layers: list[nn.Module] = []
    for before, after in zip((1, *CHANNELS[:-1]), CHANNELS, strict=True):
        layers += [nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    linear = nn.Linear(CHANNELS[-1] * (SMALL // 2**CONVOLUTIONS) ** 2, len(KINDS))
    model = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.2), linear)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-3)
    steps = EPOCHS * (int(len(frontal) * (1 + sum(SHARES.values()))) // BATCH + 1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for epoch in range(EPOCHS):
        if epoch == CLEANED_AFTER:
            likely = folded(model.eval()).probabilities(centred(frontal))
            model.train()
            misfiled = np.isin(likely.argmax(axis=1), [KINDS.index(kind) for kind in MISFILED])
            misfiled &= likely[:, 0] < 0.05
            print(f"left out {misfiled.sum()} of {len(frontal)}", file=sys.stderr)
            frontal = frontal[~misfiled]
        films, kinds = epoch_of(frontal, drawn, rng)
        losses = []
        for batch in np.array_split(rng.permutation(len(films)), len(films) // BATCH):
            inputs = torch.from_numpy(films[batch][:, None]).float() / 255 - 0.5
            loss = nn.functional.cross_entropy(model(inputs), torch.from_numpy(kinds[batch]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1} of {EPOCHS}: loss {np.mean(losses):.4f}", file=sys.stderr)
    return folded(model.eval())


def folded(model: nn.Sequential) -> Network:
    """Return a trained model with its normalisations folded into the convolutions."""
    convolutions = []
    for convolution, norm in zip(model[0::3], model[1::3], strict=False):
        if not isinstance(convolution, nn.Conv2d):
            break
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        weight = convolution.weight * scale[:, None, None, None]
        bias = norm.bias - norm.running_mean * scale
        convolutions.append((weight.detach().numpy(), bias.detach().numpy()))
    linear = model[-1]
    return Network(tuple(convolutions), linear.weight.detach().numpy(), linear.bias.detach().numpy(), 0.5)


def save(network: Network, path: Path) -> None:
    """Write the weights at half precision, the threshold at single."""
    tensors = {"linear.weight": network.weight, "linear.bias": network.bias}
    for n, (weight, bias) in enumerate(network.convolutions):
        tensors |= {f"convolution{n}.weight": weight, f"convolution{n}.bias": bias}
    stored = {name: np.ascontiguousarray(tensor.astype(np.float16)) for name, tensor in tensors.items()}
    save_file({**stored, "least_frontal": np.array([network.least_frontal], np.float32)}, path)


def measure(network: Network, films: dict[str, dict[str, np.ndarray]], drawn: dict[str, np.ndarray]) -> None:
    """Print what the network says of films that it never saw."""

    def refused(small: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        likely = network.probabilities(small)
        return likely[:, 0] < network.least_frontal, 1 + likely[:, 1:].argmax(axis=1)

    print("| real and upright, of | films | refused | of the normal | of the abnormal |\n|---|---|---|---|---|")
    for name, part in [*films.items(), ("phantoms", {"test small": centred(phantoms(100, seed=2))})]:
        out, _ = refused(part["test small"])
        labels = part.get("test labels", np.zeros(len(out)))
        shares = [f"{out[which].mean():.2%}" if which.any() else "" for which in (labels == 0, labels > 0)]
        print(f"| {name} | {len(out)} | {out.mean():.2%} | {' | '.join(shares)} |")
    print("\n| not upright frontal chests | films | refused | named rightly |\n|---|---|---|---|")
    rng = np.random.default_rng(3)
    for name, part in films.items():
        for kind in ("quarter turn", "upside down", "inverted", "cut off"):
            chosen = part["test"][rng.permutation(len(part["test"]))[:300]]
            _print_caught(f"{name}, {kind}", KINDS.index(kind), *refused(
                centred(np.stack([spoilt(kind, film, rng) for film in chosen]))
            ))  # fmt: skip
    for name, (kind, _, _) in DRAWN.items():
        _print_caught(f"{name}, drawn", KINDS.index(kind), *refused(centred(drawn[name])))


def _print_caught(name: str, kind: int, out: np.ndarray, kinds: np.ndarray) -> None:
    print(f"| {name} | {len(out)} | {out.mean():.1%} | {(out & (kinds == kind)).mean():.1%} |")


if __name__ == "__main__":
    assert KINDS[0] == FRONTAL
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, help="folder of sets, each with images and a labels.csv")
    main(parser.parse_args().data)
