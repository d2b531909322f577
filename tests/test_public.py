"""What holds for every public function and layer.

Results may be changed in place, gradients may be batched, floats may change without a recompilation, and exported
programs do not need the package.
"""

from __future__ import annotations

import inspect
import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from hierpool import losses, soft_pool
from tests.support.public import Example, examples, gradients, leaves_of, named, tensors

# Not what returns its own arguments.
over = pytest.mark.parametrize("example", [e for e in examples() if e.name != "select_valid"], ids=str)
PLAIN = [one for one in examples() if not one.options and one.name != "DiffPoolNet"]


def connected(example: Example, given: dict[str, Any]) -> dict[str, Tensor]:
    """The results with a gradient."""
    if example.name == "GTVConv":
        example = replace(example, options={"act": None})  # the last step would be one of PyTorch
    out = named(example.make()(**given))
    # A network reads the results of a level again.
    return {name: t for name, t in out.items() if t.requires_grad and not name.startswith(".levels")}


def inputs_of(given: dict[str, Any]) -> list[Tensor]:
    return [t for t in tensors(given) if t.requires_grad]


def apart(out: dict[str, Tensor], name: str) -> list[Tensor]:
    """A result, and those that do not share its memory."""
    memory = out[name].untyped_storage().data_ptr()
    return [out[name], *(t for t in out.values() if t.untyped_storage().data_ptr() != memory)]


@over
def test_results_may_be_changed_in_place(example: Example) -> None:
    """The assignment excepted: as for torch.softmax, autograd raises an error."""
    for name in connected(example, leaves_of(example.arguments())):
        given = leaves_of(example.arguments())
        changed, *others = apart(connected(example, given), name)
        expected = gradients([changed * 3, *others], inputs_of(given))
        given = leaves_of(example.arguments())
        changed, *others = apart(connected(example, given), name)
        changed.mul_(3)
        if name.endswith(".s") or (example.name, name) == ("DMoNPooling", ".0"):
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                gradients([changed, *others], inputs_of(given))
        else:
            got = gradients([changed, *others], inputs_of(given))
            torch.testing.assert_close(got, expected, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize(
    "example", [e for e in PLAIN if not e.is_layer and e.name != "select_valid"], ids=str
)
def test_results_may_be_changed_in_place_in_compiled_code(example: Example) -> None:
    function = example.make()

    def call(given: dict[str, Any], in_place: bool) -> list[Tensor]:
        out = {name: t for name, t in named(function(**given)).items() if name != ".s"}
        return [t.mul_(3) if in_place else t * 3 for t in out.values()]

    torch._dynamo.reset()
    given = leaves_of(example.arguments())
    results = torch.compile(call, backend="aot_eager", fullgraph=True)(given, True)
    got = gradients(results, inputs_of(given))
    given = leaves_of(example.arguments())
    torch.testing.assert_close(got, gradients(call(given, False), inputs_of(given)))


@over
def test_gradients_may_be_batched(example: Example) -> None:
    given = leaves_of(example.arguments())
    inputs = inputs_of(given)
    options = {"retain_graph": True, "allow_unused": True}
    for name, t in connected(example, given).items():
        if t.isnan().any():  # a field that was not computed
            continue
        weights = torch.randn(2, *t.shape, dtype=t.dtype)
        pairs = zip(*(torch.autograd.grad(t, inputs, w, **options) for w in weights), strict=True)
        expected = tuple(None if one is None else torch.stack([one, two]) for one, two in pairs)
        batched = torch.autograd.grad(t, inputs, weights, is_grads_batched=True, **options)
        torch.testing.assert_close(batched, expected, msg=lambda text, name=name: f"{name}: {text}")


VALUES = (0.5, 0.7, 0.9, 0.2, 0.25, 0.31, 1.0, 0.15, 0.6, 0.8, 0.1, 0.12)
NEEDS = {"drop": {"sparse_output": True}}  # arguments without which a float is refused


def floats() -> Iterator[Any]:
    """The float arguments of functions, and the float attributes of layers."""
    for example in PLAIN:
        if example.is_layer:
            names = [name for name, value in vars(example.make()).items() if type(value) is float]
        else:
            names = [name for name, p in example.parameters.items() if "float" in str(p.annotation)]
        for name in names:
            # Not what draws random numbers, nor poolers twice.
            if name != "dropout" and not (example.is_pooler and example.is_sparse):
                yield pytest.param(example, name, id=f"{example}-{name}")


def assert_compiled_once(
    call: Callable[[float], Any], compiler: str, prepare: Callable[[float], None] = lambda value: None
) -> None:
    """Once for a constant and once for a variable."""
    torch._dynamo.reset()
    counters.clear()
    compiled = torch.compile(call, backend=compiler, fullgraph=True)
    with torch.no_grad():
        for value in VALUES:
            prepare(value)
            torch.testing.assert_close(named(compiled(value)), named(call(value)))
    assert counters["stats"]["unique_graphs"] <= 2


@pytest.mark.parametrize(("example", "name"), floats())
@pytest.mark.parametrize("compiler", ["aot_eager", "inductor"])
def test_floats_are_compiled_once(example: Example, name: str, compiler: str) -> None:
    """Also where a float is used in other arithmetic as well."""
    given = example.arguments(dtype=torch.float32) | NEEDS.get(name, {})
    function = example.make(dtype=torch.float32)
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=name == "drop"):
        if not example.is_layer:
            assert_compiled_once(
                lambda value: (given["s"] * value, function(**given, **{name: value * 2})), compiler
            )
        elif compiler == "aot_eager":
            # With alpha = 1, HOSCPool computes fewer terms.
            assert_compiled_once(
                lambda value: function(**given), compiler, lambda value: setattr(function, name, value * 0.9)
            )


