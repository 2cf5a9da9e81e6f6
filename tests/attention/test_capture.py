"""A reading leaves the model as it was, and says which layers it cannot read."""

from __future__ import annotations

import threading

import pytest
import torch
import transformers
from tiny_models import (
    assert_same_gradients,
    enable_checkpointing,
    gradients,
    make_batch,
    make_model,
    slow_stepwise_attention,
    weighted,
)

from molsaki.attention import find_model, read_attention, stepwise_attention
from molsaki.attention.capture import NAME, _switches, padded_on_the_right
from molsaki.errors import UnreadableModelError


def state_of(model):
    checkpointing = {name: vars(module).get("_gradient_checkpointing_func") for name, module in model.named_modules()}
    hooks = sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())
    return model.config._attn_implementation, checkpointing, hooks


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_the_model_is_as_it_was(implementation):
    model, batch = make_model("llama"), make_batch()
    model.set_attn_implementation(implementation)
    enable_checkpointing(model)
    before, logits = state_of(model), model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    stepwise_attention(model, *batch)
    assert state_of(model) == before
    after = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    torch.testing.assert_close(after, logits, atol=0, rtol=0)


def test_the_model_is_as_it_was_after_an_exception():
    model, batch = make_model("llama"), make_batch()
    enable_checkpointing(model)
    before = state_of(model)

    def fail(*_):
        raise RuntimeError("in the middle")

    handle = model.model.layers[1].mlp.register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="in the middle"):
        stepwise_attention(model, *batch)
    handle.remove()
    assert state_of(model) == before
    expected, _ = slow_stepwise_attention(model.eval(), batch)
    torch.testing.assert_close(stepwise_attention(model, *batch), expected, atol=1e-5, rtol=0)


def test_readings_nest():
    outer, inner, batch = make_model("llama"), make_model("gpt2"), make_batch()
    expected = stepwise_attention(outer, *batch), stepwise_attention(inner, *batch)
    nested = []
    handle = outer.model.layers[0].mlp.register_forward_hook(
        lambda *_: nested.append(stepwise_attention(inner, *batch))
    )
    torch.testing.assert_close(stepwise_attention(outer, *batch), expected[0])
    handle.remove()
    torch.testing.assert_close(nested[0], expected[1])


def test_a_reading_inside_a_reading_of_the_same_model():
    model, batch = make_model("llama"), make_batch()
    expected, nested = stepwise_attention(model, *batch), []

    def read_once(*_):
        if not nested:
            nested.append(None)
            nested.append(stepwise_attention(model, *batch.example(0)))

    handle = model.model.layers[0].mlp.register_forward_hook(read_once)
    torch.testing.assert_close(stepwise_attention(model, *batch), expected)
    handle.remove()
    torch.testing.assert_close(nested[1][0], expected[0], atol=1e-5, rtol=0)
    assert model.config._attn_implementation == "sdpa"


def test_another_thread_runs_the_model_meanwhile():
    model, batch = make_model("gemma2"), make_batch("left")
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    expected, elsewhere = model(**inputs).logits, []

    def run_elsewhere(*_):
        if threading.current_thread() is threading.main_thread():
            thread = threading.Thread(target=lambda: elsewhere.append(model(**inputs).logits))
            thread.start()
            thread.join()

    handle = model.model.layers[0].mlp.register_forward_hook(run_elsewhere)
    stepwise_attention(model, *batch)
    handle.remove()
    real = batch.attention_mask.bool()
    torch.testing.assert_close(elsewhere[0][real], expected[real], atol=1e-5, rtol=1e-5)


def test_models_that_share_a_configuration_end_in_any_order():
    one, batch = make_model("llama"), make_batch()
    other = type(one)(one.config).eval()
    expected = stepwise_attention(other, *batch)
    first, second = _switches.on(one), _switches.on(other)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    torch.testing.assert_close(stepwise_attention(other, *batch), expected)
    assert one.config._attn_implementation == NAME
    second.__exit__(None, None, None)
    assert one.config._attn_implementation == "sdpa"


def test_two_readings_before_one_backward_pass():
    model, batch = make_model("llama"), make_batch()
    expected = gradients(model, weighted(stepwise_attention(model, *batch)) * 3)
    enable_checkpointing(model)
    first, second = stepwise_attention(model, *batch), stepwise_attention(model, *batch)
    assert_same_gradients(gradients(model, weighted(first) + 2 * weighted(second)), expected)


