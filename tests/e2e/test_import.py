"""matrix import: what segmenters write becomes a data set that check data finds sound."""

import json
import os
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest
from PIL import Image
from import_sources import (  # noqa: F401 (fixtures)
    assert_sound, FRAMES, H, masks, nothing_at, out, read_track, refused, rle, two, W, write_davis, write_frames,
    write_sam2, youtube_vis)

# --- each format


@pytest.mark.parametrize("folder, pattern, first", [("{}", "{:05d}.png", 0), ("id{}", "{:03d}.png", 0),
                                                    ("<id{}>", "{}.png", 1), ("{:03d}", "{:05d}.png", 10)])
def test_sam2(matrix, tmp_path, out, folder, pattern, first):
    source = tmp_path / "source"
    write_sam2(source, "a", [1, 2], folder, pattern, first)
    write_sam2(source, "b", [1], folder, pattern, first)
    for name in "ab":
        write_frames(source / "videos" / name)
    (source / "captions.json").write_text(json.dumps({"a": "A <id1> man lifts a <id2> box.", "b": "Rain.", "c": ""}))
    found = json.loads(matrix.good("import", "--from", "sam2", source, "--to", out, "--captions",
                                   source / "captions.json", "--json"))
    rows = assert_sound(matrix, out, {"a": {1: 1, 2: 2}, "b": {1: 1}})
    assert rows["a.mp4"] == {"video": "a.mp4", "prompt": "A <id1> man lifts a <id2> box."}
    assert [clip["frames"] for clip in found["clips"]] == [FRAMES] * 2
    assert found["left_out"] == {} and len(found["notes"]) == 1 and "1 captions" in found["notes"][0]


def test_sam2_with_video_files_and_intergeneval_names(matrix, clips, tmp_path, out):
    """A data set in the MATRIX layout is itself such a source: the copy has its bytes."""
    data = tmp_path / "model/tracks"
    for name in ("000001", "000002"):
        for mask in sorted((clips / "mask_annotation" / name).glob("*/*.png")):
            target = data / name / mask.parent.name.strip("<>") / mask.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(mask, target)
    matrix.good("import", "--from", "sam2", tmp_path / "model", "--videos", clips / "videos", "--to", out,
                "--captions", clips / "metadata.jsonl")
    assert json.loads(matrix.good("check", "data", out, "--json"))["faults"] == []
    for name in ("000001", "000002"):
        assert (out / f"videos/{name}.mp4").read_bytes() == (clips / f"videos/{name}.mp4").read_bytes()
    rows = [[json.loads(line) for line in (d / "metadata.jsonl").read_text().splitlines()] for d in (clips, out)]
    assert rows[0] == rows[1]


def test_one_clip_of_sam2(matrix, tmp_path, out):
    write_sam2(tmp_path, "clip", [1, 3])
    write_frames(tmp_path / "videos/clip")
    result = matrix.good("import", "--from", "sam2", tmp_path / "clip", "--to", out)
    assert "no captions" in result and "1 clip, 0 left out" in result
    assert_sound(matrix, out, {"clip": {1: 1, 3: 3}})


@pytest.mark.parametrize("resolution", ["480p", "Full-Resolution"])
def test_davis(matrix, tmp_path, out, resolution):
    write_davis(tmp_path / "davis", "bear", [1, 2, 3], resolution)
    matrix.good("import", "--from", "davis", tmp_path / "davis", "--to", out)
    assert_sound(matrix, out, {"bear": {1: 1, 2: 2, 3: 3}})


def test_black_and_white_davis_is_one_object(matrix, tmp_path, out):
    folder = tmp_path / "davis/Annotations/bear"
    folder.mkdir(parents=True)
    for t, mask in enumerate(masks(1)):
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / f"{t:05d}.png")
    write_frames(tmp_path / "davis/JPEGImages/bear")
    matrix.good("import", "--from", "davis", tmp_path / "davis", "--to", out)
    assert_sound(matrix, out, {"bear": {1: 1}})