@pytest.mark.parametrize("compiler", ["aot_eager", "inductor"])
def test_floats_of_losses_are_compiled_once(compiler: str) -> None:
    (example,) = (one for one in PLAIN if str(one) == "soft_pool-dense")
    record = soft_pool(**example.arguments(), gram=True)
    for loss in map(vars(losses).get, losses.__all__):
        if inspect.isfunction(loss) and "eps" in inspect.signature(loss).parameters:
            assert_compiled_once(lambda value, loss=loss: loss(record, eps=value), compiler)


class Exported(torch.nn.Module):
    """A function or layer as a module of its tensors, with its other arguments."""

    def __init__(self, example: Example) -> None:
        super().__init__()
        self.function = example.make(dtype=torch.float32)
        given = example.arguments(dtype=torch.float32)
        self.inputs = {name: value for name, value in given.items() if isinstance(value, Tensor)}
        self.others = {name: value for name, value in given.items() if name not in self.inputs}

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return named(self.function(**inputs, **self.others))


# Sparse poolers consist of the functions. The largest graph decides the shape of what lift returns for a ragged batch.
EXPORTED = [
    one for one in PLAIN if not (one.is_sparse and (one.is_pooler or one.is_hard or one.name == "lift"))
]


@pytest.mark.parametrize("example", EXPORTED, ids=str)
@pytest.mark.parametrize("strict", [False, True], ids=["non-strict", "strict"])
def test_exported_programs_do_not_need_the_package(example: Example, strict: bool) -> None:
    """Those of torch.export, and of ONNX."""
    if strict and example.is_layer:
        return  # as the functions
    module = Exported(example).eval()
    program = torch.export.export(module, (module.inputs,), strict=strict).run_decompositions()
    assert not [str(node.target) for node in program.graph.nodes if "hierpool" in str(node.target)]
    other = {name: t * 2 if t.is_floating_point() else t for name, t in module.inputs.items()}
    expected = module(other)
    torch.testing.assert_close(program.module()(other), expected)
    if not strict and not example.is_pooler:  # poolers consist of the functions
        onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
        converted = torch.onnx.export(program, dynamo=True, verbose=False)
        assert converted is not None
        session = onnxruntime.InferenceSession(converted.model_proto.SerializeToString())
        names = [one.name for one in session.get_inputs()]
        outputs = session.run(None, dict(zip(names, (t.numpy() for t in other.values()), strict=True)))
        got = [torch.from_numpy(t) for t in outputs]
        torch.testing.assert_close(got, list(expected.values()), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["dense_diff_pool", "dense_mincut_pool", "DMoNPooling"])
def test_traced_programs_can_be_saved(name: str) -> None:
    (example,) = (one for one in PLAIN if str(one) == f"{name}-dense")
    given = example.arguments(dtype=torch.float32)
    function = example.make(dtype=torch.float32)
    if isinstance(function, torch.nn.Module):
        function.requires_grad_(False)  # a constant of the program

    def call(x: Tensor, adj: Tensor) -> Any:
        return function(**given | {"x": x, "adj": adj})

    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(call, (given["x"], given["adj"])), file)
    file.seek(0)
    loaded = torch.jit.load(file)
    other = given["x"] * 2, given["adj"] * 3
    torch.testing.assert_close(loaded(*other), call(*other))
