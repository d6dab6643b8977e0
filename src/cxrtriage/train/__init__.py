"""Training: a prepared set in, a model file and the record of the run out.

plan      what will be done, resolved from the settings, the films and the machine
schedule  learning rate and time budget, pure functions
task      a training step and a validation step
watch     checkpoint, history, best weights, the end
run       `train`, which ties them together
"""

from cxrtriage.train.plan import pick_batch, pick_epochs
from cxrtriage.train.run import train

__all__ = ["pick_batch", "pick_epochs", "train"]
