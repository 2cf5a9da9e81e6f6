"""The models that a recipe names: local models, and models behind a server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args
from urllib.parse import urlsplit

from pydantic import (
    Discriminator,
    Field,
    JsonValue,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from molsaki.config.parts import RecipePart
from molsaki.errors import InputError

POCKET_MODELS = ("pocket:teacher", "pocket:student")

SEED = "{seed}"
"""Stands for the seed in the name of a student's base model."""

SentField = Literal["max_tokens", "temperature", "seed", "stop"]
"""The fields of a request that a recipe can rename or leave out."""
FieldName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,99}$")]
VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")]
_CONVERSATION = frozenset({"messages", "tools", "documents", "add_generation_prompt", "strftime_now"})
"""Variables of a chat template that are not settings."""
_OURS = frozenset({"model", "messages", "prompt", "stream", "n"})
"""Fields that would change what an answer is."""


def is_gguf(name: str) -> bool:
    """Whether a model's name is that of a GGUF file."""
    return name.lower().endswith(".gguf")


class ModelSpec(RecipePart):
    """A model: a directory, a hub name, a GGUF file, `pocket:teacher` or `pocket:student`.

    Attributes:
        name: where the model is. In a student's, `{seed}` stands for the seed, so that each seed starts from a base
            model of its own.
        tokenizer: where its tokenizer is, if not with it.
        revision: the hub's revision; a name without one means the newest at the time, which the manifest keeps.
        dtype: precision of the weights in memory.
        device_map: how a model that is too large for one device is spread over all of them, as accelerate has it;
            by default it is on one.
        architecture: transformers' model type, from which `--tiny` builds a small random model.
        tiny_tokenizer: a folder under the data root whose tokenizer such a model takes, if it is there; else the
            model's own.
        quantize: load the linear layers in 4 bits (NF4) or 8, by bitsandbytes on a CUDA GPU; the rest of the model, and
            its arithmetic, are in `dtype`.
        chat_template_kwargs: values of the chat template's own variables, such as `{enable_thinking: false}`; they are
            kept in the chat template of a student that is saved.
        trust_remote_code: run code that comes with the model, or with the base of an adapter; off unless asked for here
            by name.
    """

    name: str
    tokenizer: str | None = None
    revision: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device_map: Literal["auto", "balanced", "balanced_low_0", "sequential"] | None = None
    architecture: str = "llama"
    tiny_tokenizer: str | None = None
    quantize: Literal["4bit", "8bit"] | None = None
    chat_template_kwargs: dict[VariableName, JsonValue] = Field(default_factory=dict)
    trust_remote_code: bool = False

    @field_validator("chat_template_kwargs")
    @classmethod
    def _settings_only(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if refused := sorted(value.keys() & _CONVERSATION):
            raise ValueError(f"expected settings of the chat template; {', '.join(refused)} is given by the prompt")
        return value

    def for_seed(self, seed: int) -> Self:
        """The base model of the students of a seed."""
        return self.model_copy(update={"name": self.name.replace(SEED, str(seed))})


class LoraSettings(RecipePart):
    """LoRA (Hu et al., 2021): the student's own weights are frozen, and a low-rank change of some is trained, by peft.

    A matrix W becomes W + (alpha / r) · B A, with A [r, inputs] and B [outputs, r].

    Attributes:
        r: the rank of the change.
        alpha: the change is multiplied by alpha / r.
        dropout: share of the inputs of the low-rank change that is dropped in training.
        target_modules: the modules whose matrix changes, by the ends of their names, such as `[q_proj, v_proj]`;
            all linear layers but the head by default.
        merge: add the change to the weights after training, and write a whole model; the adapter is beside it in
            the folder `adapter`.
    """

    r: Annotated[int, Field(ge=1, le=4096)] = 16
    alpha: Annotated[int, Field(ge=1, le=65536)] = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    target_modules: Literal["all-linear"] | tuple[Annotated[str, Field(min_length=1)], ...] = "all-linear"
    merge: bool = False


class StudentSpec(ModelSpec):
    """The student: a model, all of whose weights are trained, or a change of some.

    Attributes:
        lora: train a low-rank change; null trains all weights. With `quantize`, this is QLoRA (Dettmers et al., 2023).
    """

    lora: LoraSettings | None = None


class ServerSpec(RecipePart):
    """A teacher behind a server that speaks OpenAI's protocol: vLLM, SGLang, llama.cpp, a commercial one.

    Attributes:
        base_url: the address before `/chat/completions` or `/completions`, such as `http://localhost:8000/v1`.
        model: the model's name on the server.
        protocol: "chat" sends turns, which the server renders with the model's chat template; "completions" sends
            text.
        api_key_env: the environment variable that holds the key; without one no key is sent. The key itself is never
            written to a recipe, a log or any other file.
        max_in_flight: how many requests may be open at a time.
        timeout: how many seconds a request may take, from sending it to the end of its answer.
        retries: how often a request is repeated that failed for a reason that may pass: 408, 409, 425, 429, 5xx, no
            connection, a time-out, an answer that breaks off, is not of the protocol, or ends with an error.
        field_names: the server's names for `max_tokens`, `temperature`, `seed` and `stop` where they differ, such as
            `{max_tokens: max_completion_tokens}`; null leaves a field out, as in `{temperature: null}`.
        stream: ask for a stream of events, for servers that send nothing else; the text is the same.
        extra_body: more fields for every request, such as `{reasoning_effort: low}`.
        input_price: price per million tokens that are sent, in any currency.
        output_price: price per million tokens that are generated, in the same currency.
    """

    base_url: str
    model: Annotated[str, Field(min_length=1)]
    protocol: Literal["chat", "completions"] = "chat"
    api_key_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")] | None = None
    max_in_flight: Annotated[int, Field(ge=1, le=1024)] = 16
    timeout: Annotated[float, Field(gt=0, le=86400)] = 120.0
    retries: Annotated[int, Field(ge=0, le=100)] = 6
    field_names: dict[SentField, FieldName | None] = Field(default_factory=dict)
    stream: bool = False
    extra_body: dict[FieldName, JsonValue] = Field(default_factory=dict)
    input_price: Annotated[float, Field(ge=0)] | None = None
    output_price: Annotated[float, Field(ge=0)] | None = None

    @field_validator("base_url")
    @classmethod
    def _plain_address(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("expected an address such as http://localhost:8000/v1")
        if parts.username is not None or parts.password is not None:
            raise ValueError(
                "expected an address without a user or a key in it; name the key's variable as api_key_env"
            )
        _ = parts.port  # raises if it is not a number
        import httpx2

        try:
            httpx2.URL(value)  # stricter than urlsplit, and requests are sent with it
        except httpx2.InvalidURL as error:
            raise ValueError(f"expected an address that requests can be sent to: {error}") from error
        return value.rstrip("/")

    @model_validator(mode="after")
    def _no_field_twice(self) -> Self:
        sent = Counter(self.field_names.get(name, name) for name in get_args(SentField))
        sent.pop(None, None)
        twice = {name for name, n in sent.items() if n > 1 or name in _OURS}
        twice |= self.extra_body.keys() & (sent.keys() | _OURS)
        if twice:
            raise ValueError(
                f"expected each field of a request once; got {', '.join(sorted(map(str, twice)))} again in "
                "`field_names` or `extra_body`. Leave it out there, or set it to null in `field_names` and send it "
                "with `extra_body`"
            )
        return self

    @property
    def name(self) -> str:
        """The model's name and its address."""
        return f"{self.model} at {self.base_url}"


WRITER_TAGS = ("<local model>", "<server>")
"""pydantic adds these to the path of an error in a writer; messages leave them out."""


def _kind_of_writer(value: Any) -> str:
    served = "base_url" in value if isinstance(value, Mapping) else isinstance(value, ServerSpec)
    return WRITER_TAGS[served]


WriterSpec = Annotated[
    Annotated[ModelSpec, Tag(WRITER_TAGS[0])] | Annotated[ServerSpec, Tag(WRITER_TAGS[1])],
    Discriminator(_kind_of_writer),
]


def named_model(
    name: str,
    server: str | None,
    protocol: Literal["chat", "completions"],
    api_key_env: str | None,
    settings: Mapping[str, Any] | None = None,
) -> ModelSpec | ServerSpec:
    """The model that a command names: a directory, a hub name, or with `server` a model behind that address.

    Args:
        name: the model's name, on the server if there is one.
        server: the server's address.
        protocol: the server's.
        api_key_env: the environment variable that holds the server's key.
        settings: other settings of a `ServerSpec`, such as `field_names`.

    Raises:
        InputError: the address, the name of the variable or a setting is invalid, or a variable or settings are given
            without a server.
    """
    if server is None:
        if api_key_env is not None:
            raise InputError(f"Expected a server with the key in {api_key_env}; got none. Give its address too.")
        if settings:
            raise InputError(f"Expected a server with the settings {', '.join(settings)}; got none. Give its address.")
        return ModelSpec(name=name)
    named = {"base_url": server, "model": name, "protocol": protocol, "api_key_env": api_key_env}
    try:
        return ServerSpec.model_validate({**(settings or {}), **named})
    except ValidationError as error:
        problems = "; ".join(": ".join([*map(str, problem["loc"]), problem["msg"]]) for problem in error.errors())
        raise InputError(
            f"Expected a server that can be asked; got {server!r}: {problems}. Nothing was sent."
        ) from None
