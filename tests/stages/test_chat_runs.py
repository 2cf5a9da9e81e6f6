"""Chats in a run: unsuitable chat templates are named before a teacher writes, and a run keeps its date."""

from __future__ import annotations

import datetime
import json

import pytest
import yaml
from helpers.chat_tokenizers import CHATML, DATED, THINKS, chat_tokenizer
from helpers.small_world import make_llama
from transformers.utils import chat_template_utils

from molsaki.encoding.chats import describe_prompt, render_prompt
from molsaki.encoding.encode import encode_student, encode_teacher
from molsaki.encoding.prompts import PromptTemplate
from molsaki.encoding.template_changes import ADDED_PARTS
from molsaki.errors import ArtefactError, RecipeError
from molsaki.models.load import tokenizer_at
from molsaki.stages import pipeline
from molsaki.stages.attend import reading_prompt
from molsaki.stages.check import open_workspace, prepare_values
from molsaki.stages.models_first import require_models
from molsaki.stages.workspace import Workspace
from molsaki.store.run_directory import MANIFEST_NAME
from molsaki.teacher.opening import open_writer, recipe_questions

TEACHER_CHAT = "[user]\n{question}\n[assistant]\n{rationale}"


@pytest.fixture
def make_run(tmp_path):
    """A run of a student with this chat template, which learns the pocket teacher's rationales."""

    def make(chat_template, **changes):
        folder = tmp_path / "model"
        if not folder.exists():
            tokenizer = chat_tokenizer(chat_template)
            tokenizer.save_pretrained(folder)
            make_llama(vocab_size=len(tokenizer), max_position_embeddings=400).save_pretrained(folder)
        recipe = {
            "name": "chats",
            "seeds": [1],
            "data": {
                "task": "pocket-math",
                "train": {"source": "pocket-math", "split": "train", "limit": 6},
                "tests": {"in-domain": {"source": "pocket-math", "split": "test", "limit": 2}},
            },
            "teacher": {"writer": {"name": "pocket:teacher"}},
            "rationales": {"max_new_tokens": 60},
            "prompts": {"predict": "chat", "explain": "chat"},
            "student": {"name": str(folder)},
            "methods": ["dss"],
            "training": {"steps": 1, "batch_size": 2},
            "evaluation": {"max_new_tokens": 3},
            **changes,
        }
        return open_workspace(prepare_values(recipe), tmp_path / "run")

    return make


class OtherDay(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2031, 5, 6)


def test_a_run_trains_and_tests_students_in_their_chat_template(make_run):
    workspace = make_run(CHATML)
    pipeline.generate(workspace)
    (result,) = pipeline.students(workspace)
    assert result.trained
    assert result.tested == ("in-domain",)
    card = (workspace.student("dss", 1) / "README.md").read_text()
    assert '"content": "predict: {question}"' in card
    assert yaml.safe_load((workspace.run.folder / "recipe.yaml").read_text())["prompts"]["predict"].startswith("[user]")


def test_a_student_and_a_reader_whose_template_takes_lists_of_parts_are_trained_read_and_said(make_run, tmp_path):
    parts = CHATML.replace("m['content']", "m['content'][0]['text']")
    teacher = {"writer": {"name": "pocket:teacher"}, "reader": {"name": str(tmp_path / "model")}}
    prompts = {"predict": "chat", "explain": "chat", "teacher": "Q: {question}\nA: {rationale}"}
    workspace = make_run(parts, teacher=teacher, prompts=prompts, methods=["molsaki"])
    notes = require_models(workspace.recipe)
    assert f"prompts.predict and prompts.explain: {ADDED_PARTS}" in notes
    pipeline.generate(workspace)
    pipeline.attend(workspace)
    (result,) = pipeline.students(workspace)
    assert result.tested == ("in-domain",)
    saved = tokenizer_at(str(workspace.student("molsaki", 1)))
    turns = [{"role": "user", "content": "1 + 1?"}]
    assert saved.apply_chat_template(turns, tokenize=False) == "<|im_start|>user\n1 + 1?<|im_end|>\n"


