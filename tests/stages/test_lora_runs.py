"""A recipe whose student has an adapter, from its first stage to its results and its report."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from commands import Shown, molsaki, recipe, run
from huggingface_hub import ModelCard
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from molsaki.config.model_spec import StudentSpec
from molsaki.config.recipe import Recipe
from molsaki.data.pocket import STUDENT
from molsaki.errors import ArtefactError, InputError, RecipeError
from molsaki.models.load import load_student, load_tokenizer, model_at
from molsaki.report.results import find_result
from molsaki.stages import check, pipeline
from molsaki.stages.check import prepare_recipe
from molsaki.stages.export import export_student
from molsaki.stages.workspace import Workspace

LORA = ("methods=[molsaki]", "baseline=null", "student.lora={r: 4, dropout: 0.1}")
FEW = (
    "rationales.max_new_tokens=64",
    "data.train.limit=4",
    "data.tests.in-domain.limit=4",
    "data.tests.chains.limit=4",
    "training.steps=4",
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Shown]:
    """A finished run with the adapter alone and one with a merged student, and what the first showed."""
    folder = tmp_path_factory.mktemp("adapters")
    shown = run(recipe(folder, *LORA, *FEW), folder / "run")
    assert shown.code == 0, shown.error
    merged = run(recipe(folder, *LORA, *FEW, "student.lora.merge=true"), folder / "merged")
    assert merged.code == 0, merged.error
    return folder, shown


def test_adapters_and_merged_students_give_the_same_answers(runs: tuple[Path, Shown]) -> None:
    folder, _ = runs
    adapter, whole = (folder / name / "students" / "molsaki-1" for name in ("run", "merged"))
    assert (adapter / "adapter_model.safetensors").is_file()
    assert not (adapter / "model.safetensors").exists()
    assert (whole / "model.safetensors").is_file()
    assert (whole / "adapter" / "adapter_model.safetensors").is_file()
    for name in ("in-domain", "chains"):
        place = Path("predictions", "molsaki-1", f"{name}.jsonl")
        assert (folder / "run" / place).read_text() == (folder / "merged" / place).read_text()


def test_the_adapter_names_its_base_as_the_recipe_does(runs: tuple[Path, Shown]) -> None:
    folder, _ = runs
    config = json.loads((folder / "run" / "students" / "molsaki-1" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "pocket:student"
    assert config["r"] == 4


def test_what_is_frozen_is_said(runs: tuple[Path, Shown]) -> None:
    _, shown = runs
    assert "parameters were trained, the others are frozen" in shown.text


def test_a_tiny_student_is_merged_since_its_base_is_in_no_file(tmp_path: Path) -> None:
    named = ("student={name: some/model, lora: {r: 4}, tokenizer: 'pocket:student'}", "methods=[dss]", "baseline=dss")
    prepared = prepare_recipe(str(recipe(tmp_path, *named)), tiny=True)
    assert prepared.student.lora is not None
    assert prepared.student.lora.merge
    assert prepared.student.quantize is None


def test_an_adapter_on_an_adapter_is_refused(runs: tuple[Path, Shown]) -> None:
    folder, _ = runs
    prepared = prepare_recipe(str(recipe(folder, *LORA)))
    student = StudentSpec(name=str(folder / "run" / "students" / "molsaki-1"), lora=prepared.student.lora)
    changed: Recipe = prepared.model_copy(update={"student": student})
    with pytest.raises(InputError, match="adapter itself"):
        load_student(changed, load_tokenizer(changed, student))


def test_a_quantised_model_is_refused_before_anything_is_spent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quantised = [*LORA, "student.quantize=4bit", "teacher.reader={name: 'pocket:teacher', quantize: 8bit}"]
    monkeypatch.setattr(check, "quantization_refusal", lambda: "there is no GPU")
    with pytest.raises(RecipeError) as caught:
        prepare_recipe(str(recipe(tmp_path, *quantised)))
    assert "teacher.reader.quantize: expected none, since there is no GPU" in str(caught.value)
    assert "student.quantize: expected none, since there is no GPU" in str(caught.value)


def test_a_quantised_student_without_an_adapter_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "quantization_refusal", lambda: None)
    with pytest.raises(RecipeError, match=r"student.quantize: expected lora"):
        prepare_recipe(str(recipe(tmp_path, "student.quantize=4bit")))


def test_weights_in_16_bits_are_not_trained_whole(tmp_path: Path) -> None:
    """AdamW's small changes would be rounded away."""
    for dtype in ("bfloat16", "float16"):
        with pytest.raises(RecipeError, match=r"student.dtype: expected float32"):
            prepare_recipe(str(recipe(tmp_path, f"student.dtype={dtype}")))
    prepare_recipe(str(recipe(tmp_path, "student.dtype=bfloat16", "student.lora={}")))


