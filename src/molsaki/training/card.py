"""The model card of a distilled student, with the front matter that the hub reads."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from molsaki.encoding.prompts import Prompt
from molsaki.errors import InputError
from molsaki.evaluation.score import Score

_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
_CARD = """---
{front}
---

# {label}, seed {seed}

A small language model distilled with molsaki, method `{method}`: {summary}.

- Student: `{student}`{student_layers}
- Trained: {trained}
- Teacher (rationales): {writer}
- Teacher (attention): {reader}{reader_layers}
- Trained on: {examples} problems of `{task}`, {steps} steps of {batch} examples
- License: {license}

## Scores

{scores}

## Usage

{loading}
    {prompt}
    print(tokenizer.decode(model.generate(**ids)[0, ids["input_ids"].shape[1]:], skip_special_tokens=True))

Decoding is greedy and stops at the end token. It was trained on one kind of problem; the scores say how
often it is right there.

## Settings

```json
{settings}
```
"""
_WHOLE = """    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained("PATH")
    tokenizer = AutoTokenizer.from_pretrained("PATH")"""
_ADAPTER = """    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("BASE"), "PATH")
    model.generation_config = GenerationConfig.from_pretrained("PATH")  # greedy; the base's may sample
    tokenizer = AutoTokenizer.from_pretrained("PATH")"""


@dataclass(frozen=True, slots=True)
class ScoredSet:
    """A test set that a student was scored on.

    Attributes:
        name: its name in the recipe.
        source: the name of the data set, for one of the hub `owner/name`.
        split: its split, if it has one.
        score: the student's score.
    """

    name: str
    source: str
    split: str | None
    score: Score


def require_license(name: str) -> None:
    """Refuse a license whose name cannot be one of the hub's.

    Raises:
        InputError: it is not written as the hub writes names.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", name):
        raise InputError(
            f"Expected a license as the hub names it, such as mit or cc-by-4.0; got {name!r}. Nothing was exported; "
            "names have small letters, digits, dots and hyphens."
        )


def model_card(
    facts: Mapping[str, Any],
    settings: Mapping[str, Any],
    tests: Sequence[ScoredSet] = (),
    *,
    adapter: bool = False,
    license_name: str | None = None,
) -> str:
    """The model card, in Markdown with YAML before it.

    Args:
        facts: label, seed, method, summary, student, student_layers, trained, writer, reader, reader_layers, examples,
            task, steps, batch (the examples of a step) and the `Prompt`. The layers are empty where all of a model's
            layers have attention.
        settings: the settings of the method and of the training.
        tests: the sets that the student was scored on.
        adapter: whether the card is beside an adapter instead of a whole model.
        license_name: the license as the hub writes it, such as `apache-2.0`; without one, the field is left out.
    """
    # Values are put on one line, so that a name with line breaks cannot end the front matter or a list.
    one_line = {name: " ".join(str(value).split()) for name, value in facts.items() if name != "prompt"}
    return _CARD.format(
        **one_line,
        front=_front_matter(facts, tests, adapter=adapter, license_name=license_name),
        license=license_name or "not stated; that of the student's base and of the data hold",
        scores=_scores(tests),
        loading=_ADAPTER if adapter else _WHOLE,
        prompt="\n    ".join(_tokenize(facts["prompt"])),
        settings=json.dumps(dict(settings), indent=2, ensure_ascii=False),
    )


def _front_matter(
    facts: Mapping[str, Any], tests: Sequence[ScoredSet], *, adapter: bool, license_name: str | None
) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type="text-generation",
            dataset_type=test.source,
            dataset_name=test.name,
            dataset_split=test.split,
            metric_type="accuracy",
            metric_name="accuracy",
            metric_value=round(test.score.accuracy, 4),
            metric_args={"n": test.score.n, "level": 0.95, "interval": _rounded(test.score)},
        )
        for test in tests
    ]
    student = str(facts["student"])
    data = ModelCardData(
        # The hub cannot link to a directory.
        base_model=student if _HUB_NAME.fullmatch(student) else None,
        library_name="peft" if adapter else "transformers",
        license=license_name,
        pipeline_tag="text-generation",
        tags=["distillation", "reasoning", "molsaki", *(["lora"] if adapter else [])],
        model_name=" ".join(f"{facts['label']}-{facts['seed']}".split()) if results else None,
        eval_results=results or None,
    )
    return str(data.to_yaml()).strip()


def _scores(tests: Sequence[ScoredSet]) -> str:
    if not tests:
        return "The student was not tested when this card was written."
    lines = ["| set | accuracy | 95 % interval | problems |", "| --- | --- | --- | --- |"]
    for test in tests:
        low, high = (f"{100 * bound:.1f}" for bound in _rounded(test.score))
        lines.append(f"| {test.name} | {100 * test.score.accuracy:.1f} % | {low} to {high} % | {test.score.n} |")
    return "\n".join([*lines, "", "The intervals are Wilson's, over problems; another seed may differ by more."])


def _rounded(score: Score) -> list[float]:
    return [round(score.interval.low, 4), round(score.interval.high, 4)]


def _tokenize(prompt: Prompt) -> list[str]:
    """Lines of Python that tokenize a prompt in which `{question}` is left open."""
    if not prompt.messages:
        text = json.dumps(prompt.text, ensure_ascii=False)
        return [f'prompt = {text}.replace("{{question}}", "…")', 'ids = tokenizer(prompt, return_tensors="pt")']
    return [
        f"messages = {json.dumps(prompt.as_messages(), ensure_ascii=False)}",
        'messages[-1]["content"] = messages[-1]["content"].replace("{question}", "…")',
        "ids = tokenizer.apply_chat_template(",
        '    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True',
        ")",
    ]
