"""What branches of the path introduced for images: augmentation, and protocols at test time.

Each is marked with its paper. The branch of that name writes it out in train.py, except for helpers
of a few lines and for LeNet's distorted images; those after it import it. An augmentation draws for
each image of a batch [B, C, H, W] on its own. A protocol gives scores [B, classes].
"""

import math
from functools import lru_cache

from harness.errors import Refusal

import torch
import torch.nn.functional as F

AT_ONCE = 250  # crops that the network is given together at test


def affine_grid(transform, height, width):
    """[B, 2, 3] to [B, height, width, 2], as F.affine_grid does with align_corners=False.

    That multiplies small matrices for each image, which takes longer than to sample the images.
    """
    how = transform.dtype, transform.device
    by_x, by_y, shift = transform[..., None, None].unbind(2)  # [B, 2, 1, 1] each
    grid = by_x * centers(width, *how) + by_y * centers(height, *how)[:, None]
    grid += shift
    return grid.permute(0, 2, 3, 1)


@lru_cache
def centers(side, dtype, device):
    """Where the pixels of a row lie [side]: the outer edges of the first and last are -1 and 1."""
    return torch.linspace(-1, 1, side, dtype=dtype, device=device) * (side - 1) / side


def distort(images, pixels=0.6, share=0.07):
    """Images [B, C, H, W], each moved, scaled, squeezed and sheared at random (LeNet-5, III.B).

    By up to `pixels` across and down, by factors between 1 - share and 1 + share, and by up to
    `share` of a pixel from row to row; the paper gives no limits. What comes in repeats the border.
    """
    count, (height, width), device = len(images), images.shape[2:], images.device
    across, down, scale, squeeze, shear = 2 * torch.rand(5, count, device=device) - 1
    larger, wider = 1 + share * scale, 1 + share * squeeze
    to_x = larger * wider, share * shear * height / width, 2 * pixels / width * across
    to_y = torch.zeros_like(larger), larger / wider, 2 * pixels / height * down
    transform = torch.stack([*to_x, *to_y], 1).view(count, 2, 3)
    grid = affine_grid(transform, height, width)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def random_flip(images):
    """Mirror each image left to right with probability one half (AlexNet, 4.1)."""
    mirrored = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
    return torch.where(mirrored, images.flip(3), images)


def random_crop(images, size):
    """Cut a square of `size` pixels out of each image, at a place of its own (AlexNet, 4.1)."""
    count, channels, height, width = images.shape
    if size > min(height, width):
        raise Refusal(f"a crop of {size} pixels is larger than the image: --image-size, --side")
    device, pixel = images.device, torch.arange(size, device=images.device)
    rows = torch.randint(height - size + 1, (count, 1), device=device) + pixel
    columns = torch.randint(width - size + 1, (count, 1), device=device) + pixel
    if size == height == width:  # after the draws, so that there is the same number of them
        return images
    places = (rows[:, :, None] * width + columns[:, None]).view(count, 1, -1)
    crops = images.flatten(2).gather(2, places.expand(-1, channels, -1))
    return crops.view(count, channels, size, size)


def principal_components(covariance):
    """The eigenvectors of the colors' covariance [C, C], as columns, times eigenvalues.

    AlexNet, 4.1. The eigenvalues are those of colors from 0 to 1, which the paper does not say;
    with those of colors from 0 to 255, the shifts would be 255 times as large.
    """
    eigenvalues, eigenvectors = torch.linalg.eigh(covariance / 255**2)
    return 255 * eigenvectors * eigenvalues


def shift_colors(images, components):
    """Add to all pixels of an image the same sum of components, times draws from N(0, 0.1^2)."""
    alphas = 0.1 * torch.randn(len(images), len(components), device=images.device)
    return images + (alphas @ components.T)[:, :, None, None]


def crop(images, top, left, size):
    """The same window of all images, [B, C, size, size]."""
    return images[:, :, top : top + size, left : left + size]


