"""Training students: examples, the Trainer, and one student from base model to saved directory."""

from molsaki.training.batches import Collator
from molsaki.training.example import Example
from molsaki.training.examples import encode_examples, encode_labels
from molsaki.training.make_method import make_method
from molsaki.training.run import train_student
from molsaki.training.trainer import DistillationTrainer

__all__ = [
    "Collator",
    "DistillationTrainer",
    "Example",
    "encode_examples",
    "encode_labels",
    "make_method",
    "train_student",
]
