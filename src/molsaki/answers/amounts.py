"""Amounts in words and signs as arithmetic, and units taken off: `2 dozen eggs` is `2*12`, `-2 1/2 cups` is `-(2+1/2)`.

The words that multiply, divide or change a sign are a closed list, so that none of them is ever taken for a unit.
"""

from __future__ import annotations

import re

from molsaki.answers.number_words import NUMBER_WORD

# Fractions come from `latex.plain_text` as ((1)/(2)).
_MIXED = re.compile(r"(?<![\d.,/^)])(\d{1,9})\s{0,2}\(\((\d{1,9})\)/\((\d{1,9})\)\)")
_MIXED_INLINE = re.compile(r"(?<![\d.,/^)])(?<![-+*/x×] )(\d{1,9}) (?:and )?(\d{1,6})/(\d{1,6})(?![\d./])")
_AND_PART = re.compile(r"(?<![\w.,])(\d{1,9}) and (?:a|an|one) (half|quarter|third)\b", re.IGNORECASE)
_PARTS = {"half": 2, "third": 3, "quarter": 4}

_ONE_OR_MANY = {"hundred": 100, "dozen": 12, "lakh": 10**5, "crore": 10**7} | {
    word: 1000**power for power, word in enumerate(("thousand", "million", "billion", "trillion", "quadrillion"), 1)
}
_SCALES = {"tens": 10, **_ONE_OR_MANY, **{f"{word}s": scale for word, scale in _ONE_OR_MANY.items()}}
_SCALE = re.compile(rf"(?<=[\d)])\s{{0,2}}-?\b({'|'.join(_SCALES)})\b", re.IGNORECASE)
_SCALED_MONEY = re.compile(
    r"(?<=[$£€¥₹])(\s?\d[\d,]{0,15}(?:\.\d{1,9})?)\s?(?:([kK])|(m|M|mn|MM)|(b|B|bn))(?![\w'’/]|\s?[-–—]\s?[$£€¥₹]?\d)"
)
"""`$5k`, `€1.5M`, `$2bn`: beside a currency sign a letter can only be thousands, millions or billions."""

# "24 squared meters" may mean 24 square meters, so it stays as it is and cannot be parsed.
_POWER_WORD = re.compile(
    r"(?<=[\d)])\s{1,2}(squared|cubed)\b"
    r"(?!\s{1,2}(?:(?:centi|milli|kilo)?met(?:er|re)|feet|foot|ft|inch|unit|yard|mile|[cmk]?m\b))",
    re.IGNORECASE,
)
_POWERS = {"squared": "^2", "cubed": "^3"}
_SIGN_WORD = re.compile(r"(?<![\w)%])(?:negative|minus)\s{1,2}(?=[$£€¥₹]?[\d.(])", re.IGNORECASE)
_OPERATION_WORD = re.compile(
    r"(?<=[\d)%])\s{1,2}(plus|minus|times|multiplied by|divided by)\s{1,2}(?=[$£€(]?\d)", re.IGNORECASE
)
_OPERATIONS = {"plus": " + ", "minus": " - ", "times": " * ", "multiplied by": " * ", "divided by": " / "}
_PART_PERCENT = re.compile(r"(?<![\d/.+)])(?<![+/x×*-] )(\d{1,9}/\d{1,9})\s?%")
_PERCENT = re.compile(r"\s?\b(?:per\s?cent|pct)\b(?!\s?points?)", re.IGNORECASE)
_DEGREES = re.compile(r"\s?[°′″](?!\s?\d)(?:\s?[CFK]\b)?")

