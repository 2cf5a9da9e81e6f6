"""Fingerprints name every key that differs, with both values."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from molsaki.errors import ArtefactError, DataError
from molsaki.store.fingerprints import differences, fingerprint, require_same, versions


def test_short_values_stand_as_they_are_and_long_ones_by_their_hash() -> None:
    parts = fingerprint(model="a/b", layers=4, rate=0.5, spans={"b": 1, "a": [1]}, none=None, long="x" * 201)
    long = parts.pop("long")
    assert parts == {
        "model": "a/b",
        "layers": "4",
        "rate": "0.5",
        "spans": '{"a": [1], "b": 1}',
        "none": "null",
    }
    assert long.startswith("sha256:")
    assert len(long) < 40


def test_the_order_of_keys_changes_nothing() -> None:
    a = {str(i): i for i in range(100)}
    assert fingerprint(part=a) == fingerprint(part=dict(reversed(a.items())))


def test_a_part_that_is_not_json_is_named() -> None:
    with pytest.raises(DataError, match="the part 'rate' of a fingerprint"):
        fingerprint(rate=float("nan"))


def test_exactly_the_differing_keys_are_named_with_both_values() -> None:
    found = {"teacher": "A", "spans": "1", "tokenizer": "t", "old": "x"}
    wanted = {"teacher": "B", "spans": "1", "tokenizer": "u", "new": "y"}
    with pytest.raises(ArtefactError) as caught:
        require_same(found, wanted, "the store s")
    message = str(caught.value)
    assert "the store s" in message
    assert "4 of its keys differ" in message
    for line in (
        'teacher: found "A", requested "B"',
        'tokenizer: found "t", requested "u"',
        'old: found "x", requested absent',
        'new: found absent, requested "y"',
    ):
        assert line in message
    assert "spans" not in message


def test_nested_values_are_compared_leaf_by_leaf() -> None:
    found = {"train": {"rate": 1, "steps": [1, 2]}, "methods": [{"name": "a", "beta": 1.0}]}
    wanted = {"train": {"rate": 1.0, "steps": [1, 3]}, "methods": [{"name": "a", "beta": 2.0}, {"name": "b"}]}
    assert [line.strip().split(": ")[0] for line in differences(found, wanted)] == [
        "methods[0].beta",
        "methods[1].name",
        "train.rate",
        "train.steps",
    ]


def test_long_values_are_shown_around_where_they_differ() -> None:
    (line,) = differences({"template": "x" * 5000 + "A" + "y" * 5000}, {"template": "x" * 5000 + "B" + "y" * 5000})
    assert len(line) < 500
    assert "xA" in line
    assert "xB" in line


@settings(deadline=None)
@given(st.dictionaries(st.text(min_size=1), st.text()), st.dictionaries(st.text(min_size=1), st.text()))
def test_equal_ones_pass_and_different_ones_do_not(a: dict[str, str], b: dict[str, str]) -> None:
    require_same(a, dict(a), "it")
    assert (differences(a, b) == []) == (a == b)


def test_versions_are_known_without_importing_what_they_are_of() -> None:
    assert {"python", "molsaki", "torch", "transformers", "tokenizers"} <= versions().keys()
    code = "import sys, molsaki.store.fingerprints as a; a.versions(); print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_entries_with_labels_are_compared_by_them() -> None:
    have = {"methods": [{"label": "a", "beta": 1}, {"label": "b", "beta": 2}]}
    want = {"methods": [{"label": "c", "beta": 3}, {"label": "a", "beta": 1}, {"label": "b", "beta": 5}]}
    keys = [line.strip().split(": ")[0] for line in differences(have, want)]
    assert keys == ["methods[b].beta", "methods[c].beta", "methods[c].label"]
    unnamed = {"methods": [{"label": ["a"]}]}
    assert differences(unnamed, {"methods": [{"label": ["b"]}]})
