"""Shift, agreement and layers on looks that are made by hand, where the right answer is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from molsaki.analysis import Look, agreement, layer_profile, layer_weights, progressive_shift, step_facts
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


def make_look(
    row_id: str = "a", attention: np.ndarray | None = None, layers: int = 1, keys: str | tuple[str, ...] = "numbers"
) -> Look:
    """A look at the text above; causal attention, even over what is visible, unless it is given [L, T, T]."""
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
    return Look(text, spans, summed, step, key)


def with_pull(row_id: str, by_step: list[float], rng: np.random.Generator) -> Look:
    """Attention that gives, at each step, a known share more to visible keys than to other words."""
    look = make_look(row_id)
    T = len(look.step_of_token_T)
    weights = np.tril(rng.uniform(0.5, 1.5, (T, T)))
    weights /= weights.sum(1, keepdims=True)
    for i in range(T):
        pull = by_step[int(look.step_of_token_T[i])]
        keys = (look.key_of_token_T >= 0) & (np.arange(T) <= i)
        if keys.any():
            weights[i] = weights[i] * (1 - pull)
            weights[i, keys] += pull / keys.sum()
    return make_look(row_id, weights[None])


def test_shares_are_those_of_a_slow_reference() -> None:
    rng = np.random.default_rng(1)
    look = with_pull("a", [0.0, 0.1, 0.2, 0.3], rng)
    for step in range(look.spans.n_steps):
        on_keys = sum(
            look.attention_LST[0, step, t] for t in range(len(look.key_of_token_T)) if look.key_of_token_T[t] >= 0
        )
        assert look.share_LS[0, step] == pytest.approx(on_keys / (look.step_of_token_T == step).sum())
    assert look.keys_LSK.sum(2) == pytest.approx(look.share_LS * look.tokens_S)


def test_shuffled_keys_are_the_mean_over_every_placement() -> None:
    look = with_pull("a", [0.0, 0.1, 0.2, 0.3], np.random.default_rng(2))
    per_step = []
    for step in range(look.spans.n_steps):
        mine = np.flatnonzero(look.step_of_token_T == step)
        count = int((look.key_of_token_T[mine] >= 0).sum())
        per_step.append(list(itertools.combinations(mine, count)))
    for step in range(look.spans.n_steps):
        slow = sum(
            float(np.mean([look.attention_LST[0, step, list(chosen)].sum() for chosen in choices]))
            for choices in per_step
        )
        assert look.shuffled_LS[0, step] == pytest.approx(slow / look.tokens_S[step])


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
    with pytest.raises(EvaluationError, match="the same texts; 2 differ"):
        progressive_shift({"a": make_look("a")}, {"b": make_look("b")})
    with pytest.raises(EvaluationError, match="got none"):
        progressive_shift()


def test_a_step_that_was_cut_off_has_no_share_and_no_say() -> None:
    look = make_look()
    gone = look.step_of_token_T == 3
    cut = Look(
        look.text,
        look.spans,
        look.attention_LST * np.array([1, 1, 1, 0])[None, :, None],
        np.where(gone, -1, look.step_of_token_T),
        look.key_of_token_T,
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
    other = {row_id: make_look(row_id, None) for row_id in mine}
    less = agreement(mine, other)
    assert less.divergence.mean > 0.001
    assert less.problems == 8


def test_agreement_is_of_one_text() -> None:
    with pytest.raises(EvaluationError, match="different ones"):
        agreement({"a": make_look("a")}, {"a": make_look("a", keys=("apples",))})
    with pytest.raises(EvaluationError, match="none of 0"):
        agreement({"a": make_look("a")}, {"b": make_look("b")})


def test_step_facts_name_the_most_watched_key_and_where_it_stands() -> None:
    look = make_look()
    T = len(look.step_of_token_T)
    attention = np.tril(np.ones((T, T)))
    keys = {int(k): int(np.flatnonzero(look.key_of_token_T == k)[0]) for k in range(look.spans.n_keys)}
    attention[look.step_of_token_T == 2, keys[1]] += 50
    attention /= attention.sum(1, keepdims=True)
    facts = step_facts(make_look("a", attention[None]))
    assert facts[2] is not None
    assert (facts[2].top, facts[2].place, facts[2].visible) == (1, "question", 4)
    assert 0 <= facts[2].entropy < 1
    assert all(f is not None and f.entropy <= np.log2(f.visible) + 1e-9 for f in facts)


def test_layers_are_told_apart() -> None:
    rng = np.random.default_rng(5)
    looks = {}
    for i in range(12):
        flat, pulled = make_look(f"{i}"), with_pull(f"{i}", [0.4] * 4, rng)
        both = np.concatenate([flat.attention_LST, pulled.attention_LST])
        looks[f"{i}"] = Look(flat.text, flat.spans, both, flat.step_of_token_T, flat.key_of_token_T)
    profile = layer_profile(looks)
    assert [layer.layer for layer in profile] == [0, 1]
    assert profile[1].above.interval.low > 0.1 > profile[0].above.mean
    ids, weights = layer_weights(looks)
    assert ids == list(looks)
    assert weights.sum(1) == pytest.approx(1)
    assert (weights[:, 1] > weights[:, 0]).all()
