"""`matrix eval` where files, servers and people are at odds with it: nothing stale is scored, nothing secret is told."""

import json
import os
import shutil
import signal
import subprocess
import time

import eval_data
import pytest
from openai_server import OpenAiServer, kind_of
from PIL import Image
from test_eval import averages, drawn, evaluate, everything_under, read, root  # noqa: F401 (fixtures)


@pytest.mark.parametrize("mode, status", [("escaping", 1), ("echoing", 0)])
def test_a_key_that_the_server_escapes_is_struck_out(evaluate, tmp_path, mode, status):  # noqa: F811
    key = "sk-ab/cd+0123456789=="
    with OpenAiServer(lambda request, number: mode) as server:
        result = evaluate("questions", server, key=key)
        assert result.returncode == status and server.keys == {f"Bearer {key}"}
    written = everything_under(tmp_path) + (result.stdout + result.stderr).encode()
    assert b"***" in written
    for text in (key, key.replace("/", "\\/")):
        assert text.encode() not in written


def change_objects(root, objects):  # noqa: F811
    """Those of both scenarios."""
    meta = root / "EVAL_DATA/easy/meta.json"
    scenarios = json.loads(meta.read_text())
    for scenario in scenarios:
        scenario["objects"] = [{"class": name, "appearance": f"a grey {name}"} for name in objects]
    meta.write_text(json.dumps(scenarios))


@pytest.mark.parametrize("objects", [["hand"], ["elephant", "hand"]])
def test_changed_objects_are_drawn_and_asked_about_anew(matrix, evaluate, root, objects):  # noqa: F811
    with OpenAiServer() as server:
        assert evaluate("run", server).returncode == 0
        change_objects(root, objects)
        before = len(server.requests)
        result = evaluate("run", server)
        assert result.returncode == 1 and len(server.requests) == before
        assert sum("questions/00" in fault and "made for other objects" in fault for fault in result.faults) == 2
        assert averages(root)["base"]["total_videos"] == 0
        assert "overlay: 4 done, 0 kept" in matrix.good("eval", "overlay", "--root", root)
        for number in range(2):
            (root / f"EVAL_DATA/easy/questions/00{number}.json").unlink()
        result = evaluate("run", server)
        assert result.returncode == 0, result.stderr
        assert [kind_of(r) for r in server.requests[before:]].count("emergence") == 4
        assert averages(root)["base"]["total_videos"] == 2
    asked = read(root / "SCORE_RESULTS/question_verification_results/base/easy/question_verification.json")
    assert all(entry["entity"] == objects for entry in asked)


def sixteen_bits(track):
    Image.new("I;16", (eval_data.WIDTH, eval_data.HEIGHT)).save(track / "003.png")


