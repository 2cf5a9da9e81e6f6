"""Whether a name can be looked up on the hub at all.

The hub's client repeats each request for half a minute where there is no network, file by file, so a misspelt directory
would be an error only minutes later.
"""

from __future__ import annotations

from functools import cache

from molsaki.errors import InputError

TIMEOUT_SECONDS = 10.0
_FIRST_FILES = ("config.json", "adapter_config.json", "tokenizer_config.json")
"""One of these is in the cache of every model, adapter or tokenizer that was downloaded before."""


def require_hub(name: str, revision: str | None = None) -> None:
    """Refuse a name that is no directory, was never downloaded, and cannot be looked up.

    Args:
        name: on the hub.
        revision: of the name, or None.

    Raises:
        InputError: the cache has no file of the name, and the hub does not reply.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    if any(isinstance(try_to_load_from_cache(name, file, revision=revision), str) for file in _FIRST_FILES):
        return
    try:
        _reach(constants.ENDPOINT)
    except Exception as error:  # the client's HTTP library and its errors differ between versions
        raise InputError(
            f"Expected {name!r} to be a directory, a model that was downloaded before, or a name on the hub; there is "
            f"no such directory or download, and {constants.ENDPOINT} cannot be reached: {error}. Nothing was loaded. "
            "Check the spelling, or give the folder that has the model with --models FOLDER."
        ) from error


@cache
def _reach(endpoint: str) -> None:
    """Ask the hub for anything; a reply of any kind is remembered, a failure is not."""
    from huggingface_hub import get_session

    get_session().head(endpoint, timeout=TIMEOUT_SECONDS)