_AMOUNT = (
    r"(?i:half|halves|quarters|thirds|fourths|fifths|sixths|sevenths|eighths|ninths|tenths|hundredths?|thousandths?|\w{0,12}illionths?|"
    r"tens|hundreds?|thousands?|\w{0,12}illi[oó]n(?:en|es|s)?|millones|dozens?|myriads?|mega|giga|mille?|lacs?|lakhs?|crores?|"
    r"tausend|milliarde?n?s?|milione?i?|milh(?:ão|ões)|тыс\w{0,5}|милли\w{2,6}|twice|double|triple|squared|cubed|"
    r"repeating|recurring|remainder|factorial|below|negative|doubled|tripled|halved|grand|twos|threes|fours|fives|sixes|sevens|eights|nines|twenties|"
    r"fifties|debt|in\s{1,3}the\s{1,3}red|overdrawn|par|binary|octal|hex(?:adecimal)?|base\s{1,3}(?:\d|two|eight|ten|sixteen)|"
    r"pi|sqrt|cbrt|theta|infinity|out\s{1,3}of)\b"
)
"""Words that change a number before or after them."""
_PART_OR_MANY = re.compile(
    r"\d\s{0,2}-?(?:half|third|quarter|fourth|fifth|sixth|seventh|eighth|ninth|tenth|score|gross)\b",
    re.IGNORECASE,
)
_SCALE_SIGNS = "十百千万萬亿億兆半倍분만억천백"
_LETTER_AMOUNT = re.compile(
    r"\d\s{0,2}-?(?:[kKMBT](?!\s?[-+*/^=]\s?[\w(])|[mbt]n|(?i:bil|bln|mil|mill|mio|mln|mrd|bps?|basis points?))\b"
    rf"|\d\s?[{_SCALE_SIGNS}]"
    r"|[$£€¥₹]\s?[\d.,]{1,30}\s?(?i:k|m|mm|mn|b|bn|t|tn|thou)\b|%\s?points?\b"
)  # 1.5M, $1.5m
_LABELLED = (
    r"(?:steps?|sections?|parts?|problems?|questions?|equations?|eqs?|figures?|lines?|chapters?|examples?|cases?|"
    r"tables?|items?|notes?|options?|choices?|pages?|theorems?|appendix|footnotes?|slides?|error)"
)
_CHANGING = (
    rf"\b(?:{_AMOUNT}|(?:quarter|third|times|thrice|more|less|fewer|minus|plus|some|of|and|or|not|over|down|under|"
    r"between|above|beyond|at (?:least|most)|up to|(?:greater|larger|bigger|smaller|higher|lower) than|"
    r"undefined|indeterminate|insufficient|unclear|unknown(?! \w)|depends|except|without|root|log|ln|sin|"
    r"cos|tan|mod|increase|decrease|loss)\b)"
)
_AMOUNT_ASIDE = re.compile(
    r"(?:in\s{1,3})?(?:negative|minus|below|hundreds?|thousands?|\w{0,12}illions?|dozens?|binary|octal|hex|base)\b",
    re.I,
)
_CHANGES_NEXT = re.compile(rf"(?:{_CHANGING}|\bthan)\W{{0,4}}\Z", re.IGNORECASE)
_CHANGES_LAST = re.compile(rf"\W{{0,4}}{_CHANGING}", re.IGNORECASE)
_OTHER_AMOUNT = re.compile(
    rf"{_CHANGING}|[^\W\d_]\(\s?[-−]?\d|\b{NUMBER_WORD}\W{{1,2}}\d|\d\W{{1,2}}{NUMBER_WORD}\b"
    rf"|\b{_LABELLED}\W{{1,3}}\d|\b(?:in|by|from|see|at) \(\d|\b(?:an?|the)\s\d+-[a-z]|(?:\A\s*—\s?|(?<!\S)—)[$£€]?\d",
    re.IGNORECASE,
)

