"""A compiled student takes the steps that the plain one takes, and is saved as one."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch
from small_world import MODELS, train

from molsaki.errors import InputError
from molsaki.training.prepare_student import compile_layers


@pytest.fixture
def quick(monkeypatch):
    """Compiled as far as the graphs, and those run by PyTorch: seconds instead of a minute."""
    whole = torch.nn.Module.compile
    used = []

    def compile_graphs(module, *given, **named):
        used.append(module)
        whole(module, *given, **named, backend="aot_eager")

    monkeypatch.setattr(torch.nn.Module, "compile", compile_graphs)
    yield used
    torch._dynamo.reset()


# PyTorch's compiler looks at every tensor's gradient, and warns of it.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_a_compiled_student_takes_the_same_steps(tmp_path, examples, quick):
    train(tmp_path / "plain", examples, model="llama", steps=3)
    assert not quick
    train(tmp_path / "compiled", examples, model="llama", steps=3, compile=True)
    assert len(quick) == 2
    plain, compiled = (
        safetensors.torch.load_file(tmp_path / name / "model.safetensors") for name in ("plain", "compiled")
    )
    assert plain.keys() == compiled.keys()
    for name, value in plain.items():
        torch.testing.assert_close(compiled[name], value, atol=2e-4, rtol=1e-3, msg=name)


def test_layers_that_are_nowhere_to_be_found():
    student = MODELS["llama"]()
    student.config.num_hidden_layers = 5
    with pytest.raises(InputError, match="5 layers are in one list"):
        compile_layers(student)
