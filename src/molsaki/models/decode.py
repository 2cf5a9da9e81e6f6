"""Generation in batches, for students that are tested and for local teachers.

A completion must not depend on the other prompts of its batch, on padding, or on the generation config in the model's
directory. So prompts are padded on the left, the model's own generation config is replaced while it generates, and
prompts that leave less room than `max_new_tokens` form batches of their own. In float32, a prompt then has the same
completion alone and in any batch, unless two tokens are equally likely to within rounding. In bfloat16 such ties are
common.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from molsaki.answers.thinking import open_tag, split_thinking
from molsaki.counts import Progress
from molsaki.encoding.control_tokens import decode_answers
from molsaki.encoding.encode import appended_tokens, context_length
from molsaki.errors import EvaluationError, TokenizerError
from molsaki.models.modes import eval_mode
from molsaki.models.stopping import Ended, StopAtStrings
from molsaki.records import hash_text

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_TAIL = 40
"""Tokens at the end of a prompt in which a tag that opens thinking is looked for."""
_FEW = 8
"""Fewer rows than these go on until all have ended: a step of few rows takes about as long as a step of one."""
_STATE_IN_MODULES = ("recurrent_gemma",)
"""Models whose cache does not hold all of their state."""


@dataclass(frozen=True, slots=True)
class Completion:
    """The completion of one prompt.

    Attributes:
        index: the position of the prompt in the sequence of prompts.
        text: the generated text, without special tokens but those that mark thinking. If it was cut off in thinking
            that the prompt opened, the opening tag precedes it.
        tokens: number of generated tokens, without the end token.
        cut: whether the text was cut off by `max_new_tokens` or the model's context length.
        too_long: whether the prompt fills the model's context, so that nothing was generated.
        prompt_tokens: number of tokens of the prompt.
        failure: why a server returned no completion; empty otherwise.
        thinking: what a server sent as reasoning beside the text.
        finish: the server's `finish_reason`; empty for a local model.
        filtered: whether the server's content filter withheld or ended the text.
    """

    index: int
    text: str
    tokens: int
    cut: bool
    too_long: bool = False
    prompt_tokens: int = 0
    failure: str = ""
    thinking: str = ""
    finish: str = ""
    filtered: bool = False


def decode_batches(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str] | Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    batch_size: int,
    temperature: float = 0.0,
    seeds: Sequence[int] | None = None,
    stop_strings: Sequence[str] = (),
    ends: Sequence[int] = (),
    progress: Progress | None = None,
) -> Iterator[list[Completion]]:
    """Yield completions batch by batch. A batch holds prompts of similar length, the longest come first.

    The modes of the model's modules and its generation config are restored after each batch. A text ends at the
    tokenizer's end-of-text token, at one of `ends`, or at another special token that the generation config names as an
    end.

    Args:
        model: a causal language model.
        tokenizer: its tokenizer. It needs no padding token, and its padding side does not matter.
        prompts: texts, with the special tokens that the tokenizer puts before a text; or token ids.
        max_new_tokens: maximum number of generated tokens, including the end token.
        batch_size: number of prompts in a batch.
        temperature: 0 decodes greedily; above 0, tokens are sampled from softmax(logits / temperature).
        seeds: one number per prompt, all 0 by default. The same batch with the same seeds gets the same samples.
        stop_strings: a text ends before the first of these, as at an end token; what follows is dropped.
        ends: more tokens that end a text, such as the end of a chat's turn.
        progress: called after each batch.

    Raises:
        EvaluationError: `max_new_tokens` or `batch_size` is below 1, or a prompt has no tokens.
        TokenizerError: the tokenizer has no end-of-text token.
    """
    if max_new_tokens < 1 or batch_size < 1:
        raise EvaluationError(
            f"Expected max_new_tokens and batch_size of at least 1; got {max_new_tokens} and {batch_size}. "
            "Nothing was generated. Set them in the recipe."
        )
    all_ends = sorted({*end_tokens(model, tokenizer), *ends})
    ids = _tokenize(tokenizer, prompts)
    max_length = context_length(tokenizer, model.config)
    done = 0
    for indices, budget in _plan_batches([len(row) for row in ids], max_length, max_new_tokens, batch_size):
        if budget < 1:
            batch = [Completion(i, "", 0, cut=False, too_long=True, prompt_tokens=len(ids[i])) for i in indices]
        else:
            seed = int(hash_text(*(str(seeds[i] if seeds else 0) for i in indices)), 16)
            stop = StopAtStrings(tokenizer, stop_strings, width=max(len(ids[index]) for index in indices))
            generated = _generate(model, [ids[index] for index in indices], all_ends, stop, budget, temperature, seed)
            batch = _completions(tokenizer, indices, generated, frozenset(all_ends), stop, [ids[i] for i in indices])
        done += len(batch)
        yield batch
        if progress is not None:
            progress(done, len(prompts))


def end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The ids of the tokens that end a text: the tokenizer's, and special tokens that the generation config names.

    Ordinary tokens in the generation config are ignored. Otherwise its default of 2 would end texts at GPT-2's `#`.

    Raises:
        TokenizerError: the tokenizer has no end-of-text token.
    """
    if tokenizer.eos_token_id is None:
        raise TokenizerError(
            f"Expected a tokenizer with an end-of-text token; {tokenizer.name_or_path!r} has none. "
            "Generated texts would never end. Set tokenizer.eos_token."
        )
    config_ends = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    special = set(tokenizer.all_special_ids)
    special.update(index for index, token in tokenizer.added_tokens_decoder.items() if token.special)
    others = {config_ends} if isinstance(config_ends, int) else set(config_ends or ())
    return sorted({int(tokenizer.eos_token_id)} | (others & special))