def test_a_teacher_whose_template_takes_lists_of_parts_writes_in_its_chat(make_run, tmp_path):
    parts = CHATML.replace("m['content']", "m['content'][0]['text']")
    teacher = {"writer": {"name": str(tmp_path / "model")}}
    workspace = make_run(parts, teacher=teacher, prompts={"teacher": TEACHER_CHAT}, rationales={"max_new_tokens": 3})
    assert f"prompts.teacher, {tmp_path / 'model'}: {ADDED_PARTS}" in require_models(workspace.recipe)
    writer = open_writer(workspace.recipe, to_show=True)
    assert (
        writer.show(recipe_questions(workspace.recipe).rationale.ask("1 + 1?"))
        == "<|im_start|>user\n1 + 1?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_an_unsuitable_chat_template_stops_a_run_before_rationales_are_written(make_run):
    workspace = make_run(None)
    with pytest.raises(RecipeError, match=r"student: Expected .* chat template"):
        require_models(workspace.recipe)


def test_a_finished_answer_that_is_written_otherwise_is_a_note_and_has_a_remedy(make_run, tmp_path):
    workspace = make_run(THINKS)
    (note,) = [note for note in require_models(workspace.recipe) if "<think>" in note]
    assert note.startswith("prompts.predict and prompts.explain: ")
    assert "enable_thinking: false" in note
    student = {"name": str(tmp_path / "model"), "chat_template_kwargs": {"enable_thinking": False}}
    again = prepare_values({**workspace.recipe.model_dump(mode="json"), "student": student})
    assert not any("<think>" in note for note in require_models(again))


def test_a_run_that_goes_on_another_day_has_the_same_tokens(make_run, monkeypatch):
    workspace = make_run(DATED, prompts={"predict": "chat", "explain": "chat", "teacher": TEACHER_CHAT})
    tokenizer = chat_tokenizer(DATED)

    def tokens(workspace):
        explain, teacher = workspace.template("explain"), workspace.template("teacher")
        writing = recipe_questions(workspace.recipe, workspace.run.date).rationale
        return (
            encode_student(tokenizer, explain, "1 + 1?", "2.", 400).input_ids,
            encode_teacher(tokenizer, teacher, "1 + 1?", "2.", 400).input_ids,
            encode_teacher(tokenizer, reading_prompt(workspace, tokenizer), "1 + 1?", "2.", 400).input_ids,
            render_prompt(tokenizer, writing.ask("1 + 1?")),
            describe_prompt(tokenizer, teacher),
        )

    before = tokens(workspace)
    today = datetime.datetime.fromisoformat(workspace.run.manifest["created"]).strftime("Today: %d %b %Y")
    assert today in tokenizer.decode(before[0])
    assert today in before[3]
    monkeypatch.setattr(chat_template_utils, "datetime", OtherDay)
    assert "06 May 2031" in render_prompt(tokenizer, PromptTemplate.parse(TEACHER_CHAT).ask("1 + 1?"))
    assert tokens(Workspace.open(workspace.run.folder)) == before


def test_fingerprints_are_of_the_chat_template_and_not_of_its_day(make_run):
    workspace = make_run(DATED, prompts={"predict": "chat", "explain": "chat", "teacher": TEACHER_CHAT})
    tokenizer, path = chat_tokenizer(DATED), workspace.run.folder / MANIFEST_NAME
    described = describe_prompt(tokenizer, workspace.template("teacher"))
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "created": "2020-01-02T03:04:05+00:00"}))
    other = Workspace.open(workspace.run.folder)
    assert "Today: 02 Jan 2020" in reading_prompt(other, tokenizer).before
    assert describe_prompt(tokenizer, other.template("teacher")) == described
    tokenizer.chat_template = DATED.replace("Today", "Date")
    assert describe_prompt(tokenizer, other.template("teacher")) != described
    path.write_text(json.dumps({**manifest, "created": "yesterday"}))
    with pytest.raises(ArtefactError, match="creation"):
        Workspace.open(workspace.run.folder).template("explain")
