"""Students with an adapter: the change is trained, saved, resumed and merged, and attention is read through it."""

from __future__ import annotations

import copy
import textwrap

import pytest
import safetensors.torch
import torch
from peft import IA3Config, LoraConfig, PeftModel, PrefixTuningConfig, get_peft_model
from small_world import make_examples, make_llama, make_tokenizer, train
from test_resume import At, KilledError, assert_same_weights, kill
from transformers import BitsAndBytesConfig, GenerationConfig, TrainingArguments

from molsaki.attention import find_model, read_attention
from molsaki.config.model_spec import LoraSettings
from molsaki.errors import ArtefactError, InputError
from molsaki.methods import METHODS
from molsaki.models.adapters import add_adapter, merge_adapter
from molsaki.models.load import model_at
from molsaki.models.merging import write_merged
from molsaki.training import DistillationTrainer, make_method
from molsaki.training.card import _ADAPTER

# peft asks transformers for a name that is going away.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
VALUES = "base_model.model.model.layers.0.self_attn.v_proj"


@pytest.fixture
def nine(tmp_path):
    return make_examples(tmp_path / "nine", count=9)


@pytest.fixture
def base(tmp_path):
    folder = tmp_path / "base"
    make_llama().save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def lora_student(base, **changes):
    settings = LoraSettings(r=4, dropout=0.1, target_modules=["q_proj", "v_proj", "down_proj"])
    return add_adapter(model_at(str(base)), settings.model_copy(update=changes), base=str(base), seed=3)


def fit(output, examples, base, *callbacks, student=None, **changes):
    student = lora_student(base) if student is None else student
    return train(output, examples, student=student, callbacks=callbacks, **{"save_every": 2, "steps": 5, **changes})


def adapter_of(folder):
    return safetensors.torch.load_file(folder / "adapter_model.safetensors")


def test_killed_and_resumed_is_the_undisturbed_run(tmp_path, nine, base):
    whole, resumed = At(), At()
    fit(tmp_path / "a", nine, base, whole, save_every=0)
    with pytest.raises(KilledError):
        fit(tmp_path / "b", nine, base, At(3, kill))
    saved = {path.name for path in (tmp_path / "b.training" / "checkpoint-2").glob("*.safetensors")}
    assert saved == {"adapter_model.safetensors", "method.safetensors"}
    _, metrics = fit(tmp_path / "b", nine, base, resumed)
    assert metrics["resumed_from"] == "checkpoint-2"
    assert_same_weights(adapter_of(tmp_path / "a"), adapter_of(tmp_path / "b"))
    assert_same_weights(whole.router, resumed.router)


def test_only_the_change_is_trained_and_the_metrics_say_so(tmp_path, nine, base):
    before = model_at(str(base)).state_dict()
    student, metrics = fit(tmp_path / "a", nine, base)
    frozen = {name.replace(".base_layer", ""): value for name, value in student.get_base_model().state_dict().items()}
    assert all(torch.equal(value, frozen[name]) for name, value in before.items())
    change = adapter_of(tmp_path / "a")
    assert metrics["trained_parameters"] == sum(value.numel() for value in change.values())
    assert metrics["parameters"] == sum(p.numel() for p in student.parameters())
    assert all(value.abs().max() > 0 for name, value in change.items() if "lora_B" in name)


def test_checkpoints_of_another_adapter_are_refused(tmp_path, nine, base):
    with pytest.raises(KilledError):
        fit(tmp_path / "b", nine, base, At(3, kill))
    for other in (lora_student(base, alpha=8), lora_student(base, r=2), make_llama()):
        with pytest.raises(ArtefactError, match="adapter"):
            fit(tmp_path / "b", nine, base, student=other)


def test_the_adapter_and_the_merged_student_are_the_same_model(tmp_path, nine, base):
    fit(tmp_path / "a", nine, base, max_new_tokens=17)
    fit(tmp_path / "b", nine, base, max_new_tokens=17, finish=lambda *given: write_merged(*given, dtype="float32"))
    assert not (tmp_path / "b" / "adapter_config.json").exists()
    adapted, merged, beside = (model_at(str(tmp_path / name)) for name in ("a", "b", "b/adapter"))
    assert not torch.equal(
        merged.state_dict()["model.layers.0.self_attn.v_proj.weight"],
        model_at(str(base)).state_dict()["model.layers.0.self_attn.v_proj.weight"],
    )
    for other in (merged, beside):
        assert_same_weights(adapted.state_dict(), other.state_dict())
        assert other.generation_config.max_new_tokens == adapted.generation_config.max_new_tokens == 17


