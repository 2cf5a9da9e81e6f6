"""Score any model on the test sets of a recipe: a directory, a hub name, or a model behind a server.

Every completion is a row of a log as soon as it arrives, so a stopped scoring resumes, and what a server sent
stays. Scores are computed from the log, with the parser that scores students.

evaluations/<name>/settings.json      the model, the prompt and how it decodes
evaluations/<name>/completions.jsonl  every completion
evaluations/<name>/scores.json        the scores of each test set
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from molsaki.answers.thinking import split_thinking
from molsaki.config.model_spec import ModelSpec, ServerSpec
from molsaki.counts import Progress
from molsaki.encoding.prompts import PromptTemplate
from molsaki.errors import ArtefactError, InputError, StageError
from molsaki.evaluation.crossed import crossed_interval
from molsaki.evaluation.intervals import Interval, wilson_interval
from molsaki.evaluation.score import Prediction, parse_completion, score
from molsaki.models.decode import Completion
from molsaki.models.fingerprint import hash_files
from molsaki.models.load import model_files
from molsaki.records import Problem
from molsaki.stages.workspace import Workspace, sample_problems
from molsaki.store.fingerprints import fingerprint, require_same
from molsaki.store.row_log import RowLog
from molsaki.store.whole_files import read_json, write_json
from molsaki.teacher.opening import open_model
from molsaki.teacher.writer import Request, Writer

EVALUATIONS, COMPLETIONS = "evaluations", "completions.jsonl"
_FIELDS = ("id", "text_hash", "set", "sample", "text", "tokens", "cut", "too_long", "thinking")


@dataclass(frozen=True, slots=True)
class ScoreSettings:
    """How a model answers.

    Attributes:
        prompt: the prompt; its slot decides how the answer is read.
        samples: completions for each problem.
        temperature: of sampling; 0 decodes greedily.
        max_new_tokens: of a completion, its thinking included.
    """

    prompt: PromptTemplate
    samples: int = 1
    temperature: float = 0.0
    max_new_tokens: int = 512

    def __post_init__(self) -> None:
        if self.samples > 1 and not self.temperature:
            raise InputError(
                f"Expected a temperature above 0 with {self.samples} samples; got 0. All samples of a problem would be "
                "equal. Give --temperature, such as 0.6."
            )
        if self.prompt.slot == "keywords":
            raise InputError("Expected a prompt for answers; got one for key words, which are never right or wrong.")


@dataclass(frozen=True, slots=True)
class ModelScore:
    """The score of a model on one test set.

    Attributes:
        test: the set.
        problems: number of problems.
        samples: completions for each problem.
        accuracy: share of right answers; with several samples, the mean over them.
        interval: its 95 % interval: Wilson's with one sample, else over problems.
        pass_at: for k = 1, 2, 4, … up to the number of samples, the chance that one of k samples is right (Chen et al.,
            2021, "Evaluating Large Language Models Trained on Code", Eq. 1), mean over problems.
        outcomes: number of completions that are correct, wrong, unparsable, cut and too_long.
        thinking_cut: number of completions that were cut off while thinking.
        tokens: mean number of tokens of a completion.
    """

    test: str
    problems: int
    samples: int
    accuracy: float
    interval: Interval
    pass_at: Mapping[int, float]
    outcomes: Mapping[str, int]
    thinking_cut: int
    tokens: float

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {**asdict(self), "pass_at": {str(k): value for k, value in self.pass_at.items()}}


def evaluation_name(model: str, given: str | None = None) -> str:
    """The folder's name of a model's evaluation: the one that is given, or made from the model's name."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", given or Path(model).name).strip("-.")[:64]
    if not name or (given is not None and name != given):
        raise InputError(
            f"Expected a name of letters, digits, '.', '_' and '-' for the evaluation; got {given or model!r}. Nothing "
            "was evaluated; give another with --name."
        )
    return name


def score_model(
    workspace: Workspace,
    name: str,
    spec: ModelSpec | ServerSpec,
    settings: ScoreSettings,
    progress: Progress | None = None,
    rows: int | None = None,
) -> list[ModelScore]:
    """Let a model answer the test sets of a run, and score it.

    Args:
        workspace: the run; its problems have been loaded.
        name: of the folder of the evaluation.
        spec: the model.
        settings: how it answers.
        progress: called with the numbers of completions so far and of all.
        rows: problems of each set, chosen by a hash of their text; all by default.

    Raises:
        ArtefactError: the folder has completions of another model, of other settings or of other problems.
        StageError: a server does not answer. Completions that arrived are kept.
    """
    folder = workspace.run.path(EVALUATIONS, name)
    log = RowLog(folder / COMPLETIONS)
    _require_settings(folder / "settings.json", spec, settings, begun=bool(log.count()))
    tests = {test: sample_problems(workspace.read_tests(test), rows) for test in workspace.test_names}
    found = _Completions(tests, settings, log)
    waiting = found.missing()
    if waiting:
        writer = open_model(workspace.recipe, spec, workspace.recipe.evaluation.batch_size)
        writer.require(settings.prompt)
        _ask(writer, waiting, found, progress)
    scores = [found.score(test) for test in tests]
    write_json(folder / "scores.json", [one.to_dict() for one in scores])
    return scores


def _require_settings(path: Path, spec: ModelSpec | ServerSpec, settings: ScoreSettings, *, begun: bool) -> None:
    if isinstance(spec, ServerSpec):  # which may move to another address
        asked = {"model": spec.model, **spec.model_dump(mode="json", include={"protocol", "field_names", "extra_body"})}
    else:
        read = spec.model_dump(mode="json", include={"revision", "dtype", "quantize"})
        asked = {"model": spec.name, "weights": hash_files(model_files(spec.name)), **read}
    wanted = fingerprint(
        **asked,
        prompt=str(settings.prompt),
        temperature=settings.temperature,
        max_new_tokens=settings.max_new_tokens,
    )
    if begun and path.is_file():
        require_same(read_json(path, "the settings of an evaluation"), wanted, f"the evaluation in {path.parent}")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, wanted)


