"""Pictures from text and pictures, by the models of the Stable Diffusion family."""
