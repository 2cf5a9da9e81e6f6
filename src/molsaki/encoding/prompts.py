"""Prompts around a question, as templates that a user can copy and change.

A template has exactly one `{question}` and ends with exactly one slot for the completion: `{label}`, `{rationale}`,
`{reasoning}` (a rationale with its answer) or `{keywords}`. A template that gives the right answer, to ask for the
reasoning that leads to it, has an `{answer}` between the two. Other braces, such as those in few-shot examples, are
plain text.

A template whose first line is `[system]` or `[user]` is a chat: each such line, and `[assistant]`, starts a turn. It
ends with an `[assistant]` turn that is the slot alone. `molsaki.encoding.chats` renders it with a model's own chat
template.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
from dataclasses import dataclass
from typing import Literal, Self

from molsaki.errors import RecipeError
from molsaki.records import CHOICE_LETTERS, hash_json

Slot = Literal["label", "rationale", "reasoning", "keywords"]
_SLOTS: tuple[Slot, ...] = ("label", "rationale", "reasoning", "keywords")
_ANSWER = "{answer}"
_MAX_LABEL = 40
_STATES = re.compile("answer|solution|result", re.IGNORECASE)
_CHOICES = tuple(CHOICE_LETTERS[:10])
_ROLE = re.compile(r"^\[(system|user|assistant)\][ \t]*\n", re.MULTILINE)

PREDICT = "predict: {question}\n{label}"
EXPLAIN = "explain: {question}\n{rationale}"
REASON = "reason: {question}\n{reasoning}"
TEACHER = "Q: {question}\nA: {rationale}"
KEYWORDS = "Q: {question}\nKey words: {keywords}"
GIVEN_ANSWER = "Q: {question}\nThe right answer is {answer}. Why?\nA: {rationale}"
CHAT = "chat"
CHATS = {
    "predict": "[user]\npredict: {question}\n[assistant]\n{label}",
    "explain": "[user]\nexplain: {question}\n[assistant]\n{rationale}",
    "reason": "[user]\nreason: {question}\n[assistant]\n{reasoning}",
}
"""The prompts of students that `CHAT` means in a recipe."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is asked: a text to continue, or the turns of a chat.

    Attributes:
        text: the text; empty for a chat.
        messages: the turns; empty for a text.
        stop_strings: where a completion ends; see `PromptTemplate.stop_strings`.
        template: of a chat, what the turns were made from. It is not part of the hash.
        question: of a chat, the question in it.
    """

    text: str = ""
    messages: tuple[Message, ...] = ()
    stop_strings: tuple[str, ...] = ()
    template: PromptTemplate | None = None
    question: str = ""

    @property
    def hash(self) -> str:
        """Hash of the text or the turns."""
        return hash_json([self.text, *([message.role, message.content] for message in self.messages)])

    def as_messages(self) -> list[dict[str, str]]:
        """The turns in the form of OpenAI's API and of chat templates; a text is one turn of the user."""
        turns = self.messages or (Message("user", self.text),)
        return [{"role": turn.role, "content": turn.content} for turn in turns]


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    r"""A prompt in three pieces: the text before the question, the text after it, and the gap before the completion.

    Example:
        >>> import molsaki
        >>> template = molsaki.PromptTemplate.parse("Q: {question}\nA: {rationale}")
        >>> template.prompt("Why?")
        'Q: Why?\nA:'

    Attributes:
        before: text before the question.
        after: text after the question, without the blanks at its end.
        gap: the blanks between prompt and completion. They belong to the completion, since tokenizers join a blank to
            the word that follows it. A line break belongs to the prompt.
        slot: what the model writes.
        special_tokens: whether the tokenizer adds its special tokens; a rendered chat has them already.
        end_token: of a chat that is rendered for a student, the id of the token that ends the assistant's turn.
        date: the date that the chat template prints; None for today's.
        answer: what replaces `{answer}` in `after`; None leaves it as it is.
    """

    before: str
    after: str
    gap: str
    slot: Slot
    special_tokens: bool = True
    end_token: int | None = None
    date: datetime.date | None = None
    answer: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a template. Line ends of Windows are those of other systems.

        Raises:
            RecipeError: the question or the slot is missing, repeated or in the wrong place; a chat does not end with
                an assistant's turn that is the slot alone, or its question is not in the user's turn.
        """
        text = text.replace("\r\n", "\n")
        found: list[Slot] = [slot for slot in _SLOTS if f"{{{slot}}}" in text]
        slot = found[0] if len(found) == 1 else None
        stripped = text.rstrip("\n")
        if (
            slot is None
            or text.count("{question}") != 1
            or text.count(f"{{{slot}}}") != 1
            or not stripped.endswith(f"{{{slot}}}")
            or text.index("{question}") > text.index(f"{{{slot}}}")
        ):
            raise RecipeError(
                "Expected a prompt template with one {question} and, at its end, one of {label}, {rationale}, "
                f"{{reasoning}} or {{keywords}}; got {text[:200]!r}. It cannot be filled in; see "
                "`molsaki recipes show pocket` for an example."
            )
        before, rest = stripped.split("{question}")
        after = rest[: -len(f"{{{slot}}}")]
        kept = after.rstrip(" \t")
        template = cls(before=before, after=kept, gap=after[len(kept) :], slot=slot)
        if template.is_chat:
            template._require_turns()
        return template

    @property
    def is_chat(self) -> bool:
        """Whether it is a chat that is not rendered yet."""
        return self.special_tokens and _ROLE.match(self.before) is not None

    @property
    def gives_answer(self) -> bool:
        """Whether it has one `{answer}` between the question and the slot."""
        return self.after.count(_ANSWER) == 1

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """Where a completion would go on with another question or answer, as base models do: at most three strings.

        They are the label of the question (`Q:`), the label of the completion (`Key words:`) and, between examples, a
        line of punctuation (`###`), each at the beginning of a line. A label that may be a choice (`A:`) or that may
        state the answer (`Answer:`) is not a stop string. A chat has none, since its turns end with a token.
        """
        if self.is_chat or not self.special_tokens:
            return ()
        *examples, question = self.before.rstrip().split("\n") if self.before.strip() else [""]
        separator = examples[-1].strip() if examples else ""
        labels = (_label(question), _label(self.after.rstrip().rpartition("\n")[2]))
        found = [f"\n{label}" for label in labels if label]
        if len(separator) > 2 and not any(map(str.isalnum, separator)):
            found.insert(1, f"\n{separator}\n")
        return tuple(dict.fromkeys(found))

    def given(self, answer: str) -> Self:
        """The template with the right answer filled in."""
        return dataclasses.replace(self, answer=answer)

    def ask(self, question: str) -> Prompt:
        """The prompt with the question filled in, as text or as turns."""
        if not self.is_chat:
            return Prompt(self.prompt(question), stop_strings=self.stop_strings)
        *earlier, (role, opening) = _turns(self.before)
        rest = self._behind_question.rpartition("[assistant]")[0]
        turns = [*earlier, (role, f"{opening}{question}{rest}")]
        messages = tuple(Message(name, content.strip("\n")) for name, content in turns)
        return Prompt(messages=messages, template=self, question=question)

    def prompt(self, question: str) -> str:
        """The text before the completion; for a chat that is not rendered, the template's own text."""
        return f"{self.before}{question}{self._behind_question}"

    def full(self, question: str, completion: str) -> str:
        """Prompt and completion as one text."""
        return f"{self.prompt(question)}{self.gap}{completion}"

    @property
    def question_start(self) -> int:
        """Index of the question's first character in `full`."""
        return len(self.before)

    def completion_start(self, question: str) -> int:
        """Index of the completion's first character in `full`."""
        return len(self.prompt(question)) + len(self.gap)

    def given_place(self, question: str) -> tuple[int, int] | None:
        """The (start, end) characters of the given answer in `full`; None without one."""
        if self.answer is None:
            return None
        start = len(self.before) + len(question) + self.after.index(_ANSWER)
        return start, start + len(self.answer)

    @property
    def _behind_question(self) -> str:
        return self.after if self.answer is None else self.after.replace(_ANSWER, self.answer)

    def _require_turns(self) -> None:
        roles = [role for role, _ in _turns(f"[user]\n{self.after}")]
        blank = not self.after.rpartition("[assistant]")[2].strip()
        if _turns(self.before)[-1][0] != "user" or roles != ["user", "assistant"] or not blank:
            raise RecipeError(
                "Expected a chat with {question} in the last [user] turn, and then an [assistant] turn of nothing but "
                f"{{{self.slot}}}; got {str(self)[:200]!r}. It cannot be sent; write one turn after each of the lines "
                "[system], [user] and [assistant]."
            )

    def __str__(self) -> str:
        return f"{self.before}{{question}}{self.after}{self.gap}{{{self.slot}}}"


def _label(line: str) -> str:
    """The label that a line of a template consists of, without a number in it; empty where it is something else."""
    label = re.split(r"\d", line.strip())[0].rstrip()
    letters = "".join(filter(str.isalpha, label)).lower()
    is_label = line.strip().endswith((":", "]", ">")) and len(label) <= _MAX_LABEL
    return label if is_label and letters and letters not in _CHOICES and not _STATES.search(label) else ""


def _turns(text: str) -> list[tuple[str, str]]:
    """The turns of a text whose first line is a role."""
    _, *parts = _ROLE.split(text)
    return list(zip(parts[::2], parts[1::2], strict=True))
