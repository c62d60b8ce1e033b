"""From what is found on disks (COCO, ImageNet, VOC, CSV) to a COCO layout that can be trusted."""
