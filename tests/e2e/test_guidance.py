"""matrix generate --guidance: the training-free guidances, their record, and what is said of wrong input."""

import json
import shutil

import cv2
import numpy as np
import pytest

PROMPT = "A man hands a red cup to the woman beside him."
INTERACTIONS = [
    {"subject": {"phrase": "man", "id": 1}, "verb": {"phrase": "hands"}, "object": {"phrase": "woman", "id": 2}}
]
WORDS = ["--interactions", json.dumps(INTERACTIONS)]
CMG = ["--guidance", "cmg", "--cmg-blocks", "1,2", *WORDS]
CAG = ["--guidance", "cag", "--cag-blocks", 3]
BOTH = ["--guidance", "cmg,cag", "--cmg-blocks", "1,2", "--cag-blocks", "3", *WORDS]


@pytest.fixture(scope="module")
def first_frame(tmp_path_factory):
    path = tmp_path_factory.mktemp("picture") / "first.png"
    picture = np.random.default_rng(1).integers(0, 256, (5, 9, 3), dtype=np.uint8)
    cv2.imwrite(str(path), cv2.resize(picture, (160, 96)))
    return path


@pytest.fixture
def generate(matrix, tiny_model, first_frame):
    def run(*flags, prompt=PROMPT):
        return matrix("generate", "--model", tiny_model, "--image", first_frame, "--prompt", prompt, "--frames", 9,
                      "--steps", 2, *flags)

    return run


@pytest.fixture
def video(generate, tmp_path):
    """The frames' files of a video made with flags."""

    def make(name, *flags):
        result = generate("--out", tmp_path / name, "--formats", "png", *flags)
        assert result.returncode == 0, result.stderr
        return [path.read_bytes() for path in sorted((tmp_path / name).iterdir())]

    return make


def write_tracks(directory, regions, frames=9, size=(96, 160)):
    """Tracks of IDs, each a slice of rows and one of columns, the same in every frame."""
    for i, (rows, columns) in regions.items():
        folder = directory / f"<id{i}>"
        folder.mkdir(parents=True, exist_ok=True)
        mask = np.zeros(size, np.uint8)
        mask[rows, columns] = 255
        for frame in range(frames):
            cv2.imwrite(str(folder / f"{frame:03d}.png"), mask)
    return directory


EVERYWHERE = (slice(None), slice(None))
LEFT, RIGHT = (slice(None), slice(0, 80)), (slice(0, 48), slice(80, 160))


def as_numbers(frames):
    return np.stack([cv2.imdecode(np.frombuffer(frame, np.uint8), cv2.IMREAD_COLOR) for frame in frames]).astype(int)


def test_each_guidance_makes_its_own_video(video):
    plain = video("plain")
    videos = {
        "cmg": video("cmg", *CMG),
        "cag": video("cag", *CAG),
        "both": video("both", *BOTH),
        "strong": video("strong", *BOTH, "--perturbation-scale", 3),
        "without-cfg": video("without-cfg", *BOTH, "--guidance-scale", 1),
    }
    assert len({tuple(frames) for frames in [plain, *videos.values()]}) == 6
    assert video("zero", *BOTH, "--perturbation-scale", 0) == plain
    low = as_numbers(video("low", *BOTH, "--low-memory"))  # the passes are rounded otherwise
    assert np.abs(low - as_numbers(videos["both"])).max() <= 1


def test_regions(video, tmp_path):
    free = video("free", *CMG)
    everywhere = write_tracks(tmp_path / "everywhere", {1: EVERYWHERE, 2: EVERYWHERE})
    assert video("all", *CMG, "--mask-tracks", everywhere) == free
    regions = write_tracks(tmp_path / "regions", {1: LEFT, 2: RIGHT, 3: (slice(0, 0), slice(0, 0))})
    there = video("there", *CMG, "--mask-tracks", regions)
    swapped = write_tracks(tmp_path / "swapped", {1: RIGHT, 2: LEFT})
    assert len({tuple(v) for v in (free, there, video("swapped-out", *CMG, "--mask-tracks", swapped))}) == 3


def test_record(generate, tmp_path):
    tracks = write_tracks(tmp_path / "tracks", {1: LEFT, 2: RIGHT})
    result = generate("--out", tmp_path / "clip.mp4", *BOTH, "--mask-tracks", tracks, "--perturbation-scale", 0.5)
    assert result.returncode == 0, result.stderr
    record = json.loads((tmp_path / "clip.json").read_text())
    settings = record["settings"]
    assert settings["guidance"] == ["cmg", "cag"] and settings["perturbation_scale"] == 0.5
    assert settings["cmg_blocks"] == [1, 2] and settings["cag_blocks"] == [3]
    assert json.loads(settings["interactions"]) == INTERACTIONS
    assert settings["mask_tracks"] == str(tracks) and record["mask_tracks_hash"]


