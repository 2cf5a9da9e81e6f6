"""YAML from files that others may have written: plain values of bounded number, without aliases and repeated keys."""

from __future__ import annotations

import re
from typing import Any

import yaml

MAX_VALUES = 100_000
"""The largest number of values and keys in a file. Each takes about a kilobyte while the file is read."""


class _StrictLoader(yaml.SafeLoader):
    """YAML with plain values only, without aliases and repeated keys.

    Aliases let a short file expand to a huge one. Of a key that is repeated, the first value would be lost in silence.
    """

    values = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.values += 1
        refused = "expected no aliases (*name); write the value out" if self.check_event(yaml.AliasEvent) else ""
        if self.values > MAX_VALUES:
            refused = f"expected at most {MAX_VALUES} values and keys"
        if refused:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, refused, mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in keys:
                    problem = "expected every key once; got one again"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                keys.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


def _as_in_yaml_1_2() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """Which plain values are no text, by their first character.

    PyYAML follows YAML 1.1, in which `on`, `yes` and `no` are booleans, `1:30` is 90, `010` is 8 and a date is a date.
    Here they are text, since they are keys, labels and names.
    """
    power = r"[eE][-+]?[0-9]+"
    patterns = {
        "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
        "int": (r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
        "float": (
            rf"[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:{power})?|[0-9]+{power}|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)",
            "-+0123456789.",
        ),
        "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    }
    resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    for kind, (pattern, firsts) in patterns.items():
        for first in firsts:
            rule = (f"tag:yaml.org,2002:{kind}", re.compile(f"^(?:{pattern})$"))
            resolvers.setdefault(first, []).append(rule)
    return resolvers


_StrictLoader.yaml_implicit_resolvers = _as_in_yaml_1_2()


class _Dumper(yaml.SafeDumper):
    """Quotes a text that YAML 1.1 or 1.2 would read as something else."""


_OLD, _NEW = yaml.SafeDumper.yaml_implicit_resolvers, _StrictLoader.yaml_implicit_resolvers
_Dumper.yaml_implicit_resolvers = {
    first: [*_OLD.get(first, ()), *_NEW.get(first, ())] for first in _OLD.keys() | _NEW.keys()
}


def dump_yaml(value: Any, *, allow_unicode: bool = True, width: int = 100) -> str:
    """A value as a YAML text that `parse_yaml` reads, its keys in their order.

    Raises:
        yaml.YAMLError: the value is not plain.
    """
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=allow_unicode, width=width)
    return text


def parse_yaml(text: str) -> Any:
    """The value of a YAML text.

    Raises:
        yaml.YAMLError: it is not YAML, has an alias, a repeated key or too many values.
        ValueError: it is nested too deeply, or a value is out of range.
    """
    try:
        return yaml.load(text, _StrictLoader)  # noqa: S506
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
