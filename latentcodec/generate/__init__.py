"""Pictures from prompts: the tokenizer of the text encoders."""
