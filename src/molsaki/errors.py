"""The exceptions that molsaki raises.

`InputError` and its subclasses report a mistake in something that the user provides: a recipe, a data file, a model
or an artefact. They are also `ValueError`s. Their messages say what was expected, what was found, what follows and
how to fix it. Errors in molsaki itself are assertions.
"""

from __future__ import annotations


class MolsakiError(Exception):
    """Base class of all exceptions that molsaki raises on purpose."""


class InputError(MolsakiError, ValueError):
    """Something that the user provides cannot be used."""


class RecipeError(InputError):
    """A recipe has unknown keys, invalid values or missing files. The message lists all of them."""


class DataError(InputError):
    """A data file is truncated, malformed, or lacks something that its format requires."""


class SpanError(InputError):
    """The steps or keys of a text cannot be found, or cannot be mapped to tokens."""


class TokenizerError(InputError):
    """A tokenizer cannot return character offsets, or lacks a required token."""


class ArtefactError(InputError):
    """An artefact on disk does not match what is requested of it. The message says what differs."""


class EvaluationError(InputError):
    """Predictions or results cannot be scored or compared."""


class UnreadableModelError(InputError):
    """The attention of a model cannot be read. The message names the layers and the reason."""


class ExpressionError(InputError):
    """An arithmetic expression is malformed, too large, or has no value."""


class StageError(MolsakiError, RuntimeError):
    """A stage cannot continue for a reason other than its input, such as a full disk or a locked directory."""


class OtherProcessError(StageError):
    """Another process of the same job failed and reported it. This process ends too."""
