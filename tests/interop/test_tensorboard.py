"""What a run writes for TensorBoard, read back by TensorBoard."""

import json
import math
import os
import pathlib
import subprocess

import cv2
import numpy as np
import pytest

event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

REPO = pathlib.Path(__file__).resolve().parents[2]
MATRIX = os.environ.get("MATRIX", REPO / "build/release/bin/matrix")


def matrix(*arguments):
    done = subprocess.run([MATRIX, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Three steps, then steps 3 and 4 again from the checkpoint after step 2."""
    root = tmp_path_factory.mktemp("tensorboard")
    matrix("init", "--preset", "tiny", "--out", root / "model")
    matrix("synth", "--out", root / "data", "--clips", 2)
    train = ["train", "--config", root / "model" / "run.json"]
    for key, value in {
        "model.device": "cpu",
        "data.path": root / "data",
        "data.cache": root / "cache",
        "output": root / "run",
        "train.batch_size": 1,
        "checkpoint.every_steps": 2,
        "validation.every_steps": 2,
        "validation.overlays.every_steps": 2,
    }.items():
        train += ["--set", f"{key}={value}"]
    matrix(*train, "--set", "train.steps=3")
    matrix(*train, "--set", "train.steps=4", "--resume", root / "run" / "checkpoints" / "step-00000002")
    return root / "run"


@pytest.fixture(scope="module")
def events(run):
    accumulator = event_accumulator.EventAccumulator(str(run / "tensorboard"))
    accumulator.Reload()
    return accumulator


def flat(record, path=""):
    for key, value in record.items():
        if isinstance(value, dict):
            yield from flat(value, f"{path}{key}/")
        elif value is not None:
            yield path + key, value


def test_every_number_of_every_step_is_there(run, events):
    wanted = {}
    for file, prefix in (("metrics.jsonl", ""), ("performance.jsonl", "performance/")):
        for line in (run / file).read_text().splitlines():
            record = json.loads(line)
            step = record.pop("step")
            for tag, value in flat(record, prefix):
                wanted.setdefault(tag, []).append((step, value))
    assert {"validation/train/auc_v2t", "performance/tokens_per_second"} <= set(wanted)
    assert set(events.Tags()["scalars"]) == set(wanted)
    for tag, points in wanted.items():
        got = [(e.step, e.value) for e in events.Scalars(tag)]
        assert [step for step, _ in got] == [step for step, _ in points], tag
        for (_, value), (_, expected) in zip(got, points):
            assert math.isclose(value, expected, rel_tol=1e-6, abs_tol=1e-30), tag  # float32 in the file


def test_a_resumed_run_replaces_the_steps_that_it_repeats(run, events):
    assert len(list((run / "tensorboard").glob("events.out.tfevents.*"))) == 2
    assert [e.step for e in events.Scalars("loss")] == [1, 2, 3, 4]
    walls = [e.wall_time for e in events.Scalars("loss")]
    assert walls == sorted(walls)


def test_pictures_are_there_where_the_program_can_draw(run):
    # MATRIX names a program with media and text: what scripts/test.sh builds.
    assert (run / "pictures" / "curves.png").stat().st_size > 10_000
    assert (run / "pictures" / "summary.png").exists()
    assert (run / "pictures" / "words-matter.png").exists()


def test_overlays_are_images(run, events):
    """Without held-out clips those of training; each step's sheet is the file in pictures/ too."""
    tags = events.Tags()["images"]
    assert {tag.rsplit("/", 1)[1] for tag in tags} == {"words", "tracks"}
    assert len(tags) == 4 and all(tag.startswith("attention/train/") for tag in tags)
    for tag in tags:
        images = events.Images(tag)
        assert [image.step for image in images] == [2, 4]
        _, _, stem, what = tag.split("/")
        for image in images:
            sheet = cv2.imread(str(run / f"pictures/step-{image.step:08}/attention-train-{stem}-{what}.png"))
            shown = cv2.imdecode(np.frombuffer(image.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
            assert shown.shape == sheet.shape == (image.height, image.width, 3)
            assert np.abs(shown.astype(int) - sheet).mean() < 4
