"""A sparse matrix whose values may change, and what is derived from it."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor

from hierpool._tracing import is_traced, is_transformed
from hierpool.graph import build
from hierpool.graph.facts import Facts, normally
from hierpool.graph.values import Own, Values

Self = TypeVar("Self", bound="CompressedRows")


class CompressedRows:
    """The matrix of a :class:`hierpool.RaggedGraph`: its arrays, its present values, its symmetry and its transpose."""

    _attr: Values | None = None  # features of the entries
    _attr_facts: Facts | None = None

    def __init__(
        self,
        rowptr: Tensor,
        col: Tensor,
        value: Tensor | Values | None,
        ptr: Tensor,
        order: Tensor | None = None,
        is_symmetric: bool | None = False,
    ) -> None:
        """Store the arrays described above, which the graph then owns, without checking them.

        ``is_symmetric`` is trusted; ``None``: values are tested when it is needed.
        """
        self.rowptr, self.col, self.ptr, self.order = rowptr, col, ptr, order
        self.num_nodes: int = rowptr.numel() - 1
        self.num_edges: int = col.numel()
        self.num_graphs: int = ptr.numel() - 1
        self._values = Own(value) if isinstance(value, Tensor) else value
        self._stated = is_symmetric
        self._trusts_counts = False
        self._facts: Facts | None = None
        self._transpose: tuple[Tensor, Tensor, Tensor] | None = None

    def _with_symmetry(self: Self, tested: bool | None = None) -> Self:
        """The graph itself, with its symmetry tested if it is not stated and the values need no gradient.

        ``tested``: the result of the test; ``None``: test now.
        """
        if self._stated is None and not self._is_learned:
            value = self.value
            if tested is None:
                tested = build.is_symmetric(self.rowptr, self.col, value)
            if self._values is None:
                self._stated = tested
            elif not is_traced():
                self._present(self._values).symmetric = tested
        return self

    def _with_attr(self: Self, attr: Tensor | Values | None, facts: Facts | None = None) -> Self:
        """The graph itself, with features of its entries."""
        self._attr, self._attr_facts = Own(attr) if isinstance(attr, Tensor) else attr, facts
        return self

    def _with_facts(self: Self, value: Tensor, symmetric: bool) -> Self:
        """The graph itself, with its values and their symmetry, which are known."""
        if self._values is not None and not is_transformed():
            self._facts = Facts(value, self._values.sources)
            self._facts.symmetric = symmetric
        return self

    @property
    def _is_learned(self) -> bool:
        return self._values is not None and self._values.is_learned

    def _present(self, values: Values, kept: str = "_facts") -> Facts:
        """The present values and what is kept of them: nothing under transforms of ``torch.func``.

        ``kept``: the name of the attribute that holds it.
        """
        if is_transformed():
            return Facts(values.values(self.rowptr))
        sources, facts = values.sources, getattr(self, kept)
        if facts is None or not facts.come_from(sources):
            facts = Facts(normally(values.values, self.rowptr), sources)
            setattr(self, kept, facts)
        elif not facts.are_current():  # value was changed in place
            facts = Facts(facts.value, sources)
            setattr(self, kept, facts)
        return facts

    @property
    def value(self) -> Tensor | None:
        """Weight of each entry; see the attributes of the class."""
        values = self._values
        if values is None:
            return None
        if type(values) is Own:  # which is what it is; nothing has to be kept to know that
            return values.value
        return values.values(self.rowptr) if is_traced() else self._present(values).value

    @property
    def edge_attr(self) -> Tensor | None:
        """Features of each entry; see the attributes of the class."""
        attr = self._attr
        if attr is None:
            return None
        return attr.values(self.rowptr) if is_traced() else self._present(attr, "_attr_facts").value

    def has_symmetric_attr(self) -> bool:
        """Whether the matrix and every column of ``edge_attr`` equal their transposes; ``False`` if it is unknown."""
        if self._attr is None or is_traced() or is_transformed() or not self.is_symmetric:
            return False
        facts = self._present(self._attr, "_attr_facts")
        value = facts.value.detach()
        if facts.symmetric is None or (facts.value.requires_grad and not self._trusts_counts):
            tested = value.device.type == "cpu" or not facts.value.requires_grad  # a test synchronises a GPU
            facts.symmetric = tested and torch.equal(value, value[self.reversed_entries()[2].long()])
        return facts.symmetric

    @property
    def is_symmetric(self) -> bool:
        """Whether the matrix equals its transpose; see the attributes of the class."""
        if self._stated is not None:
            return self._stated
        if self._values is None or is_traced():
            return False
        return self._is_symmetric_by(self._present(self._values))

    def _is_symmetric_by(self, facts: Facts) -> bool:
        value = facts.value
        if facts.symmetric is None or (value.requires_grad and not self._trusts_counts):
            facts.symmetric = value.device.type == "cpu" and build.is_symmetric(self.rowptr, self.col, value)
        return facts.symmetric

    def within_a_call(self: Self) -> Self:
        """The graph itself, for use before its weights can change without being counted.

        Weights that need a gradient are shared, not copied, so that others test their symmetry every time.
        """
        self._trusts_counts = True
        return self

    def transposed(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Row pointers, columns and values of :math:`A^T`, detached; kept until ``value`` changes."""
        if self.is_symmetric:
            value = self.value
            return self.rowptr, self.col, None if value is None else value.detach()
        rowptr, col, source = self.reversed_entries()
        if self._values is None:
            return rowptr, col, None
        if is_traced():
            return rowptr, col, self._values.values(self.rowptr).detach()[source]
        return rowptr, col, self._present(self._values).transposed(source)

    def reversed_entries(self) -> tuple[Tensor, Tensor, Tensor]:
        """Row pointers and columns of :math:`A^T`, and for each of its entries the entry of :math:`A`; kept."""
        if self._transpose is not None:
            return self._transpose
        if is_traced():  # a traced tensor must not be kept
            return build.transpose_traced(self.rowptr, self.col)
        transpose = build.transpose(self.rowptr, self.col)
        if not is_transformed():  # which wraps what is made
            self._transpose = transpose
        return transpose

    def __getstate__(self) -> dict[str, Any]:
        symmetric = None if self._stated is not None or self._is_learned else self.is_symmetric
        return self.__dict__ | {"_facts": symmetric, "_attr_facts": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        symmetric = state["_facts"]
        self.__dict__.update(state, _facts=None)
        if symmetric is not None:
            self._with_symmetry(symmetric)
