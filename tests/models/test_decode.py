"""A completion depends only on the prompt and the model."""

from __future__ import annotations

import re
from typing import ClassVar

import pytest
import torch
from tiny_models import ARCHITECTURES, HYBRIDS, make_hybrid, make_model

from molsaki.errors import EvaluationError, TokenizerError
from molsaki.models.decode import decode_batches, end_tokens

PROMPTS = [
    "predict: What is 3 + 4?\n",
    "Q",
    "predict: Ann has 12 pears and eats 5. How many are left?\n",
    "ä → ß",
    "Q: two\nA:",
    "predict: What is 3 + 4?\n",
    "a longer prompt, so that the others are padded a lot on their left side",
]


def decode(model, tokenizer, prompts=PROMPTS, *, max_new_tokens=20, batch_size=4):
    batches = decode_batches(model, tokenizer, prompts, max_new_tokens=max_new_tokens, batch_size=batch_size)
    return sorted((c for batch in batches for c in batch), key=lambda c: c.index)


def slow_reference(model, tokenizer, prompt, max_new_tokens=20):
    """One prompt, one token at a time, without cache or padding."""
    ids = tokenizer(prompt)["input_ids"]
    written = []
    while len(written) < max_new_tokens:
        with torch.no_grad():
            token = int(model(torch.tensor([ids + written])).logits[0, -1].argmax())
        if token == tokenizer.eos_token_id:
            return tokenizer.decode(written), len(written), False
        written.append(token)
    return tokenizer.decode(written), len(written), True


def make_an_end_likely(model, tokenizer):
    """Make a token that the model writes in the middle of a text the end token."""
    outputs = [slow_reference(model, tokenizer, prompt)[0] for prompt in PROMPTS]
    ids = [tokenizer(output)["input_ids"] for output in outputs]
    candidates = {token for row in ids for token in row[2:15]}
    end = max(sorted(candidates), key=lambda token: 0 < sum(token in row for row in ids) < len(ids))
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(end)
    assert tokenizer.eos_token_id == end


@pytest.mark.parametrize(
    ("end", "tag"),
    [("<think>\n", "<think>\n"), ("[THINK]", "[THINK]"), ("<think>\n\n</think>\n\n", ""), ("<think> a", ""), ("Q", "")],
)
def test_a_text_that_is_cut_in_the_thinking_of_its_prompt_begins_with_the_tag(model, tokenizer, end, tag):
    prompts = [prompt + end for prompt in PROMPTS[:3]]
    found = decode(model, tokenizer, prompts, max_new_tokens=6)
    texts = [slow_reference(model, tokenizer, prompt, 6) for prompt in prompts]
    assert [(c.text, c.tokens, c.cut) for c in found] == [
        (tag + text if cut else text, tokens, cut) for text, tokens, cut in texts
    ]
    assert any(cut for _, _, cut in texts)


@pytest.mark.parametrize("ending", [False, True])
def test_a_batch_equals_a_slow_loop(model, tokenizer, ending):
    if ending:
        make_an_end_likely(model, tokenizer)
    expected = [slow_reference(model, tokenizer, prompt) for prompt in PROMPTS]
    for batch_size in (1, 3, 100):
        found = decode(model, tokenizer, batch_size=batch_size)
        assert [(c.text, c.tokens, c.cut) for c in found] == expected
        assert [c.index for c in found] == list(range(len(PROMPTS)))
    assert len({cut for _, _, cut in expected}) == (2 if ending else 1), "some texts end early, others do not"


def test_the_saved_generation_config_is_ignored(model, tokenizer, tmp_path):
    expected = decode(model, tokenizer)
    settings = model.generation_config
    settings.do_sample = True
    settings.temperature = 3.0
    settings.top_k = 3
    settings.repetition_penalty = 9.0
    settings.no_repeat_ngram_size = 1
    settings.min_new_tokens = 15
    settings.max_length = 5
    settings.suppress_tokens = list(range(1, 60))
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    assert loaded.generation_config.repetition_penalty == 9.0
    assert decode(loaded, tokenizer) == expected
    assert loaded.generation_config.repetition_penalty == 9.0


