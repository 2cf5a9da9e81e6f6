"""A cut, oversized or malformed file is an error that names the place, never a shorter data set."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from molsaki.data import files, json_files
from molsaki.data.files import read_bytes
from molsaki.data.json_files import read_json, read_json_lines, read_json_list
from molsaki.data.row_files import read_csv, read_rows
from molsaki.errors import DataError

ROWS = [
    {"input": "Luke scored 84 points", "label": "( 84.0 / 2.0 )"},
    {"input": "naïve \u2028 é", "label": "1"},
]
IN_ONE_FOLDER = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(-1e9, 1e9) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


def write(path: Path, data: str | bytes) -> Path:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def lines_of(rows: list[dict[str, str]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def test_json_lines_give_the_rows_even_with_a_line_separator_inside_a_text(tmp_path: Path) -> None:
    assert list(read_json_lines(write(tmp_path / "a.jsonl", lines_of(ROWS)))) == ROWS


@pytest.mark.parametrize(("start", "end"), [(b"", b""), (b"\xef\xbb\xbf", b"\n"), (b"\n\n", b"\n\n"), (b"", b"\r\n")])
def test_json_lines_with_a_mark_blank_lines_or_no_last_newline(tmp_path: Path, start: bytes, end: bytes) -> None:
    data = start + lines_of(ROWS).encode().rstrip(b"\n") + end
    assert list(read_json_lines(write(tmp_path / "a.jsonl", data))) == ROWS


def test_a_last_line_cut_in_the_middle_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", lines_of(ROWS)[:-9])
    with pytest.raises(DataError, match=r"line 2, the last one.* is cut .*download the whole file again"):
        list(read_json_lines(path))


@IN_ONE_FOLDER
@given(cut=st.integers(1, len(lines_of(ROWS).encode()) - 2))
def test_a_cut_anywhere_inside_a_line_raises(tmp_path: Path, cut: int) -> None:
    data = lines_of(ROWS).encode()[:cut]
    path = write(tmp_path / "a.jsonl", data)
    if data.count(b"\n") == 1 and data.endswith((b"\n", b"}")):
        assert list(read_json_lines(path)) == ROWS[:1]  # a cut between lines leaves no trace
    elif data.endswith(b"}"):
        assert len(list(read_json_lines(path))) == 1
    else:
        with pytest.raises(DataError, match="is cut"):
            list(read_json_lines(path))


def test_a_malformed_line_in_the_middle_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"a": 1}\n{"a": 1\n{"a": 1}\n')
    with pytest.raises(DataError, match=r"a\.jsonl .*line 2: .*correct that line"):
        list(read_json_lines(path))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 5000])
def test_numbers_that_are_none_are_refused(tmp_path: Path, number: str) -> None:
    with pytest.raises(DataError, match="line 1"):
        list(read_json_lines(write(tmp_path / "a.jsonl", f'{{"Answer": {number}}}\n')))
    with pytest.raises(DataError):
        read_json(write(tmp_path / "a.json", f'[{{"Answer": {number}}}]'))


def test_nesting_without_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        read_json(write(tmp_path / "a.json", "[" * 200_000))
    with pytest.raises(DataError):
        list(read_json_lines(write(tmp_path / "a.jsonl", "[" * 200_000 + "\n")))


@IN_ONE_FOLDER
@given(value=json_values, share=st.floats(0, 1))
def test_json_is_read_whole_or_not_at_all(tmp_path: Path, value: object, share: float) -> None:
    text = json.dumps([value], ensure_ascii=False)
    assert read_json(write(tmp_path / "a.json", text)) == [value]
    with pytest.raises(DataError):
        read_json(write(tmp_path / "a.json", text[: int(share * (len(text) - 1))]))


@pytest.mark.parametrize("cut", ['[{"a": "b', '[{"a": 1', '[{"a": tr', "[1, ", '[{"a"'])
def test_a_json_file_that_ends_in_the_middle_says_so(tmp_path: Path, cut: str) -> None:
    with pytest.raises(DataError, match="it ends in the middle of it, at line 2"):
        read_json(write(tmp_path / "a.json", "\n" + cut))


def test_a_malformed_json_file_names_line_and_column(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 2, column 4"):
        read_json(write(tmp_path / "a.json", '[1,\n 2 x, {"a": "long enough"}]'))
    with pytest.raises(DataError, match="Extra data"):
        read_json(write(tmp_path / "a.json", "[1]]"))


def test_a_json_list_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="JSON list of rows; it holds another value"):
        list(read_json_list(write(tmp_path / "a.json", "{}")))


@IN_ONE_FOLDER
@given(rows=st.lists(json_values, max_size=6), chunk=st.integers(1, 40), indent=st.sampled_from([None, 1]))
def test_a_list_that_is_read_in_pieces_has_the_same_rows(
    tmp_path: Path, rows: list[object], chunk: int, indent: int | None
) -> None:
    path = write(tmp_path / "a.json", json.dumps(rows, ensure_ascii=False, indent=indent))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_files, "CHUNK", chunk)
        assert list(read_json_list(path)) == rows


@IN_ONE_FOLDER
@given(
    before=st.dictionaries(st.text(max_size=4), json_values, max_size=3),
    rows=st.lists(json_values, max_size=4),
    behind=st.dictionaries(st.text(max_size=4), json_values, max_size=3),
    chunk=st.integers(1, 40),
)
def test_a_list_inside_an_object_has_the_same_rows(
    tmp_path: Path, before: dict[str, object], rows: list[object], behind: dict[str, object], chunk: int
) -> None:
    whole = {**before, **behind}
    path = write(tmp_path / "a.json", json.dumps({**before, "the rows": rows, **behind}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_files, "CHUNK", chunk)
        assert list(read_json_list(path, under="the rows")) == rows
        with pytest.raises(DataError, match="one JSON object with the key 'other rows'"):
            list(read_json_list(path, under="other rows"))
    with pytest.raises(DataError):
        list(read_json_list(write(path, json.dumps({"the rows": rows, **whole})[:-1]), under="the rows"))


@IN_ONE_FOLDER
@given(rows=st.lists(json_values, min_size=1, max_size=4), share=st.floats(0, 1), chunk=st.integers(1, 40))
def test_a_list_that_is_cut_anywhere_raises(tmp_path: Path, rows: list[object], share: float, chunk: int) -> None:
    text = json.dumps(rows, ensure_ascii=False)
    path = write(tmp_path / "a.json", text[: max(1, int(share * (len(text) - 1)))])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_files, "CHUNK", chunk)
        with pytest.raises(DataError, match="ends in the middle"):
            list(read_json_list(path))


@pytest.mark.parametrize("number", ["0.", "-", "-0.", "1e", "1e+", "1E-", "2.5e", "12."])
@pytest.mark.parametrize("chunk", [1, 40])
def test_a_list_that_is_cut_inside_a_number_raises(
    tmp_path: Path, number: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_files, "CHUNK", chunk)
    path = write(tmp_path / "a.json", f"[1, {number}")
    for read in (read_json, lambda path: list(read_json_list(path))):
        with pytest.raises(DataError, match="ends in the middle"):
            read(path)
    with pytest.raises(DataError, match="line 1: "):
        list(read_json_list(write(tmp_path / "a.json", f"[1, {number}, 2, 3, 4, 5]")))


def test_one_key_twice_is_refused_in_every_form(tmp_path: Path) -> None:
    twice = '{"q": {"a": 1, "a": 2}}'
    with pytest.raises(DataError, match="line 2: an object has one key twice"):
        list(read_json_lines(write(tmp_path / "a.jsonl", f'{{"q": 1}}\n{twice}\n')))
    for text in (f"[{twice}]", twice, twice.replace(" ", "\n")):
        with pytest.raises(DataError, match="an object has one key twice"):
            list(read_rows(write(tmp_path / "a.json", text)))


@pytest.mark.parametrize("text", ["[1,\n 2 x]", '[1,\n {"a" 1}, {"a": 2}]', "[1,\n2]]", "[1,\nNaN]", "[1,\n1e999]"])
def test_a_malformed_list_names_the_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match="line 2: "):
        list(read_json_list(write(tmp_path / "a.json", text)))


def test_text_that_is_not_utf8_names_its_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 2 holds the byte 0xe9"):
        list(read_json_lines(write(tmp_path / "a.jsonl", b'{"a": 1}\n{"a": "caf\xe9"}\n')))
    with pytest.raises(DataError, match="line 3 holds the byte 0xff"):
        list(read_csv(write(tmp_path / "a.csv", b"a,b\n1,2\n\xff,3\n")))
    with pytest.raises(DataError, match="ends inside a character, at line 2"):
        list(read_csv(write(tmp_path / "a.csv", "a,b\n1,é".encode()[:-1])))


def test_missing_empty_folder_and_blank(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is none"):
        read_bytes(tmp_path / "absent.json")
    with pytest.raises(DataError, match="a folder, a pipe or a device"):
        read_bytes(tmp_path)
    with pytest.raises(DataError, match="empty"):
        read_bytes(write(tmp_path / "a.json", ""))
    with pytest.raises(DataError, match="blank"):
        list(read_json_lines(write(tmp_path / "a.jsonl", "\n \n")))
    with pytest.raises(DataError):
        read_bytes(Path("a\0b"))


def test_a_file_beyond_the_bound_is_not_read(tmp_path: Path) -> None:
    path = write(tmp_path / "huge.jsonl", "{}\n")
    os.truncate(path, files.MAX_FILE_BYTES + 1)  # sparse: takes no space
    for read, most in ((read_json, files.MAX_WHOLE_BYTES), (read_json_lines, 1 << 30), (read_csv, 1 << 30)):
        with pytest.raises(DataError, match=f"at most {most} bytes; it has 1073741825"):
            list(read(path))


def test_csv_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", '\ufeffq,a\r\n"one, ""two""\nthree",4\r\n\r\nfive,6')
    assert list(read_rows(path)) == [{"q": 'one, "two"\nthree', "a": "4"}, {"q": "five", "a": "6"}]
    assert list(read_rows(write(tmp_path / "a.tsv", "q\ta\nx, y\t1\n"))) == [{"q": "x, y", "a": "1"}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q,a\n1,2\n3", "row that ends at line 3 has 1"),
        ("q,a\n1,2,3\n", "row that ends at line 2 has 3"),
        ('q,a\n1,"2\n3,4\n', "unexpected end of data"),
        ('q,a\n1,"2"x\n', "line 2"),
        ("q,q\n1,2\n", "name every column once"),
        ("q,\n1,2\n", "name every column once"),
        ('q,a\n1,"' + ("x" * 1_000_000 + "\n") * 5 + '"\n', "field larger"),
    ],
)
def test_csv_that_is_cut_or_malformed(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(read_csv(write(tmp_path / "a.csv", text)))


def test_parquet_rows_and_a_cut_file(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    rows = [{"q": "one", "choices": ["a", "b"], "n": 1}, {"q": "two", "choices": ["c"], "n": 2}]
    pq.write_table(pa.Table.from_pylist(rows), path)
    assert list(read_rows(path)) == rows
    data = path.read_bytes()
    for cut in (data[:-1], data[: len(data) // 2], b"PAR1", b"not parquet at all"):
        with pytest.raises(DataError, match="whole Parquet file"):
            list(read_rows(write(tmp_path / "b.parquet", cut)))


def test_parquet_that_unpacks_into_too_much_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"q": ["x" * 1000] * 1000}), path, compression="zstd", use_dictionary=False)
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 100_000)
    assert path.stat().st_size < 100_000
    with pytest.raises(DataError, match="unpack into at most 100000 bytes"):
        list(read_rows(path))


def test_rows_by_the_files_ending(tmp_path: Path) -> None:
    assert list(read_rows(write(tmp_path / "a.json", " \n[1, 2]"))) == [1, 2]
    assert list(read_rows(write(tmp_path / "b.json", "1\n2\n"))) == [1, 2]
    assert list(read_rows(write(tmp_path / "c.JSONL", "1\n2\n"))) == [1, 2]
    for name in ("a.txt", "a.jsonl.gz", "a"):
        with pytest.raises(DataError, match=r"save its rows as JSON lines|unpack it"):
            read_rows(write(tmp_path / name, "1\n"))
