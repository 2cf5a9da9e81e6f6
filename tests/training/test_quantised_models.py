"""Models that bitsandbytes packed in 4 and 8 bits: read as teachers, trained with an adapter, saved, merged, tested.

The device is a CUDA GPU where there is one, else the CPU.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import safetensors.torch
import torch
from commands import SMALL, molsaki, recipe, run
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from small_world import make_examples, make_llama, train
from test_resume import At, KilledError, kill
from tiny_models import enable_checkpointing
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, TrainingArguments

from molsaki.attention import find_model, read_attention
from molsaki.config.load import parse_recipe
from molsaki.config.model_spec import ModelSpec
from molsaki.config.recipe import Recipe
from molsaki.data.pocket import STUDENT
from molsaki.errors import InputError
from molsaki.methods import METHODS
from molsaki.models.load import (
    load_model,
    load_placed_model,
    load_student,
    load_tokenizer,
    model_at,
    pick_device,
    place,
    student_at,
)
from molsaki.models.merging import write_merged
from molsaki.models.outline import outline_model
from molsaki.stages import check
from molsaki.stages.workspace import Workspace
from molsaki.training import DistillationTrainer, make_method

pytest.importorskip("bitsandbytes", reason="needs the package bitsandbytes")
# Of bitsandbytes and of what it imports.
pytestmark = pytest.mark.filterwarnings("ignore")
DEVICE = pick_device()
PACKED = {"4bit": "Params4bit", "8bit": "Int8Params"}
KINDS = tuple(PACKED)
WHERE_EXACT = [
    pytest.param(
        "4bit", marks=pytest.mark.skipif(DEVICE == "cpu", reason="4 bits are inexact or refused on some CPUs")
    ),
    "8bit",
]


@pytest.fixture(autouse=True)
def on_any_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes refuse CPUs, on which 4 bits do not work for all models."""
    monkeypatch.setattr(check, "quantization_refusal", lambda: None)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random model with the pocket student's tokenizer; the kernels for a CPU need multiples of 32."""
    folder = tmp_path_factory.mktemp("base")
    tokenizer = AutoTokenizer.from_pretrained(STUDENT)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 2, "num_key_value_heads": 2}
    ends = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": None, "max_position_embeddings": 512}
    make_llama(vocab_size=len(tokenizer), **sizes, **ends).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def recipe_of(base: Path | str, quantize: str, **lora: Any) -> Recipe:
    settings = {"r": 4, "alpha": 8, "dropout": 0.1, **lora}
    student = {"name": str(base), "dtype": "bfloat16", "quantize": quantize, "lora": settings}
    return parse_recipe({**SMALL, "student": student})


def new_student(of: Recipe, *, changed: bool = False) -> Any:
    """A student of the recipe; `changed` with an adapter that is not 0."""
    student = load_student(of, load_tokenizer(of, of.student), seed=1)
    generator = torch.Generator().manual_seed(0)
    for name, weights in student.named_parameters():
        if changed and "lora_B" in name:
            weights.data.copy_(torch.randn(weights.shape, generator=generator) * 0.1)
    return student


def fit(output: Path, of: Recipe, *callbacks: Any, **changes: Any) -> Any:
    tokenizer = load_tokenizer(of, of.student)
    examples = make_examples(output.parent / uuid4().hex, count=9, tokenizer=tokenizer)
    precision = "bf16" if DEVICE == "cuda" else "float32"
    settings = {
        "save_every": 2,
        "steps": 5,
        "precision": precision,
        "accumulation": 1,
        "tokenizer": tokenizer,
        **changes,
    }
    return train(output, examples, student=new_student(of), callbacks=callbacks, **settings)


def assert_close(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    """Equal to the last bit on a CPU; on a GPU, sums have no fixed order."""
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=0, atol=5e-4 if DEVICE == "cuda" else 0)


def adapter_of(folder: Path) -> dict[str, Tensor]:
    return safetensors.torch.load_file(folder / "adapter_model.safetensors")


