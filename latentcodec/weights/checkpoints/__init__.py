"""Other models' files: read strictly, recognised, mapped to networks."""
