"""The model card of a distilled student."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from molsaki.encoding.prompts import Prompt

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

- Student: `{student}`{student_layers}
- Teacher (rationales): {writer}
- Teacher (attention): {reader}{reader_layers}
- Trained on: {examples} problems of `{task}`, {steps} steps of {batch} examples

## Usage

    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained("PATH")
    tokenizer = AutoTokenizer.from_pretrained("PATH")
    {prompt}
    print(tokenizer.decode(model.generate(**ids)[0, ids["input_ids"].shape[1]:], skip_special_tokens=True))

Decoding is greedy and stops at the end token. The model solves the kind of problem that it was trained on.

## Settings

```json
{settings}
```
"""


def model_card(facts: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """The model card, in Markdown.

    Args:
        facts: label, seed, method, summary, student, student_layers, writer, reader, reader_layers, examples, task,
            steps, batch and the `Prompt`. The layers are empty where all of a model's layers have attention.
        settings: the settings of the method and of the training.
    """
    # Values are put on one line, so that a name with line breaks cannot end the front matter or a list.
    one_line = {name: " ".join(str(value).split()) for name, value in facts.items() if name != "prompt"}
    return _CARD.format(
        **one_line,
        prompt="\n    ".join(_tokenize(facts["prompt"])),
        settings=json.dumps(dict(settings), indent=2, ensure_ascii=False),
    )


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
