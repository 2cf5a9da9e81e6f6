"""Directories that are not the model that they say: each is refused with one message that names what is wrong."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PrefixTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tiny_models import ARCHITECTURES, make_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from molsaki.config.load import parse_recipe, read_recipe
from molsaki.config.model_spec import ModelSpec
from molsaki.data.pocket import STUDENT, TEACHER
from molsaki.errors import InputError
from molsaki.models import fingerprint
from molsaki.models.checkpoint import weight_files
from molsaki.models.fingerprint import model_fingerprint
from molsaki.models.load import load_model, model_at, tokenizer_at
from molsaki.models.outline import outline_model

# peft asks transformers for a name that is going away.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

RECIPE = parse_recipe(read_recipe("pocket"))
Q_PROJ = "model.layers.1.self_attn.q_proj.weight"
NORM = "model.layers.0.input_layernorm.weight"


@pytest.fixture
def student(tmp_path: Path) -> Path:
    return shutil.copytree(STUDENT, tmp_path / "student")


def edit(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def rename(folder: Path) -> None:
    edit(folder, lambda w: w.update({f"layers.{Q_PROJ}": w.pop(Q_PROJ)}))


def as_pickle(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def hostile_pickle(folder: Path) -> None:
    class Attack:
        def __reduce__(self) -> Any:
            return (Path.touch, (folder / "ran",))

    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Attack()))
    (folder / "model.safetensors").unlink()


def truncate(folder: Path, name: str = "model.safetensors", keep: float = 0.5) -> None:
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: int(len(data) * keep)])


def replace(path: Path, make: Callable[[Path], Any]) -> None:
    path.unlink()
    make(path)


def in_parts(folder: Path) -> None:
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder, max_shard_size="200KB")
    (folder / "model.safetensors").unlink(missing_ok=True)


def lose_a_part(folder: Path) -> None:
    in_parts(folder)
    sorted(folder.glob("model-*.safetensors"))[0].unlink()


def break_index(folder: Path) -> None:
    in_parts(folder)
    (folder / "model.safetensors.index.json").write_text('{"metadata": {}}')


def another_config(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))


def untied_config(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))


def classifier(folder: Path) -> None:
    config = BertConfig(vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    BertForSequenceClassification(config).save_pretrained(folder)


def config_of_strings(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_size": "wide"}))


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (lambda folder: edit(folder, lambda w: w.pop(Q_PROJ)), f"1 missing ({Q_PROJ})"),
    "renamed": (rename, f"1 missing ({Q_PROJ}); 1 surplus (layers.{Q_PROJ})"),
    "surplus": (lambda folder: edit(folder, lambda w: w.update(extra=w[NORM].clone())), "1 surplus (extra)"),
    "misshapen": (lambda folder: edit(folder, lambda w: w.update({NORM: w[NORM][:8].clone()})), f"({NORM} [8]"),
    "empty": (
        lambda folder: save_file({}, folder / "model.safetensors", {"format": "pt"}),
        "missing (lm_head.weight, model.",
    ),
    "a layer too few": (another_config, "model.layers.2."),
    "without its head": (untied_config, "1 missing (lm_head.weight)"),
    "a classifier": (classifier, "surplus (bert.pooler.dense.bias, bert.pooler.dense.weight, classifier.bias"),
    "a pickle": (as_pickle, "pytorch_model.bin"),
    "a hostile pickle": (hostile_pickle, "pytorch_model.bin"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "no weights"),
    "cut in the middle": (truncate, "student"),
    "cut in its header": (lambda folder: truncate(folder, keep=0.001), "student"),
    "nothing in the file": (lambda folder: truncate(folder, keep=0), "student"),
    "not safetensors": (lambda folder: (folder / "model.safetensors").write_bytes(b"GGUF" * 100), "student"),
    "a part lost": (lose_a_part, "model-00001"),
    "a broken index": (break_index, "student"),
    "a cut configuration": (lambda folder: truncate(folder, "config.json"), "config.json"),
    "a configuration of strings": (config_of_strings, "student"),
    "no configuration": (lambda folder: (folder / "config.json").unlink(), "student"),
    "no directory": (shutil.rmtree, "got no directory"),
    "a pipe for weights": (
        lambda folder: replace(folder / "model.safetensors", os.mkfifo),
        "model.safetensors, a pipe",
    ),
    "a device for a configuration": (
        lambda folder: replace(folder / "config.json", lambda path: path.symlink_to("/dev/zero")),
        "config.json, a pipe or a device",
    ),
    "a configuration without end": (lambda folder: os.truncate(folder / "config.json", 1 << 40), "bytes"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_model_is_refused_by_name_and_never_filled_with_random_weights(student: Path, name: str) -> None:
    change, named = BROKEN[name]
    change(student)
    with pytest.raises(InputError) as caught:
        model_at(str(student))
    message = str(caught.value)
    assert named in message
    assert str(student) in message
    assert len(message) < 1500
    assert message.count("\n") == 0
    assert not (student / "ran").exists()


TOKENIZERS: dict[str, Callable[[Path], Any]] = {
    "cut": lambda folder: truncate(folder, "tokenizer.json"),
    "empty": lambda folder: truncate(folder, "tokenizer.json", keep=0),
    "no JSON object": lambda folder: (folder / "tokenizer.json").write_text("[]"),
    "no tokenizer in it": lambda folder: (folder / "tokenizer.json").write_text("{}"),
    "missing": lambda folder: [path.unlink() for path in folder.glob("tokenizer*")],
    "a pipe": lambda folder: replace(folder / "tokenizer.json", os.mkfifo),
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_broken_tokenizer_is_one_message(student: Path, name: str) -> None:
    TOKENIZERS[name](student)
    with pytest.raises(InputError, match="tokenizer") as caught:
        tokenizer_at(str(student))
    assert str(student) in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_tokenizer_of_another_model_with_more_tokens_is_refused(student: Path) -> None:
    shutil.copy(TEACHER / "tokenizer.json", student / "tokenizer.json")
    edit(student, lambda w: w.update({"model.embed_tokens.weight": w["model.embed_tokens.weight"][:512].clone()}))
    config = json.loads((student / "config.json").read_text())
    (student / "config.json").write_text(json.dumps({**config, "vocab_size": 512}))
    spec = ModelSpec(name=str(student))
    for opened in (load_model, outline_model):
        with pytest.raises(InputError, match="512 embeddings; got ids up to 1023"):
            opened(RECIPE, spec, tokenizer_at(str(student)))


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_model_is_refused_before_its_weights_are_read(student: Path, name: str) -> None:
    """A run would find it only when the student is trained, after the teacher has written and been read."""
    tokenizer, spec = tokenizer_at(str(student)), ModelSpec(name=str(student))
    assert outline_model(RECIPE, spec, tokenizer).parameters > 0
    change, named = BROKEN[name]
    change(student)
    with pytest.raises(InputError) as caught:
        outline_model(RECIPE, spec, tokenizer)
    assert named in str(caught.value)


def test_the_page_names_no_case_that_is_not_tested() -> None:
    page = (Path(__file__).parents[2] / "docs/robustness.md").read_text(encoding="utf-8")
    table = page.split("## Model directories")[1]
    cases = re.findall(r"\| `(\w+)(?:\[(.+)\])?` \|", table)
    assert len(cases) > 7
    for name, case in cases:
        assert name in globals()
        assert not case or case in globals()[name]


# What looks broken and is not.


def test_tied_embeddings_stored_once_or_twice_load(student: Path) -> None:
    whole = model_at(str(student)).state_dict()
    edit(student, lambda w: w.update({"lm_head.weight": w["model.embed_tokens.weight"].clone()}))
    twice = model_at(str(student)).state_dict()
    assert all(torch.equal(whole[name], twice[name]) for name in whole)


def test_buffers_that_older_versions_saved_are_no_surplus(student: Path, tmp_path: Path) -> None:
    edit(student, lambda w: w.update({"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(16)}))
    model_at(str(student))
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_positions=32, n_embd=16, n_layer=1, n_head=2))
    gpt2.save_pretrained(tmp_path / "gpt2")
    edit(tmp_path / "gpt2", lambda w: w.update({"h.0.attn.bias": torch.ones(1, 1, 32, 32)}))
    model_at(str(tmp_path / "gpt2"))


@pytest.mark.parametrize(
    "index",
    [
        '{"metadata": {}}',
        "not json",
        "[]",
        '{"weight_map": []}',
        '{"weight_map": {"a": 1}}',
        '{"weight_map": {"a": "b"}}',
        '{"weight_map": {"a": "../student/config.json"}}',
    ],
)
def test_files_of_weights_of_a_broken_index_are_refused(student: Path, index: str) -> None:
    """A model is tested by the hash of these files."""
    in_parts(student)
    (student / "model.safetensors.index.json").write_text(index)
    with pytest.raises(InputError, match=r"model\.safetensors\.index\.json"):
        weight_files(str(student))


def test_weights_in_parts_load(student: Path) -> None:
    whole = model_at(str(student)).state_dict()
    in_parts(student)
    parts = model_at(str(student))
    assert all(torch.equal(whole[name], value) for name, value in parts.state_dict().items())
    assert len(parts.weight_files) > 1


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_loads_as_it_was_saved(architecture: str, tmp_path: Path) -> None:
    model = make_model(architecture)
    model.save_pretrained(tmp_path)
    loaded = model_at(str(tmp_path))
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())


# Adapters.


@pytest.fixture
def adapter(student: Path, tmp_path: Path) -> Path:
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(student)
    adapted = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    adapted.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_an_adapter_alone_is_merged_into_its_base_and_can_be_trained(student: Path, adapter: Path) -> None:
    """It must not be a frozen model that learns nothing, nor the base without its change."""
    ids = torch.tensor([[5, 6, 7]])
    adapted = get_peft_model_logits(student, adapter, ids)
    model = model_at(str(adapter))
    torch.testing.assert_close(model(ids).logits, adapted, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(model(ids).logits, model_at(str(student))(ids).logits)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any("lora" in name for name, _ in model.named_parameters())
    spec = ModelSpec(name=str(adapter))
    assert tokenizer_at(str(adapter)).get_vocab() == tokenizer_at(str(student)).get_vocab()
    outline = outline_model(RECIPE, spec, tokenizer_at(str(adapter)))
    assert outline.parameters == model.num_parameters()


def get_peft_model_logits(student: Path, adapter: Path, ids: torch.Tensor) -> torch.Tensor:
    from peft import PeftModel

    with torch.no_grad():
        logits: torch.Tensor = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(student), adapter)(
            ids
        ).logits
    return logits


def edit_adapter(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    weights = load_file(folder / "adapter_model.safetensors")
    change(weights)
    save_file(weights, folder / "adapter_model.safetensors", {"format": "pt"})


def edit_config(folder: Path, **values: Any) -> None:
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, **values}))


def adapter_as_pickle(folder: Path) -> None:
    torch.save(load_file(folder / "adapter_model.safetensors"), folder / "adapter_model.bin")
    (folder / "adapter_model.safetensors").unlink()


def prefix(folder: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(STUDENT)
    config = PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    get_peft_model(base, config).save_pretrained(folder)


LORA_A = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
ADAPTERS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "its base is away": (lambda folder: edit_config(folder, base_model_name_or_path="/no/such/base"), "/no/such/base"),
    "it names no base": (lambda folder: edit_config(folder, base_model_name_or_path=None), "base_model_name_or_path"),
    "its base is an adapter": (
        lambda folder: edit_config(folder, base_model_name_or_path=str(folder)),
        "is an adapter itself",
    ),
    "missing": (lambda folder: edit_adapter(folder, lambda w: w.pop(LORA_A)), f"1 missing ({LORA_A})"),
    "surplus": (lambda folder: edit_adapter(folder, lambda w: w.update(extra=torch.ones(2))), "1 surplus (extra)"),
    "misshapen": (lambda folder: edit_adapter(folder, lambda w: w.update({LORA_A: w[LORA_A][:2].clone()})), "lora_A"),
    "a pickle": (adapter_as_pickle, "adapter_model.safetensors"),
    "cut": (lambda folder: truncate(folder, "adapter_model.safetensors"), "adapter"),
    "a cut configuration": (lambda folder: truncate(folder, "adapter_config.json"), "adapter_config.json"),
    "a model beside it": (lambda folder: shutil.copy(STUDENT / "model.safetensors", folder), "both"),
    "no change of weights": (prefix, "merged"),
}


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_broken_adapter_is_refused_by_name(adapter: Path, name: str) -> None:
    change, named = ADAPTERS[name]
    tokenizer = tokenizer_at(str(adapter))
    change(adapter)
    for opened in (model_at, lambda place: outline_model(RECIPE, ModelSpec(name=place), tokenizer)):
        with pytest.raises(InputError) as caught:
            opened(str(adapter))
        assert named in str(caught.value)
        assert str(adapter) in str(caught.value)


# Fingerprints.


def print_of(folder: Path) -> str:
    return model_fingerprint(str(folder), model_at(str(folder)))


def test_a_change_of_any_value_changes_the_fingerprint(student: Path) -> None:
    before = print_of(student)

    def change(weights: dict[str, torch.Tensor]) -> None:
        weights[Q_PROJ][3, 5] += 1e-3

    edit(student, change)
    assert print_of(student) != before


def test_the_fingerprint_is_of_the_weights_and_not_of_their_place(student: Path, adapter: Path) -> None:
    assert print_of(student) == print_of(STUDENT)
    assert print_of(adapter) != print_of(student)
    moved = shutil.move(adapter, adapter.parent / "moved")
    assert print_of(Path(moved)) == print_of(Path(moved))


def test_a_model_in_memory_is_hashed_by_every_value() -> None:
    sizes = {"vocab_size": 40, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = LlamaForCausalLM(LlamaConfig(**sizes, intermediate_size=8)).to(torch.bfloat16)
    spec = ModelSpec(name="any")
    before = model_fingerprint(spec.name, model)
    assert model_fingerprint(spec.name, model) == before
    with torch.no_grad():
        model.model.embed_tokens.weight[17, 3] += 1
    assert model_fingerprint(spec.name, model) != before


def test_files_are_read_once_until_they_change(student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    real = fingerprint.hashlib.file_digest
    monkeypatch.setattr(fingerprint.hashlib, "file_digest", lambda *a: reads.append(a) or real(*a))
    before = [print_of(student), print_of(student)]
    assert len(reads) == 1
    edit(student, lambda w: w[NORM].add_(1))
    assert print_of(student) not in before
    assert len(reads) == 2
    assert AutoTokenizer.from_pretrained(student) is not None
