"""The first images of a data set as a data set of its own, to try things out."""

import json
from pathlib import Path

from ..data.prepare.layout import check_split
from ..data.prepare.placing import place_image
from ..data.reading import read_coco
from ..files import write_whole
from .results import SPLITS


def first_images(folder: str | Path, out: str | Path, limit: int) -> Path:
    """Make a COCO layout of the first `limit` images of each split, linked where they can be; returns `out`."""
    if limit < 1:
        raise ValueError(f"at least one image is needed, got the limit {limit}")
    folder, out = Path(folder), Path(out)
    for split in SPLITS:
        content = read_coco(folder / "annotations" / f"instances_{split}.json", outlines=False)
        content["images"] = sorted(content["images"], key=lambda image: image["id"])[:limit]
        kept = {image["id"] for image in content["images"]}
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] in kept]
        check_split(content, folder / split, out, split, "hard")
        for image in content["images"]:
            target = out / split / image["file_name"]
            target.parent.mkdir(parents=True, exist_ok=True)
            place_image(folder / split / image["file_name"], target, "hard")
        path = out / "annotations" / f"instances_{split}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(content)
        write_whole(path, lambda temporary, text=text: temporary.write_text(text))
    return out
