"""matrix generate: what it writes, that it is reproducible, and what it says of wrong input."""

import json
import os
import resource
import shutil
import signal
import subprocess
import time

import cv2
import numpy as np
import pytest

SMALL = ["--frames", 9, "--steps", 2]


@pytest.fixture(scope="module")
def first_frame(tmp_path_factory):
    path = tmp_path_factory.mktemp("picture") / "first.png"
    picture = np.random.default_rng(1).integers(0, 256, (5, 9, 3), dtype=np.uint8)
    cv2.imwrite(str(path), cv2.resize(picture, (200, 130)))
    return path


@pytest.fixture
def generate(matrix, tiny_model, first_frame):
    def run(*flags, image=first_frame, model=tiny_model, prompt="A man waves.", small=True, **environment):
        arguments = ["generate", "--model", model, *(SMALL if small else []), *flags]
        arguments += ["--image", image] if image else []
        arguments += ["--prompt", prompt] if prompt else []
        return matrix(*arguments, **environment)

    return run


def read_mp4(path):
    capture = cv2.VideoCapture(str(path))
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1])
    return np.stack(frames), capture.get(cv2.CAP_PROP_FPS)


def closeness(a, b):
    """Correlation of two pictures' values."""
    return np.corrcoef(a.ravel().astype(float), b.ravel().astype(float))[0, 1]


def files_below(directory):
    return sorted(str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file())


def test_every_format(generate, tmp_path):
    result = generate("--out", tmp_path / "a" / "clip.mp4", "--formats", "mp4,gif,png", "--fps", 5, "--json")
    assert result.returncode == 0, result.stderr
    video, fps = read_mp4(tmp_path / "a" / "clip.mp4")
    assert video.shape == (9, 96, 160, 3) and fps == pytest.approx(5)
    assert files_below(tmp_path / "a" / "clip") == [f"{i:03d}.png" for i in range(9)]
    frame = cv2.imread(str(tmp_path / "a" / "clip" / "004.png"))
    assert closeness(frame, video[4]) > 0.9  # H.264 of something like noise
    gif, _ = read_mp4(tmp_path / "a" / "clip.gif")
    assert gif.shape == video.shape and closeness(gif[4], frame) > 0.9  # 256 colours
    record = json.loads((tmp_path / "a" / "clip.json").read_text())
    assert record["settings"]["frames"] == 9 and record["settings"]["sampler"] == "ddim"
    assert [len(video["files"]) for video in json.loads(result.stdout)] == [3]


def test_seed_decides(generate, tmp_path):
    videos = {}
    for name, flags in {
        "one": ["--seed", 1],
        "again": ["--seed", 1],
        "two": ["--seed", 2],
        "low": ["--seed", 1, "--low-memory"],
    }.items():
        result = generate("--out", tmp_path / f"{name}.mp4", "--formats", "mp4,png", "--sampler", "dpm", *flags)
        assert result.returncode == 0, result.stderr
        videos[name] = (tmp_path / f"{name}.mp4").read_bytes()
    assert videos["one"] == videos["again"]
    assert videos["one"] != videos["two"]
    for i in range(9):  # the two halves of guidance are rounded otherwise
        low, one = (cv2.imread(str(tmp_path / name / f"{i:03d}.png")).astype(int) for name in ("low", "one"))
        assert np.abs(low - one).max() <= 1


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_batch_resumes(generate, first_frame, tmp_path):
    shutil.copy(first_frame, tmp_path / "here.png")
    rows = [
        {"prompt": "A man waves."},
        {"prompt": "A dog runs.", "image": "here.png", "seed": 7, "out": "deep/dog.gif"},
        {"frames": 1, "out": "still.mp4"},
    ]
    batch = write_rows(tmp_path / "jobs.jsonl", rows)
    out = tmp_path / "videos"
    result = generate("--batch", batch, "--out", out)
    assert result.returncode == 0, result.stderr
    names = ["000001.json", "000001.mp4", "deep/dog.gif", "deep/dog.json", "still.json", "still.mp4"]
    assert files_below(out) == names
    times = {name: (out / name).stat().st_mtime_ns for name in names}

    rows[0]["steps"] = 3  # other settings: made anew
    write_rows(batch, rows)
    (out / "still.mp4").unlink()  # gone: made anew
    result = generate("--batch", batch, "--out", out, "--json")
    assert result.returncode == 0, result.stderr
    assert [video["was_there"] for video in json.loads(result.stdout)] == [False, True, False]
    assert (out / "deep/dog.gif").stat().st_mtime_ns == times["deep/dog.gif"]
    assert (out / "000001.mp4").stat().st_mtime_ns != times["000001.mp4"]

    cv2.imwrite(str(tmp_path / "here.png"), np.zeros((40, 40, 3), np.uint8))  # another picture under the name
    result = generate("--batch", batch, "--out", out, "--json")
    assert [video["was_there"] for video in json.loads(result.stdout)] == [True, False, True]


