"""`molsaki evaluate --model`: any model on a recipe's sets, local or served, greedy or sampled, killed and resumed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import molsaki, recipe
from peft import LoraConfig, get_peft_model
from servers import Server
from transformers import AutoModelForCausalLM

from molsaki.config.model_spec import ModelSpec, ServerSpec
from molsaki.data import load_problems
from molsaki.data.pocket import STUDENT, TEACHER
from molsaki.encoding.prompts import PREDICT, PromptTemplate
from molsaki.errors import ArtefactError, InputError
from molsaki.stages.score_model import ScoreSettings, _require_settings, evaluation_name, pass_at_k
from molsaki.stages.workspace import Workspace

ROWS = 8
PROBLEMS = load_problems("pocket-math", split="test", limit=ROWS).problems
LABELS = {problem.text: problem.label for problem in PROBLEMS}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    sets = f"data.tests={{in-domain: {{source: pocket-math, split: test, limit: {ROWS}}}}}"
    return recipe(tmp_path, sets, "methods=[label-only]", "baseline=null")


def answers(share: int):
    """Right answers but for every `share`-th problem; a seed that is odd is wrong too."""

    def behave(_: int, body: dict[str, Any]) -> str:
        question = body["prompt"].partition("predict: ")[2].rstrip("\n")
        place = [problem.text for problem in PROBLEMS].index(question)
        wrong = place % share == 0 or (body["temperature"] and body["seed"] % 2)
        return "( 1 - 1 )" if wrong else LABELS[question]

    return behave


def scored(folder: Path, name: str) -> list[dict[str, Any]]:
    return json.loads((folder / "evaluations" / name / "scores.json").read_text())


def evaluate(path: Path, out: Path, *more: str | Path):
    return molsaki("evaluate", path, "--out", out, *more)


def ask(path: Path, out: Path, server: Server, *more: str):
    return evaluate(path, out, "--model", "m", "--server", server.url, *more)


def test_a_served_model_is_scored_as_a_student_is(path: Path, tmp_path: Path) -> None:
    with Server(answers(4)) as server:
        shown = ask(path, tmp_path / "out", server)
    assert shown.code == 0, shown.text
    (score,) = scored(tmp_path / "out", "m")
    assert (score["problems"], score["outcomes"]["correct"], score["outcomes"]["wrong"]) == (ROWS, 6, 2)
    assert score["accuracy"] == 0.75
    assert "75.0" in shown.text


def test_fields_of_requests_can_be_renamed_left_out_and_added(path: Path, tmp_path: Path) -> None:
    renamed = ("field_names={max_tokens: max_completion_tokens, temperature: null}", "extra_body.reasoning_effort=low")
    more = [part for setting in renamed for part in ("--server-set", setting)]

    def behave(_: int, body: dict[str, Any]) -> str:
        return answers(4)(0, {**body, "temperature": 0})

    with Server(behave) as server:
        assert ask(path, tmp_path / "out", server, *more, "--max-new-tokens", "9").code == 0
        body = server.asked[0][0]
        assert {key: body[key] for key in body.keys() - {"prompt", "model"}} == {
            "max_completion_tokens": 9,
            "reasoning_effort": "low",
            **({"stop": body["stop"]} if "stop" in body else {}),
        }
        shown = ask(path, tmp_path / "out", server, "--server-set", "extra_body.reasoning_effort=high")
        assert (shown.code, "extra_body" in shown.error) == (2, True)
        for setting, problem in (("steam=true", "steam"), ("stream", "--server-set stream")):
            shown = ask(path, tmp_path / "out", server, "--server-set", setting)
            assert (shown.code, problem in shown.error) == (2, True), shown.error
    shown = evaluate(path, tmp_path / "out", "--model", "pocket:student", "--server-set", "stream=true")
    assert (shown.code, "stream" in shown.error) == (2, True)


def test_what_was_asked_is_not_asked_again(path: Path, tmp_path: Path) -> None:
    def behave(number: int, body: dict[str, Any]) -> str:
        return "<refuse> no" if number >= 5 else answers(4)(number, body)

    with Server(behave) as server:
        assert ask(path, tmp_path / "out", server).code == 2
    kept = (tmp_path / "out/evaluations/m/completions.jsonl").read_text().splitlines()
    assert 0 < len(kept) < ROWS
    with Server(answers(4)) as server:
        assert ask(path, tmp_path / "out", server).code == 0
        assert len(server.asked) == ROWS - len(kept)
    assert scored(tmp_path / "out", "m")[0]["accuracy"] == 0.75


def test_samples_give_pass_at_k(path: Path, tmp_path: Path) -> None:
    with Server(answers(4)) as server:
        shown = ask(path, tmp_path / "out", server, "--samples", "4", "--temperature", "1")
    assert shown.code == 0, shown.text
    (score,) = scored(tmp_path / "out", "m")
    assert score["samples"] == 4
    assert score["pass_at"]["1"] == pytest.approx(score["accuracy"])
    assert score["pass_at"]["1"] < score["pass_at"]["2"] <= score["pass_at"]["4"] <= 0.75


def test_other_settings_under_the_same_name_are_refused(path: Path, tmp_path: Path) -> None:
    with Server(answers(4)) as server:
        ask(path, tmp_path / "out", server)
        shown = ask(path, tmp_path / "out", server, "--max-new-tokens", "9")
        assert shown.code == 2
        assert "max_new_tokens" in shown.error
        assert ask(path, tmp_path / "out", server, "--max-new-tokens", "9", "--name", "short").code == 0


@pytest.mark.parametrize("setting", ["field_names.seed=null", "extra_body.min_p=5e-2"])
def test_other_requests_under_the_same_name_are_refused(path: Path, tmp_path: Path, setting: str) -> None:
    with Server(answers(4)) as server:
        ask(path, tmp_path / "out", server)
        shown = ask(path, tmp_path / "out", server, "--server-set", setting)
    assert shown.code == 2
    assert setting.partition(".")[0] in shown.error


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_another_adapter_or_base_under_the_same_name_is_another_model(tmp_path: Path) -> None:
    """Its folder's answers would be given out as those of the one that is there now."""
    student, adapter = shutil.copytree(STUDENT, tmp_path / "base"), tmp_path / "adapter"
    for seed in (0, 1):
        torch.manual_seed(seed)
        config = LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False)
        get_peft_model(AutoModelForCausalLM.from_pretrained(student), config).save_pretrained(tmp_path / str(seed))
    shutil.copytree(tmp_path / "0", adapter)
    spec, settings = ModelSpec(name=str(adapter)), ScoreSettings(PromptTemplate.parse(PREDICT))
    _require_settings(tmp_path / "settings.json", spec, settings, begun=True)
    _require_settings(tmp_path / "settings.json", spec, settings, begun=True)
    shutil.copyfile(tmp_path / "1/adapter_model.safetensors", adapter / "adapter_model.safetensors")
    with pytest.raises(ArtefactError, match="weights"):
        _require_settings(tmp_path / "settings.json", spec, settings, begun=True)
    shutil.copyfile(tmp_path / "0/adapter_model.safetensors", adapter / "adapter_model.safetensors")
    _require_settings(tmp_path / "settings.json", spec, settings, begun=True)
    shutil.copyfile(TEACHER / "model.safetensors", student / "model.safetensors")
    with pytest.raises(ArtefactError, match="weights"):
        _require_settings(tmp_path / "settings.json", spec, settings, begun=True)


