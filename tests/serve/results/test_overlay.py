"""The overlay: a valid Secondary Capture that shows what it says, and says that it is no diagnosis."""

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from cxrtriage.serve.results.outbox import Context, Refused
from cxrtriage.serve.results.overlay import BAND, LONG_SIDE, make_overlay
from cxrtriage.serve.results.stow import encoded
from cxrtriage.serve.settings import NodeSettings, WebSettings
from films import film_pixels, make_dicom
from serve.results.results import Home, errors_of, written

HEAT = NodeSettings(web=WebSettings(explanations=True))


def context(home: Home, settings: NodeSettings | None = None) -> Context:
    return Context(home.path, settings or NodeSettings(), home.engine)


def test_it_is_valid_beside_the_film_and_says_what_it_is(home: Home, tmp_path: Path) -> None:
    facts = home.facts(home.result(home.film(LossyImageCompression="01", LossyImageCompressionRatio="12")))
    overlay = written(make_overlay(facts, context(home)), tmp_path / "sc.dcm")
    assert errors_of(overlay) == []
    made = dcmread(overlay)
    assert (made.StudyInstanceUID, made.PatientID) == (facts.study_instance_uid, "P1")
    assert made.BurnedInAnnotation == "YES"
    assert "not for diagnostic use" in made.ImageComments
    assert (made.LossyImageCompression, made.ConversionType) == ("01", "WSD")
    assert made.SourceImageSequence[0].ReferencedSOPInstanceUID == facts.sop_instance_uid
    assert made.pixel_array.shape == (LONG_SIDE + BAND, LONG_SIDE, 3)


def test_words_stand_under_the_film_and_on_it(home: Home) -> None:
    facts = home.facts(home.result(home.film()))
    pixels = make_overlay(facts, context(home)).pixel_array.astype(int)
    orange = (pixels[..., 0] - pixels[..., 2]) > 150
    assert orange[:40, :400].sum() > 500  # the warning on the film
    assert orange[-40:].sum() > 500  # and in the last line under it
    assert not orange[60:LONG_SIDE].any()
    grey = pixels[60:LONG_SIDE]
    assert (grey[..., 0] == grey[..., 1]).all()
    assert np.percentile(grey, 99) > 240
    assert np.percentile(grey, 1) < 15


def test_the_heat_map_is_there_only_where_it_is_switched_on(home: Home, model_file: Path, tmp_path: Path) -> None:
    home.add_model(model_file)
    facts = home.facts(home.result(home.film()))
    with_heat = make_overlay(facts, context(home, HEAT))
    assert errors_of(written(with_heat, tmp_path / "sc.dcm")) == []
    assert (with_heat.Rows, with_heat.Columns) == (LONG_SIDE + BAND, 2 * LONG_SIDE)
    right = with_heat.pixel_array[60:LONG_SIDE, LONG_SIDE:].astype(int)
    assert (right[..., 0] != right[..., 2]).mean() > 0.1
    assert encoded(with_heat) == encoded(make_overlay(facts, context(home, HEAT)))


def test_a_heat_map_without_its_model_is_refused(home: Home) -> None:
    facts = home.facts(home.result(home.film()))
    with pytest.raises(Refused, match="there is no model file"):
        make_overlay(facts, context(home, HEAT))


@pytest.mark.parametrize("shape", [(400, 110), (110, 400), (3000, 2500)])
def test_films_of_any_shape_get_a_picture_of_bounded_size(home: Home, tmp_path: Path, shape: tuple[int, int]) -> None:
    film = make_dicom(tmp_path / "f.dcm", film_pixels(*shape))
    facts = home.facts(home.result(home.film(film)))
    pixels = make_overlay(facts, context(home)).pixel_array
    assert max(pixels.shape) <= LONG_SIDE + BAND
    assert pixels.shape[1] >= 900  # or the words would not fit
    assert (pixels[-BAND:, -4:] == 0).all()  # they end before the edge


def test_a_film_whose_pixels_are_gone_is_refused(home: Home, tmp_path: Path) -> None:
    facts = home.facts(home.result(home.film()))
    film = dcmread(facts.film)
    film.PixelData = film.PixelData[:100]
    film.save_as(facts.film)
    with pytest.raises(Refused, match="cannot be drawn"):
        make_overlay(facts, context(home))
