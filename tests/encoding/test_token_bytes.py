"""The bytes of tokens: joined, they are the text's, whatever the tokenizer."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE, WordLevel
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from molsaki.data.pocket import STUDENT, TEACHER
from molsaki.encoding.token_bytes import same_bytes, token_bytes
from molsaki.errors import TokenizerError

SHIPPED = {"teacher": TEACHER, "student": STUDENT}
NAMES = ("gpt2", "llama2", *SHIPPED)
TEXTS = (
    "Tom has 7 pens. He buys 30.5 more.",
    "  two spaces\tand a tab\nand a line\n\n",
    "Größe — “quoted” … 7 × 3 = 21 € 🙂👍🏽 漢字",
    "it's ( 7.0 * 30.0 )",
)


def load(name, request):
    """A tokenizer that ships with the project, or a real one where the data is there."""
    folder = SHIPPED.get(name) or request.getfixturevalue("shared_data") / "tokenizers" / name
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module", params=NAMES)
def tokenizer(request):
    return load(request.param, request)


@pytest.fixture(scope="module")
def bytes_of(tokenizer):
    return token_bytes(tokenizer)


def joined(tokenizer, bytes_of, text):
    some = [bytes_of[i] for i in tokenizer(text, add_special_tokens=False)["input_ids"]]
    assert None not in some
    return b"".join(some)


@pytest.mark.parametrize("text", TEXTS)
def test_joined_they_are_the_text(tokenizer, bytes_of, text):
    # SentencePiece tokenizers may put a space in front.
    assert joined(tokenizer, bytes_of, text) in (text.encode(), b" " + text.encode())


@settings(max_examples=60, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁<"), max_size=40))
def test_joined_they_are_any_text(tokenizer, bytes_of, text):
    assert joined(tokenizer, bytes_of, text) in (text.encode(), b" " + text.encode())


def test_special_tokens_have_none(tokenizer, bytes_of):
    assert all(bytes_of[i] is None for i in tokenizer.all_special_ids)
    assert sum(some is None for some in bytes_of) == len(set(tokenizer.all_special_ids))


def test_a_token_that_was_added_is_its_text():
    backend = Tokenizer(BPE(vocab={"a": 0, "Ġ": 1}, merges=[]))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made = PreTrainedTokenizerFast(tokenizer_object=backend)
    made.add_tokens(["Ġé"])
    made.add_special_tokens({"eos_token": "<end>"})
    assert token_bytes(made) == [b"a", b" ", "Ġé".encode(), None]


def test_other_kinds_are_refused():
    made = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"a": 0, "?": 1}, unk_token="?")))
    with pytest.raises(TokenizerError, match="neither kind"):
        token_bytes(made)


def test_tokens_meet_by_their_bytes():
    student = [None, b"\x41", b"B", b"A", b" A"]
    assert same_bytes([b"A", b" A", b"C", None, b"", b"B"], student) == [3, 4, -1, -1, -1, 2]


@pytest.mark.parametrize(("one", "other"), [("gpt2", "llama2"), ("llama2", "gpt2"), ("teacher", "student")])
def test_real_vocabularies_share_much(one, other, request):
    theirs, mine = (token_bytes(load(name, request)) for name in (one, other))
    places = same_bytes(theirs, mine)
    assert all(theirs[i] == mine[place] for i, place in enumerate(places) if place >= 0)
    assert sum(place >= 0 for place in places) > len(theirs) / 3
    shared = set(filter(None, theirs)) & set(filter(None, mine))
    assert {mine[place] for place in places if place >= 0} == shared
