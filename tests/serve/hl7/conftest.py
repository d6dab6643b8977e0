"""What the tests of HL7 do without."""

import pytest


@pytest.fixture(autouse=True)
def collected() -> None:
    """Nothing here uses pynetdicom, so that nothing needs to be collected after each test."""
