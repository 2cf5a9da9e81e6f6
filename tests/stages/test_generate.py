"""What is kept, why the rest is not, and that nothing is done twice."""

from __future__ import annotations

import json

import pytest

from molsaki.encoding import prompts
from molsaki.encoding.prompts import PromptTemplate
from molsaki.errors import ArtefactError, DataError, RecipeError
from molsaki.records import Problem
from molsaki.stages.generate import generate_rationales, import_rationales, own_rationales, read_rationales
from molsaki.store.row_log import RowLog
from molsaki.teacher.filter import MOSTLY_CUT
from molsaki.teacher.rationales import EXAMPLE_LENGTH, FIELDS
from molsaki.teacher.requests import Questions

TEACHER = PromptTemplate.parse(prompts.TEACHER)
KEYWORDS = PromptTemplate.parse(prompts.KEYWORDS)
AGAIN = PromptTemplate.parse(prompts.GIVEN_ANSWER)

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


@pytest.fixture
def generate(teacher, log, completions):
    """Ask the scripted teacher; what is not a parameter of its own says how it is asked."""

    def call(problems=PROBLEMS, *, template=TEACHER, progress=None, temperature=0.0, **questions):
        return generate_rationales(
            teacher,
            problems,
            Questions(template, **questions),
            log=RowLog(log.path),
            completions=RowLog(completions.path),
            max_new_tokens=50,
            temperature=temperature,
            progress=progress,
        )

    return call


def rows(log):
    return {row["id"]: row for row in log.rows()}


def test_every_row_is_logged_with_its_reason(script, log, generate):
    report = generate()
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


def test_kept_rationales_are_in_the_order_of_the_problems(script, log, generate):
    generate()
    kept = read_rationales(log, [math_problem("runs on"), math_problem("wrong"), math_problem("right")])
    assert [(row.problem.id, row.rationale, row.keywords) for row in kept] == [
        ("runs on", "Add 3 and 4.", None),
        ("right", "Three and four are seven.", None),
    ]


def test_a_second_run_generates_nothing(script, log, generate):
    first = generate()
    asked = len(script.batches)
    second = generate()
    assert len(script.batches) == asked
    assert second.done_before == len(PROBLEMS)
    assert {**second.to_dict(), "done_before": 0} == first.to_dict()


def test_a_kill_loses_at_most_the_batch_in_flight(script, log, generate):
    calls = []
    script.fail_after = 2
    with pytest.raises(KeyboardInterrupt):
        generate(progress=lambda done, total: calls.append((done, total)))
    assert len(rows(log)) == 8
    with log.path.open("ab") as file:
        file.write(b'{"id": "right", "text_ha')
    script.fail_after = None
    report = generate(progress=lambda done, total: calls.append((done, total)))
    assert calls == [(4, 10), (8, 10), (10, 10)]
    assert report.done_before == 8
    assert report.kept == 2
    assert sorted(prompt for batch in script.batches for prompt in batch) == sorted(script.script)


def test_rows_of_other_text_are_refused(script, log, generate):
    generate()
    changed = Problem(id="wrong", question="something else?", answer="7", label="7")
    for use in (lambda: generate([changed]), lambda: read_rationales(log, [changed])):
        with pytest.raises(ArtefactError, match="'wrong'"):
            use()
    assert generate([math_problem("none")]).problems == 1, "rows of other problems do not matter"


def test_a_log_without_the_fields_is_refused(log):
    log.append([{"id": "right", "text_hash": math_problem("right").text_hash}])
    with pytest.raises(ArtefactError, match="output, rationale"):
        read_rationales(log, PROBLEMS)


def test_a_repeated_row_is_refused(script, log, generate):
    generate([math_problem("right")])
    log.append(list(log.rows()))
    with pytest.raises(ArtefactError, match="'right'"):
        read_rationales(log, PROBLEMS)


def test_problems_with_the_same_id_are_refused(script, log, generate):
    with pytest.raises(DataError, match="'right'"):
        generate([math_problem("right")] * 2)
    assert not rows(log)


def test_templates_are_checked_before_the_first_request(script, log, generate):
    with pytest.raises(RecipeError, match=r"\{rationale\}"):
        generate(template=KEYWORDS)
    with pytest.raises(RecipeError, match=r"\{keywords\}"):
        generate(keywords=TEACHER)
    with pytest.raises(RecipeError, match=r"\{answer\}"):
        generate(second_pass=TEACHER)
    assert script.batches == []


