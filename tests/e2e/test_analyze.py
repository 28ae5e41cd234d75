"""matrix analyze: what it leaves, that it goes on where it stood, and what it says of bad input."""

import csv
import json
import shutil
import signal
import subprocess
import time

import pytest
from training import ENVIRONMENT, MATRIX

VARIANTS = ("noun_v2t", "verb_v2t", "noun_v2v", "verb_v2v")
METRICS = ["tp_sum", "fn_sum", "fp_sum", "tn_sum", "tp_mean", "fn_mean", "fp_mean", "tn_mean"]
LAYERS = 8


def arguments(model, data, out, *more):
    return ["analyze", "--model", model, "--data", data, "--out", out, "--timesteps", "200,700", *more]


@pytest.fixture(scope="module")
def analysis(matrix, tiny_model, clips, tmp_path_factory):
    """Of the two clips at two noise levels; read only."""
    out = tmp_path_factory.mktemp("analysis") / "out"
    result = matrix(*arguments(tiny_model, clips, out, "--json", "--label", "base"))
    assert result.returncode == 0, result.stderr
    return out, json.loads(result.stdout), result.stderr


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_scores_are_there_for_every_entity_step_and_layer(analysis, clips):
    out, summary, _ = analysis
    rows = table(out / "scores.csv")
    entities = {(row["video"], row["entity"]) for row in rows}
    assert {video for video, _ in entities} == {"videos/000001.mp4", "videos/000002.mp4"}
    # v2t, and v2v over all frames, the first, and all others; two steps; every layer.
    assert len(rows) == len(entities) * 4 * 2 * LAYERS
    assert [name for name in rows[0]][-8:] == METRICS
    assert {row["timestep"] for row in rows} == {"200", "700"}
    for row in rows:
        values = [float(row[name]) for name in METRICS if row[name]]
        assert all(value >= -1e-6 for value in values)
        if row["path"] == "v2v" and row["range"] == "whole":
            # What an instance's cells give to the video's cells is at most all they give.
            assert float(row["tp_sum"]) + float(row["fn_sum"]) <= 1 + 1e-5
    whole = {(r["video"], r["entity"], r["step"], r["layer"]): r for r in rows if r["range"] == "whole" and r["path"] == "v2v"}
    for row in rows:
        if row["path"] == "v2v" and row["range"] == "first":
            key = (row["video"], row["entity"], row["step"], row["layer"])
            cross = next(r for r in rows if r["range"] == "cross" and (r["video"], r["entity"], r["step"], r["layer"]) == key)
            total = float(row["tp_sum"]) + float(cross["tp_sum"])
            assert total == pytest.approx(float(whole[key]["tp_sum"]), rel=1e-6)


def test_tables_follow_from_the_scores(analysis):
    out, summary, _ = analysis
    rows = [row for row in table(out / "scores.csv") if row["range"] == "whole"]
    for variant in VARIANTS:
        kind, path = variant.split("_")
        layers = table(out / f"influence_{variant}.csv")
        assert len(layers) == LAYERS
        for layer in range(LAYERS):
            means = []
            for video in ("videos/000001.mp4", "videos/000002.mp4"):
                values = [float(r["tp_sum"]) for r in rows if (r["video"], r["kind"], r["path"], r["layer"]) == (video, kind, path, str(layer)) and r["tp_sum"]]
                means.append(sum(values) / len(values))
            assert float(layers[layer]["magnitude"]) == pytest.approx(sum(means) / 2, rel=1e-9)
        assert all(row["influential"] == "1" for row in layers), "ten places, eight layers"
        assert table(out / f"variance_{variant}.csv")[0].keys() == {"layer", "mean", "variance", "dummy"}
    best = {v: max(table(out / f"influence_{v}.csv"), key=lambda r: float(r["magnitude"]))["layer"] for v in VARIANTS}
    assert summary["layers"]["spa"] == [int(best["noun_v2v"])]
    assert summary["layers"]["sga"] == sorted({int(best["noun_v2t"]), int(best["verb_v2t"])})
    assert summary == json.loads((out / "analysis.json").read_text())


def test_the_report_needs_nothing_else(analysis):
    out, _, _ = analysis
    page = (out / "report.html").read_text()
    assert page.count("<svg") >= 2 * len(VARIANTS)
    assert page.count("data:image/jpeg;base64,") == 2
    assert "<script" not in page and "href=" not in page and 'src="http' not in page
    assert "Reading attention took" in page
    for clip in ("000001", "000002"):
        for picture in (".png", ".mp4", "-layers-v2t.png", "-layers-v2v.png"):
            assert (out / "pictures" / f"{clip}{picture}").stat().st_size > 1000
    for name in [f"{kind}_{v}.svg" for v in VARIANTS for kind in ("heatmap", "influence")] + ["variance_noun.svg"]:
        assert (out / name).read_text().startswith("<svg xmlns=")


