"""Every method from a recipe's first stage to its results, each student asked with the prompt that it answers."""

from __future__ import annotations

import html
import json
import shutil
from pathlib import Path

import pytest
from commands import Shown, files, molsaki, recipe, run
from transformers import AutoModelForCausalLM, AutoTokenizer

from molsaki.analysis.looks import student_encoder
from molsaki.answers.parse import parse_answer
from molsaki.config.load import parse_recipe
from molsaki.config.recipe import EvaluationSettings, PromptSettings
from molsaki.errors import ArtefactError
from molsaki.models.decode import decode_batches
from molsaki.report.routers import router_weights
from molsaki.spans.views import HEADS, STEPS, WORDS
from molsaki.stages.check import open_workspace
from molsaki.stages.next_tokens import check_next_tokens, next_token_rules
from molsaki.stages.pipeline import student_jobs
from molsaki.stages.students import open_store
from molsaki.stages.workspace import Workspace
from molsaki.store.signal_reader import AttentionStore

LABELS = ("cot", "mmi", "single-layer", "options", "heads", "attention-map", "logits", "molsaki-words")
SETTINGS = (
    "methods=[cot, mmi, {name: single-layer, teacher_layers: [1, 2]}, cot, cot, attention-map, cot, molsaki-words]",
    "methods.3={name: molsaki, label: options}",
    "methods.4={name: molsaki, label: heads, heads: each}",
    "methods.6={name: logits, temperature: 2}",
    "methods.3.keys=question",
    "methods.3.step_pool=mean",
    "methods.3.teacher_weights=learned",
    "methods.3.student_weights=uniform",
    "methods.3.beta_schedule=falling",
    "baseline=mmi",
    "data.validation_rows=2",
    "training.evaluate_every=3",
    "evaluation.max_rationale_tokens=40",
    "evaluation.explain=true",
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Shown]:
    """A finished run and what it showed."""
    folder = tmp_path_factory.mktemp("methods")
    shown = run(recipe(folder, *SETTINGS), folder / "run")
    assert shown.code == 0, shown.error
    return folder / "run", shown


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_every_method_has_results(world: tuple[Path, Shown]) -> None:
    results = json.loads((world[0] / "results.json").read_text(encoding="utf-8"))
    assert {row["method"] for row in results} == set(LABELS)
    assert all(row["n"] == 8 for row in results)


def test_each_view_of_attention_has_a_store_of_its_own_that_is_proved(world: tuple[Path, Shown]) -> None:
    folder, shown = world
    layers, heads = 4, 4
    for view, items in ((STEPS, layers), (HEADS, layers * heads), (WORDS, layers)):
        store = AttentionStore(folder / view.folder)
        assert {store.shape(row)[0] for row in store.ids()} == {items}
        assert (folder / "stages" / f"{view.stage}.json").is_file()
        assert f"{view.title}: {len(store)} of {len(store)} rationales read" in shown.text
    checked = molsaki("attend", folder.parent / "recipe.yaml", "--out", folder, "--check")
    assert checked.code == 0, checked.error
    assert checked.text.count(" store: ") == 4, "three views, and next tokens"
    steps, words = (AttentionStore(folder / view.folder) for view in (STEPS, WORDS))
    assert all(words.shape(row)[1] > steps.shape(row)[1] for row in words.ids())


def test_the_page_of_a_run_has_every_view_and_a_weight_for_each_layer(
    world: tuple[Path, Shown], tmp_path: Path
) -> None:
    shutil.copytree(world[0], tmp_path / "run")
    shown = molsaki("report", tmp_path / "run", "--rows", "2")
    assert shown.code == 0, shown.error
    page = (tmp_path / "run/report.html").read_text(encoding="utf-8")
    for view in (STEPS, HEADS, WORDS):
        assert f"teacher's {view.title}: " in html.unescape(page)
    history = json.loads((tmp_path / "run/students/heads-1/metrics.json").read_text(encoding="utf-8"))["history"]
    weights = [value for name, value in history[0].items() if name.startswith("layer_weight_")]
    assert len(weights) == 2
    assert sum(weights) == pytest.approx(1, abs=1e-4)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "run/students/heads-1")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run/students/heads-1")
    workspace = Workspace.open(tmp_path / "run")
    _, texts = workspace.read_texts("train")
    encode = student_encoder(tokenizer, workspace.template("explain"), 512)
    found = router_weights(workspace, ("heads", 1), model, tokenizer, list(texts.values()), encode)
    assert found
    assert all(row.shape == (2,) and row.sum() == pytest.approx(1) for row in found.values())


def test_a_store_of_another_view_is_refused(world: tuple[Path, Shown], tmp_path: Path) -> None:
    shutil.copytree(world[0], tmp_path / "run")
    workspace = Workspace.open(tmp_path / "run")
    for view, other in ((STEPS, HEADS), (HEADS, WORDS), (WORDS, STEPS)):
        assert len(open_store(workspace, view))
        kept = (tmp_path / "run" / view.folder).rename(tmp_path / "kept")
        (tmp_path / "run" / other.folder).rename(tmp_path / "run" / view.folder)
        with pytest.raises(ArtefactError, match=r"layers|span rules"):
            open_store(workspace, view)
        (tmp_path / "run" / view.folder).rename(tmp_path / "run" / other.folder)
        kept.rename(tmp_path / "run" / view.folder)


