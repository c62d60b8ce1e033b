"""Finding things in the models' results."""

from collections.abc import Callable

from .results import deciding


class Models:
    """The results of all models of a study, by what they are compared for.

    Args:
        by_name: as `results.load_models` gives them.
    """

    def __init__(self, by_name: dict[str, dict]):
        self.by_name = by_name

    def group(self, group: str) -> list[dict]:
        """The models of a group; those of baseline and proposed in the order of their seeds."""
        found = [model for model in self.by_name.values() if model["group"] == group]
        return sorted(found, key=lambda model: (model["settings"]["seed"], model["name"]))

    def pairs(self, first: str, second: str) -> tuple[list[dict], list[dict]]:
        """The models of two groups with the seeds that both have."""
        seeds = {m["settings"]["seed"] for m in self.group(first)} & {m["settings"]["seed"] for m in self.group(second)}
        of = [[m for m in self.group(group) if m["settings"]["seed"] in seeds] for group in (first, second)]
        return of[0], of[1]

    def grid(self) -> dict[tuple[float, float], dict]:
        """The models of the grid by (theta, lambda)."""
        return {(m["settings"]["theta"], m["settings"]["lambda_"]): m for m in self.group("grid")}

    def fair(self) -> dict[str, dict]:
        """The models that were trained with a filler in the loop, by the filler."""
        return {m["filler"]: m for m in self.group("fair")}

    def missing(self, *groups: str) -> list[str]:
        """Those of the groups of which there is no model."""
        return [group for group in groups if not self.group(group)]


def at_setting(index: int, filler: str | None = None) -> Callable[[dict], dict]:
    """Finds the row of a threshold index in a model's sweep, under its own filler unless told."""
    return lambda model: model["fillers"][filler or model["filler"]]["sweep"][index - 1]


def at_random(index: int) -> Callable[[dict], dict]:
    """Finds the row of random exits with the shares of a threshold index."""
    return lambda model: model["fillers"][model["filler"]]["random"][index - 1]


def at_exit(exit: int, filler: str | None = None) -> Callable[[dict], dict]:
    """Finds the row of all images at one exit."""
    return lambda model: model["fillers"][filler or model["filler"]]["forced"][exit - 1]


def accuracy_at(exit: int) -> Callable[[dict], dict]:
    """Finds the row of the accuracy of an exit's classifier."""
    return lambda model: model["accuracy"][exit - 1]


def epochs_of(model: dict) -> int:
    """The epochs that a model was trained for."""
    return deciding(model["settings"])["epochs"]