def test_key_words_are_requested_only_for_kept_choice_problems(teacher, log, generate):
    asked, own, wrong = choice_problem("asked"), choice_problem("own", keywords=("night",)), math_problem("right")
    teacher.script = {
        TEACHER.prompt(asked.text): RIGHT_CHOICE,
        KEYWORDS.prompt(asked.text): " velp, Cave, velp, submarine\n\nQ: more",
        TEACHER.prompt(own.text): RIGHT_CHOICE,
        TEACHER.prompt(wrong.text): OUTPUTS["wrong"][0],
    }
    report = generate([asked, own, wrong], keywords=KEYWORDS)
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


def test_question_words_replace_the_teachers_key_words(teacher, log, generate):
    problem = choice_problem("one")
    teacher.script = {TEACHER.prompt(problem.text): RIGHT_CHOICE}
    report = generate([problem], question_words=True)
    assert rows(log)["one"]["keywords"] == ["velp", "live", "night"]
    assert report.notes == {"rows with key words from: question-words": 1}


def test_key_words_have_one_source(generate):
    with pytest.raises(RecipeError, match="both"):
        generate([choice_problem("one")], keywords=KEYWORDS, question_words=True)


def test_rows_without_key_words_are_counted(teacher, log, generate):
    problem = choice_problem("one")
    teacher.script = {TEACHER.prompt(problem.text): RIGHT_CHOICE}
    report = generate([problem])
    assert rows(log)["one"]["keywords"] == []
    assert report.notes == {"kept rows without a key word": 1}


def test_the_second_pass_is_only_for_wrong_rationales(script, log, completions, generate):
    problems = [math_problem(name) for name in ("right", "wrong", "none", "cut")]
    again = {name: AGAIN.given("( 3 + 4 )").prompt(math_problem(name).text) for name in OUTPUTS}
    assert "The right answer is ( 3 + 4 )." in again["wrong"]
    script.script |= {
        again["wrong"]: "Three and four together make seven. The answer is ( 3 + 4 ).",
        again["none"]: "Five. The answer is 5.",
        again["cut"]: "We are told that the answer is given as 7, so add 3 and 4. The answer is 7.",
    }
    report = generate(problems, second_pass=AGAIN)
    assert {prompt for batch in script.batches[1:] for prompt in batch} == {again[n] for n in ("wrong", "none", "cut")}
    found = rows(log)
    assert {name: row["reason"] for name, row in found.items()} == {
        "right": "right",
        "wrong": "right, second pass",
        "none": "wrong answer, second pass",
        "cut": "says that the answer was given, second pass",
    }
    assert {name for name, row in found.items() if row["kept"]} == {"right", "wrong"}
    assert found["wrong"]["rationale"] == "Three and four together make seven."
    assert report.kept == 2
    assert report.examples["wrong answer, second pass"] == [{"id": "none", "output": "Five. The answer is 5."}]
    logged = [(row["id"], row["pass"], row["text"]) for row in completions.rows()]
    assert ("wrong", "rationale", OUTPUTS["wrong"][0]) in logged, "the log has all completions"
    assert len(logged) == 7
    assert found["wrong"]["prompt_tokens"] == 20


def test_rationales_that_are_kept_unchecked_have_a_second_pass(script, log, generate):
    """One that is wrong there too leaves what the teacher wrote without the answer."""
    problems = [math_problem(name) for name in ("right", "wrong", "none")]
    again = {name: AGAIN.given("( 3 + 4 )").prompt(math_problem(name).text) for name in OUTPUTS}
    script.script |= {
        again["wrong"]: "Three and four together make seven. The answer is ( 3 + 4 ).",
        again["none"]: "Five. The answer is 5.",
    }
    generate(problems, second_pass=AGAIN, keep="all")
    found = rows(log)
    assert found["wrong"]["reason"] == "right, second pass"
    assert (found["none"]["reason"], found["none"]["output"]) == ("kept unchecked", OUTPUTS["none"][0])


