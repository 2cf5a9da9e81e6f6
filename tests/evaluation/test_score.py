"""From outputs to predictions, from predictions to scores, from scores to comparisons."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from molsaki.encoding import prompts
from molsaki.encoding.prompts import PromptTemplate
from molsaki.errors import DataError, EvaluationError
from molsaki.evaluation.intervals import wilson_interval
from molsaki.evaluation.score import Prediction, Score, compare, in_order, predict, result_row, score
from molsaki.models.decode import Completion
from molsaki.records import Problem

PREDICT = PromptTemplate.parse(prompts.PREDICT)
EXPLAIN = PromptTemplate.parse(prompts.EXPLAIN)


def number(name, answer="7"):
    return Problem(id=name, question=f"{name}?", answer=answer, label=answer)


def choice(name, answer="ice cream"):
    return Problem(id=name, question=f"{name}?", answer=answer, label=answer, choices=("ice", "ice cream", "7"))


CASES = {
    "equation": (number("equation"), "( 3.0 + 4.0 )", ("ok", True)),
    "other form": (number("other form", "0.5"), "1/2", ("ok", True)),
    "text but not value": (number("text but not value", "0.5"), "0.55", ("ok", False)),
    "half an equation": (number("half an equation"), "( 3.0 +<cut>", ("cut", False)),
    "no equation": (number("no equation"), "some blue ones", ("unparsable", False)),
    "nothing": (number("nothing"), "", ("none", False)),
    "does not fit": (number("does not fit"), None, ("too_long", False)),
    "choice": (choice("choice"), "Ice cream", ("ok", True)),
    "shorter choice": (choice("shorter choice"), "ice", ("ok", False)),
    "its letter": (choice("its letter"), "(b) ice cream", ("ok", True)),
}


@pytest.fixture
def decoded(monkeypatch):
    """Let the model write what is in CASES, the last problems first."""
    script = {PREDICT.prompt(problem.text): text for problem, text, _ in CASES.values()}

    def decode(model, tokenizer, prompts, *, max_new_tokens, batch_size, **_):
        for index in reversed(range(len(prompts))):
            text = script[prompts[index]]
            if text is None:
                yield [Completion(index, "", 0, cut=False, too_long=True)]
            else:
                yield [Completion(index, text.removesuffix("<cut>"), 3, cut=text.endswith("<cut>"))]

    monkeypatch.setattr("molsaki.evaluation.score.decode_batches", decode)
    return script


def problems():
    return [problem for problem, _, _ in CASES.values()]


def predictions(template=PREDICT):
    return [row for batch in predict(None, None, problems(), template) for row in batch]


def test_every_output_is_kept_and_parsed(decoded):
    found = in_order(predictions(), problems())
    assert {row.id: (row.status, row.correct) for row in found} == {name: case[2] for name, case in CASES.items()}
    assert [row.id for row in found] == list(CASES)
    assert found[0] == Prediction(
        "equation", problems()[0].text_hash, "( 3.0 + 4.0 )", "ok", "( 3.0 + 4.0 )", True, 3, False
    )
    assert found[3].cut


def test_each_prediction_counts_once(decoded):
    result = score(predictions())
    assert result == Score(correct=4, wrong=2, unparsable=2, cut=1, too_long=1, interval=wilson_interval(4, 10))
    assert result.n == len(CASES)
    assert result.accuracy == 0.4
    as_json = json.loads(json.dumps(result.to_dict()))
    assert (as_json["n"], as_json["accuracy"], as_json["unparsable"]) == (10, 0.4, 2)
    assert result_row("math", "test", "dss", 3, result) == {
        "task": "math",
        "split": "test",
        "method": "dss",
        "seed": 3,
        "correct": 4,
        "n": 10,
        "accuracy": 0.4,
    }


def test_the_answer_sentence_of_a_rationale_is_parsed(monkeypatch):
    problem = choice("one")
    text = "Hot days call for 7 things. So the answer is (b) ice cream."
    monkeypatch.setattr(
        "molsaki.evaluation.score.decode_batches", lambda *_, **__: iter([[Completion(0, text, 9, cut=False)]])
    )
    [[found]] = predict(None, None, [problem], EXPLAIN)
    assert (found.answer, found.correct) == ("ice cream", True)


def test_predictions_survive_json(decoded):
    for row in predictions():
        assert Prediction.from_dict(json.loads(json.dumps(row.to_dict()))) == row
    with pytest.raises(DataError, match=r"\['id'\]"):
        Prediction.from_dict({"id": "a"})


def test_predict_refuses_key_words_and_repeated_ids(decoded):
    with pytest.raises(EvaluationError, match="keywords"):
        next(predict(None, None, problems(), PromptTemplate.parse(prompts.KEYWORDS)))
    with pytest.raises(DataError, match=r"\['a'\]"):
        next(predict(None, None, [number("a"), number("a")], PREDICT))


def test_in_order_refuses_missing_surplus_repeated_and_changed_problems(decoded):
    rows = predictions()
    with pytest.raises(EvaluationError, match=r"\['nothing'\]"):
        in_order([row for row in rows if row.id != "nothing"], problems())
    with pytest.raises(EvaluationError, match=r"\['equation'\]"):
        in_order(rows, problems()[1:])
    with pytest.raises(EvaluationError, match=re.escape(repr([rows[0].id]))):
        in_order([*rows, rows[0]], problems())
    changed = [number("equation", "8"), *problems()[1:]]
    with pytest.raises(EvaluationError, match="'equation'"):
        in_order(rows, changed)


def test_score_refuses_no_predictions_and_repeated_ones(decoded):
    with pytest.raises(EvaluationError):
        score([])
    rows = predictions()
    with pytest.raises(EvaluationError, match=f"{len(rows)} problems"):
        score(rows + rows)


def made(correct, text_hash="h"):
    """The predictions of one student from a string of 0 and 1."""
    return [Prediction(f"p{i:03}", text_hash, "x", "ok", "x", bit == "1", 1, False) for i, bit in enumerate(correct)]


def test_compare_pairs_by_id_in_any_order():
    a, b = made("1111000011"), made("1100000011")
    found = compare([a, a], [b, list(reversed(b))])
    assert found.difference == pytest.approx(0.2)
    assert (found.seeds, found.problems) == (2, 10)
    same = compare([a], [list(reversed(a))])
    assert (same.difference, same.p_value) == (0.0, 1.0)
    assert same.interval.low == -same.interval.high < 0


def test_compare_refuses_other_seeds_and_other_problems():
    run = made("10")
    with pytest.raises(EvaluationError, match="2 and 1"):
        compare([run, run], [run])
    with pytest.raises(EvaluationError, match="0 and 0"):
        compare([], [])
    with pytest.raises(EvaluationError, match="1 differ"):
        compare([run], [made("1")])
    with pytest.raises(EvaluationError, match="4 differ"):
        compare([run], [made("10", text_hash="other")])


def test_seeds_with_problems_of_their_own_are_compared_by_their_means():
    """Each seed may have its own problems, but not some of another seed's: a column would mix two pairings."""

    def own(correct, first):
        return [replace(row, id=f"q{first + i}") for i, row in enumerate(made(correct))]

    a, b = [own("1100", 0), own("1110", 10), own("1111", 20)], [own("1000", 0), own("1000", 10), own("1000", 20)]
    found = compare(a, b)
    assert found.difference == pytest.approx(0.5)
    assert (found.seeds, found.problems) == (3, 4)
    with pytest.raises(EvaluationError, match="differ in id"):
        compare([own("11", 0), own("11", 1)], [own("11", 0), own("11", 1)])
    with pytest.raises(EvaluationError, match="differ in id"):
        compare([own("11", 0), own("111", 10)], [own("11", 0), own("111", 10)])
    with pytest.raises(EvaluationError, match="differ in id"):
        compare([own("11", 0), own("11", 10)], [own("11", 10), own("11", 0)])
