"""The networks of the Stable Diffusion family, and their tokenizer."""
