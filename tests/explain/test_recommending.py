"""The rule that recommends a method: not exposed first, then lesions, then insertion less deletion."""

from typing import Any

from cxrtriage.explain.recommending import recommend


def figure(estimate: float) -> dict[str, float | None]:
    return {"estimate": estimate, "lower": estimate - 0.1, "upper": estimate + 0.1}


def figures(*, peak: float | None, gain: float, exposed: bool, over: float = 0.3) -> dict[str, Any]:
    return {
        "peak_in_lesion": None if peak is None else figure(peak),
        "mass_in_lesion": None if peak is None else figure(peak / 2),
        "peak_over_centre": None if peak is None else figure(over),
        "insertion_less_deletion": figure(gain),
        "over_random": figure(over),
        "randomisation": figure(0.9 if exposed else 0.1),
        "exposed": exposed,
    }


def test_exposed_method_loses_to_a_sound_one_that_finds_less() -> None:
    methods = {
        "occlusion": figures(peak=0.6, gain=0.1, exposed=False),
        "opposite": figures(peak=0.9, gain=0.9, exposed=True),
    }
    best, reason = recommend(methods, "the middle")
    assert best == "occlusion"
    assert "0.60 (0.50 to 0.70) of the films, +0.30 (+0.20 to +0.40) beside the middle." in reason
    assert "random: opposite (0.90)." in reason


def test_lesions_decide_where_they_are_known_and_curves_elsewhere() -> None:
    known = {
        "occlusion": figures(peak=0.6, gain=0.9, exposed=False),
        "grad-cam": figures(peak=0.8, gain=0.1, exposed=False),
    }
    assert recommend(known, "the middle")[0] == "grad-cam"
    unknown = {name: {**values, "peak_in_lesion": None} for name, values in known.items()}
    best, reason = recommend(unknown, "the middle")
    assert best == "occlusion"
    assert "beside a random order" in reason


def test_reason_warns_where_a_map_that_never_looks_is_as_good() -> None:
    methods = {"occlusion": figures(peak=0.6, gain=0.1, exposed=False, over=0.05)}
    assert "not clearly better than the middle" in recommend(methods, "the middle")[1]


def test_reason_says_so_where_every_method_is_exposed() -> None:
    methods = {"occlusion": figures(peak=0.6, gain=0.1, exposed=True)}
    best, reason = recommend(methods, "the middle")
    assert best == "occlusion"
    assert "Every method is exposed" in reason


def test_a_method_is_not_called_the_largest_beside_an_exposed_one_that_is_larger() -> None:
    methods = {
        "occlusion": figures(peak=None, gain=0.2, exposed=False),
        "opposite": figures(peak=None, gain=0.9, exposed=True),
    }
    best, reason = recommend(methods, "the middle")
    assert best == "occlusion"
    assert "the largest of those that are not exposed, +0.30" in reason
