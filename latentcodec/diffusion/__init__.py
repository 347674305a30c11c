"""Noise schedules, samplers and clean-up over `denoiser(x, sigma) -> x0`; no sampler knows a network."""
