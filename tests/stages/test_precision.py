"""The precision "auto": measured once, kept by the run, and never something else on another machine."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import rich.console
import torch
from commands import SMALL
from small_world import make_llama

from molsaki.cli.console import Console
from molsaki.config.load import override, parse_recipe
from molsaki.config.student_settings import TrainingSettings
from molsaki.errors import ArtefactError, RecipeError
from molsaki.models.precision import FAST_ENOUGH, PrecisionChoice, measure_precision
from molsaki.stages import check, doctor
from molsaki.stages.check import open_workspace, prepare_values
from molsaki.stages.evaluate_student import in_test_precision
from molsaki.stages.workspace import Workspace
from molsaki.training.arguments import training_arguments

AUTO = ("training.precision=auto", "evaluation.dtype=auto")


def machine(monkeypatch: pytest.MonkeyPatch, speedup: float) -> None:
    monkeypatch.setattr(check, "measure_precision", lambda device: PrecisionChoice(device, speedup))


def precisions(workspace: Workspace) -> tuple[object, ...]:
    recipe = workspace.recipe
    return (*(recipe.training_of(one).precision for one in recipe.methods), recipe.evaluation.dtype)


@pytest.mark.parametrize(("speedup", "chosen"), [(FAST_ENOUGH, ("bf16", "bfloat16")), (1.4, ("float32", None))])
def test_auto_is_bfloat16_only_where_it_is_fast_enough(
    speedup: float, chosen: tuple[str, str | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, speedup)
    own = {"name": "molsaki", "training": {"precision": "float32"}}
    values = override(SMALL, AUTO) | {"methods": ["dss", own]}
    workspace = open_workspace(prepare_values(values), tmp_path / "run")
    assert precisions(workspace) == (chosen[0], "float32", chosen[1])
    assert workspace.run.manifest["precision"] == {"device": check.pick_device(), "speedup": speedup}
    written = (tmp_path / "run/recipe.yaml").read_text(encoding="utf-8")
    assert "precision: auto" not in written
    assert "dtype: auto" not in written


def test_a_method_may_ask_for_auto_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, 9.0)
    values = SMALL | {"methods": ["dss", {"name": "molsaki", "training": {"precision": "auto"}}]}
    assert precisions(open_workspace(prepare_values(values), tmp_path / "run")) == ("float32", "bf16", None)


def test_a_run_goes_on_in_its_precision_on_a_slower_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = prepare_values(override(SMALL, AUTO))
    machine(monkeypatch, 6.0)
    open_workspace(wanted, tmp_path / "run")
    machine(monkeypatch, 0.1)
    grown = wanted.model_copy(update={"seeds": (1, 2)})
    assert set(precisions(open_workspace(grown, tmp_path / "run"))) == {"bf16", "bfloat16"}
    assert set(precisions(open_workspace(wanted, tmp_path / "run", overwrite=True))) == {"float32", None}


def test_a_run_of_another_precision_is_refused_by_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_workspace(prepare_values(SMALL), tmp_path / "run")
    (tmp_path / "run/students").mkdir()
    machine(monkeypatch, 6.0)
    with pytest.raises(ArtefactError, match=r"training\.precision"):
        open_workspace(prepare_values(override(SMALL, AUTO[:1])), tmp_path / "run")
    machine(monkeypatch, 1.0)
    open_workspace(prepare_values(override(SMALL, AUTO)), tmp_path / "run")  # auto is what the run has


def test_the_screen_and_doctor_say_what_was_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, 6.0)
    workspace = open_workspace(prepare_values(override(SMALL, AUTO)), tmp_path / "run")
    said = "precision auto is bfloat16: a matrix product in bfloat16 is 6.0 times as fast"
    screen = io.StringIO()
    Console(rich.console.Console(file=screen, width=200)).begin(workspace)
    assert said in screen.getvalue()
    assert any(said in finding.text for finding in doctor._machine(workspace, doctor.probe_machine("cpu", "float32")))


def test_a_training_outside_a_run_needs_a_precision(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="precision"):
        training_arguments(TrainingSettings(precision="auto"), tmp_path, 1, show_progress=False, validating=False)


def test_a_device_without_bfloat16_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    assert measure_precision("cpu").speedup > 0

    def fail(_device: str, call: object) -> float:
        raise RuntimeError("not implemented for BFloat16")

    monkeypatch.setattr("molsaki.models.precision.time_call", fail)
    assert not measure_precision("cpu").is_bfloat16
    assert torch.ones(1).dtype == torch.float32
    assert parse_recipe(override(SMALL, AUTO)).training.precision == "auto"


def test_a_quantised_student_is_tested_as_it_is() -> None:
    """Its quantised weights have no other precision, and transformers refuses to convert them."""
    recipe = parse_recipe(override(SMALL, ["evaluation.dtype=bfloat16"]))
    model = make_llama()
    assert in_test_precision(recipe, model).dtype == torch.bfloat16
    quantised = make_llama()
    quantised.is_quantized = True
    assert in_test_precision(recipe, quantised).dtype == torch.float32
