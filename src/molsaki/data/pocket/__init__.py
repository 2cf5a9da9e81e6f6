"""The pocket family: generated data sets, a teacher and a base student that ship with molsaki.

With them a whole run takes minutes on two cores and downloads nothing. `word_problems` and `commonsense` generate the
data sets, `weights/` holds the models, and `tools/` in the repository trains them.
"""

from __future__ import annotations

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
TEACHER = WEIGHTS / "teacher"
STUDENT = WEIGHTS / "student"
