"""What can go wrong that a user can mend.

    CxrTriageError
    ├── SourceError     a film or table that cannot be read or used
    ├── ConfigError     settings that contradict each other, the machine or the data
    ├── ModelError      a model file that is damaged, or does not fit what it is used with
    └── DeliveryError   a result that could not be handed on

Every message is one sentence or two: what failed and where, what was found, what was expected, and
what to do. The command line prints it and exits with status 1. Messages carry paths and UIDs, never a
patient's name or birth date. A wrong argument from a caller's code stays a `ValueError`.
"""


class CxrTriageError(Exception):
    """Base of all errors whose message is meant for the user."""


class SourceError(CxrTriageError):
    """A film or table cannot be read or used."""


class ConfigError(CxrTriageError):
    """Settings contradict each other, the machine or the data."""


class ModelError(CxrTriageError):
    """A model file is damaged or does not fit what it is used with."""


class DeliveryError(CxrTriageError):
    """A result could not be handed on."""
