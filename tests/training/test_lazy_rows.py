"""The teacher's rows stay on the disk until their batch comes, however large the store is."""

from __future__ import annotations

import pickle

import torch
from small_world import TEMPLATES, make_problems, make_store, make_texts, make_tokenizer

from molsaki.methods import AttentionChoice, terms_of
from molsaki.store.attention_rows import ATTENTION
from molsaki.store.signal_reader import SignalStore
from molsaki.training import Collator, encode_examples


def encode(store, problems, target="teacher"):
    choice = AttentionChoice(target=target)
    return encode_examples(make_tokenizer(), problems, make_texts(problems), TEMPLATES, 160, store, choice, 3)[0]


def test_encoding_opens_no_row_and_a_batch_opens_its_own(tmp_path, monkeypatch):
    problems = make_problems(8)
    store = make_store(tmp_path / "a", problems)
    opened = []
    get = SignalStore.get

    def note(self, row_id, text_hash, names=None):
        if names is None or ATTENTION in names:
            opened.append(row_id)
        return get(self, row_id, text_hash, names)

    monkeypatch.setattr(SignalStore, "get", note)
    examples = encode(store, problems)
    assert opened == []
    Collator(make_tokenizer(), terms_of("molsaki", {}))(examples[2:4])
    assert sorted(opened) == ["p2", "p3"]


def test_examples_reach_the_workers_of_a_data_loader_with_their_rows(tmp_path):
    problems = make_problems(4)
    store = make_store(tmp_path / "a", problems)
    for target in ("teacher", "uniform", "shuffled"):
        examples = encode(store, problems, target)
        for one, other in zip(examples, pickle.loads(pickle.dumps(examples)), strict=True):  # noqa: S301 - our own bytes
            assert torch.equal(one.teacher_LSK, other.teacher_LSK)
            assert one.teacher.source == other.teacher.source


def test_a_target_of_other_numbers_has_another_source(tmp_path):
    problems = make_problems(3)
    store, other = (make_store(tmp_path / name, problems, layers=n) for name, n in (("a", 3), ("b", 2)))
    sources = [[e.teacher.source for e in encode(*pair)] for pair in ((store, problems), (other, problems))]
    sources.append([e.teacher.source for e in encode(store, problems, "uniform")])
    sources.append([e.teacher.source for e in encode(store, problems, "shuffled")])
    assert len({source for some in sources for source in some}) == 12
