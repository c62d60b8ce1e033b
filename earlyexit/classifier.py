"""The backbone alone, as a classifier: what ImageNet pretraining is to the paper, on the scenes."""

from collections.abc import Sequence

from torch import Tensor, nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from .backbone import DynPerceiver
from .losses import exit_loss
from .targets import check_images, check_targets, exit_labels

IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


class ExitClassifier(nn.Module):
    """A Dyn-Perceiver that learns the class of single-object images at its four exits.

    It takes images and targets as the detector does, so that the same training loop serves both.

    Args:
        backbone: a `DynPerceiver`.
        image_size: the shorter side that images are resized to, in pixels.
        distillation: see `exit_loss`.
    """

    def __init__(self, backbone: DynPerceiver, *, image_size: int = 128, distillation: float = 0.5):
        super().__init__()
        self.backbone = backbone
        self.transform = GeneralizedRCNNTransform(image_size, 2 * image_size, IMAGENET_MEAN, IMAGENET_STD)
        self.distillation = distillation

    def forward(self, images: Sequence[Tensor], targets: Sequence[dict] | None = None):
        """In training {"exit": loss}; in eval the four exits' logits, a list of (N, classes)."""
        check_images(images, self)
        if not self.training:
            return self.backbone(self.transform(images)[0].tensors)
        check_targets(images, targets, self.backbone.num_classes)
        labels, _ = exit_labels(targets, "single")
        logits = [x.float() for x in self.backbone(self.transform(images)[0].tensors)]
        return {"exit": exit_loss(logits, labels, distillation=self.distillation)}