def test_stopped_batch_goes_on(tiny_model, first_frame, tmp_path, matrix):
    batch = write_rows(tmp_path / "jobs.jsonl", [{"prompt": f"Number {i}."} for i in range(4)])
    out = tmp_path / "videos"
    command = [matrix.binary, "generate", "--model", tiny_model, "--image", first_frame, "--batch", batch, "--out", out]
    command = [str(word) for word in [*command, "--frames", 9, "--steps", 20, "--json"]]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for stop, code in ((signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)):
        before = len(list(out.glob("*.mp4"))) if out.exists() else 0
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        while process.poll() is None and (len(list(out.glob("*.mp4"))) if out.exists() else 0) <= before:
            time.sleep(0.02)
        process.send_signal(stop)
        printed, _ = process.communicate()
        assert process.returncode == code
        if stop == signal.SIGINT:
            assert [video["files"] for video in json.loads(printed)] == [[str(file)] for file in sorted(out.glob("*.mp4"))]
    result = matrix(*command[1:])
    assert result.returncode == 0, result.stderr
    there = [video["was_there"] for video in json.loads(result.stdout)]
    assert there[:2] == [True, True] and not there[3]
    for i in range(1, 5):
        assert len(read_mp4(out / f"00000{i}.mp4")[0]) == 9


def test_id_map(matrix, generate, tiny_model, first_frame, tmp_path):
    """A 48-channel adapter: a colour image, the same as masks in a folder, and none, which is another video."""
    masks = tmp_path / "masks"
    colours = np.zeros((96, 160, 3), np.uint8)
    for i, (rows, columns, colour) in enumerate(
        [(slice(0, 60), slice(0, 50), (0, 0, 255)), (slice(40, 96), slice(90, 160), (0, 255, 0))], start=1
    ):
        mask = np.zeros((96, 160), np.uint8)
        mask[rows, columns] = 255
        colours[rows, columns] = colour  # BGR
        (masks / f"<id{i}>").mkdir(parents=True)
        cv2.imwrite(str(masks / f"<id{i}>" / "000.png"), mask)
    cv2.imwrite(str(tmp_path / "map.png"), colours)
    adapter = adapter_with_id_map(matrix, tiny_model, tmp_path)
    videos = {}
    for name, flags in {
        "image": ["--id-map", tmp_path / "map.png"],
        "folder": ["--id-map", masks],
        "none": [],
        "off": ["--id-map", masks, "--adapter-strength", 0],
        "half": ["--id-map", masks, "--adapter-strength", 0.5],
    }.items():
        result = generate("--adapter", adapter, "--out", tmp_path / f"{name}.mp4", *flags)
        assert result.returncode == 0, result.stderr
        assert ("no ID map" in result.stderr) == (name == "none")
        videos[name] = (tmp_path / f"{name}.mp4").read_bytes()
    assert videos["image"] == videos["folder"]
    result = generate("--out", tmp_path / "base.mp4")
    assert videos["off"] == (tmp_path / "base.mp4").read_bytes()
    assert len({videos[name] for name in ("image", "none", "off", "half")}) == 4


