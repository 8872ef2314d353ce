"""What each preset is, on a line of help; `vitgan.presets` itself takes longer to import."""

RECOMMENDED = "cifar10-tiny-projected"
"""The preset for people's own colour images: the best recipe measured on a CPU (docs/results/images.md)."""

PRESETS = {
    "quickstart": "a small ViTGAN on the bundled Fashion-MNIST images: minutes on 2 CPU cores",
    "cifar10-tiny": "a small ViTGAN for CIFAR-10 at its real size: hours on a CPU",
    "cifar10-tiny-modern": "cifar10-tiny with later ideas: the best measured here on a CPU without ImageNet",
    "cifar10-tiny-projected": "D looks at features of an ImageNet network: the fastest way to images that people can name",
    "imagenet256-gat-s": "GAT on latents of ImageNet at 256×256, 384 wide; for GPUs, not yet run",
    "imagenet256-gat-b": "GAT on latents of ImageNet at 256×256, 768 wide; not yet run",
    "imagenet256-gat-xl": "GAT on latents of ImageNet at 256×256, as large as GAT-XL/2 (FID 2.18 there); not yet run",
    "imagenet256-cat-m": "CAT's levels on latents of ImageNet at 256×256, as large as CAT-M/2 (FID 1.93 there); not yet run",
}
"""Our own."""
SIZES = {
    "cifar10": "CIFAR-10 at 32×32 (the paper: FID 6.66, IS 9.30 with G and D both ViTs)",
    "celeba64": "CelebA at 64×64",
    "lsun64": "LSUN bedroom at 64×64",
    "lsun128": "LSUN bedroom at 128×128 (the paper states no sizes)",
    "lsun256": "LSUN bedroom at 256×256 (beyond the paper)",
}
"""The paper's."""
VARIANTS = {
    "vanilla": "plain ViTs: linear patches, dot product, R1",
    "stylegan2d": "ViTGAN's G with StyleGAN2's D",
    "stylegan2": "StyleGAN2, G and D",
    "authors-schedule": "ViTGAN's G, StyleGAN2's D, the authors' schedule",
    "modern": "later ideas, after GAT and R3GAN",
    "gat": "GAT's recipe on pixels, with classes",
    "projected": "our modern G against Projected GAN's D",
}
"""What can follow the name of one of the paper's sizes, e.g. cifar10-vanilla."""
NAMES = (*PRESETS, *(size + variant for size in SIZES for variant in ("", *(f"-{name}" for name in VARIANTS))))


def summary(name: str) -> str:
    """What a preset is, on one line."""
    if name in PRESETS:
        return PRESETS[name]
    dataset, _, variant = name.partition("-")
    return "; ".join([SIZES[dataset], *([VARIANTS[variant]] if variant else [])])