def test_the_second_pass_names_a_choice_with_its_letter(teacher, log, generate):
    problem = choice_problem("one")
    again = AGAIN.given("(b) cave").prompt(problem.text)
    teacher.script = {
        TEACHER.prompt(problem.text): "It swims. So the answer is (a) lake.",
        again: RIGHT_CHOICE,
        KEYWORDS.prompt(problem.text): "velp, night",
    }
    report = generate([problem], second_pass=AGAIN, keywords=KEYWORDS)
    assert rows(log)["one"]["reason"] == "right, second pass"
    assert rows(log)["one"]["keywords"] == ["velp", "night"]
    assert report.tokens == {"sent": 30, "written": sum(len(text.split()) for text in teacher.script.values())}
    assert [asked for asked, _, _ in teacher.asked] == [1, 1, 1]


def test_the_sample_that_most_others_agree_with_is_kept(teacher, log, generate):
    agreed, lone, none = (math_problem(name) for name in ("agreed", "lone", "none"))
    teacher.script = {
        TEACHER.prompt(agreed.text): (
            "Short. The answer is ( 8 - 1 ).",
            "Three and four, added, are seven. The answer is ( 3.0 + 4 ).",
            "No. The answer is 6.",
            "Three and four are seven. The answer is (3+4).",
        ),
        TEACHER.prompt(lone.text): ("No.", "No.", "Add. The answer is 7.", "The answer is 6."),
        TEACHER.prompt(none.text): ("First. The answer is 6.", "No.", "No.", "No."),
    }
    report = generate([agreed, lone, none], samples=4, temperature=0.7)
    found = rows(log)
    assert (found["agreed"]["rationale"], found["agreed"]["agreement"]) == ("Three and four are seven.", 2)
    assert (found["lone"]["rationale"], found["lone"]["agreement"], found["lone"]["samples"]) == ("Add.", 1, 4)
    assert (found["none"]["reason"], found["none"]["agreement"]) == ("wrong answer", 0)
    assert teacher.asked[0] == (12, 50, 0.7)
    assert report.notes == {"kept rows that no other sample agrees with": 1, MOSTLY_CUT: 1}
    assert [example["id"] for example in report.examples[MOSTLY_CUT]] == ["lone"]


def test_an_unanswered_question_is_counted_and_asked_again(script, log, generate):
    script.script[TEACHER.prompt(math_problem("wrong").text)] = "<failure>HTTP 500"
    report = generate()
    assert "wrong" not in rows(log)
    assert (report.unanswered, report.reasons["not done"]) == (1, 1)
    assert report.notes == {"questions without an answer in this run: HTTP 500": 1}
    script.script[TEACHER.prompt(math_problem("wrong").text)] = OUTPUTS["wrong"][0]
    asked = len(script.batches)
    again = generate()
    assert script.batches[asked:] == [[TEACHER.prompt(math_problem("wrong").text)]]
    assert (again.unanswered, again.done_before, again.notes) == (0, len(PROBLEMS) - 1, {})


@pytest.mark.parametrize("kept_rows", [0, 1, 3])
def test_a_kill_between_the_two_logs_repeats_no_request(script, log, completions, generate, kept_rows):
    before = generate(second_pass=AGAIN).to_dict()
    asked = len(script.batches)
    lines = log.path.read_text().splitlines(keepends=True)
    expected = rows(log)
    log.path.write_text("".join(lines[:kept_rows]))
    after = generate(second_pass=AGAIN).to_dict()
    assert len(script.batches) == asked
    assert rows(log) == expected
    assert after["reasons"] == before["reasons"]


def test_completions_of_other_prompts_or_texts_are_refused(script, log, completions, generate):
    generate()
    log.path.unlink()
    with pytest.raises(ArtefactError, match="prompt"):
        generate(template=PromptTemplate.parse("Question: {question}\nA: {rationale}"))
    with pytest.raises(ArtefactError, match="text"):
        generate([Problem(id="wrong", question="something else?", answer="7", label="7")])
    completions.append(list(completions.rows())[:1])
    with pytest.raises(ArtefactError, match="one completion"):
        generate()
    assert not rows(log)


def test_imported_completions_are_checked_like_generated_ones(log):
    raw = {name: text.removesuffix("<cut>") for name, (text, _) in OUTPUTS.items() if text is not None}
    report = import_rationales({**raw, "elsewhere": "x"}, PROBLEMS, log)
    found = {name: row["reason"] for name, row in rows(log).items()}
    expected = {name: reason for name, (_, reason) in OUTPUTS.items()}
    assert found == {**expected, "cut": "no answer", "long": "no completion"}
    assert report.notes == {"completions of other problems": 1}
    assert import_rationales(raw, PROBLEMS, log).done_before == len(PROBLEMS)