def test_youtube_vis(matrix, tmp_path, out):
    source = youtube_vis(tmp_path)
    source["annotations"][1]["segmentations"][0] = None
    (tmp_path / "instances.json").write_text(json.dumps(source))
    (tmp_path / "captions.json").write_text(json.dumps({"a": "A man lifts a box."}))
    found = json.loads(matrix.good("import", "--from", "coco", tmp_path / "instances.json", "--to", out, "--json",
                                   "--captions", tmp_path / "captions.json", "--propose-roles"))
    assert found["clips"][0]["ids"] == {"1": {"object": 1, "label": "man"}, "2": {"object": 2, "label": "box"}}
    assert not read_track(out, "a", 2)[0].any()
    assert np.array_equal(read_track(out, "a", 2)[1:], masks(2)[1:] * np.uint8(255))
    (row,) = [json.loads(line) for line in (out / "metadata.jsonl").read_text().splitlines()]
    assert row["labels"] == {"1": "man", "2": "box"}
    assert row["prompt"] == "A <id1> man lifts a <id2> box."
    assert row["interactions"] == [{"subject": {"phrase": "man", "id": 1}, "verb": {"phrase": "lifts"},
                                    "object": {"phrase": "box", "id": 2}, "proposed": True}]
    checked = json.loads(matrix.good("check", "data", out, "--json"))
    assert checked["faults"] == [] and checked["proposed"] == 1 and "proposed" in checked["notes"][0]


def test_coco_of_tracked_images_with_polygons(matrix, tmp_path, out):
    write_frames(tmp_path / "clip", first=9)
    images, annotations = [], []
    for t in range(FRAMES):
        images.append({"id": t, "file_name": f"clip/{9 + t:05d}.jpg", "width": W, "height": H})
        ys, xs = np.nonzero(masks(1)[t])
        x0, y0, x1, y1 = xs.min(), ys.min(), xs.max() + 1, ys.max() + 1
        annotations.append({"id": t, "image_id": t, "track_id": 7, "category_id": 1, "segmentation":
                            [[int(v) for v in (x0, y0, x1, y0, x1, y1, x0, y1)]]})
    (tmp_path / "coco.json").write_text(json.dumps({"images": images[::-1], "annotations": annotations}))
    matrix.good("import", "--from", "coco", tmp_path / "coco.json", "--to", out)
    assert_sound(matrix, out, {"clip": {1: 1}})


def test_grounded_sam2_tracker(matrix, tmp_path, out):
    clip = tmp_path / "source/walk"
    for folder in ("mask_data", "json_data"):
        (clip / folder).mkdir(parents=True)
    for t in range(FRAMES):
        index = (masks(1)[t] * 1 + masks(2)[t] * 2).astype(np.uint16)
        np.save(clip / f"mask_data/mask_{t:05d}.npy", index)
        labels = {str(n): {"instance_id": n, "class_name": c, "x1": 0, "logit": 0.0}
                  for n, c in [(1, "man"), (2, "box")]}
        (clip / f"json_data/mask_{t:05d}.json").write_text(json.dumps({"labels": labels}))
    write_frames(tmp_path / "videos/walk")
    matrix.good("import", "--from", "groundingdino", tmp_path / "source", "--videos", tmp_path / "videos", "--to", out)
    rows = assert_sound(matrix, out, {"walk": {1: 1, 2: 2}})
    assert rows["walk.mp4"]["labels"] == {"1": "man", "2": "box"}


def detections(t, numbers):
    return {"image_path": f"walk/{t:05d}.jpg", "box_format": "xyxy", "img_width": W, "img_height": H,
            "annotations": [{"class_name": f"class {n}", "bbox": [0, 0, 1, 1], "score": [0.9],
                             "segmentation": rle(masks(n)[t])} for n in numbers]}


def test_grounded_sam2_detections(matrix, tmp_path, out):
    (tmp_path / "source/walk").mkdir(parents=True)
    for t in range(FRAMES):
        (tmp_path / f"source/walk/{t:05d}.json").write_text(json.dumps(detections(t, [2, 1] if t else [1, 2])))
    write_frames(tmp_path / "source/videos/walk")
    matrix.good("import", "--from", "groundingdino", tmp_path / "source", "--to", out)
    assert_sound(matrix, out, {"walk": {1: 1, 2: 2}})

    twice = detections(3, [1, 1])
    (tmp_path / "source/walk/00003.json").write_text(json.dumps(twice))
    refused(matrix("import", "--from", "groundingdino", tmp_path / "source", "--to", tmp_path / "b"),
            "00003.json", 'second "class 1"')
    del twice["annotations"][1]["segmentation"]
    (tmp_path / "source/walk/00003.json").write_text(json.dumps(twice))
    refused(matrix("import", "--from", "groundingdino", tmp_path / "source", "--to", tmp_path / "b"),
            "00003.json", "a box and no mask", "--labels")


@pytest.mark.parametrize("labels", [
    [{"sample_id": "a", "text_prompt": "man. box.", "objects": [
        {"label": "box", "score": 0.5, "bbox": [0, 0, 1, 1], "obj_id": 1}, {"label": "man", "obj_id": 0}]}],
    {"image_path": "frames/a/00000.jpg", "annotations": [{"class_name": "man", "bbox": [0, 0, 1, 1]},
                                                          {"class_name": "box", "bbox": [0, 0, 1, 1]}]},
    {"a": {"2": "box", "1": "man"}}])
