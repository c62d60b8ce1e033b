"""Reading an instances JSON, also one of COCO's size: quickly, and without the outlines that take up most of it."""

import gc
import json
from pathlib import Path

NUMBERS = frozenset((int, float))


def load_coco(annotations: str | Path, *, outlines: bool = True) -> dict:
    """Read an instances JSON without looking at its records; `ValueError` if there is none or it is not valid JSON.

    Args:
        annotations: the file.
        outlines: keep "segmentation", which is most of a COCO file; boxes and areas are always kept.
    """
    name, collects = str(annotations), gc.isenabled()
    gc.disable()  # it would search the growing millions of records for garbage again and again, and find none
    try:
        text = Path(annotations).read_text(encoding="utf-8-sig")
        return json.loads(text, object_hook=None if outlines else _without_outline)
    except FileNotFoundError:
        raise ValueError(f"no annotation file {name!r}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{name!r} is not readable JSON: {error}") from None
    finally:
        if collects:
            gc.enable()


def _without_outline(record: dict) -> dict:
    record.pop("segmentation", None)
    return record


def read_coco(annotations: str | Path, *, outlines: bool = True) -> dict:
    """Read an instances JSON as `load_coco`; `ValueError` says which record in which file cannot be used."""
    name, content = str(annotations), load_coco(annotations, outlines=outlines)
    needed = {"images": ("id", "file_name", "width", "height"), "categories": ("id", "name")}
    needed["annotations"] = ("id", "image_id", "category_id", "bbox")
    for part, keys in needed.items():
        if not isinstance(content, dict) or not isinstance(content.get(part), list):
            raise ValueError(f"{name!r} is not a COCO instances file: it has no list {part!r}")
        wanted = set(keys)
        for record in content[part]:
            if not isinstance(record, dict) or not record.keys() >= wanted:
                raise ValueError(f"{name!r}: each of {part!r} needs {keys}, got {str(record)[:200]}")
    for category in content["categories"]:
        if not isinstance(category["name"], str):
            raise ValueError(f"{name!r}: the name of a category is a word, got {str(category)[:200]}")
    for annotation in content["annotations"]:
        box = annotation["bbox"]
        if not isinstance(box, list) or len(box) != 4 or not NUMBERS.issuperset(map(type, box)):
            what = f"got {str(box)[:80]} in annotation {annotation['id']}"
            raise ValueError(f"{name!r}: a bbox is [x, y, width, height], {what}")
    known = {category["id"] for category in content["categories"]}
    for annotation in content["annotations"]:
        if annotation["category_id"] not in known:
            what = f"annotation {annotation['id']} has the unknown category {annotation['category_id']}"
            raise ValueError(f"{name!r}: {what}; known are {sorted(known)[:10]}")
    return content
