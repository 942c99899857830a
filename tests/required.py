"""What a machine may lack: a test that needs it is skipped there, and fails where everything has to be tested.

if shutil.which("chromium") is None:
    lacking("there is no chromium on this machine")
"""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def lacking(reason: str) -> NoReturn:
    """Skip the test; fail it where WHISPERTUNE_REQUIRE_SHARED is set, as continuous integration does."""
    if os.environ.get("WHISPERTUNE_REQUIRE_SHARED"):
        pytest.fail(reason)
    pytest.skip(reason)
