"""The whole line: ES, GRPO and the control, measured, judged and shown."""

import pytest

pytest.importorskip("torch")


@pytest.mark.slow
def test_demo_end_to_end_and_again(estheory, tmp_path):
    out = tmp_path / "demo"
    result = estheory("demo", "--out", out, "--json")
    assert result.code in (0, 3)
    found = result.json()
    accuracy = {(row["run"], row["task"]): row for row in found["accuracy"]}
    # both methods learn; the control does not: differences are over 10 standard errors in the recorded run
    for run in ("es", "grpo"):
        row = accuracy[run, "addition"]
        assert row["after"] - row["before"] > 5 * (row["after_stderr"] + row["before_stderr"])
    control = accuracy["control", "addition"]
    assert control["after"] - control["before"] < 5 * (control["after_stderr"] + control["before_stderr"])
    assert abs(found["cosines"]["control|grpo"]) < 4.9 * found["unrelated_cosine_std"]
    assert found["cosines"]["es|grpo"] > 4.9 * found["unrelated_cosine_std"]
    verdicts = {(v["quantity"], v["step"], v["where"]): v["verdict"] for v in found["validation"]["verdicts"]}
    assert verdicts["displacement_norm", 100, "total:es"] == "consistent"
    assert verdicts["displacement_norm", 100, "total:control"] == "consistent"
    assert verdicts["grpo_displacement_norm", 100, "total:grpo"] == "refuted"  # its displacement is not noise
    page = (out / "report.html").read_text()
    assert "://" not in page
    assert "<svg" in page
    again = estheory("demo", "--out", out, "--json")
    assert again.json()["displacement_norm"] == found["displacement_norm"]
    assert again.json()["seconds"] < found["seconds"] / 3
    (out / "mine.txt").write_text("a file of the user's")
    refused = estheory("demo", "--out", out)
    assert (refused.code, (out / "mine.txt").read_text()) == (2, "a file of the user's")
    assert found["schema"] == "estheory/demo/1"


def test_a_folder_that_cannot_be_made_is_refused_before_anything_is_said(estheory, tmp_path):
    (tmp_path / "file").write_text("")
    refused = estheory("demo", "--out", tmp_path / "file" / "demo")
    assert (refused.code, refused.out, refused.err.count("\n")) == (2, "", 1)
    assert refused.err.startswith("error: ")
