"""lm-eval with molsaki's task files counts the same answers right as `molsaki evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import molsaki
from molsaki.data.pocket import STUDENT
from molsaki.encoding.encode import encode_student
from molsaki.encoding.prompts import PREDICT, PromptTemplate
from molsaki.evaluation.score import in_order, predict
from molsaki.integrations.lm_eval_tasks import problems as tasks

TASKS = Path(tasks.__file__).parent
ROWS = 12
TEMPLATE = PromptTemplate.parse(PREDICT)


def learn_labels(model: Any, tokenizer: Any, problems: list[molsaki.Problem]) -> None:
    """Train the student until it knows these problems by heart."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    rows = [encode_student(tokenizer, TEMPLATE, one.text, one.label, 256) for one in problems]
    for _ in range(25):
        for row in rows:
            labels = [-100] * row.completion_token + list(row.input_ids[row.completion_token :])
            loss = model(input_ids=torch.tensor([row.input_ids]), labels=torch.tensor([labels])).loss
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.shared_data
@pytest.mark.filterwarnings("ignore")  # of lm-eval and what it imports
def test_counts_are_those_of_molsaki_evaluate(shared_data: Path) -> None:
    lm_eval = pytest.importorskip("lm_eval", reason="needs lm-eval")
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    tokenizer = AutoTokenizer.from_pretrained(STUDENT)
    model = AutoModelForCausalLM.from_pretrained(STUDENT)
    sets = {
        "molsaki_svamp": ("svamp-dss", "svamp/dss", "test"),
        "molsaki_singleeq": ("singleeq", "singleeq", None),
        "molsaki_asdiv": ("asdiv", "asdiv", None),
    }
    found = {
        name: list(molsaki.load_problems(source, shared_data / path, split).problems)
        for name, (source, path, split) in sets.items()
    }
    learn_labels(model, tokenizer, [problem for rows in found.values() for problem in rows[: ROWS // 4]])
    model.eval()
    manager = TaskManager(include_path=str(TASKS), include_defaults=False, metadata={"data": str(shared_data)})
    harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=ROWS)
    report = lm_eval.simple_evaluate(
        model=harness, tasks=list(sets), task_manager=manager, limit=ROWS, log_samples=True, bootstrap_iters=0
    )
    for name, rows in found.items():
        batches = predict(model, tokenizer, rows[:ROWS], TEMPLATE)
        ours = in_order((one for batch in batches for one in batch), rows[:ROWS])
        theirs = {one["doc"]["id"]: one for one in report["samples"][name]}
        assert {one.id: one.output for one in ours} == {key: one["resps"][0][0] for key, one in theirs.items()}
        assert {one.id: one.correct for one in ours} == {key: one["accuracy"] == 1 for key, one in theirs.items()}
        right = sum(one.correct for one in ours)
        assert 0 < right < ROWS
        assert report["results"][name]["accuracy,none"] == right / ROWS


@pytest.mark.shared_data
def test_all_problems_of_the_recipes_sets_are_there(shared_data: Path) -> None:
    data = str(shared_data)
    counts = [len(load(data)["test"]) for load in (tasks.svamp, tasks.singleeq, tasks.asdiv)]
    assert counts == [200, 508, 2093]


@pytest.mark.parametrize(("output", "right"), [(" ( 3 + 4 )", 1.0), ("7", 1.0), ("( 3 + 5 )", 0.0), ("", 0.0)])
def test_an_output_is_scored_as_a_label(output: str, right: float) -> None:
    problem = molsaki.Problem("a", "Ada has 3 pens and gets 4. How many?", "7", "( 3 + 4 )")
    doc = {"problem": json.dumps(problem.to_dict())}
    assert tasks.score_output(doc, [output]) == {"accuracy": right}
    assert tasks.prompt(doc) == f"predict: {problem.question}\n"
