"""Networks that nobody trains: features of images, and a VAE in whose latents a GAN can be trained."""