def random_adapter():
    """An adapter whose B is not 0."""
    torch.manual_seed(1)
    config = LoraConfig(r=4, target_modules=["q_proj", "k_proj", "v_proj"], init_lora_weights=False)
    return get_peft_model(make_llama(), config).eval()


def test_values_are_read_through_the_adapter():
    student = random_adapter()
    ids, spans = torch.tensor([[5, 6, 7, 8]]), (torch.tensor([[0, 0, 1, 1]]), torch.tensor([[0, -1, -1, 1]]))
    through = read_attention(student, ids, None, *spans, values=True)
    with student.disable_adapter():
        without = read_attention(student, ids, None, *spans, values=True)
    merged = read_attention(merge_adapter(student), ids, None, *spans, values=True)
    for layer, value in enumerate(through.values):
        torch.testing.assert_close(value, merged.values[layer], atol=1e-5, rtol=1e-5)
        assert not torch.allclose(value, without.values[layer], atol=1e-3)
    torch.testing.assert_close(through.attention, merged.attention, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(through.attention, without.attention, atol=1e-3)


def test_the_router_pulls_on_the_adapter_of_the_values(tmp_path):
    """With `detach_values: false`, the attention loss alone reaches v_proj of the last layer, by the router."""
    student = random_adapter()
    made = make_method(METHODS["molsaki"], METHODS["molsaki"].Settings(detach_values=False), student, 3)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_()
    args = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none", disable_tqdm=True)
    examples = make_examples(tmp_path / "attention")
    trainer = DistillationTrainer(student, made, args, examples, processing_class=make_tokenizer())
    batch = trainer.data_collator(examples[2:4])
    trainer.model(**batch, term="attention")["loss"].backward()
    last = f"{VALUES.replace('layers.0', 'layers.1')}.lora_B.default.weight"
    gradients = {name: p.grad for name, p in student.named_parameters()}
    assert gradients[last].abs().max() > 0
    assert gradients[f"{VALUES}.base_layer.weight"] is None


OF_ONES_OWN = {
    "LoRA": LoraConfig(r=2, target_modules=["q_proj"], lora_dropout=0.1),
    "DoRA, rsLoRA": LoraConfig(r=2, target_modules=["q_proj", "v_proj"], use_dora=True, use_rslora=True),
    "embeddings and head": LoraConfig(r=2, target_modules=["embed_tokens", "lm_head"]),
    "whole modules": LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head", "norm"]),
    "some tokens": LoraConfig(r=2, target_modules=["q_proj"], trainable_token_indices=[5, 6]),
    "IA3": IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]),
}


@pytest.mark.parametrize("kind", OF_ONES_OWN)
def test_a_trainer_saves_and_resumes_a_peft_model_of_ones_own(kind, tmp_path, base, examples):
    def trainer(name, steps):
        student = get_peft_model(model_at(str(base)), copy.deepcopy(OF_ONES_OWN[kind]))
        with torch.no_grad():
            for key, value in student.named_parameters():
                if "lora_A" in key:
                    value.copy_(torch.linspace(-1, 1, value.numel()).view_as(value))
        args = TrainingArguments(
            str(tmp_path / name),
            max_steps=steps,
            save_steps=2,
            lr_scheduler_type="constant",
            per_device_train_batch_size=2,
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
        )
        made = make_method(METHODS["molsaki"], METHODS["molsaki"].Settings(), student, 3)
        return DistillationTrainer(student, made, args, examples, processing_class=make_tokenizer())

    torch.manual_seed(0)
    undisturbed = trainer("a", 4)
    undisturbed.train()
    undisturbed.save_model(str(tmp_path / "saved"))
    trainer("b", 4).train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-2"))
    assert_same_weights(*(adapter_of(tmp_path / name / "checkpoint-4") for name in ("a", "b")))
    loaded = PeftModel.from_pretrained(model_at(str(base)), str(tmp_path / "saved"))
    assert_same_weights(loaded.state_dict(), undisturbed.student.state_dict())
    student, merged = undisturbed.student.eval(), model_at(str(tmp_path / "saved")).eval()
    ids = torch.arange(3, 30)[None]
    with torch.no_grad():
        torch.testing.assert_close(merged(ids).logits, student(ids).logits, rtol=1e-4, atol=1e-5)


