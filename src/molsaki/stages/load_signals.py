"""A run's signals for a training loop of your own."""

from __future__ import annotations

from pathlib import Path

from molsaki.stages.signals import open_store
from molsaki.stages.workspace import TRAIN, Workspace
from molsaki.training.loop import Signals


def load_signals(run: str | Path) -> Signals:
    """Open the teacher's stepwise attention of a run, with the texts that it was read on.

    Example:
        >>> import molsaki
        >>> signals = molsaki.load_signals("runs/pocket")
        >>> text = next(iter(signals.texts.values()))
        >>> text.id in signals.attention, signals.teacher_layers
        (True, 4)

    Args:
        run: a run directory in which `molsaki attend` (or `molsaki run`) has read steps and keys.

    Raises:
        ArtefactError: the attention was read with other settings than the run's recipe has, or is damaged.
        DataError: there is no run, or its teacher was not read.
    """
    workspace = Workspace.open(Path(run))
    _, texts = workspace.read_texts(TRAIN)
    return Signals(texts, open_store(workspace, "steps"))
