"""Words around a choice that deny it: "anything but water", "hardly hot", "sand is wrong", and "A, not B"."""

from __future__ import annotations

import re

_NO_DENIAL = re.compile(
    r"\b(?:(?:no|(?:without|beyond)(?: an?| any)?) (?:doubt|question)|not (?:only|just|surprisingly)|"
    r"no(?:thing|ne|body| one)? (?:(?:else )?but|else than|other than))\b",
    re.IGNORECASE,
)
_BEFORE = re.compile(
    r"n['’]t\b|\b(?:not|never|no|none|nobody|nothing|nowhere|neither|nor|cannot|cant|isnt|hardly|barely|scarcely|rarely|"
    r"seldom|unlikely|impossible|improbable|opposite|contrary|reverse|antonyms?|except|excluding|exclude[sd]?|besides|"
    r"unlike|without|lacks?|lacking|absence of|free (?:of|from)|devoid of|avoid(?:s|ed|ing)?|"
    r"doubt|doubtful|false|wrong|incorrect|untrue|rather than|instead of|other than|"
    r"different from|far from|outside|(?:any|every|all|some)(?:thing|one|body|where)? (?:but|else)|ruled? out|"
    r"ruling out|reject(?:s|ed)?|eliminat(?:e|es|ed|ing)|den(?:y|ies|ied))\b",
    re.IGNORECASE,
)
_VERB = r"(?:is|are|was|were|be|been|seems?|looks?|would|could|can|may|might|must|should|do|does|did|has|have|had|will)"
_AFTER = re.compile(
    rf"[\"')\]*]{{0,3}}\s(?:\w{{0,6}}n['’]t\b|cannot\b|never\b|{_VERB}\s"
    rf"(?:(?:{_VERB}|definitely|clearly|probably|certainly|simply|just|also|the|an?)\s){{0,3}}"
    r"(?:not|never|hardly|wrong|incorrect|false|impossible|unlikely|untrue|ruled out|excluded|eliminated|rejected)\b)",
    re.IGNORECASE,
)
_CONTRAST = re.compile(
    r"[,;]?\s(?:because|since|rather than|instead of|as opposed to)\s|[,;]\s(?:(?:and|but) )?not\b|\s?—\s?|\s--?\s",
    re.IGNORECASE,
)


def is_denied(before: str, after: str) -> bool:
    """Whether the text before or after a choice may deny it."""
    return _BEFORE.search(_NO_DENIAL.sub(" ", before)) is not None or _AFTER.match(after) is not None


def before_contrast(answer: str) -> str | None:
    """The part of an answer before its reason, or before what it is not: "A, because B is dry", "A, not B"."""
    contrast = _CONTRAST.search(answer)
    return answer[: contrast.start()] if contrast and contrast.start() else None
