"""Thinking, summary and left-over tokens, in the tags that models use."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molsaki.answers.parse import parse_answer
from molsaki.answers.thinking import SplitCompletion, join_thinking, split_thinking

TAGS = [
    ("<think>", "</think>"),
    ("<think>\n", "\n</think>\n\n"),
    ("<THINK>", "</THINK>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("◁think▷", "◁/think▷"),
    ("[THINK]", "[/THINK]"),
    ('<think duration="3">', "</think>"),
    ("<inner_thoughts>", "</inner_thoughts>"),
    ("<mm:think>", "</mm:think>"),
    ("<|channel>thought\n", "<channel|>"),
    ("<|think|>", "<|end|><|begin|>assistant<|content|>"),
    ("<unused94>thought\n", "<unused95>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
]


@pytest.mark.parametrize(("opening", "closing"), TAGS)
def test_every_tag(opening: str, closing: str) -> None:
    split = split_thinking(f"{opening}Six sevens.{closing}It is 42.")
    assert (split.thinking, split.summary.strip(), split.closed) == ("Six sevens.", "It is 42.", True)


@pytest.mark.parametrize(
    ("text", "thinking", "summary", "closed"),
    [
        ("It is 42.", "", "It is 42.", True),
        ("x < 5 [a] <b>42</b>", "", "x < 5 [a] <b>42</b>", True),
        ("Six sevens.\n</think>\n\nIt is 42.", "Six sevens.", "\n\nIt is 42.", True),
        ("<think>a</think>b<think>c</think>d", "a\n\nc", "bd", True),
        ("<think>a</think>b<think>c", "a\n\nc", "b", False),
        ("<think>Six sevens", "Six sevens", "", False),
        ("<think>a <answer>42</answer>", "a", "<answer>42</answer>", True),
        ("<think>a<think>b</think>c</think>d", "a\n\nb\n\nc", "d", True),
        ("<thinking>a<reflection>b</reflection>c</thinking>d", "a\n\nb\n\nc", "d", True),
        ("<think>\n\n</think>\n\nIt is 42.", "", "\n\nIt is 42.", True),
        ("<think>a</think><response>b</response>", "a", "b", True),
        ("Analysis: it is 42.", "", "Analysis: it is 42.", True),
        ("Here are my reasoning steps:\na\n[BEGIN FINAL RESPONSE]\nb\n[END FINAL RESPONSE]", "a", "\nb\n", True),
        ("analysisSix sevens.assistantfinalIt is 42.", "Six sevens.", "It is 42.", True),
        ("analysisSix sevens", "Six sevens", "", False),
        ("<|channel>thought\n<channel|>b<turn|>\n<|turn>user\nc", "", "b", True),
        ('<details done="true">\n<summary>Thought for 5 seconds</summary>\na\n</details>\nb', "a", "\nb", True),
        ("<details><summary>Steps</summary>b</details>", "", "<details>Stepsb</details>", True),
        ("<|begin_of_thought|>a<|end_of_thought|><|begin_of_solution|>b<|end_of_solution|>", "a", "b", True),
        ("<think>a<|im_end|>b</think>c", "a", "c", True),
        ("b<|im_end|>\n<|im_start|>user\nc", "", "b", True),
        ("<|im_start|>assistant\nb<|im_end|>", "", "b", True),
        (
            "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b<|return|>",
            "a",
            "b",
            True,
        ),
    ],
)
def test_parts(text: str, thinking: str, summary: str, closed: bool) -> None:
    assert split_thinking(text) == SplitCompletion(thinking, summary, closed)


PIECES = st.text("ab .\n4", max_size=12)


@given(PIECES, PIECES, st.sampled_from(TAGS))
def test_the_answer_is_read_behind_the_thinking_whatever_it_says(
    thought: str, summary: str, tags: tuple[str, str]
) -> None:
    text = f"{tags[0]}{thought} The answer is 41. \\boxed{{40}} #### 39{tags[1]}{summary}\n\nThe answer is 42."
    parsed = parse_answer(text)
    assert (parsed.value, parsed.revised, parsed.rationale) == (42, False, summary.strip())


@given(PIECES, PIECES)
def test_what_was_joined_is_split_again(thinking: str, summary: str) -> None:
    split = split_thinking(join_thinking(thinking, summary))
    assert (split.thinking, split.summary.strip(), split.closed) == (thinking.strip(), summary.strip(), True)


@pytest.mark.parametrize("text", ["<think>Six sevens, so the answer is 42.", "<think>a</think>b<think>\\boxed{42}"])
def test_thinking_that_never_ends_holds_no_answer(text: str) -> None:
    assert parse_answer(text).status == "cut"


def test_an_answer_before_thinking_that_never_ends_is_read() -> None:
    assert parse_answer("6*7 = 42. The answer is 42.<think>Is it?").value == 42


@given(st.lists(st.sampled_from([*sum(TAGS, ()), "<answer>", "</answer>", "<|im_end|>", "a", "\n"])).map("".join))
def test_any_tags_are_split_without_losing_visible_text(text: str) -> None:
    split = split_thinking(text)
    if "<|im_end|>" not in text and "message" not in text and "unused" not in text:
        bare = text
        for tag in sum(TAGS, ()):
            bare = bare.replace(tag.strip(), "")
        assert sorted((split.thinking + split.summary).replace("\n", "")) == sorted(bare.replace("\n", ""))
