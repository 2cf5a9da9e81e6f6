"""Shift, agreement and layers on attention that is made by hand, where the right answer is known."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from molsaki.analysis import TextAttention, agreement, layer_profile, layer_weights, progressive_shift, step_facts
from molsaki.analysis.agreement import _rank_correlation
from molsaki.errors import EvaluationError
from molsaki.spans.find import find_spans
from molsaki.spans.text import Text

QUESTION = "Ada has 3 red apples and 4 more."
RATIONALE = "Take the 3 apples now. Then add the 4 apples. So that is 7 then."


def words_of(question: str, rationale: str) -> list[tuple[str, int, int]]:
    """Every word as a token: its text, its start and its end."""
    found = []
    for name, text in (("question", question), ("rationale", rationale)):
        at = 0
        for word in text.split():
            start = text.index(word, at)
            at = start + len(word)
            found.append((name, start, at))
    return found


def make_attention(
    row_id: str = "a", attention: np.ndarray | None = None, layers: int = 1, keys: str | tuple[str, ...] = "numbers"
) -> TextAttention:
    """Attention on the text above: causal, even over what is visible, unless it is given [L, T, T]."""
    text = Text(row_id, QUESTION, RATIONALE, keys)
    spans = find_spans(QUESTION, RATIONALE, keys)
    tokens = words_of(QUESTION, RATIONALE)

    def group(found: object, name: str, start: int, end: int) -> int:
        hits = [i for i, s in enumerate(found) if s.text == name and s.start < end and start < s.end]  # type: ignore[arg-type, var-annotated]
        return hits[0] if hits else -1

    step = np.array([group(spans.steps, *token) for token in tokens])
    key = np.array([group(spans.keys, *token) for token in tokens])
    T = len(tokens)
    if attention is None:
        attention = np.repeat((np.tril(np.ones((T, T))) / np.arange(1, T + 1)[:, None])[None], layers, 0)
    summed = np.stack([attention[:, step == s].sum(1) for s in range(spans.n_steps)], axis=1)
    return TextAttention(text, spans, summed, step, key)


def with_pull(row_id: str, by_step: list[float], rng: np.random.Generator) -> TextAttention:
    """Attention that gives, at each step, a known share more to visible keys than to other words."""
    made = make_attention(row_id)
    T = len(made.step_of_token_T)
    weights = np.tril(rng.uniform(0.5, 1.5, (T, T)))
    weights /= weights.sum(1, keepdims=True)
    for i in range(T):
        pull = by_step[int(made.step_of_token_T[i])]
        keys = (made.key_of_token_T >= 0) & (np.arange(T) <= i)
        if keys.any():
            weights[i] = weights[i] * (1 - pull)
            weights[i, keys] += pull / keys.sum()
    return make_attention(row_id, weights[None])


def test_shares_are_those_of_a_slow_reference() -> None:
    rng = np.random.default_rng(1)
    made = with_pull("a", [0.0, 0.1, 0.2, 0.3], rng)
    for step in range(made.spans.n_steps):
        on_keys = sum(
            made.attention_LST[0, step, t] for t in range(len(made.key_of_token_T)) if made.key_of_token_T[t] >= 0
        )
        assert made.share_LS[0, step] == pytest.approx(on_keys / (made.step_of_token_T == step).sum())
    assert made.keys_LSK.sum(2) == pytest.approx(made.share_LS * made.tokens_S)


def test_shuffled_keys_are_the_mean_over_every_placement() -> None:
    made = with_pull("a", [0.0, 0.1, 0.2, 0.3], np.random.default_rng(2))
    per_step = []
    for step in range(made.spans.n_steps):
        mine = np.flatnonzero(made.step_of_token_T == step)
        count = int((made.key_of_token_T[mine] >= 0).sum())
        per_step.append(list(itertools.combinations(mine, count)))
    for step in range(made.spans.n_steps):
        slow = sum(
            float(np.mean([made.attention_LST[0, step, list(chosen)].sum() for chosen in choices]))
            for choices in per_step
        )
        assert made.shuffled_LS[0, step] == pytest.approx(slow / made.tokens_S[step])


def test_a_planted_shift_is_found_and_none_is_not_invented() -> None:
    rng = np.random.default_rng(3)
    rising = {f"{i}": with_pull(f"{i}", [0.0, 0.0, 0.2, 0.4], rng) for i in range(40)}
    level = {f"{i}": with_pull(f"{i}", [0.0, 0.0, 0.0, 0.0], rng) for i in range(40)}
    found, none = progressive_shift(rising), progressive_shift(level)
    assert found.change is not None
    assert none.change is not None
    assert found.change.interval.low > 0.2
    assert found.change.mean > 0.2
    assert abs(none.change.mean) < 0.06
    assert [step.step for step in found.steps] == [0, 1, 2, 3]
    assert found.steps[3].above.mean > found.steps[1].above.mean
    assert found.too_short == 0
    both = progressive_shift(rising, rising)
    assert both.change is not None
    assert (both.change.runs, both.change.problems) == (2, 40)
    assert both.change.mean == pytest.approx(found.change.mean)


def test_runs_of_other_texts_are_refused() -> None:
    with pytest.raises(EvaluationError) as error:
        progressive_shift({"a": make_attention("a")}, {"b": make_attention("b")})
    assert "2 texts" in str(error.value)
    assert "'a'" in str(error.value)
    for runs in ((), ({},)):
        with pytest.raises(EvaluationError):
            progressive_shift(*runs)


def test_a_step_that_was_cut_off_does_not_count() -> None:
    made = make_attention()
    gone = made.step_of_token_T == 3
    cut = TextAttention(
        made.text,
        made.spans,
        made.attention_LST * np.array([1, 1, 1, 0])[None, :, None],
        np.where(gone, -1, made.step_of_token_T),
        made.key_of_token_T,
    )
    assert np.isnan(cut.share_LS[0, 3])
    assert step_facts(cut)[3] is None
    shift = progressive_shift({"a": cut}, at_least=1)
    assert [step.step for step in shift.steps] == [0, 1, 2]
    assert shift.change is not None


def test_agreement_with_oneself_is_whole_and_with_the_reverse_is_none() -> None:
    rng = np.random.default_rng(4)
    mine = {f"{i}": with_pull(f"{i}", [0, 0.3, 0.3, 0.3], rng) for i in range(8)}
    same = agreement(mine, mine)
    assert same.divergence.mean == pytest.approx(0, abs=1e-9)
    assert same.same_top.mean == 1
    assert same.rank is not None
    assert same.rank.mean == pytest.approx(1)
    assert 0 < same.chance < 1
    other = {row_id: make_attention(row_id, None) for row_id in mine}
    less = agreement(mine, other)
    assert less.divergence.mean > 0.001
    assert less.problems == 8


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([0.1, 0.2, 0.3], [1, 5, 9], 1.0),
        ([0.1, 0.2, 0.3, 0.4], [9, 4, 2, 1], -1.0),
        ([0.1, 0.1, 0.3], [1, 2, 3], 0.75**0.5),
        ([0.5, 0.5, 0.1, 0.1], [1, 1, 0, 0], 1.0),
        ([0.1, 0.1, 0.1], [1, 2, 3], math.nan),
        ([1, 2, 3], [0.3, 0.3, 0.3], math.nan),
        ([0.1, 0.2], [1, 2], math.nan),
    ],
)
def test_rank_correlation_gives_ties_their_mean_rank(a: list[float], b: list[float], expected: float) -> None:
    found = _rank_correlation(np.array(a, dtype=np.float64), np.array(b, dtype=np.float64))
    assert found == pytest.approx(expected, nan_ok=True)


def test_agreement_is_of_one_text() -> None:
    with pytest.raises(EvaluationError) as error:
        agreement({"a": make_attention("a")}, {"a": make_attention("a", keys=("apples",))})
    assert "'a'" in str(error.value)
    with pytest.raises(EvaluationError):
        agreement({"a": make_attention("a")}, {"b": make_attention("b")})


def test_step_facts_name_the_most_attended_key_and_its_place() -> None:
    made = make_attention()
    T = len(made.step_of_token_T)
    attention = np.tril(np.ones((T, T)))
    keys = {int(k): int(np.flatnonzero(made.key_of_token_T == k)[0]) for k in range(made.spans.n_keys)}
    attention[made.step_of_token_T == 2, keys[1]] += 50
    attention /= attention.sum(1, keepdims=True)
    facts = step_facts(make_attention("a", attention[None]))
    assert facts[2] is not None
    assert (facts[2].top, facts[2].place, facts[2].visible) == (1, "question", 4)
    assert 0 <= facts[2].entropy < 1
    assert all(f is not None and f.entropy <= np.log2(f.visible) + 1e-9 for f in facts)


def test_layers_are_measured_one_by_one() -> None:
    rng = np.random.default_rng(5)
    attention_of = {}
    for i in range(12):
        flat, pulled = make_attention(f"{i}"), with_pull(f"{i}", [0.4] * 4, rng)
        both = np.concatenate([flat.attention_LST, pulled.attention_LST])
        attention_of[f"{i}"] = replace(flat, attention_LST=both)
    profile = layer_profile(attention_of)
    assert [layer.layer for layer in profile] == [0, 1]
    assert profile[1].above.interval.low > 0.1 > profile[0].above.mean
    ids, weights = layer_weights(attention_of)
    assert ids == list(attention_of)
    assert weights.sum(1) == pytest.approx(1)
    assert (weights[:, 1] > weights[:, 0]).all()
