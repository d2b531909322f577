"""The README does what it says."""

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_the_usage_example_runs(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(example, str(README), "exec"), {})
    assert capsys.readouterr().out == (
        "torch.Size([32, 31, 64]) torch.Size([32]) torch.Size([32, 31])\n"
        "torch.Size([32, 10, 64]) torch.Size([32, 10, 10]) torch.Size([])\n"
        "torch.Size([1000, 64]) torch.Size([32, 10, 10])\n"
    )


def test_files_it_links_to_exist():
    links = re.findall(r"\]\(([^)#:]+)\)", README.read_text(encoding="utf-8"))
    assert links
    missing = [link for link in links if not (README.parent / link).exists()]
    assert not missing
