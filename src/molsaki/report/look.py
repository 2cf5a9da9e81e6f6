"""Read the attention of any model on one question, for `molsaki look`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molsaki.analysis import StepFacts, TextAttention, read_text_attention, step_facts, student_encoder, teacher_encoder
from molsaki.answers.parse import parse_answer
from molsaki.encoding import prompts
from molsaki.encoding.chats import render_template
from molsaki.encoding.encode import context_length
from molsaki.encoding.prompts import PromptTemplate
from molsaki.encoding.student_chats import prompt_tokens, render_student
from molsaki.encoding.template_changes import adapt_chat_template
from molsaki.errors import InputError
from molsaki.models.decode import decode_batches
from molsaki.models.folder import model_location
from molsaki.models.load import model_at, pick_device, quiet_libraries, tokenizer_at
from molsaki.report.browser import attention_per_token, look_data
from molsaki.report.page import render
from molsaki.spans.text import Text
from molsaki.store.whole_files import write_whole

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEXT_ID = "your question"
QUESTION_TURN = "[user]\n{question}\n[assistant]\n{rationale}"


@dataclass(frozen=True, slots=True)
class LookResult:
    """The attention of a model on one question and its rationale.

    Attributes:
        model: the name of the model.
        prompt: the prompt template.
        look: the attention.
        answer: the model's answer as it was written; empty if there is none.
        shares: [S][K], the share of an average token's attention on each key; None for a key not visible.
        facts: entropy and most-attended key of each step.
        page: the HTML page, if one was written.
    """

    model: str
    prompt: str
    look: TextAttention
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
    """Read the attention of a model on one question and a rationale, which it writes itself by default.

    Args:
        model: a directory, a hub name, `pocket:teacher` or `pocket:student`. Its own code is not run.
        question: the text of the question.
        rationale: a rationale to read; None to let the model write one.
        keywords: the keys; all numbers by default.
        prompt: a prompt template; by default that of the student's run. Other models get the question as a turn of
            their chat template, or in the teacher's prompt if they have none.
        max_new_tokens: maximum number of tokens that the model writes.
        page: the path of an HTML page to write.

    Raises:
        InputError: the model or its tokenizer cannot be loaded, it writes nothing, there is no key, or the prompt of a
            student is unknown because its directory was renamed.
        UnreadableModelError: the attention of the model cannot be read.
    """
    quiet_libraries()
    location = model_location(model)
    tokenizer = tokenizer_at(location)
    adapt_chat_template(tokenizer)
    template = PromptTemplate.parse(prompt) if prompt else _default_prompt(model, tokenizer)
    if template.slot not in ("rationale", "reasoning"):
        raise InputError(
            f"Expected a prompt that ends in {{rationale}} or {{reasoning}}; got {str(template)!r}. The attention of a "
            "rationale is read. End the prompt with one of these slots."
        )
    template = (render_student if _is_student(model) else render_template)(tokenizer, template)
    loaded = model_at(location).to(pick_device()).eval()
    answer = ""
    if rationale is None:
        answer, rationale = _write_rationale(loaded, tokenizer, template, question, max_new_tokens)
    if not rationale:
        raise InputError(
            f"Expected a rationale; {model} wrote nothing. There is nothing to read. Try another prompt with --prompt, "
            "or give a rationale with --rationale."
        )
    text = Text(TEXT_ID, question, rationale, "numbers" if keywords is None else tuple(keywords))
    max_length = context_length(tokenizer, loaded.config)
    # The prompt and the rationale of a distilled student are tokenized separately, as in its training.
    encoder = student_encoder if _is_student(model) else teacher_encoder
    attentions, _ = read_text_attention(loaded, tokenizer, [text], encoder(tokenizer, template, max_length))
    if not attentions:
        raise InputError(
            f"Expected a key in the question or the rationale; there is none in {question[:200]!r}. Nothing was "
            "read. Name key words with --key, or ask a question with numbers."
        )
    look = attentions[TEXT_ID]
    if page is not None:
        write_whole(page, render("look.html.jinja", {"model": model}, look_data(look, model, answer)))
    return LookResult(model, str(template), look, answer, attention_per_token(look), step_facts(look), page)


def _write_rationale(
    model: Any, tokenizer: Any, template: PromptTemplate, question: str, max_new_tokens: int
) -> tuple[str, str]:
    """The answer and the rationale that a model writes for a question."""
    batches = decode_batches(
        model,
        tokenizer,
        [template.prompt(question)] if template.special_tokens else [prompt_tokens(tokenizer, template, question)[0]],
        max_new_tokens=max_new_tokens,
        batch_size=1,
        ends=() if template.end_token is None else (template.end_token,),
    )
    text = next(batches)[0].text
    parsed = parse_answer(text)
    return parsed.answer_text, parsed.rationale.strip() or text.strip()


def _default_prompt(model: str, tokenizer: PreTrainedTokenizerBase) -> PromptTemplate:
    if model == "pocket:student":
        return PromptTemplate.parse(prompts.EXPLAIN)
    if not _is_student(model):
        return PromptTemplate.parse(QUESTION_TURN if tokenizer.chat_template else prompts.TEACHER)
    from molsaki.stages.workspace import Workspace

    folder = Path(model).resolve()
    workspace = Workspace.open(folder.parent.parent)
    labels, label = [method.label for method in workspace.recipe.methods], folder.name.rpartition("-")[0]
    if label not in labels:
        raise InputError(
            f"Expected METHOD-SEED as the name of a student of {folder.parent.parent}, with one of the methods "
            f"{', '.join(labels)}; got {folder.name!r}. Its prompt is unknown. Give one with --prompt, or rename the "
            "directory back."
        )
    return workspace.template(workspace.method(label).terms.explains_with)


def _is_student(model: str) -> bool:
    folder = Path(model).resolve().parent
    return model == "pocket:student" or (folder.name == "students" and (folder.parent / "recipe.yaml").is_file())
