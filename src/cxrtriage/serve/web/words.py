"""Figures and codes in words that can be read at a glance; templates call these as filters."""

from cxrtriage.serve.worklist.reading_list import StudyRow

RANK_WORDS = ("routine", "abnormal", "emergent")
SEXES = {"F": "female", "M": "male", "O": "other"}
CALLED = {"normal": "not flagged", "abnormal": "flagged", "emergent": "flagged as emergent"}


def duration(seconds: float | None) -> str:
    """Return a time span in at most two units.

    Examples
    --------
    >>> [duration(s) for s in (0.42, 41, 312, 8040, 200_000, None)]
    ['0.4 s', '41 s', '5 min', '2 h 14 min', '2 d 7 h', '–']
    """
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s" if seconds else "0 s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def person_name(name: str) -> str:
    """Return a DICOM person name as it is read: the first group, family name first.

    Examples
    --------
    >>> person_name("Doe^Jane^M^Dr=..."), person_name("DOE"), person_name("^")
    ('Doe, Jane M', 'DOE', 'no name')
    """
    family, *others = [part.strip() for part in name.split("=")[0].split("^")]
    given = " ".join(part for part in others[:2] if part)
    return ", ".join(part for part in (family, given) if part) or "no name"


def age(years: float | None) -> str:
    """Return an age as it is said: in years, of infants in months."""
    if years is None:
        return "age unknown"
    return f"{years:.0f} y" if years >= 2 else f"{years * 12:.0f} months"


def sex(code: str) -> str:
    """Return a DICOM sex as a word."""
    return SEXES.get(code, "sex unknown")


def percent(share: float | None) -> str:
    """Return a share in per cent."""
    return "–" if share is None else f"{share:.0%}"


def score(row: StudyRow) -> str:
    """Return what the model says of a study, or why it says nothing.

    The probability is cut, not rounded, so that 0.499 below a threshold of 0.50 does not read 0.50.
    """
    if row.probability is None:
        return ""
    return f"{CALLED[row.decision]}, {int(row.probability * 100) / 100:.2f}"
