"""Prompts as chats: turns as they are written, and the text that a model's own chat template makes of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from molsaki.config.load import RECIPES, SHIPPED_PROMPTS
from molsaki.config.prompt_settings import PromptSettings
from molsaki.data.pocket import TEACHER
from molsaki.encoding.chats import keeps_completions, render_prompt, render_template
from molsaki.encoding.control_tokens import decode_answers
from molsaki.encoding.encode import encode_teacher
from molsaki.encoding.prompts import GIVEN_ANSWER, PromptTemplate
from molsaki.errors import RecipeError, TokenizerError

CHAT = """[system]
Be short.
[user]
What is 1 + 1?
[assistant]
Two. The answer is 2.

[user]
{question}
Think.
[assistant]
{rationale}
"""
TURNS = "{% for m in messages %}<|{{ m.role }}|>{{ m.content | trim }}</s>{% endfor %}"
OPENED = TURNS + "{% if add_generation_prompt %}<|assistant|>{% endif %}"
THOUGHTFUL = TURNS + "{% if add_generation_prompt %}<|assistant|><think></think>{% endif %}"


def tokenizer(chat_template: str | None) -> PreTrainedTokenizerBase:
    loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(TEACHER)
    loaded.chat_template = chat_template
    return loaded


def test_turns_are_read_as_they_are_written() -> None:
    asked = PromptTemplate.parse(CHAT).ask("Why?\n[assistant]\nBecause.")
    assert [(turn.role, turn.content) for turn in asked.messages] == [
        ("system", "Be short."),
        ("user", "What is 1 + 1?"),
        ("assistant", "Two. The answer is 2."),
        ("user", "Why?\n[assistant]\nBecause.\nThink."),
    ], "a question cannot open a turn"


def test_a_text_is_one_turn_of_the_users() -> None:
    assert PromptTemplate.parse("Q: {question}\nA: {rationale}").ask("Why?").as_messages() == [
        {"role": "user", "content": "Q: Why?\nA:"}
    ]


@pytest.mark.parametrize(
    "text",
    [
        "[user]\n{question}\n{rationale}",
        "[user]\n1\n[assistant]\n{question}\n[assistant]\n{rationale}",
        "[user]\n{question}\n[user]\n1\n[assistant]\n{rationale}",
        "[user]\n{question}\n[assistant]\nBecause {rationale}",
        "[system]\n{question}\n[assistant]\n{rationale}",
    ],
)
def test_a_chat_that_cannot_be_sent_is_refused(text: str) -> None:
    with pytest.raises(RecipeError) as error:
        PromptTemplate.parse(text)
    assert repr(text) in str(error.value)


def test_a_rendered_chat_is_the_prompt_that_the_model_gets() -> None:
    made = tokenizer(OPENED)
    template = PromptTemplate.parse(CHAT)
    rendered = render_template(made, template)
    question = "How many {rationale} are 3 < 4?"
    assert rendered.prompt(question) == render_prompt(made, template.ask(question))
    assert rendered.prompt(question) == (
        "<|system|>Be short.</s><|user|>What is 1 + 1?</s><|assistant|>Two. The answer is 2.</s>"
        f"<|user|>{question}\nThink.</s><|assistant|>"
    )
    assert rendered.full(question, "Four.")[rendered.completion_start(question) :] == "Four."
    assert rendered.full(question, "Four.")[rendered.question_start :].startswith(question)
    assert not rendered.special_tokens
    assert not rendered.is_chat
    plain = PromptTemplate.parse("Q: {question}\nA: {rationale}")
    assert render_template(tokenizer(None), plain) == plain


@pytest.mark.parametrize(
    ("template", "named"),
    [
        (None, "none"),
        (TURNS, "generation prompt"),
        (OPENED.replace("trim", "upper"), "0 times"),
        (OPENED + "{{ messages[-1].content }}", "2 times"),
        ("{{ raise_exception('no system turns') }}", "no system turns"),
        ("{% if %}", "error"),
    ],
    ids=["no template", "no generation prompt", "no question", "two questions", "refuses", "broken"],
)
def test_a_chat_template_that_asks_something_else_is_refused(template: str | None, named: str) -> None:
    made = tokenizer(template)
    with pytest.raises(TokenizerError) as error:
        render_template(made, PromptTemplate.parse(CHAT))
    assert repr(made.name_or_path) in str(error.value)
    assert named in str(error.value)


def test_attention_is_read_in_the_chat_that_the_model_would_be_given() -> None:
    made = tokenizer(OPENED)
    template = PromptTemplate.parse(CHAT)
    encoded = encode_teacher(made, template, "How many are 3?", "Three. So 3.", 500)
    text = render_prompt(made, template.ask("How many are 3?")) + "Three. So 3."
    assert list(encoded.input_ids) == made(text, add_special_tokens=False)["input_ids"]
    assert text[encoded.question_start :].startswith("How many are 3?")
    assert text[encoded.completion_start :] == "Three. So 3."
    left, right = encoded.offsets[encoded.completion_token]
    assert left <= encoded.completion_start < right


def test_a_template_that_drops_or_adds_before_an_answer_is_found() -> None:
    chat = PromptTemplate.parse(CHAT)
    assert keeps_completions(tokenizer(OPENED), chat)
    assert not keeps_completions(tokenizer(THOUGHTFUL), chat)
    assert keeps_completions(tokenizer(None), PromptTemplate.parse("{question}\n{rationale}"))


def test_the_right_answer_is_filled_in_once_and_as_it_is() -> None:
    template = PromptTemplate.parse(GIVEN_ANSWER)
    assert template.gives_answer
    assert not PromptTemplate.parse("Say {answer}. {question}\n{rationale}").gives_answer
    assert template.given("{question} \\1").prompt("Why?") == "Q: Why?\nThe right answer is {question} \\1. Why?\nA:"


@pytest.mark.parametrize("name", sorted(SHIPPED_PROMPTS))
def test_every_shipped_prompt_can_be_used(name: str) -> None:
    text = (RECIPES / name).read_text(encoding="utf-8")
    template = PromptTemplate.parse(text)
    assert template.is_chat == ("chat" in Path(name).name)
    assert template.gives_answer == ("second-pass" in name)
    assert template.slot == ("keywords" if "keywords" in name else "rationale")
    key = {"keywords": "keywords"}.get(template.slot, "second_pass" if template.gives_answer else "teacher")
    PromptSettings(**{key: text})
    if template.is_chat:
        assert "How many" in render_template(tokenizer(OPENED), template).prompt("How many?")
    else:
        assert "\n\n\n" not in text


@pytest.mark.parametrize(
    ("special", "written"),
    [
        (["[THINK]", "[/THINK]"], "[THINK]Six.[/THINK]42"),
        (["<|channel|>", "<|message|>", "<|start|>", "<|end|>"], "<|channel|>analysis<|message|>Six.<|end|>"),
        (["<|channel>", "<channel|>"], "<|channel>thought\nSix.<channel|>42"),
        (["<|im_end|>", "<|end|>"], "42"),
    ],
)
def test_marks_of_thinking_that_are_special_tokens_stay_in_a_completion(special: list[str], written: str) -> None:
    marked = tokenizer(None)
    marked.add_special_tokens({"additional_special_tokens": [*special, "<|pad|>"]})
    ids = marked(f"{written}<|pad|>", add_special_tokens=False)["input_ids"]
    assert decode_answers(marked, [ids]) == [written]
