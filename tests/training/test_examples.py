"""`encode_examples` refuses input that does not go together, and counts what the teacher's rows lack."""

from __future__ import annotations

import pytest
import torch
from small_world import (
    CONTEXT,
    TEMPLATES,
    make_examples,
    make_problems,
    make_store,
    make_texts,
    make_tokenizer,
    train,
)

from molsaki import encode_examples
from molsaki.encoding.encode import encode_teacher
from molsaki.errors import ArtefactError, InputError
from molsaki.methods import AttentionChoice
from molsaki.spans.views import WORDS
from molsaki.store.attention_rows import attention_schema, pack_attention
from molsaki.store.signal_reader import SignalStore
from molsaki.store.signal_writer import SignalWriter
from molsaki.training.shared_attention import DROPPED, NO_ATTENTION, NOTHING_LEFT


def encode(problems, attention=None, choice=None, max_length=CONTEXT):
    texts = make_texts(problems)
    return encode_examples(make_tokenizer(), problems, texts, TEMPLATES, max_length, attention, choice)


def test_a_problem_without_a_text_is_named():
    problems = make_problems(3)
    with pytest.raises(InputError, match="'p2'"):
        encode_examples(make_tokenizer(), problems, make_texts(problems[:2]), TEMPLATES, CONTEXT)


@pytest.mark.parametrize("task", ["predict", "explain", "reason"])
def test_a_missing_template_is_named(task):
    problems, choice = make_problems(1), AttentionChoice(task="reason" if task == "reason" else "explain")
    templates = {name: template for name, template in TEMPLATES.items() if name != task}
    with pytest.raises(InputError, match=f"'{task}'"):
        encode_examples(make_tokenizer(), problems, make_texts(problems), templates, CONTEXT, choice=choice)


def test_steps_of_another_sequence_are_refused(tmp_path):
    """Tokens of `explain` are not those of `reason`, whose prompt may have another length."""
    examples = make_examples(tmp_path / "a", tasks=("predict", "explain", "reason"))
    with pytest.raises(InputError, match="'p0' are on `explain`"):
        train(tmp_path / "s", examples, settings={"sequences": "one"})


def test_attention_of_another_view_is_refused(tmp_path):
    problems = make_problems(1)
    words = make_store(tmp_path, problems, view=WORDS)
    with pytest.raises(ArtefactError, match="'p0'"):
        encode(problems, words)
    assert encode(problems, words, AttentionChoice(WORDS))[0][0].teacher_LSK is not None


def test_an_empty_store_is_counted_and_not_taken_for_none(tmp_path):
    with SignalWriter(tmp_path, {}, attention_schema(2)):
        pass
    examples, report = encode(make_problems(2), SignalStore(tmp_path))
    assert report.notes == {NO_ATTENTION: 2}
    assert all(example.tokens is None for example in examples)
    assert not encode(make_problems(2))[1].notes


def test_what_either_side_lacks_is_left_out_on_both(tmp_path):
    """The teacher's context and the student's each cut the rationale elsewhere; both orders, all lengths."""
    (problem,) = make_problems(4)[3:]
    (text,) = make_texts([problem]).values()
    spans = WORDS.spans(text.question, text.rationale, text.keys)
    (whole,), _ = encode([problem])
    length = len(whole.sequences["explain"].input_ids)
    for theirs in range(length - 60, length, 7):
        teacher = encode_teacher(make_tokenizer(), TEMPLATES["explain"], text.question, text.rationale, theirs)
        tokens = teacher.align(spans)
        attention = torch.rand(2, tokens.n_steps, tokens.n_keys)
        folder = tmp_path / str(theirs)
        with SignalWriter(folder, {}, attention_schema(2)) as writer:
            row = pack_attention(attention, tokens.tokens_of_steps, tokens.missing_steps, tokens.missing_keys)
            writer.add(text.id, text.text_hash, row)
        for mine in range(length - 60, length, 11):
            (example,), report = encode([problem], SignalStore(folder), AttentionChoice(WORDS), mine)
            student = example.sequences["explain"].align(spans)
            steps = [s for s in range(spans.n_steps) if s not in {*tokens.missing_steps, *student.missing_steps}]
            keys = [k for k in range(spans.n_keys) if k not in {*tokens.missing_keys, *student.missing_keys}]
            assert (DROPPED in report.notes) == (len(steps) < spans.n_steps or len(keys) < spans.n_keys)
            assert (NOTHING_LEFT in report.notes) == (example.tokens is None) == (not steps or not keys)
            if example.tokens is not None:
                assert torch.equal(example.teacher_LSK, attention[:, steps][:, :, keys])
                assert example.tokens == student.keep(steps, keys)
