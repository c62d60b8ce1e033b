"""The embedded data set "scenes": twenty picture-book categories, drawn by code with known difficulty."""

from .composition import SPLIT_ID, Scene, SceneObject, export_scenes, make_scene, scene_dataset
from .drawings import CLASS_NAMES, FAMILIES, FAMILY_OF

__all__ = [
    "CLASS_NAMES",
    "FAMILIES",
    "FAMILY_OF",
    "SPLIT_ID",
    "Scene",
    "SceneObject",
    "export_scenes",
    "make_scene",
    "scene_dataset",
]
