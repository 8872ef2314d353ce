"""Training: the GAN step (`objective`, `step`), the loop that runs it (`loop`), what survives a restart (`state`)."""
