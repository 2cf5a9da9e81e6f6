"""The page itself: a template, a style, a script and data, put together into one file that needs nothing else.

Whatever comes from data or models is hostile. The template escapes all text; the script's data is JSON in which no
character can end its element, and the script only ever sets text, never markup. The page's own policy forbids every
request and every script but this one.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

_ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def render(template: str, context: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    """Make a page.

    Args:
        template: the template's file name in `assets`.
        context: what the template shows.
        data: what the script shows; plain JSON.
    """
    import jinja2

    assets = files("molsaki.report") / "assets"
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FunctionLoader(lambda name: (assets / name).read_text(encoding="utf-8")),
    )
    script = (assets / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return environment.get_template(template).render(
        **context,
        policy=policy,
        style=(assets / "report.css").read_text(encoding="utf-8"),
        script=script,
        data=embed_json(data),
    )


def embed_json(value: Any) -> str:
    """JSON that may stand inside a script element: no character of it is one of markup or ends a line."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).translate(_ESCAPES)
