from __future__ import annotations

import pytest
from npm_folder import TINY_DANCER, npm_folder


@pytest.fixture(scope="session")
def tiny_dancer_folder(unavailable):
    """A folder in which Node finds the released Tiny Dancer, installed by npm once and kept."""
    return npm_folder(unavailable, TINY_DANCER)
