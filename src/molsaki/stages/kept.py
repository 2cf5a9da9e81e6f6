"""No rationale was kept: why, and what to change, before the teacher is read and students are trained on nothing."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

from molsaki.config.data_settings import TRAIN
from molsaki.config.model_spec import ServerSpec
from molsaki.config.recipe import Recipe
from molsaki.counts import plural
from molsaki.errors import StageError
from molsaki.models.load import load_tokenizer
from molsaki.stages.workspace import Workspace
from molsaki.teacher.filter import IN_SECOND

SHOWN_TEXTS = 3
SHOWN_CHARACTERS = 300
"""How many texts that were not kept an error shows, and how much of the end of each, where the answer should be."""


def require_kept(workspace: Workspace, manifest: Mapping[str, Any]) -> None:
    """Check that a rationale was kept.

    Args:
        workspace: the run.
        manifest: of its generate stage.

    Raises:
        StageError: none was; the message names the most frequent reason, what would help, and shows some texts.
    """
    if manifest["kept"]:
        return
    reasons = {reason: n for reason, n in manifest["reasons"].items() if n}
    counts = ", ".join(f"{reason}: {n}" for reason, n in reasons.items()) or (
        "no question was answered" if manifest.get("unanswered") else "there are no problems"
    )
    most = max(reasons, key=lambda reason: reasons[reason], default="").removesuffix(IN_SECOND)
    raise StageError(
        f"Expected at least one rationale that reaches the right answer; none of {plural(manifest['problems'], 'text')}"
        f" does ({counts}). Students would have nothing to learn, so the run stops here. {_advice(workspace, most)}"
        f"{_texts(workspace)}"
    )


def _advice(workspace: Workspace, reason: str) -> str:
    """What to change against the most frequent reason."""
    recipe, source = workspace.recipe, workspace.recipe.rationales.source
    if source != "teacher":
        return "Check that rationales.columns, or the columns of the import, name the texts of these problems."
    again = "Then start over with --overwrite."
    if reason == "cut off":
        longest = recipe.rationales.max_new_tokens
        return f"Raise rationales.max_new_tokens from {longest}; a model that thinks needs some thousands. {again}"
    if reason == "prompt too long":
        return f"Choose a shorter prompts.teacher, or a model with a longer context. {again}"
    if reason == "wrong answer" and not recipe.rationales.second_pass:
        prompt = _shipped(workspace, "math-second-pass", "commonsense-second-pass")
        return (
            f"Set rationales.second_pass to true with prompts.second_pass: {prompt}, which gives the model the answer, "
            f"or choose a larger model. {again}"
        )
    if reason == "wrong answer":
        return f"Choose a larger model, or more rationales.samples. {again}"
    prompt = _shipped(workspace, "math", "commonsense")
    return (
        f"A prompt whose examples reason first and end in `The answer is …` would help, such as prompts.teacher: "
        f"{prompt}. {again}"
    )


def _shipped(workspace: Workspace, numbers: str, choices: str) -> str:
    """The prompt of this package for the task, as a chat if the writer takes chats."""
    problem = next(iter(workspace.read_problems(TRAIN)), None)
    name = choices if problem is not None and problem.choices else numbers
    return f"prompts/{name}{'-chat' if _takes_chats(workspace.recipe) else ''}.txt"


def _takes_chats(recipe: Recipe) -> bool:
    writer = recipe.teacher.writer
    if isinstance(writer, ServerSpec):
        return writer.protocol == "chat"
    return writer is not None and bool(load_tokenizer(recipe, writer).chat_template)


def _texts(workspace: Workspace) -> str:
    """The ends of the first texts that were not kept."""
    written = (row["output"].strip() for row in workspace.rationale_log.rows())
    texts = list(islice(filter(None, written), SHOWN_TEXTS))
    shown = [text if len(text) <= SHOWN_CHARACTERS else f"… {text[-SHOWN_CHARACTERS:]}" for text in texts]
    return "".join(f"\n  text {i}: {text!r}" for i, text in enumerate(shown, start=1))
