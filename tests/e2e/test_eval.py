"""`matrix eval`, end to end against a local server: scores, failures, the cache, and what never reaches a disk."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import eval_data
import pytest
from openai_server import OpenAiServer, frames_of, good_content, kind_of, texts_of

KEY = "sk-test-0123456789abcdef"
FAST = ["--retries", 1, "--timeout-seconds", 20]


@pytest.fixture(scope="session")
def drawn(matrix, tmp_path_factory) -> Path:
    """With overlays; read only."""
    root = eval_data.make(tmp_path_factory.mktemp("eval") / "data")
    assert "overlay: 4 done, 0 kept, 0 left out" in matrix.good("eval", "overlay", "--root", root)
    return root


@pytest.fixture
def root(drawn, tmp_path) -> Path:
    copy = tmp_path / "data"
    subprocess.run(["cp", "-a", drawn, copy], check=True)
    return copy


@pytest.fixture
def evaluate(matrix, root):
    def run(step, server, *flags, key=KEY):
        return matrix("eval", step, "--root", root, "--api-base", server.api_base, *flags, OPENAI_API_KEY=key)
    return run


def read(path: Path):
    return json.loads(path.read_text())


def averages(root: Path) -> dict:
    return read(root / "SCORE_RESULTS/model_averages_summary.json")


def everything_under(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in path.rglob("*") if file.is_file())


def judged(request: dict) -> dict:
    """`base`: five of six and three of four questions are answered yes; in the first video something emerges on one
    of three frames. Which video it is can be told by the pictures alone, so `tuned` is told by their shade."""
    content = good_content(request)
    if kind_of(request) == "answers" and "dog" in texts_of(request)[0]:
        content["answers"][0]["answer"] = "no (visually implausible)"
        content["answers"][9]["answer"] = "no"
    if kind_of(request) == "emergence" and "hand" in texts_of(request)[0]:
        content |= {"emergence": "yes", "emergence_frames": [0, 5, 7], "emergence_reason": "a second ball"}
    return content


def test_scores_come_out_right_from_videos_to_report(matrix, evaluate, root):
    with OpenAiServer(content=judged) as server:
        result = evaluate("run", server)
        assert result.returncode == 0, result.stderr
        assert len(server.requests) == 2 + 4 + 4
        assert server.keys == {f"Bearer {KEY}"}
        for request in server.requests:
            assert request["model"] == "gpt-5" and request["seed"] == 42 and "temperature" not in request
            assert frames_of(request) == ([] if kind_of(request) == "questions" else eval_data.SAMPLED)
            assert request["response_format"]["json_schema"]["strict"] is True
    # 000: frames 0 and 7 are none that count, so e = 1 of n = 3; 001: 5/6 and 3/4 before SPI.
    spi = 1 - 2.5 / 3
    base = averages(root)["base"]
    assert base["overall_avg_KISA_SPI"] == pytest.approx((spi + 0.833) / 2)
    assert base["overall_avg_SGA_SPI"] == pytest.approx((spi + 0.75) / 2)
    assert base["overall_avg_IF_score"] == pytest.approx((spi + (0.833 + 0.75) / 2) / 2)
    assert base["total_videos"] == 2 and averages(root)["tuned"] == base
    flagged = read(root / "SCORE_RESULTS/emergence_disappearance_results/base/easy/_emergence_disappearance.json")[0]
    assert [f["emergence"] for f in flagged["hallucination_results"]] == ["yes", "no", "no"]
    assert flagged["frames_analyzed"] == 4 and flagged["model_used"] == "gpt-5"
    questions = read(root / "EVAL_DATA/easy/questions/000.json")
    assert questions["colors"] == ["red", "green"] and questions["entity"] == ["hand", "ball"]
    assert len(questions["items"][0]["questions"]) == 10
    assert "paper instead of published would change base by KISA +0.0002" in result.stdout
    paper = json.loads(matrix.good("eval", "scores", "--root", root, "--variant", "paper", "--json"))
    assert paper["models"][0]["KISA"] == pytest.approx((spi + 5 / 6) / 2)
    matrix.good("eval", "report", "--root", root)
    names = {file.name for file in (root / "SCORE_RESULTS/report").iterdir()}
    assert names == {"report.md", "report.tex", "report.csv", "report.html"}
    page = (root / "SCORE_RESULTS/report/report.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 4 * 3 and "http" not in page


def test_what_is_done_is_not_asked_for_again(evaluate, root):
    with OpenAiServer(content=judged) as server:
        assert evaluate("run", server).returncode == 0
        before = len(server.requests)
        again = evaluate("run", server)
        assert again.returncode == 0 and "answers: 0 done, 4 kept" in again.stdout
        (root / "SCORE_RESULTS/question_verification_results/base/easy/question_verification.json").unlink()
        cached = evaluate("answers", server)
        assert "answers: 2 done, 2 kept" in cached.stdout and "2 replies from the cache" in cached.stdout
        assert len(server.requests) == before
        # Another model's eyes see anew; the questions are kept.
        assert evaluate("answers", server, "--vlm", "other").returncode == 0
        assert len(server.requests) == before + 4


def test_a_changed_video_is_judged_again(matrix, evaluate, root):
    with OpenAiServer() as server:
        assert evaluate("run", server).returncode == 0
        before = len(server.requests)
        video = root / "OUTPUTS/tuned/easy/001.mp4"
        eval_data.write_video(video, 222)
        assert "overlay: 1 done, 3 kept" in matrix.good("eval", "overlay", "--root", root)
        assert evaluate("run", server).returncode == 0
        assert [kind_of(r) for r in server.requests[before:]] == ["emergence", "answers"]


def test_nothing_is_lost_on_kill_and_no_answer_is_paid_for_twice(matrix, root):
    with OpenAiServer(lambda request, number: "good" if number < 5 else "hanging", judged) as server:
        process = subprocess.Popen(
            [matrix.binary, "eval", "run", "--root", root, "--api-base", server.api_base, "--concurrency", "2"],
            env=os.environ | {"OPENAI_API_KEY": KEY, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
        replies = root / "VLM_CACHE"
        deadline = time.monotonic() + 60
        while len(list(replies.glob("*/reply.json"))) < 5 or len(server.requests) < 6:
            assert time.monotonic() < deadline, "the five replies did not arrive"
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        answered = [json.dumps(r, sort_keys=True) for r in server.answered]
        before = len(server.requests)
        server.mode = lambda request, number: "good"
        assert matrix("eval", "run", "--root", root, "--api-base", server.api_base, OPENAI_API_KEY=KEY).returncode == 0
        later = [json.dumps(r, sort_keys=True) for r in server.requests[before:]]
        assert len(answered) == 5 and len(later) == 5
        assert not set(answered) & set(later) and len(set(later)) == len(later)
    assert averages(root)["base"]["overall_avg_KISA_SPI"] == pytest.approx((1 - 2.5 / 3 + 0.833) / 2)


def test_a_signal_waits_for_the_reply_under_way(matrix, root):
    with OpenAiServer(lambda request, number: "slow", judged) as server:
        process = subprocess.Popen(
            [matrix.binary, "eval", "questions", "--root", root, "--api-base", server.api_base, "--concurrency", "1"],
            env=os.environ | {"OPENAI_API_KEY": KEY, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
        while not server.requests:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 128 + signal.SIGINT
        assert len(server.requests) == 1
        assert len(list((root / "VLM_CACHE").glob("*/reply.json"))) == 1
    assert [file.name for file in (root / "EVAL_DATA/easy/questions").iterdir()] == ["000.json"]


def test_passing_failures_are_waited_for(evaluate, root):
    modes = ["failing", "limited", "dropping", "slow"]
    with OpenAiServer(lambda request, number: modes[number] if number < 4 else "good") as server:
        result = evaluate("questions", server, "--retries", 4, "--concurrency", 1)
        assert result.returncode == 0, result.stderr
        assert len(server.requests) == 5  # three failures and two answers
        assert "questions: 2 done" in result.stdout


def test_unreadable_replies_are_kept_reported_and_never_scored(evaluate, root):
    bad = {"nonsense": "malformed JSON", "truncated": "malformed JSON", "short": "9 answers instead of 10"}
    for mode, reason in bad.items():
        with OpenAiServer() as server:
            assert evaluate("emergence", server).returncode == 0
            assert evaluate("questions", server).returncode == 0
            server.mode = lambda request, number, m=mode: m if "dog" in texts_of(request)[0] else "good"
            before = len(server.requests)
            flags = ["--vlm", mode, "--reply-attempts", 2]  # the name keeps the modes' requests apart
            result = evaluate("answers", server, *flags)
            assert result.returncode == 1
            faults = [f for f in result.faults if "/001: no readable reply in 2 attempts" in f]
            assert len(faults) == 2 and all(reason in f and "reply.json" in f for f in faults)
            sent = server.requests[before:]
            assert len(sent) == 2 + 2 * 2 and {r["seed"] for r in sent} == {42, 43}
            again = evaluate("answers", server, *flags)
            assert again.returncode == 1 and len(server.requests) == before + len(sent)
        kept = read(root / "SCORE_RESULTS/question_verification_results/base/easy/question_verification.json")
        assert [entry["video_id"] for entry in kept] == ["000"]


def test_a_server_that_is_down_is_one_line_a_video(matrix, root):
    with OpenAiServer() as server:
        address = server.api_base
    started = time.monotonic()
    result = matrix("eval", "run", "--root", root, "--api-base", address, *FAST, OPENAI_API_KEY=KEY)
    assert result.returncode == 1 and time.monotonic() - started < 30
    assert result.faults[0].startswith("matrix: easy/000: the server cannot be reached: ")
    assert result.faults[-1].endswith("each named above")
    videos = {f.split(": ")[1] for f in result.faults[:-1]}
    assert {"easy/000", "easy/001"} <= videos
    assert len(videos) == len(result.faults) - 1, "a video is named twice"


def test_a_refused_key_ends_the_asking_and_is_struck_out(evaluate, root):
    with OpenAiServer(lambda request, number: "refused") as server:
        result = evaluate("questions", server, "--concurrency", 1)
    assert result.returncode == 1 and len(server.requests) == 1
    assert "401" in result.faults[0] and "OPENAI_API_KEY" in result.faults[0]
    assert KEY not in result.stdout + result.stderr


def test_the_key_is_nowhere(evaluate, root, tmp_path):
    with OpenAiServer() as server:
        result = evaluate("run", server, "--verbose")
        assert result.returncode == 0, result.stderr
    assert KEY not in result.stdout + result.stderr
    assert KEY.encode() not in everything_under(tmp_path)


@pytest.mark.parametrize("flags, key, words", [
    ([], "", "OPENAI_API_KEY is not set"),
    (["--model", "bas"], KEY, "did you mean base?"),
    (["--data-type", "hard"], KEY, "--data-type hard"),
    (["--api-base", "ftp://x"], KEY, "--api-base ftp://x"),
    (["--concurrency", 0], KEY, "--concurrency"),
    (["--retries", -1], KEY, "--retries"),
    (["--variant", "best"], KEY, "--variant"),
])
def test_usage_errors(matrix, drawn, flags, key, words):
    base = [] if "--api-base" in flags else ["--api-base", "http://127.0.0.1:9/v1"]
    result = matrix("eval", "run", "--root", drawn, *base, *flags, OPENAI_API_KEY=key)
    assert result.returncode == 2 and len(result.faults) == 1 and words in result.faults[0]
    assert not (drawn / "VLM_CACHE").exists() and not (drawn / "SCORE_RESULTS").exists()


def test_no_address_is_a_usage_error(matrix, drawn):
    result = matrix("eval", "questions", "--root", drawn, OPENAI_API_KEY=KEY)
    assert result.returncode == 2 and "--api-base is missing" in result.faults[0]


def test_dry_run_tells_the_cost_and_needs_no_key(matrix, drawn):
    text = matrix.good("eval", "run", "--root", drawn, "--dry-run", "--price-input", 1000, "--price-output", 0,
                       OPENAI_API_KEY="")
    lines = {line.split(":")[0]: line for line in text.splitlines()}
    assert "2 to do, at most 2 requests, 0 pictures" in lines["questions"]
    assert "4 to do, at most 4 requests, 16 pictures" in lines["emergence"]
    assert "4 to do, at most 4 requests, 16 pictures" in lines["answers"]
    total = next(line for line in text.splitlines() if line.startswith("together"))
    tokens = int(total.split("about ")[1].split()[0])
    assert 32 * 255 < tokens < 32 * 255 + 8000
    assert f"about {tokens / 1000:.2f} at the given prices" in total
    assert not (drawn / "VLM_CACHE").exists()


def test_faults_of_tracks_and_videos_leave_out_that_video_alone(matrix, root):
    base, tuned = root / "EVAL_RESULTS/base/easy/tracks", root / "EVAL_RESULTS/tuned/easy/tracks"
    for drawing in (root / "EVAL_RESULTS").glob("*/*/track_vis/*"):
        drawing.unlink()
    (base / "000/id2/012.png").unlink()
    subprocess.run(["rm", "-r", base / "001/id1"], check=True)
    (root / "OUTPUTS/tuned/easy/001.mp4").write_bytes(b"not a video")
    assert tuned.exists()
    result = matrix("eval", "overlay", "--root", root)
    assert result.returncode == 1 and "overlay: 1 done, 0 kept, 3 left out" in result.stdout
    assert "base/easy/000: " in result.faults[0] and "12 masks for a video of 13 frames" in result.faults[0]
    assert "base/easy/001: no track " in result.faults[1]
    assert "tuned/easy/001: " in result.faults[2] and "001.mp4" in result.faults[2]
    assert result.faults[3] == "matrix: left out: 3, each named above"
    with OpenAiServer() as server:
        result = matrix("eval", "run", "--root", root, "--api-base", server.api_base, OPENAI_API_KEY=KEY)
        assert result.returncode == 1
        assert len(server.requests) == 2 + 2
        assert sum("no overlay" in fault for fault in result.faults) == 3 and len(result.faults) == 4
    assert averages(root)["tuned"]["total_videos"] == 1
    assert averages(root)["base"]["overall_avg_IF_score"] is None


def test_questions_are_frozen(evaluate, root):
    path = root / "EVAL_DATA/easy/questions/000.json"
    with OpenAiServer() as server:
        assert evaluate("questions", server).returncode == 0
        mine = read(path)
        mine["items"][0]["questions"][0] = "Mine?"
        path.write_text(json.dumps(mine))
        assert evaluate("questions", server, "--vlm", "other").returncode == 0
        assert read(path) == mine
        # A failed attempt of other tools is no set of questions.
        path.write_text(json.dumps(mine | {"items": [], "error": "timed out"}))
        assert evaluate("questions", server).returncode == 0 and len(read(path)["items"]) == 1
        path.write_text(json.dumps(mine | {"prompt": "Another."}))
        result = evaluate("questions", server)
        assert result.returncode == 1 and "made for another prompt" in result.faults[0]


def test_verify_gives_each_box_to_one_object(matrix, evaluate, root):
    eval_data.add_detections(root)
    meta = root / "EVAL_DATA/easy/meta.json"
    scenarios = read(meta)
    scenarios[0]["objects"] = [{"class": "hand", "appearance": a} for a in ("left", "right", "third")]
    scenarios[1]["objects"][1]["class"] = "cart"
    meta.write_text(json.dumps(scenarios))
    matched = lambda: [[o["match"]["best_global_idx"] for o in entry["objects"]]  # noqa: E731
                       for entry in read(root / "EVAL_DATA/easy/verify_results.json")]
    with OpenAiServer() as server:
        result = evaluate("verify", server)
        assert result.returncode == 0, result.stderr
        assert matched() == [[0, 2, -1], [0, -1]]  # the third hand has no box left, the cart never had one
        assert {r["model"] for r in server.requests} == {"gpt-4o"}
        assert all(r["temperature"] == 0 and r["max_completion_tokens"] == 400 for r in server.requests)
        crops = [sum("Crop" in text for text in texts_of(r)) for r in server.requests]
        assert sorted(crops) == [1, 2, 2]
        assert "bbox" not in read(root / "EVAL_DATA/easy/verify_results.json")[1]["objects"][1]["match"]
        assert evaluate("verify", server, "--shared-boxes").returncode == 0
        assert matched() == [[0, 0, 0], [0, -1]]
    assert (root / "EVAL_DATA/easy/verify_vis/000.png").exists()