def test_labels_beside_sam2(matrix, tmp_path, out, labels):
    write_sam2(tmp_path / "source", "a", [1, 2])
    write_frames(tmp_path / "source/videos/a")
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    matrix.good("import", "--from", "sam2", tmp_path / "source", "--to", out, "--labels", tmp_path / "labels.json")
    assert assert_sound(matrix, out, {"a": {1: 1, 2: 2}})["a.mp4"]["labels"] == {"1": "man", "2": "box"}


def test_odd_pictures_lose_a_row(matrix, tmp_path, out):
    write_frames(tmp_path / "source/videos/a", size=(W - 1, H - 1))
    folder = tmp_path / "source/a/1"
    folder.mkdir(parents=True)
    for t in range(FRAMES):
        Image.fromarray(masks(1)[t, :-1, :-1].astype(np.uint8) * 255).save(folder / f"{t}.png")
    matrix.good("import", "--from", "sam2", tmp_path / "source", "--to", out)
    assert np.array_equal(read_track(out, "a", 1), masks(1)[:, :-2, :-2] * np.uint8(255))
    matrix.good("check", "data", out)


# --- which objects


def test_six_objects_want_a_choice(matrix, tmp_path, out):
    write_davis(tmp_path / "davis", "many", [1, 2, 3, 4, 5, 6])
    write_davis(tmp_path / "davis", "two", [3, 6])
    result = matrix("import", "--from", "davis", tmp_path / "davis", "--to", out)
    refused(result, "many: has 6 objects", "--ids")
    assert "1 clip, 1 left out" in result.stdout
    assert_sound(matrix, out, {"two": {1: 3, 2: 6}})  # 6 is no ID, so they are counted anew

    result = matrix("import", "--from", "davis", tmp_path / "davis", "--to", tmp_path / "b", "--ids", "6,2")
    assert result.returncode == 0 and "many: 4 of 6 objects are not among --ids" in result.stdout
    assert_sound(matrix, tmp_path / "b", {"many": {1: 6, 2: 2}, "two": {1: 6}})
    refused(matrix("import", "--from", "davis", tmp_path / "davis", "--to", tmp_path / "c", "--ids", "1"),
            "two: has none of the objects of --ids")


# --- captions


@pytest.mark.parametrize("name, text, parts", [
    ("c.jsonl", '{"video": "good.mp4", "prompt": "x"}\n', ["bad: has no caption in"]),
    ("c.csv", 'video,prompt,interactions\ngood.mp4,x,\nbad.mp4,A man sits.,"[{""subject"": {""phrase"": ""dog"", '
              '""id"": 1}, ""verb"": {""phrase"": ""sits""}}]"\n', ["c.csv line 3", "dog"]),
    ("c.json", '{"good": "x", "bad": "y <id3>", "": 1}', ['c.json ""', "prompt"]),
    ("c.json", '[{"video": "good", "prompt": "x"}, {"video": "videos/good.mp4", "prompt": "y"}]', ["again"]),
    ("c.json", '{"good": "x"', ["c.json"]),
    ("c.json", "3", ["c.json", "list of rows"]),
])
def test_captions_at_fault(matrix, two, out, tmp_path, name, text, parts):
    (tmp_path / name).write_text(text)
    refused(matrix("import", "--from", "sam2", two, "--to", out, "--captions", tmp_path / name), *parts)


def test_roles_of_ids_without_masks(matrix, two, out):
    row = {"prompt": "A man sits.", "mine": 3,
           "interactions": [{"subject": {"phrase": "man", "id": 4}, "verb": {"phrase": "sits"}}]}
    (two / "metadata.json").write_text(json.dumps([{"video": "bad.mp4"} | row, {"video": "good.mp4", "prompt": "x"}]))
    refused(matrix("import", "--from", "sam2", two, "--to", out), "bad: ", "no folder <id4>", "metadata.json row 0")
    row["interactions"][0]["subject"]["id"] = 2
    (two / "metadata.json").write_text(json.dumps([{"video": "bad.mp4"} | row, {"video": "good.mp4", "prompt": "x"}]))
    matrix.good("import", "--from", "sam2", two, "--to", out.parent / "b", "--propose-roles")
    rows = assert_sound(matrix, out.parent / "b", {"bad": {1: 1, 2: 2}, "good": {1: 1, 2: 2}})
    assert rows["bad.mp4"] == {"video": "bad.mp4"} | row