@dataclass
class _Completions:
    """The completions of an evaluation, by test set, problem and sample."""

    tests: Mapping[str, Sequence[Problem]]
    settings: ScoreSettings
    log: RowLog
    found: dict[tuple[str, str, int], Completion] = field(default_factory=dict)

    def __post_init__(self) -> None:
        texts = {(test, problem.id): problem.text_hash for test, some in self.tests.items() for problem in some}
        for row in self.log.rows():
            lacking = [name for name in _FIELDS if name not in row]
            if lacking or texts.get((row["set"], row["id"]), row["text_hash"]) != row["text_hash"]:
                raise ArtefactError(
                    f"Expected completions of the problems as they are now in {self.log.path}; got "
                    + (f"a row without {', '.join(lacking)}" if lacking else f"one of another text for {row['id']!r}")
                    + ". They cannot be scored; evaluate under another --name."
                )
            self.found[row["set"], row["id"], row["sample"]] = logged_completion(row)

    def missing(self) -> list[tuple[str, Problem, int]]:
        """What is still to be asked."""
        return [
            (test, problem, sample)
            for test, problems in self.tests.items()
            for problem in problems
            for sample in range(self.settings.samples)
            if (test, problem.id, sample) not in self.found
        ]

    def add(self, some: Sequence[tuple[tuple[str, Problem, int], Completion]]) -> None:
        """Log some completions."""
        rows = []
        for (test, problem, sample), one in some:
            self.found[test, problem.id, sample] = one
            kept = {name: getattr(one, name) for name in ("text", "tokens", "cut", "too_long", "thinking", "finish")}
            rows.append({"id": problem.id, "text_hash": problem.text_hash, "set": test, "sample": sample, **kept})
        self.log.append(rows)

    def score(self, test: str) -> ModelScore:
        """The score on a set."""
        problems, samples = self.tests[test], range(self.settings.samples)
        rows = [[self.found[test, problem.id, i] for problem in problems] for i in samples]
        predictions = [
            [parse_completion(p, c, self.settings.prompt) for p, c in zip(problems, row, strict=True)] for row in rows
        ]
        scores = [score(row) for row in predictions]
        right_P = [sum(row[j].correct for row in predictions) for j in range(len(problems))]
        every = [completion for row in rows for completion in row]
        return ModelScore(
            test=test,
            problems=len(problems),
            samples=len(rows),
            accuracy=sum(right_P) / (len(problems) * len(rows)),
            interval=scores[0].interval if len(rows) == 1 else _over_problems(predictions),
            pass_at={k: pass_at_k(right_P, len(rows), k) for k in _powers(len(rows))},
            outcomes={
                name: sum(getattr(one, name) for one in scores)
                for name in ("correct", "wrong", "unparsable", "cut", "too_long")
            },
            thinking_cut=sum(completion.cut and _only_thinks(completion) for completion in every),
            tokens=sum(completion.tokens for completion in every) / len(every),
        )


def logged_completion(row: Mapping[str, Any]) -> Completion:
    """The completion of a row of an evaluation's log."""
    return Completion(0, **{name: row[name] for name in ("text", "tokens", "cut", "too_long", "thinking")})


def pass_at_k(right_P: Sequence[int], samples: int, k: int) -> float:
    """The chance that one of k of n samples is right: the mean over problems of 1 − C(n − c, k) / C(n, k).

    Args:
        right_P: c, the number of right samples of each problem.
        samples: n.
        k: at most n.
    """
    return sum(1 - math.comb(samples - right, k) / math.comb(samples, k) for right in right_P) / len(right_P)


def _powers(most: int) -> list[int]:
    """1, 2, 4, … below `most`, and `most`."""
    return sorted({2**i for i in range(most.bit_length()) if 2**i <= most} | {most})


def _over_problems(predictions: Sequence[Sequence[Prediction]]) -> Interval:
    """The interval of the mean over samples and problems, with the problems as the random sample."""
    correct_SP = np.array([[one.correct for one in row] for row in predictions], dtype=float)
    means_P = correct_SP.mean(0)
    if np.ptp(means_P) == 0:  # such as no right answer at all
        return wilson_interval(round(means_P.sum()), len(means_P))
    return crossed_interval(means_P[None], bounds=(0.0, 1.0))


def _only_thinks(completion: Completion) -> bool:
    if completion.thinking and not completion.text.strip():
        return True
    return not split_thinking(completion.text).closed


def _ask(
    writer: Writer, waiting: Sequence[tuple[str, Problem, int]], found: _Completions, progress: Progress | None
) -> None:
    settings = found.settings
    requests = [Request(settings.prompt.ask(problem.text), sample) for _, problem, sample in waiting]
    failures: Counter[str] = Counter()
    done = len(found.found)
    total = done + len(waiting)
    batches = writer.complete(requests, max_new_tokens=settings.max_new_tokens, temperature=settings.temperature)
    for batch in batches:
        failures.update(one.failure for one in batch if one.failure)
        arrived = [(waiting[one.index], one) for one in batch if not one.failure]
        found.add(arrived)
        done += len(arrived)
        if progress is not None:
            progress(done, total)
    if failures:
        reasons = ", ".join(f"{n} {reason}" for reason, n in failures.most_common())
        raise StageError(
            f"Expected an answer to every question; {failures.total()} have none: {reasons}. Answers that arrived are "
            "kept. Run the same command again, which asks only these."
        )