def test_what_is_there_is_not_read_again(matrix, analysis, tiny_model, clips, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(analysis[0], out)
    times = {path: path.stat().st_mtime_ns for path in (out / "records").iterdir()}
    again = matrix(*arguments(tiny_model, clips, out, "--label", "base"))
    assert again.returncode == 0 and "Reading attention" not in again.stdout + (out / "report.html").read_text()
    assert {path: path.stat().st_mtime_ns for path in (out / "records").iterdir()} == times
    assert (out / "scores.csv").read_bytes() == (analysis[0] / "scores.csv").read_bytes()
    matrix.good(*arguments(tiny_model, clips, out, "--seed", "7"))
    assert (out / "scores.csv").read_bytes() != (analysis[0] / "scores.csv").read_bytes()


def test_killed_anywhere_it_goes_on(matrix, analysis, tiny_model, clips, tmp_path):
    out = tmp_path / "out"
    command = [MATRIX, *map(str, arguments(tiny_model, clips, out, "--label", "base"))]
    for name, wait in ((signal.SIGKILL, "000001.safetensors"), (signal.SIGTERM, "000001.safetensors")):
        shutil.rmtree(out, ignore_errors=True)
        process = subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        end = time.monotonic() + 60
        while not (out / "records" / wait).exists() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.002)
        process.send_signal(name)
        code = process.wait(60)
        assert code in (-signal.SIGKILL, 128 + signal.SIGTERM, 0)
        first = (out / "records" / wait).stat().st_mtime_ns
        matrix.good(*command[1:])
        assert (out / "records" / wait).stat().st_mtime_ns == first, "what was there is not read again"
        for name in ("scores.csv", "analysis.json", "influence_noun_v2t.csv"):
            assert (out / name).read_bytes() == (analysis[0] / name).read_bytes()


def touched(matrix, model, data, out, *more):
    """Whether a second command reads again."""
    matrix.good(*arguments(model, data, out, "--clips", "1"))
    record = out / "records" / "000001.safetensors"
    before = record.stat().st_mtime_ns
    return lambda: matrix.good(*arguments(model, data, out, "--clips", "1", *more)) and record.stat().st_mtime_ns != before


def test_what_changed_is_read_again(matrix, tiny_model, clips, tmp_path):
    data, model = tmp_path / "data", tmp_path / "model"
    shutil.copytree(clips, data)
    shutil.copytree(tiny_model, model)
    again = touched(matrix, model, data, tmp_path / "mask")
    assert not again()
    mask = sorted(next((data / "mask_annotation" / "000001").iterdir()).iterdir())[3]
    mask.write_bytes(mask.read_bytes() + b"\0")
    assert again(), "another mask"
    again = touched(matrix, model, data, tmp_path / "model-changed")
    (model / "transformer" / "config.json").write_text((model / "transformer" / "config.json").read_text() + "\n")
    assert again(), "another model"


def test_an_adapter_and_its_strength(matrix, tiny_model, clips, tmp_path):
    run = json.loads((tiny_model / "run.json").read_text())
    run["model"]["path"], run["data"]["path"] = str(tiny_model), str(clips)
    run["data"]["cache"], run["output"] = str(tmp_path / "cache"), str(tmp_path / "run")
    run["train"] |= {"steps": 2, "batch_size": 1}
    (tmp_path / "run.json").write_text(json.dumps(run))
    matrix.good("train", "--config", tmp_path / "run.json")
    adapter = tmp_path / "run" / "adapter"
    scores = {}
    for strength in ("0.5", "1"):
        out = tmp_path / strength
        matrix.good(*arguments(tiny_model, clips, out, "--clips", "1", "--adapter", adapter, "--adapter-strength", strength))
        scores[strength] = (out / "scores.csv").read_bytes()
    assert scores["0.5"] != scores["1"]
    again = touched(matrix, tiny_model, clips, tmp_path / "other", "--adapter", adapter)
    assert again(), "an adapter where there was none"


