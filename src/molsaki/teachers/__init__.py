"""Teachers that write: a local model, or any server that speaks OpenAI's protocol.

Both are `Writer`s: prompts in, completions out, batch by batch as they are there. `molsaki.generation` judges what
they write and does not know which of the two it asks.
"""

from __future__ import annotations

from molsaki.teachers.local import LocalWriter
from molsaki.teachers.served import ServedWriter, ServerCheck, check_server
from molsaki.teachers.writer import Request, Writer

__all__ = ["LocalWriter", "Request", "ServedWriter", "ServerCheck", "Writer", "check_server"]
