"""FSDP2: a student that lies in pieces on two processes has the loss and the gradients of a whole one."""

from __future__ import annotations

from pathlib import Path

import small_world
from launching import launch_script
from small_world import make_examples

SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
import torch.distributed as dist
torch.set_num_threads(1)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from small_world import CONTEXT, TEMPLATES, make_llama, make_problems, make_texts, make_tokenizer
from molsaki.methods import METHODS, terms_of
from molsaki.store.signal_reader import SignalStore
from molsaki.training import Collator, encode_examples, make_method
from molsaki.training.model import DistillationModel

dist.init_process_group("gloo")
mesh = init_device_mesh("cpu", (2,))
tokenizer, problems = make_tokenizer(), make_problems(8)
store = SignalStore(Path(sys.argv[2]) / "attention")
examples, _ = encode_examples(tokenizer, problems, make_texts(problems), TEMPLATES, CONTEXT, store)

def build():
    student = make_llama().train()
    torch.manual_seed(1)
    return DistillationModel(student, make_method(METHODS["molsaki"], METHODS["molsaki"].Settings(), student))

for recomputes in (False, True):
    for separate in (False, True):
        collate = Collator(tokenizer, terms_of("molsaki", {}), separate)
        whole = build()
        expected = whole(**collate(examples))["loss"]
        expected.backward()
        sharded = build()
        if recomputes:
            student = sharded.student
            enable = getattr(student, "activation_checkpointing_enable", None) or student.gradient_checkpointing_enable
            enable({"use_reentrant": False})
        for layer in sharded.student.model.layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(sharded, mesh=mesh)
        mine = collate(examples[dist.get_rank() :: 2])
        loss = sharded(**mine, totals=collate(examples)["batch"].counts)["loss"]
        (loss * 2).backward()  # the mean over two processes
        together = loss.detach().clone()
        dist.all_reduce(together)
        torch.testing.assert_close(together, expected.detach(), rtol=1e-5, atol=1e-5)
        compared = 0
        for (name, one), (_, other) in zip(whole.named_parameters(), sharded.named_parameters(), strict=True):
            assert (one.grad is None) == (other.grad is None), name
            if one.grad is not None:
                torch.testing.assert_close(other.grad.full_tensor(), one.grad, rtol=1e-4, atol=1e-6, msg=name)
                compared += 1
        assert compared > 15, compared
dist.destroy_process_group()
"""


def test_a_sharded_student_has_the_same_loss_and_gradients(tmp_path):
    make_examples(tmp_path / "attention")
    launch_script(SCRIPT, [str(Path(small_world.__file__).parent), str(tmp_path)], tmp_path)
