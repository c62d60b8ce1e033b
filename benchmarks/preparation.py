"""Seconds, peak memory and rates of preparing data: a COCO file as large as train2017's, images, XML files.

    python benchmarks/preparation.py [--share 1.0] [--only NAME] [--json benchmarks/preparation.json]

The input is drawn with a fixed seed into a temporary folder (not counted). Each measurement is a function of this file
and runs in a process of its own, so that its peak memory is its own, too; the imports are not counted.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from earlyexit.data import index_coco, keep_single_objects, load_coco, read_coco
from earlyexit.files import provenance

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data_prep"))
from prepare.cleaning import Report, check_photos, clean_coco  # noqa: E402
from prepare.xml_boxes import read_xml_folder  # noqa: E402

SEED = 0
IMAGES, ANNOTATIONS = 118_287, 860_001  # those of COCO's train2017
PHOTOS = 300
XML_FILES = 20_000
XML_FILE = (
    "<annotation>\n\t<folder>{}</folder>\n\t<filename>{}</filename>\n"
    "\t<source>\n\t\t<database>ILSVRC_2014</database>\n\t</source>\n"
    "\t<size>\n\t\t<width>500</width>\n\t\t<height>375</height>\n\t</size>\n{}</annotation>\n"
)
XML_OBJECT = (
    "\t<object>\n\t\t<name>n02084071</name>\n\t\t<bndbox>\n\t\t\t<xmin>{}</xmin>\n\t\t\t<xmax>{}</xmax>\n"
    "\t\t\t<ymin>{}</ymin>\n\t\t\t<ymax>{}</ymax>\n\t\t</bndbox>\n\t</object>\n"
)


def main() -> None:
    """Draw the input, measure, print, write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--share", type=float, default=1.0, help="sizes of all inputs as a share of the whole")
    parser.add_argument("--only", choices=MEASUREMENTS, help="this measurement alone")
    parser.add_argument("--json")
    parser.add_argument("--here", help=argparse.SUPPRESS)  # the folder of the input, in the processes of their own
    options = parser.parse_args()
    if options.here:
        print(json.dumps(measure(options.only, Path(options.here))))
        return
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (draw, _) in MEASUREMENTS.items():
            if options.only in (None, name):
                draw(Path(folder), options.share)
                command = [sys.executable, __file__, "--only", name, "--here", folder]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                results[name] = json.loads(done.stdout)
                print(name, results[name])
    if options.json:
        with open(options.json, "w") as file:
            json.dump({**results, "share": options.share, "cores": os.cpu_count(), **provenance()}, file, indent=1)


def measure(name: str, folder: Path) -> dict:
    """What a measurement says of itself, its seconds and the peak memory of this process in GB."""
    start = time.perf_counter()
    found = MEASUREMENTS[name][1](folder)
    seconds = time.perf_counter() - start
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    if "files" in found:
        found["files_per_second"] = round(found["files"] / seconds, 1)
    return {**found, "seconds": round(seconds, 2), "peak_gb": round(peak / 1e9, 2)}


def read_and_filter(folder: Path) -> dict:
    """Read the file, clean it, keep the images with one object: what `coco_single.py` does with it."""
    report = Report()
    coco = load_coco(folder / "train.json", outlines=False)
    single = keep_single_objects(clean_coco(coco, report, "train.json"))
    return {**_size(folder), "single": len(single["images"]), "dropped": len(report.dropped)}


def read_for_training(folder: Path) -> dict:
    """Read the file as `CocoDataset` does: checked and indexed."""
    coco = index_coco(read_coco(folder / "train.json", outlines=False))
    return {**_size(folder), "images": len(coco.imgs)}


def open_photos(folder: Path) -> dict:
    """Open every image to its end."""
    photos = sorted((folder / "photos").iterdir())
    images = [{"id": i, "file_name": path.name, "width": 640, "height": 480} for i, path in enumerate(photos)]
    coco = check_photos({"images": images, "annotations": []}, folder / "photos", Report())
    return {"files": len(coco["images"])}


def read_xml(folder: Path) -> dict:
    """Read XML annotations as ImageNet's, one to four objects each; one process, as for fewer than 100,000 files."""
    records = read_xml_folder(folder / "xml", Report(), origin=0)
    return {"files": len(records), "objects": sum(len(record.objects) for record in records)}


