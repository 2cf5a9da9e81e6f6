"""A teacher that writes what a test wants it to write, instead of a model."""

from __future__ import annotations

from collections import Counter

import pytest

from molsaki.models.decode import Completion
from molsaki.store.row_log import RowLog


class ScriptedTeacher:
    """A writer that answers a prompt with the script's text for it, or one of several by sample, the last first."""

    def __init__(self):
        self.script = {}
        self.batches = []
        self.asked = []
        self.fail_after = None
        self.batch_size = 4
        self.notes = Counter()

    def require(self, template):
        assert not template.is_chat

    def show(self, prompt):
        return prompt.text

    def complete(self, requests, *, max_new_tokens, temperature=0.0):
        self.asked.append((len(requests), max_new_tokens, temperature))
        indices = list(reversed(range(len(requests))))
        for start in range(0, len(indices), self.batch_size):
            if self.fail_after is not None and len(self.batches) >= self.fail_after:
                raise KeyboardInterrupt
            batch = indices[start : start + self.batch_size]
            self.batches.append([requests[index].prompt.text for index in batch])
            yield [self.answer(index, requests[index]) for index in batch]

    def answer(self, index, request):
        text = self.script.get(request.prompt.text, "")
        if isinstance(text, tuple):
            text = text[request.sample]
        if text is None:
            return Completion(index, "", 0, cut=False, too_long=True)
        if text.startswith("<failure>"):
            return Completion(index, "", 0, cut=False, failure=text.removeprefix("<failure>"))
        written = len(text.split())
        return Completion(index, text.removesuffix("<cut>"), written, cut=text.endswith("<cut>"), prompt_tokens=10)


@pytest.fixture
def teacher():
    return ScriptedTeacher()


@pytest.fixture
def log(tmp_path):
    return RowLog(tmp_path / "rationales.jsonl")


@pytest.fixture
def completions(tmp_path):
    return RowLog(tmp_path / "completions.jsonl")
