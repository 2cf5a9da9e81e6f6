"""The public names: all there, described, typed, and cheap to have at hand."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import molsaki

FUNCTIONS = [name for name in molsaki.__all__ if inspect.isfunction(getattr(molsaki, name))]
CLASSES = [name for name in molsaki.__all__ if inspect.isclass(getattr(molsaki, name))]


def test_every_name_is_a_function_a_class_or_the_version() -> None:
    assert sorted([*FUNCTIONS, *CLASSES, "__version__"]) == sorted(molsaki.__all__)
    assert molsaki.__all__ == sorted(molsaki.__all__)
    assert sorted(dir(molsaki)) == molsaki.__all__


def test_the_names_that_others_may_build_on_are_there() -> None:
    promised = (
        "find_spans stepwise_attention teacher_layer_weights LayerRouter attention_loss solve DistillationTrainer"
    )
    assert set(promised.split()) <= set(molsaki.__all__)


def test_the_named_homes_are_what_type_checkers_are_imports() -> None:
    source = Path(molsaki.__file__).read_text(encoding="utf-8")
    imports = source.split("if TYPE_CHECKING:")[1].split("_HOME")[0]
    for name, home in molsaki._HOME.items():
        line = next(line for line in imports.splitlines() if f"from {home} import" in line)
        assert name in line.replace(",", " ").split()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_is_described_and_typed(name: str) -> None:
    function = getattr(molsaki, name)
    assert len((function.__doc__ or "").strip()) > 20
    signature = inspect.signature(function)
    assert signature.return_annotation is not inspect.Signature.empty
    for parameter in signature.parameters.values():
        assert parameter.annotation is not inspect.Parameter.empty, parameter.name


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_and_its_methods_are_described(name: str) -> None:
    cls = getattr(molsaki, name)
    assert len((cls.__doc__ or "").strip()) > 20
    for method_name, method in vars(cls).items():
        if not method_name.startswith("_") and inspect.isfunction(method):
            assert method.__doc__, method_name


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'distil'"):
        molsaki.distil  # noqa: B018


def test_importing_the_package_and_solving_need_no_torch() -> None:
    code = (
        "import sys, molsaki; assert molsaki.solve('( 7.0 * 30.0 )') == 210.0; "
        "print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert shown.stdout.split() == ["False", "False"]


def test_the_package_says_that_it_is_typed() -> None:
    assert Path(molsaki.__file__).with_name("py.typed").is_file()


def test_the_old_name_of_a_reading_works_and_warns() -> None:
    attention = importlib.import_module("molsaki.attention")
    with pytest.warns(FutureWarning, match="AttentionReading"):
        assert attention.Reading is attention.AttentionReading
    with pytest.raises(AttributeError, match="Writing"):
        _ = attention.Writing
