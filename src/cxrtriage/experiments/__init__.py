"""The 2017 study's experiments on any labelled set: the same films, several seeds, an interval and a verdict.

settings    what may be chosen
films       manifest -> numbered films, prepared once for each recipe and shared by all runs
subsets     which films train which run: nested volumes, leaks between patients' films
plans       each experiment as arms (what is compared) and runs (an arm with a seed)
runs        one run in its folder: trained, measured, skipped when done
statistics  AUROC of arms and their differences, over patients and seeds; DeLong
verdicts    what an interval means for a claim of the study
results     runs -> the content of results.json
figures, pictures, writing   results -> figures, tables, a page
running     all of it in order
"""

from cxrtriage.experiments.running import KINDS, run_experiments, write_again
from cxrtriage.experiments.settings import ExperimentSettings

__all__ = ["KINDS", "ExperimentSettings", "run_experiments", "write_again"]