def adapter_with_id_map(matrix, tiny_model, tmp_path):
    import torch
    from safetensors.torch import save_file

    adapter = tmp_path / "adapter"
    adapter.mkdir()
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(128, 48, 2, 2, generator=generator) * 0.1
    save_file({"patch_embed.proj.weight": weight, "patch_embed.proj.bias": torch.zeros(128)},
              adapter / "input_projection.safetensors")
    manifest = {
        "format_version": 1,
        "files": ["input_projection.safetensors"],
        "base": "",
        "r": 0,
        "alpha": 0.0,
        "trained_alpha": 0.0,
        "in_channels": 48,
        "id_map": True,
    }
    (adapter / "matrix_adapter.json").write_text(json.dumps(manifest))
    return adapter


@pytest.mark.parametrize(
    "flags, code, words",
    [
        (["--frames", 10], 2, ["frames", "9", "17"]),
        (["--frames", 0], 2, ["frames"]),
        (["--height", 100], 2, ["height", "96"]),
        (["--width", 176], 2, ["width", "160"]),
        (["--steps", 0], 2, ["steps"]),
        (["--steps", 1001], 2, ["steps", "1000"]),
        (["--fps", 0], 2, ["fps"]),
        (["--sampler", "euler"], 2, ["sampler", "ddim"]),
        (["--guidance-scale", "nan"], 2, ["--guidance-scale"]),
        (["--adapter-strength", "0.5"], 2, ["--adapter-strength", "--adapter"]),
        (["--fps", "150"], 2, ["--fps", "100"]),
        (["--negative-prompt", b"caf\xe9"], 2, ["negative_prompt", "UTF-8"]),
        (["--formats", "avi"], 2, ["formats", "mp4"]),
        (["--id-map", "missing.png"], 2, ["id_map"]),
        (["--adapter", "missing.safetensors"], 1, ["missing.safetensors"]),
        (["--model", "nowhere"], 1, ["nowhere"]),
        (["--dtype", "float16"], 2, ["--dtype"]),
        (["--device", "tpu"], 2, ["device"]),
    ],
)
def test_wrong_flags(generate, tmp_path, flags, code, words):
    given = [flag.decode("utf-8", "surrogateescape") if isinstance(flag, bytes) else str(flag) for flag in flags]
    named = {"model": given[1]} if given[0] == "--model" else {}
    if not named:
        named["small"] = given[0] not in ("--frames", "--steps")
    result = generate(*([] if "model" in named else given), "--out", tmp_path / "out.mp4", **named)
    assert result.returncode == code, result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert all(word in result.stderr for word in words), result.stderr
    assert not list(tmp_path.iterdir())


def test_wrong_files(generate, tmp_path, first_frame):
    broken = tmp_path / "broken.png"
    broken.write_bytes(first_frame.read_bytes()[:200])
    text = tmp_path / "notes.jpg"
    text.write_text("not a picture")
    before = files_below(tmp_path)
    for image in (broken, text, tmp_path / "missing.png", tmp_path):
        result = generate("--out", tmp_path / "out.mp4", image=image)
        assert result.returncode == 1 and len(result.stderr.splitlines()) == 1, result.stderr
        assert str(image) in result.stderr
    for image, prompt, word in ((None, "A man.", "image"), (first_frame, "", "prompt"), (first_frame, "  ", "prompt")):
        result = generate("--out", tmp_path / "out.mp4", image=image, prompt=prompt)
        assert result.returncode == 2 and word in result.stderr, result.stderr
    assert files_below(tmp_path) == before


