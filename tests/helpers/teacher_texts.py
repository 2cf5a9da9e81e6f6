"""The pocket teacher, texts of uneven lengths for it, and all of its signals read into stores."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer

from molsaki.data.pocket import TEACHER as FOLDER
from molsaki.encoding.prompts import TEACHER, PromptTemplate
from molsaki.spans.text import Text
from molsaki.spans.views import HEADS, STEPS, WORDS
from molsaki.store.signal_reader import SignalStore
from molsaki.store.signal_writer import SignalWriter
from molsaki.teacher.read_attention import AttentionSignal
from molsaki.teacher.read_logits import NextTokenSignal
from molsaki.teacher.read_signals import model_sizes, read_signals

TEMPLATE = PromptTemplate.parse(TEACHER)


def load_teacher():
    return AutoModelForCausalLM.from_pretrained(FOLDER), AutoTokenizer.from_pretrained(FOLDER)


def make_signals():
    """Every view of attention, and next tokens at two temperatures."""
    return [*(AttentionSignal(view) for view in (STEPS, HEADS, WORDS)), NextTokenSignal(5, ("1", "2"))]


def make_texts(count: int) -> list[Text]:
    texts = []
    for i in range(count):
        question = f"Tom has {i + 2} pens{' and a cup' * (i % 4)}. He buys {3 * i + 1}. How many?"
        rationale = " ".join([f"He has {i + 2}.", f"He buys {3 * i + 1} more.", f"So it is {4 * i + 3}."][: 1 + i % 3])
        texts.append(Text(f"t{i}", question, rationale, "numbers"))
    return texts


def read_all(teacher, folder: Path, texts, signals=None, max_length: int = 200, **options):
    """The store and the report of each signal, by its name."""
    model, tokenizer = teacher
    signals = make_signals() if signals is None else signals
    sizes = model_sizes(model, signals)
    with ExitStack() as opened:
        writers = {
            signal.name: opened.enter_context(
                SignalWriter(folder / signal.name, signal.rules(), signal.schema(sizes), shard_rows=4)
            )
            for signal in signals
        }
        arguments = (model, tokenizer, texts, TEMPLATE, signals, writers)
        reports = read_signals(*arguments, sizes=sizes, max_length=max_length, **options)
    return {signal.name: SignalStore(folder / signal.name) for signal in signals}, reports
