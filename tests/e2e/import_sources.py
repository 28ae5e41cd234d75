"""What segmenters write, made small, and what an import of it must be."""

import json

import numpy as np
import pytest
from PIL import Image

H, W, FRAMES = 32, 48, 6
rng = np.random.default_rng(7)


def masks(number: int) -> np.ndarray:
    """[FRAMES, H, W] bool: a square of its own height for each object, that walks."""
    track = np.zeros((FRAMES, H, W), bool)
    for t in range(FRAMES):
        track[t, 2 + 5 * (number - 1):6 + 5 * (number - 1), 4 + t:12 + t] = True
    return track


def write_frames(folder, first=0, size=(W, H), frames=FRAMES):
    folder.mkdir(parents=True)
    for t in range(frames):
        picture = rng.integers(0, 255, (size[1], size[0], 3)).astype(np.uint8)
        Image.fromarray(picture).save(folder / f"{first + t:05d}.jpg")


def write_sam2(root, name, numbers, folder="{}", pattern="{:05d}.png", first=0):
    for number in numbers:
        target = root / name / folder.format(number)
        target.mkdir(parents=True)
        for t, mask in enumerate(masks(number)):
            Image.fromarray(mask.astype(np.uint8) * 255).save(target / pattern.format(first + t))


def write_davis(root, name, numbers, resolution="480p"):
    folder = root / "Annotations" / resolution / name
    folder.mkdir(parents=True)
    for t in range(FRAMES):
        index = np.zeros((H, W), np.uint8)
        for number in numbers:
            index[masks(number)[t]] = number
        index[H - 1, :] = 255  # void
        picture = Image.fromarray(index, "P")
        picture.putpalette(sum(([i, i // 2, 255 - i] for i in range(256)), []))
        picture.save(folder / f"{t:05d}.png")
    write_frames(root / "JPEGImages" / resolution / name)


def runs(mask: np.ndarray) -> list[int]:
    flat = mask.flatten(order="F").astype(np.int8)
    edges = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff([0, *edges, flat.size]).tolist()
    return ([0] if flat[0] else []) + lengths


def compressed(lengths: list[int]) -> str:
    """COCO's string, written from its description: groups of five bits, differences from the fourth run on."""
    text = ""
    for i, length in enumerate(lengths):
        value = length - lengths[i - 2] if i > 2 else length
        while True:
            bits, value = value & 0x1F, value >> 5
            more = value != (-1 if bits & 0x10 else 0)
            text += chr(48 + (bits | (0x20 if more else 0)))
            if not more:
                break
    return text


def rle(mask, as_string=True):
    lengths = runs(mask)
    return {"size": [H, W], "counts": compressed(lengths) if as_string else lengths}


def youtube_vis(root, name="a", numbers=(1, 2)):
    write_frames(root / "JPEGImages" / name)
    annotations = [{"id": n, "video_id": 1, "category_id": n,
                    "segmentations": [rle(m, as_string=n % 2 == 1) for m in masks(n)]} for n in numbers]
    return {"videos": [{"id": 1, "width": W, "height": H,
                        "file_names": [f"{name}/{t:05d}.jpg" for t in range(FRAMES)]}],
            "categories": [{"id": 1, "name": "man"}, {"id": 2, "name": "box"}],
            "annotations": annotations}


def read_track(data, name, id_):
    folder = data / "mask_annotation" / name / f"<id{id_}>"
    files = sorted(folder.iterdir())
    assert [f.name for f in files] == [f"{t:03d}.png" for t in range(FRAMES)]
    return np.stack([np.array(Image.open(f)) for f in files])


def assert_sound(matrix, data, tracks):
    """{name: {id: source number}}; the pixels are the source's, and the doctor finds nothing."""
    assert json.loads(matrix.good("check", "data", data, "--json"))["faults"] == []
    assert sorted(p.name for p in (data / "mask_annotation").iterdir()) == sorted(tracks)
    for name, ids in tracks.items():
        assert {p.name for p in (data / "mask_annotation" / name).iterdir()} == {f"<id{i}>" for i in ids}
        for id_, number in ids.items():
            assert np.array_equal(read_track(data, name, id_), masks(number) * np.uint8(255)), (name, id_)
    rows = [json.loads(line) for line in (data / "metadata.jsonl").read_text().splitlines()]
    return {row["video"]: row for row in rows}


def refused(result, *parts, code=1):
    assert result.returncode == code, result.stderr
    others = [line for line in result.stderr.splitlines() if line not in result.faults]
    assert all(line.startswith("clips ") for line in others), others  # the progress line
    found = [fault for fault in result.faults if all(part in fault for part in parts)]
    assert len(found) == 1, (parts, result.faults)


def nothing_at(path):
    assert not path.exists() and not [p for p in path.parent.iterdir() if p.name.startswith(f".{path.name}")
                                      or p.name.startswith(f"{path.name}.")]


@pytest.fixture
def out(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def two(tmp_path):
    source = tmp_path / "source"
    for name in ("bad", "good"):
        write_sam2(source, name, [1, 2])
        write_frames(source / "videos" / name)
    return source
