"""The tables of a study on given answers, with figures computed by hand; and their Markdown and LaTeX."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from run_answers import make_answers, make_study

from molsaki.evaluation.crossed import paired_difference, paired_difference_over_sets
from molsaki.evaluation.intervals import Interval, MeanAccuracy, holm, seed_interval, wilson_interval
from molsaki.report.tables import Table
from molsaki.store.whole_files import encode_json
from molsaki.study.curves import Reach
from molsaki.study.files import MEAN, Cell, Group
from molsaki.study.tables import (
    accuracy_table,
    compare_all,
    compare_run,
    difference_table,
    find_pairs,
    mcnemar_table,
)
from molsaki.study.writing import _plain, latex, markdown

ALL = Group()
TWO = {
    ("dss", 1): ("1000", "10"),
    ("dss", 2): ("1100", "00"),
    ("molsaki", 1): ("1110", "10"),
    ("molsaki", 2): ("1111", "11"),
}


def test_means_and_intervals_are_over_seeds_with_equal_weights_of_sets() -> None:
    found = compare_run(make_study(), make_answers(TWO, ("in", "out")), ALL)
    assert found.columns == ["in", "out", MEAN]
    dss, ours = found.accuracies["dss"], found.accuracies["molsaki"]
    assert [dss[column].mean for column in found.columns] == [0.375, 0.25, 0.3125]
    assert [ours[column].mean for column in found.columns] == [0.875, 0.75, 0.8125]
    assert dss["in"].interval == seed_interval([0.25, 0.5])
    assert dss[MEAN].interval == seed_interval([0.375, 0.25]), "over the seeds' means of both sets"
    assert {cell.seeds for cell in (*dss.values(), *ours.values())} == {2}
    t = 12.706204736
    margin = t * (0.125 / math.sqrt(2)) / math.sqrt(2)
    assert dss["in"].interval.low == pytest.approx(max(0.0, 0.375 - margin))
    assert dss["in"].interval.high == pytest.approx(min(1.0, 0.375 + margin))


def test_with_one_seed_the_interval_is_over_problems() -> None:
    answers = make_answers({("dss", 1): ("1110",), ("molsaki", 1): ("0000",)}, ("in",))
    found = compare_run(make_study(seeds=[1]), answers, ALL)
    assert found.columns == ["in"], "one set has no mean of sets"
    z = 1.959964
    centre, scale = 0.75 + z * z / 8, 1 + z * z / 4
    margin = z * math.sqrt(0.75 * 0.25 / 4 + z * z / 64)
    interval = found.accuracies["dss"]["in"].interval
    assert [interval.low, interval.high] == pytest.approx([(centre - margin) / scale, (centre + margin) / scale])
    assert "mean of 1 seed [" in accuracy_table(found).caption
    assert accuracy_table(found).rows == [["dss", "75.0 [30, 95]"], ["molsaki", "0.0 [0, 49]"]]


def test_with_one_seed_the_interval_of_a_mean_of_sets_is_over_their_problems() -> None:
    correct = ("1" * 90 + "0" * 10, "1" * 50 + "0" * 50)
    one_seed = make_answers({("dss", 1): correct}, ("in", "out"))
    cell = compare_run(make_study(), one_seed, ALL).accuracies["dss"][MEAN]
    margin = 1.96 * math.sqrt(0.9 * 0.1 / 100 + 0.5 * 0.5 / 100) / 2
    assert (cell.mean, cell.seeds) == (pytest.approx(0.7), 1)
    assert [cell.interval.low, cell.interval.high] == pytest.approx([0.7 - margin, 0.7 + margin], abs=0.01)


@pytest.mark.parametrize("answer", ["0", "1"])
@pytest.mark.parametrize("seeds", [1, 3])
def test_seeds_that_are_all_wrong_or_all_right_are_not_certain(seeds: int, answer: str) -> None:
    answers = make_answers({("dss", seed): (answer * 8, answer * 4) for seed in range(seeds)}, ("in", "out"))
    cells = compare_run(make_study(), answers, ALL).accuracies["dss"]
    correct = int(answer)
    assert cells["in"] == MeanAccuracy(correct, wilson_interval(8 * correct, 8), seeds)
    of_sets = [wilson_interval(n * correct, n) for n in (8, 4)]
    width = math.hypot(*(one.high - one.low for one in of_sets)) / 2
    interval = cells[MEAN].interval
    assert (cells[MEAN].mean, interval.high - interval.low) == (correct, pytest.approx(width))


def test_the_interval_of_a_mean_of_sets_with_equal_seeds_is_over_problems() -> None:
    answers = make_answers({("dss", seed): ("1100" * 5, "10" * 5) for seed in (1, 2)}, ("in", "out"))
    once = make_answers({("dss", 1): ("1100" * 5, "10" * 5)}, ("in", "out"))
    (twice, single) = (compare_run(make_study(), one, ALL).accuracies["dss"][MEAN] for one in (answers, once))
    assert (twice.mean, twice.interval, twice.seeds) == (single.mean, single.interval, 2)
    assert 0 < single.interval.low < 0.5 < single.interval.high < 1


def test_differences_use_the_seeds_that_both_methods_have() -> None:
    answers = make_answers({**TWO, ("dss", 3): ("1111", "11")}, ("in", "out"))
    found = compare_run(make_study(), answers, ALL)
    assert found.accuracies["dss"]["in"].seeds == 3
    cells = found.differences["molsaki", "dss"]
    assert {column: cells[column].paired.difference for column in found.columns} == {"in": 0.5, "out": 0.5, MEAN: 0.5}
    assert {cell.paired.seeds for cell in cells.values()} == {2}
    first, second = Cell("dss", ALL), Cell("molsaki", ALL)
    tables = {cell: answers.tables(cell, MEAN, [1, 2]) for cell in (first, second)}
    assert cells["in"].paired == paired_difference(tables[second][0], tables[first][0])
    assert cells[MEAN].paired == paired_difference_over_sets(tables[second], tables[first])
    assert (cells["in"].paired.problems, cells[MEAN].paired.problems) == (4, 6)
    table = accuracy_table(found)
    assert "mean of 2 to 3 seeds" in table.caption
    at = table.head.index("seeds")
    assert {row[0]: row[at] for row in table.rows} == {"dss": "3", "molsaki": "2"}


def test_differences_say_over_how_many_seeds_they_are() -> None:
    study = make_study(methods=["dss", "molsaki", "cot"])
    right = {**TWO, ("cot", 2): ("1010", "11")}
    table = difference_table(compare_run(study, make_answers(right, ("in", "out")), ALL))
    assert table.head[-1] == "seeds of both"
    assert [row[-1] for row in table.rows] == ["2", "1"]
    assert "over problems for one seed]" in table.caption
    one = difference_table(
        compare_run(make_study(), make_answers({k: v for k, v in TWO.items() if k[1] == 1}, ("in", "out")), ALL)
    )
    assert "[95 % interval over problems]" in one.caption
    assert one.head == ["difference", "in", "out", MEAN]


def test_p_values_are_corrected_for_the_whole_table() -> None:
    study = make_study(methods=["dss", "molsaki", "cot"], compare=[["molsaki", "cot"], ["cot", "dss"]])
    assert find_pairs(study) == [("molsaki", "dss"), ("cot", "dss"), ("molsaki", "cot")], "each pair once"
    mirrored = make_study(methods=["dss", "molsaki", "cot"], compare=[["dss", "molsaki"]], baselines={"cot": "molsaki"})
    assert find_pairs(mirrored) == [("molsaki", "dss"), ("cot", "molsaki")]
    right = {**TWO, ("cot", 1): ("0000", "01"), ("cot", 2): ("1010", "11")}
    found = compare_run(study, make_answers(right, ("in", "out")), ALL)
    places = [(pair, column) for pair in find_pairs(study) for column in ("in", "out", MEAN)]
    raw = [found.differences[pair][column].paired.p_value for pair, column in places]
    assert [found.differences[pair][column].p_corrected for pair, column in places] == holm(raw)
    assert len(raw) == 9
    table = difference_table(found)
    assert "9 comparisons (Holm)" in table.caption
    assert table.head == ["difference", "in", "out", MEAN]
    assert [one[0] for one in table.rows] == ["molsaki − dss", "cot − dss", "molsaki − cot"]
    assert table.rows[0][1].startswith("+50.0 [")


def test_mcnemar_counts_the_seeds_with_a_significant_difference() -> None:
    """With 6 problems that only one solves, p = 2/64 is significant; with 5, p = 2/32 is not."""
    right = {
        ("dss", 1): ("0000000000",),
        ("molsaki", 1): ("1111110000",),
        ("dss", 2): ("0000000000",),
        ("molsaki", 2): ("1111100000",),
        ("dss", 3): ("1111111111",),
        ("molsaki", 3): ("1110000000",),
        ("dss", 4): ("1111100000",),
        ("molsaki", 4): ("0000011111",),
    }
    found = compare_run(make_study(), make_answers(right, ("in",)), ALL)
    cell = found.differences["molsaki", "dss"]["in"]
    assert (cell.only_a, cell.only_b) == (1, 1)
    table = mcnemar_table(found)
    assert (table.head, table.rows) == (["pair", "in"], [["molsaki : dss", "1 : 1 of 4"]])
    both = compare_run(make_study(), make_answers(TWO, ("in", "out")), ALL)
    assert both.differences["molsaki", "dss"][MEAN].only_a is None
    assert mcnemar_table(both).head == ["pair", "in", "out"], "without the mean of sets"


def test_tokens_seconds_and_published_rows() -> None:
    study = make_study(published={"main": {"molsaki": {"in": 49.5, MEAN: 40.0}, "dss": {}}})
    answers = make_answers(TWO, ("in", "out"), tokens=12_000, seconds=4.6)
    answers.metrics["molsaki", 2] = {"tokens": 14_000}
    found = compare_run(study, answers, ALL)
    assert found.tokens == {"dss": 12_000, "molsaki": 13_000}
    assert found.seconds == {"dss": 4.6, "molsaki": None}, "no mean over some of the students"
    table = accuracy_table(found)
    assert table.head == ["accuracy, %", "in", "out", MEAN, "tokens trained on", "seconds"]
    assert table.rows[2][-2:] == ["13,000", "–"]
    assert table.rows[1] == ["dss, published", "–", "–", "–", "–", "–"]
    assert table.rows[3] == ["molsaki, published", "49.5", "–", "40.0", "–", "–"]
    without = accuracy_table(compare_run(make_study(), make_answers(TWO, ("in", "out")), ALL))
    assert without.head == ["accuracy, %", "in", "out", MEAN]
    assert without.rows[0] == ["dss", "37.5 [0, 100]", "25.0 [0, 100]", "31.2 [0, 100]"]


def test_a_group_has_only_its_own_students() -> None:
    right: dict[tuple[str, int], Any] = {
        (f"{label}-n{size}", 1): (row,)
        for label, size, row in (
            ("dss", 4, "00"),
            ("molsaki", 4, "10"),
            ("dss", 8, "10"),
            ("molsaki", 8, "11"),
        )
    }
    study = make_study(sizes=[8, 4])
    answers = make_answers(right, ("in",))
    means = [
        {method: cells["in"].mean for method, cells in compare_run(study, answers, group).accuracies.items()}
        for group in study.groups
    ]
    assert means == [{"dss": 0.0, "molsaki": 0.5}, {"dss": 0.5, "molsaki": 1.0}]
    assert accuracy_table(compare_run(study, answers, Group(8))).caption.startswith("main, 8 training problems: ")


def test_a_method_without_students_has_no_row() -> None:
    found = compare_run(make_study(), make_answers({("dss", 1): ("10", "1")}, ("in", "out")), ALL)
    assert list(found.accuracies) == ["dss"]
    assert found.differences == {}
    nothing = compare_run(make_study(), make_answers({}, ("in", "out")), ALL)
    assert nothing.accuracies == {}
    assert accuracy_table(nothing).rows == []


# ---- all recipes together ----


def test_all_sets_of_all_recipes_have_equal_weights() -> None:
    """A mean of each recipe's mean would give the set of the second recipe half of the weight."""
    first = make_answers({**TWO, ("dss", 3): ("1111", "11")}, ("in", "out"))
    second = make_answers({("dss", 1): ("10",), ("dss", 2): ("11",), ("molsaki", 1): ("11",)}, ("csqa",), "other")
    found = compare_all(make_study(), [first, second], ALL)
    assert found.columns == ["mean of 3 sets"]
    dss = found.accuracies["dss"]["mean of 3 sets"]
    assert dss.seeds == 2
    assert dss.mean == pytest.approx(((0.25 + 0.5 + 0.5) / 3 + (0.5 + 0.0 + 1.0) / 3) / 2)
    assert found.accuracies["molsaki"]["mean of 3 sets"].mean == pytest.approx((0.75 + 0.5 + 1.0) / 3)
    assert found.accuracies["molsaki"]["mean of 3 sets"].seeds == 1
    one = found.differences["molsaki", "dss"]["mean of 3 sets"]
    assert one.paired.difference == pytest.approx((0.5 + 0.0 + 0.5) / 3)
    assert (one.paired.seeds, one.paired.problems) == (1, 4 + 2 + 2)
    assert (one.only_a, one.only_b) == (None, None)
    assert accuracy_table(found).head == ["accuracy, %", "mean of 3 sets", "seeds"]
    assert difference_table(found).rows[0][0] == "molsaki − dss"
    apart = compare_all(make_study(), [first, make_answers({("cot", 1): ("1",)}, ("csqa",), "other")], ALL)
    assert apart.accuracies == {}


