"""The README is short, and does what it says."""

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text(encoding="utf-8")


def test_the_example_runs(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len([line for line in example.splitlines() if line]) <= 10
    exec(compile(example, str(README), "exec"), {})
    assert capsys.readouterr().out == (
        "torch.Size([32, 31, 64]) torch.Size([20, 10, 64]) torch.Size([20, 10, 10]) ['cut_loss', 'ortho_loss']\n"
    )


def test_it_is_short():
    assert len(TEXT.splitlines()) <= 110
    assert TEXT.count("![") == 1, "one plot"


def test_files_it_links_to_exist():
    links = re.findall(r"\]\(([^)#:]+)\)", TEXT)
    assert links
    missing = [link for link in links if not (README.parent / link).exists()]
    assert not missing
