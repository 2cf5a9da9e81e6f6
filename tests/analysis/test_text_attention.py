"""Attention that is read from the pocket models, and the causal check."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from molsaki import stepwise_attention
from molsaki.analysis import hide_keys, read_text_attention, student_encoder, teacher_encoder
from molsaki.data import pocket
from molsaki.encoding import prompts
from molsaki.encoding.prompts import PromptTemplate
from molsaki.errors import ArtefactError, InputError
from molsaki.models.decode import decode_batches
from molsaki.spans.text import Text
from molsaki.teacher.read_attention import NO_KEYS

QUESTION = (
    "Tea buys 11 packs and each of them holds 29 lemons. Later Tea sells 35 lemons. How many lemons does Tea have?"
)
RATIONALE = "There are 11 packs with 29 lemons each, so multiply 11 by 29. Then 35 lemons go away, so take away 35."
TEXT = Text("a", QUESTION, RATIONALE, "numbers")
OTHER = Text("b", "Ada has 3 apples and buys 4. How many?", "At first there are 3 apples. Then add 4.", "numbers")


@pytest.fixture(scope="module")
def teacher() -> tuple[Any, Any, Any]:
    tokenizer = AutoTokenizer.from_pretrained(pocket.TEACHER)
    encode = teacher_encoder(tokenizer, PromptTemplate.parse(prompts.TEACHER), 512)
    return AutoModelForCausalLM.from_pretrained(pocket.TEACHER).eval(), tokenizer, encode


def test_it_is_stepwise_attention_token_by_token(teacher: tuple[Any, Any, Any]) -> None:
    model, tokenizer, encode = teacher
    found, report = read_text_attention(
        model, tokenizer, [OTHER, TEXT, Text("c", "No number?", "None.", "numbers")], encode
    )
    assert (report.read, report.kept, report.skipped) == (3, 2, {NO_KEYS: 1})
    for text in (TEXT, OTHER):
        attention = found[text.id]
        assert attention.attention_LST.sum(2) == pytest.approx(np.tile(attention.tokens_S, (4, 1)), abs=1e-3), (
            "each row is 1"
        )
        encoded = encode(text.question, text.rationale)
        with torch.no_grad():
            slow_BLSK = stepwise_attention(
                model,
                torch.tensor([encoded.input_ids]),
                None,
                torch.from_numpy(attention.step_of_token_T)[None],
                torch.from_numpy(attention.key_of_token_T)[None],
                kernel="eager",
            )
        assert attention.keys_LSK == pytest.approx(slow_BLSK[0].numpy(), abs=1e-4)
        assert (attention.keys_LSK[:, ~attention.visible_SK] == 0).all(), "what comes later is not seen"


def test_readings_are_kept_and_not_made_twice(teacher: tuple[Any, Any, Any], tmp_path: Path) -> None:
    model, tokenizer, encode = teacher
    store = (tmp_path / "kept", {"weights": "1"})
    first, _ = read_text_attention(model, tokenizer, [TEXT], encode, store=store)
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "kept").glob("shard-*")}
    again, _ = read_text_attention(model, tokenizer, [TEXT, OTHER], encode, store=store)
    assert all(path.stat().st_mtime_ns == before for path, before in written.items())
    assert np.array_equal(first["a"].attention_LST, again["a"].attention_LST)
    with pytest.raises(ArtefactError, match="weights"):
        read_text_attention(model, tokenizer, [TEXT], encode, store=(tmp_path / "kept", {"weights": "2"}))


def test_a_student_is_read_in_its_own_tokens() -> None:
    tokenizer = AutoTokenizer.from_pretrained(pocket.STUDENT)
    model = AutoModelForCausalLM.from_pretrained(pocket.STUDENT)
    encode = student_encoder(tokenizer, PromptTemplate.parse(prompts.EXPLAIN), 512)
    found, _ = read_text_attention(model, tokenizer, [TEXT], encode)
    assert found["a"].keys_LSK.shape == (model.config.num_hidden_layers, 3, 9)


def test_hiding_a_key_changes_the_step_that_needs_it_and_no_other(teacher: tuple[Any, Any, Any]) -> None:
    model, tokenizer, encode = teacher
    written = next(decode_batches(model, tokenizer, [f"Q: {QUESTION}\nA:"], max_new_tokens=96, batch_size=1))[0].text
    found = hide_keys(model, tokenizer, TEXT, encode, [(1, 0), (1, 2), (2, 2)], max_new_tokens=96)
    assert all(hidden.baseline for hidden in found)
    assert written.strip() == found[0].baseline.strip(), "with nothing hidden it writes what it always writes"
    needed, not_yet, later = found
    assert needed.step_changed
    assert "11 packs" not in needed.written.split(".")[0]
    assert not not_yet.step_changed, "35 is not needed for the first sentence"
    assert later.step_changed
    assert later.baseline_answer == "( ( 11 * 29 ) - 35 )"
    assert later.answer_changed == (later.answer != later.baseline_answer)


@pytest.mark.parametrize("pair", [(0, 0), (1, 3), (9, 0), (1, 99)])
def test_only_keys_before_the_step_can_be_hidden(teacher: tuple[Any, Any, Any], pair: tuple[int, int]) -> None:
    model, tokenizer, encode = teacher
    with pytest.raises(InputError) as error:
        hide_keys(model, tokenizer, TEXT, encode, [pair])
    assert "step {} and key {} of 'a'".format(*pair) in str(error.value)
