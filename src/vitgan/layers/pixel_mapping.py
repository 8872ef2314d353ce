"""From token embeddings to pixels, four ways: linear, implicit, convolutional (ViTGAN §3.3), and interpolated.

The layer that makes the image computes in float32, also under autocast: bf16 has only 128 values between 0.5 and 1.
"""

import itertools
import math

import torch.nn.functional as F
from torch import Tensor, nn

from vitgan.errors import UserError
from vitgan.layers.linear import EqualizedConv2d, EqualizedLinear, ModulatedLinear
from vitgan.layers.patches import unpatch
from vitgan.layers.positions import FourierFeatures, grid_positions
from vitgan.layers.precision import full_precision
from vitgan.layers.resample import ModulatedConv2d, leaky_relu

INITIAL_CONTRAST = 0.3
"""Images start near grey: a first image of full contrast is a texture that training must first undo."""


class PatchDecoder(nn.Module):
    """What makes images of tokens, which go through `bound` last: a `Bound`, if images are to end inside [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.bound: nn.Module = nn.Identity()


class ImplicitPatchDecoder(PatchDecoder):
    """x_p^i = f_theta(E_fou, y^i): a 2-layer MLP over pixel positions, modulated by the patch embedding (eq. 13).

    E_fou are Fourier features of the positions inside a patch, the same for all patches. Each layer's weights are
    modulated by a style that is affine in y^i, as in StyleGAN2 and CIPS; the first is demodulated, the last is not.
    """

    def __init__(
        self,
        dim: int,
        channels: int,
        patch_size: int,
        grid_size: int,
        hidden_dim: int,
        frequency: float,
        equalized: bool = True,
    ) -> None:
        super().__init__()
        self.patch_size, self.grid_size = patch_size, grid_size
        self.fourier = FourierFeatures(hidden_dim, frequency)
        self.style1 = EqualizedLinear(dim, hidden_dim, bias_init=1.0, equalized=equalized)
        self.style2 = EqualizedLinear(dim, hidden_dim, bias_init=1.0, equalized=equalized)
        self.layer1 = ModulatedLinear(hidden_dim, hidden_dim, equalized=equalized)
        self.layer2 = ModulatedLinear(
            hidden_dim, channels, demodulate=False, equalized=equalized, initial_factor=INITIAL_CONTRAST
        )

    def forward(self, y: Tensor, zoom: int = 1) -> Tensor:
        """y (B, L, dim) -> images (B, C, zoom · H, zoom · W).

        Args:
            y: Patch embeddings, row-major; they carry the style.
            zoom: Pixels rendered per pixel and axis. The representation is continuous in position: 1 is the image that
                was trained, larger factors evaluate it on a denser grid.
        """
        positions = grid_positions(self.patch_size * zoom, y.device)  #    (P², 2)
        pixels = self.pixels(*self.modulation(y.flatten(0, 1)), positions)  # (B · L, P², C)
        return unpatch(pixels.unflatten(0, y.shape[:2]), self.grid_size)  # (B, C, H, W)

    def modulation(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Styles of both layers: (T, dim) -> (T, hidden) each."""
        # The second has the gain of the leaky ReLU between them.
        return self.style1(tokens), self.style2(tokens) * math.sqrt(2)

    def pixels(self, style1: Tensor, style2: Tensor, positions: Tensor) -> Tensor:
        """f_theta: T modulations at positions in [-1, 1]² of their patch -> (T, P, C).

        Args:
            style1: (T, hidden), from `modulation`.
            style2: (T, hidden).
            positions: (P, 2), the same for all, or (T, P, 2).
        """
        features = self.fourier(positions.to(self.fourier.weight.dtype))  # (P, hidden), or (T, P, hidden)
        layer1 = self.layer1.forward_shared if features.dim() == 2 else self.layer1
        hidden = F.leaky_relu_(
            layer1(features, style1), 0.2
        )  # (T, P, hidden); in place, it is the model's largest tensor
        with full_precision(hidden):
            dtype = self.layer2.weight.dtype
            return self.bound(self.layer2(hidden.to(dtype), style2.to(dtype)))  # (T, P, C)


