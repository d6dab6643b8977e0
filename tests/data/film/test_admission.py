from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cxrtriage.data.film.admission import check_size, grey_channel, inverted, refusal
from cxrtriage.errors import SourceError

FILM = Path("film.tif")


@given(st.data(), st.sampled_from([np.uint8, np.uint16, np.int8, np.int16]), st.integers(2, 16))
def test_turning_polarity_twice_changes_nothing_and_once_reverses_the_order(
    data: st.DataObject, dtype: type, bits: int
) -> None:
    bits = min(bits, np.iinfo(dtype).bits)
    low, high = (0, 2**bits - 1) if np.iinfo(dtype).min == 0 else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    pixels = data.draw(arrays(dtype, (3, 4), elements=st.integers(low, high)))
    turned = inverted(pixels.copy(), bits)
    assert turned.dtype == dtype
    np.testing.assert_array_equal(turned.astype(int), low + high - pixels.astype(int))
    np.testing.assert_array_equal(inverted(turned, bits), pixels)


def test_channels_that_no_film_has_are_refused() -> None:
    for shape in ((40, 40, 5), (2, 40, 40, 1)):
        with pytest.raises(SourceError, match="expected one grey plane"):
            grey_channel(FILM, np.zeros(shape, np.uint8))


def test_limits_themselves_are_taken() -> None:
    check_size(FILM, 32, 128)
    check_size(FILM, 10_000, 10_000)
    for width, height in ((31, 31), (32, 129), (10_000, 10_001), (0, 0)):
        with pytest.raises(SourceError, match=f"it is {width} x {height} pixels"):
            check_size(FILM, width, height)


def test_a_message_stays_one_line_whatever_a_header_holds() -> None:
    assert str(refusal(FILM, "a\nb\x00c", "Mend it")) == "cannot read film.tif: a?b?c. Mend it."
