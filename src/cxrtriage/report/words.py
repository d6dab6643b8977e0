"""Numbers as a reader wants them: with their interval, in plain words, never finer than they are known.

In come the entries of `metrics.json` (estimate, lower, upper); out go strings for the page.
"""

from collections.abc import Mapping

NARROW = "\N{NO-BREAK SPACE}"
Entry = Mapping[str, float | None]


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with a true minus sign, none before a zero; a dash where it is not defined.

    Examples
    --------
    >>> number(-0.12345), number(-0.00001), number(None)
    ('−0.123', '0.000', '–')
    """
    return "–" if value is None else f"{value:z.{digits}f}".replace("-", "−")


def value(entry: Entry | None, digits: int = 3) -> str:
    """Return the estimate alone."""
    return number(entry["estimate"] if entry else None, digits)


def interval(entry: Entry | None, digits: int = 3) -> str:
    """Return the interval alone, "" where there is none.

    Examples
    --------
    >>> interval({"estimate": 0.8, "lower": 0.75, "upper": 0.85})
    '0.750–0.850'
    >>> interval({"estimate": 0.0, "lower": -0.1, "upper": 0.1}, 1)
    '−0.1 to 0.1'
    """
    if not entry or entry["lower"] is None or entry["upper"] is None:
        return ""
    between = " to " if entry["lower"] < 0 else "–"
    return f"{number(entry['lower'], digits)}{between}{number(entry['upper'], digits)}"


def with_interval(entry: Entry | None, digits: int = 3) -> str:
    """Return "0.800 (0.750–0.850)", without the bracket where there is no interval."""
    between = interval(entry, digits)
    return f"{value(entry, digits)} ({between})" if between else value(entry, digits)


def complement(entry: Entry) -> Entry:
    """Return the share that is left of a share."""
    estimate, lower, upper = (None if part is None else 1 - part for part in entry.values())
    return {"estimate": estimate, "lower": upper, "upper": lower}


def of_100(entry: Entry) -> str:
    """Return how many of 100, with the interval; never "100" or "0" where one was missed or found.

    Examples
    --------
    >>> of_100({"estimate": 0.96, "lower": 0.93, "upper": 0.98})
    '96 (93–98)'
    >>> of_100({"estimate": 0.996, "lower": 0.985, "upper": 1.0})
    'more than 99 (98–100)'
    >>> of_100({"estimate": 1.0, "lower": None, "upper": None})
    '100'
    """
    estimate = entry["estimate"]
    if estimate is None:
        return "an unknown number"
    whole = f"{100 * estimate:.0f}"
    if whole == "100" and estimate < 1:
        whole = "more than 99"
    elif whole == "0" and estimate > 0:
        whole = "fewer than 1"
    if entry["lower"] is None or entry["upper"] is None:
        return whole
    return f"{whole} ({100 * entry['lower']:.0f}–{100 * entry['upper']:.0f})"


def count(films: float, noun: str = "") -> str:
    """Return a count with its noun: "1 film", "12,345 films"; the noun is given in the singular.

    Examples
    --------
    >>> count(1, "film"), count(12345, "film"), count(3)
    ('1 film', '12,345 films', '3')
    """
    written = f"{int(films):,}"
    return f"{written} {noun}{'' if films == 1 else 's'}" if noun else written


def percent(share: float) -> str:
    """Return a share in whole percent, near 0 and 1 in tenths; never "100 %" of what is not whole.

    Examples
    --------
    >>> [percent(share).replace(NARROW, " ") for share in (0.357, 0.042, 0.01, 0.0, 0.9959, 0.9999, 1.0)]
    ['36 %', '4.2 %', '1 %', '0 %', '99.6 %', 'over 99.9 %', '100 %']
    """
    if 0.9995 <= share < 1:
        return f"over 99.9{NARROW}%"
    near_an_end = 0 < share < 0.0995 or 0.9905 < share < 1
    return f"{100 * share:.{int(near_an_end)}f}".removesuffix(".0") + f"{NARROW}%"


def listed(names: list[str]) -> str:
    """Return "a", "a and b", "a, b and c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""
