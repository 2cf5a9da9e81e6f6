"""On every row of the real data sets two tokenizers that split numbers differently give the same steps and keys."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from molsaki.answers.parse import parse_answer, solve
from molsaki.answers.right import is_right
from molsaki.records import Problem
from molsaki.spans.align import Alignment, align_spans
from molsaki.spans.find import Keys, Spans, find_spans

pytestmark = pytest.mark.shared_data

PROMPTS = {"gpt2": ("explain: ", "\n"), "llama2": ("<|user|>\nQuestion 7: ", "\nAnswer: ")}
Row = tuple[str, str, Keys]
BATCH = 1000


def json_lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def completions(folder: Path) -> list[str]:
    """PaLM's completions in the order of the training rows, then the test rows."""
    names = sorted(folder.glob("train_CoT_*.json")) + sorted(folder.glob("test_CoT_*.json"))
    return [text for name in names for text in json.loads(name.read_text(encoding="utf-8"))]


def svamp(data: Path) -> list[tuple[Problem, str]]:
    folder = data / "svamp" / "dss"
    rows = json_lines(folder / "svamp_train.json") + json_lines(folder / "svamp_test.json")
    problems = [Problem(str(i), row["input"], str(solve(row["label"])), row["label"]) for i, row in enumerate(rows)]
    return list(zip(problems, completions(folder / "palm"), strict=True))


def commonsense(data: Path) -> list[tuple[Problem, str]]:
    folder = data / "cqa" / "dss"
    rows = json_lines(folder / "cqa_train.json") + json_lines(folder / "cqa_test.json")
    problems = [
        Problem(row["id"], row["question"], row["answer"], row["answer"], tuple(row["choices"])) for row in rows
    ]
    return list(zip(problems, completions(folder / "palm"), strict=True))


def svamp_rows(data: Path) -> Iterator[Row]:
    for problem, text in svamp(data):
        yield problem.text, parse_answer(text).rationale, "numbers"


def gsm8k_rows(data: Path) -> Iterator[Row]:
    for name in ("train", "test"):
        for row in json_lines(data / "gsm8k" / f"{name}.jsonl"):
            answer = re.sub("<<[^>]*>>", "", row["answer"])
            yield row["question"], parse_answer(answer).rationale, "numbers"


def commonsense_rows(data: Path) -> Iterator[Row]:
    """The words that the original files call a question's concept serve as key words, with the right choice."""
    concepts: dict[str, str] = {}
    for name in ("train", "dev"):
        for line in (data / "cqa" / f"{name}_rand_split.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            concepts[row["id"]] = row["question"]["question_concept"]
    for problem, text in commonsense(data):
        keywords = [word for word in (concepts.get(problem.id), problem.answer) if word]
        yield problem.text, parse_answer(text, problem.choices).rationale, keywords


def aligned(name: str, data: Path, rows: list[Row], spans: list[Spans]) -> list[Alignment]:
    tokenizer = AutoTokenizer.from_pretrained(data / "tokenizers" / name)
    prefix, between = PROMPTS[name]
    texts = [prefix + question + between + rationale for question, rationale, _ in rows]
    encoded = tokenizer(texts, return_offsets_mapping=True)
    return [
        align_spans(
            span, offsets, question_start=len(prefix), rationale_start=len(prefix) + len(question) + len(between)
        )
        for span, offsets, (question, _, _) in zip(spans, encoded["offset_mapping"], rows, strict=True)
    ]


@pytest.mark.parametrize(
    ("read", "n_rows"),
    [(svamp_rows, 1000), (gsm8k_rows, 8792), (commonsense_rows, 10962)],
    ids=["svamp", "gsm8k", "commonsenseqa"],
)
def test_two_tokenizers_give_the_same_steps_and_keys(read, n_rows, shared_data) -> None:
    rows = list(read(shared_data))
    assert len(rows) == n_rows
    n_keys = 0
    for first in range(0, n_rows, BATCH):
        batch = rows[first : first + BATCH]
        spans = [find_spans(question, rationale, keys) for question, rationale, keys in batch]
        sides = [aligned(name, shared_data, batch, spans) for name in PROMPTS]
        for span, gpt2, llama2 in zip(spans, *sides, strict=True):
            for side in (gpt2, llama2):
                assert set(side.step_of_token) - {-1} == set(range(span.n_steps))
                assert set(side.key_of_token) - {-1} == set(range(span.n_keys))
                assert (side.missing_steps, side.missing_keys) == ((), ())
            n_keys += span.n_keys
    assert n_keys > 3 * n_rows


@pytest.mark.parametrize(
    ("read", "statuses", "n_right"),
    [
        (svamp, {"ok": 961, "unparsable": 16, "none": 13, "ambiguous": 7, "cut": 3}, 750),
        (commonsense, {"ok": 10636, "ambiguous": 323, "unparsable": 3}, 8300),
    ],
    ids=["svamp", "commonsenseqa"],
)
def test_palms_completions_are_read_as_before(read, statuses, n_right, shared_data) -> None:
    """The counts were checked by hand; a change of the parser that moves them has to be looked at."""
    rows = [(problem, parse_answer(text, problem.choices)) for problem, text in read(shared_data)]
    assert Counter(parsed.status for _, parsed in rows) == statuses
    assert sum(is_right(parsed, problem) for problem, parsed in rows) == n_right
    assert not any(parsed.revised for _, parsed in rows)