def test_checkpointing_where_only_some_rows_are_read_with_their_values():
    model, batch = make_model("llama"), make_batch()

    def loss():
        reading = read_attention(model, *batch, rows=torch.tensor([1, 2]), values=True)
        return weighted(reading.attention) + sum(values.square().sum() for values in reading.values)

    expected = gradients(model, loss())
    enable_checkpointing(model)
    assert_same_gradients(gradients(model, loss()), expected)


@pytest.mark.parametrize("architecture", ["llama", "mistral", "gemma3"])
def test_checkpointing_of_a_pass_that_reads_no_attention(architecture):
    """The texts are longer than the windows, so a replay without the rule would use another kernel."""
    model, batch = make_model(architecture), make_batch("right")

    def loss():
        with padded_on_the_right(model):
            logits = model(input_ids=batch.input_ids, attention_mask=torch.ones_like(batch.input_ids)).logits
        return weighted(logits[batch.attention_mask.bool()][None, None])

    expected = gradients(model, loss())
    enable_checkpointing(model)
    before = state_of(model)
    assert_same_gradients(gradients(model, loss()), expected)
    assert state_of(model) == before


def test_checkpointing_by_pytorchs_own_wrapper():
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

    model, batch = make_model("llama"), make_batch()
    expected = gradients(model, weighted(stepwise_attention(model, *batch)))
    for index, layer in enumerate(model.model.layers):
        model.model.layers[index] = checkpoint_wrapper(layer)
    got = gradients(model, weighted(stepwise_attention(model, *batch)))
    got = {name.replace("_checkpoint_wrapped_module.", ""): gradient for name, gradient in got.items()}
    assert_same_gradients(got, expected)


def make(config_name, **settings):
    torch.manual_seed(0)
    config = getattr(transformers, config_name)(**{"vocab_size": 61, "bos_token_id": 1, "eos_token_id": 2, **settings})
    return transformers.AutoModelForCausalLM.from_config(config)


