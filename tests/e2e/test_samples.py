"""Videos on the way: what they are, that training does not notice them, and that ranks do not wait inside an exchange."""

import json
import re
import signal
import time

import cv2
import numpy as np
import pytest
from ranks import run_ranks
from safetensors.numpy import load_file
from training import metrics, replace

STEPS = 8
SAMPLES = (
    "validation.samples.every_steps=5",
    "validation.samples.clips=3",
    "validation.samples.steps=2",
    "validation.samples.guidance_scale=3",
)


def frames_of(path):
    capture = cv2.VideoCapture(str(path))
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1])
    return np.stack(frames)


def files_of(run):
    return {directory.name: sorted(p.name for p in directory.iterdir()) for directory in (run / "samples").iterdir()}


@pytest.fixture(scope="module")
def sampled(program):
    program.train(*SAMPLES, output="sampled")
    return program.directory / "sampled"


def stems(program):
    rows = [json.loads(line) for line in (program.directory / "data/metadata.jsonl").read_text().splitlines()]
    return [row["video"].removesuffix(".mp4") for row in rows][:3]


def test_training_does_not_notice(sampled, whole_run):
    assert metrics(sampled) == metrics(whole_run)
    for name in ("adapter", "optimizer"):
        path = f"checkpoints/step-{STEPS:08}/{name}.safetensors"
        assert (sampled / path).read_bytes() == (whole_run / path).read_bytes()


def test_files(program, sampled):
    names = sorted(
        f"{i}-{stem}{ending}" for i, stem in enumerate(stems(program)) for ending in (".mp4", ".png", "-adapter.mp4")
    )
    assert files_of(sampled) == {"step-00000005": names, "step-00000008": names}
    for stem in (f"{i}-{stem}" for i, stem in enumerate(stems(program))):
        directory = sampled / "samples/step-00000008"
        alone, together = frames_of(directory / f"{stem}-adapter.mp4"), frames_of(directory / f"{stem}.mp4")
        assert alone.shape == (17, 96, 160, 3)
        assert together.shape[0] == 17 and together.shape[2] > 3 * 160
        sheet = cv2.imread(str(directory / f"{stem}.png"))
        assert sheet.shape[1] > 5 * 240


def test_is_what_generate_makes_with_the_adapter(other, matrix, tmp_path):
    """From the run's own adapter directory, the clip's first frame, its masks and its caption."""
    vae = tmp_path / "model/vae/config.json"
    config = json.loads(vae.read_text()) | {"sample_height": 400, "sample_width": 400}  # no tiles in so small a video
    replace(vae, json.dumps(config).encode())
    other.train(*SAMPLES, "validation.samples.clips=1", "train.steps=1", "validation.every_steps=0", output="run")
    config = json.loads((tmp_path / "run/config.json").read_text())

    stem = stems(other)[0]
    rows = [json.loads(line) for line in (tmp_path / "data/metadata.jsonl").read_text().splitlines()]
    index = [row["video"] for row in rows].index(f"{stem}.mp4")
    prompt = " ".join(re.sub(r"<id\d+>", "", rows[index]["prompt"]).split())
    clip = tmp_path / "clip.safetensors"
    other.run("probe", "--part", "data", "--config", "run.json", "--index", index, "--outputs", clip)
    first = load_file(clip)["video"][:, 0]  # [3, H, W] in [-1, 1]
    pixels = ((first + 1) / 2 * 255).round().astype(np.uint8).transpose(1, 2, 0)
    cv2.imwrite(str(tmp_path / "first.png"), pixels[:, :, ::-1])
    matrix.good(
        *("generate", "--model", tmp_path / "model", "--adapter", tmp_path / "run/adapter"),
        *("--image", tmp_path / "first.png", "--id-map", tmp_path / f"data/mask_annotation/{stem}"),
        *("--prompt", prompt, "--seed", config["train"]["seed"], "--steps", 2, "--guidance-scale", 3),
        *("--low-memory", "--out", tmp_path / "same.mp4"),
    )
    wanted = frames_of(tmp_path / f"run/samples/step-00000001/0-{stem}-adapter.mp4").astype(int)
    assert np.abs(frames_of(tmp_path / "same.mp4") - wanted).mean() < 0.5


def test_ranks_share_the_clips(program, tmp_path, sampled):
    """Two processes of one clip each, and two that share one base: the same files as of one process."""
    for name, assignments in {
        "replicas": ["train.batch_size=1"],
        "sharded": ["train.batch_size=1", "parallel.shard_base=true", "memory.checkpointing=true"],
    }.items():
        run = tmp_path / name
        run_ranks(program, 2, program.train_arguments(*SAMPLES, *assignments, "train.steps=3", output=run))
        assert list(files_of(run)) == ["step-00000003"]
        assert files_of(run)["step-00000003"] == files_of(sampled)["step-00000008"]


def test_nobody_waits_inside_an_exchange(program, tmp_path):
    """One of two ranks makes a video for longer than the timeout of an exchange."""
    arguments = program.train_arguments(
        *SAMPLES,
        "validation.samples.clips=1",
        "validation.samples.steps=120",
        "validation.every_steps=0",
        "parallel.timeout_seconds=5",
        "train.steps=2",
        output=tmp_path / "run",
    )
    begin = time.monotonic()
    run_ranks(program, 2, arguments)
    assert time.monotonic() - begin > 7  # or the test shows nothing
    assert len(metrics(tmp_path / "run")) == 2


def test_a_signal_ends_the_sampling(program, tmp_path):
    run = tmp_path / "run"
    process = program.start_training(
        *SAMPLES, "validation.samples.every_steps=1", "validation.samples.steps=1000", output=run
    )
    deadline = time.monotonic() + 60
    while not (run / "samples").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    begin = time.monotonic()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143, out + err
    assert time.monotonic() - begin < 30
    program.train(output=run, resume="auto")
    assert len(metrics(run)) == STEPS


def test_frames_that_no_video_has(program, tmp_path):
    faults = program.train_faults(*SAMPLES, "data.frames=13", output=tmp_path / "run", code=2)
    assert any("validation.samples" in fault and "13" in fault for fault in faults), faults
