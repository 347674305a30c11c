"""Diffusion clean-up of decoded latents, with the guard that the encoder runs."""
