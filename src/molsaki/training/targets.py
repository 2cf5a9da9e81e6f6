"""What the attention loss pulls the student towards: the teacher's attention, or a control in its place.

A method with a control says what of its gain is the teacher's: `uniform` attention on what a step can see, the rows of
another example (`shuffled`), or all weight on the numbers that the data say are the source (`oracle`), which bounds
what attention on keys can give. Every control keeps the teacher's sum of each row, in every layer, so that only the
distribution over the keys differs: a softmax over rows of another scale would be sharper or flatter. The teacher's
layer weights (Eq. 4) are those of the control.

Legend: L layers (or the heads of all layers), S steps, K keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from molsaki.errors import InputError
from molsaki.methods import AttentionChoice
from molsaki.methods.losses import visible_keys
from molsaki.spans.align import Alignment
from molsaki.spans.find import Spans, find_spans
from molsaki.spans.text import Text
from molsaki.training.example import Example, TeacherRow


def chosen_steps(choice: AttentionChoice, spans: Spans, steps: Sequence[int]) -> list[int]:
    """Those of some steps that are compared."""
    return [step for step in steps if not choice.rationale_steps or spans.steps[step].text == "rationale"]


def chosen_keys(choice: AttentionChoice, spans: Spans, keys: Sequence[int], text: Text) -> list[int]:
    """Those of some keys (or words) that are compared."""
    if choice.question_keys:
        keys = [key for key in keys if spans.keys[key].text == "question"]
    if choice.other_words:
        named = find_spans(text.question, text.rationale, text.keys, text.steps).keys
        keys = [key for key in keys if not any(spans.keys[key].overlaps(span) for span in named)]
    return list(keys)


def visible_to(tokens: Alignment) -> Tensor:
    """Which keys each step can see, a bool tensor [S, K]."""
    step_of_token, key_of_token = torch.tensor([tokens.step_of_token]), torch.tensor([tokens.key_of_token])
    return visible_keys(step_of_token, key_of_token, tokens.n_steps, tokens.n_keys)[0]


def with_row_sums(teacher_LSK: Tensor, weights_SK: Tensor) -> Tensor:
    """Rows with the teacher's sums, distributed over keys by weights.

    Args:
        teacher_LSK: the teacher's attention.
        weights_SK: at least 0, [S, K] or [L, S, K]; a row without a weight becomes 0.
    """
    sums = weights_SK.sum(-1, keepdim=True)
    shares = weights_SK / sums.masked_fill(sums == 0, 1)
    return teacher_LSK.sum(2, keepdim=True) * shares


def uniform_target(teacher_LSK: Tensor, tokens: Alignment) -> Tensor:
    """The same weight on every key that a step can see, and the teacher's row sums."""
    return with_row_sums(teacher_LSK, visible_to(tokens).to(teacher_LSK.dtype))


def oracle_target(teacher_LSK: Tensor, columns: Sequence[Sequence[int]]) -> Tensor:
    """The same weight on the source keys of each step and none on others, and the teacher's row sums.

    Args:
        teacher_LSK: the teacher's attention.
        columns: of each step, the indices of its source keys; at least one.
    """
    weights_SK = torch.zeros_like(teacher_LSK[0])
    for step, keys in enumerate(columns):
        weights_SK[step, list(keys)] = 1
    return with_row_sums(teacher_LSK, weights_SK)


def shuffle_targets(examples: Sequence[Example], seed: int) -> list[Example]:
    """Give each example with attention the rows of another one, and its own teacher's row sums.

    The donors are a random cycle through all examples with attention. Step s gets the donor's step s modulo the donor's
    number of steps. Its visible keys get the weights of the donor's visible keys in their order, from the first again
    after the last. A donor's row without weight becomes a uniform one.

    Args:
        examples: the training examples.
        seed: of the cycle.

    Raises:
        InputError: fewer than two examples have attention.
    """
    index = [i for i, example in enumerate(examples) if example.teacher is not None]
    if len(index) < 2:
        raise InputError(
            f"Expected at least two examples with the teacher's attention for `target: shuffled`; got {len(index)}. "
            "There is no other example to take rows from; use more examples, or another target."
        )
    cycle = [index[i] for i in torch.randperm(len(index), generator=torch.Generator().manual_seed(seed)).tolist()]
    donors = dict(zip(cycle, [*cycle[1:], cycle[0]], strict=True))
    return [_with_rows_of(examples[donors[i]], e) if i in donors else e for i, e in enumerate(examples)]


def _with_rows_of(donor: Example, example: Example) -> Example:
    assert donor.teacher is not None
    assert example.teacher is not None
    source = f"{example.teacher.source}, rows of {donor.teacher.source}"
    return replace(example, teacher=TeacherRow(source, partial(_rows_of, donor, example)))


def _rows_of(donor: Example, example: Example) -> Tensor:
    donor_LSK, teacher_LSK = donor.teacher_LSK, example.teacher_LSK
    assert donor_LSK is not None
    assert donor.tokens is not None
    assert teacher_LSK is not None
    assert example.tokens is not None
    visible_SK, donor_visible_SK = visible_to(example.tokens), visible_to(donor.tokens)
    weights_LSK = torch.zeros_like(teacher_LSK)
    for step, visible_K in enumerate(visible_SK):
        row = step % len(donor_visible_SK)
        keys = visible_K.nonzero().flatten()
        donor_LK = donor_LSK[:, row, donor_visible_SK[row]]
        if donor_LK.shape[1] == 0:
            donor_LK = donor_LK.new_ones(len(donor_LK), 1)
        weights_LK = donor_LK[:, torch.arange(len(keys)) % donor_LK.shape[1]]
        weights_LSK[:, step, keys] = torch.where(weights_LK.sum(1, keepdim=True) > 0, weights_LK, 1.0)
    return with_row_sums(teacher_LSK, weights_LSK)