def test_thinking_that_is_cut_off_is_counted(path: Path, tmp_path: Path) -> None:
    cut = {"choices": [{"text": "<think>Let me see", "finish_reason": "length"}], "usage": {}}
    with Server(lambda *_: f"<raw> {json.dumps(cut)}") as server:
        shown = ask(path, tmp_path / "out", server, "--prompt", "teacher")
    assert shown.code == 0, shown.text
    (score,) = scored(tmp_path / "out", "m")
    assert score["thinking_cut"] == score["outcomes"]["cut"] == ROWS


def test_a_local_model_answers_the_recipes_sets(path: Path, tmp_path: Path) -> None:
    shown = evaluate(path, tmp_path / "out", "--model", "pocket:teacher", "--prompt", "teacher")
    assert shown.code == 0, shown.text
    assert scored(tmp_path / "out", "pocket-teacher")[0]["problems"] == ROWS


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(
            ("--server", "x"),
            ("--protocol", "chat"),
            ("--api-key-env", "KEY"),
            ("--name", "x"),
            ("--prompt", "teacher"),
        ),
        *(("--samples", "2"), ("--temperature", "0"), ("--max-new-tokens", "9")),
    ],
)
def test_options_of_a_model_without_one_are_refused(path: Path, tmp_path: Path, option: str, value: str) -> None:
    shown = evaluate(path, tmp_path / "out", option, value)
    assert shown.code == 2
    assert option in shown.error


