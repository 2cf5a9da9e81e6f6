"""The dataset card of exported signals, as the Hugging Face hub reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping

from huggingface_hub import DatasetCard, DatasetCardData

from molsaki.store.exported_files import ROWS
from molsaki.store.exported_rows import ExportManifest

_CARD = """---
{front}
---

# Where a teacher looks: {task}

The stepwise attention of `{teacher}` on {rows} rationales, for distillation with molsaki. Steps and
keys are spans of characters, so a student with any tokenizer can learn from it.

| | |
| --- | --- |
| teacher | `{teacher}`, revision {revision}, read in {precision}{error} |
| rows | {rows} |
| texts | {texts} |
| keys | {keys} |
| steps | the question, then {steps} of the rationale; span rules {span_rules} |
{signals}

## Use

```python
import molsaki

signals = molsaki.load_signals("FOLDER or owner/name")
```

`molsaki signals verify FOLDER` opens every file. A recipe with `signals: FOLDER` trains without the teacher.

## Prompt

The teacher was read in this template, as a JSON string:

```json
{prompt}
```
"""


def signals_card(manifest: ExportManifest, layers: Mapping[str, str], card_license: str) -> str:
    """The card, in Markdown.

    Args:
        manifest: of the export.
        layers: what each signal stores, in words.
        card_license: the license as the hub names it.
    """
    data = DatasetCardData(
        license=card_license,
        task_categories=["text-generation"],
        tags=["distillation", "attention", "reasoning", "molsaki"],
        pretty_name=_line(f"{manifest.task}: attention of {manifest.teacher['name']}"),
        config_names=["rows"],
        configs=[{"config_name": "rows", "data_files": ROWS}],
    )
    facts = {name: _line(manifest.teacher[name]) for name in ("revision", "precision")}
    error = manifest.teacher.get("attention_error")
    facts["error"] = f"; {_line(error)}" if error else ""
    return _CARD.format(
        front=data.to_yaml(),
        task=_line(manifest.task),
        teacher=_line(manifest.teacher["name"]),
        rows=manifest.rows,
        texts="only hashes, since their license forbids more" if manifest.hashed else f"in `{ROWS}`",
        keys=manifest.keys,
        steps=manifest.steps,
        span_rules=manifest.span_rules,
        signals="\n".join(f"| `attention/{name}` | {_line(what)} |" for name, what in layers.items()),
        prompt=json.dumps(manifest.prompt, ensure_ascii=True),
        **facts,
    )


def read_card(text: str) -> DatasetCard:
    """The card, as the hub's library parses it.

    Raises:
        ValueError: its front matter is not YAML that a card may have.
    """
    return DatasetCard(text)


def _line(text: str) -> str:
    """Text on one line without characters that end a cell, a code span or a heading."""
    return " ".join(str(text).split()).replace("|", "¦").replace("`", "'")
