"""Opposite-label images: films changed, pixel by pixel, until the network calls them the opposite.

In come a model, prepared films and where each is to be driven to; out go the changed films. The network's weights stay
fixed, and the loss of the opposite label goes back to the pixels, as in the 2017 study (section 5.5, figures 5 to 8).
`explaining` and `cases` show the pictures, `attribution` and `measuring` use where they differ.

Every step looks at the picture *rounded to 8 bits*: what the network is sure of is a film that can be saved, sent and
scored again, not a fraction of a grey level that disappears on the way.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from cxrtriage.explain.logit import AbnormalLogit, check_films, exact, film_tensor
from cxrtriage.model.bundle import Model
from cxrtriage.predict import calibrate

CONFIDENCE = 0.95
STEPS = 100
FILMS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Form:
    """How a film may change.

    Parameters
    ----------
    step : change a step, as the root of the mean square over a film's pixels, in grey levels of 255
    total_variation : pull towards an even change, as a multiple of the pull of the loss; 0 for none
    jitter : the network sees the film moved by up to this share of the side, anew at each step, so that no change can
        rely on the exact place of a pixel
    blur : the change of a step is smoothed by a Gaussian whose standard deviation is this share of the side
    most : grey levels by which a pixel may differ from where it began; black and white bound it in any case
    """

    step: float = 0.5
    total_variation: float = 0.0
    jitter: float = 0.0
    blur: float = 0.0
    most: float = 255.0


PLAIN = Form()  # the study's: nothing but the gradient
FILM_LIKE = Form(step=1.0, total_variation=0.05, jitter=1 / 64, blur=1 / 64, most=96.0)


@dataclass(frozen=True, slots=True)
class OppositeImages:
    """Films before and after, and how the network's mind changed.

    Parameters
    ----------
    before : (N, S, S) uint8
    after : (N, S, S) uint8; where `reached` is False, as far as the steps went
    target : (N,) int, 0 driven to normal, 1 to abnormal
    probability : (N, steps + 1) float64, calibrated, of abnormal: before the first step, after it, and so on; nan once
        a film had reached its target
    goal : (N,) float64, the calibrated probability of abnormal at which a film has reached its target
    steps : (N,) int, steps taken; 0 where the film was there already
    reached : (N,) bool, whether the network came to be as sure of the target as asked for
    """

    before: np.ndarray
    after: np.ndarray
    target: np.ndarray
    probability: np.ndarray
    goal: np.ndarray
    steps: np.ndarray
    reached: np.ndarray

    @property
    def difference(self) -> np.ndarray:
        """After less before, (N, S, S) int16 grey levels in [-255, 255]."""
        return np.asarray(self.after.astype(np.int16) - self.before)

    @property
    def probability_before(self) -> np.ndarray:
        """Calibrated probability of abnormal of `before`, (N,) float64."""
        return self.probability[:, 0]

    @property
    def probability_after(self) -> np.ndarray:
        """Calibrated probability of abnormal of `after`, (N,) float64."""
        return np.asarray(self.probability[np.arange(len(self.steps)), self.steps])


def opposite_images(
    model: Model,
    images: np.ndarray,
    target: np.ndarray,
    *,
    confidence: float = CONFIDENCE,
    steps: int = STEPS,
    form: Form = PLAIN,
    seed: int = 0,
) -> OppositeImages:
    """Drive each film to a label, until the network is sure of it or the steps are used up.

    A step goes down the gradient of the target's loss, brought to the same size for every film. Films of a batch go
    together, and each stops by itself; none depends on its neighbours, beyond the rounding of fp32.

    Parameters
    ----------
    model : from `load_model`, with 2 or 3 classes (abnormal then means abnormal or emergent), on any device
    images : (N, S, S) uint8, prepared by the model's recipe, or noise
    target : (N,) int, 0 normal or 1 abnormal
    confidence : the network's own probability of the target at which a film stops, in (0.5, 1). Its own, as in the
        study: calibration would ask of a weak network what none of its films, however plain, ever gets
    steps : most steps
    form : `PLAIN`, `FILM_LIKE` or your own
    seed : of the jitter

    Raises
    ------
    ValueError
        If the films, targets or options are not as above.

    References
    ----------
    Simonyan, Vedaldi, Zisserman. Deep inside convolutional networks. ICLR workshop 2014 (arXiv 1312.6034).
    Mahendran, Vedaldi. Understanding deep image representations by inverting them. CVPR 2015 (total variation, jitter).

    Examples
    --------
    >>> from cxrtriage import load_model  # doctest: +SKIP
    >>> model = load_model(Path("fitted/run/model.safetensors"))  # doctest: +SKIP
    >>> opposite_images(model, noise_films(4, 144), np.array([0, 0, 1, 1])).reached  # doctest: +SKIP
    """
    check_films(model, images)
    target = np.asarray(target)
    if target.shape != (len(images),) or not np.isin(target, (0, 1)).all():
        raise ValueError(f"expected a target of 0 or 1 for each of {len(images)} films, got {target}")
    if not 0.5 < confidence < 1:
        raise ValueError(f"expected a confidence in (0.5, 1), got {confidence}")
    toward = np.where(target == 1, 1.0, -1.0)  # the direction of the abnormal logit
    enough = float(np.log(confidence / (1 - confidence)))
    after = np.array(images)
    logit = np.full((len(images), steps + 1), np.nan)
    for start in range(0, len(images), FILMS_AT_ONCE):
        chosen = slice(start, start + FILMS_AT_ONCE)
        after[chosen], logit[chosen] = _drive(model, images[chosen], toward[chosen], enough, steps, form, seed)
    taken = np.sum(~np.isnan(logit), axis=1) - 1
    return OppositeImages(
        before=np.array(images),
        after=after,
        target=target,
        probability=calibrate(logit, model.card.calibration),
        goal=calibrate(toward * enough, model.card.calibration),
        steps=taken,
        reached=toward * logit[np.arange(len(images)), taken] >= enough,
    )


def noise_films(count: int, size: int, form: Form = PLAIN, seed: int = 0) -> np.ndarray:
    """Return films of random noise, (count, S, S) uint8, each grey level equally frequent, as on an equalised film.

    The noise of the study's plain form is independent from pixel to pixel; that of a form whose changes are blurred is
    as smooth as they are.
    """
    noise = np.random.default_rng(seed).normal(size=(count, size, size))
    spread = form.blur * size
    ranks = gaussian_filter(noise, sigma=(0, spread, spread), mode="wrap").reshape(count, -1).argsort().argsort()
    return np.asarray(256 * ranks // size**2, np.uint8).reshape(count, size, size)


def _drive(
    model: Model, images: np.ndarray, toward: np.ndarray, enough: float, steps: int, form: Form, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Drive a batch up (`toward` 1) or down (-1) until its logits are `enough` above or below 0.

    Returns
    -------
    The films after, (N, S, S) uint8, and the abnormal logit along the way, (N, steps + 1).
    """
    abnormal_logit = AbnormalLogit(model.network)
    films = film_tensor(model, images) * 255  # (N, 1, S, S) grey levels, not rounded
    begun = films.clone()
    along = np.full((len(images), steps + 1), np.nan)
    active = np.arange(len(images))
    random = np.random.default_rng(seed)
    with exact():
        for step in range(steps + 1):
            shown = (films[active].round() / 255).requires_grad_()
            with torch.set_grad_enabled(not form.jitter):  # with jitter, the gradient is that of the moved film, below
                logit = abnormal_logit(shown)
            along[active, step] = logit.detach().cpu().double().numpy()
            unsure = toward[active] * along[active, step] < enough
            active = active[unsure]
            if not len(active) or step == steps:
                break
            if form.jitter:  # drawn once a step for all films, so that a film does not depend on its neighbours
                reach = round(form.jitter * images.shape[-1])
                down, right = random.integers(-reach, reach + 1, 2).tolist()
                logit = abnormal_logit(torch.roll(shown, (down, right), (2, 3)))
            (gradient,) = torch.autograd.grad(logit.sum(), shown)
            gradient = gradient[torch.from_numpy(unsure)]
            # The loss of the target is softplus(-z) or softplus(z) of the logit z; its gradient points along that of z,
            # up or down, and since each step is brought to one size only this direction counts.
            uphill = gradient * torch.from_numpy(toward[active]).to(gradient).view(-1, 1, 1, 1)
            moved = films[active] + _step(uphill, films[active] - begun[active], form)
            nearest, farthest = begun[active] - form.most, begun[active] + form.most
            films[active] = moved.clamp(nearest, farthest).clamp(0, 255)
    return films.round()[:, 0].to(torch.uint8).cpu().numpy(), along