def half_as_large(track):
    Image.new("L", (eval_data.WIDTH // 2, eval_data.HEIGHT // 2)).save(track / "003.png")


def gap(track):
    (track / "003.png").unlink()


def surplus(track):
    shutil.copy2(track / "003.png", track / "013.png")


@pytest.mark.parametrize("damage", [sixteen_bits, half_as_large, gap, surplus])
def test_an_overlay_of_other_masks_is_not_judged(matrix, evaluate, root, damage):  # noqa: F811
    damage(root / "EVAL_RESULTS/base/easy/tracks/000/id1")
    for drawn_again in (False, True):
        if drawn_again:
            assert matrix("eval", "overlay", "--root", root).returncode == 1
        with OpenAiServer() as server:
            result = evaluate("run", server)
        assert result.returncode == 1
        assert [fault for fault in result.faults if "base/easy/000: " in fault and "the masks of id1 changed" in fault]
        assert averages(root)["base"]["total_videos"] == 1


@pytest.mark.parametrize("has_masks", [True, False])
def test_an_overlay_from_elsewhere_is_held_against_times(evaluate, root, has_masks):  # noqa: F811
    shutil.rmtree(root / "EVAL_RESULTS/base/easy/eval_metas")
    os.utime(root / "OUTPUTS/base/easy/000.mp4")
    if not has_masks:
        shutil.rmtree(root / "EVAL_RESULTS/base/easy/tracks")
    with OpenAiServer() as server:
        result = evaluate("emergence", server)
    assert result.returncode == has_masks
    assert sum("base/easy/000: " in f and "older than its video" in f for f in result.faults) == has_masks


def test_an_older_video_is_drawn_again(matrix, root):  # noqa: F811
    video = root / "OUTPUTS/base/easy/000.mp4"
    eval_data.write_video(video, 222)
    os.utime(video, (1e9, 1e9))
    assert "overlay: 1 done, 3 kept" in matrix.good("eval", "overlay", "--root", root)
    assert "overlay: 0 done, 4 kept" in matrix.good("eval", "overlay", "--root", root)


def test_an_overlay_may_outlive_its_masks(evaluate, root):  # noqa: F811
    shutil.rmtree(root / "EVAL_RESULTS/base/easy/tracks")
    (root / "OUTPUTS/tuned/easy/000.mp4").unlink()
    with OpenAiServer() as server:
        result = evaluate("run", server)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_request_that_hangs(matrix, root, number):  # noqa: F811
    with OpenAiServer(lambda request, number: "hanging") as server:
        process = subprocess.Popen(
            [matrix.binary, "eval", "questions", "--root", root, "--api-base", server.api_base],
            env=os.environ | {"OPENAI_API_KEY": "sk-0123456789", "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
        try:
            while len(server.requests) < 2:
                time.sleep(0.02)
            process.send_signal(number)
            assert process.wait(timeout=60) == 128 + number
        finally:
            process.kill()


@pytest.mark.parametrize("flag", ["--timeout-seconds", "--requests-per-minute", "--price-input", "--price-output"])
@pytest.mark.parametrize("value", ["nan", "inf", "-1"])
def test_numbers_that_are_none_are_usage_errors(matrix, drawn, flag, value):  # noqa: F811
    result = matrix("eval", "questions", "--root", drawn, "--dry-run", flag, value)
    assert result.returncode == 2 and len(result.faults) == 1 and flag in result.faults[0]


@pytest.mark.parametrize("flag, value", [("--vlm", b"gpt\xff"), ("--api-base", "http://[::1/v1"),
                                         ("--api-base", "http://127.0.0.1:99999/v1")])
def test_names_that_cannot_be_sent_are_usage_errors(matrix, drawn, flag, value):  # noqa: F811
    base = [] if flag == "--api-base" else ["--api-base", "http://127.0.0.1:9/v1"]
    result = subprocess.run([matrix.binary, "eval", "questions", "--root", str(drawn), *base, flag, value],
                            capture_output=True, env=os.environ | {"OPENAI_API_KEY": "sk-0123456789"}, timeout=60)
    assert result.returncode == 2 and result.stderr.startswith(b"matrix: ") and flag.encode() in result.stderr
    assert result.stdout == b""


def test_a_malformed_scenario_is_left_out_alone(matrix, evaluate, root):  # noqa: F811
    meta = root / "EVAL_DATA/easy/meta.json"
    meta.write_text(json.dumps([{"video_text_prompt": 5, "objects": []}, json.loads(meta.read_text())[1]]))
    with OpenAiServer() as server:
        result = evaluate("run", server)
    assert result.returncode == 1
    assert len(result.faults) == 2 and "easy/000: " in result.faults[0] and "video_text_prompt" in result.faults[0]
    assert averages(root)["base"]["total_videos"] == averages(root)["tuned"]["total_videos"] == 1
    result = matrix("eval", "overlay", "--root", root)
    assert result.returncode == 1 and "overlay: 0 done, 2 kept, 1 left out" in result.stdout


def test_malformed_boxes_leave_out_their_scenario_alone(evaluate, root):  # noqa: F811
    eval_data.add_detections(root)
    path = root / "EVAL_DATA/easy/bbox_meta.json"
    samples = json.loads(path.read_text())
    samples[0]["objects"][1]["bbox"] = [1, 2, 3]
    path.write_text(json.dumps(samples))
    with OpenAiServer() as server:
        result = evaluate("verify", server)
    assert result.returncode == 1 and "verify: 1 done, 0 kept, 1 left out" in result.stdout
    assert "easy/000: " in result.faults[0] and "`bbox` should be" in result.faults[0]
    assert [entry["sample_idx"] for entry in read(root / "EVAL_DATA/easy/verify_results.json")] == [1]


def test_a_killed_writer_leaves_nothing_behind(evaluate, root):  # noqa: F811
    file = root / "SCORE_RESULTS/emergence_disappearance_results/base/easy/_emergence_disappearance.json"
    file.parent.mkdir(parents=True)
    file.with_name(file.name + ".tmp.123.0").write_text("[")
    file.with_name("mine.tmp.123.0").write_text("")
    with OpenAiServer() as server:
        assert evaluate("emergence", server).returncode == 0
    assert {path.name for path in file.parent.iterdir()} == {file.name, "mine.tmp.123.0"}
