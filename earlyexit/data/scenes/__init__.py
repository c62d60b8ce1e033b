"""The embedded data set "scenes": twenty picture-book categories, drawn by code with known difficulty."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "composition": ["SPLIT_ID", "Scene", "SceneObject", "export_scenes", "make_scene", "scene_dataset"],
        "drawings": ["CLASS_NAMES", "FAMILIES", "FAMILY_OF"],
    },
)
