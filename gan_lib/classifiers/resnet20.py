"""ResNet-20 for images of 32 x 32 pixels (arXiv 1512.03385, section 4.2), with shortcuts of option A.

The modules' names are those of the usual implementation, so that its weights load as they are. Larger images
work too, at a cost: ``cnn.input_size: 32`` shows them to it at the size that it was made for.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = (16, 32, 64)  # channels of the three stages; each after the first halves the sides
BLOCKS = 3  # in a stage, two convolutions each


class Block(nn.Module):
    """Two convolutions, and the identity beside them: with fewer places and more channels, every second place
    and channels of zeros (option A, which has no weights)."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.relu2 = nn.ReLU()
        self.stride, self.added = stride, after - before

    def forward(self, images: Tensor) -> Tensor:
        beside = images[..., :: self.stride, :: self.stride]
        beside = F.pad(beside, (0, 0, 0, 0, self.added // 2, self.added - self.added // 2))
        inner = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(images)))))  # (B, after, h, w)
        made: Tensor = self.relu2(inner + beside)
        return made


def _stage(before: int, after: int, stride: int) -> nn.Sequential:
    blocks = [Block(before, after, stride), *(Block(after, after, 1) for _ in range(BLOCKS - 1))]
    return nn.Sequential(*blocks)


class ResNet20(nn.Module):
    """From images (B, 3, 32, 32) to logits (B, classes)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.relu = nn.ReLU()
        self.layer1 = _stage(WIDTHS[0], WIDTHS[0], 1)
        self.layer2 = _stage(WIDTHS[0], WIDTHS[1], 2)
        self.layer3 = _stage(WIDTHS[1], WIDTHS[2], 2)
        self.linear = nn.Linear(WIDTHS[2], classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.layer3(self.layer2(self.layer1(self.relu(self.bn1(self.conv1(images))))))
        logits: Tensor = self.linear(features.mean((2, 3)))
        return logits


def resnet20(num_classes: int) -> nn.Module:
    """ResNet-20, 19 convolutions and a linear layer, initialised at random.

    From normalised images (B, 3, H, W), made for 32 x 32, to logits (B, num_classes):

        cnn = make_classifier("resnet20", data.class_names, input_size=(32, 32))
    """
    return ResNet20(num_classes)
