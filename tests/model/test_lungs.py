"""Boxes around the lungs, crops and their way back."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrtriage.model.lungs import MARGIN, USUAL_BOX, LungCrop, crop, lung_boxes, place


def test_a_box_is_drawn_around_two_rectangles_with_its_margin() -> None:
    lungs = torch.zeros(1, 100, 100)
    lungs[0, 20:80, 10:40] = 1
    lungs[0, 20:80, 60:90] = 1
    left, top, right, bottom = lung_boxes(lungs)[0].tolist()
    # 2 % of the area on each side are 1.2 of 60 columns and 1.2 of 60 rows, so a box starts one pixel further in
    assert (left, right) == pytest.approx((0.11 - MARGIN * 0.78, 0.89 + MARGIN * 0.78))
    assert (top, bottom) == pytest.approx((0.21 - MARGIN * 0.58, 0.79 + MARGIN * 0.58))


def test_a_stray_pixel_does_not_stretch_the_box() -> None:
    lungs = torch.zeros(2, 128, 128)
    lungs[:, 30:90, 30:100] = 1
    lungs[1, 127, 0] = 1
    alone, stray = lung_boxes(lungs)
    torch.testing.assert_close(alone, stray)


def test_a_film_without_lungs_is_kept_nearly_whole() -> None:
    left, top, right, bottom = USUAL_BOX
    wide, high = MARGIN * (right - left), MARGIN * (bottom - top)
    expected = torch.tensor([[left - wide, top - high, right + wide, bottom + high]])
    torch.testing.assert_close(lung_boxes(torch.zeros(1, 128, 128)), expected)


def test_cropping_agrees_with_opencv() -> None:
    film = np.random.default_rng(0).random((64, 64), np.float32)
    left, top, right, bottom = box = (0.2, 0.1, 0.9, 0.7)
    across, down = (right - left) * 64 / 48, (bottom - top) * 64 / 48
    where = np.array([[across, 0, left * 64 + across / 2 - 0.5], [0, down, top * 64 + down / 2 - 0.5]])
    expected = cv2.warpAffine(film, where, (48, 48), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    found = crop(torch.from_numpy(film)[None, None], torch.tensor([box]), 48)[0, 0].numpy()
    np.testing.assert_allclose(found, expected, atol=0.02)  # OpenCV rounds positions to 1/32 of a pixel


@settings(max_examples=25, deadline=None)
@given(
    left=st.floats(-0.1, 0.4), top=st.floats(-0.1, 0.4), wide=st.floats(0.3, 0.8), high=st.floats(0.3, 0.8)
)  # fmt: skip
def test_a_map_is_placed_back_where_the_crop_was(left: float, top: float, wide: float, high: float) -> None:
    boxes = torch.tensor([[left, top, left + wide, top + high]])
    line = torch.linspace(0.1, 1, 96)
    film = (line.view(1, 1, -1, 1) + line.view(1, 1, 1, -1)) / 2  # bilinear sampling of a ramp is exact
    back = place(crop(film, boxes, 96), boxes, 96)
    centres = (torch.arange(96) + 0.5) / 96
    rows = (centres > top + high / 48) & (centres < top + high - high / 48) & (centres > 0.03) & (centres < 0.97)
    columns = (centres > left + wide / 48) & (centres < left + wide - wide / 48) & (centres > 0.03) & (centres < 0.97)
    torch.testing.assert_close(back[0, 0][rows][:, columns], film[0, 0][rows][:, columns], atol=1e-4, rtol=0)
    outside = (centres < top - high / 48) | (centres > top + high + high / 48)
    assert back[0, 0][outside].abs().sum() == 0


def test_where_the_crop_lies_has_no_gradient_but_what_it_shows_has() -> None:
    films = torch.rand(2, 1, 64, 64, requires_grad=True)
    cut = LungCrop(32).eval()
    cut(films).sum().backward()
    assert films.grad is not None
    assert films.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in cut.finder.parameters())
