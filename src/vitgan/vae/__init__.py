"""A frozen image VAE of `diffusers`, in whose latents a GAN can be trained."""
