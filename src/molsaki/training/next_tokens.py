"""The teacher's next tokens on their way to the loss: added to the examples, batched, and compared with the student's.

Legend: N tokens of a pass with a loss, V vocabulary, M positions where both tokenizers agree, there K tokens with a
probability of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from molsaki.encoding.padding import pad
from molsaki.encoding.token_map import AgreedTokens, TokenMap
from molsaki.methods import NextTokenPair
from molsaki.records import RowReport
from molsaki.spans.text import Text
from molsaki.store.next_tokens import next_tokens
from molsaki.store.signal_reader import SignalStore
from molsaki.training.examples import Example

NO_NEXT_TOKENS = "without the teacher's next tokens: takes no part in their loss"
NO_AGREEMENT = "both tokenizers cut the rationale alike nowhere: takes no part in the next tokens' loss"
COMPARED = "with {share:.1f} % of their rationales' tokens compared with the teacher's next tokens"

_NOTHING = -1e30
"""A logit that adds nothing; finite, so that a position at which nothing is left has a gradient of 0 and not NaN."""
_LEAST = -100.0
"""Of a share's logarithm: a student that has no other token would else be infinitely far from a teacher that has."""


@dataclass(frozen=True, slots=True)
class NextTokenTargets:
    """What the next-token loss of a pass needs, for the M positions where the tokenizers agree.

    Attributes:
        places_M: which of the pass's N tokens is predicted.
        ids_MK: the tokens that the teacher has a probability for; the first one is repeated behind the last.
        teacher_MK: the teacher's log-probabilities of them; −inf behind the last.
    """

    places_M: Tensor
    ids_MK: Tensor
    teacher_MK: Tensor


def add_next_tokens(
    examples: Sequence[Example],
    texts: Mapping[str, Text],
    store: SignalStore,
    tokens: TokenMap,
    temperature: float,
    report: RowReport,
) -> list[Example]:
    """The examples with what the teacher expected where both tokenizers agree.

    Args:
        examples: encoded for the student.
        texts: question and rationale by problem id.
        store: the teacher's next tokens.
        tokens: the teacher's tokens in the student's vocabulary.
        temperature: τ of the teacher's distribution.
        report: gets the count of examples without, with the reason, and of the others with the share of their tokens.

    Raises:
        ArtefactError: the next tokens were read on other text, or not at this temperature.
    """
    made: list[Example] = []
    compared = tokens_in_all = 0
    for example in examples:
        text, explain = texts[example.problem_id], example.sequences["explain"]
        if text.id not in store:
            report.note(NO_NEXT_TOKENS)
            made.append(example)
            continue
        agreed = tokens.agree(next_tokens(store, text.id, text.text_hash, temperature), explain, text.rationale)
        if agreed is None:
            report.note(NO_AGREEMENT)
        else:
            compared += len(agreed.places_M)
            tokens_in_all += len(explain.input_ids) - explain.completion_token
        made.append(replace(example, agreed=agreed))
    if tokens_in_all:
        report.notes[COMPARED.format(share=100 * compared / tokens_in_all)] = sum(e.agreed is not None for e in made)
    return made


def batch_next_tokens(agreed: Sequence[tuple[int, AgreedTokens]]) -> NextTokenTargets:
    """Put the next tokens of several rows into one rectangle.

    Args:
        agreed: for each row with next tokens, the index of its first token among the pass's N, and the next tokens.
    """
    ids_MK = pad([row for _, some in agreed for row in some.ids_MK.tolist()], -1)
    teacher_MK = torch.full(ids_MK.shape, -torch.inf)
    position = 0
    for _, some in agreed:
        rows, columns = some.log_probs_MK.shape
        teacher_MK[position : position + rows, :columns] = some.log_probs_MK
        position += rows
    return NextTokenTargets(
        places_M=torch.cat([first + some.places_M for first, some in agreed]),
        ids_MK=torch.where(ids_MK < 0, ids_MK[:, :1], ids_MK),
        teacher_MK=teacher_MK,
    )


def next_token_pair(
    logits_NV: Tensor, targets: NextTokenTargets, temperature: float, share: float | Tensor
) -> NextTokenPair:
    """The student's log-probabilities beside the teacher's.

    The student's probability of all other tokens is summed up from its logits, not taken as 1 minus the rest: a small
    probability would be lost in rounding, and its gradient with it. This holds one copy of the M × V logits until the
    backward pass is over, as many as the cross-entropy holds for these tokens.

    Args:
        logits_NV: the student's logits, in float32.
        targets: the teacher's side.
        temperature: τ of the student's distribution.
        share: number of these positions over that of the optimiser step.
    """
    logits_MV = logits_NV.index_select(0, targets.places_M) / temperature
    all_M = logits_MV.logsumexp(1)
    kept_MK = logits_MV.gather(1, targets.ids_MK)
    rest_M = logits_MV.scatter(1, targets.ids_MK, _NOTHING).logsumexp(1)
    return NextTokenPair(
        teacher_MK=targets.teacher_MK,
        student_MK=kept_MK - all_M[:, None],
        student_rest_M=(rest_M - all_M).clamp_min(_LEAST),
        share=share,
    )