def test_modes_and_generation_config_are_restored_after_each_batch(model, tokenizer):
    model.train()
    frozen = next(module for module in model.modules() if isinstance(module, torch.nn.Embedding))
    frozen.eval()
    settings = model.generation_config
    modes = [module.training for module in model.modules()]
    batches = decode_batches(model, tokenizer, PROMPTS, max_new_tokens=3, batch_size=2)
    for _ in batches:
        assert [module.training for module in model.modules()] == modes
        assert model.generation_config is settings
    assert tokenizer.pad_token is None
    loss = model(torch.tensor([[1, 2, 3]]), labels=torch.tensor([[1, 2, 3]])).loss
    loss.backward()


def test_dropout_is_off_in_a_model_that_is_training(model, tokenizer):
    expected = decode(model, tokenizer)
    assert decode(model.train(), tokenizer) == expected


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_tokenizers_padding_does_not_matter(model, tokenizer, side):
    expected = decode(model, tokenizer)
    tokenizer.pad_token = "a"  # noqa: S105
    tokenizer.padding_side = side
    assert decode(model, tokenizer) == expected
    assert tokenizer.padding_side == side


def test_a_prompt_near_the_context_length_does_not_shorten_others(model, tokenizer):
    room = tokenizer.model_max_length
    prompts = ["x" * (room - 3), "x" * 10, "x" * room, "x" * (room + 40), "y" * (room - 3), "z" * (room - 1)]
    found = decode(model, tokenizer, prompts, max_new_tokens=8, batch_size=16)
    assert [c.tokens for c in found] == [3, 8, 0, 0, 3, 1]
    assert [c.too_long for c in found] == [False, False, True, True, False, False]
    assert [c.cut for c in found] == [True, True, False, False, True, True]
    for prompt, completion in zip(prompts, found, strict=True):
        if not completion.too_long:
            assert completion.text == slow_reference(model, tokenizer, prompt, completion.tokens)[0]


def test_long_prompts_come_first_and_progress_is_reported(model, tokenizer):
    calls = []
    batches = list(
        decode_batches(
            model,
            tokenizer,
            PROMPTS,
            max_new_tokens=2,
            batch_size=3,
            progress=lambda done, total: calls.append((done, total)),
        )
    )
    lengths = [len(PROMPTS[c.index].encode()) for batch in batches for c in batch]
    assert lengths == sorted(lengths, reverse=True)
    assert calls == [(3, 7), (6, 7), (7, 7)]
    assert list(decode_batches(model, tokenizer, [], max_new_tokens=2, batch_size=3)) == []


def test_only_special_tokens_of_the_config_end_a_text(model, tokenizer):
    tokenizer.add_special_tokens({"extra_special_tokens": ["<|turn|>"]})
    turn = tokenizer.convert_tokens_to_ids("<|turn|>")
    model.generation_config.eos_token_id = [turn, 2]
    assert end_tokens(model, tokenizer) == [0, turn]
    model.generation_config.eos_token_id = 2
    assert end_tokens(model, tokenizer) == [0], "2 is the ordinary token of some byte"
    model.generation_config.eos_token_id = None
    assert end_tokens(model, tokenizer) == [0]


def stopping(model, tokenizer, stop_strings, **more):
    batches = decode_batches(
        model, tokenizer, PROMPTS, max_new_tokens=20, batch_size=4, stop_strings=stop_strings, **more
    )
    return sorted((c for batch in batches for c in batch), key=lambda c: c.index)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_text_ends_before_a_stop_string_and_no_later_token_is_generated(model, tokenizer, temperature):
    """The tokens are bytes, so stop strings of several characters span tokens."""
    whole = stopping(model, tokenizer, (), temperature=temperature)
    plain = [match[0] for c in whole for match in re.finditer(r"[ -~]{2}", c.text[2:])]
    stop_strings = (*plain[:2], "never written")
    found = stopping(model, tokenizer, stop_strings, temperature=temperature)
    stopped = 0
    for before, after in zip(whole, found, strict=True):
        places = [before.text.find(string) for string in stop_strings if string in before.text]
        assert after.text == before.text[: min(places, default=None)]
        assert after.cut == (before.cut and not places)
        assert after.tokens < before.tokens or not places or before.text.endswith(stop_strings)
        stopped += bool(places)
    assert stopped


