"""Batches for a loop of one's own: chats have their template's tokens, and no part of a row is ignored in silence."""

from __future__ import annotations

import pytest
from chat_tokenizers import CHATML, DEFAULT_SYSTEM, DROPS_THINKING, NO_SYSTEM, THINKS, chat_tokenizer
from small_world import make_problems, make_store, make_texts

from molsaki import Signals, SpanCollator
from molsaki.encoding.encode import IGNORED
from molsaki.errors import InputError
from molsaki.training.span_collator import NO_ROOM, PROMPT_CHANGED


@pytest.fixture
def signals(tmp_path):
    problems = make_problems(4)
    return Signals(make_texts(problems), make_store(tmp_path, problems))


def chats(signals, **more):
    return [
        {
            "id": text.id,
            "prompt": [{"role": "user", "content": f"Solve this. {text.question}"}],
            "completion": [{"role": "assistant", "content": f"{text.rationale} Done."}],
            **more,
        }
        for text in signals.texts.values()
    ]


def learned(tokenizer, batch, row=0):
    return tokenizer.decode([label for label in batch["labels"][row].tolist() if label != IGNORED])


@pytest.mark.parametrize("template", [CHATML, DEFAULT_SYSTEM, THINKS], ids=["chatml", "system", "thinks"])
def test_the_answer_is_learned_behind_the_chat(signals, template):
    tokenizer, rows = chat_tokenizer(template), chats(signals)
    batch = SpanCollator(tokenizer, signals)(rows)
    turns = rows[0]["prompt"] + rows[0]["completion"]
    whole = tokenizer.apply_chat_template(turns, tokenize=False)
    written = tokenizer.decode(batch["input_ids"][0][batch["attention_mask"][0].bool()])
    assert written == whole
    opened = tokenizer.apply_chat_template(rows[0]["prompt"], tokenize=False, add_generation_prompt=True)
    assert learned(tokenizer, batch) == whole.removeprefix(opened)
    assert len(batch["attention"].teacher_BLSK) == 4


def test_messages_are_prompt_and_completion(signals):
    collate = SpanCollator(chat_tokenizer(), signals)
    rows = chats(signals)
    turns = [{"id": row["id"], "messages": row["prompt"] + row["completion"], "prompt": None} for row in rows]
    for name in ("input_ids", "labels"):
        assert collate(turns)[name].equal(collate(rows)[name])


def test_variables_of_the_chat_template_reach_it(signals):
    tokenizer = chat_tokenizer(THINKS)
    plain, without = chats(signals), chats(signals, chat_template_kwargs={"enable_thinking": False})
    collate = SpanCollator(tokenizer, signals)
    assert "</think>" in learned(tokenizer, collate(plain))
    assert "</think>" not in learned(tokenizer, collate(without))


def test_a_prompt_that_an_answer_changes_is_counted(signals):
    """The chat template asks behind an open thought, which a finished answer does not have."""
    tokenizer = chat_tokenizer(DROPS_THINKING)
    collate = SpanCollator(tokenizer, signals)
    batch = collate(chats(signals))
    assert collate.report.notes[PROMPT_CHANGED] == 4
    assert "<think>" not in tokenizer.decode(batch["input_ids"][0])
    assert learned(tokenizer, batch).startswith(signals.texts["p0"].rationale)


def test_a_chat_without_room_is_counted(signals):
    tokenizer, rows = chat_tokenizer(), chats(signals)
    sizes = [len(tokenizer.apply_chat_template(r["prompt"], add_generation_prompt=True)["input_ids"]) for r in rows]
    collate = SpanCollator(tokenizer, signals, max_length=max(sizes))
    assert len(collate(rows)["input_ids"]) == sum(size < max(sizes) for size in sizes)
    assert collate.report.skipped == {NO_ROOM: sum(size == max(sizes) for size in sizes)}


@pytest.mark.parametrize(
    ("template", "row", "named"),
    [
        (NO_SYSTEM, {"prompt": [{"role": "system", "content": "x"}]}, "no system role"),
        (None, {}, "chat_template"),
        (CHATML, {"completion": "text"}, "completion"),
        (CHATML, {"prompt": []}, "messages"),
        (CHATML, {"chat_template_kwargs": {"tokenize": True}}, "tokenize"),
        (CHATML, {"tools": "not JSON"}, "p0"),
        (CHATML, {"completion": [{"role": "assistant", "content": "other"}]}, "rationale"),
    ],
    ids=str,
)
def test_a_chat_that_cannot_be_rendered_is_refused(signals, template, row, named):
    with pytest.raises(InputError, match=named):
        SpanCollator(chat_tokenizer(template), signals)([chats(signals)[0] | row])
