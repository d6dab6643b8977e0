"""Where the lungs are on a prepared film, and the film cut down to them.

In comes a batch of prepared films, out go the same films cropped to the lungs at a size of their own. What lies
around the lungs (markers, collimation, shoulders, the chin of a small child) tells the hospital and the projection
rather than the disease, so the packaged network (`lung_lite`) never sees it.
"""

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)
from torch import Tensor, nn

FINDER_SIZE = 128  # side in pixels at which the lungs are looked for
FINDER_WIDTHS = (8, 16, 32, 48, 64)
TAIL = 0.02  # share of the lungs' area that a box leaves out on each side, so that a stray pixel cannot stretch it
MARGIN = 0.05  # of the box's width and height, added on each side
FEWEST_PIXELS = 300  # of FINDER_SIZE squared; with less lung than that the box is `USUAL_BOX`
USUAL_BOX = (0.05, 0.05, 0.95, 0.9)  # left, top, right, bottom as shares of the film


class LungFinder(nn.Module):
    """A small U-Net: (B, 1, 128, 128) films in [0, 1] -> (B, 1, 128, 128) logits of lung.

    References
    ----------
    Ronneberger, Fischer, Brox. U-Net: convolutional networks for biomedical image segmentation. MICCAI 2015.
    """

    def __init__(self) -> None:
        super().__init__()
        widths = FINDER_WIDTHS
        self.down = nn.ModuleList(_block(before, after) for before, after in zip((1, *widths), widths, strict=False))
        self.up = nn.ModuleList(
            _block(below + beside, beside) for below, beside in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.out = nn.Conv2d(widths[0], 1, 1)

    def forward(self, films: Tensor) -> Tensor:
        kept = [self.down[0](films)]
        for block in self.down[1:]:
            kept.append(block(F.max_pool2d(kept[-1], 2)))
        found = kept.pop()
        for block in self.up:
            enlarged = F.interpolate(found, scale_factor=2, mode="bilinear", align_corners=False)
            found = block(torch.cat([enlarged, kept.pop()], dim=1))
        return torch.as_tensor(self.out(found))


class LungCrop(nn.Module):
    """Cut films down to the box around their lungs; gradients flow through the crop, not through where it lies.

    Parameters
    ----------
    size : side of the cropped films in pixels
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.finder = LungFinder()

    def boxes(self, films: Tensor) -> Tensor:
        """Return the box around the lungs of (B, 1, S, S) films, (B, 4) as `lung_boxes` does."""
        small = F.interpolate(films, (FINDER_SIZE, FINDER_SIZE), mode="area")
        return lung_boxes(self.finder(small).sigmoid()[:, 0])

    def forward(self, films: Tensor) -> Tensor:
        return crop(films, self.boxes(films.detach()), self.size)


def lung_boxes(lungs: Tensor) -> Tensor:
    """Return the box around the lungs of each film, `MARGIN` included.

    Parameters
    ----------
    lungs : (B, H, W) float32, probability that a pixel is lung

    Returns
    -------
    (B, 4) float32: left, top, right, bottom as shares of the side; may reach past the film
    """
    lungs = torch.where(lungs < 0.5, torch.zeros_like(lungs), lungs)
    left, right = _ends(lungs.sum(dim=1))
    top, bottom = _ends(lungs.sum(dim=2))
    found = torch.stack([left, top, right, bottom], dim=1)
    usual = torch.tensor(USUAL_BOX, dtype=found.dtype, device=found.device).expand_as(found)
    box = torch.where((lungs.sum(dim=(1, 2)) < FEWEST_PIXELS).unsqueeze(1), usual, found)
    width, height = box[:, 2] - box[:, 0], box[:, 3] - box[:, 1]
    return box + MARGIN * torch.stack([-width, -height, width, height], dim=1)


def crop(films: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Resample the boxes of films bilinearly; black comes in from outside.

    Parameters
    ----------
    films : (B, 1, S, S) float32
    boxes : (B, 4) as `lung_boxes` returns them
    size : side of the result

    Returns
    -------
    (B, 1, size, size) float32
    """
    return _resample(films, boxes[:, :2], boxes[:, 2:], size)


def place(maps: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Put maps over the crops back where they lie on the film, the inverse of `crop`; 0 elsewhere.

    Parameters
    ----------
    maps : (B, C, h, w) float32, over the cropped films
    boxes : (B, 4) the films' boxes
    size : side of the films

    Returns
    -------
    (B, C, size, size) float32
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    start = -boxes[:, :2] / sides
    return _resample(maps, start, start + 1 / sides, size)


def _resample(pictures: Tensor, start: Tensor, end: Tensor, size: int) -> Tensor:
    """Sample the rectangle from `start` to `end`, (B, 2) as x and y shares of the picture, on a square grid."""
    # the coordinates of `grid_sample` run from -1 to 1; `affine_grid` would do the same, but OpenVINO does not know it
    centres = (2 * torch.arange(size, dtype=start.dtype, device=start.device) + 1) / size - 1
    places = (end - start).unsqueeze(2) * centres + (start + end - 1).unsqueeze(2)
    x, y = places.unbind(dim=1)
    grid = torch.stack([x.unsqueeze(1).expand(-1, size, -1), y.unsqueeze(2).expand(-1, -1, size)], dim=3)
    return F.grid_sample(pictures, grid.to(pictures.dtype), mode="bilinear", padding_mode="zeros", align_corners=False)


def _ends(profile: Tensor) -> tuple[Tensor, Tensor]:
    """Return between which shares of its length all but both tails of a profile (B, L) lie, two (B,)."""
    length = profile.shape[1]
    below = profile.cumsum(dim=1) / profile.sum(dim=1, keepdim=True).clamp(min=1e-6)
    first, last = (below < TAIL).sum(dim=1), (below < 1 - TAIL).sum(dim=1)
    return first / length, (last + 1) / length


def _block(before: int, after: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (before, after):
        layers += [nn.Conv2d(channels, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers)
