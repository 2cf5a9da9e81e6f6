"""The divergence of next tokens: against whole distributions in float64, at nothing, and through two tokenizers."""

from __future__ import annotations

import itertools

import pytest
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from molsaki.encoding.encode import encode_student, encode_teacher
from molsaki.encoding.prompts import EXPLAIN, TEACHER, PromptTemplate
from molsaki.encoding.token_bytes import token_bytes
from molsaki.encoding.token_map import (
    AgreedSpans,
    AgreedTokens,
    LikelyTokens,
    TokenMap,
    differing_cuts,
    rationale_spans,
)
from molsaki.methods import METHODS, MethodInputs, NextTokenPair, StudentShape
from molsaki.methods.logits import next_token_divergence
from molsaki.store.next_tokens import join_next_tokens, likeliest_tokens, temperature_names, unpack_next_tokens
from molsaki.training.next_tokens import batch_next_tokens, compared_ids, kept_and_rest, next_token_pair

POSITIONS, WORDS = 6, 40


def compare(logits, targets, agreed, temperature):
    batched = batch_next_tokens([(0, agreed)])
    given = kept_and_rest(logits, compared_ids(targets, batched), temperature)
    return next_token_pair(*given, batched, 1.0)


def both(top, temperature, scale=3.0):
    """The divergence of stored and met logits of one vocabulary, and the whole distributions' in float64."""
    generator = torch.Generator().manual_seed(5)
    teacher, student = torch.randn(2, POSITIONS, WORDS, generator=generator) * scale
    student.requires_grad_()
    names = temperature_names([temperature])
    parts = [likeliest_tokens(part, top, names) for part in teacher.split(2)]
    row = join_next_tokens(parts, [(i, i + 1) for i in range(POSITIONS)])
    stored = unpack_next_tokens(row, names, temperature)
    agreed = AgreedTokens(torch.arange(POSITIONS), stored.ids_PC, stored.log_probs_PC)
    pair = compare(student, student.argmax(1), agreed, temperature)
    p = torch.log_softmax(teacher.double() / temperature, 1)
    q = torch.log_softmax(student.double() / temperature, 1)
    return next_token_divergence(pair), p, q, stored, student


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("top", [1, 5, WORDS])
def test_it_is_that_of_the_distributions_with_all_else_in_one_cell(top, temperature):
    got, p, q, stored, student = both(top, temperature)
    expected = []
    for i, ids in enumerate(stored.ids_PC.tolist()):
        others = [v for v in range(WORDS) if v not in ids]
        cells = [(p[i, v], q[i, v]) for v in ids]
        cells += [(p[i, others].logsumexp(0), q[i, others].logsumexp(0))] if others else []
        expected.append(sum(a.exp() * (a - b) for a, b in cells))
    expected = torch.stack(expected)
    torch.testing.assert_close(got.double(), expected, atol=2e-6, rtol=1e-4)
    gradient = torch.autograd.grad(got.sum(), student, retain_graph=True)[0]
    wanted = torch.autograd.grad(expected.sum(), student)[0]
    torch.testing.assert_close(gradient, wanted, atol=1e-5, rtol=1e-4)
    whole = (p.exp() * (p - q)).sum(1)
    assert bool((got.double() <= whole * (1 + 1e-5) + 1e-4).all())
    if top == WORDS:
        torch.testing.assert_close(got.double(), whole, atol=2e-6, rtol=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_nothing_and_everything_have_finite_gradients(temperature):
    got, *_, student = both(WORDS, temperature, scale=300.0)
    got.sum().backward()
    assert bool(got.isfinite().all())
    assert bool(student.grad.isfinite().all())


def test_the_same_on_both_sides_is_none():
    log_probs = torch.randn(3, 9).log_softmax(1)
    rest = log_probs[:, 4:].logsumexp(1)
    pair = NextTokenPair(log_probs[:, :4], log_probs[:, :4].clone().requires_grad_(), rest)
    torch.testing.assert_close(next_token_divergence(pair), torch.zeros(3), atol=1e-6, rtol=0)


def test_the_method_weighs_its_terms_and_shares():
    method = METHODS["logits"](METHODS["logits"].Settings(beta=0.5, temperature=2.0), StudentShape(()))
    teacher, student = torch.randn(2, 3, 5).log_softmax(2)
    pair = NextTokenPair(teacher[:, :3], student[:, :3], student[:, 3:].logsumexp(1), 0.25)
    one = torch.tensor(1.0)
    losses = {"predict": one, "explain": one}
    parts = method(MethodInputs(losses, next_tokens=pair))
    expected = 4 * next_token_divergence(pair).mean() * 0.25
    torch.testing.assert_close(parts.total, 1 + 0.5 * expected)
    torch.testing.assert_close(parts.terms["logits"], expected)
    assert method(MethodInputs(losses)).terms["logits"].item() == 0


def made(*words):
    """A byte-level tokenizer with these words beside the single bytes."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary, merges = {"<end>": 0, **{letter: i + 1 for i, letter in enumerate(letters)}}, []
    for word in words:
        for size in range(2, len(word) + 1):
            if word[:size] not in vocabulary:
                vocabulary[word[:size]] = len(vocabulary)
                merges.append((word[: size - 1], word[size - 1]))
    backend = Tokenizer(BPE(vocab=vocabulary, merges=merges))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>", clean_up_tokenization_spaces=False)


def read(teacher, rationale, top, likeliest_last=None):
    encoded = encode_teacher(teacher, PromptTemplate.parse(TEACHER), "How many?", rationale, 999)
    spans = [*rationale_spans(encoded, token_bytes(teacher), rationale), (len(rationale),) * 2]
    logits = torch.randn(len(spans), len(teacher), generator=torch.Generator().manual_seed(1))
    if likeliest_last is not None:
        logits[-1, likeliest_last] = 50.0
    best = logits.log_softmax(1).topk(top, dim=1)
    return LikelyTokens(tuple(spans), best.indices, best.values), logits.log_softmax(1)


@pytest.mark.parametrize("ends", [True, False])
def test_two_tokenizers_meet_where_they_cut_alike(ends):
    rationale = "Tom has 73 pens — so é."
    teacher, student = made("Ġhas", "Ġ73", "Ġpens"), made("Ġhas", "Ġ7", "Ġpe")
    theirs, _ = read(teacher, rationale, 20, teacher.eos_token_id if ends else 7)
    explain = encode_student(student, PromptTemplate.parse(EXPLAIN), "How many?", rationale, 999)
    agreed = TokenMap(teacher, student).agree(theirs, explain, rationale)
    names = student.convert_ids_to_tokens(explain.input_ids[explain.completion_token :])
    at = [names[place] for place in agreed.positions_M.tolist()]
    expected = ["T", "o", "m", "Ġhas", "Ġ", "Ġ", "s", "o", "Ġ", "."]
    # The teacher's " 73" and " pens" are cut otherwise; bytes of "—" and "é" are no characters of their own.
    assert at[: len(at) - ends] == [name for name in expected if name in at]
    assert "Ġ7" not in at
    assert "Ġpe" not in at
    assert (at[-1] == "<end>") is ends
    if ends:
        assert agreed.ids_MK[-1, 0] == student.eos_token_id
    theirs_bytes, mine = token_bytes(teacher), token_bytes(student)
    spans = rationale_spans(explain, mine, rationale)
    for place, ids, log_probs in zip(agreed.positions_M.tolist(), agreed.ids_MK, agreed.log_probs_MK, strict=True):
        if names[place] == "<end>":
            continue
        row = theirs.spans.index(spans[place])
        wanted = [
            (mine.index(theirs_bytes[i]), float(p))
            for i, p in zip(theirs.ids_PC[row].tolist(), theirs.log_probs_PC[row], strict=True)
            if theirs_bytes[i] in mine and theirs_bytes[i] is not None
        ]
        got = [(int(i), float(p)) for i, p in zip(ids, log_probs, strict=True) if p > -torch.inf]
        assert got == wanted


def test_one_tokenizer_agrees_with_itself_everywhere():
    tokenizer, rationale = made("Ġhas", "Ġpens"), "Tom has 73 pens."
    theirs, log_probs = read(tokenizer, rationale, len(made("Ġhas", "Ġpens")), 0)
    explain = encode_student(tokenizer, PromptTemplate.parse(EXPLAIN), "How many?", rationale, 999)
    agreed = TokenMap(tokenizer, tokenizer).agree(theirs, explain, rationale)
    # The teacher's first token starts with the prompt's space or not at all; every other one is the student's.
    count = len(explain.input_ids) - explain.completion_token
    assert agreed.positions_M.tolist() == list(range(count))[-len(agreed.positions_M) :]
    assert len(agreed.positions_M) >= count - 1
    torch.testing.assert_close(agreed.log_probs_MK[-1, 0], log_probs[-1, 0])


def test_two_of_the_teachers_tokens_can_be_one_of_the_students():
    from molsaki.encoding.token_map import _merge

    ids, log_probs = torch.tensor([[3, 5, 3, -1]]), torch.tensor([[0.4, 0.3, 0.2, 0.1]]).log()
    merged, added = _merge(ids, log_probs)
    assert merged.tolist() == [[3, 5, -1, -1]]
    torch.testing.assert_close(added.exp(), torch.tensor([[0.6, 0.3, 0.0, 0.0]]))


def test_merged_tokens_are_those_of_adding_one_by_one():
    from molsaki.encoding.token_map import _merge

    ids = torch.randint(-1, 9, (20, 15), generator=torch.Generator().manual_seed(2))
    log_probs = torch.randn(20, 15, generator=torch.Generator().manual_seed(3)) * 9
    log_probs[0] = -1e4
    merged, added = _merge(ids, log_probs)
    for row, logs, got, sums in zip(ids.tolist(), log_probs, merged.tolist(), added, strict=True):
        for place, token in enumerate(row):
            if token < 0 or token in row[:place]:
                assert (got[place], float(sums[place])) == (-1, -torch.inf)
                continue
            assert got[place] == token
            same = torch.tensor([other == token for other in row])
            torch.testing.assert_close(sums[place], logs[same].logsumexp(0))


# ---- spans that both cut differently ----


def spans_of(*texts):
    ends = [0]
    for text in texts:
        ends.append(ends[-1] + len(text))
    return list(itertools.pairwise(ends))


@pytest.mark.parametrize(
    ("mine", "theirs", "expected"),
    [
        (("Tom", " 73", "."), ("Tom", " 73", "."), []),
        (("Tom", " 73", "."), ("Tom", " 7", "3", "."), [((1,), (1, 2))]),
        (("Tom", " ", "73", "."), ("Tom", " 7", "3", "."), [((1, 2), (1, 2))]),
        ((" 123", "4"), (" 1", "234"), [((0, 1), (0, 1))]),
        (("a", "bc", "d", "e"), ("ab", "c", "de"), [((0, 1), (0, 1)), ((2, 3), (2,))]),
        (("abc",), ("ab", "cd"), []),
    ],
)
def test_the_shortest_stretches_are_found(mine, theirs, expected):
    found = differing_cuts(spans_of(*mine), spans_of(*theirs))
    assert [(tuple(places), tuple(rows)) for places, rows in found] == expected
    swapped = differing_cuts(spans_of(*theirs), spans_of(*mine))
    assert [(tuple(rows), tuple(places)) for rows, places in swapped] == [(b, a) for a, b in expected]


def test_a_stretch_with_bytes_of_a_letter_is_none():
    """A token without characters of its own would be left out of the product."""
    assert differing_cuts([(0, 2), (-1, -1), (3, 5)], [(0, 5)]) == []
    assert differing_cuts([(0, 5)], [(0, 2), (-1, -1), (3, 5)]) == []


def span_texts(agreed, student, explain):
    places = [[place for place in row if place >= 0] for row in agreed.spans.positions_WJ.tolist()]
    ids = explain.input_ids[explain.completion_token :]
    return [student.decode([ids[place] for place in row]) for row in places], places


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_numbers_that_are_cut_differently_are_compared_by_their_probability(temperature):
    """Against the products over both sides' tokens, one at a time in float64; the gradient too."""
    rationale = "Tom has 73 pens and 1209 bags."
    teacher, student = made("Ġhas", "Ġ73", "Ġ1", "209"), made("Ġhas", "Ġ7", "Ġpe", "12")
    theirs, log_PV = read(teacher, rationale, len(teacher), teacher.eos_token_id)
    log_PV = (log_PV.double() / temperature).log_softmax(1)
    order = theirs.ids_PC
    theirs = LikelyTokens(theirs.spans, order, log_PV.gather(1, order).float())
    explain = encode_student(student, PromptTemplate.parse(EXPLAIN), "How many?", rationale, 999)
    tokens = TokenMap(teacher, student)
    agreed = tokens.agree(theirs, explain, rationale)
    texts, places = span_texts(agreed, student, explain)
    assert texts == [" 73", " pe", " 1209"]
    kinds = tokens.kinds(explain, rationale)
    numbers = {place for place, kind in enumerate(kinds) if kind == "numbers"}
    assert numbers <= agreed.compared, "every token of every number is compared"
    ids = torch.tensor(explain.input_ids[explain.completion_token :])
    logits = torch.randn(len(ids), len(student), generator=torch.Generator().manual_seed(3)).mul_(2).requires_grad_()
    pair = compare(logits, ids, agreed, temperature)
    got = next_token_divergence(pair)[-3:]
    mine_NV = torch.log_softmax(logits.double() / temperature, 1)
    expected = []
    for text, row in zip(texts, places, strict=True):
        start = rationale.index(text)
        rows = [i for i, (a, b) in enumerate(theirs.spans) if start <= a < b <= start + len(text)]
        own = teacher(text, add_special_tokens=False)["input_ids"]
        p = sum(log_PV[i, token] for i, token in zip(rows, own, strict=True)).exp()
        q = sum(mine_NV[place, ids[place]] for place in row).exp()
        expected.append(p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log())
    expected = torch.stack(expected)
    torch.testing.assert_close(got.double(), expected, atol=1e-6, rtol=1e-4)
    gradient = torch.autograd.grad(got.sum(), logits, retain_graph=True)[0]
    torch.testing.assert_close(gradient, torch.autograd.grad(expected.sum(), logits)[0], atol=1e-6, rtol=1e-4)


def test_a_span_with_an_unlikely_token_of_the_teacher_is_left_out():
    """Its probability is not known; that of the others must not be taken for it."""
    rationale = "Tom has 73 pens."
    teacher, student = made("Ġ73"), made("Ġ7")
    whole, _ = read(teacher, rationale, len(teacher))
    token = teacher.convert_tokens_to_ids("Ġ73")
    keep = [[i for i in ids if i != token][: len(teacher) - 1] for ids in whole.ids_PC.tolist()]
    ids = torch.tensor(keep)
    log_probs = torch.stack([dict_row(whole, i, some) for i, some in enumerate(keep)])
    explain = encode_student(student, PromptTemplate.parse(EXPLAIN), "How many?", rationale, 999)
    tokens = TokenMap(teacher, student)
    assert tokens.agree(whole, explain, rationale).spans is not None
    assert tokens.agree(LikelyTokens(whole.spans, ids, log_probs), explain, rationale).spans is None


def dict_row(whole, row, ids):
    known = dict(zip(whole.ids_PC[row].tolist(), whole.log_probs_PC[row], strict=True))
    return torch.stack([known[i] for i in ids])


def test_a_certain_span_has_a_finite_gradient():
    """1 − P is summed up from the logits: taken as a difference it would be 0, and its logarithm −∞."""
    logits = torch.zeros(3, 5)
    logits[:, 1] = 200.0
    logits.requires_grad_()
    spans = AgreedSpans(torch.tensor([[0, 1, 2]]), torch.tensor([-0.5]))
    agreed = AgreedTokens(torch.zeros(0).long(), torch.zeros(0, 1).long(), torch.zeros(0, 1), spans)
    pair = compare(logits, torch.ones(3).long(), agreed, 1.0)
    loss = next_token_divergence(pair).sum()
    loss.backward()
    assert bool(loss.isfinite())
    assert bool(logits.grad.isfinite().all())
