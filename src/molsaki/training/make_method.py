"""A method with parameters of the sizes that its student needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from molsaki.methods import Method, MethodSettings, StudentShape
from molsaki.models.shapes import shapes_of

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


def make_method(
    method: type[Method[Any]],
    settings: MethodSettings,
    student: PreTrainedModel | PeftModel,
    teacher_layers: int | Sequence[int] = 0,
) -> Method[Any]:
    """Create a method for a student.

    Example:
        >>> import molsaki
        >>> from transformers import AutoModelForCausalLM
        >>> from molsaki.data.pocket import STUDENT
        >>> from molsaki.methods import METHODS
        >>> student, method = AutoModelForCausalLM.from_pretrained(STUDENT), METHODS["dss"]
        >>> made = molsaki.make_method(method, method.Settings(alpha=0.3), student)
        >>> [(term.name, term.weight) for term in made.terms]
        [('label', 0.3), ('rationale', 0.7)]

    Args:
        method: the method.
        settings: its settings.
        student: the student.
        teacher_layers: number of layers (or heads) in the teacher's stored attention, for a method that needs it; or
            the numbers of these layers, if they are some of a hybrid teacher's.

    Raises:
        InputError: the settings name layers that do not exist.
        UnreadableModelError: the method reads attention, and the student's cannot be read.
    """
    if method.terms_of(settings).attention is None:
        return method(settings, StudentShape(()))
    shapes = shapes_of(student)
    numbers = () if isinstance(teacher_layers, int) else tuple(teacher_layers)
    count = teacher_layers if isinstance(teacher_layers, int) else len(numbers)
    return method(settings, StudentShape(shapes.values, count, shapes.heads, shapes.layers.numbers, numbers))
