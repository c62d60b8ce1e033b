"""The first images of a data set as a data set of its own, to try things out."""

import functools
import json
import shutil
from pathlib import Path

from ..data.coco import annotation_file, read_coco
from ..data.photos import stays_inside
from ..data.single import take_images
from ..files import write_whole
from .results import SPLITS


def first_images(folder: str | Path, out: str | Path, limit: int) -> Path:
    """Make a COCO layout with copies of the first `limit` images of each split; returns `out`."""
    if limit < 1:
        raise ValueError(f"at least one image is needed, got the limit {limit}")
    folder, out = Path(folder), Path(out)
    if out.resolve() == folder.resolve():
        raise ValueError(f"{str(out)!r} is the data set that is read; give another folder")
    for split in SPLITS:
        content = read_coco(annotation_file(folder, split), outlines=False)
        content = take_images(content, set(sorted(image["id"] for image in content["images"])[:limit]))
        for name in (image["file_name"] for image in content["images"]):
            if not stays_inside(name):
                raise ValueError(f"file name {name!r} leaves the image folder; it has to be relative to it")
            (out / split / name).parent.mkdir(parents=True, exist_ok=True)
            write_whole(out / split / name, functools.partial(shutil.copy2, folder / split / name))
        path, text = annotation_file(out, split), json.dumps(content)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda temporary, text=text: temporary.write_text(text))
    return out