def test_question_words_are_used_only_on_request(tmp_path):
    problems = [choice_problem("one"), choice_problem("two", keywords=("night",)), math_problem("right")]
    raw = {"one": RIGHT_CHOICE, "two": RIGHT_CHOICE, "right": OUTPUTS["right"][0]}
    without = import_rationales(raw, problems, RowLog(tmp_path / "a.jsonl"))
    assert without.notes == {"kept rows without a key word": 1, "rows with key words from: data": 1}
    log = RowLog(tmp_path / "b.jsonl")
    report = import_rationales(raw, problems, log, keywords_from="question-words")
    assert report.notes == {"rows with key words from: question-words": 1, "rows with key words from: data": 1}
    kept = {row.problem.id: row.keywords for row in read_rationales(log, problems)}
    assert kept == {"one": ("velp", "live", "night"), "two": ("night",), "right": None}


def test_rationales_of_the_data_set_are_kept_unchecked(log):
    problems = [
        Problem("given", "How many?", "7", "7", rationale=" It is so. There are 12. "),
        Problem("blank", "How many?", "7", "7", rationale="  \n"),
        Problem("absent", "How many?", "7", "7"),
    ]
    report = own_rationales(problems, log)
    assert report.reasons == {"empty rationale": 2, "given": 1}
    assert [row.rationale for row in read_rationales(log, problems)] == ["It is so. There are 12."]


def test_examples_are_few_and_truncated(log):
    problems = [math_problem(f"p{n}") for n in range(10)]
    report = import_rationales({problem.id: "word " * 500 for problem in problems}, problems, log)
    assert [example["id"] for example in report.examples["no answer"]] == ["p0", "p1", "p2"]
    assert {len(example["output"]) for example in report.examples["no answer"]} == {EXAMPLE_LENGTH}


@pytest.mark.shared_data
def test_all_of_palms_completions_are_counted(shared_data, log):
    from molsaki.data import load_palm_completions, load_problems

    folder = shared_data / "svamp" / "dss"
    problems = load_problems("svamp-dss", folder, "test").problems
    report = import_rationales(load_palm_completions("svamp-dss", folder, "test"), problems, log)
    assert sum(report.reasons.values()) == len(problems)
    assert report.kept == report.reasons["right"] > 100
    assert all(row.rationale.strip() for row in read_rationales(log, problems))


def test_a_thinking_teacher_has_room_to_think_of_key_words(teacher, log, generate):
    problem = choice_problem("one")
    teacher.script = {
        TEACHER.prompt(problem.text): f"<think>Hm.</think>{RIGHT_CHOICE}",
        KEYWORDS.prompt(problem.text): "<think>\nA velp, I think.\n</think>\n\nvelp, cave",
    }
    generate([problem], keywords=KEYWORDS)
    rooms = {room for requests, room, _ in teacher.asked if requests}
    assert len(rooms) == 1, "as much as for the rationale"
    assert rows(log)["one"]["keywords"] == ["velp", "cave"]


def test_key_words_that_were_cut_off_while_thinking_are_said(teacher, generate):
    problem = choice_problem("one")
    teacher.script = {
        TEACHER.prompt(problem.text): f"<think>Hm.</think>{RIGHT_CHOICE}",
        KEYWORDS.prompt(problem.text): "<think>\nA velp, I think, or<cut>",
    }
    notes = generate([problem], keywords=KEYWORDS).notes
    assert notes["requests for key words that were cut off before any"] == notes["kept rows without a key word"] == 1


def test_imported_rationales_that_are_not_right_are_kept_on_request(log):
    problem = math_problem("one")
    report = import_rationales({"one": "Three times four. The answer is 12."}, [problem], log, keep="all")
    assert (report.kept, report.reasons) == (1, {"kept unchecked": 1})


def test_rationales_of_exported_signals_stay_as_they_are(log):
    """Their attention is found by their text; a teacher's rationale may state the answer more than once."""
    problem = Problem("one", "How many?", "7", "7", rationale="3 + 4. The answer is 7. Check: 7 - 4 = 3.")
    own_rationales([problem], log, learn=None)
    assert [row.rationale for row in read_rationales(log, [problem])] == [problem.rationale]
