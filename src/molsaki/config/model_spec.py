"""The models that a recipe names: local ones, and those behind a server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator

POCKET_MODELS = ("pocket:teacher", "pocket:student")


class RecipePart(BaseModel):
    """A part of a recipe: unknown keys are refused, values are fixed once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ModelSpec(RecipePart):
    """A model: a directory, a hub name, `pocket:teacher` or `pocket:student`.

    Attributes:
        name: where the model is.
        tokenizer: where its tokenizer is, if not with it.
        revision: the hub's revision; a name without one means the newest at the time, which the manifest keeps.
        dtype: precision of the weights in memory.
        device_map: how a model that is too large for one device is spread over all of them, as accelerate has it;
            by default it is on one.
        architecture: transformers' model type, from which `--tiny` builds a small random model.
        tiny_tokenizer: a folder under the data root whose tokenizer such a model takes, if it is there; else the
            model's own.
        trust_remote_code: run code that comes with the model; off unless asked for here by name.
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
    """A teacher behind a server that speaks OpenAI's protocol: vLLM, SGLang, llama.cpp, a commercial one.

    Attributes:
        base_url: where it is, up to what `/chat/completions` or `/completions` is put behind, such as
            `http://localhost:8000/v1`.
        model: the model's name there.
        protocol: "chat" sends turns, which the server renders with the model's chat template; "completions" sends
            text.
        api_key_env: the environment variable that holds the key; none is sent without one. The key itself is
            neither in a recipe nor in anything that is written.
        max_in_flight: how many requests may wait for their answers at a time.
        timeout: how many seconds a request may take until its answer is whole.
        retries: how often a request is repeated that came to nothing for a reason that may pass: 408, 409, 425, 429,
            5xx, no connection, no answer in time, an answer that is cut or not of the protocol.
        input_price, output_price: for a million tokens that are sent, and that are written; in any currency.
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
            raise ValueError("expected an address without a user or a key in it; name a variable as api_key_env")
        _ = parts.port  # raises for one that is no number
        import httpx2

        try:
            httpx2.URL(value)  # requests are sent with it, and it refuses more than what was split above
        except httpx2.InvalidURL as error:
            raise ValueError(f"expected an address that requests can be sent to: {error}") from error
        return value.rstrip("/")

    @property
    def name(self) -> str:
        """The model's name and where it is served."""
        return f"{self.model} at {self.base_url}"


WRITER_TAGS = ("<local model>", "<server>")
"""What pydantic puts into the place of a mistake in a writer, and a message leaves out."""


def _kind_of_writer(value: Any) -> str:
    served = "base_url" in value if isinstance(value, Mapping) else isinstance(value, ServerSpec)
    return WRITER_TAGS[served]


WriterSpec = Annotated[
    Annotated[ModelSpec, Tag(WRITER_TAGS[0])] | Annotated[ServerSpec, Tag(WRITER_TAGS[1])],
    Discriminator(_kind_of_writer),
]
