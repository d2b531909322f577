"""The examples of the documentation run, and its tables match the code."""

from __future__ import annotations

import math
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hierpool.cli.main import COMMANDS, command_parser
from hierpool.cli.options import make_config
from hierpool.nn import HARD_POOLERS, POOLERS, SelectOutput, get_pooler
from hierpool.training import TrainConfig
from tests.support.poolers import F, K, forms, make_batch, scalar
from tests.support.tgp import import_tgp
from tests.test_layers import ALLOWED

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md")), ROOT / "examples" / "README.md"]


def run_snippets(page: str, section: str = "") -> dict[str, Any]:
    """The names that the snippets of a page, or of a section of it, define one after another."""
    text = (DOCS / page).read_text(encoding="utf-8")
    if section:
        text = text.split(f"## {section}\n", 1)[1].split("\n## ", 1)[0]
    names: dict[str, Any] = {}
    snippets = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert snippets
    for snippet in snippets:
        exec(compile(snippet, page, "exec"), names)
    return names


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_files_that_a_page_links_to_exist(page: Path) -> None:
    prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)#:]+)\)", prose)
    made = "gallery/"  # by `make docs`
    assert not [link for link in links if not (link.startswith(made) or (page.parent / link).exists())]


def test_contributing_names_every_folder_of_the_package() -> None:
    """Once each, above the folders that it may import."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text.split("| package | content |\n", 1)[1].split("\n\n", 1)[0]
    named = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    package = ROOT / "python" / "hierpool"
    assert sorted(named) == sorted(path.parent.name for path in package.glob("*/__init__.py"))
    for place, name in enumerate(named):
        allowed = {part.removeprefix("hierpool.") for part in ALLOWED[f"hierpool.{name}"]}
        assert not allowed & {*named[:place]}, f"{name} may import a folder above it"


def test_the_pages_name_every_command() -> None:
    page = (DOCS / "commands.md").read_text(encoding="utf-8")
    section = (
        (DOCS / "guide.md").read_text(encoding="utf-8").split("## Commands\n", 1)[1].split("\n## ", 1)[0]
    )
    assert re.findall(r"^## (\w+)", page, re.MULTILINE) == re.findall(r":func: (\w+)", page) == [*COMMANDS]
    assert {*re.findall(r"^    python -m hierpool (\w+)", section, re.MULTILINE)} == {*COMMANDS}


def _command_lines() -> list[tuple[str, str]]:
    """The name of a page and every command line in it that has arguments."""
    found = []
    for page in [ROOT / "README.md", *PAGES]:
        text = page.read_text(encoding="utf-8")
        for line in re.findall(r"(?:python|torchrun .*)? ?-m hierpool (\w+ [^`#\n]+)", text):
            if "..." not in line:
                found.append((page.name, line.strip()))
    return found


@pytest.mark.parametrize(("page", "line"), _command_lines())
def test_command_lines_of_a_page_have_options_that_exist(page: str, line: str) -> None:
    name, *arguments = shlex.split(line)
    args = command_parser(name).parse_args(arguments)
    if name == "train":
        make_config(TrainConfig, args)


def test_the_guide_runs(capsys: pytest.CaptureFixture[str]) -> None:
    run_snippets("guide.md")
    assert capsys.readouterr().out == (
        "torch.Size([32, 31, 64]) torch.Size([32]) torch.Size([32, 31])\n"
        "torch.Size([32, 10, 64]) torch.Size([32, 10, 10]) torch.Size([])\n"
        "torch.Size([1000, 64]) torch.Size([32, 10, 10])\n"
        "HardPoolingOutput True\n"
    )


def test_the_quickstart_runs(capsys: pytest.CaptureFixture[str]) -> None:
    run_snippets("quickstart.md")
    *lines, predicted = capsys.readouterr().out.splitlines()
    assert lines == [
        "torch.Size([4, 5, 16]) torch.Size([4, 5, 5])",
        "torch.Size([4, 5, 16]) True",
        "torch.Size([4, 5, 16]) ['cut_loss', 'ortho_loss']",
    ]
    assert predicted == "[0, 1, 1, 0]"


def test_the_pages_on_large_graphs_and_of_the_site_run(capsys: pytest.CaptureFixture[str]) -> None:
    run_snippets("large-graphs.md")
    shapes, agreement = capsys.readouterr().out.splitlines()
    assert shapes == "torch.Size([1, 8, 16]) torch.Size([1, 8, 8])"
    assert float(agreement) >= 0.9
    run_snippets("index.md")


@pytest.fixture
def map_equation(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    for registry, name in ((POOLERS, "map"), (HARD_POOLERS, "alike")):
        monkeypatch.setitem(registry, name, None)  # to be removed at the end
    names = run_snippets("add-a-pooler.md")
    assert capsys.readouterr().out == "1.00\n[4, 4] [2, 12]\n"
    return names["MapEquationPool"]


def codelength(adj: Tensor, cluster: list[int]) -> float:
    """The map equation of a walk on the edges, without the nodes' own term, from its words one by one."""
    flow = (adj / adj.sum()).tolist()
    nodes = range(len(cluster))

    def plog(x: float) -> float:
        return x * math.log2(x) if x > 0 else 0.0

    leaving = [0.0] * K
    entering = [0.0] * K
    visits = [0.0] * K
    for i in nodes:
        for j in nodes:
            visits[cluster[i]] += flow[i][j]
            if cluster[i] != cluster[j]:
                leaving[cluster[i]] += flow[i][j]
                entering[cluster[j]] += flow[i][j]
    modules = plog(sum(entering)) - sum(map(plog, entering)) - sum(map(plog, leaving))
    return modules + sum(plog(v + e) for v, e in zip(visits, leaving, strict=True))


