"""Training of the native model: losses, the loop with exact resume, export, evaluation."""
