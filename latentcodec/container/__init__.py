"""The .lci file as bytes: chunks, header, the whole file, and what is left of a damaged one."""