_SHORT_UNIT = (
    r"(?:kg|km|[cmµn]m|m[lLg]|[kMG]?Hz|k?Wh?|[kMGT]B|lbs?|oz|ft|in|yd|mi|hrs?|mins?|secs?|am|pm|mph|kph|cc|pt|qt|gal|"
    r"st|nd|rd|th|USD|EUR|[c¢])(?![^\W\d_])"
)
"""Units that may come right after a number; of other letters there, `3ab`, four or more are a unit."""
_POWER = r"(?:\s?(?:\^|\*\*)\s?\(?[-−]?\d\)?|(?<=[a-z])[23](?!\w))?"
_EAST_ASIAN = rf"(?![{_SCALE_SIGNS}])[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3][^\W\d{_SCALE_SIGNS}]{{0,9}}"
_FORMULA = r"[A-Z][A-Za-z]{0,3}\d{1,3}(?:[A-Z][a-z]?\d{0,2}){0,5}(?!\w)"
"""A chemical formula or a name such as `B12`, which may occur in a unit: `5 g of CO2`."""
_TIMES = r"times(?=\W{0,4}\Z|\s(?:as|more|larger|bigger|faster|longer|greater|heavier|older|taller|per|an?|each|in)\b)"
_WORD = (
    rf"(?:(?!(?:(?i:and|or|times|plus|minus|at\s(?:least|most))\b|{_AMOUNT}|[{_SCALE_SIGNS}]))[^\W\d_]{{2,}}"
    rf"(?:['’-][^\W\d_]+)*{_POWER}|a\b|{_TIMES}|{_EAST_ASIAN})"
)
_LETTER = rf"(?:m[23](?!\w)|[mgshlLVWJNCFA](?!\w){_POWER})"
_MORE = rf"(?:\.?\s?[ /·-]\s?(?:{_FORMULA}|{_WORD}|{_LETTER})){{0,12}}"
_UNIT = re.compile(
    rf"(?<=[\d)%$])(?:\s{{1,3}}-?{_WORD}|[-/](?!a\b|{NUMBER_WORD}\b){_WORD}|{_SHORT_UNIT}{_POWER}"
    rf"|(?![{_SCALE_SIGNS}тм])[^\W\d_]{{4,}}{_POWER}|{_EAST_ASIAN}){_MORE}"
)
_LETTER_UNIT = re.compile(rf"(?<=[\d)%$])\s{{0,3}}{_LETTER}{_MORE}")
_SCIENTIFIC = re.compile(r"\d\s{0,3}[*×·xX]\s{0,3}10\s?(?:\^|\*\*)\s?\(?[-−–]?\d{1,3}\)?")
_OPERATION = re.compile(r"[\d)%]\s{0,3}(?:\*\*|[-+*/^x×÷−–])\s{0,3}[$£€(]?[\d.(]")
_RANGE = re.compile(
    r"[$£€]?(?P<low>\d{1,15}(?:\.\d{1,9})?)(?:%? ?[–—] ?|-|% ?- ?)[$£€]?(?P<high>\d{1,15}(?:\.\d{1,9})?)"
    r"(?P<part>/\d{1,9})?%?"
)
_JOINED = re.compile(
    r"\d-[a-zA-Z]{1,9}-\d|(?<![\w.])0[xX][\da-fA-F]|(?<!\d)\d{3}0s\b|\d…|\d\s?to the\b|\d\s?--\s?\d"
    r"|\d ?[xX×] ?\d+ (?:grid|matri|rectang|array|board|table|room|tile)|\d\s?[-+−]\s?\d[\d.]{0,12}%"
)
"""`3-to-1`, `5-by-7`, `3x4 grid`, numbers of another base, decades, decimals that go on, `100 - 12%`."""
_LOST_POWER = re.compile(r"\d\s?[×xX*]\s?10[-−–]\d|\d\.\d+\s?[×xX]\s?10[1-9]\d?(?![\d.,])")
"""`1.6 × 10-19` and `6.02 × 1023`, whose powers were lost in copying."""
_SECOND = re.compile(
    rf"\d[^\d]*\s(?<!\bthe )(?<!\bthese )(?<!\bthose )(?<!\ball )(?<!\bits )(?<!\bhis )(?<!\bher )(?<!\btheir )"
    rf"(?<!\w\w of )(?!one\b(?<!to one)){NUMBER_WORD}\b(?!-(?!{NUMBER_WORD}\b))",
    re.IGNORECASE,
)
"""Another number in words after the first: "5 to six", "3 pens, two pencils"; but "5 packs of six"."""
_MONTH = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?|"
    r"Nov(?:ember)?|Dec(?:ember)?)\b"
)
_DATE = re.compile(
    r"(?<!\d)(?:19|20)\d\d-(?:0[1-9]|1[0-2])(?!\d)|\d{4}-\d{1,2}-\d{1,2}|\d{4} ?- ?0\d ?- ?\d\d"
    r"|(?<!\d)\d{1,2}-\d{1,2}-(?:19|20)\d\d(?!\d)|\d(?:st|nd|rd|th)[ -]centur|\d{1,2}/\d{1,2}/(?:\d{4}|\d{2})"
    rf"|\d(?:st|nd|rd|th)? (?:of )?{_MONTH}|\b{_MONTH}\.? \d"
)