def test_a_pooler_from_the_page(map_equation: Any) -> None:
    assert type(get_pooler("map", in_channels=F, k=K)) is map_equation
    batch = make_batch()
    pool = map_equation(F, K).double()
    outs = [pool(batch.padded, batch.adj, mask=batch.mask)]
    outs += [pool(*args, **options) for args, options in forms(batch).values()]
    for out in outs:
        torch.testing.assert_close(out.loss, outs[0].loss)
        scalar(out).backward()
    assert all(p.grad.isfinite().all() for p in pool.parameters())


def test_its_loss_is_the_map_equation(map_equation: Any) -> None:
    adj = make_batch().adj[2]  # weighted and directed
    cluster = [0, 1, 2, 0, 1, 2, 0, 0]
    so = SelectOutput.from_clusters(torch.tensor(cluster), K)
    loss = map_equation(F, K).double()(torch.zeros(8, F, dtype=torch.float64), adj, so=so).loss
    assert loss["codelength"].item() == pytest.approx(codelength(adj, cluster), abs=1e-12)


def test_the_section_on_pytorch_geometric_runs() -> None:
    pyg = pytest.importorskip("torch_geometric.nn", reason="torch_geometric (extra: pyg) is not installed")
    before = pyg.dense_mincut_pool
    names = run_snippets("switching.md", "From PyTorch Geometric")
    assert [t.shape for t in names["pooled"][:2]] == [(2, 4, 16), (2, 4, 4)]
    assert pyg.dense_mincut_pool is before


def test_the_section_on_torch_geometric_pool_runs() -> None:
    forward = import_tgp("tgp.poolers").DiffPool.forward
    names = run_snippets("switching.md", "From torch-geometric-pool")
    assert names["ours"].x.shape == (3, 5, 16)
    assert names["x_lifted"].shape == (3, 30, 16)
    assert names["DiffPool"].forward is forward


def test_the_cheat_sheet_is_what_the_poolers_are() -> None:
    """Made by python -m bench poolers."""
    from bench.report import poolers

    assert poolers.PAGE.read_text(encoding="utf-8") == poolers.page()