def read_packed(folder: Path, name: str, kind: str) -> Any:
    """What the manifest says of steps that a packed teacher was read on."""
    reader = {"name": name, "dtype": "bfloat16"}
    teacher = {"writer": {"name": "pocket:teacher"}, "reader": {**reader, "quantize": kind}, "original": reader}
    path = recipe(folder, base={**SMALL, "teacher": teacher, "methods": ["molsaki"], "baseline": None})
    for command in ("generate", "attend"):
        shown = molsaki(command, path, "--out", folder / "run")
        assert shown.code == 0, shown.error
    entry = Workspace.open(folder / "run").stage("attend")["signals"]["steps"]
    print(f"{kind} {Path(name).name} on {DEVICE}: {json.dumps(entry['attention_error'])}")
    return entry


@pytest.mark.parametrize("kind", WHERE_EXACT)
def test_the_error_of_a_packed_teacher_is_measured_against_bfloat16(kind: str, tmp_path: Path) -> None:
    entry = read_packed(tmp_path, "pocket:teacher", kind)
    error = entry["attention_error"]
    assert (error["precision"], error["texts"], error["same_tokens"]) == ("bfloat16", 8, 8)
    assert 0 < error["mean_error"] < 0.2 * error["mean_attention"]
    assert entry["fingerprint"]["precision"] == f"bfloat16, {kind}"
    assert entry.get("layers_left_out", []) == []


def weight_bytes(model: Any) -> int:
    """What the weights take, with the scales of packed ones and without an adapter."""
    total = 0
    for weights in [p for p in model.parameters() if not p.requires_grad or not hasattr(model, "peft_config")]:
        state, scales = getattr(weights, "quant_state", None), getattr(weights, "SCB", None)
        parts = [weights, *([scales] if scales is not None else [])]
        parts += [state.absmax, state.state2.absmax] if state is not None else []
        total += sum(part.numel() * part.element_size() for part in parts)
    return total


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["untied", "pocket:student"])
def test_the_estimated_size_is_that_of_the_loaded_weights(kind: str, name: str, base: Path) -> None:
    of = recipe_of(base if name == "untied" else name, kind)
    tokenizer = load_tokenizer(of, of.student)
    student, outline = new_student(of), outline_model(of, of.student, tokenizer)
    assert outline.trained == sum(p.numel() for p in student.parameters() if p.requires_grad)
    assert outline.weight_bytes * outline.parameters == pytest.approx(weight_bytes(student), rel=0.03)
    reader = ModelSpec(name=of.student.name, dtype="bfloat16", quantize=kind)
    outline = outline_model(of, reader, tokenizer)
    assert outline.weight_bytes * outline.parameters == pytest.approx(
        weight_bytes(load_model(of, reader, tokenizer)), rel=0.03
    )


@pytest.mark.parametrize("kind", KINDS)
def test_all_but_packed_weights_is_float32_and_only_the_adapter_is_trained(kind: str, base: Path) -> None:
    for name, weights in new_student(recipe_of(base, kind)).named_parameters():
        assert weights.requires_grad == ("lora_" in name)
        assert type(weights).__name__ == PACKED[kind] or weights.dtype == torch.float32


@pytest.mark.parametrize("kind", KINDS)
def test_checkpointing_changes_no_gradient_of_an_adapter_on_packed_weights(kind: str, base: Path) -> None:
    ids, found = torch.arange(3, 40, device=DEVICE)[None], []
    for checkpointing in (False, True):
        student = new_student(recipe_of(base, kind, dropout=0.0), changed=True).train()
        if checkpointing:
            enable_checkpointing(student)
        student(input_ids=ids, labels=ids).loss.backward()
        found.append({name: p.grad for name, p in student.named_parameters() if p.requires_grad})
    assert all(grad is not None and grad.abs().max() > 0 for name, grad in found[1].items() if "lora_B" in name)
    assert_close(*found)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("device_map", [None, "auto"])
def test_only_matrices_are_packed_and_all_is_on_the_device(kind: str, device_map: str | None, base: Path) -> None:
    of = recipe_of(base, kind)
    spec = of.student.model_copy(update={"device_map": device_map})
    model = load_placed_model(of, spec, load_tokenizer(of, spec))
    packed = {name for name, p in model.named_parameters() if type(p).__name__ == PACKED[kind]}
    assert packed == {name for name, _ in model.named_parameters() if name.endswith("proj.weight")}
    assert {p.device.type for p in model.parameters()} == {DEVICE}
    assert {p.dtype for name, p in model.named_parameters() if name not in packed} == {torch.bfloat16}


