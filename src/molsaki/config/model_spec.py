"""Models in a recipe: local ones, and those behind a server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator

POCKET_MODELS = ("pocket:teacher", "pocket:student")


class RecipePart(BaseModel):
    """A part of a recipe. It refuses unknown keys and cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ModelSpec(RecipePart):
    """A local model.

    Attributes:
        name: a directory, a hub name, `pocket:teacher` or `pocket:student`.
        tokenizer: the directory or hub name of the tokenizer; by default the model's.
        revision: the hub revision; by default the newest, which the manifest records.
        dtype: precision of the weights in memory.
        device_map: how accelerate places a model that is too large for one device; one device by default.
        architecture: the transformers model type of the small random model that `--tiny` builds.
        tiny_tokenizer: a folder under the data root with the tokenizer of that model; by default, and if it is
            missing, the model's own tokenizer.
        trust_remote_code: run code that comes with the model.
    """

    name: str
    tokenizer: str | None = None
    revision: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device_map: Literal["auto", "balanced", "balanced_low_0", "sequential"] | None = None
    architecture: str = "llama"
    tiny_tokenizer: str | None = None
    trust_remote_code: bool = False


class ServerSpec(RecipePart):
    """A teacher behind a server with OpenAI's API, such as vLLM, SGLang, llama.cpp or a commercial one.

    Attributes:
        base_url: the address before `/chat/completions` or `/completions`, such as `http://localhost:8000/v1`.
        model: the name of the model on the server.
        protocol: "chat" sends turns, which the server renders with the model's chat template; "completions" sends
            text.
        api_key_env: the environment variable with the API key; without one, no key is sent. The key itself is in no
            recipe and is never written to a file.
        max_in_flight: maximum number of concurrent requests.
        timeout: seconds until a request must be complete.
        retries: how often a request is repeated after an error that may be temporary: 408, 409, 425, 429, 5xx, no
            connection, a timeout, or a response that is truncated or malformed.
        input_price, output_price: price of a million input tokens and of a million output tokens, in any currency.
    """

    base_url: str
    model: Annotated[str, Field(min_length=1)]
    protocol: Literal["chat", "completions"] = "chat"
    api_key_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")] | None = None
    max_in_flight: Annotated[int, Field(ge=1, le=1024)] = 16
    timeout: Annotated[float, Field(gt=0, le=86400)] = 120.0
    retries: Annotated[int, Field(ge=0, le=100)] = 6
    input_price: Annotated[float, Field(ge=0)] | None = None
    output_price: Annotated[float, Field(ge=0)] | None = None

    @field_validator("base_url")
    @classmethod
    def _plain_address(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("expected an address such as http://localhost:8000/v1")
        if parts.username is not None or parts.password is not None:
            raise ValueError("expected an address without a user or a password; use api_key_env for a key")
        _ = parts.port  # raises ValueError for a port that is no number
        import httpx2

        try:
            httpx2.URL(value)  # the client refuses more addresses than urlsplit
        except httpx2.InvalidURL as error:
            raise ValueError(f"expected a valid address: {error}") from error
        return value.rstrip("/")

    @property
    def name(self) -> str:
        """The name of the model and the address of its server."""
        return f"{self.model} at {self.base_url}"


WRITER_TAGS = ("<local model>", "<server>")
"""Tags in the locations of pydantic's errors. Messages omit them."""


def _writer_tag(value: Any) -> str:
    served = "base_url" in value if isinstance(value, Mapping) else isinstance(value, ServerSpec)
    return WRITER_TAGS[served]


WriterSpec = Annotated[
    Annotated[ModelSpec, Tag(WRITER_TAGS[0])] | Annotated[ServerSpec, Tag(WRITER_TAGS[1])],
    Discriminator(_writer_tag),
]