def test_stop_strings_leave_a_text_that_has_none_as_it_was(model, tokenizer):
    assert stopping(model, tokenizer, ("never written", "\nQ:")) == stopping(model, tokenizer, ())


def test_invalid_arguments_are_refused(model, tokenizer):
    with pytest.raises(EvaluationError, match="max_new_tokens"):
        decode(model, tokenizer, max_new_tokens=0)
    with pytest.raises(EvaluationError, match="batch_size"):
        decode(model, tokenizer, batch_size=0)
    with pytest.raises(EvaluationError):
        decode(model, tokenizer, ["a", ""])
    tokenizer.eos_token = None
    with pytest.raises(TokenizerError, match="eos_token"):
        decode(model, tokenizer)


class Numbers:
    """A tokenizer whose texts are token ids."""

    name_or_path = "numbers"
    eos_token_id = 0
    all_special_ids = (0,)
    added_tokens_decoder: ClassVar = {}
    model_max_length = 64

    def decode(self, ids, **_):
        return " ".join(map(str, ids))

    def batch_decode(self, rows, **_):
        return [self.decode(row.tolist() if isinstance(row, torch.Tensor) else row) for row in rows]


class CountedRows:
    """Counts the rows that a model computes, and ends texts at every third token."""

    def __init__(self, model):
        self.model = model
        self.rows = 0
        vocabulary = model.config.get_text_config().vocab_size
        self.ends = range(0, vocabulary, 3)
        torch.manual_seed(0)
        self.prompts = [torch.randint(3, vocabulary, (int(n),)).tolist() for n in torch.randint(3, 14, (40,))]
        model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, _, args, kwargs):
        self.rows += len(kwargs["input_ids"] if "input_ids" in kwargs else args[0])

    def decode(self, stop_strings=()):
        self.rows = 0
        batches = decode_batches(
            self.model,
            Numbers(),
            self.prompts,
            max_new_tokens=16,
            batch_size=40,
            ends=self.ends,
            stop_strings=stop_strings,
        )
        found = sorted((c for batch in batches for c in batch), key=lambda c: c.index)
        return found, self.rows


@pytest.mark.parametrize("name", [*ARCHITECTURES, *(name for name in HYBRIDS if name != "xlstm")])  # xLSTM has no cache
def test_rows_that_have_ended_leave_the_batch_and_the_others_stay_the_same(name, monkeypatch):
    counted = CountedRows((make_model if name in ARCHITECTURES else make_hybrid)(name).eval())
    found, fewer = counted.decode()
    monkeypatch.setattr("molsaki.models.decode._FEW", 1000)
    expected, rows = counted.decode()
    assert found == expected
    assert fewer <= rows
    if name in ("llama", "mistral", "qwen3_next", "jamba", "minimax"):
        assert fewer < 0.8 * rows
    if name in ("rwkv", "mamba", "mamba2", "recurrent_gemma"):
        assert fewer == rows


def test_rows_that_a_stop_string_ends_leave_the_batch(monkeypatch):
    counted = CountedRows(make_model("llama").eval())
    counted.ends = ()
    stops = [f" {n}" for n in range(10, 20)]
    found, fewer = counted.decode(stops)
    monkeypatch.setattr("molsaki.models.decode._FEW", 1000)
    expected, rows = counted.decode(stops)
    assert found == expected
    assert fewer < rows
    assert 0 < sum(c.cut for c in found) < len(found)