def test_validations_need_validation_problems(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"training.evaluate_every: expected validation problems"):
        prepare_recipe(str(recipe(tmp_path, "training.evaluate_every=2")))
    prepare_recipe(str(recipe(tmp_path, "training.evaluate_every=2", "data.validation_rows=2")))


def test_the_base_of_an_adapter_is_looked_for_in_the_folder_of_models(
    runs: tuple[Path, Shown], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = runs
    trained = folder / "run" / "students" / "molsaki-1"
    moved = shutil.copytree(trained, tmp_path / "moved")
    config = json.loads((moved / "adapter_config.json").read_text())
    (moved / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "someone/base"}))
    shutil.copytree(STUDENT, tmp_path / "models" / "base")
    monkeypatch.setenv("MOLSAKI_MODELS", str(tmp_path / "models"))
    assert model_at(str(moved)).num_parameters() == model_at(str(trained)).num_parameters()


def test_doctor_counts_the_parameters_of_the_adapter(tmp_path: Path) -> None:
    shown = molsaki("doctor", str(recipe(tmp_path, *LORA)))
    assert "parameters of the adapter are trained" in shown.text


def test_an_export_is_the_merged_student_with_a_card_of_its_scores(runs: tuple[Path, Shown], tmp_path: Path) -> None:
    folder, _ = runs
    student, out = folder / "run" / "students" / "molsaki-1", tmp_path / "exported"
    shown = molsaki("export", student, out, "--license", "apache-2.0")
    assert shown.code == 0, shown.error
    expected, exported = model_at(str(student)).state_dict(), AutoModelForCausalLM.from_pretrained(out).state_dict()
    assert all(torch.equal(value, exported[name]) for name, value in expected.items())
    data = ModelCard.load(out / "README.md").data
    assert (data.license, data.library_name) == ("apache-2.0", "transformers")
    scores = {row["split"]: row for row in json.loads((folder / "run" / "scores.json").read_text())}
    assert {result.dataset_name for result in data.eval_results} == scores.keys()
    for result in data.eval_results:
        row = scores[result.dataset_name]
        assert result.metric_value == round(row["accuracy"], 4)
        assert result.metric_args["interval"] == [round(row["interval"][end], 4) for end in ("low", "high")]
        assert result.metric_args["n"] == row["n"]
    assert AutoTokenizer.from_pretrained(out).eos_token_id == GenerationConfig.from_pretrained(out).eos_token_id


def test_only_a_student_of_a_run_is_exported_and_nothing_is_overwritten(
    runs: tuple[Path, Shown], tmp_path: Path
) -> None:
    folder, _ = runs
    student = folder / "run" / "students" / "molsaki-1"
    with pytest.raises(ArtefactError, match="export"):
        export_student(student, tmp_path)
    for other in (STUDENT, folder / "run", tmp_path / "missing"):
        with pytest.raises(InputError, match="student"):
            export_student(other, tmp_path / "out")
    with pytest.raises(InputError, match="license"):
        export_student(student, tmp_path / "out", license_name="Llama 3.2")
    assert not (tmp_path / "out").exists()


def test_scores_of_an_earlier_student_are_on_no_card_and_are_replaced(
    runs: tuple[Path, Shown], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, _ = runs
    copy = shutil.copytree(folder / "run", tmp_path / "run")
    student, tested = copy / "students" / "molsaki-1", copy / "tested" / "molsaki-1.json"
    metrics = json.loads((student / "metrics.json").read_text())
    (student / "metrics.json").write_text(json.dumps({**metrics, "seconds": metrics["seconds"] + 1}))
    export_student(student, tmp_path / "stale")
    assert not ModelCard.load(tmp_path / "stale" / "README.md").data.eval_results
    assert "earlier student" in caplog.text
    workspace = Workspace.open(copy)
    assert any(line.startswith("molsaki, seed 1: trained, not tested") for line in find_result(workspace).unfinished)
    assert ("molsaki", 1) not in {(row["method"], row["seed"]) for row in pipeline.results(workspace)}
    assert (tmp_path / "stale" / "model.safetensors").stat().st_mode & 0o777 == (
        tmp_path / "stale" / "README.md"
    ).stat().st_mode & 0o777
    before = json.loads(tested.read_text())
    shown = run(recipe(tmp_path, *LORA, *FEW), copy, command="evaluate")
    assert shown.code == 0, shown.error
    after = json.loads(tested.read_text())
    assert after.keys() == before.keys() == {"in-domain", "chains"}
    assert all(after[name] != before[name] for name in before)
    export_student(student, tmp_path / "tested")
    assert len(ModelCard.load(tmp_path / "tested" / "README.md").data.eval_results) == 2
