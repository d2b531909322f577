"""Edge lists as people have them: the same edges from every form, and errors that name the line."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import pytest

from hierpool.data import DatasetError, load_large, read_edge_list, text
from tests.support.files import write

np = pytest.importorskip("numpy", reason="numpy (extra: train) is not installed")


def test_a_file_is_parsed_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "CHUNK_LINES", 3)
    lines = ["# head\n"] * 7 + [f"{i} {i + 1}\n" for i in range(10)]
    file = write(tmp_path / "g.txt", "".join(lines))
    edges = read_edge_list(file)
    assert edges.source.tolist() == list(range(10))
    assert edges.target.tolist() == list(range(1, 11))
    write(tmp_path / "g.txt", "".join([*lines, "11 x\n"]))
    with pytest.raises(DatasetError, match=r"g\.txt, line 18: a node id must be a 64-bit integer, got 'x'"):
        read_edge_list(file)


FORMS = {
    "tabs": "0\t1\n1\t2\n",
    "spaces": "  0   1  \n\n# a comment\n% another\n-5 9223372036854775807\n",
    "commas": "0, 1, 0.5\n1,2,1e-3\n 2 , 3 , 7\n",
    "header": "source;target;time;weight\n0;1;x;2\n1;2;y;.25\n",
    "trailing": "0 1 # a comment\n1 2\n",
    "decimals": "0.0 1.0\n1 2\n",
    "plus": "+1 2\n",
    "digits": "0 1 0.1234567890123456789\n1 2 4.9e-324\n2 3 1.7976931348623157e308\n3 4 1e-400\n",
    "windows": "0 1\r\n1 2\r\n",
}
FAULTS = (
    "0,1,\n",
    "0 1\n1 2 3\n",
    "0 1 1\n1 2 -1\n",
    "0 1 1\n1 2 inf\n",
    "0 1\n1 99999999999999999999\n",
    "0,1\n1,,2\n",
)


@pytest.mark.parametrize("content", [*FORMS.values(), *FAULTS], ids=[*FORMS, *map(repr, FAULTS)])
def test_the_reader_in_cpp_reads_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    pytest.importorskip("hierpool._C", reason="hierpool._C was not built")
    file = write(tmp_path / "g.txt", content)

    def outcome() -> object:
        try:
            edges = read_edge_list(file)
        except DatasetError as error:
            return str(error)
        weight = None if edges.weight is None else edges.weight.tolist()
        return edges.source.tolist(), edges.target.tolist(), weight, edges.notes

    fast = outcome()
    monkeypatch.setitem(sys.modules, "hierpool._C", None)
    assert outcome() == fast


def test_the_reader_in_cpp_takes_plain_lines_itself() -> None:
    module = pytest.importorskip("hierpool._C", reason="hierpool._C was not built")
    source, target = module.read_edges(["0 1\n", "# no edge\n", "1 2\n"], "", 2, 0, 1, -1)
    assert (source.tolist(), target.tolist()) == ([0, 1], [1, 2])
    assert module.read_edges(["0 1\n", "1 2 3\n"], "", 2, 0, 1, -1) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("0 1\n# c\n1 b\n", "line 3: a node id must be a 64-bit integer, got 'b'"),
        ("0 1\n1.5 2\n", "line 2: a node id must be a 64-bit integer, got '1.5'"),
        (f"0 {2**63}\n", "line 1: a node id must be a 64-bit integer"),
        ("0 1\n\n1 2 3\n", "line 3: expected 2 columns as in earlier lines, got '1 2 3'"),
        ("0 1 1\n1 2\n", "line 2: expected 3 columns as in earlier lines, got '1 2'"),
        ("0 1 1\n1 2 -1\n", "line 2: a weight must be finite and not negative, got '-1'"),
        ("0 1 nan\n", "line 1: a weight must be finite and not negative, got 'nan'"),
        ("0 1 inf\n", "line 1: a weight must be finite and not negative, got 'inf'"),
        ("0 1 one\n", "line 1: a weight must be finite and not negative, got 'one'"),
        ("0\n", "line 1: an edge is 'source target' or 'source target weight', got '0'"),
        ("0 1 2 3\n", "line 1: an edge is 'source target' or 'source target weight', got '0 1 2 3'"),
        ("# nothing\n", "holds no edge"),
        ("", "holds no edge"),
    ],
)
def test_errors_name_the_line(tmp_path: Path, content: str, message: str) -> None:
    file = write(tmp_path / "bad.txt", content)
    with pytest.raises(DatasetError, match=message) as caught:
        load_large(file)
    assert file in str(caught.value)


def test_damaged_files(tmp_path: Path) -> None:
    whole = gzip.compress(b"0 1\n" * 1000)
    for name, content in (("cut.gz", whole[:-20]), ("no.gz", b"0 1\n"), ("binary.txt", b"\xff\xfe\x00\n")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DatasetError, match=rf"{name} cannot be read as text"):
            load_large(str(tmp_path / name))
    with pytest.raises(DatasetError, match="input must be a file or one of Cora, CiteSeer"):
        load_large(str(tmp_path / "missing.txt"))


EDGES = [(3, 5), (5, 4), (4, 3), (4, 12)]
WEIGHTS = [0.5, 2.0, 1.0, 8.0]


def lines(form: str) -> str:
    return "".join(form.format(u=u, v=v, w=w) for (u, v), w in zip(EDGES, WEIGHTS, strict=True))


@pytest.mark.parametrize(
    ("content", "weighted"),
    [
        ("\ufeff" + lines("{u} {v}\n"), False),
        ("source,target\n" + lines("{u},{v}\n"), False),
        ("Source\tTarget\tWeight\n" + lines("{u}\t{v}\t{w}\n"), True),
        ("from to w\n" + lines("{u} {v} {w}\n"), True),
        ("a;b\n" + lines("{u};{v}\n"), False),  # any names, as numbers follow
        ("weight,target,source\n" + lines("{w},{v},{u}\n"), True),
        ("Source,Target,Type,Id,Label,Weight\n" + lines("{u},{v},Undirected,7,,{w}\n"), True),  # Gephi
        (",source,target\n" + lines("9,{u},{v}\n"), False),  # pandas with row numbers
        ('"source","target"\n' + lines('"{u}","{v}"\n'), False),
        ("source,target,timestamp\n" + lines("{u},{v},1082040961\n"), False),
        ("% sym unweighted\n% 4 4 4\n" + lines("{u} {v}\n"), False),  # KONECT
        ("% sym posweighted\n" + lines("{u} {v} {w}\n"), True),
        ("% sym posweighted\n" + lines("{u}\t{v} {w} 1082040961\n"), True),
        (lines("{u} {v}\n") + "% end\n", False),
        (lines("{u} {v} {{}}\n"), False),  # NetworkX
        (lines("{u} {v} {{'weight': {w}}}\n"), True),
        (lines("{u} {v} {{'weight': np.float64({w}), 'colour': 'a, b'}}\n"), True),
        (lines("{u},{v},{{'weight': {w}}}\n"), True),
        (lines("{u} {v} {{'colour': 'red'}}\n"), False),
        (lines("{u};{v};{w}\n"), True),
        (lines("{u}.0 {v}.0\n"), False),
        (lines("{u}.0,{v}.00,{w}\n"), True),
        (lines("+{u} {v} {w}e0\r\n"), True),
        (lines("{u} {v}\r"), False),
    ],
)
def test_every_form_is_read(tmp_path: Path, content: str, weighted: bool) -> None:
    edges = read_edge_list(write(tmp_path / "g.txt", content))
    assert list(zip(edges.source.tolist(), edges.target.tolist(), strict=True)) == EDGES
    assert (None if edges.weight is None else edges.weight.tolist()) == (WEIGHTS if weighted else None)
    assert edges.names is None


def test_columns_that_are_left_out_are_told(tmp_path: Path) -> None:
    file = write(tmp_path / "g.csv", "Source,Target,Type,Weight\n0,1,Directed,2\n")
    assert read_edge_list(file).notes == (
        "line 1 was read as names of columns: Source, Target, Type, Weight",
        "columns were left out: Type",
    )
    konect = write(tmp_path / "out.k", "% asym positive\n1 2 1 1082040961\n")
    assert load_large(konect).notes[0] == "the fourth column, times, was left out"


@pytest.mark.parametrize(
    "content",
    [
        "bob ann\nann 7\n7 bob\n",
        "# people\nbob ann\n% more\nann 7\n7 bob\n",
        "source target\nbob ann\nann 7\n7 bob\n",
        "bob,ann\nann,7\n 7 , bob\n",
        '"bob";"ann"\n"ann";7\n7;"bob"\n',
        "bob\tann\nann\t7\n7\tbob\n",
        "bob ann {}\nann 7 {}\n7 bob {}\n",
    ],
)
def test_names_as_ids(tmp_path: Path, content: str) -> None:
    data = load_large(write(tmp_path / "g.txt", content))
    assert data.names == ("7", "ann", "bob")
    assert data.node_ids is None
    assert data.graph.to_dense()[0].tolist() == [[0, 1, 1], [1, 0, 1], [1, 1, 0]]


def test_names_with_spaces_separators_and_weights(tmp_path: Path) -> None:
    edges = read_edge_list(write(tmp_path / "g.csv", '"New York, NY",Bonn,2\nBonn,#tags,0.5\n'))
    assert edges.names == ("#tags", "Bonn", "New York, NY")
    assert (edges.source.tolist(), edges.target.tolist()) == ([2, 1], [1, 0])
    assert edges.weight is not None
    assert edges.weight.tolist() == [2, 0.5]
    assert read_edge_list(write(tmp_path / "t.tsv", "New York\tBonn\n")).names == ("Bonn", "New York")


def test_numbers_are_names_on_request(tmp_path: Path) -> None:
    file = write(tmp_path / "g.txt", "007 7\n7 8\n")
    assert load_large(file).notes[0] == "1 self-loops were removed"
    assert load_large(file, form="names").names == ("007", "7", "8")
    with pytest.raises(ValueError, match=r"form must be one of auto, edges, names, .* got 'table'"):
        load_large(file, form="table")


def test_large_ids_with_decimals_are_exact(tmp_path: Path) -> None:
    edges = read_edge_list(write(tmp_path / "g.txt", f"{2**53 + 1}.0 {-(2**63)}\n1e3 1\n"))
    assert edges.source.tolist() == [2**53 + 1, 1000]
    assert edges.target.tolist() == [-(2**63), 1]


def test_compressed_files(tmp_path: Path) -> None:
    parts = [
        gzip.compress(part) for part in (b"0 1\n", b"1 2\n2 ", b"3\n")
    ]  # members, as pigz and cat make them
    for name in ("g.txt.gz", "g.txt.GZ", "packed.txt"):
        (tmp_path / name).write_bytes(b"".join(parts))
        data = load_large(str(tmp_path / name))
        assert (data.graph.num_nodes, data.graph.num_edges, data.name) == (4, 6, name.split(".")[0])


def test_a_line_of_numbers_of_nodes_and_edges_is_told(tmp_path: Path) -> None:
    note = "the first line, 5 3, was read as an edge, but may be the numbers of nodes and edges"
    assert note in load_large(write(tmp_path / "g.txt", "5 3\n0 1\n1 2\n2 3\n")).notes
    assert not load_large(write(tmp_path / "h.txt", "0 1\n1 0\n1 2\n2 1\n")).notes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("0 1 2,5\n", "line 1: an edge is 'source target' or 'source target weight', got '0 1 2,5'"),
        ("0;1;2,5\n", "line 1: a weight must be finite and not negative, got '2,5'"),
        ("0 1 {'weight': 1}\n1 2 {}\n", "line 2: expected 3 columns as in earlier lines, got '1 2'"),
        ("0 1 {'weight': 'x'}\n", "line 1: a weight must be finite and not negative, got 'x'"),
        ("0 1 {'weight': 2,5}\n", "line 1: expected a dictionary of attributes, got \"{'weight': 2,5}\""),
        ("0 1\n2{'weight': 3}\n", "line 2: expected two nodes before the attributes"),
        ("a b\nb c,\n", "line 2: a name must not be empty nor have another separator, got 'b c,'"),
        ('a,"b\n', "line 1: unexpected end of data, got"),
        ("a,b\nb,\n", "line 2: a name must not be empty"),
        ("0 1\n1_0 2\n", "line 2: a node id must be a 64-bit integer, got '1_0'"),
        ("0 1\n1 ٢\n", "line 2: a node id must be a 64-bit integer, got '٢'; pass the format names"),
        ("0 1\n2 1e99\n", "line 2: a node id must be a 64-bit integer, got '1e99'"),
        ("% bip unweighted\n1 1\n", "holds a bipartite graph, whose two columns number different nodes"),
        ("source,target\n", "holds no edge"),
        ("0 1 1e39\n", "weights must be in the range of float32"),
        ("0 1 1e-39\n1 2 1\n", "weights must be in the range of float32"),
        ("0 1 3e38\n0 1 3e38\n", "sums of weights of duplicate edges must be in the range of float32"),
        # METIS with three neighbours for every node
        ("4 6\n2 3 4\n1 3 4\n1 2 4\n1 2 3\n", "line 2: expected 2 columns as in earlier lines"),
        ("3 3\n2 3\n1 3\n1 2\n", "is an edge list or METIS; pass the format, edges or metis"),
        ("4 6 0\n2 3 4\n1 3 4\n1 2 4\n1 2 3\n", "is an edge list or METIS; pass the format"),
    ],
)
def test_what_is_no_edge_list_is_refused(tmp_path: Path, content: str, message: str) -> None:
    file = write(tmp_path / "bad.txt", content)
    with pytest.raises(DatasetError) as caught:
        load_large(file)
    assert message in str(caught.value)
    assert file in str(caught.value)
    if "METIS" in message:
        assert load_large(file, form="edges").graph.num_nodes > 2
        assert load_large(file, form="metis").graph.num_edges == 6 + 6 * ("4 6" in content)
