"""Training: the GAN step (`phases`), the loop that runs it (`loop`), and everything that survives a restart (`state`)."""