class LinearPatchDecoder(PatchDecoder):
    """Each token to its patch by one linear layer, D -> P²C: the Vanilla-ViT generator's."""

    def __init__(
        self,
        dim: int,
        channels: int,
        patch_size: int,
        grid_size: int,
        equalized: bool = True,
    ) -> None:
        super().__init__()
        self.patch_size, self.grid_size, self.channels = patch_size, grid_size, channels
        self.linear = EqualizedLinear(dim, patch_size**2 * channels, equalized=equalized)

    def forward(self, y: Tensor) -> Tensor:
        """y (B, L, dim) -> images (B, C, H, W)."""
        with full_precision(y):
            pixels = self.bound(self.linear(y.to(self.linear.weight.dtype)))  # (B, L, P² · C)
        return unpatch(pixels.unflatten(-1, (self.patch_size**2, self.channels)), self.grid_size)


class InterpolatedPatchDecoder(PatchDecoder):
    """Features of each token, interpolated to pixels, then two 3×3 convolutions.

    No pixel is made of one token alone, and edges are smooth: they are level lines of interpolated features. The
    latent does not modulate the convolutions: it is in the tokens already.
    """

    def __init__(
        self, dim: int, channels: int, patch_size: int, grid_size: int, hidden_dim: int, equalized: bool = True
    ) -> None:
        super().__init__()
        self.patch_size, self.grid_size = patch_size, grid_size
        self.features = EqualizedLinear(dim, hidden_dim, gain=math.sqrt(2), equalized=equalized)
        self.conv = EqualizedConv2d(hidden_dim, hidden_dim, 3, padding=1, gain=math.sqrt(2), equalized=equalized)
        self.to_image = EqualizedConv2d(
            hidden_dim, channels, 3, padding=1, equalized=equalized, initial_factor=INITIAL_CONTRAST
        )

    def forward(self, y: Tensor) -> Tensor:
        """y (B, L, dim) -> images (B, C, H, W), float32."""
        x = self.features(y).transpose(1, 2).unflatten(2, (self.grid_size, self.grid_size))  # (B, hidden, H/P, W/P)
        x = F.leaky_relu(F.interpolate(x, scale_factor=self.patch_size, mode="bilinear"), 0.2)  # (B, hidden, H, W)
        x = F.leaky_relu(self.conv(x), 0.2)
        with full_precision(x):
            return self.bound(self.to_image(x.to(self.to_image.weight.dtype)))


class ConvolutionalPatchDecoder(PatchDecoder):
    """Modulated 3×3 convolutions that upsample the token map to pixels, as the authors' PyTorch code offers.

    One convolution onto twice the size for each factor of two in the patch size, then a modulated 1×1 convolution to
    the image; widths halve from `hidden_dim`. It mixes neighbouring patches.
    """

    def __init__(
        self,
        dim: int,
        channels: int,
        patch_size: int,
        grid_size: int,
        hidden_dim: int,
        w_dim: int,
    ) -> None:
        """Builds the decoder.

        Raises:
            UserError: If the patch size is not a power of two.
        """
        super().__init__()
        doublings = patch_size.bit_length() - 1
        if 2**doublings != patch_size:
            raise UserError(
                f"generator.patch_size {patch_size} is no power of two, which generator.pixel_mapping conv needs",
                "model.generator.patch_size",
            )
        self.grid_size = grid_size
        widths = [dim] + [max(hidden_dim >> level, 16) for level in range(doublings)]
        self.layers = nn.ModuleList(
            ModulatedConv2d(fan_in, fan_out, 3, w_dim, upsample=True, gain=math.sqrt(2))
            for fan_in, fan_out in itertools.pairwise(widths)
        )
        self.to_image = ModulatedConv2d(
            widths[-1], channels, 1, w_dim, demodulate=False, initial_factor=INITIAL_CONTRAST
        )

    def forward(self, y: Tensor, w: Tensor) -> Tensor:
        """y (B, L, dim), w (B, w_dim) -> images (B, C, H, W)."""
        x = y.transpose(1, 2).unflatten(2, (self.grid_size, self.grid_size))  # (B, dim, H/P, W/P)
        for layer in self.layers:
            x = leaky_relu(layer(x, w), gain=1.0)  # (B, width, 2h, 2w)
        with full_precision(x):
            return self.bound(self.to_image(x.to(self.to_image.weight.dtype), w))
