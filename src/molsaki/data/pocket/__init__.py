"""The pocket family: a small world, a teacher and a base student that ship with molsaki.

It lets the whole job run in minutes on two cores with no download: `word_problems` and `commonsense` make the data,
`language` what the models read, `vocabularies` their tokenizers, `make` the weights, which lie in `weights/`.
"""

from __future__ import annotations

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
TEACHER = WEIGHTS / "teacher"
STUDENT = WEIGHTS / "student"
