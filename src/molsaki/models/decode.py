"""Decoding in batches, the same for scoring a student and for asking a teacher.

What a prompt is answered with must not depend on its neighbours, on where the padding is, or on settings
that lie in the model's directory: prompts are padded on the left here, the model's own generation settings
are set aside for the time, and prompts that leave less room than asked are decoded apart. In float32 a
prompt gets the same text alone and in any batch, unless two tokens are equally likely to within rounding;
in bfloat16 such near-ties are common.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from molsaki.encoding.encode import context_length
from molsaki.errors import EvaluationError, TokenizerError
from molsaki.records import hash_text

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Progress = Callable[[int, int], None]
"""Called after each batch with how many rows are done and how many there are."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model wrote after one prompt.

    Attributes:
        index: the prompt's place among those given.
        text: what was written, without special tokens.
        tokens: how many tokens, without the one that ends the text.
        cut: it did not end by itself but at the bound on new tokens or at the end of the model's context.
        too_long: the prompt leaves no room in the model's context; nothing was written.
        prompt_tokens: how many tokens the prompt has.
        failure: why there is no completion, where a server gave none; empty otherwise.
    """

    index: int
    text: str
    tokens: int
    cut: bool
    too_long: bool = False
    prompt_tokens: int = 0
    failure: str = ""


def decode_batches(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    batch_size: int,
    special_tokens: bool = True,
    temperature: float = 0.0,
    seeds: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> Iterator[list[Completion]]:
    """Yield the completions batch by batch, prompts of similar length together, the longest first.

    Between two batches the model is as it was given: training or evaluation mode of every module, and generation
    settings. A text ends with the tokenizer's end-of-text token or another special token that the model's
    generation settings name as an end.

    Args:
        model: a causal language model.
        tokenizer: its tokenizer; its padding side does not matter, and it needs no padding token.
        prompts: tokenized as `tokenizer(prompt)` does.
        max_new_tokens: the bound on what is written, the end token included.
        batch_size: how many prompts at a time.
        special_tokens: the tokenizer adds its special tokens to the prompts, which a rendered chat has already.
        temperature: 0 takes the likeliest token, above 0 the softmax of logits / temperature is sampled from.
        seeds: a number for each prompt; a batch is sampled with those of its prompts, so that the same batch gets
            the same text again. Without them all are 0.
        progress: told after each batch.

    Raises:
        EvaluationError: `max_new_tokens` or `batch_size` is below 1, or a prompt has no tokens.
        TokenizerError: the tokenizer has no end-of-text token.
    """
    if max_new_tokens < 1 or batch_size < 1:
        raise EvaluationError(
            f"Expected max_new_tokens and batch_size of at least 1, got {max_new_tokens} and {batch_size}. "
            f"Nothing could be written; set them in the recipe."
        )
    ends = end_tokens(model, tokenizer)
    ids = _tokenize(tokenizer, prompts, special_tokens)
    room = context_length(tokenizer, model.config)
    done = 0
    for indices, budget in _plan([len(row) for row in ids], room, max_new_tokens, batch_size):
        if budget < 1:
            batch = [Completion(i, "", 0, cut=False, too_long=True, prompt_tokens=len(ids[i])) for i in indices]
        else:
            seed = int(hash_text(*(str(seeds[i] if seeds else 0) for i in indices)), 16)
            written = _generate(model, [ids[index] for index in indices], ends, budget, temperature, seed)
            batch = _completions(tokenizer, indices, written, frozenset(ends), [len(ids[i]) for i in indices])
        done += len(batch)
        yield batch
        if progress is not None:
            progress(done, len(prompts))


def end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that end a text: the tokenizer's own, and special ones that the generation settings name.

    An ordinary token in the settings is not taken for an end: a configuration's default of 2 would otherwise end
    texts at GPT-2's `#`.

    Raises:
        TokenizerError: the tokenizer has no end-of-text token.
    """
    if tokenizer.eos_token_id is None:
        raise TokenizerError(
            f"Expected a tokenizer with an end-of-text token; {tokenizer.name_or_path!r} has none. "
            f"Nothing that is written would ever end; set tokenizer.eos_token."
        )
    settings = getattr(model, "generation_config", None)
    named = getattr(settings, "eos_token_id", None)
    special = set(tokenizer.all_special_ids)
    special.update(index for index, token in tokenizer.added_tokens_decoder.items() if token.special)
    others = {named} if isinstance(named, int) else set(named or ())
    return sorted({int(tokenizer.eos_token_id)} | (others & special))