@pytest.mark.parametrize("kind", WHERE_EXACT)
def test_a_student_on_a_packed_base_resumes_on_its_trajectory(kind: str, base: Path, tmp_path: Path) -> None:
    of, whole, resumed = recipe_of(base, kind), At(), At()
    _, undisturbed = fit(tmp_path / "a", of, whole, save_every=0)
    with pytest.raises(KilledError):
        fit(tmp_path / "b", of, At(3, kill))
    _, metrics = fit(tmp_path / "b", of, resumed)
    assert metrics["resumed_from"] == "checkpoint-2"
    assert any("attention_loss" in entry for entry in undisturbed["history"])
    assert metrics["trained_parameters"] == sum(value.numel() for value in adapter_of(tmp_path / "a").values())
    assert all(value.abs().max() > 0 for name, value in adapter_of(tmp_path / "a").items() if "lora_B" in name)
    assert_close(adapter_of(tmp_path / "a"), adapter_of(tmp_path / "b"))
    assert_close(whole.router, resumed.router)


@pytest.mark.parametrize("kind", WHERE_EXACT)
def test_a_saved_adapter_is_tested_as_it_was_trained(kind: str, base: Path, tmp_path: Path) -> None:
    of = recipe_of(base, kind)
    student, _ = fit(tmp_path / "a", of)
    again, ids = student_at(of, tmp_path / "a").eval(), torch.arange(3, 40, device=DEVICE)[None]
    with torch.no_grad():
        torch.testing.assert_close(again(ids).logits, student.eval()(ids).logits, rtol=0, atol=0)


def test_a_merged_student_is_the_adapter_on_the_unpacked_base(base: Path, tmp_path: Path) -> None:
    of = recipe_of(base, "4bit", merge=True)
    fit(tmp_path / "a", of, finish=lambda *given: write_merged(*given, dtype="bfloat16"))
    beside = tmp_path / "a" / "adapter"
    merged, change = model_at(str(tmp_path / "a")), adapter_of(beside)
    name = "model.layers.0.self_attn.v_proj"
    a, b = (change[f"base_model.model.{name}.lora_{side}.weight"] for side in "AB")
    before = model_at(str(base), dtype="bfloat16").state_dict()[f"{name}.weight"]
    expected = (before.float() + 2 * b @ a).bfloat16()
    torch.testing.assert_close(merged.state_dict()[f"{name}.weight"], expected, rtol=0.01, atol=1e-4)
    assert not torch.equal(expected, before)
    for key, value in model_at(str(beside), dtype="bfloat16").state_dict().items():
        assert torch.equal(merged.state_dict()[key], value)
    assert not getattr(merged, "is_quantized", False)


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_read_through_an_adapter_on_packed_weights(kind: str, base: Path) -> None:
    student = new_student(recipe_of(base, kind), changed=True).eval()
    ids = torch.arange(3, 9, device=DEVICE)[None]
    step, key = torch.tensor([[0, 0, 0, 1, 1, 1]]).to(DEVICE), torch.tensor([[0, -1, 1, -1, 2, -1]]).to(DEVICE)
    seen: dict[str, Tensor] = {}
    module = find_model(student).model.layers[0].self_attn.v_proj
    hook = module.register_forward_hook(lambda m, given, out: seen.update(x=given[0], out=out))
    with torch.no_grad():
        through = read_attention(student, ids, None, step, key, values=True, kernel="eager")
        hook.remove()
        change = seen["x"] @ module.lora_A.default.weight.T @ module.lora_B.default.weight.T * 2
        with student.disable_adapter():
            without = read_attention(student, ids, None, step, key, values=True, kernel="eager")
    assert change.abs().max() > 0.01
    difference = through.values[0].float() - without.values[0].float()
    torch.testing.assert_close(difference, change.float(), rtol=0.05, atol=0.02)
    assert not torch.allclose(through.attention, without.attention, atol=1e-4)


