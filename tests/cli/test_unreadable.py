"""Files and standard input that say nothing, or not what they should: one line in plain words."""

import io
from types import SimpleNamespace

import pytest

RUN = ("predict", "--dim", "4e9", "--sigma", "0.0015", "--population", "30")
EMPTY = [("pilot",), ("forecast",), (*RUN, "--spectrum"), (*RUN, "--pilot")]


@pytest.mark.parametrize("command", EMPTY, ids=lambda words: words[-1])
def test_an_empty_file_is_called_empty(command, estheory, tmp_path):
    (tmp_path / "empty.csv").write_bytes(b"")
    refused = estheory(*command, tmp_path / "empty.csv")
    assert (refused.code, refused.out, refused.err.count("\n")) == (2, "", 1)
    assert "empty.csv" in refused.err
    assert "is empty" in refused.err


@pytest.mark.parametrize("command", ["pilot", "forecast"])
def test_empty_standard_input_is_named(command, estheory, monkeypatch):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"")))
    refused = estheory(command, "-")
    assert refused.code == 2
    assert refused.err.startswith("error: standard input is empty")


@pytest.mark.parametrize("raw", [b"", b"\x80\x81", b"{\n1", None], ids=["empty", "binary", "no JSON", "a folder"])
@pytest.mark.parametrize("option", ["--pilot", "--probes"])
def test_a_document_that_cannot_be_read_is_told_without_python_words(option, raw, estheory, tmp_path):
    file = tmp_path / "document.json"
    file.mkdir() if raw is None else file.write_bytes(raw)
    refused = estheory(*RUN, option, file)
    assert (refused.code, refused.out, refused.err.count("\n")) == (2, "", 1)
    assert not any(word in refused.err for word in ("Expecting", "codec", "Errno", "char "))


def test_the_remedy_of_a_page_that_cannot_be_written_fits_the_cause(estheory, tmp_path):
    refused = estheory("explore", "--out", tmp_path / "missing" / "x.html")
    assert refused.code == 2
    assert "free space" not in refused.err