REFUSED = {
    "frozen": (
        lambda: get_peft_model(make_llama(), LoraConfig(target_modules=["q_proj"], inference_mode=True)),
        "frozen",
    ),
    "two adapters": (lambda: two_adapters(), "second"),
    "added tokens": (
        lambda: get_peft_model(make_llama(), PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)),
        "PREFIX",
    ),
    "transformers' own": (lambda: with_its_own_adapter(), "add_adapter"),
}


def two_adapters():
    student = get_peft_model(make_llama(), LoraConfig(target_modules=["q_proj"]))
    student.add_adapter("second", LoraConfig(target_modules=["v_proj"]))
    return student


def with_its_own_adapter():
    student = make_llama()
    student.add_adapter(LoraConfig(target_modules=["q_proj"]))
    return student


@pytest.mark.parametrize("name", REFUSED)
def test_a_student_whose_change_cannot_be_trained_or_saved_is_refused(tmp_path, examples, name):
    make, named = REFUSED[name]
    student, args = make(), TrainingArguments(str(tmp_path), use_cpu=True, report_to="none")
    method = METHODS["label-only"]
    with pytest.raises(InputError, match=named):
        DistillationTrainer(
            student, make_method(method, method.Settings(), student), args, examples, processing_class=make_tokenizer()
        )


def test_modules_that_the_student_does_not_have_are_named(base):
    with pytest.raises(InputError, match=r"'query'.*q_proj"):
        lora_student(base, target_modules=("v_proj", "query"))


def test_the_base_keeps_its_precision_and_the_change_is_float32(base):
    student = add_adapter(model_at(str(base), dtype="bfloat16"), LoraSettings(), base=str(base))
    kinds = {p.requires_grad: p.dtype for p in student.parameters()}
    assert kinds == {False: torch.bfloat16, True: torch.float32}
    assert find_model(student).dtype == torch.bfloat16


def test_a_quantisation_is_of_matrices_in_the_models_precision():
    from molsaki.models.quantization import quantization_config

    config = quantization_config("4bit", "bfloat16")
    assert isinstance(config, BitsAndBytesConfig)
    assert (config.bnb_4bit_quant_type, config.bnb_4bit_compute_dtype) == ("nf4", torch.bfloat16)
    assert quantization_config("8bit", "float32").load_in_8bit


@pytest.mark.filterwarnings("ignore:Model has .tie_word_embeddings:UserWarning")
@pytest.mark.parametrize("target", ["embed_tokens", "lm_head"])
def test_a_change_of_one_use_of_a_tied_matrix_is_merged_into_that_use(tmp_path, target):
    torch.manual_seed(1)
    tied = make_llama(tie_word_embeddings=True)
    tied.save_pretrained(tmp_path / "base")
    config = LoraConfig(r=4, target_modules=[target], init_lora_weights=False)
    student = get_peft_model(model_at(str(tmp_path / "base")), config).eval()
    ids = torch.arange(5, 13)[None]
    with torch.no_grad():
        expected = student(ids).logits
        merged = merge_adapter(student).eval()
        merged.save_pretrained(tmp_path / "merged")
        for found in (merged, model_at(str(tmp_path / "merged")).eval()):
            assert torch.allclose(found(ids).logits, expected, atol=1e-5)
    untouched = merge_adapter(random_adapter())
    assert untouched.config.tie_word_embeddings == make_llama().config.tie_word_embeddings


def test_the_cards_code_decodes_greedily_over_a_base_that_samples(tmp_path, nine, base):
    GenerationConfig(do_sample=True, temperature=0.7, max_new_tokens=3).save_pretrained(base)
    fit(tmp_path / "a", nine, base, max_new_tokens=17)
    code = _ADAPTER.replace("BASE", str(base)).replace("PATH", str(tmp_path / "a"))
    names = {}
    exec(textwrap.dedent(code), names)  # noqa: S102 - code of our own card
    settings = names["model"].generation_config
    assert (settings.do_sample, settings.max_new_tokens) == (False, 17)
