"""What tests of formats share."""

from __future__ import annotations

import pytest

from tests.exports import stored
from whispertune.model.formats.contents import Contents
from whispertune.model.load import ModelFolder


@pytest.fixture(scope="session")
def contents(tiny: ModelFolder) -> Contents:
    """The tiny model in memory."""
    return stored(tiny)
