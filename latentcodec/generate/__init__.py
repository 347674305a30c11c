"""Pictures from prompts: the pipelines of the Stable Diffusion family, over networks, samplers and codec."""