def _step(uphill: Tensor, change: Tensor, form: Form) -> Tensor:
    """Return what is added to the films, (N, 1, S, S) in grey levels.

    Parameters
    ----------
    uphill : (N, 1, S, S), the direction in which the target becomes likelier
    change : (N, 1, S, S) grey levels, what was added so far
    form : see `Form`
    """
    direction = _unit(uphill)
    if form.total_variation:
        direction = _unit(direction - form.total_variation * _variation_gradient(change))
    if form.blur:
        spread = form.blur * uphill.shape[-1]
        direction = _unit(gaussian_blur(direction, [2 * round(3 * spread) + 1] * 2, [spread] * 2))
    return form.step * direction


def _unit(films: Tensor) -> Tensor:
    """Return the films scaled to a root mean square of 1 each; a film of zeros stays as it is."""
    size = films.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    return films / size.clamp_min(torch.finfo(films.dtype).tiny)


def _variation_gradient(change: Tensor) -> Tensor:
    """Return the gradient of the total variation: sum over pixels of sqrt(dx^2 + dy^2 + 1), in grey levels."""
    change = change.detach().requires_grad_()
    down = torch.nn.functional.pad(change.diff(dim=2), (0, 0, 0, 1))
    right = torch.nn.functional.pad(change.diff(dim=3), (0, 1))
    # the 1 under the root, a grey level, rounds the corner at 0, where the gradient would jump
    (gradient,) = torch.autograd.grad((down.square() + right.square() + 1).sqrt().sum(), change)
    return gradient
