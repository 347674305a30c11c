"""Any autoencoder as a codec: its latents, their steps, tiles and refinement."""
