"""Every method from a recipe's first stage to its results, each student asked with the prompt that it answers."""

from __future__ import annotations

import html
import json
import shutil
from pathlib import Path

import pytest
from commands import Shown, files, molsaki, recipe, run
from transformers import AutoModelForCausalLM, AutoTokenizer

from molsaki.analysis import student_encoder
from molsaki.answers.parse import parse_answer
from molsaki.config.load import parse_recipe
from molsaki.config.prompt_settings import PromptSettings
from molsaki.config.student_settings import EvaluationSettings
from molsaki.data.pocket import STUDENT
from molsaki.errors import ArtefactError
from molsaki.models.decode import decode_batches
from molsaki.report.routers import router_weights
from molsaki.stages.check import open_workspace
from molsaki.stages.pipeline import student_jobs
from molsaki.stages.references import UNTRAINED
from molsaki.stages.signal_checks import check_signal
from molsaki.stages.signals import NEXT_TOKENS, make_signal, needed_signals, open_store
from molsaki.stages.workspace import Workspace
from molsaki.store.signal_reader import SignalStore

LABELS = ("cot", "mmi", "single-layer", "options", "heads", "attention-map", "logits", "words", "oracle")
IN_ONE_SEQUENCE = ("cot", "oracle")
"""Those that learn the rationale and then the answer."""
READ = ("steps", "heads", "words", "steps-on-words", NEXT_TOKENS)
"""The signals that these methods compare."""
SETTINGS = (
    "methods=[cot, mmi, {name: single-layer, teacher_layers: [1, 2]}, cot, cot, attention-map, cot, cot, cot]",
    "methods.3={name: molsaki, label: options}",
    "methods.4={name: molsaki, label: heads, heads: each}",
    "methods.6={name: logits, temperature: 2}",
    "methods.7={name: molsaki, label: words, rows: words, beta: {gradient: 0.1}}",
    "methods.8={name: molsaki, label: oracle, target: oracle, columns: all, sequences: one}",
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
    "evaluation.untrained=true",
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


def test_each_signal_has_a_store_of_its_own_that_is_checked(world: tuple[Path, Shown]) -> None:
    folder, shown = world
    manifest = json.loads((folder / "stages/attend.json").read_text(encoding="utf-8"))["signals"]
    assert list(manifest) == list(READ)
    assert [path.name for path in (folder / "stages").glob("attend*")] == ["attend.json"]
    rows = dict(
        zip(READ, ("4 layers", "16 heads of 4 layers", "4 layers", "4 layers", "the 32 likeliest"), strict=True)
    )
    for name, row in rows.items():
        store = SignalStore(folder / "attention" / name)
        assert store.fingerprint == manifest[name]["fingerprint"]
        assert f"{manifest[name]['title']}: {len(store)} of {len(store)} rationales read, {row}" in shown.text
    checked = molsaki("attend", folder.parent / "recipe.yaml", "--out", folder, "--check")
    assert checked.code == 0, checked.error
    assert checked.text.count(" store: ") == len(READ)
    steps, words = (SignalStore(folder / "attention" / name) for name in ("steps", "words"))
    assert all(words.sizes(row)["steps"] > steps.sizes(row)["steps"] for row in words.ids())


def test_the_page_of_a_run_has_every_view_and_a_weight_for_each_layer(
    world: tuple[Path, Shown], tmp_path: Path
) -> None:
    shutil.copytree(world[0], tmp_path / "run")
    shown = molsaki("report", tmp_path / "run", "--rows", "2")
    assert shown.code == 0, shown.error
    page = (tmp_path / "run/report.html").read_text(encoding="utf-8")
    for title in (
        "attention",
        "attention of each head",
        "attention of words",
        "attention of steps on words",
        "next tokens",
    ):
        assert f"teacher's {title}: " in html.unescape(page)
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


def test_a_store_of_another_signal_is_refused(world: tuple[Path, Shown], tmp_path: Path) -> None:
    shutil.copytree(world[0] / "attention", tmp_path / "run/attention")
    for name in ("recipe.yaml", "manifest.json"):
        shutil.copy(world[0] / name, tmp_path / "run" / name)
    workspace, folder = Workspace.open(tmp_path / "run"), tmp_path / "run/attention"
    for name, other in zip(READ, (*READ[1:], READ[0]), strict=True):
        assert len(open_store(workspace, name))
        kept = (folder / name).rename(tmp_path / "kept")
        (folder / other).rename(folder / name)
        with pytest.raises(ArtefactError, match=f'signal: found "{other}", requested "{name}"'):
            open_store(workspace, name)
        (folder / name).rename(folder / other)
        kept.rename(folder / name)


@pytest.mark.parametrize("label", IN_ONE_SEQUENCE)
def test_a_student_of_one_sequence_is_asked_for_its_reasons(world: tuple[Path, Shown], label: str) -> None:
    folder = world[0] / f"students/{label}-1"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    problems = rows(world[0] / "data/in-domain.jsonl")
    prompts = [f"reason: {problem['question']}\n" for problem in problems]
    batches = decode_batches(model, tokenizer, prompts, max_new_tokens=40, batch_size=8)
    written = {completion.index: completion.text for batch in batches for completion in batch}
    answers = rows(world[0] / f"predictions/{label}-1/in-domain.jsonl")
    assert [row["output"] for row in answers] == [written[i] for i in range(8)]
    assert [row["status"] for row in answers] == [parse_answer(written[i]).status for i in range(8)]
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert 'prompt = "reason: {question}\\n"' in card
    settings = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    assert settings["max_new_tokens"] == 40
    explained = rows(world[0] / f"predictions/{label}-1/explanations/in-domain.jsonl")
    assert [row["output"] for row in explained] == [row["output"] for row in answers], "it is the same text"
    assert len(rows(world[0] / "predictions/mmi-1/explanations/in-domain.jsonl")) == 8


def test_the_untrained_student_is_asked_as_the_first_methods_students_are(world: tuple[Path, Shown]) -> None:
    workspace = Workspace.open(world[0])
    model, tokenizer = AutoModelForCausalLM.from_pretrained(STUDENT), AutoTokenizer.from_pretrained(STUDENT)
    problems = rows(world[0] / "data/in-domain.jsonl")
    prompts = [f"reason: {problem['question']}\n" for problem in problems]
    batches = decode_batches(model, tokenizer, prompts, max_new_tokens=40, batch_size=8)
    written = {completion.index: completion.text for batch in batches for completion in batch}
    assert [row["output"] for row in rows(workspace.predictions(UNTRAINED, 1, "in-domain"))] == list(
        map(written.get, range(8))
    )


def test_a_student_that_is_scored_alone_is_asked_as_it_was_trained(world: tuple[Path, Shown], tmp_path: Path) -> None:
    shutil.copytree(world[0], tmp_path / "run")
    student = tmp_path / "run/students/oracle-1"
    shown = molsaki(
        "evaluate",
        world[0].parent / "recipe.yaml",
        *("--out", tmp_path / "run", "--model", student, "--name", "alone", "--max-new-tokens", "40"),
    )
    assert shown.code == 0, shown.error
    answers = rows(tmp_path / "run/evaluations/alone/completions.jsonl")
    of_set = {row["id"]: row["text"] for row in answers if row["set"] == "in-domain"}
    tested = rows(world[0] / "predictions/oracle-1/in-domain.jsonl")
    assert of_set == {row["id"]: row["output"] for row in tested}


def test_answers_and_rationales_have_bounds_of_their_own() -> None:
    settings = EvaluationSettings(max_new_tokens=5, max_rationale_tokens=70)
    bounds = {name: settings.bound_for(PromptSettings().template(name)) for name in ("predict", "explain", "reason")}
    assert bounds == {"predict": 5, "explain": 70, "reason": 70}


def test_next_tokens_are_stored_proved_and_learned_from(world: tuple[Path, Shown]) -> None:
    folder = world[0]
    assert "next tokens: " in world[1].text
    manifest = json.loads((folder / "stages/attend.json").read_text(encoding="utf-8"))["signals"][NEXT_TOKENS]
    assert manifest["fingerprint"]["temperatures"] == "1 2"
    metrics = json.loads((folder / "students/logits-1/metrics.json").read_text(encoding="utf-8"))
    assert any("compared with the teacher's next tokens" in note for note in metrics["notes"])
    compared = metrics["compared_tokens"]
    assert compared["numbers"]["tokens"] > 0
    assert compared["numbers"]["compared"] > 0, "tokenizers cut numbers differently"
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    shares = next(row["compared_tokens"] for row in results if row["method"] == "logits")
    assert shares["numbers"] == compared["numbers"]["compared"] / compared["numbers"]["tokens"]
    losses = [entry["logits_loss"] for entry in metrics["history"] if "logits_loss" in entry]
    assert losses
    assert all(loss > 0 for loss in losses)
    checked = molsaki("attend", folder / "recipe.yaml", "--out", folder, "--check")
    assert checked.code == 0, checked.error
    assert "next tokens store: " in checked.text
    shard = next((folder / "attention" / NEXT_TOKENS).glob("*.safetensors"))
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
    rules = make_signal(there, NEXT_TOKENS).rules()
    assert make_signal(grown, NEXT_TOKENS).rules() == rules, "1 is always kept"
    alone = parse_recipe({**values, "methods": [plain], "baseline": None})
    assert make_signal(Workspace(grown.run, alone), NEXT_TOKENS).rules() == rules, "more than it asks for serves it"
    before = files(tmp_path / "run")
    with pytest.raises(ArtefactError, match=r"1, 2; got 1, 2, 4\."):
        open_workspace(
            parse_recipe({**values, "methods": [*values["methods"], {**plain, "label": "hot", "temperature": 4}]}),
            tmp_path / "run",
        )
    assert files(tmp_path / "run") == before


def test_a_run_that_got_a_method_with_another_signal_reads_that_signal_alone(
    world: tuple[Path, Shown], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(world[0], out)
    stage = out / "stages/attend.json"
    manifest = json.loads(stage.read_text(encoding="utf-8"))["signals"]
    read = manifest.pop(NEXT_TOKENS)
    stage.write_text(json.dumps({"signals": manifest}), encoding="utf-8")
    for shard in (out / "attention" / NEXT_TOKENS).glob("shard-*"):
        shard.unlink()
    workspace = Workspace.open(out)
    with pytest.raises(ArtefactError, match=r"next tokens in .* Run `molsaki attend`"):
        student_jobs(workspace)
    found = check_signal(workspace, NEXT_TOKENS)
    assert found.ok, found.problems
    assert found.waiting == read["kept"]
    others = {name: data for name, data in files(out / "attention").items() if not name.startswith(NEXT_TOKENS)}
    assert run(world[0].parent / "recipe.yaml", out, command="attend").code == 0
    assert json.loads(stage.read_text(encoding="utf-8"))["signals"] == {**manifest, NEXT_TOKENS: read}
    assert files(out / "attention").items() >= others.items(), "the others are as they were, byte for byte"


def test_a_recipe_needs_the_signals_that_its_methods_compare(world: tuple[Path, Shown]) -> None:
    values = Workspace.open(world[0]).recipe.model_dump(mode="json")
    for methods, needed in (
        (["cot", "dss"], []),
        (["logits"], [NEXT_TOKENS]),
        (["attention-map", {"name": "molsaki", "rows": "words"}], ["words"]),
        ([{"name": "molsaki", "columns": "all-but-keys"}, "single-layer"], ["steps", "steps-on-words"]),
        ([{"name": "molsaki", "heads": "each"}, {"name": "molsaki", "label": "mean"}], ["steps", "heads"]),
    ):
        assert needed_signals(parse_recipe({**values, "methods": methods, "baseline": None})) == needed


def test_a_run_of_an_earlier_version_says_what_to_do(world: tuple[Path, Shown], tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(world[0], out)
    manifest = json.loads((out / "stages/attend.json").read_text(encoding="utf-8"))["signals"]["steps"]
    (out / "stages/attend.json").write_text(json.dumps({**manifest, "layers": 4, "stored": "all"}), encoding="utf-8")
    for command in ("attend", "train"):
        shown = run(world[0].parent / "recipe.yaml", out, command=command)
        assert shown.code == 2
        assert "attend.json" in shown.error
        assert "`molsaki attend`" in shown.error


def test_one_sequence_is_validated_by_its_answers_alone(world: tuple[Path, Shown]) -> None:
    for label in LABELS:
        history = json.loads((world[0] / f"students/{label}-1/metrics.json").read_text(encoding="utf-8"))["history"]
        evaluated = [entry for entry in history if "eval_accuracy" in entry]
        assert len(evaluated) == 2
        assert all(("eval_loss" in entry) is (label not in IN_ONE_SEQUENCE) for entry in evaluated)