def _tokenize(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], special_tokens: bool = True
) -> list[list[int]]:
    if not prompts:
        return []
    encoded = tokenizer(
        list(prompts), add_special_tokens=special_tokens, padding=False, truncation=False, verbose=False
    )
    ids: list[list[int]] = encoded["input_ids"]
    empty = next((index for index, row in enumerate(ids) if not row), None)
    if empty is not None:
        raise EvaluationError(
            f"Expected every prompt to have a token, got none for {prompts[empty]!r}. A model has nothing "
            f"to go on from; check the template and the question."
        )
    return ids


def _plan(lengths: Sequence[int], room: int, max_new_tokens: int, batch_size: int) -> Iterator[tuple[list[int], int]]:
    """Yield batches as (indices, how many tokens may be written).

    Every row of a batch has the same budget, so that no row is decoded past its context because a shorter
    neighbour has more room. Rows without any room are one batch with budget 0.
    """
    groups: dict[int, list[int]] = {}
    for index, length in enumerate(lengths):
        budget = max(0, min(max_new_tokens, room - length))
        groups.setdefault(budget, []).append(index)
    for budget, indices in sorted(groups.items()):
        indices.sort(key=lambda index: -lengths[index])
        size = batch_size if budget else len(indices)
        for start in range(0, len(indices), size):
            yield indices[start : start + size], budget


def _generate(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    ends: list[int],
    budget: int,
    temperature: float,
    seed: int,
) -> list[list[int]]:
    """Decode one batch; rows that end early are filled up with an end token."""
    import torch
    from transformers import GenerationConfig

    width = max(len(row) for row in prompts)
    pad = ends[0]
    input_ids = torch.tensor([[pad] * (width - len(row)) + list(row) for row in prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in prompts], device=model.device)
    devices = [model.device] if model.device.type == "cuda" else []
    how: dict[str, Any] = {"temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {}
    settings = GenerationConfig(
        max_new_tokens=budget,
        do_sample=temperature > 0,
        num_beams=1,
        use_cache=True,
        eos_token_id=ends,
        pad_token_id=pad,
        **how,
    )
    with _set_aside(model), torch.inference_mode(), torch.random.fork_rng(devices=devices):
        if temperature:
            torch.manual_seed(seed)
        sequences = model.generate(input_ids=input_ids, attention_mask=mask, generation_config=settings)
    written: list[list[int]] = sequences[:, width:].tolist()
    return written


def _completions(
    tokenizer: PreTrainedTokenizerBase,
    indices: list[int],
    written: list[list[int]],
    ends: frozenset[int],
    prompt_tokens: list[int],
) -> list[Completion]:
    kept: list[list[int]] = []
    cut: list[bool] = []
    for row in written:
        end = next((place for place, token in enumerate(row) if token in ends), None)
        kept.append(row if end is None else row[:end])
        cut.append(end is None)
    texts: list[str] = tokenizer.batch_decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return [
        Completion(index, text, len(row), was_cut, prompt_tokens=asked)
        for index, text, row, was_cut, asked in zip(indices, texts, kept, cut, prompt_tokens, strict=True)
    ]


@contextmanager
def _set_aside(model: Any) -> Iterator[None]:
    """Evaluation mode and empty generation settings, both as they were afterwards.

    `generate` fills in from the model's own settings whatever it is not given, a repetition penalty for
    one, so they have to be out of its sight.
    """
    from transformers import GenerationConfig

    training = [module for module in model.modules() if module.training]
    settings = model.generation_config
    model.eval()
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = settings
        for module in training:
            module.training = True
