"""The bytes of each token of a vocabulary, by which tokens of two tokenizers are compared.

A byte-level vocabulary (GPT-2, Llama 3, Qwen) writes every byte as a printable character. A SentencePiece vocabulary
(Llama 2, Gemma, Mistral) writes a space as `▁`, and a byte without a piece as `<0x0A>`. In both, the space in front of
a word is part of its token. The bytes of a text's tokens, joined, are the bytes of the text; a SentencePiece tokenizer
may add a space at the start.
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
    """The bytes of every token by its id; None for a special token, and for an id without a token.

    Raises:
        TokenizerError: the tokenizer is slow, or its vocabulary is of another kind (word pieces, for example).
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        _refuse(tokenizer, "a slow one")
    state: dict[str, Any] = json.loads(backend.to_str())
    parts = {part["type"] for part in _parts(state)}
    byte_level = "ByteLevel" in parts
    if not byte_level and not {"Metaspace", "ByteFallback"} & parts:
        _refuse(tokenizer, f"one of {', '.join(sorted(parts)) or 'neither kind'}")
    added = {token["id"]: token for token in state["added_tokens"]}
    vocabulary: Mapping[str, int] = backend.get_vocab(with_added_tokens=True)
    found: list[bytes | None] = [None] * (max(vocabulary.values(), default=-1) + 1)
    for text, index in vocabulary.items():
        if index in added:
            # Added tokens are plain text, not written in the vocabulary's alphabet.
            found[index] = None if added[index]["special"] else text.encode()
        else:
            found[index] = _byte_level(text) if byte_level else _piece(text)
    return found


def same_bytes(teacher: Sequence[bytes | None], student: Sequence[bytes | None]) -> list[int]:
    """For every token of the teacher, the student's token with the same bytes, or −1.

    The student may have several (a SentencePiece vocabulary has the letter `A` and the byte `<0x41>`). The one with the
    largest id is taken: pieces of text come after bytes, and a tokenizer prefers them.
    """
    index = {some: i for i, some in enumerate(student) if some}
    return [-1 if not some else index.get(some, -1) for some in teacher]


def _parts(state: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The parts of a fast tokenizer that define how its tokens are written, with sequences of parts flattened."""
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
    """The byte of each letter of a byte-level vocabulary, as GPT-2 assigned them.

    Bytes that are printable in Latin-1 are written as they are, the others as the letters from U+0100 on, in order.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


def _refuse(tokenizer: PreTrainedTokenizerBase, got: str) -> NoReturn:
    raise TokenizerError(
        f"Expected a fast byte-level or SentencePiece tokenizer; {tokenizer.name_or_path!r} is {got}. The bytes of its "
        "tokens are not known, so its next tokens cannot be compared with another model's; choose another model, or a "
        "method that compares no next tokens."
    )


def text_of_tokens(ids: Sequence[int], bytes_of: Sequence[bytes | None]) -> tuple[str, list[tuple[int, int]]]:
    r"""The text of some tokens, and the (start, end) characters of each.

    For sequences that were tokenized elsewhere, of which only the ids are left. A special token, or an id without a
    token, is one character U+0000, which is part of no word. Tokens that share a character all have it. A byte that is
    part of no character (a text that was cut within one) is U+FFFD.

    Args:
        ids: token ids.
        bytes_of: the bytes of every token of the vocabulary, from `token_bytes`.
    """
    known = (bytes_of[token] if token < len(bytes_of) else None for token in ids)
    pieces = [b"\0" if piece is None else piece for piece in known]
    text, character_of_byte = _decode(b"".join(pieces))
    spans, end = [], 0
    for piece in pieces:
        start, end = end, end + len(piece)
        first = character_of_byte[start] if start < len(character_of_byte) else len(text)
        spans.append((first, character_of_byte[end - 1] + 1 if piece else first))
    return text, spans


def _decode(data: bytes) -> tuple[str, list[int]]:
    """The text of some bytes, and the index of the character that each byte is part of."""
    characters: list[str] = []
    of_byte: list[int] = []
    while len(of_byte) < len(data):
        rest = data[len(of_byte) :]
        try:
            whole, bad = rest.decode(), 0
        except UnicodeDecodeError as error:
            whole, bad = rest[: error.start].decode(), 1
        for character in whole:
            of_byte += [len(characters)] * len(character.encode())
            characters.append(character)
        of_byte += [len(characters)] * bad
        characters += ["\ufffd"] * bad
    return "".join(characters), of_byte