def test_a_peft_model_on_4_bits_of_ones_own_is_trained_saved_and_resumed(base: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(STUDENT)
    examples = make_examples(tmp_path / "data", count=8, tokenizer=tokenizer)

    def packed() -> Any:
        nf4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
        return place(AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16, quantization_config=nf4))

    def trainer(name: str) -> DistillationTrainer:
        torch.manual_seed(2)
        prepared = prepare_model_for_kbit_training(packed(), use_gradient_checkpointing=True)
        student = get_peft_model(prepared, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
        args = TrainingArguments(
            str(tmp_path / name),
            max_steps=4,
            save_steps=2,
            lr_scheduler_type="constant",
            learning_rate=1e-3,
            per_device_train_batch_size=2,
            gradient_checkpointing=True,
            bf16=DEVICE == "cuda",
            report_to="none",
            disable_tqdm=True,
        )
        made = make_method(METHODS["molsaki"], METHODS["molsaki"].Settings(), student, 3)
        return DistillationTrainer(student, made, args, examples, processing_class=tokenizer)

    undisturbed = trainer("a")
    undisturbed.train()
    trainer("b").train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-2"))
    assert_close(*(adapter_of(tmp_path / name / "checkpoint-4") for name in ("a", "b")))
    undisturbed.save_model(str(tmp_path / "saved"))
    assert not (tmp_path / "saved" / "model.safetensors").exists()
    loaded = PeftModel.from_pretrained(packed(), str(tmp_path / "saved"))
    own = {name: value.cpu() for name, value in undisturbed.student.state_dict().items() if "lora_" in name}
    theirs = {name: value.cpu() for name, value in loaded.state_dict().items() if "lora_" in name}
    assert own.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in own.items())


@pytest.mark.parametrize("kind", KINDS)
def test_files_that_are_packed_already_are_read_and_neither_trained_nor_packed_again(
    kind: str, base: Path, tmp_path: Path
) -> None:
    packed, of = tmp_path / "packed", recipe_of(base, kind)
    tokenizer = load_tokenizer(of, of.student)
    model_at(str(base), dtype="bfloat16", quantize=kind).save_pretrained(packed)
    tokenizer.save_pretrained(packed)
    reader = ModelSpec(name=str(packed), dtype="bfloat16")
    model, outline = load_placed_model(of, reader, tokenizer), outline_model(of, reader, tokenizer)
    assert outline.weight_bytes * outline.parameters == pytest.approx(weight_bytes(model), rel=0.03)
    with pytest.raises(InputError, match="quantize"):
        model_at(str(packed), dtype="bfloat16", quantize="4bit")
    student = of.student.model_copy(update={"name": str(packed), "quantize": None})
    with pytest.raises(InputError, match="packed"):
        load_student(of.model_copy(update={"student": student}), tokenizer)
    # An adapter of another program that names such files as its base computes beside them.
    change = get_peft_model(model, LoraConfig(r=2, target_modules=["v_proj"], init_lora_weights=False)).eval()
    change.save_pretrained(tmp_path / "adapter")
    again, ids = place(model_at(str(tmp_path / "adapter"), dtype="bfloat16")), torch.arange(3, 40, device=DEVICE)[None]
    with torch.no_grad():
        torch.testing.assert_close(again.eval()(ids).logits, change(ids).logits, rtol=0, atol=0)


def test_a_recipe_with_a_packed_student_runs_to_its_export(base: Path, tmp_path: Path) -> None:
    few = ("data.train.limit=4", "data.tests.in-domain.limit=4", "data.tests.chains.limit=4", "training.steps=4")
    packed = f"student={{name: {base}, dtype: bfloat16, quantize: 4bit, lora: {{r: 4}}}}"
    precision = f"training.precision={'bf16' if DEVICE == 'cuda' else 'float32'}"
    only = ("methods=[molsaki]", "baseline=null")
    path = recipe(tmp_path, *few, packed, precision, *only)
    shown = run(path, tmp_path / "run")
    assert shown.code == 0, shown.error
    assert "parameters were trained, the others are frozen" in shown.text
    student = tmp_path / "run" / "students" / "molsaki-1"
    assert (student / "adapter_model.safetensors").is_file()
    shown = molsaki("export", student, tmp_path / "exported", "--license", "apache-2.0")
    assert shown.code == 0, shown.error
    exported, expected = model_at(str(tmp_path / "exported")), model_at(str(student), dtype="bfloat16")
    assert exported.dtype == torch.bfloat16
    assert all(torch.equal(value, exported.state_dict()[name]) for name, value in expected.state_dict().items())


@pytest.mark.parametrize("kind", WHERE_EXACT)
def test_a_real_model_has_a_small_error_in_few_bits(kind: str, real_models: Path, tmp_path: Path) -> None:
    error = read_packed(tmp_path, str(real_models / "SmolLM2-135M-Instruct"), kind)["attention_error"]
    assert 0 < error["mean_error"] < 0.3 * error["mean_attention"]
