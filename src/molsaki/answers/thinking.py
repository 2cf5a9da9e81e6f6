"""What a completion is made of: thinking, the summary behind it, and left-over tokens of a chat template.

Models mark their thinking by tags of their own; a template may have written the opening one, so that a completion
has the closing one alone; and a completion that was cut off has no closing one. The answer stands in the summary.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_NAMES = (
    r"(?:antml:|seed:|longcat_)?(?:think(?:ing|_fast|_faster)?|thoughts?|reason(?:ing)?|reflect(?:ion)?|scratch_?pad|"
    r"analysis|(?:inner|internal)_monologue|chain_of_thought|cot)"
)
_OPENING = (
    rf"<{_NAMES}>|◁think▷|\[THINK\]|<\|begin_of_thought\|>|<\|(?:start_)?think(?:ing|_start)?(?:_start)?\|>"
    r"|(?:<\|start\|>assistant)?<\|channel\|>\s?(?:analysis|commentary)[^<|]{0,80}<\|message\|>|<unused94>(?:thought\n)?"
)
_CLOSING = (
    rf"</{_NAMES}>|◁/think▷|\[/THINK\]|<\|end_of_thought\|>|<\|/think(?:ing)?\|>|<\|(?:end_think(?:ing)?|think_end)\|>"
    r"|(?:<\|end\|>)?<\|start\|>assistant(?=<\|channel\|>)|(?:<\|end\|>)?(?:<\|start\|>assistant)?<\|channel\|>final[^<|]{0,80}<\|message\|>"
    r"|<unused95>"
)
_MARK = re.compile(rf"(?P<opening>{_OPENING})|(?P<closing>{_CLOSING})", re.IGNORECASE)
_ANSWER_BEGINS = re.compile(
    r"<(?:final_?)?answer>|<\|begin_of_solution\|>|<(?:response|solution|summary)>|<\|begin_of_box\|>", re.IGNORECASE
)
_WRAPPING = re.compile(
    r"</?(?:response|solution|summary|output)>|<\|(?:begin|end)_of_solution\|>|<\|(?:start|end)_response\|>",
    re.IGNORECASE,
)
_ROLE = (
    r"(?:<\|im_start\|>|<\|start_header_id\|>|<start_of_turn>|<\|start\|>|<\|start_of_role\|>|<\|header_start\|>)\s{0,2}"
    r"(?:assistant|model|gpt|bot)\s{0,2}(?:<\|end_header_id\|>|<\|end_of_role\|>|<\|header_end\|>|<\|message\|>)?"
)
_LEFT_OVER = (
    r"<\|[^<>|\s]{1,40}\|>|<｜[^<>｜\s]{1,40}｜>|</?s>|<(?:/?eos|bos|pad|unk|sep|cls|eot|eod|eom|end|endoftext|end_of_text|"
    r"(?:end|start)_of_turn|end_of_utterance|eop)>|\[/?INST\]|\[(?:EOS|BOS|PAD|UNK)\]|<<?/?SYS>>?"
)
_SPECIAL = re.compile(rf"{_ROLE}|(?!<\|(?:begin|end)_of_box\|>)(?:{_LEFT_OVER})", re.IGNORECASE)
_BEGINS = re.compile(
    r"<s>|<｜begin|<\|begin_of_text|<bos>|<\|start|<\|im_start|\[BOS\]|<pad>|\[PAD\]|<unk>|\[UNK\]", re.IGNORECASE
)
_ENDS = re.compile(
    r"</s>|<｜end|<｜user|<\|(?:im_end|im_start|eot|eot_id|eom_id|end|endoftext|end_of_text|end_of_turn_token|return|call|user|"
    r"system|human|start_header_id|eos|end_of_role|eod|im_sep)\|>|</?(?:eos|eot|eod|eom|end|endoftext|end_of_text|end_of_turn|"
    r"start_of_turn|end_of_utterance|eop)>|\[INST\]|\[EOS\]",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class SplitCompletion:
    """A completion's two parts.

    Attributes:
        thinking: what stands in thinking tags, or before a closing one, without the tags; pieces joined by a blank
            line; empty where there is none.
        summary: all the rest, without a chat template's tokens and without what follows an end of turn.
        closed: whether the thinking has come to its end; the summary is what stands outside.
    """

    thinking: str
    summary: str
    closed: bool = True


def split_thinking(text: str) -> SplitCompletion:
    """Split a completion into its thinking and its summary.

    Known are `<think>` and names like it (`<thinking>`, `<reasoning>`, `<seed:think>`), `<|begin_of_thought|>`,
    `◁think▷`, `[THINK]`, the channels of gpt-oss and others. A closing tag without an opening one ends thinking that
    began with the text. Thinking that is never closed goes on to the end, or to a tag that opens the answer, such as
    `<answer>`.

    Args:
        text: what a model wrote; anything at all, this never raises.
    """
    if "<" not in text and "[" not in text and "◁" not in text:
        return SplitCompletion("", text)
    pieces: list[str] = []
    outside: list[int] = []
    inside, start = False, 0
    for mark in _MARK.finditer(text):
        if mark["opening"] and inside:
            continue
        if not inside:
            outside.append(len(pieces))
        if mark["closing"] and not inside:  # all that stood outside so far was thinking, too
            outside.clear()
        pieces.append(text[start : mark.start()])
        inside, start = mark["closing"] is None, mark.end()
    answer = _ANSWER_BEGINS.search(text, start) if inside else None
    if answer:
        pieces.append(text[start : answer.start()])
        inside, start = False, answer.start()
    if not inside:
        outside.append(len(pieces))
    pieces.append(text[start:])
    thoughts = (_without_tokens(pieces[i]).strip() for i in sorted(set(range(len(pieces))) - set(outside)))
    summary = "".join(pieces[i] for i in outside)
    return SplitCompletion("\n\n".join(filter(None, thoughts)), _without_tokens(summary), not inside)


def join_thinking(thinking: str, summary: str) -> str:
    """A completion as `split_thinking` takes it apart, from parts that a server sent apart."""
    return f"<think>\n{thinking.strip()}\n</think>\n\n{summary}" if thinking.strip() else summary


def _without_tokens(text: str) -> str:
    """The text up to the end of its turn, without tokens of a chat template."""
    if "<" not in text and "[" not in text:
        return text
    parts: list[str] = []
    position = 0
    for token in _SPECIAL.finditer(text):
        parts.append(text[position : token.start()])
        position = token.end()
        if _ENDS.match(token[0]) and any(map(str.strip, parts)):
            break
    else:
        parts.append(text[position:])
    return _WRAPPING.sub("", "".join(parts))
