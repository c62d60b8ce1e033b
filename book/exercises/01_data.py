"""Exercises of chapter 1: stubs, solutions, and wrong answers with their messages."""

# %% setup
import torch


# %% 1.to_coco warm-up: Back to COCO
def to_coco(boxes):
    """Boxes (N, 4) in xyxy -> (N, 4) as COCO writes them."""
    ...


# %% solution
def to_coco(boxes):
    """Boxes (N, 4) in xyxy -> (N, 4) as COCO writes them."""
    x0, y0, x1, y1 = boxes.unbind(1)
    return torch.stack([x0, y0, x1 - x0, y1 - y0], dim=1)


# %% wrong: these boxes are unchanged
def to_coco(boxes):
    return boxes.clone()


# %% wrong: the way from COCO to corners
def to_coco(boxes):
    x0, y0, x1, y1 = boxes.unbind(1)
    return torch.stack([x0, y0, x0 + x1, y0 + y1], dim=1)


# %% wrong: not at the centre
def to_coco(boxes):
    x0, y0, x1, y1 = boxes.unbind(1)
    return torch.stack([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], dim=1)


# %% wrong: changes its input
def to_coco(boxes):
    boxes[:, 2:] -= boxes[:, :2]
    return boxes


# %% 1.flipped core: Mirror the boxes
def flipped(boxes, width):
    """Boxes (N, 4) in xyxy, width of the picture -> boxes of its mirror image."""
    ...


# %% solution
def flipped(boxes, width):
    """Boxes (N, 4) in xyxy, width of the picture -> boxes of its mirror image."""
    x0, y0, x1, y1 = boxes.unbind(1)
    return torch.stack([width - x1, y0, width - x0, y1], dim=1)


# %% wrong: left and right change places
def flipped(boxes, width):
    x0, y0, x1, y1 = boxes.unbind(1)
    return torch.stack([width - x0, y0, width - x1, y1], dim=1)


# %% wrong: take nothing off the width
def flipped(boxes, width):
    x0, y0, x1, y1 = boxes.unbind(1)
    return torch.stack([width - 1 - x1, y0, width - 1 - x0, y1], dim=1)


# %% wrong: upside down
def flipped(boxes, width):
    x0, y0, x1, y1 = boxes.unbind(1)
    return torch.stack([x0, width - y1, x1, width - y0], dim=1)


# %% 1.one_object core: Let crowds pass
def one_object(coco):
    """Ids of the images with exactly one object, whatever crowds they have."""
    ...


# %% solution
def one_object(coco):
    """Ids of the images with exactly one object, whatever crowds they have."""
    objects = {image["id"]: 0 for image in coco["images"]}
    for annotation in coco["annotations"]:
        if not annotation["iscrowd"]:
            objects[annotation["image_id"]] += 1
    return [image for image, count in objects.items() if count == 1]


# %% wrong: here crowds are not counted
def one_object(coco):
    found = [annotation["image_id"] for annotation in coco["annotations"]]
    return [image["id"] for image in coco["images"] if found.count(image["id"]) == 1]


# %% wrong: not at least one
def one_object(coco):
    return {a["image_id"] for a in coco["annotations"] if not a["iscrowd"]}


# %% wrong: not a position
def one_object(coco):
    found = [a["image_id"] for a in coco["annotations"] if not a["iscrowd"]]
    return [
        i for i, image in enumerate(coco["images"]) if found.count(image["id"]) == 1
    ]


# %% 1.nearest_mean stretch: Features in different units
def nearest_mean(features, labels, queries):
    """Features (N, D) with labels (N,) -> labels (M,) of the queries (M, D).

    Every feature is divided by its standard deviation over the N examples first.
    """
    ...


# %% solution
def nearest_mean(features, labels, queries):
    """Features (N, D) with labels (N,) -> labels (M,) of the queries (M, D).

    Every feature is divided by its standard deviation over the N examples first.
    """
    spread = features.std(dim=0)
    classes = labels.unique()
    means = torch.stack([features[labels == c].mean(dim=0) for c in classes])
    distances = torch.cdist(queries / spread, means / spread)  # (M, classes)
    return classes[distances.argmin(dim=1)]


# %% wrong: divide by the standard deviations
def nearest_mean(features, labels, queries):
    classes = labels.unique()
    means = torch.stack([features[labels == c].mean(dim=0) for c in classes])
    return classes[torch.cdist(queries, means).argmin(dim=1)]


# %% wrong: give its label
def nearest_mean(features, labels, queries):
    spread = features.std(dim=0)
    means = torch.stack([features[labels == c].mean(dim=0) for c in labels.unique()])
    return torch.cdist(queries / spread, means / spread).argmin(dim=1)


# %% wrong: the farthest mean
def nearest_mean(features, labels, queries):
    spread = features.std(dim=0)
    classes = labels.unique()
    means = torch.stack([features[labels == c].mean(dim=0) for c in classes])
    return classes[torch.cdist(queries / spread, means / spread).argmax(dim=1)]
