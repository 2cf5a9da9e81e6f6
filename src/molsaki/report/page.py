"""Render a page: a template, a style, a script and data in one self-contained HTML file.

Text from data and models may be hostile. The template escapes all text. The data of the script is JSON without
characters that could end its element, and the script inserts it only as text, never as markup. The content security
policy of the page forbids requests and other scripts.
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
    """Render a page.

    Args:
        template: the file name of the template in `assets`.
        context: the variables of the template.
        data: the data of the script, which must be JSON.
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
    """JSON for a script element, with the characters of markup and of line separators escaped."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).translate(_ESCAPES)