def test_outcomes_make_dominance_and_layers_go_into_a_config(matrix, analysis, tiny_model, clips, tmp_path):
    out, run = tmp_path / "out", tmp_path / "run.json"
    shutil.copytree(analysis[0], out)
    before = json.loads((tiny_model / "run.json").read_text())
    run.write_text(json.dumps(before))
    outcomes = tmp_path / "outcomes.json"
    outcomes.write_text(json.dumps({"videos/000001.mp4": "success", "videos/000002.mp4": "failure"}))
    stdout = matrix.good(*arguments(tiny_model, clips, out, "--outcomes", outcomes, "--write-config", run, "--layers-per-variant", "2"))
    gaps = table(out / "dominance_noun_v2v.csv")
    assert len(gaps) == LAYERS
    for row in gaps:
        assert float(row["gap_success"]) == pytest.approx(-float(row["gap_failure"]), rel=1e-9)
        assert (row["dominant"] == "1") == (float(row["gap_success"]) > 0)
    assert gaps == sorted(gaps, key=lambda row: -float(row["separation"]))
    chosen = json.loads((out / "analysis.json").read_text())["layers"]
    after = json.loads(run.read_text())
    assert after["alignment"]["sga"]["blocks"] == chosen["sga"]
    assert after["alignment"]["spa"]["blocks"] == chosen["spa"]
    assert after["lora"]["blocks"] == sorted({*chosen["sga"], *chosen["spa"]})
    for section in ("alignment", "lora"):
        before.pop(section), after.pop(section)
    assert after == before, "the rest stays"
    assert "Noun grounding" in stdout
    matrix.good("check", "config", run)
    fresh = tmp_path / "fresh.json"
    matrix.good(*arguments(tiny_model, clips, out, "--write-config", fresh))
    matrix.good("check", "config", fresh)


def test_a_config_keeps_what_is_off_and_gets_no_empty_list(matrix, analysis, tiny_model, clips, tmp_path):
    out, run = tmp_path / "out", tmp_path / "run.json"
    shutil.copytree(analysis[0], out)
    config = json.loads((tiny_model / "run.json").read_text())
    config["alignment"]["sga"] = None
    run.write_text(json.dumps(config))
    matrix.good(*arguments(tiny_model, clips, out, "--write-config", run))
    after = json.loads(run.read_text())
    assert after["alignment"]["sga"] is None
    assert after["lora"]["blocks"] == after["alignment"]["spa"]["blocks"]
    before = tiny_model.joinpath("run.json").read_text()
    run.write_text(before)
    result = matrix(*arguments(tiny_model, clips, out, "--dummy-variance", "1e9", "--write-config", run))
    assert result.returncode == 1
    assert result.faults == [f"matrix: --write-config: no layer was chosen for alignment.sga; {run} is as it was"]
    assert run.read_text() == before
    assert table(out / "influence_noun_v2t.csv")[0]["dummy"] == "1"


def test_beside_an_earlier_one(matrix, analysis, tiny_model, clips, tmp_path):
    out = tmp_path / "out"
    matrix.good(*arguments(tiny_model, clips, out, "--seed", "3", "--beside", analysis[0], "--label", "other seed"))
    page = (out / "report.html").read_text()
    assert "other seed beside base" in page
    assert "<th>base</th><th>other seed</th>" in page


def test_while_a_video_is_made(matrix, tiny_model, clips, tmp_path):
    out = tmp_path / "out"
    matrix.good("analyze", "--model", tiny_model, "--data", clips, "--out", out, "--generate", "--steps", "3", "--clips", "1")
    rows = table(out / "scores.csv")
    assert [row["timestep"] for row in rows[::LAYERS][:3]] == ["999", "666", "332"]
    assert (out / "videos" / "000001.mp4").stat().st_size > 1000
    # The same video as `generate` makes of the same image, prompt and seed has nothing to do with listening;
    # a second analysis is the same to the bit.
    second = tmp_path / "second"
    matrix.good("analyze", "--model", tiny_model, "--data", clips, "--out", second, "--generate", "--steps", "3", "--clips", "1")
    assert (second / "scores.csv").read_bytes() == (out / "scores.csv").read_bytes()


def test_published_spans_are_the_authors(matrix, analysis, tiny_model, clips, tmp_path):
    out = tmp_path / "out"
    result = matrix(*arguments(tiny_model, clips, out, "--spans", "published"))
    assert result.returncode == 0, result.stderr
    def scores(directory, path):
        key = ("video", "entity", "step", "layer", "range")
        return {tuple(r[k] for k in key): r["tp_sum"] for r in table(directory / "scores.csv") if r["path"] == path}

    assert scores(out, "v2v") == scores(analysis[0], "v2v"), "tracks do not depend on words"
    assert scores(out, "v2t") != scores(analysis[0], "v2t")


# --- what is wrong ---------------------------------------------------------------------------------------------------