def test_a_student_of_cot_is_asked_for_its_reasons(world: tuple[Path, Shown]) -> None:
    folder = world[0] / "students/cot-1"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    problems = rows(world[0] / "data/in-domain.jsonl")
    prompts = [f"reason: {problem['question']}\n" for problem in problems]
    batches = decode_batches(model, tokenizer, prompts, max_new_tokens=40, batch_size=8)
    written = {completion.index: completion.text for batch in batches for completion in batch}
    answers = rows(world[0] / "predictions/cot-1/in-domain.jsonl")
    assert [row["output"] for row in answers] == [written[i] for i in range(8)]
    assert [row["status"] for row in answers] == [parse_answer(written[i]).status for i in range(8)]
    card = (world[0] / "students/cot-1/README.md").read_text(encoding="utf-8")
    assert 'prompt = "reason: {question}\\n"' in card
    settings = json.loads((world[0] / "students/cot-1/generation_config.json").read_text(encoding="utf-8"))
    assert settings["max_new_tokens"] == 40
    assert len(rows(world[0] / "predictions/mmi-1/explanations/in-domain.jsonl")) == 8


def test_answers_and_rationales_have_bounds_of_their_own() -> None:
    settings = EvaluationSettings(max_new_tokens=5, max_rationale_tokens=70)
    bounds = {name: settings.bound_for(PromptSettings().template(name)) for name in ("predict", "explain", "reason")}
    assert bounds == {"predict": 5, "explain": 70, "reason": 70}


def test_next_tokens_are_stored_proved_and_learned_from(world: tuple[Path, Shown]) -> None:
    folder = world[0]
    assert "next tokens: " in world[1].text
    told = json.loads((folder / "stages/attend.json").read_text(encoding="utf-8"))
    assert "temperatures" in str(told)
    metrics = json.loads((folder / "students/logits-1/metrics.json").read_text(encoding="utf-8"))
    assert any("compared with the teacher's next tokens" in note for note in metrics["notes"])
    losses = [entry["logits_loss"] for entry in metrics["history"] if "logits_loss" in entry]
    assert losses
    assert all(loss > 0 for loss in losses)
    checked = molsaki("attend", folder / "recipe.yaml", "--out", folder, "--check")
    assert checked.code == 0, checked.error
    assert "next token store: " in checked.text
    shard = next((folder / "next_tokens").glob("*.safetensors"))
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-4] + bytes((0, 0, 128, 63)))
    broken = molsaki("attend", folder / "recipe.yaml", "--out", folder, "--check")
    shard.write_bytes(whole)
    assert broken.code == 1
    assert "1 problem" in broken.text


def test_a_run_gets_no_temperature_that_its_next_tokens_were_not_read_at(
    world: tuple[Path, Shown], tmp_path: Path
) -> None:
    shutil.copytree(world[0], tmp_path / "run")
    there = Workspace.open(tmp_path / "run")
    values = there.recipe.model_dump(mode="json")
    plain = {"name": "logits", "label": "plain"}
    grown = open_workspace(parse_recipe({**values, "methods": [*values["methods"], plain]}), tmp_path / "run")
    assert next_token_rules(grown) == next_token_rules(there), "1 is always kept"
    alone = parse_recipe({**values, "methods": [plain], "baseline": None})
    assert next_token_rules(Workspace(grown.run, alone)) == next_token_rules(there), "more than it asks for serves it"
    before = files(tmp_path / "run")
    with pytest.raises(ArtefactError, match=r"1, 2; got 1, 2, 4\."):
        open_workspace(
            parse_recipe({**values, "methods": [*values["methods"], {**plain, "label": "hot", "temperature": 4}]}),
            tmp_path / "run",
        )
    assert files(tmp_path / "run") == before


def test_a_run_whose_attention_was_read_before_it_got_logits_says_what_to_do(
    world: tuple[Path, Shown], tmp_path: Path
) -> None:
    shutil.copytree(world[0], tmp_path / "run")
    stage = tmp_path / "run/stages/attend.json"
    told = json.loads(stage.read_text(encoding="utf-8"))
    read = told.pop("next tokens")
    stage.write_text(json.dumps(told), encoding="utf-8")
    for shard in (tmp_path / "run/next_tokens").glob("shard-*"):
        shard.unlink()
    workspace = Workspace.open(tmp_path / "run")
    with pytest.raises(ArtefactError, match=r"next tokens.*`molsaki attend`"):
        student_jobs(workspace)
    found = check_next_tokens(workspace)
    assert found.ok, found.problems
    assert found.waiting == read["kept"]


def test_cot_is_validated_by_its_answers_alone(world: tuple[Path, Shown]) -> None:
    for label in LABELS:
        history = json.loads((world[0] / f"students/{label}-1/metrics.json").read_text(encoding="utf-8"))["history"]
        evaluated = [entry for entry in history if "eval_accuracy" in entry]
        assert len(evaluated) == 2
        assert all(("eval_loss" in entry) is (label != "cot") for entry in evaluated)
