"""What is saved is a plain transformers model that answers as the one in memory did."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch
import yaml
from huggingface_hub import ModelCard
from small_world import END, MODELS, TEMPLATES, make_examples, make_problems, make_tokenizer, train
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from molsaki.encoding.prompts import Prompt, PromptTemplate
from molsaki.evaluation.intervals import wilson_interval
from molsaki.evaluation.score import Score
from molsaki.models.decode import decode_batches
from molsaki.training.card import ScoredSet, model_card

FACTS = {
    "label": "molsaki",
    "seed": 5,
    "method": "molsaki",
    "summary": "answer: and\nrationale",
    "student": "small",
    "trained": "all weights",
    "student_layers": "",
    "writer": "`teacher`",
    "reader": "`teacher`",
    "reader_layers": "",
    "examples": 8,
    "task": "math",
    "steps": 12,
    "batch": 4,
    "prompt": TEMPLATES["predict"].ask("{question}"),
}


@pytest.fixture(scope="module", params=["llama", "gpt2", "tied llama"])
def saved(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    model, tied = request.param.split()[-1], request.param == "tied llama"
    student = MODELS[model](tie_word_embeddings=True) if tied else MODELS[model]()
    student, metrics = train(
        folder / "student",
        make_examples(folder / "attention"),
        student=student,
        steps=2,
        max_new_tokens=17,
        card=lambda: model_card(FACTS, {"method": {"beta": 1.0}}),
    )
    return student, metrics, folder / "student"


def test_it_loads_alone_with_all_its_weights_and_no_others(saved):
    student, _, folder = saved
    loaded, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert not info["mismatched_keys"]
    expected = student.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, expected[name]), name
    assert loaded.config.use_cache


def test_tied_weights_are_one_tensor_in_the_file_and_in_memory(saved):
    student, _, folder = saved
    tied = student.config.tie_word_embeddings
    names = safetensors.torch.load_file(folder / "model.safetensors").keys()
    assert any("lm_head" in name for name in names) is not tied
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    same = loaded.get_output_embeddings().weight is loaded.get_input_embeddings().weight
    assert same is tied


def test_the_router_lies_apart_and_no_pickle_and_no_checkpoint_is_left(saved):
    _, _, folder = saved
    names = {path.name for path in folder.rglob("*")}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "README.md"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pth", ".pkl"))]
    assert all(name.startswith("router.") for name in safetensors.torch.load_file(folder / "method.safetensors"))
    assert not [name for name in safetensors.torch.load_file(folder / "model.safetensors") if "router" in name]
    assert [path.name for path in folder.parent.glob("student*")] == ["student"]


def test_it_gives_the_answers_of_the_student_in_memory(saved):
    student, _, folder = saved
    tokenizer = AutoTokenizer.from_pretrained(folder)
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    prompts = [TEMPLATES["predict"].prompt(problem.text) for problem in make_problems(4)]
    answers = [
        [completion.text for batch in decode(model, tokenizer, prompts) for completion in batch]
        for model in (student, loaded)
    ]
    assert answers[0] == answers[1]
    assert any(answers[0])


def decode(model, tokenizer, prompts):
    return decode_batches(model, tokenizer, prompts, max_new_tokens=8, batch_size=2)


def test_its_generation_settings_are_greedy_and_stop(saved):
    _, _, folder = saved
    settings = GenerationConfig.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert settings.do_sample is False
    assert settings.eos_token_id == settings.pad_token_id == tokenizer.eos_token_id == 0
    assert settings.max_new_tokens == 17
    assert tokenizer.eos_token == END
    assert tokenizer("Tom").input_ids == make_tokenizer()("Tom").input_ids


def test_its_card_has_front_matter_that_is_yaml_and_code_that_runs(saved):
    _, _, folder = saved
    _, front, text = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    fields = yaml.safe_load(front)
    assert fields["pipeline_tag"] == "text-generation"
    assert "base_model" not in fields, "a directory is no name of the hub"
    assert "license" not in fields
    assert "answer: and rationale" in text
    line = next(line for line in text.splitlines() if line.startswith("    prompt = "))
    names = {}
    exec(line.strip(), names)  # noqa: S102 - a line of our own card
    assert names["prompt"] == "predict: …\n"


def test_its_front_matter_is_what_the_hub_reads():
    """Base, license and scores with intervals survive huggingface_hub's own reading."""
    scored = ScoredSet("svamp", "someone/svamp", "test", Score(3, 6, 1, 0, 0, wilson_interval(3, 10)))
    facts = {**FACTS, "student": "HuggingFaceTB/SmolLM2-135M-Instruct", "label": "a: b\n---\nlicense: mit"}
    data = ModelCard(model_card(facts, {}, [scored], adapter=True, license_name="apache-2.0")).data
    assert (data.base_model, data.license, data.library_name) == (facts["student"], "apache-2.0", "peft")
    (result,) = data.eval_results
    assert (result.dataset_type, result.dataset_split, result.metric_value) == ("someone/svamp", "test", 0.3)
    assert result.metric_args == {"n": 10, "level": 0.95, "interval": [0.1078, 0.6032]}


def test_a_prompt_with_braces_of_its_own_gives_a_card_that_runs():
    card = model_card({**FACTS, "prompt": Prompt('as {"json"}: {question}\n')}, {})
    line = next(line for line in card.splitlines() if line.startswith("    prompt = "))
    names = {}
    exec(line.strip(), names)  # noqa: S102 - a line of our own card
    assert names["prompt"] == 'as {"json"}: …\n'


def test_a_card_of_a_chat_asks_in_the_chat_template():
    prompt = PromptTemplate.parse('[system]\n{"s"}\n[user]\npredict: {question}\n[assistant]\n{label}').ask(
        "{question}"
    )
    lines = [line for line in model_card({**FACTS, "prompt": prompt}, {}).splitlines() if "messages" in line][:2]
    names = {}
    exec("\n".join(line.strip() for line in lines), names)  # noqa: S102 - lines of our own card
    assert names["messages"] == [
        {"role": "system", "content": '{"s"}'},
        {"role": "user", "content": "predict: …"},
    ]


def test_bf16_trains_and_saves_float32_weights(tmp_path, examples):
    student, metrics = train(tmp_path / "student", examples, model="llama", precision="bf16", steps=3)
    assert all(value.dtype == torch.float32 for value in student.state_dict().values())
    assert metrics["history"][0]["attention_loss"] > 0