# ---- as Markdown, LaTeX and JSON ----

HOSTILE = "a|b\n**c**\r\n| d"


def test_no_cell_breaks_a_markdown_table() -> None:
    text = markdown(Table("cap", ["x|y", "z"], [[HOSTILE, "1"], ["", "|"]]))
    lines = text.splitlines()
    assert lines[:2] == ["**cap**", ""]
    assert lines[2] == r"| x\|y | z |"
    assert lines[3] == "| --- | --- |"
    assert lines[4] == r"| a\|b **c** \| d | 1 |"
    assert lines[5] == r"|  | \| |"
    assert len(lines) == 6


@pytest.mark.parametrize(
    ("character", "written"),
    [
        ("&", r"\&"),
        ("%", r"\%"),
        ("$", r"\$"),
        ("#", r"\#"),
        ("_", r"\_"),
        ("{", r"\{"),
        ("}", r"\}"),
        ("~", r"\textasciitilde{}"),
        ("^", r"\textasciicircum{}"),
        ("\\", r"\textbackslash{}"),
        ("<", r"$<$"),
        (">", r"$>$"),
        ("−", r"$-$"),
        ("–", "--"),
        ("×", r"$\times$"),
    ],
)
def test_latex_escapes_every_special_character(character: str, written: str) -> None:
    text = latex(Table(f"c{character}c", [f"h{character}h", "n"], [[f"r{character}r", "1"]]))
    assert f"\\caption{{c{written}c}}\n" in text
    assert f"h{written}h & n \\\\\n\\midrule" in text
    assert f"r{written}r & 1 \\\\\n\\bottomrule" in text


