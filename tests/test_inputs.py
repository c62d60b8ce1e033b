"""What of an image reaches the network."""

import random

import torch

from earlyexit.model.inputs import network_size


def test_network_size_is_that_of_the_transform(nano):
    generator = random.Random(0)
    for _ in range(200):
        image = torch.zeros(3, generator.randint(20, 500), generator.randint(20, 500))
        expected = tuple(nano.transform([image])[0].tensors.shape[-2:])
        assert network_size(nano, image) == expected, image.shape
