"""What is kept, why the rest is not, and that nothing is done twice."""

from __future__ import annotations

import json

import pytest

from molsaki import prompts
from molsaki.artefacts import RowLog
from molsaki.errors import ArtefactError, DataError, RecipeError
from molsaki.generation import generate_rationales, import_rationales, own_rationales, read_rationales
from molsaki.prompts import PromptTemplate
from molsaki.rationales import EXAMPLE_LENGTH, FIELDS
from molsaki.records import Problem

TEACHER = PromptTemplate.parse(prompts.TEACHER)
KEYWORDS = PromptTemplate.parse(prompts.KEYWORDS)

OUTPUTS = {
    "right": ("Three and four are seven. The answer is ( 3 + 4 ).", "right"),
    "runs on": ("Add 3 and 4. The answer is 7.\n\nQ: Two and two?\nA: The answer is 4.<cut>", "right"),
    "wrong": ("Three times four. The answer is 12.", "wrong answer"),
    "none": ("I do not know.", "no answer"),
    "cut": ("Three and four and three and<cut>", "cut off"),
    "bare": ("The answer is 7.", "empty rationale"),
    "unreadable": ("Add them. The answer is blue.", "unparsable"),
    "long": (None, "prompt too long"),
    "silent": ("", "no answer"),
    "revised": ("Add. The answer is 12. Wait, no: add 3 and 4. The answer is 7.", "ambiguous"),
}


def math_problem(name):
    return Problem(id=name, question=f"{name}: what are 3 and 4?", answer="7", label="( 3 + 4 )")


def choice_problem(name, **more):
    return Problem(
        id=name,
        question="Where does a velp live at night?",
        answer="cave",
        label="cave",
        choices=("lake", "cave"),
        **more,
    )


PROBLEMS = [math_problem(name) for name in OUTPUTS]
REASON = "A velp sleeps in the cave. "
RIGHT_CHOICE = f"{REASON}So the answer is (b) cave."


@pytest.fixture
def script(teacher):
    teacher.script = {TEACHER.prompt(math_problem(name).text): text for name, (text, _) in OUTPUTS.items()}
    return teacher


def generate(log, problems=PROBLEMS, **more):
    options = {"log": log, "max_new_tokens": 50, "batch_size": 4, **more}
    return generate_rationales(None, None, problems, TEACHER, **options)


def rows(log):
    return {row["id"]: row for row in log.rows()}


def test_every_row_is_logged_with_its_reason(script, log):
    report = generate(log)
    found = rows(log)
    assert {name: row["reason"] for name, row in found.items()} == {n: reason for n, (_, reason) in OUTPUTS.items()}
    assert all(tuple(row) == FIELDS for row in found.values())
    assert {name for name, row in found.items() if row["kept"]} == {"right", "runs on"}
    assert found["right"]["output"] == OUTPUTS["right"][0]
    assert found["right"]["rationale"] == "Three and four are seven."
    assert found["right"]["text_hash"] == math_problem("right").text_hash
    assert (report.problems, report.kept, report.done_before) == (len(OUTPUTS), 2, 0)
    assert sum(report.reasons.values()) == len(OUTPUTS)
    assert report.reasons["right"] == 2
    assert report.examples["wrong answer"] == [{"id": "wrong", "output": OUTPUTS["wrong"][0]}]
    assert json.loads(json.dumps(report.to_dict()))["kept"] == 2


def test_read_rationales_gives_the_kept_ones_in_the_problems_order(script, log):
    generate(log)
    kept = read_rationales(log, [math_problem("runs on"), math_problem("wrong"), math_problem("right")])
    assert [(row.problem.id, row.rationale, row.keywords) for row in kept] == [
        ("runs on", "Add 3 and 4.", None),
        ("right", "Three and four are seven.", None),
    ]


def test_a_second_run_does_nothing_twice(script, log):
    first = generate(log)
    asked = len(script.batches)
    second = generate(log)
    assert len(script.batches) == asked
    assert second.done_before == len(PROBLEMS)
    assert {**second.to_dict(), "done_before": 0} == first.to_dict()


def test_a_kill_loses_at_most_the_batch_in_flight(script, log):
    told = []
    script.fail_after = 2
    with pytest.raises(KeyboardInterrupt):
        generate(log, progress=lambda done, total: told.append((done, total)))
    assert len(rows(log)) == 8
    with log.path.open("ab") as file:
        file.write(b'{"id": "right", "text_ha')
    script.fail_after = None
    again = RowLog(log.path)
    report = generate(again, progress=lambda done, total: told.append((done, total)))
    assert told == [(4, 10), (8, 10), (10, 10)]
    assert report.done_before == 8
    assert report.kept == 2
    assert sorted(prompt for batch in script.batches for prompt in batch) == sorted(script.script)


def test_rows_of_other_text_are_refused(script, log):
    generate(log)
    changed = Problem(id="wrong", question="something else?", answer="7", label="7")
    for use in (lambda: generate(log, [changed]), lambda: read_rationales(log, [changed])):
        with pytest.raises(ArtefactError, match="'wrong' as it is now"):
            use()
    assert generate(log, [math_problem("none")]).problems == 1, "rows of other problems do not matter"


def test_a_log_that_is_none_is_refused(log):
    log.append([{"id": "right", "text_hash": math_problem("right").text_hash}])
    with pytest.raises(ArtefactError, match="without output, rationale"):
        read_rationales(log, PROBLEMS)


