"""Traces of thinking models: what is kept of them, its steps and keys, as a reader marks them."""

from __future__ import annotations

import pytest
from thinking_traces import QUESTION, TRACES, Trace

from molsaki.models.decode import Completion
from molsaki.records import Problem
from molsaki.spans.find import find_spans
from molsaki.teacher.filter import check_completion


@pytest.mark.parametrize("trace", TRACES, ids=lambda trace: trace.name)
def test_a_trace_is_kept_and_cut_as_a_reader_would(trace: Trace) -> None:
    problem = Problem("p", QUESTION, trace.gold, trace.gold, trace.choices)
    result = check_completion(problem, Completion(0, trace.text, 1, cut=False), learn=trace.learn)
    assert result.reason == trace.reason
    if not trace.steps:
        assert not result.kept
        return
    spans = find_spans(QUESTION, result.rationale, steps=trace.rule)
    assert tuple(step.of(QUESTION, result.rationale) for step in spans.steps[1:]) == trace.steps
    keys = [key.of(QUESTION, result.rationale) for key in spans.keys if key.text == "rationale"]
    assert keys == trace.keys.split()
