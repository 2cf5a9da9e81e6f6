r"""Reading one choice: by its letter in any notation, its text, its value, or a mention of its text.

Texts are compared as they are written first and folded after that (case, compatibility forms), so choices that fold
together, such as `Rr` and `rr`, remain different. Choices that are numbers are compared by value: `21.50` is `21.5`,
and `-15` or `115` mention no `15`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from difflib import SequenceMatcher

from molsaki.answers.amounts import may_change
from molsaki.answers.arithmetic import same_number
from molsaki.answers.boxes import boxes_of
from molsaki.answers.denials import before_contrast, is_denied
from molsaki.answers.expressions import SENTENCE_END
from molsaki.answers.latex import has_math
from molsaki.answers.math_values import same_math
from molsaki.answers.number_words import in_digits
from molsaki.answers.numbers import ParsedValue, read_plain
from molsaki.answers.options import (
    EDGE,
    Options,
    fold,
    forms_of,
    of_unit,
    of_value,
    options_of,
    plain_choice,
    whole_choices,
)
from molsaki.records import CHOICE_LETTERS

LIKENESS = 0.7
"""How alike (`difflib`'s ratio) the text after a letter must be to that letter's choice: `(e) Australia` is
read as the choice `austrailia`, `(e) ice` is not read as `water cooler`."""

_LETTER = re.compile(r"(?<!\w)\\?[(\[{<]{1,2}\s?([A-Za-z])\s?\\?[)\]}>]{1,2}")
# The letter itself without case folding, by which "ı" and "ſ" would be letters from A to Z.
_BARE_LETTER = re.compile(
    r"(?:that\s)?(?:it(?:'s|\sis)\s)?(?:(?:most\s)?(?:likely|probably|definitely|clearly|certainly|obviously|indeed|"
    r"simply|actually|therefore|thus|still|then|also),?\s)?"
    r"(?:(?:the\s)?(?:option|choice|letter|answer)\s{1,3})?((?-i:[A-Za-z]))"
    r"[\"'*_]{0,3}(?:[.):,!](?=\s|\Z)|(?=です|だ\Z|입니다|이다|选项|選項)|\s{0,4}\Z|\s{1,3}(?=\()|(?<=(?-i:[A-Z]))(?:\s?[-=]\s|\s(?=(?:because|since)\b)))",
    re.IGNORECASE,
)
_LETTER_AND_TEXT = re.compile(r"([B-HJ-Z])\s{1,3}(?=\S)")
_LETTERS = re.compile(r"[(\[]?[A-Z][)\]]?(?:\s?(?:,|&|/|and|or)\s?[(\[]?[A-Z][)\]]?){1,25}\W{0,3}")
_OR_LETTER = re.compile(r"[\s(]{0,4}(?:or|and|nor|/|&)\W{1,3}(?:possibly |maybe |perhaps )?[A-Z]\b(?!')")
_LAST_LETTER = re.compile(r",\s([A-Z])\W{0,3}\Z")
_JOINED = re.compile(
    r"[\s,;/&-]{0,3}(?:(?:or|and|well|hmm+|wait|rather|actually|maybe|perhaps)\b[,\s]{1,2}){0,3}(?:the |an? )?"
)
_TURN = re.compile(r"\b(?:but(?! not\b)|however|although|though|actually|wait)\b")
"""Words after which a sentence may end in another choice than before: "yes, but it is no"."""
_OPEN_LETTER = re.compile(r"\(\w?\Z")
_REASON = re.compile(
    r"[\s,;:.-]{0,4}(?:(?:because|since|as|which)\b|因[为為]|です|입니다|이다|选项|選項)", re.IGNORECASE
)
_NO_NAME = r"(?!\s(?!(?:because|since|as|so|it|they|he|she|we|i|you|this|that)\b)\w)"
_TRUTHS = (("yes", "no"), ("true", "false"))


def read_choice(region: str, choices: Sequence[str], at_end: bool) -> ParsedValue:
    """Read a choice by its letter, its text or both; `true` and `false` are read as `yes` and `no`, and vice versa.

    Args:
        region: the text after an answer marker, or what is in a box.
        choices: the choices' texts in order.
        at_end: whether the whole text ends with it, so that it may have been cut off.
    """
    reading = _read_region(region, options_of(tuple(choices)), at_end)
    other = _other_words(choices) if reading.status == "unparsable" else None
    if other is None:
        return reading
    translated = _read_region(region, options_of(other), at_end)
    return replace(translated, text=choices[translated.choice]) if translated.choice is not None else reading


def _other_words(choices: Sequence[str]) -> tuple[str, ...] | None:
    """`true` and `false` for the choices `yes` and `no`, and vice versa; None for any others."""
    folded = [fold(choice) for choice in choices]
    for words, others in (_TRUTHS, _TRUTHS[::-1]):
        if sorted(folded) == sorted(words):
            return tuple(others[words.index(word)] for word in folded)
    return None


def _read_region(region: str, options: Options, at_end: bool) -> ParsedValue:
    boxes = boxes_of(region)
    if len({"".join(box.split()) for box in boxes}) > 1:
        return ParsedValue(region.strip(EDGE), None, None, "ambiguous")
    plain = plain_choice(boxes[-1] if boxes else region)
    ending = SENTENCE_END.search(plain)
    if ending and ending[0] == "!" and (exact := " ".join(plain[: ending.end()].split())) in options.forms[0]:
        return _chosen(options, options.forms[0].index(exact))  # the choice "5!"
    first = _read_sentence(plain[: ending.start()] if ending else plain, options)
    # A choice such as "Mr. Smith" does not end where this sentence seems to.
    reading = _read_named(plain, options) if ending and first.status == "unparsable" else first
    if ending and reading.choice is not None and _other_choice(plain[ending.end() :], reading.choice, options):
        return replace(reading, choice=None, status="ambiguous")
    if reading.status == "unparsable" and has_math(region) and any(map(has_math, options.texts)):
        reading = _by_formula(boxes[-1] if boxes else region, options) or reading
    if reading.status == "unparsable" and at_end and not ending and _breaks_off(plain, options):
        return ParsedValue(reading.text, None, None, "cut")
    return reading


def _other_choice(said: str, index: int, options: Options) -> bool:
    """Whether a text, up to the end of its sentence, is another choice: "A. sand"."""
    joined = _JOINED.match(said.lstrip())
    said = said.lstrip()[joined.end() :] if joined else said
    ending = SENTENCE_END.search(said)
    whole = whole_choices(forms_of(said[: ending.start()] if ending else said), options)
    return bool(whole) and all(options.forms[0][i] != options.forms[0][index] for i in whole or ())


def _read_sentence(plain: str, options: Options) -> ParsedValue:
    """The choice that a sentence names, in all of it or else before its reason."""
    reading = _read_named(plain, options)
    if reading.status != "ok" and (shorter := before_contrast(plain)) is not None:
        before = _read_named(shorter, options)
        if before.choice is not None and _other_choice(plain[len(shorter) :].lstrip(" -—"), before.choice, options):
            return reading  # "A - sand"
        return before if before.status == "ok" else reading
    return reading


def _read_named(plain: str, options: Options) -> ParsedValue:
    """The choice that a sentence names."""
    forms = forms_of(plain)
    said = forms[-1]
    letters = _LETTER.findall(plain)
    whole = whole_choices(forms[:1] if letters else forms, options)
    if whole and not _is_letter_a(plain, whole, options):
        return _chosen(options, whole[0])
    if whole is not None or _LETTERS.fullmatch(forms[0]):
        return ParsedValue(said, None, None, "ambiguous")
    if letters:
        before, *_, after = _LETTER.split(plain, maxsplit=1)
        if is_denied(before, ""):
            return ParsedValue(said, None, None, "ambiguous")
        first = CHOICE_LETTERS.index(letters[0].lower())
        if len(letters) > 1 and first in (whole_choices(forms_of(after)[:1], options) or ()):
            return _chosen(options, first)  # the choice "both (a) and (b)"
        return _by_letter(letters, _LETTER.sub(" ", plain), after, said, options)
    if alone := _lone_letter(plain, options):
        after = alone.string[alone.end() :]
        return _by_letter([alone[1]], after, after, said, options)
    if last := _LAST_LETTER.search(plain):  # "water, A"
        return _by_letter([last[1]], plain[: last.start()], "", said, options)
    if any(value is not None for value in options.values) and any(map(str.isdigit, in_digits(said))):
        return _by_value(plain, options)
    return _by_mention(said, options)


def _is_letter_a(plain: str, whole: Sequence[int], options: Options) -> bool:
    """Whether "A sand" may be choice A beside another one's text, and not an article."""
    as_written = any(options.forms[0][i].startswith("A ") for i in whole)
    return plain.startswith("A ") and not as_written and 0 not in whole


def _lone_letter(plain: str, options: Options) -> re.Match[str] | None:
    """A letter without brackets; before a space only where a choice's text follows."""
    plain = plain.strip(" \"'*_✅✓✔👉→")
    alone = _BARE_LETTER.match(plain)
    if (
        alone is None
        and (alone := _LETTER_AND_TEXT.match(plain))
        and whole_choices(forms_of(plain[alone.end() :]), options) is None
    ):
        return None
    return alone


def _by_letter(letters: Sequence[str], rest: str, after: str, said: str, options: Options) -> ParsedValue:
    """The choice of one letter, if the text beside it is not another one's.

    `rest` is all text without letters, `after` the text right after the first one.
    """
    count = len(options.texts)
    indices = [CHOICE_LETTERS.index(letter.lower()) for letter in letters]
    lettered = {options.forms[0][i] for i in indices if i < count}
    if len(lettered) != 1 or any(i >= count for i in indices):
        named = lettered or _named(forms_of(rest)[-1], options.folded)
        return ParsedValue(said, None, None, "ambiguous" if named else "unparsable")
    beside = f" {forms_of(after)[-1]}"
    text = _mention(beside, options.folded[indices[0]])
    if not is_denied("", beside[text.end() if text else 0 :]) and _agrees(rest, after, indices[0], options):
        return _chosen(options, indices[0])
    return ParsedValue(said, None, None, "ambiguous")


def _agrees(rest: str, after: str, index: int, options: Options) -> bool:
    """Whether the text beside a letter may be its choice."""
    if _OR_LETTER.match(after):
        return False
    if _REASON.match(rest):
        return True
    forms = forms_of(rest)
    whole = whole_choices(forms, options)
    if whole:
        return any(options.forms[0][i] == options.forms[0][index] for i in whole)
    if whole is not None:
        return forms[2] == options.forms[2][index]
    value = options.values[index]
    if value is not None and forms[1] and (number := _number_beside(forms[1])) is not None:
        hundredth = "%" in rest and "%" not in options.texts[index]
        return same_number(number, value) or (hundredth and same_number(number * 100, value))
    named = _named(forms[-1], options.folded)
    return options.folded[index] in named or (not named and _alike(after, options.folded[index]))


def _number_beside(text: str) -> float | None:
    reading = read_plain(text)
    return reading.value if reading.exact else None


def _by_value(plain: str, options: Options) -> ParsedValue:
    """The choice with the answer's value; if some choices are texts, else a mentioned choice."""
    reading = read_plain(" ".join(plain.split()).strip(EDGE.replace(".", "")).rstrip("."))
    said = forms_of(plain)[-1]
    if reading.value is not None:
        found = of_value(reading.value, options)
        if not found and "%" in plain:  # 20% where the choices are numbers without the sign
            found = [i for i in of_value(reading.value * 100, options) if "%" not in options.texts[i]]
        found = of_unit(plain, found, options) if found else found
        if len({options.forms[0][i] for i in found}) == 1:
            return _chosen(options, found[0], exact=reading.exact)
        if found:
            return ParsedValue(said, None, None, "ambiguous")
    if None not in options.values:
        return ParsedValue(said, None, None, "ambiguous" if reading.status == "ambiguous" else "unparsable")
    return _by_mention(said, options)


def _by_mention(said: str, options: Options) -> ParsedValue:
    folded = ["" if value is not None else text for text, value in zip(options.folded, options.values, strict=True)]
    named = _named(said, folded)
    indices = [i for i, text in enumerate(folded) if text in named]
    start, end = min((found.span() for text in named if (found := _mention(said, text))), default=(0, 0))
    if named and said not in named and _is_other(said[:start], said[end:], said[start:end]):
        return ParsedValue(said, None, None, "ambiguous")
    if indices and len({options.forms[0][i] for i in indices}) == 1:
        return _chosen(options, indices[0], exact=False)
    return ParsedValue(said, None, None, "ambiguous" if named else "unparsable")


def _by_formula(region: str, options: Options) -> ParsedValue | None:
    """The one choice that has the value of a formula."""
    found = [i for i, text in enumerate(options.texts) if same_math(text, region)]
    return _chosen(options, found[0]) if len({options.forms[0][i] for i in found}) == 1 else None


def _is_other(before: str, after: str, mentioned: str) -> bool:
    """Whether what is around a mentioned choice denies it or changes its value: a sign, or a word beside a formula."""
    return before.endswith("-") or is_denied(before, after) or (has_math(mentioned) and may_change(before, after))


def _breaks_off(plain: str, options: Options) -> bool:
    """Whether a choice stops in the middle: nothing there, `(c`, or the beginning of a choice's text."""
    said = forms_of(plain)[-1]
    return _OPEN_LETTER.search(plain.rstrip()) is not None or any(text.startswith(said) for text in options.folded)


def _chosen(options: Options, index: int, exact: bool = True) -> ParsedValue:
    return ParsedValue(options.texts[index], None, index, "ok", exact)


def _named(said: str, folded: Sequence[str]) -> set[str]:
    """The choices' texts that a text equals, starts with or mentions, without those inside a longer one."""
    if said in folded:
        return {said} if said else set()
    mentioned = {text for text in folded if text and _mention(said, text)}
    first = max((text for text in mentioned if said.startswith(text)), key=len, default="")
    listed = _JOINED.match(said, len(first))
    others = said[listed.end() :] if listed else ""
    if listed and re.search(r"\bor\b|\band\b", listed[0]):  # "yes or no depending on it"
        mentioned |= {text for text in folded if text and re.match(rf"{re.escape(text)}\b", others)}
    turn = _TURN.search(said, len(first)) if first else None
    turned = turn is not None and said.endswith(tuple(f" {text}" for text in mentioned - {first}))
    found = {first} if first and not turned and not others.startswith(tuple(mentioned)) else mentioned
    return {text for text in found if not any(text != other and _mention(other, text) for other in found)}


def _alike(after: str, choice: str) -> bool:
    """Whether the text right after a letter fits its choice: it is empty, a reason, or similar to the choice."""
    said = forms_of(after)[-1]
    if not said or after.lstrip()[:1] in ",;-(":
        return True
    return (
        choice.startswith(said)
        or _mention(choice, said) is not None
        or SequenceMatcher(None, said, choice).ratio() >= LIKENESS
    )


def _mention(said: str, text: str) -> re.Match[str] | None:
    """The first place where a choice's text occurs in another text; `no` only where it is an answer (`no one`)."""
    behind = _NO_NAME if text == "no" else ""
    return re.search(rf"(?<!\w)(?<!\d[.,:/-]){re.escape(text)}(?!\w|[.,:/-]\d|-\w){behind}", said)