# --- roles of a data set that is there


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv"])
def test_proposals_in_place(matrix, clips, tmp_path, kind):
    data = shutil.copytree(clips, tmp_path / "data")
    rows = [json.loads(line) for line in (data / "metadata.jsonl").read_text().splitlines()]
    (data / "metadata.jsonl").unlink()
    assert "<id1>" in rows[0]["prompt"]
    del rows[0]["interactions"]
    rows[0]["mine"] = "a, b"
    path = data / f"metadata.{kind}"
    if kind == "csv":
        cells = [[r["video"], r["prompt"], json.dumps(r["interactions"]) if "interactions" in r else "",
                  r.get("mine", "")] for r in rows]
        lines = [["video", "prompt", "interactions", "mine"], *cells]
        path.write_text("".join(",".join('"' + c.replace('"', '""') + '"' for c in l) + "\n" for l in lines))
    else:
        path.write_text(json.dumps(rows) if kind == "json" else "".join(json.dumps(r) + "\n" for r in rows))
    before = path.read_text()
    found = json.loads(matrix.good("import", "--propose-roles", data, "--json"))
    assert found == {"clips": 2, "filled": 1, "kept": 1, "without": 0, "proposed": found["proposed"]}
    assert found["proposed"] >= 1 and path.read_text() != before
    checked = json.loads(matrix.good("check", "data", data, "--json"))
    assert checked["faults"] == [] and checked["proposed"] == 1 and checked["without_interactions"] == 0
    if kind != "csv":
        after = json.loads(path.read_text()) if kind == "json" else [json.loads(l) for l in path.read_text().splitlines()]
        assert after[1] == rows[1] and after[0]["mine"] == "a, b" and all(i["proposed"] for i in after[0]["interactions"])

    # What stands there stays, proposed or not.
    before = path.read_bytes()
    assert json.loads(matrix.good("import", "--propose-roles", data, "--json"))["filled"] == 0
    assert path.read_bytes() == before


# --- the target, and flags


def test_target_must_be_free(matrix, two, out):
    out.mkdir()
    (out / "mine").write_text("x")
    refused(matrix("import", "--from", "sam2", two, "--to", out), str(out), "not an empty directory")
    assert [p.name for p in out.iterdir()] == ["mine"]
    (out / "mine").unlink()
    matrix.good("import", "--from", "sam2", two, "--to", out)


def test_unwritable_target(matrix, two, tmp_path):
    (tmp_path / "file").write_text("")
    refused(matrix("import", "--from", "sam2", two, "--to", tmp_path / "file/data"), "file")
    # No room: the whole import ends, and nothing is taken for one.
    command = f'ulimit -f 1; exec "{matrix.binary}" import --from sam2 "{two}" --to "{tmp_path}/full"'
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert result.returncode == 1, result.stderr
    assert len([line for line in result.stderr.splitlines() if line.startswith("matrix: ")]) == 1, result.stderr
    nothing_at(tmp_path / "full")


def test_stopped_import_leaves_nothing(matrix, tmp_path, out):
    source = tmp_path / "source"
    write_sam2(source, "a", [1, 2])
    write_frames(source / "videos/a")
    for i in range(60):
        shutil.copytree(source / "a", source / f"b{i}")
        os.symlink(source / "videos/a", source / f"videos/b{i}")
    process = subprocess.Popen([matrix.binary, "import", "--from", "sam2", source, "--to", out],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(tmp_path.glob("*data*/videos/*.mp4")) and \
            not list(tmp_path.glob(".*data*/videos/*.mp4")):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 128 + signal.SIGTERM
    nothing_at(out)


@pytest.mark.parametrize("arguments", [
    ["--from", "sam2", "x"], ["--to", "y", "x"], ["x"], ["--from", "other", "x", "--to", "y"],
    ["--propose-roles", "x", "--labels", "l"], ["--from", "sam2", "x", "--to", "y", "--ids", "1,1"],
    ["--from", "sam2", "x", "--to", "y", "--ids", "1,2,3,4,5,6"], ["--from", "sam2", "x", "--to", "y", "--fps", "0"]])
def test_flags_that_do_not_fit(matrix, arguments):
    result = matrix("import", *arguments)
    assert result.returncode == 2 and len(result.stderr.splitlines()) == len(result.faults) == 1


def test_source_that_is_not_there(matrix, tmp_path, out):
    for format_ in ("sam2", "davis", "coco", "groundingdino"):
        refused(matrix("import", "--from", format_, tmp_path / "none", "--to", out), "none: missing")
        (tmp_path / format_).mkdir()
        refused(matrix("import", "--from", format_, tmp_path / format_, "--to", out), format_, "holds")
