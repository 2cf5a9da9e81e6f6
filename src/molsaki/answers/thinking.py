"""The parts of a completion: thinking, the summary after it, and left-over tokens of a chat template.

Models mark their thinking by tags of their own; a template may have written the opening one, so that a completion
has the closing one alone; and a completion that was cut off has no closing one. The answer is in the summary.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_NAMES = (
    r"(?:antml:|seed:|mm:|longcat_)?(?:think(?:ing|_fast|_faster)?|thoughts?|reason(?:ing)?|reflect(?:ion)?|"
    r"scratch_?pad|analysis|(?:inner|internal)_(?:monologue|thoughts?)|chain_of_thought|cot)"
)
_OPENING = (
    rf"<{_NAMES}(?:\s[^<>]{{0,80}})?>",
    r"<\|begin_of_thought\|>|<\|(?:start_)?think(?:ing|_start)?\|>|<unused94>(?:thought\n)?",
    r"◁think▷|\[THINK\]|\AHere (?:is my thought process|are my reasoning steps):|<\|channel>thought",
    r"\Aanalysis(?=(?-i:[A-Z]))",  # a channel of gpt-oss, decoded without special tokens
    r"(?:<\|start\|>assistant)?<\|channel\|>\s?(?:analysis|commentary)[^<|]{0,80}<\|message\|>",
)
_CLOSING = (
    rf"</{_NAMES}>",
    r"<\|end_of_thought\|>|<\|/think(?:ing)?\|>|<\|(?:end_think(?:ing)?|think_end)\|>|<unused95>",
    r"◁/think▷|\[/THINK\]|\nHere is my response:|\[BEGIN FINAL RESPONSE\]|<channel\|>",
    r"assistantfinal|<\|end\|><\|begin\|>assistant(?:<\|content\|>)?",
    r"(?:<\|end\|>)?<\|start\|>assistant(?=<\|channel\|>)",
    r"(?:<\|end\|>)?(?:<\|start\|>assistant)?<\|channel\|>final[^<|]{0,80}<\|message\|>",
)
_MARK = re.compile(rf"(?P<opening>{'|'.join(_OPENING)})|(?P<closing>{'|'.join(_CLOSING)})", re.IGNORECASE)
_MARK_BEGINS = re.compile(r"[<\[◁]|\AHere (?:is|are) my |\Aanalysis[A-Z]|assistantfinal")
"""In all texts that have a mark."""
_ANSWER_OPENS = re.compile(
    r"<(?:(?:final_?)?answer|response|solution|summary)>|<\|begin_of_(?:solution|box)\|>", re.IGNORECASE
)
_AROUND_ANSWER = re.compile(
    r"</?(?:response|solution|summary|output)>|<\|(?:begin|end)_of_solution\|>|<\|(?:start|end)_response\|>|"
    r"\[END FINAL RESPONSE\]",
    re.IGNORECASE,
)
_ROLE = (
    r"<(?:\|(?:im_start|start_header_id|start|start_of_role|header_start)\||start_of_turn)>\s{0,2}"
    r"(?:assistant|model|gpt|bot)\s{0,2}(?:<\|(?:end_header_id|end_of_role|header_end|message)\|>)?"
)
_END_NAMES = r"eos|eot|eod|eom|end|endoftext|end_of_text|end_of_turn|start_of_turn|end_of_utterance|eop"
_LEFT_OVER = (
    rf"<\|[^<>|\s]{{1,40}}\|>|<\|turn>|<turn\|>|<SPECIAL_\d{{1,4}}>|<｜[^<>｜\s]{{1,40}}｜>|</?s>|</?(?:{_END_NAMES}|bos|pad|unk|sep|cls)>|"
    r"\[/?INST\]|\[(?:EOS|BOS|PAD|UNK)\]|<<?/?SYS>>?"
)
_SPECIAL = re.compile(rf"{_ROLE}|(?!<\|(?:begin|end)_of_box\|>)(?:{_LEFT_OVER})", re.IGNORECASE)
_TURN_ENDS = re.compile(
    r"<\|(?:im_end|im_start|im_sep|eot|eot_id|eom_id|end|endoftext|end_of_text|end_of_turn_token|end_of_role|eos|eod|"
    rf"return|call|user|system|human|start_header_id)\|>|<turn\|>|<｜(?:end|user)|</?(?:{_END_NAMES})>|</s>|\[INST\]|\[EOS\]",
    re.IGNORECASE,
)
_STRUCK = re.compile(r"(?<=[^\s>])\s{0,3}<(s|del|strike)>[^<\n]{1,200}</\1>", re.IGNORECASE)
"""Text that is struck out, within a line."""
_REASONING_BOX = re.compile(
    r"<details(?:\s[^<>]{0,200})?>\s{0,4}<summary>\s{0,4}(?:thought|thinking|reasoning)[^<]{0,80}</summary>(.*?)</details>",
    re.IGNORECASE | re.DOTALL,
)
"""Thinking as chat programs export it."""
_CUT_TOKEN = re.compile(r"(?:<\|\w{0,30}\|?|</s)\Z")


@dataclass(frozen=True, slots=True)
class SplitCompletion:
    """A completion's two parts.

    Attributes:
        thinking: the text in thinking tags, or before a closing one, without the tags; pieces joined by a blank
            line; empty where there is none.
        summary: all the rest, without a chat template's tokens and without what follows an end of turn.
        closed: whether the thinking has ended; the summary is the text outside.
    """

    thinking: str
    summary: str
    closed: bool = True


def split_thinking(text: str) -> SplitCompletion:
    """Split a completion into its thinking and its summary.

    Known are `<think>` and names like it (`<thinking>`, `<reasoning>`, `<seed:think>`), `<|begin_of_thought|>`,
    `◁think▷`, `[THINK]`, the channels of gpt-oss and Gemma 4, and others. A closing tag without an opening one ends
    thinking that began with the text. Thinking that is never closed continues to the end, or to a tag that opens the
    answer, such as `<answer>`.

    Args:
        text: what a model wrote; any text is valid, and none raises.
    """
    if _MARK_BEGINS.search(text) is None:
        return SplitCompletion("", text)
    if "<details" in text:
        text = _REASONING_BOX.sub(r"<think>\1</think>", text)
    pieces: list[str] = []
    outside: list[int] = []
    inside, start = False, 0
    for mark in _MARK.finditer(text):
        if not inside:
            outside.append(len(pieces))
        if mark["closing"] and not inside:  # all that stood outside so far was thinking, too
            outside.clear()
        pieces.append(text[start : mark.start()])
        inside, start = mark["closing"] is None, mark.end()
    answer = _ANSWER_OPENS.search(text, start) if inside else None
    if answer:
        pieces.append(text[start : answer.start()])
        inside, start = False, answer.start()
    if not inside:
        outside.append(len(pieces))
    pieces.append(text[start:])
    thoughts = (_without_tokens(pieces[i]).strip() for i in sorted(set(range(len(pieces))) - set(outside)))
    summary = "".join(pieces[i] for i in outside)
    return SplitCompletion("\n\n".join(filter(None, thoughts)), _without_tokens(summary), not inside)


HALF_MARKS = frozenset(
    {"<|channel|>", "<|message|>", "<|start|>", "<|end|>", "<|begin|>", "<|content|>", "<|channel>", "<channel|>"}
)
"""Special tokens that mark thinking together with others, or with the word after them."""


def is_thinking_tag(text: str) -> bool:
    """Whether a text is one tag that opens or closes thinking."""
    return _MARK.fullmatch(text) is not None


def open_tag(prompt: str) -> str:
    """The tag that opens thinking at the end of a prompt, as the chat templates of some models write it; or none."""
    *_, last = (None, *_MARK.finditer(prompt))
    if last is None or last["closing"] or prompt[last.end() :].strip():
        return ""
    return prompt[last.start() :]


def join_thinking(thinking: str, summary: str) -> str:
    """A completion as `split_thinking` takes it apart, from parts that a server sent separately."""
    return f"<think>\n{thinking.strip()}\n</think>\n\n{summary}" if thinking.strip() else summary


def _without_tokens(text: str) -> str:
    """The text up to the end of its turn, without tokens of a chat template."""
    if "<" not in text and "[" not in text:
        return text
    text = _STRUCK.sub("", text)
    parts: list[str] = []
    position, has_text = 0, False
    for token in _SPECIAL.finditer(text):
        parts.append(text[position : token.start()])
        has_text = has_text or bool(parts[-1].strip())
        position = token.end()
        if _TURN_ENDS.match(token[0]) and has_text:
            break
    else:
        parts.append(text[position:])
    return _CUT_TOKEN.sub("", _AROUND_ANSWER.sub("", "".join(parts)))