FALCON = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
GPTJ = {"n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4, "n_positions": 64}
BLOOM = {"hidden_size": 32, "n_layer": 2, "n_head": 4}
MAMBA = {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}


@pytest.mark.parametrize(
    ("config_name", "settings", "layers"),
    [
        ("FalconConfig", FALCON, "transformer.h.0, transformer.h.1"),
        ("GPTJConfig", GPTJ, "transformer.h.0, transformer.h.1"),
        ("BloomConfig", BLOOM, "transformer.h.0, transformer.h.1"),
        ("MambaConfig", MAMBA, "backbone.layers.0, backbone.layers.1"),
    ],
)
def test_models_off_the_interface_are_refused_by_layer(config_name, settings, layers):
    model = make(config_name, **settings)
    before = model.config._attn_implementation
    with pytest.raises(UnreadableModelError, match=f"0 did. These did not: {layers}. .*interface"):
        stepwise_attention(model, *make_batch())
    assert model.config._attn_implementation == before


def test_a_model_that_fails_over_a_mask_that_is_not_its_own_is_refused():
    with pytest.raises(UnreadableModelError, match="MptForCausalLM has code of its own"):
        stepwise_attention(make("MptConfig", d_model=32, n_heads=4, n_layers=2), *make_batch(lengths=(20, 20)))


def test_an_encoder_and_decoder_is_refused():
    config = transformers.T5Config(d_model=32, d_ff=48, num_layers=2, num_heads=4, d_kv=8, vocab_size=61)
    with pytest.raises(UnreadableModelError, match="T5ForConditionalGeneration has an encoder"):
        stepwise_attention(transformers.T5ForConditionalGeneration(config), *make_batch())


def test_something_else_is_refused():
    with pytest.raises(UnreadableModelError, match="Linear holds none"):
        stepwise_attention(torch.nn.Linear(2, 2), *make_batch())
    with pytest.raises(UnreadableModelError, match="DataParallel"):
        stepwise_attention(torch.nn.DataParallel(make_model("llama")), *make_batch())


def test_tokens_that_somebody_adds_are_refused():
    model, batch = make_model("llama"), make_batch()

    def add_a_token(_module, arguments, inputs):
        longer = {name: torch.cat([inputs[name][:, :1], inputs[name]], 1) for name in ("input_ids", "attention_mask")}
        return arguments, {**inputs, **longer}

    model.register_forward_pre_hook(add_a_token, with_kwargs=True)
    with pytest.raises(UnreadableModelError, match=r"20 tokens.*21"):
        stepwise_attention(model, *batch)


def test_a_model_with_a_table_of_its_own_is_refused():
    model = make_model("llama")
    model.model.layers[0].register_forward_pre_hook(lambda *_: {}[model.config._attn_implementation])
    with pytest.raises(UnreadableModelError, match="has code of its own"):
        stepwise_attention(model, *make_batch())
    model = make_model("llama")
    model.model.layers[0].register_forward_pre_hook(lambda *_: {}["something else"])
    with pytest.raises(KeyError, match="something else"):
        stepwise_attention(model, *make_batch())


def test_a_layer_that_attends_twice_is_refused():
    model = make_model("llama")
    model.model.layers[1].self_attn = model.model.layers[0].self_attn
    with pytest.raises(UnreadableModelError, match=r"layers\.0\.self_attn did so twice"):
        stepwise_attention(model, *make_batch())


def test_layers_that_do_not_say_which_they_are_are_refused():
    model = make_model("llama")
    model.model.layers[1].self_attn.layer_idx = 0
    with pytest.raises(UnreadableModelError, match="layer_idx"):
        stepwise_attention(model, *make_batch())


def test_attention_whose_formula_is_unknown_is_refused():
    model = make_model("llama")
    with pytest.raises(UnreadableModelError, match="learned position bias"):
        stepwise_attention(model, *make_batch(), position_bias=torch.zeros(1))


def test_a_model_inside_a_module_of_the_users_own():
    model, batch = make_model("llama"), make_batch()

    class Wrapper(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inside = model

        def forward(self, **inputs):
            return self.inside(**inputs)

    assert find_model(Wrapper()) is model
    torch.testing.assert_close(stepwise_attention(Wrapper(), *batch), stepwise_attention(model, *batch))


# peft asks for the attribute under the name that transformers 5.23 deprecates.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_a_peft_model():
    peft = pytest.importorskip("peft")
    batch = make_batch()
    plain = make_model("llama")
    model = peft.get_peft_model(make_model("llama"), peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    reading = read_attention(model, *batch, values=True)
    torch.testing.assert_close(reading.attention, stepwise_attention(plain, *batch), atol=1e-5, rtol=0)
    weighted(reading.attention).backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for n, p in model.named_parameters() if "lora_B" in n)


# Dynamo looks at every tensor's .grad and hides the warning by itself, where warnings are not errors.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_a_compiled_model():
    model, batch = make_model("llama"), make_batch()
    expected = stepwise_attention(model, *batch)
    expected_gradients = gradients(model, weighted(expected))
    compiled = torch.compile(model, backend="aot_eager")
    got = stepwise_attention(compiled, *batch)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)
    assert_same_gradients(gradients(model, weighted(got)), expected_gradients)


@pytest.fixture
def process_group(tmp_path):
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("wrapper", ["ddp", "fsdp2"])
def test_distributed_wrappers(process_group, wrapper, checkpointing):
    model, batch = make_model("llama"), make_batch()
    attention, outputs = stepwise_attention(model, *batch, True, labels=batch.labels)
    expected = gradients(model, weighted(attention) + outputs.loss)
    model.zero_grad()
    if checkpointing:
        enable_checkpointing(model)
    if wrapper == "ddp":
        wrapped = torch.nn.parallel.DistributedDataParallel(model)
    else:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh("cpu", (1,))
        for layer in model.model.layers:
            fully_shard(layer, mesh=mesh)
        wrapped = fully_shard(model, mesh=mesh)
    again, outputs = stepwise_attention(wrapped, *batch, True, labels=batch.labels)
    torch.testing.assert_close(again, attention, atol=1e-5, rtol=0)
    (weighted(again) + outputs.loss).backward()
    got = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    if wrapper == "fsdp2":
        got = {name: gradient.full_tensor() for name, gradient in got.items()}
    assert_same_gradients(got, expected)
