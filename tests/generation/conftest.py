"""A teacher that writes what a test wants it to write, in the place of decoding."""

from __future__ import annotations

import pytest

from molsaki.artefacts import RowLog
from molsaki.decoding import Completion


class ScriptedTeacher:
    """Stands in for `decode_batches`: answers a prompt with the script's text for it, the last batch first."""

    def __init__(self):
        self.script = {}
        self.batches = []
        self.fail_after = None

    def __call__(self, model, tokenizer, prompts, *, max_new_tokens, batch_size, progress=None):
        indices = list(reversed(range(len(prompts))))
        for start in range(0, len(indices), batch_size):
            if self.fail_after is not None and len(self.batches) >= self.fail_after:
                raise KeyboardInterrupt
            batch = indices[start : start + batch_size]
            self.batches.append([prompts[index] for index in batch])
            yield [self.complete(index, prompts[index]) for index in batch]

    def complete(self, index, prompt):
        text = self.script.get(prompt, "")
        if text is None:
            return Completion(index, "", 0, cut=False, too_long=True)
        return Completion(index, text.removesuffix("<cut>"), len(text.split()), cut=text.endswith("<cut>"))


@pytest.fixture
def teacher(monkeypatch):
    scripted = ScriptedTeacher()
    monkeypatch.setattr("molsaki.generation.decode_batches", scripted)
    return scripted


@pytest.fixture
def log(tmp_path):
    return RowLog(tmp_path / "rationales.jsonl")
