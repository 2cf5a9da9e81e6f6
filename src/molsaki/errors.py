"""What molsaki raises.

Mistakes in what a user brings (a recipe, a data file, a model, an artefact) are `InputError`s, which are also
`ValueError`s. Every message says what was expected, what came, what follows and what to do. Mistakes of ours
are plain asserts.
"""

from __future__ import annotations


class MolsakiError(Exception):
    """Base of everything that molsaki raises on purpose."""


class InputError(MolsakiError, ValueError):
    """What the user brought cannot be used as it is."""


class RecipeError(InputError):
    """A recipe has unknown keys, impossible values or names files that are not there; all are listed."""


class DataError(InputError):
    """A data file is cut, malformed or lacks what its format promises."""


class SpanError(InputError):
    """Steps or keys of a text cannot be found or cannot be mapped to tokens."""


class TokenizerError(InputError):
    """A tokenizer cannot give character offsets, or lacks a token that is needed."""


class ArtefactError(InputError):
    """An artefact on disk does not fit what is asked of it; the message says which of the two differs."""


class EvaluationError(InputError):
    """Predictions or results cannot be scored or compared as asked."""


class UnreadableModelError(InputError):
    """A model whose attention cannot be read; the message says which layers did not answer and why."""


class ExpressionError(InputError):
    """An arithmetic expression is malformed, too large or has no value."""


class StageError(MolsakiError, RuntimeError):
    """A stage cannot go on for a reason outside the user's input (no space left, a locked directory)."""


class OtherProcessError(StageError):
    """Another process of the same job has failed and has said so; this one ends with it."""
