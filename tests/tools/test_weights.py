"""The shipped weights are those that the code describes, and the teacher can do what it teaches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import make_pocket_weights as make
import pytest
from pocket_language import lessons, world_text
from pocket_vocabularies import CONTEXT, VOCABULARY_SIZE, student_tokenizer, teacher_tokenizer
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from molsaki.data import load_problems
from molsaki.data.pocket import STUDENT, TEACHER, WEIGHTS
from molsaki.encoding.prompts import KEYWORDS, PREDICT, PromptTemplate
from molsaki.encoding.prompts import TEACHER as TEACHER_PROMPT
from molsaki.evaluation.score import predict, score
from molsaki.stages.generate import generate_rationales
from molsaki.store.row_log import RowLog
from molsaki.teacher.local import LocalWriter
from molsaki.teacher.requests import Questions

MEGABYTE = 10**6
MODELS = {"teacher": TEACHER, "student": STUDENT}
WRITTEN_BY_SAVING = {"architectures", "dtype", "transformers_version", "use_cache", "_name_or_path"}


@pytest.fixture(scope="module", params=MODELS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def teacher() -> tuple[Any, Any]:
    return AutoModelForCausalLM.from_pretrained(TEACHER), AutoTokenizer.from_pretrained(TEACHER)


def test_all_weights_together_are_small_and_hold_no_pickle() -> None:
    files = [path for path in WEIGHTS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 8 * MEGABYTE
    assert {path.suffix for path in files} == {".json", ".safetensors"}
    assert {path.parent for path in files} == set(MODELS.values())


def test_the_configuration_is_the_codes(name: str) -> None:
    described = {"teacher": make.teacher_config, "student": make.student_config}[name]().to_dict()
    shipped = json.loads((MODELS[name] / "config.json").read_text(encoding="utf-8"))
    for key in (shipped.keys() | described.keys()) - WRITTEN_BY_SAVING:
        if key in shipped:
            assert shipped[key] == described.get(key), key
    assert (shipped["vocab_size"], shipped["max_position_embeddings"]) == (VOCABULARY_SIZE, CONTEXT)


def test_the_tokenizer_is_what_training_it_gives(name: str, tmp_path: Path) -> None:
    made = {"teacher": teacher_tokenizer, "student": student_tokenizer}[name]()
    made.save_pretrained(tmp_path)
    shipped = MODELS[name] / "tokenizer.json"
    assert (tmp_path / "tokenizer.json").read_bytes() == shipped.read_bytes()
    assert len(made) == VOCABULARY_SIZE


def test_the_manifest_tells_how_the_weights_were_made(name: str) -> None:
    manifest = json.loads((MODELS[name] / "pocket.json").read_text(encoding="utf-8"))
    write, steps, rate = {
        "teacher": (lessons, make.TEACHER_STEPS, make.TEACHER_RATE),
        "student": (world_text, make.STUDENT_STEPS, make.STUDENT_RATE),
    }[name]
    assert manifest["text_hash"] == make.text_hash(write), "the language has changed since; make the weights again"
    assert manifest["made_by"] == f"python tools/make_pocket_weights.py {name}"
    assert (manifest["steps"], manifest["learning_rate"]) == (steps, rate)
    assert (manifest["batch"], manifest["seed"]) == (make.BATCH, make.SEED)


def test_the_weights_fit_the_model_and_are_finite(name: str) -> None:
    model, loading = AutoModelForCausalLM.from_pretrained(MODELS[name], output_loading_info=True)
    assert not any(loading[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert all(bool(parameter.isfinite().all()) for parameter in model.parameters())
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert parameters == json.loads((MODELS[name] / "pocket.json").read_text(encoding="utf-8"))["parameters"]
    low, high = {"teacher": (0.5e6, 3e6), "student": (0.15e6, 1e6)}[name]
    assert low <= parameters <= high
    with safe_open(MODELS[name] / "model.safetensors", framework="pt") as file:
        assert all(file.get_slice(key).get_dtype() == "F32" for key in file.keys())  # noqa: SIM118


def test_the_two_tokenizers_are_unlike_each_other() -> None:
    theirs, mine = (AutoTokenizer.from_pretrained(MODELS[who]) for who in ("teacher", "student"))
    text = "Tom has 42 apples."
    pieces = [[t.decode([i]).strip() for i in t(text, add_special_tokens=False).input_ids] for t in (theirs, mine)]
    assert "4" in pieces[0], "one digit a token, as Llama 2 has it"
    assert "42" in pieces[1], "digits merged, as GPT-2 has it"
    for tokenizer in (theirs, mine):
        for sample in (text, "( ( 12 + 3 ) * 45 )", "naïve – 3 €, 日本", "predict: Where does a balo live?\n"):
            ids = tokenizer(sample, add_special_tokens=False).input_ids
            assert tokenizer.decode(ids, skip_special_tokens=True) == sample
            assert tokenizer.unk_token_id not in ids or tokenizer.unk_token_id == tokenizer.eos_token_id


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "split", "least"),
    [
        ("pocket-math", "test:5", 0.95),
        ("pocket-math", "templates:5", 0.80),
        ("pocket-math", "numbers:5", 0.80),
        ("pocket-math", "chains:5", 0.80),
        ("pocket-commonsense", "test:5", 0.95),
    ],
)
def test_the_teacher_solves_what_it_teaches(
    source: str, split: str, least: float, teacher: tuple[Any, Any], tmp_path: Path
) -> None:
    model, tokenizer = teacher
    problems = load_problems(source, split=split, limit=100).problems
    report = generate_rationales(
        LocalWriter(model, tokenizer, batch_size=100),
        problems,
        Questions(PromptTemplate.parse(TEACHER_PROMPT), keywords=PromptTemplate.parse(KEYWORDS)),
        log=RowLog(tmp_path / "rationales.jsonl"),
        completions=RowLog(tmp_path / "completions.jsonl"),
        max_new_tokens=128,
    )
    assert report.kept >= least * len(problems), report.reasons
    if source == "pocket-commonsense":
        assert report.notes.get("kept rows without a key word", 0) <= 0.05 * report.kept


def test_the_base_student_has_solved_nothing() -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(STUDENT), AutoTokenizer.from_pretrained(STUDENT)
    problems = load_problems("pocket-math", split="test:5", limit=50).problems
    batches = predict(model, tokenizer, problems, PromptTemplate.parse(PREDICT), max_new_tokens=48)
    assert score(row for batch in batches for row in batch).accuracy <= 0.05