def test_wrong_outputs(generate, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.png").write_text("")
    (tmp_path / "dir.mp4").mkdir()
    (tmp_path / "run.json").write_text("{}")  # somebody else's
    before = files_below(tmp_path)
    for out, formats, code in (
        (tmp_path / "clip.avi", [], 2),
        (tmp_path / "clip", [], 2),
        (tmp_path / "file" / "clip.mp4", [], 1),
        ("/proc/clip.mp4", [], 1),
        (tmp_path / "photos", ["--formats", "png"], 1),
        (tmp_path / "dir.mp4", [], 1),
        (tmp_path / "run.mp4", [], 1),
    ):
        result = generate("--out", out, *formats)
        assert result.returncode == code and len(result.stderr.splitlines()) == 1, (out, result.stderr)
        assert str(out).split("/clip")[0].removesuffix(".mp4") in result.stderr
    assert files_below(tmp_path) == before


def test_full_disk(generate, tiny_model, first_frame, tmp_path, matrix):
    """A limit on the size of files stands for a full disk: no half of a video is left."""
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))

    for ending in ("mp4", "gif"):
        command = [matrix.binary, "generate", "--model", tiny_model, "--image", first_frame, "--prompt", "A man."]
        command += [*SMALL, "--out", tmp_path / f"clip.{ending}"]
        result = subprocess.run(
            [str(word) for word in command],
            capture_output=True,
            text=True,
            preexec_fn=limit,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert result.returncode == 1, result.stderr
        assert f"clip.{ending}" in result.stderr.splitlines()[-1]
        assert files_below(tmp_path) == []


def test_wrong_batch(generate, tmp_path, first_frame):
    rows = [
        {"prompt": "A man.", "frame": 9},
        {"prompt": "A man.", "out": "../outside.mp4"},
        {"prompt": "A man.", "seed": -1},
        {"out": "same.mp4"},
        {"out": "same.gif"},
    ]
    batch = tmp_path / "jobs.jsonl"
    batch.write_text("".join(json.dumps(row) + "\n" for row in rows[:3]) + "{\n")
    result = generate("--batch", batch, "--out", tmp_path / "videos")
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 4, result.stderr
    for word in ("frames", "outside", "seed", "jobs.jsonl:4"):
        assert word in result.stderr
    write_rows(batch, rows[3:])
    result = generate("--batch", batch, "--out", tmp_path / "videos")
    assert result.returncode == 2 and "same" in result.stderr
    batch.write_text("\n")
    assert generate("--batch", batch, "--out", tmp_path / "videos").returncode == 2
    assert files_below(tmp_path) == ["jobs.jsonl"]


def test_wrong_adapters(generate, tmp_path):
    import torch
    from safetensors.torch import save_file

    def pair(block=0, rank_a=4, rank_b=4, width=128, value=0.1):
        key = f"transformer.transformer_blocks.{block}.attn1.to_q"
        a, b = torch.full((rank_a, width), value), torch.full((width, rank_b), value)
        return {f"{key}.lora_A.weight": a, f"{key}.lora_B.weight": b}

    wrong = {
        "another-model": (pair(block=40), "transformer_blocks.40"),
        "another-width": (pair(width=256), "transformer_blocks.0"),
        "ranks": (pair(rank_b=8), "transformer_blocks.0"),
        "nan": (pair(value=float("nan")), "transformer_blocks.0"),
        "half": (dict([next(iter(pair().items()))]), "transformer_blocks.0"),
        "something-else": ({"conv.weight": torch.zeros(3, 3)}, "conv.weight"),
    }
    for name, (tensors, word) in wrong.items():
        path = tmp_path / f"{name}.safetensors"
        save_file(tensors, path)
        result = generate("--adapter", path, "--out", tmp_path / "out.mp4")
        assert result.returncode in (1, 2) and len(result.stderr.splitlines()) == 1, (name, result.stderr)
        assert word in result.stderr, (name, result.stderr)
    (tmp_path / "damaged.safetensors").write_bytes((tmp_path / "nan.safetensors").read_bytes()[:-9])
    result = generate("--adapter", tmp_path / "damaged.safetensors", "--out", tmp_path / "out.mp4")
    assert result.returncode == 1 and "damaged.safetensors" in result.stderr
    assert not (tmp_path / "out.mp4").exists()