def test_latex_is_a_complete_table() -> None:
    text = latex(Table("all \\ of {them}", ["a", "b", "c"], [["x", "1", "2"], ["y", "3", "4"]]))
    assert text == (
        "\\begin{table}\n\\caption{all \\textbackslash{} of \\{them\\}}\n\\begin{tabular}{lrr}\n\\toprule\n"
        "a & b & c \\\\\n\\midrule\nx & 1 & 2 \\\\\ny & 3 & 4 \\\\\n\\bottomrule\n\\end{tabular}\n\\end{table}\n"
    )


def test_infinity_and_nan_are_text_in_json() -> None:
    value = {
        1: [math.inf, -math.inf, math.nan, 0.5, 3, None, True, "x"],
        "reach": (Reach(4, math.inf, math.inf, Interval(0.0, math.inf)),),
    }
    text = encode_json(_plain(value), "figures")
    assert json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON")) == {
        "1": ["inf", "-inf", "nan", 0.5, 3, None, True, "x"],
        "reach": [{"size": 4, "examples": "inf", "factor": "inf", "interval": {"low": 0.0, "high": "inf"}}],
    }


def test_a_comparison_is_plain_json() -> None:
    found = compare_run(make_study(), make_answers(TWO, ("in", "out")), Group()).to_dict()
    back = json.loads(encode_json(found, "a comparison"))
    assert back["differences"][0]["method"] == "molsaki"
    assert back["differences"][0]["to"] == "dss"
    assert back["accuracy"]["dss"]["in"] == {"mean": 0.375, "interval": {"low": 0.0, "high": 1.0}, "seeds": 2}
    assert (back["recipe"], back["examples"], back["setting"]) == ("main", None, None)


def test_means_over_other_seeds_are_not_shown_as_if_over_the_same() -> None:
    answers = make_answers({("dss", 2): ("1000",), ("molsaki", 1): ("1110",)}, ("in",))
    table = accuracy_table(compare_run(make_study(), answers, ALL))
    at = table.head.index("seeds")
    assert [row[at] for row in table.rows] == ["2", "1"], "which, since their number is the same"