_OTHER_LANGUAGES = re.compile(
    r"ではな|でな|じゃな|아니|아닙|以上|以下|以内|未[満满]|不到|超[過过]|分之|[的の][平立]方|の[二三]乗|\d\s?[打成]"
    r"|\b(?:nicht|keine?[nmrs]?|nunca|jam[aá]is|menos|moins|минус|не|mindestens|höchstens|wenigstens|"
    r"(?:mehr|weniger) als|au (?:moins|plus)|plus de|al menos|como máximo|m[aá]s de|больше|меньше|более|менее|almeno|"
    r"mais de|pelo menos|dutzend|douzaines?|docenas?|dozzin[ae]|dúzias?|млн|млрд|y medi[oa]|et demie?|moitié|mitad|"
    r"hälfte|metà|metade|половин\w*)(?!\w)",
    re.IGNORECASE,
)
"""Words of other languages that deny, scale or bound a number, or change its sign."""
_UNCLEAR = (_DATE, _JOINED, _LOST_POWER, _SECOND, _LETTER_AMOUNT, _PART_OR_MANY, _OTHER_LANGUAGES)


def with_amounts(answer: str) -> str:
    """The text with words and signs that multiply, divide, add or change the sign as arithmetic."""
    answer = _MIXED.sub(r"(\1+\2/\3)", answer)
    answer = _MIXED_INLINE.sub(_mixed, answer)
    answer = _PART_PERCENT.sub(r"(\1)%", answer)
    if "°" in answer or "′" in answer:
        answer = _DEGREES.sub("", answer)
    if not any(map(str.isalpha, answer)):
        return answer
    answer = _PERCENT.sub("%", answer)
    answer = _SCALED_MONEY.sub(_scaled_money, answer)
    answer = _AND_PART.sub(lambda match: f"({match[1]}+1/{_PARTS[match[2].lower()]})", answer)
    answer = _POWER_WORD.sub(lambda match: _POWERS[match[1].lower()], answer)
    answer = _SIGN_WORD.sub("-", answer)
    answer = _OPERATION_WORD.sub(lambda match: _OPERATIONS[match[1].lower()], answer)
    return _scaled(_scaled(answer))  # 2 hundred thousand


def without_units(answer: str) -> list[str]:
    """The text as it is, and without its units.

    A single letter is a unit only after a lone number: `5m` is five metres, `4m + 3` is not an amount.
    """
    plain = _UNIT.sub(" ", answer)
    found = [answer, plain]
    if _LETTER_UNIT.search(plain) and not _OPERATION.search(_SCIENTIFIC.sub("1", plain)):
        found.append(_LETTER_UNIT.sub(" ", plain))
    return found


def is_unclear(answer: str) -> bool:
    """Whether a text is a range (`5-6`, `2-1/2`) or a date, or has an amount that is not calculated with."""
    dash = _RANGE.fullmatch(answer)
    if dash and (dash["part"] or float(dash["low"]) < float(dash["high"])):
        return True
    return any(pattern.search(answer) for pattern in _UNCLEAR)


def has_other_amount(answer: str) -> bool:
    """Whether a word in a sentence could change the value of its only number, or make a name of it (`step 2`)."""
    return _OTHER_AMOUNT.search(answer) is not None or is_unclear(answer)


def starts_with_amount(aside: str) -> bool:
    """Whether the text in parentheses after a number changes it: `5 (negative)`, `101 (binary)`."""
    return _AMOUNT_ASIDE.match(aside.strip()) is not None


def may_change(before: str, after: str) -> bool:
    """Whether the word right before a value, or right after it, could change it: "twice", "more than", "squared"."""
    return _CHANGES_NEXT.search(before) is not None or _CHANGES_LAST.match(after) is not None


def _scaled_money(match: re.Match[str]) -> str:
    amount, thousands, millions, _ = match.groups()
    return f"{amount}*{1000 if thousands else 10**6 if millions else 10**9}"


def _scaled(answer: str) -> str:
    return _SCALE.sub(lambda match: f"*{_SCALES[match[1].lower()]}", answer)


def _mixed(match: re.Match[str]) -> str:
    """`2 1/2` as a sum; `8 4/2` stays as it is."""
    whole, above, below = match.groups()
    return f"({whole}+{above}/{below})" if int(above) < int(below) else match[0]
