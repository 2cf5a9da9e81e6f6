"""What bytes each token of a vocabulary stands for: the one measure that two tokenizers share.

A byte-level vocabulary (GPT-2, Llama 3, Qwen) writes every byte as a printable character; a SentencePiece one (Llama 2,
Gemma, Mistral) writes a space as `▁` and a byte that it has no piece for as `<0x0A>`. A space in front is part of its
token in both. Joined, the bytes of an encoded text's tokens are the text's own; a SentencePiece tokenizer may put a
space in front of all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

from molsaki.errors import TokenizerError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SPACE = "▁"
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def token_bytes(tokenizer: PreTrainedTokenizerBase) -> list[bytes | None]:
    """The bytes of every token by its id; None for a special token, and for an id that no token has.

    Raises:
        TokenizerError: it is a slow tokenizer, or a vocabulary of another kind (word pieces, for example).
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        _refuse(tokenizer, "a slow one")
    state: dict[str, Any] = json.loads(backend.to_str())
    parts = {part["type"] for part in _parts(state)}
    byte_level = "ByteLevel" in parts
    if not byte_level and not {"Metaspace", "ByteFallback"} & parts:
        _refuse(tokenizer, f"one made of {', '.join(sorted(parts)) or 'nothing that says so'}")
    added = {token["id"]: token for token in state["added_tokens"]}
    vocabulary: Mapping[str, int] = backend.get_vocab(with_added_tokens=True)
    found: list[bytes | None] = [None] * (max(vocabulary.values(), default=-1) + 1)
    for text, index in vocabulary.items():
        if index in added:
            # Added tokens stand in the text as they are, outside of the vocabulary's alphabet.
            found[index] = None if added[index]["special"] else text.encode()
        else:
            found[index] = _byte_level(text) if byte_level else _piece(text)
    return found


def same_bytes(teacher: Sequence[bytes | None], student: Sequence[bytes | None]) -> list[int]:
    """For every token of the teacher the student's token of the same bytes, or −1.

    Of several of the student's (a SentencePiece vocabulary has the letter `A` and the byte `<0x41>`) it is the one with
    the largest id, since pieces of text, which a tokenizer prefers, come after bytes.
    """
    index = {some: i for i, some in enumerate(student) if some}
    return [-1 if not some else index.get(some, -1) for some in teacher]


def _parts(state: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The parts of a fast tokenizer that say how its tokens are written; those of sequences one by one."""
    for name, inner in (("normalizer", "normalizers"), ("pre_tokenizer", "pretokenizers"), ("decoder", "decoders")):
        part = state.get(name)
        if part is not None:
            yield from part.get(inner, [part])


def _byte_level(text: str) -> bytes | None:
    letters = _letters()
    try:
        return bytes(letters[letter] for letter in text)
    except KeyError:
        return None


def _piece(text: str) -> bytes:
    byte = _BYTE.fullmatch(text)
    return bytes([int(byte[1], 16)]) if byte else text.replace(_SPACE, " ").encode()


@lru_cache(maxsize=1)
def _letters() -> dict[str, int]:
    """The byte that each letter of a byte-level vocabulary stands for, as GPT-2 assigned them.

    Bytes that are printable in Latin-1 stand for themselves, the others for the letters from U+0100 on, in order.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


def _refuse(tokenizer: PreTrainedTokenizerBase, got: str) -> NoReturn:
    raise TokenizerError(
        f"Expected a fast tokenizer of bytes or of SentencePiece's pieces; {tokenizer.name_or_path!r} is {got}. It is "
        "not known which bytes its tokens stand for, so its next tokens cannot be compared with another model's; "
        "choose another model, or a method that compares no next tokens."
    )
