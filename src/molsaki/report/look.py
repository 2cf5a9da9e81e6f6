"""One question, one model: what it writes, and where it looks meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from molsaki.analysis import Look, StepFacts, read_looks, step_facts, student_encoder, teacher_encoder
from molsaki.answers.parse import parse_answer
from molsaki.config.model_spec import ModelSpec
from molsaki.encoding import prompts
from molsaki.encoding.chats import render_template
from molsaki.encoding.encode import context_length
from molsaki.encoding.prompts import PromptTemplate
from molsaki.errors import InputError
from molsaki.methods import METHODS
from molsaki.models.decode import decode_batches
from molsaki.models.load import model_at, model_location, pick_device, quiet_libraries, tokenizer_at
from molsaki.report.browser import look_data
from molsaki.report.page import render
from molsaki.spans.text import Text
from molsaki.store.whole_files import write_whole

YOURS = "your question"


@dataclass(frozen=True, slots=True)
class LookResult:
    """What was seen of a model.

    Attributes:
        model: its name.
        prompt: the template that it was asked in.
        look: where it looks.
        answer: its answer as it was written; empty where there is none to be read.
        shares: for each step and key the share of a token's attention, None for a key out of sight.
        facts: entropy and most-attended key of each step.
        page: the page, if one was written.
    """

    model: str
    prompt: str
    look: Look
    answer: str
    shares: list[list[float | None]]
    facts: list[StepFacts | None]
    page: Path | None


def look_at(
    model: str,
    question: str,
    rationale: str | None = None,
    keywords: Sequence[str] | None = None,
    prompt: str | None = None,
    max_new_tokens: int = 256,
    page: Path | None = None,
) -> LookResult:
    """Ask a model one question, or give it a rationale to read, and see where it looks.

    Args:
        model: a directory, a hub name, `pocket:teacher` or `pocket:student`. Code of its own is not run.
        question: the question's text.
        rationale: read this one; by default the model writes one.
        keywords: the keys; all numbers by default.
        prompt: a template; by default that of the run whose student it is, else a teacher's.
        max_new_tokens: the bound on what is written.
        page: where to write a page.

    Raises:
        InputError: the model or its tokenizer cannot be loaded, it writes nothing, there is no key to look at, or it
            is a student whose directory has another name than its run knows, and no prompt is given.
        UnreadableModelError: its attention cannot be read.
    """
    quiet_libraries()
    template = PromptTemplate.parse(prompt or _default_prompt(model))
    if template.slot not in ("rationale", "reasoning"):
        raise InputError(
            f"Expected a prompt that ends in {{rationale}} or {{reasoning}}; got {str(template)!r}. The steps of a "
            f"rationale are what is looked at; end the prompt with one of these slots."
        )
    location = model_location(ModelSpec(name=model))
    tokenizer = tokenizer_at(location)
    template = render_template(tokenizer, template)
    loaded = model_at(location).to(pick_device()).eval()
    answer = ""
    if rationale is None:
        batches = decode_batches(
            loaded,
            tokenizer,
            [template.prompt(question)],
            max_new_tokens=max_new_tokens,
            batch_size=1,
            special_tokens=template.special_tokens,
        )
        written = next(batches)[0].text
        parsed = parse_answer(written)
        answer, rationale = parsed.answer_text, parsed.rationale.strip() or written.strip()
    if not rationale:
        raise InputError(
            f"Expected a rationale to look at; {model} wrote nothing. Try another prompt with --prompt, or give a "
            f"rationale with --rationale."
        )
    text = Text(YOURS, question, rationale, "numbers" if keywords is None else tuple(keywords))
    max_length = context_length(tokenizer, loaded.config)
    # A distilled student reads prompt and rationale as it was trained to: tokenized apart.
    encoder = student_encoder if _is_student(model) else teacher_encoder
    looks, _ = read_looks(loaded, tokenizer, [text], encoder(tokenizer, template, max_length))
    if not looks:
        raise InputError(
            f"Expected a key in the question or the rationale; there is none in {question[:200]!r}. There is nothing "
            f"to look at; name key words with --key, or ask a question with numbers."
        )
    look = looks[YOURS]
    if page is not None:
        write_whole(page, render("look.html.jinja", {"model": model}, look_data(look, model, answer)))
    shares = [
        [float(value) if seen else None for value, seen in zip(row, visible, strict=True)]
        for row, visible in zip(look.keys_SK() / look.tokens_S.clip(1)[:, None], look.visible_SK, strict=True)
    ]
    return LookResult(model, str(template), look, answer, shares, step_facts(look), page)


def _default_prompt(model: str) -> str:
    if not _is_student(model):
        return prompts.TEACHER
    if model == "pocket:student":
        return prompts.EXPLAIN
    from molsaki.stages.workspace import Workspace

    folder = Path(model).resolve()
    workspace = Workspace.open(folder.parent.parent)
    labels, label = [method.label for method in workspace.recipe.methods], folder.name.rpartition("-")[0]
    if label not in labels:
        raise InputError(
            f"Expected {folder.name!r} to be the name of a student of {folder.parent.parent}, METHOD-SEED with one of "
            f"its methods {', '.join(labels)}; it is not. In which prompt it learned to write is not known; give one "
            "with --prompt, or the directory its own name again."
        )
    return str(workspace.template(METHODS[workspace.method(label).name].explains_with))


def _is_student(model: str) -> bool:
    folder = Path(model).resolve().parent
    return model == "pocket:student" or (folder.name == "students" and (folder.parent / "recipe.yaml").is_file())
