"""The files of the report, unfinished runs, and hostile text."""

from __future__ import annotations

import errno
import html
import io
import json
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import rich.console
import yaml
from browser import HOSTILE
from chat_tokenizers import chat_tokenizer
from commands import Shown, molsaki, recipe
from commands import run as start_run
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from small_world import make_llama

from molsaki.cli import look as look_command
from molsaki.cli.console import Console
from molsaki.errors import InputError
from molsaki.records import hash_json
from molsaki.report import build, readings
from molsaki.report.build import write_report
from molsaki.report.charts import COLOURS, Chart, Series, draw, for_page
from molsaki.report.look import look_at
from molsaki.report.page import embed_json, render
from molsaki.report.readings import read_models
from molsaki.stages.workspace import Workspace
from molsaki.store.shards import read_header


@pytest.fixture
def run(world: tuple[Path, Shown], tmp_path: Path) -> Path:
    """A copy of the run."""
    shutil.copytree(world[0], tmp_path / "run")
    return tmp_path / "run"


def change_recipe(run: Path, old: str, new: str) -> None:
    """Replace a line of a run's recipe, as if the run had been made with it."""
    file = run / "recipe.yaml"
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1
    file.write_text(text.replace(old, new), encoding="utf-8")
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    manifest["recipe_hash"] = hash_json(yaml.safe_load(file.read_text(encoding="utf-8")))
    (run / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the drawing of figures, which takes longer than the rest."""
    monkeypatch.setattr(build, "_draw_all", lambda charts, _, __: {chart.name: "" for chart in charts})


def page_data(folder: Path) -> dict:
    text = (folder / "report.html").read_text(encoding="utf-8")
    return json.loads(text.split('id="data-json">')[1].split("</script>")[0])


def test_a_run_writes_its_report_and_prints_its_path(world: tuple[Path, Shown]) -> None:
    folder, shown = world
    assert f"report: {folder / 'report.html'}" in shown.text
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert len(text.encode()) < 5_000_000
    assert "default-src 'none'" in html.unescape(text)
    assert "http://" not in text.replace("http://www.w3.org/", ""), "the page needs no network"
    figures = {path.name for path in (folder / "report/figures").iterdir()}
    for name in (
        "accuracy",
        "shift",
        "layers-above",
        "teacher-weights",
        "router-molsaki",
        "router-end-molsaki",
        "label-loss",
        "attention-share",
        "learning-rate",
    ):
        assert {f"{name}.svg", f"{name}.png"} <= figures, name
    for path in (folder / "report/figures").glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")


def test_training_records_memory_and_layer_weights(world: tuple[Path, Shown]) -> None:
    for label, layers in (("dss", 0), ("molsaki", 2)):
        metrics = json.loads((world[0] / f"students/{label}-1/metrics.json").read_text(encoding="utf-8"))
        assert metrics["peak_memory_bytes"] > 10_000_000
        assert metrics["notes"] == {}
        logged = [entry for entry in metrics["history"] if "label_loss" in entry]
        for entry in logged:
            weights = [value for name, value in entry.items() if name.startswith("layer_weight_")]
            assert len(weights) == layers
            assert not weights or sum(weights) == pytest.approx(1)
        assert len(logged) > 1


def test_the_browser_has_every_problem_and_all_attention(world: tuple[Path, Shown]) -> None:
    data = page_data(world[0])
    assert [row[2] for row in data["problems"] if row[0] == 1] == HOSTILE
    assert len(data["problems"]) == 12
    assert data["models"] == ["teacher", "student before", "after dss, seed 1", "after molsaki, seed 1"]
    for look in data["looks"]:
        assert len(look["rows"]) == 4
        for rows in look["rows"]:
            assert len(rows) == len(look["steps"])
            assert all(len(row) == len(look["keys"]) for row in rows)
            assert all(-1 <= value <= 10_000 for row in rows for value in row)


@pytest.mark.usefixtures("undrawn")
def test_a_second_report_reuses_rationales_and_attention(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from molsaki.analysis import text_attention
    from molsaki.report import readings

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the report did this before")

    monkeypatch.setattr(text_attention, "read_batch", refuse)
    monkeypatch.setattr(readings, "generate_rationales", refuse)
    before = page_data(run)
    write_report(Workspace.open(run))
    assert page_data(run) == before


def test_the_page_of_an_unfinished_run_names_what_is_missing(run: Path) -> None:
    shutil.rmtree(run / "students/molsaki-1")
    shutil.rmtree(run / "predictions/molsaki-1")
    (run / "predictions/dss-1/odd.jsonl").unlink()
    (run / "results.json").unlink()
    shown = molsaki("report", run, "--rows", "0", "--problems", "5")
    assert shown.code == 0, shown.error
    assert "molsaki, seed 1: not trained" in shown.text
    assert "dss, seed 1: trained, not tested on odd" in shown.text
    assert "5 of 12 problems" in shown.text
    assert len(page_data(run)["problems"]) == 5
    text = (run / "report.html").read_text(encoding="utf-8")
    assert "molsaki, seed 1: not trained" in text


@pytest.mark.usefixtures("undrawn")
def test_a_run_without_any_stage_has_a_page(run: Path) -> None:
    for name in ("students", "predictions", "attention", "stages", "data", "report"):
        shutil.rmtree(run / name)
    report = write_report(Workspace.open(run))
    assert report.page.is_file()
    assert any("dss, seed 1: not trained" in note for note in report.notes)


@pytest.mark.usefixtures("undrawn")
def test_a_page_says_why_nothing_is_compared(run: Path) -> None:
    shutil.rmtree(run / "predictions")
    page = write_report(Workspace.open(run)).page
    assert "There is no comparison yet." in page.read_text(encoding="utf-8")
    change_recipe(run, "baseline: dss", "baseline: null")
    page = write_report(Workspace.open(run)).page
    assert "The recipe names no baseline" in page.read_text(encoding="utf-8")


@pytest.mark.usefixtures("undrawn")
def test_attention_of_a_replaced_student_is_read_again(run: Path) -> None:
    before = page_data(run)
    shutil.rmtree(run / "students/dss-1")
    shutil.copytree(run / "students/molsaki-1", run / "students/dss-1")
    write_report(Workspace.open(run))
    after = page_data(run)
    for old, new in zip(before["looks"], after["looks"], strict=True):
        assert new["rows"][2] == new["rows"][3] == old["rows"][3]


def test_a_directory_without_a_run_is_refused(tmp_path: Path) -> None:
    shown = molsaki("report", tmp_path)
    assert shown.code == 2
    assert str(tmp_path) in "".join(shown.error.split())


@given(
    st.recursive(
        st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_embedded_json_cannot_end_its_element(value: object) -> None:
    shown = embed_json(value)
    assert json.loads(shown) == value
    assert not set("<>&\u2028\u2029") & set(shown)


def test_hostile_names_are_drawn_as_text() -> None:
    name = '<script>alert("1")</script> $x_1$ & 🍎'
    chart = Chart(
        "hostile",
        name,
        name,
        name,
        name,
        [Series(name, [0.0, 1.0], [1.0, 2.0], [0.5, 1.5], [1.5, 2.5])],
        "dots",
        [name, "b"],
    )
    svg, png = draw(chart)
    assert png.startswith(b"\x89PNG")
    for drawn in (svg[svg.index("<svg") :], for_page(svg, chart)):
        assert "<script" not in drawn
        if drawn.startswith("<svg xmlns"):
            ElementTree.fromstring(drawn)  # noqa: S314 - drawn here
    assert "$x_1$" in svg
    assert draw(chart)[0] == svg, "drawing is deterministic"


def test_the_template_escapes_text() -> None:
    text = render("look.html.jinja", {"model": '<img src=x onerror="alert(1)">'}, {"problems": []})
    assert "<img" not in text
    assert "&lt;img" in text


def test_look_prints_a_table_and_writes_a_page(tmp_path: Path) -> None:
    rationale = "🍎 <b>3</b> are there. \u202eThen\u202c add 14."
    shown = molsaki(
        "look",
        "pocket:student",
        "[red]Ada[/] has 3 apples 🍎 and buys 14. How many?",
        "--rationale",
        rationale,
        "--page",
        tmp_path / "look.html",
    )
    assert shown.code == 0, shown.error
    assert "[red]Ada[/]" in shown.text, "markup in a question has no effect"
    assert "explain: {question}" in shown.text
    data = json.loads(
        (tmp_path / "look.html").read_text(encoding="utf-8").split('id="data-json">')[1].split("</script>")[0]
    )
    look = data["looks"][0]
    assert look["rationale"] == rationale
    assert [rationale[start:end] for which, start, end in look["keys"] if which == 1] == ["3", "14"]


def test_look_asks_a_chat_model_in_its_chat_template(tmp_path: Path) -> None:
    tokenizer = chat_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    make_llama(vocab_size=len(tokenizer), max_position_embeddings=400).save_pretrained(tmp_path)
    found = look_at(str(tmp_path), "What is 3 and 14?", rationale="It is 17.")
    assert found.prompt == "<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n{rationale}"


def test_the_table_of_look_fits_a_terminal_of_eighty_columns() -> None:
    question = (
        "Ada has 1200 apples, 37 pears, 5.25 kilos of figs, 14 plums and 8 bags of 100000000000000 nuts. How many?"
    )
    result = look_at("pocket:teacher", question, rationale=f"{'W' * 90} 1200 and 37. Then 14 and 8.")
    target = rich.console.Console(width=80, file=io.StringIO(), force_terminal=True, color_system=None)
    look_command._show(Console(target), result)
    lines = target.file.getvalue().splitlines()
    table = [line for line in lines if line[:1] in "┏┃┡│└"]
    assert table
    assert max(map(cell_len, table)) <= 80
    assert not any("…" in line for line in table if line[0] == "│"), "nothing is cut off"
    assert "10000000000…" in target.file.getvalue(), "a long key says that it is cut off"


def test_look_without_a_key_or_a_model_is_refused(tmp_path: Path) -> None:
    shown = molsaki("look", "pocket:student", "What do cows eat?", "--rationale", "They eat grass.")
    assert shown.code == 2
    assert "--key" in shown.error
    shown = molsaki("look", tmp_path / "nothing", "How many is 3 and 4?")
    assert shown.code == 2
    assert str(tmp_path / "nothing") in "".join(shown.error.split())


def test_the_attention_of_a_student_is_read_in_its_own_prompt(tmp_path: Path) -> None:
    """A student of `cot` was not trained with `explain:`. Its attention there would mean nothing."""
    prompts = "prompts={explain: 'E {question} {rationale}', reason: 'R {question} {reasoning}'}"
    path = recipe(tmp_path, "methods=[cot, dss, label-only]", "training.steps=2", prompts, "evaluation.rows=2")
    assert start_run(path, tmp_path / "run").code == 0
    readings = read_models(Workspace.open(tmp_path / "run"), 2, print)
    assert set(readings.after) == {("cot", 1), ("dss", 1), ("label-only", 1)}
    for label, prompt in (("cot", "R"), ("dss", "E"), ("label-only", "E")):
        folder = tmp_path / "run/report/attention" / f"{label}-1/in-domain"
        assert read_header(folder).fingerprint["prompt"].startswith(f"{prompt} {{question}}")
        result = look_at(str(tmp_path / f"run/students/{label}-1"), "How many is 3 and 4?", "3 and 4 make 7.")
        assert result.prompt.startswith(f"{prompt} {{question}}")


def test_look_at_a_renamed_student_needs_a_prompt(run: Path) -> None:
    shutil.copytree(run / "students/dss-1", run / "students/best-one")
    question = ("How many is 3 and 4?", "--rationale", "3 and 4 make 7.")
    shown = molsaki("look", run / "students/best-one", *question)
    assert shown.code == 2
    assert "'best-one'" in shown.error
    assert "--prompt" in shown.error
    with_prompt = ("--prompt", "explain: {question}\n{rationale}")
    assert molsaki("look", run / "students/best-one", *question, *with_prompt).code == 0


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.usefixtures("undrawn")
def test_a_student_with_damaged_weights_is_left_out_with_a_note(run: Path) -> None:
    cut(run / "students/dss-1/model.safetensors")
    report = write_report(Workspace.open(run))
    assert len([note for note in report.notes if "dss, seed 1" in note]) == 1
    assert page_data(run)["models"] == ["teacher", "student before", "after molsaki, seed 1"]
    shown = molsaki("look", run / "students/dss-1", "How many is 3 and 4?")
    assert shown.code == 2
    assert "students/dss-1" in "".join(shown.error.split())


@pytest.mark.usefixtures("undrawn")
def test_a_run_whose_models_are_all_elsewhere_has_a_page_without_attention(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> None:
        raise InputError("Expected a model; got none.")

    monkeypatch.setattr(readings, "_read_teacher", gone)
    monkeypatch.setattr(readings, "_read_student", gone)
    report = write_report(Workspace.open(run))
    data = page_data(run)
    assert data["models"] == data["looks"] == []
    assert {row[-1] for row in data["problems"]} == {-1}
    assert len([note for note in report.notes if "could not be read" in note]) == 4


@pytest.mark.usefixtures("undrawn")
def test_students_whose_weights_were_deleted_are_one_note(run: Path) -> None:
    change_recipe(run, "keep_weights: true", "keep_weights: false")
    for label in ("dss", "molsaki"):
        (run / f"students/{label}-1/model.safetensors").unlink()
    report = write_report(Workspace.open(run))
    assert len([note for note in report.notes if "keep_weights" in note]) == 1
    assert not [note for note in report.notes if "seed 1" in note]
    assert page_data(run)["models"] == ["teacher", "student before"]


def test_a_report_that_cannot_be_written_is_an_error(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(shutil, "rmtree", refuse)
    shown = molsaki("report", run, "--rows", "0")
    assert shown.code == 2
    assert "Read-only file system" in " ".join(shown.error.split())
    monkeypatch.undo()
    shutil.rmtree(run / "report")
    monkeypatch.setattr(Path, "mkdir", refuse)
    shown = molsaki("report", run, "--rows", "0")
    assert shown.code == 2
    assert "Read-only file system" in " ".join(shown.error.split())


def test_missing_predictions_are_refused(run: Path) -> None:
    path = run / "predictions/dss-1/odd.jsonl"
    path.write_text("".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[:2]), encoding="utf-8")
    shown = molsaki("report", run, "--rows", "0")
    assert shown.code == 2
    message = " ".join(shown.error.split())
    assert str(path) in message
    assert "`molsaki evaluate`" in message


def test_the_page_and_the_results_say_what_each_term_did(world: tuple[Path, Shown]) -> None:
    rows = json.loads((world[0] / "results.json").read_text(encoding="utf-8"))
    for row in rows:
        assert [line["step"] for line in row["terms"]] == [1, 4]
        expected = {"label", "rationale"} | ({"attention"} if row["method"] == "molsaki" else set())
        for line in row["terms"]:
            assert line["share"].keys() == line["gradient"].keys() == expected
            assert sum(line["share"].values()) == pytest.approx(1, abs=1e-4)
        assert row["router_collapsed_at"] is None
    text = (world[0] / "report.html").read_text(encoding="utf-8")
    for name in ("molsaki: attention", "molsaki: label", "dss: rationale"):
        assert f"{name}</th>" in text or f">{name}<" in text


def test_a_method_has_one_colour_in_every_figure() -> None:
    lines = [Series(name, (0.0, 1.0), (1.0, 2.0)) for name in ("teacher", "after molsaki", "dss")]
    for chosen in (lines, lines[1:2], lines[1:]):
        svg, _ = draw(Chart("c", "t", "n", "x", "y", chosen), ["dss", "molsaki"])
        assert COLOURS[1].lower() in svg.lower(), "molsaki's, whatever else is drawn"
        assert (COLOURS[0].lower() in svg.lower()) is (len(chosen) > 1), "that of dss alone"
