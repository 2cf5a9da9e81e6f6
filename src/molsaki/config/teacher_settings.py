"""What a recipe says of its teacher: the models, the rationales, and the signals that are read of it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from molsaki.config.model_spec import ModelSpec, ServerSpec, WriterSpec
from molsaki.config.parts import Count, RecipePart


class TeacherSettings(RecipePart):
    """The teacher: the model that writes rationales, and the model whose attention is read.

    Attributes:
        writer: the model that writes rationales, local (`name`) or served (`base_url`); not needed for imported
            rationales.
        reader: the local model whose attention is read; by default the writer, if it is local.
        original: the model that a quantised reader was made from. Before the reader is loaded, its attention is read on
            8 texts, and the difference is in the manifest.
    """

    writer: WriterSpec | None = None
    reader: ModelSpec | None = None
    original: ModelSpec | None = None

    @property
    def models(self) -> dict[str, ModelSpec | ServerSpec | None]:
        """The models by their keys in a recipe."""
        return {"teacher.writer": self.writer, "teacher.reader": self.reader, "teacher.original": self.original}

    @property
    def attending(self) -> ModelSpec | None:
        """The model whose attention is read."""
        return self.reader or (self.writer if isinstance(self.writer, ModelSpec) else None)


class RationaleSettings(RecipePart):
    """Where rationales and key words come from.

    Attributes:
        source: "teacher" generates rationales; "palm" uses the completions of PaLM-540B in the data of Distilling
            step-by-step; "dataset" uses the rationales of the data set; "file" uses those of the file `path`;
            "imported" uses those that `molsaki import` reads from a file.
        path: the file of rationales, relative to the data root.
        columns: its columns: `completion`, and `id` or `question` (and `choices`) to find the problem by.
        keep: "right" keeps rationales that reach the right answer; "all" also keeps wrong ones, for testing.
        learn: of completions with thinking, the student learns the "summary" after it, the "thinking", or "both".
        steps: a step of a rationale is one of its "sentences" (a line break ends one too), "lines" or "paragraphs".
        keywords: for multiple choice, "teacher" asks the teacher for key words, "question-words" uses the content
            words of the question, "dataset" uses those of the data set.
        second_pass: where the teacher was wrong, give it the right answer and ask for a rationale that reaches it.
        samples: rationales per question; of several right ones, the one whose answer most samples agree with is kept.
        temperature: of sampling; 0 decodes greedily.
        max_new_tokens: maximum number of tokens of a rationale with its answer.
        batch_size: batch size of a local model.
    """

    source: Literal["teacher", "palm", "dataset", "file", "imported"] = "teacher"
    path: str | None = None
    columns: dict[str, str | tuple[str, ...]] | None = None
    keep: Literal["right", "all"] = "right"
    learn: Literal["summary", "thinking", "both"] = "summary"
    steps: Literal["sentences", "lines", "paragraphs"] = "sentences"
    keywords: Literal["teacher", "question-words", "dataset"] = "teacher"
    second_pass: bool = False
    samples: Annotated[int, Field(ge=1, le=100)] = 1
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    max_new_tokens: Count = 256
    batch_size: Count = 32

    @model_validator(mode="after")
    def _file_has_columns(self) -> Self:
        given = [name for name in ("path", "columns") if getattr(self, name) is not None]
        if self.source == "file" and len(given) < 2:
            raise ValueError("expected `path` and `columns` with `source: file`")
        if self.source != "file" and given:
            raise ValueError(f"expected no {' and '.join(given)} with `source: {self.source}`")
        return self

    @model_validator(mode="after")
    def _samples_differ(self) -> Self:
        if self.samples > 1 and not self.temperature:
            raise ValueError("expected a `temperature` above 0 with several `samples`; got 0: all would be equal")
        return self


class AttentionSettings(RecipePart):
    """How the teacher's attention is read and stored.

    Attributes:
        dtype: precision on disk; float16 halves the size.
        top: store only this number of keys of each step and layer, those with the most attention, and the rest as one
            number; by default all keys.
        layers: "all" stores every layer; of a hybrid model those with softmax attention, the others are named. "every"
            also refuses a teacher or student with layers that have none. "mixed" stores only the layers' mixture
            (Eq. 4), which is as many times smaller as the model has layers, for methods that use this mixture.
        temperature: τ1 of the stored mixture; it must equal the setting of the methods.
        layer_change: G of the stored mixture; it must equal the setting of the methods.
        max_length: longer sequences are cut and counted; by default the model's context length.
        batch_tokens: tokens in a batch, including padding; a longer sequence forms its own batch.
        chunk_tokens: tokens of a long sequence that go through the model at once, with those before in its cache; by
            default as many as one layer needs 1 GiB for, or on a GPU an eighth of its memory if that is more.
        max_row_mb: refuse to read if a row of a store would be larger than this number of megabytes.
        max_store_gb: refuse to read if a store would be larger than this number of gigabytes.
    """

    dtype: Literal["float32", "float16"] = "float32"
    top: Annotated[int, Field(ge=1, le=4096)] | None = None
    layers: Literal["all", "every", "mixed"] = "all"
    temperature: Annotated[float, Field(gt=0)] = 0.1
    layer_change: Literal["sum", "mean"] = "sum"
    max_length: Count | None = None
    batch_tokens: Count = 8192
    chunk_tokens: Count | None = None
    max_row_mb: Annotated[float, Field(gt=0)] = 20.0
    max_store_gb: Annotated[float, Field(gt=0)] = 50.0


class LogitSettings(RecipePart):
    """What is stored of the teacher's next-token distributions, for methods that compare them.

    Attributes:
        top: number of most likely tokens at each token of a rationale; all tokens of a smaller vocabulary.
    """

    top: Annotated[int, Field(ge=1, le=4096)] = 32
