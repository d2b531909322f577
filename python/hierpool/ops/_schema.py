"""Schemas of operators, derived from the annotations of their types, and flat lists of arguments for compilers."""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints

from torch import Tensor

_KINDS = {
    Tensor: "Tensor",
    bool: "bool",
    int: "SymInt",
    float: "float",
    str: "str",
    tuple[Tensor, ...]: "Tensor[]",
    tuple[int, ...]: "SymInt[]",
}


class Argument(NamedTuple):
    """One argument of an operator."""

    name: str
    path: str  # its attribute in the call, such as "adj.value"
    kind: str  # its type in the schema, such as "Tensor?"


class _Group(NamedTuple):
    """A field of a call that is a NamedTuple, of one of several types."""

    alternatives: tuple[Any, ...]
    names: tuple[str, ...]  # of all members; a name may belong to several alternatives
    required: tuple[frozenset[str], ...]  # members of each alternative that are never None

    def build(self, members: Sequence[Any]) -> Any:
        """The alternative that has exactly the given members."""
        found = dict(zip(self.names, members, strict=True))
        given = {name for name, value in found.items() if value is not None}
        for kind, required in zip(self.alternatives, self.required, strict=True):
            if required <= given <= set(kind._fields):
                return kind(**{name: found[name] for name in kind._fields})
        raise ValueError(f"no type of {self.alternatives} has exactly the arguments {sorted(given)}")


class Arguments:
    """The arguments of a call of type ``cls``, a NamedTuple of values and of NamedTuples of values."""

    def __init__(self, cls: Any) -> None:
        self._cls = cls
        self._fields: list[_Group | None] = []
        self.list: list[Argument] = []
        for field, hint in get_type_hints(cls).items():
            alternatives = _options_of(hint)
            if not hasattr(alternatives[0], "_fields"):
                self._fields.append(None)
                self.list.append(Argument(field, field, schema_type(hint)))
                continue
            hints = [get_type_hints(kind) for kind in alternatives]
            kinds = {name: schema_type(one) for members in hints for name, one in members.items()}
            required = tuple(
                frozenset(name for name, one in members.items() if not schema_type(one).endswith("?"))
                for members in hints
            )
            self._fields.append(_Group(alternatives, tuple(kinds), required))
            for name, kind in kinds.items():
                everywhere = all(name in one for one in required)
                full = kind if everywhere or kind.endswith("?") else f"{kind}?"
                self.list.append(Argument(name, f"{field}.{name}", full))

    def flatten(self, call: Any) -> list[Any]:
        """The arguments in the order of the schema."""
        flat: list[Any] = []
        for group, field in zip(self._fields, call, strict=True):
            if group is None:
                flat.append(field)
            else:
                flat.extend([getattr(field, name, None) for name in group.names])
        return flat

    def build(self, flat: Sequence[Any]) -> Any:
        """The call, from the arguments in the order of the schema."""
        fields, at = [], 0
        for group in self._fields:
            if group is None:
                fields.append(flat[at])
                at += 1
            else:
                fields.append(group.build(flat[at : at + len(group.names)]))
                at += len(group.names)
        return self._cls(*fields)

    def declaration(self, optional: bool = False) -> str:
        """The arguments as text of a schema. With ``optional``, every tensor may be ``None``."""
        kinds = (f"{a.kind}?" if optional and a.kind == "Tensor" else a.kind for a in self.list)
        return ", ".join(f"{kind} {a.name}" for kind, a in zip(kinds, self.list, strict=True))


def _options_of(hint: Any) -> tuple[Any, ...]:
    """The types of a union except None, or the type itself."""
    if get_origin(hint) in (Union, types.UnionType):
        return tuple(one for one in get_args(hint) if one is not type(None))
    return (hint,)


def schema_type(hint: Any) -> str:
    """The name of a type in a schema."""
    (kind,) = _options_of(hint)
    optional = "?" if kind is not hint else ""
    return _KINDS.get(kind, "SymInt") + optional  # an enumeration of integers


def returns(cls: Any) -> str:
    """The return type in a schema of an operator that returns the fields of ``cls``."""
    kinds = [f"{schema_type(hint)} {name}" for name, hint in get_type_hints(cls).items()]
    return kinds[0].split()[0] if len(kinds) == 1 else f"({', '.join(kinds)})"
