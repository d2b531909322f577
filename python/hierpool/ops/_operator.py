"""The base class of operators. Only this module uses autograd, and only :mod:`hierpool.ops._traced` torch.library.

In eager mode, one ``autograd.Function`` calls a backend directly, because PyTorch's dispatcher takes longer than
pooling a small batch. Compilers and tracers see the operators ``hierpool::<name>`` and ``hierpool::<name>_backward``,
or the composite of an operator that is not ``opaque``. Transforms of torch.func see the composite.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter, itemgetter
from types import ModuleType
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch._C._functorch import is_legacy_batchedtensor

from hierpool import backends
from hierpool._tracing import is_traced, is_transformed
from hierpool.ops._schema import Arguments
from hierpool.ops._traced import Traced, as_tuple

OPERATORS: dict[str, Operator] = {}
"""All operators by name."""


class NothingSaved(NamedTuple):
    """The type ``Saved`` of operators whose backward reads no results."""


class _View(NamedTuple):
    """Some fields of ``Out`` as the results of a call."""

    places: tuple[int, ...]  # in Out
    pick: Callable[[Sequence[Any]], tuple[Any, ...]]  # them from Out
    copied: tuple[int, ...]  # those, among them, that are returned as copies
    upstream: Callable[[Sequence[Any]], tuple[Any, ...]]  # gradients of all results from theirs and None


class Operator(Traced, ABC):
    """An operator: its types, its shapes and its composite.

    It is defined in a module with its name, which has the types. All types are NamedTuples.

    * ``Call``: the arguments. Its last field, ``options``, contains no tensors, and the last option is ``backend``.
    * ``Out``: what the forward of a backend returns.
    * ``Upstream``: gradients of the fields of ``Out`` that are results; ``None`` is zero.
    * ``Saved``: the fields of ``Out`` that the backward reads.
    * ``Leaves``: the arguments that may need a gradient.

    A backend has a module with the name of the operator, with ``forward(call) -> Out`` and
    ``backward(call, saved, upstream, needs) -> Leaves``, where ``needs`` is a ``Leaves`` of bools. It may have
    ``prepared(call) -> Call``, which adds what both would compute from the arguments.
    """

    name: ClassVar[str]
    Call: ClassVar[Any]
    Out: ClassVar[Any]
    Upstream: ClassVar[Any]
    Saved: ClassVar[Any]
    Leaves: ClassVar[Any]
    opaque: ClassVar[bool]

    def __init_subclass__(cls, opaque: bool = True) -> None:
        """Take the name and the types from the module of the class.

        ``opaque``: compilers see one operator; otherwise compilers and autocast see the composite.
        """
        super().__init_subclass__()
        module = sys.modules[cls.__module__]
        cls.name, cls.opaque = cls.__module__.rpartition(".")[2], opaque
        cls.Call, cls.Out, cls.Upstream, cls.Leaves = (
            getattr(module, kind) for kind in ("Call", "Out", "Upstream", "Leaves")
        )
        cls.Saved = getattr(module, "Saved", NothingSaved)

    def __init__(self) -> None:
        fields = self.Out._fields
        self._place = {name: place for place, name in enumerate(fields)}
        self._results = tuple(fields.index(name) for name in self.Upstream._fields)
        self._saved = tuple(fields.index(name) for name in self.Saved._fields)
        # Callers may change results in place: those that the backward reads are returned as copies. S is not copied;
        # as for torch.softmax, the backward raises an error if it was changed.
        self._copied = [place for place in self._saved if place in self._results and fields[place] != "s"]
        # A saved result that connects second derivatives to the first leaf, which may not be saved.
        self._witness: Any = next((place for place in self._saved if place in self._results), None)
        self._arguments = Arguments(self.Call)
        names = [argument.name for argument in self._arguments.list]
        self._places = tuple(names.index(name) for name in self.Leaves._fields)
        get = attrgetter(*(self._arguments.list[place].path for place in self._places))
        self._leaves = get if len(self._places) > 1 else lambda call: (get(call),)
        self._has_list = (
            self._arguments.list[self._places[-1]].kind == "Tensor[]"
        )  # only the last leaf may be a list
        self._pick_saved = _picker(self._saved)
        self._views: dict[tuple[str | int, ...] | None, _View] = {}  # by names or positions
        OPERATORS[self.name] = self
        if self.opaque:
            self._register()

    @abstractmethod
    def composite(self, call: Any) -> Any:
        """``Out`` in differentiable PyTorch: reference of the tests, fallback, and implementation for transforms."""

    def shapes(self, call: Any) -> Any:
        """Empty tensors with the shapes and dtypes of ``Out``. Opaque operators define it."""
        raise NotImplementedError

    def check_values(self, call: Any) -> None:
        """Raise ``ValueError`` for invalid values that can be read without synchronisation."""

    def reads_first(self, call: Any) -> bool:
        """Whether the backward of a backend reads the first argument, a leaf. Otherwise it is not saved."""
        return True

    def restored(self, call: Any, saved: Any) -> Any:
        """``call`` with the first argument, if it was not saved, computed from ``saved`` and differentiable in it."""
        return call

    def like_gradients(self, call: Any, saved: Any) -> Any:
        """Tensors with the shapes and dtypes of the gradients; ``None`` for a leaf that is ``None``."""
        return self.leaves(call)

    def defined(self, call: Any, out: Any) -> Any:
        """``out`` without uninitialised elements, for callers that compare all elements."""
        return out

    def backward(self, backend: ModuleType, call: Any, saved: Any, upstream: Any, needs: Any) -> Any:
        """The gradients of the leaves; those that are not needed are ignored."""
        return backend.backward(call, saved, upstream, needs)

    def _without_first(self, call: Any) -> Any:
        return self.Call._make((None, *call[1:]))

    def leaves(self, call: Any) -> Any:
        """The arguments that may need a gradient."""
        return self.Leaves._make(self._leaves(call))

    # ------------------------------------------------------------------------------------------------------------
    # calls

    def __call__(
        self,
        call: Any,
        wanted: tuple[str, ...] | None = None,
        read_only: bool = False,
        known: Any = None,
    ) -> tuple[Tensor, ...]:
        """All results, or the fields of ``Out`` named in ``wanted``. Autograd takes time for each.

        Args:
            call: the arguments.
            wanted: the fields of ``Out``.
            read_only: no result is changed in place, so that those that the backward reads need not be copied.
            known: ``Out``, if the backend has computed it already; without a history, and used nowhere else.
        """
        if is_traced():
            places = self._positions(wanted)
            # Programs that torch.export makes run without this package.
            if self.opaque and not torch.compiler.is_exporting():
                out = as_tuple(self.op(*self._arguments.flatten(call)))
                return tuple(
                    [out[place].clone() if place in self._copied else out[place] for place in places]
                )
            out = self.run_composite(call)
            return tuple([out[place] for place in places])
        # Not while traced: compilers guard a dictionary that they read, and compile again when it has grown.
        view = self._views.get(wanted) or self._views.setdefault(wanted, self._view(self._positions(wanted)))
        if is_transformed() or (not self.opaque and _is_autocast()):
            self._check_transform(call.options.backend)
            return view.pick(self.run_composite(call))
        backend = self.select(call)
        self.check_values(call)
        if backend is None:
            return view.pick(self.run_composite(call))
        if torch.is_grad_enabled() and getattr(call.options, "save", True):
            leaves = self._leaves(call)
            if self._has_list:
                leaves = (*leaves[:-1], *leaves[-1])
            for leaf in leaves:
                if leaf is not None and leaf.requires_grad:
                    # Faster than hasattr, which formats the message of an error that nobody reads.
                    prepared = backend.__dict__.get("prepared")
                    if prepared is not None:
                        call = prepared(call)
                    kept, held = call, None
                    if not self.reads_first(call):
                        kept = (None, *call[1:])
                        if self._witness not in view.places:
                            if leaves[0].numel() > _HELD:
                                places = (*view.places, self._witness)
                                view = self._views.get(places) or self._views.setdefault(
                                    places, self._view(places)
                                )
                                return _apply_fused(
                                    (self, backend, view, kept, None, read_only, known), call, *leaves
                                )[:-1]
                            held = leaves[0]
                    return _apply_fused((self, backend, view, kept, held, read_only, known), call, *leaves)
        return view.pick(backend.forward(call) if known is None else known)

    def _positions(self, wanted: tuple[str, ...] | None) -> tuple[int, ...]:
        """The positions in ``Out`` of the fields named in ``wanted``, or of all results."""
        return self._results if wanted is None else tuple([self._place[name] for name in wanted])

    def _view(self, places: tuple[int, ...]) -> _View:
        copied = tuple([i for i, place in enumerate(places) if place in self._copied])
        none = len(places)
        upstream = [places.index(place) if place in places else none for place in self._results]
        return _View(places, _picker(places), copied, _picker(upstream))

    def select(self, call: Any) -> ModuleType | None:
        """The module of the backend that computes ``call``; ``None`` is the composite."""
        for field in call:
            if isinstance(field, Tensor):
                break
        if field.is_cpu:  # all backends for CPU tensors take float64
            return backends.module(self.name, "cpu", call.options.backend)
        flat, _ = _pack(call)
        device_type = field.device.type
        tensors = [t for t in flat if isinstance(t, Tensor) and t.device.type == device_type]
        has_float64 = any(t.dtype is torch.float64 for t in tensors)
        return backends.module(self.name, device_type, call.options.backend, has_float64)

    def run_composite(self, call: Any) -> Any:
        """Run the composite. That of an opaque operator chooses the dtypes of its sums, so autocast is disabled."""
        if self.opaque:
            for device_type in ("cpu", "cuda"):
                if torch.is_autocast_enabled(device_type):
                    with torch.autocast(device_type, enabled=False):
                        return self.run_composite(call)
        return self.composite(call)

    def _check_transform(self, backend: str) -> None:
        if backend not in ("auto", "reference") and is_transformed():
            raise RuntimeError(
                f"backend {backend!r} cannot run {self.name} under transforms of torch.func or forward-mode AD;"
                " 'auto' and 'reference' can"
            )

    def _through_composite(
        self, call: Any, upstream: Sequence[Any], needs: Sequence[bool], **options: bool
    ) -> list[Any]:
        """The flat gradients of the leaves, by autograd through the composite."""
        with torch.enable_grad():
            call = self._with_own_leaves(call)
            leaves, _ = _pack(self.leaves(call))
            out = self.run_composite(call)
            results = [out[place] for place in self._results]
            pairs = [
                (t, grad)
                for t, grad in zip(results, upstream, strict=True)
                if grad is not None and t.requires_grad
            ]
            wanted = [leaf for leaf, need in zip(leaves, needs, strict=True) if need]
            outputs, grads = [t for t, _ in pairs], [grad for _, grad in pairs]
            found = torch.autograd.grad(
                outputs, wanted, grads, allow_unused=True, materialize_grads=True, **options
            )
        ordered = iter(found)
        return [next(ordered) if need else None for need in needs]

    def _with_own_leaves(self, call: Any) -> Any:
        """``call`` with a separate tensor for each leaf. One tensor may be given for several arguments."""

        def own(t: Tensor | None) -> Tensor | None:
            if t is None or not t.is_floating_point():
                return t
            return t.view_as(t) if t.requires_grad else t.detach().requires_grad_()

        flat = self._arguments.flatten(call)
        for place in self._places:
            given = flat[place]
            flat[place] = tuple(map(own, given)) if isinstance(given, tuple) else own(given)
        return self._arguments.build(flat)


class _Fused(torch.autograd.Function):
    """An operator in eager mode: forward and backward of a backend as one node of the autograd graph."""

    @staticmethod
    def forward(
        ctx: Any,
        state: tuple[Operator, ModuleType, _View, Any, Tensor | None, bool, Any],
        call: Any,
        *leaves: Tensor | None,
    ) -> tuple[Tensor, ...]:
        operator, backend, view, kept, held, read_only, known = state
        out = backend.forward(call) if known is None else known
        tensors, groups = _pack((*operator._pick_saved(out), *kept[:-1]))
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)
        ctx.state = operator, backend, view, groups, call.options, held
        if len(view.places) > len(operator._results):
            ctx.mark_non_differentiable(*[out[i] for i in view.places if i not in operator._results])
        results = view.pick(out)
        if read_only or not view.copied:
            return results
        return tuple([t.clone() if i in view.copied else t for i, t in enumerate(results)])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        operator, backend, view, groups, options, held = ctx.state
        needs = ctx.needs_input_grad[2:]
        some = batched = False
        for grad in grads:
            if grad is not None:
                some = True
                batched = batched or is_legacy_batchedtensor(grad)  # of is_grads_batched=True
        if not some:
            return (None,) * (2 + len(needs))
        upstream = operator.Upstream._make(view.upstream((*grads, None)))
        fields = _unpack(ctx.saved_tensors, groups)
        count = len(operator._saved)
        saved, call = operator.Saved._make(fields[:count]), operator.Call._make((*fields[count:], options))
        differentiable = torch.is_grad_enabled()
        if differentiable or batched or is_transformed():
            with torch.set_grad_enabled(differentiable):
                call = operator.restored(call, saved)
                if held is not None and differentiable:
                    call = call._replace(**{operator.Leaves._fields[0]: _connected(call[0], held, ctx)})
            found = operator._through_composite(call, upstream, needs, create_graph=differentiable)
        elif operator._has_list:
            last = len(operator.Leaves._fields) - 1
            leaves = operator.Leaves(*needs[:last], needs[last:])
            found = operator.backward(backend, call, saved, upstream, leaves)
            found = (*found[:last], *found[last])
        else:
            found = operator.backward(backend, call, saved, upstream, operator.Leaves._make(needs))
        return (None, None, *[grad if need else None for grad, need in zip(found, needs, strict=True)])


# Function.apply searches every argument for transforms of torch.func, which never get here.
_apply_fused: Any = super(torch.autograd.Function, _Fused).apply


_HELD = 2**14
"""Number of elements up to which a leaf is held until the backward, which takes less time than one more output."""


def _connected(t: Tensor, held: Tensor, ctx: Any) -> Tensor:
    """``t`` as a function of ``held`` with the derivative of ``held``."""
    node = held.grad_fn
    if node is not None and all(node is not other for other, _ in ctx.next_functions):
        raise RuntimeError(
            "the first argument was modified by an inplace operation: it has no second derivative"
        )
    finite = held.nan_to_num(0, 0, 0)
    return t.detach() + (finite - finite.detach())


def _pack(fields: Iterable[Any]) -> tuple[list[Any], list[Any]]:
    """Flatten tuples among the fields; return the flat list, and the type and position of each tuple."""
    flat: list[Any] = []
    groups: list[Any] = []
    for field in fields:
        if isinstance(field, tuple):
            groups.append((type(field), len(flat), len(flat) + len(field)))
            flat.extend(field)
        else:
            flat.append(field)
    return flat, groups


def _unpack(flat: tuple[Any, ...], groups: list[Any]) -> list[Any]:
    """The inverse of :func:`_pack`."""
    fields: list[Any] = []
    at = 0
    for kind, start, stop in groups:
        fields += flat[at:start]
        members = flat[start:stop]
        fields.append(members if kind is tuple else kind._make(members))
        at = stop
    fields += flat[at:]
    return fields


def _picker(places: Sequence[int]) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """What returns the elements at ``places`` as a tuple."""
    if len(places) > 1:
        return itemgetter(*places)
    return lambda fields: tuple([fields[place] for place in places])


def _is_autocast() -> bool:
    return torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")
