"""A small evaluation set in InterGenEval's layout: two scenarios, videos of 13 frames, mask tracks of two objects."""

import json
import subprocess
from pathlib import Path

from PIL import Image, ImageDraw

WIDTH, HEIGHT, FRAMES = 96, 64, 13
SAMPLED = [0, 5, 10, 12]
PROMPTS = ["A hand lifts a ball.", "A dog pushes a box."]
OBJECTS = [[("hand", "a bare hand"), ("ball", "a red ball")], [("dog", "a brown dog"), ("box", "a small box")]]


def boxes(frame: int) -> list[tuple[int, int, int, int]]:
    """Two objects that come closer."""
    return [(6 + frame, 16, 26 + frame, 44), (60, 20, 84, 48)]


def write_video(path: Path, shade: int):
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = b""
    for frame in range(FRAMES):
        image = Image.new("RGB", (WIDTH, HEIGHT), (shade, 90, 120))
        for box, color in zip(boxes(frame), [(200, 180, 160), (160, 40, 40)], strict=True):
            ImageDraw.Draw(image).rectangle(box, fill=color)
        raw += image.tobytes()
    subprocess.run(["ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{WIDTH}x{HEIGHT}",
                    "-r", "16", "-i", "-", "-pix_fmt", "yuv420p", str(path)], input=raw, check=True)


def write_tracks(folder: Path):
    for number in range(2):
        track = folder / f"id{number + 1}"
        track.mkdir(parents=True)
        for frame in range(FRAMES):
            mask = Image.new("L", (WIDTH, HEIGHT))
            ImageDraw.Draw(mask).rectangle(boxes(frame)[number], fill=255)
            mask.save(track / f"{frame:03d}.png")


def write_json(path: Path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def make(root: Path, models=("base", "tuned"), data_type="easy") -> Path:
    data = root / "EVAL_DATA" / data_type
    write_json(data / "meta.json", [
        {"video_text_prompt": prompt, "image_text_prompt": prompt, "interaction_direction": "unidirectional",
         "num_objects": 2, "interaction_type": "contact", "objects": [{"class": c, "appearance": a} for c, a in objects]}
        for prompt, objects in zip(PROMPTS, OBJECTS, strict=True)])
    for place, model in enumerate(models):
        for video in range(len(PROMPTS)):
            write_video(root / "OUTPUTS" / model / data_type / f"{video:03d}.mp4", 60 + 80 * place + 20 * video)
            write_tracks(root / "EVAL_RESULTS" / model / data_type / "tracks" / f"{video:03d}")
    return root


def add_detections(root: Path, data_type="easy"):
    """An image for each scenario, and two boxes of each of its classes."""
    data = root / "EVAL_DATA" / data_type
    (data / "images").mkdir(parents=True)
    samples = []
    for video, objects in enumerate(OBJECTS):
        Image.effect_noise((WIDTH, HEIGHT), 60).convert("RGB").save(data / "images" / f"{video:03d}.png")
        found = [{"label": name, "score": 0.5, "bbox": [10 * i + 4, 8, 10 * i + 34, 40], "obj_id": i}
                 for i, name in enumerate([name for name, _ in objects] * 2)]
        samples.append({"sample_id": video, "text_prompt": "", "objects": found})
    write_json(data / "bbox_meta.json", samples)
