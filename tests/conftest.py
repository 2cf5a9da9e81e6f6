"""What tests of every part share."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import settings

# A slow machine is no failure; what must be fast is tested as such.
settings.register_profile("molsaki", deadline=None)
settings.load_profile("molsaki")

# Without a GPU Triton's kernels run in its interpreter, which must be known when Triton is imported.
if shutil.which("nvidia-smi") is None:
    os.environ.setdefault("TRITON_INTERPRET", "1")

REAL_MODELS = ("Qwen2.5-Coder-1.5B-Instruct", "SmolLM2-135M-Instruct")
PROJECT_ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real data sets beside the checkout; a test that asks for them is skipped where they are absent."""
    folder = PROJECT_ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the real data sets are not beside the checkout (expected at {folder})")
    return folder


@pytest.fixture(scope="session")
def real_models() -> Path:
    """The folder with the small pretrained models; a test that asks for them is skipped where they are absent."""
    folder = Path(os.environ.get("MOLSAKI_MODELS", Path.home() / ".cache" / "molsaki-models"))
    missing = [name for name in REAL_MODELS if not (folder / name / "config.json").is_file()]
    if missing:
        pytest.skip(f"{', '.join(missing)} not in {folder} (MOLSAKI_MODELS names another folder)")
    return folder
