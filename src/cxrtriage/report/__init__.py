"""One self-contained page about a fit or an evaluation, for a clinician, a reviewer and an engineer.

In come the files that the stages left in a folder (`reading`); out goes report.html (`page`). No model is run. Nothing
reads the page but people.
"""

from cxrtriage.report.page import write_report

__all__ = ["write_report"]