def _tokenize(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str] | Sequence[Sequence[int]]) -> list[list[int]]:
    texts = [prompt for prompt in prompts if isinstance(prompt, str)]
    ids = [list(prompt) for prompt in prompts if not isinstance(prompt, str)]
    if texts:
        encoded = tokenizer(texts, padding=False, truncation=False, verbose=False)
        behind = appended_tokens(tokenizer)
        ids += [row[: len(row) - behind] for row in encoded["input_ids"]]
    empty = next((index for index, row in enumerate(ids) if not row), None)
    if empty is not None:
        raise EvaluationError(
            f"Expected at least one token in every prompt; got none in {prompts[empty]!r}. The model cannot start "
            "from nothing. Check the prompt template and the question."
        )
    return ids


def _plan_batches(
    lengths: Sequence[int], max_length: int, max_new_tokens: int, batch_size: int
) -> Iterator[tuple[list[int], int]]:
    """Yield batches as (indices of prompts, maximum number of new tokens).

    All prompts of a batch have the same maximum, so that none exceeds the context because a shorter one has more
    room. Prompts without any room form one batch with maximum 0.
    """
    groups: dict[int, list[int]] = {}
    for index, length in enumerate(lengths):
        budget = max(0, min(max_new_tokens, max_length - length))
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
    stop: StopAtStrings,
    budget: int,
    temperature: float,
    seed: int,
) -> list[list[int]]:
    """Token ids generated for a batch of prompts, at most `budget`; after them an end token, if the row has ended.

    Rows that have ended would be computed until the last one ends. So whenever half of the rows have ended, the others
    go on alone, with their rows of the cache. Where a model keeps its state elsewhere, all rows go on.
    """
    import torch
    from transformers import DynamicCache, GenerationConfig, StoppingCriteriaList

    width = max(len(row) for row in prompts)
    pad = ends[0]
    input_ids = torch.tensor([[pad] * (width - len(row)) + list(row) for row in prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in prompts], device=model.device)
    end_ids = torch.tensor(ends, device=model.device)
    devices = [model.device] if model.device.type == "cuda" else []
    sampling: dict[str, Any] = {"temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {}
    has_cache = (  # RWKV, Mamba and xLSTM have a state of another name
        "past_key_values" in inspect.signature(model.forward).parameters
        and model.config.model_type not in _STATE_IN_MODULES
    )
    generated: list[list[int]] = [[] for _ in prompts]
    places = list(range(len(prompts)))
    cache: Any = None
    with eval_mode(model), _own_config_hidden(model), torch.inference_mode(), torch.random.fork_rng(devices=devices):
        if temperature:
            torch.manual_seed(seed)
        while True:
            enough = (len(places) + 1) // 2 if has_cache and len(places) >= _FEW else len(places)
            ended = Ended(end_ids, stop, enough)
            output: Any = model.generate(
                input_ids=input_ids,
                attention_mask=mask,
                past_key_values=cache,
                generation_config=GenerationConfig(
                    max_new_tokens=width + budget - input_ids.shape[1],
                    do_sample=temperature > 0,
                    num_beams=1,
                    use_cache=True,
                    eos_token_id=ends,
                    pad_token_id=pad,
                    return_dict_in_generate=True,
                    **sampling,
                ),
                stopping_criteria=StoppingCriteriaList([ended]),
            )
            rows = output.sequences[:, width:].tolist()
            for place, row, has_ended in zip(places, rows, ended.rows.tolist(), strict=True):
                generated[place] = [*row, pad] if has_ended else row
            left = (~ended.rows).nonzero().squeeze(1)
            if not len(left) or len(rows[0]) >= budget:
                break
            places = [places[i] for i in left.tolist()]
            input_ids = output.sequences[left]
            mask = torch.nn.functional.pad(mask[left], (0, input_ids.shape[1] - mask.shape[1]), value=1)
            cache = output.past_key_values
            if type(cache) is DynamicCache:
                cache.reorder_cache(left)  # keeps the rows that are named
            else:  # a class of the model's own: it is computed again
                cache = None
    return generated


def _completions(
    tokenizer: PreTrainedTokenizerBase,
    indices: list[int],
    generated: list[list[int]],
    ends: frozenset[int],
    stop: StopAtStrings,
    prompts: list[list[int]],
) -> list[Completion]:
    kept = [list(itertools.takewhile(lambda token: token not in ends, row)) for row in generated]
    texts = decode_answers(tokenizer, kept)
    completions = []
    for index, row, ids, text, prompt in zip(indices, generated, kept, texts, prompts, strict=True):
        before = stop.cut(text)
        at_limit = len(ids) == len(row) and before == text
        if at_limit:
            before = _with_open_tag(tokenizer, prompt, before)
        completions.append(Completion(index, before, len(ids), at_limit, prompt_tokens=len(prompt)))
    return completions


def _with_open_tag(tokenizer: PreTrainedTokenizerBase, prompt: list[int], text: str) -> str:
    """A text that was cut off; with the tag that the prompt opened, if the text is in thinking: it holds no answer."""
    tag = open_tag(str(tokenizer.decode(prompt[-_TAIL:], skip_special_tokens=False)))
    return tag + text if tag and not split_thinking(tag + text).closed else text


@contextmanager
def _own_config_hidden(model: Any) -> Iterator[None]:
    """Hide the model's own generation config.

    `generate` takes every value that it is not given, such as a repetition penalty, from there.
    """
    from transformers import GenerationConfig

    config = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = config
