"""Fitting what codes the latents of an autoencoder: tables and priors."""