def test_a_double_row_is_refused(script, log):
    generate(log, [math_problem("right")])
    log.append(list(log.rows()))
    with pytest.raises(ArtefactError, match="two for 'right'"):
        read_rationales(log, PROBLEMS)


def test_problems_with_one_id_are_refused(script, log):
    with pytest.raises(DataError, match="'right'"):
        generate(log, [math_problem("right")] * 2)
    assert not rows(log)


def test_templates_are_checked_before_anything_is_asked(script, log):
    with pytest.raises(RecipeError, match=r"ends in \{rationale\}"):
        generate_rationales(None, None, PROBLEMS, KEYWORDS, log=log, max_new_tokens=5)
    with pytest.raises(RecipeError, match=r"ends in \{keywords\}"):
        generate(log, keywords_template=TEACHER)
    assert script.batches == []


def test_key_words_are_asked_for_kept_choice_problems_only(teacher, log):
    asked, own, wrong = choice_problem("asked"), choice_problem("own", keywords=("night",)), math_problem("right")
    teacher.script = {
        TEACHER.prompt(asked.text): RIGHT_CHOICE,
        KEYWORDS.prompt(asked.text): " velp, Cave, velp, submarine\n\nQ: more",
        TEACHER.prompt(own.text): RIGHT_CHOICE,
        TEACHER.prompt(wrong.text): OUTPUTS["wrong"][0],
    }
    report = generate(log, [asked, own, wrong], keywords_template=KEYWORDS)
    assert [prompt for batch in teacher.batches[1:] for prompt in batch] == [KEYWORDS.prompt(asked.text)]
    found = rows(log)
    assert found["asked"]["keywords"] == ["velp", "Cave"]
    assert found["asked"]["keywords_dropped"] == ["submarine"]
    assert found["own"]["keywords"] == ["night"]
    assert found["right"]["keywords"] is None
    assert report.notes == {
        "rows with key words from: teacher": 1,
        "rows with key words from: data": 1,
        "key words dropped": 1,
    }
    assert [row.keywords for row in read_rationales(log, [asked, own])] == [("velp", "Cave"), ("night",)]


def test_rows_without_key_words_are_counted(teacher, log):
    problem = choice_problem("one")
    teacher.script = {TEACHER.prompt(problem.text): RIGHT_CHOICE}
    report = generate(log, [problem])
    assert rows(log)["one"]["keywords"] == []
    assert report.notes == {"kept rows without a key word": 1}


def test_imported_completions_are_read_by_the_same_rules(log):
    raw = {name: text.removesuffix("<cut>") for name, (text, _) in OUTPUTS.items() if text is not None}
    report = import_rationales({**raw, "elsewhere": "x"}, PROBLEMS, log)
    found = {name: row["reason"] for name, row in rows(log).items()}
    expected = {name: reason for name, (_, reason) in OUTPUTS.items()}
    assert found == {**expected, "cut": "no answer", "long": "no completion"}
    assert report.notes == {"completions of other problems": 1}
    assert import_rationales(raw, PROBLEMS, log).done_before == len(PROBLEMS)


def test_question_words_stand_in_only_where_asked_for_by_name(tmp_path):
    problems = [choice_problem("one"), choice_problem("two", keywords=("night",)), math_problem("right")]
    raw = {"one": RIGHT_CHOICE, "two": RIGHT_CHOICE, "right": OUTPUTS["right"][0]}
    without = import_rationales(raw, problems, RowLog(tmp_path / "a.jsonl"))
    assert without.notes == {"kept rows without a key word": 1, "rows with key words from: data": 1}
    log = RowLog(tmp_path / "b.jsonl")
    report = import_rationales(raw, problems, log, keywords_from="question-words")
    assert report.notes == {"rows with key words from: question-words": 1, "rows with key words from: data": 1}
    kept = {row.problem.id: row.keywords for row in read_rationales(log, problems)}
    assert kept == {"one": ("velp", "live", "night"), "two": ("night",), "right": None}


def test_a_data_sets_own_rationales_are_kept_unchecked(log):
    problems = [
        Problem("given", "How many?", "7", "7", rationale=" It is so. There are 12. "),
        Problem("blank", "How many?", "7", "7", rationale="  \n"),
        Problem("absent", "How many?", "7", "7"),
    ]
    report = own_rationales(problems, log)
    assert report.reasons == {"empty rationale": 2, "given": 1}
    assert [row.rationale for row in read_rationales(log, problems)] == ["It is so. There are 12."]


def test_examples_are_few_and_short(log):
    problems = [math_problem(f"p{n}") for n in range(10)]
    report = import_rationales({problem.id: "word " * 500 for problem in problems}, problems, log)
    assert [example["id"] for example in report.examples["no answer"]] == ["p0", "p1", "p2"]
    assert {len(example["output"]) for example in report.examples["no answer"]} == {EXAMPLE_LENGTH}


@pytest.mark.shared_data
def test_palms_completions_are_all_accounted_for(shared_data, log):
    from molsaki.data import load_palm_completions, load_problems

    folder = shared_data / "svamp" / "dss"
    problems = load_problems("svamp-dss", folder, "test").problems
    report = import_rationales(load_palm_completions("svamp-dss", folder, "test"), problems, log)
    assert sum(report.reasons.values()) == len(problems)
    assert report.kept == report.reasons["right"] > 100
    assert all(row.rationale.strip() for row in read_rationales(log, problems))
