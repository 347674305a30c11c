"""The entropy coder: integer probability tables and interleaved rANS over them."""
