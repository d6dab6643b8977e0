"""What an interval means for a claim of the study, laid down before any run.

The study's claims are all of one kind: *this changes little*. What "little" means has to be said beforehand: `MARGIN`,
an AUROC of 0.02. A difference and its 95 % interval in, a word and a sentence out; `results` keeps both.
"""

from cxrtriage.evaluate.intervals import Estimate

MARGIN = 0.02  # AUROC: half of what separates 0.80 from 0.84, and what a reader of a paper would still call the same
CHANCE = 0.5

STANDS, FALLS, UNKNOWN = "stands", "falls", "cannot be told with this much data"


def verdict(difference: Estimate, arm: Estimate, against: Estimate, seeds: int) -> str:
    """Judge a claim that something changes little.

    It stands where the whole interval of the difference lies within the margin, ends included, and falls where the
    whole interval lies outside. Otherwise, with a single seed, or where neither arm is surely better than chance (two
    networks that have learnt nothing do not differ either), it cannot be told.

    Parameters
    ----------
    difference : AUROC of `arm` less that of `against`, with an interval over patients and seeds
    arm, against : AUROC of each
    seeds : runs of each arm

    Returns
    -------
    "stands", "falls" or "cannot be told with this much data"

    Examples
    --------
    >>> good = Estimate(0.8, 0.75, 0.85)
    >>> verdict(Estimate(0.005, -0.01, 0.02), good, good, seeds=3)
    'stands'
    >>> verdict(Estimate(-0.05, -0.08, -0.021), good, good, seeds=3)
    'falls'
    """
    learnt = arm.lower > CHANCE or against.lower > CHANCE  # False where an interval is not defined
    if seeds < 2 or not learnt:
        return UNKNOWN
    if difference.lower >= -MARGIN and difference.upper <= MARGIN:
        return STANDS
    if difference.lower > MARGIN or difference.upper < -MARGIN:
        return FALLS
    return UNKNOWN


def sentence(
    titles: tuple[str, str], arms: tuple[Estimate, Estimate], difference: Estimate, claim: str, judged: str, seeds: int
) -> str:
    """Say what a comparison came to.

    Parameters
    ----------
    titles, arms : of the arm and of what it is compared with
    difference : AUROC of the first less that of the second
    claim : of the study; "" where it makes none
    judged : the verdict
    seeds : runs of each arm
    """
    (title, other), (arm, against) = titles, arms
    found = (
        f"{title}: AUROC {arm.estimate:.3f}, against {against.estimate:.3f} with {other}, a difference of "
        f"{signed(difference)}{'' if seeds > 1 else ', one run each, so without the variance between runs'}."
    )
    if claim:
        return f"{found} The claim that {claim} {judged}."
    if difference.lower > 0 and seeds > 1:
        return f"{found} It is better."
    if difference.upper < 0 and seeds > 1:
        return f"{found} It is worse."
    return f"{found} Which is better {UNKNOWN}."


def signed(figure: Estimate) -> str:
    """Return a difference with its interval in words.

    Examples
    --------
    >>> signed(Estimate(-0.0312, -0.05, 0.001))
    '−0.031 (95 % interval −0.050 to +0.001)'
    """
    words = "{:+.3f} (95 % interval {:+.3f} to {:+.3f})".format(*figure)
    return words.replace("-", "−").replace("+nan", "unknown").replace("nan", "unknown")