def test_batch_notices_changes(generate, tmp_path):
    write_tracks(tmp_path / "tracks", {1: LEFT, 2: RIGHT})
    cmg = {"guidance": ["cmg"], "cmg_blocks": [1], "interactions": INTERACTIONS}
    rows = [cmg | {"mask_tracks": "tracks"}, {"guidance": ["cag"], "cag_blocks": [3]}, cmg, {}]
    out = tmp_path / "videos"

    def was_there():
        (tmp_path / "jobs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        result = generate("--batch", tmp_path / "jobs.jsonl", "--out", out, "--json")
        assert result.returncode == 0, result.stderr
        return [made["was_there"] for made in json.loads(result.stdout)]

    assert was_there() == [False] * 4
    assert was_there() == [True] * 4
    assert len({(out / f"00000{i}.mp4").read_bytes() for i in (1, 2, 3, 4)}) == 4
    write_tracks(tmp_path / "tracks", {2: LEFT})
    rows[1]["cag_blocks"] = [4]
    rows[2] = cmg | {"perturbation_scale": 2}
    assert was_there() == [False, False, False, True]
    rows[2] = rows[2] | {"interactions": [{**INTERACTIONS[0], "object": None}]}
    assert was_there() == [True, True, False, True]


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--guidance", "cgm"], ["--guidance", "cmg"]),
        (["--guidance", "cmg", *WORDS], ["cmg_blocks", "7, 11", "42", "this one has 8"]),
        (["--guidance", "cag"], ["cag_blocks", "12", "42"]),
        (["--guidance", "cag", "--cag-blocks", "8"], ["cag_blocks", "no block 8", "0 to 7"]),
        (["--guidance", "cag", "--cag-blocks", "-1"], ["--cag-blocks"]),
        (["--guidance", "cag", "--cag-blocks", "two"], ["--cag-blocks", "two"]),
        (["--guidance", "cmg", "--cmg-blocks", "1"], ["interactions", "missing"]),
        ([*CMG[:-1], "[{"], ["interactions"]),
        ([*CMG[:-1], json.dumps(INTERACTIONS).replace("woman", "dog")], ["interactions[0].object", "dog"]),
        ([*CMG[:-1], json.dumps(INTERACTIONS).replace('"id": 2', '"id": 7')], ["interactions[0].object.id", "7"]),
        ([*CAG, "--perturbation-scale", "nan"], ["--perturbation-scale"]),
        (["--perturbation-scale", "2"], ["perturbation_scale"]),
        (["--cmg-blocks", "1"], ["cmg_blocks", "not on"]),
        (WORDS, ["interactions", "not on"]),
        ([*CAG, "--mask-tracks", "masks"], ["mask_tracks", "not on"]),
    ],
)
def test_wrong_flags(generate, tmp_path, flags, words):
    result = generate("--out", tmp_path / "out.mp4", *flags)
    assert result.returncode == 2, result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert all(word in result.stderr for word in words), result.stderr
    assert not list(tmp_path.iterdir())


def test_wrong_tracks(generate, tmp_path):
    whole = write_tracks(tmp_path / "whole", {1: LEFT, 2: RIGHT})
    one = write_tracks(tmp_path / "one", {1: LEFT})
    few = write_tracks(tmp_path / "few", {1: LEFT, 2: RIGHT}, frames=8)
    square = write_tracks(tmp_path / "square", {1: LEFT, 2: RIGHT}, size=(96, 96))
    empty = write_tracks(tmp_path / "empty", {i: (slice(0, 0), slice(0, 0)) for i in (1, 2)})
    broken = tmp_path / "broken"
    shutil.copytree(whole, broken)
    (broken / "<id2>" / "004.png").write_bytes(b"not a picture")
    for tracks, words in (
        (tmp_path / "missing", ["missing: cannot open"]),
        (one, ["<id2>", "woman"]),
        (few, ["<id1>", "8 masks", "9 are needed"]),
        (square, ["000.png", "96 x 96", "160 x 96"]),
        (empty, ["empty", "would change nothing"]),
        (broken, ["004.png"]),
    ):
        result = generate("--out", tmp_path / "out.mp4", *CMG, "--mask-tracks", tracks)
        assert result.returncode == 1, result.stderr
        assert all(word in result.stderr for word in words), result.stderr
    assert not (tmp_path / "out.mp4").exists()
