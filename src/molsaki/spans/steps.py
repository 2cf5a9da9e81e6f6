"""The steps of a rationale by the name of their rule: sentences, lines or paragraphs.

Sentences are the paper's. A long thinking trace has hundreds of them; its lines or paragraphs are fewer, longer steps.
"""

from __future__ import annotations

import re
from typing import Literal, TypeAlias, get_args

from molsaki.errors import SpanError
from molsaki.spans.sentences import sentence_spans, visible_spans

StepRule: TypeAlias = Literal["sentences", "lines", "paragraphs"]
STEP_RULES: tuple[StepRule, ...] = get_args(StepRule)

_BREAKS = {
    "lines": re.compile(r"[\n\r\u2028\u2029]+"),
    "paragraphs": re.compile(r"(?:\r\n|[\n\r\u2028])[^\S\n\r]*(?:\r\n|[\n\r\u2028])\s*|\u2029\s*"),
}


def step_spans(rationale: str, rule: StepRule) -> list[tuple[int, int]]:
    """Split a rationale into steps: character ranges without white space at their ends, in order, without overlap.

    Args:
        rationale: the text.
        rule: `sentences`, see `sentence_spans`; `lines`, each line that is not empty; or `paragraphs`, which end at an
            empty line. A piece without a letter or digit, such as `---`, belongs to the step before it, or to the first
            step if none is before it.

    Raises:
        SpanError: there is no such rule.
    """
    if rule == "sentences":
        return sentence_spans(rationale)
    if rule not in _BREAKS:
        raise SpanError(
            f"Expected steps to be one of {', '.join(STEP_RULES)}; got {rule!r}. No steps were found; name one of them."
        )
    breaks = [match.span() for match in _BREAKS[rule].finditer(rationale)]
    starts = [0, *(end for _, end in breaks)]
    ends = [*(start for start, _ in breaks), len(rationale)]
    return visible_spans(rationale, zip(starts, ends, strict=True))
