"""What tests of every part share."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

# A slow machine is no failure; what must be fast is tested as such.
settings.register_profile("molsaki", deadline=None)
settings.load_profile("molsaki")

PROJECT_ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real data sets beside the checkout; a test that asks for them is skipped where they are absent."""
    folder = PROJECT_ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the real data sets are not beside the checkout (expected at {folder})")
    return folder