def _size(folder: Path) -> dict:
    return {"megabytes": round((folder / "train.json").stat().st_size / 1e6)}


def draw_coco(folder: Path, share: float) -> None:
    """A file like COCO's instances_train2017.json: its counts, keys and order, outlines of about its length."""
    path = folder / "train.json"
    if path.exists():
        return
    rng = np.random.default_rng(SEED)
    ids = rng.choice(581_922, round(IMAGES * share), replace=False)
    # Objects an image: geometric, so that about one image in eight has a single one.
    owners = np.repeat(ids, rng.geometric(IMAGES / ANNOTATIONS, len(ids)))
    rng.shuffle(owners)
    outlines = [_outline(rng) for _ in range(2_000)]
    picks = rng.integers(len(outlines), size=len(owners))
    image = (
        '{{"license": 3, "file_name": "{0:012d}.jpg", "coco_url": "http://images.cocodataset.org/train2017/{0:012d}.jpg",'
        ' "height": 480, "width": 640, "date_captured": "2013-11-14 11:18:45",'
        ' "flickr_url": "http://farm9.staticflickr.com/8186/8119368305_4e622c8349_z.jpg", "id": {0}}}'
    )
    categories = [{"supercategory": "thing", "id": i, "name": f"thing {i}"} for i in range(1, 81)]
    with open(path, "w", encoding="ascii") as file:
        file.write('{"info": {"year": 2017}, "images": [' + ", ".join(image.format(i) for i in ids.tolist()))
        file.write(f'], "categories": {json.dumps(categories)}, "annotations": [')
        for number, (owner, pick) in enumerate(zip(owners.tolist(), picks.tolist(), strict=True), 1):
            rest = f', "iscrowd": 0, "image_id": {owner}, "category_id": {pick % 80 + 1}, "id": {number}}}'
            file.write((", " if number > 1 else "") + outlines[pick] + rest)
        file.write("]}")


def _outline(rng: np.random.Generator) -> str:
    """Outline, area and box of an object, as text: a wobbly ring of 8 to some hundred points."""
    points = int(8 + rng.gamma(1.2, 12.2))
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    radius = rng.uniform(5, 100) * rng.uniform(0.8, 1.2, points)
    x, y = 200 + radius * np.cos(angle), 200 + radius * np.sin(angle)
    ring = np.stack([x, y], axis=1).round(2).ravel().tolist()
    box = [round(float(v), 2) for v in (x.min(), y.min(), np.ptp(x), np.ptp(y))]
    return f'{{"segmentation": [{ring}], "area": {box[2] * box[3] / 2!r}, "bbox": {box}'


def draw_photos(folder: Path, share: float) -> None:
    """JPEG files of 640 x 480 with the detail, and so about the bytes, of photos."""
    (folder / "photos").mkdir()
    rng = np.random.default_rng(SEED)
    coarse = Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)).resize((640, 480), Image.BICUBIC)
    for number in range(round(PHOTOS * share)):
        noise = rng.normal(0, 12, (480, 640, 1)).astype(np.int16)
        pixels = (np.asarray(coarse, dtype=np.int16) + noise).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / f"{number}.jpg", quality=90)


def draw_xml(folder: Path, share: float) -> None:
    """XML files with the tags, the layout and so the bytes of ImageNet's, in folders of 1,000."""
    for number in range(round(XML_FILES * share)):
        objects = "".join(XML_OBJECT.format(x, x + 50, 2 * x, 2 * x + 50) for x in range(10, 11 + number % 4))
        path = folder / "xml" / f"ILSVRC2014_train_{number // 1000:04d}" / f"ILSVRC2014_train_{number:08d}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(XML_FILE.format(path.parent.name, path.stem, objects))


# One line for each measurement: what draws its input, what is measured.
MEASUREMENTS = {
    "read_and_filter": (draw_coco, read_and_filter),
    "read_for_training": (draw_coco, read_for_training),
    "open_photos": (draw_photos, open_photos),
    "read_xml": (draw_xml, read_xml),
}

if __name__ == "__main__":
    main()