def center_crop(model, images, size, scale=None):
    """Scores of the middle of each image; its shorter side is brought to `scale` before."""
    images = resize(images, scale) if scale else images
    top, left = ((length - size) // 2 for length in images.shape[2:])
    return model(crop(images, top, left, size))


def ten_crops(model, images, size):
    """Log of the mean of ten softmaxes: corners, middle, and all mirrored (AlexNet, 4.1)."""
    last = images.shape[-1] - size
    places = [(0, 0), (0, last), (last, 0), (last, last), (last // 2, last // 2)]
    crops = [crop(images, top, left, size) for top, left in places]
    crops += [images.flip(3) for images in crops]
    return torch.stack([model(images).softmax(1) for images in crops]).mean(0).log()


def resize(images, side):
    """Images [B, C, H, W] with the shorter of H and W brought to `side` (VGG, 3.1)."""
    sides = [round(side / min(images.shape[2:]) * length) for length in images.shape[2:]]
    return F.interpolate(images, size=sides, mode="bilinear")


def scale_jitter(images, scales, size):
    """Crops [B, C, size, size] of images brought to sides S from scales[0] to scales[-1].

    VGG, 3.1. images: squares. Each gets an S and a place of its own. A crop of `size` out of S
    pixels is the share size / S of the image's side, so it is sampled in one go, and not after
    resizing.
    """
    count, device = len(images), images.device
    share = size / torch.randint(scales[0], scales[-1] + 1, (count, 1), device=device)
    transform = torch.zeros(count, 2, 3, device=device)
    transform[:, [0, 1], [0, 1]] = share
    transform[:, :, 2] = (1 - share) * (2 * torch.rand(count, 2, device=device) - 1)
    grid = F.affine_grid(transform, [*images.shape[:2], size, size], align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def multi_scale(model, images, scales):
    """Log of the mean softmax over scales, each mirrored and not (VGG, 3.2 and 4.2).

    The model's dense() gives scores at all places of images [B, C, H, W] of any shape.
    """
    views = [resize(images, side) for side in scales]
    views += [view.flip(3) for view in views]
    # 32 images together, since one of 512 pixels takes 67 MB in conv1_1 alone.
    parts = [[model.dense(part).mean((2, 3)) for part in view.split(32)] for view in views]
    total = torch.stack([torch.cat(scores).log_softmax(1) for scores in parts]).logsumexp(0)
    return total - math.log(len(views))


def random_patches(images, area, size):
    """Random parts of images [B, C, H, H], brought to [B, C, size, size] (GoogLeNet, 6).

    Each covers a share of its image between the first and the last of `area`, all equally
    likely. Its aspect ratio is between 3/4 and 4/3, with a logarithm drawn evenly, and narrower
    where the patch would not fit in otherwise; the paper says neither.
    """
    count, device = len(images), images.device
    share = torch.empty(count, device=device).uniform_(area[0], area[-1])
    limit = share.log().neg().clamp(max=math.log(4 / 3))
    aspect = (limit * (2 * torch.rand(count, device=device) - 1)).exp()
    sides = torch.stack([share * aspect, share / aspect], 1).sqrt()  # of the image's: [B, 2]
    shift = (1 - sides) * (2 * torch.rand(count, 2, device=device) - 1)
    transform = torch.cat([sides.diag_embed(), shift[:, :, None]], 2)  # [B, 2, 3]
    grid = affine_grid(transform, size, size)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def squares(images):
    """Left, middle and right of images [B, C, H, W], or top, middle and bottom of tall ones."""
    height, width = images.shape[2:]
    side = min(height, width)
    for part in range(3):
        yield crop(images, part * (height - side) // 2, part * (width - side) // 2, side)


def many_crops(model, images, size, scales):
    """Log of the mean of all softmaxes; of four scales, 144 (GoogLeNet, 7).

    Of each scale three squares, of each square the corners, the middle and all of it, brought to
    `size`, and each of these mirrored and not. images: [B, C, H, W], of any shape.
    """
    softmaxes = []
    for scale in scales:
        for square in squares(resize(images, scale)):
            last = scale - size
            places = [(0, 0), (0, last), (last, 0), (last, last), (last // 2, last // 2)]
            crops = [resize(square, size)] + [crop(square, *place, size) for place in places]
            views = torch.cat(crops + [view.flip(3) for view in crops])
            softmaxes += [model(part).softmax(1) for part in views.split(AT_ONCE)]
    return torch.cat(softmaxes).view(-1, len(images), softmaxes[0].shape[1]).mean(0).log()
