"""The `prompts` of a recipe, with their defaults."""

from __future__ import annotations

from typing import Any, Self

from pydantic import ValidationInfo, field_validator, model_validator

from molsaki.config.parts import RecipePart
from molsaki.encoding import prompts
from molsaki.encoding.prompts import PromptTemplate


class PromptSettings(RecipePart):
    """The prompts. In a recipe file, each is a template or the path of a file with one.

    Attributes:
        predict: the student's first task, a label; students that learn it are tested with it. For this, `explain` and
            `reason`, `chat` puts the default prompt into the user's turn of the student's own chat template.
        explain: the student's second task, a rationale.
        reason: the task of `cot` and of `sequences: one`, a rationale with its answer; their students are tested with
            it.
        teacher: the prompt for rationales, in which attention is read too.
        second_pass: the prompt for rationales with the right answer in `{answer}`.
        keywords: the prompt for key words.
    """

    predict: str = prompts.PREDICT
    explain: str = prompts.EXPLAIN
    reason: str = prompts.REASON
    teacher: str = prompts.TEACHER
    second_pass: str = prompts.GIVEN_ANSWER
    keywords: str = prompts.KEYWORDS

    @field_validator(*prompts.CHATS, mode="before")
    @classmethod
    def _short_name(cls, value: Any, info: ValidationInfo) -> Any:
        return prompts.CHATS[str(info.field_name)] if value == prompts.CHAT else value

    @model_validator(mode="after")
    def _slots(self) -> Self:
        wanted = {
            "predict": "label",
            "explain": "rationale",
            "reason": "reasoning",
            "teacher": "rationale",
            "second_pass": "rationale",
            "keywords": "keywords",
        }
        for name, slot in wanted.items():
            template = self.template(name)
            if template.slot != slot:
                raise ValueError(f"expected the {name} prompt to end with {{{slot}}}; got {{{template.slot}}}")
            if name == "second_pass" and not template.gives_answer:
                raise ValueError("expected one {answer} after the {question} of the second_pass prompt")
        return self

    @property
    def has_chats(self) -> bool:
        """Whether a prompt is a chat."""
        return any(self.template(name).is_chat for name in type(self).model_fields)

    def template(self, name: str) -> PromptTemplate:
        """The template of one of the prompts."""
        return PromptTemplate.parse(getattr(self, name))
