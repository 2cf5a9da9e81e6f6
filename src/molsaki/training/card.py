"""The model card of a distilled student."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_CARD = """---
library_name: transformers
pipeline_tag: text-generation
tags:
- distillation
- reasoning
- molsaki
---

# {label}, seed {seed}

A small language model distilled with [molsaki](https://pypi.org/project/molsaki/), method `{method}`: {summary}.

- Student: `{student}`
- Teacher (rationales): {writer}
- Teacher (attention): {reader}
- Trained on: {examples} problems of `{task}`, {steps} steps of {batch} examples

## How to ask it

    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained("PATH")
    tokenizer = AutoTokenizer.from_pretrained("PATH")
    prompt = {prompt}.replace("{{question}}", "…")
    ids = tokenizer(prompt, return_tensors="pt")
    print(tokenizer.decode(model.generate(**ids)[0, ids["input_ids"].shape[1]:], skip_special_tokens=True))

It decodes greedily and stops by itself. It knows the kind of problem that it was trained on and little else.

## Settings

```json
{settings}
```
"""


def model_card(facts: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """The card's text.

    Args:
        facts: label, seed, method, summary, student, writer, reader, examples, task, steps, batch, prompt.
        settings: the method's and the training's settings.
    """
    shown = {name: _one_line(value) for name, value in facts.items() if name != "prompt"}
    return _CARD.format(
        **shown,
        prompt=json.dumps(facts["prompt"], ensure_ascii=False),
        settings=json.dumps(dict(settings), indent=2, ensure_ascii=False),
    )


def _one_line(value: Any) -> str:
    return " ".join(str(value).split())
