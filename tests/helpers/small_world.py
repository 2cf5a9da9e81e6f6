"""Small random students, a tokenizer of single bytes, and examples of uneven lengths, with and without attention."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from molsaki.config.student_settings import TrainingSettings
from molsaki.encoding.prompts import EXPLAIN, PREDICT, REASON, PromptTemplate
from molsaki.encoding.token_map import AgreedSpans, AgreedTokens
from molsaki.methods import METHODS
from molsaki.records import Problem
from molsaki.spans.text import Text
from molsaki.spans.views import STEPS
from molsaki.stages.check import open_workspace, prepare_values
from molsaki.stages.generate import own_rationales
from molsaki.stages.signals import make_signal, signal_rules
from molsaki.store.attention_rows import attention_schema, pack_attention
from molsaki.store.signal_reader import SignalStore
from molsaki.store.signal_writer import SignalWriter
from molsaki.training import encode_examples, train_student

CONTEXT = 160
END = "<|end|>"
TEMPLATES = {"predict": PromptTemplate.parse(PREDICT), "explain": PromptTemplate.parse(EXPLAIN)}
REASON_TEMPLATE = PromptTemplate.parse(REASON)
SENTENCES = ("Tom has {a} and {b} pens.", "He buys {b} more.", "So it is {a} + {b}.", "That is all of them.")


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte and an end-of-text token; no padding token."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(BPE(vocab={END: 0, **{letter: i + 1 for i, letter in enumerate(letters)}}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=END, model_max_length=CONTEXT, clean_up_tokenization_spaces=False
    )


def make_llama(seed: int = 0, **changes):
    torch.manual_seed(seed)
    sizes = {
        "vocab_size": 257,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT,
    }
    return LlamaForCausalLM(LlamaConfig(**{**sizes, **changes}))


def make_gpt2(seed: int = 0, **changes):
    torch.manual_seed(seed)
    sizes = {
        "vocab_size": 257,
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": CONTEXT,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
    }
    return GPT2LMHeadModel(GPT2Config(**{**sizes, **changes}))


MODELS = {"llama": make_llama, "gpt2": make_gpt2}


def make_problems(count: int) -> list[Problem]:
    """Problems whose questions, rationales and numbers of keys differ in length."""
    problems = []
    for i in range(count):
        a, b = 3 + i, 10 * i + 1
        question = f"Tom has {a} pens{' and a bag' * (i % 3)}. He gets {b}. How many?"
        rationale = " ".join(sentence.format(a=a, b=b) for sentence in SENTENCES[: 1 + i % 4])
        problems.append(Problem(f"p{i}", question, str(a + b), f"( {a} + {b} )", rationale=rationale))
    return problems


def make_texts(problems) -> dict[str, Text]:
    return {problem.id: Text(problem.id, problem.text, problem.rationale, "numbers") for problem in problems}


def make_store(folder: Path, problems, without=(), layers: int = 3, view=STEPS, fingerprint=None) -> SignalStore:
    """Random attention, for all problems but those named."""
    generator = torch.Generator().manual_seed(7)
    with SignalWriter(folder, {"teacher": "random", **(fingerprint or {})}, attention_schema(layers)) as writer:
        for text in make_texts(problems).values():
            spans = view.spans(text.question, text.rationale, text.keys)
            attention = torch.rand(layers, spans.n_steps, spans.n_keys, generator=generator)
            if text.id not in without:
                tokens = [3 + step for step in range(spans.n_steps)]
                writer.add(text.id, text.text_hash, pack_attention(attention, tokens))
    return SignalStore(folder)


def make_examples(
    folder: Path,
    count: int = 8,
    without=("p1", "p6"),
    tokenizer=None,
    max_length: int = CONTEXT,
    tasks=("predict", "explain"),
    choice=None,
):
    problems = make_problems(count)
    store = make_store(folder, problems, without, view=choice.view if choice else STEPS)
    tokenizer = tokenizer or make_tokenizer()
    templates = TEMPLATES | ({"reason": REASON_TEMPLATE} if "reason" in tasks else {})
    examples = encode_examples(tokenizer, problems, make_texts(problems), templates, max_length, store, choice)[0]
    return [replace(example, agreed=make_agreed(example, i)) for i, example in enumerate(examples)]


def make_agreed(example, seed: int) -> AgreedTokens | None:
    """Random next tokens at every other token of the rationale, one to four of them, and spans of two and three tokens.

    None for every fourth example; no span for another fourth.
    """
    if seed % 4 == 2:
        return None
    generator = torch.Generator().manual_seed(seed)
    explain = example.sequences["explain"]
    places = torch.arange(seed % 2, len(explain.input_ids) - explain.completion_token, 2)
    spans = AgreedSpans(torch.tensor([[3, 4, -1], [6, 7, 8]]), torch.rand(2, generator=generator).sub(1.1))
    if seed % 4 != 3:
        places = places[~torch.isin(places, spans.positions_WJ)]
    ids = torch.stack([torch.randperm(257, generator=generator)[:4] for _ in places])
    log_probs = torch.rand(len(places), 257, generator=generator).mul(9).log_softmax(1).gather(1, ids)
    unused = torch.arange(4) > torch.randint(0, 4, (len(places), 1), generator=generator)
    return AgreedTokens(
        places,
        torch.where(unused, ids[:, :1], ids),
        log_probs.masked_fill(unused, -torch.inf),
        None if seed % 4 == 3 else spans,
    )


def train(output: Path, examples, *, model="gpt2", name="molsaki", settings=None, seed=5, student=None, **changes):
    """`train_student` on a fresh student; settings of the training and arguments of the function by name."""
    arguments = {key: changes.pop(key) for key in list(changes) if key not in TrainingSettings.model_fields}
    values = {"steps": 12, "batch_size": 2, "accumulation": 2, "learning_rate": 0.003, "log_every": 3, **changes}
    student = MODELS[model]() if student is None else student
    method = METHODS[name]
    metrics = train_student(
        student,
        arguments.pop("tokenizer", None) or make_tokenizer(),
        method,
        method.Settings(**(settings or {})),
        examples,
        TrainingSettings(**values),
        seed=seed,
        output=output,
        **{"show_progress": False, **arguments},
    )
    return student, metrics


def make_run(folder: Path, problems, layers: int = 3) -> Path:
    """A run directory with problems, their rationales and random attention, as its stages would have left it."""
    values = {
        "name": "small",
        "data": {
            "task": "pens",
            "train": {"source": "pocket-math", "split": "train"},
            "tests": {"test": {"source": "pocket-math", "split": "test"}},
        },
        "teacher": {"reader": {"name": "pocket:teacher"}},
        "rationales": {"source": "dataset"},
        "student": {"name": "pocket:student"},
        "methods": ["molsaki"],
    }
    workspace = open_workspace(prepare_values(values), folder)
    workspace.write_problems("train", problems)
    workspace.run.finish_stage("data", {"train": {"kept": len(problems)}})
    own_rationales(problems, workspace.rationale_log)
    workspace.run.finish_stage("generate", {"problems": len(problems), "kept": len(problems)})
    signal = make_signal(workspace, "steps")
    generator = torch.Generator().manual_seed(7)
    rules = signal_rules(workspace, signal)
    with SignalWriter(folder / signal.folder, rules, attention_schema(layers)) as writer:
        for text in make_texts(problems).values():
            spans = text.spans()
            attention = torch.rand(layers, spans.n_steps, spans.n_keys, generator=generator)
            writer.add(text.id, text.text_hash, pack_attention(attention, [20] * spans.n_steps))
    entry = {"title": signal.title, "row": "", "read": len(problems), "kept": len(problems), "fingerprint": rules}
    workspace.run.finish_stage("attend", {"signals": {"steps": entry}})
    return folder