def test_clips_with_faults_are_left_out_and_named(matrix, tiny_model, clips, tmp_path):
    data, out = tmp_path / "data", tmp_path / "out"
    shutil.copytree(clips, data)
    masks = next((data / "mask_annotation" / "000001").iterdir())
    sorted(masks.iterdir())[-1].unlink()
    result = matrix(*arguments(tiny_model, data, out))
    assert result.returncode == 1
    assert len(result.faults) == 2
    assert "000001" in result.faults[0]
    assert "1 of 2 clips were read" in result.faults[1]
    assert {row["video"] for row in table(out / "scores.csv")} == {"videos/000002.mp4"}
    page = (out / "report.html").read_text()
    assert "Left out" in page and "1 of 2 clips" in page


def test_rows_whose_files_would_have_one_name(matrix, tiny_model, clips, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(clips, data)
    (data / "videos" / "a").mkdir()
    (data / "mask_annotation" / "a").mkdir()
    (data / "videos" / "000001.mp4").rename(data / "videos" / "a" / "b.mp4")
    (data / "videos" / "000002.mp4").rename(data / "videos" / "a_b.mp4")
    (data / "mask_annotation" / "000001").rename(data / "mask_annotation" / "a" / "b")
    (data / "mask_annotation" / "000002").rename(data / "mask_annotation" / "a_b")
    metadata = data / "metadata.jsonl"
    metadata.write_text(metadata.read_text().replace("000001.mp4", "a/b.mp4").replace("000002.mp4", "a_b.mp4"))
    result = matrix(*arguments(tiny_model, data, tmp_path / "out"))
    assert result.returncode == 1
    assert "names of those of videos/a/b.mp4" in result.faults[0]
    assert {row["video"] for row in table(tmp_path / "out" / "scores.csv")} == {"videos/a/b.mp4"}


def test_a_faulty_model_is_said_once(matrix, tiny_model, clips, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    config = json.loads((model / "transformer" / "config.json").read_text())
    config["num_layers"] += 1
    (model / "transformer" / "config.json").write_text(json.dumps(config))
    result = matrix(*arguments(model, clips, tmp_path / "out"))
    assert result.returncode == 1
    assert len(result.faults) == len(set(result.faults))
    assert not any("clips were read" in fault for fault in result.faults)


def test_no_clip_left(matrix, tiny_model, clips, tmp_path):
    data, out = tmp_path / "data", tmp_path / "out"
    shutil.copytree(clips, data)
    shutil.rmtree(data / "mask_annotation")
    result = matrix(*arguments(tiny_model, data, out))
    assert result.returncode == 1 and len(result.faults) >= 3
    assert "0 of 2 clips" in result.faults[-1]
    assert not (out / "report.html").exists()


def test_rows_without_interactions(matrix, tiny_model, clips, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(clips, data)
    metadata = data / "metadata.jsonl"
    rows = [json.loads(line) for line in metadata.read_text().splitlines()]
    del rows[0]["interactions"]
    metadata.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = matrix(*arguments(tiny_model, data, tmp_path / "out"))
    assert result.returncode == 1
    assert "`interactions`" in result.faults[0]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--timesteps", "200,1000"], "--timesteps: 1000 is not in 0..999"),
        (["--timesteps", "200,200"], "twice"),
        (["--frames", "18"], "18"),
        (["--adapter-strength", "0.5"], "there is no --adapter"),
        (["--steps", "3"], "--generate"),
        (["--guidance-scale", "nan", "--generate"], "--guidance-scale"),
        (["--spans", "fuzzy"], "--spans"),
        (["--outcomes", "bad.json"], "neither \"success\" nor \"failure\""),
        (["--outcomes", "other.json"], "videos/x.mp4 is no video of"),
        (["--write-config", "bad.json"], "bad.json"),
    ],
)  # fmt: skip
def test_wrong_flags(matrix, tiny_model, clips, tmp_path, monkeypatch, flags, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.json").write_text('{"videos/000001.mp4": 1}')
    (tmp_path / "other.json").write_text('{"videos/x.mp4": "success"}')
    base = arguments(tiny_model, clips, tmp_path / "out")[:-2]  # without --timesteps
    result = matrix(*base, *flags)
    assert result.returncode == 2, result.stderr
    assert said in result.stderr
    assert not (tmp_path / "out" / "scores.csv").exists()


def test_beside_something_else(matrix, tiny_model, clips, tmp_path):
    result = matrix(*arguments(tiny_model, clips, tmp_path / "out", "--beside", clips))
    assert result.returncode == 1
    assert "holds no analysis" in result.faults[0]
