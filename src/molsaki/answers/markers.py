r"""What marks an answer: "the answer is", `####`, `\boxed`, `<answer>`, and the same in other languages."""

from __future__ import annotations

import re

_OTHER_LANGUAGES = (
    r"(?<=答)(?:案|え)(?:\s?(?:应该|應該|应)?\s?(?:是|为|為|は|[选選]|[:：])|[】\]])\s?(?![什多几哪谁])",
    (
        r"(?:(?<=[故应该以此我]选)|(?<=[故應該以此我]選))(?<!不[应该]选)(?<!不应该选)(?<!不[應該]選)(?<!不應該選)"
        r"(?:择|擇)?\s?[:：]?\s?(?=\W{0,4}[A-ZＡ-Ｚ])"
    ),
    r"(?<=正)解\s?(?:は|[:：])",
    r"(?:(?<=정)답|(?<=답))\s?(?:은|[:：])\s?",
    (
        r"(?:(?<=\bA)ntwort|(?<=\b[Rr])(?:espuesta|éponse|esposta|isposta))"
        r"(?: (?:correcta|correcte|correta|corretta|finale?)){0,2}"
        r"(?: ?:| (?:ist|lautet|est|es|é|è)\b)(?! (?:nicht|no|pas|não|non)\b)"
        r"(?: (?:la|l'|a|die)(?= (?:opci|option|opç|opzi|\W?[A-Z]\b)))?(?: (?:opción|option|opção|opzione)\b)?"
    ),
    r"(?<=\b[Оо])твет ?[:—]",
)
"""Markers in other languages, after their first characters: `答案是`, `故选`, `正解は`, `정답:`, `La réponse est`."""
# The first character is matched by itself, since a search for one of a few characters is fast.
MARKER = re.compile(
    r"[#\\<AaOoCcRr答正选選정답Оо\x08](?:(?P<hashes>(?<=(?<!\#)\#)\#{3}(?!\#))"
    r"|(?P<boxed>(?:(?<=\\)(?:boxed|fbox|framebox)|(?<=\x08)oxed)(?![a-zA-Z]))"
    r"|(?<=<)(?i:(?P<tag>(?:final_?)?answer)>|(?P<box>\|begin_of_box\|>))"
    r"|(?P<line>(?:(?<=\nA)|(?<=\AA)):[ \t]{1,3}"
    r"(?=[-−+$£€(\[*]{0,3}(?:\d[^\n]{0,40}|[A-Za-z][)\]*]{0,3}\.?)\s{0,20}\Z))"
    r"|(?P<correct>(?<=\b[OoCc])(?i:ption|hoice)\s{1,2}"
    r"(?=(?P<letter>[(\[*]{0,3}[A-Za-z][)\]*]{0,3})\sis\s(?:the\s)?(?:correct|right|best)\b))"
    r"|(?i:(?<=(?<![^\W_])a)(?:nswers?|ns(?=\s{0,2}[:=]|\.\s))"
    r"|(?:(?<=correct o)|(?<=right o)|(?<=best o))ption|(?:(?<=correct c)|(?<=right c)|(?<=best c))hoice)"
    r"(?![^\W_])[\"'*_]{0,2}(?i:"
    r"(?:\s(?:to|for)\s(?:the|this|that|your|our)\s(?:\w{1,15}\s){0,2}?(?:question|problem|exercise|puzzle|riddle))?"
    r"(?:,?\s(?:therefore|then|thus|hence),?|,\s[^,.:?!\n\d]{1,40},)?"
    r"(?:\s{0,3}(?P<states>(?:is|would be|will be)\b|[:：=]|(?<=ns)\.|(?:(?<=\nanswer )|(?<=\Aanswer ))[-–—](?=\s))"
    r"|(?P<heading>[ \t]{0,3}(?:[^\w\s!-~]{1,3}[ \t]{0,3})?\n)"
    r"|\s{1,3}(?P<modal>(?:should|must|has to|ought to|turns out to) be|equals|comes (?:out )?to)\b"
    r"(?=:?\s{1,3}[*$(（\[\\]{0,4}(?:[-−]?[$£€]?\d(?![\d ,]{0,9}[ -]digit)|boxed|[a-z][)）\]*]"
    r"|(?-i:[A-Z])[.,;]?(?:\s|\Z)))"
    r")?)"
    rf"|(?P<foreign>{'|'.join(_OTHER_LANGUAGES)}))"
)
