"""Reading an instances JSON, also one of COCO's size: quickly, and without the outlines that take up most of it."""

import gc
import json
from pathlib import Path

from .prepare.faults import check_records


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
    content = load_coco(annotations, outlines=outlines)
    try:
        check_records(content)
    except ValueError as error:
        raise ValueError(f"{str(annotations)!r}: {error}") from None
    return content