def test_workers_which_train_no_model_that_is_scored_are_refused(path: Path, tmp_path: Path) -> None:
    shown = evaluate(path, tmp_path / "out", "--model", "pocket:student", "--workers", "2")
    assert shown.code == 2
    assert "--workers" in shown.error


def test_several_greedy_samples_are_refused(path: Path, tmp_path: Path) -> None:
    shown = evaluate(path, tmp_path / "out", "--model", "pocket:student", "--samples", "2")
    assert shown.code == 2
    assert "--temperature" in shown.error


def test_a_prompt_that_is_none_is_refused_without_its_text(path: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("a key", encoding="utf-8")
    for name in ("secret.txt", "nothing.txt"):
        shown = evaluate(path, tmp_path / "out", "--model", "pocket:student", "--prompt", tmp_path / name)
        assert shown.code == 2
        assert "a key" not in shown.text + shown.error
    assert molsaki("evaluate", "--help").code == 0


def test_pass_at_k_is_the_share_of_subsets_with_a_right_sample() -> None:
    assert pass_at_k([0, 1, 4], 4, 1) == pytest.approx((0 + 1 / 4 + 1) / 3)
    assert pass_at_k([0, 1, 4], 4, 2) == pytest.approx((0 + 1 / 2 + 1) / 3)
    assert pass_at_k([0, 1, 4], 4, 4) == pytest.approx(2 / 3)


def test_names_are_safe_folders() -> None:
    assert evaluation_name("owner/A model:7b") == "A-model-7b"
    with pytest.raises(InputError):
        evaluation_name("m", "../x")


def test_a_try_that_failed_before_an_answer_holds_no_name(tmp_path: Path) -> None:
    prompt = ScoreSettings(PromptTemplate.parse(PREDICT))
    for name in ("a", "b"):
        spec = ServerSpec(base_url="http://localhost:1/v1", model=name)
        _require_settings(tmp_path / "settings.json", spec, prompt, begun=False)
    with pytest.raises(ArtefactError, match="model"):
        _require_settings(tmp_path / "settings.json", ServerSpec(base_url="http://x/v1", model="a"), prompt, begun=True)


def test_a_chat_is_asked_on_the_day_of_the_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the run's own students are; a template may print the date."""
    asked: list[ScoreSettings] = []

    def note(_workspace: Any, _name: str, _spec: Any, settings: ScoreSettings, _progress: Any) -> list[Any]:
        asked.append(settings)
        raise InputError("stop here")

    monkeypatch.setattr("molsaki.stages.score_model.score_model", note)
    chat = tmp_path / "chat.txt"
    chat.write_text("[user]\n{question}\n[assistant]\n{label}\n", encoding="utf-8")
    evaluate(path, tmp_path / "out", "--model", "m", "--server", "http://localhost:1/v1", "--prompt", chat)
    assert [one.prompt.date for one in asked] == [Workspace.open(tmp_path / "out").run.date]
